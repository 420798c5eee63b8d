from fedcmp.report import load_runs
from fedcmp.report.clientcurves import client_panels, weight_panels
from fedcmp.report.comparison import Comparison

from .fakes import write_run


def labels(panel):
    return [line.label for line in panel.chart.lines if line.named]


def colours(panel):
    return [line.colour for line in panel.chart.lines]


def test_each_measure_has_a_panel_a_method_on_one_scale(demo_comparison):
    found = client_panels(demo_comparison)
    assert [title.split(" (")[0] for title, _ in found] == ["Training loss", "Alignment error", "Update norm"]
    for _, panels in found:
        assert [panel.title for panel in panels] == ["shared-basis", "fedavg", "centralized", "local"]
        assert len({panel.chart.range for panel in panels}) == 1


def test_clients_are_named_at_their_lines(demo_comparison):
    _, panels = client_panels(demo_comparison)[0]
    assert sorted(labels(panels[0])) == [f"client-{k}" for k in range(5)]
    assert labels(panels[2]) == ["all"]
    assert "var(--c0)" in colours(panels[0])
    assert "var(--c0)" not in colours(panels[2])  # who holds all pairs is not the first client


def test_weights_are_of_federated_methods_with_the_equal_share(demo_comparison):
    panels = weight_panels(demo_comparison)
    assert [panel.title for panel in panels] == ["shared-basis", "fedavg"]
    assert all([level.value for level in panel.chart.levels] == [20.0] for panel in panels)
    assert "20.0 % at round 1" in panels[1].chart.describe()


def test_of_many_clients_the_extremes_are_named(tmp_path):
    write_run(tmp_path / "shared-basis", "shared-basis", clients=12, rounds=3, samples=False)
    run = load_runs(tmp_path)[0]
    last = {line.client: line.loss for line in run.client_rounds if line.round == 3}
    _, panels = client_panels(Comparison.of([run]))[0]
    extremes = {f"client-{pick(last, key=last.get)}" for pick in (min, max)}
    assert set(labels(panels[0])) == extremes
    assert colours(panels[0]).count("var(--bundle)") == 10


def test_a_client_without_a_value_is_left_out(tmp_path):
    def without(line):
        return {**line, "alignment_error": float("nan")} if line.get("client") == 2 else line

    write_run(tmp_path / "fedavg", "fedavg", rounds=2, change=without, samples=False)
    found = dict(client_panels(Comparison.of(load_runs(tmp_path))))
    title = next(title for title in found if title.startswith("Alignment"))
    assert "client-2" not in labels(found[title][0])
