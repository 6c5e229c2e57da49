"""Between a coarse control lattice and a finer image lattice, both axis-aligned: cubic convolution.

A lattice function is a (3, X, Y, Z) array of vectors, float32 (or, with everything else, float64). Between
lattice points it is Keys's cubic convolution (a = -1/2; Keys, IEEE Trans. ASSP 29, 1981): interpolating,
with continuous derivatives, third-order accurate. Along every axis a *stencil* gives, for each image
index, the first of four lattice indices and their weights; `iterreg.lddmm.lattice` makes it once. *Spans*,
(X, Y, 2) int32, say which voxels of each image row matter: from the first number up to, not including, the
second.

Both directions treat the axes so that inner loops run over image voxels that are neighbours in memory, and
go from zero over slices: only such loops does the compiler turn into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["pool_force", "upsample", "warp_through_lattice"]

Array = NDArray[Any]

_SLAB = 16
"""Image planes whose forces are gathered together, at most."""


@helper
def _blend_along(row, first, weights, out):
    """Interpolate a lattice row at every image index along it."""
    for k in range(out.size):
        f = np.uint32(first[k])
        g, h, m = f + np.uint32(1), f + np.uint32(2), f + np.uint32(3)
        out[k] = (
            weights[k, 0] * row[f] + weights[k, 1] * row[g] + weights[k, 2] * row[h] + weights[k, 3] * row[m]
        )


@helper
def _blend_rows(one, two, three, four, weights, out):
    """Blend four rows."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for k in range(out.size):
        out[k] = w0 * one[k] + w1 * two[k] + w2 * three[k] + w3 * four[k]


@helper
def _blend_plane(along, f, weights, y0, y1, out):
    """Blend rows y0 up to y1 of the four planes from `f` on into `out` (3, y, Z)."""
    for c in range(3):
        for j in range(y0, y1):
            _blend_rows(
                along[c, f, j], along[c, f + 1, j], along[c, f + 2, j], along[c, f + 3, j], weights, out[c, j]
            )


@helper
def _locate(at, size, cell, fraction):
    """Cells and places within them of coordinates on an axis, held within it."""
    zero, end = at.dtype.type(0.0), at.dtype.type(size - 1)
    top = np.int32(max(size - 2, 0))
    for k in range(at.size):
        x = min(max(at[k], zero), end)
        i = min(np.int32(x), top)
        cell[k] = i
        fraction[k] = x - at.dtype.type(i)


@helper
def _flat_index(x, y, z, next_x, next_y, out):
    for k in range(out.size):
        out[k] = x[k] * next_x + y[k] * next_y + z[k]


@helper
def _locate_row(shape, at, cells, fractions):
    """Cells (4, n), last the flat index of their first corner, and fractions (3, n) of points (3, n)."""
    for c in range(3):
        _locate(at[c], shape[c], cells[c], fractions[c])
    _flat_index(cells[0], cells[1], cells[2], np.int32(shape[1] * shape[2]), np.int32(shape[2]), cells[3])


@helper
def _sample_row(flat, shape, index, fractions, out):
    """Trilinear samples at a row of points; `flat` is the image with its axes in one."""
    nx, ny, nz = shape
    # An axis of one voxel has no neighbour to go to.
    next_z = np.uint32(1 if nz > 1 else 0)
    next_y = np.uint32(nz if ny > 1 else 0)
    next_x = np.uint32(ny * nz if nx > 1 else 0)
    fx, fy, fz = fractions[0], fractions[1], fractions[2]
    for k in range(out.size):
        p = np.uint32(index[k])
        q = p + next_y
        r = p + next_x
        s = r + next_y
        c00 = flat[p] + (flat[p + next_z] - flat[p]) * fz[k]
        c01 = flat[q] + (flat[q + next_z] - flat[q]) * fz[k]
        c10 = flat[r] + (flat[r + next_z] - flat[r]) * fz[k]
        c11 = flat[s] + (flat[s + next_z] - flat[s]) * fz[k]
        c0 = c00 + (c01 - c00) * fy[k]
        c1 = c10 + (c11 - c10) * fy[k]
        out[k] = c0 + (c1 - c0) * fx[k]


@helper
def _place(start, step, matrix, ux, uy, uz, out):
    """One coordinate of a row's displaced points."""
    m0, m1, m2 = matrix[0], matrix[1], matrix[2]
    for k in range(out.size):
        out[k] = start + step * np.float32(k) + m0 * ux[k] + m1 * uy[k] + m2 * uz[k]


@kernel
def warp_through_lattice(
    images: tuple[Array, ...],
    values: Array,
    x_first: Array,
    x_weights: Array,
    y_first: Array,
    y_weights: Array,
    z_first: Array,
    z_weights: Array,
    matrix: Array,
    spans: Array,
    outs: tuple[Array, ...],
) -> None:
    """Sample images at ``M (i, j, k, 1) + L u(i, j, k)``, u interpolated from a coarse lattice.

    Where the points lie is found once for all images.

    Parameters
    ----------
    images
        (X', Y', Z') float32 each; beyond the border its nearest voxel continues.
    values
        (3, x, y, z) float32 lattice values of u.
    x_first, x_weights, ...
        (X,) int64 and (X, 4) float32: the stencil of each image axis.
    matrix
        (3, 7) float32: columns 0-3 M (image lattice to voxels of the images), columns 4-6 L (units of u to
        voxels).
    spans
        See the top of this module.
    outs
        (X, Y, Z) float32 each, written within the spans.
    """
    nx, ny, nz = outs[0].shape
    _, px, py, _ = values.shape
    shape = images[0].shape
    along = np.empty((3, px, py, nz), values.dtype)
    for p in prange(px):
        for c in range(3):
            for q in range(py):
                _blend_along(values[c, p, q], z_first, z_weights, along[c, p, q])
    for i in prange(nx):
        plane = np.empty((3, py, nz), values.dtype)
        line = np.empty((3, nz), values.dtype)
        at = np.empty((3, nz), values.dtype)
        cells = np.empty((4, nz), np.int32)
        fractions = np.empty((3, nz), values.dtype)
        y0, y1 = py, 0
        for j in range(ny):
            if spans[i, j, 0] < spans[i, j, 1]:
                y0, y1 = min(y0, y_first[j]), max(y1, y_first[j] + 4)
        _blend_plane(along, x_first[i], x_weights[i], y0, y1, plane)
        for j in range(ny):
            k0, k1 = spans[i, j, 0], spans[i, j, 1]
            if k0 >= k1:
                continue
            f, n = y_first[j], k1 - k0
            for c in range(3):
                one, two = plane[c, f, k0:k1], plane[c, f + 1, k0:k1]
                three, four = plane[c, f + 2, k0:k1], plane[c, f + 3, k0:k1]
                _blend_rows(one, two, three, four, y_weights[j], line[c, :n])
            for c in range(3):
                m = matrix[c]
                start = m[0] * i + m[1] * j + m[2] * k0 + m[3]
                _place(start, m[2], m[4:], line[0, :n], line[1, :n], line[2, :n], at[c, :n])
            _locate_row(shape, at[:, :n], cells[:, :n], fractions[:, :n])
            for t in range(len(images)):
                flat = images[t].reshape(images[t].size)
                _sample_row(flat, shape, cells[3, :n], fractions[:, :n], outs[t][i, j, k0:k1])


@kernel
def upsample(
    values: Array,
    x_first: Array,
    x_weights: Array,
    y_first: Array,
    y_weights: Array,
    z_first: Array,
    z_weights: Array,
) -> Array:
    """Interpolate lattice vectors at every point of an image lattice.

    Parameters
    ----------
    values
        (3, x, y, z) float32.
    x_first, x_weights, ...
        As `warp_through_lattice`.

    Returns
    -------
    (X, Y, Z, 3) float32.
    """
    nx, ny, nz = x_first.shape[0], y_first.shape[0], z_first.shape[0]
    _, px, py, _ = values.shape
    out = np.empty((nx, ny, nz, 3), np.float32)
    along = np.empty((3, px, py, nz), values.dtype)
    for p in prange(px):
        for c in range(3):
            for q in range(py):
                _blend_along(values[c, p, q], z_first, z_weights, along[c, p, q])
    for i in prange(nx):
        plane = np.empty((3, py, nz), values.dtype)
        line = np.empty((3, nz), values.dtype)
        _blend_plane(along, x_first[i], x_weights[i], 0, py, plane)
        for j in range(ny):
            f = y_first[j]
            for c in range(3):
                _blend_rows(
                    plane[c, f], plane[c, f + 1], plane[c, f + 2], plane[c, f + 3], y_weights[j], line[c]
                )
            to = out[i, j]
            for k in range(nz):
                for c in range(3):
                    to[k, c] = line[c, k]
    return out


@helper
def _add_product(derivative, before, after, factor, out):
    for k in range(out.size):
        out[k] += derivative[k] * factor * (after[k] - before[k])


@helper
def _add_force(derivative, warped, factor, i, j, k0, k1, force):
    """Add ``factor * derivative * (neighbour after - neighbour before)`` along each axis in part of a row."""
    nx, ny, nz = warped.shape
    d = derivative[i, j, k0:k1]
    before, after = warped[max(i - 1, 0), j, k0:k1], warped[min(i + 1, nx - 1), j, k0:k1]
    _add_product(d, before, after, factor[0], force[0])
    before, after = warped[i, max(j - 1, 0), k0:k1], warped[i, min(j + 1, ny - 1), k0:k1]
    _add_product(d, before, after, factor[1], force[1])
    here, f = warped[i, j], force[2]
    a, b = max(k0, 1), min(k1, nz - 1)
    if a < b:
        _add_product(
            d[a - k0 : b - k0], here[a - 1 : b - 1], here[a + 1 : b + 1], factor[2], f[a - k0 : b - k0]
        )
    if k0 == 0:
        f[0] += d[0] * factor[2] * (here[min(1, nz - 1)] - here[0])
    if k1 == nz and nz > 1:
        f[nz - 1 - k0] += d[nz - 1 - k0] * factor[2] * (here[nz - 1] - here[nz - 2])


@helper
def _add_row(row, weight, out):
    for k in range(out.size):
        out[k] += weight * row[k]


@helper
def _pool_along(row, first, weights, out):
    """The transpose of `_blend_along`, added to a lattice row."""
    for k in range(row.size):
        v = row[k]
        f = np.uint32(first[k])
        out[f] += weights[k, 0] * v
        out[f + np.uint32(1)] += weights[k, 1] * v
        out[f + np.uint32(2)] += weights[k, 2] * v
        out[f + np.uint32(3)] += weights[k, 3] * v


@kernel
def pool_force(
    derivatives: tuple[Array, ...],
    images: tuple[Array, ...],
    shares: Array,
    x_first: Array,
    x_weights: Array,
    y_first: Array,
    y_weights: Array,
    z_first: Array,
    z_weights: Array,
    shape: tuple[int, int, int],
    scale: Array,
    spans: Array,
) -> Array:
    """Gather ``sum share * derivative * grad(image)`` on the coarse lattice: the transpose of `upsample`.

    Parameters
    ----------
    derivatives, images
        (X, Y, Z) float32 each; gradients are by central differences, one-sided (halved) at the border.
    shares
        (n,) float32, one for each of them.
    x_first, x_weights, ...
        As `warp_through_lattice`.
    shape
        (x, y, z) of the lattice.
    scale
        (3,) float32: factor of each component.
    spans
        Where derivatives may differ from zero; the gradient there looks one voxel further.

    Returns
    -------
    (3, x, y, z) float32.
    """
    nx, ny, nz = images[0].shape
    dtype = shares.dtype
    px, py, pz = shape
    factors = np.empty((shares.size, 3), dtype)
    for t in range(shares.size):
        for c in range(3):
            factors[t, c] = shares[t] * scale[c] * dtype.type(0.5)
    # Of one size and even in number: two threads get the same.
    slabs = min(2 * ((nx + 2 * _SLAB - 1) // (2 * _SLAB)), nx)
    bounds = np.empty(slabs + 1, np.int64)
    for slab in range(slabs + 1):
        bounds[slab] = nx * slab // slabs
    depth = 0
    for slab in range(slabs):
        depth = max(depth, x_first[bounds[slab + 1] - 1] + 4 - x_first[bounds[slab]])
    parts = np.empty((slabs, depth, 3, py, nz), dtype)
    for slab in prange(slabs):
        parts[slab] = 0
        base = x_first[bounds[slab]]
        rows = np.zeros((3, py, nz), dtype)
        force = np.zeros((3, nz), dtype)
        for i in range(bounds[slab], bounds[slab + 1]):
            # What of `rows` is in use: lattice rows y0 up to y1, image columns z0 up to z1.
            y0, y1, z0, z1 = py, 0, nz, 0
            for j in range(ny):
                k0, k1 = spans[i, j, 0], spans[i, j, 1]
                if k0 >= k1:
                    continue
                f, n = y_first[j], k1 - k0
                z0, z1 = min(z0, k0), max(z1, k1)
                y0, y1 = min(y0, f), max(y1, f + 4)
                force[:, :n] = 0
                for t in range(len(images)):
                    _add_force(derivatives[t], images[t], factors[t], i, j, k0, k1, force[:, :n])
                for c in range(3):
                    for t in range(4):
                        _add_row(force[c, :n], y_weights[j, t], rows[c, f + t, k0:k1])
            at = x_first[i] - base
            for c in range(3):
                for j in range(y0, y1):
                    row = rows[c, j, z0:z1]
                    for t in range(4):
                        _add_row(row, x_weights[i, t], parts[slab, at + t, c, j, z0:z1])
                    row[:] = 0
    one = shares.dtype.type(1.0)
    out = np.empty((3, px, py, pz), dtype)
    for p in prange(px):
        row = np.empty(nz, dtype)
        for c in range(3):
            out[c, p] = 0
            for j in range(py):
                row[:] = 0
                for slab in range(slabs):
                    t = p - x_first[bounds[slab]]
                    if 0 <= t < depth:
                        _add_row(parts[slab, t, c, j], one, row)
                _pool_along(row, z_first, z_weights, out[c, p, j])
    return out
