"""What a descent does to vector fields between two evaluations of its energy, in one pass each.

Vector fields are (3, X, Y, Z), float32 or float64. Rows along the last axis are neighbours in memory; loops
over them go from zero over slices, because only such loops does the compiler turn into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["advance", "blurred_length", "downhill", "even_out", "pairing", "squared_lengths"]

Array = NDArray[Any]


@helper
def _add(row, weight, out):
    for k in range(out.size):
        out[k] += weight * row[k]


@helper
def _squared_length(x, y, z, out):
    for k in range(out.size):
        out[k] = x[k] * x[k] + y[k] * y[k] + z[k] * z[k]


@helper
def _downhill(force, momentum, places, weight, out):
    for k in range(out.size):
        out[k] = (force[k] - weight * momentum[k]) * places[k]


@kernel
def downhill(force: Array, momentum: Array, places: Array, weight: float) -> Array:
    """``(force - weight momentum) places``; `places` is (X, Y, Z)."""
    _, nx, ny, nz = force.shape
    out = np.empty((3, nx, ny, nz), force.dtype)
    w = force.dtype.type(weight)
    for i in prange(nx):
        for c in range(3):
            for j in range(ny):
                _downhill(force[c, i, j], momentum[c, i, j], places[i, j], w, out[c, i, j])
    return out


@kernel
def squared_lengths(vectors: Array) -> Array:
    """(X,) the largest squared length of a vector in each slab."""
    _, nx, ny, nz = vectors.shape
    out = np.zeros(nx, vectors.dtype)
    for i in prange(nx):
        row = np.empty(nz, vectors.dtype)
        most = vectors.dtype.type(0.0)
        for j in range(ny):
            _squared_length(vectors[0, i, j], vectors[1, i, j], vectors[2, i, j], row)
            most = max(most, row.max())
        out[i] = most
    return out


@kernel
def blurred_length(vectors: Array, weights: Array) -> Array:
    """Lengths of vectors, averaged over their neighbourhood by a separable filter; the border continues.

    Parameters
    ----------
    vectors
        (3, X, Y, Z).
    weights
        (2 r + 1,) along each axis.

    Returns
    -------
    (X, Y, Z).
    """
    _, nx, ny, nz = vectors.shape
    size = weights.size
    reach = size // 2
    plane = np.empty((nx, ny, nz), vectors.dtype)
    for i in prange(nx):
        line = np.empty(nz + 2 * reach, vectors.dtype)
        along = np.zeros((ny, nz), vectors.dtype)
        for j in range(ny):
            inner = line[reach : reach + nz]
            _squared_length(vectors[0, i, j], vectors[1, i, j], vectors[2, i, j], inner)
            for k in range(nz):
                inner[k] = np.sqrt(inner[k])
            line[:reach] = inner[0]
            line[reach + nz :] = inner[nz - 1]
            for t in range(size):
                _add(line[t : t + nz], weights[t], along[j])
        for j in range(ny):
            row = plane[i, j]
            row[:] = 0
            for t in range(size):
                _add(along[min(max(j + t - reach, 0), ny - 1)], weights[t], row)
    out = np.empty((nx, ny, nz), vectors.dtype)
    for i in prange(nx):
        out[i] = 0
        for t in range(size):
            p = min(max(i + t - reach, 0), nx - 1)
            for j in range(ny):
                _add(plane[p, j], weights[t], out[i, j])
    return out


@helper
def _divide(values, by, unit, floor):
    for k in range(values.size):
        values[k] /= by[k] * unit + floor


@kernel
def even_out(vectors: Array, lengths: Array, unit: float, floor: float) -> None:
    """Divide each vector by ``unit lengths + floor``, in place; `lengths` is (X, Y, Z)."""
    _, nx, ny, _ = vectors.shape
    u, f = vectors.dtype.type(unit), vectors.dtype.type(floor)
    for i in prange(nx):
        for c in range(3):
            for j in range(ny):
                _divide(vectors[c, i, j], lengths[i, j], u, f)


@helper
def _advance(value, direction, keep, scale, update, out):
    for k in range(out.size):
        change = keep * update[k] + scale * direction[k]
        update[k] = change
        out[k] = value[k] + change


@kernel
def advance(value: Array, update: Array, direction: Array, keep: float, scale: float) -> Array:
    """``value + u`` with ``u = keep update + scale direction``, which is written to `update`."""
    _, nx, ny, nz = value.shape
    out = np.empty((3, nx, ny, nz), value.dtype)
    k, s = value.dtype.type(keep), value.dtype.type(scale)
    for i in prange(nx):
        for c in range(3):
            for j in range(ny):
                _advance(value[c, i, j], direction[c, i, j], k, s, update[c, i, j], out[c, i, j])
    return out


@kernel
def pairing(one: Array, other: Array) -> Array:
    """(X,) float64: the sum of the products of two fields over each slab."""
    _, nx, ny, nz = one.shape
    out = np.zeros(nx)
    for i in prange(nx):
        products = np.zeros(nz)
        for c in range(3):
            for j in range(ny):
                a, b = one[c, i, j], other[c, i, j]
                for k in range(nz):
                    products[k] += np.float64(a[k]) * np.float64(b[k])
        out[i] = products.sum()
    return out
