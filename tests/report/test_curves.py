import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.curves import curve_chart, curve_panels, loss_panel
from fedcmp.report.methods import ACCURACY, CAPTION_LOSS, MethodEntry

from .fakes import BLIND_LOSS, write_run


def test_the_losses_are_shown_best_first_with_the_blind_llm_between(demo_comparison):
    assert [dot.label for dot in loss_panel(demo_comparison).chart.dots] == [
        "centralized",
        "shared-basis",
        "fedavg",
        "blind",
        "local",
    ]


def test_every_method_has_its_curve_and_its_colour(demo_comparison):
    chart = curve_chart(demo_comparison, CAPTION_LOSS, "test")
    assert {line.label: line.colour for line in chart.lines} == {
        "shared-basis": "var(--m2)",
        "fedavg": "var(--m1)",
        "centralized": "var(--m0)",
        "local": "var(--m4)",
    }
    assert all([x for x, _ in line.points] == list(range(1, 11)) for line in chart.lines)
    assert [line.label for line in chart.lines if line.strong] == ["shared-basis"]


def test_the_levels_are_the_blind_llm_and_the_end_of_pooled_training(demo_comparison):
    chart = curve_chart(demo_comparison, CAPTION_LOSS, "test")
    pooled = demo_comparison.named("centralized").value(CAPTION_LOSS).mean
    assert [level.value for level in chart.levels] == [pooled, BLIND_LOSS]


def test_accuracy_is_drawn_in_percent(demo_comparison):
    chart = curve_chart(demo_comparison, ACCURACY, "test")
    assert max(y for line in chart.lines for _, y in line.points) > 50
    assert chart.write(61.5) == "61.5 %"


def test_seeds_make_a_band(study_comparison):
    line = curve_chart(study_comparison, CAPTION_LOSS, "test").lines[0]
    for (x, low, high), (at, mean) in zip(line.band, line.points, strict=True):
        assert x == at
        assert (low + high) / 2 == pytest.approx(mean)
        assert high > low


def test_nothing_measured_draws_nothing():
    run = MethodEntry("fedavg", "fedavg", ())
    empty = Comparison(())
    assert (loss_panel(empty), curve_panels(empty)) == (None, [])
    assert run.runs == ()


def test_a_run_evaluated_once_shows_a_point(tmp_path):
    folder = write_run(tmp_path / "fedavg", "fedavg", rounds=1, samples=False)
    panels = curve_panels(Comparison.of(load_runs(folder)))
    assert len(panels) == 3
