"""The tasks of LUMIR24 and LUMIR25, whose jsons list pairs without saying what each is for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterreg.dataset.base import Pair
from iterreg.dataset.paths import identity
from iterreg.errors import InputError
from iterreg.text_files import read_json

__all__ = ["HIGH_FIELD", "IN_DOMAIN", "LANDMARKS", "MULTI_MODAL", "is_lumir", "with_tasks"]

IN_DOMAIN = "in-domain"
HIGH_FIELD = "high-field"
MULTI_MODAL = "multi-modal"
LANDMARKS = "landmarks"

# First and last id of the validation scans. LUMIR24: 29 pairs with labels among 3454-3483, 9 with landmarks
# among 3484-3493. LUMIR25: the first 9 in-domain and the 9 landmark pairs of LUMIR24, 9 among the high-field
# scans, 9 from T1w 4024-4032 to another contrast of 4033-4041.
_ID_RANGES = (
    (3454, 3483, IN_DOMAIN),
    (3484, 3493, LANDMARKS),
    (4014, 4023, HIGH_FIELD),
    (4024, 4041, MULTI_MODAL),
)

_Key = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class _Config:
    """What an evaluation config says about its pairs."""

    task: str
    scores_labels: bool
    scores_landmarks: bool
    pairs: frozenset[_Key]


def is_lumir(name: str, pairs: Sequence[Pair]) -> bool:
    """Whether a json is LUMIR's: by its name, or by the names of all its images."""
    if name.upper().startswith("LUMIR"):
        return True
    return all(scan.path.name.startswith("LUMIRMRI_") for pair in pairs for scan in (pair.fixed, pair.moving))


def with_tasks(pairs: Sequence[Pair], folder: Path) -> tuple[list[Pair], tuple[str, ...]]:
    """The pairs with their tasks, and a note when some task had to be read off the ids.

    What is said or seen goes before what is known by heart. In this order: different modalities make a
    multi-modal pair; an evaluation config in `folder` that scores landmarks but not labels, or files of
    landmarks without labels, make a landmark pair; a config's file name may say which of the others it is;
    then the challenge's known id ranges; at last a pair with labels is in-domain.

    Parameters
    ----------
    folder
        Where the ``*evaluation_config*.json`` of the challenge may lie.
    """
    configs = _configs(folder)
    tasked: list[Pair] = []
    by_id = 0
    for pair in pairs:
        task = _seen(pair, configs)
        if not task:
            task = _known(pair)
            by_id += bool(task)
        tasked.append(Pair(pair.fixed, pair.moving, task or _labelled(pair, configs)))
    if not by_id:
        return tasked, ()
    return tasked, (f"the tasks of {by_id} of {len(pairs)} pairs were told by LUMIR's known id ranges",)


def _seen(pair: Pair, configs: Sequence[_Config]) -> str:
    if pair.fixed.modality != pair.moving.modality:
        return MULTI_MODAL
    scans = (pair.fixed, pair.moving)
    mine = [config for config in configs if _key(pair) in config.pairs]
    if any(c.scores_landmarks for c in mine) and not any(c.scores_labels for c in mine):
        return LANDMARKS
    if all(scan.landmarks for scan in scans) and not any(scan.labels for scan in scans):
        return LANDMARKS
    return next((config.task for config in mine if config.task), "")


def _known(pair: Pair) -> str:
    ids = (pair.fixed.subject, pair.moving.subject)
    if not all(re.fullmatch(r"\d{4}", i) for i in ids):
        return ""
    return next((task for low, high, task in _ID_RANGES if all(low <= int(i) <= high for i in ids)), "")


def _labelled(pair: Pair, configs: Sequence[_Config]) -> str:
    scored = any(config.scores_labels and _key(pair) in config.pairs for config in configs)
    return IN_DOMAIN if scored or (pair.fixed.labels and pair.moving.labels) else ""


def _key(pair: Pair) -> _Key:
    return ((pair.fixed.subject, pair.fixed.modality), (pair.moving.subject, pair.moving.modality))


def _configs(folder: Path) -> list[_Config]:
    found = []
    for path in sorted(folder.glob("*evaluation_config*.json")):
        try:
            found.append(_config(path.name, read_json(path)))
        except (InputError, KeyError, TypeError, AttributeError):
            continue  # a neighbour only helps to name tasks: one that cannot be read is no reason to stop
    return found


def _config(name: str, data: dict[str, Any]) -> _Config:
    metrics = {method["metric"] for method in data["evaluation_methods"]}
    keys = frozenset((identity(Path(p["fixed"])), identity(Path(p["moving"]))) for p in data["eval_pairs"])
    plain = re.sub(r"[^a-z]", "", name.lower())
    scores_labels = bool(metrics & {"dice", "hd95"})
    # LUMIR25 calls the config of its in-domain pairs LUMIR25_VAL_LUMIR24_Segmentation_evaluation_config.
    in_domain = scores_labels and re.search(r"lumir24_?segmentation|in_?domain", name, re.IGNORECASE)
    task = HIGH_FIELD if "highfield" in plain else MULTI_MODAL if "multimodal" in plain else ""
    return _Config(task or (IN_DOMAIN if in_domain else ""), scores_labels, "tre" in metrics, keys)
