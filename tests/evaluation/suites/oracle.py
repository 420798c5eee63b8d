"""The right answer to a prompt, worked out from what the nine cells show in words: another way than the suites take."""

import re

from fedcmp.world.words import COLORS, COLUMNS, DIRECTIONS, MOODS, NUMBERS, PLURALS, ROWS, SHAPES, STYLES

SINGULAR = {plural: shape for shape, plural in PLURALS.items()}
LEVELS = {"short": 1, "tall": 2}


def cells_with(cells, words):
    return [i for i, text in enumerate(cells) if set(words.split()) <= set(text.split())]


def color_in(text):
    return next(word for word in text.split() if word in COLORS)


def heights(cells):
    """Half cells that each bar fills."""
    out = {}
    for text in cells:
        if text:
            color, level, _ = text.split()
            out[color] = out.get(color, 0) + LEVELS[level]
    return out


def right_answer(prompt, picture):
    """What is to be said after `prompt` about the picture."""
    cells = picture.content.cell_words()
    shown = [text for text in cells if text]
    if not prompt.startswith("question : "):
        return _continued(prompt, cells, shown)
    text = prompt.removeprefix("question : ").removesuffix(" ? answer :")
    written = "".join(t.split()[1] for t in shown if len(t.split()) == 2)
    if text == "what kind of picture is this":
        return STYLES[picture.style]
    if text.startswith("how many"):
        return NUMBERS[len(shown)]
    if text in ("what color is the text", "what color is the pattern") or text.startswith("what color are the"):
        return color_in(shown[0])
    if found := re.fullmatch(r"what color is the (.+)", text):
        (cell,) = cells_with(cells, found[1])
        return color_in(cells[cell])
    if text == "which bar is the tallest":
        return max(heights(cells), key=heights(cells).get)
    if found := re.fullmatch(r"which bar is taller , (\w+) or (\w+)", text):
        return max(found.groups(), key=heights(cells).get)
    if text == "how does the face feel":
        return next(word for word in cells[4].split() if word in MOODS)
    if found := re.fullmatch(r"is the face (\w+) or (\w+)", text):
        (mood,) = [word for word in found.groups() if word in cells[4].split()]
        return mood
    if text == "does the face wear glasses":
        return "no" if "no glasses" in cells[0] else "yes"
    if found := re.fullmatch(r"does it say (\w+) or (\w+)", text):
        (word,) = [word for word in found.groups() if word == written.lower()]
        return word
    if found := re.fullmatch(r"does it say (\w+)", text):
        return "yes" if written.lower() == found[1] else "no"
    if text == "which word is written":
        return written.lower()
    if found := re.fullmatch(r"what is the (first|second|third) digit", text):
        return written[("first", "second", "third").index(found[1])]
    if found := re.fullmatch(r"is the (.+) (\w+) or (\w+)", text):
        (cell,) = cells_with(cells, found[1])
        (color,) = [word for word in found.groups()[1:] if word == color_in(cells[cell])]
        return color
    if found := re.fullmatch(r"what is (left of|right of|above|below) the (\w+)", text):
        (own,) = cells_with(cells, found[2])
        (other,) = [i for i, text in enumerate(cells) if text and i != own]
        (y_1, x_1), (y_2, x_2) = divmod(other, 3), divmod(own, 3)
        assert {"left of": x_1 < x_2, "right of": x_1 > x_2, "above": y_1 < y_2, "below": y_1 > y_2}[found[1]]
        return next(word for word in cells[other].split() if word in SHAPES)
    if found := re.fullmatch(r"(?:is there an?|are there) (.+)", text):
        name = found[1]
        if name in SINGULAR:
            return "yes" if len(cells_with(cells, SINGULAR[name])) > 1 else "no"
        return "yes" if cells_with(cells, name) else "no"
    raise AssertionError(f"an unknown question: {prompt}")


def _continued(prompt, cells, shown):
    said = re.fullmatch(r"this [\w ]+ shows an? (.+?)( at the)?", prompt)
    if said[2]:
        (cell,) = cells_with(cells, said[1])
        return f"{ROWS[cell // 3]} {COLUMNS[cell % 3]}"
    (text,) = [text for text in shown if text.startswith(said[1])]
    words = DIRECTIONS if "arrow" in text else SHAPES
    return next(word for word in text.split() if word in words)
