"""Feed inputs of one kind to what reads them, and judge how each ends.

    accepted   it was read, and what was read holds together
    refused    one line: UserError, BadPair, or ValueError where that is what the reader promises
    fault      anything else: another exception, several lines, too long, too much memory

Shared by all kinds. Each input follows from the seed, the kind's name and its number alone.
"""

import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError

SECONDS = 10.0  # for one input
MEMORY = 3 * 2**30  # bytes by which one input may raise the most that was ever used; a kind may have less, as `memory`
_ROOM = 8 * 2**30  # addresses beyond those in use before: keeps a fault from ending the machine
_LONGEST = 2500  # characters of a line


class Kind(Protocol):
    """One kind of input."""

    name: str
    refusals: tuple[type[Exception], ...]  # besides UserError and BadPair

    def make(self, draw: random.Random) -> bytes:
        """Return one input: valid, then damaged."""
        ...

    def feed(self, data: bytes) -> bool:
        """Give an input to what reads it; return whether it was accepted, or raise its refusal."""
        ...


class Fault(AssertionError):  # noqa: N818 - says what happened
    """What was accepted does not hold together."""


class TooLong(BaseException):
    """An input took longer than SECONDS; no `except Exception` of the package may take it for one of its own."""


@dataclass
class Figures:
    """What became of the inputs of one kind.

    Attributes:
        kind: its name.
        accepted: inputs that were read.
        refused: inputs that were refused in one line.
        seconds: for all of them.
        slowest: seconds that the slowest took of a core.
        memory: bytes by which all of them together raised the most that was ever used.
        faults: number of the input, and what happened.
    """

    kind: str
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many inputs there were."""
        return self.accepted + self.refused + len(self.faults)


def run_kind(
    kind: Kind, *, seed: int, numbers: range, keep: Path | None, say: Callable[[str], None] = lambda _: None
) -> Figures:
    """Feed inputs of one kind.

    Args:
        kind: what is fed, and to whom.
        seed: of all inputs.
        numbers: which inputs.
        keep: a folder for the inputs that led to faults; made when there is one.
        say: receives a line per fault.
    """
    figures, begun, before = Figures(kind.name), time.monotonic(), _most_memory()
    with _bounded_memory():
        for number in numbers:
            data = kind.make(random.Random(f"{seed} {kind.name} {number}"))
            fault = _fed(kind, data, figures)
            if fault:
                figures.faults.append((number, fault))
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{kind.name}-{seed}-{number}").write_bytes(data)
                again = f"python -m tools.fuzz --kind {kind.name} --seed {seed} --first {number} --count 1"
                say(f"{again}\n{fault}")
    figures.seconds, figures.memory = time.monotonic() - begun, _most_memory() - before
    return figures


def _fed(kind: Kind, data: bytes, figures: Figures) -> str:
    """Count one input; what happened where it is a fault."""
    before, begun = _most_memory(), time.process_time()
    memory: int = getattr(kind, "memory", MEMORY)
    refusals: tuple[type[Exception], ...] = (UserError, BadPair, *kind.refusals)
    try:
        with _bounded_time():
            accepted = kind.feed(data)
        problem = ""
    except Fault:
        return traceback.format_exc()
    except refusals as error:
        accepted, problem = False, not_one_line(str(error))
    except TooLong:
        return f"took longer than {SECONDS:g} s"
    except Exception:
        return traceback.format_exc()
    figures.slowest = max(figures.slowest, time.process_time() - begun)
    if _most_memory() - before > memory:
        problem = f"took {(_most_memory() - before) / 2**30:.1f} GiB of memory"
    if not problem:
        figures.accepted += accepted
        figures.refused += not accepted
    return problem


def not_one_line(message: str) -> str:
    """Return what is wrong with a message that should be one plain line; "" if nothing is."""
    if not message.strip():
        return "refused without a word"
    if len(message) > _LONGEST:
        return f"a line of {len(message):,} characters: {message[:200]!r}"
    if "\n" in message or "\x1b" in message or "\r" in message:
        return f"more than one line, or control characters: {message[:200]!r}"
    return ""


@contextmanager
def _bounded_time() -> Iterator[None]:
    def over(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    handler = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
