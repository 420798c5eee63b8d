"""What bytes the images hold: a digest of each, over all of it, so that another image under an old name is noticed.

    FOLDER/contents/NAME.safetensors    files (F, 5): device, inode, size, mtime, ctime (ns); digests (N, 16)

Reading everything again for every run would take as long as copying it. A file is known again, and not read, only where
all five are what they were when it was read. A program cannot set a ctime: whoever writes into a file, puts another one
of its size in its place, or sets its mtime back, changes it. A file that was changed less than two seconds before it
was read is read again the next time, since a file system's clock may not tell two changes apart. A damaged table, or
one of other files, is no table.

Shapes: F files, N images, a file's images one after another.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcmp.data.checked import read_checked, write_checked
from fedcmp.data.quality import BadPair, logger
from fedcmp.errors import UserError

CONTENTS = "contents"  # a folder in the cache
DIGEST_BYTES = 16
UNREADABLE = bytes(DIGEST_BYTES)  # stands for an image that cannot be read
YOUNG = 2 * 10**9  # ns
_THREADS = 8  # file systems answer late rather than slowly
_PIECE = 256  # files between two calls of progress

Progress = Callable[[int, int], object]
Digests = NDArray[np.uint8]


def table_path(folder: Path | None, *parts: object) -> Path | None:
    """Return where a source's table is kept; its name says what the source is and where; None without a folder."""
    if folder is None:
        return None
    told = " ".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return folder / f"{hashlib.sha256(told).hexdigest()[:32]}.safetensors"


def user_cache_folder() -> Path:
    """Return where things are kept that belong to no recipe: $FEDCMP_CACHE or the user's cache folder."""
    if os.environ.get("FEDCMP_CACHE"):
        return Path(os.environ["FEDCMP_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fedcmp"


def digest_of(data: bytes) -> bytes:
    """Return 16 bytes of BLAKE2 over an image's file."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_or_none(read: Callable[[], bytes]) -> bytes:
    """Return the digest of what `read` gives, UNREADABLE where it raises BadPair."""
    try:
        return digest_of(read())
    except BadPair:
        return UNREADABLE


def is_changed(digests: Digests | None, index: int, data: bytes) -> bool:
    """Return whether an image's bytes are others than when the digests were made, as far as they go."""
    return digests is not None and index < len(digests) and digest_of(data) != digests[index].tobytes()


def content_digests(
    table: Path | None,
    file_of: Callable[[int], Path | None],
    counts: Sequence[int] | NDArray[np.int64],
    digest: Callable[[int], bytes],
    progress: Progress | None = None,
) -> Digests:
    """Return the digests of all images, of those in unchanged files from the table.

    Args:
        table: where they are kept; None keeps nothing.
        file_of: the path of a file by its number, None where there is none.
        counts: (F,) images of each file.
        digest: the digest of an image by its number, or UNREADABLE; several threads call it.
        progress: called with how many files are known, and of how many, where some had to be read.

    Returns:
        (N, 16).
    """
    starts = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])
    files = len(starts) - 1
    begun = time.time_ns()
    identities = np.array([file_identity(file_of(number)) for number in range(files)], np.int64).reshape(files, 5)
    digests = np.zeros((int(starts[-1]), DIGEST_BYTES), np.uint8)
    known = np.zeros(files, bool)
    kept = None if table is None else read_checked(table)
    if kept is not None and kept["files"].shape == identities.shape and kept["digests"].shape == digests.shape:
        known = (kept["files"] == identities).all(1) & (identities != 0).any(1)
        digests = np.array(kept["digests"])
    unknown = np.flatnonzero(~known)

    def read(number: int) -> None:
        for image in range(int(starts[number]), int(starts[number + 1])):
            digests[image] = np.frombuffer(digest(image), np.uint8)

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(unknown), _PIECE):
            list(pool.map(read, unknown[start : start + _PIECE].tolist()))
            if progress is not None:
                progress(files - len(unknown) + min(start + _PIECE, len(unknown)), files)
    if table is not None and len(unknown):
        identities[identities[:, 3:].max(1, initial=0) > begun - YOUNG] = 0
        _keep(table, identities, digests)
    return digests


def file_identity(path: Path | None) -> tuple[int, int, int, int, int]:
    """Return what tells a file from another one, and from itself before a change; zeros where there is none."""
    try:
        status = None if path is None else path.stat()
    except (OSError, ValueError):
        status = None
    if status is None:
        return 0, 0, 0, 0, 0
    wrapped = (status.st_ino + 2**63) % 2**64 - 2**63  # some file systems number beyond int64
    return status.st_dev % 2**63, wrapped, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _keep(table: Path, identities: NDArray[np.int64], digests: Digests) -> None:
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        write_checked(table, {"files": identities, "digests": digests})
    except (OSError, UserError) as error:  # the images are then read again the next time
        logger.warning("%s: cannot be kept (%s)", table, error)
