"""Files that are written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from fedcmp.errors import UserError

TEMPORARY = ".tmp"  # ends the names of files that are not whole yet
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"/annex/objects/")


def is_pointer(start: bytes) -> bool:
    """Return whether a file that begins so is a git-lfs or git-annex pointer to the real one."""
    return start.startswith(_POINTERS)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file under a name of this process's own beside its place, then move it there.

    Args:
        path: the file's place, in an existing folder.
        content: all of it.
        durable: wait until it is on the disk; else it outlives this process, but perhaps no power failure.

    Raises:
        UserError: it cannot be written (the disk is full, the folder is missing or read-only).
    """
    new = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with new.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise cannot_be_written(path, error) from None
    finally:
        with suppress(OSError):  # gone already when all went well
            new.unlink()


def cannot_be_written(path: Path, error: OSError) -> UserError:
    """Return what to report where a file cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror}): check the disk's space and the folder's rights")
