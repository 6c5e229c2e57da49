"""The warm parent, its children and their supervisor, without any registration."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from iterreg.jobs import forkserver
from iterreg.jobs import supervise as module
from iterreg.jobs.admission import Admission
from iterreg.jobs.forkserver import ForkServer, ServerError
from iterreg.jobs.outcome import Outcome, Report
from iterreg.jobs.resources import children_of, is_stopped, process_start
from iterreg.jobs.supervise import supervise

TARGETS = """
import os, subprocess, sys, time

warmed = []


def warm(argument):
    warmed.append((argument, os.getpid()))
    if argument.startswith("sleep"):
        time.sleep(float(argument.split()[1]))
    if argument == "helper":
        warmed.append(subprocess.Popen(["sleep", "1000"]).pid)
    if argument == "raise":
        raise ImportError("no such engine")


def echo(payload):
    return {**payload, "warmed": warmed, "parent": os.getppid(), "threads": os.environ.get("LAB_THREADS"),
            "stdin": sys.stdin.read(), "cwd": os.getcwd()}


def nap(payload):
    time.sleep(payload["seconds"])


def burn(payload):
    end = time.process_time() + payload["seconds"]
    while time.process_time() < end:
        pass


def hold(payload):
    kept = bytearray(payload["bytes"])
    for place in range(0, len(kept), 4096):
        kept[place] = 1
    time.sleep(payload["seconds"])


def leave_and_nap(payload):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(payload["seconds"])


def unserialisable(payload):
    return {1, 2}


def leave(payload):
    subprocess.Popen(["sh", "-c", "sleep 1000 & exec sleep 1000"], start_new_session=True)
    helper = warmed[-1]
    return [os.path.exists(f"/proc/{helper}"), helper]
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ForkServer]]:
    (tmp_path / "targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(tmp_path)
    started: list[ForkServer] = []

    def make(argument: str = "it", **more: Any) -> ForkServer:
        server = ForkServer(
            warm="targets:warm",
            warm_argument=argument,
            environment={"LAB_THREADS": "3"},
            log=tmp_path / "server.txt",
            **more,
        )
        started.append(server)
        return server

    yield make
    for server in started:
        server.close()


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Report]:
    def run(server: ForkServer, target: str, payload: Any = None, **more: Any) -> Report:
        return supervise(server, f"targets:{target}", payload or {}, log=tmp_path / "log.txt", **more)

    return run


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_children_inherit_one_warm_up(start: Any, call: Any) -> None:
    server = start()
    first, second = call(server, "echo", {"a": 1}), call(server, "echo", {"a": 2})
    assert first.outcome is second.outcome is Outcome.OK
    assert [first.value["a"], second.value["a"]] == [1, 2]
    ((argument, pid),) = first.value["warmed"]
    assert argument == "it"
    assert pid == first.value["parent"] == second.value["parent"] != os.getpid()
    assert first.value["threads"] == "3"
    assert first.value["stdin"] == ""
    assert server.warmed


def test_a_module_in_the_current_folder_shadows_nothing(
    tmp_path: Path, start: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    for name in ("json.py", "socket.py", "targets.py"):
        (elsewhere / name).write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(elsewhere)
    report = call(start(), "echo")
    assert report.outcome is Outcome.OK, report
    assert report.value["cwd"] == str(elsewhere)


def test_many_children_at_once_keep_their_answers_apart(start: Any, call: Any) -> None:
    server = start()
    reports: dict[int, Report] = {}

    def one(number: int) -> None:
        reports[number] = call(server, "echo", {"number": number, "padding": "x" * 10_000})

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: report.value["number"] for number, report in reports.items()} == {
        number: number for number in range(12)
    }


def test_times_and_memory_are_the_childs_own(start: Any, call: Any) -> None:
    server = start("sleep 1")
    report = call(server, "burn", {"seconds": 0.3})
    assert report.outcome is Outcome.OK
    assert 0.3 <= report.cpu_seconds < 5
    large = call(server, "hold", {"bytes": 80 * 2**20, "seconds": 0.3})
    assert large.peak_bytes > 80 * 2**20
    assert report.peak_bytes < large.peak_bytes - 60 * 2**20
    assert large.peak_threads == 1
    assert server.warm_wall_seconds >= 1


def test_the_clock_starts_with_the_child(start: Any, call: Any) -> None:
    began = time.monotonic()
    report = call(start("sleep 3"), "echo", timeout=2.9)
    assert time.monotonic() - began >= 3
    assert report.outcome is Outcome.OK
    assert report.wall_seconds <= time.monotonic() - began - 3


def test_a_timeout(start: Any, call: Any) -> None:
    report = call(start(), "nap", {"seconds": 1000}, timeout=0.5)
    assert report.outcome is Outcome.TIMEOUT
    assert report.reason == "still running after 0.5 s; raise --timeout or choose a faster preset"


def test_a_memory_limit(start: Any, call: Any) -> None:
    with Admission(cores=1, memory=100 * 2**20)(cores=1, memory=2**20) as share:
        report = call(start(), "hold", {"bytes": 200 * 2**20, "seconds": 1000}, share=share)
    assert report.outcome is Outcome.OUT_OF_MEMORY
    assert "needed more than the 100 MiB it was allowed" in report.reason


def test_the_job_above_its_estimate_goes_when_the_machine_runs_dry(
    start: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 1)
    server = start()
    modest = call(server, "nap", {"seconds": 0.5}, expected_memory=2**40)
    assert modest.outcome is Outcome.OK
    report = call(server, "nap", {"seconds": 1000}, expected_memory=1)
    assert report.outcome is Outcome.OUT_OF_MEMORY
    assert "the machine ran out of memory" in report.reason


def test_a_stop(start: Any, call: Any) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    report = call(start(), "nap", {"seconds": 1000}, stop=stop)
    assert report.outcome is Outcome.INTERRUPTED


def test_a_stop_while_the_engine_warms_up(start: Any, call: Any) -> None:
    stop = threading.Event()
    server = start("sleep 1000")
    threading.Timer(0.3, stop.set).start()
    assert call(server, "echo", stop=stop).outcome is Outcome.INTERRUPTED
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 15


def test_a_warm_up_without_end_is_given_up(start: Any, call: Any) -> None:
    report = call(start("sleep 1000", warm_seconds=0.5), "echo")
    assert report.outcome is Outcome.EXCEPTION
    assert "the engine was not ready after 0 s" in report.reason or "after 1 s" in report.reason


def test_a_warm_up_that_fails_says_why_and_quotes_no_older_log(tmp_path: Path, start: Any, call: Any) -> None:
    (tmp_path / "server.txt").write_text("OlderError: of an earlier run\n")
    report = call(start("raise"), "echo")
    assert report.outcome is Outcome.EXCEPTION
    assert "could not be started (ImportError: no such engine)" in report.reason
    assert "OlderError" not in report.reason


def test_a_dead_parent_is_a_crash_for_those_who_come_later(start: Any, call: Any) -> None:
    server = start()
    parent = call(server, "echo").value["parent"]
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: not server.alive)
    report = call(server, "echo")
    assert report.outcome is Outcome.CRASH
    assert "ended (killed by SIGKILL)" in report.reason
    with pytest.raises(ServerError):
        server.spawn("targets:echo", {}, log=Path(os.devnull))


def test_an_answer_that_is_no_json_is_an_exception(start: Any, call: Any) -> None:
    report = call(start(), "unserialisable")
    assert report.outcome is Outcome.EXCEPTION
    assert "TypeError: Object of type set is not JSON serializable" in report.reason


def test_a_target_that_does_not_exist(start: Any, call: Any) -> None:
    assert "AttributeError" in call(start(), "nothing").reason


def test_a_job_too_long_to_be_described(start: Any, call: Any) -> None:
    server = start()
    report = call(server, "echo", {"a": "x" * 10**6})
    assert "too long" in report.reason
    assert call(server, "echo").outcome is Outcome.OK


def test_leftovers_die_with_their_job_and_helpers_of_the_warm_up_do_not(start: Any, call: Any) -> None:
    server = start("helper")
    report = call(server, "leave")
    assert report.outcome is Outcome.OK
    alive, helper = report.value
    assert alive
    again = call(server, "echo")
    wait_for(lambda: children_of(again.value["parent"]) == [helper])
    server.close()
    wait_for(lambda: not Path(f"/proc/{helper}").exists())


def test_close_kills_what_runs(start: Any, call: Any) -> None:
    server = start()
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(call(server, "nap", {"seconds": 1000})))
    thread.start()
    wait_for(lambda: any(child.pid for child in server._children.values()))
    pid = next(iter(server._children.values())).pid
    server.close()
    thread.join()
    assert reports[0].outcome is Outcome.CRASH
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture
def stopped(start: Any, call: Any) -> tuple[ForkServer, int]:
    """A warm parent that somebody has stopped."""
    server = start()
    parent = call(server, "echo").value["parent"]
    os.kill(parent, signal.SIGSTOP)
    wait_for(lambda: is_stopped(parent))
    return server, parent


def test_a_timeout_holds_when_the_parent_is_stopped_in_between(
    start: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child runs, its parent does not: it is killed in time, and so is a parent that does not bury it."""
    monkeypatch.setattr(module, "_BURIAL_SECONDS", 1.0)
    server = start()
    reports: list[Report] = []
    thread = threading.Thread(
        target=lambda: reports.append(call(server, "burn", {"seconds": 1000}, timeout=3))
    )
    thread.start()
    wait_for(lambda: any(child.pid for child in server._children.values()))
    child = next(iter(server._children.values()))
    os.kill(server._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    thread.join(timeout=60)
    assert time.monotonic() - began < 15
    (report,) = reports
    assert report.outcome is Outcome.TIMEOUT
    assert 0.1 < report.cpu_seconds < 10  # what the kernel still knew of it
    assert process_start(child.pid) is None
    wait_for(lambda: process_start(server._process.pid) is None)
    assert not server.alive


def test_an_answer_counts_though_the_parent_was_stopped(
    start: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BURIAL_SECONDS", 1.0)
    server = start()
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(call(server, "burn", {"seconds": 2})))
    thread.start()
    wait_for(lambda: any(child.pid for child in server._children.values()))
    os.kill(server._process.pid, signal.SIGSTOP)
    thread.join(timeout=60)
    (report,) = reports
    assert report.outcome is Outcome.OK
    assert 1.9 <= report.cpu_seconds < 10  # in ticks of 10 ms
    assert not server.alive


def test_a_parent_that_starts_nothing_is_ended(
    stopped: tuple[ForkServer, int], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "_START_SECONDS", 1.0)
    server, parent = stopped
    report = call(server, "echo")
    assert report.outcome is Outcome.CRASH  # which is tried once more, with a new parent
    assert "has not answered for 1 s" in report.reason
    wait_for(lambda: process_start(parent) is None)
    assert not server.alive


def test_a_parent_that_reads_nothing_is_ended(
    stopped: tuple[ForkServer, int], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many long messages that the socket takes no more."""
    monkeypatch.setattr(forkserver, "_START_SECONDS", 1.0)
    server, _ = stopped
    with suppress(BlockingIOError):
        while True:
            server._socket.send(b"x" * 100_000, socket.MSG_DONTWAIT)
    assert "has not answered for 1 s" in call(server, "echo").reason


def test_a_stop_holds_when_the_parent_is_stopped(stopped: tuple[ForkServer, int], call: Any) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    assert call(stopped[0], "echo", stop=stop).outcome is Outcome.INTERRUPTED
    assert time.monotonic() - began < 5


def test_a_stopped_parent_is_closed_within_a_grace_period_and_leaves_nothing(start: Any, call: Any) -> None:
    """With a child in a group of its own, and that child's helper in a session of its own."""
    server = start("helper")
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(call(server, "leave_and_nap", {"seconds": 1000})))
    thread.start()
    wait_for(lambda: any(child.pid and children_of(child.pid) for child in server._children.values()))
    family = _family(server._process.pid)
    assert len(family) >= 4
    os.kill(server._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 16
    thread.join(timeout=30)
    assert reports[0].outcome is Outcome.CRASH
    wait_for(lambda: all(process_start(pid) is None for pid in family))


def _family(pid: int) -> list[int]:
    return [pid, *(found for child in children_of(pid) for found in _family(child))]
