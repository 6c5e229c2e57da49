"""Local normalised cross-correlation: values, and their derivative by both images.

Box means are running sums: along the last axis by shifted additions, along the other two by adding what
enters the window and subtracting what leaves it. The work is cut into tiles of some planes by some rows, so
that all of a tile's sums stay in the processor's own cache; every tile starts its sums anew, so rounding does
not build up and the result does not depend on the number of threads. Only spans of rows are visited: most of
a box around a brain is not brain.

Inner loops run from zero over slices and write one array each, at most two: only such loops does the compiler
turn into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["lncc_backward", "lncc_forward"]

Array = NDArray[Any]

_PLANES = 48
_ROWS = 32
"""Of a tile, at most. Its sums, 5 (2 radius + 1) _ROWS Z numbers, fill a second-level cache of a megabyte.
Tiles are of one size as near as can be: a small one at the end would let one thread wait for another."""


@helper
def _place(row, start, line):
    """Copy a row into a line that is zero elsewhere."""
    n = row.size
    line[:start] = 0
    line[start + n :] = 0
    target = line[start : start + n]
    for k in range(n):
        target[k] = row[k]


@helper
def _place_product(row, other, start, line):
    """Put the product of two rows into a line that is zero elsewhere."""
    n = row.size
    line[:start] = 0
    line[start + n :] = 0
    target = line[start : start + n]
    for k in range(n):
        target[k] = row[k] * other[k]


@helper
def _box_row(line, radius, out):
    """Window sums along a line, which is longer than `out` by the radius at either end."""
    n = out.size
    here = line[radius : radius + n]
    before, after = line[radius - 1 : radius - 1 + n], line[radius + 1 : radius + 1 + n]
    for k in range(n):
        out[k] = before[k] + here[k] + after[k]
    for d in range(2, radius + 1):
        before, after = line[radius - d : radius - d + n], line[radius + d : radius + d + n]
        for k in range(n):
            out[k] += before[k] + after[k]


@helper
def _slide(rows, radius, sums, ring, total):
    """Window sums across a plane's rows: the totals lose what stands in `ring`, which they take the place of.

    `rows` are more than those of `ring` and `total` by the radius at either end.
    """
    n = sums.size
    sums[:] = 0
    for j in range(2 * radius):
        row = rows[j]
        for k in range(n):
            sums[k] += row[k]
    for j in range(total.shape[0]):
        enters, leaves = rows[j + 2 * radius], rows[j]
        old, all_planes = ring[j], total[j]
        for k in range(n):
            sums[k] += enters[k]
        for k in range(n):
            all_planes[k] += sums[k] - old[k]
            old[k] = sums[k]
        for k in range(n):
            sums[k] -= leaves[k]


@helper
def _tile_counts(shape):
    """How many tiles along x and y."""
    return (shape[0] + _PLANES - 1) // _PLANES, (shape[1] + _ROWS - 1) // _ROWS


@helper
def _tile_box(tile, shape, spans):
    """Planes, rows and columns of a tile: x0, x1, y0, y1, z0, z1. No columns where its spans are empty."""
    slabs, strips = _tile_counts(shape)
    slab, strip = tile // strips, tile % strips
    x0, x1 = shape[0] * slab // slabs, shape[0] * (slab + 1) // slabs
    y0, y1 = shape[1] * strip // strips, shape[1] * (strip + 1) // strips
    z0, z1 = np.int64(shape[2]), np.int64(0)
    for i in range(x0, x1):
        for j in range(y0, y1):
            if spans[i, j, 0] < spans[i, j, 1]:
                z0 = min(z0, spans[i, j, 0])
                z1 = max(z1, spans[i, j, 1])
    return x0, x1, y0, y1, z0, z1


@helper
def _seen(spans, i, j, first, last):
    """The part of a row's span from `first` up to `last`; 0, 0 if there is none."""
    if not (0 <= i < spans.shape[0] and 0 <= j < spans.shape[1]):
        return np.int64(0), np.int64(0)
    k0, k1 = max(np.int64(spans[i, j, 0]), first), min(np.int64(spans[i, j, 1]), last)
    if k0 >= k1:
        return np.int64(0), np.int64(0)
    return k0, k1


@helper
def _variance(squares, means, scale, epsilon, out):
    zero = scale * 0
    for k in range(out.size):
        mean = means[k] * scale
        out[k] = max(squares[k] * scale - mean * mean, zero) + epsilon


@helper
def _covariance(products, means, others, scale, out):
    for k in range(out.size):
        out[k] = products[k] * scale - (means[k] * scale) * (others[k] * scale)


@helper
def _per_covariance(covariance, variance, other, weight, power, out):
    """What is left of a window's agreement, with its weight, after division by its covariance."""
    one = variance.dtype.type(1.0)
    if power == 2:
        for k in range(out.size):
            inverse = one / (variance[k] * other[k])
            out[k] = weight[k] * covariance[k] * inverse * (covariance[k] * covariance[k] * inverse)
    else:
        for k in range(out.size):
            out[k] = weight[k] * covariance[k] / (variance[k] * other[k])


@helper
def _by_variance(coefficient, covariance, variance, out):
    for k in range(out.size):
        out[k] = coefficient[k] * covariance[k] / variance[k]


@helper
def _constant(coefficient, other, own, mean, scale, out):
    for k in range(out.size):
        out[k] = coefficient[k] * (other[k] * scale) - own[k] * (mean[k] * scale)


@helper
def _derivative(image, other, coefficient, own, constant, factor, out):
    for k in range(out.size):
        out[k] = factor * (other[k] * coefficient[k] - image[k] * own[k] - constant[k])


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
        Half width of the window in voxels along each axis, at least 1.
    power
        1, the usual choice, or 2, which trusts windows that already agree more than those that do not.
    a, b, c, d, e
        (X, Y, Z) outputs for `lncc_backward`: the coefficient of the covariance, of the variance of
        `second` and the constant of the derivative by `second`; with `both`, the variance coefficient and
        constant of the derivative by `first` (else left alone, and may be empty).

    Returns
    -------
    (number of tiles,) float64: partial values; their sum is the value.
    """
    rx, ry, rz = radius
    width = 2 * rx + 1
    real = first.dtype.type
    scale = real(1.0 / (width * (2 * ry + 1) * (2 * rz + 1)))
    eps = real(epsilon)
    slope = real(2.0 * power) * scale
    slabs, strips = _tile_counts(first.shape)
    values = np.zeros(slabs * strips)
    for tile in prange(slabs * strips):
        x0, x1, y0, y1, z0, z1 = _tile_box(tile, first.shape, spans)
        if z0 >= z1:
            continue
        n, height = z1 - z0, y1 - y0
        ring = np.zeros((width, 5, height, n), first.dtype)
        total = np.zeros((5, height, n), first.dtype)
        rows = np.zeros((5, height + 2 * ry, n), first.dtype)
        line = np.zeros(n + 2 * rz, first.dtype)
        sums = np.zeros(n, first.dtype)
        windows = np.zeros((4, n), first.dtype)
        value = np.zeros(n)
        for plane in range(x0 - rx, x1 + rx):
            for row in range(height + 2 * ry):
                j = y0 - ry + row
                k0, k1 = _seen(spans, plane, j, z0 - rz, z1 + rz)
                if k0 == k1:
                    rows[:, row] = 0
                    continue
                start = k0 - z0 + rz
                f, s = first[plane, j, k0:k1], second[plane, j, k0:k1]
                _place(f, start, line)
                _box_row(line, rz, rows[0, row])
                _place(s, start, line)
                _box_row(line, rz, rows[1, row])
                _place_product(f, f, start, line)
                _box_row(line, rz, rows[2, row])
                _place_product(s, s, start, line)
                _box_row(line, rz, rows[3, row])
                _place_product(f, s, start, line)
                _box_row(line, rz, rows[4, row])
            slot = (plane + width) % width
            for q in range(5):
                _slide(rows[q], ry, sums, ring[slot, q], total[q])
            i = plane - rx
            if i < x0:
                continue
            for j in range(y0, y1):
                k0, k1 = _seen(spans, i, j, z0, z1)
                if k0 == k1:
                    continue
                row, u0, u1 = j - y0, k0 - z0, k1 - z0
                mf, ms = total[0, row, u0:u1], total[1, row, u0:u1]
                vf, vs, cov, ratio = (
                    windows[0, u0:u1],
                    windows[1, u0:u1],
                    windows[2, u0:u1],
                    windows[3, u0:u1],
                )
                _variance(total[2, row, u0:u1], mf, scale, eps, vf)
                _variance(total[3, row, u0:u1], ms, scale, eps, vs)
                _covariance(total[4, row, u0:u1], mf, ms, scale, cov)
                _per_covariance(cov, vf, vs, weight[i, j, k0:k1], power, ratio)
                part = value[u0:u1]
                for k in range(part.size):
                    part[k] += ratio[k] * cov[k]
                coefficient = a[i, j, k0:k1]
                for k in range(coefficient.size):
                    coefficient[k] = slope * ratio[k]
                own = b[i, j, k0:k1]
                _by_variance(coefficient, cov, vs, own)
                _constant(coefficient, mf, own, ms, scale, c[i, j, k0:k1])
                if both:
                    own = d[i, j, k0:k1]
                    _by_variance(coefficient, cov, vf, own)
                    _constant(coefficient, ms, own, mf, scale, e[i, j, k0:k1])
        values[tile] = value.sum()
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
    rx, ry, rz = radius
    width = 2 * rx + 1
    count = 5 if both else 3
    factor = first.dtype.type(sign)
    slabs, strips = _tile_counts(first.shape)
    for tile in prange(slabs * strips):
        x0, x1, y0, y1, z0, z1 = _tile_box(tile, first.shape, spans)
        if z0 >= z1:
            continue
        n, height = z1 - z0, y1 - y0
        ring = np.zeros((width, count, height, n), first.dtype)
        total = np.zeros((count, height, n), first.dtype)
        rows = np.zeros((count, height + 2 * ry, n), first.dtype)
        line = np.zeros(n + 2 * rz, first.dtype)
        sums = np.zeros(n, first.dtype)
        for plane in range(x0 - rx, x1 + rx):
            for row in range(height + 2 * ry):
                j = y0 - ry + row
                k0, k1 = _seen(spans, plane, j, z0 - rz, z1 + rz)
                if k0 == k1:
                    rows[:, row] = 0
                    continue
                start = k0 - z0 + rz
                _place(a[plane, j, k0:k1], start, line)
                _box_row(line, rz, rows[0, row])
                _place(b[plane, j, k0:k1], start, line)
                _box_row(line, rz, rows[1, row])
                _place(c[plane, j, k0:k1], start, line)
                _box_row(line, rz, rows[2, row])
                if both:
                    _place(d[plane, j, k0:k1], start, line)
                    _box_row(line, rz, rows[3, row])
                    _place(e[plane, j, k0:k1], start, line)
                    _box_row(line, rz, rows[4, row])
            slot = (plane + width) % width
            for q in range(count):
                _slide(rows[q], ry, sums, ring[slot, q], total[q])
            i = plane - rx
            if i < x0:
                continue
            for j in range(y0, y1):
                k0, k1 = _seen(spans, i, j, z0, z1)
                if k0 == k1:
                    continue
                row, u0, u1 = j - y0, k0 - z0, k1 - z0
                f, s = first[i, j, k0:k1], second[i, j, k0:k1]
                ta, tb, tc = total[0, row, u0:u1], total[1, row, u0:u1], total[2, row, u0:u1]
                _derivative(s, f, ta, tb, tc, factor, by_second[i, j, k0:k1])
                if both:
                    td, te = total[3, row, u0:u1], total[4, row, u0:u1]
                    _derivative(f, s, ta, td, te, factor, by_first[i, j, k0:k1])
