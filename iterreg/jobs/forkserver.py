"""A warm parent: it imports something heavy once and forks one child per job.

`ForkServer` is the client, used by the supervising process; `iterreg.jobs.warm_parent` is the server, run in
an interpreter of its own. Both talk over a ``SOCK_SEQPACKET`` socket, one JSON message a packet, so that a
child can answer on the same socket without its message mixing with another's and without needing a disk that
may be full.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from iterreg.jobs.awake import AwakeClock
from iterreg.jobs.outcome import signal_name
from iterreg.jobs.resources import children_of, process_start
from iterreg.jobs.warm_parent import PACKET

__all__ = ["Child", "ForkServer", "ServerError", "StoppedError"]

WARM_SECONDS = 1800.0
"""Wall seconds a warm-up may take: an import over a busy network file system can be minutes."""

_START_SECONDS = 60.0
"""A warm parent that has not forked a child after so long is stopped or stuck."""

_CLOSE_SECONDS = 8.0
"""For a warm parent to leave by itself. With what follows it, less than the grace that schedulers give."""

_KILL_SECONDS = 3.0

_TICK_SECONDS = 0.1

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from iterreg.jobs.warm_parent import serve; serve(*sys.argv[2:])"
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
        clock = AwakeClock()
        self._send(child, json.dumps(message).encode(), stop, clock)
        while not child.started.wait(_TICK_SECONDS):
            self._have_patience(stop, clock)
        return child

    def _send(self, child: Child, packet: bytes, stop: threading.Event | None, clock: AwakeClock) -> None:
        while True:
            try:
                self._socket.send(packet, socket.MSG_DONTWAIT)
                return
            except BlockingIOError:  # so much lies unread already
                time.sleep(_TICK_SECONDS)
                self._have_patience(stop, clock)
            except OSError as error:
                with self._lock:
                    self._children.pop(child.number, None)
                if error.errno == errno.EMSGSIZE:
                    raise ServerError("the job's description is too long to be sent", warmed=True) from error
                raise self._death() from error

    def _have_patience(self, stop: threading.Event | None, clock: AwakeClock) -> None:
        if stop is not None and stop.is_set():
            raise StoppedError
        if clock() > _START_SECONDS:
            self.kill()
            raise ServerError(
                f"the engine's parent process has not answered for {_START_SECONDS:.0f} s and was ended "
                f"(somebody may have stopped it); its log is {self._log}",
                warmed=True,
            )

    @property
    def alive(self) -> bool:
        """Whether children can still be had."""
        return not self._dead

    def kill(self) -> None:
        """End the server and every process below it at once, stopped or not. Takes a few seconds at most."""
        self._dead = True
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGSTOP)  # from here on it starts nothing
                _kill_below(self._process.pid)
                os.kill(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill every child, end the server and wait for it, at most a quarter of a minute."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, and dies when that lets go
                self._process.wait(timeout=_KILL_SECONDS)
        self._listener.join(timeout=_KILL_SECONDS)
        self._socket.close()

    def _wait_until_ready(self, stop: threading.Event | None) -> None:
        clock = AwakeClock()
        while not self._ready.wait(_TICK_SECONDS):
            if stop is not None and stop.is_set():
                raise StoppedError
            if clock() > self._warm_seconds:
                self.kill()
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
                packet = self._socket.recv(PACKET)
            except OSError:
                break
            if not packet:
                break
            self._hear(packet)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_CLOSE_SECONDS)
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


def _kill_below(pid: int) -> None:
    """Kill every descendant of a stopped process; orphans of those that die first come up to it."""
    deadline = time.monotonic() + _KILL_SECONDS
    while living := _living_below(pid):
        for process in living:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)


def _living_below(pid: int) -> list[int]:
    found: list[int] = []
    for child in children_of(pid):
        found += _living_below(child)
        if process_start(child) is not None:
            found.append(child)
    return found
