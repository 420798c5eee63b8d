"""What the machine has: memory (within a container's limits), GPU memory, free disk. The one place that asks it."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from fedcmp.errors import counted

_CGROUP = Path("/sys/fs/cgroup")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_NO_LIMIT = 2**60  # version 1 of cgroups writes an absurd number for "none"


@dataclass(frozen=True)
class Machine:
    """Bytes that are there to be used; None where the system does not say.

    Attributes:
        memory: of the host, for this process and its workers.
        gpu: of the device that the recipe names; None on a CPU.
        cache_disk: free where features are kept.
        run_disk: free where runs are kept.
    """

    memory: int | None
    gpu: int | None
    cache_disk: int | None
    run_disk: int | None


def read_machine(device: torch.device, cache: Path, runs: Path) -> Machine:
    """Ask the machine.

    Args:
        device: that the frozen parts will be on.
        cache: folder of the caches; need not exist yet.
        runs: folder of the runs; need not exist yet.
    """
    gpu = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    return Machine(available_memory(), gpu, free_disk(cache), free_disk(runs))


def available_memory(
    *, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the memory that new processes can have without swapping, in bytes: in a container or a job less.

    Args:
        meminfo: Linux's file.
        cgroup: where control groups (version 2 or 1) are mounted.
        own: says in which group this process is; groups above it, the container's at the top, limit it too.
    """
    groups = [_from_cgroup(folder, limits) for folder, limits in _groups(cgroup, own)]
    known = [value for value in (_from_meminfo(meminfo), *groups) if value is not None]
    return min(known) if known else None


def free_disk(folder: Path) -> int | None:
    """Return the free bytes of the disk that a folder is on, or would be on."""
    place = folder.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _from_meminfo(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(mount: Path, own: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    """Return the folders of this process's control group and of those above it, with the names of a version's files."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    out = []
    for folder, controller, names in ((mount, "", _VERSION_2), (mount / "memory", "memory", _VERSION_1)):
        inside = next((parts[2] for parts in lines if len(parts) == 3 and controller in parts[1].split(",")), "/")
        place = folder / inside.strip("/")
        out += [(above, names) for above in (place, *place.parents) if above.is_relative_to(folder)]
    return out


def _from_cgroup(folder: Path, names: tuple[str, str, str]) -> int | None:
    """Return the limit minus the use; the page cache of files counts as use there, but gives way."""
    limit, used, cache = names
    try:
        most = (folder / limit).read_text().strip()
        if most == "max" or int(most) >= _NO_LIMIT:
            return None
        now = int((folder / used).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, int(most) - now + int(statistics.get(cache, 0)))
    except (OSError, ValueError):  # not mounted, or another version
        return None


def describe_machine() -> str:
    """Describe this machine for people: system, cores that this process may use, memory, GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _total_memory()
    parts = [f"{platform.system()} {platform.machine()}", counted(cores, "core")]
    parts += [f"{memory / 1e9:.0f} GB of memory"] if memory is not None else []
    parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join(parts)


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not every system says
        return None
