"""SyN of ANTs (Avants et al., Medical Image Analysis 2008), run through antspyx.

antsRegistration's own argument list is built here instead of calling ``ants.registration``: that function
replaces several of its arguments by fixed values, depending on the type of transform it is given. Every
forward transform is composed into one field on the fixed grid; nothing is dropped unless
`discard_initial_translation` asks for it.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import EngineError, InputError
from iterreg.field import DisplacementField
from iterreg.io.itk import from_itk
from iterreg.methods import presets
from iterreg.methods.base import Cost, Parameters, Registration, Task
from iterreg.methods.toml_parameters import from_mapping, plain, read_toml, setting
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["Linear", "Metric", "Pyramid", "Settings", "SyN", "antsregistration_arguments"]

DEFAULT_PRESET = "cheap"

_LPS = np.diag([-1.0, -1.0, 1.0])

# Measured with antspyx 0.6.3, float: peak bytes for a voxel of a registration at full resolution, for a voxel
# of the composition onto the full grid, and of the engine alone.
_REGISTRATION_BYTES = 300
_COMPOSITION_BYTES = 100
_ENGINE_BYTES = 280 * 2**20
_MEMORY_MARGIN = 1.08
_BOX_OF_A_BRAIN = 0.8  # the share of the grid that is left by cropping, on skull-stripped MNI-sized volumes


def _check_levels(*lists: Sequence[float]) -> None:
    counts = [len(values) for values in lists]
    if len(set(counts)) > 1 or not counts[0]:
        raise InputError(
            "iterations, shrink_factors and smoothing_sigmas need one value per level each, "
            f"got {counts[0]}, {counts[1]} and {counts[2]}"
        )


@dataclass(frozen=True)
class Metric:
    """The similarity of the SyN stage.

    Attributes
    ----------
    name
        CC: local normalised cross-correlation in a box; MI: Mattes mutual information (for two contrasts);
        MeanSquares; Demons.
    radius
        Half width of the box of CC, and the smoothing radius of Demons, in voxels of the level.
    bins
        Histogram bins of MI.
    """

    name: Literal["CC", "MI", "MeanSquares", "Demons"] = "CC"
    radius: int = setting(2, minimum=1, maximum=16)
    bins: int = setting(32, minimum=5, maximum=512)


@dataclass(frozen=True)
class Pyramid:
    """Levels from coarse to fine.

    Attributes
    ----------
    iterations
        Largest number of iterations at each level.
    shrink_factors
        By how much each level's grid is coarser than the fixed grid, along each axis.
    smoothing_sigmas
        Standard deviation of the Gaussian each level's images are smoothed with, in **voxels of the full
        grid**.
    """

    iterations: tuple[int, ...] = setting((100, 70, 50, 20), minimum=0)
    shrink_factors: tuple[int, ...] = setting((8, 4, 2, 1), minimum=1, maximum=64)
    smoothing_sigmas: tuple[float, ...] = setting((3.0, 2.0, 1.0, 0.0), minimum=0, maximum=64)

    def __post_init__(self) -> None:
        _check_levels(self.iterations, self.shrink_factors, self.smoothing_sigmas)


@dataclass(frozen=True)
class Convergence:
    """When a level stops before its iterations are used up.

    Attributes
    ----------
    threshold
        The level stops when the slope of the metric, fitted over the last `window` iterations and normalised,
        falls below it.
    window
        Number of iterations of the fit.
    """

    threshold: float = setting(1e-6, minimum=0)
    window: int = setting(10, minimum=2)


@dataclass(frozen=True)
class Linear:
    """What comes before SyN.

    Attributes
    ----------
    initialization
        none: the images' world coordinates are trusted. center_of_mass, geometric_center: a translation that
        brings these centres of the two images together.
    stage
        none; rigid; affine (a rigid stage, then an affine one with the same settings).
    metric, bins, radius
        MI with `bins`, MeanSquares, CC with `radius`, GC (global correlation).
    sampling
        Where the metric is evaluated: None is every voxel.
    sampling_share
        The share of voxels for Regular and Random.
    gradient_step
        Of the optimiser, in physical units.
    iterations, shrink_factors, smoothing_sigmas, threshold, window
        As for SyN.
    """

    initialization: Literal["none", "center_of_mass", "geometric_center"] = "none"
    stage: Literal["none", "rigid", "affine"] = "none"
    metric: Literal["MI", "MeanSquares", "CC", "GC"] = "MI"
    bins: int = setting(32, minimum=5, maximum=512)
    radius: int = setting(2, minimum=1, maximum=16)
    sampling: Literal["None", "Regular", "Random"] = "Regular"
    sampling_share: float = setting(0.25, above=0, maximum=1)
    gradient_step: float = setting(0.1, above=0)
    iterations: tuple[int, ...] = setting((1000, 500, 250, 0), minimum=0)
    shrink_factors: tuple[int, ...] = setting((8, 4, 2, 1), minimum=1, maximum=64)
    smoothing_sigmas: tuple[float, ...] = setting((3.0, 2.0, 1.0, 0.0), minimum=0, maximum=64)
    threshold: float = setting(1e-6, minimum=0)
    window: int = setting(10, minimum=2)

    def __post_init__(self) -> None:
        _check_levels(self.iterations, self.shrink_factors, self.smoothing_sigmas)


@dataclass(frozen=True)
class Settings:
    """A SyN parameter file.

    Attributes
    ----------
    gradient_step
        Length of a step: the largest displacement an iteration adds, in voxels of the level.
    update_field_variance, total_field_variance
        ANTs's ``SyN[gradientStep, updateFieldVarianceInVoxelSpace, totalFieldVarianceInVoxelSpace]``:
        **variances** (not standard deviations) of the Gaussians that smooth each update (fluid
        regularisation, flow_sigma in antspyx) and the whole field (elastic regularisation, total_sigma), in
        squared voxels of the level. 0 smooths nothing.
    precision
        Number type antsRegistration computes in; double needs twice the memory.
    winsorize
        Quantiles of the image between which intensities are clipped; (0, 1) clips nothing.
    histogram_matching
        Match the moving image's histogram to the fixed one's (one contrast only).
    use_masks
        Hand the task's masks to antsRegistration, for every stage; masks are ignored when false.
    crop_margin_mm
        Register only the box around the voxels that differ from zero in either image, and this much more on
        every side; None (leave the key out) registers the whole grids. SyN keeps the border of its grid
        fixed, so the field goes to zero at the box's faces.
    discard_initial_translation
        Apply the initial translation, then leave it out of the written field. This is wrong on purpose: it
        repeats a published script.
    """

    gradient_step: float = setting(0.2, above=0, maximum=10)
    update_field_variance: float = setting(3.0, minimum=0)
    total_field_variance: float = setting(0.0, minimum=0)
    precision: Literal["float", "double"] = "float"
    winsorize: tuple[float, float] = setting((0.0, 1.0), minimum=0, maximum=1)
    histogram_matching: bool = False
    use_masks: bool = True
    crop_margin_mm: float | None = setting(None, minimum=0)
    discard_initial_translation: bool = False
    metric: Metric = field(default_factory=Metric)
    pyramid: Pyramid = field(default_factory=Pyramid)
    convergence: Convergence = field(default_factory=Convergence)
    linear: Linear = field(default_factory=Linear)

    def __post_init__(self) -> None:
        if self.winsorize[0] >= self.winsorize[1]:
            raise InputError(f"winsorize needs a lower and a higher quantile, got {list(self.winsorize)}")
        if self.discard_initial_translation and (
            self.linear.stage != "none" or self.linear.initialization == "none"
        ):
            raise InputError(
                "discard_initial_translation needs linear.initialization and no linear.stage: "
                "it drops a translation, nothing else"
            )


class SyN:
    """ANTs's symmetric normalisation."""

    name = "syn"
    distributions: tuple[str, ...] = ("antspyx",)

    def parameters(self, source: str | None) -> Parameters:
        """Resolve None (the preset ``cheap``), a preset's name or the path of a TOML file; see `Settings`.

        Raises
        ------
        InputError
            If there is no such preset or file, or a setting is unknown or out of range.
        """
        path = presets.find(self.name, DEFAULT_PRESET if source is None else source)
        settings = read_toml(path, Settings)
        return Parameters(preset=path.stem, values=plain(settings), files=(path,))

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        """A rough figure: all iterations are used, and a cropped volume is a brain's."""
        settings = _settings(parameters)
        share = 1.0 if settings.crop_margin_mm is None else _BOX_OF_A_BRAIN
        size = share * max(fixed.size, moving.size)
        seconds = 2.0 + 1e-6 * max(fixed.size, moving.size)
        pyramid = settings.pyramid
        for count, shrink in zip(pyramid.iterations, pyramid.shrink_factors, strict=True):
            level = size / shrink**3
            seconds += count * level * _seconds_per_voxel(settings.metric, level)
        if settings.linear.stage != "none":
            stages = 2 if settings.linear.stage == "affine" else 1
            evaluated = 1.0 if settings.linear.sampling == "None" else settings.linear.sampling_share
            for count, shrink in zip(settings.linear.iterations, settings.linear.shrink_factors, strict=True):
                # Linear stages converge long before their generous limits.
                seconds += stages * min(count, 100) * evaluated * size / shrink**3 * 1.5e-6
        used = [f for n, f in zip(pyramid.iterations, pyramid.shrink_factors, strict=True) if n > 0]
        width = 1 if settings.precision == "float" else 2
        registration = width * size * (60 + (_REGISTRATION_BYTES - 60) / min(used, default=64) ** 3)
        composition = _COMPOSITION_BYTES * max(fixed.size, moving.size)
        memory = _MEMORY_MARGIN * (_ENGINE_BYTES + max(registration, composition))
        return Cost(memory=int(memory), cpu_seconds=seconds)

    def environment(self, threads: int) -> Mapping[str, str]:
        return {
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }

    def warm(self) -> None:
        import ants  # noqa: F401

    def register(self, task: Task, parameters: Parameters) -> Registration:
        """Register one pair.

        Raises
        ------
        InputError
            If an image's affine shears, an image or a mask is empty, or the images do not meet in the world.
        EngineError
            If antsRegistration fails or does not write what it should.
        """
        from ants.internal import get_pointer_string

        settings = _settings(parameters)
        fixed, moving = _engine_grid(task.fixed), _engine_grid(task.moving)
        _check(task, settings)
        boxes = _boxes(task, settings)
        images = _ants_images(task, settings, (fixed, moving), boxes)
        pointers = {name: str(get_pointer_string(image)) for name, image in images.items()}
        prefix = task.scratch / "syn_"
        arguments = antsregistration_arguments(
            settings,
            fixed=pointers["fixed"],
            moving=pointers["moving"],
            fixed_mask=pointers.get("fixed_mask"),
            moving_mask=pointers.get("moving_mask"),
            output=str(prefix),
            seed=task.seed,
        )
        log = _run("antsRegistration", arguments, task.scratch)
        forward, backward = _transforms(prefix, settings)
        del images
        vectors = _composed(forward, fixed, moving, task.scratch / "forward.nii")
        inverse = None
        if task.inverse:
            there = _composed(backward, moving, fixed, task.scratch / "inverse.nii")
            inverse = DisplacementField(there, task.moving.grid, task.fixed.grid)
        details = {
            "transforms": [Path(name.strip("[],1")).name for name in forward],
            "box": [list(bounds) for bounds in boxes[0]],
            "levels": _levels(log),
        }
        return Registration(DisplacementField(vectors, task.fixed.grid, task.moving.grid), inverse, details)


# -- arguments --------------------------------------------------------------------------------------


def antsregistration_arguments(
    settings: Settings,
    *,
    fixed: str,
    moving: str,
    output: str,
    seed: int,
    fixed_mask: str | None = None,
    moving_mask: str | None = None,
) -> list[str]:
    """The argument list of ``antsRegistration`` for these settings.

    Parameters
    ----------
    fixed, moving, fixed_mask, moving_mask
        How antsRegistration finds the images: file names, or antspyx's pointers.
    output
        Prefix of the files it writes.
    seed
        Of the random sampling.
    """
    linear = settings.linear
    arguments = ["--dimensionality", "3", "--output", f"[{output}]"]
    if linear.initialization != "none":
        feature = {"geometric_center": 0, "center_of_mass": 1}[linear.initialization]
        arguments += ["--initial-moving-transform", f"[{fixed},{moving},{feature}]"]
    if settings.winsorize != (0.0, 1.0):
        low, high = settings.winsorize
        arguments += ["--winsorize-image-intensities", f"[{low!r},{high!r}]"]
    arguments += ["--use-histogram-matching", str(int(settings.histogram_matching))]

    stages = {"none": (), "rigid": ("Rigid",), "affine": ("Rigid", "Affine")}[linear.stage]
    for stage in stages:
        parameter = {"MI": linear.bins, "CC": linear.radius, "MeanSquares": 0, "GC": 0}[linear.metric]
        sampling = "None" if linear.sampling == "None" else f"{linear.sampling},{linear.sampling_share!r}"
        arguments += ["--transform", f"{stage}[{linear.gradient_step!r}]"]
        arguments += ["--metric", f"{linear.metric}[{fixed},{moving},1,{parameter},{sampling}]"]
        arguments += _level_arguments(linear, linear.threshold, linear.window)

    metric = settings.metric
    parameter = metric.bins if metric.name == "MI" else metric.radius
    step, update, total = (
        settings.gradient_step,
        settings.update_field_variance,
        settings.total_field_variance,
    )
    arguments += ["--transform", f"SyN[{step!r},{update!r},{total!r}]"]
    arguments += ["--metric", f"{metric.name}[{fixed},{moving},1,{parameter}]"]
    arguments += _level_arguments(
        settings.pyramid, settings.convergence.threshold, settings.convergence.window
    )

    if settings.use_masks and (fixed_mask or moving_mask):
        arguments += ["--masks", f"[{fixed_mask or 'NA'},{moving_mask or 'NA'}]"]
    arguments += ["--float", str(int(settings.precision == "float"))]
    arguments += ["--random-seed", str(seed), "--verbose", "1"]
    return arguments


def _level_arguments(levels: Pyramid | Linear, threshold: float, window: int) -> list[str]:
    iterations = "x".join(map(str, levels.iterations))
    return [
        "--convergence",
        f"[{iterations},{threshold!r},{window}]",
        "--shrink-factors",
        "x".join(map(str, levels.shrink_factors)),
        "--smoothing-sigmas",
        "x".join(f"{sigma:g}" for sigma in levels.smoothing_sigmas) + "vox",
    ]


def _settings(parameters: Parameters) -> Settings:
    return from_mapping(parameters.values, Settings, source=parameters.preset)


def _seconds_per_voxel(metric: Metric, voxels: float) -> float:
    """CPU seconds of an iteration for each of a level's voxels; more where the images outgrow the caches."""
    microseconds = 3.5
    if metric.name == "CC":
        microseconds = 3.0 + 0.37 * (2 * metric.radius + 1) ** 2
    return 1e-6 * microseconds * (1 + 0.6 * min(1.0, voxels / 4e6))


# -- images -----------------------------------------------------------------------------------------

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _engine_grid(volume: Volume) -> Grid:
    """The volume's grid as ITK can hold it: orthogonal axes.

    Rounding in a file's header is mended: the direction becomes the nearest orthogonal matrix (polar
    decomposition). Voxel displacements computed with this grid stay true, whatever is wrong with the world.
    """
    spacing = np.asarray(volume.grid.spacing)
    direction = volume.grid.affine[:3, :3] / spacing
    left, _, right = np.linalg.svd(direction)
    orthogonal = left @ right
    if np.abs(orthogonal - direction).max() > 1e-3:
        name = volume.path or "an image"
        raise InputError(
            f"{name}: its affine shears (the axes are not perpendicular), which ITK cannot hold; "
            "resample it onto a grid with perpendicular axes first"
        )
    affine = volume.grid.affine.copy()
    # Below float32's rounding there is nothing to mend, and exact affines stay exact.
    if np.abs(orthogonal - direction).max() > 1e-7:
        affine[:3, :3] = orthogonal * spacing
    return Grid(volume.grid.shape, affine)


def _check(task: Task, settings: Settings) -> None:
    """Refuse what antsRegistration takes without a word and answers with an undeformed field."""
    for volume in (task.fixed, task.moving):
        name = volume.path or "an image"
        low, high = float(volume.array.min()), float(volume.array.max())
        if not np.isfinite([low, high]).all():
            raise InputError(f"{name}: holds NaN or infinite intensities; replace them before registration")
        if low == high:
            raise InputError(f"{name}: every voxel is {low:g}, there is nothing to register")
    if settings.linear.initialization == "none":
        fixed, moving = task.fixed.grid, task.moving.grid
        ends = np.array([np.zeros(3), np.asarray(moving.shape) - 1.0])
        mapped = fixed.world_to_voxel(moving.voxel_to_world(_corners(ends)))
        if (mapped.max(axis=0) < 0).any() or (mapped.min(axis=0) > np.asarray(fixed.shape) - 1).any():
            raise InputError(
                f"{task.moving.path or 'the moving image'}: does not meet the fixed image anywhere in the "
                'world; set linear.initialization = "center_of_mass", or correct the affine in its header'
            )


def _corners(ends: FloatArray) -> FloatArray:
    """The eight corners (8, 3) of a box given by its (2, 3) ends."""
    return np.array(np.meshgrid(*ends.T)).reshape(3, -1).T


def _whole(grid: Grid) -> Box:
    x, y, z = grid.shape
    return ((0, x), (0, y), (0, z))


def _boxes(task: Task, settings: Settings) -> tuple[Box, Box]:
    """The parts of the fixed and of the moving grid to register.

    Each box holds the foreground of both images: SyN does not move the border of its grid, so that moving
    tissue beyond the fixed brain needs room too.
    """
    if settings.crop_margin_mm is None:
        return _whole(task.fixed.grid), _whole(task.moving.grid)
    inner = [_foreground(task.fixed), _foreground(task.moving)]
    shift = np.zeros(3)
    if settings.linear.initialization == "center_of_mass":
        shift = _center_of_mass(task.moving) - _center_of_mass(task.fixed)
    elif settings.linear.initialization == "geometric_center":
        shift = _geometric_center(task.moving.grid) - _geometric_center(task.fixed.grid)
    margin = settings.crop_margin_mm
    fixed = _joint(task.fixed.grid, inner[0], task.moving.grid, inner[1], -shift, margin)
    moving = _joint(task.moving.grid, inner[1], task.fixed.grid, inner[0], shift, margin)
    return fixed, moving


def _foreground(volume: Volume) -> FloatArray:
    """(2, 3) lowest and highest index of the voxels that are not zero.

    The background must be zero for a crop to change nothing: ANTs takes zero beyond an image's border.
    """
    bounds = np.empty((2, 3))
    filled = volume.array != 0
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(filled.any(axis=others))
        bounds[:, axis] = where[0], where[-1]
    return bounds


def _center_of_mass(volume: Volume) -> FloatArray:
    weights = volume.array.astype(np.float64)
    total = weights.sum()
    index = [
        float((weights.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / total)
        for axis, n in enumerate(weights.shape)
    ]
    return volume.grid.voxel_to_world(index)


def _geometric_center(grid: Grid) -> FloatArray:
    return grid.voxel_to_world((np.asarray(grid.shape) - 1) / 2)


def _joint(
    grid: Grid, own: FloatArray, other: Grid, theirs: FloatArray, shift: FloatArray, margin: float
) -> Box:
    mapped = grid.world_to_voxel(other.voxel_to_world(_corners(theirs)) + shift)
    points = np.concatenate([own, mapped])
    room = margin / np.asarray(grid.spacing)
    low = np.maximum(np.floor(points.min(axis=0) - room), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + room) + 1, grid.shape).astype(int)
    # Images that do not overlap in the world: a crop would leave nothing, so keep the image's own foreground.
    low, high = np.minimum(low, own[0].astype(int)), np.maximum(high, own[1].astype(int) + 1)
    (a, c, e), (b, d, f) = low.tolist(), high.tolist()
    return ((a, b), (c, d), (e, f))


def _ants_images(
    task: Task, settings: Settings, grids: tuple[Grid, Grid], boxes: tuple[Box, Box]
) -> dict[str, Any]:
    """The task's images for antspyx, cropped; they must live as long as their pointers are in use."""
    pixel = settings.precision
    images = {
        "fixed": _ants_image(task.fixed.array, grids[0], boxes[0], pixel),
        "moving": _ants_image(task.moving.array, grids[1], boxes[1], pixel),
    }
    masks = {"fixed_mask": task.fixed_mask, "moving_mask": task.moving_mask}
    for (name, mask), grid, box in zip(masks.items(), grids, boxes, strict=True):
        if mask is None or not settings.use_masks:
            continue
        if mask.grid.shape != grid.shape:
            raise InputError(
                f"{mask.path or 'a mask'}: shape {mask.grid.shape} is not its image's {grid.shape}"
            )
        filled = mask.array > 0
        if not filled[_slices(box)].any():
            raise InputError(f"{mask.path or 'a mask'}: no voxel of the mask lies on the image; check it")
        images[name] = _ants_image(filled, grid, box, pixel)
    return images


def _slices(box: Box) -> tuple[slice, slice, slice]:
    (a, b), (c, d), (e, f) = box
    return slice(a, b), slice(c, d), slice(e, f)


def _ants_image(array: NDArray[Any], grid: Grid, box: Box, pixel: str = "float") -> Any:
    import ants

    spacing = np.asarray(grid.spacing)
    corner = grid.voxel_to_world([low for low, _ in box])
    image = ants.from_numpy(
        np.asarray(array[_slices(box)], dtype=np.float32),
        origin=tuple(float(x) for x in _LPS @ corner),
        spacing=tuple(float(s) for s in spacing),
        direction=_LPS @ (grid.affine[:3, :3] / spacing),
    )
    return image if pixel == "float" else image.clone(pixel)


# -- running ----------------------------------------------------------------------------------------


def _run(program: str, arguments: Sequence[str], folder: Path) -> str:
    """Call one of antspyx's programs and return what it printed.

    Raises
    ------
    EngineError
        If it fails, or if it caught an exception and went on: antsRegistration skips a stage that fails, and
        its exit code says nothing of it.
    """
    from ants.internal import get_lib_fn

    with _printed(folder / f"{program}.log") as printed:
        print(program, *arguments, flush=True)
        try:
            code = get_lib_fn(program)(list(arguments))
        except RuntimeError as error:
            raise EngineError(f"{program} failed: {error}{_tail(printed())}") from error
        log = printed()
    if code != 0:
        raise EngineError(f"{program} failed with exit code {code}{_tail(log)}")
    if "Exception caught" in log:
        reason = re.search(r"ITK ERROR: *(.+)", log)
        raise EngineError(
            f"{program} could not finish a stage: {reason[1].strip()}"
            if reason
            else f"{program} failed{_tail(log)}"
        )
    return log


@contextmanager
def _printed(path: Path) -> Iterator[Callable[[], str]]:
    """Read back what is printed from here on, by this process's C++ code too.

    A job's standard output is a file, which is read where it grows. Anything else (a terminal, a pipe) is
    replaced by the file `path` meanwhile, and gets its content afterwards.
    """
    _flush()
    before = os.fstat(1)
    if stat.S_ISREG(before.st_mode):
        start, source = before.st_size, Path("/proc/self/fd/1")
        yield lambda: _read(source, start)
        return
    keep = os.dup(1)
    try:
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
        yield lambda: _read(path, 0)
    finally:
        _flush()
        os.dup2(keep, 1)
        os.close(keep)
        print(_read(path, 0), end="", flush=True)


def _read(path: Path, start: int) -> str:
    _flush()
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _flush() -> None:
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def _tail(log: str, lines: int = 6) -> str:
    last = [line for line in log.splitlines() if line.strip()][-lines:]
    return "; its last lines were: " + " | ".join(last) if last else "; see the job's log"


_DIAGNOSTIC = re.compile(r"^\s*(\w)DIAGNOSTIC,\s*(\d+),\s*([^,\s]+),\s*([^,\s]+),")


def _levels(log: str) -> list[dict[str, Any]]:
    """Iterations, last metric and last convergence value of each level, from antsRegistration's log."""
    levels: list[dict[str, Any]] = []
    for line in log.splitlines():
        match = _DIAGNOSTIC.match(line)
        if not match:
            continue
        number = int(match[2])
        if number == 1 or not levels:
            levels.append({})
        convergence = float(match[4])
        levels[-1] = {
            "stage": "syn" if match[1] == "1" else "linear",
            "iterations": number,
            "metric": float(match[3]),
            # Infinite, or the largest number, until the window is full.
            "convergence": convergence if abs(convergence) < 1e300 else None,
        }
    return levels


def _transforms(prefix: Path, settings: Settings) -> tuple[list[str], list[str]]:
    """The forward and the inverse chain as ``-t`` arguments, in the order antsApplyTransforms wants them.

    The first one of a chain is applied to a point first.
    """
    folder, stem = prefix.parent, prefix.name
    warps = sorted(folder.glob(f"{stem}[0-9]Warp.nii.gz"))
    inverses = sorted(folder.glob(f"{stem}[0-9]InverseWarp.nii.gz"))
    matrices = sorted(folder.glob(f"{stem}[0-9]GenericAffine.mat"))
    linear = settings.linear.initialization != "none" or settings.linear.stage != "none"
    if len(warps) != 1 or len(inverses) != 1 or len(matrices) != int(linear):
        found = ", ".join(sorted(path.name for path in folder.glob(f"{stem}*"))) or "nothing"
        raise EngineError(
            f"antsRegistration ended without error, but did not write its transforms; it wrote {found}"
        )
    if settings.discard_initial_translation:
        matrices = []
    forward = [str(warps[0]), *(str(path) for path in matrices)]
    backward = [*(f"[{path},1]" for path in matrices), str(inverses[0])]
    return forward, backward


def _composed(chain: Sequence[str], start: Grid, end: Grid, path: Path) -> NDArray[np.float32]:
    """A chain of transforms as displacements in voxels of `end`, sampled on the whole grid of `start`.

    A warp lies on the cropped grid, and on a coarser one when the last level was coarse: it is interpolated
    linearly, and is zero beyond its grid.

    Returns
    -------
    vectors
        (X, Y, Z, 3) float32, iterreg's convention.
    """
    import nibabel as nib
    from ants.internal import get_pointer_string

    # In double precision: rounded sampling points would add noise to a warp that lies on the very same grid.
    reference = _ants_image(np.zeros(start.shape, np.float32), start, _whole(start), "double")
    pointer = get_pointer_string(reference)
    arguments = ["-d", "3", "-i", pointer, "-r", pointer, "-o", f"[{path},1]", "-n", "Linear"]
    for transform in chain:
        arguments += ["-t", transform]
    arguments += ["--float", "0", "-v", "0", "-e", "0", "-f", "0"]
    _run("antsApplyTransforms", arguments, path.parent)
    if not path.is_file():
        raise EngineError("antsApplyTransforms ended without error, but did not write the composed field")
    stored = np.asarray(cast(Any, nib.nifti1.load)(path).dataobj, dtype=np.float32)
    path.unlink()
    if stored.shape != (*start.shape, 1, 3) or not np.isfinite(stored).all():
        raise EngineError(
            f"antsApplyTransforms wrote a field of shape {stored.shape}, not a finite one on {start.shape}"
        )
    return from_itk(stored, start, end).vectors
