"""The memory that a benchmark's own process has needed."""

import resource
import sys
from pathlib import Path


def high_water() -> float:
    """Return this process's largest resident size so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage would hand down the peak of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
