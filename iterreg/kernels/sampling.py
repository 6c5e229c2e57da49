"""Sampling volumes and fields at displaced voxels: trilinear and nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["compose", "sample_field", "sample_labels_linear", "sample_labels_nearest", "sample_linear"]

Array = NDArray[Any]


@helper
def _cell(x, n):
    """Lower corner and fraction of coordinate `x` (inside [0, n - 1]) along an axis of n voxels."""
    i = int(np.floor(x))
    i = min(max(i, 0), max(n - 2, 0))
    return i, min(i + 1, n - 1), x - i


@kernel
def sample_linear(image: Array, displacement: Array, fill: float) -> Array:
    """Sample `image` at ``p + u(p)`` by trilinear interpolation.

    Parameters
    ----------
    image
        (X', Y', Z') float32, the moving image.
    displacement
        (X, Y, Z, 3) float32, u in moving voxels on the fixed grid.
    fill
        Value wherever ``p + u(p)`` leaves [0, n - 1] (as scipy's ``mode="constant"``).

    Returns
    -------
    (X, Y, Z) float32.
    """
    nx, ny, nz, _ = displacement.shape
    mx, my, mz = image.shape
    out = np.empty((nx, ny, nz), np.float32)
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                x = i + np.float64(displacement[i, j, k, 0])
                y = j + np.float64(displacement[i, j, k, 1])
                z = k + np.float64(displacement[i, j, k, 2])
                if not (0 <= x <= mx - 1 and 0 <= y <= my - 1 and 0 <= z <= mz - 1):
                    out[i, j, k] = fill
                    continue
                x0, x1, fx = _cell(x, mx)
                y0, y1, fy = _cell(y, my)
                z0, z1, fz = _cell(z, mz)
                c00 = image[x0, y0, z0] * (1 - fz) + image[x0, y0, z1] * fz
                c01 = image[x0, y1, z0] * (1 - fz) + image[x0, y1, z1] * fz
                c10 = image[x1, y0, z0] * (1 - fz) + image[x1, y0, z1] * fz
                c11 = image[x1, y1, z0] * (1 - fz) + image[x1, y1, z1] * fz
                c0 = c00 * (1 - fy) + c01 * fy
                c1 = c10 * (1 - fy) + c11 * fy
                out[i, j, k] = c0 * (1 - fx) + c1 * fx
    return out


@kernel
def sample_labels_nearest(labels: Array, displacement: Array) -> Array:
    """Sample a label volume at the voxel nearest to ``p + u(p)``.

    The challenge's rule (scipy's ``map_coordinates(order=0, mode="constant")``): 0 wherever the
    point leaves [0, n - 1], however little, and halves round up. Coordinates are summed in float64.

    Parameters
    ----------
    labels
        (X', Y', Z') integer labels on the moving grid.
    displacement
        (X, Y, Z, 3) float32, u in moving voxels on the fixed grid.
    """
    nx, ny, nz, _ = displacement.shape
    mx, my, mz = labels.shape
    out = np.zeros((nx, ny, nz), labels.dtype)
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                x = i + np.float64(displacement[i, j, k, 0])
                y = j + np.float64(displacement[i, j, k, 1])
                z = k + np.float64(displacement[i, j, k, 2])
                if 0 <= x <= mx - 1 and 0 <= y <= my - 1 and 0 <= z <= mz - 1:
                    out[i, j, k] = labels[
                        int(np.floor(x + 0.5)), int(np.floor(y + 0.5)), int(np.floor(z + 0.5))
                    ]
    return out


@kernel
def sample_labels_linear(labels: Array, displacement: Array) -> Array:
    """Sample a label volume by one-hot trilinear interpolation and argmax.

    Each of the eight corners votes for its label with its trilinear weight; corners outside the grid do
    not vote (as in torch's ``grid_sample``, which pads every channel with zeros); the smallest label wins a
    tie (as ``argmax`` over channels in label order); 0 where nobody votes.

    Parameters
    ----------
    labels
        (X', Y', Z') integer labels on the moving grid.
    displacement
        (X, Y, Z, 3) float32, u in moving voxels on the fixed grid.
    """
    nx, ny, nz, _ = displacement.shape
    mx, my, mz = labels.shape
    out = np.zeros((nx, ny, nz), labels.dtype)
    for i in prange(nx):
        names = np.empty(8, labels.dtype)
        votes = np.empty(8, np.float64)
        for j in range(ny):
            for k in range(nz):
                x = i + np.float64(displacement[i, j, k, 0])
                y = j + np.float64(displacement[i, j, k, 1])
                z = k + np.float64(displacement[i, j, k, 2])
                if not (-1 < x < mx and -1 < y < my and -1 < z < mz):
                    continue
                x0 = int(np.floor(x))
                y0 = int(np.floor(y))
                z0 = int(np.floor(z))
                if x0 >= 0 and x0 + 1 < mx and y0 >= 0 and y0 + 1 < my and z0 >= 0 and z0 + 1 < mz:
                    # Most cells hold one label: no need to count.
                    first = labels[x0, y0, z0]
                    if (
                        labels[x0, y0, z0 + 1] == first
                        and labels[x0, y0 + 1, z0] == first
                        and labels[x0, y0 + 1, z0 + 1] == first
                        and labels[x0 + 1, y0, z0] == first
                        and labels[x0 + 1, y0, z0 + 1] == first
                        and labels[x0 + 1, y0 + 1, z0] == first
                        and labels[x0 + 1, y0 + 1, z0 + 1] == first
                    ):
                        out[i, j, k] = first
                        continue
                used = 0
                for corner in range(8):
                    dx = corner & 1
                    dy = (corner >> 1) & 1
                    dz = corner >> 2
                    a = x0 + dx
                    b = y0 + dy
                    c = z0 + dz
                    weight = (
                        (x - x0 if dx else x0 + 1 - x)
                        * (y - y0 if dy else y0 + 1 - y)
                        * (z - z0 if dz else z0 + 1 - z)
                    )
                    if not (0 <= a < mx and 0 <= b < my and 0 <= c < mz) or weight == 0.0:
                        continue
                    name = labels[a, b, c]
                    slot = used
                    for s in range(used):
                        if names[s] == name:
                            slot = s
                            break
                    if slot == used:
                        names[used] = name
                        votes[used] = 0.0
                        used += 1
                    votes[slot] += weight
                best = 0
                for s in range(1, used):
                    if votes[s] > votes[best] or (votes[s] == votes[best] and names[s] < names[best]):
                        best = s
                if used:
                    out[i, j, k] = names[best]
    return out


@helper
def _clamp(x, n):
    return min(max(x, 0.0), n - 1.0)


@helper
def _trilinear(field, x0, x1, fx, y0, y1, fy, z0, z1, fz, c):
    """Component `c` of a field inside one cell."""
    c00 = field[x0, y0, z0, c] * (1 - fz) + field[x0, y0, z1, c] * fz
    c01 = field[x0, y1, z0, c] * (1 - fz) + field[x0, y1, z1, c] * fz
    c10 = field[x1, y0, z0, c] * (1 - fz) + field[x1, y0, z1, c] * fz
    c11 = field[x1, y1, z0, c] * (1 - fz) + field[x1, y1, z1, c] * fz
    return (c00 * (1 - fy) + c01 * fy) * (1 - fx) + (c10 * (1 - fy) + c11 * fy) * fx


@kernel
def sample_field(deviation: Array, points: Array) -> Array:
    """Sample a vector field at points by trilinear interpolation, constant beyond the border.

    Parameters
    ----------
    deviation
        (X, Y, Z, 3) float32.
    points
        (N, 3) float64 voxel coordinates.

    Returns
    -------
    (N, 3) float64.
    """
    n = points.shape[0]
    out = np.empty((n, 3), np.float64)
    for i in prange(n):
        x0, x1, fx = _cell(_clamp(points[i, 0], deviation.shape[0]), deviation.shape[0])
        y0, y1, fy = _cell(_clamp(points[i, 1], deviation.shape[1]), deviation.shape[1])
        z0, z1, fz = _cell(_clamp(points[i, 2], deviation.shape[2]), deviation.shape[2])
        for c in range(3):
            out[i, c] = _trilinear(deviation, x0, x1, fx, y0, y1, fy, z0, z1, fz, c)
    return out


@kernel
def compose(first: Array, second_deviation: Array, second_affine: Array) -> Array:
    """Compose two displacement fields: first ``q = p + u1(p)``, then ``r = A q + d2(q)``.

    Parameters
    ----------
    first
        (X, Y, Z, 3) float32, u1.
    second_deviation
        (X', Y', Z', 3) float32, d2: what the second map adds to the affine `second_affine`; it is
        held constant beyond its border, so that a point outside keeps the nearest deviation.
    second_affine
        (3, 4) float64, A.

    Returns
    -------
    (X, Y, Z, 3) float32, ``r - p``.
    """
    nx, ny, nz, _ = first.shape
    mx, my, mz, _ = second_deviation.shape
    out = np.empty((nx, ny, nz, 3), np.float32)
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                x = i + np.float64(first[i, j, k, 0])
                y = j + np.float64(first[i, j, k, 1])
                z = k + np.float64(first[i, j, k, 2])
                x0, x1, fx = _cell(_clamp(x, mx), mx)
                y0, y1, fy = _cell(_clamp(y, my), my)
                z0, z1, fz = _cell(_clamp(z, mz), mz)
                for c in range(3):
                    p = i if c == 0 else (j if c == 1 else k)
                    a = (
                        second_affine[c, 0] * x
                        + second_affine[c, 1] * y
                        + second_affine[c, 2] * z
                        + second_affine[c, 3]
                    )
                    d = _trilinear(second_deviation, x0, x1, fx, y0, y1, fy, z0, z1, fz, c)
                    out[i, j, k, c] = (a - p) + d
    return out
