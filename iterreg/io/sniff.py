"""What a field file seems to be: its format, layout and units, with the evidence for it.

With the pair's two images at hand, `iterreg.io.readings` can say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io import elastix, itk
from iterreg.io.nifti import VECTOR_INTENT
from iterreg.io.unknown import FIELD_SUFFIXES, as_vectors, load_unknown, voxels
from iterreg.volume import FloatArray, Grid

__all__ = ["Belief", "describe"]

Units = Literal["voxels", "millimetres", "normalised", "absolute voxels", "unknown"]


@dataclass(frozen=True)
class Belief:
    """What a file is believed to be.

    Attributes
    ----------
    path
        The file.
    format
        The name for ``--from`` (a key of `iterreg.io.formats.FORMATS`), or ``""`` when none fits.
    layout
        How the array is laid out, in words.
    shape, dtype
        Of the stored array; empty for transform files.
    units
        Of the stored numbers.
    grid
        The header's grid, where there is a header.
    statistics
        Measures of the numbers: mean and largest length, and each component's range.
    evidence, warnings
        Sentences.
    """

    path: Path
    format: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    units: Units
    grid: Grid | None
    statistics: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def describe(path: str | Path) -> Belief:
    """Say what a file seems to be.

    Raises
    ------
    InputError
        If it cannot be read or its kind is not known.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".txt") and elastix.is_parameter_file(path):
        return _describe_elastix(path)
    if name.endswith((".mat", ".txt", ".tfm", ".h5", ".hdf5", ".xfm")):
        itk.read_transforms([path], Grid((2, 2, 2)), Grid((2, 2, 2)))
        return Belief(
            path,
            "itk",
            "transform file of ITK or ANTs",
            (),
            "",
            "millimetres",
            None,
            evidence=("ITK reads it as a transform between points in LPS millimetres.",),
        )
    if not name.endswith(FIELD_SUFFIXES):
        raise InputError(
            f"{path}: its name ends in none of the known ways: "
            f"{', '.join(FIELD_SUFFIXES)}, .mat, .txt, .tfm, .h5"
        )
    array, grid, intent = load_unknown(path)
    vectors, layout = as_vectors(array, path)
    return _Sniffer(path, array, vectors, layout, grid, intent).belief()


def _describe_elastix(path: Path) -> Belief:
    parameters = elastix.read_parameter_file(path)
    kind = parameters["Transform"][0]
    initial = parameters.get("InitialTransformParameterFileName", ("NoInitialTransform",))[0]
    evidence = [f'It has an entry (Transform "{kind}"), as elastix\'s transform parameter files do.']
    if initial not in ("NoInitialTransform", ""):
        evidence.append(f"It starts from {initial}, which is read along with it.")
    return Belief(
        path, "elastix", f"elastix transform, {kind}", (), "", "millimetres", None, evidence=tuple(evidence)
    )


class _Sniffer:
    """Collects evidence about one dense field."""

    def __init__(
        self,
        path: Path,
        array: NDArray[Any],
        vectors: NDArray[Any],
        layout: str,
        grid: Grid | None,
        intent: int,
    ) -> None:
        self.path, self.array, self.layout, self.grid, self.intent = path, array, layout, grid, intent
        step = max(1, int(np.ceil((vectors[..., 0].size / 100_000) ** (1 / 3))))
        chosen = (slice(None, None, step),) * 3
        self.sample = vectors[chosen].reshape(-1, 3).astype(np.float64)
        self.index = voxels(vectors.shape[:3], step)
        self.shape = vectors.shape[:3]
        self.whole = vectors
        self.evidence: list[str] = []
        self.warnings: list[str] = []

    def belief(self) -> Belief:
        broken = int(np.count_nonzero(~np.isfinite(self.whole).all(axis=-1)))
        if broken:
            self.warnings.append(
                f"{broken} voxels hold NaN or infinite values: every evaluator rejects them."
            )
            good = np.isfinite(self.sample).all(axis=-1)
            self.sample, self.index = self.sample[good], self.index[good]
        file_format, units = self._decide() if len(self.sample) else ("", "unknown")
        self._warn_about(units)
        return Belief(
            self.path,
            file_format,
            self.layout,
            self.array.shape,
            str(self.array.dtype),
            units,
            self.grid,
            self._statistics(),
            tuple(self.evidence),
            tuple(self.warnings),
        )

    def _decide(self) -> tuple[str, Units]:
        ramps = self._ramps()
        if ramps is not None:
            return self._absolute(*ramps)
        if self.layout.endswith("(ITK's)"):
            self.evidence.append(
                "Five dimensions X x Y x Z x 1 x 3 are ITK's and ANTs' form: LPS millimetres."
            )
            if self.intent == VECTOR_INTENT:
                self.evidence.append("The NIfTI intent is 1007 (vector), as ITK writes it.")
            elif self.path.name.lower().endswith((".nii", ".nii.gz")):
                self.warnings.append(
                    f"The NIfTI intent is {self.intent}, not 1007: ITK may read it as five "
                    "dimensions, or flip its signs (1006)."
                )
            self.warnings.append(
                "The challenge's evaluator rejects five dimensions: "
                "`iterreg convert --from itk --to challenge`."
            )
            return "itk", "millimetres"
        if self.path.suffix == ".npz" and self.array.dtype == np.float16:
            self.evidence.append(
                "A float16 .npz is Learn2Reg's half-resolution form: voxels of the full grid."
            )
            return "npz", "voxels"
        if self.path.suffix == ".npz":
            self.evidence.append("A .npz is what Learn2Reg's evaluator takes: voxels.")
            return "npz", "voxels"
        if float(np.abs(self.sample).max()) <= 1.1 and np.abs(self.sample).max() > 0:
            self.warnings.append(
                "No component exceeds 1.1: these may be normalised displacements (of a network before "
                "scaling by half the image size) instead of voxels."
            )
        if self.path.suffix == ".npy":
            self.evidence.append(
                "A plain array has no header; displacements in voxels are the commonest content."
            )
            return "", "unknown"
        return self._four_dimensions()

    def _four_dimensions(self) -> tuple[str, Units]:
        if self.intent == VECTOR_INTENT:
            self.evidence.append(
                "Four dimensions with the intent 1007 (vector): displacements in RAS+ millimetres are usual."
            )
            return "ras", "millimetres"
        if self.path.name.startswith("disp_"):
            self.evidence.append(
                "The name disp_*.nii.gz and four dimensions are the challenge's form: voxels."
            )
        else:
            self.evidence.append("Four dimensions and no vector intent are the challenge's form: voxels.")
        if self.grid is not None and np.array_equal(self.grid.affine, np.eye(4)):
            self.evidence.append(
                "The header's affine is the identity, as the challenge's baselines write it."
            )
        return "challenge", "voxels"

    def _ramps(self) -> tuple[tuple[int, ...], FloatArray, FloatArray] | None:
        """Where each component runs along one axis like a coordinate: that axis, slope and intercept."""
        if len(self.sample) < 8 or min(self.shape) < 2:
            return None
        design = np.column_stack([self.index, np.ones(len(self.index))])
        solution: FloatArray = np.asarray(np.linalg.lstsq(design, self.sample, rcond=None)[0], np.float64)
        slopes: FloatArray = solution[:3].T  # (component, axis)
        along = np.abs(slopes) * (np.array(self.shape) - 1)
        axes = tuple(int(a) for a in along.argmax(axis=1))
        strongest = along[np.arange(3), axes]
        if sorted(axes) != [0, 1, 2]:
            return None
        # a coordinate spans its whole axis: 2 when normalised, n - 1 in voxels; displacements do not
        spread = self.sample - design @ solution
        for scale in (2.0, np.array([self.shape[a] - 1.0 for a in axes])):
            if (np.abs(strongest / scale - 1) < 0.35).all() and (spread.std(axis=0) < 0.2 * strongest).all():
                return axes, slopes[np.arange(3), axes], solution[3]
        return None

    def _absolute(self, axes: tuple[int, ...], slopes: FloatArray, offsets: FloatArray) -> tuple[str, Units]:
        lengths = np.array([self.shape[a] - 1.0 for a in axes])
        order = (
            "x, y, z"
            if axes == (0, 1, 2)
            else "z, y, x"
            if axes == (2, 1, 0)
            else "neither x, y, z nor z, y, x"
        )
        if (np.abs(slopes) * lengths < 2.8).all() and (np.abs(self.sample) < 2).all():
            self.evidence.append(
                f"Every component runs from about -1 to 1 along one axis (components in the order {order}): "
                "a normalised sampling grid, as torch's grid_sample takes it."
            )
            # the corner voxel is -1 with aligned corners, -1 + 1/n without
            spans = np.abs(slopes) * lengths
            without = 2 * lengths / (lengths + 1)
            aligned = np.abs(spans - 2).sum() <= np.abs(spans - without).sum()
            self.evidence.append(
                f"Its span fits align_corners={aligned} better; only the code that made it is certain."
            )
            if axes != (2, 1, 0):
                self.warnings.append(
                    "grid_sample wants the last array axis first: this grid has another order of components."
                )
                return "", "normalised"
            return ("torch" if aligned else "torch-unaligned"), "normalised"
        self.evidence.append(
            f"Every component runs along one axis with a slope near 1 (components in the order {order})."
        )
        self.warnings.append(
            "These are absolute coordinates, not displacements: subtract each voxel's own index first."
        )
        return "", "absolute voxels"

    def _warn_about(self, units: Units) -> None:
        if not len(self.sample):
            return
        if not np.any(self.sample):
            self.warnings.append("Every displacement is zero.")
            return
        spacing = None if self.grid is None else np.array(self.grid.spacing)
        lengths = np.linalg.norm(self.sample, axis=-1)
        if units == "voxels" and spacing is not None and np.abs(spacing - 1).max() > 0.01:
            text = " x ".join(f"{s:.3g}" for s in spacing)
            self.warnings.append(
                f"The header has voxels of {text} mm, but the challenge's baselines write an identity "
                "header: the values may be millimetres. Give both images to find out."
            )
        if units == "voxels" and self.array.dtype.kind == "f" and float(lengths.max()) > max(self.shape):
            self.warnings.append(
                f"The longest displacement ({lengths.max():.1f}) exceeds the grid's longest side."
            )
        outside = self.index + self.sample
        gone = ((outside < -0.5) | (outside > np.array(self.shape) - 0.5)).any(axis=-1).mean()
        if units == "voxels" and gone > 0.3:
            self.warnings.append(
                f"Read as voxels, {gone:.0%} of the displacements point out of the grid: other units or "
                "another moving grid are likely."
            )

    def _statistics(self) -> dict[str, float]:
        if not len(self.sample):
            return {}
        lengths = np.linalg.norm(self.sample, axis=-1)
        out = {"mean length": float(lengths.mean()), "largest length": float(lengths.max())}
        for c in range(3):
            out[f"component {c} lowest"] = float(self.sample[:, c].min())
            out[f"component {c} highest"] = float(self.sample[:, c].max())
        return out
