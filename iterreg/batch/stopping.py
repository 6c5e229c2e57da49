"""Signals that end a batch in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["NOTICES", "SIGNALS", "stoppable"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a scheduler's end, a closed terminal."""

NOTICES = (signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers send before they end a job: those asked to (SLURM, Grid Engine), and LSF by itself."""


@contextmanager
def stoppable(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[threading.Event]:
    """An event that these signals set during the block, instead of what else they would do.

    Only the main thread can; in others they are left alone.
    """
    stop = threading.Event()

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous: dict[int, Any] = {}
    with suppress(ValueError):
        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job of a script
                previous[number] = signal.signal(number, handler)
    try:
        yield stop
    finally:
        for caught, old in previous.items():
            signal.signal(caught, old)
