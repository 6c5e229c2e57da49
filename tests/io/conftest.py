"""Grids in every orientation, fields on them, and ITK as the judge of where a fixed voxel goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.field import DisplacementField
from iterreg.volume import Grid

ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
FIXED_SHAPE, FIXED_SPACING = (7, 6, 5), (1.0, 1.7, 0.8)
MOVING_SHAPE, MOVING_SPACING = (6, 8, 7), (1.3, 0.9, 2.0)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """A rotation about x, then y, then z (radians)."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one = np.eye(3)
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        out = one @ out
    return out


def oriented_grid(orientation: int, shape: Any, spacing: Any, angles: Any = (0.0, 0.0, 0.0)) -> Grid:
    """A grid around (5, -3, 8) mm whose axes are one of the 48 orientations, turned by `angles`."""
    order, signs = ORIENTATIONS[orientation]
    axes = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        axes[row, column] = sign
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ axes * np.array(spacing)
    affine[:3, 3] = np.array([5.0, -3.0, 8.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def voxels(shape: Any) -> np.ndarray:
    """(X, Y, Z, 3) voxel indices."""
    return np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1).astype(float)


def smooth_field(fixed: Grid, moving: Grid, seed: int, amplitude: float = 0.8) -> DisplacementField:
    """The change of grid plus a smooth random deviation of about `amplitude` moving voxels."""
    rng = np.random.default_rng(seed)
    p = voxels(fixed.shape)
    matrix = np.linalg.inv(moving.affine) @ fixed.affine
    vectors = p @ matrix[:3, :3].T + matrix[:3, 3] - p
    for c in range(3):
        waves = rng.uniform(0.2, 0.7, 3)
        vectors[..., c] += amplitude * (0.6 + np.sin(p @ waves + rng.uniform(0, 6))) * (c + 1) / 2
    return DisplacementField(vectors.astype(np.float32), fixed, moving)


def pair_of_grids(orientation: int) -> tuple[Grid, Grid]:
    """Unequal, oblique, anisotropic fixed and moving grids; every orientation appears on both sides."""
    fixed = oriented_grid(orientation, FIXED_SHAPE, FIXED_SPACING, (0.2, -0.3, 0.15))
    moving = oriented_grid((7 * orientation + 11) % 48, MOVING_SHAPE, MOVING_SPACING, (-0.1, 0.25, 0.4))
    return fixed, moving


def itk_image(grid: Grid, folder: Path, name: str) -> Any:
    """The grid as ITK reads it from a NIfTI file."""
    import SimpleITK as sitk  # noqa: N813

    file = folder / f"{name}.nii.gz"
    nib.Nifti1Image(np.zeros(grid.shape, np.float32), grid.affine).to_filename(file)
    return sitk.ReadImage(str(file))


def itk_targets(transform: Any, fixed: Any, moving: Any) -> np.ndarray:
    """(X, Y, Z, 3) moving voxel coordinates where ITK's `transform` takes each fixed voxel."""
    out = np.empty((*fixed.GetSize(), 3))
    for index in itertools.product(*[range(n) for n in fixed.GetSize()]):
        point = transform.TransformPoint(fixed.TransformIndexToPhysicalPoint(index))
        out[index] = moving.TransformPhysicalPointToContinuousIndex(point)
    return out


def error(field: DisplacementField, targets: np.ndarray) -> float:
    """Largest difference between p + u(p) and the targets, in moving voxels."""
    return float(np.abs(voxels(field.fixed.shape) + field.vectors - targets).max())


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    helpers: list[Callable[..., Any]] = [
        rotation,
        oriented_grid,
        voxels,
        smooth_field,
        pair_of_grids,
        itk_image,
        itk_targets,
        error,
    ]
    return SimpleNamespace(**{h.__name__: h for h in helpers})
