"""Scores one pair: of every measure the official number and a robust one, and what else is worth knowing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.evaluation.landmarks import landmark_errors, mean_error, point_errors, vanished
from iterreg.evaluation.overlap import LabelOverlap, as_kernel_labels, lumirage_dice, mean_score, overlap
from iterreg.evaluation.protocols import Measure, Protocol
from iterreg.evaluation.regularity import determinants, non_diffeomorphic
from iterreg.evaluation.surface_distance import hd95

__all__ = ["LabelRow", "Material", "PairScores", "Score", "score"]

Detail = float | list[float]


@dataclass(frozen=True)
class Score:
    """One measure of one pair.

    Attributes
    ----------
    kind
        The kind of measure.
    official
        Exactly the evaluator's number, NaN or infinite where it is.
    detailed
        What the evaluator lists beside it: per label or per point, or the number once more.
    robust
        The mean over what has a finite number.
    affected
        Labels or landmarks that made the official number NaN or infinite.
    missing
        Labels that the evaluator passes over: absent in the fixed or in the moving volume.
    unit
        ``"voxels"`` or ``"mm"``; empty for what has none.
    """

    kind: str
    official: float
    detailed: Detail
    robust: float
    affected: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class LabelRow:
    """One label of one pair: volumes in mm³, overlap, distance."""

    label: int
    fixed_mm3: float
    moving_mm3: float
    warped_mm3: float
    dice: float
    initial_dice: float
    hd95: float


@dataclass(frozen=True)
class PairScores:
    """All that was measured on one pair.

    Attributes
    ----------
    scores
        By the names of the protocol's measures, in its order.
    labels
        One row per label, ascending.
    extras
        Beyond the challenge: see `iterreg.evaluation.scoring.extras`; and HD95 and TRE in millimetres, as
        ``hd95_mm``, ``hd95_mm_robust`` and ``tre_mm``.
    problems
        Sentences: measures that were asked for but could not be taken, and why.
    """

    scores: dict[str, Score]
    labels: tuple[LabelRow, ...] = ()
    extras: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def background_alone(self) -> bool:
        """Whether a Dice was taken, and no label but 0 has one."""
        scored = {row.label for row in self.labels if not math.isnan(row.dice)}
        return scored == {0} and any(score.kind == "dice" for score in self.scores.values())

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists; NaN and infinity stay floats."""
        return {
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "labels": [asdict(row) for row in self.labels],
            "extras": self.extras,
            "problems": list(self.problems),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PairScores:
        """What `to_json` gave."""
        scores = {
            name: Score(**{**item, "affected": tuple(item["affected"]), "missing": tuple(item["missing"])})
            for name, item in data["scores"].items()
        }
        labels = tuple(LabelRow(**row) for row in data["labels"])
        return cls(scores, labels, dict(data["extras"]), tuple(data["problems"]))


@dataclass(frozen=True, eq=False)
class Material:
    """What a pair is scored by. Whatever is None was not given.

    Attributes
    ----------
    vectors
        (X, Y, Z, 3) float32 or float64: voxel displacements as stored, the evaluators heed no header.
    regular
        (X, Y, Z, 3): the same in fixed voxels, where the two grids differ; None where they are equal.
    fixed_labels, moving_labels
        (X, Y, Z) and (X', Y', Z') integers.
    fixed_landmarks, moving_landmarks
        By the source of a measure: blobs, (X, Y, Z) integers, or points, (N, 3) voxels.
    ndv_mask
        Image or mask on the fixed grid; NDV counts where it is above zero.
    sdlogj_mask
        Mask on the fixed grid; SDlogJ counts where it is 1. None: everywhere.
    brain
        Where the measures beyond the challenge are taken. None: everywhere.
    moving_spacing
        Voxel size of the moving image in millimetres, as its header states it: for points.
    point_dtype
        Precision in which displacements are interpolated at points.
    moving_shape
        Of the moving grid; None: as the fixed one.
    fixed_voxel, moving_voxel
        Volume of a voxel in mm³.
    fixed_spacing
        Millimetres per voxel along the axes of the fixed grid: for distances in millimetres.
    """

    vectors: NDArray[Any]
    regular: NDArray[Any] | None = None
    fixed_labels: NDArray[Any] | None = None
    moving_labels: NDArray[Any] | None = None
    fixed_landmarks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    moving_landmarks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    ndv_mask: NDArray[Any] | None = None
    sdlogj_mask: NDArray[Any] | None = None
    brain: NDArray[Any] | None = None
    moving_spacing: Sequence[float] = (1.0, 1.0, 1.0)
    point_dtype: type = np.float64
    moving_shape: tuple[int, int, int] | None = None
    fixed_voxel: float = 1.0
    moving_voxel: float = 1.0
    fixed_spacing: Sequence[float] = (1.0, 1.0, 1.0)


def score(
    material: Material, measures: Sequence[Measure], protocol: Protocol, *, with_extras: bool = True
) -> PairScores:
    """Take every measure of a pair.

    A measure whose material is missing or does not fit becomes a problem, not an exception.
    """
    scores: dict[str, Score] = {}
    problems: list[str] = []
    rows: tuple[LabelRow, ...] = ()
    in_mm: dict[str, float] = {}
    by_labels = [measure for measure in measures if measure.kind in ("dice", "hd95")]
    if by_labels:
        try:
            found, rows, in_mm = _labels(material, by_labels, protocol, with_extras)
            scores |= found
        except InputError as error:
            problems += [f"{measure.name}: {error}" for measure in by_labels]
    for measure in measures:
        try:
            if measure.kind == "ndv":
                percent = non_diffeomorphic(_judged(material), material.ndv_mask).percent
                scores[measure.name] = Score("ndv", percent, percent, percent)
            elif measure.kind == "sdlogj":
                mask = None if material.sdlogj_mask is None else material.sdlogj_mask == 1
                spread = determinants(_judged(material), mask).sd_log
                scores[measure.name] = Score("sdlogj", spread, spread, spread)
            elif measure.kind == "tre":
                scores[measure.name], millimetres = _landmarks(material, measure)
                in_mm.setdefault("tre_mm", millimetres)
        except InputError as error:
            problems.append(f"{measure.name}: {error}")
    ordered = {measure.name: scores[measure.name] for measure in measures if measure.name in scores}
    return PairScores(ordered, rows, in_mm | extras(material) if with_extras else {}, tuple(problems))


def extras(material: Material) -> dict[str, float]:
    """Regularity beyond the challenge, where the brain is.

    Returns
    -------
    ``folded_voxels`` and ``folded_percent``: voxels whose central-difference determinant is not above zero;
    ``jacobian_min``, ``jacobian_max``: its range; ``sdlogj``: Learn2Reg's SDlogJ there;
    ``tetrahedra_folded_voxels``: voxels with some of NDV's ten determinants below zero;
    ``tetrahedra_min``: the smallest of those. Where fixed and moving grid differ, all are taken in the
    world, unlike the official numbers.
    """
    if min(material.vectors.shape[:3]) < 3:
        return {}
    vectors = material.vectors if material.regular is None else material.regular
    central = determinants(vectors, material.brain, margin=1)
    ten = non_diffeomorphic(vectors, material.brain)
    return {
        "folded_voxels": central.folded,
        "folded_percent": 100 * central.folded / central.voxels if central.voxels else float("nan"),
        "jacobian_min": central.lowest,
        "jacobian_max": central.highest,
        "sdlogj": central.sd_log,
        "tetrahedra_folded_voxels": ten.folded_voxels,
        "tetrahedra_min": ten.lowest,
    }


def _judged(material: Material) -> NDArray[Any]:
    """The displacement whose regularity is the official number.

    The evaluators heed no header, so it is the stored one. Between images of different shapes, which they
    refuse, it would hold the change of grid and is taken in the world instead.
    """
    moving = material.moving_shape
    if material.regular is not None and moving is not None and moving != material.vectors.shape[:3]:
        return material.regular
    return material.vectors


def _warp(labels: NDArray[Any], vectors: NDArray[Any], interpolation: str) -> NDArray[Any]:
    from iterreg.kernels.sampling import sample_labels_linear, sample_labels_nearest

    sample = sample_labels_linear if interpolation == "linear" else sample_labels_nearest
    return sample(as_kernel_labels(labels), vectors)


def _labels(
    material: Material, measures: Sequence[Measure], protocol: Protocol, with_extras: bool
) -> tuple[dict[str, Score], tuple[LabelRow, ...], dict[str, float]]:
    """Everything that is told by the warped labels, which are made and counted once; HD95 in mm at last."""
    fixed, moving = material.fixed_labels, material.moving_labels
    if fixed is None or moving is None:
        raise InputError("the pair has no label volume for one or both of its images")
    lists = [measure.labels for measure in measures]
    wanted = None if None in lists else sorted({label for labels in lists for label in labels or ()})
    if protocol.interpolation == "linear" and wanted is not None:
        # One channel per label that is asked for: whatever else there is counts as background.
        fixed, moving = (np.where(np.isin(volume, wanted), volume, 0) for volume in (fixed, moving))
    warped = _warp(moving, material.vectors, protocol.interpolation)
    counted = overlap(fixed, warped, wanted, moving=moving)
    if wanted is None and protocol.background:
        wanted = [0, *(row.label for row in counted.rows())]
        counted = overlap(fixed, warped, wanted, moving=moving)
    initial = None
    if with_extras and fixed.shape == moving.shape:
        initial = overlap(fixed, moving, [row.label for row in counted.rows()], moving=moving)
    distances: dict[int, float] = {}
    in_mm: dict[str, float] = {}
    if any(measure.kind == "hd95" for measure in measures):
        of = [label for m in measures if m.kind == "hd95" for label in m.labels or ()]
        needed = None if any(m.kind == "hd95" and m.labels is None for m in measures) else of
        distances = hd95(fixed, warped, needed, counted=counted)
    scores = {
        measure.name: _label_score(measure, counted, distances, protocol.epsilon) for measure in measures
    }
    if distances and with_extras:
        millimetres = _millimetres(fixed, warped, distances, counted, material.fixed_spacing)
        first = next(measure for measure in measures if measure.kind == "hd95")
        found = _label_score(first, counted, millimetres, protocol.epsilon)
        in_mm = {"hd95_mm": found.official, "hd95_mm_robust": found.robust}
    return scores, tuple(_label_rows(counted, initial, distances, material, protocol)), in_mm


def _millimetres(
    fixed: NDArray[Any],
    warped: NDArray[Any],
    distances: Mapping[int, float],
    counted: LabelOverlap,
    spacing: Sequence[float],
) -> Mapping[int, float]:
    """HD95 of the same labels in millimetres; measured anew only where voxels are not cubes."""
    if np.allclose(spacing, spacing[0], rtol=1e-4):
        return {label: distance * float(spacing[0]) for label, distance in distances.items()}
    return hd95(fixed, warped, list(distances), counted=counted, spacing=spacing)


def _label_score(
    measure: Measure, counted: LabelOverlap, distances: Mapping[int, float], epsilon: float
) -> Score:
    labels = measure.labels if measure.labels is not None else [row.label for row in counted.rows()]
    rows = [counted.row(label) for label in labels]
    if measure.kind == "dice" and epsilon:
        by_label = lumirage_dice(counted, epsilon=epsilon)
        values = [by_label[row.label] for row in rows]
        mean = float(np.mean(values)) if values else float("nan")
        return Score("dice", mean, values, mean)
    missing = tuple(row.label for row in rows if not row.scored)
    if measure.kind == "dice":
        values = [row.dice for row in rows]
        mean = mean_score(dict(enumerate(values)))
        return Score("dice", mean, values, mean, missing=missing)
    values = [distances[row.label] for row in rows]
    finite = [value for value in values if np.isfinite(value)]
    return Score(
        "hd95",
        mean_score(dict(enumerate(values))),
        values,
        float(np.mean(finite)) if finite else float("nan"),
        affected=tuple(row.label for row in rows if row.vanished),
        missing=missing,
        unit="voxels",
    )


def _label_rows(
    counted: LabelOverlap,
    initial: LabelOverlap | None,
    distances: Mapping[int, float],
    material: Material,
    protocol: Protocol,
) -> list[LabelRow]:
    dices = (
        lumirage_dice(counted, epsilon=protocol.epsilon)
        if protocol.epsilon
        else {row.label: row.dice for row in counted.rows()}
    )
    return [
        LabelRow(
            label=row.label,
            fixed_mm3=row.fixed * material.fixed_voxel,
            moving_mm3=(row.moving or 0) * material.moving_voxel,
            warped_mm3=row.warped * material.fixed_voxel,
            dice=dices[row.label],
            initial_dice=float("nan") if initial is None else initial.row(row.label).dice,
            hd95=distances.get(row.label, float("nan")),
        )
        for row in counted.rows()
    ]


def _landmarks(material: Material, measure: Measure) -> tuple[Score, float]:
    """The official error, and its mean in millimetres."""
    fixed = material.fixed_landmarks.get(measure.source)
    moving = material.moving_landmarks.get(measure.source)
    if fixed is None or moving is None:
        raise InputError(f"the pair has no {measure.source} for one or both of its images")
    if fixed.ndim == 2:
        errors = point_errors(
            material.vectors,
            fixed,
            moving,
            spacing=material.moving_spacing,
            dtype=material.point_dtype,
        )
        mean = float(errors.mean())
        return Score("tre", mean, errors.tolist(), mean, unit="mm"), mean
    warped = _warp(moving, material.vectors, "nearest")
    by_name = landmark_errors(fixed, warped)
    millimetres = mean_error(landmark_errors(fixed, warped, spacing=material.fixed_spacing))
    found = {name: error for name, error in by_name.items() if not np.isnan(error)}
    official = mean_error(by_name)
    robust = mean_error(found)
    affected = vanished(by_name)
    return Score("tre", official, official, robust, affected=affected, unit="voxels"), millimetres
