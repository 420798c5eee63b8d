"""The numbers that an aggregator reports of its rounds: one small plot a quantity on its own axis, one line a layer.

A method's `last_diagnostics` are named "quantity.layer" (docs/methods.md). A layer has one colour in every plot. What
never changed is said in a sentence: a flat line says nothing. A method with several seeds shows its first one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcmp.report.charts.lines import Line, LineChart
from fedcmp.report.charts.scale import padded_range
from fedcmp.report.comparison import Comparison
from fedcmp.report.methods import MethodEntry, ordered
from fedcmp.report.palette import client_colour, client_marker
from fedcmp.report.panels import Mark, Panel, small_panel

_MOST_LAYERS = 24  # colours and markers together tell as many apart
_MOST_OPEN = 2  # methods whose plots are shown before the rest is folded away


@dataclass(frozen=True)
class Quantity:
    """A number that aggregators report: its word, its symbol in docs/methods.md ("d_t"), unit and meaning."""

    word: str
    symbol: str = ""
    unit: str = ""
    meaning: str = ""


# the words and symbols of docs/methods.md
_QUANTITIES = {
    "divergence": Quantity("Drift", "d_t", "no unit", "how far a layer turned since the round before, 0: not at all"),
    "beta": Quantity("Momentum", "b_t", "no unit", "share of earlier rounds in what is kept, 0: none"),
    "rank": Quantity("Rank", "", "directions", "how many directions of a layer are kept"),
    "effective_rank": Quantity(
        "Effective rank", "", "directions", "how many directions the clients' inputs to a layer really use"
    ),
    "step_ratio": Quantity(
        "Step ratio", "", "no unit", "length of a layer's step over that of the clients' mean update, 1: equal"
    ),
}


@dataclass(frozen=True)
class _Told:
    """One quantity of one method: layer -> (round, value), rounds ascending, at least one layer and one point."""

    key: str
    series: dict[str, tuple[tuple[float, float], ...]]

    @property
    def quantity(self) -> Quantity:
        return _QUANTITIES.get(self.key, Quantity(self.key.replace("_", " ").capitalize()))

    @property
    def constant(self) -> bool:
        """Tell whether no layer's value changed in what is written of it."""
        return all(len({_write(value) for _, value in points}) == 1 for points in self.series.values())


@dataclass(frozen=True)
class MethodNumbers:
    """What is shown of one method: panels, numbers that never changed (`when`), and those of too many layers."""

    label: str
    mark: Mark
    seed: str
    words: str
    panels: tuple[Panel, ...]
    when: str
    constants: tuple[tuple[Quantity, str], ...]
    crowded: tuple[tuple[Quantity, int], ...]


@dataclass(frozen=True)
class Diagnostics:
    """The section: what the quantities mean, the methods shown, and those that are folded away."""

    meanings: tuple[Quantity, ...]
    shown: tuple[MethodNumbers, ...]
    folded: tuple[MethodNumbers, ...]


def diagnostics(comparison: Comparison) -> Diagnostics | None:
    """Gather the section; None where no method reported any number."""
    told = [(method, numbers) for method in comparison.federated if (numbers := _numbers(method))]
    if not told:
        return None
    layers = ordered(layer for _, numbers in told for number in numbers for layer in number.series)
    found = [_of_method(comparison, index, *one, layers) for index, one in enumerate(told)]
    plotted = [one for one in found if one.panels]
    folded = plotted[_MOST_OPEN:]
    present = {number.key for _, numbers in told for number in numbers}
    meanings = tuple(quantity for key, quantity in _QUANTITIES.items() if key in present)
    return Diagnostics(meanings, tuple(one for one in found if one not in folded), tuple(folded))


def _of_method(
    comparison: Comparison, index: int, method: MethodEntry, numbers: Sequence[_Told], layers: Sequence[str]
) -> MethodNumbers:
    same = [number for number in numbers if number.constant]
    rounds = sorted({round_ for number in same for points in number.series.values() for round_, _ in points})
    return MethodNumbers(
        label=method.label,
        mark=Mark(comparison.palette.colour(method.label), comparison.palette.glyph(method.label), method.label),
        seed=f"seed {method.counted[0].seed}" if len(method.runs) > 1 else "",
        words=", ".join(number.quantity.word.lower() for number in numbers),
        panels=tuple(
            _panel(f"server{index}-{n}", method, number, layers) for n, number in enumerate(numbers) if _drawn(number)
        ),
        when="The same in every round" if len(rounds) > 1 else f"In round {rounds[0]:g}" if rounds else "",
        constants=tuple((number.quantity, _value_in_words(number)) for number in same),
        crowded=tuple(
            (number.quantity, len(number.series)) for number in numbers if not number.constant and not _drawn(number)
        ),
    )


def _numbers(method: MethodEntry) -> list[_Told]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in method.counted[0].server_rounds:
        for name, value in line.diagnostics.items():
            quantity, _, layer = name.partition(".")
            if math.isfinite(value):
                points = found.setdefault(quantity, {}).setdefault(layer or "whole projector", [])
                points.append((float(line.round), value))
    known = [key for key in _QUANTITIES if key in found]
    return [
        _Told(key, {layer: tuple(points) for layer, points in found[key].items()})
        for key in (*known, *(key for key in found if key not in _QUANTITIES))
    ]


def _drawn(told: _Told) -> bool:
    return not told.constant and len(told.series) <= _MOST_LAYERS


def _panel(key: str, method: MethodEntry, told: _Told, layers: Sequence[str]) -> Panel:
    lines = tuple(
        Line(layer, client_colour(index), client_marker(index), told.series[layer])
        for index, layer in enumerate(layers)
        if layer in told.series
    )
    quantity = told.quantity
    whole = padded_range([value for line in lines for _, value in line.points])  # early rounds are what these tell of
    chart = LineChart(f"{quantity.word} of {method.label}", lines, _write, y_range=whole)
    return small_panel(key, quantity.word, quantity.unit, chart, symbol=quantity.symbol)


def _value_in_words(told: _Told) -> str:
    """The one value of each layer, in as few words as it takes."""
    unit = f" {told.quantity.unit}" if told.quantity.unit not in ("", "no unit") else ""
    values = {layer: _write(points[0][1]) + unit for layer, points in told.series.items()}
    if len(set(values.values())) == 1 and (len(values) > 1 or "whole projector" in values):
        return f"{next(iter(values.values()))}{' in every layer' if len(values) > 1 else ''}"
    if len(values) > _MOST_LAYERS:
        every = sorted(points[0][1] for points in told.series.values())
        return f"{_write(every[0])} to {_write(every[-1])}{unit} in {len(values)} layers"
    return ", ".join(f"{value} in {layer}" for layer, value in values.items())


def _write(value: float) -> str:
    """Three significant digits: a drift may be a thousandth, a rank a thousand."""
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")
