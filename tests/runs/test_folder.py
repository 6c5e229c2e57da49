"""The run folder: what is in it always belongs together, whenever its writer is killed."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from iterreg.batch.scratch import Scratch
from iterreg.errors import InputError
from iterreg.jobs import claims
from iterreg.jobs.claims import place
from iterreg.jobs.hashing import digest
from iterreg.jobs.resources import process_start
from iterreg.runs import JobFolder, JobStatus, RunFolder, RunRecord, Sidecar, folder
from iterreg.runs.record import DatasetRecord


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """A job that was done once, and whose next attempt was killed in the middle of everything."""
    made = replace(RunFolder(tmp_path / "run").arm("syn").job("1_2"), claim="0001-aa")
    files = (made.status, made.log, made.field, made.sidecar, made.inverse, made.momentum)
    for path in (*files, made.folder / "unfinished-0001-bb" / "x", made.folder / "unfinished" / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    (made.folder / ".1234.partial.status.json").write_text("half")
    (made.folder / ".clock-1-2").touch()
    (made.folder / "claim-0001").touch()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_attempt_begins_with_nothing_that_claims_to_be_done(job: JobFolder) -> None:
    job.fence()
    assert names(job.folder) == ["claim-0001", "log.txt", "status.json", "unfinished-0001-aa"]
    job.begin()
    assert names(job.folder) == ["claim-0001", "log.txt", "unfinished-0001-aa"]
    assert names(job.unfinished) == ["inverse"]
    assert names(job.arm.fields) == names(job.inverse.parent) == names(job.momentum.parent) == []


def test_the_status_goes_first(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two removals, a status never stands beside a field that it does not describe."""
    gone: list[str] = []
    replace = Path.replace

    def see(self: Path, target: Path) -> Path:
        gone.append(self.name)
        return replace(self, target)

    job.fence()
    monkeypatch.setattr(Path, "replace", see)
    job.begin()
    assert gone[0] == "status.json"


def test_finish_moves_all_and_the_field_last(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    job.fence()
    job.begin()
    for kind in ("field", "inverse", "momentum"):
        job.draft(getattr(job, kind)).write_text(kind)
    moved: list[str] = []
    replace = Path.replace

    def see(self: Path, target: Path) -> Path:
        if "unfinished" not in target.parent.name:
            moved.append(f"{target.parent.name}/{target.name}")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", see)
    job.finish(JobStatus("ok"), Sidecar(JobStatus("ok"), command="iterreg run"))
    assert moved[:2] == ["inverse/disp_1_2.nii.gz", "momentum/1_2.npz"]
    assert moved[2:] == ["fields/disp_1_2.json", "fields/disp_1_2.nii.gz", "1_2/status.json"]
    for kind in ("field", "inverse", "momentum"):
        assert getattr(job, kind).read_text() == kind
    written = json.loads(job.sidecar.read_text())
    assert (written["outcome"], written["command"]) == ("ok", "iterreg run")
    assert json.loads(job.status.read_text())["outcome"] == "ok"
    assert names(job.folder) == ["claim-0001", "log.txt", "status.json"]


@pytest.mark.parametrize("moment", ["begin", "begin again", "finish", "fail"])
def test_an_owner_that_was_fenced_off_changes_nothing(job: JobFolder, moment: str) -> None:
    """It was suspended just before; meanwhile another one has taken the job over and ended it."""
    job.fence()
    if moment != "begin":
        job.begin()
        job.draft(job.field).write_text("first")
    second = replace(job, claim="0002-cc")
    second.fence()
    second.begin()
    for kind in ("field", "inverse", "momentum"):
        second.draft(getattr(second, kind)).write_text("second")
    done = JobStatus("ok", host="second")
    second.finish(done, Sidecar(done))
    mine = JobStatus("ok", host="first")
    with pytest.raises(FileNotFoundError):
        job.begin() if moment.startswith("begin") else job.finish(
            mine, Sidecar(mine) if moment == "finish" else None
        )
    for path in (job.field, job.inverse, job.momentum):
        assert path.read_text() == "second"
    for path in (job.status, job.sidecar):
        assert json.loads(path.read_text())["host"] == "second"
    job.discard()
    assert names(job.folder) == ["claim-0001", "log.txt", "status.json"]


def test_an_owner_that_is_fenced_off_halfway_leaves_nothing_of_its_own(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.fence()
    job.begin()
    for kind in ("field", "inverse", "momentum"):
        job.draft(getattr(job, kind)).write_text("first")
    second = replace(job, claim="0002-cc")
    write = folder.write_json

    def overrule(path: Path, value: object) -> None:
        if path.name == "status.json":  # the field is in its place, its status not yet
            second.fence()
        write(path, value)

    monkeypatch.setattr(folder, "write_json", overrule)
    with pytest.raises(FileNotFoundError):
        job.finish(JobStatus("ok"), Sidecar(JobStatus("ok")))
    assert job.field.exists()
    assert not job.status.exists()  # so the second does not take it for done
    second.begin()
    assert names(job.arm.fields) == names(job.inverse.parent) == names(job.momentum.parent) == []


def test_a_run_that_was_killed_before_its_record_is_still_a_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / ".77aa.partial.run.json").write_text("half")
    folder.create()
    with folder.lock():
        folder.write(RunRecord(DatasetRecord("few", tmp_path / "few.csv")))
    assert names(folder.path) == [".lock", "logs", "run.json"]
    assert folder.read().dataset == DatasetRecord("few", tmp_path / "few.csv")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.nii.gz").touch()
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder(tmp_path / "other").create()


def scratch_name(pid: int, start: str, *, here: str | None = None) -> str:
    return f"iterreg-scratch.{here or digest(place())[:12]}.{pid}.{start}.abc"


def test_scratch_of_dead_runs_is_swept_and_of_living_ones_kept(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    start = process_start(process.pid)
    assert start
    kept = [
        scratch_name(process.pid, start),
        scratch_name(os.getpid(), process_start(os.getpid()) or ""),
        scratch_name(2**22 + 1, "1", here="another-host"),
        "something-else",
    ]
    swept = [scratch_name(2**22 + 1, "1"), scratch_name(process.pid, "1")]
    here = digest(place())[:12]
    kept += [  # strangers' and rubbish
        f"iterreg-scratch.{here}.x", f"iterreg-scratch.{here}.mine.1.abc",
        f"iterreg-scratch.{here}.1.2.3.4.5", f"iterreg-scratch.{here}..1.abc",
        f"iterreg-scratch.{here}.{10**12}.1.abc", "iterreg-scratch.",
    ]  # fmt: skip
    for name in kept + swept:
        (tmp_path / name / "job").mkdir(parents=True)
        (tmp_path / name / "job" / "big.bin").touch()
    stranger = tmp_path / scratch_name(2**22 + 2, "1")
    stranger.mkdir()
    if os.getuid() == 0:  # only root may give files away
        os.chown(stranger, 12345, 12345)
        kept.append(stranger.name)
    try:
        scratch = Scratch(tmp_path)
        with scratch.job() as folder:
            assert names(folder) == []
            (folder / "litter").touch()
            assert folder.is_absolute()
        assert names(scratch.path) == []
        assert names(tmp_path) == sorted([*kept, scratch.path.name])
        scratch.close()
        assert names(tmp_path) == sorted(kept)
    finally:
        process.kill()
        process.wait()


def test_a_lock_that_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else holds it and does not let go: nothing is written behind his back."""
    run = RunFolder(tmp_path / "run")
    run.create()
    monkeypatch.setattr(folder, "hold", partial(claims.hold, wait_seconds=0.1))
    with run.lock():
        with pytest.raises(TimeoutError, match=f"has been held by process {os.getpid()} on"), run.lock():
            raise AssertionError("the block must not be entered")
        assert names(run.path / ".lock") == ["claim-0001"]
