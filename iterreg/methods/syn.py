"""SyN of ANTs (Avants et al., Medical Image Analysis 2008), run through antspyx.

antsRegistration's own argument list is built here instead of calling ``ants.registration``: that function
replaces several of its arguments by fixed values, depending on the type of transform it is given. Every
forward transform is composed into one field on the fixed grid; nothing is dropped unless
`discard_initial_translation` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iterreg.dataset.suitability import apart
from iterreg.errors import EngineError, InputError
from iterreg.field import DisplacementField
from iterreg.methods import presets
from iterreg.methods.ants_engine import Box, ants_image, compose_transforms, run_program, whole_box
from iterreg.methods.base import Cost, Parameters, Registration, Task
from iterreg.methods.code import code_digest
from iterreg.methods.cropping import registered_boxes
from iterreg.methods.itk_grid import perpendicular, shear
from iterreg.methods.syn_settings import Metric, Settings, antsregistration_arguments
from iterreg.methods.usable import named, refuse_unusable
from iterreg.toml_parameters import from_mapping, plain, read_toml
from iterreg.volume import Grid

__all__ = ["SyN"]

DEFAULT_PRESET = "cheap"


# Measured with antspyx 0.6.3, float: peak bytes for a voxel of a registration at full resolution, for a voxel
# of the composition onto the full grid, and of the engine alone.
_REGISTRATION_BYTES = 300
_COMPOSITION_BYTES = 100
_ENGINE_BYTES = 280 * 2**20
_MEMORY_MARGIN = 1.08
_LEAST_VOXELS = 4
"""Along each axis of a level: ITK's Gaussians fail with fewer, and the border voxels do not move."""
_BOX_OF_A_BRAIN = 0.8  # the share of the grid that is left by cropping, on skull-stripped MNI-sized volumes


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

    def identity(self, parameters: Parameters) -> Mapping[str, str]:
        """See `iterreg.methods.base.identity`."""
        return {"code of syn": code_digest("iterreg.methods.syn")}

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

    def refusal(self, parameters: Parameters, fixed: Grid, moving: Grid) -> str:
        """See `iterreg.methods.base.refusal`: sheared grids, too few voxels, no common place."""
        return _refusal(_settings(parameters), (fixed, moving), (whole_box(fixed), whole_box(moving)))

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
            If an image's affine shears or it has too few voxels, an image or a mask says nothing, or the
            images do not meet in the world.
        EngineError
            If antsRegistration fails or does not write what it should.
        """
        from ants.internal import get_pointer_string

        settings = _settings(parameters)
        if sentence := self.refusal(parameters, task.fixed.grid, task.moving.grid):
            raise InputError(f"{named(task)}: {sentence}")
        in_place = settings.linear.initialization == "none"
        refuse_unusable(task, masks=settings.use_masks, in_place=in_place)
        asked, task = task, perpendicular(task)
        fixed, moving = task.fixed.grid, task.moving.grid
        boxes = registered_boxes(task, settings)
        if sentence := _refusal(settings, (fixed, moving), boxes):
            raise InputError(f"{named(task)}: {sentence}")
        images = _ants_images(task, settings, boxes)
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
        log = run_program("antsRegistration", arguments, task.scratch)
        forward, backward = _transforms(prefix, settings)
        del images
        vectors = compose_transforms(forward, fixed, moving, task.scratch / "forward.nii")
        inverse = None
        if task.inverse:
            there = compose_transforms(backward, moving, fixed, task.scratch / "inverse.nii")
            inverse = DisplacementField(there, asked.moving.grid, asked.fixed.grid)
        details = {
            "transforms": [Path(name.strip("[],1")).name for name in forward],
            "box": [list(bounds) for bounds in boxes[0]],
            "levels": _levels(log),
        }
        return Registration(DisplacementField(vectors, asked.fixed.grid, asked.moving.grid), inverse, details)


def _settings(parameters: Parameters) -> Settings:
    return from_mapping(parameters.values, Settings, source=parameters.preset)


def _seconds_per_voxel(metric: Metric, voxels: float) -> float:
    """CPU seconds of an iteration for each of a level's voxels; more where the images outgrow the caches."""
    microseconds = 3.5
    if metric.name == "CC":
        microseconds = 3.0 + 0.37 * (2 * metric.radius + 1) ** 2
    return 1e-6 * microseconds * (1 + 0.6 * min(1.0, voxels / 4e6))


def _refusal(settings: Settings, grids: tuple[Grid, Grid], boxes: tuple[Box, Box]) -> str:
    """Why antsRegistration would fail, or answer with an undeformed field; empty where it would not."""
    # Levels are shrunk from the fixed image; the moving one is only smoothed.
    shrink = _finest_shrink_factor(settings)
    for side, grid, box, factor in zip(("fixed", "moving"), grids, boxes, (shrink, 1), strict=True):
        if sentence := shear(grid):
            return f"the {side} image cannot be registered: {sentence}"
        lengths = [high - low for low, high in box]
        if min(lengths) < _LEAST_VOXELS * factor:
            shrunk = f" after shrinking by {factor}" if factor > 1 else ""
            return (
                f"the {side} image has {' x '.join(map(str, lengths))} voxels to register, and SyN needs "
                f"{_LEAST_VOXELS} along each axis{shrunk}; "
                f"{'set a smaller last shrink factor, or ' if factor > 1 else ''}give a volume with more "
                "slices"
            )
    if settings.linear.initialization == "none" and apart(*grids):
        return (
            "the moving image does not meet the fixed image anywhere in the world; "
            'set linear.initialization = "center_of_mass", or correct the affine in a header'
        )
    return ""


def _finest_shrink_factor(settings: Settings) -> int:
    """Of the levels that are iterated; 1 where none is."""
    pyramid = settings.pyramid
    used = [f for n, f in zip(pyramid.iterations, pyramid.shrink_factors, strict=True) if n > 0]
    return min(used, default=1)


def _ants_images(task: Task, settings: Settings, boxes: tuple[Box, Box]) -> dict[str, Any]:
    """The task's images for antspyx, cropped; they must live as long as their pointers are in use."""
    pixel = settings.precision
    grids = (task.fixed.grid, task.moving.grid)
    images = {
        "fixed": ants_image(task.fixed.array, grids[0], boxes[0], pixel),
        "moving": ants_image(task.moving.array, grids[1], boxes[1], pixel),
    }
    masks = {"fixed_mask": task.fixed_mask, "moving_mask": task.moving_mask}
    for (name, mask), grid, box in zip(masks.items(), grids, boxes, strict=True):
        if mask is None or not settings.use_masks:
            continue
        images[name] = ants_image(mask.array > 0, grid, box, "unsigned char")
    return images


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
