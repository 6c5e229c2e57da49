"""The warm parent's own side of `iterreg.jobs.forkserver`: forks, reaps, and leaves nothing behind.

It keeps to one thread and never runs a job itself, so a crash takes one child only. It adopts what a dead
job leaves running (`PR_SET_CHILD_SUBREAPER`) and kills it, sessions of its own or not. When its client dies,
however suddenly, it kills its children and leaves.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import fcntl
import gc
import importlib
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from iterreg.errors import InputError
from iterreg.jobs.outcome import Outcome, looks_like_lost_memory
from iterreg.jobs.resources import children_of

__all__ = ["PACKET", "serve"]

PACKET = 200_000
"""Bytes of the longest message; the kernel's default send buffer holds one."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINE_BUFFERED = 1


def serve(descriptor: str, warm: str, warm_argument: str) -> None:
    """Run a server on an inherited socket until its client is gone.

    Parameters
    ----------
    descriptor
        Number of the socket.
    warm, warm_argument
        As in `ForkServer`; an empty `warm` is none.
    """
    channel = socket.socket(fileno=int(descriptor))
    channel.set_inheritable(False)
    began = time.monotonic()
    if warm:
        _leave_with_client(channel, True)
        _resolve(warm)(warm_argument)
        _leave_with_client(channel, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    server = _Server(channel)
    gc.collect()
    gc.freeze()  # children that collect garbage would otherwise copy every inherited page
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _send(
        channel,
        {"event": "ready", "cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - began},
    )
    server.loop()


class _Server:
    """The loop that forks, reaps and cleans up."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._running: dict[int, int] = {}  # pid -> the client's number
        self._helpers = set(children_of(os.getpid()))  # started by the warm-up, for all jobs
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def loop(self) -> None:
        while True:
            readable, _, _ = select.select([self._channel.fileno(), self._woken], [], [])
            if self._woken in readable:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._channel.fileno() in readable:
                packet = self._channel.recv(PACKET)
                if not packet:
                    break
                self._fork(json.loads(packet))
        self._kill_everything()

    def _fork(self, message: dict[str, Any]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            lost = error.errno == errno.ENOMEM
            reply = {
                "outcome": Outcome.OUT_OF_MEMORY if lost else Outcome.EXCEPTION,
                "reason": f"no process could be started for it ({error.strerror})",
            }
            _send(self._channel, {"event": "reply", "id": message["id"], **reply})
            _send(self._channel, {"event": "ended", "id": message["id"], "status": 0, "cpu": 0.0, "peak": 0})
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run_child(self._channel, message)
        self._running[pid] = message["id"]
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # in both processes, so that neither outruns the other
        _send(self._channel, {"event": "started", "id": message["id"], "pid": pid})

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                break
            if ended.si_pid in self._running:  # while it is a zombie its group's number cannot be reused
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(ended.si_pid, signal.SIGKILL)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            number = self._running.pop(pid, None)
            if number is not None:
                self._kill_leftovers()
                _send(
                    self._channel,
                    {
                        "event": "ended",
                        "id": number,
                        "status": status,
                        "cpu": usage.ru_utime + usage.ru_stime,
                        "peak": usage.ru_maxrss * 1024,
                    },
                )
        self._kill_leftovers()

    def _kill_leftovers(self) -> None:
        """Kill what ended jobs left running.

        Every running job adopts its own orphans, so a child of the server that is neither a job nor a
        helper of the warm-up was left behind by a job that has ended.
        """
        for pid in children_of(os.getpid()):
            if pid not in self._running and pid not in self._helpers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _kill_everything(self) -> None:
        self._helpers.clear()
        for pid in self._running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self._running.clear()
        deadline = time.monotonic() + 10
        while children_of(os.getpid()) and time.monotonic() < deadline:
            self._kill_leftovers()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)


def _leave_with_client(channel: socket.socket, on: bool) -> None:
    """Let the kernel end this process (SIGIO) when its client dies during a warm-up, whatever that does."""
    flags = fcntl.fcntl(channel, fcntl.F_GETFL)
    if on:
        fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        if poll.poll(0):  # it had died before; nothing is sent to a server that is not ready
            sys.exit(1)
    else:
        fcntl.fcntl(channel, fcntl.F_SETFL, flags & ~os.O_ASYNC)


def _resolve(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    if not callable(found):
        raise TypeError(f"{name} is not callable")
    return found


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _run_child(channel: socket.socket, message: dict[str, Any]) -> None:
    """Run one job and leave without returning to the server's code."""
    code = 1
    me, server = os.getpid(), os.getppid()
    try:
        _become_a_job(server, message["log"])
        reply: dict[str, Any] = {"event": "reply", "id": message["id"]}
        try:
            reply |= {"outcome": Outcome.OK, "value": _resolve(message["target"])(message["payload"])}
            packet = _packed(reply)
            code = 0
        except BaseException as error:  # a reply must be sent for SystemExit from an engine too
            traceback.print_exc()
            packet = _packed({"event": "reply", "id": message["id"], **_describe(error)})
        _flush_output()
        if os.getpid() == me:  # an engine may fork and let its copy come back up to here
            with suppress(OSError):
                channel.send(packet)
    finally:
        os._exit(code)


def _become_a_job(server: int, log: str) -> None:
    with suppress(OSError):
        os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != server:  # it died before the line above
        os._exit(1)
    with suppress(OSError):  # when memory runs out the kernel shall choose a job, not its supervisor
        Path("/proc/self/oom_score_adj").write_text("800")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # Line by line, so that a crash does not swallow what was said before it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    library = ctypes.CDLL(None)
    library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINE_BUFFERED, 0)
    faulthandler.enable()


def _flush_output() -> None:
    """Python's and C's buffers: `os._exit` drops both. A full disk under the log is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _describe(error: BaseException) -> dict[str, str]:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, InputError):
        return {"outcome": Outcome.BAD_INPUT, "reason": text[:2000]}
    if isinstance(error, MemoryError) or looks_like_lost_memory(text):
        return {"outcome": Outcome.OUT_OF_MEMORY, "reason": f"an allocation failed: {text[:2000]}"}
    last = text.splitlines()[-1].strip() if text else ""
    return {"outcome": Outcome.EXCEPTION, "reason": f"{type(error).__name__}: {last}"[:2000]}


def _packed(message: Mapping[str, Any]) -> bytes:
    packet = json.dumps(message).encode()
    if len(packet) > PACKET:
        raise ValueError(f"the answer has {len(packet)} bytes, a message holds {PACKET}")
    return packet


def _send(channel: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the client is gone; the next look at the channel finds that out
        channel.send(_packed(message))
