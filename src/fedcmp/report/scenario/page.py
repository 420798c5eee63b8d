"""The page of scenarios as one self-contained HTML file."""

import math
from collections.abc import Mapping
from typing import Any

from fedcmp.report.charts.clouds import MOST_LABELS, NOBODY
from fedcmp.report.methods import write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.rendering import render, sections_of
from fedcmp.report.scenario.cards import client_cards
from fedcmp.report.scenario.maps import map_panels, own_panels
from fedcmp.report.scenario.records import Scenario, Shown
from fedcmp.report.scenario.saying import facts, pointers, verdict, warnings
from fedcmp.report.scenario.tables import (
    clients_table,
    heterogeneity_table,
    made_table,
    silhouette_table,
    sizes_table,
)

_SECTIONS = {  # id -> (heading, name in the navigation)
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
        thumbnails: small images' files by name.
        title: the heading, plain text.
    """
    own = own_panels(shown)
    data = {
        "sharpness": silhouette_table(shown),
        "maps": [(one, _legend(one), panels) for one in shown.scenarios if (panels := map_panels(shown, one))],
        "heterogeneity": heterogeneity_table(shown),
        "clients": _clients(shown, thumbnails),
        "made": made_table(shown),
    }
    return render(
        "scenario.html.j2",
        title=title,
        sections=sections_of(_SECTIONS, data),
        pointers=pointers(shown),
        warnings=warnings(shown),
        toy=shown.toy,
        verdict=verdict(shown),
        facts=facts(shown),
        figure={"panels": own, "abreast": min(math.ceil(math.sqrt(len(own))), _MOST_ABREAST)},
        table=sizes_table(shown),
        maps_note=(
            f"t-SNE of {write_number(shown.sample, 0)} sampled pairs, seed {shown.seed}; the same layout in every row. "
            "Numbers and colours are each scenario's own: client 0 of one scenario has nothing in common with client 0 "
            "of another."
        ),
    )


def _legend(scenario: Scenario) -> list[tuple[str, str]]:
    """The colour and the name of each client, none where there are too many."""
    if len(scenario.clients) > MOST_LABELS:
        return []
    names = [(client_colour(number), f"{number} {client.name}") for number, client in enumerate(scenario.clients)]
    return names + ([("var(--bundle)", "left out")] if NOBODY in scenario.owners else [])


def _clients(shown: Shown, thumbnails: Mapping[str, bytes]) -> dict[str, Any]:
    """The cards of each scenario that has any, with how many clients have none; and the table of all clients."""
    found = [(one, cards) for one in shown.scenarios if (cards := client_cards(one, thumbnails))]
    told = [(one.name, cards, len(one.clients) - len(cards)) for one, cards in found]
    return {"scenarios": told, "table": clients_table(shown)}
