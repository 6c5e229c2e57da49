"""What every data set gives: its pairs, with the files the challenge's path rule finds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from iterreg.errors import InputError
from iterreg.words import did_you_mean

__all__ = ["Dataset", "Kind", "Opened", "Pair", "Scan"]

_LISTED = 12

Kind = Literal["labels", "landmarks", "masks"]


@dataclass(frozen=True)
class Scan:
    """One image of a data set.

    Attributes
    ----------
    path
        The image file; it need not exist, `iterreg.dataset.check` reports that.
    subject
        Its id as it appears in field names (``"3455"`` for ``LUMIRMRI_3455_0000.nii.gz``).
    modality
        Its four-digit modality (``"0000"``), as the challenge numbers contrasts.
    labels, landmarks, mask
        Companion files where they exist. Landmarks are a label volume of blobs (LUMIR) or a ``.csv``
        of points in voxels, one ``x,y,z`` a line (other Learn2Reg tasks).
    """

    path: Path
    subject: str
    modality: str = "0000"
    labels: Path | None = None
    landmarks: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving scan to be registered.

    Attributes
    ----------
    fixed, moving
        The field lives on the fixed scan's grid and points into the moving scan.
    task
        The named group it belongs to (``"in-domain"``, ``"multi-modal"`` …), ``""`` when there is one.
    in_full
        Whether it has its long name because another pair of its data set would have the same short one;
        a `Dataset` sees to that.
    """

    fixed: Scan
    moving: Scan
    task: str = ""
    in_full: bool = False

    @property
    def name(self) -> str:
        """What its field is called after ``disp_``: `short_name`, or `long_name` where that is needed."""
        return self.long_name if self.in_full else self.short_name

    @property
    def short_name(self) -> str:
        """The challenge's name: ``FIX_MOV``, or `long_name` where the challenge needs it.

        Short when both modalities are equal or fixed is 0000 and moving 0001; long otherwise. LUMIR's
        evaluator accepts no other form. Learn2Reg's newest one takes the long form for every pair and
        the short one only for 0000 <- 0001.
        """
        f, m = self.fixed, self.moving
        if f.modality == m.modality or (f.modality, m.modality) == ("0000", "0001"):
            return f"{f.subject}_{m.subject}"
        return self.long_name

    @property
    def long_name(self) -> str:
        """``FIX_FMOD_MOV_MMOD``, which tells two pairs apart that differ in a modality alone."""
        f, m = self.fixed, self.moving
        return f"{f.subject}_{f.modality}_{m.subject}_{m.modality}"

    @property
    def case(self) -> str:
        """The official evaluator's key of the case: ``3455_0000<--3454_0000``."""
        f, m = self.fixed, self.moving
        return f"{f.subject}_{f.modality}<--{m.subject}_{m.modality}"


@dataclass(frozen=True)
class Opened:
    """How a data set was opened: with these, `iterreg.dataset.open_dataset` opens it again.

    Attributes
    ----------
    sources
        The files or the folder, absolute.
    options
        The options that were given, paths absolute.
    """

    sources: tuple[Path, ...]
    options: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A list of pairs with what the data set promises about them.

    The T1w pair, the T2w pair and the T1w <- T2w pair of two subjects all have one short name. Where several
    pairs share one, each gets its long name, which it keeps in every selection of the data set.

    Attributes
    ----------
    name
        For titles and result rows.
    pairs
        In the data set's own order.
    source
        The file or folder it was read from.
    promised_shape
        Shape every volume has, when the data set states it; then one grid is promised for all.
    notes
        What the reader of the data set should know about how it was read, one sentence each.
    opened
        How it was opened; None when it was put together by other means.
    """

    name: str
    pairs: tuple[Pair, ...]
    source: Path
    promised_shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = field(default=())
    opened: Opened | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", _told_apart(self.pairs))

    def scans(self) -> Iterator[Scan]:
        """Every scan once, in order of first use."""
        seen: set[Path] = set()
        for pair in self.pairs:
            for scan in (pair.fixed, pair.moving):
                if scan.path not in seen:
                    seen.add(scan.path)
                    yield scan

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task names in order of first appearance."""
        return tuple(dict.fromkeys(pair.task for pair in self.pairs))

    def select(
        self,
        *,
        tasks: Sequence[str] | None = None,
        pairs: Sequence[str] | None = None,
        first: int | None = None,
    ) -> Dataset:
        """The same data set with only some of its pairs, in its own order.

        Parameters
        ----------
        tasks
            Keep the pairs of these tasks.
        pairs
            Keep the pairs with these names: short, long or the evaluator's key (`Pair.case`).
        first
            Of what is left, keep the first so many.

        Raises
        ------
        InputError
            If a task or a pair does not exist, `first` is not positive, or nothing is left.
        """
        chosen = self.pairs
        if tasks is not None:
            for task in tasks:
                if task not in self.tasks:
                    raise InputError(self._unknown_task(task))
            chosen = tuple(pair for pair in chosen if pair.task in tasks)
        if pairs is not None:
            wanted = set(pairs)
            chosen = tuple(pair for pair in chosen if wanted & _names(pair))
            for name in pairs:
                if not any(name in _names(pair) for pair in chosen):
                    raise InputError(self._unknown_pair(name, tasks))
        if first is not None:
            if first < 1:
                raise InputError(f"the first {first} pairs cannot be chosen; ask for at least 1")
            chosen = chosen[:first]
        if not chosen:
            raise InputError(f"{self.source}: no pair is left after the selection; ask for fewer conditions")
        return replace(self, pairs=chosen)

    def _unknown_task(self, name: str) -> str:
        known = [task for task in self.tasks if task]
        if not known:
            return f"{self.source}: has no task {name!r}, as its pairs belong to no tasks; leave --task out"
        listed = ", ".join(repr(task) for task in known[:_LISTED])
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        guess = did_you_mean(name, known)
        return (
            f"{self.source}: has no task {name!r}; {f'{guess} ' if guess else ''}its tasks are {listed}{more}"
        )

    def _unknown_pair(self, name: str, tasks: Sequence[str] | None) -> str:
        known = [pair.name for pair in self.pairs if tasks is None or pair.task in tasks]
        within = f" in task {', '.join(tasks)}" if tasks is not None else ""
        elsewhere = [pair.task for pair in self.pairs if name in _names(pair)]
        if elsewhere:
            return f"{self.source}: has no pair {name!r}{within}; it belongs to task {elsewhere[0]}"
        file = name.removeprefix("disp_").removesuffix(".gz").removesuffix(".nii")
        swapped = [pair.name for pair in self.pairs if name == f"{pair.moving.subject}_{pair.fixed.subject}"]
        guess = f"did you mean {swapped[0]!r}?" if swapped else did_you_mean(file, known)
        close = difflib.get_close_matches(file, known, n=3, cutoff=0.5) or known[:3]
        return (
            f"{self.source}: has no pair {name!r}{within}; {f'{guess} ' if guess else ''}"
            f"pairs are named FIXED_MOVING by their ids, for example {', '.join(close)}"
        )


def _told_apart(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """The pairs, those in full whose names differ in nothing but what a short name leaves out."""
    pairs = tuple(pairs)
    called: dict[str, set[str]] = {}
    for pair in pairs:
        called.setdefault(pair.name, set()).add(pair.long_name)
    if all(len(meant) == 1 for meant in called.values()):
        return pairs
    return tuple(replace(pair, in_full=True) if len(called[pair.name]) > 1 else pair for pair in pairs)


def _names(pair: Pair) -> set[str]:
    return {pair.name, pair.long_name, pair.case}
