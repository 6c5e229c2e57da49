"""What runs in a child: one pair is scored and its record written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from iterreg.dataset.base import Pair, Scan
from iterreg.errors import InputError
from iterreg.evaluation.consistency import inverse_consistency
from iterreg.evaluation.fields import StoredField, read_field
from iterreg.evaluation.material import gather
from iterreg.evaluation.protocols import Measure, protocol_named
from iterreg.evaluation.scoring import PairScores, score
from iterreg.field import DisplacementField
from iterreg.jobs.atomic import write_json
from iterreg.volume import read_grid

__all__ = ["pack", "score_pair", "warm", "work"]


def pack(
    pair: Pair,
    field: Sequence[Path],
    reverse: Sequence[Path],
    measures: tuple[Measure, ...],
    protocol: str,
    *,
    storage: str,
    masked: bool,
    with_extras: bool,
    record: Path,
    key: str,
    digest: str,
) -> dict[str, Any]:
    """A job as JSON; `record` is the file that the scores, their `key` and the field's `digest` go to.

    Parameters
    ----------
    field, reverse
        The files of the field, and of one that leads back; none where there is none.
    storage
        The format of both; ``""`` for what the files make certain.
    """
    return {
        "fixed": _scan_json(pair.fixed),
        "moving": _scan_json(pair.moving),
        "task": pair.task,
        "field": [str(path) for path in field],
        "reverse": [str(path) for path in reverse],
        "storage": storage,
        "measures": [asdict(measure) for measure in measures],
        "protocol": protocol,
        "masked": masked,
        "with_extras": with_extras,
        "record": str(record),
        "key": key,
        "digest": digest,
    }


def warm(_: str) -> None:
    """Import once what every child needs."""
    from iterreg.kernels import jacobian, labels, layout, sampling, surfels

    assert all((jacobian, labels, layout, sampling, surfels))


def work(payload: Mapping[str, Any]) -> float:
    """Score the pair of a payload and write its record.

    Returns
    -------
    Wall seconds.

    Raises
    ------
    InputError
        If the field or a file of the data set cannot be used.
    """
    began = time.perf_counter()
    pair = Pair(_scan(payload["fixed"]), _scan(payload["moving"]), payload["task"])
    measures = tuple(_measure(item) for item in payload["measures"])
    field = read_field(
        [Path(path) for path in payload["field"]],
        pair.fixed.path,
        pair.moving.path,
        name=payload["storage"],
    )
    scores = score_pair(
        pair,
        field,
        measures,
        payload["protocol"],
        reverse=[Path(path) for path in payload["reverse"]],
        storage=payload["storage"],
        masked=payload["masked"],
        with_extras=payload["with_extras"],
    )
    seconds = time.perf_counter() - began
    write_json(
        payload["record"],
        {
            "key": payload["key"],
            "field": payload["digest"],
            "seconds": round(seconds, 3),
            "format": field.format,
            "said": list(field.notes),
            **scores.to_json(),
        },
    )
    return seconds


def score_pair(
    pair: Pair,
    field: StoredField,
    measures: tuple[Measure, ...],
    protocol: str,
    *,
    reverse: Sequence[Path] = (),
    storage: str = "",
    masked: bool = False,
    with_extras: bool = True,
) -> PairScores:
    """Score one field against the files of its pair.

    Parameters
    ----------
    reverse, storage
        The files of a field that leads back, for the inverse-consistency error, and their format; it is taken
        with the extras.
    masked
        Whether SDlogJ is taken over the fixed image's mask.

    Raises
    ------
    InputError
        If the field or a file of the data set cannot be used.
    """
    rules = protocol_named(protocol)
    material = gather(pair, field, measures, rules, masked=masked, with_extras=with_extras)
    scores = score(material, measures, rules, with_extras=with_extras)
    if not reverse or not with_extras:
        return scores
    fixed, moving = read_grid(pair.fixed.path), read_grid(pair.moving.path)
    try:
        back = read_field(reverse, pair.moving.path, pair.fixed.path, name=storage)
        backward = DisplacementField(back.vectors, moving, fixed)
    except InputError as error:
        return replace(scores, problems=(*scores.problems, f"inverse consistency: {error}"))
    found = inverse_consistency(DisplacementField(material.vectors, fixed, moving), backward, material.brain)
    more = {f"inverse_consistency_{name}_mm": getattr(found, name) for name in ("mean", "p95", "max")}
    return replace(scores, extras=scores.extras | more)


def _scan_json(scan: Scan) -> dict[str, Any]:
    return {name: None if value is None else str(value) for name, value in asdict(scan).items()}


def _scan(item: Mapping[str, Any]) -> Scan:
    paths = {
        name: None if item[name] is None else Path(item[name]) for name in ("labels", "landmarks", "mask")
    }
    return Scan(Path(item["path"]), item["subject"], item["modality"], **paths)


def _measure(item: Mapping[str, Any]) -> Measure:
    labels = item["labels"]
    return Measure(item["name"], item["kind"], None if labels is None else tuple(labels), item["source"])
