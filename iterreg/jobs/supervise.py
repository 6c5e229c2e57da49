"""Runs one job in a child and says how it ended. Never raises for what the child does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iterreg.jobs.admission import Share
from iterreg.jobs.awake import AwakeClock
from iterreg.jobs.forkserver import Child, ForkServer, ServerError, StoppedError
from iterreg.jobs.outcome import Outcome, Report, signal_name
from iterreg.jobs.resources import (
    available_memory,
    cpu_seconds,
    format_bytes,
    kernel_oom_kills,
    process_start,
    tree_usage,
)

__all__ = ["supervise"]

_POLL_SECONDS = 0.1
_RESERVE = 256 * 2**20
"""Free memory below which the machine itself is in danger and the growing job must go."""
_BURIAL_SECONDS = 20.0
"""For the warm parent to tell the end of a child that was killed or is gone: else it is stopped or stuck."""
_STOP_SECONDS = 5.0
"""The same after a stop, when the parent goes anyway and a scheduler does not wait long."""


def supervise(
    server: ForkServer,
    target: str,
    payload: Mapping[str, Any],
    *,
    log: Path,
    timeout: float | None = None,
    share: Share | None = None,
    expected_memory: int = 0,
    stop: threading.Event | None = None,
) -> Report:
    """Run ``target(payload)`` in a child of `server` and watch it to its end.

    Parameters
    ----------
    timeout
        Wall seconds after which it is killed; those in which this process was suspended do not count.
    share
        The job's part of the memory: it is killed where `Share.overdraft` says so.
    expected_memory
        Its estimate: when the machine runs dry, a job above its estimate is killed first.
    stop
        When set, the child is killed and the outcome is ``interrupted``.

    Returns
    -------
    How it ended. The clock of `timeout` and of the wall time starts with the child: a job does not pay for
    the warming of its engine. No wait is without end, even when `server` is stopped: it is ended then.
    """
    kills_before = kernel_oom_kills()
    try:
        child = server.spawn(target, payload, log=log, stop=stop)
    except StoppedError:
        return Report(Outcome.INTERRUPTED, "stopped by the user")
    except ServerError as error:
        # A parent that had been ready was killed: like a child's crash, that may not happen again.
        return Report(Outcome.CRASH if error.warmed else Outcome.EXCEPTION, str(error))
    began, clock = time.monotonic(), AwakeClock()
    peak = peak_threads = 0
    verdict: tuple[Outcome, str] | None = None
    over: float | None = None
    while not child.ended.wait(_POLL_SECONDS):
        memory, threads = tree_usage(child.pid)
        peak, peak_threads = max(peak, memory), max(peak_threads, threads)
        overdraft = share.watch(child.pid, memory) if share is not None else ""
        if verdict is None:
            verdict = _verdict(clock(), memory, timeout, overdraft, expected_memory, stop)
            if verdict is not None:
                child.kill()
        if over is None and (verdict is not None or process_start(child.pid) is None):
            over = clock()
        stopping = stop is not None and stop.is_set()
        if over is not None and clock() - over > (_STOP_SECONDS if stopping else _BURIAL_SECONDS):
            _bury(child, server)
            break
    if share is not None:
        share.watch(0, 0)
    outcome, reason, value = _ending(child, verdict, kills_before)
    return Report(
        outcome=outcome,
        reason=reason,
        value=value,
        wall_seconds=time.monotonic() - began,
        cpu_seconds=child.cpu_seconds,
        peak_bytes=max(peak, child.peak_bytes),
        peak_threads=peak_threads,
        warm_cpu_seconds=server.warm_cpu_seconds,
    )


def _bury(child: Child, server: ForkServer) -> None:
    """Do without the parent's word on how a child ended."""
    child.cpu_seconds = cpu_seconds(child.pid)
    child.lost = True
    if process_start(child.pid) is None:  # otherwise it hangs in the kernel, and its parent is innocent
        server.kill()


def _verdict(
    seconds: float,
    memory: int,
    timeout: float | None,
    overdraft: str,
    expected_memory: int,
    stop: threading.Event | None,
) -> tuple[Outcome, str] | None:
    """Why the child must be killed now, if it must."""
    if stop is not None and stop.is_set():
        return Outcome.INTERRUPTED, "stopped by the user"
    if timeout is not None and seconds > timeout:
        return (
            Outcome.TIMEOUT,
            f"still running after {timeout:g} s; raise --timeout or choose a faster preset",
        )
    if overdraft:
        return Outcome.OUT_OF_MEMORY, overdraft
    if memory > expected_memory and available_memory() < _RESERVE:
        return (
            Outcome.OUT_OF_MEMORY,
            f"had {format_bytes(memory)} (expected {format_bytes(expected_memory)}) when the machine "
            "ran out of memory; run fewer jobs at once with --cores or --memory",
        )
    return None


def _ending(
    child: Child, verdict: tuple[Outcome, str] | None, kills_before: int
) -> tuple[Outcome, str, object]:
    reply = child.reply
    if reply is not None and reply["outcome"] == Outcome.OK:
        return Outcome.OK, "", reply["value"]
    if verdict is not None:
        return (*verdict, None)
    if reply is not None:
        return Outcome(reply["outcome"]), reply["reason"], None
    if child.lost:
        return Outcome.CRASH, "the engine's parent process died or was stopped and took the job with it", None
    if os.WIFSIGNALED(child.wait_status):
        number = os.WTERMSIG(child.wait_status)
        name = signal_name(number)
        if name == "SIGKILL" and kernel_oom_kills() > kills_before:
            return (
                Outcome.OUT_OF_MEMORY,
                "killed by the kernel for lack of memory; run fewer jobs at once with --cores or --memory",
                None,
            )
        whom = " from outside" if name in ("SIGKILL", "SIGTERM") else ""
        return Outcome.CRASH, f"killed by {name}{whom}; the end of its log may tell where", None
    code = os.waitstatus_to_exitcode(child.wait_status)
    return Outcome.CRASH, f"ended with exit status {code} without an answer; see its log", None
