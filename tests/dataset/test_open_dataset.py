"""The one door, and the leaves that need no file format: two files, folders, atlases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.dataset import open_dataset, pair_of_files
from iterreg.dataset.atlas import pairs_with_atlas
from iterreg.errors import InputError
from iterreg.volume import load_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four scans, one of them of another modality, with labels for one."""
    for name in ("X_0001_0000", "X_0002_0000", "X_0003_0000", "X_0003_0001"):
        path = tmp_path / f"imagesVal/{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "labelsVal").mkdir()
    (tmp_path / "labelsVal/X_0001_0000.nii.gz").touch()
    return tmp_path


def test_two_files(folder: Path) -> None:
    fixed, moving = (folder / f"imagesVal/X_000{i}_0000.nii.gz" for i in (1, 2))
    dataset = open_dataset([fixed, moving])
    assert dataset == pair_of_files(fixed, moving)
    (pair,) = dataset.pairs
    assert (pair.fixed.path, pair.moving.path, pair.name) == (fixed, moving, "0001_0002")
    assert pair.fixed.labels == folder / "labelsVal/X_0001_0000.nii.gz"


def test_two_files_relative_to_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "imagesVal")
    pair = pair_of_files("X_0001_0000.nii.gz", "./X_0002_0000.nii.gz").pairs[0]
    assert pair.moving.path == folder / "imagesVal/X_0002_0000.nii.gz"
    assert pair.fixed.labels == folder / "labelsVal/X_0001_0000.nii.gz"


def test_a_folder_gives_all_ordered_pairs_and_a_limit_spreads(folder: Path) -> None:
    dataset = open_dataset(folder)
    scans = {scan.path for scan in dataset.scans()}
    expected = {(a, b) for a in scans for b in scans if a != b}
    got = [(p.fixed.path, p.moving.path) for p in dataset.pairs]
    assert len(scans) == 4
    assert set(got) == expected
    assert len(got) == len(expected)
    assert set(dataset.tasks) == {"0000", "0000-0001", "0001-0000"}
    limited = open_dataset(folder, limit=4)
    assert limited.pairs == dataset.pairs[:4]
    assert set(Counter(p.fixed.path for p in limited.pairs).values()) == {1}
    assert {s.path for s in limited.scans()} == scans


def test_a_folder_of_one_modality(folder: Path) -> None:
    dataset = open_dataset(folder / "imagesVal", modality="0000")
    assert len(dataset.pairs) == 6
    assert dataset.tasks == ("",)
    assert dataset.name == folder.name
    assert dataset.pairs[0].fixed.labels == folder / "labelsVal/X_0001_0000.nii.gz"
    with pytest.raises(InputError, match="one image only"):
        open_dataset(folder, modality="0001")
    with pytest.raises(InputError, match="no image of modality 0007"):
        open_dataset(folder, modality="0007")
    with pytest.raises(InputError, match="limit of 0"):
        open_dataset(folder, limit=0)


def described(folder: Path, name: str = "X_dataset.json") -> Path:
    path = folder / name
    image = "./imagesVal/X_000{}_0000.nii.gz"
    path.write_text(json.dumps({"validation": [{"fixed": image.format(3), "moving": image.format(1)}]}))
    return path


def test_a_folder_with_one_json_is_what_the_json_says(folder: Path) -> None:
    source = described(folder)
    dataset = open_dataset(folder)
    assert dataset == open_dataset(source)
    assert [p.name for p in dataset.pairs] == ["0003_0001"]
    described(folder, "Y_dataset.json")
    with pytest.raises(InputError, match=r"several data set jsons \(X_dataset.json, Y_dataset.json\)"):
        open_dataset(folder)


def test_a_csv(folder: Path) -> None:
    (folder / "p.csv").write_text("fixed,moving\nimagesVal/X_0001_0000.nii.gz,imagesVal/X_0002_0000.nii.gz\n")
    assert [p.name for p in open_dataset(str(folder / "p.csv")).pairs] == ["0001_0002"]


def test_an_atlas_to_and_from_every_subject(folder: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "mni.nii.gz"
    moving = open_dataset(folder / "imagesVal", modality="0000", atlas=atlas)
    assert [p.name for p in moving.pairs] == ["0001_mni", "0002_mni", "0003_mni"]
    assert moving.tasks == ("atlas-to-subject",)
    fixed = open_dataset(folder / "imagesVal", modality="0000", atlas=atlas, atlas_role="fixed")
    assert [p.name for p in fixed.pairs] == ["mni_0001", "mni_0002", "mni_0003"]
    assert fixed.tasks == ("subject-to-atlas",)
    both = open_dataset(folder / "imagesVal", modality="0000", atlas=atlas, atlas_role="both")
    assert both.pairs == moving.pairs + fixed.pairs
    assert moving.pairs[0].fixed.labels == folder / "labelsVal/X_0001_0000.nii.gz"


def test_subjects_of_an_atlas_from_a_json_or_files(folder: Path) -> None:
    images = [folder / f"imagesVal/X_000{i}_0000.nii.gz" for i in (1, 2, 3)]
    files = open_dataset(images, atlas=images[0])
    assert [p.name for p in files.pairs] == ["0002_0001", "0003_0001"]
    assert [p.name for p in open_dataset(described(folder), atlas=images[1]).pairs] == [
        "0003_0002",
        "0001_0002",
    ]
    one = open_dataset(images[2], atlas=images[0])
    assert [p.name for p in one.pairs] == ["0003_0001"]
    with pytest.raises(InputError, match="no subject besides the atlas"):
        open_dataset([images[0]], atlas=images[0])
    with pytest.raises(InputError, match="'middle'"):
        pairs_with_atlas(images[0], [], role="middle")


def test_what_cannot_be_opened_is_told(folder: Path) -> None:
    image = folder / "imagesVal/X_0001_0000.nii.gz"
    text = folder / "notes.txt"
    text.touch()
    for source, message in (
        (folder / "none", "no such file or folder"),
        (text, "unknown kind"),
        ([image], "1 image file"),
        ([image] * 3, "3 image file"),
        ([folder, image], "give one json"),
        ([], "nothing: give one"),
        (folder / "labelsTr", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=message):
            open_dataset(source)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.nii"):
        open_dataset(folder / "empty")


def test_a_folder_called_like_an_image_is_named(folder: Path) -> None:
    image = folder / "imagesVal/X_0001_0000.nii.gz"
    (folder / "scan.nii.gz").mkdir()
    with pytest.raises(InputError, match=r"scan\.nii\.gz: is a folder, though it is called like an image"):
        open_dataset([image, folder / "scan.nii.gz"])


def test_options_that_do_not_apply_are_not_swallowed(folder: Path) -> None:
    image = folder / "imagesVal/X_0001_0000.nii.gz"
    with pytest.raises(InputError, match="root does not apply to a folder"):
        open_dataset(folder, root=folder)
    with pytest.raises(InputError, match="modality does not apply to two image files"):
        open_dataset([image, image], modality="0000")
    with pytest.raises(InputError, match="limit does not apply to a json"):
        open_dataset(described(folder), limit=3)
    with pytest.raises(InputError, match="split does not apply to image files"):
        open_dataset([image], atlas=image, split="test")


def test_two_images_of_other_kinds(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
    nib.save(image, tmp_path / "b.nii.gz")
    (tmp_path / "b.nii.gz").rename(tmp_path / "B.NII.GZ")
    nib.save(nib.MGHImage(image.get_fdata(dtype=np.float32), np.eye(4)), tmp_path / "a.mgz")
    (pair,) = open_dataset([tmp_path / "a.mgz", tmp_path / "B.NII.GZ"]).pairs
    assert (pair.name, pair.fixed.path.name, pair.moving.path.name) == ("a_B", "a.mgz", "B.NII.GZ")
    np.testing.assert_array_equal(load_image(pair.fixed.path).array, load_image(pair.moving.path).array)
