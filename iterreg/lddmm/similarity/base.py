"""What the optimizer asks of a similarity measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["Comparison", "Similarity"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """The outcome of comparing two images on one lattice.

    Attributes
    ----------
    value
        Dissimilarity in weighted cubic millimetres: 0 for images that agree perfectly.
    by_moving, by_fixed
        (X, Y, Z) derivative of the value by each image's intensities; `by_fixed` only where asked for. The
        arrays belong to the measure and are overwritten by the next comparison.
    """

    value: float
    by_moving: Array
    by_fixed: Array | None


class Similarity(Protocol):
    """A dissimilarity of two images; lower is better.

    One instance serves one lattice and keeps its working arrays.
    """

    @property
    def reach(self) -> tuple[int, int, int]:
        """How many voxels along each axis a voxel's value looks beyond it."""
        ...

    def compare(
        self, fixed: Array, moving: Array, weight: Array, *, both: bool, spans: Array | None = None
    ) -> Comparison:
        """Compare two images.

        Parameters
        ----------
        fixed, moving
            (X, Y, Z) intensities of unit standard deviation.
        weight
            (X, Y, Z) cubic millimetres that each voxel counts for.
        both
            Whether the derivative by the fixed image is wanted too.
        spans
            `spans_around` the places where any `weight` of this lattice is above zero, with at least this
            measure's reach: images need be right, and derivatives are, only there. They must not change from
            call to call. None: everywhere.
        """
        ...
