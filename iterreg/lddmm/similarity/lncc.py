"""Local normalised cross-correlation (Cachier et al. 2003; Avants et al., Medical Image Analysis 2008)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.kernels.lncc import lncc_backward, lncc_forward
from iterreg.lddmm.lattice import whole_rows
from iterreg.lddmm.similarity.base import Comparison

__all__ = ["LNCC"]

Array = NDArray[Any]


class LNCC:
    """``sum(weight * (1 - rho^(2 power)))``, rho the correlation in a box around each voxel.

    The derivative is that of this very sum, three box sums for each image.

    Parameters
    ----------
    shape
        Of the lattice.
    radius
        Half width of the box in voxels along each axis.
    epsilon
        Added to both local variances, which are relative to the images' own: it keeps flat regions quiet.
    power
        1: the squared correlation; 2: its square, which trusts windows that already agree more.
    dtype
        Of the images.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        radius: tuple[int, int, int],
        epsilon: float = 1e-3,
        power: int = 1,
        dtype: Any = np.float32,
    ) -> None:
        self.radius, self.epsilon, self.power = radius, epsilon, power
        self._shape, self._dtype = shape, dtype
        self._covariance, self._variance, self._constant, self._by_moving = self._arrays(4)
        self._for_fixed: list[Array] = []

    @property
    def reach(self) -> tuple[int, int, int]:
        """See `Similarity.reach`."""
        return self.radius

    def compare(
        self, fixed: Array, moving: Array, weight: Array, *, both: bool, spans: Array | None = None
    ) -> Comparison:
        """See `Similarity.compare`."""
        if both and not self._for_fixed:
            self._for_fixed = self._arrays(3)
        spans = whole_rows(self._shape) if spans is None else spans
        nothing = np.empty((0, 0, 0), self._dtype)
        variance, constant, by_fixed = self._for_fixed if both else (nothing, nothing, nothing)
        coefficients = (self._covariance, self._variance, self._constant, variance, constant)
        agreement = lncc_forward(
            fixed, moving, weight, spans, self.radius, self.epsilon, self.power, *coefficients, both
        )
        # The measure falls where the agreement rises: hence the sign.
        lncc_backward(fixed, moving, *coefficients, spans, self.radius, -1.0, self._by_moving, by_fixed, both)
        value = float(weight.sum(dtype=np.float64) - agreement.sum())
        return Comparison(value, self._by_moving, by_fixed if both else None)

    def _arrays(self, count: int) -> list[Array]:
        # Zero outside the spans, which no comparison touches.
        return [np.zeros(self._shape, self._dtype) for _ in range(count)]
