"""Surface elements of a label: marching-cubes codes on voxel corners, and how far surfaces are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import kernel, prange

__all__ = ["FAR", "distance_histogram", "label_surface"]

Array = NDArray[Any]

FAR = 255
"""Of `label_surface`'s runs: no surface on this line, or none within so many corners."""


@kernel
def label_surface(labels: Array, label: int, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Which of the eight voxels around each corner of a box's voxels carry a label.

    Parameters
    ----------
    labels
        (X, Y, Z) integer labels.
    label
        The label.
    lower, upper
        (3,) int64: the box ``lower <= index < upper``; whatever lies outside it does not count.

    Returns
    -------
    codes
        (A, B, C) uint8 on the corners, one more than voxels along each axis. Bit ``4 dz + 2 dx + dy`` of
        corner (a, b, c) stands for voxel ``lower + (a - 1 + dx, b - 1 + dy, c - 1 + dz)``.
    runs
        (A, B, C) uint8: corners along z to the nearest one where the surface passes (code neither 0
        nor 255), at most `FAR`.
    """
    shape = (upper[0] - lower[0] + 1, upper[1] - lower[1] + 1, upper[2] - lower[2] + 1)
    codes = np.empty(shape, np.uint8)
    runs = np.empty(shape, np.uint8)
    for a in prange(shape[0]):
        # Along a line, whether the voxels (i - 1 | i, j - 1 | j) carry the label: four bits, shifted by one.
        column = np.empty(shape[2] + 1, np.uint8)
        for b in range(shape[1]):
            column[:] = 0
            for bit in range(4):
                i = a - 1 + (bit >> 1)
                j = b - 1 + (bit & 1)
                if 0 <= i < shape[0] - 1 and 0 <= j < shape[1] - 1:
                    line = labels[lower[0] + i, lower[1] + j, lower[2] : upper[2]]
                    mark = np.uint8(1 << bit)
                    for k in range(shape[2] - 1):
                        column[k + 1] |= mark if line[k] == label else np.uint8(0)
            run = 255
            met = False
            for c in range(shape[2]):
                code = np.uint8(column[c] | (column[c + 1] << 4))
                passes = code != 0 and code != 255
                met |= passes
                run = 0 if passes else min(run + 1, 255)
                codes[a, b, c] = code
                runs[a, b, c] = run
            if met:
                run = 255
                for c in range(shape[2] - 1, -1, -1):
                    run = min(run + 1, int(runs[a, b, c]))
                    runs[a, b, c] = run
    return codes, runs


@kernel
def distance_histogram(
    codes: Array, runs: Array, steps: Array, reach: int, classes: Array, n_classes: int
) -> Array:
    """Count the corners on one surface by their distance to another, up to a reach.

    The nearest corner lies some steps away in x and y, and from there ``runs`` away along z: lines are
    visited from the nearest outwards until none can be nearer.

    Parameters
    ----------
    codes
        (A, B, C) uint8: the surface to start from, by `label_surface`.
    runs
        (A, B, C) uint8: of the surface to reach.
    steps
        (N, 3) int64: steps in x and y and their squared length, ascending, all up to `reach` squared.
    reach
        Distances above it, in corners, are not told apart.
    classes
        (256,) int64: the class in which a code is counted.

    Returns
    -------
    (A, reach² + 2, n_classes) int32: corners of each slab by squared distance and class; the last row
    holds those that are further than `reach`.
    """
    na, nb, nc = codes.shape
    limit = reach * reach + 1
    out = np.zeros((na, limit + 1, n_classes), np.int32)
    for a in prange(na):
        for b in range(nb):
            for c in range(nc):
                code = codes[a, b, c]
                if code == 0 or code == 255:
                    continue
                best = limit
                for s in range(steps.shape[0]):
                    far = steps[s, 2]
                    if far >= best:
                        break
                    x = a + steps[s, 0]
                    y = b + steps[s, 1]
                    if 0 <= x < na and 0 <= y < nb:
                        run = np.int64(runs[x, y, c])
                        best = min(best, far + run * run)
                out[a, best, classes[code]] += 1
    return out
