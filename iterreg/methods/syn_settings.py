"""What a SyN parameter file may say, and the antsRegistration arguments it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from iterreg.errors import InputError
from iterreg.toml_parameters import setting

__all__ = ["Convergence", "Linear", "Metric", "Pyramid", "Settings", "antsregistration_arguments"]


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
