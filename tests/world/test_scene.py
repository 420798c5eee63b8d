import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcmp.world.randomness import random_integers
from fedcmp.world.scene import FAMILIES, make_scenes, scenes_at
from fedcmp.world.words import COLORS, NUMBERS, QUESTION_KINDS, STYLES

# sha256 over the first 256 scenes of stream 0: pictures, captions, questions. A change here is a new world: raise
# scene.WORLD_REVISION and retrain the frozen parts.
GOLDEN_PICTURES = "afef05601721c4b4d429ae42bfab75c90ef2488df0e6271383f8ea3dba82de81"
GOLDEN_TEXT = "39d08d7b25b7e6f058ce840bc12ca638fcf69e105de27b6981beded505c4012b"


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(0, 0, 256)


def test_the_world_is_the_same_for_ever(scenes):
    text = repr(
        [
            (c, [(q.kind, q.text, q.answer) for q in qs])
            for c, qs in zip(scenes.captions, scenes.questions, strict=False)
        ]
    )
    assert hashlib.sha256(scenes.images.tobytes()).hexdigest() == GOLDEN_PICTURES
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN_TEXT


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True), st.integers(0, 1000))
def test_a_scene_does_not_depend_on_its_neighbours(indices, seed):
    together = scenes_at(seed, indices)
    for place, index in enumerate(indices):
        alone = scenes_at(seed, [index])
        assert alone.captions[0] == together.captions[place]
        assert alone.questions[0] == together.questions[place]
        np.testing.assert_array_equal(alone.images[0], together.images[place])


def test_streams_share_no_draws():
    first, second = (random_integers(seed, np.arange(2000), 8) for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 20  # by chance: 16,000 squared over 2**31 is a tenth


def test_draws_are_uniform():
    draws = random_integers(5, np.arange(20000), 4)
    counts = np.bincount((draws[:, 2] % 10), minlength=10)
    assert abs(counts - 2000).max() < 5 * 2000**0.5


def test_every_family_style_and_question_kind_occurs(scenes):
    assert set(scenes.families) == set(FAMILIES)
    assert set(scenes.styles) == set(range(len(STYLES)))
    assert {q.kind for questions in scenes.questions for q in questions} == set(QUESTION_KINDS)


def test_captions_are_nearly_all_distinct():
    captions = make_scenes(1, 0, 4000, images=False).captions
    assert len(set(captions)) > 0.95 * len(captions)


def test_pictures_show_what_the_caption_says(scenes):
    """The colour named in a texture's caption is the one that its pixels differ from the background by."""
    checked = 0
    for i, content in enumerate(scenes.contents):
        if (
            content.family == "texture"
            and STYLES[scenes.styles[i]] == "photo"
            and COLORS[content.color] in ("red", "blue")
        ):
            mean = scenes.images[i].reshape(-1, 3).astype(float).mean(0)
            strongest = {"red": 0, "blue": 2}[COLORS[content.color]]
            assert mean.argmax() == strongest
            checked += 1
    assert checked >= 1


def test_answers_follow_from_the_scene(scenes):
    for content, questions in zip(scenes.contents, scenes.questions, strict=True):
        for question in questions:
            if question.kind == "count":
                shown = sum(bool(words) for words in content.cell_words())
                assert question.answer == NUMBERS[shown]
            if (
                question.kind == "attribute"
                and "color" in question.text
                and content.family in ("count", "word", "number")
            ):
                assert question.answer == COLORS[content.color]
            if question.kind == "existence" and content.family in ("shapes", "arrow"):
                name = question.text.removeprefix("is there ").removesuffix(" ?").split(" ", 1)[1]
                there = any(all(word in words.split() for word in name.split()) for words in content.cell_words())
                assert (question.answer == "yes") == there


@pytest.mark.parametrize("kind", ["existence", "relation"])
def test_yes_and_no_are_balanced(kind):
    questions = [q for qs in make_scenes(3, 0, 3000, images=False).questions for q in qs if q.kind == kind]
    yes = sum(q.answer == "yes" for q in questions) / len(questions)
    assert 0.42 < yes < 0.58


def test_text_only_scenes_have_no_pixels_and_the_same_text(scenes):
    text = make_scenes(0, 0, 256, images=False)
    assert len(text.images) == 0
    assert text.captions == scenes.captions
