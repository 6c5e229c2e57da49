"""Which reading of a field file makes the images alike: every convention tried, ranked by similarity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io.coordinates import fit_lines, fsl_signs
from iterreg.io.unknown import FIELD_SUFFIXES, as_vectors, format_of, layouts, load_unknown, voxels
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["Reading", "rank_readings"]


@dataclass(frozen=True)
class Reading:
    """One way to read a file, and how similar it makes the images.

    Attributes
    ----------
    names
        The readings that place every sampled voxel within 0.01 voxels of one another.
    format
        The format to name with ``--from`` for it, or ``""`` where the file would have to be mended first.
    ncc
        Normalised cross-correlation of fixed and warped moving image over the sampled voxels.
    inside
        Share of sampled voxels that stay inside the moving image.
    """

    names: tuple[str, ...]
    format: str
    ncc: float
    inside: float


def rank_readings(
    path: str | Path, fixed: Volume, moving: Volume, *, samples: int = 200_000
) -> tuple[Reading, ...]:
    """Try every reading of a dense field and rank them by similarity, the best first.

    Similarity is the normalised cross-correlation of the fixed image and the warped moving image over a
    regular subset of about `samples` voxels of the fixed grid. It tells readings apart when both images
    have the same contrast; between contrasts it is only a hint. Numbers that run along the axes as
    coordinates do are not tried as displacements.

    Raises
    ------
    InputError
        If the file cannot be read or no layout of it fits the fixed image.
    """
    path = Path(path)
    if not path.name.lower().endswith(FIELD_SUFFIXES):
        raise InputError(f"{path}: is not a dense field, its reading is not in doubt; give a field file")
    unknown = load_unknown(path)
    absolute = fit_lines(as_vectors(unknown.array, path)[0], unknown.grid).system is not None
    step = max(1, int(np.ceil((fixed.grid.size / samples) ** (1 / 3))))
    chosen = (slice(None, None, step),) * 3
    index = voxels(fixed.grid.shape, step)
    reference = fixed.array[chosen].astype(np.float64).ravel()
    targets: list[tuple[str, str, FloatArray]] = [
        ("no displacement (for comparison)", "", _same_place(index, fixed.grid, moving.grid))
    ]
    for prefix, vectors in layouts(unknown.array, fixed.grid.shape):
        sampled = vectors[chosen].reshape(-1, 3).astype(np.float64)
        for name, file_format, make in _PLACES if absolute else (*_DISPLACEMENTS, *_PLACES):
            place = make(sampled, index, fixed.grid, moving.grid)
            if place is not None and np.isfinite(place).all():
                targets.append((prefix + name, format_of(unknown, prefix, file_format), place))
    if len(targets) == 1:
        raise InputError(
            f"{path}: has shape {unknown.array.shape}, no layout of which fits the fixed image's "
            f"{fixed.grid.shape}; give the image the field was made for"
        )
    return _ranked(targets, reference, moving.array)


Make = Callable[[FloatArray, FloatArray, Grid, Grid], FloatArray | None]


def _same_place(p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
    return moving.world_to_voxel(fixed.voxel_to_world(p))


def _world(signs: tuple[int, int, int], reverse: bool = False) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
        displacement = (v[:, ::-1] if reverse else v) * signs
        return moving.world_to_voxel(fixed.voxel_to_world(p) + displacement)

    return make


def _axis_millimetres(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
    return _same_place(p, fixed, moving) + v / np.array(moving.spacing, dtype=np.float64)


def _from_fsl(x: FloatArray, grid: Grid) -> FloatArray:
    """FSL's millimetres -> voxels."""
    signs, last = fsl_signs(grid), np.array(grid.shape, dtype=np.float64) - 1
    index = x / grid.spacing
    return np.where(signs < 0, last - index, index)


def _fsl_displacement(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
    signs, last = fsl_signs(fixed), np.array(fixed.shape, dtype=np.float64) - 1
    return _from_fsl(np.where(signs < 0, last - p, p) * fixed.spacing + v, moving)


def _unit_interval(reverse: bool) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray | None:
        if np.abs(v).max() > 4:
            return None
        return (v[:, ::-1] if reverse else v) * (np.array(moving.shape, dtype=np.float64) - 1)

    return make


def _normalised_displacement(reverse: bool) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray | None:
        if np.abs(v).max() > 4:
            return None
        half = (np.array(moving.shape, dtype=np.float64) - 1) / 2
        return _same_place(p, fixed, moving) + (v[:, ::-1] if reverse else v) * half

    return make


def _sampling_grid(align_corners: bool, reverse: bool) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray | None:
        if np.abs(v).max() > 4:
            return None
        g, n = (v[:, ::-1] if reverse else v), np.array(moving.shape, dtype=np.float64)
        return (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2

    return make


_Row = tuple[str, str, Make]

_DISPLACEMENTS: tuple[_Row, ...] = (
    ("voxels", "challenge", lambda v, p, f, m: p + v),
    ("voxels, components reversed", "", lambda v, p, f, m: p + v[:, ::-1]),
    ("voxels, negated (an inverse or the opposite direction)", "", lambda v, p, f, m: p - v),
    ("millimetres, RAS+", "ras", _world((1, 1, 1))),
    ("millimetres, LPS (ITK, ANTs, elastix)", "itk", _world((-1, -1, 1))),
    ("millimetres, LPS, components reversed", "", _world((-1, -1, 1), reverse=True)),
    ("millimetres, LPS, negated", "", _world((1, 1, -1))),
    ("millimetres along FSL's axes", "fsl", _fsl_displacement),
    ("millimetres along the array axes", "", _axis_millimetres),
    ("normalised displacements", "", _normalised_displacement(reverse=False)),
    ("normalised displacements, components reversed", "", _normalised_displacement(reverse=True)),
)
_PLACES: tuple[_Row, ...] = (
    ("absolute millimetres, RAS+ (SPM, NiftyReg)", "spm", lambda v, p, f, m: m.world_to_voxel(v)),
    ("absolute millimetres, LPS", "", lambda v, p, f, m: m.world_to_voxel(v * [-1, -1, 1])),
    ("absolute millimetres along FSL's axes", "fsl-absolute", lambda v, p, f, m: _from_fsl(v, m)),
    ("absolute voxel coordinates", "", lambda v, p, f, m: v),
    ("absolute voxel coordinates, components reversed", "", lambda v, p, f, m: v[:, ::-1]),
    ("sampling grid, align_corners=True", "torch", _sampling_grid(True, reverse=True)),
    ("sampling grid, align_corners=False", "torch-unaligned", _sampling_grid(False, reverse=True)),
    ("sampling grid, components in array order", "", _sampling_grid(True, reverse=False)),
    ("map in [0, 1] (ICON)", "icon", _unit_interval(reverse=False)),
    ("map in [0, 1], components reversed", "", _unit_interval(reverse=True)),
)


def _ranked(
    targets: list[tuple[str, str, FloatArray]], reference: FloatArray, moving: NDArray[Any]
) -> tuple[Reading, ...]:
    from scipy.ndimage import map_coordinates

    groups: list[tuple[list[str], list[str], FloatArray]] = []
    for name, file_format, place in targets:
        for names, formats, other in groups:
            if np.abs(place - other).max() < 0.01:
                names.append(name)
                formats.append(file_format)
                break
        else:
            groups.append(([name], [file_format], place))
    image = np.asarray(moving, dtype=np.float32)
    upper = np.array(image.shape) - 1
    readings = []
    for names, formats, place in groups:
        warped = map_coordinates(image, place.T, order=1, mode="constant", cval=0.0)
        inside = float(((place >= 0) & (place <= upper)).all(axis=-1).mean())
        chosen = next((f for f in formats if f), "")
        readings.append(Reading(tuple(names), chosen, _ncc(reference, warped), inside))
    return tuple(sorted(readings, key=lambda r: -r.ncc))


def _ncc(a: FloatArray, b: NDArray[Any]) -> float:
    a = a - a.mean()
    b = b.astype(np.float64) - b.mean(dtype=np.float64)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0
