import math
import random
from xml.etree import ElementTree

import pytest

from fedcmp.report.scenario.maps import (
    SIDE,
    label_places,
    label_size,
    map_panels,
    own_panels,
    placed,
    scatter,
)
from fedcmp.report.scenario.records import NOBODY, Scenario, Shown

from .fakes import METRICS, facts, four, scenario


def test_points_keep_their_shape_and_fill_the_box():
    points, height = placed([(0.0, 0.0), (10.0, 0.0), (10.0, 5.0)], [0, 1, NOBODY])
    assert points == [(10.0, 150.0, 0), (290.0, 150.0, 1), (290.0, 10.0, NOBODY)]
    assert height == 160.0
    tall, height = placed([(0.0, 0.0), (5.0, 10.0)], [0, 0])
    assert tall == [(80.0, 290.0, 0), (220.0, 10.0, 0)]
    assert height == SIDE
    assert placed([(2.0, 2.0)] * 2, [0, 0]) == ([(150.0, 10.0, 0)] * 2, 20.0)


def drawn(entry, layout):
    return ElementTree.fromstring(scatter(Scenario.of(entry), layout, "image"))


def test_every_point_is_drawn_once_in_its_clients_colour_and_the_rest_in_grey():
    root = drawn(scenario(owners=[0, 1, 2, 2, -1]), [(0.0, 0.0), (9.0, 0.0), (0.0, 9.0), (1.0, 9.0), (9.0, 9.0)])
    paths = root.findall("path")
    styles = ["stroke:var(--bundle)", "stroke:var(--c0)", "stroke:var(--c1)", "stroke:var(--c2)"]
    assert [path.get("style") for path in paths] == styles
    assert [path.get("d").count("M") for path in paths] == [1, 1, 1, 2]
    assert paths[0].find("title").text == "left out, 1 of 5 pairs"
    assert paths[3].find("title").text == "2: client-2, 2 of 5 pairs"
    assert sorted(text.text for text in root.findall("text")) == ["0", "1", "2"]


def test_a_label_lies_among_its_clients_points():
    draw = random.Random(1)
    centres = {0: (50, 50), 1: (250, 60), 2: (150, 240), NOBODY: (150, 150)}
    points = [(draw.gauss(x, 15), draw.gauss(y, 15), owner) for owner, (x, y) in centres.items() for _ in range(60)]
    found = label_places(points, 20.0)
    assert list(found) == [0, 1, 2]
    for client, place in found.items():
        assert math.dist(place, centres[client]) < 45


@pytest.mark.parametrize("size", [15.0, 21.0])
def test_labels_of_mixed_clients_keep_apart(size):
    draw = random.Random(2)
    points = [(draw.uniform(10, 290), draw.uniform(10, 290), n % 10) for n in range(900)]
    places = list(label_places(points, size).values())
    assert len(places) == 10
    assert min(math.dist(a, b) for n, a in enumerate(places) for b in places[:n]) >= 1.2 * size


def test_clients_of_one_spot_are_all_labelled():
    assert label_places([(5.0, 5.0, 0), (5.0, 5.0, 1)], 20.0) == {0: (5.0, 5.0), 1: (5.0, 5.0)}


def test_very_many_clients_are_not_numbered():
    assert (label_size(5), label_size(40), label_size(41)) == (21.0, 15.0, 0.0)
    root = drawn(scenario(clients=45, owners=list(range(45))), [(float(k), float(k * k)) for k in range(45)])
    assert len(root.findall("path")) == 45
    assert root.findall("text") == []


def test_names_are_escaped():
    entry = scenario('<b> & "x"')
    entry["clients"][0]["name"] = "<i>"
    root = drawn(entry, [(float(k), 0.0) for k in range(60)])
    assert '<b> & "x"' in root.get("aria-label")
    assert any(title.text.startswith("0: <i>,") for title in root.iter("title"))


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
