"""The limits of this process's control groups, in version 1 and 2 of the kernel's interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "memory_limits"]

_PROCESS = Path("/proc/self")
_NO_LIMIT = 2**60
"""Version 1 has no word for "none": it says a number near 2**63."""


def memory_limits(process: Path = _PROCESS) -> list[tuple[int, int]]:
    """Limit and use in bytes of every group that has a limit, the process's own and those around it.

    Cached file pages that are given back under pressure do not count as used.
    """
    found = []
    for folder, version in _groups("memory", process):
        limit_file, usage_file, cached = _MEMORY_FILES[version]
        try:
            text = (folder / limit_file).read_text().strip()
            if text == "max" or int(text) >= _NO_LIMIT:
                continue
            usage = int((folder / usage_file).read_text())
            for line in (folder / "memory.stat").read_text().splitlines():
                if line.startswith(f"{cached} "):
                    usage -= int(line.split()[1])
            found.append((int(text), max(usage, 0)))
        except (OSError, ValueError, IndexError):
            continue
    return found


def cpu_quota(process: Path = _PROCESS) -> float | None:
    """Cores' worth of time the process may use, None for no quota."""
    quotas = []
    for folder, version in _groups("cpu", process):
        try:
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota not in ("max", "-1"):
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas) if quotas else None


_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def _groups(controller: str, process: Path) -> Iterator[tuple[Path, int]]:
    """Folders of the process's groups of a controller, innermost first, with their version."""
    try:
        members = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.partition(" - ") for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for place, _, what in mounts:
        kind, _, options = [*what.split(), "", "", ""][:3]
        if kind == "cgroup2":
            version, joined = 2, [path for _, names, path in members if names == ""]
        elif kind == "cgroup" and controller in options.split(","):
            version, joined = 1, [path for _, names, path in members if controller in names.split(",")]
        else:
            continue
        root, mount = place.split()[3:5]
        top = Path(mount.replace("\\040", " "))
        for path in joined:
            # In a container the path may be the host's, of which only the container's part is mounted.
            inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else "/"
            folder = top / inside.lstrip("/")
            for group in (folder, *folder.parents):
                if group.is_relative_to(top) and ".." not in group.parts:
                    yield group, version
