"""Which process works on which job, when several processes and hosts share a run folder.

A claim is a small numbered file, created exclusively. Its owner touches it while it lives; a claim
whose owner is gone is overruled by creating the next number, which only one process can do. A live
claim is never renamed or deleted by anyone but its owner, and whoever sees a living rival after creating its
own withdraws it and looks again, so no two processes ever both believe they hold a job.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = ["Claim", "hold", "is_claimed", "place", "process_start", "take"]

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

    def release(self) -> None:
        """Give the job up: remove this claim and the stale ones it overruled."""
        self._done.set()
        self._thread.join()
        number = _number(self._path)
        for path in _claims(self._path.parent):
            if _number(path) <= number:
                with suppress(OSError):  # it dies with this process anyway
                    path.unlink()


def take(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> Claim | None:
    """Claim the job of `folder`, or return None while another live process holds it.

    The caller must look at the job's status again *after* it holds the claim: another process may have
    finished it in between.

    Raises
    ------
    OSError
        If the folder cannot be written; no claim is left behind then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        held = _claims(folder)
        if held and _is_live(held[-1], stale_seconds):
            return None
        path = folder / f"claim-{_number(held[-1]) + 1 if held else 1:04d}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue  # somebody was faster; look again
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump({"host": socket.gethostname(), **place(), **_owner()}, stream)
        except BaseException:  # on a full disk, say: an empty claim would look alive for a while
            path.unlink(missing_ok=True)
            raise
        rivals = [other for other in _claims(folder) if other != path]
        if not any(_is_live(other, stale_seconds) for other in rivals):
            return Claim(path)
        # An owner released its claim while two of us looked. Both withdraw, and the later one to look again
        # finds no rival.
        path.unlink(missing_ok=True)
        time.sleep(random.uniform(0.001, 0.02))


@contextmanager
def hold(folder: Path, *, wait_seconds: float = 60.0) -> Iterator[bool]:
    """Hold the claim of `folder` for the block: one process at a time.

    Yields
    ------
    Whether it could be had within `wait_seconds`.

    Raises
    ------
    OSError
        As `take`.
    """
    deadline = time.monotonic() + wait_seconds
    while (claim := take(folder)) is None and time.monotonic() < deadline:
        time.sleep(random.uniform(0.02, 0.1))
    try:
        yield claim is not None
    finally:
        if claim is not None:
            claim.release()


def is_claimed(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether a live process holds the job of `folder`."""
    held = _claims(folder)
    return bool(held) and _is_live(held[-1], stale_seconds)


def process_start(pid: int) -> str | None:
    """When a process of this host started (clock ticks since boot), None when there is none.

    Together with the pid it names a process for good: pids are used again.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


@cache
def place() -> dict[str, str]:
    """Where a pid means the same process: one boot of one kernel, and one container of it."""
    found = {}
    with suppress(OSError):
        found["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found["pids"] = str(Path("/proc/self/ns/pid").readlink())
    return found


def _owner() -> dict[str, int | str | None]:
    return {"pid": os.getpid(), "start": process_start(os.getpid())}


def _claims(folder: Path) -> list[Path]:
    """The claims of a folder, oldest first."""
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if re.fullmatch(r"claim-\d+", entry.name)]
        return sorted((folder / name for name in names), key=_number)
    return []


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
    if not isinstance(owner, dict):
        owner = {}
    here = place()
    if here and here.items() <= owner.items() and owner.get("start") is not None:
        return bool(process_start(owner["pid"]) == owner["start"])
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
        with suppress(OSError):
            probe.unlink(missing_ok=True)
