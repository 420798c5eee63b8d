"""Maps of the sampled pairs, coloured by client: the same layout for every scenario, in each of the four metrics."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape

from fedcmp.report.methods import write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.panels import Panel
from fedcmp.report.scenario.records import METRICS, NOBODY, Scenario, Shown

SIDE = 300.0  # CSS pixels at scale 1
MOST_LABELS = 40  # more clients are not numbered
_PAD, _CELL = 10.0, 25.0
_LARGE, _SMALL, _FEW = 21.0, 15.0, 10  # font sizes; labels are large for a few clients
_APART = 1.2  # font sizes between two labels, at least
Place = tuple[float, float]
Point = tuple[float, float, int]  # x, y in CSS pixels, and who holds it
# two columns on a phone, four elsewhere
GRID = "grid-template-columns:repeat(auto-fill,minmax(max(150px,calc((100% - 48px) / 4)),1fr))"


def placed(layout: Sequence[Place], owners: Sequence[int]) -> tuple[list[Point], float]:
    """Scale a layout into a box of SIDE x the height that it needs, which is returned too.

    There is one scale for both axes, for a t-SNE map has no units.
    """
    (low_x, high_x), (low_y, high_y) = ((min(axis), max(axis)) for axis in zip(*layout, strict=True))
    step = (SIDE - 2 * _PAD) / (max(high_x - low_x, high_y - low_y) or 1.0)
    middle = (low_x + high_x) / 2
    points = [
        (SIDE / 2 + (x - middle) * step, _PAD + (high_y - y) * step, owner)
        for (x, y), owner in zip(layout, owners, strict=True)
    ]
    return points, (high_y - low_y) * step + 2 * _PAD


def label_places(points: Sequence[Point], size: float) -> dict[int, Place]:
    """Where to write each client's number: where most of its points and fewest others lie, apart from other numbers.

    Args:
        points: the map.
        size: of the font, in pixels.
    """
    cells: dict[tuple[int, int], Counter[int]] = {}
    members: dict[int, dict[tuple[int, int], list[Place]]] = {}
    for x, y, owner in points:
        cell = (int(x // _CELL), int(y // _CELL))
        cells.setdefault(cell, Counter())[owner] += 1
        members.setdefault(owner, {}).setdefault(cell, []).append((x, y))
    members.pop(NOBODY, None)
    found: dict[int, Place] = {}
    for client in sorted(members, key=lambda one: (len(members[one]), one)):  # with few places to choose from, first
        mine = sorted(members[client], key=lambda cell: (cells[cell].total() - 2 * cells[cell][client], cell))
        places = [_middle(members[client][cell]) for cell in mine]
        room = [min((math.dist(place, other) for other in found.values()), default=SIDE) for place in places]
        free = (place for place, distance in zip(places, room, strict=True) if distance >= _APART * size)
        found[client] = next(free, places[room.index(max(room))])
    return dict(sorted(found.items()))


def _middle(points: Sequence[Place]) -> Place:
    xs, ys = zip(*points, strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)


def label_size(clients: int) -> float:
    """The font's size in pixels: large where there are few; 0 where there are too many to be numbered."""
    return 0.0 if clients > MOST_LABELS else _LARGE if clients <= _FEW else _SMALL


def scatter(scenario: Scenario, layout: Sequence[Place], metric: str) -> str:
    """Draw the points as SVG, one path a client, its number among them; pairs that nobody holds in grey."""
    points, height = placed(layout, scenario.owners)
    parts = []
    holders = sorted({owner for _, _, owner in points})
    for owner in holders:
        own = [f"M{x:.1f} {y:.1f}h0" for x, y, holder in points if holder == owner]
        who = "left out" if owner == NOBODY else f"{owner}: {scenario.clients[owner].name}"
        colour = "var(--bundle)" if owner == NOBODY else client_colour(owner)
        told = f"<title>{escape(who)}, {len(own)} of {len(points)} pairs</title>"
        parts.append(f'<path class="dots" d="{"".join(own)}" style="stroke:{colour}">{told}</path>')
    clients = len([owner for owner in holders if owner != NOBODY])
    size = label_size(clients)
    if size:
        parts += [
            f'<text class="name" x="{x:.1f}" y="{y + size / 3:.1f}" text-anchor="middle" '
            f'style="font-size:{size:.0f}px">{client}</text>'
            for client, (x, y) in label_places(points, size).items()
        ]
    alt = f"Map by {metric} similarity of who holds what in {scenario.name}: {clients} clients, {len(points)} pairs"
    box = f'viewBox="0 0 {SIDE:.0f} {height:.0f}" style="--width:{SIDE:.0f}px"'
    return f'<svg {box} role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'


def map_panels(shown: Shown, scenario: Scenario) -> list[Panel]:
    """One scenario's maps, one a metric; its own is named."""
    return [
        _panel(f"by {metric}", _subtitle(scenario, metric), scatter(scenario, layout, metric))
        for metric in METRICS
        if (layout := shown.maps[metric]) is not None
    ]


def own_panels(shown: Shown) -> list[Panel]:
    """Each scenario in its own metric; joint for one that was cut by none."""
    return [
        _panel(scenario.name, f"by {metric}", scatter(scenario, layout, metric))
        for scenario in shown.scenarios
        for metric in [scenario.metric or "joint"]
        if (layout := shown.maps[metric]) is not None
    ]


def _panel(title: str, subtitle: str, drawing: str) -> Panel:
    return Panel(title, subtitle, f'<div class="one">{drawing}</div>')


def _subtitle(scenario: Scenario, metric: str) -> str:
    value = scenario.silhouette[metric]
    known = "" if value is None else f"silhouette {write_number(value, 3)}"
    return " · ".join(part for part in (known, "its own" if metric == scenario.metric else "") if part)
