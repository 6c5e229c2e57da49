"""Sum of squared differences, for images of one contrast and scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.lddmm.similarity.base import Comparison

__all__ = ["SSD"]

Array = NDArray[Any]


class SSD:
    """``sum(weight * (fixed - moving)^2) / 2``, in units of the images' variance."""

    @property
    def reach(self) -> tuple[int, int, int]:
        """See `Similarity.reach`."""
        return (0, 0, 0)

    def compare(
        self, fixed: Array, moving: Array, weight: Array, *, both: bool, spans: Array | None = None
    ) -> Comparison:
        """See `Similarity.compare`."""
        by_moving = (moving - fixed) * weight
        value = 0.5 * float(np.vdot(by_moving.astype(np.float64), moving - fixed))
        return Comparison(value, by_moving, -by_moving if both else None)
