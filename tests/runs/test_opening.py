"""`open_results` says what any path is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iterreg.dataset import Pair, Scan
from iterreg.errors import InputError
from iterreg.jobs.atomic import write_json
from iterreg.runs import ArmRecord, JobStatus, RunFolder, RunRecord, Sidecar, open_results
from iterreg.runs.opening import dataset_of, open_named
from iterreg.runs.record import DatasetRecord
from iterreg.runs.status import WrittenFile


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of two arms, of which one has begun."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    pair = Pair(
        Scan(tmp_path / "1.nii.gz", "1", mask=tmp_path / "mask.nii.gz"), Scan(tmp_path / "2.nii.gz", "2")
    )
    folder.write(
        RunRecord(
            DatasetRecord("few", tmp_path / "few.csv"),
            (pair,),
            {"syn": ArmRecord("syn", seed=5, version="v2"), "lddmm": ArmRecord("lddmm")},
        )
    )
    touch(folder.arm("syn").job("1_2").field)
    return folder


def test_every_kind_of_path(run: RunFolder, tmp_path: Path) -> None:
    anyone = touch(tmp_path / "deep" / "disp_1_2.nii.gz").parent
    scored = touch(tmp_path / "deep-scores" / "pairs.csv").parent
    many = touch(tmp_path / "many" / "one" / "pairs.csv").parent.parent
    touch(tmp_path / "many" / "two" / "pairs.csv")
    copied = touch(tmp_path / "copied" / "fields" / "disp_1_2.nii.gz").parent.parent
    arm = run.arm("syn")
    touch(arm.scores / "pairs.csv")
    kinds = {
        run.path: ("run", ["syn", "lddmm"]),
        arm.path: ("arm", ["syn"]),
        arm.fields: ("arm", ["syn"]),
        arm.scores: ("arm", ["syn"]),
        run.path / "lddmm": None,
        copied: ("arm", ["copied"]),
        anyone: ("fields", ["deep"]),
        scored: ("scores", ["deep"]),
        scored / "pairs.csv": ("scores", ["deep"]),
        touch(tmp_path / "deep" / "metrics.json"): ("table", ["deep"]),
        touch(tmp_path / "vfa.json"): ("table", ["vfa"]),
        many: ("scores", ["one", "two"]),
    }
    for path, expected in kinds.items():
        if expected is None:
            continue
        opened = open_results(path)
        assert (opened.kind, [one.name for one in opened.methods]) == expected, path
    for path in (arm.path, arm.fields, arm.scores):
        (one,) = open_results(path).methods
        assert one.request == ArmRecord("syn", seed=5, version="v2")
        assert (one.fields, one.scores) == (arm.fields, arm.scores)
    (deep,) = open_results(scored).methods
    assert deep.fields == anyone
    assert open_results(copied).run is None


def test_an_arm_without_any_field_is_an_arm(run: RunFolder) -> None:
    (run.path / "lddmm").mkdir()
    assert open_results(run.path / "lddmm").only().name == "lddmm"
    methods, notes = open_named([str(run.path)])
    assert [one.name for one in methods] == ["syn"]
    assert notes == ["lddmm: no job of it has ended yet, so it is left out."]


def test_what_is_nothing_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "notes.txt")
    with pytest.raises(InputError, match=r"is neither a run folder .*; it holds notes\.txt"):
        open_results(tmp_path / "x")
    with pytest.raises(InputError, match="there is no such file or folder"):
        open_results(tmp_path / "y")


def test_the_pairs_that_were_asked_for_come_back_with_their_files(run: RunFolder, tmp_path: Path) -> None:
    found = dataset_of(open_results(run.path / "syn").methods)
    assert found is not None
    assert found.pairs[0].fixed.mask == tmp_path / "mask.nii.gz"
    assert found.name == "few"


def test_two_data_sets_are_both_named(run: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.create()
    touch(tmp_path / "few.csv")
    touch(tmp_path / "b" / "few.csv")
    other.write(RunRecord(DatasetRecord("few", tmp_path / "b" / "few.csv"), (), {"x": ArmRecord("syn")}))
    methods = [*open_results(run.path).methods, *open_results(other.path).methods]
    with pytest.raises(InputError, match=r"few \(.*few\.csv\) and few \(.*b/few\.csv\)"):
        dataset_of(methods)


def test_a_field_that_is_not_what_its_job_wrote_is_doubted(run: RunFolder) -> None:
    job = run.arm("syn").job("1_2")
    (method,) = open_results(run.path / "syn").methods
    job.folder.mkdir(parents=True)

    def doubt(sha256: str) -> str:
        found = method.doubt("1_2", job.field, sha256)
        return "" if found is None else found.sentence

    assert "its job has not ended" in doubt("aa")
    status = JobStatus("ok", version="v2", files={"field": WrittenFile(job.field.name, 0, "aa")})
    write_json(job.status, status.to_json())
    assert doubt("aa") == ""
    assert "is not the field that its status describes" in doubt("bb")
    touch(
        job.sidecar,
        json.dumps(Sidecar(JobStatus("ok", files={"field": WrittenFile("x", 0, "cc")})).to_json()),
    )
    assert "is not the field that its sidecar describes" in doubt("aa")
    write_json(job.status, JobStatus("ok", version="v1", seed=1).to_json())
    found = method.doubt("1_2", job.field, "aa")
    assert found is not None
    assert found.refused
    assert "was made with seed 1 instead of 5" in found.sentence
