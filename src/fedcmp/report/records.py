"""The lines of a run's metrics.jsonl, and its sample pictures, as typed records.

The files are untrusted: a key that is missing or of the wrong type becomes None (or an empty mapping), an unknown key
is passed over. A number that is not finite is kept, because it says that a run diverged.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

_LARGEST = 10**100


def number(value: object) -> float | None:
    """Return a JSON number as a float (beyond 1e100 as infinite), None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and math.isnan(value):
        return value
    if abs(value) >= _LARGEST:
        return math.inf if value > 0 else -math.inf
    return float(value)


def whole(value: object) -> int | None:
    """Return a JSON number without a fraction as an int, None for anything else."""
    given = number(value)
    return int(given) if given is not None and math.isfinite(given) and given == int(given) else None


def text(value: object, default: str = "") -> str:
    """Return a JSON string, or the default for anything else."""
    return value if isinstance(value, str) else default


def numbers(value: object) -> dict[str, float]:
    """Return the entries of a JSON object that are numbers, in their order."""
    if not isinstance(value, Mapping):
        return {}
    found = {str(key): number(entry) for key, entry in value.items()}
    return {key: entry for key, entry in found.items() if entry is not None}


# of which pairs figures are; one's own data have no splits, only what each client holds out; those first are preferred
SPLITS = ("test", "held out", "validation")


def say_split(split: str) -> str:
    """Name the pairs of a split in a caption."""
    return "held-out pairs" if split == "held out" else f"{split} split"


@dataclass(frozen=True)
class Evaluation:
    """One model measured on one split after one round; losses in nats per caption token, accuracies in [0, 1]."""

    model: str
    round: int
    client: int | None
    split: str
    caption_loss: float | None = None
    worst_group_loss: float | None = None
    question_accuracy: float | None = None
    worst_group: str = ""
    group_losses: Mapping[str, float] = field(default_factory=dict)
    accuracy_by_kind: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> "Evaluation":
        """Read a line of kind "evaluation"."""
        groups = numbers(line.get("group_losses"))
        worst, worst_loss = text(line.get("worst_group")), number(line.get("worst_group_loss"))
        if worst_loss is None and groups:
            worst = max(groups, key=lambda group: groups[group])
            worst_loss = groups[worst]
        return cls(
            model=text(line.get("model"), "global"),
            round=whole(line.get("round")) or 0,
            client=whole(line.get("client")),
            split=text(line.get("split"), "test"),
            caption_loss=number(line.get("caption_loss")),
            worst_group_loss=worst_loss,
            question_accuracy=number(line.get("question_accuracy")),
            worst_group=worst,
            group_losses=groups,
            accuracy_by_kind=numbers(line.get("question_accuracy_by_kind")),
        )


@dataclass(frozen=True)
class ClientRound:
    """What one client did in one round; `weight` is its share in the merge, bytes count both directions."""

    round: int
    client: int
    name: str
    num_examples: int = 0
    loss: float | None = None
    alignment_error: float | None = None
    update_norm: float | None = None
    weight: float | None = None
    num_bytes: int = 0

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> "ClientRound":
        """Read a line of kind "client"; a learner without an index (pooled data) becomes client 0."""
        client = whole(line.get("client")) or 0
        return cls(
            round=whole(line.get("round")) or 0,
            client=client,
            name=text(line.get("client_name")) or f"client-{client}",
            num_examples=whole(line.get("num_examples")) or 0,
            loss=number(line.get("loss")),
            alignment_error=number(line.get("alignment_error")),
            update_norm=number(line.get("update_norm")),
            weight=number(line.get("weight")),
            num_bytes=(whole(line.get("bytes_up")) or 0) + (whole(line.get("bytes_down")) or 0),
        )


@dataclass(frozen=True)
class ServerRound:
    """What the server noted about one round: seconds, bytes in both directions, the aggregator's own numbers."""

    round: int
    seconds: float | None = None
    num_bytes: int | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> "ServerRound":
        """Read a line of kind "round"."""
        return cls(
            round=whole(line.get("round")) or 0,
            seconds=number(line.get("seconds")),
            num_bytes=whole(line.get("bytes_sent")),
            diagnostics=numbers(line.get("diagnostics")),
        )


@dataclass(frozen=True)
class Holding:
    """What one client holds: pairs, pairs by group, pairs that could not be used by reason, captions put in wrong.

    Missing pairs are those that a built scenario gives the client and that are not at hand.
    """

    client: int
    name: str
    num_pairs: int = 0
    groups: Mapping[str, float] = field(default_factory=dict)
    bad_pairs: Mapping[str, float] = field(default_factory=dict)
    wrong_captions: int = 0
    missing_pairs: int = 0

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> "Holding":
        """Read a line of kind "data"."""
        client = whole(line.get("client")) or 0
        return cls(
            client=client,
            name=text(line.get("client_name")) or f"client-{client}",
            num_pairs=whole(line.get("num_pairs")) or 0,
            groups=numbers(line.get("groups")),
            bad_pairs=numbers(line.get("bad_pairs")),
            wrong_captions=whole(line.get("wrong_captions")) or 0,
            missing_pairs=whole(line.get("missing_pairs")) or 0,
        )


@dataclass(frozen=True)
class Sample:
    """One picture of the held-out set with its true caption and the captions that a run's models wrote."""

    key: str
    image: str
    reference: str
    group: str
    captions: Mapping[str, str]

    @classmethod
    def from_entry(cls, entry: Mapping[str, object]) -> "Sample":
        """Read one entry of samples.json; without a key, the picture's path tells the entries apart."""
        written = entry.get("captions")
        captions = {str(who): text(words) for who, words in written.items()} if isinstance(written, Mapping) else {}
        key = entry.get("key")
        return cls(
            key=str(key) if isinstance(key, str | int) else text(entry.get("image")),
            image=text(entry.get("image")),
            reference=text(entry.get("reference")),
            group=text(entry.get("group")),
            captions=captions,
        )
