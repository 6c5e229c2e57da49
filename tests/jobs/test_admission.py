"""Cores and memory are never given away twice, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from iterreg.jobs.admission import Admission


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_never_above_either_budget() -> None:
    admission = Admission(cores=4, memory=100)
    lock = threading.Lock()
    used = {"cores": 0, "memory": 0, "jobs": 0}
    peaks = dict(used)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            cores, memory = chance.randint(1, 6), chance.randint(1, 130)  # more than there is, too
            with admission(cores=cores, memory=memory) as admitted:
                assert admitted
                share = {"cores": min(cores, 4), "memory": min(memory, 100), "jobs": 1}
                with lock:
                    for key, value in share.items():
                        used[key] += value
                        peaks[key] = max(peaks[key], used[key])
                time.sleep(0.001)
                with lock:
                    for key, value in share.items():
                        used[key] -= value

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peaks["cores"] == 4
    assert peaks["memory"] <= 100
    assert peaks["jobs"] > 1
    assert used == {"cores": 0, "memory": 0, "jobs": 0}


def test_a_large_job_is_not_starved_by_small_ones() -> None:
    admission = Admission(cores=2, memory=100)
    order: list[str] = []
    release = threading.Event()

    def work(name: str, cores: int, held: threading.Event | None = None) -> None:
        with admission(cores=cores, memory=1):
            order.append(name)
            if held is not None:
                held.wait()

    first = threading.Thread(target=work, args=("first", 1, release))
    first.start()
    wait_for(lambda: order == ["first"])
    large = threading.Thread(target=work, args=("large", 2))
    large.start()
    wait_for(lambda: len(admission._queue) == 1)
    small = threading.Thread(target=work, args=("small", 1))  # would fit beside the first at once
    small.start()
    wait_for(lambda: len(admission._queue) == 2)
    time.sleep(0.05)
    assert order == ["first"]
    release.set()
    for thread in (first, large, small):
        thread.join()
    assert order == ["first", "large", "small"]


def test_a_demand_above_the_budget_runs_alone() -> None:
    admission = Admission(cores=4, memory=100)
    with admission(cores=99, memory=10**9) as alone:
        assert alone
        stop = threading.Event()
        refused: list[bool] = []

        def other() -> None:
            with admission(cores=1, memory=1, stop=stop) as admitted:
                refused.append(admitted)

        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        assert refused == []
        stop.set()
        thread.join()
    assert refused == [False]
    with admission(cores=4, memory=100) as admitted:
        assert admitted  # the one that gave up took nothing with it


def test_a_share_is_given_back_when_the_block_raises() -> None:
    admission = Admission(cores=1, memory=1)
    with pytest.raises(ZeroDivisionError), admission(cores=1, memory=1):
        raise ZeroDivisionError
    with admission(cores=1, memory=1) as admitted:
        assert admitted


def test_an_interrupted_wait_does_not_block_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    admission = Admission(cores=1, memory=1)
    with admission(cores=1, memory=1):

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(admission._changed, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt), admission(cores=1, memory=1):
                pass
    with admission(cores=1, memory=1) as admitted:
        assert admitted
