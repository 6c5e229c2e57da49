"""Whether the numbers of a dense field run along the axes like coordinates, and of which system.

A displacement is nearly constant over the grid; a coordinate grows along an axis by as much as its system
says. So the straight line through the numbers tells one from the other, and the systems apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.io.lps import RAS_TO_LPS
from iterreg.volume import FloatArray, Grid

__all__ = ["Lines", "System", "fit_lines", "fsl_signs"]

_SAMPLES = 100_000

_NEAR = 0.8
"""How far (spectral norm) a map of coordinates may be from the identity to be told: a turn by 47 degrees."""

_STRAIGHT = 0.25
"""What may be left beside the straight line, in parts of its span."""


@dataclass(frozen=True, eq=False)
class System:
    """A way to write places.

    Attributes
    ----------
    name
        In words.
    format
        The name for ``--from`` of the files that hold such places, ``""`` where there is none.
    linear
        (3, 3), what each component (row) grows by along each array axis (column).
    range
        Where the grid's first and last voxel lie, of a normalised system.
    """

    name: str
    format: str
    linear: FloatArray
    range: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Lines:
    """The straight lines through a field's components.

    Attributes
    ----------
    slopes
        (3, 3) per voxel: component (row) along array axis (column).
    system
        The system of coordinates they run as, None where they do not run as any.
    """

    slopes: FloatArray
    system: System | None

    def like_displacements(self, grid: Grid) -> bool:
        """Whether the lines are as flat as those of displacements in millimetres, whatever their signs."""
        return bool(np.linalg.norm(self.slopes @ np.linalg.inv(grid.affine[:3, :3]), 2) < 0.5)


def fit_lines(vectors: NDArray[Any], grid: Grid | None) -> Lines:
    """Fit straight lines to a field and say of which system of coordinates they are.

    Parameters
    ----------
    vectors
        (X, Y, Z, 3), the stored numbers; those that are not finite are left out.
    grid
        The header's, where there is one: systems in millimetres need it.
    """
    step = max(1, int(np.ceil((vectors[..., 0].size / _SAMPLES) ** (1 / 3))))
    shape = np.array(vectors.shape[:3])
    sample = vectors[::step, ::step, ::step].reshape(-1, 3).astype(np.float64)
    axes = [np.arange(0, n, step, dtype=np.float64) for n in shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    good = np.isfinite(sample).all(axis=-1)
    sample, index = sample[good], index[good]
    if len(sample) < 8 or shape.min() < 2:
        return Lines(np.zeros((3, 3)), None)
    design = np.column_stack([index, np.ones(len(index))])
    solution: FloatArray = np.asarray(np.linalg.lstsq(design, sample, rcond=None)[0], np.float64)
    slopes = solution[:3].T
    rest = (sample - design @ solution).std(axis=0)
    spans = np.abs(slopes) @ (shape - 1)
    if (rest > _STRAIGHT * spans).any():
        return Lines(slopes, None)
    ends = np.sort(solution[3][:, np.newaxis] + [0.0, 1.0] * (slopes @ (shape - 1))[:, np.newaxis], axis=1)
    best, nearest = None, _NEAR
    for system in _systems(shape, grid):
        ratio = slopes @ np.linalg.inv(system.linear)
        away = float(np.linalg.norm(ratio - np.eye(3), 2))
        if system.range is not None and np.abs(ends - system.range).max() > 0.5 * np.ptp(system.range):
            continue
        if away < nearest - 1e-6 and away < np.linalg.norm(ratio, 2):
            best, nearest = system, away
    return Lines(slopes, best)


def fsl_signs(grid: Grid) -> FloatArray:
    """(3,) signs of FSL's coordinates along the array axes: it turns x round where the axes are right-handed.

    FSL's coordinates are voxel indices times voxel sizes; in an image of "neurological" storage (an affine
    of positive determinant) they are counted from the other end of the first axis.
    """
    return np.array([-1.0 if np.linalg.det(grid.affine[:3, :3]) > 0 else 1.0, 1.0, 1.0])


def _systems(shape: NDArray[Any], grid: Grid | None) -> Iterator[System]:
    """Those of more use first: of two that are one on this grid, the first is named."""
    reverse = np.eye(3)[::-1]
    if grid is not None and not np.array_equal(
        grid.affine, np.eye(4)
    ):  # which is no header, but the lack of one
        linear = grid.affine[:3, :3]
        yield System("RAS+ millimetres, as SPM and NiftyReg write them", "spm", linear)
        yield System("LPS millimetres", "", RAS_TO_LPS[:, np.newaxis] * linear)
        yield System("FSL's millimetres", "fsl-absolute", np.diag(grid.spacing * fsl_signs(grid)))
    yield System("voxels", "", np.eye(3))
    yield System("voxels, the last array axis first", "", reverse)
    last = np.maximum(shape - 1.0, 1.0)
    aligned = reverse @ np.diag(2 / last)
    yield System(
        "[-1, 1] between the outer voxels' centres, the last array axis first", "torch", aligned, (-1, 1)
    )
    yield System(
        "[-1, 1] between the outer voxels' faces, the last array axis first",
        "torch-unaligned",
        reverse @ np.diag(2 / shape),
        (-1, 1),
    )
    yield System("[-1, 1], components in the order of the axes", "", np.diag(2 / last), (-1, 1))
    yield System(
        "[0, 1], components in the order of the axes, as ICON writes them", "icon", np.diag(1 / last), (0, 1)
    )
    yield System("[0, 1], the last array axis first", "", reverse @ np.diag(1 / last), (0, 1))
