import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

from fedcmp.report.palette import CLIENT_COLOURS, CSS_COLOURS, METHOD_COLOURS, REFERENCE_COLOUR, Palette, client_colour

STYLE = resources.files("fedcmp.report").joinpath("templates", "page.css").read_text(encoding="utf-8")
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


def themes():
    light, dark = STYLE.split("@media screen and (prefers-color-scheme: dark)")[:2]
    return [dict(re.findall(r"--([a-z]+\d*): (#[0-9a-f]{6});", part.split("* {")[0])) for part in (light, dark)]


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_style_sheet_holds_the_same_colours():
    light, dark = themes()
    assert [light[f"m{slot}"] for slot in range(len(METHOD_COLOURS))] == list(METHOD_COLOURS)
    assert [light[f"c{slot}"] for slot in range(len(CLIENT_COLOURS))] == list(CLIENT_COLOURS)
    assert light["reference"] == REFERENCE_COLOUR
    assert {f"var(--{name})": value for name, value in light.items() if f"var(--{name})" in CSS_COLOURS} == CSS_COLOURS
    assert light.keys() == dark.keys()


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("matrix", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_the_demo_methods_differ_for_colour_blind_readers(theme, matrix):
    colours = themes()[theme]
    palette = Palette.of(["centralized", "fedavg", "shared-basis", "local"])
    seen = [lab(np.asarray(matrix) @ linear(colours[f"m{slot}"])) for slot in palette.slots.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 18


@pytest.mark.parametrize("theme", [0, 1])
def test_text_stands_out_from_the_ground(theme):
    colours = themes()[theme]

    def luminance(name):
        return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colours[name]))

    for ink in ("ink", "soft", "link"):
        for ground in ("ground", "raised", "best"):
            high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_a_method_keeps_its_colour_whatever_stands_beside_it():
    few, many = (
        Palette.of(["shared-basis"]),
        Palette.of(["ties", "fedavg", "shared-basis", "a", "b", "local", "centralized"]),
    )
    assert few.colour("shared-basis") == many.colour("shared-basis") == "var(--m2)"
    assert CSS_COLOURS[many.colour("shared-basis")] == METHOD_COLOURS[2]


def test_colours_repeat_only_with_another_marker():
    labels = [f"method-{index:02}" for index in range(20)]
    palette = Palette.of(labels)
    assert len({(palette.colour(label), palette.marker(label)) for label in labels}) == 20


def test_those_named_first_share_no_colour_with_each_other():
    labels = ["fedavg", "shared-basis", *(f"method-{index:02}" for index in range(20))]
    chosen = ["shared-basis", "method-17", "method-03", "method-11"]
    palette = Palette.of(labels, first=chosen)
    assert len({palette.colour(label) for label in [*chosen, "fedavg"]}) == 5
    assert palette.colour("shared-basis") == Palette.of(labels).colour("shared-basis")
    assert len({(palette.colour(label), palette.marker(label)) for label in labels}) == len(labels)


def test_clients_beyond_the_palette_begin_again():
    assert client_colour(len(CLIENT_COLOURS)) == client_colour(0) == "var(--c0)"


def test_more_methods_than_colours_are_still_told_apart():
    labels = ["fedavg", "shared-basis", "centralized", "local", "fedcmp", *(f"other-{k}" for k in range(20))]
    palette = Palette.of(labels)
    looks = {(palette.colour(label), palette.marker(label), palette.dash(label)) for label in labels}
    assert len(looks) == len(labels)
    assert len({(palette.colour(label), palette.glyph(label)) for label in labels}) == len(labels)
    twelve = Palette.of(labels[:12])
    lines = {(twelve.colour(label), twelve.dash(label)) for label in labels[:12]}
    assert len(lines) == 12  # where lines cross, colour and dash are all there is
