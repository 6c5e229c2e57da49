"""Progress for people: a bar with an honest ETA on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

__all__ = ["Progress", "format_seconds"]

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
        self._stream = stream or sys.stderr
        self._total = total
        self._parallel = max(1, parallel)
        self._quiet = quiet
        self._lock = threading.Lock()
        self._running: dict[str, tuple[str, float, float]] = {}
        self._pending: dict[str, float] = {}
        self._measured: dict[str, tuple[float, float]] = {}
        self._done = 0
        self._last = time.monotonic()
        self._bar: Any = None
        if self._stream.isatty() and not quiet:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, file=self._stream, dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {elapsed}, {postfix}", postfix="",
            )  # fmt: skip
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True, name="progress")
        self._beat.start()

    def expect(self, job: str, kind: str, seconds: float) -> None:
        """Announce a job of some kind and its estimated wall seconds."""
        with self._lock:
            self._pending[f"{kind}\0{job}"] = seconds

    def begin(self, job: str, kind: str) -> None:
        """A job has started."""
        with self._lock:
            key = f"{kind}\0{job}"
            self._running[key] = (kind, time.monotonic(), self._pending.get(key, 0.0))

    def end(self, job: str, kind: str, message: str, *, measured: float | None = None) -> None:
        """A job has ended; `measured` wall seconds teach the forecast of its kind."""
        with self._lock:
            key = f"{kind}\0{job}"
            expected = self._pending.pop(key, 0.0)
            self._running.pop(key, None)
            if measured is not None:
                seen, hoped = self._measured.get(kind, (0.0, 0.0))
                self._measured[kind] = (seen + measured, hoped + expected)
            self._done += 1
            self.say(f"[{self._done:>{len(str(self._total))}}/{self._total}] {message}", forecast=True)
            if self._bar is not None:
                self._bar.n = self._done
                self._refresh()

    def say(self, message: str, *, forecast: bool = False) -> None:
        """Print a line without breaking the bar."""
        self._last = time.monotonic()
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.write(message, file=self._stream)
            return
        left = self.remaining()
        tail = f"; {format_seconds(left)} left" if forecast and left > 0 else ""
        print(message + tail, file=self._stream, flush=True)

    def remaining(self) -> float:
        """Forecast of the wall seconds left."""
        now = time.monotonic()
        seconds = 0.0
        for key, expected in self._pending.items():
            kind = key.partition("\0")[0]
            seen, hoped = self._measured.get(kind, (0.0, 0.0))
            forecast = expected * (seen / hoped if hoped else 1.0)
            if key in self._running:
                forecast = max(forecast - (now - self._running[key][1]), 0.05 * forecast)
            seconds += forecast
        return seconds / min(self._parallel, max(1, len(self._pending)))

    def close(self) -> None:
        """Stop the clock and leave the terminal clean."""
        self._stop.set()
        self._beat.join()
        if self._bar is not None:
            self._bar.close()

    def _refresh(self) -> None:
        names = ", ".join(f"{kind} {key.partition(chr(0))[2]}" for key, (kind, _, _) in self._running.items())
        left = f"about {format_seconds(self.remaining())} left" if self._pending else "done"
        self._bar.set_postfix_str(f"{left}; {names}" if names else left, refresh=True)

    def _heartbeat(self) -> None:
        while not self._stop.wait(1.0):
            with self._lock, suppress(ValueError):
                if self._bar is not None:
                    self._refresh()
                elif self._running and time.monotonic() - self._last > _HEARTBEAT_SECONDS:
                    since = time.monotonic() - min(began for _, began, _ in self._running.values())
                    self.say(
                        f"... {len(self._running)} running, the longest for {format_seconds(since)}",
                        forecast=True,
                    )
