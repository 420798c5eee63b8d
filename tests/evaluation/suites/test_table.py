import re
from collections import Counter

import pytest

from fedcmp.errors import UserError
from fedcmp.evaluation.suites import table
from fedcmp.evaluation.suites.frozen import FROZEN
from fedcmp.evaluation.suites.table import SUITES, build_suite
from fedcmp.world.scene import PRETRAINING_SEED, make_scenes
from fedcmp.world.tokenizer import vocabulary
from fedcmp.world.words import COLORS, DIRECTIONS, MOODS, PLURALS, SHAPES, TEXTURES, WRITTEN_WORDS
from tests.evaluation.suites.oracle import right_answer
from tests.evaluation.suites.shared import built

# sha256 of each suite and split: a change here makes scores incomparable with every earlier one.
GOLDEN = {
    "mm-vet-world": (
        "7c6d0af7f38496d88f57a3dfd8e2ac674bedcd27818abccd04d2e7fc243293c2",
        "66e6f009db72389061530ba6a7be1fa7704957e61906c74270599a3fc94f4c30",
    ),
    "mmbench-world": (
        "fe270171bd2a1ad04fd0eb8ee75f7c0496604279b80da459e4a36832c64bfc00",
        "a73adec51335ad4c2fc45be499df7b05715d9d22cf8b44175ce10abe263e9c13",
    ),
    "seed-world": (
        "ae425bf5238fc22af2c96b36002287cd7ca8942e757fd1c2b4de002a227443ec",
        "f63332be6c3d4440ea11aa32a075b325c362ed08e7184b4cded3eeab4e954098",
    ),
    "llava-bench-world": (
        "a3b3733113de751c3875409a4bfbd45ddb7f7816d8db1709d7bd5b774f606faa",
        "6563762aa051032fb153abe7c1f6fccf8f5018b2473f98475c168332f8d62f1f",
    ),
    "pope-world": (
        "38554d55519cfff8db9ed21849f28ab47f039205e41fae677a9b7d5e34c14abe",
        "7497bda0965d39fa5712fdc927682d9fe41626f0df6d97c861276d61c87e9e56",
    ),
    "mme-world": (
        "2d758c2700290c298c071ecd777f74d6e1fa363d5044fd931e21c0a9c502d5ca",
        "719005ba175779196d54e9e2713b8ba2a7818f580ee71152ad77bf77a8398480",
    ),
    "mmvp-world": (
        "4d7024718ed40c44239a765e6a04a3e5a4a2051ccce917143ba5a7a14ecd62c3",
        "bb1afb1f1602c6c956fd829d89c3aaa379c549c224c3d2a38c73127fe2964bd8",
    ),
}


def test_the_order_is_the_papers():
    assert SUITES == (
        "mm-vet-world",
        "mmbench-world",
        "seed-world",
        "llava-bench-world",
        "pope-world",
        "mme-world",
        "mmvp-world",
    )


@pytest.mark.parametrize("name", SUITES)
def test_items_and_pictures_are_frozen(name):
    """The validation split's are drawn, hence compared with FROZEN, below."""
    suite, images = built(name)
    assert (suite.digest(images), FROZEN[name, "validation"]) == GOLDEN[name]


def test_items_that_are_not_the_frozen_ones_are_refused(monkeypatch):
    monkeypatch.setitem(table.FROZEN, ("mme-world", "test"), "0" * 64)
    with pytest.raises(UserError, match=r"suite mme-world, test: its items are not the frozen ones"):
        build_suite("mme-world", "test")


def test_a_suite_or_split_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="vqa"):
        build_suite("vqa", "test")
    with pytest.raises(ValueError, match="train"):
        build_suite("pope-world", "train")


@pytest.mark.parametrize("name", SUITES)
def test_answers_are_those_of_the_picture(name):
    suite, images = built(name)
    assert len(images) == len(suite.pictures)
    for item in suite.items:
        if item.how != "text":
            assert item.answer == right_answer(item.prompt, suite.pictures[item.picture]), item


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_at_least_300_items_and_every_picture_is_asked_about(name):
    suite, _ = built(name)
    assert len(suite.items) >= 300
    assert {item.picture for item in suite.items} == set(range(len(suite.pictures)))


@pytest.mark.parametrize("name", SUITES)
def test_prompts_are_those_that_the_llm_has_learned(name):
    """Questions differ from the world's own in their content words only; what is no question begins a caption."""
    scenes = make_scenes(PRETRAINING_SEED, 0, 1500, images=False)
    known = {masked(f"question : {q.text} answer :") for asked in scenes.questions for q in asked}
    words = set(vocabulary())
    for item in built(name)[0].items:
        assert set(item.prompt.split()) <= words
        if item.prompt.startswith("question"):
            assert masked(item.prompt) in known, item.prompt
        else:
            assert item.prompt == "" or re.match(r"this (photo|sketch|\w+( picture)?) shows\b", item.prompt)


def masked(text):
    """The template: content words, and `a` or `an`, as stars."""
    content = {*COLORS, *SHAPES, *PLURALS.values(), *DIRECTIONS, *MOODS, *WRITTEN_WORDS}
    for texture in TEXTURES:
        text = text.replace(f"are there {texture} ", "are there * ")
    text = re.sub(r"\b(left of|right of|above|below)\b", "RELATION", text)
    text = re.sub(r"\b(first|second|third)\b", "ORDINAL", text)
    return " ".join("*" if word in content else word for word in text.replace(" an ", " a ").split())


@pytest.mark.parametrize("name", SUITES)
def test_the_splits_share_no_picture(name):
    first, second = (
        {picture.tobytes() for picture in images} for images in (built(name)[1], built(name, "validation")[1])
    )
    assert not first & second


@pytest.mark.parametrize("name", ["pope-world", "mme-world"])
def test_half_of_the_answers_are_yes(name):
    items = built(name)[0].items
    yes = Counter(item.category for item in items if item.answer == "yes")
    no = Counter(item.category for item in items if item.answer == "no")
    if name == "mme-world":
        assert yes == no
    else:  # the questions about present objects belong to each of the three splits
        assert yes["present"] == no["random"] == no["popular"] == no["adversarial"]


@pytest.mark.parametrize("name", ["mmbench-world", "seed-world", "mmvp-world"])
def test_options_hold_the_answer_and_no_place_is_preferred(name):
    items = built(name)[0].items
    places = Counter()
    for item in items:
        assert item.answer in item.options
        assert len(set(item.options)) == len(item.options)
        places[item.options.index(item.answer)] += 1
    expected = len(items) / len(items[0].options)
    assert all(abs(count - expected) < 4 * expected**0.5 for count in places.values())


@pytest.mark.parametrize("name", ["mmbench-world", "seed-world"])
def test_no_word_is_the_answer_much_more_often_than_it_is_offered(name):
    """A preference for one word gets what a guess gets: an offered word is right in one of N questions."""
    items = built(name)[0].items
    for word in (*COLORS, *MOODS, *SHAPES):
        offered = [item for item in items if word in item.options]
        right = sum(item.answer == word for item in offered)
        share = sum(1 / len(item.options) for item in offered)
        assert abs(right - share) < 4 * max(share, 1) ** 0.5
