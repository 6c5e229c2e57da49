"""Whatever a method does, it costs exactly its own pair, and the reason is on record."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

FINE = (
    "s01",
    "greedy",
    "native",
    "grandchildren",
    "litter",
    "threads",
    "flaky",
    "lonely",
    "fork",
    "nonsense",
    "s02",
)
BAD = {
    "raise": ("exception", "RuntimeError: said no", 1),
    "input": ("bad input", "is not a brain; give a brain", 1),
    "bad_alloc": ("out of memory", "an allocation failed", 2),
    "nan": ("exception", "not finite in 1 voxels", 1),
    "shape": ("exception", "not from Grid(16x16x16", 1),
    "type": ("exception", "returned ndarray instead of a Registration", 1),
    "array": ("exception", "field is a ndarray, not a DisplacementField", 1),
    "details": ("exception", "the answer has", 1),
    "segfault": ("crash", "killed by SIGSEGV", 2),
    "abort": ("crash", "killed by SIGABRT", 2),
    "sigkill": ("crash", "killed by SIGKILL", 2),
    "exit": ("crash", "ended with exit status 0 without an answer", 2),
    "sysexit": ("exception", "SystemExit: 0", 1),
    "hog": ("out of memory", "give it more with --memory", 2),
}


@pytest.fixture(scope="module")
def batch(make_lab: Callable[..., Any]) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """One run over a pair of every kind, two at a time."""
    order = [name for two in zip(BAD, FINE, strict=False) for name in two] + list(BAD)[len(FINE) :]
    lab = make_lab(*order)
    return lab, lab.run("--memory", "1200M", "--timeout", "20", "--cores", "2")


def test_exit_code_says_that_some_failed(batch: Any) -> None:
    _, ended = batch
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert f"{len(FINE)} of {len(FINE) + len(BAD)} done, {len(BAD)} failed" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("subject", BAD)
def test_a_fault_costs_its_own_pair_and_says_why(batch: Any, subject: str) -> None:
    lab, _ = batch
    outcome, reason, attempts = BAD[subject]
    status = lab.status(subject)
    assert status["outcome"] == outcome
    assert reason in status["reason"]
    assert len(status["attempts"]) == attempts == lab.counts()[subject]
    row = lab.results()[f"faulty/{subject}_ref"]
    assert (row["outcome"], row["reason"]) == (outcome, status["reason"])
    assert not lab.field(subject).exists()


@pytest.mark.parametrize("subject", FINE)
def test_the_others_are_done(batch: Any, subject: str) -> None:
    lab, _ = batch
    status = lab.status(subject)
    assert status["outcome"] == "ok", status
    array, _ = _field(lab, subject)
    assert array.shape == (16, 16, 16, 3)
    assert np.isfinite(array).all()
    row = lab.results()[f"faulty/{subject}_ref"]
    assert row["outcome"] == "ok"
    assert float(row["ndv_percent"]) == 0
    assert (lab.out / row["field"]).is_file()


def _field(lab: Any, subject: str) -> tuple[Any, Any]:
    import nibabel as nib

    image: Any = nib.load(lab.field(subject))
    return np.asarray(image.dataobj), image


def test_status_lists_every_failure_with_its_reason(batch: Any) -> None:
    lab, _ = batch
    told = lab.iterreg("status", lab.out)
    assert told.returncode == 2
    assert f"{len(FINE)} done" in told.stdout
    assert f"{len(BAD)} failed" in told.stdout
    for subject, (outcome, reason, _) in BAD.items():
        line = next(line for line in told.stdout.splitlines() if f"faulty/{subject}_ref:" in line)
        assert outcome in line
        assert reason in line


def test_nothing_is_left_running_or_lying_about(batch: Any) -> None:
    lab, _ = batch
    assert lab.survivors() == []
    assert lab.leftovers() == []


def test_native_output_goes_to_the_jobs_log(batch: Any) -> None:
    lab, ended = batch
    log = lab.log("native")
    assert log.count("native line of an engine") == 80_000
    assert "said by puts" in log
    assert "said by print" in log
    assert "native line" not in ended.stdout + ended.stderr


def test_the_log_of_a_crash_holds_what_was_said_before_it(batch: Any) -> None:
    lab, _ = batch
    log = lab.log("segfault")
    assert log.count("the last words") == 2
    assert "Segmentation fault" in log  # and the Python stack below it
    assert "attempt 2" in log


def test_a_crash_is_tried_once_more(batch: Any) -> None:
    lab, _ = batch
    status = lab.status("flaky")
    assert [one["outcome"] for one in status["attempts"]] == ["crash", "ok"]
    assert lab.results()["faulty/flaky_ref"]["attempts"] == "2"


def test_a_lack_of_memory_is_tried_once_more_alone(batch: Any) -> None:
    lab, _ = batch
    attempts = lab.status("lonely")["attempts"]
    assert [one["outcome"] for one in attempts] == ["out of memory", "ok"]


def test_memory_and_threads_are_recorded(batch: Any) -> None:
    lab, _ = batch
    assert lab.status("greedy")["peak_bytes"] > 300 * 2**20
    assert lab.status("s01")["peak_bytes"] > 20 * 2**20
    assert lab.status("threads")["threads"] == 1
    assert lab.status("threads")["threads_seen"] >= 7
    assert int(lab.results()["faulty/threads_ref"]["threads_seen"]) >= 7


def test_details_of_any_kind_reach_the_sidecar_as_json(batch: Any) -> None:
    lab, _ = batch
    sidecar = json.loads(lab.field("s01").with_name("disp_s01_ref.json").read_text())
    assert sidecar["details"] == {"number": 0.5, "nan": None, "array": [0, 1, 2]}
    assert sidecar["versions"]["faulty-plugin"] == "1.0"
    assert set(sidecar["inputs"]) == {"fixed", "moving"}


def test_z_a_second_run_does_only_what_is_missing(batch: Any) -> None:
    """Last in the module: it changes the run folder the others look at."""
    lab, _ = batch
    before = lab.counts()
    identical = lab.field("s01").stat().st_mtime_ns
    lab.faults(**dict.fromkeys(BAD, "mended"))
    ended = lab.run("--memory", "1200M", "--timeout", "20", "--cores", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    again = lab.counts() - before
    assert again == dict.fromkeys(BAD, 1)
    assert lab.field("s01").stat().st_mtime_ns == identical
    assert {row["outcome"] for row in lab.results().values()} == {"ok"}
    assert lab.iterreg("status", "--verify", lab.out).returncode == 0
    third = lab.run()
    assert third.returncode == 0
    assert lab.counts() == before + again


def test_jobs_that_fit_one_by_one_do_not_go_over_the_memory_together(make_lab: Callable[..., Any]) -> None:
    """Both take twice what they said. One has to go, is tried again alone, and the third asks for more."""
    lab = make_lab("giant", "s01", "s02")
    lab.faults(s01="giant", s02="giant")
    ended = lab.run("--cores", "2", "--threads", "1", "--memory", "500M")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    attempts = [lab.status(subject)["attempts"] for subject in lab.subjects]
    assert sorted(len(tried) for tried in attempts) == [1, 1, 2]
    (first,) = [tried[0] for tried in attempts if len(tried) == 2]
    assert first["outcome"] == "out of memory"
    assert "were expected, and all jobs together" in first["reason"]
    assert "of the 500 MiB they may have" in first["reason"]
    assert lab.survivors() == []
