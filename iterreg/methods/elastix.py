"""elastix: B-spline and affine registration by stochastic gradient descent, through itk-elastix.

Klein, Staring, Murphy, Viergever, Pluim: elastix, a toolbox for intensity-based medical image
registration, IEEE TMI 29 (2010). Its classic ``.txt`` parameter files are handed over as they are;
the few settings iterreg must hold are in `OVERRIDES` and reported in the run's details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.suitability import apart
from iterreg.errors import EngineError, InputError
from iterreg.field import DisplacementField
from iterreg.io.lps import RAS_TO_LPS, geometry_of
from iterreg.methods import presets
from iterreg.methods.base import Cost, Parameters, Registration, Task
from iterreg.methods.code import code_digest
from iterreg.methods.elastix_keys import effective_count, idle, notes
from iterreg.methods.elastix_log import LogSummary, read_log
from iterreg.methods.elastix_parameters import ParameterMap, first_value, per_resolution, read_parameter_map
from iterreg.methods.itk_grid import perpendicular, shear, upright
from iterreg.methods.usable import named, refuse_unusable
from iterreg.volume import Grid, Volume

__all__ = ["FOREGROUND_MASK", "OVERRIDES", "Elastix"]

DEFAULT_PRESET = "bspline-lumir"

OVERRIDES: Mapping[str, tuple[str, str, str]] = {
    "WriteResultImage": ("false", "true", "the moved image is resampled with the written field instead"),
    "UseDirectionCosines": ("true", "true", "without it elastix aligns arrays, not places in the world"),
}
"""Settings held for every stage whatever its file says: the value, elastix's own default, the reason.

Besides these, a stage without a ``RandomSeed`` is given the task's seed; a seed in the file wins.
"""

FOREGROUND_MASK = "IterregForegroundMask"
"""A key elastix does not know and iterreg reads: ``(IterregForegroundMask 3)`` restricts the samples to the
fixed image's voxels above zero and 3 mm around them (a box, along the array axes). Without a mask three of
four samples of a skull-stripped brain fall on nothing. A mask given with the pair takes its place."""

# Measured with itk-elastix 0.25.4, one thread, on two-core Linux: CPU seconds for one sample of a metric
# (by a part of its name; control grids of a recursive B-spline are cheaper by a third), for one iteration
# besides, for a voxel of a pyramid level, and for a voxel of the sampled field; peak memory of the warmed
# engine and for a voxel of the two images.
_SAMPLE_SECONDS = {"Penalty": 6e-6, "": 3.1e-6}
_RECURSIVE = 0.7
_ITERATION_SECONDS = 3e-3
_PYRAMID_SECONDS = 1e-7
_FIELD_SECONDS = 5e-7
_IMPORT_BYTES = 860 * 2**20
_BYTES_PER_VOXEL = 36

_FEWEST_SLICES = 4
"""Along each axis: ITK's Gaussians fail with fewer."""
_FEWEST_CELLS = 1
_MOST_CONTROL_POINTS = 2**27

_NO_SAMPLES = ("No valid voxels", "samples map outside", "enough image samples", "mask is too small")
"""elastix's words where a mask, or the moving image, left it no sample."""

_LOG = "elastix.log"


class Elastix:
    """The adapter; see `iterreg.methods.base.Method`.

    Parameter sources: a preset, the path of a ``.txt`` file, or several of both joined by ``+``, each
    stage starting where the one before ended.
    """

    name = "elastix"
    distributions: tuple[str, ...] = ("itk-elastix", "itk-core", "itk-filtering", "itk-registration")

    def parameters(self, source: str | None) -> Parameters:
        """Resolve presets and files.

        Returns
        -------
        Parameters
            ``values["stages"]`` is one key -> list of values mapping per stage, as the file has it.

        Raises
        ------
        InputError
            If there is no such preset or file, or elastix could not read it or would not follow it.
        """
        paths = tuple(_resolve(part) for part in _parts(source or DEFAULT_PRESET))
        stages = [read_parameter_map(path) for path in paths]
        for path, stage in zip(paths, stages, strict=True):
            _foreground_margin([stage], str(path))
        return Parameters(
            "+".join(path.stem for path in paths),
            {"stages": stages},
            paths,
            tuple(
                note
                for path, stage in zip(paths, stages, strict=True)
                for note in notes(stage, str(path), besides=(FOREGROUND_MASK,))
            ),
        )

    def identity(self, parameters: Parameters) -> Mapping[str, str]:
        """See `iterreg.methods.base.identity`."""
        return {"code of elastix": code_digest("iterreg.methods.elastix")}

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        """Estimate from the grids, the resolutions, their iterations and samples.

        Measured with itk-elastix 0.25.4 on one thread, LUMIR-sized volumes; a sample costs more in fine
        control grids, which no longer fit a cache, so a pair may take half or twice this.
        """
        stages: Sequence[ParameterMap] = parameters.values["stages"]
        seconds = _FIELD_SECONDS * fixed.size + sum(_stage_seconds(stage, fixed, moving) for stage in stages)
        return Cost(
            memory=_IMPORT_BYTES + _BYTES_PER_VOXEL * (fixed.size + moving.size),
            cpu_seconds=round(seconds, 1),
        )

    def refusal(self, parameters: Parameters, fixed: Grid, moving: Grid) -> str:
        """See `iterreg.methods.base.refusal`: shear, too few slices, no common place, the control grid."""
        for side, grid in (("fixed", fixed), ("moving", moving)):
            if sentence := shear(grid):
                return f"the {side} image cannot be registered: {sentence}"
            if min(grid.shape) < _FEWEST_SLICES:
                shape = " x ".join(map(str, grid.shape))
                return (
                    f"the {side} image has {shape} voxels, and elastix's pyramids need {_FEWEST_SLICES} "
                    "along each axis; give a volume with more slices"
                )
        stages: Sequence[ParameterMap] = parameters.values["stages"]
        if apart(fixed, moving) and not _brings_together(stages):
            return (
                "the moving image does not meet the fixed image anywhere in the world; put a stage before "
                "that brings their centres together (affine+…), or correct the affine in a header"
            )
        return next(filter(None, (_control_points(stage, fixed) for stage in stages)), "")

    def environment(self, threads: int) -> Mapping[str, str]:
        """ITK's thread pool is sized by its variable alone: asking the filter for threads crashes it.

        OpenBLAS is held to one because it would start its threads at import, before a fork.
        """
        return {
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": "1",
        }

    def warm(self) -> None:
        """Import itk and resolve the wrapped classes used here (12 CPU seconds, 0.8 GB, no threads)."""
        import itk

        image_type, _, _ = _classes(itk)
        image_type.New()
        cube = np.zeros((2, 2, 2), np.float32)
        grid = Grid((2, 2, 2))
        itk.GetArrayFromImage(_image(itk, cube, grid))
        _image(itk, cube.astype(np.uint8), grid)
        itk.ParameterObject.New().AddParameterMap({"Transform": ["BSplineTransform"]})

    def register(self, task: Task, parameters: Parameters) -> Registration:
        """Run every stage and sample the whole chain on the fixed grid.

        A pair whose fixed grid is oblique is registered in a world turned until that grid is upright
        (`iterreg.methods.itk_grid.upright`); coordinates in a parameter file, such as a
        CenterOfRotationPoint, are of that world.

        Raises
        ------
        InputError
            If an image or a mask says nothing, or the grids cannot be registered; see `refusal`.
        EngineError
            If elastix stops with an error or gives no usable field.
        """
        import itk

        _, elastix_type, _ = _classes(itk)
        if sentence := self.refusal(parameters, task.fixed.grid, task.moving.grid):
            raise InputError(f"{named(task)}: {sentence}")
        refuse_unusable(task, in_place=not _brings_together(parameters.values["stages"]))
        asked, task = task, upright(perpendicular(task))
        stages, overrides = _held(parameters.values["stages"], task.seed)
        method = elastix_type.New()
        method.SetFixedImage(_image(itk, task.fixed.array.astype(np.float32, copy=False), task.fixed.grid))
        method.SetMovingImage(_image(itk, task.moving.array.astype(np.float32, copy=False), task.moving.grid))
        fixed_mask, mask_source = _fixed_mask(task, _foreground_margin(stages, parameters.preset))
        if fixed_mask is not None:
            method.SetFixedMask(_mask_image(itk, fixed_mask))
        if task.moving_mask is not None:
            method.SetMovingMask(_mask_image(itk, task.moving_mask))
        settings = itk.ParameterObject.New()
        for stage in stages:
            settings.AddParameterMap(stage)
        method.SetParameterObject(settings)
        method.SetOutputDirectory(str(task.scratch))
        method.SetLogFileName(_LOG)
        method.LogToFileOn()
        method.LogToConsoleOn()
        try:
            method.Update()
        except RuntimeError as error:
            complaint = _complaint(_summary(task.scratch), str(error))
            raise EngineError(complaint + _erosion(task, stages, complaint)) from error
        summary = _summary(task.scratch)
        world = _world_displacements(itk, method, task)
        # Voxel displacements are the same in both worlds.
        vectors = DisplacementField.from_world(world, task.fixed.grid, task.moving.grid).vectors
        return Registration(
            field=DisplacementField(vectors, asked.fixed.grid, asked.moving.grid),
            details={
                "stages": _stage_details(stages, summary),
                "overrides": overrides,
                "unused": [key for key in summary.unused if key != FOREGROUND_MASK],
                "defaults": dict(summary.defaults),
                "warnings": _warnings(stages, summary),
                "fixed_mask": mask_source,
                "itk_threads": int(itk.MultiThreaderBase.GetGlobalDefaultNumberOfThreads()),
            },
        )


# -- parameters ---------------------------------------------------------------------------------


def _parts(source: str) -> list[str]:
    """The stages a source names; a ``+`` inside the path of an existing file is not a joint."""
    if presets.is_file(source):
        return [source]
    parts = source.split("+")
    if not all(parts):
        raise InputError(f"elastix: {source!r} names an empty stage; join presets or files by one +")
    return parts


def _resolve(part: str) -> Path:
    path = presets.find("elastix", part)
    if path.suffix.lower() != ".txt":
        raise InputError(f"{path}: elastix's parameter files end in .txt; rename it if it is one")
    return path


def _foreground_margin(stages: Sequence[ParameterMap], name: str) -> float | None:
    """The widest margin in millimetres any stage asks for (elastix has one mask for all stages)."""
    margins = []
    for stage in stages:
        if FOREGROUND_MASK in stage:
            value = first_value(stage, FOREGROUND_MASK, "")
            try:
                margins.append(float(value))
            except ValueError:
                margins.append(float("nan"))
            if not 0 <= margins[-1] <= 1000:
                raise InputError(
                    f"{name}: ({FOREGROUND_MASK} {value}) must be the mask's margin in millimetres, such as 3"
                )
    return max(margins, default=None)


def _held(
    stages: Sequence[ParameterMap], seed: int
) -> tuple[list[dict[str, list[str]]], list[dict[str, Any]]]:
    """The stages as elastix receives them, and what differs from the files."""
    held, changes = [], []
    for number, values in enumerate(stages):
        stage = {key: list(given) for key, given in values.items()}
        wanted = {
            key: (value, reason)
            for key, (value, default, reason) in OVERRIDES.items()
            if first_value(stage, key, default) != value
        }
        if "RandomSeed" not in stage:
            wanted["RandomSeed"] = (str(seed), "the file has no seed")
        for key, (value, reason) in wanted.items():
            changes.append(
                {"stage": number, "key": key, "file": stage.get(key), "used": value, "why": reason}
            )
            stage[key] = [value]
        for key, (_, default, _) in OVERRIDES.items():
            stage.setdefault(key, [default])  # or elastix warns that it takes its default
        held.append(stage)
    return held, changes


def _stage_seconds(stage: ParameterMap, fixed: Grid, moving: Grid) -> float:
    """CPU seconds of one stage: image pyramids, then the samples of every metric in every iteration."""
    levels = effective_count(first_value(stage, "NumberOfResolutions", "3"), 3)
    iterations = _counts(stage, "MaximumNumberOfIterations", 500, levels)
    drawn = "Random" in first_value(stage, "ImageSampler", "Random")
    common = _counts(stage, "NumberOfSpatialSamples", 5000, levels) if drawn else [fixed.size] * levels
    seconds = _PYRAMID_SECONDS * levels * (fixed.size + moving.size) + _ITERATION_SECONDS * sum(iterations)
    speed = _RECURSIVE if "Recursive" in first_value(stage, "Transform", "") else 1.0
    for index, metric in enumerate(stage.get("Metric", [""])):
        own = f"ImageSampler{index}NumberOfSpatialSamples"
        samples = _counts(stage, own, 0, levels) if own in stage else common
        each = next(cost for part, cost in _SAMPLE_SECONDS.items() if part in metric)
        seconds += speed * each * sum(n * rounds for n, rounds in zip(samples, iterations, strict=True))
    return seconds


def _counts(stage: ParameterMap, key: str, default: int, levels: int) -> list[int]:
    values = per_resolution(stage, key, str(default), levels)
    return [effective_count(value, default) for value in values]


def _brings_together(stages: Sequence[ParameterMap]) -> bool:
    """Whether the first stage begins with the translation between the images' centres."""
    return first_value(stages[0], "AutomaticTransformInitialization", "false") == "true"


def _control_points(stage: ParameterMap, fixed: Grid) -> str:
    """Why the control grid that a stage asks for cannot be meant for a fixed image; empty where it can."""
    key = "FinalGridSpacingInPhysicalUnits"
    if "BSpline" not in first_value(stage, "Transform", "") or key not in stage:
        return ""
    try:
        spacing = np.array([float(value) for value in per_resolution(stage, key, "8", 3)])
    except ValueError:
        return ""  # elastix says what is wrong with it
    extent = np.asarray(fixed.shape) * fixed.spacing
    cells = extent / spacing
    few = cells.max() < _FEWEST_CELLS
    if not few and np.ceil(cells + 3).prod() <= _MOST_CONTROL_POINTS:
        return ""
    size = " x ".join(f"{length:.3g}" for length in extent)
    return (
        f"the fixed image measures {size} mm, for which control points {min(spacing):g} mm apart ({key}) are "
        f"{'too far from each other to move anything' if few else 'more than memory can hold'}; the "
        f"spacing in its header is probably wrong or in another unit: correct it, or set {key}"
    )


# -- masks ----------------------------------------------------------------------------------------


def _fixed_mask(task: Task, margin: float | None) -> tuple[Volume | None, str]:
    """The mask samples are drawn from, and where it comes from."""
    if task.fixed_mask is not None:
        return task.fixed_mask, "given"
    if margin is None:
        return None, "none"
    mask = _foreground(task.fixed, margin)
    if mask is None:
        return None, "none: the fixed image has no empty background"
    return mask, f"the fixed image's voxels above 0 and {margin:g} mm around them"


def _erosion(task: Task, stages: Sequence[ParameterMap], complaint: str) -> str:
    """More about samples that elastix could not find, where it had shrunk a given mask itself."""
    given = [
        (side, mask)
        for side, mask in (("Fixed", task.fixed_mask), ("Moving", task.moving_mask))
        if mask is not None
    ]
    eroded = [
        str(mask.path or f"the {side.lower()} mask")
        for side, mask in given
        if any(
            first_value(stage, f"Erode{side}Mask", first_value(stage, "ErodeMask", "true")) != "false"
            for stage in stages
        )
    ]
    if not eroded or not any(words in complaint for words in _NO_SAMPLES):
        return ""
    return (
        "; at each resolution elastix first takes from a mask's border, and from around every hole in it, "
        f"about as many voxels as that resolution smooths: of {' and '.join(eroded)} too little may "
        'be left. Add (ErodeMask "false") to the parameter file to use masks as they are'
    )


def _foreground(image: Volume, margin: float) -> Volume | None:
    """Voxels above zero dilated by a box, or None when this would leave almost nothing out."""
    from scipy.ndimage import maximum_filter

    size = [2 * round(margin / spacing) + 1 for spacing in image.grid.spacing]
    mask = maximum_filter((image.array > 0).astype(np.uint8), size=size, mode="constant")
    if not 0 < mask.mean() < 0.95:
        return None
    return Volume(mask, image.grid)


# -- images -------------------------------------------------------------------------------------


def _classes(itk: Any) -> tuple[Any, Any, Any]:
    """The wrapped image, registration and field classes (itk imports them at first touch)."""
    image = itk.Image[itk.F, 3]
    return image, itk.ElastixRegistrationMethod[image, image], itk.TransformixFilter[image]


def _mask_image(itk: Any, mask: Volume) -> Any:
    return _image(itk, (mask.array > 0).astype(np.uint8), mask.grid)


def _image(itk: Any, array: NDArray[Any], grid: Grid) -> Any:
    """An ITK image of an (X, Y, Z) array: LPS world, numpy axes reversed."""
    geometry = geometry_of(grid)
    image = itk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(geometry.spacing.tolist())
    image.SetOrigin(geometry.origin.tolist())
    image.SetDirection(itk.GetMatrixFromArray(np.ascontiguousarray(geometry.direction)))
    return image


def _world_displacements(itk: Any, method: Any, task: Task) -> NDArray[np.float64]:
    """The chain of all stages as (X, Y, Z, 3) RAS+ millimetres on the fixed grid."""
    image_type, _, transformix_type = _classes(itk)
    sampler = transformix_type.New()
    sampler.SetMovingImage(image_type.New())  # asked for, but an empty one is not resampled
    sampler.SetTransformParameterObject(method.GetTransformParameterObject())
    # The transform itself, not its parameters as decimal text.
    sampler.SetCombinationTransform(method.GetCombinationTransform())
    sampler.ComputeDeformationFieldOn()
    sampler.SetOutputDirectory(str(task.scratch))
    sampler.LogToConsoleOn()
    try:
        sampler.Update()
    except RuntimeError as error:
        raise EngineError(f"elastix registered, but its field could not be sampled: {error}") from error
    lps = itk.GetArrayFromImage(sampler.GetOutputDeformationField()).transpose(2, 1, 0, 3)
    if lps.shape != (*task.fixed.grid.shape, 3):
        raise EngineError(
            f"elastix gave a field of shape {lps.shape} for a fixed grid of {task.fixed.grid.shape}"
        )
    world = np.asarray(lps * RAS_TO_LPS, dtype=np.float64)
    if not np.isfinite(world).all():
        raise EngineError("elastix gave a field with NaN or infinite displacements")
    return world


# -- the run's log ------------------------------------------------------------------------------


def _summary(folder: Path) -> LogSummary:
    path = folder / _LOG
    return read_log(path.read_text(errors="replace") if path.is_file() else "")


def _complaint(summary: LogSummary, raised: str) -> str:
    """elastix's last words as one sentence."""
    where = ""
    if summary.resolutions:
        last = summary.resolutions[-1]
        where = f" in stage {last['stage']}, resolution {last['resolution']}, iteration {last['iterations']}"
    said = "; ".join(summary.errors[-3:]) or raised.strip().splitlines()[-1]
    return f"elastix stopped{where}: {said}"


def _warnings(stages: Sequence[ParameterMap], summary: LogSummary) -> list[str]:
    """What elastix complained of, and the keys it passed over though its components know them.

    That depends on other settings: with an AutomaticParameterEstimation it does not look at SP_a.
    """
    told = {FOREGROUND_MASK}.union(*(idle(stage) for stage in stages))
    passed = [key for key in summary.unused if key not in told]
    extra = [f"elastix made no use of {', '.join(passed)}"] if passed else []
    return [*summary.warnings, *extra]


def _stage_details(stages: Sequence[ParameterMap], summary: LogSummary) -> list[dict[str, Any]]:
    return [
        {
            "transform": first_value(stage, "Transform", ""),
            "metric": stage.get("Metric", []),
            "seed": first_value(stage, "RandomSeed", ""),
            "resolutions": [
                {key: value for key, value in row.items() if key != "stage"}
                for row in summary.resolutions
                if row["stage"] == number
            ],
        }
        for number, stage in enumerate(stages)
    ]
