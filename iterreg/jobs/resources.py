"""What this machine, or the share of it we were given, has: cores and memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = [
    "available_cores",
    "available_memory",
    "children_of",
    "format_bytes",
    "kernel_oom_kills",
    "total_memory",
    "tree_usage",
]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def available_cores() -> int:
    """Cores this process may use: its affinity mask, cut down to a container's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def available_memory() -> int:
    """Bytes that can be taken without swapping: the system's estimate, cut down to the cgroup's limit."""
    available = _meminfo("MemAvailable")
    for limit, used in _cgroup_memory():
        available = min(available, max(limit - used, 0))
    return available


def total_memory() -> int:
    """Bytes of the whole machine, cut down to the cgroup's limit: no job can ever have more."""
    total = _meminfo("MemTotal")
    return min([total, *(limit for limit, _ in _cgroup_memory())])


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for memory so far (a counter to compare)."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def tree_usage(pid: int) -> tuple[int, int]:
    """Resident bytes and number of threads of a process and its descendants; zeros when it is gone."""
    memory = threads = 0
    pending = [pid]
    while pending:
        process = pending.pop()
        folder = Path(f"/proc/{process}")
        try:
            memory += int((folder / "statm").read_text().split()[1]) * _PAGE
            threads += len(list((folder / "task").iterdir()))
        except (OSError, IndexError, ValueError):
            continue
        pending += children_of(process)
    return memory, threads


def children_of(pid: int) -> list[int]:
    """Children of a process, of whichever of its threads; none when it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError):
                found += map(int, (task / "children").read_text().split())
    return found


def format_bytes(count: float) -> str:
    """``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _cgroup_folders() -> list[Path]:
    """This process's cgroup (version 2) and its parents, innermost first."""
    root = Path("/sys/fs/cgroup")
    try:
        line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    except (OSError, StopIteration):
        return []
    folder = root / line[3:].strip().lstrip("/")
    return [folder, *[parent for parent in folder.parents if root in (parent, *parent.parents)]]


def _cgroup_memory() -> list[tuple[int, int]]:
    found = []
    for folder in _cgroup_folders():
        try:
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                usage = int((folder / "memory.current").read_text())
                # Cached file pages count as used but are given back under pressure.
                for line in (folder / "memory.stat").read_text().splitlines():
                    if line.startswith("inactive_file "):
                        usage -= int(line.split()[1])
                found.append((int(limit), max(usage, 0)))
        except (OSError, ValueError):
            continue
    return found


def _cgroup_cpu_quota() -> float | None:
    quotas = []
    for folder in _cgroup_folders():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return min(quotas) if quotas else None
