"""One record of metrics.jsonl as points of curves: (tag, step, value). The step is the round, 0 before the first.

train_loss/CLIENT, throughput/CLIENT (samples/s), alignment_error/CLIENT, weight/CLIENT, update_norm/CLIENT,
learning_rate/CLIENT                                    a client's line
round/seconds, round/bytes_sent, round/bytes_opening    a round's
drift_d/LAYER, momentum_b/LAYER, DIAGNOSTIC/LAYER       a round's, from rules that have them
eval/caption_loss, eval/shuffled_loss, eval/worst_group_loss, eval/question_accuracy, eval_group_loss/GROUP,
eval_question/KIND, eval_suite/SUITE                    an evaluation's; behind it /CLIENT or /blind
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from fedcmp.runs.records import AnyRecord, ClientRound, Evaluation, OpeningRound, ServerRound

Value = float | None
_CLIENT = {
    "loss": "train_loss",
    "alignment_error": "alignment_error",
    "weight": "weight",
    "update_norm": "update_norm",
    "learning_rate": "learning_rate",
}
_EVALUATION = ("caption_loss", "shuffled_loss", "worst_group_loss", "question_accuracy")
_DIAGNOSTICS = {"divergence": "drift_d", "beta": "momentum_b"}


class Point(NamedTuple):
    """A point of a curve.

    Attributes:
        tag: the curve's name, "group/name".
        step: the round.
        value: finite.
    """

    tag: str
    step: int
    value: float


def points(record: AnyRecord) -> list[Point]:
    """Return the points of one record; none where it has no figures, and none for a figure that was not finite."""
    match record:
        case ClientRound():
            found = _of_client(record)
        case ServerRound():
            found = _of_round(record)
        case OpeningRound():
            found = iter([("round/bytes_opening", record.bytes_sent)])
        case Evaluation():
            found = _of_evaluation(record)
        case _:
            return []
    return [
        Point(tag, record.round, float(value)) for tag, value in found if value is not None and math.isfinite(value)
    ]


def _of_client(record: ClientRound) -> Iterator[tuple[str, Value]]:
    who = _plain(record.name, record.client)
    for key, group in _CLIENT.items():
        yield f"{group}/{who}", getattr(record, key)
    if record.seconds:
        yield f"throughput/{who}", record.num_examples / record.seconds


def _of_round(record: ServerRound) -> Iterator[tuple[str, Value]]:
    yield "round/seconds", record.seconds
    yield "round/bytes_sent", record.bytes_sent
    for name, value in record.diagnostics.items():
        what, _, layer = name.partition(".")
        yield f"{_DIAGNOSTICS.get(what, what)}/{_plain(layer or 'all', 0)}", value


def _of_evaluation(record: Evaluation) -> Iterator[tuple[str, Value]]:
    # the initial projector is the first point of the global one's curve
    suffix = {"blind": "/blind", "client": f"/client-{record.client}"}.get(record.model, "")
    for key in _EVALUATION:
        yield f"eval/{key}{suffix}", getattr(record, key)
    by_name = {"eval_group_loss": record.group_losses, "eval_question": record.accuracy_by_kind}
    for group, values in by_name.items():
        for number, (name, value) in enumerate(values.items()):
            yield f"{group}/{_plain(name, number)}{suffix}", value
    for name, suite in record.suites.items():
        yield f"eval_suite/{name}{suffix}", suite.score


def _plain(name: str, number: int) -> str:
    """A name as every tracker takes it; one that had to be changed gets its number, so that no two become one."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if plain == name else f"{plain}-{number}"
