"""The development data: real T1w brains, macaque templates, synthetic contrasts, LUMIR25's own jsons."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from iterreg.dataset import open_dataset
from iterreg.dataset.check import check

DATA = Path(os.environ.get("ITERREG_DATA", Path(__file__).parents[2] / "../shared/data"))


def folder(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"no folder {name} in the development data (set ITERREG_DATA)")
    return path


def test_lumir25_is_read_without_its_volumes() -> None:
    dataset = open_dataset(folder("lumir25_json"))
    tasks = ["in-domain", "high-field", "multi-modal", "landmarks"]
    assert [pair.task for pair in dataset.pairs] == [task for task in tasks for _ in range(9)]
    chains = ((3455, 3463), (4015, 4023), None, (3485, 3493))
    expected = []
    for ends in chains:
        if ends is None:
            expected += [f"{i}_{i + 9}" for i in range(4024, 4033)]
        else:
            expected += [f"{i}_{i - 1}" for i in range(ends[0], ends[1] + 1)]
    assert [pair.name for pair in dataset.pairs] == expected
    assert dataset.pairs[18].case == "4024_0000<--4033_0001"
    assert (dataset.name, dataset.promised_shape, dataset.notes) == ("LUMIR", (160, 224, 192), ())


def test_lumir25_by_ids_alone(tmp_path: Path) -> None:
    alone = tmp_path / "LUMIR25_dataset.json"
    alone.write_text((folder("lumir25_json") / "LUMIR25_dataset.json").read_text())
    dataset = open_dataset(alone)
    assert dataset.pairs[0].fixed.path.parent == tmp_path / "imagesVal"
    beside = open_dataset(folder("lumir25_json"))
    assert [pair.task for pair in dataset.pairs] == [pair.task for pair in beside.pairs]
    assert len(dataset.notes) == 1


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ("HighField_Segmentation", "high-field"),
        ("LUMIR24_Landmark", "landmarks"),
        ("LUMIR24_Segmentation", "in-domain"),
        ("MultiModal_Segmentation", "multi-modal"),
    ],
)
def test_lumir25_evaluation_configs_are_data_sets_too(config: str, task: str) -> None:
    dataset = open_dataset(folder("lumir25_json") / f"LUMIR25_VAL_{config}_evaluation_config.json")
    assert len(dataset.pairs) == 9
    assert dataset.tasks == (task,)
    whole = open_dataset(folder("lumir25_json")).select(tasks=[task])
    assert dataset.pairs == whole.pairs


def test_a_check_of_lumir25_lists_every_missing_volume() -> None:
    dataset = open_dataset(folder("lumir25_json"))
    findings = check(dataset)
    missing = {finding.file for finding in findings if finding.kind == "missing file"}
    assert missing == {scan.path for scan in dataset.scans()}
    assert {finding.severity for finding in findings} == {"error"}
    assert len(findings) == len(missing)


@pytest.mark.parametrize(("name", "pairs", "orientation"), [("oasis", 8, "RAS"), ("macaque", 4, "LAS")])
def test_real_brains_are_sound(name: str, pairs: int, orientation: str) -> None:
    dataset = open_dataset(folder(name))
    assert len(dataset.pairs) == pairs
    assert all(scan.labels for scan in dataset.scans())
    assert check(dataset) == ()
    assert check(dataset, read_voxels=False) == ()
    from iterreg.dataset.inspection import inspect_file

    grid = inspect_file(dataset.pairs[0].fixed.path, ["image"], read_voxels=False).grid
    assert grid is not None
    assert (grid.shape, grid.orientation) == (dataset.promised_shape, orientation)


def test_contrasts_of_the_same_people_have_names_of_their_own() -> None:
    dataset = open_dataset(folder("synth"))
    assert Counter(pair.task for pair in dataset.pairs) == dict.fromkeys(
        ["0000", "0001", "0002", "0000-0001", "0000-0002"], 4
    )
    assert check(dataset, read_voxels=False) == ()
    assert len({pair.name for pair in dataset.pairs}) == 20
    assert "0003_0000_0018_0000" in {pair.name for pair in dataset.pairs}
    far = dataset.select(tasks=["0000-0002"])
    assert check(far) == ()
    assert far.pairs[0].name == "0003_0000_0018_0002"


def test_three_patients_in_three_contrasts_are_sound() -> None:
    dataset = open_dataset(folder("ms"))
    assert check(dataset, read_voxels=False) == ()
    assert {pair.name for pair in dataset.pairs} == {pair.long_name for pair in dataset.pairs}


def test_a_macaque_with_a_human_is_two_grids_and_a_note() -> None:
    macaque = open_dataset(folder("macaque")).pairs[0].fixed.path
    human = open_dataset(folder("oasis")).pairs[0].fixed.path
    findings = check(open_dataset([human, macaque]), read_voxels=False)
    assert {(f.severity, f.kind) for f in findings} == {
        ("note", "two grids in a pair"),
        ("note", "landmarks on one side only"),
    }
