"""Cuts one pair and the fields of its methods into slices, reading one field at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.evaluation.fields import read_field
from iterreg.field import DisplacementField
from iterreg.report.pictures import window
from iterreg.report.planes import Plane, Range, Slab, planes, spread
from iterreg.volume import Grid, Volume, load_image, load_labels

__all__ = ["Cut", "FixedCut", "FoldCut", "PairCutter", "WarpedCut", "box", "worst_place"]

_MARGIN = 0.06
"""Around the foreground, as a part of its extent: room for the letters at the sides."""

Slice = NDArray[Any]
Place = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class FixedCut:
    """A plane of the fixed image.

    Attributes
    ----------
    image, labels, foreground
        (rows, columns); labels is None where there are none.
    """

    plane: Plane
    image: Slice
    labels: Slice | None
    foreground: Slice


@dataclass(frozen=True, eq=False)
class WarpedCut:
    """The same plane of what a field makes of the moving image.

    Attributes
    ----------
    image, labels
        (rows, columns), warped.
    determinant
        (rows, columns), of the Jacobian, in the world.
    magnitude
        (rows, columns), how far a voxel is moved in the world, in millimetres.
    positions
        Where each voxel lies after the map along the page's rows and columns, in fixed voxels.
    """

    image: Slice
    labels: Slice | None
    determinant: Slice
    magnitude: Slice
    positions: tuple[Slice, Slice]


@dataclass(frozen=True, eq=False)
class FoldCut:
    """A plane through folding: (rows, columns) determinants and foreground."""

    plane: Plane
    determinant: Slice
    foreground: Slice


@dataclass(frozen=True, eq=False)
class Cut:
    """What a field looks like in the pair's planes.

    Attributes
    ----------
    planes
        Axial, coronal, sagittal; once for each row of planes.
    fold
        Planes through the lowest determinant of the foreground; empty without folding.
    fold_at
        Its voxel.
    """

    planes: tuple[WarpedCut, ...]
    fold: tuple[FoldCut, ...] = ()
    fold_at: Place | None = None


class PairCutter:
    """A pair's images and labels, and the planes it is shown in.

    Parameters
    ----------
    pair
        Its images must exist; labels are used where they can be.
    missed
        Label -> part of it that was missed, 1 - Dice, over the methods. The planes go where they cut most of
        what was missed; without it through the middle of the labels or of the foreground.
    rows
        Rows of three planes, an odd number; those beside the middle one are spread over what is shown.

    Raises
    ------
    InputError
        If an image cannot be read.
    """

    def __init__(self, pair: Pair, missed: Mapping[int, float], *, rows: int = 1) -> None:
        self._pair = pair
        fixed = load_image(pair.fixed.path)
        self._moving = load_image(pair.moving.path)
        self.notes: list[str] = []
        fixed_labels, self._moving_labels = self._load_labels(pair, fixed.grid, self._moving.grid)
        self.grid = fixed.grid
        self.windows = (window(fixed.array), window(self._moving.array))
        self._foreground = fixed.array > self.windows[0][0]
        self.place = worst_place(
            None if fixed_labels is None else fixed_labels.array, missed, self._foreground
        )
        self.shown = box(self._foreground, self.grid.spacing)
        self.located_by_labels = fixed_labels is not None and bool(missed)
        self.fixed = tuple(
            FixedCut(
                plane,
                plane.cut(fixed.array).copy(),
                None if fixed_labels is None else plane.cut(fixed_labels.array).copy(),
                plane.cut(self._foreground).copy(),
            )
            for place in spread(self.place, self.shown, rows)
            for plane in planes(self.grid, place, self.shown)
        )

    @property
    def before(self) -> Cut:
        """The moving image as it lies in the world, on the fixed grid."""
        return Cut(tuple(self._identity(one.plane) for one in self.fixed))

    def after(self, files: Sequence[Path], *, folds: bool, name: str = "") -> Cut:
        """What the files of a field make of the moving image.

        Parameters
        ----------
        name
            Their format; ``""`` for what they make certain.
        folds
            Look for the worst folding too, which takes a pass over the whole field.

        Raises
        ------
        InputError
            If the field cannot be used.
        """
        vectors = read_field(files, self._pair.fixed.path, self._pair.moving.path, name=name).vectors
        slabs = [Slab.of(vectors, self.grid, self._moving.grid, one.plane) for one in self.fixed]
        cuts = tuple(self._warped(slab) for slab in slabs)
        if not folds:
            return Cut(cuts)
        determinant = DisplacementField(vectors, self.grid, self._moving.grid).jacobian_determinant()
        determinant[~self._foreground] = np.inf
        lowest = np.unravel_index(int(np.argmin(determinant)), determinant.shape)
        at = (int(lowest[0]), int(lowest[1]), int(lowest[2]))
        if determinant[at] > 0:
            return Cut(cuts)
        found = []
        for plane in planes(self.grid, at, self.shown):
            slab = Slab.of(vectors, self.grid, self._moving.grid, plane)
            determinant = slab.cut(slab.field.jacobian_determinant())
            found.append(FoldCut(plane, determinant, plane.cut(self._foreground).copy()))
        return Cut(cuts, tuple(found), at)

    def _identity(self, plane: Plane) -> WarpedCut:
        part = list(self.grid.shape)
        start, stop = max(plane.index - 1, 0), min(plane.index + 2, self.grid.shape[plane.axis])
        part[plane.axis] = stop - start
        affine = self.grid.affine.copy()
        affine[:3, 3] += start * affine[:3, plane.axis]
        field = DisplacementField.identity(Grid((part[0], part[1], part[2]), affine), self._moving.grid)
        return self._warped(Slab(plane, field, plane.index - start))

    def _warped(self, slab: Slab) -> WarpedCut:
        plane, displacement = slab.plane, slab.field.in_fixed_voxels()
        positions = []
        for axis in (plane.rows, plane.columns):
            index = np.arange(displacement.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
            positions.append(slab.cut(displacement[..., axis] + index))
        labels = self._moving_labels
        return WarpedCut(
            slab.cut(slab.field.warp_image(self._moving).array),
            None if labels is None else slab.cut(slab.field.warp_labels(labels).array),
            slab.cut(slab.field.jacobian_determinant()),
            np.linalg.norm(slab.cut(displacement) @ self.grid.affine[:3, :3].T, axis=-1),
            (positions[0], positions[1]),
        )

    def _load_labels(self, pair: Pair, fixed: Grid, moving: Grid) -> tuple[Volume | None, Volume | None]:
        """Both label volumes, or neither."""
        found: list[Volume] = []
        for path, grid in ((pair.fixed.labels, fixed), (pair.moving.labels, moving)):
            if path is None:
                return None, None
            try:
                labels = load_labels(path, smallest=True)
                if labels.grid.shape != grid.shape:
                    raise InputError(f"{path}: its shape {labels.grid.shape} is not its image's {grid.shape}")
            except InputError as error:
                self.notes.append(f"without label contours: {error}")
                return None, None
            found.append(labels)
        return found[0], found[1]


def worst_place(
    labels: NDArray[Any] | None, missed: Mapping[int, float], foreground: NDArray[np.bool_]
) -> Place:
    """The voxel whose three planes each cut most of what was missed.

    Parameters
    ----------
    labels
        (X, Y, Z) integers, or None.
    missed
        Label -> 1 - Dice; the labels' volume times this is what was missed. Empty: the middle is taken.
    foreground
        (X, Y, Z) boolean; its middle is taken where no label tells.
    """
    weights = {label: value for label, value in missed.items() if label != 0 and value > 0}
    if labels is not None and weights:
        names = np.array(sorted(weights))
        values = np.array([weights[int(name)] for name in names])

        def weigh(part: NDArray[Any]) -> NDArray[np.float64]:
            at = np.minimum(np.searchsorted(names, part), len(names) - 1)
            return np.where(names[at] == part, values[at], 0.0)

        profiles = _profiles(labels, weigh)
        if profiles[0].any():
            # Smoothed over a fiftieth of the axis: no plane is chosen for the sake of a single slice.
            smooth = [gaussian_filter1d(one, max(len(one) / 50, 0.5), mode="constant") for one in profiles]
            return _place([int(np.argmax(one)) for one in smooth])
    present = labels is not None and bool(labels.any())
    inside = labels if labels is not None and present else foreground
    profiles = _profiles(inside, lambda part: np.asarray(part != 0, dtype=np.float64))
    if not profiles[0].any():
        return _place([n // 2 for n in foreground.shape])
    return _place([int(np.average(np.arange(len(one)), weights=one) + 0.5) for one in profiles])


def box(foreground: NDArray[np.bool_], spacing: Sequence[float]) -> list[Range]:
    """Along each axis the voxels from the first to behind the last of the foreground, and a margin around."""
    found = []
    for axis, size in enumerate(spacing):
        others = tuple(other for other in range(3) if other != axis)
        seen = np.flatnonzero(foreground.any(axis=others))
        count = foreground.shape[axis]
        if not seen.size:
            found.append((0, count))
            continue
        margin = max(1, round(_MARGIN * (seen[-1] - seen[0] + 1)), round(1 / size))
        found.append((max(int(seen[0]) - margin, 0), min(int(seen[-1]) + 1 + margin, count)))
    return found


def _profiles(volume: NDArray[Any], weigh: Any) -> Sequence[NDArray[np.float64]]:
    """The sums over each plane of each axis, slice by slice: no second volume is made."""
    sums = [np.zeros(n) for n in volume.shape]
    for i in range(volume.shape[0]):
        part = weigh(volume[i])
        sums[0][i] = part.sum()
        sums[1] += part.sum(axis=1)
        sums[2] += part.sum(axis=0)
    return sums


def _place(voxel: Sequence[int]) -> Place:
    return voxel[0], voxel[1], voxel[2]
