"""The reproducing kernel of the velocity space: what makes a force a smooth velocity.

Kernels are functions of the distance in millimetres, the same at every level of the pyramid, and scaled so
that K(0) = 1: a unit of momentum moves its own place by one millimetre a unit of time. They are applied as
Fourier multipliers on a padded lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from iterreg.lddmm.lattice import Lattice

__all__ = ["GaussianSum", "ReproducingKernel", "Smoother", "Sobolev"]

Array = NDArray[Any]


class ReproducingKernel(Protocol):
    """A radial kernel, given by its Fourier transform."""

    def transform(self, squared: Array) -> Array:
        """Fourier transform in cubic millimetres at squared angular frequencies in 1/mm^2."""
        ...

    def scaled(self, factor: float) -> ReproducingKernel:
        """The same kernel with every length multiplied by `factor`."""
        ...


@dataclass(frozen=True)
class Sobolev:
    """Green's function of ``(1 - length^2 Laplacian)^order`` (Beg et al., IJCV 2005).

    Attributes
    ----------
    length
        Millimetres.
    order
        Above 5/2 the space's fields are continuously differentiable, and their flows diffeomorphisms.
    """

    length: float
    order: int = 3

    def transform(self, squared: Array) -> Array:
        peak = math.gamma(self.order - 1.5) / (math.gamma(self.order) * (4 * math.pi * self.length**2) ** 1.5)
        return np.asarray((1.0 + self.length**2 * squared) ** -float(self.order) / peak)

    def scaled(self, factor: float) -> Sobolev:
        return Sobolev(self.length * factor, self.order)


@dataclass(frozen=True)
class GaussianSum:
    """A weighted sum of Gaussians (Risser et al., IEEE TMI 2011).

    Attributes
    ----------
    sigmas
        Standard deviations in millimetres.
    weights
        Their shares of K(0), made to sum to one.
    """

    sigmas: tuple[float, ...]
    weights: tuple[float, ...]

    def transform(self, squared: Array) -> Array:
        total = np.zeros_like(squared)
        for sigma, weight in zip(self.sigmas, self.weights, strict=True):
            share = weight / sum(self.weights)
            total += share * (2 * math.pi * sigma**2) ** 1.5 * np.exp(-0.5 * sigma**2 * squared)
        return total

    def scaled(self, factor: float) -> GaussianSum:
        return GaussianSum(tuple(s * factor for s in self.sigmas), self.weights)


class Smoother:
    """A kernel on a lattice: momentum to velocity. Linear, symmetric, positive definite.

    Parameters
    ----------
    kernel
        In millimetres.
    lattice
        Its padding must hold the kernel's width: the transform is periodic.
    threads
        For the transforms; they do not change the result.
    dtype
        Of the arrays it takes.
    """

    def __init__(
        self, kernel: ReproducingKernel, lattice: Lattice, *, threads: int = 1, dtype: Any = np.float32
    ) -> None:
        self.lattice, self.threads = lattice, threads
        x, y, z = (
            2 * np.pi * (fft.rfftfreq if axis == 2 else fft.fftfreq)(n, s)
            for axis, (n, s) in enumerate(zip(lattice.shape, lattice.spacing, strict=True))
        )
        squared = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2
        self._multiplier = (kernel.transform(squared) / lattice.cell).astype(dtype)

    def __call__(self, momentum: Array) -> Array:
        """Velocity in mm, (3, x, y, z), of a momentum of the same shape."""
        spectrum = fft.rfftn(momentum, axes=(1, 2, 3), workers=self.threads)
        spectrum *= self._multiplier
        smooth = fft.irfftn(
            spectrum, s=self.lattice.shape, axes=(1, 2, 3), workers=self.threads, overwrite_x=True
        )
        return np.asarray(smooth)
