"""What a report is over: methods with their fields, scores, jobs and provenance, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from iterreg.batch.runfolder import ArmFolder, RunFolder
from iterreg.dataset import Dataset, Pair, open_dataset
from iterreg.dataset.paths import ScanReader
from iterreg.errors import InputError
from iterreg.io.challenge import field_name
from iterreg.paths import real, to_path
from iterreg.text_files import read_json, read_table

__all__ = ["Entry", "dataset_of", "find_entries", "is_scored", "protocol_of"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method's results.

    Attributes
    ----------
    name
        What the report calls it.
    scores
        The folder that `iterreg evaluate` writes, or will write.
    fields
        The folder of its fields; None when only scores are known.
    arm
        Its folder in a run of iterreg; None for anyone else's fields.
    request
        What the run's ``run.json`` says of the arm: method, preset, values, seed.
    run
        The whole ``run.json``.
    """

    name: str
    scores: Path
    fields: Path | None = None
    arm: ArmFolder | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_identity(self) -> bool:
        """Whether it registers nothing, so that its pictures are those before registration."""
        return self.request.get("method") == "identity"

    def status(self, pair: str) -> Mapping[str, Any]:
        """How the arm's job on a pair ended; empty when it is not known."""
        return (self.arm.job(pair).read_status() or {}) if self.arm else {}

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

    def sidecar(self, pairs: Iterable[str]) -> Mapping[str, Any]:
        """The provenance beside the first field that has one."""
        if self.fields is None:
            return {}
        for pair in pairs:
            path = self.fields / field_name(pair)
            try:
                found = read_json(path.with_name(f"disp_{pair}.json"))
            except InputError:
                continue
            if isinstance(found, dict):
                return found
        return {}


def find_entries(texts: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """What is behind every ``RUN`` or ``NAME=RUN``.

    Parameters
    ----------
    texts
        A run folder (all its arms), one arm's folder, a folder of fields, or a folder of scores.

    Returns
    -------
    The entries, each with a name of its own, and what to know about them, one sentence each.

    Raises
    ------
    InputError
        If something is none of these, or two entries have one name.
    """
    if not texts:
        raise InputError("no runs are given; name at least one run folder, or folder of fields or scores")
    entries: list[Entry] = []
    notes: list[str] = []
    for text in texts:
        name, path = _split(text)
        found, said = _find(path)
        notes += said
        if name and len(found) == 1:
            found = [_renamed(found[0], name)]
        elif name:
            found = [_renamed(one, f"{name}:{one.name}") for one in found]
        entries += [_renamed(one, _speakable(one.name)) for one in found]
    places: dict[str, Path] = {}
    for entry in entries:
        if entry.name in places:
            raise InputError(
                f"two methods are called {entry.name!r} ({places[entry.name]} and {entry.scores}); "
                "name them with NAME=RUN"
            )
        places[entry.name] = entry.scores
    if not entries:
        raise InputError(f"{', '.join(texts)}: nothing has been registered there yet, so nothing to report")
    return entries, notes


def dataset_of(entries: Sequence[Entry]) -> Dataset | None:
    """The data set that the runs were made from, with the pairs they were asked for.

    None when no entry is of a run of iterreg.

    Raises
    ------
    InputError
        If two runs are of different data sets.
    """
    records = {id(entry.run): entry.run for entry in entries if entry.run}
    names = {str(run["dataset"]["name"]) for run in records.values()}
    if len(names) > 1:
        raise InputError(
            f"the runs are of different data sets ({', '.join(sorted(names))}); name one with --dataset"
        )
    if not records:
        return None
    listed = {str(pair["case"]): pair for run in records.values() for pair in run["pairs"]}
    sources = [Path(run["dataset"]["source"]) for run in records.values()]
    for source in sources:
        try:
            found = open_dataset(source).select(pairs=list(listed))
        except InputError:
            continue
        if all(pair.fixed.path.is_file() and pair.moving.path.is_file() for pair in found.pairs):
            return found
    # A json with another root, two image files, an atlas: the run knows where the images were.
    reader = ScanReader(Path.cwd())
    pairs = tuple(
        Pair(reader.scan(pair["fixed"]), reader.scan(pair["moving"]), str(pair.get("task", "")))
        for pair in listed.values()
    )
    return Dataset(names.pop(), pairs, sources[0])


def is_scored(entry: Entry, dataset: Dataset) -> bool:
    """Whether the scores on disk are those of the fields on disk, pair by pair."""
    table = entry.scores / "pairs.csv"
    try:
        rows = {row["case"]: row for row in read_table(table)}
        written = table.stat().st_mtime_ns
    except (OSError, KeyError, InputError):
        return False
    if entry.fields is None:
        return True
    for pair in dataset.pairs:
        row = rows.get(pair.case)
        if row is None:
            return False
        name = row.get("field") or field_name(pair.name)
        path = entry.fields / name
        if path.is_file() != bool(row.get("field")) or (path.is_file() and path.stat().st_mtime_ns > written):
            return False
    return True


def protocol_of(entry: Entry) -> str | None:
    """The protocol by which an entry's scores on disk were made."""
    try:
        return str(read_json(entry.scores / "summary.json")["protocol"])
    except (InputError, KeyError, TypeError):
        return None


def _split(text: str) -> tuple[str, Path]:
    name, equals, where = text.partition("=")
    if not equals or "/" in name or to_path(text).exists():
        return "", to_path(text)
    if not name or not where:
        raise InputError(f"{text!r}: is given as NAME=RUN")
    return name, to_path(where)


def _find(path: Path) -> tuple[list[Entry], list[str]]:
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder; give a run folder, fields, or scores")
    if (path / "run.json").is_file():
        return _arms(path)
    if (path / "fields").is_dir():
        return [_arm(path)], []
    if (path / "pairs.csv").is_file():
        return [_evaluated(path)], []
    if any(path.glob("disp_*")):
        return [_fields(path)], []
    raise InputError(
        f"{path}: is neither a run folder (run.json), nor an arm, nor fields (disp_…), nor scores (pairs.csv)"
    )


def _arms(path: Path) -> tuple[list[Entry], list[str]]:
    folder = RunFolder(path)
    record = folder.read()
    found, notes = [], []
    for name, request in record["arms"].items():
        arm = folder.arm(name)
        if any(arm.fields.glob("disp_*")) or any(job.status.is_file() for job in arm.jobs()):
            found.append(Entry(name, arm.path / "scores", arm.fields, arm, request, record))
        else:
            notes.append(f"{name}: no job of it has ended yet, so it is left out.")
    return found, notes


def _arm(path: Path) -> Entry:
    """An arm's folder; what its run says of it when the run is there."""
    arm = ArmFolder(path)
    name = real(path).name
    request: Mapping[str, Any] = {}
    record: Mapping[str, Any] = {}
    if (path.parent / "run.json").is_file():
        record = RunFolder(real(path).parent).read()
        request = record["arms"].get(name, {})
    return Entry(name, path / "scores", path / "fields", arm, request, record)


def _evaluated(path: Path) -> Entry:
    """A folder of scores; the fields are looked for where `iterreg evaluate` takes them from."""
    resolved = real(path)
    if resolved.name == "scores" and (resolved.parent / "fields").is_dir():
        found = _arm(path.parent if path.name == "scores" else resolved.parent)
        return replace(found, scores=path)
    name = resolved.name.removesuffix("-scores")
    beside = resolved.with_name(name)
    fields = beside if beside != resolved and beside.is_dir() else None
    return Entry(resolved.parent.name if resolved.name == "scores" else name, path, fields)


def _fields(path: Path) -> Entry:
    resolved = real(path)
    if resolved.name == "fields":
        return _arm(path.parent if path.name == "fields" else resolved.parent)
    return Entry(resolved.name, resolved.with_name(f"{resolved.name}-scores"), path)


def _speakable(name: str) -> str:
    """A name that can stand before ``=`` where runs are compared."""
    return name.replace("=", "-").replace("/", ":").lstrip("@") or "unnamed"


def _renamed(entry: Entry, name: str) -> Entry:
    return replace(entry, name=name)
