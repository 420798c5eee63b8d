"""The records of a run: one model per kind of line in metrics.jsonl, and the entries of samples.json.

Written, in this order (field names are the keys on disk):

    RunRecord      "run"         first line: the method, whether it is federated, what was planned, versions
    PairsRead      "pairs"       per collection, before the first round: where each of its pairs went
    ClientData     "data"        per client, before the first round: what it holds
    Evaluation     "evaluation"  round 0: model "blind", then "initial"
    OpeningRound   "opening"     once, if the rule opens with a round that only measures
    ClientRound    "client"      per round and client that took part
    ServerRound    "round"       per round, after its client lines
    SiteEvent      "site"        deployments: what happened to a site's messages in the round, after the round's line
    Evaluation     "evaluation"  per evaluated round: one of model "global", or one of model "client" per client; after
                                 the last round with its loss on shuffled images
    Finished       "finished"    last line

Losses are in nats per caption token, accuracies in [0, 1], sizes in bytes of the encoded tensors.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from fedcmp.references import is_federated
from fedcmp.runs.fields import (
    Count,
    Counts,
    Lenient,
    MaybeCounts,
    MaybeNumbers,
    Names,
    Number,
    Numbers,
    Record,
    Text,
    Texts,
    Whole,
    table,
    text,
)

# the embedded world's suites; records of version 0.2 and before name them as the real benchmarks are named
WORLD_SUITES = tuple(f"{name}-world" for name in ("mm-vet", "mmbench", "seed", "llava-bench", "pope", "mme", "mmvp"))


def world_suite(name: object) -> str:
    """Return the name of one of the embedded world's suites, in an old record too."""
    renamed = f"{name}-world"
    return renamed if renamed in WORLD_SUITES else str(name)


def timestamp() -> str:
    """Return the time as records have it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunRecord(Record):
    """Which run this is; `rounds` and `clients` as planned, `learning_rate` the peak of the learners' schedule.

    `started` is a time (ISO 8601, UTC), `machine` a description for people, `parameters` how many numbers are trained.
    """

    kind: Literal["run"] = "run"
    method: Text
    title: Text = ""
    federated: bool
    rounds: Whole
    clients: Whole
    seed: Whole
    learning_rate: Number = None
    versions: Texts = Field(default_factory=dict)
    started: Text = ""
    machine: Text = ""
    parameters: Whole = None

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> Self:
        """See Record; where the line does not say whether the method is federated, its name does."""
        record = super().from_line(line)
        federated = line.get("federated")
        return record.model_copy(
            update={"federated": federated if isinstance(federated, bool) else is_federated(record.method)}
        )


class PairsRead(Record):
    """Where the pairs of one collection went: read = train + held_out + refused + unused.

    `refused` pairs could not be used (losses), `unused` ones a rule leaves out, both by reason; `ignored` counts what
    stands beside the pairs and is not read. Of the held-out pairs, `judged` are measured on. `captions_cut` of the used
    pairs have captions longer than data.max_caption_tokens.
    """

    kind: Literal["pairs"] = "pairs"
    name: Text
    read: Count
    train: Count
    held_out: Count
    judged: Count
    refused: Counts
    unused: Counts
    ignored: Counts
    captions_cut: Count


class ClientData(Record):
    """What one client holds: pairs, pairs by group, pairs that could not be used by reason, captions put in wrong.

    Missing pairs are those that a built scenario gives the client and that are not at hand.
    """

    kind: Literal["data"] = "data"
    client: Count
    client_name: Text
    num_pairs: Count
    bad_pairs: Counts
    wrong_captions: Count
    groups: Counts
    missing_pairs: Count = 0

    @property
    def name(self) -> str:
        """The client's name, or its number where it has none."""
        return self.client_name or f"client-{self.client}"


class ClientRound(Record):
    """What one client did in one round.

    `weight` is its share in the merge, `update_norm` the length of its change, `alignment_error` E_k in [0, 2],
    `learning_rate` that of its first step; `refused` says why its update was not merged. Its reply arrived `arrived`
    seconds after the process that received it had opened the round (None in records of version 0.2 and before). Where
    clients do not wait for each other, `round` is the merge that the update went into, `part` which of its pairs' parts
    the client trained on, and `staleness` how many merges its version was behind.
    """

    kind: Literal["client"] = "client"
    round: Count
    client: Count
    client_name: Text
    part: Whole = None
    staleness: Whole = None
    loss: Number = None
    loss_first: Number = None
    loss_last: Number = None
    num_examples: Count
    alignment_error: Number
    update_norm: Number
    learning_rate: Number
    bytes_up: Count
    bytes_down: Count
    seconds: Number
    weight: Number = None
    refused: Text = ""
    arrived: Number = None

    @property
    def name(self) -> str:
        """The client's name, or its number where it has none."""
        return self.client_name or f"client-{self.client}"

    @property
    def num_bytes(self) -> int:
        """Bytes in both directions."""
        return self.bytes_up + self.bytes_down


class OpeningRound(Record):
    """A round before the first that only measures: it has no losses and merges nothing."""

    kind: Literal["opening"] = "opening"
    round: Count
    seconds: Number
    bytes_sent: Whole


class ServerRound(Record):
    """What the server noted about one round.

    `seconds` of all its clients' training, `bytes_sent` in both directions, the aggregator's own numbers, and the names
    of clients that were asked and did not reply. `opened` is a time (ISO 8601, UTC), `waited` the seconds from then
    until the round was closed; of a round that a killed process had begun, both are those of the process that ended it.
    `clock` is the run's time in seconds, real or virtual, where rounds are asynchronous or a recipe says how fast
    clients are.
    """

    kind: Literal["round"] = "round"
    round: Count
    seconds: Number
    bytes_sent: Whole
    diagnostics: Numbers
    missing: Names = Field(default_factory=list)
    opened: Text = ""
    waited: Number = None
    clock: Number = None

    @property
    def num_bytes(self) -> int | None:
        """Bytes in both directions, None where they were not noted."""
        return self.bytes_sent


# a site came into the run; its assignment was sent; its reply came after the round was closed; it did not come before
# the deadline; the connection to it broke; what it sent or asked for was refused; it came back; its assignment was sent
# once more; a reply of its was passed over, as one that is there twice
Happening = Literal["joined", "asked", "late", "missing", "lost", "refused", "rejoined", "asked again", "ignored"]


class SiteEvent(Record):
    """What happened to one site of a deployment, `seconds` after the round was opened.

    `client` is None for one that is no client of the run. `detail` says more, for people; `bytes` of the message.
    """

    kind: Literal["site"] = "site"
    round: Count
    client: Whole
    client_name: Text
    event: Annotated[Happening, Lenient(text)]
    detail: Text = ""
    seconds: Number
    bytes: Whole = None

    @property
    def name(self) -> str:
        """The site's name, or its number where it has none."""
        return self.client_name or ("unknown" if self.client is None else f"client-{self.client}")


class SuiteFigures(Record):
    """One suite's score, the best possible one, that of a guess, its standard error over the suite's units, details."""

    suite: Annotated[str, Lenient(lambda value: world_suite(text(value)))] = ""
    score: Number
    highest: Number
    chance: Number
    noise: Number
    units: Count
    detail: Annotated[dict[str, Any], Lenient(lambda value: dict(table(value)))]


def _suites(value: object) -> dict[str, SuiteFigures]:
    return {world_suite(text(name)): SuiteFigures.from_line(table(entry)) for name, entry in table(value).items()}


class Evaluation(Record):
    """One model measured on one split after one round.

    `model` is "global", "client" (of local-only runs: `client` says whose), "blind" (the LLM without images) or
    "initial" (the projector before any training). Groups are content families or clients. `captions` counts the
    held-out pairs behind the losses. `shuffled_loss` is the caption loss of the same projector when each caption comes
    with another held-out image (evaluation/shuffled.py); of what the run offers at its end, None elsewhere.
    """

    kind: Literal["evaluation"] = "evaluation"
    model: Annotated[str, Lenient(lambda value: text(value, "global"))]
    round: Count
    client: Whole
    split: Annotated[str, Lenient(lambda value: text(value, "test"))]
    captions: Whole = None
    caption_loss: Number
    shuffled_loss: Number = None
    worst_group: Text
    worst_group_loss: Number
    group_losses: Numbers
    question_accuracy: Number = None
    question_accuracy_by_kind: MaybeNumbers = None
    questions_by_kind: MaybeCounts = None
    suites: Annotated[dict[str, SuiteFigures], Lenient(_suites)] = Field(default_factory=dict)
    seconds: Number

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> Self:
        """See Record; a worst group that the line leaves out is found among its groups."""
        record = super().from_line(line)
        if record.worst_group_loss is not None or not record.group_losses:
            return record
        worst = max(record.group_losses, key=record.group_losses.__getitem__)
        return record.model_copy(update={"worst_group": worst, "worst_group_loss": record.group_losses[worst]})

    @property
    def accuracy_by_kind(self) -> Mapping[str, float]:
        """Accuracy per kind of question; empty where none was asked."""
        return self.question_accuracy_by_kind or {}


class Finished(Record):
    """The end of a run: seconds of training, all workers together; when it ended (ISO 8601, UTC)."""

    kind: Literal["finished"] = "finished"
    seconds: Number
    ended: Text = ""


class Sample(Record):
    """An entry of samples.json: one image of the held-out set with its true caption and what each model wrote.

    `image` is a path within the run's folder, `position` the pair's place among the held-out ones; `captions` maps who
    wrote to what was written.
    """

    position: Count
    key: Annotated[str, Lenient(lambda value: text(str(value)) if isinstance(value, str | int) else "")]
    group: Text
    reference: Text
    image: Text
    captions: Texts = Field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Mapping[str, object]) -> Self:
        """See Record; without a key, the image's path tells the entries apart."""
        record = super().from_line(line)
        return record if record.key else record.model_copy(update={"key": record.image})


AnyRecord = (
    RunRecord | PairsRead | ClientData | ClientRound | OpeningRound | ServerRound | SiteEvent | Evaluation | Finished
)
KINDS: dict[str, type[AnyRecord]] = {
    "run": RunRecord,
    "pairs": PairsRead,
    "data": ClientData,
    "client": ClientRound,
    "opening": OpeningRound,
    "round": ServerRound,
    "site": SiteEvent,
    "evaluation": Evaluation,
    "finished": Finished,
}

# of which pairs figures are; one's own data have no splits, only what each client holds out; those first are preferred
SPLITS = ("test", "held out", "validation")


def say_split(split: str) -> str:
    """Name the pairs of a split in a caption."""
    return "held-out pairs" if split == "held out" else f"{split} split"


def read_line(line: object) -> AnyRecord | None:
    """Read one line of metrics.jsonl; None for one of an unknown kind, or that is no JSON object."""
    kind = KINDS.get(text(line.get("kind"))) if isinstance(line, Mapping) else None
    return kind.from_line(line) if kind is not None and isinstance(line, Mapping) else None
