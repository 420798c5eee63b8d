"""Several processes that work on one client together: who they are, what they add up, what they tell each other.

A launcher such as torchrun starts R ranks, each with the variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. Sums of tensors go through NCCL between GPUs and through gloo else; bytes and JSON always through gloo.
Without a launcher there is one process, and every operation here is none.

A rank that fails leaves its reason in the group's store. Whoever then waits for it in vain raises that reason; a rank
that dies without a word is noticed by its closed connection, and torchrun ends the others. One rank tells people: the
first, or, where that one has died, whichever of the others takes its voice in the store.
"""

import json
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fedcmp.errors import UserError, WorkerDied, WorkerFailed, shortage

if TYPE_CHECKING:  # the command line asks who it is before it knows whether it needs torch
    import torch
    from torch import Tensor

STEP_TIMEOUT = timedelta(minutes=10)  # for one sum: a rank that is still reading its pictures is waited for so long
JOB_TIMEOUT = timedelta(days=30)  # for the next job: one rank divides or judges pairs for hours while the others wait
_REASON_SECONDS = 3.0  # how long a reason is waited for after a connection has closed
_VOICE_SECONDS = 5.0  # how long rank 0 is given to say why a run ends, before another rank does
_FAILURE, _VOICE = "failure", "voice"
_CONNECTED, _ALL_CONNECTED = "connected", "all connected"


class Group:
    """One process alone; the base of `ProcessGroup`.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> range:
        """This rank's consecutive share of `count` things; sizes differ by at most one, the shares cover all."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sums(self, tensors: "Sequence[Tensor]") -> "list[Tensor]":
        """The tensors' sums over all ranks, which bring tensors of the same shapes; the same bits on every rank."""
        return list(tensors)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value, in the ranks' order."""
        return [value]

    def tell(self, content: bytes | None) -> bytes:
        """Rank 0's bytes on every rank; the others give None, and wait for as long as it takes."""
        assert content is not None
        return content

    def failed(self, error: BaseException) -> None:
        """Leave word of why this rank ends."""

    def reason(self) -> Exception | None:
        """The failure that another rank left word of, if one did."""
        return None

    def speaks(self) -> bool:
        """Whether this is the rank that tells people why the run ends: the first, or another if that one is gone."""
        return True


ALONE = Group()


class ProcessGroup(Group):
    """The ranks that a launcher started; made by `joined`, by all of them at the same time."""

    def __init__(self) -> None:
        import torch
        from torch import distributed

        self._torch, self._distributed = torch, distributed
        store, self.rank, self.size = next(iter(distributed.rendezvous("env://")))  # type: ignore[attr-defined]  # not in __all__
        self._store = distributed.PrefixStore("fedcmp", store)  # type: ignore[attr-defined]  # likewise
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_device())
        distributed.init_process_group(
            backend, store=self._store, rank=self.rank, world_size=self.size, timeout=STEP_TIMEOUT
        )
        self._control = distributed.new_group(backend="gloo", timeout=JOB_TIMEOUT)
        self._meet()

    def sums(self, tensors: "Sequence[Tensor]") -> "list[Tensor]":
        """See `Group.sums`. Tensors of one type and device travel as one: a message costs more than its bytes here.

        Raises:
            UserError, WorkerFailed, WorkerDied: another rank failed.
        """
        out = list(tensors)
        for kind in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
            places = [i for i, tensor in enumerate(tensors) if (tensor.dtype, tensor.device) == kind]
            flat = self._torch.cat([tensors[i].detach().reshape(-1) for i in places])
            with self._others_may_fail():
                self._distributed.all_reduce(flat)
            for i, part in zip(places, flat.split([tensors[i].numel() for i in places]), strict=True):
                out[i] = part.view(tensors[i].shape)
        return out

    def gather(self, value: Any) -> list[Any]:
        """See `Group.gather`; a slow rank is waited for as long as it takes. Raises as `sums` does."""
        own = _as_tensor(json.dumps(value).encode())
        lengths = [self._torch.zeros(1, dtype=self._torch.int64) for _ in range(self.size)]
        with self._others_may_fail():
            self._distributed.all_gather(lengths, self._torch.tensor([len(own)]), group=self._control)
            longest = max(int(length) for length in lengths)
            padded = self._torch.zeros(longest, dtype=self._torch.uint8)
            padded[: len(own)] = own
            all_padded = [self._torch.zeros(longest, dtype=self._torch.uint8) for _ in range(self.size)]
            self._distributed.all_gather(all_padded, padded, group=self._control)
        found = zip(all_padded, lengths, strict=True)
        return [json.loads(content[: int(length)].numpy().tobytes()) for content, length in found]

    def tell(self, content: bytes | None) -> bytes:
        """See `Group.tell`. Raises as `sums` does."""
        length = self._torch.tensor([len(content or b"")])
        with self._others_may_fail():
            self._distributed.broadcast(length, src=0, group=self._control)
            told = self._torch.empty(int(length), dtype=self._torch.uint8) if content is None else _as_tensor(content)
            self._distributed.broadcast(told, src=0, group=self._control)
        return told.numpy().tobytes()

    def failed(self, error: BaseException) -> None:
        """See `Group.failed`: the first word stays, for later failures follow from it."""
        told = str(error) if isinstance(error, UserError) else shortage(error)
        text = told or "".join(traceback.format_exception(error))
        word = json.dumps({"rank": self.rank, "user": told is not None, "text": text})
        try:
            self._store.compare_set(_FAILURE, "", word)
        except RuntimeError:  # the store went with the launcher: nobody is left to be told
            return

    def reason(self) -> Exception | None:
        """See `Group.reason`."""
        try:
            if not self._store.check([_FAILURE]):
                return None
            word = json.loads(self._store.get(_FAILURE))
        except RuntimeError:
            return None
        if word["user"]:
            return UserError(word["text"])
        return WorkerFailed(f"rank {word['rank']} of {self.size} failed:\n{word['text']}")

    def speaks(self) -> bool:
        """See `Group.speaks`; rank 0 must be asked when it is going to tell, the others wait for that."""
        try:
            deadline = time.monotonic() + (_VOICE_SECONDS if self.rank else 0.0)
            while time.monotonic() < deadline:
                if self._store.check([_VOICE]):
                    return False
                time.sleep(0.05)
            return bool(self._store.compare_set(_VOICE, "", str(self.rank)) == str(self.rank).encode())
        except RuntimeError:  # the store has gone, with rank 0's machine or with the launcher
            return self.rank == 0

    def leave(self) -> None:
        """At the end, when no rank needs another any more."""
        self._distributed.destroy_process_group()

    def _meet(self) -> None:
        """Return when all ranks have connected: one that fails before that leaves the others to wait for it in vain."""
        if self._store.add(_CONNECTED, 1) == self.size:
            self._store.set(_ALL_CONNECTED, "")
        with self._others_may_fail():
            self._store.wait([_ALL_CONNECTED], STEP_TIMEOUT)

    @contextmanager
    def _others_may_fail(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            deadline = time.monotonic() + _REASON_SECONDS
            while (reason := self.reason()) is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if reason is not None:
                raise reason from error
            told = str(error).strip().splitlines()
            raise WorkerDied(
                f"rank {self.rank} of {self.size} lost the others: one of them died, or answered nothing for "
                f"{STEP_TIMEOUT.seconds // 60} minutes ({told[0] if told else type(error).__name__}); the run can be "
                "resumed with --resume"
            ) from error


def launched() -> tuple[int, int]:
    """(rank, size) as a launcher's variables say; (0, 1) without one."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def ranks_here() -> int:
    """How many of the launcher's ranks are on this machine; 1 without one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched()[1] > 1 else 1


def local_device() -> "torch.device":
    """The GPU of this rank."""
    import torch

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))


@contextmanager
def joined() -> Iterator[Group]:
    """The group that this process belongs to, for the length of the context; one process alone without a launcher.

    An exception is left as word for the others before it goes on its way.
    """
    if launched()[1] == 1:
        yield ALONE
        return
    group = ProcessGroup()
    try:
        yield group
    except BaseException as error:
        if isinstance(error, Exception):
            group.failed(error)
        if group.rank == 0:
            group.speaks()
        raise
    group.leave()


def _as_tensor(content: bytes) -> "Tensor":
    import torch

    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
