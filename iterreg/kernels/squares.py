"""Squared differences of two images, and their derivative by both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import helper, kernel, prange

__all__ = ["squared_differences"]

Array = NDArray[Any]


@helper
def _weighted(fixed, moving, weight, out):
    for k in range(out.size):
        out[k] = weight[k] * (moving[k] - fixed[k])


@helper
def _negative(values, out):
    for k in range(out.size):
        out[k] = -values[k]


@helper
def _sum_of_products(fixed, moving, weighted):
    total = 0.0
    for k in range(weighted.size):
        total += np.float64(weighted[k]) * np.float64(moving[k] - fixed[k])
    return total


@kernel
def squared_differences(
    fixed: Array, moving: Array, weight: Array, spans: Array, by_moving: Array, by_fixed: Array, both: bool
) -> Array:
    """``weight (moving - fixed)^2 / 2`` over each slab, and its derivatives.

    Parameters
    ----------
    fixed, moving, weight
        (X, Y, Z).
    spans
        (X, Y, 2) int32: the part of each row that is looked at.
    by_moving, by_fixed
        (X, Y, Z), written within the spans; `by_fixed` only with `both`.

    Returns
    -------
    (X,) float64.
    """
    nx, ny, _ = weight.shape
    out = np.zeros(nx)
    for i in prange(nx):
        total = 0.0
        for j in range(ny):
            a, b = spans[i, j, 0], spans[i, j, 1]
            if a >= b:
                continue
            f, m, d = fixed[i, j, a:b], moving[i, j, a:b], by_moving[i, j, a:b]
            _weighted(f, m, weight[i, j, a:b], d)
            total += _sum_of_products(f, m, d)
            if both:
                _negative(d, by_fixed[i, j, a:b])
        out[i] = 0.5 * total
    return out
