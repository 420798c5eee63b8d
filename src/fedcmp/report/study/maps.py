"""Who holds what: maps of the pairs by client (the paper's figures 3 and 5), and how unlike the clients are."""

import math
from collections.abc import Sequence

from fedcmp.report.charts.clouds import Cloud
from fedcmp.report.methods import ordered, write_number, write_span
from fedcmp.report.panels import Panel
from fedcmp.report.study.metrics import spread
from fedcmp.report.study.results import MAIN_SCENARIOS, Results
from fedcmp.report.study.statistics import Estimate
from fedcmp.report.tables import Cell, Column, Row, Table
from fedcmp.runs.study_records import ScenarioFacts, StudyScenario

_ENDS = ("within", "between")  # of a similarity the table shows the gap between the two


def mapped(results: Results) -> list[tuple[StudyScenario, ScenarioFacts]]:
    """Return the scenarios with a map, each with the first seed that has one."""
    found = []
    for name, scenario in results.study.scenarios.items():
        holding = next((h for h in results.study.holdings.get(name, ()) if len(finite_points(h)) > 1), None)
        if holding is not None:
            found.append((scenario, holding))
    return found


def finite_points(holding: ScenarioFacts) -> list[tuple[float, float, int]]:
    """Return the points of a map that can be drawn."""
    return [(x, y, client) for x, y, client in holding.points if math.isfinite(x) and math.isfinite(y)]


def map_panels(results: Results) -> list[Panel]:
    """Return one map per scenario."""
    panels = []
    for place, (scenario, holding) in enumerate(mapped(results)):
        points = tuple(finite_points(holding))
        names = {client: f"client {client}" for _, _, client in points}
        chart = Cloud(f"Map of who holds what, {scenario.title}", points, names)
        subtitle = f"t-SNE of {holding.metric or 'the pairs'}, {len(points)} pairs, seed {holding.seed}"
        panels.append(Panel(f"map{place}", scenario.title, subtitle, chart))
    return panels


def heterogeneity_table(results: Results) -> Table | None:
    """Return measures by scenarios: how unlike clients are, their sizes, how a measure orders the paper's four."""
    known = [
        (scenario, holdings)
        for name, scenario in results.study.scenarios.items()
        if (holdings := results.study.holdings.get(name))
    ]
    found = {scenario.name: heterogeneity(holdings) for scenario, holdings in known}
    every = ordered(measure for measures in found.values() for measure in measures)
    measures = [measure for measure in every if measure.rpartition(" ")[2] not in _ENDS]
    if not measures and not any(holding.sizes for _, holdings in known for holding in holdings):
        return None
    papers = tuple(name for name in MAIN_SCENARIOS if name in found)
    sizes = [Cell(write_span(size for one in holdings for size in one.sizes) or "–") for _, holdings in known]
    rows = [Row((Cell("pairs a client, smallest to largest"), *sizes, Cell("–")))]
    for measure in measures:
        estimates = [found[scenario.name].get(measure) for scenario, _ in known]
        by = sorted((name for name in papers if measure in found[name]), key=lambda name: -found[name][measure].mean)
        order = Cell(" > ".join(by), bold=tuple(by) == papers) if len(by) > 1 else Cell("–")
        rows.append(Row((Cell(measure.replace("_", " ")), *map(_cell, estimates), order)))
    seeds = [Cell(str(len(holdings)), len(holdings)) for _, holdings in known]
    rows.append(Row((Cell("seeds"), *seeds, Cell("–"))))
    columns = (
        Column("Measure", numeric=False),
        *(Column(scenario.title) for scenario, _ in known),
        Column("Order of the paper's scenarios", numeric=False),
    )
    notes = (f"An order in bold is the paper's: {' > '.join(papers)}.",)
    table = Table(columns, tuple(rows), "How unlike the clients are", notes if len(papers) > 1 else (), stacked=True)
    return table.without_empty_columns().with_spread_note()


def _cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell("–")
    deviation = spread(estimate)
    detail = "" if deviation is None else f"± {write_number(deviation, 3)}"
    return Cell(write_number(estimate.mean, 3), estimate.mean, detail)


def heterogeneity(holdings: Sequence[ScenarioFacts]) -> dict[str, Estimate]:
    """Return measure -> estimate over seeds."""
    names = ordered(measure for holding in holdings for measure in holding.heterogeneity)
    return {name: estimate for name in names if (estimate := _estimate(holdings, name)) is not None}


def _estimate(holdings: Sequence[ScenarioFacts], measure: str) -> Estimate | None:
    values = [holding.heterogeneity[measure] for holding in holdings if measure in holding.heterogeneity]
    return Estimate.of(values) if values else None
