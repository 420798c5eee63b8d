"""What server and clients say to each other in Flower's records. Only this file knows how they are named.

Server to client, a message of type "train":
    "arrays"           ArrayRecord   the tensors to train from, as in every app of Flower
    "public/LABEL"     ArrayRecord   what the rule broadcasts beside them, one record per label
    "config"           ConfigRecord  the app's own train_config, and "server-round"
    "fedcmp"           ConfigRecord  what is asked: see `Asked`
Client to server:
    "arrays"           ArrayRecord   the trained tensors; not needed where the round only measures
    "metrics"          MetricRecord  "num-examples"; "alignment-error" where the rule needs it; any other is averaged
    "second_moment"    ArrayRecord   AdamW's bias-corrected second moments, where they are asked for
    "extra/LABEL"      ArrayRecord   what objective and step send for the rule, one record per label
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from fedcmp.errors import UserError
from fedcmp.federation.flower.arrays import array_record, tensors_of

Tensors = dict[str, Tensor]
Metrics = Mapping[str, int | float | list[int] | list[float]]

ARRAYS, CONFIG, METRICS, ASKED = "arrays", "config", "metrics", "fedcmp"
PUBLIC, EXTRA, SECOND_MOMENT = "public/", "extra/", "second_moment"
NUM_EXAMPLES, ALIGNMENT_ERROR, KEPT = "num-examples", "alignment-error", "kept"
ROUND = "server-round"
VERSION = 2


@dataclass(frozen=True)
class Asked:
    """What a message asks of a client, beside its tensors.

    Attributes:
        round: 1 for the first.
        measure_only: take no step: objective and step see every batch of the round (an opening round).
        second_moment: send AdamW's second moments along.
        objective: name of the local objective; `objective_options` are its own.
        step: name of the client's step; `step_options` are its own.
        extras: labels of what the rule reads of the step and of what is measured alongside.
        continues: the last round in which the server accepted a reply of this client that kept a state; 0: none yet.
    """

    round: int
    measure_only: bool = False
    second_moment: bool = False
    objective: str = "plain"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    step: str = "adamw"
    step_options: Mapping[str, Any] = field(default_factory=dict)
    extras: Sequence[str] = ()
    continues: int = 0

    @classmethod
    def of(cls, message: Message) -> "Asked":
        """Read what a message of AggregatorStrategy asks.

        Raises:
            UserError: the message is another strategy's, or another version's.
        """
        config = message.content.config_records.get(ASKED)
        if config is None:
            raise UserError(
                f"the message holds no ConfigRecord {ASKED!r}: it is not AggregatorStrategy's; use it in the "
                "ServerApp, or answer without fedcmp's helpers"
            )
        if config.get("version") != VERSION:
            raise UserError(f"version = {config.get('version')!r} of the message: use the same fedcmp on both sides")
        try:
            return cls(
                round=int(config["round"]),  # type: ignore[arg-type]  # a value of another type is refused here
                measure_only=config["measure-only"] is True,
                second_moment=config["second-moment"] is True,
                objective=str(config["objective"]),
                objective_options=json.loads(str(config["objective-options"])),
                step=str(config["step"]),
                step_options=json.loads(str(config["step-options"])),
                extras=tuple(json.loads(str(config["extras"]))),
                continues=int(config["continues"]),  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"ConfigRecord {ASKED!r}: {error}: use the same fedcmp on both sides") from error

    def record(self) -> ConfigRecord:
        """Return the ConfigRecord."""
        return ConfigRecord(
            {
                "version": VERSION,
                "round": self.round,
                "measure-only": self.measure_only,
                "second-moment": self.second_moment,
                "objective": self.objective,
                "objective-options": json.dumps(dict(self.objective_options)),
                "step": self.step,
                "step-options": json.dumps(dict(self.step_options)),
                "extras": json.dumps(list(self.extras)),
                "continues": self.continues,
            }
        )


def arrays_of(message: Message) -> Tensors:
    """Return the tensors to train from.

    Raises:
        UserError: they are missing or cannot be read.
    """
    return read_arrays(message.content.array_records.get(ARRAYS, ArrayRecord()))


def read_arrays(arrays: ArrayRecord) -> Tensors:
    """Return tensors that our own side made or passes on; UserError where they cannot be read."""
    try:
        return tensors_of(arrays)
    except ValueError as error:
        raise UserError(f"arrays: {error}") from error


def public_of(message: Message) -> dict[str, Tensors]:
    """Return what the rule broadcasts with a message, label -> name -> tensor.

    Raises:
        UserError: it cannot be read.
    """
    records = message.content.array_records
    return {name.removeprefix(PUBLIC): read_arrays(records[name]) for name in records if name.startswith(PUBLIC)}


def broadcast_records(public: Mapping[str, Tensors]) -> dict[str, ArrayRecord]:
    """Return what a rule broadcasts, by the records' names."""
    return {PUBLIC + label: array_record(named) for label, named in public.items()}


def reply_content(
    state: Mapping[str, Tensor] | None,
    *,
    num_examples: int,
    alignment_error: float | None = None,
    metrics: Metrics | None = None,
    second_moment: Mapping[str, Tensor] | None = None,
    extra: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> RecordDict:
    """Return the content of a client's reply to AggregatorStrategy.

    Args:
        state: name -> trained tensor, the names of the message's "arrays"; None where the round only measured.
        num_examples: samples that the client trained on in this round, at least 1.
        alignment_error: E_k of docs/methods.md; only some rules need it.
        metrics: whatever else: the server averages it, weighted by num_examples.
        second_moment: name -> AdamW's bias-corrected second moment, where the message asks for it.
        extra: label -> name -> tensor, what objective and step send.

    Returns:
        The content: `Message(content, reply_to=message)` is the reply.
    """
    reported = MetricRecord({**(metrics or {}), NUM_EXAMPLES: num_examples})
    if alignment_error is not None:
        reported[ALIGNMENT_ERROR] = alignment_error
    content = RecordDict({METRICS: reported})
    if state is not None:
        content[ARRAYS] = array_record(state)
    if second_moment is not None:
        content[SECOND_MOMENT] = array_record(second_moment)
    for label, named in (extra or {}).items():
        content[EXTRA + label] = array_record(named)
    return content
