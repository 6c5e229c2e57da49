"""A warm parent: it imports something heavy once and forks one child per job.

`ForkServer` is the client, used by the supervising process; `serve` is the server, run in an interpreter of
its own. Both talk over a ``SOCK_SEQPACKET`` socket, one JSON message a packet, so that a child can answer on
the same socket without its message mixing with another's and without needing a disk that may be full.

The server keeps to one thread and never runs a job itself, so a crash takes one child only. It adopts what
a dead job leaves running (`PR_SET_CHILD_SUBREAPER`) and kills it, sessions of its own or not. When its client
dies, however suddenly, it kills its children and leaves.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import fcntl
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
from iterreg.jobs.outcome import Outcome, looks_like_lost_memory, signal_name
from iterreg.jobs.resources import children_of

__all__ = ["Child", "ForkServer", "ServerError", "StoppedError", "serve"]

WARM_SECONDS = 1800.0
"""Wall seconds a warm-up may take: an import over a busy network file system can be minutes."""

_PACKET = 200_000
"""Bytes of the longest message; the kernel's default send buffer holds one."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINE_BUFFERED = 1
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from iterreg.jobs.forkserver import serve; serve(*sys.argv[2:])"
)
"""The server searches the very path of its client, and never the current folder before it."""


class ServerError(Exception):
    """A warm parent could not be started, or died.

    Attributes
    ----------
    warmed
        Whether it had been ready for jobs before.
    """

    def __init__(self, message: str, *, warmed: bool) -> None:
        super().__init__(message)
        self.warmed = warmed


class StoppedError(Exception):
    """The wait for a child was given up because the caller asked for it."""


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
        """Kill the child and its process group; the server kills what has left the group."""
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
    warm_seconds
        Wall seconds after which a warm-up is given up.

    Raises
    ------
    OSError
        If the log cannot be opened or no process can be started.
    """

    def __init__(
        self,
        *,
        warm: str | None,
        warm_argument: str = "",
        environment: Mapping[str, str],
        log: Path,
        warm_seconds: float = WARM_SECONDS,
    ) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._count = 0
        self._dead = False
        self._ready = threading.Event()
        self._began = time.monotonic()
        self._warm_seconds = warm_seconds
        self.warmed = False
        self.warm_cpu_seconds = 0.0
        self.warm_wall_seconds = 0.0
        with log.open("ab") as output:
            self._log_start = output.tell()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket = ours
            with theirs:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-c",
                        _BOOT,
                        json.dumps([os.path.abspath(entry) for entry in sys.path]),  # noqa: PTH100
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
        self._listener = threading.Thread(target=self._listen, daemon=True, name="forkserver-listener")
        self._listener.start()

    def spawn(
        self, target: str, payload: Mapping[str, Any], *, log: Path, stop: threading.Event | None = None
    ) -> Child:
        """Fork a child that runs ``target(payload)`` with its output in `log`.

        Parameters
        ----------
        target
            ``"module:function"``; it takes the payload and returns a JSON-serialisable value.
        stop
            When set while the server is still warming up, the wait is given up.

        Raises
        ------
        ServerError
            If the server could not be started, was not ready in time or has died.
        StoppedError
            If `stop` was set.
        """
        self._wait_until_ready(stop)
        with self._lock:
            if self._dead:
                raise self._death()
            self._count += 1
            child = Child(self._count)
            self._children[child.number] = child
        message = {"id": child.number, "target": target, "payload": payload, "log": str(log)}
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError as error:
            with self._lock:
                self._children.pop(child.number, None)
            if error.errno == errno.EMSGSIZE:
                raise ServerError("the job's description is too long to be sent", warmed=True) from error
            raise self._death() from error
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
        self._listener.join(timeout=20)
        self._socket.close()

    def _wait_until_ready(self, stop: threading.Event | None) -> None:
        while not self._ready.wait(0.1):
            if stop is not None and stop.is_set():
                raise StoppedError
            if time.monotonic() - self._began > self._warm_seconds:
                with suppress(ProcessLookupError):
                    self._process.kill()
                raise ServerError(
                    f"the engine was not ready after {self._warm_seconds:.0f} s; its log is {self._log}",
                    warmed=False,
                )

    def _death(self) -> ServerError:
        what = "ended" if self.warmed else "could not be started"
        return ServerError(
            f"the engine's parent process {what} ({self._last_words()}); its log is {self._log}",
            warmed=self.warmed,
        )

    def _last_words(self) -> str:
        code = self._process.poll()
        if code is not None and code < 0:
            return f"killed by {signal_name(-code)}"
        with suppress(OSError), self._log.open("rb") as stream:
            stream.seek(self._log_start)
            lines = stream.read().decode(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].strip()
        return f"exit status {code}"

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            # Its end of the socket may outlive the server in something a job has started: look at both.
            if not poll.poll(500):
                if self._process.poll() is None:
                    continue
                break
            try:
                packet = self._socket.recv(_PACKET)
            except OSError:
                break
            if not packet:
                break
            self._hear(packet)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        with self._lock:
            self._dead = True
            orphans = list(self._children.values())
            self._children.clear()
        for child in orphans:
            child.kill()
            child.lost = True
            child.started.set()
            child.ended.set()
        self._ready.set()

    def _hear(self, packet: bytes) -> None:
        try:
            message = json.loads(packet)
            event, number = message["event"], message.get("id")
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # a job wrote into a descriptor that is not its own
        if event == "ready":
            self.warm_cpu_seconds = message["cpu"]
            self.warm_wall_seconds = message["wall"]
            self.warmed = True
            self._ready.set()
            return
        with self._lock:
            child = self._children.get(number)
        if child is None:
            return
        if event == "started":
            child.pid = message["pid"]
            child.started.set()
        elif event == "reply":
            child.reply = message
        elif event == "ended":
            child.wait_status = message["status"]
            child.cpu_seconds = message["cpu"]
            child.peak_bytes = message["peak"]
            with self._lock:
                del self._children[child.number]
            child.ended.set()
            child.started.set()


# -- the server's side ------------------------------------------------------------------------------


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
                packet = self._channel.recv(_PACKET)
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
    found = getattr(importlib.import_module(module), attribute)
    if not callable(found):
        raise TypeError(f"{name} is not callable")
    return found  # type: ignore[no-any-return]


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
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
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
    if len(packet) > _PACKET:
        raise ValueError(f"the answer has {len(packet)} bytes, a message holds {_PACKET}")
    return packet


def _send(channel: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the client is gone; the next look at the channel finds that out
        channel.send(_packed(message))
