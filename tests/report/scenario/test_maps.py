from fedcmp.report.scenario.maps import cloud, map_panels, own_panels
from fedcmp.report.scenario.records import Scenario, Shown

from .fakes import METRICS, facts, four, scenario


def test_a_cloud_names_its_clients_and_those_that_nobody_holds():
    entry = scenario("mine", owners=[0, 1, -1])
    entry["clients"][0]["name"] = "<i>"
    found = cloud(Scenario.of(entry), [(0.0, 0.0), (1.0, 2.0), (3.0, 4.0)], "image")
    assert found.points == ((0.0, 0.0, 0), (1.0, 2.0, 1), (3.0, 4.0, -1))
    assert (found.names[0], found.names[1], found.names[-1]) == ("0: <i>", "1: client-1", "left out")
    assert found.describe() == "Map by image similarity of who holds what in mine: 2 clients, 3 pairs"


def test_one_panel_a_metric_and_the_own_one_is_named():
    shown = Shown.of(four())
    panels = map_panels(shown, shown.scenarios[2])
    assert [(panel.title, panel.subtitle) for panel in panels] == [
        ("by image", "silhouette 0.100"),
        ("by text", "silhouette 0.100"),
        ("by joint", "silhouette 0.300 · its own"),
        ("by cross", "silhouette 0.100"),
    ]
    assert [(panel.title, panel.subtitle) for panel in own_panels(shown)] == [(m, f"by {m}") for m in METRICS]
    iid = Shown.of(facts(scenario("iid", metric=None)))
    assert [panel.subtitle for panel in own_panels(iid)] == ["by joint"]
    bare = Shown.of(facts(maps=False))
    assert map_panels(bare, bare.scenarios[0]) == own_panels(bare) == []
