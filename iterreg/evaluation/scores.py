"""A few numbers per field for the demo's and the benchmark's tables, with whatever else they want to know.

`iterreg.evaluation.folder` is the evaluation proper, by the challenges' protocols.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache as cached
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from iterreg.dataset.base import Pair
from iterreg.errors import InputError
from iterreg.evaluation.landmarks import landmark_errors
from iterreg.evaluation.overlap import mean_score, overlap
from iterreg.evaluation.regularity import non_diffeomorphic
from iterreg.field import DisplacementField
from iterreg.io.challenge import field_name, read_field
from iterreg.jobs.atomic import write_json
from iterreg.jobs.hashing import FileDigests, digest
from iterreg.text_files import read_json
from iterreg.volume import load_image, load_labels, read_grid

__all__ = ["score_field", "score_folder"]

Extra = Callable[[Pair, DisplacementField], Mapping[str, float]]


@cached
def _code() -> str:
    """Digest of all that can shape a score: the rooms that this one may import from, and itself."""
    package = files("iterreg")
    seen = hashlib.sha256()
    rooms = [package / name for name in ("evaluation", "dataset", "io", "kernels")]
    alone = [package / f"{name}.py" for name in ("field", "volume", "nifti_files")]
    modules = [one for room in rooms for one in room.iterdir() if one.name.endswith(".py")]
    for module in sorted([*modules, *alone], key=str):
        seen.update(module.read_bytes())
    return seen.hexdigest()


def score_field(field: DisplacementField, pair: Pair) -> dict[str, float]:
    """Score one field with what its pair has to score by.

    Returns
    -------
    ``dice``: mean over the labels above zero present in both volumes, warped with nearest neighbour;
    ``tre_voxels``: mean distance of landmark blobs' centroids; ``ndv_percent`` over ``fixed > 0``;
    ``folded_percent``: voxels of ``fixed > 0`` whose central-difference determinant is not positive;
    ``sdlogj``: standard deviation of the logarithm of that determinant there (Learn2Reg takes that of
    J + 3). Measures without labels or landmarks to take them from are left out.
    """
    mask = load_image(pair.fixed.path).array > 0
    determinant = field.jacobian_determinant()[mask]
    scores = {
        "ndv_percent": non_diffeomorphic(field.in_fixed_voxels(), mask).percent,
        "folded_percent": float((determinant <= 0).mean() * 100),
        "sdlogj": float(np.log(np.maximum(determinant, 1e-9)).std()),
    }
    if pair.fixed.labels and pair.moving.labels:
        fixed, moving = load_labels(pair.fixed.labels), load_labels(pair.moving.labels)
        warped = field.warp_labels(moving)
        counted = overlap(fixed.array, warped.array, moving=moving.array)
        scores["dice"] = mean_score({row.label: row.dice for row in counted.rows() if row.label > 0})
    if pair.fixed.landmarks and pair.moving.landmarks:
        fixed, moving = load_labels(pair.fixed.landmarks), load_labels(pair.moving.landmarks)
        errors = landmark_errors(fixed.array, field.warp_labels(moving).array)
        scores["tre_voxels"] = mean_score(errors)
    return scores


def score_folder(
    fields: Path,
    pairs: Iterable[Pair],
    *,
    cache: Path | None = None,
    extra: Extra | None = None,
    digests: FileDigests | None = None,
) -> dict[str, dict[str, float]]:
    """Score every field of a folder that is there.

    Parameters
    ----------
    fields
        Holds ``disp_<pair name>.nii.gz``.
    pairs
        The pairs to look for; those without a field are left out of the answer.
    cache
        A json file that remembers scores by the content of field, labels and landmarks, and by the code that
        made them.
    extra
        Further scores of a pair, for example its distance from a known truth.

    Returns
    -------
    Pair name -> measure -> value.
    """
    digests = digests or FileDigests()
    known: dict[str, Any] = {}
    if cache is not None and cache.is_file():
        try:
            known = read_json(cache)
        except InputError:
            known = {}
        known = known if isinstance(known, dict) else {}
    code = [_code(), inspect.getsource(extra) if extra else ""]
    scored: dict[str, dict[str, float]] = {}
    fresh: dict[str, Any] = {}
    for pair in pairs:
        path = fields / field_name(pair.name)
        if not path.is_file():
            continue
        companions = [pair.fixed.labels, pair.moving.labels, pair.fixed.landmarks, pair.moving.landmarks]
        inputs = [path, pair.fixed.path, *(file for file in companions if file is not None)]
        key = digest([*code, *(digests(file) for file in inputs)])
        if key in known:
            scored[pair.name] = known[key]
        else:
            field = read_field(path, read_grid(pair.fixed.path), read_grid(pair.moving.path))
            scored[pair.name] = score_field(field, pair) | dict(extra(pair, field) if extra else {})
        fresh[key] = scored[pair.name]
    if cache is not None and fresh.keys() - known.keys():
        write_json(cache, known | fresh)
    return scored
