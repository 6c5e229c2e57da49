"""What a run remembers of the data set it is of: how a folder was read, and what its pairs are called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from iterreg.dataset import Dataset, Pair, Scan, open_dataset
from iterreg.runs.content import Content
from iterreg.runs.record import DatasetRecord, RunRecord


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    for subject in ("sub-1", "sub-2", "sub-3"):
        folder = tmp_path / "study" / subject / "anat"
        folder.mkdir(parents=True)
        for end in ("T1w", "T2w", "dseg", "desc-core_dseg"):
            (folder / f"{subject}_{end}.nii.gz").touch()
    return tmp_path / "study"


def again(record: RunRecord) -> RunRecord:
    return RunRecord.from_json(Content(json.loads(json.dumps(record.to_json())), "run.json"))


def test_other_pairs_and_other_labels_of_a_folder_are_the_same_data_set(bids: Path) -> None:
    ring = DatasetRecord.of(open_dataset(bids, pairs_of="ring"))
    assert ring.is_same(DatasetRecord.of(open_dataset(bids, pairs_of="4:7", labels_suffix="desc-core_dseg")))
    assert not ring.is_same(DatasetRecord.of(open_dataset(bids, suffix="T2w", pairs_of="ring")))


def test_pairs_keep_their_labels_and_their_names(bids: Path) -> None:
    asked = open_dataset(bids, suffix="T1w,T2w", labels_suffix="dseg").select(first=1)
    record = again(RunRecord(DatasetRecord.of(asked), asked.pairs))
    assert record.asked() == replace(asked, notes=())
    (pair,) = record.asked().pairs
    assert pair.name == "sub-1_0000_sub-2_0000", "in full, though no other pair of the run needs it"
    assert pair.moving.labels == bids / "sub-2/anat/sub-2_dseg.nii.gz"


def test_a_short_name_stays_short(tmp_path: Path) -> None:
    scans = [Scan(tmp_path / f"{i}.nii.gz", i) for i in ("a", "b")]
    dataset = Dataset("d", (Pair(*scans),), tmp_path)
    assert [pair.name for pair in again(RunRecord(DatasetRecord.of(dataset), dataset.pairs)).pairs] == ["a_b"]
