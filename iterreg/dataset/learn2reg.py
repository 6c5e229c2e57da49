"""Data sets described by a Learn2Reg json: the data set's own, or an evaluation config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from iterreg import text_files
from iterreg.dataset import lumir
from iterreg.dataset.base import Dataset, Pair
from iterreg.dataset.paths import ScanReader, absolute, identity
from iterreg.dataset.tasks import by_modality
from iterreg.errors import InputError, located

__all__ = ["Split", "read_json", "read_learn2reg"]

Split = Literal["validation", "test", "training"]

# The keys under which Learn2Reg jsons list pairs, the most explicit first: `validation`, `test` and
# `training` may hold single images as well, which are no pairs and are passed over.
_KEYS: Mapping[Split, tuple[str, ...]] = {
    "validation": ("registration_val", "validation"),
    "test": ("registration_test", "test"),
    "training": ("training_paired_images", "training"),
}


def read_learn2reg(
    source: str | Path, *, root: str | Path | None = None, split: Split | None = None
) -> Dataset:
    """Read the pairs of a Learn2Reg or LUMIR json.

    Parameters
    ----------
    source
        ``…_dataset.json`` or ``…_evaluation_config.json``.
    root
        The folder that holds ``imagesVal`` and its companions. Default: the json's folder.
    split
        Which list to take. Default: an evaluation config's pairs, else the validation pairs, else the
        test pairs.

    Returns
    -------
    Dataset
        Tasks are the json's own (a ``task`` beside ``fixed`` and ``moving``), else LUMIR's (see
        `iterreg.dataset.lumir`), else one per combination of modalities when there are several.

    Raises
    ------
    InputError
        If the json cannot be read or lists no pairs. Missing images raise nothing.
    """
    path = absolute(source)
    data = read_json(path)
    reader = ScanReader(absolute(root) if root is not None else path.parent)
    listed = _listed(data, path, split)
    pairs = [_pair(entry, reader, f"{path}, pair {i}") for i, entry in enumerate(listed, start=1)]
    notes: tuple[str, ...] = ()
    name = str(data.get("name") or data.get("task_name") or path.stem.removesuffix("_dataset"))
    if not any(pair.task for pair in pairs):
        if lumir.is_lumir(name, pairs):
            pairs, notes = lumir.with_tasks(pairs, path.parent)
        else:
            pairs = by_modality(pairs)
    return Dataset(name, tuple(pairs), path, promised_shape=_promised_shape(data), notes=notes)


def read_json(path: Path) -> dict[str, Any]:
    """A json file that holds an object.

    Raises
    ------
    InputError
        If it cannot be read as json, or is something other than an object.
    """
    data = text_files.read_json(path)
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: holds a json {type(data).__name__}; a data set is an object with a list of pairs"
        )
    return data


def _listed(data: Mapping[str, Any], path: Path, split: Split | None) -> list[Any]:
    if split is None:
        keys: tuple[str, ...] = ("eval_pairs", *_KEYS["validation"], *_KEYS["test"])
    else:
        keys = _KEYS[split]
    images = 0
    for key in keys:
        entries = data.get(key)
        if not isinstance(entries, list) or not entries:
            continue
        if _endpoints(entries[0]) is not None:
            return entries
        images += len(entries)
    what = "single images but no pairs" if images else "no pairs"
    raise InputError(
        f"{path}: lists {what} (looked for {', '.join(keys)}); "
        "hand over the folder of images for all ordered pairs, or a csv of pairs"
    )


def _pair(entry: Any, reader: ScanReader, where: str) -> Pair:
    ends = _endpoints(entry)
    if ends is None:
        raise InputError(f"{where}: is {json.dumps(entry)[:120]}; an object with fixed and moving is needed")
    fixed, moving = ends
    keypoints = _keypoints(fixed, moving)
    task = str(entry.get("task", "")) if isinstance(entry, dict) else ""
    with located(where):
        scans = (reader.scan(fixed, keypoints=keypoints), reader.scan(moving, keypoints=keypoints))
    return Pair(*scans, task)


def _endpoints(entry: Any) -> tuple[str, str] | None:
    """The fixed and moving paths of an entry: ``{fixed, moving}`` or ``[fixed, moving]``."""
    if isinstance(entry, dict):
        ends = [entry.get("fixed"), entry.get("moving")]
    elif isinstance(entry, list) and len(entry) == 2:
        ends = entry
    else:
        return None
    paths = [end.get("image") if isinstance(end, dict) else end for end in ends]
    fixed, moving = paths
    return (
        (fixed, moving) if isinstance(fixed, str) and isinstance(moving, str) and fixed and moving else None
    )


def _keypoints(fixed: str, moving: str) -> str:
    """The folder that replaces ``images`` for keypoints, which correspond within a pair only.

    The evaluators look in ``keypoints…`` for equal modalities and 0000 <- 0001, and otherwise in, say,
    ``keypoints02…`` for the modalities 0 and 2.
    """
    f, m = identity(Path(fixed))[1], identity(Path(moving))[1]
    if f == m or (f, m) == ("0000", "0001"):
        return "keypoints"
    low, high = sorted((int(f), int(m)))
    return f"keypoints{low}{high}"


def _promised_shape(data: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """The one shape all volumes have by ``tensorImageShape`` or an evaluation config's ``expected_shape``."""
    stated = data.get("tensorImageShape")
    shapes = list(stated.values()) if isinstance(stated, dict) else [stated] if stated is not None else []
    expected = data.get("expected_shape")
    if isinstance(expected, list) and len(expected) == 4 and expected[-1] == 3:
        shapes.append(expected[:3])
    if not shapes or any(shape != shapes[0] for shape in shapes):
        return None
    shape = shapes[0]
    if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        return None
    return (shape[0], shape[1], shape[2])
