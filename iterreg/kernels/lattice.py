"""Between a coarse control lattice and a finer image lattice, both axis-aligned: cubic convolution.

A lattice function is a (3, X, Y, Z) array of vectors, float32 (or, with everything else, float64). Between
lattice points it is Keys's cubic convolution (a = -1/2; Keys, IEEE Trans. ASSP 29, 1981): interpolating,
with continuous derivatives, third-order accurate. Along every axis a *stencil* gives, for each image
index, the first of four lattice indices and their weights; `iterreg.lddmm.lattice` makes it once. *Spans*,
(X, Y, 2) int32, say which voxels of each image row matter: from the first number up to, not including, the
second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["pool_force", "upsample", "warp_through_lattice"]

Array = NDArray[Any]

_SLAB = 16


@helper
def _blend_plane(values, first, weights, i, out):
    """Blend four x planes of `values` for image index `i` into `out` (3, Y, Z)."""
    f = first[i]
    w0, w1, w2, w3 = weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3]
    for c in range(3):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[c, j, k] = (
                    w0 * values[c, f, j, k]
                    + w1 * values[c, f + 1, j, k]
                    + w2 * values[c, f + 2, j, k]
                    + w3 * values[c, f + 3, j, k]
                )


@helper
def _blend_row(plane, first, weights, j, out):
    """Blend four y rows of `plane` for image index `j` into `out` (3, Z)."""
    f = first[j]
    w0, w1, w2, w3 = weights[j, 0], weights[j, 1], weights[j, 2], weights[j, 3]
    for c in range(3):
        for k in range(out.shape[1]):
            out[c, k] = (
                w0 * plane[c, f, k]
                + w1 * plane[c, f + 1, k]
                + w2 * plane[c, f + 2, k]
                + w3 * plane[c, f + 3, k]
            )


@helper
def _blend_line(row, first, weights, k0, k1, out):
    """Blend four z values of `row` for image indices from k0 up to k1 into `out` (3, n)."""
    for k in range(k0, k1):
        f = np.uint32(first[k])
        w0, w1, w2, w3 = weights[k, 0], weights[k, 1], weights[k, 2], weights[k, 3]
        g, h, m = f + np.uint32(1), f + np.uint32(2), f + np.uint32(3)
        for c in range(3):
            out[c, k] = w0 * row[c, f] + w1 * row[c, g] + w2 * row[c, h] + w3 * row[c, m]


@helper
def _sample_row(flat, shape, at, k0, k1, out):
    """Trilinear samples at points k0 up to k1 of a row, the nearest border voxel beyond the border.

    `flat` is the image with its axes in one; `at` is (3, N). Unsigned indices and one flat axis let the
    compiler fetch many points at once.
    """
    nx, ny, nz = shape
    # An axis of one voxel has no neighbour to go to.
    next_z = np.uint32(1 if nz > 1 else 0)
    next_y = np.uint32(nz if ny > 1 else 0)
    next_x = np.uint32(ny * nz if nx > 1 else 0)
    top_x, top_y, top_z = np.int32(max(nx - 2, 0)), np.int32(max(ny - 2, 0)), np.int32(max(nz - 2, 0))
    for k in range(k0, k1):
        x = min(max(at[0, k], np.float32(0.0)), np.float32(nx - 1))
        y = min(max(at[1, k], np.float32(0.0)), np.float32(ny - 1))
        z = min(max(at[2, k], np.float32(0.0)), np.float32(nz - 1))
        i = min(np.int32(x), top_x)
        j = min(np.int32(y), top_y)
        m = min(np.int32(z), top_z)
        fx = x - np.float32(i)
        fy = y - np.float32(j)
        fz = z - np.float32(m)
        p = np.uint32((i * np.int32(ny) + j) * np.int32(nz) + m)
        q = p + next_y
        r = p + next_x
        s = r + next_y
        c00 = flat[p] + (flat[p + next_z] - flat[p]) * fz
        c01 = flat[q] + (flat[q + next_z] - flat[q]) * fz
        c10 = flat[r] + (flat[r + next_z] - flat[r]) * fz
        c11 = flat[s] + (flat[s + next_z] - flat[s]) * fz
        c0 = c00 + (c01 - c00) * fy
        c1 = c10 + (c11 - c10) * fy
        out[k] = c0 + (c1 - c0) * fx


@kernel
def warp_through_lattice(
    image: Array,
    values: Array,
    x_first: Array,
    x_weights: Array,
    y_first: Array,
    y_weights: Array,
    z_first: Array,
    z_weights: Array,
    matrix: Array,
    spans: Array,
    out: Array,
) -> None:
    """Sample `image` at ``M (i, j, k, 1) + L u(i, j, k)``, u interpolated from a coarse lattice.

    Parameters
    ----------
    image
        (X', Y', Z') float32.
    values
        (3, x, y, z) float32 lattice values of u.
    x_first, x_weights, ...
        (X,) int64 and (X, 4) float32: the stencil of each image axis.
    matrix
        (3, 7) float32: columns 0-3 M (image lattice to voxels of `image`), columns 4-6 L (units of u to
        voxels).
    spans
        See the top of this module.
    out
        (X, Y, Z) float32, written within the spans.
    """
    nx, ny, nz = out.shape
    _, _, py, pz = values.shape
    flat = image.reshape(image.size)
    for i in prange(nx):
        plane = np.empty((3, py, pz), values.dtype)
        row = np.empty((3, pz), values.dtype)
        line = np.empty((3, nz), values.dtype)
        at = np.empty((3, nz), values.dtype)
        _blend_plane(values, x_first, x_weights, i, plane)
        m = matrix
        for j in range(ny):
            k0, k1 = spans[i, j, 0], spans[i, j, 1]
            if k0 >= k1:
                continue
            _blend_row(plane, y_first, y_weights, j, row)
            bx = m[0, 0] * i + m[0, 1] * j + m[0, 3]
            by = m[1, 0] * i + m[1, 1] * j + m[1, 3]
            bz = m[2, 0] * i + m[2, 1] * j + m[2, 3]
            _blend_line(row, z_first, z_weights, k0, k1, line)
            for k in range(k0, k1):
                ux, uy, uz = line[0, k], line[1, k], line[2, k]
                at[0, k] = bx + m[0, 2] * k + m[0, 4] * ux + m[0, 5] * uy + m[0, 6] * uz
                at[1, k] = by + m[1, 2] * k + m[1, 4] * ux + m[1, 5] * uy + m[1, 6] * uz
                at[2, k] = bz + m[2, 2] * k + m[2, 4] * ux + m[2, 5] * uy + m[2, 6] * uz
            _sample_row(flat, image.shape, at, k0, k1, out[i, j])


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
    _, _, py, pz = values.shape
    out = np.empty((nx, ny, nz, 3), np.float32)
    for i in prange(nx):
        plane = np.empty((3, py, pz), values.dtype)
        row = np.empty((3, pz), values.dtype)
        line = np.empty((3, nz), values.dtype)
        _blend_plane(values, x_first, x_weights, i, plane)
        for j in range(ny):
            _blend_row(plane, y_first, y_weights, j, row)
            _blend_line(row, z_first, z_weights, 0, nz, line)
            for k in range(nz):
                for c in range(3):
                    out[i, j, k, c] = line[c, k]
    return out


@helper
def _add_force(derivative, warped, factor, i, j, k0, k1, force):
    """Add ``factor * derivative * (neighbour after - neighbour before)`` along each axis in part of a row."""
    nx, ny, nz = warped.shape
    before, after = warped[max(i - 1, 0), j], warped[min(i + 1, nx - 1), j]
    under, over = warped[i, max(j - 1, 0)], warped[i, min(j + 1, ny - 1)]
    here = warped[i, j]
    d = derivative[i, j]
    for k in range(k0, k1):
        h = d[k] * factor
        force[0, k] += h * (after[k] - before[k])
        force[1, k] += h * (over[k] - under[k])
    for k in range(max(k0, 1), min(k1, nz - 1)):
        force[2, k] += d[k] * factor * (here[k + 1] - here[k - 1])
    if k0 == 0:
        force[2, 0] += d[0] * factor * (here[min(1, nz - 1)] - here[0])
    if k1 == nz and nz > 1:
        force[2, nz - 1] += d[nz - 1] * factor * (here[nz - 1] - here[nz - 2])


@kernel
def pool_force(
    derivative: Array,
    warped: Array,
    other_derivative: Array,
    other_warped: Array,
    both: bool,
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
    """Gather the force ``derivative * grad(warped)`` on the coarse lattice: the transpose of `upsample`.

    With `both` the other image's force is taken away: two images that move against each other.

    Parameters
    ----------
    derivative, warped
        (X, Y, Z) float32; the gradient is by central differences, one-sided (halved) at the border.
    other_derivative, other_warped
        The same of the other image; not looked at unless `both`.
    x_first, x_weights, ...
        As `warp_through_lattice`.
    shape
        (x, y, z) of the lattice.
    scale
        (3,) float32: factor of each component.
    spans
        Where `derivative` may differ from zero; the gradient there looks one voxel further.

    Returns
    -------
    (3, x, y, z) float32.
    """
    nx, ny, nz = warped.shape
    px, py, pz = shape
    slabs = (nx + _SLAB - 1) // _SLAB
    depth = 0
    for slab in range(slabs):
        depth = max(depth, x_first[min((slab + 1) * _SLAB, nx) - 1] + 4 - x_first[slab * _SLAB])
    parts = np.zeros((slabs, 3, depth, py, pz), warped.dtype)
    for slab in prange(slabs):
        base = x_first[slab * _SLAB]
        rows = np.zeros((3, py, nz), warped.dtype)
        plane = np.empty((3, py, pz), warped.dtype)
        force = np.zeros((3, nz), warped.dtype)
        half = warped.dtype.type(0.5)
        for i in range(slab * _SLAB, min((slab + 1) * _SLAB, nx)):
            # What of `rows` is in use: lattice rows y0 up to y1, image columns z0 up to z1.
            y0, y1, z0, z1 = py, 0, nz, 0
            for j in range(ny):
                k0, k1 = spans[i, j, 0], spans[i, j, 1]
                if k0 >= k1:
                    continue
                z0, z1 = min(z0, k0), max(z1, k1)
                y0, y1 = min(y0, y_first[j]), max(y1, y_first[j] + 4)
                for c in range(3):
                    for k in range(k0, k1):
                        force[c, k] = 0.0
                _add_force(derivative, warped, half, i, j, k0, k1, force)
                if both:
                    _add_force(other_derivative, other_warped, -half, i, j, k0, k1, force)
                for c in range(3):
                    for k in range(k0, k1):
                        force[c, k] *= scale[c]
                f = y_first[j]
                for c in range(3):
                    for t in range(4):
                        w = y_weights[j, t]
                        for k in range(k0, k1):
                            rows[c, f + t, k] += w * force[c, k]
            if y1 == 0:
                continue
            p0, p1 = z_first[z0], z_first[z1 - 1] + 4
            for c in range(3):
                for j in range(y0, y1):
                    for k in range(p0, p1):
                        plane[c, j, k] = 0.0
                    for k in range(z0, z1):
                        v = rows[c, j, k]
                        rows[c, j, k] = 0.0
                        f = z_first[k]
                        plane[c, j, f] += z_weights[k, 0] * v
                        plane[c, j, f + 1] += z_weights[k, 1] * v
                        plane[c, j, f + 2] += z_weights[k, 2] * v
                        plane[c, j, f + 3] += z_weights[k, 3] * v
            at = x_first[i] - base
            for t in range(4):
                w = x_weights[i, t]
                for c in range(3):
                    for j in range(y0, y1):
                        for k in range(p0, p1):
                            parts[slab, c, at + t, j, k] += w * plane[c, j, k]
    out = np.zeros((3, px, py, pz), warped.dtype)
    for j in prange(py):
        for slab in range(slabs):
            base = x_first[slab * _SLAB]
            for c in range(3):
                for t in range(min(depth, px - base)):
                    for k in range(pz):
                        out[c, base + t, j, k] += parts[slab, c, t, j, k]
    return out
