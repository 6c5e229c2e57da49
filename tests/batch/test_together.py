"""Several processes working on one run folder at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from iterreg.jobs import claims
from iterreg.jobs.resources import is_stopped


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_job_is_done_exactly_once(
    make_lab: Callable[..., Any], plain_subjects: Callable[[int], list[str]], processes: int
) -> None:
    lab = make_lab("raise", "slow", *plain_subjects(12))
    running = [lab.start() for _ in range(processes)]
    codes = {one.wait(timeout=400) for one in running}
    output = lab.output()
    assert "Traceback" not in output, output
    assert codes <= {0, 2}, output
    # One that planned after the others had ended everything may try the failure again: never the others.
    counts = lab.counts()
    failures = counts.pop("raise")
    assert 1 <= failures <= processes
    assert counts == dict.fromkeys(lab.subjects[1:], 1), output
    results = lab.results()
    assert len(results) == 14
    assert [key for key, row in results.items() if row["outcome"] != "ok"] == ["faulty/raise_ref"]
    record = json.loads((lab.out / "run.json").read_text())
    assert len(record["commands"]) == processes
    assert lab.leftovers() == []
    assert lab.run().returncode == 2
    assert lab.counts() - counts == {"raise": failures + 1}


@pytest.mark.slow
def test_two_methods_from_two_processes_end_up_in_one_record(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "s01")
    running = [lab.start("--method", name) for name in ("faulty", "identity")]
    assert [one.wait(timeout=400) for one in running] == [0, 0], lab.output()
    assert len(lab.results()) == 4
    assert set(json.loads((lab.out / "run.json").read_text())["arms"]) == {"faulty", "identity"}
    told = lab.iterreg("status", lab.out)
    assert told.returncode == 0, told.stdout


def test_a_claim_of_another_host_is_respected_until_it_is_old(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("s00", "s01")
    folder = lab.out / "faulty" / "jobs" / "s00_ref"
    folder.mkdir(parents=True)
    (lab.out / "run.json").write_text(
        json.dumps({"format": 1, "arms": {}, "pairs": [], "commands": [], "dataset": {}})
    )
    claim = folder / "claim-0001"
    elsewhere = {"host": "node17", "boot": "another", "pids": "pid:[4026531836]", "pid": 1, "start": "1"}
    claim.write_text(json.dumps(elsewhere))
    ended = lab.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr  # all that was left to do here is done
    assert "another process is computing it" in ended.stderr
    assert "1 of 2 done, 1 with another process" in ended.stdout
    assert "--wait waits for them" in ended.stderr
    assert lab.counts() == {"s01": 1}
    assert "1 running" in lab.iterreg("status", lab.out).stdout

    old = claim.stat().st_mtime - claims.STALE_SECONDS - 10
    subprocess.run(["touch", "-d", f"@{old:.0f}", str(claim)], check=True)
    ended = lab.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lab.counts() == {"s00": 1, "s01": 1}
    assert lab.leftovers() == []


def test_an_owner_that_was_suspended_and_overruled_cannot_write(make_lab: Callable[..., Any]) -> None:
    """All of the first runner stands still in the middle of a job, another one does it, and it wakes up."""
    lab = make_lab("slow", "s01")
    first = lab.start("--cores", "1", SLOW_SECONDS="8")
    lab.await_executions("slow")
    family = lab.survivors()
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    lab.await_(lambda: all(is_stopped(pid) for pid in family))
    (claim,) = (lab.out / "faulty" / "jobs" / "slow_ref").glob("claim-*")
    assert "1 running" in lab.iterreg("status", lab.out).stdout
    old = claim.stat().st_mtime - claims.STALE_SECONDS - 10
    os.utime(claim, (old, old))

    second = lab.run("--cores", "1", SLOW_SECONDS="0")
    assert second.returncode == 0, second.stdout + second.stderr
    assert lab.counts() == {"slow": 2, "s01": 1}
    before = _contents(lab)
    for pid in family:
        os.kill(pid, signal.SIGCONT)
    assert first.wait(timeout=300) == 0, lab.output()
    assert "overruled    faulty slow_ref: this process was suspended for so long" in lab.output()
    assert "done already faulty slow_ref (by another process)" in lab.output()
    assert _contents(lab) == before
    assert lab.counts() == {"slow": 2, "s01": 1}
    assert lab.leftovers() == []
    assert lab.survivors() == []
    assert lab.iterreg("status", "--verify", lab.out).returncode == 0


def _contents(lab: Any) -> dict[str, bytes]:
    arm = lab.out / "faulty"
    return {
        str(path.relative_to(arm)): path.read_bytes()
        for path in arm.rglob("*")
        if path.is_file() and path.name != "log.txt"
    }


def test_wait_waits_for_the_others_and_takes_over_from_those_that_die(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("slow", "s01")
    first = lab.start("--cores", "1", SLOW_SECONDS="100000")
    lab.await_executions("slow")
    lab.faults(slow="fine")
    second = subprocess.Popen(
        lab.command("--cores", "1", "--wait"), env=lab.environment(), cwd=lab.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lab.await_executions("s01")
    assert second.stdout is not None
    for line in second.stdout:
        if "waiting for 1 job of other processes" in line:
            break
    first.kill()
    first.wait()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "2 of 2 done" in output
    assert lab.counts() == {"slow": 2, "s01": 1}
    lab.await_(lambda: lab.survivors() == [])
    assert lab.iterreg("status", lab.out).returncode == 0
