"""The tasks of data sets that name none: one per combination of contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iterreg.dataset.base import Pair

__all__ = ["by_modality"]


def by_modality(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with one task per combination of modalities, or as they are when there is only one.

    A task is called ``0001`` where fixed and moving share the modality, else ``0000-0001`` (fixed-moving).
    """
    combinations = {(pair.fixed.modality, pair.moving.modality) for pair in pairs}
    if len(combinations) < 2:
        return list(pairs)
    return [replace(pair, task=_name(pair.fixed.modality, pair.moving.modality)) for pair in pairs]


def _name(fixed: str, moving: str) -> str:
    return fixed if fixed == moving else f"{fixed}-{moving}"
