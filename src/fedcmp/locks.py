"""Folders that one process fills at a time, and work that several processes share out among them.

A claim is a file with the system's lock on it; its content names who holds it:

    CLAIMS/NAME.claim    {"host": ..., "process": ..., "since": ...}, touched every BEAT seconds

The system frees the lock of a process that dies, so its claims are taken over at once. Some network disks keep locks to
one machine: there the beats say that a claim of another machine is alive, and it is taken over STALE seconds after the
last of them.
"""

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from fedcmp.errors import UserError

BEAT, STALE = 15.0, 90.0  # seconds
_CLAIM = ".claim"
_TURN_SECONDS = 0.05  # until a process that waits for its turn looks again


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
        raise _unlockable(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # before it is released: who waits for it makes a new one
            path.unlink()
        lock.release()
        with suppress(OSError):  # not empty: what was filled is there
            for above in made:
                above.rmdir()


class Claims:
    """What this process has claimed of the work that several processes share; use as a context manager.

    Threads may use one object side by side; two objects stand for two processes. Leaving it gives all claims back.

    Args:
        folder: where the claims of all these processes are; made when it is needed, gone when it is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}  # name -> the descriptor that holds the lock
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._beats: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self.folder.glob(f"*{_CLAIM}"):  # those that killed processes left
            with suppress(UserError):
                if self.take(path.stem):
                    self.release(path.stem)
        self._ended.set()
        if self._beats is not None:
            self._beats.join()
        for name in list(self._held):
            self.release(name)
        with suppress(OSError):  # another process has claims there
            self.folder.rmdir()

    def take(self, name: str) -> bool:
        """Claim a piece of work.

        What a process did before it let go can be seen once this has returned True: look whether the work is done.

        Args:
            name: of the work, the same in all processes; "/" may stand in it.

        Returns:
            Whether it is this process's now; False where one holds it, be it this one.

        Raises:
            UserError: the claim cannot be written or locked.
        """
        path = self._path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another process has just removed the empty folder
            return False
        except OSError as error:
            raise _unlockable(path, error) from error
        try:
            taken = self._take(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _unlockable(path, error) from error
        if not taken:
            os.close(descriptor)
            return False
        with self._changing:
            self._held[name] = descriptor
            if self._beats is None:
                self._beats = threading.Thread(target=self._beat, daemon=True)
                self._beats.start()
        return True

    def release(self, name: str) -> None:
        """Give a claim back; what was done under it must be on the disk by now."""
        with self._changing:
            descriptor = self._held.pop(name)
            with suppress(OSError):  # before the lock is free: who takes it next makes a new file
                self._path(name).unlink()
            os.close(descriptor)

    def holder(self, name: str) -> str:
        """Say who holds a claim, "" where that cannot be told."""
        try:
            told = _told(self._path(name).read_bytes())
        except OSError:  # given back meanwhile
            return ""
        return f"{told['host']}, process {told['process']}" if {"host", "process"} <= told.keys() else ""

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Claim a piece of work that takes moments, waiting until it is free."""
        while not self.take(name):
            time.sleep(_TURN_SECONDS)
        try:
            yield
        finally:
            self.release(name)

    def _take(self, descriptor: int) -> bool:
        """Lock the file unless its lock is held, or its beats say that another machine's process is alive."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        found = os.fstat(descriptor)
        if found.st_nlink == 0:  # given back between the two calls: the next one makes a new file
            return False
        here = socket.gethostname()
        elsewhere = _told(os.pread(descriptor, 4096, 0)).get("host", here) != here
        if elsewhere and self._clock() - found.st_mtime < STALE:
            return False
        own = {"host": here, "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(own).encode(), 0)
        os.fsync(descriptor)
        return True

    def _clock(self) -> float:
        """Return the disk's time, which is not this machine's."""
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(b"0")
            file.flush()
            return os.fstat(file.fileno()).st_mtime

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with self._changing:
                for descriptor in self._held.values():
                    with suppress(OSError):  # the disk is away: the lock still holds
                        os.utime(descriptor)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '+')}{_CLAIM}"


def _told(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except ValueError:  # its process was killed before it had written it
        return {}
    return told if isinstance(told, dict) else {}


def _unlockable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be locked ({error}); check the folder's rights, and that its disk allows locks")
