"""The HTML page: one file, no request to anywhere; style, script, pictures and charts are all inside.

Everything that comes from a run is escaped.
"""

import json
from html import escape

from fedcmp.report.aggregatorfigures import aggregator_section
from fedcmp.report.benchmarks import benchmarks_table
from fedcmp.report.clientfigures import client_panels, weight_panels
from fedcmp.report.details import differences_table, groups_table, holdings_table, kinds_table
from fedcmp.report.figures import curve_panels, loss_panel
from fedcmp.report.methods import labelled_runs
from fedcmp.report.panels import Panel
from fedcmp.report.reading import Run
from fedcmp.report.remarks import facts, pointers, warnings
from fedcmp.report.samples import sample_cards
from fedcmp.report.shell import definitions, grid, multiples, next_steps, phrases_html, render_shell, section
from fedcmp.report.summary import Comparison, comparison_table
from fedcmp.report.tables import Table, table_to_html
from fedcmp.report.verdict import verdict

# section id -> (heading, name in links), in the order of the page
_SECTIONS = {
    "result": ("Result", "Result"),
    "curves": ("Curves over rounds", "Curves"),
    "clients": ("Clients", "Clients"),
    "weights": ("Clients' weights in the merge", "Weights"),
    "questions": ("Accuracy by kind of question", "Questions"),
    "groups": ("Caption loss by group", "Groups"),
    "benchmarks": ("The paper's benchmarks", "Benchmarks"),
    "samples": ("Captions that the models write", "Captions"),
    "data": ("Who holds what", "Data"),
    "diagnostics": ("The aggregator's own numbers", "Aggregator"),
    "recipe": ("Recipe and versions", "Recipe"),
}


def render_page(comparison: Comparison, *, title: str) -> str:
    """Render the whole page.

    Args:
        comparison: at least one method.
        title: the heading, plain text.

    Returns:
        A complete HTML document.
    """
    sections = {
        "curves": grid("curves", curve_panels(comparison)),
        "clients": _clients(comparison),
        "weights": _weights(comparison),
        "questions": _table(kinds_table(comparison)),
        "groups": _table(groups_table(comparison)),
        "benchmarks": _table(benchmarks_table(comparison)),
        "samples": _samples(comparison),
        "data": _table(holdings_table(comparison)),
        "diagnostics": aggregator_section(comparison),
        "recipe": _recipe(comparison),
    }
    shown = {name: content for name, content in sections.items() if content}
    return render_shell(
        title=title,
        links=[(name, _SECTIONS[name][1]) for name in ("result", *shown)],
        warnings=warnings(comparison),
        verdict=phrases_html(verdict(comparison)),
        facts=facts(comparison),
        picture=_optional(loss_panel(comparison)),
        table=table_to_html(comparison_table(comparison)),
        pointers=next_steps(
            [(p.text, p.section, _SECTIONS[p.section][1]) for p in pointers(comparison) if p.section in shown]
        ),
        body="\n".join(section(name, _SECTIONS[name][0], content) for name, content in shown.items()),
    )


def _optional(panel: Panel | None) -> str:
    return panel.html() if panel is not None else ""


def _table(table: Table | None) -> str:
    return table_to_html(table) if table is not None else ""


def _clients(comparison: Comparison) -> str:
    return "".join(f"<h3>{escape(title)}</h3>{multiples(panels)}" for title, panels in client_panels(comparison))


def _weights(comparison: Comparison) -> str:
    panels = weight_panels(comparison)
    note = '<p class="note">Share of each client in the merged projector, %; dashed: equal shares.</p>'
    return multiples(panels) + note if panels else ""


def _samples(comparison: Comparison) -> str:
    cards = sample_cards(comparison)
    if not cards:
        return ""
    note = (
        '<p class="note">Held-out pictures. Words that are in the reference are <mark>underlined</mark>, '
        "each as often as it is there.</p>"
    )
    return f'{note}<div class="samples">{"".join(cards)}</div>'


def _recipe(comparison: Comparison) -> str:
    labelled = labelled_runs(comparison.methods)
    differences = differences_table(comparison)
    parts = [table_to_html(differences, sortable=False)] if differences is not None else []
    versions = labelled[0][1].recipe.get("versions")
    if isinstance(versions, dict) and versions:
        listed = definitions([(str(name), str(version)) for name, version in versions.items()])
        parts.append(f'<details><summary>Versions</summary><dl class="versions">{listed}</dl></details>')
    parts.extend(_recipe_of(label, run) for label, run in labelled if run.recipe)
    return "".join(parts)


def _recipe_of(label: str, run: Run) -> str:
    settings = {key: value for key, value in run.recipe.items() if key != "versions"}
    lines = []
    for table, value in settings.items():
        if isinstance(value, dict):
            lines.append(f"\n[{table}]")
            lines.extend(f"{key} = {_literal(entry)}" for key, entry in value.items())
        else:
            lines.insert(0, f"{table} = {_literal(value)}")
    text = escape("\n".join(lines).strip())
    return f"<details><summary>Recipe of {escape(label)}</summary><pre>{text}</pre></details>"


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
