"""The table of methods: figures of each, how much of a distance it closes, and what it took."""

import math
from collections.abc import Iterable, Sequence

from fedcmp.report.comparison import BLIND, INITIAL, Comparison
from fedcmp.report.methods import (
    CAPTION_LOSS,
    METRICS,
    SHUFFLED,
    WORST_GROUP,
    MeanSpread,
    MethodEntry,
    Metric,
    labelled_runs,
    reference_line,
    reference_value,
    say_group,
    write_number,
)
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.best import Best
from fedcmp.runs.reading import Run

_MOST_BEST = 4  # runs that are named
_SHUFFLED_NOTE = (
    "Shuffled images: the caption loss of the same projector when each caption comes with another held-out image. What "
    "is closed counts from not seeing: the lower of that and the blind LLM's loss."
)
REFERENCE_TITLES = {
    "centralized": "centralized (pooled data)",
    "local": "local (each client alone)",
    BLIND: "blind (same LLM, no image)",
    INITIAL: "untrained projector",
}


def summary_table(runs: Sequence[Run]) -> Table:
    """Return the table that answers the question: methods by caption loss, the winner in bold, references below.

    Args:
        runs: as `load_runs` returns them.

    Returns:
        A table for a page or a terminal (`headers`, `rows[i].cells`, `rows[i].best`); columns without a value are left
        out, `notes` say what the spreads mean.
    """
    return comparison_table(Comparison.of(runs))


def comparison_table(comparison: Comparison) -> Table:
    """Return the same as `summary_table`, of runs that are gathered already."""
    methods, winner = comparison.methods, comparison.winner
    palette = comparison.palette
    winners = {metric.key: _winner(comparison.federated, metric) for metric in METRICS}
    byte_unit, byte_factor, byte_decimals = _byte_unit(methods)
    time_unit, time_factor = _time_unit(methods)
    runs = [run for method in methods for run in method.runs]
    uneven = not all(run.finished for run in runs) or len({run.round_reached for run in runs}) > 1
    columns = (
        Column("Method", numeric=False),
        *map(Column.of, METRICS),
        Column(SHUFFLED.title, SHUFFLED.unit),
        Column("fedavg → centralized", "% closed", better="high"),
        Column(f"{'unseeing' if comparison.shuffled else BLIND} → centralized", "% closed", better="high"),
        Column("Sent", byte_unit, better="low"),
        Column("Training", time_unit, better="low"),
        Column("Rounds", "done"),
    )
    rows = []
    for method in methods:
        cells = [name_cell(palette, method.label, title_of(method), bold=method is winner)]
        for metric in METRICS:
            detail = say_group(method.worst_group()) if metric is WORST_GROUP else ""
            bold = winner is not None and method is winners[metric.key]  # without a winner nothing is sure enough
            cells.append(_value_cell(metric, method.value(metric), bold=bold, detail=detail))
        cells.append(_value_cell(SHUFFLED, method.value(SHUFFLED)))
        for share in (comparison.closed_from_fedavg(method), comparison.closed_from_unseeing(method)):
            cells.append(Cell(write_number(None if share is None else 100 * share, 0), share))
        sent, seconds = _mean(run.num_bytes for run in method.counted), _mean(run.seconds for run in method.counted)
        cells.append(Cell(write_number(None if sent is None else sent / byte_factor, byte_decimals), sent))
        digits = 0 if seconds is None or seconds / time_factor >= 10 else 1
        cells.append(Cell(write_number(None if seconds is None else seconds / time_factor, digits), seconds))
        cells.append(_rounds_cell(method, told=uneven))
        rows.append(Row(tuple(cells), best=method is winner, reference=not method.federated, owner=method.label))
    for model in (BLIND, INITIAL):
        figures = [reference_value(methods, model, metric) for metric in METRICS]
        if any(figure is not None for figure in figures):
            line = reference_line(methods, model)
            cells = [Cell(REFERENCE_TITLES[model], colour=palette.reference)]
            for metric, figure in zip(METRICS, figures, strict=True):
                detail = say_group(line.worst_group) if line is not None and metric is WORST_GROUP else ""
                cells.append(_value_cell(metric, figure, detail=detail))
            rows.append(Row((*cells, *(Cell("–") for _ in columns[len(cells) :])), reference=True))
    caption = "Methods by caption loss on held-out pairs"
    notes = (*spread_notes(methods), *([_SHUFFLED_NOTE] if comparison.shuffled else []), *best_round_notes(methods))
    return Table(columns, tuple(rows), caption, notes).without_empty_columns()


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


def best_round_notes(methods: Sequence[MethodEntry]) -> tuple[str, ...]:
    """Say which runs were better in an earlier round than in their last, as far as three decimals tell it."""
    said = []
    for label, run in labelled_runs(methods):
        if run.best is None or run.best.round == run.round_measured:
            continue
        last = Best.after(None, run.round_measured, run.measures(run.split)[run.round_measured])
        end = CAPTION_LOSS.write(last.loss if last else math.nan)
        if (lowest := CAPTION_LOSS.write(run.best.loss)) != end:
            said.append(f"{label}, round {run.best.round}: {lowest}, last: {end}")
    if not said:
        return ()
    more = [f"{len(said) - _MOST_BEST} more"] if len(said) > _MOST_BEST else []
    return (
        f"Better before the last round ({'; '.join([*said[:_MOST_BEST], *more])}). Each run keeps its best round "
        "(`fedcmp export RUN OUT --round best`); chosen on these pairs, it has a biased loss: on others it is higher.",
    )


def title_of(method: MethodEntry) -> str:
    """Return a method's label, with what it is where it is a reference."""
    return REFERENCE_TITLES.get(method.name, method.label) if method.label == method.name else method.label


def _winner(methods: Sequence[MethodEntry], metric: Metric) -> MethodEntry | None:
    figures = [(method, method.value(metric)) for method in methods]
    known = [(one.mean, method) for method, one in figures if one is not None and math.isfinite(one.mean)]
    choose = min if metric.lower_is_better else max
    return choose(known, key=lambda one: one[0])[1] if len(known) > 1 else None


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
