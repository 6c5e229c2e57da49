"""Which fields a path means, and which pairs they should be: a run's arm, or any folder of fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterreg.batch.runfolder import RunFolder
from iterreg.dataset import Dataset, Pair, Scan, open_dataset
from iterreg.errors import InputError
from iterreg.paths import real

__all__ = ["FieldSet", "Origin", "dataset_of", "find_fields"]


@dataclass(frozen=True)
class Origin:
    """The run that made a set of fields: its folder and the content of its ``run.json``."""

    run: RunFolder
    record: Mapping[str, Any]


@dataclass(frozen=True)
class FieldSet:
    """A folder of fields.

    Attributes
    ----------
    name
        What to call the set: the arm's name, or the folder's.
    folder
        Holds ``disp_*.nii.gz``.
    origin
        The run they come from, None for a plain folder.
    """

    name: str
    folder: Path
    origin: Origin | None = None


def find_fields(path: str | Path, *, arm: str | None = None) -> FieldSet:
    """The fields that a path names.

    Parameters
    ----------
    path
        A run folder, an arm's folder in it (or the arm's ``fields``), or any folder of ``disp_*.nii.gz``.
    arm
        Which arm of a run; needed when it has several.

    Raises
    ------
    InputError
        If there is no such folder or arm, or the arm is not named where it must be.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "there is no such folder"
        raise InputError(f"{path}: {what}; name a run folder, an arm in it, or a folder of disp_*.nii.gz")
    if RunFolder(path).record.is_file():
        return _arm_of(RunFolder(path), arm)
    place = real(path)
    for named in (place, place.parent if place.name == "fields" else place):
        run = RunFolder(named.parent)
        if run.record.is_file() and named.name in run.read()["arms"]:
            if arm not in (None, named.name):
                raise InputError(f"{path}: is arm {named.name!r}, but --arm says {arm!r}; leave --arm out")
            return _arm_of(run, named.name)
    if arm is not None:
        raise InputError(
            f"{path}: is not a run folder (it has no run.json), so it has no arm; leave --arm out"
        )
    return FieldSet(place.name, path)


def _arm_of(run: RunFolder, arm: str | None) -> FieldSet:
    record = run.read()
    arms = list(record["arms"])
    if arm is None and len(arms) == 1:
        arm = arms[0]
    if arm is None or arm not in arms:
        said = "a submission holds one arm" if arm is None else f"has no arm {arm!r}"
        raise InputError(f"{run.path}: {said}; choose with --arm among {', '.join(arms) or '(none)'}")
    return FieldSet(arm, run.arm(arm).fields, Origin(run, record))


def dataset_of(fields: FieldSet) -> Dataset:
    """The data set a run was asked to register, as far as the run folder knows it.

    A json or csv that is still where it was is read again, all of it: a run of some of its pairs is not a
    submission. Otherwise it is the pairs of ``run.json``.

    Raises
    ------
    InputError
        If the fields are not a run's.
    """
    if fields.origin is None:
        raise InputError(
            f"{fields.folder}: is not part of a run, so which fields are needed must be said; "
            "give the data set's json with --dataset"
        )
    run, record = fields.origin.run, fields.origin.record
    source = Path(record["dataset"]["source"])
    asked = tuple(_pair_of(entry) for entry in record["pairs"])
    if source.is_file() and source.suffix.lower() in (".json", ".csv", ".tsv"):
        whole = open_dataset(source)
        if {pair.name for pair in asked} <= {pair.name for pair in whole.pairs}:
            return whole
    return Dataset(
        str(record["dataset"]["name"]),
        asked,
        source,
        notes=(f"the pairs are those that {run.record} was asked for; "
               "name the challenge's json with --dataset to be held to it",),
    )  # fmt: skip


def _pair_of(entry: Mapping[str, str]) -> Pair:
    """A pair from its entry in ``run.json``."""
    ends = [end.rpartition("_") for end in entry["case"].split("<--")]
    fixed, moving = (
        Scan(Path(entry[role]), subject, modality)
        for role, (subject, _, modality) in zip(("fixed", "moving"), ends, strict=True)
    )
    return Pair(fixed, moving, entry["task"])
