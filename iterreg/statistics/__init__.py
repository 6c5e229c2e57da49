"""Compares methods by their scores: paired tests, effect sizes, dyadic intervals, rankings.

`load_scores` reads what ``iterreg evaluate`` wrote, `compare` says which method is better, by how much, and
how sure that is; each statistic stands on its own in a module of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Comparison": "comparison",
    "Dyads": "dyads",
    "Interval": "intervals",
    "Scores": "scores",
    "TestResult": "tests",
    "cliffs_delta": "effect_sizes",
    "cohens_d": "effect_sizes",
    "cohens_dz": "effect_sizes",
    "compare": "comparison",
    "hedges_correction": "effect_sizes",
    "holm": "tests",
    "learn2reg_scores": "ranking",
    "load_scores": "scores",
    "lumir24_scores": "ranking",
    "sign_flip_test": "tests",
    "signed_rank_test": "tests",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"iterreg.statistics.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'iterreg.statistics' has no attribute {name!r}")
