"""The rule for captions: what is cleaned, what is empty, what is too long, and what a tokenizer must know.

clean      "<image>" placeholders, control characters and lone surrogates go; Unicode NFC; white space collapsed
empty      nothing visible is left: a bad pair
too long   cut after max_tokens tokens, and no end-of-sequence token follows a cut, so that the model never learns
           to stop in the middle of a sentence
special    a special token's text inside a caption ("</s>") is plain text, never the token
labels     ids and groups lose the same characters: half an emoji in them could not be written to any file
unknown    more than a tenth of the tokens unknown to the LLM: the captions need another LLM
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fedcmp.data.quality import BadPair, logger
from fedcmp.errors import UserError

IMAGE_PLACEHOLDER = "<image>"
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_CHUNK = 2048  # captions a tokenizer call: bounds memory


def clean_caption(text: str) -> str:
    """Return the caption as the model is to write it. Cleaning twice changes nothing.

    Raises:
        BadPair: "empty caption", where nothing visible is left.
    """
    if not text.isascii() or not text.isprintable():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    while IMAGE_PLACEHOLDER in text:  # until none is left: removing one may join the halves of another
        text = text.replace(IMAGE_PLACEHOLDER, "")
    text = " ".join(text.split())
    if not text or not (text.isprintable() or any(letter.isprintable() and letter != " " for letter in text)):
        raise BadPair("empty caption")
    return text


def writable(text: str) -> str:
    """Return a text without control characters and halves of letters, which no file could hold; line breaks stay."""
    return text if text.isascii() and text.isprintable() else _INVISIBLE.sub("", text)


def clean_label(text: str) -> str:
    """Return an id or a group as it can be written anywhere: one line of UTF-8. Cleaning twice changes nothing."""
    return _LINE_BREAKS.sub(" ", writable(text))


@dataclass(frozen=True)
class CaptionRule:
    """From captions to token ids.

    Attributes:
        max_tokens: longest caption in tokens, its end-of-sequence token not counted; at least 1.
        eos_token_id: ends every caption that was not cut.
    """

    max_tokens: int
    eos_token_id: int

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens = {self.max_tokens}: must be at least 1")

    def apply(self, ids: Sequence[int]) -> list[int]:
        """Return one caption's ids with the end-of-sequence token, or cut and without it."""
        if len(ids) > self.max_tokens:
            return list(ids[: self.max_tokens])
        return [*ids, self.eos_token_id]


def tokenize_captions(
    tokenizer: Any, captions: Iterable[str], *, max_tokens: int, eos_token_id: int
) -> list[list[int]]:
    """Turn captions into token ids by the module's rule; warn where some are cut.

    Args:
        tokenizer: of transformers.
        captions: cleaned captions.
        max_tokens: longest caption in tokens, its end-of-sequence token not counted.
        eos_token_id: ends every caption that was not cut.

    Returns:
        One list of ids a caption, 1 to max_tokens + 1 long, without other special tokens.
    """
    rule = CaptionRule(max_tokens=max_tokens, eos_token_id=eos_token_id)
    longest, cut = 0, 0
    token_ids = []
    for encoded in _encoded(tokenizer, captions):
        for ids in encoded["input_ids"]:
            longest, cut = max(longest, len(ids)), cut + (len(ids) > max_tokens)
            token_ids.append(rule.apply(ids))
    if cut:
        logger.warning(
            "%d of %d captions were cut after data.max_caption_tokens = %d tokens, without an end token; the longest "
            "has %d: raise it to keep them whole",
            *(cut, len(token_ids), max_tokens, longest),
        )
    return token_ids


def check_vocabulary(
    tokenizer: Any, captions: Iterable[str], *, model_name: str, max_unknown_fraction: float = 0.1
) -> None:
    """Refuse captions whose words the tokenizer does not know; the log tells of fewer than are refused.

    Tokenizers without unknowns always pass.

    Args:
        tokenizer: of transformers.
        captions: cleaned captions; a sample of some thousands tells enough.
        model_name: the LLM, for the message.
        max_unknown_fraction: share of all tokens that may be unknown.

    Raises:
        UserError: too many unknown tokens; names the ten most frequent unknown words and the mend.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    words: Counter[str] = Counter()
    count = total = 0
    for encoded in _encoded(tokenizer, captions, return_offsets_mapping=bool(tokenizer.is_fast)):
        for row, ids in enumerate(encoded["input_ids"]):
            total += len(ids)
            if unknown in ids:
                count += ids.count(unknown)
                words.update(_unknown_words(encoded, row, unknown))
    if not count:
        return
    share, most = 100 * count / total, 100 * max_unknown_fraction
    named = ", ".join(f"{word!r}" for word, _ in words.most_common(10 if share > most else 5))
    told = (
        f"{model_name}: {share:.2g}% of the captions' tokens are unknown to its tokenizer (data.max_unknown_fraction "
        f"allows {most:g}%), most often {named or 'spread over many words'}"
    )
    if share <= most:
        logger.warning("%s", told)
        return
    raise UserError(
        f"{told}: these captions need an LLM with an open vocabulary: set model.language to the folder or hub name of "
        f"one (the embedded world's LLM knows only its own few words, this tokenizer {len(tokenizer):,} tokens)"
    )


def _encoded(tokenizer: Any, captions: Iterable[str], **options: bool) -> Iterable[Any]:
    iterator = iter(captions)
    while chunk := list(islice(iterator, _CHUNK)):
        encoded = tokenizer(
            chunk, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, **options
        )
        yield {**encoded, "captions": chunk}


def _unknown_words(encoded: Any, row: int, unknown: int) -> list[str]:
    """The pieces of one caption that became the unknown token; none where the tokenizer keeps no offsets."""
    offsets = encoded.get("offset_mapping")
    if offsets is None:
        return []
    caption, ids = encoded["captions"][row], encoded["input_ids"][row]
    return [caption[start:stop] for token, (start, stop) in zip(ids, offsets[row], strict=True) if token == unknown]
