import pytest

from fedcmp.evaluation.suites.facts import facts_in, references, truth
from fedcmp.evaluation.suites.items import Picture
from fedcmp.world.scene import make_scenes
from fedcmp.world.words import (
    COLORS,
    COLUMNS,
    DIRECTIONS,
    MOODS,
    NUMBERS,
    PLURALS,
    ROWS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
)


def facts_of(content):
    """The facts of a content, from its own fields and without any text."""
    family = content.family
    if family in ("shapes", "arrow"):
        out = set()
        for item in content.items:
            noun = SHAPES[item.kind] if family == "shapes" else f"{DIRECTIONS[item.kind]} arrow"
            out |= {f"object {noun}", f"color {noun} {COLORS[item.color]}"}
            out |= {f"size {noun} {SIZES[item.size]}"} if family == "shapes" else set()
            if not content.by_relation:
                out |= {f"row {noun} {ROWS[item.cell // 3]}", f"column {noun} {COLUMNS[item.cell % 3]}"}
        if content.by_relation:
            nouns = [content.noun(item) for item in content.items]
            (y_1, x_1), (y_2, x_2) = (divmod(item.cell, 3) for item in content.items)
            if x_1 != x_2:
                out.add("left {} {}".format(*(nouns if x_1 < x_2 else nouns[::-1])))
            else:
                out.add("above {} {}".format(*(nouns if y_1 < y_2 else nouns[::-1])))
        return out
    color = COLORS[content.color] if family != "chart" else ""
    if family == "count":
        noun = PLURALS[SHAPES[content.shape]]
        stated = {"count": NUMBERS[len(content.cells)], "size": SIZES[content.size], "color": color}
        return {f"object {noun}"} | {f"{name} {noun} {value}" for name, value in stated.items()}
    if family == "chart":
        bars = [COLORS[c] for c in content.colors]
        return {"object chart", f"tallest {bars[content.tallest]}", *(f"bar {i} {b}" for i, b in enumerate(bars, 1))}
    if family == "texture":
        pattern = TEXTURES[content.texture]
        return {f"object {pattern}", f"color {pattern} {color}"}
    if family == "face":
        worn = "yes" if content.glasses else "no"
        return {"object face", f"mood face {MOODS[content.mood]}", f"color face {color}", f"glasses face {worn}"}
    written = [content.text.lower()] if family == "word" else list(content.text)
    of_text = {f"object {family}", f"color {family} {color}", f"row {family} {ROWS[content.row]}"}
    return of_text | {f"written {i} {what}" for i, what in enumerate(written, 1)}


def test_a_caption_states_the_facts_of_its_scene():
    scenes = make_scenes(5, 0, 1500, images=False)
    for content, style, caption in zip(scenes.contents, scenes.styles.tolist(), scenes.captions, strict=True):
        assert facts_in(caption) == facts_of(content) | {f"style {STYLES[style]}"}, caption


def test_references_are_all_ways_to_describe_and_all_of_them_are_true():
    scenes = make_scenes(6, 0, 800, images=False)
    for content, style, draws in zip(scenes.contents, scenes.styles.tolist(), scenes.draws, strict=True):
        described = [set(reference) for reference in references(content)]
        assert facts_of(content) in described
        two = content.family in ("shapes", "arrow") and len(content.items) == 2
        assert len(described) == (2 if two else 1)
        true = set(truth(Picture(content, style, draws)))
        assert set().union(*described) | {f"style {STYLES[style]}"} <= true
        if content.family in ("shapes", "arrow"):  # every object lies left of, or above, another one, or not
            cells = {content.noun(item): item.cell for item in content.items}
            left = {f"left {a} {b}" for a in cells for b in cells if cells[a] % 3 < cells[b] % 3}
            above = {f"above {a} {b}" for a in cells for b in cells if cells[a] // 3 < cells[b] // 3}
            assert {fact for fact in true if fact.startswith(("left", "above"))} == left | above


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", set()),
        ("yes no the the of", set()),
        ("A Red Star .", {"object star", "color star red"}),
        ("a star right of a ring", {"object star", "object ring", "left ring star"}),
        ("a star below a small ring", {"object star", "object ring", "size ring small", "above ring star"}),
        ("a star , a ring", {"object star", "object ring"}),
        ("the number 7 1", {"object number", "written 1 7", "written 2 1"}),
        ("the word in red", {"object word", "color word red"}),
        ("a red star and a blue star", {"object star", "color star red", "color star blue"}),
        ("a face with no glasses", {"object face", "glasses face no"}),
    ],
)
def test_a_text_that_is_no_whole_caption_states_what_it_states(text, facts):
    assert facts_in(text) == facts
