"""A disk that can be filled to its last byte and freed again: a small tmpfs of a schedule's own."""

import errno
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

_BYTES, _FILES, _PIECE = 2**26, 4000, 2**16


class Disk:
    """A small file system, mounted over a folder.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / ".ballast"
        options = f"size={_BYTES},nr_inodes={_FILES},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "fedcmp-faults", str(folder)], check=True)

    def fill(self) -> None:
        """Leave no free byte, and no room for another file or folder."""
        self._ballast.mkdir()
        try:
            for number in range(_FILES):
                (self._ballast / str(number)).touch()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        with (self._ballast / "0").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(_PIECE))

    def free(self) -> None:
        """Give the room back."""
        with suppress(FileNotFoundError):
            for path in self._ballast.iterdir():
                path.unlink()
            self._ballast.rmdir()

    def remove(self) -> None:
        """Unmount it, whoever still has a file open there."""
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)


@cache
def can_be_mounted(folder: Path) -> bool:
    """Return whether this user may mount a file system."""
    folder.mkdir(exist_ok=True)
    try:
        Disk(folder).remove()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
