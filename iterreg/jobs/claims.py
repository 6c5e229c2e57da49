"""Which process works on which job, when several processes and hosts share a run folder.

A claim is a small numbered file, created exclusively. Its owner touches it while it lives; a claim
whose owner is gone is overruled by creating the next number, which only one process can do. A live
claim is never renamed or deleted by anyone but its owner, and whoever sees a rival after creating its own
steps back, so no two processes ever both believe they hold a job.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Claim", "is_claimed", "process_start", "take"]

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 180.0


class Claim:
    """A job held by this process until `release`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="claim-heartbeat")
        self._thread.start()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._path)

    def release(self, *, others: bool = True) -> None:
        """Give the job up: remove this claim and, unless told otherwise, the stale ones it overruled."""
        self._done.set()
        self._thread.join()
        number = _number(self._path)
        for path in sorted(self._path.parent.glob("claim-*"), key=_number):
            if path == self._path or (others and _number(path) < number):
                path.unlink(missing_ok=True)


def take(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> Claim | None:
    """Claim the job of `folder`, or return None while another live process holds it.

    The caller must look at the job's status again *after* it holds the claim: another process may have
    finished it in between.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        held = sorted(folder.glob("claim-*"), key=_number)
        if held and _is_live(held[-1], stale_seconds):
            return None
        path = folder / f"claim-{_number(held[-1]) + 1 if held else 1:04d}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue  # somebody was faster; look again
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "start": process_start(os.getpid())}
        with os.fdopen(descriptor, "w") as stream:
            json.dump(owner, stream)
        claim = Claim(path)
        rivals = [other for other in folder.glob("claim-*") if other != path]
        if any(_is_live(other, stale_seconds) for other in rivals):
            # An owner released its claim while two of us looked: whoever sees the other steps back.
            claim.release(others=False)
            return None
        return claim


def is_claimed(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether a live process holds the job of `folder`."""
    held = sorted(folder.glob("claim-*"), key=_number)
    return bool(held) and _is_live(held[-1], stale_seconds)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _is_live(path: Path, stale_seconds: float) -> bool:
    try:
        text = path.read_text()
        age = _server_now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return False  # just released
    try:
        owner = json.loads(text)
    except ValueError:
        owner = {}  # its owner is still writing it, or died doing so: its age decides
    if owner.get("host") == socket.gethostname():
        return owner.get("start") is not None and process_start(owner["pid"]) == owner["start"]
    return age < stale_seconds


def _server_now(folder: Path) -> float:
    """The file server's clock, which stamps the claims; hosts' own clocks may differ from it."""
    probe = folder / f".clock-{os.getpid()}-{threading.get_ident()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def process_start(pid: int) -> str | None:
    """When a process of this host started (clock ticks since boot), None when there is none.

    Together with the pid it names a process for good: pids are used again.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot}:{text.rpartition(')')[2].split()[19]}"
