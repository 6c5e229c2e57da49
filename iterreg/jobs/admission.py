"""Lets jobs in while their cores and memory fit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Admission"]


class Admission:
    """Two shared budgets, cores and memory, handed out first come, first served.

    A large job at the head of the queue is never overtaken, so it cannot starve.

    Parameters
    ----------
    cores, memory
        The budgets; memory in bytes.
    """

    def __init__(self, *, cores: int, memory: int) -> None:
        self.cores = cores
        self.memory = memory
        self._free_cores = cores
        self._free_memory = memory
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def __call__(self, *, cores: int, memory: int, stop: threading.Event | None = None) -> Iterator[bool]:
        """Wait for a share, hold it for the block, give it back.

        A demand above the whole budget is cut to the budget: such a job runs alone.

        Yields
        ------
        False when `stop` was set before the share could be had.
        """
        cores, memory = min(cores, self.cores), min(memory, self.memory)
        ticket = object()
        admitted = False
        with self._changed:
            self._queue.append(ticket)
            try:
                while not (stop is not None and stop.is_set()):
                    first = self._queue[0] is ticket
                    if first and cores <= self._free_cores and memory <= self._free_memory:
                        self._free_cores -= cores
                        self._free_memory -= memory
                        admitted = True
                        break
                    self._changed.wait(0.5)
            finally:  # whatever ends the wait, the next in the queue must not wait for this one
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield admitted
        finally:
            if admitted:
                with self._changed:
                    self._free_cores += cores
                    self._free_memory += memory
                    self._changed.notify_all()
