"""The page of scenarios as one self-contained HTML file."""

import math
from collections.abc import Mapping
from html import escape

from fedcmp.report.methods import write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.panels import Panel
from fedcmp.report.scenario.cards import client_cards
from fedcmp.report.scenario.maps import GRID, MOST_LABELS, map_panels, own_panels
from fedcmp.report.scenario.records import NOBODY, Scenario, Shown
from fedcmp.report.scenario.saying import facts, pointers, verdict, warnings
from fedcmp.report.scenario.tables import (
    clients_table,
    heterogeneity_table,
    made_table,
    silhouette_table,
    sizes_table,
)
from fedcmp.report.shell import next_steps, phrases_html, render_shell, section
from fedcmp.report.tables import swatch, table_to_html

_SECTIONS = {  # id -> (heading, name in the navigation)
    "result": ("Result", "Result"),
    "sharpness": ("Sharpest in its own metric?", "Sharpness"),
    "maps": ("Maps by client", "Maps"),
    "heterogeneity": ("How unlike the clients are", "Heterogeneity"),
    "clients": ("What each client holds", "Clients"),
    "made": ("How the scenarios were cut", "Options"),
}
_MOST_ABREAST = 3  # maps side by side on the first screen


def render_scenario_page(shown: Shown, thumbnails: Mapping[str, bytes], *, title: str) -> str:
    """Render the page; the same facts and thumbnails give the same bytes.

    Args:
        shown: what is known.
        thumbnails: small pictures' files by name.
        title: the heading, plain text.
    """
    sections = {
        "sharpness": table_to_html(silhouette_table(shown), sortable=False),
        "maps": _maps(shown),
        "heterogeneity": table_to_html(heterogeneity_table(shown)),
        "clients": _clients(shown, thumbnails),
        "made": table_to_html(made_table(shown), sortable=False),
    }
    kept = {name: content for name, content in sections.items() if content}
    said = verdict(shown)
    listed = "".join(f"<li>{phrases_html(phrases)}</li>" for phrases in said[1:])
    return render_shell(
        title=title,
        links=[(name, _SECTIONS[name][1]) for name in ("result", *kept)],
        warnings=warnings(shown),
        verdict=phrases_html(said[0]),
        facts=facts(shown),
        picture=_picture(shown),
        table=table_to_html(sizes_table(shown)),
        pointers=next_steps([pointer for pointer in pointers(shown) if pointer[1] in kept]),
        body="\n".join(section(name, _SECTIONS[name][0], content) for name, content in kept.items()),
        sentences=f'<ul class="winners">{listed}</ul>\n' if listed else "",
    )


def _grid(panels: list[Panel], columns: str) -> str:
    return f'<div class="small" style="{columns}">{"".join(panel.html() for panel in panels)}</div>' if panels else ""


def _picture(shown: Shown) -> str:
    panels = own_panels(shown)
    abreast = min(math.ceil(math.sqrt(len(panels))), _MOST_ABREAST)
    return _grid(panels, f"grid-template-columns:repeat({abreast},minmax(0,1fr));align-content:start")


def _heading(scenario: Scenario) -> str:
    title = "" if scenario.title == scenario.name else f' <span class="sub">{escape(scenario.title)}</span>'
    return f"<h3>{escape(scenario.name)}{title}</h3>"


def _maps(shown: Shown) -> str:
    """One row a scenario, one column a metric."""
    rows = [
        f"{_heading(one)}{_legend(one)}{_grid(panels, GRID)}"
        for one in shown.scenarios
        if (panels := map_panels(shown, one))
    ]
    if not rows:
        return ""
    note = (
        f"t-SNE of {write_number(shown.sample, 0)} sampled pairs, seed {shown.seed}; the same layout in every row. "
        "Numbers and colours are each scenario's own: client 0 of one scenario has nothing in common with client 0 of "
        "another."
    )
    return f"{''.join(rows)}" + f'<p class="note">{escape(note)}</p>'


def _legend(scenario: Scenario) -> str:
    if len(scenario.clients) > MOST_LABELS:
        return ""
    names = [f"{swatch(client_colour(k))}{k} {escape(client.name)}" for k, client in enumerate(scenario.clients)]
    names += [f"{swatch('var(--bundle)')}left out"] if NOBODY in scenario.owners else []
    shown = "".join(f'<span class="named" style="margin-right:12px">{name}</span> ' for name in names)
    return f'<p class="sub">{shown}</p>'


def _clients(shown: Shown, thumbnails: Mapping[str, bytes]) -> str:
    parts = [
        f"<details open><summary>{escape(one.name)}</summary>{cards}</details>"
        for one in shown.scenarios
        if (cards := client_cards(one, thumbnails))
    ]
    if parts:
        parts.append(
            '<p class="note">The pairs nearest to each client\'s centroid, by the similarity that the scenario was cut '
            "by (by joint where it was cut by none), and the words that tell its captions from the others'.</p>"
        )
    table = clients_table(shown)
    told = table_to_html(table)
    return "".join(parts) + (f"<details><summary>{escape(table.caption)}</summary>{told}</details>" if parts else told)
