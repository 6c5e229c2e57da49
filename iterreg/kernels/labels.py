"""One pass over two label volumes: counts and boxes of every label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import kernel, prange

__all__ = ["overlap_table"]

Array = NDArray[Any]


@kernel
def overlap_table(
    first: Array, second: Array, slots: Array, lowest: int, n_slots: int
) -> tuple[Array, Array]:
    """Count every label in two volumes and in their intersection, and find its box, slab by slab.

    Parameters
    ----------
    first, second
        (X, Y, Z) integer labels.
    slots
        (L,) int32: the slot of label ``lowest + i``, -1 for labels that nobody asks for.
    lowest, n_slots
        Label of ``slots[0]``; number of slots.

    Returns
    -------
    counts
        (X, n_slots, 3) int64: voxels in `first`, in `second`, in both, in each slab.
    boxes
        (X, n_slots, 4) int32: lowest y, highest y, lowest z, highest z where either has the label; the
        lowest exceeds the highest in slabs without it.
    """
    nx, ny, nz = first.shape
    counts = np.zeros((nx, n_slots, 3), np.int64)
    boxes = np.empty((nx, n_slots, 4), np.int32)
    for i in prange(nx):
        for s in range(n_slots):
            boxes[i, s, 0] = ny
            boxes[i, s, 1] = -1
            boxes[i, s, 2] = nz
            boxes[i, s, 3] = -1
        for j in range(ny):
            for k in range(nz):
                a = slots[np.int64(first[i, j, k]) - lowest]
                b = slots[np.int64(second[i, j, k]) - lowest]
                if a >= 0:
                    counts[i, a, 0] += 1
                    boxes[i, a, 0] = min(boxes[i, a, 0], j)
                    boxes[i, a, 1] = max(boxes[i, a, 1], j)
                    boxes[i, a, 2] = min(boxes[i, a, 2], k)
                    boxes[i, a, 3] = max(boxes[i, a, 3], k)
                if b >= 0:
                    counts[i, b, 1] += 1
                    if a == b:
                        counts[i, b, 2] += 1
                    else:
                        boxes[i, b, 0] = min(boxes[i, b, 0], j)
                        boxes[i, b, 1] = max(boxes[i, b, 1], j)
                        boxes[i, b, 2] = min(boxes[i, b, 2], k)
                        boxes[i, b, 3] = max(boxes[i, b, 3], k)
    return counts, boxes
