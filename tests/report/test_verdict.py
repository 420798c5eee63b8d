import math
import statistics
from pathlib import Path

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import CAPTION_LOSS, gather
from fedcmp.report.verdict import Difference, verdict
from fedcmp.runs.reading import Run
from fedcmp.runs.records import Evaluation

from .fakes import write_run


def runs_of(method, *losses, finished=True):
    """One run a seed, each with one evaluation."""
    return [
        Run(
            Path(method),
            method,
            method,
            seed=seed,
            evaluations=(Evaluation.from_line({"model": "global", "round": 3, "split": "test", "caption_loss": loss}),),
            finished=finished,
        )
        for seed, loss in enumerate(losses)
    ]


def told(*groups):
    return "".join(phrase.text for phrase in verdict(Comparison.of([run for group in groups for run in group])))


def difference(best, rival):
    methods = {method.name: method for method in gather([*runs_of("a", *best), *runs_of("b", *rival)])}
    return Difference.between(methods["a"], methods["b"])


def test_the_demo_names_the_best_method_and_the_distance_closed(demo_comparison):
    said = "".join(phrase.text for phrase in verdict(demo_comparison))
    best, fedavg = (demo_comparison.loss(demo_comparison.named(name)) for name in ("shared-basis", "fedavg"))
    share = demo_comparison.closed_from_fedavg(demo_comparison.named("shared-basis"))
    assert said.startswith(f"shared-basis is the best federated method: caption loss {best:.3f} nats per token")
    assert f"{fedavg - best:.3f} below fedavg ({fedavg:.3f})" in said
    assert f"closes {100 * share:.0f} % of fedavg's distance to pooled data" in said


def test_seeds_are_compared_pair_by_pair():
    found = difference([0.70, 0.74, 0.72], [0.75, 0.78, 0.79])
    gaps = [0.05, 0.04, 0.07]
    assert (found.mean, found.seeds) == (pytest.approx(statistics.fmean(gaps)), 3)
    assert found.spread == pytest.approx(statistics.stdev(gaps))


@pytest.mark.parametrize(
    ("best", "rival", "noise"),
    [
        ([0.700], [0.704], True),
        ([0.700], [0.706], False),
        ([0.70, 0.70, 0.70], [0.71, 0.73, 0.69], True),
        ([0.70, 0.74, 0.72], [0.75, 0.78, 0.79], False),
    ],
)
def test_a_difference_within_the_noise_is_none(best, rival, noise):
    found = difference(best, rival)
    assert found.within_noise is noise
    if found.spread is not None:
        assert noise is (found.mean <= 2 * found.spread / math.sqrt(found.seeds))


def test_methods_too_close_are_not_ranked():
    said = told(runs_of("a", 0.700), runs_of("b", 0.703), runs_of("fedavg", 0.80))
    assert said.startswith("a and b are too close to tell apart: caption loss 0.700 and 0.703 nats per token")
    assert "a is 0.100 below fedavg (0.800)" in said


def test_the_second_is_named_when_it_is_not_fedavg():
    said = told(runs_of("a", 0.70), runs_of("b", 0.75), runs_of("fedavg", 0.80))
    assert "0.100 below fedavg (0.800). Next comes b, 0.050 behind." in said


def test_fedavg_may_win():
    assert told(runs_of("fedavg", 0.7), runs_of("b", 0.8)).startswith(
        "fedavg is the best federated method: caption loss 0.700 nats per token, 0.100 below b (0.800)."
    )


def test_one_federated_method_is_not_called_best():
    assert told(runs_of("fedavg", 0.7)) == "fedavg reaches a caption loss of 0.700 nats per token."


def test_an_unfinished_run_speaks_of_so_far():
    assert told(runs_of("fedavg", 0.7, finished=False)).startswith("So far (round 3): fedavg reaches")


def test_without_a_federated_run_the_others_speak():
    said = told(runs_of("centralized", 0.6), runs_of("local", 1.0))
    assert "centralized reaches a caption loss of 0.600" in said
    assert "local reaches" in said


def test_before_the_first_evaluation_nothing_is_claimed(tmp_path):
    folder = write_run(
        tmp_path / "fedavg", "fedavg", samples=False, change=lambda line: line if line["kind"] == "data" else None
    )
    said = "".join(phrase.text for phrase in verdict(Comparison.of(load_runs(folder))))
    assert said.startswith("Nothing has been evaluated yet.")


def test_a_diverged_rival_is_left_out():
    assert told(runs_of("a", 0.7), runs_of("b", math.nan)) == "a reaches a caption loss of 0.700 nats per token."
    assert CAPTION_LOSS.write(math.nan) == "diverged"
