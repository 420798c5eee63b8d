import math
import statistics

import pytest

from fedcmp.report.methods import (
    ACCURACY,
    CAPTION_LOSS,
    MeanSpread,
    MethodEntry,
    curve_split,
    gather,
    recipe_differences,
    reference_value,
    write_number,
)
from fedcmp.runs.reading import Run
from fedcmp.runs.records import Evaluation


def evaluation(model, round_, client, split, loss):
    line = {"model": model, "round": round_, "client": client, "split": split, "caption_loss": loss}
    return Evaluation.from_line(line)


def run_of(method, losses, *, seed=0, recipe=None, split="test", finished=True, folder="x"):
    """A run with one evaluation a round; a tuple of losses stands for the clients' own models."""
    lines = []
    for round_, loss in enumerate(losses, start=1):
        if isinstance(loss, tuple):
            lines += [evaluation("client", round_, client, split, x) for client, x in enumerate(loss)]
        else:
            lines.append(evaluation("global", round_, None, split, loss))
    from pathlib import Path

    return Run(
        Path(folder), folder, method, seed=seed, evaluations=tuple(lines), recipe=recipe or {}, finished=finished
    )


def test_a_figure_is_mean_and_sample_standard_deviation():
    figure = MeanSpread.of([0.70, 0.74, 0.78], "seeds")
    assert figure.mean == pytest.approx(0.74)
    assert figure.spread == pytest.approx(math.sqrt((0.04**2 + 0.04**2) / 2))
    assert MeanSpread.of([0.7], "seeds").spread is None


def test_a_diverged_value_makes_the_figure_diverged_and_last():
    figure = MeanSpread.of([0.7, math.nan], "seeds")
    assert math.isnan(figure.mean)
    assert figure.rank == math.inf


def test_the_final_figure_is_of_the_last_round():
    assert MethodEntry("m", "m", (run_of("m", [1.0, 0.8]),)).value(CAPTION_LOSS) == MeanSpread(0.8)


def test_clients_own_models_are_averaged_with_their_spread():
    figure = MethodEntry("local", "local", (run_of("local", [(1.0, 1.4), (0.9, 1.1)]),)).value(CAPTION_LOSS)
    assert figure == MeanSpread(1.0, pytest.approx(statistics.stdev([0.9, 1.1])), 2, "clients")


def test_over_seeds_the_spread_is_that_of_the_seeds_means():
    runs = (run_of("local", [(0.9, 1.1)], seed=0), run_of("local", [(1.1, 1.3)], seed=1))
    figure = MethodEntry("local", "local", runs).value(CAPTION_LOSS)
    assert figure == MeanSpread(pytest.approx(1.1), pytest.approx(statistics.stdev([1.0, 1.2])), 2, "seeds")


def test_finished_runs_alone_count_once_there_is_one():
    runs = (run_of("m", [0.9], seed=0), run_of("m", [5.0], seed=1, finished=False))
    assert MethodEntry("m", "m", runs).value(CAPTION_LOSS) == MeanSpread(0.9)


def test_a_curve_goes_as_far_as_all_seeds():
    runs = (run_of("m", [1.0, 0.8, 0.7], seed=0), run_of("m", [1.2, 0.9], seed=1))
    points = MethodEntry("m", "m", runs).curve(CAPTION_LOSS, "test")
    assert [(point.round, point.mean) for point in points] == [(1, pytest.approx(1.1)), (2, pytest.approx(0.85))]
    assert points[0].spread == pytest.approx(statistics.stdev([1.0, 1.2]))


def test_a_curve_leaves_out_what_was_not_measured():
    method = MethodEntry("m", "m", (run_of("m", [1.0, math.nan, 0.7]),))
    assert [point.round for point in method.curve(CAPTION_LOSS, "test")] == [1, 3]
    assert method.curve(ACCURACY, "test") == []


def test_methods_come_federated_first_and_best_first():
    runs = [run_of(name, [loss]) for name, loss in (("local", 0.1), ("b", 0.8), ("centralized", 0.2), ("a", 0.7))]
    assert [method.label for method in gather(runs)] == ["a", "b", "centralized", "local"]


def test_a_seed_that_comes_twice_splits_a_method_by_its_options():
    runs = [
        run_of("ties", [0.8], seed=seed, recipe={"aggregation": {"density": density}, "run": {"seed": seed}})
        for density in (0.2, 0.5)
        for seed in (0, 1)
    ]
    methods = gather(runs)
    assert sorted(method.label for method in methods) == ["ties (density=0.2)", "ties (density=0.5)"]
    assert [len(method.runs) for method in methods] == [2, 2]


def test_the_same_run_twice_is_told_apart_by_its_folder():
    runs = [run_of("ties", [0.8], folder="first"), run_of("ties", [0.8], folder="second")]
    assert [method.label for method in gather(runs)] == ["ties (first)", "ties (second)"]


def test_recipe_differences_leave_out_what_only_names_or_describes():
    common = {"federation": {"rounds": 10}, "versions": {"torch": "2"}}
    one = {**common, "run": {"name": "a", "seed": 0}, "training": {"learning_rate": 0.01}, "data": {"hash": "x"}}
    two = {**common, "run": {"name": "b", "seed": 1}, "versions": {"torch": "3"}, "data": {"hash": "y"}}
    found = recipe_differences([run_of("a", [], recipe=one), run_of("b", [], recipe=two)])
    assert found == {"training.learning_rate": ["0.01", "–"]}


def test_the_split_with_more_rounds_makes_the_curves():
    test, validation = run_of("m", [1.0]), run_of("m", [1.0, 0.9], split="validation")
    assert curve_split([MethodEntry("m", "m", (test,))]) == "test"
    assert curve_split([MethodEntry("m", "m", (test, validation))]) == "validation"
    assert curve_split([MethodEntry("m", "m", (run_of("m", [1.0], split="held out"),))]) == "held out"


def test_a_reference_counts_once_a_seed_however_many_runs_measured_it():
    def with_blind(method, seed, loss):
        line = evaluation("blind", 0, None, "test", loss)
        run = run_of(method, [0.8], seed=seed)
        return Run(**{**run.__dict__, "evaluations": (*run.evaluations, line)})

    runs = [with_blind(name, seed, 0.92 + seed * 0.02) for name in ("a", "b") for seed in (0, 1)]
    figure = reference_value(gather(runs), "blind", CAPTION_LOSS)
    assert figure == MeanSpread(pytest.approx(0.93), pytest.approx(statistics.stdev([0.92, 0.94])), 2)


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(None, 3, "–"), (math.nan, 3, "diverged"), (-0.5, 1, "−0.5"), (12345.0, 0, "12\u202f345"), (3.2e9, 3, "3.2e+09")],
)
def test_numbers_are_written_for_readers(value, decimals, expected):
    assert write_number(value, decimals) == expected


def test_accuracy_is_written_in_percent():
    assert ACCURACY.write(0.5834) == "58.3"
