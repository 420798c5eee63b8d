"""The interval of a difference: over seeds by Student's t, over captions by a paired bootstrap."""

import math
import random
import statistics
from pathlib import Path

import numpy as np
import pytest

from fedcmp.report.intervals import bootstrap, differences
from fedcmp.report.methods import gather
from fedcmp.runs.held_out import HeldOut
from fedcmp.runs.reading import Run
from fedcmp.runs.records import Evaluation


def run_of(method, loss, *, seed=0, held_out=None):
    line = {"model": "global", "round": 3, "split": "test", "caption_loss": loss}
    evaluations = (Evaluation.from_line(line),)
    return Run(Path(method), method, method, seed=seed, evaluations=evaluations, held_out=held_out, finished=True)


def losses(values, *, tokens=10, round_=3, split="test"):
    return HeldOut(round_, split, (tokens,) * len(values), {"global": tuple(values)})


def compare(*runs):
    methods = {method.label: method for method in gather(runs)}
    return differences(methods.pop("a"), list(methods.values()))


def test_seeds_are_compared_pair_by_pair_with_a_t_interval():
    ours, theirs = [0.70, 0.74, 0.72], [0.75, 0.78, 0.79]
    runs = [run_of("a", loss, seed=seed) for seed, loss in enumerate(ours)]
    runs += [run_of("b", loss, seed=seed) for seed, loss in enumerate(theirs)]
    found = compare(*runs)["b"]
    gaps = [0.05, 0.04, 0.07]
    half = 4.302653 * statistics.stdev(gaps) / math.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    mean = statistics.fmean(gaps)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert (found.over, found.count, found.clear) == ("seeds", 3, True)


def test_one_seed_is_compared_caption_by_caption():
    """Against the formula for a mean's standard error: with equal tokens the bootstrap must come to the same."""
    draw = random.Random(1)
    hard = [draw.gauss(8, 3) for _ in range(400)]
    gaps = [draw.gauss(0.5, 1.5) for _ in hard]
    theirs = [a + b for a, b in zip(hard, gaps, strict=True)]
    mean, error = statistics.fmean(gaps) / 10, statistics.stdev(gaps) / math.sqrt(400) / 10
    found = compare(run_of("a", 0.8, held_out=losses(hard)), run_of("b", 0.8 + mean, held_out=losses(theirs)))["b"]
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
    assert (found.over, found.count, found.clear) == ("captions", 400, True)


def test_long_captions_weigh_more():
    drawn = bootstrap(np.array([10.0] * 50 + [0.0] * 50), np.array([10] * 50 + [90] * 50))
    assert drawn.mean() == pytest.approx(0.1, abs=0.01)  # not 0.5, the mean of both captions' rates


def test_more_rivals_make_an_interval_wider():
    own, held = losses([5.0 + k % 3 for k in range(300)]), losses([5.2 + k % 4 for k in range(300)])
    alone = compare(run_of("a", 0.6, held_out=own), run_of("b", 0.67, held_out=held))["b"]
    more = [run_of(name, 0.67, held_out=held) for name in "bcdefgh"]
    crowd = compare(run_of("a", 0.6, held_out=own), *more)["b"]
    assert crowd.low < alone.low < alone.high < crowd.high


@pytest.mark.parametrize(
    "theirs",
    [
        None,
        losses([5.0] * 299),
        losses([5.0] * 300, tokens=11),
        losses([5.0] * 300, split="validation"),
        losses([5.0] * 300, round_=2),
        HeldOut(3, "test", (10,) * 300, {"blind": (5.0,) * 300}),
    ],
)
def test_losses_of_other_captions_or_of_an_earlier_round_give_no_interval(theirs):
    own = losses([5.0] * 300)
    found = compare(run_of("a", 0.5, held_out=own), run_of("b", 0.6, held_out=theirs))["b"]
    assert (found.mean, found.known, found.clear, found.interval) == (pytest.approx(0.1), False, False, "")


def test_without_a_common_seed_there_is_no_interval():
    found = compare(run_of("a", 0.5, seed=1), run_of("b", 0.6, seed=2))["b"]
    assert (found.mean, found.known) == (pytest.approx(0.1), False)


def test_the_same_runs_give_the_same_interval():
    runs = [run_of("a", 0.5, held_out=losses([5.0, 6.0] * 60)), run_of("b", 0.6, held_out=losses([6.0, 6.5] * 60))]
    assert compare(*runs) == compare(*runs)
