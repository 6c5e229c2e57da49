"""From NIfTI files' order in memory (x fastest, components slowest) to iterreg's (components fastest)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels._compile import kernel, prange

__all__ = ["components_last"]

Array = NDArray[Any]


@kernel
def components_last(planes: Array) -> Array:
    """Turn (C, Z, Y, X) into (X, Y, Z, C), both contiguous.

    It goes by tiles of 16 x 16 voxels in x and z, which stay in the processor's cache: several times
    faster than numpy's copy.
    """
    nc, nz, ny, nx = planes.shape
    out = np.empty((nx, ny, nz, nc), planes.dtype)
    for tile in prange((nx + 15) // 16):
        x0 = 16 * tile
        x1 = min(x0 + 16, nx)
        for y in range(ny):
            for z0 in range(0, nz, 16):
                for c in range(nc):
                    for z in range(z0, min(z0 + 16, nz)):
                        for x in range(x0, x1):
                            out[x, y, z, c] = planes[c, z, y, x]
    return out
