"""Reads scores from wherever they lie: one `Source` per run, in the same few columns whatever the file."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from iterreg.errors import InputError
from iterreg.statistics.measures import measure_named
from iterreg.statistics.published import TABLES, PublishedMean, published_means

__all__ = ["INITIAL_DICE", "PUBLISHED", "Source", "read_sources", "subjects_of"]

INITIAL_DICE = "Dice before registration"
"""The measure of labels under which Dice before registration is kept."""

PUBLISHED = "published:"
"""What a reference table's name is preceded by on the command line."""

_NOT_MEASURES = {"pair", "case", "task", "outcome", "reason", "field"}
_CASE = re.compile(r"^(.+?)(?:_(\d{4}))?<--(.+?)(?:_(\d{4}))?$")
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
                "name them with NAME=SCORES"
            )
        seen[source.name] = source
    return sources


def subjects_of(case: str) -> tuple[str, str, str]:
    """Fixed subject, moving subject and contrast of an evaluator's key ``3455_0000<--3454_0001``.

    The contrast is ``0001`` where fixed and moving share the modality, else ``0000-0001`` (fixed-moving).
    A key without an arrow is one subject, and no contrast is known.
    """
    found = _CASE.match(case)
    if not found:
        return case, case, ""
    fixed, fixed_modality, moving, moving_modality = found.groups()
    contrasts = dict.fromkeys([fixed_modality or "", moving_modality or ""])
    return fixed, moving, "-".join(contrasts)


def _read(text: str, *, robust: bool) -> list[Source]:
    name, where = _split(text)
    if where.startswith(PUBLISHED):
        return _published(where.removeprefix(PUBLISHED), name)
    path = Path(where)
    folders = _score_folders(path) if path.is_dir() else [(_name_of(path), path)]
    if not folders:
        raise InputError(
            f"{path}: holds no scores (no pairs.csv in it, in scores/ or in an arm's scores/); "
            "make them with iterreg evaluate"
        )
    sources = []
    for own, folder in folders:
        several = len(folders) > 1
        if name.startswith("@"):
            label = own + name
        elif several and name:
            label = f"{name}/{own}"
        else:
            label = name or own
        sources.append(_read_one(label, folder, robust=robust))
    return sources


def _split(text: str) -> tuple[str, str]:
    name, equals, where = text.partition("=")
    if not equals or "/" in name:
        return "", text
    if not name or not where:
        raise InputError(f"{text!r}: a run is given as NAME=SCORES")
    return name, where


def _score_folders(path: Path) -> list[tuple[str, Path]]:
    """The folders of scores at or below a folder, with the names of their arms."""
    if (path / "pairs.csv").is_file():
        return [(_name_of(path), path)]
    if (path / "scores" / "pairs.csv").is_file():
        return [(_name_of(path / "scores"), path / "scores")]
    below = sorted(path.glob("*/scores/pairs.csv")) or sorted(path.glob("*/pairs.csv"))
    return [(_name_of(file.parent), file.parent) for file in below]


def _name_of(path: Path) -> str:
    path = path.absolute()
    if path.is_file() or path.suffix in (".csv", ".json"):
        if path.name not in ("pairs.csv", "metrics.json"):
            return path.name.removesuffix(path.suffix)
        path = path.parent
    return path.parent.name if path.name == "scores" else path.name.removesuffix("-scores")


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
        return _read_pairs(name, path / "pairs.csv", robust=robust)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder of scores")
    if path.suffix == ".csv":
        return _read_pairs(name, path, robust=robust)
    if path.suffix == ".json":
        return _read_metrics(name, path)
    raise InputError(f"{path}: scores are a folder written by iterreg evaluate, its csv or a metrics json")


# -- what `iterreg evaluate` writes ---------------------------------------------------------------------


def _read_pairs(name: str, path: Path, *, robust: bool) -> Source:
    rows = _rows(path)
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


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from error


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
        table = pd.read_csv(path, dtype={"case": str})
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
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _costs(pairs: Path) -> dict[str, dict[str, float]]:
    """Time and memory of an arm's jobs, when its scores lie in the run folder that records them."""
    arm = pairs.absolute().parent.parent
    results = arm.parent / "results.csv"
    if pairs.absolute().parent.name != "scores" or not results.is_file():
        return {}
    return {
        row["case"]: {name: float(row[name]) for name in _COSTS if row.get(name)}
        for row in _rows(results)
        if row.get("arm") == arm.name and row.get("outcome") == "ok" and row.get("case")
    }


# -- a challenge's own json -----------------------------------------------------------------------------


def _read_metrics(name: str, path: Path) -> Source:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as json ({error})") from error
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
