"""Looking at processes from outside."""

import time
from pathlib import Path


def children(process):
    """Process ids of those that were split from a process."""
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def settled(condition, seconds=60):
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def alive(number):
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def threads(process):
    """Names of a process's threads, but the one that pyarrow's jemalloc unlocks after a split."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    return [name for name in names if name != "jemalloc_bg_thd"]
