"""Cores and memory are never given away twice, and nobody waits for ever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from iterreg.jobs import admission as module
from iterreg.jobs.admission import Admission
from iterreg.jobs.resources import proportional_memory, tree_usage


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
                assert admitted is not None
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
                refused.append(admitted is None)

        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        assert refused == []
        stop.set()
        thread.join()
    assert refused == [True]
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


@contextmanager
def hog(megabytes: int) -> Iterator[int]:
    """A process that has so much memory to itself, and as much again that it shares with a child."""
    code = (
        "import os, sys, time\n"
        f"shared = bytearray(b'x') * ({megabytes} << 20)\n"
        "child = os.fork()\n"
        f"own = bytearray(b'y') * ({megabytes} << 20)\n"
        "if child:\n"
        "    print(child, flush=True)\n"
        "    time.sleep(1000)\n"
        "else:\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        child = int(process.stdout.readline())
        wait_for(lambda: tree_usage(process.pid)[0] > 4 * megabytes * 2**20)
        yield process.pid
        os.kill(child, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()


MIB = 2**20


def test_pages_that_processes_share_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident bytes say 400 MiB, but 300 MiB are taken: nobody has to go."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    with hog(100) as pid:
        resident, _ = tree_usage(pid)
        assert resident > 400 * MIB
        assert 300 * MIB < proportional_memory(pid) < 350 * MIB
        with Admission(cores=1, memory=360 * MIB)(cores=1, memory=MIB) as share:
            assert share is not None
            assert share.watch(pid, resident) == ""
        with Admission(cores=1, memory=290 * MIB)(cores=1, memory=MIB) as share:
            assert share is not None
            assert "needed more than the 290 MiB it was allowed" in share.watch(pid, resident)


def test_all_jobs_together_stay_below_the_budget_and_the_most_excessive_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three that fit by what they asked for, and each by what it takes, but not together."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    admission = Admission(cores=9, memory=700 * MIB)
    with (
        hog(50) as small, hog(100) as large, hog(50) as last,
        admission(cores=1, memory=20 * MIB) as first, admission(cores=1, memory=300 * MIB) as second,
        admission(cores=1, memory=10 * MIB) as third,
    ):  # fmt: skip
        assert first is not None
        assert second is not None
        assert third is not None
        assert first.watch(small, tree_usage(small)[0]) == ""
        assert second.watch(large, tree_usage(large)[0]) == ""
        assert third.watch(last, tree_usage(last)[0]) == ""  # 600 MiB are taken, resident are 800
        admission.memory = 500 * MIB
        assert first.watch(small, tree_usage(small)[0]) == ""
        assert second.watch(large, tree_usage(large)[0]) == ""  # the largest, but it said so
        why = third.watch(last, tree_usage(last)[0])
        assert "MiB where 10 MiB were expected, and all jobs together" in why
        assert "of the 500 MiB they may have" in why
        assert first.watch(small, tree_usage(small)[0]) == ""  # one at a time
        third.watch(0, 0)
    assert not admission._running


def test_who_takes_more_than_it_asked_for_keeps_others_out() -> None:
    admission = Admission(cores=2, memory=400 * MIB)
    entered = threading.Event()

    def late() -> None:
        with admission(cores=1, memory=200 * MIB) as share:
            assert share is not None
            entered.set()

    with hog(80) as pid, admission(cores=1, memory=100 * MIB) as share:
        assert share is not None
        share.watch(pid, tree_usage(pid)[0])
        thread = threading.Thread(target=late)
        thread.start()
        assert not entered.wait(1.5)
        share.watch(0, 0)  # its process has ended, and its end is being recorded
        assert entered.wait(10)
        thread.join()
