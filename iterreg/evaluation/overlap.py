"""Overlap and volumes of labels: everything that counting voxels can tell, counted in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError

__all__ = [
    "LabelCounts",
    "LabelOverlap",
    "as_kernel_labels",
    "dice",
    "lumirage_dice",
    "mean_score",
    "overlap",
]

_DENSE = 2**22
"""Label ids spanning no more than this are looked up in one table."""

Box = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class LabelCounts:
    """Voxels of one label.

    Attributes
    ----------
    label
        Its id.
    fixed, warped, both
        Voxels in the fixed volume, in the warped one, in their intersection.
    moving
        Voxels in the moving volume before warping, on its own grid; None when it was not given.
    box
        Half-open box around the label in both volumes: first voxel and last but one.
    """

    label: int
    fixed: int
    warped: int
    both: int
    moving: int | None
    box: Box

    @property
    def scored(self) -> bool:
        """Whether the evaluators score it: it occurs in the fixed and in the (unwarped) moving volume."""
        return self.fixed > 0 and self.moving != 0

    @property
    def vanished(self) -> bool:
        """Whether it would be scored but has no voxel left after warping."""
        return self.scored and self.warped == 0

    @property
    def dice(self) -> float:
        """``2 |F and W| / (|F| + |W|)``; NaN when not `scored`."""
        return 2 * self.both / (self.fixed + self.warped) if self.scored else float("nan")


@dataclass(frozen=True, eq=False)
class LabelOverlap:
    """Counts of every label asked for, or of every label that occurs."""

    known: Mapping[int, LabelCounts]
    has_moving: bool

    def rows(self) -> Iterator[LabelCounts]:
        """Every label, in the order asked for or ascending."""
        return iter(self.known.values())

    def row(self, label: int) -> LabelCounts:
        """One label; zeros when it occurs nowhere."""
        nothing = LabelCounts(int(label), 0, 0, 0, 0 if self.has_moving else None, ((0, 0, 0), (0, 0, 0)))
        return self.known.get(int(label), nothing)


def overlap(
    fixed: NDArray[Any],
    warped: NDArray[Any],
    labels: Iterable[int] | None = None,
    *,
    moving: NDArray[Any] | None = None,
) -> LabelOverlap:
    """Count all labels at once.

    Parameters
    ----------
    fixed, warped
        (X, Y, Z) integer labels on the fixed grid.
    labels
        The ids to count, in the order of the result; LUMIR's lists include the background 0. Default: every
        id but 0 that occurs in any of the volumes, ascending.
    moving
        (X', Y', Z') integer labels before warping. Without it, a label missing in it cannot be told
        from one that vanished.

    Raises
    ------
    InputError
        If a volume does not hold integers, or fixed and warped differ in shape.
    """
    from iterreg.kernels.labels import overlap_table

    if fixed.shape != warped.shape or fixed.ndim != 3:
        raise InputError(f"fixed labels of shape {fixed.shape} and warped ones of shape {warped.shape}")
    for name, volume in (("fixed", fixed), ("warped", warped), ("moving", moving)):
        if volume is not None and volume.dtype.kind not in "iub":
            raise InputError(f"the {name} labels must be integers, got {volume.dtype}")
    in_moving = None if moving is None else _count(moving)
    wanted = None if labels is None else list(dict.fromkeys(int(label) for label in labels))
    low, high = _range(fixed, warped)
    if high - low < _DENSE:
        first, second, names = fixed, warped, None
    else:  # far-flung ids are renumbered by rank
        names, ranks = np.unique(np.stack([fixed, warped]), return_inverse=True)
        first, second = ranks.reshape(2, *fixed.shape)
        low, high = 0, names.size - 1
    present = np.flatnonzero(_occurring(first, second, low, high)) + low
    ids = present if names is None else names[present]
    keep = ids != 0 if wanted is None else np.isin(ids, wanted)
    present, ids = present[keep], ids[keep]
    slots = np.full(high - low + 1, -1, np.int32)
    slots[present - low] = np.arange(present.size)
    counts, boxes = overlap_table(as_kernel_labels(first), as_kernel_labels(second), slots, low, present.size)
    found = dict(zip(ids.tolist(), _rows(ids, counts, boxes, in_moving), strict=True))
    if wanted is None:
        wanted = sorted((found.keys() | (in_moving or {}).keys()) - {0})
    empty = ((0, 0, 0), (0, 0, 0))
    known = {
        label: found.get(
            label,
            LabelCounts(label, 0, 0, 0, None if in_moving is None else in_moving.get(label, 0), empty),
        )
        for label in wanted
    }
    return LabelOverlap(known, moving is not None)


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
    fixed, warped, labels, moving
        As `overlap`. Without `moving`, a label missing in it scores 0 like one that vanished.

    Raises
    ------
    InputError
        As `overlap`.
    """
    return {row.label: row.dice for row in overlap(fixed, warped, labels, moving=moving).rows()}


def lumirage_dice(counted: LabelOverlap, *, epsilon: float = 1e-5) -> dict[int, float]:
    """Dice as LUMirage counts it: ``(2 |F and W| + eps) / (|F| + |W| + eps)``.

    A label absent on both sides scores 1. The labels are to be warped by one-hot linear interpolation
    (``DisplacementField.warp_labels(..., interpolation="linear")``). Source: ``dice_scores`` in
    rohitrango/lumirage-evals.
    """
    return {
        row.label: (2 * row.both + epsilon) / (row.fixed + row.warped + epsilon) for row in counted.rows()
    }


def mean_score(scores: Mapping[int, float]) -> float:
    """Mean over the labels that have a score (NaN-skip); NaN when none has."""
    values = [value for value in scores.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def as_kernel_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels contiguous and in native byte order, as kernels take them; bool counts as 0 and 1."""
    dtype = np.dtype(np.uint8) if labels.dtype.kind == "b" else labels.dtype.newbyteorder("=")
    return np.ascontiguousarray(labels, dtype=dtype)


def _rows(
    ids: NDArray[Any], counts: NDArray[np.int64], boxes: NDArray[np.int32], in_moving: dict[int, int] | None
) -> Iterator[LabelCounts]:
    """Put the slabs of `overlap_table` together."""
    totals = counts.sum(axis=0)
    low, high = boxes[..., ::2].min(axis=0), boxes[..., 1::2].max(axis=0) + 1
    there = counts[..., 0] + counts[..., 1] > 0
    first, last = there.argmax(axis=0), there.shape[0] - there[::-1].argmax(axis=0)
    for s, label in enumerate(ids.tolist()):
        yield LabelCounts(
            label,
            int(totals[s, 0]),
            int(totals[s, 1]),
            int(totals[s, 2]),
            None if in_moving is None else in_moving.get(label, 0),
            (
                (int(first[s]), int(low[s, 0]), int(low[s, 1])),
                (int(last[s]), int(high[s, 0]), int(high[s, 1])),
            ),
        )


def _occurring(first: NDArray[Any], second: NDArray[Any], low: int, high: int) -> NDArray[np.bool_]:
    """Which of the ids from `low` to `high` occur."""
    seen = np.zeros(high - low + 1, bool)
    for volume in (first, second):
        for slab in volume:  # fancy indexing wants an index array: one slab at a time
            seen[slab.astype(np.intp, copy=False) - low] = True
    return seen


def _range(*volumes: NDArray[Any]) -> tuple[int, int]:
    filled = [volume for volume in volumes if volume.size]
    if not filled:
        return 0, 0
    return min(int(v.min()) for v in filled), max(int(v.max()) for v in filled)


def _count(labels: NDArray[Any]) -> dict[int, int]:
    """Voxels of every label that occurs."""
    low, high = _range(labels)
    if labels.size and high - low < _DENSE:
        table = np.zeros(high - low + 1, np.int64)
        for slab in labels:
            table += np.bincount(slab.ravel().astype(np.intp) - low, minlength=table.size)
        present = np.flatnonzero(table)
        return dict(zip((present + low).tolist(), table[present].tolist(), strict=True))
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
