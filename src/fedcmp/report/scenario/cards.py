"""Cards of clients: the pairs nearest to the centroid with their captions, and the words that tell the client apart."""

import base64
from collections.abc import Mapping
from html import escape

from fedcmp.report.methods import write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.scenario.records import Client, Example, Scenario
from fedcmp.report.scenario.tables import rounds_text
from fedcmp.report.tables import swatch

_PNG = b"\x89PNG\r\n\x1a\n"
_GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,128px),1fr));gap:10px;margin-top:10px"
_LINES = (
    "margin:2px 0 0;font-size:13px;line-height:1.3;"
    "display:-webkit-box;-webkit-line-clamp:4;-webkit-box-orient:vertical;overflow:hidden"
)


def client_cards(scenario: Scenario, thumbnails: Mapping[str, bytes]) -> str:
    """Markup of the scenario's clients that have pictures or words; nothing if none has."""
    cards = [
        _card(number, client, thumbnails)
        for number, client in enumerate(scenario.clients)
        if client.nearest or client.words
    ]
    if not cards:
        return ""
    rest = len(scenario.clients) - len(cards)
    note = f'<p class="note">{len(cards)} of {len(scenario.clients)} clients are shown.</p>' if rest else ""
    return f'<div class="samples">{"".join(cards)}</div>{note}'


def _card(number: int, client: Client, thumbnails: Mapping[str, bytes]) -> str:
    sizes = f"{write_number(client.pairs, 0)} pairs, {rounds_text(client.rounds)}"
    words = "".join(
        f'<span class="group" title="z {write_number(z, 1)}">{escape(word)}</span> ' for word, z in client.words
    )
    told = words or '<span class="detail">no word tells it apart</span>'
    shown = "".join(_example(one, thumbnails[one.picture]) for one in client.nearest if one.picture in thumbnails)
    return (
        f'<div class="sample" style="display:block"><p><strong>{swatch(client_colour(number))}{number} '
        f'{escape(client.name)}</strong> <span class="detail">{sizes}</span></p>'
        f'<p>{told}</p><div style="{_GRID}">{shown}</div></div>'
    )


def _example(one: Example, content: bytes) -> str:
    drawn = content.startswith(_PNG)  # small drawings are enlarged point by point, photographs smoothly
    kind, how = ("png", "pixelated") if drawn else ("jpeg", "auto")
    data = base64.b64encode(content).decode("ascii")
    caption, told = escape(one.caption), escape(f"{one.id}, similarity {write_number(one.similarity, 3)}")
    return (
        f'<div><img src="data:image/{kind};base64,{data}" alt="{caption}" title="{told}" loading="lazy" '
        f'style="width:100%;height:auto;aspect-ratio:1;image-rendering:{how}">'
        f'<p class="sub" style="{_LINES}" title="{caption}">{caption}</p></div>'
    )
