"""What a field file seems to be: its format, layout and units, with the evidence for it.

`describe` looks at one file. `rank_readings` needs the two images: it warps the moving image under
every reading that is possible and lists them by similarity to the fixed image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io import elastix, itk
from iterreg.io.nifti import VECTOR_INTENT, read_vectors
from iterreg.io.npz import load_array
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["Belief", "Reading", "describe", "rank_readings"]

Units = Literal["voxels", "millimetres", "normalised", "absolute voxels", "unknown"]

_NUMPY = (".npy", ".npz")
_IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")


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


@dataclass(frozen=True)
class Reading:
    """One way to read a file, and how similar it makes the images.

    Attributes
    ----------
    names
        The readings that place every sampled voxel within 0.01 voxels of one another.
    format
        The format to name with ``--from`` for it, or ``""`` where the file would have to be mended first.
    ncc
        Normalised cross-correlation of fixed and warped moving image over the sampled voxels.
    inside
        Share of sampled voxels that stay inside the moving image.
    """

    names: tuple[str, ...]
    format: str
    ncc: float
    inside: float


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
    if not name.endswith(_IMAGES + _NUMPY):
        raise InputError(
            f"{path}: its name ends in none of the known ways: "
            f"{', '.join(_IMAGES + _NUMPY)}, .mat, .txt, .tfm, .h5"
        )
    array, grid, intent = _load(path)
    vectors, layout = _as_vectors(array, path)
    return _Sniffer(path, array, vectors, layout, grid, intent).belief()


def rank_readings(
    path: str | Path, fixed: Volume, moving: Volume, *, samples: int = 200_000
) -> tuple[Reading, ...]:
    """Try every reading of a dense field and rank them by similarity, the best first.

    Similarity is the normalised cross-correlation of the fixed image and the warped moving image over a
    regular subset of about `samples` voxels of the fixed grid. It tells readings apart when both images
    have the same contrast; between contrasts it is only a hint.

    Raises
    ------
    InputError
        If the file cannot be read or no layout of it fits the fixed image.
    """
    path = Path(path)
    if not path.name.lower().endswith(_IMAGES + _NUMPY):
        raise InputError(f"{path}: is not a dense field, its reading is not in doubt; give a field file")
    array, _, _ = _load(path)
    step = max(1, int(np.ceil((fixed.grid.size / samples) ** (1 / 3))))
    chosen = (slice(None, None, step),) * 3
    index = _voxels(fixed.grid.shape, step)
    reference = fixed.array[chosen].astype(np.float64).ravel()
    targets: list[tuple[str, str, FloatArray]] = [
        ("no displacement (for comparison)", "", _same_place(index, fixed.grid, moving.grid))
    ]
    for prefix, vectors in _layouts(array, fixed.grid.shape):
        sampled = vectors[chosen].reshape(-1, 3).astype(np.float64)
        for name, file_format, make in _READINGS:
            place = make(sampled, index, fixed.grid, moving.grid)
            if place is not None and np.isfinite(place).all():
                # a rearranged layout is no format: the plain reader would refuse the file
                targets.append((prefix + name, _format_of(array, prefix, file_format), place))
    if len(targets) == 1:
        raise InputError(
            f"{path}: has shape {array.shape}, no layout of which fits the fixed image's {fixed.grid.shape}; "
            "give the image the field was made for"
        )
    return _ranked(targets, reference, moving.array)


# -- loading ------------------------------------------------------------------------------------


def _load(path: Path) -> tuple[NDArray[Any], Grid | None, int]:
    name = path.name.lower()
    if name.endswith(_NUMPY):
        return load_array(path), None, 0
    if name.endswith((".nii", ".nii.gz")):
        stored = read_vectors(path)
        spatial = stored.array.shape[1:4] if stored.array.shape[0] == 3 else stored.array.shape[:3]
        grid = Grid(spatial, stored.affine) if len(spatial) == 3 and min(spatial) > 0 else None
        return stored.array, grid, stored.intent
    displacement, grid = itk.read_warp(path)
    # back to the stored signs, in the layout ITK's NIfTI files have
    return (displacement * [-1, -1, 1])[:, :, :, np.newaxis, :], grid, VECTOR_INTENT


def _as_vectors(array: NDArray[Any], path: Path) -> tuple[NDArray[Any], str]:
    shape = array.shape
    if array.ndim == 5 and shape[3:] == (1, 3):
        return array[:, :, :, 0, :], "X x Y x Z x 1 x 3 (ITK's)"
    if array.ndim == 5 and shape[0] == 1 and shape[-1] == 3:
        return array[0], "1 x X x Y x Z x 3 (a batch of one)"
    if array.ndim == 5 and shape[:2] == (1, 3):
        return np.moveaxis(array[0], 0, -1), "1 x 3 x X x Y x Z (a batch of one)"
    if array.ndim == 4 and shape[-1] == 3:
        return array, "X x Y x Z x 3"
    if array.ndim == 4 and shape[0] == 3:
        return np.moveaxis(array, 0, -1), "3 x X x Y x Z"
    raise InputError(
        f"{path}: has shape {'x'.join(map(str, shape))}, which holds no vectors of three components"
    )


def _layouts(array: NDArray[Any], shape: tuple[int, int, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every way to see the array as (X, Y, Z, 3) on the fixed grid."""
    try:
        vectors, _ = _as_vectors(array, Path())
    except InputError:
        return
    if vectors.shape[:3] == shape:
        yield "", vectors
    if vectors.shape[:3] == shape[::-1]:
        yield "axes z, y, x: ", vectors.transpose(2, 1, 0, 3)
    if tuple(2 * n for n in vectors.shape[:3]) == shape:
        from scipy.ndimage import zoom

        components = [zoom(vectors[..., c].astype(np.float32), 2, order=2) for c in range(3)]
        yield "half resolution: ", np.stack(components, axis=-1)


def _format_of(array: NDArray[Any], prefix: str, file_format: str) -> str:
    if prefix == "":
        five = array.ndim == 5 and array.shape[3:] == (1, 3)
        fits = {"challenge": not five, "ras": not five, "itk": five}
        return file_format if fits.get(file_format, True) else ""
    return "npz" if prefix.startswith("half") and file_format == "challenge" else ""


# -- describing ---------------------------------------------------------------------------------


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
        self.index = _voxels(vectors.shape[:3], step)
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


# -- ranking ------------------------------------------------------------------------------------

Make = Callable[[FloatArray, FloatArray, Grid, Grid], FloatArray | None]


def _same_place(p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
    return moving.world_to_voxel(fixed.voxel_to_world(p))


def _world(signs: tuple[int, int, int], reverse: bool = False) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
        displacement = (v[:, ::-1] if reverse else v) * signs
        return moving.world_to_voxel(fixed.voxel_to_world(p) + displacement)

    return make


def _axis_millimetres(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray:
    return _same_place(p, fixed, moving) + v / np.array(moving.spacing, dtype=np.float64)


def _normalised_displacement(reverse: bool) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray | None:
        if np.abs(v).max() > 4:
            return None
        half = (np.array(moving.shape, dtype=np.float64) - 1) / 2
        return _same_place(p, fixed, moving) + (v[:, ::-1] if reverse else v) * half

    return make


def _sampling_grid(align_corners: bool, reverse: bool) -> Make:
    def make(v: FloatArray, p: FloatArray, fixed: Grid, moving: Grid) -> FloatArray | None:
        if np.abs(v).max() > 4:
            return None
        g, n = (v[:, ::-1] if reverse else v), np.array(moving.shape, dtype=np.float64)
        return (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2

    return make


_READINGS: tuple[tuple[str, str, Make], ...] = (
    ("voxels", "challenge", lambda v, p, f, m: p + v),
    ("voxels, components reversed", "", lambda v, p, f, m: p + v[:, ::-1]),
    ("voxels, negated (an inverse or the opposite direction)", "", lambda v, p, f, m: p - v),
    ("millimetres, RAS+", "ras", _world((1, 1, 1))),
    ("millimetres, LPS (ITK, ANTs, elastix)", "itk", _world((-1, -1, 1))),
    ("millimetres, LPS, components reversed", "", _world((-1, -1, 1), reverse=True)),
    ("millimetres, LPS, negated", "", _world((1, 1, -1))),
    ("millimetres along the array axes", "", _axis_millimetres),
    ("absolute voxel coordinates", "", lambda v, p, f, m: v),
    ("absolute voxel coordinates, components reversed", "", lambda v, p, f, m: v[:, ::-1]),
    ("normalised displacements", "", _normalised_displacement(reverse=False)),
    ("normalised displacements, components reversed", "", _normalised_displacement(reverse=True)),
    ("sampling grid, align_corners=True", "torch", _sampling_grid(True, reverse=True)),
    ("sampling grid, align_corners=False", "torch-unaligned", _sampling_grid(False, reverse=True)),
    ("sampling grid, components in array order", "", _sampling_grid(True, reverse=False)),
)


def _ranked(
    targets: list[tuple[str, str, FloatArray]], reference: FloatArray, moving: NDArray[Any]
) -> tuple[Reading, ...]:
    from scipy.ndimage import map_coordinates

    groups: list[tuple[list[str], list[str], FloatArray]] = []
    for name, file_format, place in targets:
        for names, formats, other in groups:
            if np.abs(place - other).max() < 0.01:
                names.append(name)
                formats.append(file_format)
                break
        else:
            groups.append(([name], [file_format], place))
    image = np.asarray(moving, dtype=np.float32)
    upper = np.array(image.shape) - 1
    readings = []
    for names, formats, place in groups:
        warped = map_coordinates(image, place.T, order=1, mode="constant", cval=0.0)
        inside = float(((place >= 0) & (place <= upper)).all(axis=-1).mean())
        chosen = next((f for f in formats if f), "")
        readings.append(Reading(tuple(names), chosen, _ncc(reference, warped), inside))
    return tuple(sorted(readings, key=lambda r: -r.ncc))


def _ncc(a: FloatArray, b: NDArray[Any]) -> float:
    a = a - a.mean()
    b = b.astype(np.float64) - b.mean(dtype=np.float64)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _voxels(shape: tuple[int, ...], step: int) -> FloatArray:
    """(N, 3) indices of every `step`-th voxel along each axis."""
    axes = [np.arange(0, n, step, dtype=np.float64) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
