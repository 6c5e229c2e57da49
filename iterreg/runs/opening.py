"""What a path holds, for every command that takes results: a run, an arm, fields, or scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from iterreg.dataset import Dataset, Pair
from iterreg.errors import InputError
from iterreg.io.challenge import field_name
from iterreg.jobs.hashing import FileDigests
from iterreg.paths import real, to_path
from iterreg.runs.arm_record import ArmRecord
from iterreg.runs.folder import ArmFolder, RunFolder, read_sidecar
from iterreg.runs.record import RunRecord
from iterreg.runs.status import JobStatus, Sidecar

__all__ = [
    "Doubt",
    "Kind",
    "MethodResults",
    "OpenedResults",
    "dataset_of",
    "doubt_of",
    "named",
    "open_named",
    "open_results",
    "scores_beside",
    "with_fields",
]

Kind = Literal["run", "arm", "fields", "scores", "table"]

_FIELD_ENDINGS = (".nii.gz", ".nii", ".npz", ".npy", ".mha", ".mhd", ".nrrd", ".h5")
_WANTED = "a run folder (run.json), an arm of one, a folder of fields (disp_…), or scores (pairs.csv)"


@dataclass(frozen=True)
class Run:
    """A run folder with its record."""

    folder: RunFolder
    record: RunRecord


@dataclass(frozen=True)
class Doubt:
    """Why a field is not what a method is known to have made.

    Attributes
    ----------
    sentence
        In words, with the file.
    refused
        Whether it must not be taken for the method's: it was made with other parameters.
    """

    sentence: str
    refused: bool = False


@dataclass(frozen=True, eq=False)
class MethodResults:
    """What one method has left, wherever it lies.

    Attributes
    ----------
    name
        What it is called.
    scores
        The folder that `iterreg evaluate` writes, or will write; of the kind ``table`` the file.
    fields
        The folder of its fields; None when only scores are known.
    arm
        Its folder in a run of iterreg; None for anyone else's.
    run
        The run, where it is known.
    """

    name: str
    scores: Path
    fields: Path | None = None
    arm: ArmFolder | None = None
    run: Run | None = None

    @property
    def request(self) -> ArmRecord | None:
        """What the run was asked for; None when no run says."""
        return self.run.record.arms.get(self.arm.name) if self.run and self.arm else None

    @property
    def is_identity(self) -> bool:
        """Whether it registers nothing, so that its pictures are those before registration."""
        return self.request is not None and self.request.method == "identity"

    def status(self, pair: str) -> JobStatus | None:
        """How the job of a pair ended; None when it is not known."""
        return self.arm.job(pair).read_status() if self.arm else None

    def log(self, pair: str, *, lines: int = 40) -> str:
        """The end of what the engine printed for a pair."""
        if self.arm is None:
            return ""
        try:
            text = self.arm.job(pair).log.read_text(errors="replace")
        except OSError:
            return ""
        kept = text.rstrip().splitlines()[-lines:]
        return "\n".join(line[:400] for line in kept)

    def sidecar(self, pairs: Iterable[str]) -> Sidecar | None:
        """The provenance beside the first field that has one."""
        if self.fields is None:
            return None
        found = (read_sidecar(self.fields / field_name(pair)) for pair in pairs)
        return next((one for one in found if one is not None), None)

    def other_version(self, pair: str) -> str:
        """How the field of a pair was made otherwise than the arm is now; ``""`` when it was not."""
        status, request = self.status(pair), self.request
        if status is None or not status.ok or request is None or self.run is None or self.fields is None:
            return ""
        if request.made(status, self.run.record.by_name.get(pair)):
            return ""
        return (
            f"{self.fields / field_name(pair)}: was made with {request.differences(status)}, "
            "so it is no field of this method as it is now; run the arm over this pair again"
        )

    def kept(self, pairs: Iterable[str]) -> list[str]:
        """Which of some pairs' fields were made by other software and are kept: a sentence for each, how."""
        request, found = self.request, dict[str, list[str]]()
        for pair in pairs if request is not None and request.kept else ():
            status = self.status(pair)
            if request is not None and status is not None and status.ok and request.keeps(status):
                found.setdefault(request.differences(status), []).append(pair)
        return [
            f"{self.name}: {len(names)} of its fields are kept that were made with {how} "
            f"({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
            for how, names in found.items()
        ]

    def doubt(self, pair: str, field: Path, sha256: str) -> Doubt | None:
        """Why a pair's field is not the one that status and sidecar describe; None when nothing says so.

        Parameters
        ----------
        field, sha256
            The file, and the digest of its content.
        """
        other = self.other_version(pair)
        if other:
            return Doubt(other, refused=True)
        status = self.status(pair)
        if self.run is not None and (status is None or not status.ok):
            how = "has not ended" if status is None else f"ended with {status.outcome}"
            return Doubt(f"{field}: is there, but its job {how}; it may be anyone's")
        sidecar = read_sidecar(field)
        for what, described in (("status", status), ("sidecar", sidecar.status if sidecar else None)):
            written = described.files.get("field") if described else None
            if written is not None and written.sha256 and written.sha256 != sha256:
                return Doubt(
                    f"{field}: is not the field that its {what} describes; it was replaced or damaged"
                )
        return None


def doubt_of(field: Path) -> Doubt | None:
    """Why a field file by itself is not what its run made; None when nothing says so, or it is of no run."""
    folder = real(field).parent
    if folder.name != "fields" or not (folder.parent / "jobs").is_dir() or not field.is_file():
        return None
    pair = field.name.removeprefix("disp_").removesuffix(".nii.gz")
    (method,) = open_results(folder).methods
    return method.doubt(pair, field, FileDigests()(field))


@dataclass(frozen=True, eq=False)
class OpenedResults:
    """What a path holds.

    Attributes
    ----------
    kind
        ``run``; ``arm`` of one; ``fields`` of anyone; ``scores`` of `iterreg evaluate`, of one method or of
        several below one folder; ``table``, a single file of scores.
    methods
        What is there by method; of a run, its arms, begun or not.
    notes
        What could not be read and is left out, one sentence each.
    run
        The run that it is, or is a part of.
    """

    path: Path
    kind: Kind
    methods: tuple[MethodResults, ...]
    notes: tuple[str, ...] = ()
    run: Run | None = None

    def only(self, arm: str | None = None) -> MethodResults:
        """The one method whose fields are meant.

        Parameters
        ----------
        arm
            Which arm of a run; needed when it has several.

        Raises
        ------
        InputError
            If there is no such arm, it is not named where it must be, or there are scores only.
        """
        names = [one.name for one in self.methods]
        if arm is not None and self.run is None:
            raise InputError(
                f"{self.path}: is not a run folder (it has no run.json), so it has no arm; leave --arm out"
            )
        if self.kind == "arm" and arm not in (None, *names):
            raise InputError(f"{self.path}: is arm {names[0]!r}, but --arm says {arm!r}; leave --arm out")
        chosen = [one for one in self.methods if arm in (None, one.name)]
        if len(chosen) != 1:
            said = "one arm is meant" if arm is None else f"has no arm {arm!r}"
            raise InputError(f"{self.path}: {said}; choose with --arm among {', '.join(names) or '(none)'}")
        if chosen[0].fields is None:
            raise InputError(f"{self.path}: holds scores and no fields; name the folder of the fields")
        return chosen[0]


def open_results(path: str | Path, *, in_folders: bool = False) -> OpenedResults:
    """Say what a path holds.

    Parameters
    ----------
    in_folders
        Whether fields may lie in folders of their own; then a folder that is nothing else holds fields. One
        that was scored before does anyway.

    Raises
    ------
    InputError
        If there is nothing there, or nothing that is known.
    """
    path = Path(path)
    if path.is_file():
        if path.name == "pairs.csv":
            return replace(open_results(path.parent), path=path)
        if path.suffix in (".csv", ".json"):
            return OpenedResults(path, "table", (MethodResults(_name_of(path), path),))
        raise InputError(f"{path}: is a file and no table of scores (.csv, .json); give {_WANTED}")
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder; give {_WANTED}")
    if (path / "run.json").exists():
        return _open_run(RunFolder(path))
    arm = _as_arm(path)
    if arm is not None:
        return arm
    if (path / "pairs.csv").is_file():
        return OpenedResults(path, "scores", (_evaluated(path),))
    if any(one.name.endswith(_FIELD_ENDINGS) or one.name.startswith("disp_") for one in path.iterdir()):
        return OpenedResults(path, "fields", (MethodResults(_name_of(path), scores_beside(path), path),))
    below = sorted(path.glob("*/scores/pairs.csv")) or sorted(path.glob("*/pairs.csv"))
    if below:
        return OpenedResults(path, "scores", tuple(_evaluated(file.parent) for file in below))
    if in_folders or (scores_beside(path) / "pairs.csv").is_file():
        return OpenedResults(path, "fields", (MethodResults(_name_of(path), scores_beside(path), path),))
    names = sorted(one.name for one in path.iterdir())
    there = f"it holds {', '.join(names[:5])}{' …' if len(names) > 5 else ''}" if names else "it is empty"
    raise InputError(f"{path}: is neither {_WANTED.replace(', or', ', nor')}; {there}")


def with_fields(opened: OpenedResults) -> tuple[list[MethodResults], list[str]]:
    """The methods that have a folder of fields to look at; a note for each arm of a run that has not begun.

    Raises
    ------
    InputError
        If there is none.
    """
    begun = [
        one for one in opened.methods if one.fields is not None and (one.arm is None or one.arm.is_begun)
    ]
    if not begun:
        raise InputError(f"{opened.path}: holds no fields; give a run folder, an arm, or a folder of fields")
    left = [one.name for one in opened.methods if one not in begun]
    return begun, [f"{name}: no job of it has ended yet, so it is left out" for name in left]


def scores_beside(fields: Path) -> Path:
    """Where the scores of a folder of fields go: ``scores`` beside ``fields``, else ``FIELDS-scores``."""
    folder = real(fields)
    return folder.parent / "scores" if folder.name == "fields" else folder.with_name(f"{folder.name}-scores")


def _open_run(folder: RunFolder) -> OpenedResults:
    run = Run(folder, folder.read())
    methods = tuple(_method(folder.arm(name), run) for name in run.record.arms)
    return OpenedResults(folder.path, "run", methods, run.record.problems, run)


def _method(arm: ArmFolder, run: Run | None) -> MethodResults:
    return MethodResults(real(arm.path).name, arm.scores, arm.fields, arm, run)


def _as_arm(path: Path) -> OpenedResults | None:
    """An arm that a path names, by itself, by its fields or by its scores; None when it names none."""
    place = real(path)
    inside = place.name in ("fields", "scores") and (place.parent / "fields").is_dir()
    folder = (path.parent if path.name == place.name else place.parent) if inside else path
    run_folder = RunFolder(real(folder).parent)
    run = None
    if run_folder.record.exists():
        run = Run(run_folder, run_folder.read())
    known = run is not None and real(folder).name in run.record.arms
    if not known and not (folder / "fields").is_dir():
        return None
    run = run if known else None
    notes = run.record.problems if run is not None else ()
    return OpenedResults(path, "arm", (_method(ArmFolder(folder), run),), notes, run)


def _evaluated(path: Path) -> MethodResults:
    """A folder of scores; the fields are looked for where `iterreg evaluate` takes them from."""
    resolved = real(path)
    if resolved.name == "scores" and (resolved.parent / "fields").is_dir():
        return open_results(path).methods[0]
    beside = resolved.with_name(resolved.name.removesuffix("-scores"))
    fields = beside if beside != resolved and beside.is_dir() else None
    return MethodResults(_name_of(path), path, fields)


def _name_of(path: Path) -> str:
    path = real(path)
    if path.is_file():
        if path.name != "metrics.json":
            return path.name.removesuffix(path.suffix)
        path = path.parent
    return path.parent.name if path.name == "scores" else path.name.removesuffix("-scores")


# -- several, under names ---------------------------------------------------------------------------------


def named(text: str) -> tuple[str, Path]:
    """``NAME=PATH`` in its two parts; the name is ``""`` where there is none.

    Raises
    ------
    InputError
        If a part of it is empty.
    """
    name, equals, where = text.partition("=")
    if not equals or "/" in name or to_path(text).exists():
        return "", to_path(text)
    if not name or not where:
        raise InputError(f"{text!r}: is given as NAME=PATH")
    return name, to_path(where)


def open_named(texts: Sequence[str], *, in_folders: bool = False) -> tuple[list[MethodResults], list[str]]:
    """What is behind every ``PATH`` or ``NAME=PATH``; `in_folders` as of `open_results`.

    Returns
    -------
    The methods, each with a name of its own, and what to know about them, one sentence each. Arms of a run of
    which nothing has ended are left out.

    Raises
    ------
    InputError
        If something is not known, or two methods have one name.
    """
    if not texts:
        raise InputError("no runs are given; name at least one run folder, or folder of fields or scores")
    found: list[MethodResults] = []
    notes: list[str] = []
    for text in texts:
        name, path = named(text)
        opened = open_results(path, in_folders=in_folders)
        notes += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in opened.notes]
        if opened.kind == "table":
            raise InputError(f"{path}: is a table of scores; give the folder that iterreg evaluate wrote")
        for one in opened.methods:
            if opened.kind == "run" and one.arm is not None and not one.arm.is_begun:
                notes.append(f"{one.name}: no job of it has ended yet, so it is left out.")
                continue
            own = name and (f"{name}:{one.name}" if len(opened.methods) > 1 else name)
            found.append(replace(one, name=_speakable(own or one.name)))
    if not found:
        raise InputError(f"{', '.join(texts)}: nothing has been registered there yet, so nothing to report")
    return _distinct(found), list(dict.fromkeys(notes))


def _distinct(methods: list[MethodResults]) -> list[MethodResults]:
    """The methods as they are; refused when two have one name."""
    places: dict[str, Path] = {}
    for one in methods:
        if one.name in places:
            raise InputError(
                f"two methods are called {one.name!r} ({places[one.name]} and {one.scores}); "
                "name them with NAME=PATH"
            )
        places[one.name] = one.scores
    return methods


def dataset_of(methods: Sequence[MethodResults]) -> Dataset | None:
    """The data set that the runs were made from, with the pairs that they were asked for.

    None when no method is of a run of iterreg.

    Raises
    ------
    InputError
        If two runs are of different data sets.
    """
    records = {id(one.run.record): one.run.record for one in methods if one.run is not None}
    if not records:
        return None
    first, *others = records.values()
    for other in others:
        if not (first.dataset.is_same(other.dataset) or other.dataset.is_same(first.dataset)):
            raise InputError(
                f"the runs are of different data sets, {first.dataset} and {other.dataset}; "
                "name one with --dataset"
            )
    pairs: dict[str, Pair] = {}
    for record in records.values():
        pairs = {pair.case: pair for pair in record.pairs} | pairs
    return replace(first.asked(), pairs=tuple(pairs.values()))


def _speakable(name: str) -> str:
    """A name that can stand before ``=`` where runs are compared."""
    return name.replace("=", "-").replace("/", ":").lstrip("@") or "unnamed"
