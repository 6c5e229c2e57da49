"""The packaged demo at 4 mm: the truth is true, the layout is the challenge's, nothing is made twice."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from iterreg.dataset import Dataset, demo, open_dataset
from iterreg.dataset.phantom import LABELS
from iterreg.dataset.truth import load_truth, truth_error
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.volume import load_image, load_labels

pytest.importorskip("nilearn", reason='needs nilearn: pip install "iterreg[demo]"')


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of 40 x 56 x 48 voxels of 4 mm, made with the network shut."""
    folder = tmp_path_factory.mktemp("demo") / "data"

    def refuse(*_: object) -> None:
        raise AssertionError("the demo must not use the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        assert demo.make_demo(folder, spacing=4) == folder / "DEMO_dataset.json"
    return folder


@pytest.fixture(scope="session")
def data(tiny: Path) -> Dataset:
    return open_dataset(tiny / "DEMO_dataset.json")


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    both = [k for k in np.unique(a) if k and (b == k).any()]
    return float(np.mean([2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in both]))


def scipy_warp(labels: np.ndarray, field: DisplacementField) -> np.ndarray:
    """The official evaluator's warp of labels."""
    where = np.indices(labels.shape) + np.moveaxis(field.vectors.astype(np.float64), -1, 0)
    return ndimage.map_coordinates(labels, where, order=0, mode="constant")


def centroids(blobs: np.ndarray) -> np.ndarray:
    return np.array([np.argwhere(blobs == name).mean(axis=0) for name in range(1, 13)])


def hemispheres(labels: np.ndarray) -> np.ndarray:
    """1 left, 2 right, whatever the tissue: structures large enough for voxels of 4 mm."""
    table = np.zeros(max(LABELS) + 1, np.int64)
    for label, name in LABELS.items():
        table[label] = {"left": 1, "right": 2}.get(name.split()[0], 0)
    return table[labels]


def test_pairs(data: Dataset) -> None:
    assert [pair.name for pair in data.pairs] == ["1001_1002", "1002_1003", "1003_1004", "1004_1001"]
    assert [pair.moving.modality for pair in data.pairs] == ["0000", "0000", "0000", "0001"]
    assert len(data.tasks) == 2
    assert data.promised_shape == (40, 56, 48)


def test_every_scan_has_its_companions_on_its_grid(data: Dataset) -> None:
    for scan in data.scans():
        image = load_image(scan.path)
        assert image.grid.spacing == (4, 4, 4)
        for companion in (scan.labels, scan.landmarks, scan.mask):
            assert companion is not None
            assert load_labels(companion).grid == image.grid
        labels, mask = load_labels(scan.labels).array, load_labels(scan.mask).array
        assert np.array_equal(mask, (labels > 0).astype(np.int32))
        assert np.array_equal(mask > 0, image.array > 0)
        assert nib.load(scan.path).get_data_dtype() == np.uint8


def test_every_label_lives(data: Dataset) -> None:
    for scan in data.scans():
        assert set(np.unique(load_labels(scan.labels).array)) == {0, *LABELS}
        assert np.array_equal(np.unique(load_labels(scan.landmarks).array), np.arange(13))


def test_evaluation_config_fits(tiny: Path) -> None:
    config = json.loads((tiny / "DEMO_VAL_evaluation_config.json").read_text())
    dataset = json.loads((tiny / "DEMO_dataset.json").read_text())
    assert config["expected_shape"] == [40, 56, 48, 3]
    assert config["eval_pairs"] == dataset["validation"]
    assert {m["metric"] for m in config["evaluation_methods"]} == {"ndv", "dice", "hd95", "tre"}
    assert all(m["labels"] == list(LABELS) for m in config["evaluation_methods"] if "labels" in m)
    assert dataset["numValidation"] == len(dataset["validation"])


def test_truth_maps_labels(data: Dataset) -> None:
    for pair in data.pairs:
        fixed, moving = load_labels(pair.fixed.labels).array, load_labels(pair.moving.labels).array
        moved = scipy_warp(moving, load_truth(pair))
        assert mean_dice(hemispheres(fixed), hemispheres(moved)) > 0.95
        # cortex is hardly a voxel thick here and cut twice by nearest neighbour
        assert mean_dice(fixed, moved) > mean_dice(fixed, moving) + 0.15


def test_truth_maps_landmarks(data: Dataset) -> None:
    for pair in data.pairs:
        fixed, moving = (load_labels(scan.landmarks).array for scan in (pair.fixed, pair.moving))
        sent = load_truth(pair).warp_points(centroids(fixed))
        error = np.linalg.norm(sent - centroids(moving), axis=1)
        assert error.mean() < 0.6
        assert error.max() < 1
        before = np.linalg.norm(centroids(fixed) - centroids(moving), axis=1)
        assert before.mean() > 2 * error.mean()


def test_truth_maps_intensities(data: Dataset) -> None:
    pair = data.pairs[0]
    fixed, moving = load_image(pair.fixed.path), load_image(pair.moving.path)
    inside = load_labels(pair.fixed.mask).array > 0
    moved = load_truth(pair).warp_image(moving).array
    before = np.corrcoef(fixed.array[inside], moving.array[inside])[0, 1]
    assert np.corrcoef(fixed.array[inside], moved[inside])[0, 1] > before + 0.2


def test_truth_does_not_fold_and_is_not_small(data: Dataset) -> None:
    for pair in data.pairs:
        truth = load_truth(pair)
        assert truth.folding().ndv_percent == 0
        error = truth_error(
            DisplacementField.identity(truth.fixed, truth.moving), truth, load_labels(pair.fixed.mask).array
        )
        assert 3 < error["mean_mm"] < 12
        assert error["mean_mm"] == pytest.approx(4 * error["mean"])


def test_ring_closes(data: Dataset) -> None:
    """Around the ring of true maps every point comes home: they are one family, not four fields."""
    around = load_truth(data.pairs[0])
    for pair in data.pairs[1:]:
        around = around.compose(load_truth(pair))
    inside = load_labels(data.pairs[0].fixed.mask).array > 0
    off = np.linalg.norm(around.vectors[inside], axis=-1)
    assert off.mean() < 0.1
    assert off.max() < 1


def test_multi_modal_pair_is_not_a_curve_away(data: Dataset) -> None:
    """T2w is no monotone function of T1w in the same person: fluid is bright, tissue is inverted."""
    pair = data.pairs[-1]
    t2 = load_image(pair.moving.path).array
    t1 = load_image(pair.moving.path.with_name("DEMOMRI_1001_0000.nii.gz")).array
    labels = load_labels(pair.moving.labels).array

    def means(ending: str) -> tuple[float, float]:
        chosen = np.isin(labels, [i for i, name in LABELS.items() if name.endswith(ending)])
        return float(t1[chosen].mean()), float(t2[chosen].mean())

    thalamus, cortex, white = means("thalamus"), means("insula"), means("frontal white matter")
    assert cortex[0] < thalamus[0] < white[0]
    assert thalamus[1] < cortex[1]
    assert means("ventricle")[1] > cortex[1] > white[1]


def test_second_call_returns_at_once(tiny: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    steps: list[str] = []
    assert demo.make_demo(tiny, spacing=4, on_progress=steps.append) == tiny / "DEMO_dataset.json"
    assert steps == []
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


def test_other_demo_is_not_overwritten(tiny: Path) -> None:
    with pytest.raises(InputError, match="another demo"):
        demo.make_demo(tiny)


def test_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="folder of its own"):
        demo.make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_lost_file_is_named(tiny: Path, tmp_path: Path) -> None:
    marker = json.loads((tiny / demo.MARKER).read_text())
    (tmp_path / demo.MARKER).write_text(json.dumps(marker | {"files": ["imagesVal/gone.nii.gz"]}))
    with pytest.raises(InputError, match=r"lost imagesVal/gone\.nii\.gz"):
        demo.make_demo(tmp_path, spacing=4)


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    def stop(step: str) -> None:
        if step.startswith("making"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.make_demo(tmp_path / "data", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_missing_nilearn_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(InputError, match=r'pip install "iterreg\[demo\]"'):
        demo.make_demo(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"subjects": 1}, "2 to 99"), ({"seed": -1}, "negative"), ({"spacing": 3}, "1, 2 or 4 mm")],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        demo.make_demo(tmp_path / "data", **arguments)


@pytest.mark.parametrize("subjects", [2, 3, 6])
def test_any_number_of_subjects_has_a_multi_modal_pair(subjects: int) -> None:
    pairs = demo._pairs(subjects)
    assert len(pairs) == min(subjects, 4)
    assert all(fixed[0] != moving[0] and max(fixed[0], moving[0]) < subjects for fixed, moving in pairs)
    assert [moving[1] for _, moving in pairs].count(demo.T2) == 1


@pytest.mark.slow
def test_small_demo_at_its_own_resolution(tmp_path: Path) -> None:
    data = open_dataset(demo.make_demo(tmp_path / "data"))
    for pair in data.pairs:
        truth = load_truth(pair)
        fixed, moving = load_labels(pair.fixed.labels).array, load_labels(pair.moving.labels).array
        assert mean_dice(fixed, moving) < 0.65
        assert mean_dice(fixed, scipy_warp(moving, truth)) > 0.85
        assert mean_dice(hemispheres(fixed), hemispheres(scipy_warp(moving, truth))) > 0.95
        assert truth.folding().ndv_percent == 0


@pytest.mark.slow
def test_same_arguments_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    again = demo.make_demo(tmp_path / "again", spacing=4).parent
    names = sorted(path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    different = [name for name in names if (tiny / name).read_bytes() != (again / name).read_bytes()]
    assert different == []
    assert list(tmp_path.iterdir()) == [again]  # no temporary folder is left
