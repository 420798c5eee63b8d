"""What is known of the scenarios, as typed records; the facts are those that scenarios/describing returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedcmp.report.charts.clouds import NOBODY as NOBODY
from fedcmp.report.toy import toy_line

METRICS = ("image", "text", "joint", "cross")


@dataclass(frozen=True)
class Example:
    """A pair that lies near its client's centroid; `picture` names its thumbnail."""

    id: str
    similarity: float
    caption: str
    picture: str


@dataclass(frozen=True)
class Client:
    """One client: pairs that it trains on, their number in each round, and what they look like."""

    name: str
    pairs: int
    rounds: tuple[int, ...]
    held_out: int
    pruned: int
    alignment: float | None
    words: tuple[tuple[str, float], ...]
    nearest: tuple[Example, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Client":
        """Read an entry of a scenario's "clients"."""
        return cls(
            entry["name"],
            entry["pairs"],
            tuple(entry["rounds"]),
            entry["held_out"],
            entry["pruned"],
            entry["alignment"],
            tuple((word, z) for word, z in entry["words"]),
            tuple(Example(**one) for one in entry["nearest"]),
        )


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    `metric` is the similarity that it was cut by, None if by none; `owners` who holds each sampled pair; the measures
    are by metric, None where they have no meaning.
    """

    name: str
    title: str
    metric: str | None
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    versions: Mapping[str, str]
    owners: tuple[int, ...]
    similarity: Mapping[str, Mapping[str, float | None] | None]
    silhouette: Mapping[str, float | None]
    frechet: Mapping[str, Mapping[str, float | None]]
    clients: tuple[Client, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Scenario":
        """Read an entry of the facts' "scenarios"."""
        same = ("name", "title", "metric", "options", "facts", "versions", "similarity", "silhouette")
        return cls(
            **{key: entry[key] for key in same},
            owners=tuple(entry["owners"]),
            frechet=entry["frechet"],
            clients=tuple(map(Client.of, entry["clients"])),
        )

    def gap(self, metric: str) -> float | None:
        """Return mean similarity of pairs of one client less that of pairs of two."""
        known = self.similarity.get(metric)
        return None if known is None else known["gap"]


@dataclass(frozen=True)
class Shown:
    """All that one report shows; `maps` has the sampled pairs' places by metric, None where there is no map."""

    scenarios: tuple[Scenario, ...]
    maps: Mapping[str, tuple[tuple[float, float], ...] | None]
    seed: int
    sample: int
    captions: int
    missing: str
    model: str
    source: str
    pairs: int
    width: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Shown":
        """Read the facts."""
        maps = facts["maps"]
        return cls(
            tuple(map(Scenario.of, facts["scenarios"])),
            {m: maps[m] and tuple(zip(maps[m]["x"], maps[m]["y"], strict=True)) for m in METRICS},
            **{key: facts[key] for key in ("seed", "sample", "captions", "missing")},
            **facts["embeddings"],
        )

    @property
    def toy(self) -> str:
        """Return what of it is the embedded toy world: the encoder of the pairs, "" if it is another."""
        return toy_line([{"data": {"format": ""}, "model": {"vision": self.model, "language": ""}}])

    @property
    def most_clients(self) -> int:
        """Return the number of clients of the scenario that has the most."""
        return max(len(scenario.clients) for scenario in self.scenarios)

    def client_title(self, number: int) -> str:
        """Return the name of a client if it has the same in all scenarios, else "client 3"."""
        names = {one.clients[number].name for one in self.scenarios if number < len(one.clients)}
        return names.pop() if len(names) == 1 else f"client {number}"
