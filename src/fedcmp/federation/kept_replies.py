"""The replies of the round under way, on disk until its checkpoint is: what a killed round has received is not lost.

    waiting/round-0003/client-2.safetensors            a Reply, and for which assignment it is
    waiting/round-0003-opening/client-2.safetensors    the same, of an opening round
An edge's sum of several clients' replies is kept like a reply of the first of them.

A resumed round asks only the clients whose reply is not there. A reply counts for the very assignment that it was sent
for: round, tensors, and where its client continued. One that is damaged counts for nothing.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.runs.fields import number
from fedcmp.wire.edge_messages import AnyReply, parts_of, read_reply
from fedcmp.wire.files import message_hash, park_message, read_message
from fedcmp.wire.messages import Assignment

_LOG = logging.getLogger(__name__)


class KeptReplies:
    """The replies of one method's open round.

    Args:
        folder: where they are kept; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._place: Path | None = None  # of the exchange under way
        self._asked: dict[int, str] = {}  # client -> hash of its assignment

    def open(self, assignments: Mapping[int, Assignment]) -> Iterator[tuple[AnyReply, float | None]]:
        """Begin an exchange; yield the replies to these assignments that are there already, by the clients' numbers.

        Each with when it arrived, as `keep` was given it. Those of other rounds are removed.

        Args:
            assignments: client -> its assignment; all hold the same tensors.
        """
        if self._folder is None or not assignments:
            return
        first = next(iter(assignments.values()))
        name = f"round-{first.round:04d}"
        self._place = self._folder / (f"{name}-opening" if first.measure_only else name)
        for other in self._folder.glob("*"):
            if other.name not in (name, f"{name}-opening"):
                shutil.rmtree(other, ignore_errors=True)
        self._place.mkdir(parents=True, exist_ok=True)
        shared = _identity(first)
        self._asked = {
            client: hashlib.sha256(f"{shared} {client} {assignment.continues}".encode()).hexdigest()
            for client, assignment in assignments.items()
        }
        for client in sorted(assignments):
            if self._file(client).exists():
                try:
                    yield self._read(client)
                except UserError as error:
                    _LOG.warning("%s", error)

    def keep(self, reply: AnyReply, arrived: float) -> None:
        """Keep a reply of the exchange under way, which arrived so many seconds after its opening."""
        if self._place is not None:
            header, tensors = reply.to_tensors()
            kept = {"assignment": self._answered(reply), "reply": header, "arrived": arrived}
            park_message(self._file(reply.client), kept, tensors)

    def read(self, client: int) -> AnyReply:
        """Return a reply that was kept.

        Raises:
            UserError: it is damaged, or answers another assignment; it is removed.
        """
        return self._read(client)[0]

    def _read(self, client: int) -> tuple[AnyReply, float | None]:
        path = self._file(client)
        try:
            header, tensors = read_message(path)
            reply = read_reply(header.get("reply", {}), tensors)
            if header.get("assignment") != self._answered(reply) or reply.client != client:
                raise ValueError(f"{path}: answers another assignment")
            return reply, number(header.get("arrived"))
        except ValueError as error:
            self.drop(client)
            raise UserError(f"{error}; it is removed: with --resume its client trains again") from error

    def drop(self, client: int) -> None:
        """Forget a reply: its client is to be asked again."""
        if self._place is not None:
            with suppress(FileNotFoundError):
                self._file(client).unlink()

    def settled(self) -> None:
        """Forget all replies: the round's checkpoint is on disk."""
        self._place = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _answered(self, reply: AnyReply) -> str:
        """Which assignments it answers; "" for one that was not made."""
        return " ".join(self._asked.get(part.client, "") for part in parts_of(reply))

    def _file(self, client: int) -> Path:
        assert self._place is not None
        return self._place / f"client-{client}.safetensors"


def _identity(assignment: Assignment) -> str:
    """A hash of all but where its client continues."""
    header, tensors = assignment.continuing(0).to_tensors()
    return message_hash(json.dumps(header, sort_keys=True), tensors)
