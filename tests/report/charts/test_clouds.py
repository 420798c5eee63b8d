import math
import random
from io import BytesIO
from xml.etree import ElementTree

import pytest
from PIL import Image

from fedcmp.report.charts.clouds import NOBODY, SIDE, Cloud, label_places
from fedcmp.report.charts.sheet import chart_svg, charts_png
from fedcmp.report.palette import CLIENT_COLOURS


def cloud(*points, title="Map", names=None):
    return Cloud(title, points, names or {owner: f"client {owner}" for _, _, owner in points})


def drawn(chart):
    return ElementTree.fromstring(chart_svg(chart, "k", SIDE))


def clouds_of(root):
    """Each group of points: (hover value, style, places)."""
    return [
        (group.find("title").text, group.find("path").get("style"), group.find("path").get("d").split("M")[1:])
        for group in root.iter("g")
        if group.get("class") == "tips"
    ]


def test_points_keep_their_shape_and_fill_the_box():
    points, height = cloud((0.0, 0.0, 0), (10.0, 0.0, 1), (10.0, 5.0, NOBODY)).placed
    assert points == [(10.0, 150.0, 0), (290.0, 150.0, 1), (290.0, 10.0, NOBODY)]
    assert height == 160.0
    tall, height = cloud((0.0, 0.0, 0), (5.0, 10.0, 0)).placed
    assert tall == [(80.0, 290.0, 0), (220.0, 10.0, 0)]
    assert height == SIDE
    assert cloud((2.0, 2.0, 0), (2.0, 2.0, 0)).placed == ([(150.0, 10.0, 0)] * 2, 20.0)


def test_every_point_is_drawn_once_in_its_clients_colour_and_place_and_the_rest_in_grey():
    points = ((0.0, 0.0, 0), (9.0, 0.0, 1), (0.0, 9.0, 2), (1.0, 9.0, 2), (9.0, 9.0, NOBODY))
    root = drawn(cloud(*points, names={0: "0: a", 1: "1: b", 2: "2: <c>", NOBODY: "left out"}))
    found = clouds_of(root)
    assert [told for told, _, _ in found] == [
        "left out, 1 of 5 pairs",
        "0: a, 1 of 5 pairs",
        "1: b, 1 of 5 pairs",
        "2: <c>, 2 of 5 pairs",
    ]
    colours = ["var(--bundle)", "var(--c0)", "var(--c1)", "var(--c2)"]
    assert all(f"stroke:{colour}" in style for colour, (_, style, _) in zip(colours, found, strict=True))
    assert [[point.partition("h")[0] for point in places] for _, _, places in found] == [
        ["290 10"],
        ["10 290"],
        ["290 290"],
        ["10 10", "41.1 10"],
    ]
    assert sorted(text.text for text in root.iter("text")) == ["0", "1", "2"]


def test_every_cloud_is_drawn_in_a_file_too():
    far_apart = cloud(*((20.0 * client, float(k % 7), client) for client in range(4) for k in range(40)))
    image = Image.open(BytesIO(charts_png([("", far_apart)], 300.0))).convert("RGB")
    seen = [colour for _, colour in image.getcolors(maxcolors=1 << 24)]
    for client in range(4):
        red, green, blue = (int(CLIENT_COLOURS[client][at : at + 2], 16) for at in (1, 3, 5))
        tinted = tuple(round(0.75 * channel + 0.25 * 255) for channel in (red, green, blue))  # three quarters opaque
        assert any(max(abs(a - b) for a, b in zip(tinted, colour, strict=True)) < 12 for colour in seen)


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
    def of(count):
        return cloud(*((float(k), float(k * k), k) for k in range(count)), title='<b> & "x"')

    assert [of(count).label_size for count in (5, 40, 41)] == [21.0, 15.0, 0.0]
    root = drawn(of(45))
    assert len(clouds_of(root)) == 45
    assert list(root.iter("text")) == []
    assert '<b> & "x"' in root.get("aria-label")
