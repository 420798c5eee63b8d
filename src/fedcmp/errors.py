"""What the command line reports in one line: the user's mistakes (exit code 2), failed workers (exit code 1)."""

import errno
import re
from collections.abc import Iterator

from fedcmp.terminal import shortened, shown

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the disk takes no file of that size",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk failed",
}
_FILES = (errno.EMFILE, errno.ENFILE)
_NO_MEMORY = re.compile(
    r"out of memory|can.t allocate|cannot allocate memory|bad_alloc|malloc of size|failed to map segment", re.I
)
_ERRNO = re.compile(r"os error (\d+)|\[Errno (\d+)\]")  # as safetensors and pyarrow pass the system's errors on


class UserError(Exception):
    """Something the user can fix: a recipe key, a file, a folder, an option.

    The message is one line: the place, what is wrong there, and how to fix it. Whatever a file name or an id brings
    into it is spelled out, and of a very long line the middle is left out (terminal.py).
    """

    def __init__(self, message: str) -> None:
        super().__init__(shortened(shown(message)))


class MethodFailed(UserError):  # noqa: N818 - says what happened
    """What a method trained is of no use: it is not finite, or the server's rule refuses it.

    Args:
        method: which one.
        message: the line.
    """

    def __init__(self, method: str, message: str) -> None:
        super().__init__(message)
        self.method = method


class WorkerDied(RuntimeError):  # noqa: N818 - says what happened
    """A worker process ended in the middle of a job."""


class WorkerFailed(RuntimeError):  # noqa: N818 - says what happened
    """A job raised what is no user's mistake; the message is the worker's traceback."""


def counted(number: int, what: str) -> str:
    """Return "1 pair", "2 pairs": a number with what is counted, for messages."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def shortage(error: BaseException) -> str | None:
    """Return what the machine ran out of, in one line: memory, disk space, open files.

    Args:
        error: raised anywhere, or raised from such an error.

    Returns:
        What is short and what to do; None for any other error.
    """
    for one in _chain(error):
        if isinstance(one, UserError):
            return None  # says so itself
        text = str(one)
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError" or _is_no_memory(one, text):
            place = "GPU memory" if "CUDA" in text else "memory"
            return (
                f"not enough {place}; what is finished is kept. A run needs less with run.workers = 1 or a smaller "
                "training.micro_batch (`fedcmp train RECIPE --plan` estimates how much); else take a machine with more"
            )
        number = _number(one, text)
        if number in _DISK:
            where = f"{one.filename}: " if isinstance(one, OSError) and one.filename is not None else ""
            return shown(
                f"{where}{_DISK[number]}: free some space, or set run.folder and run.cache to folders on another disk; "
                "what is finished is kept"
            )
        if number in _FILES:
            return "too many open files: raise the limit (ulimit -n), or give fewer files at a time"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    one: BaseException | None = error
    for _ in range(16):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _is_no_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # torch's allocator on a CPU raises a plain RuntimeError, pyarrow an error of its own
    return isinstance(error, RuntimeError | OSError | ValueError | ImportError) and _NO_MEMORY.search(text) is not None


def _number(error: BaseException, text: str) -> int | None:
    """Return the system's number of an error, which some libraries only spell out."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _ERRNO.search(text)
    return int(found[1] or found[2]) if found else None
