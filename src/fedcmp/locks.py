"""Folders that one process fills at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fedcmp.errors import UserError


@contextmanager
def alone_in(folder: Path, cache: Path, otherwise: str) -> Iterator[None]:
    """Hold a folder, which need not exist yet; nothing is written there for it.

    Args:
        folder: what is to be filled.
        cache: the folder that keeps the locks, shared by all who may fill it.
        otherwise: what to tell people where another process holds it.

    Raises:
        UserError: another process holds it.
    """
    locks = cache / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(otherwise) from error
    try:
        yield
    finally:
        lock.release()
