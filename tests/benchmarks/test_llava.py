"""What llava_gpu.py counts and concludes; nothing here is timed."""

import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedcmp.client.cohort import Cohort, JointBatch
from fedcmp.model import frozen_linear

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(frozen_linear, "is_supported", lambda: False)  # torch's counter knows torch's products only
    from llava_bench import Bench

    return Bench("tiny", torch.device("cpu"), torch.float32, steps=1, batch=4)


def products(counter):
    """Operations of matrix products and convolutions, without attention's own."""
    counts = counter.get_flop_counts()["Global"]
    return sum(count for op, count in counts.items() if str(op).split(".")[1] in PRODUCTS)


def test_useful_work_is_what_a_step_of_ours_really_computes(bench):
    """Against torch's own counter; the projector is left out of the useful work, norms and biases are counted in."""
    from llava_bench import Way

    vlm, positions = bench.vlm(Way("(b)")), np.arange(4)
    captions = [caption[:12] for caption in bench.captions]  # of one length: padding is no useful work
    bench.captions = captions
    pairs = bench.pairs(cached=False)
    cohort = Cohort(vlm, [bench.projector.tensors()])
    with FlopCounterMode(display=False) as counter:
        joint = JointBatch.of({0: pairs.batch(positions)}, pad=0, device=bench.device)
        tower = products(counter)
        losses = cohort.caption_losses(cohort.project(cohort.parameters, joint), joint)
        cohort.gradients(losses, joint.learners_A)
    work = bench.counts.work([12] * 4, bench.sizes.patches, cached=False)
    first, second = (p.numel() for p in bench.projector.parameters() if p.ndim == 2)
    visual = 4 * bench.sizes.patches
    projector = 2 * visual * (2 * first + 3 * second)  # forward and both weights' gradients, one gradient by an input
    assert tower == pytest.approx(work.tower, rel=0.02)
    assert products(counter) - tower - projector == pytest.approx(work.language, rel=0.005)
    assert bench.counts.work([12] * 4, bench.sizes.patches, cached=True).tower == 0


def test_another_attempt_begins_when_the_failed_ones_tensors_are_gone():
    from llava_bench import Enough, fits

    def too_large():
        raise torch.OutOfMemoryError

    def done():
        raise Enough

    assert not fits(too_large)
    assert sys.exc_info() == (None, None, None)
    assert fits(done)
    assert fits(lambda: None)


@pytest.mark.parametrize(("at_once", "verdict"), [(16, "0.250 GB   met"), (8, "-   not measured")])
def test_a_clients_memory_is_told_for_equal_micro_batches_only(at_once, verdict):
    from llava_report import Row, goals

    rows = {f"({letter})": Row(f"({letter})", seconds=1.0, samples=16, peak=40 * 10**9, at_once=16) for letter in "abc"}
    rows["(c)"].at_once, rows["(c)"].peak = at_once, 41 * 10**9
    assert any(
        line.startswith("  memory of one more client") and line.endswith(verdict) for line in goals(rows, 1, 1, 5)
    )


def test_the_step_of_the_graph_is_that_of_the_package(bench):
    """As it is captured, without a graph."""
    from llava_bench import Way
    from llava_graph import GraphedStep

    way = Way("(b) + CUDA graph", graph=True)
    row = bench.ours(way, deadline=float("inf"))
    assert row.agrees
    pairs = bench.pairs(cached=False)
    cohort = Cohort(bench.vlm(way), [bench.projector.tensors()])
    first, second = (
        JointBatch.of({0: pairs.batch(np.arange(at, at + 4))}, pad=0, device=bench.device) for at in (0, 4)
    )
    step = GraphedStep(cohort, first, longest=40)
    step(first)
    loss, gradients = step(second)  # what the first left behind in the buffers counts for nothing
    expected = cohort.caption_losses(cohort.project(cohort.parameters, second), second)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-5)
    for name, tensor in cohort.gradients(expected, second.learners_A).items():
        torch.testing.assert_close(gradients[name], tensor, rtol=1e-3, atol=1e-6)
