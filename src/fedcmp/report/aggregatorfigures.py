"""The numbers that an aggregator tells of its rounds: one small plot a quantity on its own axis, one line a layer.

A method's `last_diagnostics` are named "quantity.layer" (docs/methods.md). A layer has one colour in every plot. What
never changed is told in a sentence: a flat line says nothing. A method with several seeds shows its first one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fedcmp.report.linechart import Line, LineChart
from fedcmp.report.methods import Method, ordered
from fedcmp.report.palette import client_colour, client_marker
from fedcmp.report.panels import Panel, small_chart, symbol_html
from fedcmp.report.scale import padded_range
from fedcmp.report.shell import grid
from fedcmp.report.summary import Comparison
from fedcmp.report.tables import swatch

_MOST_LAYERS = 24  # colours and markers together tell as many apart
_MOST_OPEN = 2  # methods whose plots are shown before the rest is folded away


@dataclass(frozen=True)
class _Quantity:
    word: str
    symbol: str = ""
    unit: str = ""
    meaning: str = ""


# the words and symbols of docs/methods.md
_QUANTITIES = {
    "divergence": _Quantity("Drift", "d_t", "no unit", "how far a layer turned since the round before, 0: not at all"),
    "beta": _Quantity("Momentum", "b_t", "no unit", "share of earlier rounds in what is kept, 0: none"),
    "rank": _Quantity("Rank", "", "directions", "how many directions of a layer are kept"),
    "effective_rank": _Quantity(
        "Effective rank", "", "directions", "how many directions the clients' inputs to a layer really use"
    ),
    "step_ratio": _Quantity(
        "Step ratio", "", "no unit", "length of a layer's step over that of the clients' mean update, 1: equal"
    ),
}


@dataclass(frozen=True)
class _Told:
    """One quantity of one method: layer -> (round, value), rounds ascending, at least one layer and one point."""

    key: str
    series: dict[str, tuple[tuple[float, float], ...]]

    @property
    def quantity(self) -> _Quantity:
        return _QUANTITIES.get(self.key, _Quantity(self.key.replace("_", " ").capitalize()))

    @property
    def constant(self) -> bool:
        """Whether no layer's value changed in what is written of it."""
        return all(len({_write(value) for _, value in points}) == 1 for points in self.series.values())


def aggregator_section(comparison: Comparison) -> str:
    """The section's markup: what the quantities mean, then a method's plots; empty where no method told any number."""
    told = [(method, numbers) for method in comparison.federated if (numbers := _numbers(method))]
    if not told:
        return ""
    layers = ordered(layer for _, numbers in told for number in numbers for layer in number.series)
    shown, folded = [], []
    plotted = 0
    for index, (method, numbers) in enumerate(told):
        panels = [_panel(f"server{index}-{number.key}", method, number, layers) for number in numbers if _drawn(number)]
        content = grid("small", panels) + _in_words(numbers)
        seed = f' <span class="sub">seed {method.counted[0].seed}</span>' if len(method.runs) > 1 else ""
        heading = f"<h3>{swatch(comparison.palette.colour(method.label))}{escape(method.label)}{seed}</h3>"
        plotted += bool(panels)
        if not panels or plotted <= _MOST_OPEN:
            shown.append(heading + content)
            continue
        words = ", ".join(number.quantity.word.lower() for number in numbers)
        summary = f"<summary>Numbers of {escape(method.label)}: {escape(words)}</summary>"
        folded.append(f'<details class="charts">{summary}{heading}{content}</details>')
    return _meanings(told) + "".join(shown) + "".join(folded)


def _numbers(method: Method) -> list[_Told]:
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


def _panel(key: str, method: Method, told: _Told, layers: Sequence[str]) -> Panel:
    lines = tuple(
        Line(layer, client_colour(index), client_marker(index), told.series[layer])
        for index, layer in enumerate(layers)
        if layer in told.series
    )
    quantity = told.quantity
    whole = padded_range([value for line in lines for _, value in line.points])  # early rounds are what these tell of
    chart = LineChart(key, f"{quantity.word} of {method.label}", lines, _write, y_range=whole)
    return Panel(quantity.word, quantity.unit, small_chart(chart), symbol=quantity.symbol)


def _in_words(numbers: Sequence[_Told]) -> str:
    """What is not drawn: quantities that never changed, with their values, and those of too many layers."""
    sentences = []
    same = [number for number in numbers if number.constant]
    if same:
        rounds = sorted({round_ for number in same for points in number.series.values() for round_, _ in points})
        when = "The same in every round" if len(rounds) > 1 else f"In round {rounds[0]:g}"
        sentences.append(f"{when}: {'; '.join(_value_in_words(number) for number in same)}.")
    sentences.extend(
        f"{_name(number.quantity)}: {len(number.series)} layers are too many to tell apart here; metrics.jsonl has all."
        for number in numbers
        if not number.constant and not _drawn(number)
    )
    return "".join(f'<p class="note">{sentence}</p>' for sentence in sentences)


def _value_in_words(told: _Told) -> str:
    quantity = told.quantity
    unit = f" {quantity.unit}" if quantity.unit not in ("", "no unit") else ""
    values = {layer: _write(points[0][1]) + unit for layer, points in told.series.items()}
    name = _name(quantity)
    name = name[:1].lower() + name[1:]
    if len(set(values.values())) == 1 and (len(values) > 1 or "whole projector" in values):
        return f"{name} {escape(next(iter(values.values())))}{' in every layer' if len(values) > 1 else ''}"
    if len(values) > _MOST_LAYERS:
        every = sorted(points[0][1] for points in told.series.values())
        return f"{name} {_write(every[0])} to {escape(_write(every[-1]) + unit)} in {len(values)} layers"
    return f"{name} " + ", ".join(f"{escape(value)} in {escape(layer)}" for layer, value in values.items())


def _meanings(told: Sequence[tuple[Method, Sequence[_Told]]]) -> str:
    present = {number.key for _, numbers in told for number in numbers}
    meant = [
        f"{_name(quantity)}: {escape(quantity.meaning)}." for key, quantity in _QUANTITIES.items() if key in present
    ]
    return f'<p class="note">{" ".join(meant)}</p>' if meant else ""


def _name(quantity: _Quantity) -> str:
    return escape(quantity.word) + (f" {symbol_html(quantity.symbol)}" if quantity.symbol else "")


def _write(value: float) -> str:
    """Three significant digits: a drift may be a thousandth, a rank a thousand."""
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")
