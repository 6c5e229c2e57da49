"""Several processes working on one run folder at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from iterreg.jobs import claims


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_job_is_done_exactly_once(
    make_lab: Callable[..., Any], plain_subjects: Callable[[int], list[str]], processes: int
) -> None:
    lab = make_lab("raise", "slow", *plain_subjects(12))
    running = [lab.start() for _ in range(processes)]
    codes = {one.wait(timeout=400) for one in running}
    output = lab.output()
    assert "Traceback" not in output, output
    assert codes <= {0, 2, 3}, output  # 3: it ended while another was still at work
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
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "another process is computing it" in ended.stderr
    assert lab.counts() == {"s01": 1}
    assert "1 running" in lab.iterreg("status", lab.out).stdout

    old = claim.stat().st_mtime - claims.STALE_SECONDS - 10
    subprocess.run(["touch", "-d", f"@{old:.0f}", str(claim)], check=True)
    ended = lab.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lab.counts() == {"s00": 1, "s01": 1}
    assert lab.leftovers() == []
