"""What this machine, or the share of it we were given, has: cores and memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from iterreg.jobs.cgroups import cpu_quota, memory_limits
from iterreg.jobs.schedulers import granted_cores, granted_memory

__all__ = [
    "available_cores",
    "available_memory",
    "children_of",
    "cpu_model",
    "cpu_seconds",
    "format_bytes",
    "is_stopped",
    "kernel_oom_kills",
    "process_start",
    "proportional_memory",
    "total_memory",
    "tree_usage",
]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def available_cores() -> int:
    """Cores this process may use: its affinity mask, cut down to its quota and its scheduler's grant."""
    limits = [len(os.sched_getaffinity(0))]
    if (quota := cpu_quota()) is not None:
        limits.append(int(quota))
    if (granted := granted_cores()) is not None:
        limits.append(granted)
    return max(1, min(limits))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself; on ARM, where it has numbers and no name, these."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        text = ""
    known: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        known.setdefault(key.strip().lower(), value.strip())
    named = known.get("model name") or known.get("cpu model") or known.get("cpu") or known.get("model")
    if named and not named.isdigit():
        return named
    numbers = ", ".join(f"{key} {known[key]}" for key in ("cpu implementer", "cpu part") if known.get(key))
    kind = platform.processor() or platform.machine()
    return f"{kind} ({numbers})" if numbers else kind


def available_memory() -> int:
    """Bytes that can be taken without swapping: the system's estimate, cut down to what this job may have."""
    available = _meminfo("MemAvailable")
    for limit, used in memory_limits():
        available = min(available, max(limit - used, 0))
    granted = granted_memory()
    return available if granted is None else min(available, granted)


def total_memory() -> int:
    """Bytes of the whole machine, cut down to what this job may have: no job can ever have more."""
    limits = [_meminfo("MemTotal"), *(limit for limit, _ in memory_limits())]
    if (granted := granted_memory()) is not None:
        limits.append(granted)
    return min(limits)


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
    for folder in _tree(pid):
        with suppress(OSError, IndexError, ValueError):
            memory += int((folder / "statm").read_text().split()[1]) * _PAGE
            threads += len(os.listdir(folder / "task"))  # noqa: PTH208
    return memory, threads


def proportional_memory(pid: int) -> int:
    """Bytes a process and its descendants really take: of a page that n processes share, the n-th part.

    Children of a warm engine share its pages, so the sum of their resident bytes says too much. The kernel
    walks through all pages for this (milliseconds a GiB): not to be asked all the time.
    """
    memory = 0
    for folder in _tree(pid):
        with suppress(OSError, IndexError, ValueError):
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    memory += int(line.split()[1]) * 1024
                    break
    return memory


def _tree(pid: int) -> Iterator[Path]:
    """The folders in /proc of a process and its descendants."""
    pending = [pid]
    while pending:
        process = pending.pop()
        yield Path(f"/proc/{process}")
        pending += children_of(process)


def process_start(pid: int) -> str | None:
    """When a process of this host started (clock ticks since boot), None when there is none or it has ended.

    Together with the pid it names a process for good: pids are used again.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP, Ctrl-Z)."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "T"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children it has waited for, also after its end."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields is not None else 0.0


def _stat(pid: int) -> list[str] | None:
    """What /proc says of a process, from its state on; None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


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
