"""The paper's tables from a study's runs: methods by suites, mean rank and losses, with error bars; the ablations.

The paper shows one such table a scenario (tables 1, 2, 7 and 8; its table 1 is the image clusters). Tables 3 and 4 are
its ablations. Numbers of tables name the paper's form; the figures are this study's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcmp.report.methods import SHUFFLED, Metric, best_written, ordered
from fedcmp.report.palette import Palette
from fedcmp.report.study.comparing import HEADLINE, Comparison, Entry
from fedcmp.report.study.metrics import SUITES, TABLE_METRICS, WORST_CLIENT, write_estimate, write_p
from fedcmp.report.study.results import MAIN_SCENARIOS, Results
from fedcmp.report.study.statistics import Estimate
from fedcmp.report.tables import Cell, Column, Row, Table, name_cell
from fedcmp.runs.study_records import Arm

COMMON_NOTES = (
    "Mean ± standard deviation over seeds; without ± there was one seed only. Best federated method in bold, second "
    "underlined, rows by caption loss. Losses in nats per caption token on held-out pairs, suites in per cent (MME: a "
    "sum).",
    "The last rows, set apart, frame the comparison and take no part in bold, ranks or tests. blind is the same LLM "
    "without images, its score with the standard error over a suite's items in brackets; chance is a guess.",
    "Mean rank: at each seed that all methods ran, over the informative suites, 1 is best. † marks a suite that is not "
    "informative: the centralized model does not beat the blind one by more than twice the noise of that difference.",
    "p: two-sided paired t-test of the caption loss against the best row over common seeds, Holm-corrected within the "
    "table. The best row was chosen by the same numbers, so these p-values flatter it a little.",
)
_MOST_NAMED = 6
_ABLATION_TITLES = {
    "3": "Parts of Fed-CMP: canonical space (CSC), reliability weights (RWF), momentum (OPM) — in the form of the "
    "paper's table 3",
    "4": "Reliability weights: magnitude, quality, gamma — in the form of the paper's table 4",
    "preset": "shared-basis, part by part",
}
_PAPER_ARMS = ("CSC", "RWF", "OPM", "magnitude", "quality", "gamma")


@dataclass(frozen=True)
class ResultTable:
    """A table with its heading; `key` names it in files, `kind` says in which part of the report it stands."""

    key: str
    title: str
    kind: str  # "main", "further" or "ablation"
    table: Table


def result_tables(results: Results) -> list[ResultTable]:
    """Return all tables of methods: the paper's four scenarios, further ones, ablations."""
    palette = results.palette
    found = [
        ResultTable(
            one.scenario.name,
            scenario_heading(one),
            "main" if one.scenario.name in MAIN_SCENARIOS else "further",
            result_table(one, palette),
        )
        for one in results.comparisons
    ]
    for table, comparisons in results.ablations.items():
        order = list(results.study.methods)
        for scenario, one in comparisons:
            title = f"{_ABLATION_TITLES.get(table, f'Ablation: {table}')}, {scenario.title}"
            content = result_table(one, palette, arms=table, order=order)
            found.append(ResultTable(f"ablation-{table}-{scenario.name}", title, "ablation", content))
    return found


def scenario_heading(one: Comparison) -> str:
    """Return the scenario's title and, where suites were asked, which of the paper's tables has this form."""
    if not any(_measured(one, metric) for metric in SUITES):
        return f"{one.scenario.title}: losses"
    if one.scenario.name == HEADLINE:
        return f"{one.scenario.title} — in the form of the paper's table 1"
    if one.scenario.name in MAIN_SCENARIOS:
        return f"{one.scenario.title} — in the form of the paper's tables 2, 7 and 8"
    return one.scenario.title


def result_table(one: Comparison, palette: Palette, *, arms: str = "", order: Sequence[str] = ()) -> Table:
    """Return the methods of one comparison by every metric.

    Args:
        one: what is compared.
        palette: colours of the methods; one without a colour has no swatch.
        arms: name of the ablation table, which then shows what each arm is made of and no reference rows.
        order: names in the order of the rows; by caption loss if empty.
    """
    parts = _arm_columns(one, arms)
    metrics = [metric for metric in TABLE_METRICS if _measured(one, metric)]
    columns = [Column("Method", numeric=False), *(Column(part, numeric=False) for part in parts)]
    columns += [_metric_column(one, metric) for metric in metrics]
    columns += [Column("Seeds", "" if arms else _planned(one)), Column("p", "to the best")]
    marks = {metric.key: _best_two(one, metric) for metric in metrics}
    entries = sorted(one.entries, key=lambda entry: order.index(entry.method.name)) if order else list(one.entries)
    rows = []
    for entry in entries:
        best = entry is one.winner and not one.undecided
        cells = [name_cell(palette, entry.method.name, entry.method.title, bold=best)]
        cells += [_arm_cell(entry.method.arms.get(arms, {}).get(part)) for part in parts]
        cells += [_cell(one, entry, metric, marks[metric.key]) for metric in metrics]
        p = one.p_values.get(entry.method.name)
        cells += [_seeds(entry), Cell("best") if entry is one.winner else Cell(write_p(p), p)]
        rows.append(Row(tuple(cells), best=best, owner=entry.method.title))
    if not arms:
        rows += _reference_rows(one, palette, metrics)
    what = f"arms of {_ABLATION_TITLES.get(arms, arms)}" if arms else "methods"
    caption = f"{one.scenario.title}: {what}, by suites and losses"
    table = Table(tuple(columns), tuple(rows), caption, _notes(one, arms), apart=True, stacked=True)
    return table.with_spread_note()


def _measured(one: Comparison, metric: Metric) -> bool:
    found = [one.estimate(entry, metric.key) for entry in (*one.entries, *one.references)]
    known = [estimate for estimate in found if estimate is not None]
    if metric is WORST_CLIENT:  # a run that failed has NaN for it in old studies too, which never measured it
        return any(estimate.finite for estimate in known)
    return bool(known)


def _metric_column(one: Comparison, metric: Metric) -> Column:
    judged = one.judged.get(metric.key)
    quiet = judged is not None and not judged.informative
    unit = "nats" if metric.unit == "nats/token" else metric.unit
    better = "" if metric is SHUFFLED else metric.better
    return Column(metric.title + (" †" if quiet else ""), unit, quiet=quiet, better=better)


def _planned(one: Comparison) -> str:
    return f"of {len(one.scenario.seeds)}" if one.scenario.seeds else ""


def _arm_columns(one: Comparison, arms: str) -> list[str]:
    found = ordered(part for entry in one.entries for part in entry.method.arms.get(arms, {}))
    return sorted(found, key=lambda part: _PAPER_ARMS.index(part) if part in _PAPER_ARMS else len(_PAPER_ARMS))


def _arm_cell(arm: Arm | None) -> Cell:
    if isinstance(arm, bool):
        return Cell("✓" if arm else "·")
    return Cell("–" if arm is None else arm if isinstance(arm, str) else f"{arm:g}")


def _best_two(one: Comparison, metric: Metric) -> tuple[str, str]:
    """The best and the second federated value as they are written, so that equal ones share the mark; "" for none."""
    judged = one.judged.get(metric.key)
    if metric is SHUFFLED or one.undecided or (judged is not None and not judged.informative):
        return "", ""
    found = [one.estimate(entry, metric.key) for entry in one.entries]
    best, second, *_ = [*best_written(metric, (estimate.mean for estimate in found if estimate)), "", ""]
    return best, second


def _cell(one: Comparison, entry: Entry, metric: Metric, marks: tuple[str, str]) -> Cell:
    estimate = one.estimate(entry, metric.key)
    if estimate is None:
        return Cell("–")
    text, error = write_estimate(metric, estimate)
    short = f"n = {estimate.count}" if estimate.count < len(entry.runs) else ""
    detail = f"{error} {short}".strip()
    value = estimate.mean if estimate.finite else None
    return Cell(text, value, detail, bold=text == marks[0], second=text == marks[1])


def _seeds(entry: Entry) -> Cell:
    return Cell(str(len(entry.runs)), len(entry.runs))


def _reference_rows(one: Comparison, palette: Palette, metrics: Sequence[Metric]) -> list[Row]:
    rows = []
    for entry in one.references:
        cells = [name_cell(palette, entry.method.name, entry.method.title)]
        cells += [_cell(one, entry, metric, ("", "")) for metric in metrics]
        rows.append(Row((*cells, _seeds(entry), Cell("–")), reference=True, owner=entry.method.title))
    if one.blind is not None:
        values, noise, chance = one.blind.values, one.blind.noise, one.blind.chance
        for name, known, errors in (("blind", values, noise), ("chance", chance, {})):
            figures = [
                Estimate(known[metric.key], errors.get(metric.key)) if metric.key in known else None
                for metric in metrics
            ]
            if any(figures):
                cells = [Cell(name, colour=palette.reference)]
                cells += [_reference_cell(metric, figure) for metric, figure in zip(metrics, figures, strict=True)]
                rows.append(Row((*cells, Cell("–"), Cell("–")), reference=True))
    return rows


def _reference_cell(metric: Metric, figure: Estimate | None) -> Cell:
    """A score of a model that does not learn, the standard error over the suite's items in brackets."""
    if figure is None:
        return Cell("–")
    error = "" if figure.error is None else f"({metric.write(figure.error)})"
    return Cell(metric.write(figure.mean), figure.mean, error)


def _notes(one: Comparison, arms: str) -> tuple[str, ...]:
    notes = []
    for suite in SUITES:
        judged = one.judged.get(suite.key)
        if judged is not None and not judged.informative:
            told = f"centralized {suite.write(judged.centralized.mean)} ({judged.scenario})"
            noise = f"twice the noise of the difference {suite.write(2 * judged.noise)}"
            notes.append(
                f"† {suite.title} is not informative: {told}, blind {suite.write(judged.blind)}, {noise}. It is left "
                "out of the mean rank and of the bold."
            )
    unknown = [suite.title for suite in SUITES if suite.key not in one.judged and _measured(one, suite)]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: without figures of the centralized and the blind model it is not known whether "
            "they are informative; they count in the ranks."
        )
    if _measured(one, SHUFFLED):
        notes.append(
            "Shuffled images: the caption loss of the same projector when each caption comes with another held-out "
            "image: what it has learned of the captions' style."
        )
    if _measured(one, WORST_CLIENT):
        notes.append(
            "Worst client: the families' losses weighted by a client's pairs of each, highest over the clients; of "
            "local-only runs each client's own model."
        )
    notes += _rank_notes(one)
    diverged = [
        entry.method.title
        for entry in one.entries
        if any(not math.isfinite(value) for run in entry.runs for value in run.values.values())
    ]
    if diverged:
        notes.append(f"Diverged or failed at one seed at least, so without a mean: {', '.join(diverged)}.")
    absent = [method.title for method in one.absent if not arms or arms in method.arms]
    if absent:
        more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
        notes.append(f"Not run here: {', '.join(absent[:_MOST_NAMED])}{more}.")
    return tuple(notes)


def _rank_notes(one: Comparison) -> list[str]:
    ranked, shared = one.ranked_seeds
    if ranked != shared:
        return ["No seed was run by all methods: the ranks at a seed are among those that ran it."]
    if ranked and any(len(entry.runs) > ranked for entry in one.entries):
        return [f"The mean ranks are of {ranked} seed{'s' if ranked > 1 else ''}, as many as all ranked methods ran."]
    return []
