import numpy as np
import pytest
import torch

from fedcmp.data.prepared import PreparedPairs, TokenTable
from fedcmp.errors import UserError
from fedcmp.evaluation.captions import caption_metrics, caption_sums, merge_sums, score_captions


def test_parts_scored_apart_give_the_whole():
    parts = [{"a": (10.0, 4), "b": (3.0, 1)}, {"b": (9.0, 2)}]
    metrics = caption_metrics(merge_sums(parts))
    assert metrics["caption_loss"] == pytest.approx(22 / 7)
    assert metrics["worst_group"] == "b"
    assert metrics["worst_group_loss"] == pytest.approx(4.0)
    assert metrics["group_losses"] == pytest.approx({"a": 2.5, "b": 4.0})


class FoundBad:
    """Features read in passing, some of whose images turn out bad."""

    def __init__(self, bad):
        self.bad = bad

    def gather(self, indices):
        kept = np.array([index for index in indices if index not in self.bad], np.int64)
        return kept, torch.as_tensor(kept).float().view(-1, 1, 1)


class Counting:
    """Stands for a model: every token of the pair in row n costs n nats, and 100 without the image."""

    def caption_losses(self, features, ids, lengths):
        each = torch.full((len(lengths),), 100.0) if features is None else features[:, 0, 0]
        return each.repeat_interleave(lengths)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_pairs_whose_image_turns_out_bad_are_left_out_of_every_score(blind, batch_size):
    tokens = TokenTable.of([[1, 2], [1], [1, 2, 3], [1]])
    pairs = PreparedPairs(FoundBad({11, 13}), np.arange(10, 14), tokens, list("abab"), pad=0)
    scored = score_captions(Counting(), pairs, np.arange(4), blind=blind, batch_size=batch_size)
    assert sorted(scored) == [(0, 200.0 if blind else 20.0, 2), (2, 300.0 if blind else 36.0, 3)]
    assert caption_metrics(caption_sums(scored, pairs.groups))["worst_group"] == "a"


def test_no_readable_image_at_all_is_one_line():
    with pytest.raises(UserError, match="no image of the held-out pairs can be read"):
        caption_metrics({})
