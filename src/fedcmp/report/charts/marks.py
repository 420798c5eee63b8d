"""Mark charts: one row per name, one column per round, and a mark that says what happened there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from fedcmp.report.charts.sheet import CHARACTER, GRID, SOFT, Sheet, light, mark, short

_ROW, _TOP, _BOTTOM = 20.0, 4.0, 38.0
_LARGEST = 8.0  # pixels of a mark
_NAME = 18  # letters


@dataclass(frozen=True)
class Kind:
    """What a mark may say: its text, CSS colour and marker."""

    text: str
    colour: str
    marker: str


@dataclass(frozen=True)
class MarkChart:
    """Rows from the top, at least one; `marks` are (row, round, kind, hover value), at least one."""

    title: str
    rows: tuple[str, ...]
    kinds: tuple[Kind, ...]
    marks: tuple[tuple[int, int, int, str], ...]

    def describe(self) -> str:
        """Say in words what the chart shows: how often each kind is in each row."""
        told = []
        for place, name in enumerate(self.rows):
            found = Counter(self.kinds[kind].text for row, _, kind, _ in self.marks if row == place)
            told.append(f"{name}: {', '.join(f'{text} {count}' for text, count in found.items()) or 'nothing'}")
        return f"{self.title}. {'; '.join(told)}."

    @property
    def legend(self) -> Sequence[Kind]:
        """Return the kinds that there are marks of."""
        used = {kind for _, _, kind, _ in self.marks}
        return [kind for place, kind in enumerate(self.kinds) if place in used]

    def height(self, width: float) -> float:  # noqa: ARG002 -- other charts' heights depend on it
        """Return the height in pixels."""
        return _TOP + _ROW * len(self.rows) + _BOTTOM

    def draw(self, sheet: Sheet, box: tuple[float, float, float, float]) -> None:
        """Draw into the upper part of the box (left, bottom, width, height)."""
        left, bottom, width, height = box
        high = _ROW * len(self.rows)
        floor = bottom + height - _TOP - high
        names = [short(name, _NAME) for name in self.rows]
        before = 14.0 + CHARACTER * max(map(len, names))
        across = max(width - before - 10.0, 40.0)
        axes = sheet.axes(left + before, floor, across, high)
        rounds = [round_ for _, round_, _, _ in self.marks]
        first, last = min(rounds) - 0.5, max(rounds) + 0.5
        axes.set_xlim(first, last)
        axes.set_ylim(0, len(self.rows))
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(max(2, int(across // 34)), integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlabel("round", fontsize=12, color=light(SOFT), parse_math=False, labelpad=3)
        for place, name in enumerate(names):
            y = len(names) - place - 0.5
            axes.axhline(y, color=light(GRID), linewidth=1)
            sheet.text(left + before - 8, floor + _ROW * y, name, ha="right")
        size = max(2.0, min(_LARGEST, 0.8 * across / (last - first)))
        for place, kind in enumerate(self.kinds):
            mine = [(round_, len(self.rows) - row - 0.5, tip) for row, round_, of, tip in self.marks if of == place]
            if not mine:
                continue
            xs, ys, tips = zip(*mine, strict=True)
            look = {"linestyle": "none", "markersize": size, **mark(kind.marker)}
            sheet.tips(axes.plot(xs, ys, color=light(kind.colour), **look)[0], "", tips)
