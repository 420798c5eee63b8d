"""The untouched world as a whole: its scenes, their words and images; it shares nothing with the embedded one."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.world.scene import EMBEDDED, FAMILIES, PRETRAINING_SEED, make_scenes, scenes_at
from fedcmp.world.tokenizer import UNKNOWN, vocabulary, world_tokenizer
from fedcmp.world.untouched import UNTOUCHED
from fedcmp.world.words import NUMBERS, QUESTION_KINDS, STYLES
from fedcmp.world.worlds import WORLDS

TRAIN = UNTOUCHED.streams["train"]
# sha256 over the first 256 training scenes. A change here is another world: raise UNTOUCHED's revision.
GOLDEN_IMAGES = "b661c50cafb85f02f24676f509a94912532d93512bbd173c36734528824f7142"
GOLDEN_TEXT = "aaf8986246cf7669fa2e8989750fa66c499f6e54dc4e6c7dfe187e74e150ae31"


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(TRAIN, 0, 256, world=UNTOUCHED)


@pytest.fixture(scope="module")
def texts():
    return make_scenes(TRAIN, 0, 6000, images=False, world=UNTOUCHED)


def test_the_world_is_the_same_for_ever(scenes):
    told = [
        (c, [(q.kind, q.text, q.answer) for q in qs]) for c, qs in zip(scenes.captions, scenes.questions, strict=True)
    ]
    assert hashlib.sha256(scenes.images.tobytes()).hexdigest() == GOLDEN_IMAGES
    assert hashlib.sha256(repr(told).encode()).hexdigest() == GOLDEN_TEXT


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True), st.integers(0, 1000))
def test_a_scene_does_not_depend_on_its_neighbours(indices, seed):
    together = scenes_at(seed, indices, world=UNTOUCHED)
    for place, index in enumerate(indices):
        alone = scenes_at(seed, [index], world=UNTOUCHED)
        assert alone.captions[0] == together.captions[place]
        assert alone.questions[0] == together.questions[place]
        np.testing.assert_array_equal(alone.images[0], together.images[place])


def test_it_shares_no_family_style_or_stream_with_the_embedded_world():
    assert len(UNTOUCHED.families) >= 5
    assert len(UNTOUCHED.styles) >= 4
    assert not set(UNTOUCHED.families) & set(FAMILIES)
    assert not set(UNTOUCHED.styles) & set(STYLES)
    streams = [*EMBEDDED.streams.values(), PRETRAINING_SEED, *UNTOUCHED.streams.values()]
    assert len(set(streams)) == len(streams)
    assert sum(UNTOUCHED.shares.values()) == sum(EMBEDDED.shares.values()) == 100


def test_no_caption_is_one_of_the_embedded_world(texts):
    embedded = set(make_scenes(EMBEDDED.streams["train"], 0, 6000, images=False).captions)
    assert not embedded & set(texts.captions)


def test_every_family_style_and_kind_of_question_occurs(texts):
    assert set(texts.families) == set(UNTOUCHED.families)
    assert set(texts.style_names) == set(UNTOUCHED.styles)
    kinds = {question.kind for questions in texts.questions for question in questions}
    assert kinds == set(QUESTION_KINDS)


def test_the_tokenizer_knows_every_word(texts):
    known = set(vocabulary())
    said = [*texts.captions, *(f"{q.text} {q.answer}" for questions in texts.questions for q in questions)]
    assert not {word for text in said for word in text.split()} - known
    tokenizer = world_tokenizer()
    ids = tokenizer(texts.captions[:200])["input_ids"]
    assert not any(tokenizer.convert_tokens_to_ids(UNKNOWN) in caption for caption in ids)


def test_captions_are_nearly_all_distinct_and_name_their_style(texts):
    assert len(set(texts.captions)) > 0.95 * len(texts)
    assert [UNTOUCHED.style_of(caption) for caption in texts.captions] == texts.style_names
    assert all(sum(style in caption.split() for style in UNTOUCHED.styles) == 1 for caption in texts.captions)


def test_questions_have_answers_of_one_word(texts):
    for questions in texts.questions:
        for question in questions:
            assert question.kind in QUESTION_KINDS
            assert question.text.endswith(" ?")
            assert len(question.answer.split()) == 1


@pytest.mark.parametrize("kind", ["existence", "relation"])
def test_yes_and_no_are_balanced(texts, kind):
    answers = [q.answer for qs in texts.questions for q in qs if q.kind == kind and q.answer in ("yes", "no")]
    assert 0.42 < answers.count("yes") / len(answers) < 0.58


def test_choices_cannot_be_answered_by_position(texts):
    choices = [q for qs in texts.questions for q in qs if q.kind == "choice"]
    first = [question.text.split(" or ")[0].split()[-1] == question.answer for question in choices]
    second = [question.text.split(" or ")[1].split()[0] == question.answer for question in choices]
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert 0.42 < sum(first) / len(first) < 0.58


def test_counts_are_those_of_the_cells(texts):
    for content, questions in zip(texts.contents, texts.questions, strict=True):
        for question in questions:
            if question.kind == "count":
                noun = question.text.removeprefix("how many ").removesuffix(" are there ?")
                shown = sum(noun in words or noun.removesuffix("s") in words.split() for words in content.cell_words())
                if noun == "crosses":
                    shown = sum("cross" in words for words in content.cell_words())
                assert question.answer == NUMBERS[shown], (content, question)


def of_each(family, count=12, style=None, start=0):
    """Images of one family, all in one style if it is given."""
    world, rows = UNTOUCHED, np.arange(start, start + 4000)
    found = make_scenes(TRAIN, start, 4000, images=False, world=world)
    fits = [
        row
        for row, name, shown in zip(rows.tolist(), found.families, found.style_names, strict=True)
        if name == family and style in (None, shown)
    ]
    return scenes_at(TRAIN, fits[:count], world=world)


@pytest.mark.parametrize("family", UNTOUCHED.families)
def test_images_of_a_family_differ_and_show_something(family):
    drawn = of_each(family)
    flat = drawn.images.reshape(len(drawn), -1).astype(int)
    assert len(drawn) == 12
    assert len(np.unique(flat, axis=0)) == 12
    assert (flat.std(1) > 5).all()


def test_families_do_not_look_alike():
    """In one style, the mean image of a family is not that of another."""
    means = {family: of_each(family, style="toy").images.astype(float).mean(0) for family in UNTOUCHED.families}
    for first in means:
        for second in means:
            assert first == second or abs(means[first] - means[second]).mean() > 8, (first, second)


def test_a_scene_has_both_colours_that_its_caption_names():
    """In full colours, a box is of its colour between its dots, and each dot of its own."""
    from fedcmp.world.words import COLOR_VALUES, COLORS

    values = np.array(list(COLOR_VALUES.values()))
    drawn = of_each("dice", style="toy", count=20)
    for content, image in zip(drawn.contents, drawn.images.astype(int), strict=True):

        def nearest(pixel):
            light = pixel / np.linalg.norm(pixel)
            return COLORS[int((values / np.linalg.norm(values, axis=1, keepdims=True) @ light).argmax())]

        box, dots = (COLORS[color] for color in content.colors)
        assert nearest(image[16, 16]) == box
        assert nearest(image[8, 40]) == dots


def test_worlds_are_known_by_name():
    assert WORLDS == {"embedded": EMBEDDED, "untouched": UNTOUCHED}
