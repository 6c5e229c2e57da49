"""Sum of squared differences, for images of one contrast and scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels.squares import squared_differences
from iterreg.lddmm.lattice import whole_rows
from iterreg.lddmm.similarity.base import Comparison

__all__ = ["SSD"]

Array = NDArray[Any]


class SSD:
    """``sum(weight * (fixed - moving)^2) / 2``, in units of the images' variance.

    Parameters
    ----------
    shape
        Of the lattice.
    dtype
        Of the images.
    """

    def __init__(self, shape: tuple[int, int, int], *, dtype: Any = np.float32) -> None:
        # Zero outside the spans, which no comparison touches.
        self._by_moving, self._by_fixed = np.zeros(shape, dtype), np.zeros(shape, dtype)

    @property
    def reach(self) -> tuple[int, int, int]:
        """See `Similarity.reach`."""
        return (0, 0, 0)

    def compare(
        self, fixed: Array, moving: Array, weight: Array, *, both: bool, spans: Array | None = None
    ) -> Comparison:
        """See `Similarity.compare`."""
        spans = whole_rows(self._by_moving.shape) if spans is None else spans
        slabs = squared_differences(fixed, moving, weight, spans, self._by_moving, self._by_fixed, both)
        return Comparison(float(slabs.sum()), self._by_moving, self._by_fixed if both else None)
