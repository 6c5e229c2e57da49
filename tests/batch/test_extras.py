"""``--save``: what is made of a field beside it, at once or later, and what proves it done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from iterreg.batch.extras import EXTRAS, write_extras
from iterreg.cli.main import main
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.jobs.hashing import FileDigests
from iterreg.volume import Grid, Volume

FIXED = np.array([[2.0, 0, 0, -3], [0, 2, 0, 5], [0, 0, 2, 0], [0, 0, 0, 1]])
SHIFT = np.array([0.4, -0.3, 1.2])
"""Voxels that the moving grid lies beside the fixed one: what the identity's field holds."""
SHAPE = (12, 10, 9)
KINDS = tuple(EXTRAS)


def read(path: Path) -> NDArray[Any]:
    return np.asanyarray(nib.load(path).dataobj)


def test_each_kind_against_its_definition(
    tmp_path: Path, random_field: Callable[..., NDArray[Any]], rng: np.random.Generator
) -> None:
    grid = Grid(SHAPE, FIXED)
    vectors = random_field(SHAPE, amplitude=3.0, smoothness=1.0)
    field = DisplacementField(vectors, grid, grid)
    image = rng.uniform(0, 255, SHAPE).astype(np.float32)
    labels = rng.integers(0, 9, SHAPE).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, FIXED), tmp_path / "labels.nii.gz")
    wanted = {kind: tmp_path / kind / "x.nii.gz" for kind in KINDS}
    write_extras(wanted, field, Volume(image, grid), tmp_path / "labels.nii.gz")

    for path in wanted.values():
        assert np.array_equal(nib.load(path).affine, FIXED)
    place = np.moveaxis(vectors, -1, 0).astype(np.float64) + np.indices(SHAPE)
    inside = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(place, SHAPE, strict=True)], axis=0)
    linear = map_coordinates(image.astype(np.float64), place, order=1)
    assert np.abs(read(wanted["warped"]) - linear)[inside].max() < 1e-3
    nearest = map_coordinates(labels, place, order=0)
    assert np.array_equal(read(wanted["labels"]), np.where(inside, nearest, 0))

    gradient = np.array(np.gradient(place, axis=(1, 2, 3)))[:, :, 1:-1, 1:-1, 1:-1]
    determinant = np.linalg.det(np.moveaxis(gradient, (0, 1), (-1, -2)))
    assert determinant.min() < 0, "the field must fold somewhere to show what the log makes of it"
    inner = read(wanted["jacobian"])[1:-1, 1:-1, 1:-1]
    assert np.abs(inner - determinant).max() < 1e-4
    log = read(wanted["logjacobian"])
    assert np.array_equal(log, np.log(np.maximum(read(wanted["jacobian"]), np.float32(1e-9))))


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    grid = Grid(SHAPE, FIXED)
    image = Volume(np.ones(SHAPE, np.float32), grid)
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), FIXED), tmp_path / "l.nii.gz")
    field = DisplacementField.identity(grid)
    with pytest.raises(InputError, match=r"3x4x5|\(3, 4, 5\)"):
        write_extras({"labels": tmp_path / "o.nii.gz"}, field, image, tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match="no label map to warp"):
        write_extras({"labels": tmp_path / "o.nii.gz"}, field, image, None)


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> Path:
    """One pair whose grids lie beside each other, with labels."""
    moved = FIXED.copy()
    moved[:3, 3] -= FIXED[:3, :3] @ SHIFT
    for kind in ("imagesVal", "labelsVal"):
        (tmp_path / kind).mkdir()
    for number, affine in ((1, FIXED), (2, moved)):
        labels = np.zeros(SHAPE, np.uint8)
        labels[3:8, 3:7, 2:7] = 1
        labels[4:7, 4:6, 3 : 5 + number] = 2
        image = np.where(labels > 0, rng.uniform(50, 255, SHAPE), 0).astype(np.float32)
        for kind, array in (("imagesVal", image), ("labelsVal", labels)):
            nib.save(nib.Nifti1Image(array, affine), tmp_path / kind / f"X_000{number}_0000.nii.gz")
    path = tmp_path / "X_dataset.json"
    name = "./imagesVal/X_000{}_0000.nii.gz"
    path.write_text(json.dumps({"validation": [{"fixed": name.format(1), "moving": name.format(2)}]}))
    return path


def status_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "identity/jobs/0001_0002/status.json").read_text())


def test_saved_at_once_and_asked_for_later(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["run", str(dataset), "-m", "identity", "--out", str(run)]
    files = {kind: run / "identity" / kind / f"{kind}_0001_0002.nii.gz" for kind in KINDS}
    field = run / "identity/fields/disp_0001_0002.nii.gz"

    assert main([*command, "--save", "warped,jacobian"]) == 0
    first = status_of(run)
    assert {kind for kind in KINDS if files[kind].exists()} == {"warped", "jacobian"}
    assert first["warped"] == {
        "name": "warped_0001_0002.nii.gz",
        "bytes": files["warped"].stat().st_size,
        "sha256": FileDigests()(files["warped"]),
    }
    image = read(tmp_path / "imagesVal/X_0002_0000.nii.gz").astype(np.float64)
    place = np.indices(SHAPE) + SHIFT[:, None, None, None]
    assert np.abs(read(files["warped"]) - map_coordinates(image, place, order=1)).max() < 1e-2
    assert np.array_equal(nib.load(files["warped"]).affine, FIXED)
    assert np.allclose(read(files["jacobian"]), 1)

    # More, later: made of the field that is there, which is not registered again.
    stamp = field.stat().st_mtime_ns
    capsys.readouterr()
    assert main([*command, "--save", "warped", "--save", "labels,logjacobian"]) == 0
    said = capsys.readouterr()
    assert "identity: 1 done, to be given more files" in said.out
    assert "1 of 1 done" in said.out
    assert field.stat().st_mtime_ns == stamp
    labels = read(tmp_path / "labelsVal/X_0002_0000.nii.gz")
    inside = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(place, SHAPE, strict=True)], axis=0)
    expected = np.where(inside, map_coordinates(labels, place, order=0), 0)
    assert np.array_equal(read(files["labels"]), expected)
    assert np.allclose(read(files["logjacobian"]), 0)
    second = status_of(run)
    assert {key: second[key] for key in first} == first
    sidecar = json.loads(field.with_name("disp_0001_0002.json").read_text())
    assert sidecar["labels"] == second["labels"]
    assert sidecar["command"]

    assert main(["plan", *command[1:], "--save", ",".join(KINDS)]) == 0
    assert "identity: 1 done\n" in capsys.readouterr().out

    # What is gone, or made of other labels, is made again; the rest stays.
    files["jacobian"].unlink()
    path = tmp_path / "labelsVal/X_0002_0000.nii.gz"
    nib.save(nib.Nifti1Image(np.where(labels == 2, 7, labels), nib.load(path).affine), path)
    assert main([*command, "--save", ",".join(KINDS), "-q"]) == 0
    assert np.array_equal(read(files["labels"]), np.where(expected == 2, 7, expected))
    assert files["jacobian"].exists()
    assert field.stat().st_mtime_ns == stamp

    # A field that has gone takes all with it.
    field.unlink()
    assert main([*command, "--save", "warped", "-q"]) == 0
    assert field.exists()
    assert {kind for kind in KINDS if kind in status_of(run)} == {"warped"}
    assert {kind for kind in KINDS if files[kind].exists()} == {"warped"}


def test_a_failure_to_make_more_leaves_the_field_done(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["run", str(dataset), "-m", "identity", "--out", str(run), "-q"]
    assert main(command) == 0
    before = status_of(run)
    bad = np.full(SHAPE, 0.5, np.float32)
    nib.save(nib.Nifti1Image(bad, np.eye(4)), tmp_path / "labelsVal/X_0002_0000.nii.gz")
    assert main([*command, "--save", "labels", "--no-check"]) == 2
    assert status_of(run) == before
    assert main(command) == 0


def test_inverse_is_one_of_the_kinds(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["run", str(dataset), "-m", "identity", "--out", str(run), "-q", "--save", "inverse"]) == 0
    assert (run / "identity/inverse/disp_0001_0002.nii.gz").is_file()


def test_what_cannot_be_saved_is_told(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", str(dataset), "-m", "identity", "--out", str(tmp_path / "run")]
    assert main([*command, "--save", "warpt"]) == 1
    assert "--save warpt: did you mean 'warped'? give some of warped, labels" in capsys.readouterr().err
    assert main([*command, "--save", "momentum"]) == 1
    assert "has a momentum to save" in capsys.readouterr().err
    for path in (tmp_path / "labelsVal").iterdir():
        path.unlink()
    assert main([*command, "--save", "labels"]) == 1
    assert "no moving image has a label map to warp" in capsys.readouterr().err
