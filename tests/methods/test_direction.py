"""Every engine, through the real command, on an oblique, anisotropic pair with unequal grids.

The moved image is scored with scipy's ``map_coordinates``, which knows nothing of iterreg; the same field
negated, transposed or inverted must fail the same score.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from iterreg.batch.doctor import GOOD_SHARE, cheapest_preset
from iterreg.field import DisplacementField
from iterreg.io.challenge import read_field
from iterreg.methods.registry import load
from iterreg.methods.trial import Trial, make_trial


def similarity(pair: Trial, vectors: NDArray[np.floating]) -> float:
    """Correlation of fixed and moved intensities inside the fixed object."""
    points = np.indices(pair.fixed.grid.shape) + np.moveaxis(vectors, -1, 0)
    moved = map_coordinates(pair.moving.array, points, order=1, mode="constant")
    return float(np.corrcoef(moved[pair.mask], pair.fixed.array[pair.mask])[0, 1])


def wrong_fields(pair: Trial, field: DisplacementField) -> dict[str, NDArray[np.floating]]:
    world = field.to_world()
    fixed, moving = pair.fixed.grid, pair.moving.grid
    back = DisplacementField.identity(fixed, moving).compose(field.invert().field).to_world()
    return {
        "negated": DisplacementField.from_world(-world, fixed, moving).vectors,
        "transposed": DisplacementField.from_world(world[..., ::-1], fixed, moving).vectors,
        "inverted": DisplacementField.from_world(back, fixed, moving).vectors,
        "LPS taken for RAS": DisplacementField.from_world(world * (-1, -1, 1), fixed, moving).vectors,
        "components in reversed order": field.vectors[..., ::-1],
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Trial, Path]]:
    folder = tmp_path_factory.mktemp("trial")
    trial = make_trial()
    for name, volume in (("fixed", trial.fixed), ("moving", trial.moving)):
        nib.save(nib.Nifti1Image(volume.array, volume.grid.affine), folder / f"{name}.nii.gz")
    return lambda: (trial, folder)


@pytest.mark.parametrize(
    "method",
    ["syn", "lddmm", pytest.param("elastix", marks=pytest.mark.slow)],
)
def test_direction(method: str, pair: Callable[[], tuple[Trial, Path]], tmp_path: Path) -> None:
    trial, folder = pair()
    preset = cheapest_preset(load(method))
    command = [
        sys.executable,
        "-m",
        "iterreg",
        "run",
        str(folder / "fixed.nii.gz"),
        str(folder / "moving.nii.gz"),
    ]
    command += [
        "--method",
        f"{method}:{preset}",
        "--out",
        str(tmp_path / "run"),
        "--inverse",
        "--threads",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    fixed, moving = trial.fixed.grid, trial.moving.grid
    arm = tmp_path / "run" / f"{method}-{preset}"
    field = read_field(arm / "fields" / "disp_fixed_moving.nii.gz", fixed, moving)
    before = similarity(trial, DisplacementField.identity(fixed, moving).vectors)
    after = similarity(trial, field.vectors)
    assert after > 0.9 > before + 0.1
    assert trial.error(field) < GOOD_SHARE * trial.error(DisplacementField.identity(fixed, moving))
    for name, vectors in wrong_fields(trial, field).items():
        assert similarity(trial, vectors) < before + 0.1, name

    inverse = read_field(arm / "inverse" / "disp_fixed_moving.nii.gz", moving, fixed)
    there_and_back = field.compose(inverse).vectors[trial.mask]
    assert np.linalg.norm(there_and_back, axis=-1).mean() < 0.3
