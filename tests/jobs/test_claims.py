"""Claims: one owner at a time, and dead owners overruled."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iterreg.jobs import claims


def test_one_owner_until_it_lets_go(tmp_path: Path) -> None:
    claim = claims.take(tmp_path)
    assert claim is not None
    assert claims.is_claimed(tmp_path)
    assert claims.take(tmp_path) is None
    claim.release()
    assert not claims.is_claimed(tmp_path)
    assert list(tmp_path.iterdir()) == []
    again = claims.take(tmp_path)
    assert again is not None
    again.release()


def test_a_claim_names_its_owner(tmp_path: Path) -> None:
    claim = claims.take(tmp_path)
    assert claim is not None
    owner = json.loads((tmp_path / "claim-0001").read_text())
    claim.release()
    assert owner["pid"] == os.getpid()
    assert owner["host"]
    assert owner["start"] == claims.process_start(os.getpid())


def test_a_dead_owner_of_this_host_is_overruled_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    write(tmp_path, pid=process.pid, start=claims.process_start(process.pid), **claims.place())
    assert claims.is_claimed(tmp_path)
    assert claims.take(tmp_path) is None
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not claims.is_claimed(tmp_path)  # a zombie does not work any more
    process.wait()
    claim = claims.take(tmp_path)
    assert claim is not None
    assert (tmp_path / "claim-0002").exists()
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_used_again_is_not_the_owner(tmp_path: Path) -> None:
    write(tmp_path, pid=os.getpid(), start="1", **claims.place())
    assert not claims.is_claimed(tmp_path)


@pytest.mark.parametrize(
    "place", [{"boot": "another"}, {"pids": "pid:[1]"}, {"boot": "another", "pids": "x"}]
)
def test_owners_elsewhere_live_until_their_heartbeat_stops(tmp_path: Path, place: dict[str, str]) -> None:
    """Another host, or another container whose pids mean other processes."""
    path = write(tmp_path, pid=os.getpid(), start="1", **{**claims.place(), **place})
    assert claims.take(tmp_path) is None
    old = path.stat().st_mtime - claims.STALE_SECONDS - 5
    os.utime(path, (old, old))
    claim = claims.take(tmp_path)
    assert claim is not None
    claim.release()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '"x"', "{}"])
def test_a_claim_that_is_being_written_is_live_by_its_age(tmp_path: Path, content: str) -> None:
    path = tmp_path / "claim-0001"
    path.write_text(content)
    assert claims.take(tmp_path) is None
    os.utime(path, (1, 1))
    claim = claims.take(tmp_path)
    assert claim is not None
    claim.release()


def test_the_heartbeat_keeps_a_claim_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.05)
    claim = claims.take(tmp_path)
    assert claim is not None
    path = tmp_path / "claim-0001"
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 30
    while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
        time.sleep(0.02)
    claim.release()
    assert time.monotonic() < deadline


def test_no_claim_is_left_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space"):
        claims.take(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_hold_waits_its_turn_and_gives_up_in_the_end(tmp_path: Path) -> None:
    with claims.hold(tmp_path) as first:
        assert first
        with claims.hold(tmp_path, wait_seconds=0.05) as second:
            assert not second
        assert claims.is_claimed(tmp_path)  # the one that waited in vain took nothing away
    assert not claims.is_claimed(tmp_path)


@pytest.fixture
def just_before_creating(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen between the look at a folder and the creation of a claim in it."""
    create = os.open

    def arrange(event: Callable[[], None]) -> None:
        events = [event]

        def late(path: Path, flags: int, mode: int = 0o777) -> int:
            if events:
                events.pop()()
            return create(path, flags, mode)

        monkeypatch.setattr(os, "open", late)

    return arrange


def test_a_rival_that_is_faster_keeps_its_claim(tmp_path: Path, just_before_creating: Any) -> None:
    rivals = []
    just_before_creating(lambda: rivals.append(claims.take(tmp_path)))
    assert claims.take(tmp_path) is None
    assert rivals[0] is not None
    rivals[0].release()
    assert list(tmp_path.iterdir()) == []


def test_a_rival_with_another_number_keeps_its_claim(tmp_path: Path, just_before_creating: Any) -> None:
    """While we look at a stale claim, others overrule it, end the job, let go, and one begins anew."""
    write(tmp_path, pid=2**22 + 1, start="1", **claims.place()).rename(tmp_path / "claim-0005")
    rivals = []

    def others() -> None:
        (tmp_path / "claim-0005").unlink()
        rivals.append(claims.take(tmp_path))

    just_before_creating(others)
    assert claims.take(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim-0001"]
    assert rivals[0] is not None
    rivals[0].release()


def test_many_processes_race_for_many_jobs(tmp_path: Path) -> None:
    """Every job is done once, nobody is ever in twice at a time, and stale claims make no difference."""
    jobs = [tmp_path / f"job{number}" for number in range(40)]
    for number, job in enumerate(jobs):
        job.mkdir()
        if number % 2:
            write(job, pid=2**22 + 1, start="1", **claims.place())
    with multiprocessing.get_context("fork").Pool(8) as pool:
        reports = pool.starmap(work_off, [(jobs, seed) for seed in range(8)], chunksize=1)
    for job in jobs:
        assert (job / "done").read_text() == "once\n"
        assert sorted(path.name for path in job.iterdir()) == ["done"]
    assert sum(done for done, _ in reports) == 40
    assert sum(clashes for _, clashes in reports) == 0


def work_off(jobs: list[Path], seed: int) -> tuple[int, int]:
    """Do what is not done, over and over, as colliding processes would."""
    done = clashes = 0
    while not all((job / "done").exists() for job in jobs):
        for job in jobs[seed:] + jobs[:seed]:
            claim = claims.take(job)
            if claim is None:
                continue
            try:
                try:
                    os.close(os.open(job / "inside", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    clashes += 1
                if not (job / "done").exists():
                    done += 1
                    with (job / "done").open("a") as stream:
                        stream.write("once\n")
                (job / "inside").unlink(missing_ok=True)
            finally:
                claim.release()
    return done, clashes


def write(folder: Path, **owner: object) -> Path:
    path = folder / "claim-0001"
    path.write_text(json.dumps({"host": "somewhere", **owner}))
    return path
