"""A message carried out by the package's own training, as `fedcmp train` does it: a projector, with any objective."""

from pathlib import Path

from flwr.app import Message

from fedcmp.federation.client_folder import ClientFolder
from fedcmp.federation.flower.records import KEPT, Asked, Metrics, arrays_of, public_of, reply_content
from fedcmp.federation.learner import ClientSide, Work
from fedcmp.wire.messages import Assignment, Reply
from fedcmp.wire.payload import forms


def carry_out(message: Message, side: ClientSide, *, client: int, folder: Path, learning_rate: float) -> Message:
    """Train one client's part of a round and return the reply.

    Args:
        message: of AggregatorStrategy, whose arrays are the trained tensors of `side`'s model.
        side: recipe, frozen model and pairs.
        client: the client's number in the recipe's scenario.
        folder: where the client keeps its state between rounds; it never travels.
        learning_rate: peak rate of the run's schedule.

    Raises:
        UserError: the message is not AggregatorStrategy's; the client's state is missing; no image is usable.
    """
    asked = Asked.of(message)
    assignment = Assignment(
        round=asked.round,
        learning_rate=learning_rate,
        forms=forms("float32"),
        objective=asked.objective,
        objective_options=asked.objective_options,
        step=asked.step,
        step_options=asked.step_options,
        extras=asked.extras,
        measure_only=asked.measure_only,
        with_second_moment=asked.second_moment,
        continues=asked.continues,
        state=arrays_of(message),
        public=public_of(message),
    )
    (reply,) = side.carry_out([Work(client, assignment, ClientFolder(folder))])
    content = reply_content(
        None if asked.measure_only else reply.state,
        num_examples=reply.num_examples,
        alignment_error=reply.alignment_error,
        metrics=_metrics(reply),
        second_moment=reply.second_moment or None,
        extra=reply.extra,
    )
    return Message(content, reply_to=message)


def _metrics(reply: Reply) -> Metrics:
    return {**reply.figures, "seconds": reply.seconds, KEPT: int(reply.kept)}
