"""Keys and certificates on disk: private from their first byte, whole or not at all, never written over."""

import errno
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.files import TEMPORARY, cannot_be_written


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may look into; one that is there is left as it is.

    Raises:
        UserError: it cannot be made, or a file is in its way.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{folder}: is a file; name a folder") from None
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return folder


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that is not there yet.

    Args:
        path: its place, in an existing folder.
        content: all of it.
        mode: its rights, 0o600 for what is secret; it never has wider ones, not even while it is written.

    Raises:
        UserError: it is there already, or cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _move_to_free(new, path)
    except FileExistsError:
        raise UserError(f"{path}: is there already and is not written over") from None
    except OSError as error:
        raise cannot_be_written(path, error) from None
    finally:
        with suppress(OSError):
            new.unlink()


def _move_to_free(new: Path, path: Path) -> None:
    try:
        os.link(new, path)  # unlike a move, this fails where something is already
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():  # a disk without hard links
            raise FileExistsError(path) from None
        new.rename(path)


def set_aside(path: Path) -> Path | None:
    """Move a file out of the way, to a name with the time.

    Returns:
        Where it is now; None if there was none.

    Raises:
        UserError: it cannot be moved.
    """
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.until-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    try:
        path.rename(aside)
    except OSError as error:
        raise cannot_be_written(path, error) from None
    return aside


def check_private(path: Path) -> None:
    """Refuse a secret that others can read.

    Raises:
        UserError: says how to change its rights.
    """
    rights = stat.S_IMODE(path.stat().st_mode)
    if rights & 0o077:
        raise UserError(f"{path}: others can read this private key (mode {rights:04o}): chmod 600 {path}")
