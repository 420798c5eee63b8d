import errno

import pytest

from fedcmp.errors import UserError, counted, shortage


def test_one_is_not_several():
    assert [counted(number, "pair") for number in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        ImportError("libarrow.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_one_line(error):
    told = shortage(error)
    assert told.startswith("not enough GPU memory; " if "CUDA" in str(error) else "not enough memory; ")
    assert "\n" not in told


class SafetensorError(Exception):
    """Of a library that spells the system's error out."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: free some space"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/a\nb"), "/tmp/a\\nb: the disk is full: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up: "),
        (SafetensorError("Error: I/O error: No space left on device (os error 28)"), "the disk is full: "),
        (ValueError("[Errno 122] Error writing bytes to file. Detail: Disk quota exceeded"), "the disk quota is used"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files: "),
    ],
)
def test_a_full_disk_is_one_line(error, told):
    assert shortage(error).startswith(told)
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    assert shortage(outer).startswith(told)


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.ENOENT, "gone", "a"), UserError("out of memory")])
def test_any_other_error_is_none(error):
    assert shortage(error) is None
