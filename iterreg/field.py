"""The one internal truth about a transform: voxel displacements on the fixed grid.

``moved(p) = moving(p + u(p))``, where p is a fixed voxel index and ``p + u(p)`` an index into the
moving array. Nothing in iterreg holds a transform in another convention; `iterreg.io` translates
foreign files at the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["DisplacementField", "Folding", "Inversion"]


@dataclass(frozen=True)
class Folding:
    """How far a field is from a digital diffeomorphism (Liu et al., IJCV 2024).

    Attributes
    ----------
    ndv_percent
        Non-diffeomorphic volume in percent of the mask: over interior voxels, the ten-determinant
        volume summed, divided by the number of mask voxels, times 100.
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
        """
        moving = moving or fixed
        matrix = np.linalg.inv(moving.affine) @ np.asarray(world, dtype=np.float64) @ fixed.affine
        if moving == fixed and np.array_equal(world, np.eye(4)):
            matrix = np.eye(4)
        return cls(_affine_displacement(matrix, fixed.shape), fixed, moving)

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
        """
        moving = moving or fixed
        inverse = np.linalg.inv(moving.affine)[:3, :3]
        vectors = np.asarray(displacement, dtype=np.float64) @ inverse.T
        if moving != fixed:
            vectors += cls.identity(fixed, moving).vectors
        return cls(vectors.astype(np.float32), fixed, moving)

    # -- other forms ----------------------------------------------------------------------------

    def to_world(self) -> NDArray[np.float64]:
        """Displacements ``A_mov (p + u(p)) - A_fix p`` as (X, Y, Z, 3) RAS+ millimetres."""
        world = self.vectors.astype(np.float64)
        if self.fixed == self.moving:
            return world @ self.moving.affine[:3, :3].T
        world += _indices(self.fixed.shape)
        world = self.moving.voxel_to_world(world)
        world -= self.fixed.voxel_to_world(_indices(self.fixed.shape))
        return world

    @property
    def deviation(self) -> NDArray[np.float32]:
        """(X, Y, Z, 3) float32 moving voxels: what u adds to "the same world point" (u on equal grids)."""
        if np.array_equal(self.fixed.affine, self.moving.affine):
            return self.vectors
        return self.vectors - DisplacementField.identity(self.fixed, self.moving).vectors

    # -- using ----------------------------------------------------------------------------------

    def warp_image(self, image: Volume, *, fill: float = 0.0) -> Volume:
        """Resample a moving image onto the fixed grid by trilinear interpolation.

        Points outside the moving grid become `fill`.
        """
        from iterreg.kernels.sampling import sample_linear

        self._check_moving(image)
        array = np.ascontiguousarray(image.array, dtype=np.float32)
        return Volume(sample_linear(array, self.vectors, float(fill)), self.fixed)

    def warp_labels(
        self, labels: Volume, *, interpolation: Literal["nearest", "linear"] = "nearest"
    ) -> Volume:
        """Resample a moving label volume onto the fixed grid.

        ``nearest`` is the Learn2Reg evaluator's rule (0 outside [0, n - 1], halves round up);
        ``linear`` interpolates the one-hot labels and takes the strongest.
        """
        from iterreg.kernels import sampling

        self._check_moving(labels)
        array = np.ascontiguousarray(labels.array)
        if array.dtype.kind not in "iu":
            raise InputError(f"labels must be an integer array, got {array.dtype}")
        sample = (
            sampling.sample_labels_nearest if interpolation == "nearest" else sampling.sample_labels_linear
        )
        return Volume(sample(array, self.vectors), self.fixed)

    def warp_points(self, points: ArrayLike) -> FloatArray:
        """Map (N, 3) fixed voxel coordinates to moving voxel coordinates.

        The field is interpolated linearly; beyond the border the nearest deviation holds.
        """
        from iterreg.kernels.sampling import sample_field

        coordinates = np.ascontiguousarray(np.asarray(points, dtype=np.float64).reshape(-1, 3))
        matrix = self.fixed.to(self.moving)
        moved = coordinates @ matrix[:3, :3].T + matrix[:3, 3]
        return np.asarray(moved + sample_field(self.deviation, coordinates))

    def compose(self, then: DisplacementField) -> DisplacementField:
        """The map "self, then `then`": ``p -> p + u(p) = q -> q + then.u(q)``.

        Raises
        ------
        InputError
            If `then` does not start on this field's moving grid.
        """
        from iterreg.kernels.sampling import compose

        if not self.moving.matches(then.fixed):
            raise InputError(
                f"cannot compose: the first field ends on {self.moving!r}, the second starts on {then.fixed!r}"
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
        inside = np.ones(self.moving.shape, bool)
        for axis, n in enumerate(self.fixed.shape):
            shape = [1, 1, 1]
            shape[axis] = -1
            position = vectors[..., axis] + np.arange(self.moving.shape[axis]).reshape(shape)
            inside &= (position >= 0) & (position <= n - 1)
        return Inversion(DisplacementField(vectors, self.moving, self.fixed), residual, inside)

    # -- regularity -----------------------------------------------------------------------------

    def jacobian_determinant(self) -> NDArray[np.float32]:
        """Local volume change of the map in the world, (X, Y, Z) float32, by central differences.

        1 where the map keeps volume, below 0 where it folds, whatever the two grids are.
        """
        from iterreg.kernels.jacobian import central_determinant

        return central_determinant(self._in_fixed_voxels())

    def folding(self, mask: NDArray[np.bool_] | None = None) -> Folding:
        """Non-diffeomorphic volume (the challenge's NDV) and the worst place.

        Parameters
        ----------
        mask
            (X, Y, Z) boolean; the challenge takes ``moving > 0`` (LUMIR24) or ``fixed > 0`` (LUMIR25).
            Default: every voxel.

        Raises
        ------
        InputError
            If an axis has fewer than three voxels.
        """
        from iterreg.kernels.jacobian import folded_volume

        if min(self.fixed.shape) < 3:
            raise InputError(f"NDV needs three voxels along each axis, got {self.fixed.shape}")
        volume, lowest, where = folded_volume(self._in_fixed_voxels())
        slab = int(np.argmin(lowest))
        place = (slab + 1, int(where[slab, 0]), int(where[slab, 1]))
        inner = (slice(1, -1),) * 3
        chosen = np.ones(volume.shape, bool) if mask is None else np.asarray(mask[inner], bool)
        inside = np.where(chosen, volume, 0.0)
        voxels = int(np.count_nonzero(chosen))
        percent = float(inside.sum() / voxels * 100) if voxels else float("nan")
        return Folding(percent, int(np.count_nonzero(inside)), float(lowest[slab]), place)

    # -- private --------------------------------------------------------------------------------

    def _in_fixed_voxels(self) -> NDArray[np.float32]:
        """The displacement re-expressed in fixed voxels, where an undeformed map has determinant 1."""
        if np.array_equal(self.fixed.affine, self.moving.affine):
            return self.vectors
        linear = self.moving.to(self.fixed)[:3, :3]
        return np.ascontiguousarray(self.deviation @ linear.T.astype(np.float32))

    def _check_moving(self, volume: Volume) -> None:
        if volume.grid.shape != self.moving.shape:
            name = volume.path or "the volume"
            raise InputError(
                f"{name}: shape {volume.grid.shape} is not the moving grid's {self.moving.shape}"
            )

    def __repr__(self) -> str:
        return f"DisplacementField({self.fixed!r} -> {self.moving!r})"


def _indices(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    out = np.empty((*shape, 3))
    for axis, n in enumerate(shape):
        view = [1, 1, 1]
        view[axis] = n
        out[..., axis] = np.arange(n).reshape(view)
    return out


def _affine_displacement(matrix: FloatArray, shape: tuple[int, int, int]) -> NDArray[Any]:
    """``M p - p`` on a grid, computed in float64 and stored as float32."""
    out = np.empty((*shape, 3), np.float32)
    linear = matrix[:3, :3] - np.eye(3)
    x, y, z = (np.arange(n, dtype=np.float64) for n in shape)
    for c in range(3):
        out[..., c] = (
            (linear[c, 0] * x)[:, None, None]
            + (linear[c, 1] * y)[None, :, None]
            + (linear[c, 2] * z)[None, None, :]
            + matrix[c, 3]
        )
    return out
