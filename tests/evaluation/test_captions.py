import pytest

from fedcmp.evaluation.captions import caption_metrics, merge_sums


def test_parts_scored_apart_give_the_whole():
    parts = [{"a": (10.0, 4), "b": (3.0, 1)}, {"b": (9.0, 2)}]
    metrics = caption_metrics(merge_sums(parts))
    assert metrics["caption_loss"] == pytest.approx(22 / 7)
    assert metrics["worst_group"] == "b"
    assert metrics["worst_group_loss"] == pytest.approx(4.0)
    assert metrics["group_losses"] == pytest.approx({"a": 2.5, "b": 4.0})
