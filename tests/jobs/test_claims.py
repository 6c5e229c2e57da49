"""Claims: one owner at a time, and dead owners overruled."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iterreg.jobs import claims
from iterreg.jobs.resources import is_stopped, process_start


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
    assert owner["start"] == process_start(os.getpid())


def test_a_dead_owner_of_this_host_is_overruled_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    write(tmp_path, pid=process.pid, start=process_start(process.pid), **claims.place())
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
    with claims.hold(tmp_path):
        holder = f"has been held by process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(TimeoutError, match=holder), claims.hold(tmp_path, wait_seconds=0.05):
            raise AssertionError("the block must not be entered")
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


def junk(folder: Path) -> list[str]:
    """What editors, copies and strangers leave beside claims."""
    for name in ("claim-0001~", "claim-xyz", "claim-", "claim-0001.bak", "claim-１２", ".claim-0001.swp"):
        (folder / name).write_text("{}")
    (folder / "claim-0007").mkdir()
    os.mkfifo(folder / "claim-0008")
    (folder / "claim-0009").symlink_to("claim-0009")
    return sorted(path.name for path in folder.iterdir())


def test_junk_beside_claims_is_none(tmp_path: Path) -> None:
    before = junk(tmp_path)
    assert not claims.is_claimed(tmp_path)
    claim = claims.take(tmp_path)
    assert claim is not None
    assert (tmp_path / "claim-0010").exists()
    assert claims.is_claimed(tmp_path)
    assert claims.take(tmp_path) is None
    claim.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"\0" * 10, b"[" * 4000, b'{"pid": "../self"}', b'{"pid": []}', b"x" * 10_000],
)
def test_rubbish_in_a_claim_is_live_by_its_age(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "claim-0001"
    path.write_bytes(content)
    assert claims.take(tmp_path) is None
    os.utime(path, (1, 1))
    claim = claims.take(tmp_path)
    assert claim is not None
    claim.release()


def test_a_pid_that_is_no_number_is_no_process(tmp_path: Path) -> None:
    path = write(tmp_path, pid="1/../self", start="1", **claims.place())
    assert claims.take(tmp_path) is None
    os.utime(path, (1, 1))
    assert not claims.is_claimed(tmp_path)


def test_a_claim_of_the_future_counts_by_how_long_it_is_seen_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock was set back, and the claim is another user's: it cannot be given another date."""
    path = write(tmp_path, pid=1, start="1", boot="another")
    ahead = time.time() + 10_000
    os.utime(path, (ahead, ahead))
    monkeypatch.setattr(claims, "_date", lambda _: None)
    assert claims.take(tmp_path, stale_seconds=0.3) is None
    time.sleep(0.2)
    os.utime(path, (ahead + 20, ahead + 20))  # its owner lives
    assert claims.take(tmp_path, stale_seconds=0.3) is None
    time.sleep(0.2)
    assert claims.take(tmp_path, stale_seconds=0.3) is None
    time.sleep(0.2)
    assert not claims.is_claimed(tmp_path, stale_seconds=0.3)
    claim = claims.take(tmp_path, stale_seconds=0.3)
    assert claim is not None
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_of_the_future_grows_old_for_all_once_somebody_wanted_it(tmp_path: Path) -> None:
    """Short runs one after the other see it for a moment each."""
    path = write(tmp_path, pid=1, start="1", boot="another")
    ahead = time.time() + 10_000
    os.utime(path, (ahead, ahead))
    assert claims.is_claimed(tmp_path)
    assert path.stat().st_mtime == pytest.approx(ahead)  # who only looks changes nothing
    assert claims.take(tmp_path) is None
    assert abs(path.stat().st_mtime - time.time()) < 60


def test_a_stopped_owner_of_this_host_lives_by_its_heartbeat(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    try:
        path = write(tmp_path, pid=process.pid, start=process_start(process.pid), **claims.place())
        os.utime(path, (1, 1))
        assert claims.is_claimed(tmp_path)  # it runs: what clocks say does not matter
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid))
        assert not claims.is_claimed(tmp_path)
        os.utime(path)
        assert claims.is_claimed(tmp_path)  # stopped a moment ago
    finally:
        process.kill()
        process.wait()


def test_an_owner_that_was_overruled_is_told(tmp_path: Path) -> None:
    first = claims.take(tmp_path)
    assert first is not None
    with first.fenced():
        (tmp_path / "result").write_text("first")
    dead = json.loads((tmp_path / "claim-0001").read_text()) | {"boot": "another"}
    (tmp_path / "claim-0001").write_text(json.dumps(dead))
    os.utime(tmp_path / "claim-0001", (1, 1))  # it looks as if suspended for long
    second = claims.take(tmp_path)
    assert second is not None
    assert first.name != second.name
    with pytest.raises(claims.OverruledError, match="suspended"), first.fenced():
        raise AssertionError("the block must not be entered")
    second.release()
    third = claims.take(tmp_path)  # it bears the first one's number
    assert third is not None
    assert (tmp_path / "claim-0001").exists()
    assert third.name != first.name
    with pytest.raises(claims.OverruledError), first.fenced():
        raise AssertionError("the block must not be entered")
    first.release()
    with third.fenced():
        assert claims.is_claimed(tmp_path)
    third.release()


def test_a_folder_that_is_gone_is_no_overruling_by_itself(tmp_path: Path) -> None:
    claim = claims.take(tmp_path)
    assert claim is not None
    with pytest.raises(FileNotFoundError), claim.fenced():
        (tmp_path / "nowhere" / "file").write_text("x")
    claim.release()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
