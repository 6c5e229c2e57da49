"""What compiling costs is counted, once, and only where something is compiled."""

from __future__ import annotations

import threading
import time

import numba
import numpy as np

from iterreg.kernels.first_use import timed


def test_the_outermost_compilation_is_counted_alone() -> None:
    @numba.njit
    def inner(values: np.ndarray) -> float:
        return np.sort(values)[0] + np.linalg.norm(values)

    @numba.njit
    def outer(values: np.ndarray) -> float:
        return inner(values) + inner(2 * values)

    before = time.thread_time()
    with timed() as first:
        outer(np.ones(3))
    spent = time.thread_time() - before
    assert 0.5 * spent < first.cpu_seconds <= spent
    with timed() as again:
        outer(np.ones(3))
    assert again.cpu_seconds == 0


def test_compilation_on_other_threads_counts() -> None:
    @numba.njit
    def kernel(values: np.ndarray) -> float:
        return np.sort(values)[0]

    with timed() as found:
        thread = threading.Thread(target=lambda: kernel(np.ones(3)))
        thread.start()
        thread.join()
    assert found.cpu_seconds > 0
