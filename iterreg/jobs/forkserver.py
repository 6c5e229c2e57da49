"""A warm parent: it imports something heavy once and forks one child per job.

`ForkServer` is the client, used by the supervising process; running this module is the server. Both
talk over a ``SOCK_SEQPACKET`` socket, one JSON message a packet, so that a child can answer on the
same socket without its message mixing with another's and without needing a disk that may be full.

The server keeps to one thread and never runs a job itself, so a crash takes one child only. When
its client dies, however suddenly, it kills its children and leaves.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from iterreg.errors import InputError
from iterreg.jobs.outcome import Outcome, looks_like_lost_memory

__all__ = ["Child", "ForkServer", "ServerError"]

_PACKET = 200_000
"""Bytes of the longest message; the kernel's default send buffer holds one."""
_PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """A warm parent could not be started, or died."""


class Child:
    """One forked job, as its client sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.started = threading.Event()
        self.ended = threading.Event()
        self.reply: dict[str, Any] | None = None
        self.wait_status = 0
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self.lost = False  # the server died before it could tell how this child ended

    def kill(self) -> None:
        """Kill the child and everything it started."""
        if self.pid and not self.ended.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class ForkServer:
    """Starts a warm parent and asks it for children.

    Parameters
    ----------
    warm
        ``"module:function"`` called once, with `warm_argument`, before any child; None for cold children.
    environment
        Added to the environment before the server's interpreter starts.
    log
        File that receives the server's own output.
    """

    def __init__(
        self,
        *,
        warm: str | None,
        warm_argument: str = "",
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._log = log
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._count = 0
        self._dead = False
        self._ready = threading.Event()
        self.warm_cpu_seconds = 0.0
        self.warm_wall_seconds = 0.0
        with log.open("ab") as output, theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "iterreg.jobs.forkserver",
                    str(theirs.fileno()),
                    warm or "",
                    warm_argument,
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is the supervisor's to handle
            )
        threading.Thread(target=self._listen, daemon=True, name="forkserver-listener").start()

    def spawn(self, target: str, payload: Mapping[str, Any], *, log: Path) -> Child:
        """Fork a child that runs ``target(payload)`` with its output in `log`.

        Parameters
        ----------
        target
            ``"module:function"``; it takes the payload and returns a JSON-serialisable value.

        Raises
        ------
        ServerError
            If the server could not be started or has died.
        """
        self._ready.wait()
        with self._lock:
            if self._dead:
                raise ServerError(
                    f"the engine's parent process ended ({self._last_words()}); its log is {self._log}"
                )
            self._count += 1
            child = Child(self._count)
            self._children[child.number] = child
        message = {"id": child.number, "target": target, "payload": payload, "log": str(log)}
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError as error:
            raise ServerError(f"the engine's parent process does not answer ({error})") from error
        child.started.wait()
        return child

    @property
    def alive(self) -> bool:
        """Whether children can still be had."""
        return not self._dead

    def close(self) -> None:
        """Kill every child, end the server and wait for it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            for child in list(self._children.values()):
                child.kill()
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].strip()
        return f"exit status {self._process.poll()}"

    def _listen(self) -> None:
        while True:
            try:
                packet = self._socket.recv(_PACKET)
            except OSError:
                packet = b""
            if not packet:
                break
            message = json.loads(packet)
            if message["event"] == "ready":
                self.warm_cpu_seconds = message["cpu"]
                self.warm_wall_seconds = message["wall"]
                self._ready.set()
                continue
            child = self._children[message["id"]]
            if message["event"] == "started":
                child.pid = message["pid"]
                child.started.set()
            elif message["event"] == "reply":
                child.reply = message
            elif message["event"] == "ended":
                child.wait_status = message["status"]
                child.cpu_seconds = message["cpu"]
                child.peak_bytes = message["peak"]
                child.started.set()
                child.ended.set()
                with self._lock:
                    del self._children[child.number]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        with self._lock:
            self._dead = True
            orphans = list(self._children.values())
        for child in orphans:
            child.kill()
            child.lost = True
            child.started.set()
            child.ended.set()
        self._ready.set()


# -- the server's side ------------------------------------------------------------------------------


def _resolve(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not callable(found):
        raise TypeError(f"{name} is not callable")
    return found  # type: ignore[no-any-return]


def _serve(channel: socket.socket, warm: str, warm_argument: str) -> None:
    began = time.monotonic()
    if warm:
        _resolve(warm)(warm_argument)
    gc.collect()
    gc.freeze()  # children that collect garbage would otherwise copy every inherited page
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _send(
        channel,
        {"event": "ready", "cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - began},
    )
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([channel.fileno(), woken], [], [])
        if woken in readable:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
            _reap(channel, running)
        if channel.fileno() in readable:
            packet = channel.recv(_PACKET)
            if not packet:
                break
            message = json.loads(packet)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run_child(channel, message)
            running[pid] = message["id"]
            with suppress(ProcessLookupError, PermissionError):
                os.setpgid(pid, pid)  # in both processes, so that neither outruns the other
            _send(channel, {"event": "started", "id": message["id"], "pid": pid})
    for pid in running:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _reap(channel: socket.socket, running: dict[int, int]) -> None:
    while running:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # whatever the job left behind
        number = running.pop(pid, None)
        if number is not None:
            _send(
                channel,
                {
                    "event": "ended",
                    "id": number,
                    "status": status,
                    "cpu": usage.ru_utime + usage.ru_stime,
                    "peak": usage.ru_maxrss * 1024,
                },
            )


def _run_child(channel: socket.socket, message: dict[str, Any]) -> None:
    """Run one job and leave without returning to the server's code."""
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        reply: dict[str, Any] = {"event": "reply", "id": message["id"]}
        try:
            reply |= {"outcome": Outcome.OK, "value": _resolve(message["target"])(message["payload"])}
            code = 0
        except BaseException as error:  # a reply must be sent for SystemExit from an engine too
            traceback.print_exc()
            reply |= _describe(error)
        sys.stdout.flush()
        sys.stderr.flush()
        _send(channel, reply)
    finally:
        os._exit(code)


def _describe(error: BaseException) -> dict[str, str]:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, InputError):
        return {"outcome": Outcome.BAD_INPUT, "reason": text}
    if isinstance(error, MemoryError) or looks_like_lost_memory(text):
        return {"outcome": Outcome.OUT_OF_MEMORY, "reason": f"an allocation failed: {text}"}
    last = text.splitlines()[-1] if text else ""
    return {"outcome": Outcome.EXCEPTION, "reason": f"{type(error).__name__}: {last}"[:2000]}


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    packet = json.dumps(message).encode()
    if len(packet) > _PACKET:
        packet = json.dumps(
            {
                "event": message["event"],
                "id": message["id"],
                "outcome": Outcome.EXCEPTION,
                "reason": f"the answer has {len(packet)} bytes, a message holds {_PACKET}",
            }
        ).encode()
    with suppress(BrokenPipeError, ConnectionError):
        channel.send(packet)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3])
