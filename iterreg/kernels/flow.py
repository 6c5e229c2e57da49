"""Steps of a flow on a lattice: tracing points along a velocity, carrying momentum along a map.

All vectors are (3, X, Y, Z), float32 or float64, places in lattice units. Between lattice points they
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
def _pack(x, y, z, out):
    """Put three rows' numbers side by side, (n, 4): what is looked up at a place then lies together."""
    for k in range(x.size):
        out[k, 0] = x[k]
        out[k, 1] = y[k]
        out[k, 2] = z[k]
        out[k, 3] = 0.0


@helper
def _between(flat, p, q, r, s, c, x, y, z):
    """One component between the eight corners at p, q, r, s and their successors."""
    one = np.uint32(1)
    a = flat[p, c] + (flat[p + one, c] - flat[p, c]) * z
    b = flat[q, c] + (flat[q + one, c] - flat[q, c]) * z
    d = flat[r, c] + (flat[r + one, c] - flat[r, c]) * z
    e = flat[s, c] + (flat[s + one, c] - flat[s, c]) * z
    f = a + (b - a) * y
    g = d + (e - d) * y
    return f + (g - f) * x


@helper
def _sample_row(flat, shape, at, out):
    """Sample packed vectors at a row of points, held constant beyond the border.

    `flat` is the field with its spatial axes in one, (points, 4); `at` and `out` are (n, 4). The four
    components are written out one by one, so that the compiler makes one vector of them.
    """
    nx, ny, nz = shape
    real = at.dtype.type
    zero, end_x, end_y, end_z = real(0.0), real(nx - 1), real(ny - 1), real(nz - 1)
    top_x, top_y, top_z = np.int32(nx - 2), np.int32(ny - 2), np.int32(nz - 2)
    rows, columns = np.int32(ny), np.int32(nz)
    next_y, next_x = np.uint32(nz), np.uint32(ny * nz)
    for k in range(out.shape[0]):
        x = min(max(at[k, 0], zero), end_x)
        y = min(max(at[k, 1], zero), end_y)
        z = min(max(at[k, 2], zero), end_z)
        i = min(np.int32(x), top_x)
        j = min(np.int32(y), top_y)
        m = min(np.int32(z), top_z)
        x -= real(i)
        y -= real(j)
        z -= real(m)
        p = np.uint32((i * rows + j) * columns + m)
        q = p + next_y
        r = p + next_x
        s = r + next_y
        v0 = _between(flat, p, q, r, s, np.uint32(0), x, y, z)
        v1 = _between(flat, p, q, r, s, np.uint32(1), x, y, z)
        v2 = _between(flat, p, q, r, s, np.uint32(2), x, y, z)
        v3 = _between(flat, p, q, r, s, np.uint32(3), x, y, z)
        out[k, 0] = v0
        out[k, 1] = v1
        out[k, 2] = v2
        out[k, 3] = v3


@helper
def _start(i, j, k0, displacement, out):
    """Where the points of a row from `k0` on stand; `displacement` is (3, n), `out` (n, 4)."""
    real = out.dtype.type
    for k in range(out.shape[0]):
        out[k, 0] = real(i) + displacement[0, k]
        out[k, 1] = real(j) + displacement[1, k]
        out[k, 2] = real(k0 + k) + displacement[2, k]


@helper
def _ahead(here, velocity, step, out):
    for k in range(out.size):
        out[k] = here[k] + step * velocity[k]


@kernel
def trace(
    velocity: Array, displacement: Array, at_rest: bool, duration: float, substeps: Array, spans: Array
) -> Array:
    """Move points along a velocity by the midpoint rule: ``q = p + u(p)``, ``q + step v(q + step v(q) / 2)``.

    Parameters
    ----------
    velocity, displacement
        (3, X, Y, Z); the displacement in lattice units.
    at_rest
        Whether the displacement is zero, whatever its array holds: the velocity is known there without a
        look.
    duration
        How long to follow the velocity; negative to go back. Their product is in lattice units.
    substeps
        (X, Y) int32: into how many substeps of equal length each row cuts it.
    spans
        Which points are moved; the others stay where they stand.

    Returns
    -------
    (3, X, Y, Z): the new displacement.
    """
    _, nx, ny, nz = displacement.shape
    shape = (nx, ny, nz)
    packed = np.empty((nx, ny, nz, 4), velocity.dtype)
    for i in prange(nx):
        for j in range(ny):
            _pack(velocity[0, i, j], velocity[1, i, j], velocity[2, i, j], packed[i, j])
    flat = packed.reshape(nx * ny * nz, 4)
    out = np.empty((3, nx, ny, nz), displacement.dtype)
    for i in prange(nx):
        lines = np.zeros((3, nz, 4), displacement.dtype)
        for j in range(ny):
            for c in range(3):
                if at_rest:
                    out[c, i, j] = 0
                else:
                    out[c, i, j] = displacement[c, i, j]
            k0, k1 = spans[i, j, 0], spans[i, j, 1]
            n = k1 - k0
            if n <= 0:
                continue
            here, middle, v = lines[0, :n], lines[1, :n], lines[2, :n]
            here_flat, middle_flat, v_flat = here.reshape(4 * n), middle.reshape(4 * n), v.reshape(4 * n)
            _start(i, j, k0, out[:, i, j, k0:k1], here)
            h = displacement.dtype.type(duration / substeps[i, j])
            half = displacement.dtype.type(0.5 * duration / substeps[i, j])
            for substep in range(substeps[i, j]):
                if substep == 0 and at_rest:
                    _ahead(here_flat, packed[i, j, k0:k1].reshape(4 * n), half, middle_flat)
                else:
                    _sample_row(flat, shape, here, v)
                    _ahead(here_flat, v_flat, half, middle_flat)
                _sample_row(flat, shape, middle, v)
                _ahead(here_flat, v_flat, h, here_flat)
            for k in range(n):
                out[0, i, j, k0 + k] = here[k, 0] - np.float32(i)
                out[1, i, j, k0 + k] = here[k, 1] - np.float32(j)
                out[2, i, j, k0 + k] = here[k, 2] - np.float32(k0 + k)
    return out


@helper
def _differences(row, beside, out):
    """Add to `out` by how much two rows differ."""
    for k in range(out.size):
        out[k] += abs(beside[k] - row[k])


@kernel
def steepness(velocity: Array) -> tuple[Array, Array]:
    """Largest change of a velocity between neighbours: a bound of its trilinear interpolant's slope.

    Parameters
    ----------
    velocity
        (3, X, Y, Z).

    Returns
    -------
    slope
        (X, Y) of each row: the largest sum over the components' absolute differences along one axis, to the
        next point.
    speed
        (X,) of each slab: the largest absolute component.
    """
    _, nx, ny, nz = velocity.shape
    slope = np.zeros((nx, ny), velocity.dtype)
    speed = np.zeros(nx, velocity.dtype)
    for i in prange(nx):
        a = min(i + 1, nx - 1)
        sums = np.zeros((3, nz), velocity.dtype)
        for j in range(ny):
            b = min(j + 1, ny - 1)
            sums[:] = 0
            for c in range(3):
                row = velocity[c, i, j]
                _differences(row, velocity[c, a, j], sums[0])
                _differences(row, velocity[c, i, b], sums[1])
                _differences(row[: nz - 1], row[1:], sums[2, : nz - 1])
                speed[i] = max(speed[i], row.max(), -row.min())
            slope[i, j] = max(sums[0].max(), sums[1].max(), sums[2].max())
    return slope, speed


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
    shape = (nx, ny, nz)
    packed = np.empty((nx, ny, nz, 4), momentum.dtype)
    for i in prange(nx):
        for j in range(ny):
            _pack(momentum[0, i, j], momentum[1, i, j], momentum[2, i, j], packed[i, j])
    flat = packed.reshape(nx * ny * nz, 4)
    out = np.zeros((3, nx, ny, nz), displacement.dtype)
    half = np.float32(0.5)
    one = np.float32(1.0)
    for i in prange(1, nx - 1):
        lines = np.zeros((2, nz, 4), displacement.dtype)
        for j in range(1, ny - 1):
            k0, k1 = max(spans[i, j, 0], 1), min(spans[i, j, 1], nz - 1)
            n = k1 - k0
            if n <= 0:
                continue
            u = displacement[:, i, j, k0:k1]
            _start(i, j, k0, u, lines[0, :n])
            m = lines[1, :n]
            _sample_row(flat, shape, lines[0, :n], m)
            before, after = displacement[:, i - 1, j, k0:k1], displacement[:, i + 1, j, k0:k1]
            under, over = displacement[:, i, j - 1, k0:k1], displacement[:, i, j + 1, k0:k1]
            left, right = displacement[:, i, j, k0 - 1 : k1 - 1], displacement[:, i, j, k0 + 1 : k1 + 1]
            for k in range(n):
                a00 = one + half * (after[0, k] - before[0, k])
                a01 = half * (over[0, k] - under[0, k])
                a02 = half * (right[0, k] - left[0, k])
                a10 = half * (after[1, k] - before[1, k])
                a11 = one + half * (over[1, k] - under[1, k])
                a12 = half * (right[1, k] - left[1, k])
                a20 = half * (after[2, k] - before[2, k])
                a21 = half * (over[2, k] - under[2, k])
                a22 = one + half * (right[2, k] - left[2, k])
                det = (
                    a00 * (a11 * a22 - a12 * a21)
                    - a01 * (a10 * a22 - a12 * a20)
                    + a02 * (a10 * a21 - a11 * a20)
                )
                out[0, i, j, k0 + k] = det * (a00 * m[k, 0] + a10 * m[k, 1] + a20 * m[k, 2])
                out[1, i, j, k0 + k] = det * (a01 * m[k, 0] + a11 * m[k, 1] + a21 * m[k, 2])
                out[2, i, j, k0 + k] = det * (a02 * m[k, 0] + a12 * m[k, 1] + a22 * m[k, 2])
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
    out = np.empty((3, nx, ny, nz), velocity.dtype)
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
