"""Items are worked on at once, in order, also where joblib would be serial."""

from __future__ import annotations

import threading

import joblib
import pytest

from iterreg.jobs.threads import in_threads


@pytest.mark.parametrize("semaphores", [True, False], ids=["joblib", "no semaphores"])
def test_items_meet_and_keep_their_order(semaphores: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not semaphores:  # what joblib finds where /dev/shm is not writable
        monkeypatch.setattr(joblib._parallel_backends, "mp", None)
    meeting = threading.Barrier(3, timeout=20)

    def meet(item: int) -> int:
        meeting.wait()
        return item * 10

    assert in_threads(meet, range(6), threads=3) == [0, 10, 20, 30, 40, 50]


def test_one_thread_works_in_turn() -> None:
    alive = threading.active_count()
    assert in_threads(lambda _: threading.active_count(), range(2), threads=1) == [alive, alive]


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, [1, 0, 1], threads=2)
