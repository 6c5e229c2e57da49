"""Steps of a flow on a lattice: tracing points along a velocity, carrying momentum along a map.

All vectors are (3, X, Y, Z) in lattice units, float32 or float64. Between lattice points they
are trilinear, beyond the border constant: the velocity *is* that interpolant, a Lipschitz field whose flow
cannot fold. *Spans*, (X, Y, 2) int32, say which points of each row matter: from the first number up to, not
including, the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["carry_momentum", "excess_slope", "steepness", "trace"]

Array = NDArray[Any]


@helper
def _sample_row(flat, shape, at, k0, k1, out):
    """Sample three components at points k0 up to k1 of a row, held constant beyond the border.

    `flat` is the field with its spatial axes in one; `at` and `out` are (3, N). Unsigned indices and one
    flat axis let the compiler fetch many points at once.
    """
    nx, ny, nz = shape
    one = np.float32(1.0)
    next_y = np.uint32(nz)
    next_x = np.uint32(ny * nz)
    for k in range(k0, k1):
        x = min(max(at[0, k], np.float32(0.0)), np.float32(nx - 1))
        y = min(max(at[1, k], np.float32(0.0)), np.float32(ny - 1))
        z = min(max(at[2, k], np.float32(0.0)), np.float32(nz - 1))
        i = min(np.int32(x), np.int32(nx - 2))
        j = min(np.int32(y), np.int32(ny - 2))
        m = min(np.int32(z), np.int32(nz - 2))
        fx = x - np.float32(i)
        fy = y - np.float32(j)
        fz = z - np.float32(m)
        gz = one - fz
        a = (one - fx) * (one - fy)
        b = (one - fx) * fy
        c = fx * (one - fy)
        d = fx * fy
        p = np.uint32((i * np.int32(ny) + j) * np.int32(nz) + m)
        q = p + next_y
        r = p + next_x
        s = r + next_y
        p1, q1, r1, s1 = p + np.uint32(1), q + np.uint32(1), r + np.uint32(1), s + np.uint32(1)
        for e in range(3):
            out[e, k] = gz * (a * flat[e, p] + b * flat[e, q] + c * flat[e, r] + d * flat[e, s]) + fz * (
                a * flat[e, p1] + b * flat[e, q1] + c * flat[e, r1] + d * flat[e, s1]
            )


@kernel
def trace(
    velocity: Array, displacement: Array, at_rest: bool, step: float, substeps: int, spans: Array
) -> Array:
    """Move points along a velocity by the midpoint rule: ``q = p + u(p)``, ``q + step v(q + step v(q) / 2)``.

    Parameters
    ----------
    velocity, displacement
        (3, X, Y, Z), lattice units.
    at_rest
        Whether the displacement is zero: the velocity is known there without looking.
    step
        Time of one substep; negative to go back.
    substeps
        How many to take.
    spans
        Which points are moved; the others stay where they stand.

    Returns
    -------
    (3, X, Y, Z): the new displacement.
    """
    _, nx, ny, nz = displacement.shape
    shape = (nx, ny, nz)
    flat = velocity.reshape(3, nx * ny * nz)
    out = np.empty((3, nx, ny, nz), displacement.dtype)
    h = displacement.dtype.type(step)
    half = displacement.dtype.type(0.5 * step)
    for i in prange(nx):
        here = np.empty((3, nz), displacement.dtype)
        middle = np.empty((3, nz), displacement.dtype)
        v = np.empty((3, nz), displacement.dtype)
        for j in range(ny):
            k0, k1 = spans[i, j, 0], spans[i, j, 1]
            for c in range(3):
                for k in range(k0):
                    out[c, i, j, k] = displacement[c, i, j, k]
                for k in range(k1, nz):
                    out[c, i, j, k] = displacement[c, i, j, k]
            for k in range(k0, k1):
                here[0, k] = np.float32(i) + displacement[0, i, j, k]
                here[1, k] = np.float32(j) + displacement[1, i, j, k]
                here[2, k] = np.float32(k) + displacement[2, i, j, k]
            for substep in range(substeps):
                if substep == 0 and at_rest:
                    for c in range(3):
                        for k in range(k0, k1):
                            v[c, k] = velocity[c, i, j, k]
                else:
                    _sample_row(flat, shape, here, k0, k1, v)
                for c in range(3):
                    for k in range(k0, k1):
                        middle[c, k] = here[c, k] + half * v[c, k]
                _sample_row(flat, shape, middle, k0, k1, v)
                for c in range(3):
                    for k in range(k0, k1):
                        here[c, k] += h * v[c, k]
            for k in range(k0, k1):
                out[0, i, j, k] = here[0, k] - np.float32(i)
                out[1, i, j, k] = here[1, k] - np.float32(j)
                out[2, i, j, k] = here[2, k] - np.float32(k)
    return out


@kernel
def steepness(velocity: Array) -> Array:
    """Largest change of a velocity between neighbours: a bound of its trilinear interpolant's slope.

    Parameters
    ----------
    velocity
        (3, X, Y, Z), lattice units.

    Returns
    -------
    (X,) largest sum over the components' absolute differences along one axis, in each slab.
    """
    _, nx, ny, nz = velocity.shape
    out = np.zeros(nx, velocity.dtype)
    for i in prange(nx):
        worst = velocity.dtype.type(0.0)
        a = min(i + 1, nx - 1)
        for j in range(ny):
            b = min(j + 1, ny - 1)
            for k in range(nz):
                c = min(k + 1, nz - 1)
                x = velocity.dtype.type(0.0)
                y = velocity.dtype.type(0.0)
                z = velocity.dtype.type(0.0)
                for q in range(3):
                    here = velocity[q, i, j, k]
                    x += abs(velocity[q, a, j, k] - here)
                    y += abs(velocity[q, i, b, k] - here)
                    z += abs(velocity[q, i, j, c] - here)
                worst = max(worst, x, y, z)
        out[i] = worst
    return out


@kernel
def carry_momentum(momentum: Array, displacement: Array, spans: Array) -> Array:
    """Pull a momentum back along a map A: ``det(DA) DA^T m(A(x))``, derivatives by central differences.

    Parameters
    ----------
    momentum, displacement
        (3, X, Y, Z); the displacement of A.
    spans
        Where to; zero elsewhere.

    Returns
    -------
    (3, X, Y, Z), zero on the outermost layer.
    """
    _, nx, ny, nz = displacement.shape
    out = np.zeros((3, nx, ny, nz), displacement.dtype)
    half = np.float32(0.5)
    one = np.float32(1.0)
    shape = (nx, ny, nz)
    flat = momentum.reshape(3, nx * ny * nz)
    u = displacement
    for i in prange(1, nx - 1):
        at = np.empty((3, nz), displacement.dtype)
        m = np.empty((3, nz), displacement.dtype)
        for j in range(1, ny - 1):
            k0, k1 = max(spans[i, j, 0], 1), min(spans[i, j, 1], nz - 1)
            for k in range(k0, k1):
                at[0, k] = np.float32(i) + u[0, i, j, k]
                at[1, k] = np.float32(j) + u[1, i, j, k]
                at[2, k] = np.float32(k) + u[2, i, j, k]
            _sample_row(flat, shape, at, k0, k1, m)
            for k in range(k0, k1):
                a00 = one + half * (u[0, i + 1, j, k] - u[0, i - 1, j, k])
                a01 = half * (u[0, i, j + 1, k] - u[0, i, j - 1, k])
                a02 = half * (u[0, i, j, k + 1] - u[0, i, j, k - 1])
                a10 = half * (u[1, i + 1, j, k] - u[1, i - 1, j, k])
                a11 = one + half * (u[1, i, j + 1, k] - u[1, i, j - 1, k])
                a12 = half * (u[1, i, j, k + 1] - u[1, i, j, k - 1])
                a20 = half * (u[2, i + 1, j, k] - u[2, i - 1, j, k])
                a21 = half * (u[2, i, j + 1, k] - u[2, i, j - 1, k])
                a22 = one + half * (u[2, i, j, k + 1] - u[2, i, j, k - 1])
                det = (
                    a00 * (a11 * a22 - a12 * a21)
                    - a01 * (a10 * a22 - a12 * a20)
                    + a02 * (a10 * a21 - a11 * a20)
                )
                out[0, i, j, k] = det * (a00 * m[0, k] + a10 * m[1, k] + a20 * m[2, k])
                out[1, i, j, k] = det * (a01 * m[0, k] + a11 * m[1, k] + a21 * m[2, k])
                out[2, i, j, k] = det * (a02 * m[0, k] + a12 * m[1, k] + a22 * m[2, k])
    return out


@helper
def _beyond(value, limit):
    """What a value exceeds a limit by, with its sign."""
    return value - min(max(value, -limit), limit)


@kernel
def excess_slope(velocity: Array, weight: Array, limit: float) -> tuple[Array, Array]:
    """How far a velocity's slope goes beyond a limit, and the derivative of that by the velocity.

    The value is ``sum(w max(0, |d| - limit)^2) / 2`` over the differences d of each component between
    neighbours along each axis, w the mean of the neighbours' weights. It is convex.

    Parameters
    ----------
    velocity
        (3, X, Y, Z) in lattice units.
    weight
        (X, Y, Z), not negative.
    limit
        Positive.

    Returns
    -------
    value
        (X,) float64, of each slab.
    derivative
        (3, X, Y, Z).
    """
    _, nx, ny, nz = velocity.shape
    value = np.zeros(nx)
    out = np.zeros((3, nx, ny, nz), velocity.dtype)
    bound = velocity.dtype.type(limit)
    half = velocity.dtype.type(0.5)
    w = weight
    for i in prange(nx):
        total = 0.0
        for c in range(3):
            v = velocity[c]
            for j in range(ny):
                for k in range(nz):
                    here = v[i, j, k]
                    own = w[i, j, k]
                    slope = velocity.dtype.type(0.0)
                    if i > 0:
                        slope += half * (own + w[i - 1, j, k]) * _beyond(here - v[i - 1, j, k], bound)
                    if j > 0:
                        slope += half * (own + w[i, j - 1, k]) * _beyond(here - v[i, j - 1, k], bound)
                    if k > 0:
                        slope += half * (own + w[i, j, k - 1]) * _beyond(here - v[i, j, k - 1], bound)
                    if i < nx - 1:
                        e = _beyond(v[i + 1, j, k] - here, bound)
                        f = half * (own + w[i + 1, j, k])
                        slope -= f * e
                        total += 0.5 * f * e * e
                    if j < ny - 1:
                        e = _beyond(v[i, j + 1, k] - here, bound)
                        f = half * (own + w[i, j + 1, k])
                        slope -= f * e
                        total += 0.5 * f * e * e
                    if k < nz - 1:
                        e = _beyond(v[i, j, k + 1] - here, bound)
                        f = half * (own + w[i, j, k + 1])
                        slope -= f * e
                        total += 0.5 * f * e * e
                    out[c, i, j, k] = slope
        value[i] = total
    return value, out
