"""Data sets: their pairs, how they are opened and how they are checked.

`open_dataset` reads any kind; `iterreg.dataset.check.check` looks into the files.
"""

from __future__ import annotations

from iterreg.dataset.base import Dataset, Kind, Pair, Scan
from iterreg.dataset.files import pair_of_files
from iterreg.dataset.opening import open_dataset

__all__ = ["Dataset", "Kind", "Pair", "Scan", "open_dataset", "pair_of_files"]
