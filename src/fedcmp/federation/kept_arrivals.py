"""The replies since the last merge, on disk until its checkpoint is: what a killed server has received is not lost.

    waiting/version-0003/00002-client-4-part-0005.safetensors     the third reply since merge 3, and when it arrived

A resumed server takes them again in the order in which they came, so that it ends with the same bits. They count for
the very tensors that they were merged into; from the first damaged one on, clients train again.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from fedcmp.wire.files import message_hash, park_message, read_message
from fedcmp.wire.messages import Reply

_LOG = logging.getLogger(__name__)


class KeptArrivals:
    """The replies in one method's buffer.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = folder
        self._tensors = ""  # hash of those that the buffer is merged into
        self._next = 0

    def open(self, version: int, tensors: Mapping[str, Tensor]) -> Iterator[tuple[float, Reply]]:
        """Begin a buffer; yield when each reply that is there already arrived, and the reply.

        Args:
            version: merges so far; replies to other versions' buffers are removed.
            tensors: the server's.
        """
        self._place = self._folder / f"version-{version:04d}"
        self._tensors = message_hash(str(version), tensors)
        self._next = 0
        for other in self._folder.glob("*"):
            if other != self._place:
                shutil.rmtree(other, ignore_errors=True)
        self._place.mkdir(parents=True, exist_ok=True)
        found = sorted(self._place.glob("*.safetensors"))
        for number, path in enumerate(found):
            try:
                if not path.name.startswith(f"{number:05d}-"):
                    raise ValueError(f"{path}: the reply before it is missing")
                header, tensors_of = read_message(path)
                if header.get("tensors") != self._tensors:
                    raise ValueError(f"{path}: was received for other tensors")
                arrived, reply = float(header["at"]), Reply.from_tensors(header.get("reply", {}), tensors_of)
            except (ValueError, KeyError, TypeError) as error:
                _LOG.warning(
                    "%s; it and the %d after it are removed: their clients train again", error, len(found) - number - 1
                )
                for unusable in found[number:]:
                    unusable.unlink(missing_ok=True)
                return
            self._next = number + 1
            yield arrived, reply

    def keep(self, reply: Reply, at: float) -> None:
        """Keep a reply as the next one.

        Args:
            reply: the reply.
            at: when it arrived, on the run's clock.
        """
        header, tensors = reply.to_tensors()
        park_message(self._file(self._next, reply), {"tensors": self._tensors, "at": at, "reply": header}, tensors)
        self._next += 1

    def drop_last(self, reply: Reply) -> None:
        """Forget the reply that came last: its client is to train again."""
        self._next -= 1
        with suppress(FileNotFoundError):
            self._file(self._next, reply).unlink()

    def settled(self) -> None:
        """Forget all replies: the merge's checkpoint is on disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, number: int, reply: Reply) -> Path:
        return self._place / f"{number:05d}-client-{reply.client}-part-{reply.round:04d}.safetensors"
