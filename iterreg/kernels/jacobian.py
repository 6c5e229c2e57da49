"""Jacobian determinants of ``p + u(p)`` and the non-diffeomorphic volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["central_determinant", "determinant_moments", "folding", "smallest_determinant"]

Array = NDArray[Any]


@helper
def _det(a0, a1, a2, b0, b1, b2, c0, c1, c2):
    return a0 * (b1 * c2 - b2 * c1) - a1 * (b0 * c2 - b2 * c0) + a2 * (b0 * c1 - b1 * c0)


@kernel
def central_determinant(displacement: Array) -> Array:
    """Determinant of the Jacobian of ``p + u(p)`` by central differences, one-sided at the border.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3) float32, voxels. An axis of one voxel counts as undeformed.

    Returns
    -------
    (X, Y, Z) float32.
    """
    nx, ny, nz, _ = displacement.shape
    out = np.empty((nx, ny, nz), np.float32)
    for i in prange(nx):
        g = np.empty((3, 3))
        for j in range(ny):
            for k in range(nz):
                ia, ib = max(i - 1, 0), min(i + 1, nx - 1)
                ja, jb = max(j - 1, 0), min(j + 1, ny - 1)
                ka, kb = max(k - 1, 0), min(k + 1, nz - 1)
                for c in range(3):
                    g[0, c] = (np.float64(displacement[ib, j, k, c]) - displacement[ia, j, k, c]) / max(
                        ib - ia, 1
                    )
                    g[1, c] = (np.float64(displacement[i, jb, k, c]) - displacement[i, ja, k, c]) / max(
                        jb - ja, 1
                    )
                    g[2, c] = (np.float64(displacement[i, j, kb, c]) - displacement[i, j, ka, c]) / max(
                        kb - ka, 1
                    )
                    g[c, c] += 1.0
                out[i, j, k] = _det(
                    g[0, 0], g[0, 1], g[0, 2], g[1, 0], g[1, 1], g[1, 2], g[2, 0], g[2, 1], g[2, 2]
                )
    return out


@helper
def _ten_determinants(displacement, i, j, k, g, s):
    """Folded volume at an interior voxel, and its smallest determinant scaled to 1 where undeformed.

    `g` (2, 3, 3) and `s` (2, 3, 3) are scratch: one-sided derivatives of the map, side 0 backward, side 1
    forward, as [side, axis, component]; and the inner tetrahedra's edges to face-diagonal neighbours.
    """
    for c in range(3):
        here = np.float64(displacement[i, j, k, c])
        g[0, 0, c] = here - displacement[i - 1, j, k, c]
        g[1, 0, c] = displacement[i + 1, j, k, c] - here
        g[0, 1, c] = here - displacement[i, j - 1, k, c]
        g[1, 1, c] = displacement[i, j + 1, k, c] - here
        g[0, 2, c] = here - displacement[i, j, k - 1, c]
        g[1, 2, c] = displacement[i, j, k + 1, c] - here
        for side in range(2):
            g[side, c, c] += 1.0
        s[0, 0, c] = displacement[i - 1, j - 1, k, c] - here
        s[0, 1, c] = displacement[i - 1, j, k - 1, c] - here
        s[0, 2, c] = displacement[i, j - 1, k - 1, c] - here
        s[1, 0, c] = displacement[i + 1, j + 1, k, c] - here
        s[1, 1, c] = displacement[i, j + 1, k + 1, c] - here
        s[1, 2, c] = displacement[i + 1, j, k + 1, c] - here
    for a in range(2):
        sign = 2.0 * a - 1.0
        s[a, 0, 0] += sign
        s[a, 0, 1] += sign
    s[0, 1, 0] -= 1.0
    s[0, 1, 2] -= 1.0
    s[0, 2, 1] -= 1.0
    s[0, 2, 2] -= 1.0
    s[1, 1, 1] += 1.0
    s[1, 1, 2] += 1.0
    s[1, 2, 0] += 1.0
    s[1, 2, 2] += 1.0
    total = 0.0
    least = np.inf
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        det = _det(
            g[a, 0, 0], g[a, 0, 1], g[a, 0, 2],
            g[b, 1, 0], g[b, 1, 1], g[b, 1, 2],
            g[c, 2, 0], g[c, 2, 1], g[c, 2, 2],
        )  # fmt: skip
        total += max(-det, 0.0)
        least = min(least, det)
    for a in range(2):
        det = _det(
            s[a, 0, 0], s[a, 0, 1], s[a, 0, 2],
            s[a, 1, 0], s[a, 1, 1], s[a, 1, 2],
            s[a, 2, 0], s[a, 2, 1], s[a, 2, 2],
        )  # fmt: skip
        total += max(-det, 0.0)
        # An undeformed inner tetrahedron has determinant 2, a corner one 1.
        least = min(least, 0.5 * det)
    return total / 12.0, least


@kernel
def folding(displacement: Array, mask: Array, everywhere: bool) -> tuple[Array, Array, Array, Array, Array]:
    """Non-diffeomorphic volume of every slab's interior voxels.

    Liu et al., "On finite difference Jacobian computation in deformable image registration", IJCV 2024:
    each voxel's neighbourhood is cut into tetrahedra in two ways; the volume is the sum over ten
    finite-difference determinants J (the eight one-sided combinations and the two inner tetrahedra) of
    ``0.5 * max(-J, 0) / 6``.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3) float32 or float64, voxels; every axis at least 3.
    mask
        (X, Y, Z) bool: the voxels that count.
    everywhere
        Look for the smallest determinant outside the mask too, which takes longer.

    Returns
    -------
    volume
        (X - 2,) float64: sum over the mask's interior voxels of each slab.
    folded, voxels
        (X - 2,) int64: those of them with a volume above zero, and all of them.
    lowest
        (X - 2,) float64: the smallest of all determinants in each slab; infinite where none was looked at.
    where
        (X - 2, 2) int64: its (y, z) voxel index in the full grid.
    """
    nx, ny, nz, _ = displacement.shape
    volume = np.zeros(nx - 2)
    folded = np.zeros(nx - 2, np.int64)
    voxels = np.zeros(nx - 2, np.int64)
    lowest = np.full(nx - 2, np.inf)
    where = np.zeros((nx - 2, 2), np.int64)
    for i in prange(1, nx - 1):
        g = np.empty((2, 3, 3))
        s = np.empty((2, 3, 3))
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                counts = mask[i, j, k]
                if not (counts or everywhere):
                    continue
                here, least = _ten_determinants(displacement, i, j, k, g, s)
                if counts:
                    voxels[i - 1] += 1
                    volume[i - 1] += here
                    if here > 0:
                        folded[i - 1] += 1
                if least < lowest[i - 1]:
                    lowest[i - 1] = least
                    where[i - 1, 0] = j
                    where[i - 1, 1] = k
    return volume, folded, voxels, lowest, where


@kernel
def smallest_determinant(displacement: Array) -> Array:
    """The smallest of the ten determinants of `folding` at every voxel, scaled to 1 where undeformed.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3) float32 or float64, voxels.

    Returns
    -------
    (X, Y, Z) float32; 1 on the outermost layer.
    """
    nx, ny, nz, _ = displacement.shape
    out = np.ones((nx, ny, nz), np.float32)
    for i in prange(1, nx - 1):
        g = np.empty((2, 3, 3))
        s = np.empty((2, 3, 3))
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                out[i, j, k] = _ten_determinants(displacement, i, j, k, g, s)[1]
    return out


@kernel
def determinant_moments(displacement: Array, mask: Array, margin: int) -> Array:
    """Sums over the central-difference determinants J of every slab, away from the border.

    Parameters
    ----------
    displacement
        (X, Y, Z, 3) float32 or float64, voxels.
    mask
        (X, Y, Z) bool: the voxels that count.
    margin
        Voxels left out along each side of each axis, at least 1.

    Returns
    -------
    (X, 6) float64: number of voxels, sum of x and of x², smallest and largest J, number of J not above
    zero, where ``x = log(min(max(J + 3, 1e-9), 1e9) / 4)``: zero for an undeformed voxel.
    """
    nx, ny, nz, _ = displacement.shape
    out = np.zeros((nx, 6))
    for i in prange(nx):
        out[i, 3] = np.inf
        out[i, 4] = -np.inf
        if i < margin or i >= nx - margin:
            continue
        g = np.empty((3, 3))
        for j in range(margin, ny - margin):
            for k in range(margin, nz - margin):
                if not mask[i, j, k]:
                    continue
                for c in range(3):
                    g[0, c] = 0.5 * (np.float64(displacement[i + 1, j, k, c]) - displacement[i - 1, j, k, c])
                    g[1, c] = 0.5 * (np.float64(displacement[i, j + 1, k, c]) - displacement[i, j - 1, k, c])
                    g[2, c] = 0.5 * (np.float64(displacement[i, j, k + 1, c]) - displacement[i, j, k - 1, c])
                    g[c, c] += 1.0
                det = _det(g[0, 0], g[0, 1], g[0, 2], g[1, 0], g[1, 1], g[1, 2], g[2, 0], g[2, 1], g[2, 2])
                x = np.log(min(max(det + 3.0, 1e-9), 1e9) / 4.0)
                out[i, 0] += 1.0
                out[i, 1] += x
                out[i, 2] += x * x
                out[i, 3] = min(out[i, 3], det)
                out[i, 4] = max(out[i, 4], det)
                if det <= 0:
                    out[i, 5] += 1.0
    return out
