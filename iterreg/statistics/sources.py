"""Reads scores from wherever they lie: one `Source` per run, in the same few columns whatever the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from iterreg.errors import InputError
from iterreg.runs import open_results
from iterreg.runs.opening import named
from iterreg.statistics.measures import measure_named
from iterreg.statistics.published import TABLES, PublishedMean, published_means
from iterreg.text_files import read_json, read_table, read_text, unguarded

__all__ = ["INITIAL_DICE", "PUBLISHED", "Source", "read_sources", "subjects_of"]

INITIAL_DICE = "Dice before registration"
"""The measure of labels under which Dice before registration is kept."""

PUBLISHED = "published:"
"""What a reference table's name is preceded by on the command line."""

_NOT_MEASURES = {"pair", "case", "task", "outcome", "reason", "field"}
_CASE = re.compile(r"^(.+?)(?:_(\d{4}))?<--(.+?)(?:_(\d{4}))?$")
_BIDS_SCAN = re.compile(r"^(sub-[A-Za-z0-9+]+)_.+$")
_COSTS = ("cpu_s", "wall_s", "peak_mib")
_LABEL_MEASURES = {"dice": "dice", "hd95": "hd95", "initial_dice": INITIAL_DICE}


@dataclass(frozen=True, eq=False)
class Source:
    """What one run's files say.

    Attributes
    ----------
    name
        Of the run.
    path
        The file or folder it was read from; None for published numbers.
    values
        Case -> measure -> value as written, NaN and infinity included; a measure that was not asked for is
        absent.
    tasks
        Case -> task, as far as the files say.
    reasons
        Case -> why it was not scored, or not fully.
    vanished
        (case, measure) -> labels or landmarks for which its number is not finite.
    labels
        Columns case, label, measure, value; the measure is its kind, ``"dice"`` or ``"hd95"``, or
        `INITIAL_DICE`.
    published
        Means, of a published method.
    protocol, dataset
        What it was scored by and on; empty when the files do not say.
    units
        Measure -> ``"voxels"`` or ``"mm"``, as far as known.
    """

    name: str
    path: Path | None = None
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    vanished: Mapping[tuple[str, str], str] = field(default_factory=dict)
    labels: pd.DataFrame = field(default_factory=lambda: _label_frame([]))
    published: tuple[PublishedMean, ...] = ()
    protocol: str = ""
    dataset: str = ""
    units: Mapping[str, str] = field(default_factory=dict)


def read_sources(texts: Sequence[str], *, robust: bool = False) -> list[Source]:
    """Read every ``NAME=SCORES``.

    Parameters
    ----------
    texts
        ``SCORES`` is a folder written by ``iterreg evaluate``, its ``pairs.csv``, an arm's or a whole run's
        folder with such folders in it, a challenge's metrics json, or ``published:TABLE``. Without
        ``NAME=`` a run is called as its arm or folder is; where one text gives several runs, a name goes
        before theirs (``NAME/arm``), and ``@LEVEL`` behind them (``arm@LEVEL``).
    robust
        Take the robust number where a file has one beside the official one.

    Raises
    ------
    InputError
        If something cannot be read, or two runs have the same name.
    """
    sources: list[Source] = []
    for text in texts:
        sources += _read(text, robust=robust)
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise InputError(
                f"two runs are called {source.name!r} ({seen[source.name].path} and {source.path}); "
                "name them with NAME=PATH"
            )
        seen[source.name] = source
    return sources


def subjects_of(case: str) -> tuple[str, str, str]:
    """Fixed subject, moving subject and contrast of an evaluator's key ``3455_0000<--3454_0001``.

    The contrast is ``0001`` where fixed and moving share the modality, else ``0000-0001`` (fixed-moving).
    The scans of a BIDS folder, ``sub-01_ses-1`` and ``sub-01_ses-2``, are of one subject, ``sub-01``. A key
    without an arrow is one subject, and no contrast is known.
    """
    found = _CASE.match(case)
    if not found:
        return case, case, ""
    fixed, fixed_modality, moving, moving_modality = found.groups()
    fixed, moving = (_BIDS_SCAN.sub(r"\1", one) for one in (fixed, moving))
    contrasts = dict.fromkeys([fixed_modality or "", moving_modality or ""])
    return fixed, moving, "-".join(contrasts)


def _read(text: str, *, robust: bool) -> list[Source]:
    if PUBLISHED in text:
        name, _, table = text.partition(PUBLISHED)
        return _published(table, name.removesuffix("="))
    name, path = named(text)
    found = [
        one for one in open_results(path).methods if one.scores.is_file() or _pairs(one.scores).is_file()
    ]
    if not found:
        raise InputError(
            f"{path}: holds no scores (no pairs.csv in it, in scores/ or in an arm's scores/); "
            "make them with iterreg evaluate"
        )
    sources = []
    for one in found:
        if name.startswith("@"):
            label = one.name + name
        elif len(found) > 1 and name:
            label = f"{name}/{one.name}"
        else:
            label = name or one.name
        sources.append(_read_one(label, one.scores, robust=robust))
    return sources


def _pairs(scores: Path) -> Path:
    return scores / "pairs.csv"


def _published(table: str, prefix: str) -> list[Source]:
    by_method: dict[str, list[PublishedMean]] = {}
    for one in published_means(table):
        by_method.setdefault(one.method, []).append(one)
    return [
        Source(
            name=f"{prefix}/{method}" if prefix else f"{method} (published)",
            published=tuple(means),
            dataset=TABLES[table],
        )
        for method, means in by_method.items()
    ]


def _read_one(name: str, path: Path, *, robust: bool) -> Source:
    if path.is_dir():
        return _read_pairs(name, _pairs(path), robust=robust)
    if path.suffix == ".csv":
        return _read_pairs(name, path, robust=robust)
    if path.suffix == ".json":
        return _read_metrics(name, path)
    raise InputError(f"{path}: scores are a folder written by iterreg evaluate, its csv or a metrics json")


# -- what `iterreg evaluate` writes ---------------------------------------------------------------------


def _read_pairs(name: str, path: Path, *, robust: bool) -> Source:
    rows = read_table(path)
    if not rows or "case" not in rows[0]:
        raise InputError(f"{path}: has no rows with a column 'case'; give the pairs.csv of iterreg evaluate")
    values: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows, start=2):
        case = row["case"]
        if case in values:
            raise InputError(f"{path}, line {number}: the case {case} is there twice; leave one row")
        values[case] = _values(row, f"{path}, line {number}", robust=robust)
    summary = _summary(path.with_name("summary.json"))
    costs = _costs(path)
    protocol = str(summary.get("protocol", ""))
    units = summary.get("units", {})
    return Source(
        name=name,
        path=path,
        values={case: own | costs.get(case, {}) for case, own in values.items()},
        tasks={row["case"]: row.get("task") or "" for row in rows},
        reasons={
            row["case"]: row.get("reason") or "" for row in rows if row.get("outcome", "ok") not in ("ok", "")
        },
        vanished={
            (row["case"], name.removesuffix("_affected")): text
            for row in rows
            for name, text in row.items()
            if name and name.endswith("_affected") and text
        },
        labels=_read_labels(path.with_name("labels.csv")),
        protocol=protocol,
        dataset=str(summary.get("dataset", "")),
        units=_units(values, protocol) | (units if isinstance(units, dict) else {}),
    )


def _units(values: Mapping[str, Mapping[str, float]], protocol: str = "") -> dict[str, str]:
    """What the challenges' evaluators measure in: HD95 in voxels, and so LUMIR's TRE; other TRE in either."""
    names = dict.fromkeys(name for own in values.values() for name in own)
    kinds = {name: measure_named(name).kind for name in names}
    return {
        name: "voxels"
        for name, kind in kinds.items()
        if kind == "hd95" or (kind == "tre" and protocol.startswith("lumir"))
    }


def _values(row: Mapping[str, str], where: str, *, robust: bool) -> dict[str, float]:
    found = {}
    for name, text in row.items():
        if name is None or name in _NOT_MEASURES or name.endswith(("_robust", "_affected")) or not text:
            continue
        chosen = (row.get(f"{name}_robust") or text) if robust else text
        try:
            found[name] = float(chosen)
        except ValueError as error:
            raise InputError(f"{where}: {name} is {chosen!r}, not a number") from error
    return found


def _read_labels(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return _label_frame([])
    try:
        table = pd.read_csv(StringIO(read_text(path)), dtype={"case": str})
        table["case"] = table["case"].map(unguarded, na_action="ignore")
        frames = [
            table.loc[:, ["case", "label"]].assign(measure=measure, value=table[column].astype(float))
            for column, measure in _LABEL_MEASURES.items()
            if column in table
        ]
        together = pd.concat(frames, ignore_index=True) if frames else _label_frame([])
        return together.dropna(subset=["label"]).astype({"label": int})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: is no labels.csv of iterreg evaluate ({error})") from error


def _label_frame(rows: Iterable[tuple[str, int, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["case", "label", "measure", "value"])
    return frame.astype({"label": int, "value": float})


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _costs(pairs: Path) -> dict[str, dict[str, float]]:
    """Time and memory of an arm's jobs, when its scores lie in the run folder that records them."""
    arm = pairs.absolute().parent.parent
    results = arm.parent / "results.csv"
    if pairs.absolute().parent.name != "scores" or not results.is_file():
        return {}
    try:
        rows = read_table(results)
    except InputError:  # it is derived from the jobs' statuses, and says nothing that a comparison needs
        return {}
    return {
        row["case"]: {name: value for name in _COSTS if (value := _number(row.get(name))) is not None}
        for row in rows
        if row.get("arm") == arm.name and row.get("outcome") == "ok" and row.get("case")
    }


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


# -- a challenge's own json -----------------------------------------------------------------------------


def _read_metrics(name: str, path: Path) -> Source:
    content = read_json(path)
    cases = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(cases, dict) or not cases:
        raise InputError(f"{path}: has no 'cases'; give the metrics json that an evaluator wrote")
    values: dict[str, dict[str, float]] = {}
    for case, measures in cases.items():
        try:
            values[case] = {
                measure: float(math.nan if found["mean"] is None else found["mean"])
                for measure, found in measures.items()
                if measure != "num_foldings"  # always 0: counted after the determinants were clipped
            }
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: the case {case} is not in the evaluators' form ({error!r})") from error
    return Source(
        name=name, path=path, values=values, dataset=str(content.get("name", "")), units=_units(values)
    )
