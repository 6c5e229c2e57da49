"""Names and groups of labels, from a table that comes with iterreg or from the user's own csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from io import StringIO
from pathlib import Path

from iterreg.errors import InputError
from iterreg.paths import to_path
from iterreg.text_files import read_text

__all__ = ["BUILT_IN", "LabelTable", "label_table"]

BUILT_IN = ("neuromorphometrics", "freesurfer")
"""Tables that come with iterreg: the BrainCOLOR protocol's numbers, as in LUMIR and MICCAI 2012; and those of
FreeSurfer's segmentations (aseg and, in the cortex, the Desikan-Killiany atlas), as in SynthSeg."""

_CORTEX = range(100, 208)
_ENOUGH = 60
"""So many of the 98 cortical numbers tell Neuromorphometrics: FreeSurfer's own have none of them."""

_DEEP = frozenset({10, 12, 13, 17, 18, 53, 54})
_GAPS = frozenset({1, 6, 9, *range(19, 24), 27, *range(32, 40)})
"""Thalamus, putamen, pallidum, hippocampus and amygdala tell FreeSurfer, where none of the numbers is there
that its segmentations leave out: labels numbered one after the other have these too."""


@dataclass(frozen=True)
class LabelTable:
    """What labels are called and which group they belong to.

    Attributes
    ----------
    names, groups
        Label -> name, label -> group, as far as known.
    note
        How the table was chosen, when the user did not choose it.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    groups: Mapping[int, str] = field(default_factory=dict)
    note: str = ""


def label_table(chosen: str | Path | None, labels: Sequence[int]) -> LabelTable:
    """The table for these labels.

    Parameters
    ----------
    chosen
        One of `BUILT_IN`, or a csv with the columns label (or id), and group or name or both. None:
        Neuromorphometrics or FreeSurfer if the labels are numbered so, else an empty table.

    Raises
    ------
    InputError
        If the csv cannot be read.
    """
    if chosen is None:
        if sum(label in _CORTEX for label in labels) >= _ENOUGH:
            name, called = "neuromorphometrics", "Neuromorphometrics"
        elif set(labels) >= _DEEP and not set(labels) & _GAPS:
            name, called = "freesurfer", "FreeSurfer"
        else:
            return LabelTable()
        known = label_table(name, labels)
        return LabelTable(known.names, known.groups, f"labels are grouped as {called} numbers them")
    if chosen in BUILT_IN:
        text = files("iterreg.statistics.label_tables").joinpath(f"{chosen}.csv").read_text(encoding="utf-8")
        return _parse(text, str(chosen))
    try:
        text = read_text(to_path(chosen))
    except InputError as error:
        raise InputError(
            f"cannot be read as a table of labels: {error}; "
            f"give a csv with the columns label, name and group, or {' or '.join(BUILT_IN)}"
        ) from error
    return _parse(text, str(chosen))


def _parse(text: str, where: str) -> LabelTable:
    names, groups = {}, {}
    try:
        rows = list(csv.DictReader(StringIO(text)))
    except csv.Error as error:
        raise InputError(f"{where}: cannot be read as a table ({error}); write it again") from error
    for number, row in enumerate(rows, start=2):
        try:
            label = int(row.get("label") or row.get("id") or "")
        except ValueError as error:
            raise InputError(
                f"{where}, line {number}: has no number in a column label or id; "
                "write label,name,group in the first line and a row per label"
            ) from error
        if row.get("name"):
            names[label] = row["name"].strip()
        if row.get("group"):
            groups[label] = row["group"].strip()
    if not names and not groups:
        raise InputError(f"{where}: has neither names nor groups; write columns label, name and group")
    return LabelTable(names, groups)
