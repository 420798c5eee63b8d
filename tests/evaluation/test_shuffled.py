"""Which image each caption is shown with, and what is scored then."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.evaluation.captions import score_captions
from fedcmp.evaluation.shuffled import derangement

from .test_captions import Counting, FoundBad


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_every_image_is_used_once_and_never_with_its_own_caption(count, seed):
    images = derangement(count, seed=seed)
    assert sorted(images) == list(range(count))
    assert not np.any(images == np.arange(count))
    place, steps = int(images[0]), 1
    while place != 0:  # one cycle through all of them
        place, steps = int(images[place]), steps + 1
    assert steps == count


def test_it_is_always_the_same_one():
    assert derangement(500).tolist() == derangement(500).tolist()
    assert derangement(50).tolist() != derangement(50, seed=1).tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_cannot_be_exchanged(count):
    with pytest.raises(ValueError, match=f"count = {count}: one image cannot be exchanged"):
        derangement(count)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_caption_is_scored_with_the_image_that_it_is_given(batch_size):
    """Every token costs as many nats as the row that the image is in; the image in row 13 is bad."""
    tokens = TokenTable.of([[1, 2], [1], [1, 2, 3], [1]])
    pairs = PreparedPairs(FoundBad({13}), np.arange(10, 14), tokens, list("abab"), pad=0)
    images = np.array([2, 3, 1, 0])
    scored = score_captions(Counting(), pairs, np.arange(4), images=images, batch_size=batch_size)
    assert sorted(scored) == [(0, 24.0, 2), (2, 33.0, 3), (3, 10.0, 1)]
