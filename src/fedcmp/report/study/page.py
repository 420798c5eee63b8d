"""The study's HTML page: the frame, style and script of every report, the sections of this one."""

from collections.abc import Sequence
from html import escape

from fedcmp.report.dotchart import Dot, dot_chart
from fedcmp.report.methods import CAPTION_LOSS, ordered
from fedcmp.report.panels import HALF, NARROW, Panel, two_sizes
from fedcmp.report.shell import definitions, grid, next_steps, phrases_html, render_shell, section
from fedcmp.report.study.benchmarktables import benchmark_tables
from fedcmp.report.study.claims import claims_table
from fedcmp.report.study.comparing import CENTRALIZED, LOCAL, Comparison
from fedcmp.report.study.distances import distance_panel, distance_table
from fedcmp.report.study.maps import heterogeneity_table, map_panels
from fedcmp.report.study.remarks import facts, pointers, warnings
from fedcmp.report.study.results import Results
from fedcmp.report.study.resulttables import COMMON_NOTES, ResultTable, result_tables
from fedcmp.report.study.saying import verdict
from fedcmp.report.study.trajectories import oscillation_table, trajectory_panels
from fedcmp.report.study.tuning import tuning_table
from fedcmp.report.tables import Table, table_to_html

# section id -> (heading, name in links), in the order of the page
_SECTIONS = {
    "result": ("Result", "Result"),
    "tables": ("Methods by scenario", "Tables"),
    "benchmarks": ("The paper's benchmarks", "Benchmarks"),
    "distance": ("Distance from FedAvg to centralized closed", "Distance"),
    "trajectories": ("Trajectories over rounds (figure 4)", "Trajectories"),
    "ablations": ("Ablations (tables 3 and 4)", "Ablations"),
    "further": ("Harder worlds and IID", "Harder worlds"),
    "maps": ("Who holds what (figures 3 and 5)", "Maps"),
    "tuning": ("Tuning", "Tuning"),
    "versions": ("Versions", "Versions"),
}


def render_study_page(results: Results, *, title: str) -> str:
    """Render the whole page.

    Args:
        results: of a study, finished or not, even without a run.
        title: the heading, plain text.

    Returns:
        A complete HTML document that asks for nothing from outside.
    """
    tables = result_tables(results)
    sections = {
        "tables": _tables(tables, "main"),
        "benchmarks": _tables(benchmark_tables(results), "benchmarks", told=()),
        "distance": _distance(results),
        "trajectories": "".join(_trajectories(results, one) for one in results.comparisons),
        "ablations": _tables(tables, "ablation"),
        "further": _tables(tables, "further"),
        "maps": grid("small", map_panels(results)) + _table(heterogeneity_table(results)),
        "tuning": _table(tuning_table(results)),
        "versions": _versions(results),
    }
    shown = {name: content for name, content in sections.items() if content}
    said = verdict(results)
    first, rest = said[0], said[1:]
    listed = "".join(f"<li>{phrases_html(phrases)}</li>" for phrases in rest)
    return render_shell(
        title=title,
        links=[(name, _SECTIONS[name][1]) for name in ("result", *shown)],
        warnings=warnings(results),
        verdict=phrases_html(first),
        facts=facts(results),
        picture=_picture(results),
        table=_table(claims_table(results)),
        pointers=next_steps([pointer for pointer in pointers(results) if pointer[1] in shown]),
        body="\n".join(section(name, _SECTIONS[name][0], content) for name, content in shown.items()),
        sentences=f'<ul class="winners">{listed}</ul>\n' if listed else "",
    )


def _table(table: Table | None) -> str:
    return table_to_html(table) if table is not None else ""


def _tables(tables: Sequence[ResultTable], kind: str, told: Sequence[str] = COMMON_NOTES) -> str:
    found = [
        f"<h3>{escape(one.title)}</h3>{table_to_html(one.table, sortable=kind != 'ablation')}"
        for one in tables
        if one.kind == kind
    ]
    if not found:
        return ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in told)
    how = f'<details><summary>How to read the tables</summary><ul class="note">{notes}</ul></details>' if notes else ""
    return "".join(found) + how


def _picture(results: Results) -> str:
    """The headline scenario's caption losses with their standard errors."""
    one = results.headline
    dots = _loss_dots(results, one) if one is not None else []
    if one is None or not dots:
        return ""
    wide, narrow = (
        dot_chart(
            dots,
            title=f"Caption loss by method, {one.scenario.title}",
            axis="nats per caption token",
            write=CAPTION_LOSS.write,
            width=width,
        )
        for width in (HALF, NARROW)
    )
    subtitle = "lower is better, bars: ± standard error"
    return Panel(f"Caption loss, {one.scenario.title}", subtitle, two_sizes(wide, narrow)).html()


def _loss_dots(results: Results, one: Comparison) -> list[Dot]:
    palette = results.palette
    blind = one.blind.values.get(CAPTION_LOSS.key) if one.blind is not None else None
    dots = []
    for entry in (*one.entries, *one.references):
        estimate, name = entry.estimate(CAPTION_LOSS.key), entry.method.name
        if estimate is not None and estimate.finite:
            free = name == LOCAL or (blind is not None and estimate.mean > blind)
            colour, marker = palette.colour(name), palette.marker(name)
            dots.append(
                Dot(
                    entry.method.title,
                    estimate.mean,
                    estimate.error,
                    colour,
                    marker,
                    strong=entry is one.winner,
                    frame=name == CENTRALIZED,
                    free=free,
                )
            )
    if dots and blind is not None:
        dots.append(Dot("blind", blind, None, palette.reference, "plus", frame=True))
    return sorted(dots, key=lambda dot: dot.value)


def _distance(results: Results) -> str:
    panels = [panel for one in results.comparisons if (panel := distance_panel(results, one)) is not None]
    return grid("pairs", panels) + _table(distance_table(results))


def _trajectories(results: Results, one: Comparison) -> str:
    large, small = trajectory_panels(results, one)
    table = oscillation_table(results, one)
    if large is None and not small:
        return ""
    parts = [f"<h3>{escape(one.scenario.title)}</h3>", large.html() if large is not None else ""]
    if small:
        parts.append(f"<details><summary>Worst family, questions and suites</summary>{grid('small', small)}</details>")
    if table is not None:
        parts.append(f"<details><summary>{escape(table.caption)}</summary>{table_to_html(table)}</details>")
    return "".join(parts)


def _versions(results: Results) -> str:
    """The versions that the runs noted; two where the runs do not agree."""
    names = ordered(name for run in results.study.runs for name in run.versions)
    pairs = [
        (name, " / ".join(ordered(run.versions[name] for run in results.study.runs if name in run.versions)))
        for name in names
    ]
    return f'<dl class="versions">{definitions(pairs)}</dl>' if pairs else ""
