"""Lets jobs in while their cores and memory fit, and holds all of them together to the memory there is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from iterreg.jobs.resources import format_bytes, proportional_memory

__all__ = ["Admission", "Share"]

_LOOK_SECONDS = 0.5
"""Between two close looks at the memory of all jobs, which cost some milliseconds for each GiB."""


class Admission:
    """Two shared budgets, cores and memory, handed out first come, first served.

    A large job at the head of the queue is never overtaken, so it cannot starve. Memory counts as a job asked
    for it or as it really takes it, whichever is more. Where all jobs together take more than the budget, the
    one furthest above what it asked for must go (`Share.overdraft`); of equals the youngest.

    Parameters
    ----------
    cores, memory
        The budgets; memory in bytes.
    """

    def __init__(self, *, cores: int, memory: int) -> None:
        self.cores = cores
        self.memory = memory
        self._running: list[Share] = []  # in the order they were let in
        self._queue: deque[Share] = deque()
        self._changed = threading.Condition()
        self._looked = 0.0

    @contextmanager
    def __call__(
        self, *, cores: int, memory: int, stop: threading.Event | None = None
    ) -> Iterator[Share | None]:
        """Wait for a share, hold it for the block, give it back.

        A demand above the whole budget is cut to the budget: such a job runs alone.

        Yields
        ------
        None when `stop` was set before the share could be had.
        """
        share = Share(self, min(cores, self.cores), min(memory, self.memory))
        admitted = False
        with self._changed:
            self._queue.append(share)
            try:
                while not (stop is not None and stop.is_set()):
                    if self._queue[0] is share and self._fits(share):
                        self._running.append(share)
                        admitted = True
                        break
                    self._changed.wait(0.5)
            finally:  # whatever ends the wait, the next in the queue must not wait for this one
                self._queue.remove(share)
                self._changed.notify_all()
        try:
            yield share if admitted else None
        finally:
            if admitted:
                with self._changed:
                    self._running.remove(share)
                    self._changed.notify_all()

    def _fits(self, share: Share) -> bool:
        room = self.memory - share.memory
        return (
            sum(one.cores for one in self._running) <= self.cores - share.cores
            and sum(one.memory for one in self._running) <= room
            # Resident bytes say too much, but are cheap to ask for: a close look only where they do not fit.
            and (
                sum(max(one.memory, one.resident) for one in self._running) <= room
                or sum(max(one.memory, one.really()) for one in self._running) <= room
            )
        )

    def _look(self) -> None:
        """Choose who must go where all jobs together take more than there is."""
        with self._changed:
            now = time.monotonic()
            if (
                sum(one.resident for one in self._running) <= self.memory
                or now - self._looked < _LOOK_SECONDS
                or any(one.overdraft for one in self._running)  # it has not gone yet
            ):
                return
            self._looked = now
            used = [(one.really(), one) for one in self._running]
            total = sum(memory for memory, _ in used)
            if total > self.memory:
                most = max(memory - one.memory for memory, one in used)
                memory, last = [entry for entry in used if entry[0] - entry[1].memory == most][-1]
                last.overdraft = _overdraft(memory, last.memory, total, self.memory)


@dataclass(eq=False)
class Share:
    """What one job holds of the budgets.

    Attributes
    ----------
    cores, memory
        What it asked for, memory in bytes.
    pid, resident
        Its process and the resident bytes seen last; zeros when it does not run.
    overdraft
        Why it must go, a sentence; empty while it may stay.
    """

    admission: Admission
    cores: int
    memory: int
    pid: int = 0
    resident: int = 0
    overdraft: str = ""

    def watch(self, pid: int, resident: int) -> str:
        """Tell what the job takes now.

        Returns
        -------
        `overdraft`.
        """
        self.pid, self.resident = pid, resident
        self.admission._look()
        return self.overdraft

    def really(self) -> int:
        """Bytes the job takes, counted exactly."""
        return proportional_memory(self.pid) if self.pid else 0


def _overdraft(memory: int, asked: int, total: int, budget: int) -> str:
    if memory > budget:
        return (
            f"needed more than the {format_bytes(budget)} it was allowed (last seen with "
            f"{format_bytes(memory)}); give it more with --memory or use a coarser preset"
        )
    return (
        f"had {format_bytes(memory)} where {format_bytes(asked)} were expected, and all jobs together "
        f"{format_bytes(total)} of the {format_bytes(budget)} they may have; run fewer at once with --cores, "
        "or give more with --memory"
    )
