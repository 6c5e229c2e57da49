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


@helper
def _component_planes(displacement, i, out):
    """Copy planes i - 1, i, i + 1 to (3 planes, 3 components, Y, Z): rows that the compiler can work on."""
    for p in range(3):
        for j in range(out.shape[2]):
            for k in range(out.shape[3]):
                for c in range(3):
                    out[p, c, j, k] = displacement[i - 1 + p, j, k, c]


@helper
def _smallest_in_row(planes, j, out):
    """The smallest of the ten determinants along row j of the middle plane; the ends of `out` are left."""
    one = np.float32(1.0)
    x, y, z = planes[1, 0, j], planes[1, 1, j], planes[1, 2, j]
    xw, yw, zw = planes[0, 0, j], planes[0, 1, j], planes[0, 2, j]  # one plane before: west, behind: east
    xe, ye, ze = planes[2, 0, j], planes[2, 1, j], planes[2, 2, j]
    xs, ys, zs = planes[1, 0, j - 1], planes[1, 1, j - 1], planes[1, 2, j - 1]  # one row before: south
    xn, yn, zn = planes[1, 0, j + 1], planes[1, 1, j + 1], planes[1, 2, j + 1]
    xsw, ysw, zsw = planes[0, 0, j - 1], planes[0, 1, j - 1], planes[0, 2, j - 1]
    xne, yne, zne = planes[2, 0, j + 1], planes[2, 1, j + 1], planes[2, 2, j + 1]
    for k in range(1, out.shape[0] - 1):
        hx, hy, hz = x[k], y[k], z[k]
        # One-sided derivatives of the map: rows of the Jacobian, by the first axis, second and third.
        ax, ay, az = hx - xw[k] + one, hy - yw[k], hz - zw[k]
        bx, by, bz = xe[k] - hx + one, ye[k] - hy, ze[k] - hz
        cx, cy, cz = hx - xs[k], hy - ys[k] + one, hz - zs[k]
        dx, dy, dz = xn[k] - hx, yn[k] - hy + one, zn[k] - hz
        ex, ey, ez = hx - x[k - 1], hy - y[k - 1], hz - z[k - 1] + one
        fx, fy, fz = x[k + 1] - hx, y[k + 1] - hy, z[k + 1] - hz + one
        # Cross products of the first two rows serve two determinants each.
        px, py, pz = ay * cz - az * cy, az * cx - ax * cz, ax * cy - ay * cx
        least = min(px * ex + py * ey + pz * ez, px * fx + py * fy + pz * fz)
        px, py, pz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        least = min(least, px * ex + py * ey + pz * ez, px * fx + py * fy + pz * fz)
        px, py, pz = ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx
        least = min(least, px * ex + py * ey + pz * ez, px * fx + py * fy + pz * fz)
        px, py, pz = by * dz - bz * dy, bz * dx - bx * dz, bx * dy - by * dx
        least = min(least, px * ex + py * ey + pz * ez, px * fx + py * fy + pz * fz)
        # The inner tetrahedra, with edges to neighbours across a face's diagonal; undeformed they measure 2.
        ax, ay, az = xsw[k] - hx - one, ysw[k] - hy - one, zsw[k] - hz
        cx, cy, cz = xw[k - 1] - hx - one, yw[k - 1] - hy, zw[k - 1] - hz - one
        ex, ey, ez = xs[k - 1] - hx, ys[k - 1] - hy - one, zs[k - 1] - hz - one
        px, py, pz = ay * cz - az * cy, az * cx - ax * cz, ax * cy - ay * cx
        low = px * ex + py * ey + pz * ez
        ax, ay, az = xne[k] - hx + one, yne[k] - hy + one, zne[k] - hz
        cx, cy, cz = xn[k + 1] - hx, yn[k + 1] - hy + one, zn[k + 1] - hz + one
        ex, ey, ez = xe[k + 1] - hx + one, ye[k + 1] - hy, ze[k + 1] - hz + one
        px, py, pz = ay * cz - az * cy, az * cx - ax * cz, ax * cy - ay * cx
        low = min(low, px * ex + py * ey + pz * ez)
        out[k] = min(least, np.float32(0.5) * low)


@kernel
def smallest_determinant(displacement: Array) -> Array:
    """The smallest of the ten determinants of `folding` at every voxel, scaled to 1 where undeformed.

    In float32: a look at how near a field comes to folding. Whether it folds is for `folding` to say.

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
        planes = np.empty((3, 3, ny, nz), np.float32)
        _component_planes(displacement, i, planes)
        for j in range(1, ny - 1):
            _smallest_in_row(planes, j, out[i, j])
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
