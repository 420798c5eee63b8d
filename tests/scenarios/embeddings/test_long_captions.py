"""Captions that a text tower cuts are told."""

import pytest

from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.scenarios.embeddings.long_captions import SAMPLE, log_long_captions, sample_of


def test_long_captions_are_counted_and_told(caplog):
    dual = DualEncoder("world", device="cpu")
    fits, long = " ".join(["red"] * (dual.longest - 2)), " ".join(["red"] * (dual.longest + 1))
    assert dual.count_cut([]) == 0
    log_long_captions(dual, [fits, "a red circle"], "pairs.json")
    assert caplog.messages == []
    log_long_captions(dual, [fits, long, "a red circle", long], "pairs.json")
    assert caplog.messages == [
        f"pairs.json: 2 of 4 captions looked at are longer than the {dual.longest} tokens that the text tower reads; "
        "what is beyond them does not count for similarity"
    ]


@pytest.mark.parametrize("count", [0, 1, 5, SAMPLE, SAMPLE + 1, 10**6])
def test_the_sample_is_spread_and_small(count):
    chosen = sample_of(count)
    assert len(chosen) == count if count <= SAMPLE else SAMPLE / 2 <= len(chosen) <= SAMPLE
