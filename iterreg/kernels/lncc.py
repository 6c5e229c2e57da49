"""Local normalised cross-correlation: values, and their derivative by both images.

Box means are running sums over slabs of planes: along the last axis by shifted additions, along the
other two by adding what enters the window and subtracting what leaves it. Every slab starts its sums
anew, so rounding does not build up and the result does not depend on the number of threads. Only spans
of rows are visited: most of a box around a brain is not brain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["lncc_backward", "lncc_forward"]

Array = NDArray[Any]

_SLAB = 32


@helper
def _box_row(line, radius, first, last, out):
    """Sums over ``2 radius + 1`` neighbours for a span of a row; `line` is shifted on by `radius`."""
    for k in range(first, last):
        out[k] = line[k]
    for d in range(1, 2 * radius + 1):
        for k in range(first, last):
            out[k] += line[k + d]


@helper
def _box_plane(rows, radius, box, out):
    """Running sums of `rows` (ny, nz) along the first axis within a box; there is nothing outside it."""
    y0, y1, z0, z1 = box[0], box[1], box[2], box[3]
    for k in range(z0, z1):
        out[y0, k] = 0.0
    for j in range(y0, min(y0 + radius + 1, y1)):
        for k in range(z0, z1):
            out[y0, k] += rows[j, k]
    for j in range(y0 + 1, y1):
        enters = j + radius
        leaves = j - radius - 1
        if enters < y1 and leaves >= y0:
            for k in range(z0, z1):
                out[j, k] = out[j - 1, k] + (rows[enters, k] - rows[leaves, k])
        elif enters < y1:
            for k in range(z0, z1):
                out[j, k] = out[j - 1, k] + rows[enters, k]
        elif leaves >= y0:
            for k in range(z0, z1):
                out[j, k] = out[j - 1, k] - rows[leaves, k]
        else:
            for k in range(z0, z1):
                out[j, k] = out[j - 1, k]


@helper
def _box_around(spans, box):
    """The box y0, y1, z0, z1 around a plane's spans, empty if there are none."""
    y0, y1, z0, z1 = spans.shape[0], 0, np.int64(2**31), 0
    for j in range(spans.shape[0]):
        if spans[j, 0] < spans[j, 1]:
            y0, y1 = min(y0, j), j + 1
            z0, z1 = min(z0, spans[j, 0]), max(z1, spans[j, 1])
    if y1 == 0:
        y0, z0 = 0, 0
    box[0], box[1], box[2], box[3] = y0, y1, z0, z1


@helper
def _forget(total, ring, box):
    """Take a plane that leaves the window out of the totals."""
    for q in range(total.shape[0]):
        for j in range(box[0], box[1]):
            for k in range(box[2], box[3]):
                total[q, j, k] -= ring[q, j, k]


@helper
def _clear_around(line, radius, first, last):
    """Zero what a row's window sums see beyond its span; `line` is shifted on by `radius`."""
    for k in range(first, first + radius):
        line[k] = 0.0
    for k in range(last + radius, last + 2 * radius):
        line[k] = 0.0


@helper
def _clear_outside(row, first, last, z0, z1):
    """Zero a row of the box outside its span."""
    for k in range(z0, first):
        row[k] = 0.0
    for k in range(max(last, z0), z1):
        row[k] = 0.0


@helper
def _box_rows(lines, radius, first, last, box, rows, j):
    """Window sums along the last axis of every quantity, for the span of row j."""
    for q in range(lines.shape[0]):
        _clear_around(lines[q], radius, first, last)
        _box_row(lines[q], radius, first, last, rows[q, j])
        _clear_outside(rows[q, j], first, last, box[2], box[3])


@helper
def _enter(rows, radius, box, ring, total):
    """Take a plane that enters the window into the totals."""
    for q in range(total.shape[0]):
        _box_plane(rows[q], radius, box, ring[q])
        for j in range(box[0], box[1]):
            for k in range(box[2], box[3]):
                total[q, j, k] += ring[q, j, k]


@kernel
def lncc_forward(
    first: Array,
    second: Array,
    weight: Array,
    spans: Array,
    radius: tuple[int, int, int],
    epsilon: float,
    power: int,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    e: Array,
    both: bool,
) -> Array:
    """A power of the squared local correlation, and what its derivative needs.

    With window means over ``2 radius + 1`` voxels along each axis (images are zero beyond the border),
    covariance A and variances B, C, the value is
    ``sum(weight * (A^2 / ((B + epsilon) (C + epsilon)))^power)``.

    Parameters
    ----------
    first, second
        (X, Y, Z) float32 (or all arrays float64).
    weight
        (X, Y, Z), of each window.
    spans
        (X, Y, 2) int32: each row is looked at from its first number up to, not including, its second. They
        hold every window of a weight above zero; images count as zero, and outputs are left alone, outside.
    radius
        Half width of the window in voxels along each axis.
    power
        1, the usual choice, or 2, which trusts windows that already agree more than those that do not.
    a, b, c, d, e
        (X, Y, Z) outputs for `lncc_backward`: the coefficient of the covariance, of the variance of
        `second` and the constant of the derivative by `second`; with `both`, the variance coefficient and
        constant of the derivative by `first` (else left alone, and may be empty).

    Returns
    -------
    (number of slabs,) float64: partial values; their sum is the value.
    """
    nx, ny, nz = first.shape
    rx, ry, rz = radius
    width = 2 * rx + 1
    slabs = (nx + _SLAB - 1) // _SLAB
    values = np.zeros(slabs)
    real = first.dtype.type
    scale = real(1.0 / (width * (2 * ry + 1) * (2 * rz + 1)))
    eps = real(epsilon)
    two = real(2.0 * power)
    for slab in prange(slabs):
        start = slab * _SLAB
        stop = min(start + _SLAB, nx)
        ring = np.zeros((width, 5, ny, nz), first.dtype)
        boxes = np.zeros((width, 4), np.int64)
        total = np.zeros((5, ny, nz), first.dtype)
        rows = np.empty((5, ny, nz), first.dtype)
        line = np.zeros((5, nz + 2 * rz), first.dtype)
        value = 0.0
        for plane in range(start - rx, stop + rx):
            slot = (plane + width) % width
            box = boxes[slot]
            _forget(total, ring[slot], box)
            box[:] = 0
            if 0 <= plane < nx:
                _box_around(spans[plane], box)
                for j in range(box[0], box[1]):
                    f = first[plane, j]
                    s = second[plane, j]
                    k0, k1 = spans[plane, j, 0], spans[plane, j, 1]
                    for k in range(k0, k1):
                        x = f[k]
                        y = s[k]
                        line[0, rz + k] = x
                        line[1, rz + k] = y
                        line[2, rz + k] = x * x
                        line[3, rz + k] = y * y
                        line[4, rz + k] = x * y
                    _box_rows(line, rz, k0, k1, box, rows, j)
                _enter(rows, ry, box, ring[slot], total)
            i = plane - rx
            if i < start:
                continue
            for j in range(ny):
                w = weight[i, j]
                part = real(0.0)
                for k in range(spans[i, j, 0], spans[i, j, 1]):
                    mf = total[0, j, k] * scale
                    ms = total[1, j, k] * scale
                    vf = max(total[2, j, k] * scale - mf * mf, real(0.0)) + eps
                    vs = max(total[3, j, k] * scale - ms * ms, real(0.0)) + eps
                    cov = total[4, j, k] * scale - mf * ms
                    inv = real(1.0) / (vf * vs)
                    ratio = cov * inv * w[k]
                    if power == 2:
                        ratio *= cov * cov * inv
                    part += ratio * cov
                    g = two * ratio * scale
                    h = g * cov / vs
                    a[i, j, k] = g
                    b[i, j, k] = h
                    c[i, j, k] = g * mf - h * ms
                    if both:
                        h = g * cov / vf
                        d[i, j, k] = h
                        e[i, j, k] = g * ms - h * mf
                value += part
        values[slab] = value
    return values


@kernel
def lncc_backward(
    first: Array,
    second: Array,
    a: Array,
    b: Array,
    c: Array,
    d: Array,
    e: Array,
    spans: Array,
    radius: tuple[int, int, int],
    sign: float,
    by_second: Array,
    by_first: Array,
    both: bool,
) -> None:
    """Derivatives of the value of `lncc_forward` by the images.

    ``sign (first box(a) - second box(b) - box(c))`` by `second`; by `first` the same with the images
    exchanged and d, e for b, c.

    Parameters
    ----------
    first, second, spans, radius, both
        As in `lncc_forward`.
    a, b, c, d, e
        (X, Y, Z), from there.
    sign
        Factor of the results.
    by_second, by_first
        (X, Y, Z), written within the spans; `by_first` only with `both`.
    """
    nx, ny, nz = first.shape
    rx, ry, rz = radius
    width = 2 * rx + 1
    count = 5 if both else 3
    factor = first.dtype.type(sign)
    slabs = (nx + _SLAB - 1) // _SLAB
    for slab in prange(slabs):
        start = slab * _SLAB
        stop = min(start + _SLAB, nx)
        ring = np.zeros((width, count, ny, nz), first.dtype)
        boxes = np.zeros((width, 4), np.int64)
        total = np.zeros((count, ny, nz), first.dtype)
        rows = np.empty((count, ny, nz), first.dtype)
        line = np.zeros((count, nz + 2 * rz), first.dtype)
        for plane in range(start - rx, stop + rx):
            slot = (plane + width) % width
            box = boxes[slot]
            _forget(total, ring[slot], box)
            box[:] = 0
            if 0 <= plane < nx:
                _box_around(spans[plane], box)
                for j in range(box[0], box[1]):
                    k0, k1 = spans[plane, j, 0], spans[plane, j, 1]
                    for k in range(k0, k1):
                        line[0, rz + k] = a[plane, j, k]
                        line[1, rz + k] = b[plane, j, k]
                        line[2, rz + k] = c[plane, j, k]
                    if both:
                        for k in range(k0, k1):
                            line[3, rz + k] = d[plane, j, k]
                            line[4, rz + k] = e[plane, j, k]
                    _box_rows(line, rz, k0, k1, box, rows, j)
                _enter(rows, ry, box, ring[slot], total)
            i = plane - rx
            if i < start:
                continue
            for j in range(ny):
                k0, k1 = spans[i, j, 0], spans[i, j, 1]
                for k in range(k0, k1):
                    by_second[i, j, k] = factor * (
                        first[i, j, k] * total[0, j, k] - second[i, j, k] * total[1, j, k] - total[2, j, k]
                    )
                if both:
                    for k in range(k0, k1):
                        by_first[i, j, k] = factor * (
                            second[i, j, k] * total[0, j, k]
                            - first[i, j, k] * total[3, j, k]
                            - total[4, j, k]
                        )
