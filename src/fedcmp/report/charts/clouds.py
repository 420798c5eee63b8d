"""Maps of pairs, coloured by client: a cloud of points per client, and the client's number among them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fedcmp.report.charts.sheet import GROUND, Sheet, light
from fedcmp.report.palette import client_colour

NOBODY = -1  # who holds a pair that a scenario left out
SIDE = 300.0  # pixels of a map's width on the page
MOST_LABELS = 40  # more clients are not numbered
_PAD, _CELL = 10.0, 25.0
_LARGE, _SMALL, _FEW = 21.0, 15.0, 10  # font sizes; labels are large for a few clients
_APART = 1.2  # font sizes between two labels, at least
_BACK = {"boxstyle": "circle,pad=0.15", "facecolor": light(GROUND), "alpha": 0.75, "linewidth": 0}
_SPECK = 0.02  # pixels: nothing is drawn of a line of no length
_NOWHERE = (math.nan, math.nan)  # parts one point's line of no length from the next one's
Place = tuple[float, float]
Point = tuple[float, float, int]  # x, y, and who holds it


@dataclass(frozen=True)
class Cloud:
    """A map: points in any unit (at least one, all finite), and the name of every client that holds one."""

    title: str
    points: tuple[Point, ...]
    names: dict[int, str]

    @cached_property
    def placed(self) -> tuple[list[Point], float]:
        """Return the points in a box of SIDE pixels, y downwards, and the height that they need.

        There is one scale for both axes, for a t-SNE map has no units.
        """
        xs, ys, _ = zip(*self.points, strict=True)
        step = (SIDE - 2 * _PAD) / (max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0)
        middle, top = (min(xs) + max(xs)) / 2, max(ys)
        points = [(SIDE / 2 + (x - middle) * step, _PAD + (top - y) * step, owner) for x, y, owner in self.points]
        return points, (top - min(ys)) * step + 2 * _PAD

    @property
    def clients(self) -> list[int]:
        """Return those who hold a point, ascending."""
        return sorted({owner for _, _, owner in self.points} - {NOBODY})

    @property
    def label_size(self) -> float:
        """Return the font's size in pixels: large for few clients, 0 where there are too many to be numbered."""
        count = len(self.clients)
        return 0.0 if count > MOST_LABELS else _LARGE if count <= _FEW else _SMALL

    def describe(self) -> str:
        """Say in words what the map shows."""
        return f"{self.title}: {len(self.clients)} clients, {len(self.points)} pairs"

    def height(self, width: float) -> float:
        """Return the height in pixels that fits the width."""
        return self.placed[1] * width / SIDE

    def draw(self, sheet: Sheet, box: tuple[float, float, float, float]) -> None:
        """Draw into the upper part of the box (left, bottom, width, height)."""
        left, bottom, width, height = box
        points, _ = self.placed
        step = width / SIDE

        def place(x: float, y: float) -> Place:
            return left + x * step, bottom + height - y * step

        for owner in sorted({owner for _, _, owner in points}):
            own = [place(x, y) for x, y, holder in points if holder == owner]
            colour = "var(--bundle)" if owner == NOBODY else client_colour(owner)
            drawn = sheet.line(
                [end for at in own for end in (at, (at[0] + _SPECK, at[1]), _NOWHERE)],
                light(colour),
                width=3.6 * step,
                alpha=0.75,
                solid_capstyle="round",
                snap=False,  # to whole pixels: a point would have no length
            )
            sheet.tips(drawn, "", [f"{self.names[owner]}, {len(own)} of {len(points)} pairs"])
        size = self.label_size
        for client, (x, y) in (label_places(points, size) if size else {}).items():
            at = place(x, y)
            sheet.text(*at, str(client), size=size * step, ha="center", weight="bold", bbox=_BACK)


def label_places(points: Sequence[Point], size: float) -> dict[int, Place]:
    """Return where to write each client's number: where most of its points and fewest others lie, numbers apart.

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
