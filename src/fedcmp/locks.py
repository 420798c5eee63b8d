"""Folders that one process fills at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fedcmp.errors import UserError


@contextmanager
def alone_in(folder: Path, otherwise: str) -> Iterator[None]:
    """Hold a folder, which need not exist yet; nothing is written there for it.

    The lock is a hidden file next to the folder, whatever other settings those who may fill it have; it is gone
    afterwards, as are the folders above it that were made for it and stayed empty. The system frees the lock of a
    process that dies; the file that it leaves behind holds nobody up.

    Args:
        folder: what is to be filled.
        otherwise: what to report where another process holds it.

    Raises:
        UserError: another process holds it, or the lock cannot be made.
    """
    place = folder.resolve()
    path = place.with_name(f".{place.name}.lock")
    made = [above for above in path.parents if not above.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(otherwise) from error
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"{path}: cannot be locked ({error}); check the folder's rights, and that its disk allows locks"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # before it is released: who waits for it makes a new one
            path.unlink()
        lock.release()
        with suppress(OSError):  # not empty: what was filled is there
            for above in made:
                above.rmdir()
