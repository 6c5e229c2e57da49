"""Pointwise inversion of a displacement field by damped Newton iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["invert"]

Array = NDArray[Any]


@helper
def _cell(x, n):
    """Lower and upper corner, fraction, and whether `x` is inside, along an axis of n voxels."""
    inside = 0.0 <= x <= n - 1.0
    x = min(max(x, 0.0), n - 1.0)
    i = min(max(int(np.floor(x)), 0), max(n - 2, 0))
    return i, min(i + 1, n - 1), x - i, 1.0 if inside else 0.0


@helper
def _component(deviation, c, x0, x1, fx, sx, y0, y1, fy, sy, z0, z1, fz, sz):
    """Component `c` in one cell and its derivatives; `s` is 0 beyond the border, where d is constant."""
    d000 = np.float64(deviation[x0, y0, z0, c])
    d010 = np.float64(deviation[x0, y1, z0, c])
    d100 = np.float64(deviation[x1, y0, z0, c])
    d110 = np.float64(deviation[x1, y1, z0, c])
    s00 = deviation[x0, y0, z1, c] - d000
    s01 = deviation[x0, y1, z1, c] - d010
    s10 = deviation[x1, y0, z1, c] - d100
    s11 = deviation[x1, y1, z1, c] - d110
    e00 = d000 + s00 * fz
    e01 = d010 + s01 * fz
    e10 = d100 + s10 * fz
    e11 = d110 + s11 * fz
    e0 = e00 + (e01 - e00) * fy
    e1 = e10 + (e11 - e10) * fy
    gy = (e01 - e00) + ((e11 - e10) - (e01 - e00)) * fx
    s0 = s00 + (s01 - s00) * fy
    s1 = s10 + (s11 - s10) * fy
    return e0 + (e1 - e0) * fx, (e1 - e0) * sx, gy * sy, (s0 + (s1 - s0) * fx) * sz


@helper
def _map(deviation, affine, p, image, jacobian):
    """Evaluate ``A p + d(p)`` and its derivative inside the trilinear cell that holds `p`."""
    nx, ny, nz, _ = deviation.shape
    x0, x1, fx, sx = _cell(p[0], nx)
    y0, y1, fy, sy = _cell(p[1], ny)
    z0, z1, fz, sz = _cell(p[2], nz)
    for c in range(3):
        value, gx, gy, gz = _component(deviation, c, x0, x1, fx, sx, y0, y1, fy, sy, z0, z1, fz, sz)
        image[c] = (affine[c, 0] * p[0] + affine[c, 1] * p[1] + affine[c, 2] * p[2] + affine[c, 3]) + value
        jacobian[c, 0] = affine[c, 0] + gx
        jacobian[c, 1] = affine[c, 1] + gy
        jacobian[c, 2] = affine[c, 2] + gz


@helper
def _solve(m, r, step):
    """Solve ``m step = r`` for a (3, 3) matrix by Cramer's rule; returns the determinant."""
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    c01 = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2]
    c02 = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]
    det = m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02
    if det != 0.0:
        step[0] = (
            c00 * r[0]
            + (m[0, 2] * m[2, 1] - m[0, 1] * m[2, 2]) * r[1]
            + (m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]) * r[2]
        ) / det
        step[1] = (
            c01 * r[0]
            + (m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]) * r[1]
            + (m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]) * r[2]
        ) / det
        step[2] = (
            c02 * r[0]
            + (m[0, 1] * m[2, 0] - m[0, 0] * m[2, 1]) * r[1]
            + (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) * r[2]
        ) / det
    return det


@helper
def _descend(deviation, affine, inverse_affine, q, p, iterations, goal, work):
    """Move `p` towards ``A p + d(p) = q`` in place; returns the squared residual it leaves."""
    jacobian = work[0:3]
    best_jacobian = work[3:6]
    residual = work[6]
    image = work[7]
    step = work[8]
    trial = work[9]
    _map(deviation, affine, p, image, best_jacobian)
    best = 0.0
    for c in range(3):
        residual[c] = q[c] - image[c]
        best += residual[c] ** 2
    for _iteration in range(iterations):
        if best <= goal:
            break
        improved = False
        for direction in range(2):
            if direction == 0:
                det = _solve(best_jacobian, residual, step)
                length = np.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
                if not (det != 0.0 and length < 1e3):
                    continue
            else:
                for c in range(3):
                    step[c] = (
                        inverse_affine[c, 0] * residual[0]
                        + inverse_affine[c, 1] * residual[1]
                        + inverse_affine[c, 2] * residual[2]
                    )
            scale = 1.0
            for _halving in range(8):
                for c in range(3):
                    trial[c] = p[c] + scale * step[c]
                _map(deviation, affine, trial, image, jacobian)
                now = 0.0
                for c in range(3):
                    now += (q[c] - image[c]) ** 2
                if now < best:
                    improved = True
                    break
                scale *= 0.5
            if improved:
                best = now
                for c in range(3):
                    p[c] = trial[c]
                    residual[c] = q[c] - image[c]
                    for d in range(3):
                        best_jacobian[c, d] = jacobian[c, d]
                break
        if not improved:
            break
    return best


@kernel
def invert(
    deviation: Array,
    affine: Array,
    inverse_affine: Array,
    shape: tuple[int, int, int],
    iterations: int,
    tolerance: float,
) -> tuple[Array, Array]:
    """Solve ``A p + d(p) = q`` for p at every voxel q of another grid.

    Newton steps with the exact derivative of the trilinear interpolant, halved while they do not
    lower the residual. Where no such step helps (at the kinks between cells, or where the derivative
    is singular) the fixed-point step ``A^-1 (q - A p - d(p))`` is tried the same way. A voxel that is
    still not solved (the field folds nearby) starts again from eight places around the best one found.

    Parameters
    ----------
    deviation
        (X, Y, Z, 3) float32, d: what the map adds to its affine part.
    affine, inverse_affine
        (3, 4) float64, A and its inverse.
    shape
        Shape of the grid of q.
    iterations, tolerance
        Stop after so many steps from each start, or once the residual is below so many voxels of q.

    Returns
    -------
    displacement
        (*shape, 3) float32, ``p - q``.
    residual
        shape float32, ``|A p + d(p) - q|`` in voxels of q.
    """
    nx, ny, nz = shape
    out = np.empty((nx, ny, nz, 3), np.float32)
    left = np.empty((nx, ny, nz), np.float32)
    goal = tolerance * tolerance
    for i in prange(nx):
        q = np.empty(3)
        p = np.empty(3)
        found = np.empty(3)
        centre = np.empty(3)
        work = np.empty((10, 3))
        for j in range(ny):
            for k in range(nz):
                q[0], q[1], q[2] = i, j, k
                for c in range(3):
                    p[c] = (
                        inverse_affine[c, 0] * i
                        + inverse_affine[c, 1] * j
                        + inverse_affine[c, 2] * k
                        + inverse_affine[c, 3]
                    )
                    centre[c] = 0.0
                best = np.inf
                reach = 0.0
                # Start 0 is the affine inverse; the others surround the place it led to.
                for start in range(9):
                    if start > 0:
                        for c in range(3):
                            side = 1.0 if (start - 1) >> c & 1 else -1.0
                            p[c] = centre[c] + side * reach
                    now = _descend(deviation, affine, inverse_affine, q, p, iterations, goal, work)
                    if start == 0 or now < best:
                        best = now
                        for c in range(3):
                            found[c] = p[c]
                    if start == 0:
                        reach = max(np.sqrt(best), 1.0)
                        for c in range(3):
                            centre[c] = found[c]
                    if not best > goal:
                        break
                for c in range(3):
                    out[i, j, k, c] = found[c] - q[c]
                left[i, j, k] = np.sqrt(best)
    return out, left
