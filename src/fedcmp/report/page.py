"""The page of a run or of a comparison: what each of its sections shows."""

import json
from typing import Any

from fedcmp.report.benchmarks import benchmarks_table
from fedcmp.report.clientcurves import client_panels, weight_panels
from fedcmp.report.comparison import Comparison
from fedcmp.report.curves import curve_panels, loss_panel
from fedcmp.report.details import differences_table, groups_table, holdings_table, kinds_table, pairs_table
from fedcmp.report.diagnostics import diagnostics
from fedcmp.report.methods import labelled_runs
from fedcmp.report.remarks import facts, pointers, warnings
from fedcmp.report.rendering import render, sections_of
from fedcmp.report.samples import sample_cards
from fedcmp.report.sites import sites_section
from fedcmp.report.summary import comparison_table
from fedcmp.report.verdict import verdict
from fedcmp.runs.reading import Run

# section id -> (heading, name in links), in the order of the page
_SECTIONS = {
    "curves": ("Curves over rounds", "Curves"),
    "clients": ("Clients", "Clients"),
    "weights": ("Clients' weights in the merge", "Weights"),
    "sites": ("Sites over time", "Sites"),
    "questions": ("Accuracy by kind of question", "Questions"),
    "groups": ("Caption loss by group", "Groups"),
    "benchmarks": ("The paper's benchmarks", "Benchmarks"),
    "samples": ("Captions that the models write", "Captions"),
    "data": ("Who holds what", "Data"),
    "pairs": ("Where the pairs went", "Pairs"),
    "diagnostics": ("The aggregator's own numbers", "Aggregator"),
    "recipe": ("Recipe and versions", "Recipe"),
}


def render_page(comparison: Comparison, *, title: str, refresh: int = 0) -> str:
    """Render the whole page.

    Args:
        comparison: at least one method.
        title: the heading, plain text.
        refresh: seconds after which the page loads itself anew; 0: never.

    Returns:
        A complete HTML document.
    """
    palette = comparison.palette
    data = {
        "curves": curve_panels(comparison),
        "clients": client_panels(comparison),
        "weights": weight_panels(comparison),
        "sites": sites_section(comparison),
        "questions": kinds_table(comparison),
        "groups": groups_table(comparison),
        "benchmarks": benchmarks_table(comparison),
        "samples": sample_cards(comparison),
        "data": holdings_table(comparison),
        "pairs": pairs_table(comparison),
        "diagnostics": diagnostics(comparison),
        "recipe": _recipe(comparison),
    }
    return render(
        "run.html.j2",
        title=title,
        sections=sections_of(_SECTIONS, data),
        pointers=pointers(comparison),
        warnings=warnings(comparison),
        verdict=[verdict(comparison)],
        facts=facts(comparison),
        toy=comparison.toy,
        figure=loss_panel(comparison),
        table=comparison_table(comparison),
        methods=[(one.label, palette.colour(one.label), palette.glyph(one.label)) for one in comparison.methods],
        refresh=refresh,
    )


def _recipe(comparison: Comparison) -> dict[str, Any]:
    """What differs between the recipes, the versions of the first run, each run's recipe; empty without any."""
    labelled = labelled_runs(comparison.methods)
    versions = labelled[0][1].recipe.get("versions")
    known = versions if isinstance(versions, dict) else {}
    found = {
        "differences": differences_table(comparison),
        "versions": [(str(name), str(version)) for name, version in known.items()],
        "recipes": [(label, _recipe_text(run)) for label, run in labelled if run.recipe],
    }
    return found if any(found.values()) else {}


def _recipe_text(run: Run) -> str:
    settings = {key: value for key, value in run.recipe.items() if key != "versions"}
    lines: list[str] = []
    for table, value in settings.items():
        if isinstance(value, dict):
            lines.append(f"\n[{table}]")
            lines.extend(f"{key} = {_literal(entry)}" for key, entry in value.items())
        else:
            lines.insert(0, f"{table} = {_literal(value)}")
    return "\n".join(lines).strip()


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
