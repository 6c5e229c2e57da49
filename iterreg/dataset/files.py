"""The smallest data set: two image files."""

from __future__ import annotations

from pathlib import Path

from iterreg.dataset.base import Dataset, Pair
from iterreg.dataset.paths import ScanReader, absolute

__all__ = ["pair_of_files"]


def pair_of_files(fixed: str | Path, moving: str | Path) -> Dataset:
    """A data set of one pair.

    Labels, landmarks and masks are found when the images lie in a folder called ``images…`` with
    ``labels…``, ``landmarks…``, ``masks…`` beside it. Neither file need exist.
    """
    reader = ScanReader(Path.cwd())
    pair = Pair(reader.scan(str(absolute(fixed))), reader.scan(str(absolute(moving))))
    return Dataset(pair.name, (pair,), pair.fixed.path)
