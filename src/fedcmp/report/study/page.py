"""The study's HTML page: what each of its sections shows."""

from typing import Any

from fedcmp.report.methods import ordered
from fedcmp.report.rendering import render, sections_of
from fedcmp.report.study.benchmarktables import benchmark_tables, cells_tables
from fedcmp.report.study.claims import claims_table
from fedcmp.report.study.comparing import Comparison
from fedcmp.report.study.distances import distance_panel, distance_table
from fedcmp.report.study.heat import heat_map
from fedcmp.report.study.maps import heterogeneity_table, map_panels
from fedcmp.report.study.pairedtests import paired_tests_table
from fedcmp.report.study.remarks import facts, pointers, warnings
from fedcmp.report.study.results import Results
from fedcmp.report.study.resulttables import COMMON_NOTES, result_tables
from fedcmp.report.study.saying import details, headline
from fedcmp.report.study.trajectories import oscillation_table, trajectory_panels
from fedcmp.report.study.tuning import tuning_table

# section id -> (heading, name in links), in the order of the page
_SECTIONS = {
    "winners": ("Who wins in each scenario", "Who wins"),
    "tables": ("Methods by scenario", "Tables"),
    "tests": ("Paired tests", "Tests"),
    "benchmarks": ("The paper's benchmarks", "Benchmarks"),
    "distance": ("Distance from FedAvg to centralized closed", "Distance"),
    "trajectories": ("Trajectories over rounds (as the paper's figure 4)", "Trajectories"),
    "ablations": ("Ablations (as the paper's tables 3 and 4)", "Ablations"),
    "further": ("Harder worlds and IID", "Harder worlds"),
    "maps": ("Who holds what (as the paper's figures 3 and 5)", "Maps"),
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
    distances = [panel for one in results.comparisons if (panel := distance_panel(results, one)) is not None]
    maps = [map_panels(results), heterogeneity_table(results)]
    claims, palette = claims_table(results), results.palette
    data = {
        "winners": [details(results), claims] if claims is not None else [],
        "tables": [one for one in tables if one.kind == "main"],
        "tests": paired_tests_table(results),
        "benchmarks": [*benchmark_tables(results), *cells_tables(results)],
        "distance": [distances, table] if (table := distance_table(results)) is not None or distances else [],
        "trajectories": [found for one in results.comparisons if (found := _trajectories(results, one))],
        "ablations": [one for one in tables if one.kind == "ablation"],
        "further": [one for one in tables if one.kind == "further"],
        "maps": maps if any(maps) else [],
        "tuning": tuning_table(results),
        "versions": _versions(results),
    }
    return render(
        "study.html.j2",
        title=title,
        sections=sections_of(_SECTIONS, data),
        pointers=pointers(results),
        warnings=warnings(results),
        toy=results.study.toy,
        verdict=[headline(results)],
        facts=facts(results),
        table=heat_map(results),
        methods=[(one.title, palette.colour(one.name), palette.glyph(one.name)) for one in results.methods],
        common_notes=COMMON_NOTES,
    )


def _trajectories(results: Results, one: Comparison) -> tuple[Any, ...]:
    """Return one scenario's title, large panel, small panels and table; nothing where there is no panel."""
    large, small = trajectory_panels(results, one)
    if large is None and not small:
        return ()
    return one.scenario.title, large, small, oscillation_table(results, one)


def _versions(results: Results) -> list[tuple[str, str]]:
    """Return the versions that the runs noted; two where the runs do not agree."""
    names = ordered(name for run in results.study.runs for name in run.versions)
    return [
        (name, " / ".join(ordered(run.versions[name] for run in results.study.runs if name in run.versions)))
        for name in names
    ]
