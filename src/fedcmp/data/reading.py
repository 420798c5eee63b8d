"""Bytes at an offset of a file, from any thread and any process."""

import os
import stat
from collections import OrderedDict
from pathlib import Path

from fedcmp.data.quality import BadPair

MAX_FILE_BYTES = 512 * 2**20  # no picture is larger; keeps a stray archive or disk image out of memory
KEEP_OPEN = 16


class _OpenFile:
    """A file descriptor that closes when its last user lets go of it."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class RandomReader:
    """Reads pieces of files and keeps the last few that it opened open.

    Reads never move a shared file position, so threads and forked workers may use one reader; a pickled copy opens
    the files anew.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`.

        Raises:
            BadPair: "missing" or "unreadable"; "truncated" if the file ends before; "too large" past MAX_FILE_BYTES.
        """
        if size > MAX_FILE_BYTES:
            raise BadPair("too large", f"{size:,} bytes")
        try:
            file = self._open.get(path) or self._opened(path)
            data = os.pread(file.descriptor, size, offset)
            while len(data) < size and (more := os.pread(file.descriptor, size - len(data), offset + len(data))):
                data += more
        except FileNotFoundError:
            raise BadPair("missing", str(path)) from None
        except OSError as error:
            raise BadPair("unreadable", f"{path}: {error.strerror}") from None
        if len(data) < size:
            raise BadPair("truncated", f"{path} ends before byte {offset + size:,}")
        return data

    def _opened(self, path: Path) -> _OpenFile:
        file = self._open[path] = _OpenFile(path)
        while len(self._open) > KEEP_OPEN:
            self._open.popitem(last=False)  # a thread that is reading from it still holds it open
        return file

    def __getstate__(self) -> dict[str, OrderedDict[Path, _OpenFile]]:
        return {"_open": OrderedDict()}


def read_whole(path: Path) -> bytes:
    """Read a picture's file.

    Raises:
        BadPair: "missing", "unreadable", "not a file" (a folder, a device, a pipe) or "too large".
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise BadPair("missing", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise BadPair("unreadable", f"{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadPair("not a file", str(path))
        if status.st_size > MAX_FILE_BYTES:
            raise BadPair("too large", f"{path}: {status.st_size:,} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise BadPair("unreadable", f"{path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
