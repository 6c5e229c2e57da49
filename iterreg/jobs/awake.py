"""Time as a process lives it: what it was suspended for is not its own."""

from __future__ import annotations

import time

__all__ = ["AwakeClock"]

_LONGEST_GAP = 2.0


class AwakeClock:
    """Seconds since it was made, without those in which this process was suspended.

    A limit that was reached while everything stood still (a scheduler's suspension, Ctrl-Z) says nothing
    about those who are waited for. It must be read every second or so: a longer gap between two readings
    counts as 2 s.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        self._seconds += min(now - self._last, _LONGEST_GAP)
        self._last = now
        return self._seconds
