"""The table of methods, and the numbers of the comparison that stand behind its rows.

    distance closed = (from - loss) / (from - centralized),   from = FedAvg's loss, or the blind LLM's

1 is as good as pooled data, 0 no better than where the distance starts, below 0 worse.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedcmp.report.methods import (
    ACCURACY,
    CAPTION_LOSS,
    METRICS,
    SEED_NOISE,
    WORST_GROUP,
    MeanSpread,
    MethodEntry,
    Metric,
    gather,
    reference_line,
    reference_value,
    write_number,
)
from fedcmp.report.palette import Palette
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.runs.reading import Run

BLIND, INITIAL = "blind", "initial"
REFERENCE_TITLES = {
    "centralized": "centralized (pooled data)",
    "local": "local (each client alone)",
    BLIND: "blind (same LLM, no picture)",
    INITIAL: "untrained projector",
}


@dataclass(frozen=True)
class Comparison:
    """Methods and references, and what is said about them as a whole."""

    methods: tuple[MethodEntry, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Comparison":
        """Gather the runs of one folder."""
        return cls(tuple(gather(runs)))

    @property
    def federated(self) -> tuple[MethodEntry, ...]:
        """The methods that compete with each other, best caption loss first."""
        return tuple(method for method in self.methods if method.federated)

    @property
    def best(self) -> MethodEntry | None:
        """The federated method of the lowest caption loss; among finished ones, as soon as there is one."""
        measured = [method for method in self.federated if self.loss(method) is not None]
        finished = [method for method in measured if any(run.finished for run in method.runs)]
        return next(iter(finished or measured), None)

    @property
    def seeds(self) -> list[int]:
        """All seeds, ascending."""
        return sorted({run.seed for method in self.methods for run in method.runs if run.seed is not None})

    @property
    def palette(self) -> Palette:
        """The colours of the methods, the same for every figure."""
        return Palette.of([method.label for method in self.methods])

    def named(self, name: str) -> MethodEntry | None:
        """The method of that name (its best setting where there are several), None where it was not run."""
        return next((method for method in self.methods if method.name == name), None)

    def loss(self, method: MethodEntry | None) -> float | None:
        """A method's final caption loss, None where it was not measured or is not finite."""
        figure = method.value(CAPTION_LOSS) if method else None
        return figure.mean if figure is not None and math.isfinite(figure.mean) else None

    def reference_loss(self, model: str) -> float | None:
        """The caption loss of a model that does not learn."""
        figure = reference_value(self.methods, model, CAPTION_LOSS)
        return figure.mean if figure is not None and math.isfinite(figure.mean) else None

    def closed(self, loss: float | None, start: float | None) -> float | None:
        """The share of the distance from `start` to the centralized loss that a loss closes, None without distance."""
        end = self.loss(self.named("centralized"))
        if loss is None or start is None or end is None or start - end < SEED_NOISE:
            return None
        return (start - loss) / (start - end)

    def closed_from_fedavg(self, method: MethodEntry) -> float | None:
        """The share of FedAvg's distance to centralized training that a federated method closes."""
        if not method.federated or method.name == "fedavg":
            return None
        return self.closed(self.loss(method), self.loss(self.named("fedavg")))

    def closed_from_blind(self, method: MethodEntry) -> float | None:
        """The share of the blind LLM's distance to centralized training that a method closes."""
        return None if method.name == "centralized" else self.closed(self.loss(method), self.reference_loss(BLIND))


def summary_table(runs: Sequence[Run]) -> Table:
    """The table that answers the question: methods by caption loss, best federated in bold, references below.

    Args:
        runs: as `load_runs` returns them.

    Returns:
        A table for a page or a terminal (`headers`, `text_rows()`, `rows[i].best`); columns without a value are left
        out, `notes` say what the spreads mean.
    """
    return comparison_table(Comparison.of(runs))


def comparison_table(comparison: Comparison) -> Table:
    """As `summary_table`, of runs that are gathered already."""
    methods = comparison.methods
    palette = comparison.palette
    winners = {metric.key: _winner(comparison.federated, metric) for metric in METRICS}
    byte_unit, byte_factor, byte_decimals = _byte_unit(methods)
    time_unit, time_factor = _time_unit(methods)
    runs = [run for method in methods for run in method.runs]
    uneven = not all(run.finished for run in runs) or len({run.round_reached for run in runs}) > 1
    columns = (
        Column("Method", numeric=False),
        *(Column(metric.title, metric.unit) for metric in METRICS[:2]),
        Column(ACCURACY.title, ACCURACY.unit),
        Column("fedavg → centralized", "% closed"),
        Column("blind → centralized", "% closed"),
        Column("Sent", byte_unit),
        Column("Training", time_unit),
        Column("Rounds", "done"),
    )
    rows = []
    for method in methods:
        cells = [Cell(_title(method), colour=palette.colour(method.label), bold=method is comparison.best)]
        for metric in METRICS:
            detail = method.worst_group() if metric is WORST_GROUP else ""
            bold = method.federated and method is winners[metric.key]
            cells.append(_value_cell(metric, method.value(metric), bold=bold, detail=detail))
        for share in (comparison.closed_from_fedavg(method), comparison.closed_from_blind(method)):
            cells.append(Cell(write_number(None if share is None else 100 * share, 0), share))
        sent, seconds = _mean(run.num_bytes for run in method.counted), _mean(run.seconds for run in method.counted)
        cells.append(Cell(write_number(None if sent is None else sent / byte_factor, byte_decimals), sent))
        digits = 0 if seconds is None or seconds / time_factor >= 10 else 1
        cells.append(Cell(write_number(None if seconds is None else seconds / time_factor, digits), seconds))
        cells.append(_rounds_cell(method, told=uneven))
        rows.append(Row(tuple(cells), best=method is comparison.best, reference=not method.federated))
    for model in (BLIND, INITIAL):
        figures = [reference_value(methods, model, metric) for metric in METRICS]
        if any(figure is not None for figure in figures):
            line = reference_line(methods, model)
            cells = [Cell(REFERENCE_TITLES[model], colour=palette.reference)]
            for metric, figure in zip(METRICS, figures, strict=True):
                detail = line.worst_group if line is not None and metric is WORST_GROUP else ""
                cells.append(_value_cell(metric, figure, detail=detail))
            rows.append(Row((*cells, *(Cell("–") for _ in columns[len(cells) :])), reference=True))
    caption = "Methods by caption loss on held-out pairs"
    return Table(columns, tuple(rows), caption, spread_notes(methods)).without_empty_columns()


def spread_notes(methods: Sequence[MethodEntry]) -> tuple[str, ...]:
    """Say what the ± behind a figure is, or that there is none and what that means."""
    figures = [(method, figure) for method in methods if (figure := method.value(CAPTION_LOSS)) is not None]
    counts = sorted({figure.count for _, figure in figures if figure.over == "seeds" and figure.spread is not None})
    notes = []
    if counts:
        seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"± is the standard deviation over {seeds} seeds.")
    if any(method.federated and figure.spread is None for method, figure in figures):
        notes.append(
            f"{'Without ±: one' if counts else 'One'} seed, so no spread over seeds is known"
            + (
                ". In the embedded world seeds alone move the caption loss by .002 to .005 nats: differences of a few "
                "thousandths are noise."
                if all(run.data_format == "world" for method in methods for run in method.runs)
                else ": small differences may be noise, the more so the fewer pairs were held out."
            )
        )
    for method, figure in figures:
        if figure.over == "clients":
            notes.append(
                f"{method.label}: mean over {figure.count} clients' own models, ± is the standard deviation over "
                "those clients."
            )
    if any(run.measures("validation") and not run.measures("test") for method in methods for run in method.counted):
        notes.append("Figures are of the validation split where a run has no test figures.")
    return tuple(notes)


def _title(method: MethodEntry) -> str:
    return REFERENCE_TITLES.get(method.name, method.label) if method.label == method.name else method.label


def _winner(methods: Sequence[MethodEntry], metric: Metric) -> MethodEntry | None:
    measured = [
        (figure.mean if metric.lower_is_better else -figure.mean, index)
        for index, method in enumerate(methods)
        if (figure := method.value(metric)) is not None and math.isfinite(figure.mean)
    ]
    return methods[min(measured)[1]] if len(measured) > 1 else None


def _value_cell(metric: Metric, figure: MeanSpread | None, *, bold: bool = False, detail: str = "") -> Cell:
    if figure is None:
        return Cell("–")
    spread = "" if figure.spread is None else f"± {metric.write(figure.spread)}"
    return Cell(metric.write(figure.mean), figure.mean, " ".join(part for part in (spread, detail) if part), bold)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rounds_cell(method: MethodEntry, *, told: bool) -> Cell:
    """How far a method came; a dash, and so no column, where all came equally far."""
    if not told:
        return Cell("–")
    reached = min(run.round_reached for run in method.runs)
    planned = method.runs[0].rounds
    detail = (f"of {planned}" if planned else "") + ("" if method.finished else ", unfinished")
    return Cell(str(reached), reached, detail.strip(", "))


def _byte_unit(methods: Sequence[MethodEntry]) -> tuple[str, float, int]:
    largest = max((run.num_bytes or 0 for method in methods for run in method.runs), default=0)
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if largest >= factor:
            return unit, factor, 1 if largest >= 10 * factor else 2
    return "kB", 1e3, 1


def _time_unit(methods: Sequence[MethodEntry]) -> tuple[str, float]:
    largest = max((run.seconds or 0 for method in methods for run in method.runs), default=0)
    return ("h", 3600.0) if largest >= 36000 else ("min", 60.0) if largest >= 600 else ("s", 1.0)
