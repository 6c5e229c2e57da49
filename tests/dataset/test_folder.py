"""A folder of images: label maps and masks among them are told apart by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.dataset import open_dataset
from iterreg.dataset.base import Scan
from iterreg.dataset.folder import scans_of_folder
from iterreg.errors import InputError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.nii.gz").touch()
    return folder


def summary(scans: list[Scan]) -> dict[str, tuple[str | None, str | None]]:
    return {
        scan.subject: tuple(path and path.name.split(".")[0] for path in (scan.labels, scan.mask))
        for scan in scans
    }


@pytest.mark.parametrize("end", ["_seg", "-seg", ".seg", "_dseg", "_labels", "_label", "_aparc+aseg", "_Seg"])
def test_label_maps_behind_the_names_of_images(tmp_path: Path, end: str) -> None:
    make(tmp_path, "a", f"a{end}", "b", f"b{end}", "c", "c_mask", "d_brain", "d_brain_mask")
    scans, notes = scans_of_folder(tmp_path)
    assert notes == ()
    assert {scan.subject for scan in scans} == {"a", "b", "c", "d_brain"}
    by_name = {scan.subject: scan for scan in scans}
    assert by_name["a"].labels == tmp_path / f"a{end}.nii.gz"
    assert by_name["b"].labels == tmp_path / f"b{end}.nii.gz"
    assert (by_name["c"].labels, by_name["c"].mask) == (None, tmp_path / "c_mask.nii.gz")
    assert by_name["d_brain"].mask == tmp_path / "d_brain_mask.nii.gz"


def test_contrasts_share_the_label_map_of_their_subject(tmp_path: Path) -> None:
    make(tmp_path, "B_001_t1", "B_001_t2", "B_001_seg", "B_002_t1", "B_002_seg", "sub-3_T1w", "sub-3_dseg")
    scans, notes = scans_of_folder(tmp_path)
    assert "several kinds (seg, dseg)" in notes[0]
    scans, _ = scans_of_folder(tmp_path, labels_suffix="_seg")
    assert summary(scans) == {
        "B_001_t1": ("B_001_seg", None), "B_001_t2": ("B_001_seg", None), "B_002_t1": ("B_002_seg", None),
        "sub-3_T1w": (None, None),
    }  # fmt: skip


def test_a_label_map_of_a_group_is_nobodys(tmp_path: Path) -> None:
    make(tmp_path, "group_01", "group_02", "group_seg")
    scans, _ = scans_of_folder(tmp_path)
    assert summary(scans) == dict.fromkeys(["group_01", "group_02", "group_seg"], (None, None))


def test_a_suffix_chooses_images_and_shortens_their_ids(tmp_path: Path) -> None:
    make(tmp_path, "s1_T1w", "s2_T1w", "s1_T2w", "s1_tissue", "s2_tissue", "s9_tissue")
    scans, notes = scans_of_folder(tmp_path, suffix="T1w", labels_suffix="tissue")
    assert summary(scans) == {"s1": ("s1_tissue", None), "s2": ("s2_tissue", None)}
    assert notes == ("1 label map belongs to no image of the folder, for example s9_tissue.nii.gz",)
    with pytest.raises(InputError, match="no image whose name ends with FLAIR"):
        scans_of_folder(tmp_path, suffix="FLAIR")
    with pytest.raises(InputError, match="no label map that ends with parc belongs to an image"):
        scans_of_folder(tmp_path, suffix="T1w", labels_suffix="parc")


def test_masks_that_are_asked_for_are_the_label_maps(tmp_path: Path) -> None:
    scans, _ = scans_of_folder(make(tmp_path, "a", "a_mask", "b", "b_mask"), labels_suffix="_mask")
    assert summary(scans) == {"a": ("a_mask", None), "b": ("b_mask", None)}


def test_one_image_in_two_files_is_refused(tmp_path: Path) -> None:
    (make(tmp_path, "a", "b") / "a.nii").touch()
    with pytest.raises(InputError, match=r"a\.nii and a\.nii\.gz have one name; remove one"):
        scans_of_folder(tmp_path)


def test_two_kinds_of_label_maps_are_to_be_chosen_from(tmp_path: Path) -> None:
    make(tmp_path, "a", "a_seg", "a_aseg", "b", "b_seg", "b_aseg")
    scans, notes = scans_of_folder(tmp_path)
    assert summary(scans) == {"a": (None, None), "b": (None, None)}
    assert "no label map is used" in notes[0]
    scans, notes = scans_of_folder(tmp_path, labels_suffix="aseg")
    assert summary(scans) == {"a": ("a_aseg", None), "b": ("b_aseg", None)}


@pytest.mark.parametrize("asked", ["labels", "parc"])
def test_label_maps_that_were_not_chosen_are_no_images(tmp_path: Path, asked: str) -> None:
    make(tmp_path, "a", "a_labels", "b", "b_parc", "c", "c_labels")
    _, notes = scans_of_folder(tmp_path)
    assert notes[0].endswith("for example --labels-suffix labels")  # which two images have, and parc one
    scans, _ = scans_of_folder(tmp_path, labels_suffix=asked)
    assert {scan.subject: scan.labels and scan.labels.name for scan in scans} == {
        name: f"{name}_{asked}.nii.gz" if (tmp_path / f"{name}_{asked}.nii.gz").exists() else None
        for name in ("a", "b", "c")
    }


def test_labels_by_the_challenges_rule_go_first(tmp_path: Path) -> None:
    for name in ("imagesVal", "labelsVal"):
        (tmp_path / name).mkdir()
    make(tmp_path / "imagesVal", "X_0001_0000", "X_0002_0000", "X_0001_0000_seg", "X_0002_0000_seg")
    make(tmp_path / "labelsVal", "X_0001_0000", "X_0002_0000")
    dataset = open_dataset(tmp_path)
    assert [pair.name for pair in dataset.pairs] == ["0001_0002", "0002_0001"]
    assert {scan.labels for scan in dataset.scans()} == {
        tmp_path / "labelsVal/X_0001_0000.nii.gz", tmp_path / "labelsVal/X_0002_0000.nii.gz",
    }  # fmt: skip


def test_pairs_of_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a", "b", "c")
    assert [p.name for p in open_dataset(tmp_path, pairs_of="ring").pairs] == ["a_b", "b_c", "c_a"]
    assert len(open_dataset(tmp_path, pairs_of="4:2").pairs) == 4
    (tmp_path / "p.csv").write_text("fixed,moving\na.nii.gz,b.nii.gz\n")
    with pytest.raises(InputError, match="pairs-of does not apply to a csv"):
        open_dataset(tmp_path / "p.csv", pairs_of="ring")
