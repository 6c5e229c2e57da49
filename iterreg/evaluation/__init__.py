"""Scores fields as the challenges do: overlap, surface distance, landmarks, regularity, consistency.

`evaluate` scores one field in memory, `evaluate_folder` a folder of files; each measure stands on its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "LabelOverlap": "overlap",
    "Material": "scoring",
    "PairScores": "scoring",
    "Score": "scoring",
    "determinants": "regularity",
    "dice": "overlap",
    "dice30": "aggregate",
    "evaluate": "api",
    "evaluate_folder": "folder",
    "hd95": "surface_distance",
    "inverse_consistency": "consistency",
    "landmark_errors": "landmarks",
    "lumirage_dice": "overlap",
    "non_diffeomorphic": "regularity",
    "point_errors": "landmarks",
    "protocol_named": "protocols",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"iterreg.evaluation.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'iterreg.evaluation' has no attribute {name!r}")
