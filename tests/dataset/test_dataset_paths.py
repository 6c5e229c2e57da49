"""The challenge's path rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.dataset.paths import ScanReader, check_identifier, check_modality, identity, images_in
from iterreg.errors import InputError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LUMIRMRI_3455_0000.nii.gz", ("3455", "0000")),
        ("NLST_0101_0001.nii", ("0101", "0001")),
        ("0101_0001.nii.gz", ("0101", "0001")),
        ("sub-01_T1w.nii.gz", ("sub-01_T1w", "0000")),
        ("sub-12345_0000.nii.gz", ("sub-12345_0000", "0000")),
        ("X_12345_0000.nii.gz", ("X_12345_0000", "0000")),
        ("a.b.nii", ("a.b", "0000")),
    ],
)
def test_identity_by_name(name: str, expected: tuple[str, str]) -> None:
    assert identity(Path("/some") / name) == expected
    if expected[0].isdigit() and name.endswith(".nii.gz"):
        assert (name[-16:-12], name[-11:-7]) == expected  # as the evaluators cut it


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_companions_that_exist_are_found_by_the_path_rule(tmp_path: Path) -> None:
    labels = touch(tmp_path / "labelsVal/X_0001_0000.nii.gz")
    landmarks = touch(tmp_path / "landmarksVal/X_0001_0000.nii.gz")
    mask = touch(tmp_path / "masksVal/X_0001_0000.nii.gz")
    reader = ScanReader(tmp_path)
    scan = reader.scan("./imagesVal/X_0001_0000.nii.gz")
    assert scan.path == tmp_path / "imagesVal/X_0001_0000.nii.gz"
    assert (scan.labels, scan.landmarks, scan.mask) == (labels, landmarks, mask)
    other = reader.scan("./imagesVal/X_0002_0000.nii.gz")
    assert (other.labels, other.landmarks, other.mask) == (None, None, None)
    assert reader.scan("./imagesVal/X_0001_0000.nii.gz") is scan


def test_csv_landmarks_then_keypoints(tmp_path: Path) -> None:
    keypoints = touch(tmp_path / "keypointsTr/X_0001_0000.csv")
    assert ScanReader(tmp_path).scan("imagesTr/X_0001_0000.nii.gz").landmarks == keypoints
    landmarks = touch(tmp_path / "landmarksTr/X_0001_0000.csv")
    assert ScanReader(tmp_path).scan("imagesTr/X_0001_0000.nii.gz").landmarks == landmarks


def test_the_rule_never_touches_the_root(tmp_path: Path) -> None:
    root = tmp_path / "images"
    touch(tmp_path / "labels/scan.nii.gz")
    assert ScanReader(root).scan("scan.nii.gz").labels is None


def test_absolute_paths_use_the_last_folder(tmp_path: Path) -> None:
    labels = touch(tmp_path / "images/labelsTs/X_0001_0000.nii.gz")
    scan = ScanReader(Path("/elsewhere")).scan(str(tmp_path / "images/imagesTs/X_0001_0000.nii.gz"))
    assert scan.labels == labels


def test_an_image_outside_an_images_folder_is_not_its_own_label(tmp_path: Path) -> None:
    touch(tmp_path / "scan.nii.gz")
    scan = ScanReader(tmp_path).scan("scan.nii.gz")
    assert (scan.labels, scan.landmarks, scan.mask) == (None, None, None)


def test_images_in_a_folder_or_its_only_images_folder(tmp_path: Path) -> None:
    image = touch(tmp_path / "imagesVal/b.nii.gz")
    touch(tmp_path / "imagesVal/._b.nii.gz")
    touch(tmp_path / "imagesVal/readme.txt")
    assert images_in(tmp_path) == [image]
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(InputError, match="several image folders"):
        images_in(tmp_path)
    here = touch(tmp_path / "a.nii")
    assert images_in(tmp_path) == [here]
    with pytest.raises(InputError, match=r"holds no \.nii"):
        images_in(tmp_path / "imagesTr")


def test_ids_and_modalities_become_file_names() -> None:
    assert check_identifier("sub-01", "w") == "sub-01"
    assert check_modality("0002", "w") == "0002"
    for bad in ("", "..", "a/b", "a\\b"):
        with pytest.raises(InputError, match=r"here: .*cannot be an id"):
            check_identifier(bad, "here")
    for bad in ("1", "T1", "00001"):
        with pytest.raises(InputError, match=r"here: .*not a modality"):
            check_modality(bad, "here")
