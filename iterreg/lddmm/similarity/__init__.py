"""How unlike two images are, and how that changes with either: one file for each measure."""

from iterreg.lddmm.similarity.base import Comparison, Similarity
from iterreg.lddmm.similarity.lncc import LNCC
from iterreg.lddmm.similarity.ssd import SSD

__all__ = ["LNCC", "SSD", "Comparison", "Similarity"]
