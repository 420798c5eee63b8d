from collections import Counter

import numpy as np

from fedcmp.evaluation.suites.choosing import InTurn, Stream
from fedcmp.world.families_pictures import Chart, Face
from fedcmp.world.randomness import random_integers
from fedcmp.world.scene import TEST_SEED, scenes_at


def test_the_same_stream_gives_the_same_for_ever():
    first, second = Stream("test", 2), Stream("test", 2)
    assert [first.below(1000) for _ in range(300)] == [second.below(1000) for _ in range(300)]
    assert [first.content(Face)[0] for _ in range(20)] == [second.content(Face)[0] for _ in range(20)]
    assert [Stream("test", 3).below(2**31), Stream("validation", 2).below(2**31)] != [
        Stream("test", 2).below(2**31)
    ] * 2


def test_a_content_is_what_the_family_makes_of_the_splits_own_integers():
    stream = Stream("test", 0)
    content, picture = stream.content(Chart)
    draws = random_integers(TEST_SEED, np.array([10_000_000]))[0]
    assert content == picture.content == Chart.sample(draws.tolist())
    assert picture.style == scenes_at(TEST_SEED, [10_000_000], images=False).styles[0]


def test_contents_that_do_not_fit_are_passed_over():
    stream = Stream("test", 1)
    assert all(stream.content(Face, lambda face: face.mood == 2)[0].mood == 2 for _ in range(20))


def test_choices_are_uniform_and_different():
    stream = Stream("validation", 4)
    counts = Counter(stream.one_of("abcde") for _ in range(5000))
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 1000**0.5
    firsts = Counter(tuple(stream.some_of("abcd", 2)) for _ in range(6000))
    assert len(firsts) == 12
    assert max(abs(count - 500) for count in firsts.values()) < 5 * 500**0.5
    assert sorted(stream.shuffled("hgfedcba")) == list("abcdefgh")


def test_values_in_turn_are_given_equally_often():
    turn = InTurn(Stream("test", 5), range(7))
    assert set(Counter(turn() for _ in range(70)).values()) == {10}
