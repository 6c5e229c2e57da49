"""Kills and interruptions at every level: nothing stays alive, nothing is lost, the same command goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOR_EVER = {"SLOW_SECONDS": "100000"}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _resumes(lab: Any, *subjects: str) -> None:
    """The same command finishes the batch, doing anew what was cut off and nothing else."""
    assert lab.iterreg("status", lab.out).returncode == 3
    before = lab.counts()
    lab.faults(**dict.fromkeys(lab.subjects, "fine"))
    ended = lab.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lab.counts() - before == dict.fromkeys(subjects, 1)
    assert len(lab.results()) == len(lab.subjects)
    assert lab.leftovers() == []
    assert lab.survivors() == []


def test_kill_9_of_the_main_process(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "grandchildren", "slow", "s01")
    lab.faults(grandchildren="slow")
    main = lab.start(**FOR_EVER)
    lab.await_executions("s00", "grandchildren", "slow")
    assert list(lab.scratch.iterdir())
    os.kill(main.pid, signal.SIGKILL)
    assert main.wait() == -signal.SIGKILL
    lab.await_(lambda: lab.survivors() == [])
    told = lab.iterreg("status", lab.out)
    assert "1 done, 3 missing" in told.stdout  # not running: the claims are stale at once on this host
    assert list(lab.scratch.iterdir())  # nobody was left to remove it
    _resumes(lab, "grandchildren", "slow", "s01")


def test_kill_9_of_the_warm_parent(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("slow", "s00")
    main = lab.start(SLOW_SECONDS="3")
    lab.await_executions("slow")
    (server,) = [pid for pid in lab.survivors() if _parent(pid) == main.pid]
    os.kill(server, signal.SIGKILL)
    assert main.wait(timeout=300) == 0, lab.output()
    first, second = lab.status("slow")["attempts"]
    assert first["outcome"] == "crash"
    assert "parent process died or was stopped" in first["reason"]
    assert second["outcome"] == "ok"
    assert lab.status("s00")["outcome"] == "ok"
    assert lab.survivors() == []
    assert lab.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(make_lab: Callable[..., Any], how: signal.Signals) -> None:
    lab = make_lab("s00", "slow", "s01")
    lab.faults(s01="slow")
    main = lab.start(**FOR_EVER)
    lab.await_executions("s00", "slow", "s01")
    main.send_signal(how)
    assert main.wait(timeout=120) == 130
    assert "interrupted: the same command goes on from here" in lab.output()
    assert "Traceback" not in lab.output()
    assert lab.survivors() == []
    assert lab.leftovers() == []
    assert lab.results().keys() == {"faulty/s00_ref"}
    _resumes(lab, "slow", "s01")


def test_ctrl_c_on_a_terminal(make_lab: Callable[..., Any]) -> None:
    """The terminal sends SIGINT to its whole foreground group, and shows the bar until then."""
    lab = make_lab("s00", "slow", "s01")
    lab.faults(s01="slow")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    main = subprocess.Popen(
        ["setsid", "--ctty", *lab.command()],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=lab.root, env=lab.environment(**FOR_EVER),
    )  # fmt: skip
    os.close(theirs)
    shown = _Screen(ours)
    lab.await_executions("s00", "slow", "s01")
    lab.await_(lambda: "1/3 |" in shown.text() and "left; faulty s" in shown.text())
    os.write(ours, b"\x03")
    assert main.wait(timeout=120) == 130, shown.text()
    assert lab.survivors() == []
    assert lab.leftovers() == []
    text = shown.text()
    assert "Traceback" not in text
    assert "KeyboardInterrupt" not in text
    assert text.rstrip().endswith("interrupted: the same command goes on from here")
    _resumes(lab, "slow", "s01")


class _Screen:
    """Reads a terminal in the background."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self._bytes += os.read(self._descriptor, 4096)
            except OSError:  # how Linux says that the other side is closed
                return

    def text(self) -> str:
        return bytes(self._bytes).decode(errors="replace")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_while_an_engine_warms_up(make_lab: Callable[..., Any], how: signal.Signals) -> None:
    """No job waits for an import that nobody needs any more, and the import does not outlive the batch."""
    lab = make_lab("s00", "s01")
    main = lab.start("--method", "slowwarm", WARM_SECONDS="100000")
    lab.await_(lab.executions.with_name("executions.txt.warming").exists)
    main.send_signal(how)
    assert main.wait(timeout=120) == (130 if how is signal.SIGINT else -9)
    lab.await_(lambda: lab.survivors() == [])
    assert lab.counts() == {}


def test_engines_that_do_not_come_up(make_lab: Callable[..., Any]) -> None:
    """Every pair says why, and the broken import is not repeated for each of them."""
    lab = make_lab(*(f"s{number}" for number in range(6)))
    ended = lab.run("--method", "badwarm", "--method", "crashwarm", "--method", "faulty", "--cores", "2")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stdout + ended.stderr
    for subject in lab.subjects:
        status = lab.status(subject, "badwarm")
        assert status["outcome"] == "exception"
        assert "ImportError: libengine.so.4: cannot open shared object file" in status["reason"]
        assert "killed by SIGSEGV" in lab.status(subject, "crashwarm")["reason"]
        assert lab.status(subject)["outcome"] == "ok"
    assert len(lab.executions.with_name("executions.txt.badwarm").read_text()) == 2
    refused = lab.run("--method", "noimport")
    assert refused.returncode == 1
    assert "'noimport' cannot be loaded (ModuleNotFoundError" in refused.stderr


def test_an_end_within_a_grace_period_though_the_warm_parents_are_stopped(
    make_lab: Callable[..., Any],
) -> None:
    """A scheduler sends SIGTERM and kills half a minute later; claims must have been given back by then."""
    lab = make_lab("slow")
    main = lab.start("--method", "faulty", "--method", "slowwarm", WARM_SECONDS="0", **FOR_EVER)
    lab.await_executions("slow", times=2)
    servers = [pid for pid in lab.survivors() if _parent(pid) == main.pid]
    assert len(servers) == 2
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    main.send_signal(signal.SIGTERM)
    assert main.wait(timeout=120) == 130, lab.output()
    assert time.monotonic() - began < 30
    assert lab.survivors() == []
    assert lab.leftovers() == []
