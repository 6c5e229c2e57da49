"""The run folder: what is in it always belongs together, whenever its writer is killed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from iterreg.batch.scratch import Scratch
from iterreg.errors import InputError
from iterreg.jobs.claims import place, process_start
from iterreg.jobs.hashing import digest
from iterreg.runs import JobFolder, JobStatus, RunFolder, RunRecord, Sidecar
from iterreg.runs.record import DatasetRecord


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """A job that was done once, and whose next attempt was killed in the middle of everything."""
    made = RunFolder(tmp_path / "run").arm("syn").job("1_2")
    files = (made.status, made.log, made.field, made.sidecar, made.inverse, made.momentum)
    for path in (*files, made.unfinished / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    (made.folder / ".1234.partial.status.json").write_text("half")
    (made.folder / ".clock-1-2").touch()
    (made.folder / "claim-0001").touch()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_attempt_begins_with_nothing_that_claims_to_be_done(job: JobFolder) -> None:
    job.begin()
    assert names(job.folder) == ["claim-0001", "log.txt", "unfinished"]
    assert names(job.unfinished) == ["inverse"]
    assert names(job.arm.fields) == names(job.inverse.parent) == names(job.momentum.parent) == []


def test_the_status_goes_first(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two removals, a status never stands beside a field that it does not describe."""
    gone: list[str] = []
    unlink = Path.unlink

    def see(self: Path, missing_ok: bool = False) -> None:
        gone.append(self.name)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", see)
    job.begin()
    assert gone[0] == "status.json"


def test_finish_moves_all_and_the_field_last(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    job.begin()
    for kind in ("field", "inverse", "momentum"):
        job.draft(getattr(job, kind)).write_text(kind)
    moved: list[str] = []
    replace = Path.replace

    def see(self: Path, target: Path) -> Path:
        if "unfinished" not in target.parts:
            moved.append(f"{target.parent.name}/{target.name}")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", see)
    job.finish(Sidecar(JobStatus("ok"), command="iterreg run"))
    assert moved[:2] == ["inverse/disp_1_2.nii.gz", "momentum/1_2.npz"]
    assert moved[2:] == ["fields/disp_1_2.json", "fields/disp_1_2.nii.gz"]
    for kind in ("field", "inverse", "momentum"):
        assert getattr(job, kind).read_text() == kind
    written = json.loads(job.sidecar.read_text())
    assert (written["outcome"], written["command"]) == ("ok", "iterreg run")
    assert names(job.folder) == ["claim-0001", "log.txt"]


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
    for name in kept + swept:
        (tmp_path / name / "job").mkdir(parents=True)
        (tmp_path / name / "job" / "big.bin").touch()
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
