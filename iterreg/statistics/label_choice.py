"""Over which labels Dice and HD95 are averaged: those that were scored, or chosen ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from iterreg.errors import InputError
from iterreg.statistics.measures import measure_named
from iterreg.statistics.sources import Source

__all__ = ["BACKGROUND", "averaged_over", "background_alone", "counts_background"]

BACKGROUND = 0
"""The label of what is no structure."""

_KINDS = ("dice", "hd95")


def averaged_over(
    source: Source, labels: Collection[int] | None, *, background: bool, robust: bool
) -> Source:
    """The run with Dice and HD95 averaged anew, over these labels alone.

    As the evaluators do, a label that is not in both volumes is passed over, and one that vanished in the
    warping makes HD95 infinite unless the robust number is wanted.

    Parameters
    ----------
    labels
        None: all that were scored.
    background
        Whether label 0 counts.

    Raises
    ------
    InputError
        If the run has such a measure and its numbers label by label are not known, or has two of a kind.
    """
    names = {kind: [name for name in _names(source) if measure_named(name).kind == kind] for kind in _KINDS}
    if source.published or not any(names.values()):
        return source
    if source.labels.empty:
        raise InputError(
            f"{source.path}: has no numbers label by label to average anew; give the folder that iterreg "
            "evaluate wrote, with its labels.csv"
        )
    for several in names.values():
        if len(several) > 1:
            raise InputError(
                f"{source.path}: has {' and '.join(several)}, each a mean over labels of its own; compare "
                "them without choosing labels"
            )
    rows = source.labels
    kept = rows["label"].isin(set(labels)) if labels is not None else np.full(len(rows), True)
    if not background:
        kept &= rows["label"] != BACKGROUND
    rows = rows[kept].reset_index(drop=True)
    finite = rows.assign(value=rows["value"].where(np.isfinite(rows["value"]))) if robust else rows
    means = finite.groupby(["case", "measure"])["value"].mean()
    anew = {name: kind for kind, found in names.items() for name in found}
    return replace(
        source,
        labels=rows,
        values={
            case: {
                name: float(means.get((case, anew[name]), np.nan)) if name in anew else value
                for name, value in own.items()
            }
            for case, own in source.values.items()
        },
        vanished={
            place: text
            for place, words in source.vanished.items()
            for text in [_still(words, set(rows["label"])) if place[1] in anew else words]
            if text
        },
    )


def counts_background(source: Source) -> bool:
    """Whether the run's Dice has label 0 in its mean, told by the numbers themselves."""
    dice = next((name for name in _names(source) if measure_named(name).kind == "dice"), "")
    rows = source.labels[source.labels["measure"] == "dice"].dropna(subset=["value"])
    if not dice or not (rows["label"] == BACKGROUND).any():
        return False
    official = pd.Series({case: own.get(dice, np.nan) for case, own in source.values.items()})
    with_it = rows.groupby("case")["value"].mean().reindex(official.index)
    without = rows[rows["label"] != BACKGROUND].groupby("case")["value"].mean().reindex(official.index)
    return bool((((official - with_it).abs() < 1e-9) & ~((official - without).abs() < 1e-9)).any())


def background_alone(source: Source) -> tuple[str, ...]:
    """Cases whose Dice is the background's alone, because no other label is in both volumes."""
    if not counts_background(source):
        return ()
    rows = source.labels[source.labels["measure"] == "dice"].dropna(subset=["value"])
    structures = rows.assign(structure=rows["label"] != BACKGROUND).groupby("case")["structure"].any()
    return tuple(str(case) for case, any_other in structures.items() if not any_other)


def _names(source: Source) -> list[str]:
    return list(dict.fromkeys(name for own in source.values.values() for name in own))


def _still(words: str, labels: Collection[int]) -> str:
    """Of labels in a text those that are left."""
    return " ".join(word for word in words.split() if not word.isdigit() or int(word) in labels)
