"""The challenges' evaluation configs: which pairs are measured by what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from iterreg.dataset.base import Dataset, Pair
from iterreg.dataset.learn2reg import read_json
from iterreg.dataset.paths import identity
from iterreg.errors import InputError
from iterreg.evaluation.protocols.base import Kind, Measure

__all__ = ["EvaluationConfig", "configs_beside", "measures_by_configs", "read_config"]

_Key = tuple[str, str, str, str]

_LARGEST_LABEL = 2**31 - 1


@dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation config asks for.

    Attributes
    ----------
    path, name
        The file, and the name it gives the results.
    measures
        What it measures on each of its pairs.
    pairs
        Its pairs by ids and modalities: fixed id, fixed modality, moving id, moving modality.
    masked
        Whether SDlogJ is taken over the fixed image's mask.
    expected_shape
        Shape of every field, where it is stated.
    generic
        Whether it is written for the Learn2Reg evaluator (``task_name``) rather than LUMIR's.
    """

    path: Path
    name: str
    measures: tuple[Measure, ...]
    pairs: frozenset[_Key]
    masked: bool
    expected_shape: tuple[int, ...] | None
    generic: bool

    def covers(self, pair: Pair) -> bool:
        """Whether it lists the pair."""
        f, m = pair.fixed, pair.moving
        return (f.subject, f.modality, m.subject, m.modality) in self.pairs


def read_config(path: str | Path) -> EvaluationConfig:
    """Read an evaluation config.

    Raises
    ------
    InputError
        If it is missing, not json, or not in the challenges' schema.
    """
    path = Path(path)
    data = read_json(path)
    methods, listed = data.get("evaluation_methods"), data.get("eval_pairs")
    if not isinstance(methods, list) or not isinstance(listed, list):
        raise InputError(
            f"{path}: has no evaluation_methods or no eval_pairs; an evaluation config is needed, "
            "a data set's json goes to --dataset"
        )
    measures = tuple(_measure(path, method) for method in methods)
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: names a measure twice ({', '.join(names)}); names have to be unique")
    shape = data.get("expected_shape")
    return EvaluationConfig(
        path=path,
        name=str(data.get("name") or data.get("task_name") or path.stem),
        measures=measures,
        pairs=frozenset(_key(path, entry) for entry in listed),
        masked=bool(data.get("masked_evaluation", False)),
        expected_shape=tuple(shape) if isinstance(shape, list) else None,
        generic="task_name" in data,
    )


def configs_beside(dataset: Dataset) -> tuple[EvaluationConfig, ...]:
    """The readable ``*evaluation_config*.json`` in a data set's folder that list some of its pairs, by name.

    A data set that is an evaluation config itself stands alone.
    """
    source = dataset.source
    if source.is_file() and source.suffix == ".json" and "evaluation_methods" in read_json(source):
        return (read_config(source),)
    folder = source if source.is_dir() else source.parent
    found = []
    for path in sorted(folder.glob("*evaluation_config*.json")):
        try:
            config = read_config(path)
        except InputError:  # a neighbour may be for something else
            continue
        if any(config.covers(pair) for pair in dataset.pairs):
            found.append(config)
    return tuple(found)


def measures_by_configs(configs: Sequence[EvaluationConfig], pair: Pair) -> tuple[Measure, ...]:
    """What the configs that list a pair measure on it; of equal names the later config's counts."""
    found: dict[str, Measure] = {}
    for config in configs:
        if config.covers(pair):
            found |= {measure.name: measure for measure in config.measures}
    return tuple(found.values())


def _measure(path: Path, method: Any) -> Measure:
    if not isinstance(method, Mapping) or method.get("metric") not in get_args(Kind):
        raise InputError(
            f"{path}: asks for {method!r}; a measure needs a name and a metric, one of "
            f"{', '.join(get_args(Kind))}"
        )
    kind = cast(Kind, method["metric"])
    labels = method.get("labels")
    if kind in ("dice", "hd95") and not isinstance(labels, list):
        raise InputError(f"{path}: {kind} needs a list of labels")
    ids = tuple(_label(path, kind, label) for label in labels) if isinstance(labels, list) else None
    return Measure(str(method.get("name") or kind), kind, ids, str(method.get("dest") or "landmarks"))


def _label(path: Path, kind: Kind, label: Any) -> int:
    """A label, as a number or as the text of one."""
    try:
        found: int | None = int(label)
    except (TypeError, ValueError, OverflowError):  # a list, a word, infinity
        found = None
    if found is None or abs(found) > _LARGEST_LABEL or (isinstance(label, float) and found != label):
        raise InputError(
            f"{path}: {kind} is asked of the label {json.dumps(label)[:40]}; labels are whole numbers "
            f"of at most {_LARGEST_LABEL}"
        )
    return found


def _key(path: Path, entry: Any) -> _Key:
    try:
        fixed, moving = (identity(Path(str(entry[end]))) for end in ("fixed", "moving"))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: eval_pairs holds {entry!r}; an object with fixed and moving is needed"
        ) from error
    return (*fixed, *moving)
