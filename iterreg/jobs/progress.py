"""Progress for people: a bar with an honest ETA on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from iterreg.terminal import bare, visible

__all__ = ["Progress", "format_seconds"]

_BEAT_SECONDS = 1.0
_HEARTBEAT_SECONDS = 300.0


def format_seconds(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


class Progress:
    """Counts jobs and forecasts the end from their estimated costs, corrected by what was measured.

    Parameters
    ----------
    total
        Number of jobs to come.
    parallel
        How many run at once.
    stream
        Where to write; a bar is drawn only on a terminal.
    """

    def __init__(
        self, total: int, *, parallel: int, quiet: bool = False, stream: IO[str] | None = None
    ) -> None:
        self._stream = bare(stream or sys.stderr)
        self._total = total
        self._parallel = max(1, parallel)
        self._quiet = quiet
        self._lock = threading.RLock()
        self._expected: dict[tuple[str, str], float] = {}
        self._running: dict[tuple[str, str], float] = {}
        self._kinds: dict[str, _Kind] = {}
        self._done = 0
        self._last = time.monotonic()
        self._bar: Any = None
        if _has_width(self._stream) and not quiet:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, file=self._stream, dynamic_ncols=True, leave=False,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}",
            )  # fmt: skip
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True, name="progress")
        self._beat.start()

    def expect(self, job: str, kind: str, seconds: float) -> None:
        """Announce a job of some kind and its estimated wall seconds."""
        with self._lock:
            self._expected[kind, job] = seconds
            self._kinds.setdefault(kind, _Kind()).ahead += seconds

    def begin(self, job: str, kind: str) -> None:
        """A job has started."""
        with self._lock:
            self._running[kind, job] = time.monotonic()

    def leave(self, job: str, kind: str) -> None:
        """A job runs here no longer, but has not ended."""
        with self._lock:
            self._running.pop((kind, job), None)

    def end(self, job: str, kind: str, message: str, *, measured: float | None = None) -> None:
        """A job has ended; `measured` wall seconds teach the forecast of its kind. No message: no line."""
        with self._lock:
            expected = self._expected.pop((kind, job), None)
            self._running.pop((kind, job), None)
            if expected is None:
                if message:
                    self.say(message)
                return
            known = self._kinds[kind]
            known.ahead -= expected
            if measured is not None:
                known.measured += measured
                known.hoped += expected
            self._done += 1
            if message:
                self.say(f"[{self._done:>{len(str(self._total))}}/{self._total}] {message}", forecast=True)
            if self._bar is not None:
                self._bar.n = self._done
                self._refresh()

    def say(self, message: str, *, forecast: bool = False) -> None:
        """Print a line without breaking the bar. A stream nobody reads any more is no reason to stop."""
        message = visible(message)
        with self._lock, suppress(OSError, ValueError):
            self._last = time.monotonic()
            if self._quiet:
                return
            if self._bar is not None:
                self._bar.write(message, file=self._stream)
                return
            left = self.remaining()
            tail = f"; {format_seconds(left)} left" if forecast and self._expected else ""
            print(message + tail, file=self._stream, flush=True)

    def remaining(self) -> float:
        """Forecast of the wall seconds left."""
        now = time.monotonic()
        with self._lock:
            if not self._expected:
                return 0.0
            seconds = sum(kind.ahead * kind.factor for kind in self._kinds.values())
            for key, began in self._running.items():
                # What has run counts as done, but a job that overruns its forecast is not done yet.
                forecast = self._expected.get(key, 0.0) * self._kinds[key[0]].factor
                seconds -= min(now - began, 0.95 * forecast)
            return max(seconds, 0.0) / min(self._parallel, len(self._expected))

    def _overruns(self) -> bool:
        """Whether a job has run for longer than its forecast, so that nobody knows what is left."""
        now = time.monotonic()
        return any(
            now - began > self._expected.get(key, 0.0) * self._kinds[key[0]].factor
            for key, began in self._running.items()
        )

    def close(self) -> None:
        """Stop the clock and leave the terminal clean."""
        self._stop.set()
        self._beat.join()
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.close()

    def _refresh(self) -> None:
        names = visible(", ".join(f"{kind} {job}" for kind, job in self._running))
        left = f"about {format_seconds(self.remaining())} left" if self._expected else "done"
        with suppress(OSError, ValueError):
            self._bar.set_postfix_str(f"{left}; {names}" if names else left, refresh=True)

    def _heartbeat(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            with self._lock:
                if self._bar is not None:
                    self._refresh()
                elif self._running and time.monotonic() - self._last > _HEARTBEAT_SECONDS:
                    since = time.monotonic() - min(self._running.values())
                    late = ", longer than foretold" if self._overruns() else ""
                    self.say(
                        f"... {len(self._running)} running, the longest for {format_seconds(since)}{late}",
                        forecast=not late,
                    )


def _has_width(stream: IO[str]) -> bool:
    """Whether a bar can be drawn: a terminal, and not one that has no size."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


@dataclass
class _Kind:
    """Jobs of one kind: estimated seconds not yet done, and what estimates have turned out to be."""

    ahead: float = 0.0
    measured: float = 0.0
    hoped: float = 0.0

    @property
    def factor(self) -> float:
        return self.measured / self.hoped if self.hoped else 1.0
