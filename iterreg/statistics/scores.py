"""Scores of any number of runs in one tidy table, with what is missing from which of them, and why."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.statistics.label_choice import averaged_over, background_alone, counts_background
from iterreg.statistics.label_groups import LabelTable, label_table
from iterreg.statistics.measures import Measure, measure_named, with_directions
from iterreg.statistics.published import PublishedMean
from iterreg.statistics.sources import Source, read_sources, subjects_of

__all__ = ["ALL_CASES", "Missing", "Run", "Scope", "ScopeKind", "Scores", "load_scores"]

ScopeKind = Literal["all", "task", "contrast", "group", "label"]


@dataclass(frozen=True)
class Run:
    """One evaluated run, or one published method.

    Attributes
    ----------
    name
        As the user called it; ``METHOD@LEVEL`` when it is one level of a sensitivity arm.
    path
        Where its scores were read; None for a published method.
    reference
        Published by others: it has means, no cases, and is never tested.
    protocol, dataset
        What it was scored by and on; empty when its files do not say.
    """

    name: str
    path: Path | None = None
    reference: bool = False
    protocol: str = ""
    dataset: str = ""

    @property
    def method(self) -> str:
        """The name without its level."""
        return self.name.rpartition("@")[0] or self.name

    @property
    def level(self) -> str:
        """What stands behind ``@``; empty when there is none."""
        method, at, level = self.name.rpartition("@")
        return level if at and method else ""


@dataclass(frozen=True)
class Missing:
    """A case that another run has a number for and this one has not.

    Attributes
    ----------
    reason
        Why: what the evaluation recorded, that the number is NaN or infinite, or that there is no row.
    """

    run: str
    case: str
    measure: str
    reason: str


@dataclass(frozen=True)
class Scope:
    """Which numbers are looked at.

    Attributes
    ----------
    kind
        ``"all"`` cases; those of a ``"task"`` or a ``"contrast"``; of every case the number of one
        ``"label"``, or the mean over a ``"group"`` of labels.
    name
        Of the task, contrast, group or label; empty for all.
    """

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return "all cases" if self.kind == "all" else f"{self.kind} {self.name}"


ALL_CASES = Scope("all")
"""Every case, whatever its task and contrast."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything that was read; made by `load_scores`, and not to be changed.

    Attributes
    ----------
    runs
        In the order they were given.
    measures
        Every measure some run has: overlap first, what is beyond the challenges last.
    cases
        Columns run, case, fixed, moving, task, contrast, measure, value: one row per finite number. fixed and
        moving are the ids of the subjects, contrast is ``0000`` or ``0000-0001`` (fixed-moving).
    labels
        Columns run, case, label, group, measure, value: one row per finite number; beside the runs' own
        measures there is `iterreg.statistics.sources.INITIAL_DICE`.
    missing
        Every number that some other run has; see `Missing`.
    published
        Means of the reference runs, by run.
    label_names
        Label -> what it is called, where that is known.
    notes
        What a reader must know before comparing, one sentence each.
    """

    runs: tuple[Run, ...]
    measures: tuple[Measure, ...]
    cases: pd.DataFrame
    labels: pd.DataFrame
    missing: tuple[Missing, ...]
    published: Mapping[str, tuple[PublishedMean, ...]] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def own_runs(self) -> tuple[Run, ...]:
        """The runs with cases: all that are not published means."""
        return tuple(run for run in self.runs if not run.reference)

    @property
    def ranked_measures(self) -> tuple[Measure, ...]:
        """What is compared unless asked otherwise: the challenges' measures with a known better direction.

        Those that some run with cases was asked for, if there is any such run.
        """
        lacking = {one.measure for one in self.missing}
        had = set(self.cases["measure"]) | lacking or {measure.name for measure in self.measures}
        return tuple(
            m for m in self.measures if m.official and m.higher_is_better is not None and m.name in had
        )

    def measure(self, name: str) -> Measure:
        """The measure of that name or title.

        Raises
        ------
        InputError
            If no run has it.
        """
        # A name comes before a title: hd95_mm is called HD95 too.
        for named in (True, False):
            for measure in self.measures:
                if measure.name == name if named else measure.called(name):
                    return measure
        raise InputError(
            f"no run has the measure {name!r}; there are {', '.join(m.name for m in self.measures)}"
        )

    def scopes(self, measure: str, kind: ScopeKind) -> tuple[Scope, ...]:
        """The scopes of a kind for which some run has the measure.

        There is no scope ``task`` or ``contrast`` where all cases belong to the same one.
        """
        if kind == "all":
            return (Scope("all"),)
        if kind in ("task", "contrast"):
            found = self.cases.loc[self.cases["measure"] == measure, kind]
            names = [str(name) for name in dict.fromkeys(found) if name]
            return tuple(Scope(kind, name) for name in names) if len(names) > 1 else ()
        found = self.labels.loc[self.labels["measure"] == measure, kind]
        names = sorted(set(found)) if kind == "label" else [name for name in dict.fromkeys(found) if name]
        return tuple(Scope(kind, str(name)) for name in names)

    def table(self, measure: str, scope: Scope = ALL_CASES) -> pd.DataFrame:
        """Cases × runs, NaN where a run has no number; the index is (case, fixed, moving).

        Of a label group: per case and run the mean over the group's labels.

        Raises
        ------
        InputError
            If no run has the measure.
        """
        names = [run.name for run in self.own_runs]
        measure = self.measure(measure).name
        wide = self._tables.get((measure, scope))
        if wide is None:
            wide = self._build(measure, scope).reindex(columns=names)
            self._tables[measure, scope] = wide
        return wide.copy()

    @cached_property
    def _tables(self) -> dict[tuple[str, Scope], pd.DataFrame]:
        return {}

    def _build(self, measure: str, scope: Scope) -> pd.DataFrame:
        if scope.kind in ("label", "group"):
            return self._build_from_labels(measure, scope)
        rows = self.cases[self.cases["measure"] == measure]
        if scope.kind != "all":
            rows = rows[rows[scope.kind] == scope.name]
        wide = rows.pivot(index="case", columns="run", values="value")
        cases = [case for case in self._subjects if case in wide.index]
        return wide.reindex(cases).set_axis(self._index(cases))

    def _build_from_labels(self, measure: str, scope: Scope) -> pd.DataFrame:
        labels, index, cube = self._cube(measure)
        if scope.kind == "label":
            values = cube[labels.index(int(scope.name))]
        else:
            rows = self.labels[self.labels["group"] == scope.name]
            members = set(rows["label"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # where a run has none of the labels
                values = np.nanmean(cube[[i for i, label in enumerate(labels) if label in members]], axis=0)
        kept = np.isfinite(values).any(axis=1)
        names = [run.name for run in self.own_runs]
        return pd.DataFrame(values[kept], index=index[kept], columns=names)

    def _cube(self, measure: str) -> tuple[list[int], pd.MultiIndex, NDArray[np.float64]]:
        """Every label's number at once: labels, cases, (labels, cases, runs)."""
        if measure not in self._cubes:
            rows = self.labels[self.labels["measure"] == measure]
            having = set(rows["case"])
            cases = [case for case in self._subjects if case in having]
            labels = sorted(set(rows["label"]))
            names = [run.name for run in self.own_runs]
            cube = np.full((len(labels), len(cases), len(names)), np.nan)
            place = (
                pd.Categorical(rows["label"], labels).codes,
                pd.Categorical(rows["case"], cases).codes,
                pd.Categorical(rows["run"], names).codes,
            )
            kept = np.logical_and.reduce([codes >= 0 for codes in place])
            cube[tuple(codes[kept] for codes in place)] = rows["value"].to_numpy()[kept]
            self._cubes[measure] = labels, self._index(cases), cube
        return self._cubes[measure]

    @cached_property
    def _cubes(self) -> dict[str, tuple[list[int], pd.MultiIndex, NDArray[np.float64]]]:
        return {}

    def _index(self, cases: Sequence[str]) -> pd.MultiIndex:
        subjects = [self._subjects[case] for case in cases]
        columns = [list(cases), *([pair[k] for pair in subjects] for k in (0, 1))]
        return pd.MultiIndex.from_arrays(columns, names=["case", "fixed", "moving"])

    @cached_property
    def _subjects(self) -> dict[str, tuple[str, str]]:
        """Case -> its fixed and moving subject, in the cases' order of first appearance."""
        firsts = self.cases.drop_duplicates("case")
        return dict(zip(firsts["case"], zip(firsts["fixed"], firsts["moving"], strict=True), strict=True))


def load_scores(
    texts: Sequence[str],
    *,
    robust: bool = False,
    better: Mapping[str, str] | None = None,
    label_groups: str | Path | None = None,
    labels: Collection[int] | None = None,
    background: bool = True,
) -> Scores:
    """Read any number of evaluated runs.

    Parameters
    ----------
    texts
        ``NAME=SCORES`` each; see `iterreg.statistics.sources.read_sources`.
    robust
        Take the robust number (the mean over what is finite) where there is one beside the official one.
    better
        Measure -> ``"up"`` or ``"down"``, for measures iterreg does not know.
    label_groups
        Name of a built-in table of labels or a csv with the columns label, group and perhaps name. None:
        Neuromorphometrics or FreeSurfer where the labels are numbered so, else no groups.
    labels, background
        Average Dice and HD95 over these labels alone, and whether label 0 may be among them; see
        `iterreg.statistics.label_choice.averaged_over`. By default they stay as they were scored.

    Raises
    ------
    InputError
        If something cannot be read or no run has a number.
    """
    sources = read_sources(texts, robust=robust)
    if not sources:
        raise InputError("no runs are given; name at least one as NAME=SCORES")
    if labels is not None or not background:
        sources = [averaged_over(one, labels, background=background, robust=robust) for one in sources]
    tasks, notes = _tasks(sources)
    cases = _case_frame(sources, tasks)
    if cases.empty and not any(source.published for source in sources):
        raise InputError(f"{sources[0].path}: not one case has a number; look into its column 'reason'")
    asked = [name for source in sources for row in source.values.values() for name in row]
    names = list(dict.fromkeys([*asked, *(one.measure for s in sources for one in s.published)]))
    known = sorted((measure_named(name, _unit(sources, name)) for name in names), key=lambda one: one.place)
    measures = with_directions(_remarked(tuple(known), sources, labels), better or {})
    rows = _label_rows(sources, measures)
    table = label_table(label_groups, sorted(set(rows["label"])))
    rows = rows.assign(group=[table.groups.get(label, "") for label in rows["label"]])
    return Scores(
        runs=tuple(
            Run(s.name, s.path, reference=bool(s.published), protocol=s.protocol, dataset=s.dataset)
            for s in sources
        ),
        measures=measures,
        cases=cases,
        labels=rows[["run", "case", "label", "group", "measure", "value"]],
        missing=_missing(sources, measures),
        published={s.name: s.published for s in sources if s.published},
        label_names=table.names,
        notes=(*notes, *_notes(sources, measures, table)),
    )


def _unit(sources: Sequence[Source], name: str) -> str:
    """In which unit a measure is; both where runs differ, and nothing where some do not say."""
    units = [one.units.get(name, "") for one in sources if any(name in own for own in one.values.values())]
    return " or ".join(dict.fromkeys(units)) if all(units) else ""


def _remarked(
    measures: tuple[Measure, ...], sources: Sequence[Source], labels: Collection[int] | None
) -> tuple[Measure, ...]:
    """Dice with what it is averaged over, where that is not as one would think."""
    own = [source for source in sources if not source.published]
    counting = [source.name for source in own if counts_background(source)]
    said = ""
    if counting:
        of = "" if len(counting) == len(own) else f" of {', '.join(counting)}"
        said = f"Dice{of} includes the background (label 0), as scored; --no-background leaves it out."
    if labels is not None:
        ids = " ".join(map(str, sorted(labels)))
        said = f"{said} Dice and HD95 are means over the labels {ids}.".strip()
    return tuple(
        replace(one, remark=said)
        if one.kind == "dice" or (labels is not None and one.kind == "hd95")
        else one
        for one in measures
    )


def _tasks(sources: Sequence[Source]) -> tuple[dict[str, str], list[str]]:
    """Case -> task: of the first run that says it."""
    tasks: dict[str, str] = {}
    notes = []
    for source in sources:
        for case, task in source.tasks.items():
            if task and tasks.setdefault(case, task) != task:
                notes.append(
                    f"{source.name} takes {case} for the task {task!r}, an earlier run for {tasks[case]!r}; "
                    "the earlier one counts"
                )
    return tasks, notes[:1]


def _case_frame(sources: Sequence[Source], tasks: Mapping[str, str]) -> pd.DataFrame:
    rows = [
        (source.name, case, *subjects_of(case)[:2], tasks.get(case, ""), subjects_of(case)[2], measure, value)
        for source in sources
        for case, values in source.values.items()
        for measure, value in values.items()
        if math.isfinite(value)
    ]
    columns = ["run", "case", "fixed", "moving", "task", "contrast", "measure", "value"]
    return pd.DataFrame(rows, columns=columns).astype({"value": float})


def _label_rows(sources: Sequence[Source], measures: Sequence[Measure]) -> pd.DataFrame:
    """The labels' rows; their measures get the names they have in the cases."""
    frames = [source.labels.assign(run=source.name) for source in sources]
    together = pd.concat(frames, ignore_index=True)
    together = together[np.isfinite(together["value"])].reset_index(drop=True)
    names = {measure.kind: measure.name for measure in reversed(measures)}
    return together.assign(measure=[names.get(kind, kind) for kind in together["measure"]])


def _missing(sources: Sequence[Source], measures: Sequence[Measure]) -> tuple[Missing, ...]:
    """What some run was asked for and another has no finite number of."""
    own = [source for source in sources if not source.published]
    found = []
    for measure in measures:
        if measure.kind in ("cost", "extra"):
            continue
        asked = dict.fromkeys(case for s in own for case, row in s.values.items() if measure.name in row)
        for source in own:
            for case in asked:
                value = source.values.get(case, {}).get(measure.name)
                if value is None or not math.isfinite(value):
                    reason = _reason(source, case, measure.name, value)
                    found.append(Missing(source.name, case, measure.name, reason))
    return tuple(found)


def _reason(source: Source, case: str, measure: str, value: float | None) -> str:
    if value is not None:
        vanished = source.vanished.get((case, measure))
        why = f", because of what vanished in the warping ({vanished})" if vanished else ""
        return f"its number is {value}{why}"
    if case not in source.values:
        return "the run has no row of this case"
    return source.reasons.get(case) or "the run has no number of it"


def _some(cases: Sequence[str]) -> str:
    shown = ", ".join(cases[:_NAMED])
    return shown if len(cases) <= _NAMED else f"{shown} and {len(cases) - _NAMED} more"


_NAMED = 4


def _notes(sources: Sequence[Source], measures: Sequence[Measure], table: LabelTable) -> list[str]:
    notes = [table.note] if table.note else []
    for what in ("protocol", "dataset"):
        said = {getattr(s, what) for s in sources if getattr(s, what) and not s.published}
        if len(said) > 1:
            names = " and ".join(sorted(said))
            notes.append(
                f"the runs were scored by different {what}s ({names}): their numbers may not compare"
            )
    for dataset in dict.fromkeys(s.dataset for s in sources if s.published):
        notes.append(
            f"published rows are means of {dataset} by their authors, not measured here; they compare with "
            "the other rows only where those are of the same pairs"
        )
    for measure in measures:
        if " or " in measure.title:
            notes.append(
                f"{measure.title}: not all runs measure it in the same unit; their numbers do not compare"
            )
    counting = {counts_background(source) for source in sources if not source.labels.empty}
    if len(counting) > 1:
        notes.append(
            "some runs count the background in Dice and some do not: their numbers do not compare; "
            "--no-background leaves it out of all"
        )
    for source in sources:
        alone = background_alone(source)
        if alone:
            notes.append(
                f"{source.name}: Dice is that of the background alone in {_some(alone)}, because no other "
                "label is in both volumes; do the label files belong to these images?"
            )
    unknown = [m.name for m in measures if m.official and m.higher_is_better is None]
    if unknown:
        notes.append(
            f"not compared, because it is not known whether more of it is better: {', '.join(unknown)}"
        )
    return notes
