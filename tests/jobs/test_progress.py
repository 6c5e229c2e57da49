"""Progress: a bar on a terminal, plain lines in a log, a forecast that learns."""

from __future__ import annotations

import io
import os
import pty
import re
import termios
import threading
import time
from contextlib import suppress
from typing import IO

import pytest

from iterreg.jobs import progress as module
from iterreg.jobs.progress import Progress, format_seconds


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (6060, "1 h 41 min"), (10**6, "11 d 13 h")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_plain_lines_in_a_log() -> None:
    stream = io.StringIO()
    progress = Progress(10, parallel=1, stream=stream)
    for job in "ab":
        progress.expect(job, "syn", 60)
    progress.begin("a", "syn")
    progress.end("a", "syn", "ok syn a", measured=60)
    progress.say("a remark")
    progress.begin("b", "syn")
    progress.end("b", "syn", "failed syn b")
    progress.close()
    assert stream.getvalue().splitlines() == [
        "[ 1/10] ok syn a; 60 s left",
        "a remark",
        "[ 2/10] failed syn b",
    ]


def test_quiet_is_quiet() -> None:
    stream = io.StringIO()
    progress = Progress(1, parallel=1, stream=stream, quiet=True)
    progress.expect("a", "syn", 1)
    progress.end("a", "syn", "ok")
    progress.close()
    assert stream.getvalue() == ""


def test_an_end_is_counted_once() -> None:
    stream = io.StringIO()
    progress = Progress(2, parallel=1, stream=stream)
    progress.expect("a", "syn", 1)
    progress.end("a", "syn", "ok")
    progress.end("a", "syn", "but not recorded")
    progress.close()
    assert stream.getvalue().splitlines() == ["[1/2] ok", "but not recorded"]


def test_a_reader_that_has_gone_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as stream:
        progress = Progress(1, parallel=1, stream=stream)
        progress.expect("a", "syn", 1)
        progress.end("a", "syn", "ok")
        progress.close()
        assert progress.remaining() == 0


def test_the_forecast_shares_out_what_is_ahead(clock: Clock) -> None:
    progress = Progress(4, parallel=2, stream=io.StringIO(), quiet=True)
    for job in "abcd":
        progress.expect(job, "syn", 100)
    assert progress.remaining() == pytest.approx(200)
    progress.begin("a", "syn")
    progress.begin("b", "syn")
    clock.now += 50
    assert progress.remaining() == pytest.approx(150)
    clock.now += 1000  # both overrun: what is left of them is little, but not nothing
    assert progress.remaining() == pytest.approx(105)
    progress.close()


def test_the_forecast_learns_for_each_kind(clock: Clock) -> None:
    progress = Progress(4, parallel=1, stream=io.StringIO(), quiet=True)
    for job in "ab":
        progress.expect(job, "syn", 100)
        progress.expect(job, "elastix", 10)
    progress.begin("a", "syn")
    progress.end("a", "syn", "ok", measured=300)
    assert progress.remaining() == pytest.approx(300 + 20)
    progress.begin("a", "elastix")
    progress.end("a", "elastix", "failed")  # teaches nothing
    assert progress.remaining() == pytest.approx(300 + 10)
    progress.end("b", "syn", "ok", measured=300)
    progress.end("b", "elastix", "ok", measured=1)
    assert progress.remaining() == 0
    progress.close()


def test_a_forecast_of_20000_jobs_is_cheap() -> None:
    progress = Progress(20_000, parallel=4, stream=io.StringIO())
    for number in range(20_000):
        progress.expect(str(number), "syn", 10)
    began = time.process_time()
    for number in range(20_000):
        progress.begin(str(number), "syn")
        progress.end(str(number), "syn", "ok", measured=1)
    assert time.process_time() - began < 5  # 0.3 s when idle; a forecast over all jobs each time took minutes
    progress.close()


class Terminal:
    """A terminal of some width; `screen` is what a user would see of its lines."""

    def __init__(self, columns: int) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(columns)
        self.stream: IO[str] = os.fdopen(theirs, "w")
        self.raw = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.ours, (24, columns))

    def _read(self) -> None:
        while True:
            try:
                self.raw += os.read(self.ours, 4096)
            except OSError:
                return

    def screen(self) -> list[str]:
        self.stream.close()
        self._thread.join()
        lines = []
        for line in bytes(self.raw).decode().replace("\r\n", "\n").split("\n"):
            shown: list[str] = []
            for part in line.split("\r"):
                shown[: len(part)] = part
            lines.append("".join(shown).rstrip())
        return lines


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.02)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("columns", [30, 80, 200])
def test_a_bar_on_a_terminal_leaves_no_rubbish(columns: int) -> None:
    terminal = Terminal(columns)
    progress = Progress(2, parallel=1, stream=terminal.stream)
    for job in "ab":
        progress.expect(job, "syn", 60)
    progress.begin("a", "syn")
    time.sleep(0.2)
    progress.end("a", "syn", "ok syn a", measured=60)
    terminal.resize(columns // 2)
    progress.begin("b", "syn")
    time.sleep(0.2)
    progress.end("b", "syn", "ok syn b", measured=60)
    progress.close()
    print("2 of 2 done", file=terminal.stream)
    assert terminal.screen() == ["[1/2] ok syn a", "[2/2] ok syn b", "2 of 2 done", ""]
    drawn = bytes(terminal.raw).decode()
    assert "0/2 |" in drawn
    if columns >= 80:
        assert re.search(r"0/2 \|.*\| 00:00, about \d+ (s|min) left; syn a", drawn)
    longest = max(len(part) for part in re.split(r"[\r\n]", drawn))
    assert longest <= columns


def test_a_terminal_without_a_size_gets_lines() -> None:
    terminal = Terminal(0)
    progress = Progress(1, parallel=1, stream=terminal.stream)
    progress.expect("a", "syn", 60)
    progress.end("a", "syn", "ok syn a")
    progress.close()
    assert terminal.screen() == ["[1/1] ok syn a", ""]


@pytest.mark.parametrize(
    ("foretold", "said"),
    [(1000, r"1 running, the longest for 0 s; 1\d min left"),
     (0.01, r"1 running, the longest for 0 s, longer than foretold\n")],
)  # fmt: skip
def test_a_long_silence_in_a_log_is_broken(
    monkeypatch: pytest.MonkeyPatch, foretold: float, said: str
) -> None:
    """A job that overruns its forecast makes no promise of seconds left."""
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(module, "_HEARTBEAT_SECONDS", 0.05)
    stream = io.StringIO()
    progress = Progress(1, parallel=1, stream=stream)
    progress.expect("a", "syn", foretold)
    progress.begin("a", "syn")
    deadline = time.monotonic() + 30
    while not re.search(said, stream.getvalue()) and time.monotonic() < deadline:
        time.sleep(0.01)
    progress.close()
    assert time.monotonic() < deadline
