"""Colours and markers: one per method, the same in every figure of every report; another set for clients.

Methods take the Okabe-Ito palette (made for colour-blind readers), clients Paul Tol's muted one. The page names its
colours by CSS variables, which page.css sets once for light and once for dark; the PNGs use the light values. Marker
shapes repeat the distinction for print without colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# slot -> light value; slot 0 is ink, for the upper reference. page.css holds the same list, and a test compares them.
METHOD_COLOURS = ("#1b1f23", "#0072b2", "#d55e00", "#009e73", "#b8578a", "#e69f00", "#56b4e9", "#a39a00")
CLIENT_COLOURS = ("#cc6677", "#332288", "#999933", "#117733", "#33a1c9", "#882255", "#44aa99", "#b07d2b")
GLYPHS = dict(zip(("circle", "square", "triangle", "diamond", "cross", "plus"), "●■▲◆✕✚", strict=True))
MARKERS = tuple(GLYPHS)
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 1.5), (8, 2, 2, 2))  # lengths on and off, in line widths
REFERENCE_COLOUR = "#6a737d"
_OTHERS = {"ink": "#1c2024", "soft": "#57606a", "grid": "#e7eaed", "ground": "#ffffff", "bundle": "#b9c0c7"}
# CSS variable -> its light value, and back: every value is there once
CSS_COLOURS = {
    **{f"var(--m{slot})": colour for slot, colour in enumerate(METHOD_COLOURS)},
    **{f"var(--c{slot})": colour for slot, colour in enumerate(CLIENT_COLOURS)},
    **{f"var(--{name})": colour for name, colour in _OTHERS.items()},
    "var(--reference)": REFERENCE_COLOUR,
}
CSS_VARIABLES = {colour: name for name, colour in CSS_COLOURS.items()}

_OWN_SLOTS = {"centralized": 0, "fedavg": 1, "shared-basis": 2, "local": 4, "fedcmp": 5}
_FREE_SLOTS = (3, 6, 7, 5, 1, 2, 4)


@dataclass(frozen=True)
class Palette:
    """Which slot each method of one report takes."""

    slots: dict[str, int]

    @classmethod
    def of(cls, labels: Sequence[str], first: Sequence[str] = ()) -> "Palette":
        """Hand out slots: the best-known methods always have the same ones, the others take free ones by name.

        Args:
            labels: all methods of the report.
            first: labels that choose among the free slots before the others, so that they share none as long as it can
                be helped.
        """
        slots = {label: _OWN_SLOTS[label] for label in labels if label in _OWN_SLOTS}
        free = [slot for slot in _FREE_SLOTS if slot not in slots.values()] or list(_FREE_SLOTS)
        early = [label for label in first if label in labels and label not in _OWN_SLOTS]
        others = early + sorted(label for label in labels if label not in _OWN_SLOTS and label not in early)
        # a colour is shared as often as there are markers to part its methods; then those of the best-known are too
        order = free * len(MARKERS) + [slot for slot in _FREE_SLOTS if slot not in free] * (len(MARKERS) - 1)
        slots.update({label: order[index % len(order)] for index, label in enumerate(others)})
        return cls(slots)

    @property
    def reference(self) -> str:
        """Return the CSS colour of what does not learn."""
        return "var(--reference)"

    def colour(self, label: str) -> str:
        """Return the CSS colour of a method."""
        return f"var(--m{self.slots[label]})"

    def marker(self, label: str) -> str:
        """Return the marker of a method; methods that must share a colour get different ones."""
        return MARKERS[(self.slots[label] + self._sharing(label)) % len(MARKERS)]

    def glyph(self, label: str) -> str:
        """Return the marker of a method as a sign of text."""
        return GLYPHS[self.marker(label)]

    def dash(self, label: str) -> int:
        """Return the dash pattern of a method's lines, 0 is solid; methods that share a colour get different ones."""
        return self._sharing(label) % len(DASHES)

    def _sharing(self, label: str) -> int:
        slot = self.slots[label]
        return sorted(other for other, taken in self.slots.items() if taken == slot).index(label)


def client_colour(client: int) -> str:
    """Return the CSS colour of a client."""
    return f"var(--c{client % len(CLIENT_COLOURS)})"


def client_marker(client: int) -> str:
    """Return the marker of a client."""
    return MARKERS[client % len(MARKERS)]
