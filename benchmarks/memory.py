"""The memory that a benchmark's own process has needed, and the processes that it started."""

import os
import resource
import sys
from pathlib import Path


def high_water(process: str = "self") -> float:
    """Return a process's largest resident size so far, in MiB: this one's, or (on Linux) that of another number."""
    status = Path(f"/proc/{process}/status")
    if status.exists():  # on Linux, getrusage would hand down the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peaks_of_children() -> list[float]:
    """Return the largest resident sizes of all processes that this one has started, and those they have split into."""
    found, waiting = [], [os.getpid()]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").iterdir():
            children = (task / "children").read_text().split()
            found += [high_water(child) for child in children]
            waiting += [int(child) for child in children]
    return found
