"""One line of metrics.jsonl as points of curves: (tag, step, value). The step is the round, 0 before the first.

train_loss/CLIENT, throughput/CLIENT (samples/s), alignment_error/CLIENT, weight/CLIENT, update_norm/CLIENT,
learning_rate/CLIENT                                    a client's line
round/seconds, round/bytes_sent, round/bytes_opening    a round's
drift_d/LAYER, momentum_b/LAYER, DIAGNOSTIC/LAYER       a round's, from rules that have them
eval/caption_loss, eval/worst_group_loss, eval/question_accuracy, eval_group_loss/GROUP, eval_question/KIND,
eval_suite/SUITE                                        an evaluation's; behind it /CLIENT or /blind
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Line = Mapping[str, Any]
_CLIENT = {
    "loss": "train_loss",
    "alignment_error": "alignment_error",
    "weight": "weight",
    "update_norm": "update_norm",
    "learning_rate": "learning_rate",
}
_EVALUATION = ("caption_loss", "worst_group_loss", "question_accuracy")
_BY_NAME = {"group_losses": "eval_group_loss", "question_accuracy_by_kind": "eval_question"}
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


def points(line: Line) -> list[Point]:
    """The points of one record; none where it has no figures, and none for a figure that was not finite.

    Args:
        line: a record of metrics.jsonl (docs/guide.md).
    """
    makers = {"client": _of_client, "round": _of_round, "opening": _of_opening, "evaluation": _of_evaluation}
    maker = makers.get(str(line.get("kind")))
    if maker is None:
        return []
    step = int(line["round"])
    return [Point(tag, step, float(value)) for tag, value in maker(line) if _is_number(value)]


def _of_client(line: Line) -> Iterator[tuple[str, Any]]:
    who = _plain(str(line["client_name"]), int(line["client"]))
    for key, group in _CLIENT.items():
        yield f"{group}/{who}", line.get(key)
    if line.get("seconds"):
        yield f"throughput/{who}", line["num_examples"] / line["seconds"]


def _of_round(line: Line) -> Iterator[tuple[str, Any]]:
    yield "round/seconds", line.get("seconds")
    yield "round/bytes_sent", line.get("bytes_sent")
    for name, value in (line.get("diagnostics") or {}).items():
        what, _, layer = name.partition(".")
        yield f"{_DIAGNOSTICS.get(what, what)}/{_plain(layer or 'all', 0)}", value


def _of_opening(line: Line) -> Iterator[tuple[str, Any]]:
    yield "round/bytes_opening", line.get("bytes_sent")


def _of_evaluation(line: Line) -> Iterator[tuple[str, Any]]:
    model = line.get("model", "global")
    # the initial projector is the first point of the global one's curve
    suffix = {"blind": "/blind", "client": f"/client-{line.get('client')}"}.get(model, "")
    for key in _EVALUATION:
        yield f"eval/{key}{suffix}", line.get(key)
    for key, group in _BY_NAME.items():
        for number, (name, value) in enumerate((line.get(key) or {}).items()):
            yield f"{group}/{_plain(name, number)}{suffix}", value
    for name, score in (line.get("suites") or {}).items():
        yield f"eval_suite/{name}{suffix}", score["score"]


def _plain(name: str, number: int) -> str:
    """A name as every tracker takes it; one that had to be changed gets its number, so that no two become one."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if plain == name else f"{plain}-{number}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
