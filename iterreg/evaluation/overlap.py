"""Overlap of label volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError

__all__ = ["dice", "mean_dice"]

_DENSE = 2**22
"""Label ids spanning no more than this are counted in one table."""


def dice(
    fixed: NDArray[Any],
    warped: NDArray[Any],
    labels: Iterable[int] | None = None,
    *,
    moving: NDArray[Any] | None = None,
) -> dict[int, float]:
    """Dice coefficient ``2 |F and W| / (|F| + |W|)`` of every label, all counted in one pass.

    The Learn2Reg / LUMIR evaluator's rule: NaN for a label that is missing in the fixed or in the
    (unwarped) moving volume, 0 for one that vanished in the warping.

    Parameters
    ----------
    fixed, warped
        (X, Y, Z) integer labels on the fixed grid.
    labels
        The ids to score, in the order of the result; LUMIR's lists include the background 0. Default:
        every id but 0 that occurs in any of the volumes, ascending.
    moving
        (X', Y', Z') integer labels before warping. Without it, a label missing in it cannot be told
        from one that vanished: both score 0.

    Raises
    ------
    InputError
        If a volume does not hold integers, or fixed and warped differ in shape.
    """
    if fixed.shape != warped.shape:
        raise InputError(f"fixed labels of shape {fixed.shape} and warped ones of shape {warped.shape}")
    in_fixed, in_warped = _count(fixed, "fixed"), _count(warped, "warped")
    in_both = _count(fixed[fixed == warped], "fixed")
    in_moving = None if moving is None else _count(moving, "moving")
    if labels is None:
        labels = sorted((in_fixed.keys() | in_warped.keys() | (in_moving or {}).keys()) - {0})
    scores = {}
    for label in map(int, labels):
        f, w = in_fixed.get(label, 0), in_warped.get(label, 0)
        missing = f == 0 or (in_moving is not None and label not in in_moving)
        scores[label] = float("nan") if missing else 2 * in_both.get(label, 0) / (f + w)
    return scores


def mean_dice(scores: Mapping[int, float]) -> float:
    """Mean over the labels that have a score; NaN when none has."""
    values = [value for value in scores.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def _count(labels: NDArray[Any], name: str) -> dict[int, int]:
    """Voxels of every label that occurs."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"the {name} labels must be integers, got {labels.dtype}")
    if labels.size == 0:
        return {}
    low, high = int(labels.min()), int(labels.max())
    if high - low < _DENSE and low > -(2**31) and high < 2**31:
        table = np.bincount(labels.ravel().astype(np.intp) - low)
        present = np.flatnonzero(table)
        return dict(zip((present + low).tolist(), table[present].tolist(), strict=True))
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
