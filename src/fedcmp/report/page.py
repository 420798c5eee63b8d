"""The HTML page: one file, no request to anywhere; style, script, pictures and charts are all inside.

Everything that comes from a run is escaped, and the page's own policy forbids any script but its own, by hash.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from fedcmp.report.clientfigures import client_panels, diagnostic_panels, weight_panels
from fedcmp.report.details import differences_table, groups_table, holdings_table, kinds_table
from fedcmp.report.figures import curve_panels, loss_panel
from fedcmp.report.methods import labelled_runs
from fedcmp.report.panels import Panel
from fedcmp.report.reading import Run
from fedcmp.report.remarks import facts, pointers, warnings
from fedcmp.report.samples import sample_cards
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
    "samples": ("Captions that the models write", "Captions"),
    "data": ("Who holds what", "Data"),
    "diagnostics": ("The aggregator's own numbers", "Aggregator"),
    "recipe": ("Recipe and versions", "Recipe"),
}
_MOST_OPEN = 4  # panels of small multiples shown before the rest is folded away


def render_page(comparison: Comparison, *, title: str) -> str:
    """Render the whole page.

    Args:
        comparison: at least one method.
        title: the heading, plain text.

    Returns:
        A complete HTML document.
    """
    sections = {
        "curves": _grid("curves", curve_panels(comparison)),
        "clients": _clients(comparison),
        "weights": _weights(comparison),
        "questions": _table(kinds_table(comparison)),
        "groups": _table(groups_table(comparison)),
        "samples": _samples(comparison),
        "data": _table(holdings_table(comparison)),
        "diagnostics": _multiples(diagnostic_panels(comparison)),
        "recipe": _recipe(comparison),
    }
    shown = {name: content for name, content in sections.items() if content}
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(_SECTIONS[name][0])}</h2>{content}</section>'
        for name, content in shown.items()
    )
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    links = "".join(f'<a href="#{name}">{escape(_SECTIONS[name][1])}</a>' for name in ("result", *shown))
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=_asset("page.css"),
        script=script,
        links=links,
        facts=_definitions(facts(comparison)),
        verdict=_verdict(comparison),
        warnings=_warnings(comparison),
        picture=_optional(loss_panel(comparison)),
        table=table_to_html(comparison_table(comparison)),
        pointers=_pointers(comparison, set(shown)),
        body=body,
    )


def _asset(name: str) -> str:
    return resources.files("fedcmp.report").joinpath(name).read_text(encoding="utf-8")


def _verdict(comparison: Comparison) -> str:
    return "".join(
        f"<strong>{escape(phrase.text)}</strong>" if phrase.strong else escape(phrase.text)
        for phrase in verdict(comparison)
    )


def _warnings(comparison: Comparison) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in warnings(comparison))
    return f'<ul class="warnings" role="note" aria-label="Unfinished or failed runs">{told}</ul>' if told else ""


def _pointers(comparison: Comparison, shown: set[str]) -> str:
    told = "".join(
        f'<li>{escape(pointer.text)} <a href="#{pointer.section}">{escape(_SECTIONS[pointer.section][1])}</a></li>'
        for pointer in pointers(comparison)
        if pointer.section in shown
    )
    return f'<div class="next"><h3>Where to look next</h3><ul>{told}</ul></div>' if told else ""


def _optional(panel: Panel | None) -> str:
    return panel.html() if panel is not None else ""


def _grid(kind: str, panels: Sequence[Panel]) -> str:
    return f'<div class="{kind}">{"".join(panel.html() for panel in panels)}</div>' if panels else ""


def _multiples(panels: Sequence[Panel]) -> str:
    """A row of small charts; beyond the first ones they are folded: on a phone each takes half a screen."""
    shown, folded = panels[:_MOST_OPEN], panels[_MOST_OPEN:]
    more = f"<details><summary>{len(folded)} more</summary>{_grid('small', folded)}</details>" if folded else ""
    return _grid("small", shown) + more


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def _table(table: Table | None) -> str:
    return table_to_html(table) if table is not None else ""


def _clients(comparison: Comparison) -> str:
    return "".join(f"<h3>{escape(title)}</h3>{_multiples(panels)}" for title, panels in client_panels(comparison))


def _weights(comparison: Comparison) -> str:
    panels = weight_panels(comparison)
    note = '<p class="note">Share of each client in the merged projector, %; dashed: equal shares.</p>'
    return _multiples(panels) + note if panels else ""


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
        listed = _definitions([(str(name), str(version)) for name, version in versions.items()])
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
