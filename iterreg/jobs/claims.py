"""Which process works on which job, when several processes and hosts share a run folder.

A claim is a small numbered file, created exclusively. Its owner touches it while it lives; a claim
whose owner is gone is overruled by creating the next number, which only one process can do. A live
claim is never renamed or deleted by anyone but its owner, and whoever sees a living rival after creating its
own withdraws it and looks again, so no two processes ever both believe they hold a job.

An owner that was suspended is overruled like one that died, and may wake up later. So what it puts in place
must be fenced: every claim has a name that no other ever has (`Claim.name`), its owner works in a folder of
that name, and whoever overrules it takes this folder away before anything else.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import secrets
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from iterreg.jobs.resources import is_stopped, process_start

__all__ = ["Claim", "OverruledError", "hold", "is_claimed", "place", "take"]

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 180.0
_LONGEST = 4096
"""Bytes of a claim that are read: no claim has so many."""


class OverruledError(Exception):
    """A claim was taken over by another process while its owner was suspended."""


class Claim:
    """A job held by this process until `release`.

    Attributes
    ----------
    name
        Number and a random part: no other claim, earlier or later, has the same.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._path = path
        self._token = token
        self.name = f"{_number(path):04d}-{token}"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="claim-heartbeat")
        self._thread.start()

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Move results into their places in the block, out of a folder that bears the claim's name.

        Raises
        ------
        OverruledError
            If another process has taken the job over, before the block or in it.
        """
        self._check()
        try:
            yield
        except FileNotFoundError:  # the folder was taken away
            self._check()
            raise

    def _check(self) -> None:
        owner = _owner_of(self._path)
        later = [path for path in _claims(self._path.parent) if _number(path) > _number(self._path)]
        if owner is None or owner.get("token") != self._token or later:
            raise OverruledError(
                "this process was suspended for so long that another one has taken the job over"
            )

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Give the job up: remove this claim and the stale ones it overruled."""
        self._done.set()
        self._thread.join()
        owner = _owner_of(self._path)
        if owner is None or owner.get("token") != self._token:
            return  # overruled; what bears its number now is another's
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
            _date(held[-1])
            return None
        path = folder / f"claim-{_highest(folder) + 1:04d}"
        token = secrets.token_hex(4)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue  # somebody was faster; look again
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump({"host": socket.gethostname(), **place(), **_owner(), "token": token}, stream)
        except BaseException:  # on a full disk, say: an empty claim would look alive for a while
            path.unlink(missing_ok=True)
            raise
        rivals = [other for other in _claims(folder) if other != path]
        if not any(_is_live(other, stale_seconds) for other in rivals):
            return Claim(path, token)
        # An owner released its claim while two of us looked. Both withdraw, and the later one to look again
        # finds no rival.
        path.unlink(missing_ok=True)
        time.sleep(random.uniform(0.001, 0.02))


@contextmanager
def hold(folder: Path, *, wait_seconds: float = 60.0) -> Iterator[None]:
    """Hold the claim of `folder` for the block: one process at a time.

    Raises
    ------
    TimeoutError
        If another process did not let go within `wait_seconds`; its text names the holder.
    OSError
        As `take`.
    """
    deadline = time.monotonic() + wait_seconds
    while (claim := take(folder)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"has been held by {_holder(folder)}", str(folder))
        time.sleep(random.uniform(0.02, 0.1))
    try:
        yield
    finally:
        claim.release()


def is_claimed(folder: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether a live process holds the job of `folder`."""
    held = _claims(folder)
    return bool(held) and _is_live(held[-1], stale_seconds)


@cache
def place() -> dict[str, str]:
    """Where a pid means the same process: one boot of one kernel, and one container of it.

    Empty where the system does not tell: then no two places are the same.
    """
    with suppress(OSError):
        return {
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "pids": str(Path("/proc/self/ns/pid").readlink()),
        }
    return {}


def _owner() -> dict[str, int | str | None]:
    return {"pid": os.getpid(), "start": process_start(os.getpid())}


_NAME = re.compile(r"claim-(\d{1,18})", re.ASCII)


def _claims(folder: Path) -> list[Path]:
    """The claims of a folder, oldest first; whatever else lies there is none."""
    with suppress(OSError), os.scandir(folder) as entries:
        names = [
            entry.name for entry in entries if _NAME.fullmatch(entry.name) and _is_plain(Path(entry.path))
        ]
        return sorted((folder / name for name in names), key=_number)
    return []


def _is_plain(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _highest(folder: Path) -> int:
    """The highest number that is taken, by a claim or by something that is called like one."""
    found = [match for name in os.listdir(folder) if (match := _NAME.fullmatch(name))]  # noqa: PTH208
    return max((int(match[1]) for match in found), default=0)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _owner_of(path: Path) -> dict[str, Any] | None:
    """What a claim says of its owner, None when it is gone; empty while it is written, or by rubbish."""
    try:
        with path.open("rb") as stream:
            owner = json.loads(stream.read(_LONGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _holder(folder: Path) -> str:
    held = _claims(folder)
    owner = (_owner_of(held[-1]) if held else None) or {}
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _is_live(path: Path, stale_seconds: float) -> bool:
    owner = _owner_of(path)
    if owner is None:
        return False  # just released
    pid, start = owner.get("pid"), owner.get("start")
    here = place()
    if here and here.items() <= owner.items() and isinstance(pid, int) and start is not None:
        if process_start(pid) != start:
            return False
        if not is_stopped(pid):
            return True
        # It is stopped, and may stay so for ever: its heartbeat tells for how long.
    # Otherwise it is elsewhere, or still being written, or its writer died doing so: its age decides.
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        return False
    age = _server_now(path.parent) - stamp / 1e9
    if age < 0:
        age = _unchanged_seconds(path, stamp)
    return age < stale_seconds


_seen: dict[Path, tuple[int, float]] = {}
"""Claims of the future: their stamp, and since when this process has seen it so."""


def _unchanged_seconds(path: Path, stamp: int) -> float:
    """For how long this process has seen a claim with this stamp.

    A claim of the future (a clock was set back) has no age, but its owner's heartbeat would change it.
    """
    now = time.monotonic()
    before, since = _seen.setdefault(path, (stamp, now))
    if before != stamp:
        _seen[path] = (stamp, now)
        return 0.0
    return now - since


def _date(path: Path) -> None:
    """Give another's claim of the future today's date, so that its age counts for all who look at it.

    Its owner, if it lives, does the same with every heartbeat.
    """
    with suppress(OSError):  # another user's: then it counts by how long it is seen unchanged
        if path.stat().st_mtime > _server_now(path.parent):
            os.utime(path)


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
