"""A BIDS folder, and a folder of images and label maps, from the check to the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.cli.main import main

SHAPE = (16, 18, 14)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def phantom(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A brain's image and its labels: a textured ball, whose centre depends on the seed, and its core."""
    random = np.random.default_rng(seed)
    centre = np.array(SHAPE) / 2 + random.uniform(-1.5, 1.5, 3)
    distance = np.linalg.norm(np.indices(SHAPE).T - centre, axis=-1).T
    labels = (distance < 6).astype(np.uint8) + (distance < 3)
    texture = gaussian_filter(random.normal(size=SHAPE), 1) * 60
    image = np.where(labels > 0, np.clip(80 * labels + texture, 1, 255), 0).astype(np.float32)
    return image, labels.astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the two labels."""
    each = [2 * np.sum((a == i) & (b == i)) / (np.sum(a == i) + np.sum(b == i)) for i in (1, 2)]
    return float(np.mean(each))


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    for i in (1, 2, 3):
        image, labels = phantom(i)
        save(root / f"sub-0{i}/ses-a/anat/sub-0{i}_ses-a_T1w.nii.gz", image)
        save(root / f"sub-0{i}/ses-a/anat/sub-0{i}_ses-a_T2w.nii.gz", image.max() - image + 1)
        for kind, values in (("dseg", labels), ("desc-core_dseg", labels // 2)):
            save(root / f"derivatives/m/sub-0{i}/ses-a/anat/sub-0{i}_ses-a_{kind}.nii.gz", values)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "S", "BIDSVersion": "1.10.0"}))
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_everything_works_on_a_bids_folder(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = [str(bids), "--labels-suffix", "desc-core_dseg", "--pairs-of", "ring"]
    run = tmp_path / "run"
    assert main(["check", *dataset]) == 0
    assert "study: 3 pairs, 3 images, 3 label volumes" in capsys.readouterr().out
    assert main(["plan", *dataset, "-m", "identity", "--out", str(run)]) == 0
    assert "identity: 3 to do" in capsys.readouterr().out
    assert main(["run", *dataset, "-m", "identity", "--out", str(run), "-q"]) == 0
    fields = sorted(path.name for path in (run / "identity/fields").glob("*.nii.gz"))
    names = [f"sub-0{i}_ses-a_sub-0{j}_ses-a" for i, j in ((1, 2), (2, 3), (3, 1))]
    assert fields == [f"disp_{name}.nii.gz" for name in names]

    # The report opens the data set as the run did: with the label maps that were chosen.
    assert main(["report", str(run), "--out", str(tmp_path / "r.html"), "--megabytes", "1"]) == 0
    cores = {i: phantom(i)[1] // 2 for i in (1, 2, 3)}
    labels = rows(run / "identity/scores/labels.csv")
    scored = {row["pair"]: float(row["dice"]) for row in labels if row["label"] == "1"}
    assert {row["label"] for row in labels} <= {"0", "1"}
    assert list(scored) == names
    for name, (i, j) in zip(names, ((1, 2), (2, 3), (3, 1)), strict=True):
        both = np.sum(cores[i] & cores[j])
        assert scored[name] == pytest.approx(2 * both / (cores[i].sum() + cores[j].sum()), abs=1e-4)

    out = tmp_path / "other"
    command = ["evaluate", str(run / "identity/fields"), "--dataset", str(bids), "--out", str(out)]
    assert main([*command, "--labels-suffix", "dseg", "--pairs-of", "2:5"]) == 0
    assert {row["label"] for row in rows(out / "labels.csv")} >= {"1", "2"}
    assert len(rows(out / "pairs.csv")) == 2


def test_several_kinds_of_label_maps_are_said_before_any_work(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(bids)]) == 0
    said = capsys.readouterr().out
    assert "several kinds (desc-core_dseg, dseg)" in said
    assert "label volumes" not in said
    assert main(["plan", str(bids), "--pairs-of", "1", "-m", "identity", "--out", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "study: 1 pair, from" in said
    assert "1 job, 1 at a time with" in said
    assert main(["plan", str(bids), "--task", "T1w"]) == 1
    assert "its pairs belong to no tasks; leave --task out" in capsys.readouterr().err


def test_a_flat_folder_of_images_and_label_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = tmp_path / "flat", tmp_path / "run"
    for i in (1, 2):
        image, labels = phantom(i)
        save(folder / f"p{i}.nii.gz", image)
        save(folder / f"p{i}_seg.nii.gz", labels)
    assert main(["run", str(folder), "-m", "identity", "--out", str(run), "-q"]) == 0
    assert main(["report", str(run), "--out", str(tmp_path / "r.html"), "--megabytes", "1"]) == 0
    labels = [row for row in rows(run / "identity/scores/labels.csv") if row["label"] != "0"]
    truth = dice(phantom(1)[1], phantom(2)[1])
    for pair in ("p1_p2", "p2_p1"):
        scored = [float(row["dice"]) for row in labels if row["pair"] == pair]
        assert (len(scored), np.mean(scored)) == (2, pytest.approx(truth, abs=1e-4))

    capsys.readouterr()
    save(folder / "other.nii.gz", phantom(3)[1])
    assert main(["run", str(folder), "-m", "identity", "--out", str(tmp_path / "never"), "-q"]) == 1
    said = capsys.readouterr().err
    assert f"{folder}/other.nii.gz: is used as an image but looks like a label map" in said
    assert said.count("looks like a label map") == 1
    assert not (tmp_path / "never").exists()
