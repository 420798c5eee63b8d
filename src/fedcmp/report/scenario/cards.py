"""Cards of clients: the pairs nearest to the centroid with their captions, and the words that tell the client apart."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from fedcmp.report.methods import write_number
from fedcmp.report.palette import client_colour
from fedcmp.report.scenario.records import Client, Example, Scenario
from fedcmp.report.scenario.tables import rounds_text

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Image:
    """A small image as a data URI, its caption, what is said of it; a drawing is enlarged without smoothing."""

    uri: str
    caption: str
    told: str
    drawn: bool


@dataclass(frozen=True)
class Card:
    """One client: number, name, colour, sizes in words, (word, z) pairs and images."""

    number: int
    name: str
    colour: str
    sizes: str
    words: list[tuple[str, str]]
    images: list[Image]


def client_cards(scenario: Scenario, thumbnails: Mapping[str, bytes]) -> list[Card]:
    """Make a card for each of the scenario's clients that have images or words."""
    return [
        _card(number, client, thumbnails)
        for number, client in enumerate(scenario.clients)
        if client.nearest or client.words
    ]


def _card(number: int, client: Client, thumbnails: Mapping[str, bytes]) -> Card:
    return Card(
        number=number,
        name=client.name,
        colour=client_colour(number),
        sizes=f"{write_number(client.pairs, 0)} pairs, {rounds_text(client.rounds)}",
        words=[(word, write_number(z, 1)) for word, z in client.words],
        images=[_image(one, thumbnails[one.picture]) for one in client.nearest if one.picture in thumbnails],
    )


def _image(one: Example, content: bytes) -> Image:
    drawn = content.startswith(_PNG)
    uri = f"data:image/{'png' if drawn else 'jpeg'};base64,{base64.b64encode(content).decode('ascii')}"
    return Image(uri, one.caption, f"{one.id}, similarity {write_number(one.similarity, 3)}", drawn)
