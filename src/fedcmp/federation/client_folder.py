"""What one client keeps on its own disk: its state after each of its last rounds, and the middle of a part.

    round-0003.safetensors   ClientState of round 3
    part.safetensors         PartState, where saves within a part are on

A client does not know whether the server will accept its reply, nor from which round a killed server resumes. So it
keeps the state that it began a round with and the one before that, and the server says with each assignment which one
to continue from.
"""

import json
import logging
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fedcmp.distributed import ALONE, Group
from fedcmp.errors import UserError
from fedcmp.wire.files import message_hash, read_message, write_message
from fedcmp.wire.messages import Assignment, ClientState
from fedcmp.wire.part_state import PartState

_LOG = logging.getLogger(__name__)


class ClientFolder:
    """One client's folder; made when there is something to keep.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, round_number: int) -> ClientState | None:
        """Return the state of a round; None for round 0, with which a client begins.

        Raises:
            UserError: the state is missing or damaged.
        """
        if round_number == 0:
            return None
        path = self._file(round_number)
        try:
            state = ClientState.from_tensors(*read_message(path))
            if state.round != round_number:
                raise ValueError(f"it is that of round {state.round}")
            return state
        except ValueError as error:
            raise UserError(
                f"{path}: the client's state of round {round_number} cannot be read ({error}); restore the file, or "
                "start the run again with --overwrite"
            ) from error

    def save(self, state: ClientState, *, continued: int) -> None:
        """Keep a state, and drop those that no server can ask for any more.

        Args:
            state: at the end of a round.
            continued: the round whose state that round began with.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_message(self._file(state.round), *state.to_tensors())
        before = [number for number in self._rounds() if number < continued]
        kept = {state.round, continued, *before[-1:]}
        for number in self._rounds():
            if number not in kept:
                self._file(number).unlink()

    def _file(self, round_number: int) -> Path:
        return self.path / f"round-{round_number:04d}.safetensors"

    def _rounds(self) -> list[int]:
        found = (re.fullmatch(r"round-(\d+)\.safetensors", path.name) for path in self.path.glob("round-*"))
        return sorted(int(match[1]) for match in found if match)


class PartFile:
    """The middle of a part on disk (client.training.PartStore): saved every so many seconds, dropped at the end.

    A cohort that is trained together has one such file, in its first client's folder; of several ranks each has its
    own.

    Args:
        folder: of the cohort's first client.
        seconds: between two saves.
        assignments: what is being done, client -> assignment.
        group: the ranks that train together.
    """

    def __init__(
        self, folder: Path, *, seconds: float, assignments: Sequence[tuple[int, Assignment]], group: Group = ALONE
    ) -> None:
        suffix = f"-rank-{group.rank}" if group.size > 1 else ""
        self._file = folder / f"part{suffix}.safetensors"
        self._seconds = seconds
        self._last = time.monotonic()
        self._work = _identity(assignments)

    @property
    def work(self) -> str:
        """A hash of the assignments with their tensors."""
        return self._work

    def load(self) -> PartState | None:
        """Return what was saved of these assignments; of others, or damaged, it counts for nothing."""
        if not self._file.exists():
            return None
        try:
            saved = PartState.from_tensors(*read_message(self._file))
        except ValueError as error:
            _LOG.warning("%s; the part is trained from its beginning", error)
            return None
        return saved if saved.work == self._work else None

    def due(self) -> bool:
        """Return whether the seconds are over."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: PartState) -> None:
        """Write the state; on disk when this returns."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_message(self._file, *state.to_tensors())
        self._last = time.monotonic()

    def done(self) -> None:
        """Drop it: the part is at its end."""
        with suppress(FileNotFoundError):
            self._file.unlink()


def _identity(assignments: Sequence[tuple[int, Assignment]]) -> str:
    headers = [(client, assignment.header()) for client, assignment in assignments]
    _, tensors = assignments[0][1].to_tensors()  # a cohort's clients begin with the same ones
    return message_hash(json.dumps(headers, sort_keys=True), tensors)
