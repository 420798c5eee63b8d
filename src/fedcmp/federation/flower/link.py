"""Frames to sites and back, over Flower's Grid: what the server half of a deployment knows of Flower.

A site is known by its node's number, which Flower gives to a registered key: the roster says whose key that is. What
comes from any other node is not looked at.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from fedcmp.federation.flower.envelope import packed_body, unpacked, with_header
from fedcmp.terminal import shortened, shown
from fedcmp.wire.frames import body_bytes, header_bytes, read_body, read_header
from fedcmp.wire.naming import Tensors
from fedcmp.wire.site_limits import MOST_NAMES
from fedcmp.wire.site_messages import Frame


class Lost(NamedTuple):
    """A message that was not answered, and why; or whose answer cannot be read."""

    reason: str
    malformed: bool = False


class Link(Protocol):
    """How frames reach the sites, whatever carries them."""

    def online(self) -> frozenset[str]:
        """Return the sites that can be reached."""

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        """Send a frame, to be answered within so many seconds; return what its answer is asked for by."""

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        """Yield the answers that are there, each once."""


class FlowerLink:
    """A Link over a Grid.

    Args:
        grid: a ServerApp's.
        roster: returns node number -> site; asked again and again, for keys are added and removed while a run works.
    """

    def __init__(self, grid: Grid, roster: Callable[[], Mapping[int, str]]) -> None:
        self._grid, self._roster = grid, roster
        self._nodes: dict[str, int] = {}
        self._sent_to: dict[str, int] = {}
        self._body: tuple[Tensors, ArrayRecord | None] = {}, None  # a round's messages share it

    def online(self) -> frozenset[str]:
        """See Link.online."""
        sites = self._roster()
        self._nodes = {sites[node]: node for node in self._grid.get_node_ids() if node in sites}
        return frozenset(self._nodes)

    def push(self, site: str, frame: Frame, *, seconds: float) -> str:
        """See Link.push.

        Raises:
            ConnectionError: the site is not there, or Flower did not take the message.
        """
        node = self._nodes.get(site)
        if node is None:
            raise ConnectionError("it cannot be reached")
        header, tensors = frame
        content = with_header(header_bytes(header), self._packed(tensors))
        message = Message(content, dst_node_id=node, message_type="train", ttl=seconds)
        numbers = list(self._grid.push_messages([message]))
        sent = numbers[0] if numbers else None
        if not sent:
            raise ConnectionError("Flower did not take the message")
        self._sent_to[sent] = node
        return sent

    def pull(self, sent: Collection[str]) -> Iterator[tuple[str, Frame | Lost]]:
        """See Link.pull. One at a time: however many answers wait, one is in memory."""
        for number in sent:
            for message in self._grid.pull_messages([number]):
                node = self._sent_to.pop(number, None)
                yield number, self._frame(message, node)

    def _frame(self, message: Message, node: int | None) -> Frame | Lost:
        if message.has_error():
            said = message.error.reason or f"Flower's error {message.error.code}"
            return Lost(shortened(shown(said), 300))
        if message.metadata.src_node_id != node:
            return Lost("answered by another node")
        try:
            header, body = unpacked(message.content)
            return read_header(header), read_body(body, most_names=MOST_NAMES)
        except ValueError as error:
            return Lost(shortened(shown(str(error)), 300), malformed=True)

    def _packed(self, tensors: Tensors) -> ArrayRecord | None:
        known, packed = self._body
        if tensors.keys() != known.keys() or any(tensors[name] is not known[name] for name in tensors):
            packed = packed_body(body_bytes(tensors))
            self._body = dict(tensors), packed
        return packed
