"""Families of writing: a three-letter word, or a number of three digits, one character a cell in one row."""

from dataclasses import dataclass
from typing import ClassVar, Self

from fedcmp.world.atlas import Atlas
from fedcmp.world.content import CELLS, Draws, Placed, Question, another, ordered_pair, yes_or_no
from fedcmp.world.words import COLORS, ROWS, WRITTEN_WORDS

ORDINALS = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Writing:
    """Three characters in one row; `text` is in capitals or digits."""

    row: int
    color: int
    text: str

    def said(self) -> str:
        """How a caption reads the text out."""
        raise NotImplementedError

    def phrase(self) -> str:
        """The text, its colour and its row."""
        return f"{self.said()} in {COLORS[self.color]} at the {ROWS[self.row]}"

    def cell_words(self) -> list[str]:
        """Character by character: the reader has to spell."""
        words = [""] * CELLS
        for i, character in enumerate(self.text):
            words[self.row * 3 + i] = f"{COLORS[self.color]} {character}"
        return words

    def place(self, atlas: Atlas, draws: Draws) -> Placed:
        """One glyph a cell."""
        placed = Placed.empty()
        for i, character in enumerate(self.text):
            placed.put(atlas, self.row * 3 + i, ("glyph", character), self.color, draws[6 + i])
        return placed

    def color_question(self) -> Question:
        """What both kinds of writing are asked."""
        return Question("attribute", "what color is the text ?", COLORS[self.color])


@dataclass(frozen=True, slots=True)
class Word(Writing):
    """One of 24 words."""

    family: ClassVar[str] = "word"

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Word, colour, row."""
        text = WRITTEN_WORDS[draws[3] % len(WRITTEN_WORDS)].upper()
        return cls(draws[0] % 3, draws[2] % len(COLORS), text)

    def said(self) -> str:
        """The word in lower case."""
        return f"the word {self.text.lower()}"

    def questions(self, draws: Draws) -> list[Question]:
        """Existence, choice, OCR, attribute."""
        word = self.text.lower()
        wrong = WRITTEN_WORDS[another(WRITTEN_WORDS.index(word), draws[15], len(WRITTEN_WORDS))]
        asked = word if draws[14] % 2 else wrong
        pair = ordered_pair(word, wrong, draws[16])
        return [
            Question("existence", f"does it say {asked} ?", yes_or_no(asked == word)),
            Question("choice", f"does it say {pair[0]} or {pair[1]} ?", word),
            Question("ocr", "which word is written ?", word),
            self.color_question(),
        ]


@dataclass(frozen=True, slots=True)
class Number(Writing):
    """Three digits."""

    family: ClassVar[str] = "number"

    @classmethod
    def sample(cls, draws: Draws) -> Self:
        """Digits, colour, row."""
        text = f"{draws[3] % 10}{draws[4] % 10}{draws[5] % 10}"
        return cls(draws[0] % 3, draws[2] % len(COLORS), text)

    def said(self) -> str:
        """Digit by digit."""
        return f"the number {' '.join(self.text)}"

    def questions(self, draws: Draws) -> list[Question]:
        """OCR of one digit, attribute."""
        position = draws[16] % 3
        text = f"what is the {ORDINALS[position]} digit ?"
        return [Question("ocr", text, self.text[position]), self.color_question()]
