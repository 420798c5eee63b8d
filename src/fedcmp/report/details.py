"""The tables below the first one: by question kind, by group, who holds what, what differs between the recipes."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from fedcmp.report.comparison import BLIND, Comparison
from fedcmp.report.methods import (
    ACCURACY,
    WORST_GROUP,
    MeanSpread,
    Metric,
    best_written,
    labelled_runs,
    ordered,
    recipe_differences,
    reference_line,
    write_number,
)
from fedcmp.report.palette import client_colour
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.runs.records import ClientData

_MOST_DIFFERENCES = 40


def kinds_table(comparison: Comparison) -> Table | None:
    """Return accuracy by kind of question, one column per method; the tick on each bar is the blind LLM."""
    return _parts_table(comparison, "accuracy_by_kind", ACCURACY, "Question kind", "Accuracy by kind of question")


def groups_table(comparison: Comparison) -> Table | None:
    """Return caption loss by group, one column per method; the tick on each bar is the blind LLM."""
    return _parts_table(comparison, "group_losses", WORST_GROUP, "Group", "Caption loss by group")


def _parts_table(
    comparison: Comparison,
    attribute: Literal["group_losses", "accuracy_by_kind"],
    metric: Metric,
    first: str,
    caption: str,
) -> Table | None:
    by_method = [(method, method.part_values(attribute)) for method in comparison.methods]
    by_method = [(method, figures) for method, figures in by_method if figures]
    if not by_method:
        return None
    palette = comparison.palette
    line = reference_line(comparison.methods, BLIND)
    known = getattr(line, attribute) if line is not None else {}
    blind = {name: value for name, value in known.items() if math.isfinite(value)}
    names = ordered(name for _, figures in by_method for name in figures)
    finite = [figure.mean for _, figures in by_method for figure in figures.values() if math.isfinite(figure.mean)]
    full = 1.0 if metric is ACCURACY else max([*finite, *blind.values()], default=1.0) or 1.0
    columns = [Column(first, numeric=False)]
    columns += [
        Column(
            method.label,
            metric.unit,
            colour=palette.colour(method.label),
            better=metric.better,
            glyph=palette.glyph(method.label),
            owner=method.label,
        )
        for method, _ in by_method
    ]
    columns += [Column("blind", metric.unit, colour=palette.reference, better=metric.better)] if blind else []
    rows, sure = [], comparison.winner is not None
    for name in names:
        means = [found[name].mean for method, found in by_method if method.federated and name in found]
        best = next(iter(best_written(metric, means)), None)
        mark = blind.get(name)
        cells = [Cell(name)]
        for method, found in by_method:
            figure = found.get(name)
            bold = sure and method.federated and figure is not None and metric.write(figure.mean) == best
            cells.append(_part_cell(figure, metric, full, mark, bold=bold))
        if blind:
            cells.append(_part_cell(None if mark is None else MeanSpread(mark), metric, full, mark))
        rows.append(Row(tuple(cells)))
    notes = ("The tick on a bar is the blind LLM, which sees no image.",) if blind else ()
    over = {figure.over for _, figures in by_method for figure in figures.values() if figure.spread is not None}
    clients = "± is the standard deviation over seeds, or over the clients' own models of one seed."
    return Table(tuple(columns), tuple(rows), caption, notes).with_spread_note(clients if "clients" in over else "")


def _part_cell(
    figure: MeanSpread | None, metric: Metric, full: float, mark: float | None, *, bold: bool = False
) -> Cell:
    if figure is None:
        return Cell("–")
    if not math.isfinite(figure.mean):
        return Cell(metric.write(figure.mean), figure.mean)
    tick = None if mark is None else mark / full
    detail = "" if figure.spread is None else f"± {metric.write(figure.spread)}"
    return Cell(metric.write(figure.mean), figure.mean, detail, bold, bar=figure.mean / full, tick=tick)


def holdings_table(comparison: Comparison) -> Table | None:
    """Return who holds what: pairs by client and group, tinted by the group's share of the client's pairs."""
    in_order = [*comparison.federated, *(method for method in comparison.methods if not method.federated)]
    held = [run.holdings for method in in_order for run in method.counted if run.holdings]
    holdings = max(held, key=len, default=())
    if not holdings:
        return None
    groups = ordered(group for holding in holdings for group in holding.groups)
    columns = [Column("Client", numeric=False), Column("Pairs"), *(Column(group, "group") for group in groups)]
    columns += [Column("Wrong captions"), Column("Missing"), Column("Unusable")]
    rows = [Row(tuple(_holding_cells(holding, groups))) for holding in holdings]
    total = sum(holding.num_pairs for holding in holdings)
    notes = (
        f"{write_number(total, 0)} pairs in all. The stronger a cell's tint, the larger the group's share of the "
        "client's pairs.",
    )
    table = Table(tuple(columns), tuple(rows), "Who holds what (image–caption pairs)", notes)
    return table.without_empty_columns()


def _holding_cells(holding: ClientData, groups: Sequence[str]) -> list[Cell]:
    cells = [
        Cell(holding.name, colour=client_colour(holding.client)),
        Cell(write_number(holding.num_pairs, 0), holding.num_pairs),
    ]
    for group in groups:
        count = holding.groups.get(group, 0.0)
        share = count / holding.num_pairs if holding.num_pairs else 0.0
        cells.append(Cell(write_number(count, 0) if count else "·", count, shade=share))
    cells.append(Cell(write_number(holding.wrong_captions or None, 0), holding.wrong_captions))
    cells.append(Cell(write_number(holding.missing_pairs or None, 0), holding.missing_pairs))
    bad = sum(holding.bad_pairs.values())
    reasons = ", ".join(f"{reason} {count:.0f}" for reason, count in holding.bad_pairs.items() if count)
    cells.append(Cell(write_number(bad, 0), bad, f"({reasons})" if reasons else "") if bad else Cell("–", 0.0))
    return cells


def pairs_table(comparison: Comparison) -> Table | None:
    """Where every pair went that was read: used, refused, or not used by rule."""
    found = [run.pairs_read for method in comparison.methods for run in method.counted if run.pairs_read]
    collections = max(found, key=len, default=())
    if not collections:
        return None
    columns = (
        *(Column("Source", numeric=False), Column("Read"), Column("To train on"), Column("Held out")),
        *(Column("Refused"), Column("Not used"), Column("Captions cut"), Column("Not read beside them")),
    )
    rows = []
    for one in collections:
        judged = f"({write_number(one.judged, 0)} of them judged)" if one.judged < one.held_out else ""
        cells = [Cell(one.name), _count(one.read), _count(one.train), _count(one.held_out, judged)]
        cells += [_by_reason(one.refused), _by_reason(one.unused), _count(one.captions_cut), _by_reason(one.ignored)]
        rows.append(Row(tuple(cells)))
    notes = [
        "Read = to train on + held out + refused + not used: refused pairs are losses, a rule leaves out the others."
    ]
    cut = sum(one.captions_cut for one in collections)
    if cut:
        notes.append(f"Captions that were longer than data.max_caption_tokens, and cut there: {write_number(cut, 0)}.")
    return Table(columns, tuple(rows), "Where the pairs went", tuple(notes)).without_empty_columns()


def _count(number: int, detail: str = "") -> Cell:
    return Cell(write_number(number, 0) if number else "–", float(number), detail)


def _by_reason(counts: Mapping[str, int]) -> Cell:
    told = ", ".join(f"{reason} {write_number(count, 0)}" for reason, count in counts.items() if count)
    return _count(sum(counts.values()), f"({told})" if told else "")


def differences_table(comparison: Comparison) -> Table | None:
    """Return the recipe's keys that are not the same in all runs: what, beside the method, may explain a difference."""
    labelled = labelled_runs(comparison.methods)
    found = recipe_differences([run for _, run in labelled])
    if not found:
        return None
    columns = (Column("Recipe key", numeric=False), *(Column(label, numeric=False) for label, _ in labelled))
    rows = [
        Row((Cell(key), *(Cell(value if len(value) <= 60 else value[:59] + "…") for value in values)))
        for key, values in list(found.items())[:_MOST_DIFFERENCES]
    ]
    return Table(columns, tuple(rows), "What differs between the recipes")
