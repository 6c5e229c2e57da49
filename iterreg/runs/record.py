"""What was asked of a run (``run.json``): its data set, its arms, the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from iterreg.dataset import Dataset, Pair, Scan, open_dataset
from iterreg.dataset.base import Opened
from iterreg.dataset.paths import ScanReader
from iterreg.errors import InputError
from iterreg.runs.arm_record import ArmRecord
from iterreg.runs.content import FORMAT, Content

__all__ = ["Command", "DatasetRecord", "RunRecord"]

_T = TypeVar("_T")
_NO_CHOICE = ("pairs_of", "limit", "labels_suffix")


@dataclass(frozen=True)
class DatasetRecord:
    """Which data set a run is of.

    Attributes
    ----------
    name, source, promised_shape
        As the data set says.
    opened
        How it was opened; None in records of before, and of data sets that no file describes.
    """

    name: str
    source: Path
    promised_shape: tuple[int, int, int] | None = None
    opened: Opened | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetRecord:
        """The record of a data set."""
        return cls(dataset.name, dataset.source.absolute(), dataset.promised_shape, dataset.opened)

    def is_same(self, other: DatasetRecord) -> bool:
        """Whether both are one data set: opened from the same place in the same way, or one that has moved.

        It has moved when it has the same name and the earlier one is not in its place any more. A record of
        before may not say of which data set it is; then it is of any.
        """
        if not self.name:
            return True
        if self.name == other.name and not self.source.exists():
            return True
        if self.opened is None or other.opened is None:
            return (self.name, self.source) == (other.name, other.source)
        return self.opened.sources == other.opened.sources and self._choice == other._choice

    def __str__(self) -> str:
        options = self.opened.options if self.opened else {}
        sources = self.opened.sources if self.opened else (self.source,)
        words = [*map(str, sources), *(f"--{name.replace('_', '-')} {v}" for name, v in options.items())]
        return f"{self.name} ({' '.join(words)})"

    @property
    def _choice(self) -> dict[str, str | int]:
        """The options with the defaults that are known without reading the data set.

        Which of a folder's images are paired, and what they are scored by, does not make it another one.
        """
        assert self.opened is not None
        options = {key: value for key, value in self.opened.options.items() if key not in _NO_CHOICE}
        return {"root": str(self.source.parent), **options}

    @classmethod
    def from_json(cls, content: Content) -> DatasetRecord:
        source = content.path("source")
        if source is None:
            raise InputError(f"{content.where}: has no 'source'")
        shape = content.get("promised_shape", list)
        opened = None
        if "opened" in content:
            inner = content.inner("opened")
            opened = Opened(
                tuple(Path(str(one)) for one in inner.need("sources", list)), dict(inner.values("options"))
            )
        promised = None if shape is None or len(shape) != 3 else (int(shape[0]), int(shape[1]), int(shape[2]))
        return cls(content.need("name", str), source, promised, opened)

    def to_json(self) -> dict[str, Any]:
        opened = self.opened
        return {
            "name": self.name,
            "source": str(self.source),
            "promised_shape": list(self.promised_shape) if self.promised_shape else None,
            "opened": None
            if opened is None
            else {"sources": [str(one) for one in opened.sources], "options": dict(opened.options)},
        }


@dataclass(frozen=True)
class Command:
    """One invocation that asked something of the run."""

    at: str
    command: str
    cores: int | None = None
    threads: int | None = None
    memory: int | None = None

    @classmethod
    def from_json(cls, content: Content) -> Command:
        numbers = (content.get(name, int) for name in ("cores", "threads", "memory"))
        return cls(content.text("at"), content.text("command"), *numbers)

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "command": self.command,
            "cores": self.cores,
            "threads": self.threads,
            "memory": self.memory,
        }


@dataclass(frozen=True)
class RunRecord:
    """The content of ``run.json``.

    Attributes
    ----------
    pairs
        Every pair that was ever asked for, with the files it was asked for with.
    arms
        Name -> what the arm is.
    commands
        Oldest first.
    problems
        One sentence for each entry that could not be read and is left out.
    """

    dataset: DatasetRecord
    pairs: tuple[Pair, ...] = ()
    arms: Mapping[str, ArmRecord] = field(default_factory=dict)
    commands: tuple[Command, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, Pair]:
        """Name -> pair."""
        return {pair.name: pair for pair in self.pairs}

    def asked(self) -> Dataset:
        """The data set with the pairs that the run was asked for, with the files it was asked for with.

        Labels, landmarks and masks that it did not have then are added, as the data set names them now.
        """
        one, now = self.dataset, self._reopened()
        found = {pair.case: pair for pair in now.pairs} if now else {}
        pairs = tuple(_with_new(pair, found.get(pair.case)) for pair in self.pairs)
        return Dataset(one.name, pairs, one.source, one.promised_shape, opened=one.opened)

    def whole(self) -> Dataset:
        """The whole data set, of which the run may have been asked for a part.

        A json or csv that is still where it was is read again, as it was read then. Otherwise it is `asked`,
        with a note.
        """
        whole = self._reopened() if self.dataset.source.suffix.lower() in (".json", ".csv", ".tsv") else None
        if whole is not None and self.by_name.keys() <= {pair.name for pair in whole.pairs}:
            return whole
        note = (
            "the pairs are those that the run was asked for; "
            "name the challenge's json with --dataset to be held to it"
        )
        return replace(self.asked(), notes=(note,))

    def _reopened(self) -> Dataset | None:
        """The data set as it is now; None when it is not there any more."""
        if not self.dataset.source.exists():
            return None
        opened = self.dataset.opened
        options: Mapping[str, Any] = opened.options if opened else {}
        try:
            return open_dataset(opened.sources if opened else (self.dataset.source,), **options)
        except (InputError, TypeError):  # a later iterreg may know options that this one does not
            return None

    @classmethod
    def from_json(cls, content: Content) -> RunRecord:
        """Read what `to_json` made; an entry that cannot be read costs that entry alone.

        Raises
        ------
        InputError
            If it is of a version that is not known, or does not say of which data set the run is.
        """
        version = content.known_format()
        inner = content.inner("dataset")
        named = version > 1 or "source" in inner
        dataset = DatasetRecord.from_json(inner) if named else DatasetRecord("", Path())
        problems: list[str] = []
        arms = Content(content.values("arms"), f"{content.where}: arms")
        read_pair = _earlier_pairs(dataset) if version == 1 else _pairs_of(content, problems)
        return cls(
            dataset,
            tuple(_sound(content.get("pairs", list) or [], f"{content.where}: pair", read_pair, problems)),
            {
                name: arm
                for name in arms
                for arm in _sound([arms.get_any(name)], f"{content.where}: arm {name}", _arm, problems)
                if _is_name(name, content.where, problems)
            },
            tuple(
                _sound(
                    content.get("commands", list) or [],
                    f"{content.where}: command",
                    Command.from_json,
                    problems,
                )
            ),
            tuple(problems),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``run.json``; `problems` are not kept."""
        return {
            "format": FORMAT,
            "dataset": self.dataset.to_json(),
            "arms": {name: arm.to_json() for name, arm in self.arms.items()},
            "commands": [one.to_json() for one in self.commands],
            **_pairs_to_json(self.pairs),
        }


def _arm(content: Content) -> ArmRecord:
    return ArmRecord.from_json(content)


def _is_name(name: str, where: str, problems: list[str]) -> bool:
    if name and name not in (".", "..") and not {"/", "\0"} & set(name):
        return True
    problems.append(f"{where}: arm {name!r} is no name of a folder; it is left out")
    return False


def _sound(
    found: Sequence[object], where: str, read: Callable[[Content], _T], problems: list[str]
) -> Iterator[_T]:
    """What can be read of a list; a problem for each of the others."""
    for number, one in enumerate(found, start=1):
        place = f"{where} {number}" if len(found) > 1 else where
        try:
            yield read(Content(one, place))
        except InputError as error:
            problems.append(f"{error}; it is left out")


_COMPANIONS = ("labels", "landmarks", "mask")


def _with_new(pair: Pair, now: Pair | None) -> Pair:
    """A pair with the companions it lacks, from the same images as the data set has them now."""
    if now is None or (now.fixed.path, now.moving.path) != (pair.fixed.path, pair.moving.path):
        return pair
    fixed, moving = (
        replace(scan, **{name: getattr(scan, name) or getattr(other, name) for name in _COMPANIONS})
        for scan, other in ((pair.fixed, now.fixed), (pair.moving, now.moving))
    )
    return replace(pair, fixed=fixed, moving=moving)


def _pairs_to_json(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Every scan once, and the pairs with the numbers of theirs: thousands of pairs share some hundreds."""
    numbers: dict[Scan, int] = {}
    listed = [
        {
            "name": pair.name,
            "case": pair.case,
            "task": pair.task,
            "fixed": numbers.setdefault(pair.fixed, len(numbers)),
            "moving": numbers.setdefault(pair.moving, len(numbers)),
        }
        for pair in pairs
    ]
    return {"scans": [_scan_to_json(scan) for scan in numbers], "pairs": listed}


def _scan_to_json(scan: Scan) -> dict[str, Any]:
    companions = {name: getattr(scan, name) for name in _COMPANIONS}
    return {
        "path": str(scan.path.absolute()),
        "subject": scan.subject,
        "modality": scan.modality,
        **{name: str(path.absolute()) for name, path in companions.items() if path is not None},
    }


def _pairs_of(record: Content, problems: list[str]) -> Callable[[Content], Pair]:
    """Reader of pairs, which name their scans by numbers."""
    scans: list[Scan | None] = []
    for one in record.get("scans", list) or []:
        sound = _sound([one], f"{record.where}: scan {len(scans)}", _scan, problems)
        scans.append(next(sound, None))

    def read(content: Content) -> Pair:
        ends = []
        for side in ("fixed", "moving"):
            number = content.need(side, int)
            scan = scans[number] if 0 <= number < len(scans) else None
            if scan is None:
                raise InputError(f"{content.where}: {side!r} is scan {number}, which is not there")
            ends.append(scan)
        return _called(Pair(ends[0], ends[1], content.text("task")), content)

    return read


def _called(pair: Pair, content: Content) -> Pair:
    """The pair under the name it had: in full where another of its data set was called the same."""
    return replace(pair, in_full=content.text("name") not in ("", pair.short_name))


def _scan(content: Content) -> Scan:
    path = content.path("path")
    if path is None:
        raise InputError(f"{content.where}: has no 'path'")
    labels, landmarks, mask = (content.path(name) for name in _COMPANIONS)
    return Scan(
        path,
        content.need("subject", str),
        content.text("modality") or "0000",
        labels=labels,
        landmarks=landmarks,
        mask=mask,
    )


def _earlier_pairs(dataset: DatasetRecord) -> Callable[[Content], Pair]:
    """Reader of the pairs of format 1, which say no more than the images' paths and the evaluator's key.

    Companions are those that the data set names for the same images, else those beside them.
    """
    try:
        known = {pair.case: pair for pair in open_dataset(dataset.source).pairs}
    except InputError:
        known = {}
    beside = ScanReader(Path.cwd())

    def read(content: Content) -> Pair:
        paths = content.need("fixed", str), content.need("moving", str)
        case = content.need("case", str)
        pair = known.get(case)
        if pair is not None and (str(pair.fixed.path), str(pair.moving.path)) == paths:
            return _called(replace(pair, task=content.text("task")), content)
        ends = case.split("<--")
        if len(ends) != 2 or any("\0" in path for path in paths):
            raise InputError(f"{content.where}: 'case' is {case!r} and names no two images")
        scans = []
        for path, end in zip(paths, ends, strict=True):
            subject, _, modality = end.rpartition("_")
            scans.append(replace(beside.scan(path), subject=subject, modality=modality))
        return _called(Pair(scans[0], scans[1], content.text("task")), content)

    return read
