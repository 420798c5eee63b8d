"""A round under way on the server: the messages that were sent, the replies folded in one by one, the close."""

import logging
import re
from collections.abc import Iterable

from flwr.app import Message

from fedcmp.errors import UserError, counted
from fedcmp.federation.flower.merging import Merge, Tensors
from fedcmp.federation.flower.replies import Answer, Refusal, sort_replies

_LOG = logging.getLogger("flwr")


def sorted_replies(
    replies: Iterable[Message], messages: list[Message], *, order_by: str | None
) -> tuple[list[Answer], list[Refusal]]:
    """Return the answers to these messages in the order in which they count, and the refusals; see sort_replies."""
    if not messages:
        return [], []
    sent = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
    nodes = [message.metadata.dst_node_id for message in messages]
    return sort_replies(replies, sent, nodes, group=messages[0].metadata.group_id, order_by=order_by)


class OpenRound:
    """One round of training or measuring.

    Args:
        number: of the round, from 1.
        merge: the rule's round, begun.
        messages: what was sent.

    Attributes:
        accepted: the answers that the rule took, in the order in which they were folded in.
    """

    def __init__(self, number: int, merge: Merge, messages: list[Message]) -> None:
        self._number, self._merge, self._messages = number, merge, messages
        self._refused: list[Refusal] = []
        self.accepted: list[Answer] = []

    def fold(self, replies: Iterable[Message], *, order_by: str | None, stop_at_refusal: bool) -> None:
        """Fold all replies in, and log whose do not count and why.

        Raises:
            UserError: a reply is refused and the run is to stop at that; it names node and tensor.
        """
        answers, refused = sorted_replies(replies, self._messages, order_by=order_by)
        for answer in answers:
            try:
                self._merge.add(answer)
            except ValueError as error:
                reason = re.sub(r"^client \d+: ", "", str(error))  # the rule counts; the node has a number of its own
                refused.append(Refusal(answer.node, reason))
            else:
                self.accepted.append(answer)
        self._refused = refused
        for one in refused:
            place = f"round {self._number}, node {one.node}"
            if stop_at_refusal and not one.failed:
                raise UserError(f'{place}: {one.reason}; on_bad_update = "drop" would go on without such clients')
            _LOG.warning("%s: %s; the round goes on without it", place, one.reason)

    def close(self, least: int) -> Tensors:
        """Return the next tensors.

        Args:
            least: replies that must have been accepted.

        Raises:
            UserError: fewer were, or the rule cannot merge them.
        """
        if len(self.accepted) < least:
            raise UserError(self._too_few(least))
        try:
            return self._merge.finish()
        except ValueError as error:
            norm, node = max((norm, one.node) for norm, one in zip(self._merge.norms, self.accepted, strict=True))
            raise UserError(
                f"round {self._number}: {error}; the largest update, of norm {norm:.3g}, is that of node {node}"
            ) from error

    def _too_few(self, least: int) -> str:
        heard = {answer.node for answer in self.accepted} | {one.node for one in self._refused}
        silent = sorted({message.metadata.dst_node_id for message in self._messages} - heard)
        told = f"; no reply from {', '.join(f'node {node}' for node in silent)}" if silent else ""
        told += f"; node {self._refused[0].node}: {self._refused[0].reason}" if self._refused else ""
        return (
            f"round {self._number}: accepted {len(self.accepted)} of {counted(len(self._messages), 'client')}, "
            f"min_clients = {least}{told}; the round is not closed: start the ServerApp again to resume from its "
            "checkpoint"
        )
