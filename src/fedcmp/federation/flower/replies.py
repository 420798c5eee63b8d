"""A round's replies, one by one: which are answers to it, whose they are, and in which order they count.

Replies arrive in any order. They are sorted by node, since sums of rounded numbers depend on their order, and what is
wrong with one concerns its node alone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message, MetricRecord, RecordDict

from fedcmp.federation.flower.records import NUM_EXAMPLES
from fedcmp.terminal import shortened, shown

_ENDED = 5  # Flower's code of an error that the server itself reports in the place of a node that is gone
Metrics = dict[str, float | list[float]]


@dataclass(frozen=True, eq=False)
class Answer:
    """One node's reply, its metrics read.

    Attributes:
        node: Flower's number of the node.
        content: all that it sent.
        num_examples: at least 1.
        metrics: every other metric.
    """

    node: int
    content: RecordDict
    num_examples: int
    metrics: Metrics


@dataclass(frozen=True)
class Refusal:
    """A reply that does not count.

    Attributes:
        node: whose.
        reason: one line.
        failed: the node could not answer; else it answered, and the answer is no good.
    """

    node: int
    reason: str
    failed: bool = False


def sort_replies(
    replies: Iterable[Message], sent: Mapping[str, int], nodes: Iterable[int], *, group: str, order_by: str | None
) -> tuple[list[Answer], list[Refusal]]:
    """Read what all replies have in common.

    Args:
        replies: in any order.
        sent: identifier of a message -> the node that it went to.
        nodes: all nodes that were asked.
        group: the group of the messages that were sent: replies of another one are late.
        order_by: metric that says the order of the answers; None: the nodes' numbers do.

    Returns:
        The answers in an order that does not depend on the replies', and the refusals by node.
    """
    asked = frozenset(nodes)
    answers: list[Answer] = []
    refused: list[Refusal] = []
    for reply in replies:
        node = sent.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)
        try:
            if node not in asked:
                raise ValueError("it was not asked in this round")
            if reply.has_error():
                refused.append(_failure(node, reply))
                continue
            if reply.metadata.group_id != group:
                raise ValueError(f"it answers round {reply.metadata.group_id!r}, which is closed")
            answers.append(_answer(node, reply.content, order_by))
        except ValueError as error:
            refused.append(Refusal(node, _line(str(error))))
    times = Counter(answer.node for answer in answers)
    refused += [Refusal(node, f"it replied {count} times") for node, count in times.items() if count > 1]
    once = [answer for answer in answers if times[answer.node] == 1]
    return sorted(once, key=lambda one: _place(one, order_by)), sorted(refused, key=lambda one: (one.node, one.reason))


def mean_metrics(answers: Sequence[Answer], *, without: Iterable[str]) -> MetricRecord:
    """Return the mean of every metric over the answers that report it, weighted by their examples.

    Args:
        answers: in the order in which they are added up.
        without: metrics that are no figures to average.
    """
    left_out = frozenset(without)
    sums: dict[str, list[float]] = {}
    weights: dict[str, int] = {}
    lists: dict[str, bool] = {}
    for answer in answers:
        for name, value in answer.metrics.items():
            if name in left_out:
                continue
            values = value if isinstance(value, list) else [value]
            if len(values) != len(sums.setdefault(name, [0.0] * len(values))):
                left_out |= {name}  # lists of several lengths have no mean
                continue
            sums[name] = [total + answer.num_examples * own for total, own in zip(sums[name], values, strict=True)]
            weights[name] = weights.get(name, 0) + answer.num_examples
            lists[name] = isinstance(value, list)
    means = MetricRecord()
    for name, totals in sums.items():
        if name not in left_out:
            mean = [total / weights[name] for total in totals]
            means[name] = mean if lists[name] else mean[0]
    return means


def _answer(node: int, content: RecordDict, order_by: str | None) -> Answer:
    records = list(content.metric_records.values())
    if len(records) != 1:
        raise ValueError(f"it holds {len(records)} MetricRecords; one is needed, with {NUM_EXAMPLES!r}")
    metrics: Metrics = {
        name: [float(own) for own in value] if isinstance(value, list) else float(value)
        for name, value in records[0].items()
    }
    if NUM_EXAMPLES not in metrics:
        raise ValueError(f"metric {NUM_EXAMPLES!r} is missing: the samples that the client trained on")
    examples = metrics.pop(NUM_EXAMPLES)
    if isinstance(examples, list) or not examples.is_integer() or not 1 <= examples <= 2**53:
        raise ValueError(f"{NUM_EXAMPLES} = {examples}: must be a whole number, at least 1 and at most 2**53")
    place = 0.0 if order_by is None else metrics.get(order_by, math.nan)
    if isinstance(place, list) or math.isnan(place):
        raise ValueError(f"metric {order_by!r} is missing, which says the order of the clients (order_by)")
    return Answer(node, content, int(examples), metrics)


def _place(answer: Answer, order_by: str | None) -> tuple[float, int]:
    place = 0.0 if order_by is None else answer.metrics[order_by]
    assert isinstance(place, float)
    return place, answer.node


def _failure(node: int, reply: Message) -> Refusal:
    error = reply.error
    reason = "the node is gone" if error.code == _ENDED else (error.reason or "no reason given")
    return Refusal(node, _line(f"{reason} (code {error.code})"), failed=True)


def _line(text: str) -> str:
    return shortened(shown(" ".join(text.split())))
