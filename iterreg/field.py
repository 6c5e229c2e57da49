"""The one internal truth about a transform: voxel displacements on the fixed grid.

``moved(p) = moving(p + u(p))``, where p is a fixed voxel index and ``p + u(p)`` an index into the
moving array. Nothing in iterreg holds a transform in another convention; `iterreg.io` translates
foreign files at the border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["DisplacementField", "Edge", "Folding", "Inversion"]

Edge = Literal["evaluator", "itk"]
"""Where the outside of a moving image begins: behind its outer voxels' centres, or behind their faces."""


@dataclass(frozen=True)
class Folding:
    """How far a field is from a digital diffeomorphism (Liu et al., IJCV 2024).

    Attributes
    ----------
    ndv_percent
        Non-diffeomorphic volume in percent of the mask: the ten-determinant volume summed over the
        mask's interior voxels, divided by their number, times 100. NaN where the mask is empty.
    folded_voxels
        Interior mask voxels whose non-diffeomorphic volume is above zero.
    lowest_determinant
        Smallest of the ten determinants anywhere in the interior, mask or not, each scaled so
        that an undeformed voxel has 1.
    lowest_at
        The fixed voxel where it is found.
    """

    ndv_percent: float
    folded_voxels: int
    lowest_determinant: float
    lowest_at: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Inversion:
    """An inverse field with what is known of its error.

    Attributes
    ----------
    field
        The inverse: fixed and moving grids are swapped.
    residual
        (X', Y', Z') float32, ``|phi(phi^-1(q)) - q|`` in moving voxels.
    inside
        Whether ``phi^-1(q)`` lies inside the fixed grid; elsewhere the displacement is extrapolated.
    """

    field: DisplacementField
    residual: NDArray[np.float32]
    inside: NDArray[np.bool_]

    def summary(self) -> dict[str, float]:
        """Mean, 99.9th percentile and maximum of the residual where it is defined (voxels)."""
        values = self.residual[self.inside]
        if values.size == 0:
            return {"mean": float("nan"), "p99.9": float("nan"), "max": float("nan")}
        return {
            "mean": float(values.mean(dtype=np.float64)),
            "p99.9": float(np.percentile(values, 99.9)),
            "max": float(values.max()),
        }


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """A dense map from a fixed to a moving grid.

    Parameters
    ----------
    vectors
        (X, Y, Z, 3) float32: u(p) in **moving voxels** on the fixed grid, components in array-axis order.
    fixed, moving
        The two grids. When both are equal, u is simply the displacement in voxels; when they differ,
        u also holds the change of grid, so that the same formula always finds the moving voxel.
        Grids that differ by rounding only (`Grid.to`) count as equal.

    Raises
    ------
    InputError
        If the shape does not fit the fixed grid.
    """

    vectors: NDArray[np.float32]
    fixed: Grid
    moving: Grid

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if vectors.shape != (*self.fixed.shape, 3):
            raise InputError(
                f"a displacement field of shape {vectors.shape} does not fit a fixed grid of shape "
                f"{self.fixed.shape}: ({', '.join(map(str, self.fixed.shape))}, 3) is needed"
            )
        object.__setattr__(self, "vectors", vectors)

    # -- making ---------------------------------------------------------------------------------

    @classmethod
    def identity(cls, fixed: Grid, moving: Grid | None = None) -> DisplacementField:
        """The field that leaves every point where it is in the world (zero on equal grids)."""
        return cls.from_affine(np.eye(4), fixed, moving)

    @classmethod
    def from_affine(cls, world: ArrayLike, fixed: Grid, moving: Grid | None = None) -> DisplacementField:
        """The field of an affine map.

        Parameters
        ----------
        world
            (4, 4), takes a fixed point to a moving point, both RAS+ millimetres.
        fixed, moving
            The grids; `moving` defaults to `fixed`.

        Raises
        ------
        InputError
            If the map is not a finite (4, 4) matrix.
        """
        moving = moving or fixed
        world = np.asarray(world, dtype=np.float64)
        if world.shape != (4, 4) or not np.isfinite(world).all():
            raise InputError(f"an affine map is a finite (4, 4) matrix, got shape {world.shape}")
        if np.array_equal(world, np.eye(4)):
            matrix = fixed.to(moving)
        else:
            matrix = np.asarray(np.linalg.inv(moving.affine) @ world @ fixed.affine)
        vectors = np.empty((*fixed.shape, 3), np.float32)
        for rows in _slabs(fixed.shape):
            vectors[rows] = _affine_displacement(matrix, fixed.shape, rows)
        return cls(vectors, fixed, moving)

    @classmethod
    def from_world(
        cls, displacement: ArrayLike, fixed: Grid, moving: Grid | None = None
    ) -> DisplacementField:
        """The field of world displacements sampled on the fixed grid.

        ``u(p) = A_mov^-1 (A_fix p + d(p)) - p``.

        Parameters
        ----------
        displacement
            (X, Y, Z, 3), d(p) in **RAS+ millimetres**.

        Raises
        ------
        InputError
            If the shape does not fit the fixed grid.
        """
        moving = moving or fixed
        displacement = np.asanyarray(displacement)
        if displacement.shape != (*fixed.shape, 3):
            raise InputError(
                f"world displacements of shape {displacement.shape} do not fit a fixed grid of shape "
                f"{fixed.shape}"
            )
        to_voxels = np.linalg.inv(moving.affine[:3, :3]).T
        matrix = fixed.to(moving)
        vectors = np.empty((*fixed.shape, 3), np.float32)
        for rows in _slabs(fixed.shape):
            moved = np.asarray(displacement[rows], dtype=np.float64) @ to_voxels
            vectors[rows] = moved + _affine_displacement(matrix, fixed.shape, rows)
        return cls(vectors, fixed, moving)

    # -- other forms ----------------------------------------------------------------------------

    def to_world(self) -> NDArray[np.float64]:
        """Displacements ``A_mov (p + u(p)) - A_fix p`` as (X, Y, Z, 3) RAS+ millimetres."""
        return self._deviation_times(self.moving.affine[:3, :3], np.empty(self.vectors.shape, np.float64))

    @property
    def deviation(self) -> NDArray[np.float32]:
        """(X, Y, Z, 3) float32 moving voxels: what u adds to "the same world point".

        On equal grids it is u itself, not a copy.
        """
        if self._on_one_grid:
            return self.vectors
        return self._deviation_times(np.eye(3), np.empty_like(self.vectors))

    def in_fixed_voxels(self) -> NDArray[np.float32]:
        """(X, Y, Z, 3) float32: u re-expressed in fixed voxels, where an undeformed map has determinant 1.

        On equal grids it is u itself, not a copy.
        """
        if self._on_one_grid:
            return self.vectors
        return self._deviation_times(self.moving.to(self.fixed)[:3, :3], np.empty_like(self.vectors))

    # -- using ----------------------------------------------------------------------------------

    def warp_image(self, image: Volume, *, fill: float = 0.0, edge: Edge = "evaluator") -> Volume:
        """Resample a moving image onto the fixed grid by trilinear interpolation.

        Parameters
        ----------
        fill
            Value of points outside the moving grid.
        edge
            Where outside begins: with ``evaluator`` beyond the outer voxels' centres, as scipy and the
            challenges' evaluators have it; with ``itk`` beyond their outer faces, as ITK, ANTs and elastix
            have it, the outer half voxel keeping the value on the border.

        Raises
        ------
        InputError
            If the image is not of the moving grid's shape, or the edge rule is unknown.
        """
        from iterreg.kernels.sampling import sample_linear

        self._check_moving(image)
        array = np.ascontiguousarray(image.array, dtype=np.float32)
        array, vectors, outside = self._to_edge(array, edge)
        moved = sample_linear(array, vectors, float(fill))
        if outside is not None:
            moved[outside] = fill
        return Volume(moved, self.fixed)

    def warp_labels(
        self,
        labels: Volume,
        *,
        interpolation: Literal["nearest", "linear"] = "nearest",
        edge: Edge = "evaluator",
    ) -> Volume:
        """Resample a moving label volume onto the fixed grid.

        ``nearest`` is the Learn2Reg evaluator's rule (0 outside [0, n - 1], halves round up);
        ``linear`` interpolates the one-hot labels and takes the strongest. `edge` is for ``nearest``, as for
        `warp_image`.

        Raises
        ------
        InputError
            If the labels are not integers, not of the moving grid's shape, or the interpolation is unknown or
            has an edge rule of its own.
        """
        from iterreg.kernels import sampling

        self._check_moving(labels)
        if labels.array.dtype.kind not in "iu":
            raise InputError(f"labels must be an integer array, got {labels.array.dtype}")
        array = np.ascontiguousarray(labels.array, dtype=labels.array.dtype.newbyteorder("="))
        if interpolation == "nearest":
            array, vectors, outside = self._to_edge(array, edge)
            warped = sampling.sample_labels_nearest(array, vectors)
            if outside is not None:
                warped[outside] = 0
            return Volume(warped, self.fixed)
        if interpolation == "linear" and edge != "evaluator":
            raise InputError("one-hot labels have one edge rule, LUMirage's; take nearest for that of ITK")
        if interpolation == "linear":
            return Volume(sampling.sample_labels_linear(array, self.vectors), self.fixed)
        raise InputError(f"labels are interpolated 'nearest' or 'linear', not {interpolation!r}")

    def warp_points(self, points: ArrayLike) -> FloatArray:
        """Map (N, 3) fixed voxel coordinates to moving voxel coordinates.

        The field is interpolated linearly; beyond the border the nearest deviation holds.

        Raises
        ------
        InputError
            If the points are not (N, 3).
        """
        from iterreg.kernels.sampling import sample_field

        coordinates = np.ascontiguousarray(points, dtype=np.float64)
        if coordinates.ndim != 2 or coordinates.shape[1] != 3:
            raise InputError(f"points must be (N, 3) voxel coordinates, got shape {coordinates.shape}")
        matrix = self.fixed.to(self.moving)
        moved = coordinates @ matrix[:3, :3].T + matrix[:3, 3]
        return np.asarray(moved + sample_field(self.deviation, coordinates))

    def compose(self, then: DisplacementField) -> DisplacementField:
        """The map "self, then `then`": ``p -> p + u(p) = q -> q + then.u(q)``.

        Where q leaves the grid of `then`, the nearest deviation holds.

        Raises
        ------
        InputError
            If `then` does not start on this field's moving grid.
        """
        from iterreg.kernels.sampling import compose

        if not self.moving.matches(then.fixed):
            raise InputError(
                f"cannot compose: the first field ends on {self.moving!r}, "
                f"the second starts on {then.fixed!r}"
            )
        matrix = np.ascontiguousarray(then.fixed.to(then.moving)[:3])
        return DisplacementField(compose(self.vectors, then.deviation, matrix), self.fixed, then.moving)

    def invert(self, *, iterations: int = 30, tolerance: float = 1e-3) -> Inversion:
        """The inverse map on the moving grid, with the residual it leaves.

        Newton's method on the trilinear interpolant; see `iterreg.kernels.inversion`.

        Parameters
        ----------
        iterations, tolerance
            Newton steps at most, and the residual (moving voxels) at which a voxel is done.
        """
        from iterreg.kernels.inversion import invert

        forward = self.fixed.to(self.moving)
        vectors, residual = invert(
            self.deviation,
            np.ascontiguousarray(forward[:3]),
            np.ascontiguousarray(np.linalg.inv(forward)[:3]),
            self.moving.shape,
            iterations,
            tolerance,
        )
        last = np.array(self.fixed.shape) - 1
        inside = np.empty(self.moving.shape, bool)
        for rows in _slabs(self.moving.shape):
            position = vectors[rows] + _indices(self.moving.shape, rows)
            inside[rows] = ((position >= 0) & (position <= last)).all(axis=-1)
        return Inversion(DisplacementField(vectors, self.moving, self.fixed), residual, inside)

    # -- regularity -----------------------------------------------------------------------------

    def jacobian_determinant(self) -> NDArray[np.float32]:
        """Local volume change of the map in the world, (X, Y, Z) float32, by central differences.

        1 where the map keeps volume, below 0 where it folds, whatever the two grids are. One-sided at
        the border; along an axis of one voxel the map counts as undeformed.
        """
        from iterreg.kernels.jacobian import central_determinant

        return central_determinant(self.in_fixed_voxels())

    def folding(self, mask: NDArray[np.bool_] | None = None) -> Folding:
        """Non-diffeomorphic volume (the challenge's NDV) and the worst place.

        Parameters
        ----------
        mask
            (X, Y, Z) boolean; the challenge takes ``moving > 0`` (LUMIR24) or ``fixed > 0`` (LUMIR25).
            Default: every voxel. Only its interior counts, [1:-1] along each axis.

        Raises
        ------
        InputError
            If an axis has fewer than three voxels, the mask is not of the fixed grid's shape, or the field
            holds NaN or infinite displacements.
        """
        from iterreg.kernels import jacobian

        if min(self.fixed.shape) < 3:
            raise InputError(f"NDV needs three voxels along each axis, got {self.fixed.shape}")
        if mask is not None and mask.shape != self.fixed.shape:
            raise InputError(f"the mask's shape {mask.shape} is not the fixed grid's {self.fixed.shape}")
        # The sum overflows to infinity or becomes NaN exactly when a term is not finite.
        if not np.isfinite(self.vectors.sum(dtype=np.float64)):
            raise InputError("the field holds NaN or infinite displacements; its folding is undefined")
        chosen = np.ones(self.fixed.shape, bool) if mask is None else np.ascontiguousarray(mask, bool)
        volume, folded, voxels, lowest, where = jacobian.folding(self.in_fixed_voxels(), chosen, True)
        slab = int(np.argmin(lowest))
        place = (slab + 1, int(where[slab, 0]), int(where[slab, 1]))
        count = int(voxels.sum())
        percent = float(volume.sum() / count * 100) if count else float("nan")
        return Folding(percent, int(folded.sum()), float(lowest[slab]), place)

    # -- private --------------------------------------------------------------------------------

    @property
    def _on_one_grid(self) -> bool:
        """Whether voxel p of both grids is the same place, so that u is the whole deviation."""
        return bool(np.array_equal(self.fixed.to(self.moving), np.eye(4)))

    def _deviation_times(self, matrix: FloatArray, out: NDArray[Any]) -> NDArray[Any]:
        """``matrix @ (u(p) - (M p - p))`` with M the change of grid; float64 arithmetic, slab by slab."""
        change = self.fixed.to(self.moving)
        for rows in _slabs(self.fixed.shape):
            deviation = self.vectors[rows] - _affine_displacement(change, self.fixed.shape, rows)
            out[rows] = deviation @ matrix.T
        return out

    def _to_edge(
        self, array: NDArray[Any], edge: Edge
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_] | None]:
        """A moving array, the displacements into it, and the voxels that come from outside of it.

        The kernels end an array at its outer voxels' centres. For ITK's rule it gets a border of copies, and
        what lies beyond the outer faces, [-0.5, n - 0.5) along each axis, is outside (None: as the kernels).
        """
        if edge == "evaluator":
            return array, self.vectors, None
        if edge != "itk":
            raise InputError(f"the edge rules are evaluator and itk, not {edge!r}")
        outside = np.empty(self.fixed.shape, bool)
        for rows in _slabs(self.fixed.shape):
            place = self.vectors[rows] + _indices(self.fixed.shape, rows)
            outside[rows] = ((place < -0.5) | (place >= np.array(array.shape) - 0.5)).any(axis=-1)
        return np.pad(array, 1, mode="edge"), self.vectors + np.float32(1), outside

    def _check_moving(self, volume: Volume) -> None:
        if volume.grid.shape != self.moving.shape:
            name = volume.path or "the volume"
            raise InputError(
                f"{name}: shape {volume.grid.shape} is not the moving grid's {self.moving.shape}"
            )

    def __repr__(self) -> str:
        return f"DisplacementField({self.fixed!r} -> {self.moving!r})"


def _slabs(shape: tuple[int, int, int]) -> Iterator[slice]:
    """Ranges of the first axis of about 2^18 voxels: float64 work without float64 copies of a field."""
    step = max(1, 2**18 // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _indices(shape: tuple[int, int, int], rows: slice) -> FloatArray:
    """Voxel indices of a slab, (rows, Y, Z, 3) float64."""
    axes = (np.arange(rows.start, rows.stop), np.arange(shape[1]), np.arange(shape[2]))
    out = np.empty((*(len(axis) for axis in axes), 3))
    for c, axis in enumerate(np.ix_(*axes)):
        out[..., c] = axis
    return out


def _affine_displacement(matrix: FloatArray, shape: tuple[int, int, int], rows: slice) -> FloatArray:
    """``M p - p`` over a slab, (rows, Y, Z, 3) float64."""
    x, y, z = np.ix_(np.arange(rows.start, rows.stop), np.arange(shape[1]), np.arange(shape[2]))
    linear = matrix[:3, :3] - np.eye(3)
    out = np.empty((x.size, y.size, z.size, 3))
    for c in range(3):
        out[..., c] = linear[c, 0] * x + linear[c, 1] * y + linear[c, 2] * z + matrix[c, 3]
    return out
