"""``iterreg.evaluate``: score one field that is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.evaluation.consistency import inverse_consistency
from iterreg.evaluation.protocols import Measure, protocol_named
from iterreg.evaluation.scoring import Material, PairScores, score
from iterreg.field import DisplacementField
from iterreg.volume import Volume

__all__ = ["evaluate"]

Labels = Volume | NDArray[Any]


def evaluate(
    field: DisplacementField | NDArray[Any],
    fixed_labels: Labels | None = None,
    moving_labels: Labels | None = None,
    *,
    labels: Sequence[int] | None = None,
    fixed_landmarks: Labels | None = None,
    moving_landmarks: Labels | None = None,
    moving_spacing: Sequence[float] = (1.0, 1.0, 1.0),
    fixed_image: Labels | None = None,
    moving_image: Labels | None = None,
    mask: Labels | None = None,
    inverse: DisplacementField | None = None,
    protocol: str = "lumir25",
    measures: Sequence[Measure] | None = None,
    extras: bool = True,
) -> PairScores:
    """Score a field by whatever is known of its pair.

    Parameters
    ----------
    field
        A `DisplacementField`, or (X, Y, Z, 3) voxel displacements on the fixed grid; float64 stays float64.
    fixed_labels, moving_labels
        (X, Y, Z) and (X', Y', Z') integers: Dice, HD95 and volumes.
    labels
        The ids to average over. Default: all that occur, with the background 0 in LUMIR's protocols.
    fixed_landmarks, moving_landmarks
        Blobs, (X, Y, Z) integers, or points, (N, 3) voxel coordinates: TRE.
    moving_spacing
        Voxel size of the moving image in millimetres, for points.
    fixed_image, moving_image
        Where NDV is averaged: fixed > 0 in LUMIR25, moving > 0 in LUMIR24. Default: everywhere.
    mask
        On the fixed grid: SDlogJ is taken where it is 1. Default: everywhere.
    inverse
        A field that leads back, for the inverse-consistency error; `field` is a `DisplacementField` then.
    protocol
        ``"lumir24"``, ``"lumir25"``, ``"learn2reg"`` or ``"lumirage"``.
    measures
        What to take. Default: the protocol's measures for which there is something to take them from.
    extras
        Take what is beyond the challenge too.

    Returns
    -------
    ``scores[name].official`` and ``.robust`` by measure, ``labels``, ``extras`` and ``problems``.

    Raises
    ------
    InputError
        If the field is not (X, Y, Z, 3) or not finite, or there is no such protocol. A measure whose
        material does not fit is a problem in the result.
    """
    rules = protocol_named(protocol)
    vectors, regular, moving_shape = _vectors(field)
    arrays = [_array(one) for one in (fixed_labels, moving_labels, fixed_landmarks, moving_landmarks)]
    if measures is None:
        measures = rules.always
        if fixed_labels is not None and moving_labels is not None:
            measures += tuple(Measure(m.name, m.kind, _ids(labels)) for m in rules.labelled)
        if fixed_landmarks is not None and moving_landmarks is not None:
            measures += rules.landmarked
    sources = {measure.source for measure in measures if measure.kind == "tre"}
    chosen = fixed_image if rules.ndv_mask == "fixed" else moving_image
    material = Material(
        vectors=vectors,
        regular=regular,
        fixed_labels=arrays[0],
        moving_labels=arrays[1],
        fixed_landmarks={source: arrays[2] for source in sources if arrays[2] is not None},
        moving_landmarks={source: arrays[3] for source in sources if arrays[3] is not None},
        ndv_mask=_array(chosen),
        sdlogj_mask=_array(mask),
        brain=_array(fixed_image),
        moving_spacing=moving_spacing,
        moving_shape=moving_shape,
        fixed_voxel=_voxel(fixed_labels),
        fixed_spacing=_spacing(field, fixed_labels),
        moving_voxel=_voxel(moving_labels),
    )
    found = score(material, measures, rules, with_extras=extras)
    if inverse is not None:
        if not isinstance(field, DisplacementField):
            raise InputError("inverse consistency needs both fields as DisplacementField, with their grids")
        error = inverse_consistency(field, inverse, material.brain)
        found.extras.update(
            inverse_consistency_mean_mm=error.mean,
            inverse_consistency_p95_mm=error.p95,
            inverse_consistency_max_mm=error.max,
        )
    return found


def _vectors(
    field: DisplacementField | NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any] | None, tuple[int, int, int] | None]:
    if isinstance(field, DisplacementField):
        regular = field.in_fixed_voxels()
        vectors = field.vectors
        return vectors, None if regular is vectors else regular, field.moving.shape
    array = np.asarray(field)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype.kind not in "iuf":
        raise InputError(f"a field is (X, Y, Z, 3) voxel displacements, got {array.dtype} of {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("the field holds NaN or infinite displacements")
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return np.ascontiguousarray(array, dtype=dtype), None, None


def _array(one: Labels | None) -> NDArray[Any] | None:
    return one.array if isinstance(one, Volume) else one


def _ids(labels: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if labels is None else tuple(int(label) for label in labels)


def _spacing(field: DisplacementField | NDArray[Any], fixed: Labels | None) -> Sequence[float]:
    """Of the fixed grid, by whatever knows it; an array is taken as of 1 mm."""
    if isinstance(field, DisplacementField):
        return tuple(field.fixed.spacing)
    return tuple(fixed.grid.spacing) if isinstance(fixed, Volume) else (1.0, 1.0, 1.0)


def _voxel(one: Labels | None) -> float:
    return float(np.prod(one.grid.spacing)) if isinstance(one, Volume) else 1.0
