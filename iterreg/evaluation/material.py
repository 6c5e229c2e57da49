"""Gathers what a pair is scored by from its data set's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.base import Pair, Scan
from iterreg.evaluation.fields import StoredField
from iterreg.evaluation.landmarks import read_points
from iterreg.evaluation.protocols import Measure, Protocol
from iterreg.evaluation.scoring import Material
from iterreg.field import DisplacementField
from iterreg.nifti_files import open_header, refusals
from iterreg.volume import Grid, load_labels, read_grid, read_nifti

__all__ = ["companions", "gather"]


def gather(
    pair: Pair,
    field: StoredField,
    measures: Sequence[Measure],
    protocol: Protocol,
    *,
    masked: bool,
    with_extras: bool,
) -> Material:
    """Read everything that a pair's measures need beside its field.

    A companion that is missing is left out of the material; the measure that wants it says so.

    Raises
    ------
    InputError
        If a companion cannot be used.
    """
    fixed, moving = read_grid(pair.fixed.path), read_grid(pair.moving.path)
    kinds = {measure.kind for measure in measures}
    by_labels = bool(kinds & {"dice", "hd95"})
    sources = sorted({measure.source for measure in measures if measure.kind == "tre"})
    foreground = _foreground(pair.fixed) if with_extras and not _masked_brain(pair, protocol) else None
    ndv_mask = None
    if "ndv" in kinds:
        if protocol.ndv_mask == "moving":
            ndv_mask = _foreground(pair.moving)
        else:
            ndv_mask = foreground if foreground is not None else _foreground(pair.fixed)
    mask = None
    masks_sdlogj = masked and "sdlogj" in kinds
    if pair.fixed.mask and (masks_sdlogj or (with_extras and foreground is None)):
        mask = load_labels(pair.fixed.mask).array
    brain = (foreground if foreground is not None else mask) if with_extras else None
    fixed_labels, moving_labels = _labels(pair) if by_labels else (None, None)
    return Material(
        vectors=field.vectors,
        regular=_regular(field.vectors, fixed, moving)
        if with_extras or fixed.shape != moving.shape
        else None,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_landmarks=_landmarks(pair.fixed, pair, sources),
        moving_landmarks=_landmarks(pair.moving, pair, sources),
        ndv_mask=ndv_mask,
        sdlogj_mask=mask if masked else None,
        brain=brain,
        moving_spacing=_zooms(pair.moving.path) if sources else (1.0, 1.0, 1.0),
        point_dtype=field.point_dtype,
        moving_shape=moving.shape,
        fixed_voxel=float(np.prod(fixed.spacing)),
        fixed_spacing=tuple(fixed.spacing),
        moving_voxel=float(np.prod(moving.spacing)),
    )


def companions(pair: Pair, measures: Iterable[Measure]) -> list[Path]:
    """Every file beside the field that may be read to score a pair, existing ones only."""
    found = [pair.fixed.path, pair.moving.path]
    for scan in (pair.fixed, pair.moving):
        found += [path for path in (scan.labels, scan.mask) if path is not None]
        for measure in measures:
            if measure.kind == "tre" and (path := _landmark_file(scan, pair, measure.source)) is not None:
                found.append(path)
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _masked_brain(pair: Pair, protocol: Protocol) -> bool:
    """Whether a mask file says where the subject is; LUMIR's images are stripped and say so themselves."""
    return protocol.name == "learn2reg" and pair.fixed.mask is not None


def _regular(vectors: NDArray[Any], fixed: Grid, moving: Grid) -> NDArray[Any] | None:
    """The displacement in fixed voxels where the grids differ, None where it is `vectors` itself."""
    if np.array_equal(fixed.to(moving), np.eye(4)):
        return None
    return DisplacementField(vectors, fixed, moving).in_fixed_voxels()


def _foreground(scan: Scan) -> NDArray[np.bool_]:
    return np.ascontiguousarray(read_nifti(scan.path)[0] > 0)


def _labels(pair: Pair) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Both label volumes in one type, uint8 where that holds them: a quarter of the memory to go through."""
    paths = (pair.fixed.labels, pair.moving.labels)
    one, two = (None if path is None else load_labels(path, smallest=True).array for path in paths)
    if one is not None and two is not None and one.dtype != two.dtype:
        one, two = one.astype(np.int32, copy=False), two.astype(np.int32, copy=False)
    return one, two


def _zooms(path: Path) -> tuple[float, ...]:
    """Voxel sizes as the header states them, which the evaluators take; the affine may say otherwise."""
    with refusals(path):
        return tuple(float(zoom) for zoom in open_header(path).header.get_zooms()[:3])


def _landmarks(scan: Scan, pair: Pair, sources: Sequence[str]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for source in sources:
        path = _landmark_file(scan, pair, source)
        if path is not None:
            found[source] = (
                read_points(path) if path.suffix == ".csv" else load_labels(path, smallest=True).array
            )
    return found


def _landmark_file(scan: Scan, pair: Pair, source: str) -> Path | None:
    """Where a measure's landmarks lie: ``images`` in the path replaced, by today's and by LUMIR's rule.

    For two contrasts other than 0000 <- 0001, points correspond within a combination only: their folder is
    ``keypoints00000002…`` (Learn2Reg) or ``keypoints02…`` (LUMIR).
    """
    f, m = pair.fixed.modality, pair.moving.modality
    names = [source]
    if f != m and (f, m) != ("0000", "0001"):
        low, high = sorted((f, m))
        names = [f"{source}{low}{high}", f"{source}{int(low)}{int(high)}"]
        if source == "landmarks":  # LUMIR's evaluator adds nothing to these
            names.append(source)
    for name in names:
        folder = scan.path.parent
        base = folder.parent / folder.name.replace("images", name)
        stem = scan.path.name.replace("images", name)
        for suffix in (".nii.gz", ".nii"):
            stem = stem.removesuffix(suffix)
        for suffix in (".nii.gz", ".nii", ".csv"):
            if base != folder and (base / (stem + suffix)).is_file():
                return base / (stem + suffix)
    return scan.landmarks if source == "landmarks" else None
