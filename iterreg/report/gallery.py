"""The pairs of a report: who did how well on each, worst first, with pictures that keep within a size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from iterreg.dataset.base import Dataset, Pair
from iterreg.errors import InputError
from iterreg.report.cutting import PairCutter
from iterreg.report.panels import QUALITIES, Painter, Panel, Quality
from iterreg.report.planes import oblique_degrees
from iterreg.report.results import Failure, Results

__all__ = ["MethodOnPair", "PairSection", "Ranking", "gallery"]


@dataclass(frozen=True)
class Ranking:
    """What pairs are ranked by: the worst number that any method has which registers.

    Attributes
    ----------
    measure, title
        Its name in the files, and what the report calls it.
    """

    measure: str
    title: str
    higher_is_better: bool

    def worst(self, pair: Pair, results: Sequence[Results]) -> float:
        """The worst number of a pair; of the identity where nobody else has one, NaN where nobody has."""
        for chosen in (_registering(results), results):
            values = [one.scores(pair.case).get(self.measure, math.nan) for one in chosen]
            known = [value for value in values if not math.isnan(value)]
            if known:
                return min(known) if self.higher_is_better else max(known)
        return math.nan

    def key(self, pair: Pair, results: Sequence[Results]) -> tuple[bool, float]:
        """For sorting: pairs without any number first, then from the worst on."""
        worst = self.worst(pair, results)
        if math.isnan(worst):
            return False, 0.0
        return True, worst if self.higher_is_better else -worst


@dataclass(frozen=True, eq=False)
class MethodOnPair:
    """One method's result on a pair.

    Attributes
    ----------
    scores
        Measure -> number, as far as it is known.
    panels
        Empty when there is nothing to show; then `note` or `failure` says why.
    """

    method: str
    scores: Mapping[str, float]
    failure: Failure | None = None
    panels: tuple[Panel, ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class PairSection:
    """One pair of the report.

    Attributes
    ----------
    key
        Its anchor.
    rank
        1 for the worst.
    worst
        The number by which it is ranked; NaN when there is none.
    before
        Panels of the two images before registration.
    notes
        What to know of its pictures, one sentence each.
    named
        Whether the pair's name is its alone; else only the case tells it from others.
    """

    key: str
    rank: int
    pair: Pair
    worst: float
    methods: tuple[MethodOnPair, ...]
    before: tuple[Panel, ...] = ()
    notes: tuple[str, ...] = ()
    named: bool = True

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Of the methods that failed on it."""
        return tuple(one.failure for one in self.methods if one.failure is not None)

    @property
    def size(self) -> int:
        """Bytes of its pictures."""
        panels = [*self.before, *(panel for one in self.methods for panel in one.panels)]
        return sum(len(panel.svg) for panel in panels)


def gallery(
    results: Sequence[Results],
    dataset: Dataset,
    ranking: Ranking,
    *,
    budget: int,
    rows: int = 1,
    on_pair: Callable[[str], None] | None = None,
) -> Iterator[PairSection]:
    """Every pair, worst first; its images are read when it is asked for, one pair and one field at a time.

    Parameters
    ----------
    budget
        Bytes of all pictures together. Where they would not fit they are made coarser, in the end left out.
    rows
        Rows of three planes in each picture, an odd number.
    on_pair
        Called with each pair's name before it is read.
    """
    ranked = sorted(dataset.pairs, key=lambda pair: ranking.key(pair, results))
    named = Counter(pair.name for pair in dataset.pairs)
    spent, level = 0, 0
    for number, pair in enumerate(ranked):
        if on_pair:
            on_pair(pair.name)
        bare = PairSection(
            f"pair-{number + 1}",
            number + 1,
            pair,
            ranking.worst(pair, results),
            tuple(
                MethodOnPair(one.entry.name, one.scores(pair.case), one.failure(pair.case, pair.name))
                for one in results
            ),
            named=named[pair.name] == 1,
        )
        share = (budget - spent) / (len(ranked) - number)
        section = None
        while section is None:
            found = _pictured(bare, results, QUALITIES[level], rows)
            if found.size <= share:
                section = found
            elif level + 1 < len(QUALITIES):
                level += 1
            elif spent + found.size <= budget:
                section = found  # at the expense of better pairs
            else:
                note = (
                    "Its pictures are left out to keep the report small: report fewer pairs, or allow more."
                )
                section = replace(bare, notes=(note,))
        if section.size < share / 2:
            level = max(level - 1, 0)  # there is room for the next pair to be finer
        spent += section.size
        yield section


def _pictured(section: PairSection, results: Sequence[Results], quality: Quality, rows: int) -> PairSection:
    pair = section.pair
    try:
        cutter = PairCutter(pair, _missed(pair, results), rows=rows)
    except (InputError, OSError) as error:
        return replace(section, notes=(f"No pictures: {error}.",))
    painter = Painter(
        section.key,
        pair.name,
        cutter.fixed,
        cutter.windows,
        comparable=pair.fixed.modality == pair.moving.modality,
        quality=quality,
    )
    shown = [
        _method(one, result, number, pair, cutter, painter)
        for number, (one, result) in enumerate(zip(section.methods, results, strict=True), start=1)
    ]
    return replace(
        section,
        methods=tuple(shown),
        before=(painter.fixed(), *painter.before(cutter.before)),
        notes=tuple(_notes(pair, cutter, rows)),
    )


def _method(
    one: MethodOnPair, result: Results, number: int, pair: Pair, cutter: PairCutter, painter: Painter
) -> MethodOnPair:
    if result.entry.is_identity:
        return replace(one, note="It moves nothing: its pictures are those before registration.")
    files = result.field(pair)
    if not files:
        note = "" if one.failure else "Only its scores are here; give the folder of its fields to see it."
        return replace(one, note=note)
    try:
        cut = cutter.after(files, name=result.storage.format, folds=one.scores.get("folded_voxels", 0) > 0)
    except (InputError, OSError) as error:
        return replace(one, note=f"No pictures: {error}.")
    return replace(one, panels=tuple(painter.after(number, one.method, cut)))


def _notes(pair: Pair, cutter: PairCutter, rows: int) -> Iterator[str]:
    where = (
        "where they cut most of the labels' volume that was missed"
        if cutter.located_by_labels
        else "through the middle of the head"
    )
    others = f"; of {rows} rows the middle one, the others spread over the head" if rows > 1 else ""
    place = ", ".join(map(str, cutter.place))
    spacing = " × ".join(f"{size:.3g}" for size in cutter.grid.spacing)
    shape = " × ".join(map(str, cutter.grid.shape))
    yield (
        f"Planes through voxel {place} of the fixed image, {where}{others}. Fixed grid: {shape} voxels of "
        f"{spacing} mm, stored {cutter.grid.orientation}."
    )
    angle = oblique_degrees(cutter.grid)
    if angle > 1:
        yield f"The image is oblique: its planes are up to {angle:.0f}° from the anatomical ones."
    if pair.fixed.modality != pair.moving.modality:
        yield "The two images are of different contrasts, so no difference is shown."
    yield from (f"{note[:1].upper()}{note[1:]}." for note in cutter.notes)


def _missed(pair: Pair, results: Sequence[Results]) -> dict[int, float]:
    """Label -> 1 - Dice, meant over the methods that register."""
    found: dict[int, list[float]] = {}
    for one in _registering(results) or results:
        for label, dice in one.dice.get(pair.case, {}).items():
            found.setdefault(label, []).append(1 - dice)
    return {label: float(np.mean(values)) for label, values in found.items()}


def _registering(results: Sequence[Results]) -> list[Results]:
    return [one for one in results if not one.entry.is_identity]
