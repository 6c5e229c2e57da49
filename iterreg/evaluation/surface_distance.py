"""Robust Hausdorff distance between label surfaces, weighted by surface area.

The definition of google-deepmind/surface-distance (Nikolov et al., J Med Internet Res 2021), which the
Learn2Reg and LUMIR evaluators use. A label's surface passes the voxel corners whose eight voxels carry it
in part; marching cubes (Lorensen and Cline, SIGGRAPH 1987) with its vertices at the middle of edges
gives each such corner an area. From every corner of one surface the distance to the nearest corner of
the other is taken, and of these distances the percentile that leaves 5 % *of the area* above it. The
measure is the larger of both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.evaluation.overlap import LabelOverlap, as_kernel_labels, overlap
from iterreg.kernels.surfels import distance_histogram, label_surface
from iterreg.volume import FloatArray

__all__ = ["hd95", "surfel_areas"]

Surface = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Codes and runs, by `iterreg.kernels.surfels.label_surface`."""

_REACH = 13
"""Voxels within which the nearest surface is looked for before a whole distance transform is made."""


def hd95(
    fixed: NDArray[Any],
    warped: NDArray[Any],
    labels: Iterable[int] | None = None,
    *,
    moving: NDArray[Any] | None = None,
    percent: float = 95.0,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    counted: LabelOverlap | None = None,
) -> dict[int, float]:
    """Robust Hausdorff distance of every label: HD95 by default.

    The Learn2Reg / LUMIR evaluator's rule: NaN for a label missing in the fixed or in the (unwarped) moving
    volume, infinite for one that vanished in the warping.

    Parameters
    ----------
    fixed, warped
        (X, Y, Z) integer labels on the fixed grid.
    labels
        The ids to score, in the order of the result. Default: every id but 0 that occurs.
    moving
        Labels before warping; see `iterreg.evaluation.overlap.dice`.
    percent
        Which percentile of the area; 100 is the Hausdorff distance.
    spacing
        Millimetres per voxel. The evaluators measure in voxels, (1, 1, 1).
    counted
        What `overlap` found on the same volumes, when it is already known.

    Raises
    ------
    InputError
        If a volume does not hold integers, or fixed and warped differ in shape.
    """
    counted = counted or overlap(fixed, warped, labels, moving=moving)
    fixed, warped = as_kernel_labels(fixed), as_kernel_labels(warped)
    scores = {}
    for row in counted.rows() if labels is None else map(counted.row, labels):
        if not row.scored:
            scores[row.label] = float("nan")
        elif not row.warped:
            scores[row.label] = float("inf")
        else:
            lower, upper = (np.array(corner, np.int64) for corner in row.box)
            one = label_surface(fixed, row.label, lower, upper)
            two = label_surface(warped, row.label, lower, upper)
            there = _directed(one, two, spacing, percent)
            scores[row.label] = max(there, _directed(two, one, spacing, percent))
    return scores


def _directed(start: Surface, goal: Surface, spacing: Sequence[float], percent: float) -> float:
    """The distance from one surface to another up to which `percent` of its area lies."""
    if spacing[0] == spacing[1] == spacing[2]:
        near = _near(start, goal, percent)
        if near is not None:
            return near * spacing[0]
    return _anywhere(start, goal, spacing, percent)


def _near(start: Surface, goal: Surface, percent: float) -> float | None:
    """In voxels, by looking around each corner; None when that would have to go too far."""
    areas = surfel_areas()
    values, classes = np.unique(areas, return_inverse=True)
    counts = distance_histogram(start[0], goal[1], _steps(_REACH), _REACH, classes, values.size)
    counts = counts.sum(axis=0, dtype=np.int64)
    index = _index_of(np.repeat(np.tile(values, counts.shape[0]), counts.ravel()), percent)
    squared = int(np.searchsorted(np.cumsum(counts.sum(axis=1)), index, side="right"))
    return float(np.sqrt(squared)) if squared <= _REACH**2 else None


def _anywhere(start: Surface, goal: Surface, spacing: Sequence[float], percent: float) -> float:
    """By the exact distance transform of the whole box."""
    import edt

    on = (start[0] != 0) & (start[0] != 255)
    # Between voxels of equal sides squared distances are whole numbers, which edt's float32 holds exactly.
    squared = edt.edtsq((goal[1] != 0).view(np.uint8), anisotropy=tuple(spacing))[on]
    areas = surfel_areas(*spacing)[start[0][on]]
    order = np.lexsort((areas, squared))
    index = _index_of(areas[order], percent)
    return float(np.sqrt(np.float64(squared[order[index]])))


def _index_of(areas: FloatArray, percent: float) -> int:
    """Of surface elements in ascending distance, the one at which `percent` of the area is reached."""
    share = np.cumsum(areas) / areas.sum()
    return min(int(np.searchsorted(share, percent / 100)), areas.size - 1)


@cache
def _steps(reach: int) -> NDArray[np.int64]:
    """(N, 3): steps in x and y with their squared length, the shortest first, up to `reach`."""
    x, y = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    steps = np.stack([x, y, x * x + y * y], axis=-1).reshape(-1, 3).astype(np.int64)
    steps = steps[steps[:, 2] <= reach * reach]
    return steps[np.argsort(steps[:, 2], kind="stable")]


# The thirteen ways, up to symmetry, in which a label can occupy some of a cell's corners (Lorensen and
# Cline's cases): the corners (x, y, z) and, of each triangle, its area's projections on the axes in
# eighths of a voxel's face.
_Corner = tuple[int, int, int]
_CASES: tuple[tuple[tuple[_Corner, ...], tuple[_Corner, ...]], ...] = (
    (((0, 0, 0),), ((1, 1, 1),)),
    (((0, 0, 0), (0, 0, 1)), ((2, 2, 0), (2, 2, 0))),
    (((0, 0, 1), (0, 1, 0)), ((1, 1, 1), (1, 1, 1))),
    (((0, 0, 0), (0, 0, 1), (0, 1, 0)), ((1, 1, 1), (2, 2, 2), (4, 0, 0))),
    (((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)), ((4, 0, 0), (4, 0, 0))),
    (((0, 0, 1), (0, 1, 0), (1, 0, 0)), ((1, 1, 1), (1, 1, 1), (1, 1, 1))),
    (((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2))),
    (((0, 1, 1), (1, 0, 0)), ((1, 1, 1), (1, 1, 1))),
    (((0, 0, 0), (0, 1, 1), (1, 0, 0)), ((0, 2, 2), (0, 2, 2), (1, 1, 1))),
    (((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 0, 0)), ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3))),
    (((0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0))),
    (((0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)), ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0))),
    (((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)), ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))),
)


@cache
def surfel_areas(sx: float = 1.0, sy: float = 1.0, sz: float = 1.0) -> FloatArray:
    """Area of the surface at a voxel corner, by `iterreg.kernels.surfels.label_surface`'s code.

    Returns
    -------
    (256,) float64, in the squared unit of the spacing; 0 for codes 0 and 255.
    """
    faces = np.array([sy * sz, sx * sz, sx * sy]) / 8
    areas = np.zeros(256)
    for corners, triangles in _CASES:
        for order in permutations(range(3)):
            turned = np.array(triangles)[:, order]
            area = np.linalg.norm(turned * faces, axis=1).sum()
            for mirror in product((0, 1), repeat=3):
                code = 0
                for corner in corners:
                    x, y, z = (corner[axis] ^ mirror[axis] for axis in order)
                    code |= 1 << (4 * z + 2 * x + y)
                areas[code] = areas[255 - code] = area
    return areas
