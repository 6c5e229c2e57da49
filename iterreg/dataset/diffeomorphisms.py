"""Random diffeomorphisms of the size of what differs between people's brains, known exactly both ways.

``phi = exp(v)`` for a smooth random velocity v drawn in millimetres at several scales, integrated by
scaling and squaring (Arsigny et al., MICCAI 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.volume import FloatArray, Grid

__all__ = ["Deformation", "exponential", "interpolate_lattice", "random_deformation"]

FloatVolume = NDArray[np.float32]

SCALES = ((30.0, 2.6), (14.0, 1.7), (5.5, 1.0))
"""Of the random velocities: width (sigma of the Gaussian, mm) and standard deviation per component (mm)."""

LOWEST_DETERMINANT = 0.1
LATTICE = (
    4.0  # mm between the nodes velocities are drawn on, whatever the grid: one anatomy at any resolution
)
RIM = 12.0  # mm over which velocities fall to zero at the border of the box


@dataclass(frozen=True, eq=False)
class Deformation:
    """A diffeomorphism of the box and its inverse.

    Attributes
    ----------
    forward
        phi on the subject's grid: subject voxel -> where in the anatomy it shows (same grid, same world).
    inverse
        phi^-1 on the same grid.
    lowest_determinant
        Smallest central-difference Jacobian determinant of both.
    residual
        Largest ``|phi(phi^-1(q)) - q|``, voxels.
    """

    forward: DisplacementField
    inverse: DisplacementField
    lowest_determinant: float
    residual: float


def random_deformation(grid: Grid, rng: np.random.Generator) -> Deformation:
    """A random diffeomorphism of the grid's box, as between people after affine alignment.

    A stationary velocity (Gaussian-smoothed noise at three `SCALES`, without its affine part, falling
    to zero at the border of the box) is integrated by scaling and squaring.
    Scales finer than two voxels are left out: a grid cannot hold them without folding. If
    a determinant of the map or its inverse falls below 0.1, the velocity is shrunk and integrated again.

    Parameters
    ----------
    grid
        Axis-aligned; its world millimetres are the lattice the velocity is drawn on.
    rng
        Source of the noise.

    Raises
    ------
    InputError
        If the grid is rotated.
    """
    if not np.array_equal(grid.affine[:3, :3], np.diag(grid.spacing)):
        raise InputError(f"{grid!r}: deformations are made on grids along the world's axes only")
    velocity = _velocity(grid, rng)
    for _ in range(40):
        forward = exponential(velocity, grid)
        lowest = float(forward.jacobian_determinant().min())
        if lowest > LOWEST_DETERMINANT and forward.folding().ndv_percent == 0:
            inversion = forward.invert()
            lowest = min(lowest, float(inversion.field.jacobian_determinant().min()))
            if lowest > LOWEST_DETERMINANT and inversion.field.folding().ndv_percent == 0:
                return Deformation(forward, inversion.field, lowest, inversion.summary()["max"])
        velocity = velocity * np.float32(0.93)
    raise InputError(f"{grid!r}: no deformation without folding was found; its voxels are too coarse")


def exponential(velocity: FloatVolume, grid: Grid, *, squarings: int = 7) -> DisplacementField:
    """The flow of a stationary velocity at time 1, by scaling and squaring.

    Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006.

    Parameters
    ----------
    velocity
        (X, Y, Z, 3) float32, voxels per unit of time.
    grid
        Where it is sampled.
    squarings
        The first step is ``velocity / 2**squarings``.
    """
    flow = DisplacementField(velocity / np.float32(2**squarings), grid, grid)
    for _ in range(squarings):
        flow = flow.compose(flow)
    return flow


def _velocity(grid: Grid, rng: np.random.Generator) -> FloatVolume:
    """Random smooth velocity on a grid, (X, Y, Z, 3) float32 in voxels."""
    spacing = np.array(grid.spacing)
    extent = np.array(grid.shape) * spacing - 1.0  # the same whatever the voxel size
    nodes = tuple(int(n) for n in np.ceil(extent / LATTICE) + 2)
    coarse = np.zeros((*nodes, 3))
    for sigma, deviation in SCALES:
        for c in range(3):
            noise = ndimage.gaussian_filter(rng.standard_normal(nodes), sigma / LATTICE, mode="wrap")
            if sigma >= 2 * spacing.max():
                coarse[..., c] += noise * (deviation / noise.std())
    axes = [LATTICE * np.arange(n, dtype=np.float64) for n in nodes]
    window = _window(axes, extent)
    coarse -= _affine_part(coarse, axes, window)
    coarse *= window[..., None]
    components = [interpolate_lattice(coarse[..., c] / spacing[c], LATTICE, grid) for c in range(3)]
    return np.stack(components, axis=-1)


def interpolate_lattice(coarse: FloatArray, step: float, grid: Grid) -> FloatVolume:
    """Cubic splines through values on a lattice of `step` mm, evaluated on a grid, as float32."""
    values = coarse.astype(np.float32)
    for axis in (2, 1, 0):
        places = np.arange(grid.shape[axis]) * grid.spacing[axis]
        nodes = np.arange(coarse.shape[axis]) * step
        basis = CubicSpline(nodes, np.eye(len(nodes)))(places).astype(np.float32)
        # The last axis is contracted and its result put first, three times. einsum, not BLAS: its
        # sums come in one order for any number of threads.
        values = np.moveaxis(np.einsum("abj,ij->abi", np.ascontiguousarray(values), basis), -1, 0)
    return np.ascontiguousarray(values)


def _window(axes: list[FloatArray], extent: FloatArray) -> FloatArray:
    """1 inside, falling smoothly to 0 over the last `RIM` millimetres of the box."""
    window = np.ones([len(a) for a in axes])
    for axis, (a, end) in enumerate(zip(axes, extent, strict=True)):
        t = np.clip(np.minimum(a, end - a) / RIM, 0, 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        window *= (t * t * (3 - 2 * t)).reshape(shape)
    return window


def _affine_part(vectors: FloatArray, axes: list[FloatArray], weight: FloatArray) -> FloatArray:
    """The affine map nearest to a vector field in the weighted least-squares sense, sampled like it."""
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    centred = points - points.reshape(-1, 3).mean(axis=0)
    design = np.concatenate([np.ones((*weight.shape, 1)), centred], axis=-1).reshape(-1, 4)
    w = weight.reshape(-1, 1)
    normal = np.einsum("na,nb->ab", design * w, design)
    right = np.einsum("na,nc->ac", design * w, vectors.reshape(-1, 3))
    return np.asarray(np.einsum("na,ac->nc", design, np.linalg.solve(normal, right)).reshape(vectors.shape))
