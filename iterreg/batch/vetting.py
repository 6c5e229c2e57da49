"""Holds a set of fields to what the official evaluator will ask of it.

One missing or misshapen field aborts the whole official evaluation, so everything it will ask for is
asked for here first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iterreg.dataset import Dataset, Pair
from iterreg.errors import InputError
from iterreg.io.challenge import check_vectors, field_name
from iterreg.io.nifti import read_vectors, stored_shape
from iterreg.jobs.resources import available_cores
from iterreg.jobs.threads import in_threads
from iterreg.runs import MethodResults
from iterreg.runs.folder import read_sidecar
from iterreg.runs.opening import Run
from iterreg.runs.survey import Entry, survey
from iterreg.volume import read_grid

__all__ = ["Inspection", "Member", "inspect"]

_READERS = 4  # fields held in memory at once while a plain folder is read
_ENDINGS = (".nii.gz", ".nii", ".npz", ".mha", ".mhd", ".nrrd")


@dataclass(frozen=True)
class Member:
    """A verified field: the pair's file, its size in bytes and its SHA-256."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Inspection:
    """What was found in a set of fields.

    Attributes
    ----------
    members
        The fields that are fit to be packed, in the data set's order.
    errors
        One sentence for each thing the evaluator would reject, or that is not what was written.
    notes
        One sentence for each thing worth knowing.
    """

    members: tuple[Member, ...]
    errors: tuple[str, ...]
    notes: tuple[str, ...]


def inspect(method: MethodResults, dataset: Dataset, *, ignore_extra: bool = False) -> Inspection:
    """Hold a set of fields to what the official evaluator will ask of it.

    A run's fields are proven by their jobs' statuses and digests (they were read back and found finite
    when they were written); a plain folder's are read whole.

    Parameters
    ----------
    method
        Whose fields they are; it must have a folder for them.
    ignore_extra
        Take note of fields that belong to no pair of the data set, instead of refusing them.

    Returns
    -------
    Inspection
        Errors first about the names in the folder, then pair by pair.
    """
    wanted = {field_name(pair.name): pair for pair in dataset.pairs}
    fields = method.fields
    assert fields is not None
    errors, notes = [], list(dataset.notes)
    if len(wanted) < len(dataset.pairs):
        errors.append(
            f"{dataset.source}: {len(dataset.pairs) - len(wanted)} of its pairs share a field's name with "
            "another; `iterreg check` names them"
        )
    misnamed: set[str] = set()
    for path in sorted(fields.iterdir()) if fields.is_dir() else ():
        if path.name.startswith(".") or path.name in wanted or _is_sidecar(path, wanted):
            continue
        if not path.name.lower().startswith("disp") and not path.name.lower().endswith(_ENDINGS):
            notes.append(f"{path}: is no field and is left out")
            continue
        sentence, meant = _explain(path, wanted)
        if meant:
            misnamed.add(meant)
        (errors if meant or not ignore_extra else notes).append(sentence)
    shapes = {name: _shape(pair, dataset) for name, pair in wanted.items()}
    unknown = sum(shape is None for shape in shapes.values())
    if unknown:
        notes.append(
            f"the shape of {unknown} fields could not be compared: {dataset.source.name} promises none and "
            "the fixed images are not there (say where with --root)"
        )
    members: list[Member] = []
    asked = {name: pair for name, pair in wanted.items() if name not in misnamed}
    for found in (
        _proven(method.run, method.arm.name, asked, shapes)
        if method.run is not None and method.arm is not None
        else _read(fields, asked, shapes)
    ):
        if isinstance(found, Member):
            members.append(found)
            notes += _replaced(found)
        else:
            errors.append(found)
    notes += method.kept(pair.name for pair in asked.values())
    return Inspection(tuple(members), tuple(errors), tuple(notes))


def _is_sidecar(path: Path, wanted: Mapping[str, Pair]) -> bool:
    return path.suffix == ".json" and path.with_suffix(".nii.gz").name in wanted


def _explain(path: Path, wanted: Mapping[str, Pair]) -> tuple[str, str]:
    """Why a file that looks like a field is none that is asked for, and the field it was meant to be."""
    for name, pair in wanted.items():
        if (path.parent / name).exists():
            continue
        f, m = pair.fixed, pair.moving
        right, short = name.removesuffix(".nii.gz"), f"disp_{f.subject}_{m.subject}"
        stem = path.name.lower()
        for ending in _ENDINGS:
            stem = stem.removesuffix(ending)
        if stem in {form.lower() for form in (right, short, f"disp_{pair.long_name}", right[5:])}:
            return f"{path}: the evaluator looks for {name} and no other name; {_rename(path)}", name
        swapped = (
            f"disp_{m.subject}_{f.subject}",
            f"disp_{m.subject}_{m.modality}_{f.subject}_{f.modality}",
        )
        if stem in {form.lower() for form in swapped}:
            return (
                f"{path}: names the moving image first, and {name} is asked for; rename it if its "
                f"vectors lie on the grid of {f.path.name} and point into {m.path.name}, otherwise register "
                "the pair again"
            ), name
    return f"{path}: belongs to no pair of the data set; remove it, or let --ignore-extra leave it out", ""


def _rename(path: Path) -> str:
    if path.name.endswith(".nii.gz"):
        return "rename it"
    return "convert it with `iterreg convert --to challenge`"


def _shape(pair: Pair, dataset: Dataset) -> tuple[int, int, int] | None:
    """The shape of the pair's fixed grid: promised by the data set, else read from the fixed image."""
    if dataset.promised_shape is not None:
        return dataset.promised_shape
    return read_grid(pair.fixed.path).shape if pair.fixed.path.is_file() else None


_Shapes = Mapping[str, tuple[int, int, int] | None]


def _replaced(member: Member) -> Iterator[str]:
    """Whether the sidecar beside a field describes another one."""
    sidecar = read_sidecar(member.path)
    written = sidecar.status.files.get("field") if sidecar else None
    if written is not None and written.sha256 and written.sha256 != member.sha256:
        yield f"{member.path}: is not the field that its sidecar describes; it was replaced or damaged"


def _proven(run: Run, arm: str, wanted: Mapping[str, Pair], shapes: _Shapes) -> Iterator[Member | str]:
    """A run's fields, by their statuses, digests and headers."""
    names = [pair.name for pair in wanted.values()]
    found = survey(run.folder, run.record, arms=[arm], pairs=names, verify=True)
    for entry, name in zip(found, wanted, strict=True):
        path = run.folder.arm(arm).fields / name
        if not entry.is_usable or entry.status is None:
            yield f"{path}: {_undone(entry, entry.pair in run.record.by_name)}"
            continue
        shape, stored = shapes[name], stored_shape(path)
        if shape is not None and stored not in ((*shape, 3), (3, *shape)):
            yield (
                f"{path}: has shape {_times(stored)} where {_times(shape)}x3 is needed; "
                "its fixed image is not as the data set promises, `iterreg check` says more"
            )
            continue
        written = entry.status.files["field"]
        yield Member(path, written.bytes, written.sha256)


def _undone(entry: Entry, begun: bool) -> str:
    if entry.state == "failed":
        return f"is missing, its job failed ({entry.why}); run the same command again, it repeats what failed"
    if entry.state == "running":
        return "is still being computed; wait for its end"
    if entry.state in ("damaged", "changed"):
        return entry.why.partition(": ")[2]
    if begun:
        return "is missing, its job has not ended; run the same command again"
    return "is missing, the run was never asked for this pair; run without --first, --pairs and --task"


def _read(folder: Path, wanted: Mapping[str, Pair], shapes: _Shapes) -> Sequence[Member | str]:
    """A plain folder's fields, each read to its end."""
    files = [(folder / name, shapes[name]) for name in wanted]
    return in_threads(lambda file: _read_one(*file), files, threads=min(_READERS, available_cores()))


def _read_one(path: Path, shape: tuple[int, int, int] | None) -> Member | str:
    if not path.is_file():
        return f"{path}: is missing; one missing field aborts the whole official evaluation"
    try:
        stored = read_vectors(path).array
        if shape is None:
            shape = stored.shape[1:] if stored.shape[0] == 3 else stored.shape[:3]
        check_vectors(stored, path, shape)
        with path.open("rb") as stream:
            return Member(path, path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); copy it again"


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
