"""Jsons of Learn2Reg tasks and of LUMIR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iterreg.dataset.learn2reg import read_learn2reg
from iterreg.errors import InputError


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def image(subject: int, modality: int = 0, name: str = "X") -> str:
    return f"./imagesVal/{name}_{subject:04d}_{modality:04d}.nii.gz"


def pair(fixed: str, moving: str) -> dict[str, str]:
    return {"fixed": fixed, "moving": moving}


def chain(first: int, last: int, name: str = "X") -> list[dict[str, str]]:
    return [pair(image(i, name=name), image(i - 1, name=name)) for i in range(first + 1, last + 1)]


def test_pairs_paths_name_and_promise(tmp_path: Path) -> None:
    source = write(
        tmp_path / "X_dataset.json",
        {"name": "X", "tensorImageShape": {"0": [4, 5, 6]}, "validation": [pair(image(1), image(2))]},
    )
    dataset = read_learn2reg(source)
    assert (dataset.name, dataset.promised_shape, dataset.source) == ("X", (4, 5, 6), source)
    (only,) = dataset.pairs
    assert only.fixed.path == tmp_path / "imagesVal/X_0001_0000.nii.gz"
    assert (only.name, only.task) == ("0001_0002", "")


def test_root_moves_the_images_and_their_companions(tmp_path: Path) -> None:
    source = write(tmp_path / "json/X_dataset.json", {"validation": [pair(image(1), image(2))]})
    labels = tmp_path / "data/labelsVal/X_0001_0000.nii.gz"
    labels.parent.mkdir(parents=True)
    labels.touch()
    fixed = read_learn2reg(source, root=tmp_path / "data").pairs[0].fixed
    assert fixed.path == tmp_path / "data/imagesVal/X_0001_0000.nii.gz"
    assert fixed.labels == labels
    assert read_learn2reg(source).name == "X"


@pytest.mark.parametrize("key", ["registration_val", "validation", "registration_test", "test", "eval_pairs"])
def test_every_list_of_pairs_is_found(tmp_path: Path, key: str) -> None:
    source = write(tmp_path / "a.json", {"task_name": "T", key: [pair(image(1), image(2))]})
    dataset = read_learn2reg(source)
    assert dataset.name == "T"
    assert [p.name for p in dataset.pairs] == ["0001_0002"]


def test_lists_of_single_images_are_passed_over(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "training": [{"image": image(9), "label": "./labelsTr/X_0009_0000.nii.gz"}],
        "validation": [image(1), image(2)],
        "test": ["./imagesTs/X_0007_0000.nii.gz"],
        "registration_test": [pair(image(3), image(4))],
    }
    source = write(tmp_path / "a.json", data)
    assert [p.name for p in read_learn2reg(source).pairs] == ["0003_0004"]
    with pytest.raises(InputError, match="single images but no pairs"):
        read_learn2reg(source, split="validation")
    with pytest.raises(InputError, match="single images but no pairs"):
        read_learn2reg(source, split="training")


def test_split_chooses_the_list(tmp_path: Path) -> None:
    data = {
        "training_paired_images": [pair(image(5), image(6))],
        "registration_val": [pair(image(1), image(2))],
        "registration_test": [pair(image(3), image(4))],
    }
    source = write(tmp_path / "a.json", data)
    assert [p.name for p in read_learn2reg(source).pairs] == ["0001_0002"]
    assert [p.name for p in read_learn2reg(source, split="test").pairs] == ["0003_0004"]
    assert [p.name for p in read_learn2reg(source, split="training").pairs] == ["0005_0006"]


@pytest.mark.parametrize(
    "entry",
    [
        {"fixed": image(1), "moving": image(2)},
        {"fixed": {"image": image(1)}, "moving": {"image": image(2)}},
        [image(1), image(2)],
    ],
)
def test_forms_of_an_entry(tmp_path: Path, entry: Any) -> None:
    source = write(tmp_path / "a.json", {"validation": [entry]})
    assert [p.name for p in read_learn2reg(source).pairs] == ["0001_0002"]


def test_an_evaluation_config_promises_its_expected_shape(tmp_path: Path) -> None:
    data = {"task_name": "T", "expected_shape": [4, 5, 6, 3], "eval_pairs": [pair(image(1), image(2))]}
    assert read_learn2reg(write(tmp_path / "a.json", data)).promised_shape == (4, 5, 6)


@pytest.mark.parametrize("shape", [{"0": [4, 5, 6], "1": [4, 5, 7]}, {"0": [4, 5]}, {}, "4x5x6"])
def test_no_promise_where_none_is_stated(tmp_path: Path, shape: Any) -> None:
    data = {"tensorImageShape": shape, "validation": [pair(image(1), image(2))]}
    assert read_learn2reg(write(tmp_path / "a.json", data)).promised_shape is None


def test_own_tasks_win_and_modalities_make_tasks(tmp_path: Path) -> None:
    mixed = [pair(image(1), image(2)), pair(image(1, 1), image(2, 1)), pair(image(1), image(2, 2))]
    source = write(tmp_path / "a.json", {"validation": mixed})
    assert read_learn2reg(source).tasks == ("0000", "0001", "0000-0002")
    named = [{**entry, "task": "mine"} for entry in mixed]
    assert read_learn2reg(write(tmp_path / "b.json", {"validation": named})).tasks == ("mine",)


def test_keypoints_depend_on_the_pair(tmp_path: Path) -> None:
    files = {}
    for folder in ("keypointsVal", "keypoints02Val"):
        for modality in (0, 1, 2):
            path = tmp_path / folder / f"X_0001_{modality:04d}.csv"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            files[folder, modality] = path
    source = write(
        tmp_path / "a.json",
        {"validation": [pair(image(1), image(1, 1)), pair(image(1, 2), image(1))]},
    )
    near, far = read_learn2reg(source).pairs
    assert near.fixed.landmarks == files["keypointsVal", 0]
    assert near.moving.landmarks == files["keypointsVal", 1]
    assert far.fixed.landmarks == files["keypoints02Val", 2]
    assert far.moving.landmarks == files["keypoints02Val", 0]


def test_unusable_jsons_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_learn2reg(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="cannot be read as json"):
        read_learn2reg(broken)
    with pytest.raises(InputError, match="holds a json list"):
        read_learn2reg(write(tmp_path / "list.json", []))
    with pytest.raises(InputError, match="lists no pairs"):
        read_learn2reg(write(tmp_path / "empty.json", {"validation": []}))
    halves = {"validation": [pair(image(1), image(2)), {"fixed": image(1)}]}
    with pytest.raises(InputError, match=r"pair 2: is .*fixed and moving"):
        read_learn2reg(write(tmp_path / "half.json", halves))


# -- LUMIR --------------------------------------------------------------------------------------


def test_lumir24_by_its_known_ids(tmp_path: Path) -> None:
    pairs = chain(3454, 3483, "LUMIRMRI") + chain(3484, 3493, "LUMIRMRI")
    dataset = read_learn2reg(write(tmp_path / "LUMIR_dataset.json", {"name": "LUMIR", "validation": pairs}))
    assert [p.task for p in dataset.pairs] == ["in-domain"] * 29 + ["landmarks"] * 9
    assert "38 of 38 pairs" in dataset.notes[0]


def test_lumir25_by_ids_whatever_the_order(tmp_path: Path) -> None:
    multi = [pair(image(4024, 0, "LUMIRMRI"), image(4033, 1, "LUMIRMRI"))]
    pairs = (
        multi + chain(3484, 3485, "LUMIRMRI") + chain(4014, 4015, "LUMIRMRI") + chain(3454, 3455, "LUMIRMRI")
    )
    dataset = read_learn2reg(write(tmp_path / "a.json", {"name": "any", "validation": pairs}))
    assert [p.task for p in dataset.pairs] == ["multi-modal", "landmarks", "high-field", "in-domain"]


def test_configs_beside_the_json_go_before_the_ids(tmp_path: Path) -> None:
    dice = [{"metric": "dice", "name": "DSC", "labels": [1]}]
    tre = [{"metric": "tre", "name": "TRE", "dest": "landmarks"}]
    groups = [chain(n, n + 1, "LUMIRMRI") for n in (7000, 7100, 7200)]
    names = ("LUMIR25_VAL_HighField", "LUMIR25_VAL_LUMIR24_Landmark", "LUMIR25_VAL_LUMIR24_Segmentation")
    for name, methods, group in zip(names, (dice, tre, dice), groups, strict=True):
        config = {"evaluation_methods": methods, "eval_pairs": group}
        write(tmp_path / f"{name}_evaluation_config.json", config)
    (tmp_path / "broken_evaluation_config.json").write_text("[")
    source = write(
        tmp_path / "L_dataset.json", {"name": "LUMIR", "validation": [p for g in groups for p in g]}
    )
    dataset = read_learn2reg(source)
    assert [p.task for p in dataset.pairs] == ["high-field", "landmarks", "in-domain"]
    assert dataset.notes == ()


def test_files_tell_landmark_and_labelled_pairs_apart(tmp_path: Path) -> None:
    for kind, ids in (("landmarksVal", (1, 2)), ("labelsVal", (3, 4))):
        (tmp_path / kind).mkdir()
        for i in ids:
            (tmp_path / kind / f"LUMIRMRI_{i:04d}_0000.nii.gz").touch()
    pairs = [pair(image(a, name="LUMIRMRI"), image(b, name="LUMIRMRI")) for a, b in ((1, 2), (3, 4), (5, 6))]
    dataset = read_learn2reg(write(tmp_path / "a.json", {"name": "LUMIR", "validation": pairs}))
    assert [p.task for p in dataset.pairs] == ["landmarks", "in-domain", ""]
    assert dataset.notes == ()
