"""run.json, status.json and the sidecar: typed, versioned, and one bad entry costs one entry."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.dataset import Dataset, Pair, Scan, open_dataset
from iterreg.errors import InputError
from iterreg.runs import ArmRecord, JobStatus, RunFolder, RunRecord, Sidecar
from iterreg.runs.content import Content
from iterreg.runs.record import Command, DatasetRecord
from iterreg.runs.status import UNREADABLE, Attempt, Folding, WrittenFile

STATUS = JobStatus(
    outcome="ok",
    hash="h" * 64,
    version="v" * 64,
    method="syn",
    preset="cheap",
    pair="1_2",
    case="1_0000<--2_0000",
    task="easy",
    seed=3,
    masks=("fixed",),
    threads=2,
    threads_seen=4,
    cpu_seconds=1.5,
    wall_seconds=2.5,
    peak_bytes=7,
    warm_cpu_seconds=0.5,
    attempts=(Attempt("crash", "SIGSEGV", 0.5), Attempt("ok", "", 2.5)),
    finished="2026-01-01T00:00:00+00:00",
    host="here",
    files={
        "field": WrittenFile("disp_1_2.nii.gz", 10, "f" * 64),
        "inverse": WrittenFile("disp_1_2.nii.gz", 11, "e" * 64, {"source": "engine", "residual_mean": 0.1}),
    },
    folding=Folding(0.1, 3, -0.5, (1, 2, 3), "fixed > 0"),
    seconds={"load": 0.1},
)


def through_json(value: dict[str, Any]) -> Content:
    return Content(json.loads(json.dumps(value)), "a.json")


def test_a_status_comes_back_as_it_was() -> None:
    assert JobStatus.from_json(through_json(STATUS.to_json())) == STATUS
    failed = JobStatus("timeout", "too slow")
    assert JobStatus.from_json(through_json(failed.to_json())) == failed


def test_a_sidecar_comes_back_as_it_was() -> None:
    sidecar = Sidecar(
        STATUS,
        "iterreg run",
        {"step": 0.1},
        ("a.toml",),
        {"iterreg": "1"},
        {"cores": 2},
        {"fixed": {}},
        {"n": 1},
    )
    assert Sidecar.from_json(through_json(sidecar.to_json())) == sidecar


def pair(number: int, folder: Path, **companions: Path) -> Pair:
    scan = Scan(folder / f"{number}.nii.gz", str(number), "0001", **companions)
    return Pair(scan, Scan(folder / "ref.nii.gz", "ref"), "easy")


def test_a_record_comes_back_as_it_was_with_every_file_of_a_pair(tmp_path: Path) -> None:
    arm = ArmRecord(
        "syn", "cheap", {"step": 0.1}, 1, "both", {"antspyx": "0.6"}, {"a.toml": "f" * 64}, ("a note",), "v2"
    )
    record = RunRecord(
        DatasetRecord("few", tmp_path / "few.csv", (3, 4, 5)),
        (pair(1, tmp_path, labels=tmp_path / "l", landmarks=tmp_path / "p", mask=tmp_path / "m"),),
        {"syn-cheap": arm.after(ArmRecord("syn", "cheap", {"step": 0.2}, 1, version="v1"))},
        (Command("now", "iterreg run", 1, 2, 3),),
    )
    found = RunRecord.from_json(through_json(record.to_json()))
    assert found == record
    assert found.asked().pairs == record.pairs
    assert [one.version for one in found.arms["syn-cheap"].earlier] == ["v1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu_seconds": "fast"}, "status.json: 'cpu_seconds' is \"fast\", not a number"),
        ({"peak_bytes": True}, "status.json: 'peak_bytes' is true, not a whole number"),
        ({"field": [1]}, "status.json: 'field' is [1], not an object"),
        ({"field": {"name": "x"}}, "status.json: field: has no 'bytes'"),
        ({"attempts": 3}, "status.json: 'attempts' is 3, not a list"),
        ({"outcome": None}, "status.json: has no 'outcome'"),
        ({"format": 99}, "status.json: 'format' is 99 and this iterreg reads up to 2"),
    ],
)
def test_wrong_types_are_an_end_that_proves_nothing_and_says_why(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    job = RunFolder(tmp_path).arm("syn").job("1_2")
    job.folder.mkdir(parents=True)
    job.status.write_text(json.dumps({**STATUS.to_json(), **change}))
    status = job.read_status()
    assert status is not None
    assert status.outcome == UNREADABLE
    assert not status.ok
    assert said in status.reason


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_status_that_never_ends_is_not_read(tmp_path: Path, what: str) -> None:
    job = RunFolder(tmp_path).arm("syn").job("1_2")
    assert job.read_status() is None
    job.folder.mkdir(parents=True)
    if what == "pipe":
        os.mkfifo(job.status)
    else:
        job.status.symlink_to("/dev/zero")
    status = job.read_status()
    assert status is not None
    assert status.outcome == UNREADABLE
    assert "status.json: is a pipe or a device" in status.reason


def test_one_bad_entry_of_a_record_costs_that_entry(tmp_path: Path) -> None:
    record = RunRecord(
        DatasetRecord("few", tmp_path / "few.csv"),
        (pair(1, tmp_path), pair(2, tmp_path), pair(3, tmp_path), pair(4, tmp_path)),
        {"syn": ArmRecord("syn"), "lddmm": ArmRecord("lddmm")},
    ).to_json()
    record["scans"][2]["path"] = "a\0b"
    record["pairs"][2]["moving"] = "ref"
    record["arms"]["syn"]["seed"] = "one"
    record["arms"]["../../etc"] = {"method": "syn"}
    record["commands"] = ["iterreg run"]
    found = RunRecord.from_json(through_json(record))
    assert [one.name for one in found.pairs] == [pair(1, tmp_path).name, pair(4, tmp_path).name]
    assert list(found.arms) == ["lddmm"]
    assert len(found.problems) == 6
    assert any("scan 2: 'path' is 'a\\x00b', which no path can be" in one for one in found.problems)
    assert any("pair 2: 'fixed' is scan 2, which is not there" in one for one in found.problems)
    assert any("pair 3: 'moving' is \"ref\", not a whole number" in one for one in found.problems)
    assert any("arm syn: 'seed' is \"one\", not a whole number" in one for one in found.problems)


def test_a_record_of_before_is_still_read(tmp_path: Path) -> None:
    """Format 1: no companions, no modalities; they are found as that iterreg found them."""
    for kind in ("images", "labels"):
        (tmp_path / f"{kind}Val").mkdir()
        for number in ("0001", "0002"):
            path = tmp_path / f"{kind}Val" / f"X_{number}_0000.nii.gz"
            nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), path)
    images = [str(tmp_path / "imagesVal" / f"X_{number}_0000.nii.gz") for number in ("0001", "0002")]
    old = {
        "format": 1,
        "dataset": {"name": "X", "source": str(tmp_path / "gone.json")},
        "arms": {"syn": {"method": "syn", "preset": "", "values": {}, "seed": 1, "masks": "none"}},
        "commands": [{"at": "then", "command": "iterreg run", "cores": 1, "threads": 1, "memory": 5}],
        "pairs": [
            {"name": "0001_0002", "case": "0001_0000<--0002_0000", "task": "t",
             "fixed": images[0], "moving": images[1]}
        ],
    }  # fmt: skip
    found = RunRecord.from_json(through_json(old))
    assert found.problems == ()
    (one,) = found.pairs
    assert one.name == "0001_0002"
    assert one.task == "t"
    assert one.fixed.labels == tmp_path / "labelsVal" / "X_0001_0000.nii.gz"


def write_json(folder: Path, name: str, *numbers: int) -> Path:
    (folder / "imagesVal").mkdir(parents=True, exist_ok=True)
    path = folder / name
    listed = [
        {"fixed": f"./imagesVal/X_{n:04d}_0000.nii.gz", "moving": "./imagesVal/X_0009_0000.nii.gz"}
        for n in numbers
    ]
    path.write_text(json.dumps({"name": "X", "validation": listed, "test": listed[:1]}))
    return path


def recorded(dataset: Dataset) -> DatasetRecord:
    record = DatasetRecord.of(dataset)
    return DatasetRecord.from_json(through_json(record.to_json()))


def test_a_data_set_is_the_same_however_it_is_named_and_another_with_other_options(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a", "X_dataset.json", 1, 2)
    one = recorded(open_dataset(path))
    assert one.is_same(recorded(open_dataset(path.parent)))
    assert one.is_same(recorded(open_dataset([path], root=path.parent)))
    assert one.is_same(recorded(open_dataset(path).select(first=1)))
    assert not one.is_same(recorded(open_dataset(path, split="test")))
    assert not one.is_same(recorded(open_dataset(path, root=tmp_path)))
    other = write_json(tmp_path / "b", "X_dataset.json", 1, 2)
    assert not one.is_same(recorded(open_dataset(other)))
    path.unlink()
    assert one.is_same(recorded(open_dataset(other))), "it has moved"


def test_a_run_reopens_its_data_set_with_root_and_split(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a", "X_dataset.json", 1, 2)
    dataset = open_dataset(path, root=tmp_path / "elsewhere", split="test")
    record = RunRecord(recorded(dataset), dataset.pairs)
    whole = record.whole()
    assert whole == dataset
    assert whole.pairs[0].fixed.path == tmp_path / "elsewhere" / "imagesVal" / "X_0001_0000.nii.gz"
    path.unlink()
    assert record.whole().pairs == dataset.pairs
    assert "name the challenge's json" in record.whole().notes[0]


def test_a_record_that_says_of_no_data_set_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 2, "arms": {}}')
    with pytest.raises(InputError, match=r"run\.json: has no 'dataset'; restore it, or remove it and give"):
        RunFolder(tmp_path).read()


def test_what_differs_between_two_versions_is_said_by_the_names_of_the_parameters() -> None:
    long = list(range(100))
    now = ArmRecord("syn", "", {"step": 0.1, "pyramid": {"levels": (4, 2)}, "long": [*long, 1]}, 1)
    same = ArmRecord.from_json(through_json(now.to_json()))
    assert list(now.differs_from(same)) == [], "a tuple is read back as a list"
    other = ArmRecord("syn", "", {"step": 0.1, "pyramid": {"levels": [4, 1]}, "long": [*long, 2]}, 5)
    first, second, third = now.differs_from(other)
    assert first == "seed 5 instead of 1"
    assert second == "pyramid.levels [4, 1] instead of [4, 2]"
    assert third.startswith("long [0, 1, 2"), "what differs beyond what is shown differs all the same"


def of_software(version: str, **software: str) -> ArmRecord:
    return ArmRecord("own", values={"step": 1}, seed=1, software=software, version=version)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"code of own": "bb", "numba": "0.61"}, "other code of own"),
        ({"code of own": "aa", "numba": "0.60"}, "numba 0.60 instead of 0.61"),
        ({"code of own": "bb", "numba": "0.60"}, "other code of own; numba 0.60 instead of 0.61"),
        ({"code of own": "aa"}, "numba (not recorded) instead of 0.61"),
        ({"code of own": "aa", "numba": "0.61", "scipy": "1"}, "scipy 1 instead of (any)"),
        ({"code of own": "aa", "numba": "0.61", "code of its friend": "c"}, "other code of its friend"),
        (
            {"iterreg": "0.0.1", "numba": "0.60"},
            "code that was not recorded (by an earlier iterreg); numba 0.60 instead of 0.61",
        ),
        ({"iterreg": "0.0.1", "numba": "0.61"}, "code that was not recorded (by an earlier iterreg)"),
        ({}, "code that was not recorded (by an earlier iterreg)"),
    ],
)
def test_other_software_is_said_in_words(before: dict[str, str], words: str) -> None:
    now = of_software("v2", **{"code of own": "aa", "numba": "0.61"})
    assert "; ".join(now.differs_from(of_software("v1", **before))) == words


def test_what_other_software_made_is_the_arms_where_it_is_kept() -> None:
    first, second, third = (of_software(f"v{n}", **{"code of own": str(n)}) for n in (1, 2, 3))
    other_step = replace(of_software("v0", **{"code of own": "1"}), values={"step": 2})
    statuses = {n: JobStatus("ok", version=f"v{n}", masks=(), seed=1) for n in (0, 1, 2, 3)}

    def made(arm: ArmRecord) -> set[int]:
        return {n for n, status in statuses.items() if arm.made(status, None)}

    first = first.after(other_step)
    plain = second.after(first)
    assert made(plain) == {2}
    keeping = plain.keeping()
    assert made(keeping) == {1, 2}, "never of other parameters"
    assert [n for n, status in statuses.items() if keeping.keeps(status)] == [1]
    assert keeping.differences(statuses[1]) == "other code of own"
    assert ArmRecord.from_json(through_json(keeping.to_json())) == keeping
    again = of_software("v2", **{"code of own": "2"}).after(keeping)
    assert made(again) == {1, 2}, "what is kept stays so while the arm is the same"
    assert made(third.after(keeping)) == {3}
    assert made(third.after(keeping).keeping()) == {1, 2, 3}


def test_labels_that_came_after_the_run_are_found(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a", "X_dataset.json", 1)
    for number in (1, 9):
        (path.parent / "imagesVal" / f"X_{number:04d}_0000.nii.gz").touch()
    dataset = open_dataset(path)
    record = RunRecord(recorded(dataset), dataset.pairs)
    assert record.asked() == replace(dataset, opened=record.dataset.opened)
    (path.parent / "labelsVal").mkdir()
    labels = path.parent / "labelsVal" / "X_0001_0000.nii.gz"
    labels.touch()
    assert record.asked().pairs[0].fixed.labels == labels
    path.unlink()
    assert record.asked().pairs == dataset.pairs
