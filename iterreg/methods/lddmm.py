"""iterreg's own LDDMM as a method; `iterreg.lddmm` does the work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from iterreg.dataset.suitability import BRAIN_MM, apart, of_a_brain
from iterreg.errors import InputError
from iterreg.methods import presets
from iterreg.methods.base import Cost, Parameters, Registration, Task
from iterreg.methods.code import code_digest
from iterreg.methods.usable import named, refuse_unusable
from iterreg.toml_parameters import from_mapping, plain, read_toml
from iterreg.volume import Grid

if TYPE_CHECKING:
    from iterreg.lddmm import Iteration, Result, Settings, TissueReport

__all__ = ["LDDMM"]

DEFAULT_PRESET = "lumir"

_PRINT_EVERY = 5
_LONGEST_HISTORY = 2000
"""Evaluations that the sidecar tells of; of more, every second, third … is kept."""

# Measured on pairs of OASIS (160x224x192, 1 mm): seconds of one core for a voxel of the images compared, and
# for a point of the velocity lattice and a time step.
_IMAGE_SECONDS = 1e-7
_FLOW_SECONDS = 1.8e-7
_LOOK_SECONDS = 7e-8  # for a voxel of the fixed image, to look for folds and mend them
_SECONDS_TO_START = 2.0
_SECONDS_A_VOXEL = 6e-7  # to prepare both images, to integrate, write and verify
_TISSUE_IMAGE_SECONDS = 1.6e-8  # more for each tissue map that is compared too …
_TISSUE_SECONDS_A_VOXEL = 1.3e-7  # … and to make both
# Peak bytes: of the engine with its kernels, for a voxel of both whole images, for a voxel of the images
# compared, and for a point of the velocity lattice and a time step.
_ENGINE_BYTES = 260 * 2**20
_PREPARED_BYTES = 24
_IMAGE_BYTES = 26
_FLOW_BYTES = 66
_TISSUE_PREPARED_BYTES = 10
_TISSUE_IMAGE_BYTES = 10
_MEMORY_MARGIN = 1.08
_BOX_OF_A_BRAIN = 0.8  # the share of an MNI-sized grid that the box of a skull-stripped brain takes
_BRAIN_SHARE = 0.28  # and the brain itself
_HUMAN_BRAIN_MM = 118.0
_NEVER = str(2**40)
"""Bytes that no array has."""


class LDDMM:
    """Geodesic shooting with a half-way momentum, coarse to fine."""

    name = "lddmm"
    distributions: tuple[str, ...] = ("numba", "numpy", "scipy")
    saves_momentum = True

    def parameters(self, source: str | None) -> Parameters:
        """Resolve None (the preset ``lumir``), a preset's name or the path of a TOML file; see `Settings`.

        Raises
        ------
        InputError
            If there is no such preset or file, or a setting is unknown or out of range.
        """
        from iterreg.lddmm import Settings

        path = presets.find(self.name, DEFAULT_PRESET if source is None else source)
        settings = read_toml(path, Settings)
        return Parameters(preset=path.stem, values=plain(settings), files=(path,))

    def identity(self, parameters: Parameters) -> Mapping[str, str]:
        """See `iterreg.methods.base.identity`."""
        return {"code of lddmm": code_digest("iterreg.methods.lddmm", "iterreg.lddmm")}

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        """A rough figure: all iterations are used, and the foreground fills the share that a brain does."""
        return _cost(_settings(parameters), fixed, moving)

    def refusal(self, parameters: Parameters, fixed: Grid, moving: Grid) -> str:
        """See `iterreg.methods.base.refusal`: one slice, no common place, far from a brain's size."""
        return _refusal(_settings(parameters), fixed, moving)

    def environment(self, threads: int) -> Mapping[str, str]:
        return {
            "NUMBA_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # A child runs one registration and forks no more, so that OpenMP is safe in it. It starts a loop
            # in microseconds, numba's own pool in 0.2 ms; threads without work are awake for as long.
            "NUMBA_THREADING_LAYER_PRIORITY": "omp tbb workqueue",
            "GOMP_SPINCOUNT": "10000",
            # A cluster's setting for one program a node would bind every child to the same cores.
            "OMP_PROC_BIND": "false",
            # glibc would give every large array's memory back and fetch it again, zeroed page by page.
            "MALLOC_MMAP_THRESHOLD_": _NEVER,
            "MALLOC_TRIM_THRESHOLD_": _NEVER,
        }

    def warm(self) -> None:
        # Kernels are compiled, or loaded from the cache, in the children: for that their arguments must be
        # known, and to run one here would start threads.
        import iterreg.lddmm.registration  # noqa: F401

    def register(self, task: Task, parameters: Parameters) -> Registration:
        """Register one pair.

        Raises
        ------
        InputError
            If an image or a mask says nothing, the images do not meet in the world, or their foreground has
            not the size of a brain.
        """
        from iterreg.kernels.first_use import announced
        from iterreg.lddmm import register

        settings = _settings(parameters)
        if sentence := _refusal(settings, task.fixed.grid, task.moving.grid):
            raise InputError(f"{named(task)}: {sentence}")
        refuse_unusable(task)
        with announced(_say):
            result = register(
                task.fixed,
                task.moving,
                settings,
                fixed_mask=task.fixed_mask,
                moving_mask=task.moving_mask,
                threads=task.threads,
                callback=_print_now_and_then,
            )
            _print_ending(result)
            inverse = result.inverse() if task.inverse else None
        return Registration(result.field, inverse, _details(result), momentum=result.transform)


def _settings(parameters: Parameters) -> Settings:
    from iterreg.lddmm import Settings

    return from_mapping(parameters.values, Settings, source=parameters.preset)


def _refusal(settings: Settings, fixed: Grid, moving: Grid) -> str:
    """What the grids alone tell; the size of the foreground is looked at when its voxels are read."""
    for side, grid in (("fixed", fixed), ("moving", moving)):
        if min(grid.shape) < 2:
            shape = " x ".join(map(str, grid.shape))
            return (
                f"the {side} image has {shape} voxels, and LDDMM needs several along each axis; give a volume"
            )
        # A brain in its grid: no larger than that, and hardly smaller than a hundredth of it.
        if settings.scale_to_brain and all(of_a_brain(grid, n) for n in (grid.size, grid.size // 100)):
            return f"the {side} image {of_a_brain(grid, grid.size)}"
    if apart(fixed, moving):
        return (
            "the moving image does not meet the fixed image anywhere in the world; correct the affine in "
            "a header, or align them first"
        )
    return ""


# -- what the log and the sidecar tell ----------------------------------------------------------------


def _say(text: str) -> None:
    print(text, flush=True)


def _print_now_and_then(now: Iteration) -> None:
    if now.iteration % _PRINT_EVERY == 0:
        _say(
            f"level {now.level} iteration {now.iteration:3d}: energy {now.energy:.6g} = "
            f"dissimilarity {now.dissimilarity:.6g} + regularity {now.regularity:.6g} "
            f"(step {now.step_mm:.3g} mm)"
        )


def _print_ending(result: Result) -> None:
    for number, level in enumerate(result.levels):
        first, last = level["energy"]
        spacing = " x ".join(f"{step:.3g}" for step in level["image_spacing_mm"])
        _say(
            f"level {number} ({spacing} mm): energy {first:.6g} -> {last:.6g} in {level['iterations']} "
            f"iterations, stopped by: {level['stopped']}"
        )
    for tissues in result.tissues:
        _say(_tissue_sentence(tissues))
    if not result.converged:
        _say("the last level used up its iterations before its energy had settled")
    calmed = result.unfolding
    _say(
        f"geodesic distance {result.distance:.6g}; smallest determinant {calmed['smallest_determinant']:.3g} "
        f"after {calmed['rounds']} rounds against folding, which kept {calmed['norm_kept']:.2%} of its square"
    )


def _tissue_sentence(tissues: TissueReport) -> str:
    agreed = ", ".join(f"{name} {value:.2f}" for name, value in tissues.agreement.items())
    clear = " and ".join(f"{value:.2f}" for value in tissues.clarity)
    compared = ", ".join(tissues.compared) or "none; the similarity alone was used"
    return f"tissue maps compared: {compared} (correlation before: {agreed}; clarity of the tissues: {clear})"


def _details(result: Result) -> dict[str, Any]:
    """What the sidecar keeps of a registration."""
    return {
        "levels": [dict(level) for level in result.levels],
        "distance": result.distance,
        "converged": result.converged,
        "unfolding": dict(result.unfolding),
        "tissues": [
            {
                "clarity": list(one.clarity),
                "apart": list(one.apart),
                "own_widths": list(one.own_widths),
                "agreement": dict(one.agreement),
                "compared": list(one.compared),
            }
            for one in result.tissues
        ],
        "history": _history(result.history),
    }


def _history(entries: Sequence[Iteration]) -> dict[str, list[float]]:
    """Columns, to six digits, with a row for each evaluation of the energy or for every n-th."""
    kept = entries[:: max(1, math.ceil(len(entries) / _LONGEST_HISTORY))]
    columns = [field.name for field in dataclasses.fields(kept[0])] if kept else []
    return {name: [_rounded(getattr(entry, name)) for entry in kept] for name in columns}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


# -- cost ---------------------------------------------------------------------------------------------


def _cost(settings: Settings, fixed: Grid, moving: Grid) -> Cost:
    extent = np.asarray(fixed.shape) * fixed.spacing
    scale = 1.0
    if settings.scale_to_brain:
        scale = float(
            np.clip(
                (_BRAIN_SHARE * extent.prod()) ** (1 / 3) / _HUMAN_BRAIN_MM,
                BRAIN_MM[0] / _HUMAN_BRAIN_MM,
                1.2,
            )
        )
    # The box of a brain is smaller than the grid, but nothing promises that.
    size = max(fixed.size, moving.size)
    pyramid = settings.pyramid
    looks = settings.optimizer.looks(pyramid.iterations[-1])
    measure = settings.similarity
    tissue = float(measure.uses_tissues)
    once = _SECONDS_A_VOXEL + tissue * _TISSUE_SECONDS_A_VOXEL
    prepared_bytes = _PREPARED_BYTES + tissue * _TISSUE_PREPARED_BYTES
    seconds = _SECONDS_TO_START + (once + looks * _LOOK_SECONDS) * size
    largest = 0.0
    for step, lattice, count, *weights in zip(
        pyramid.image_spacing_mm,
        pyramid.velocity_spacing_mm,
        pyramid.iterations,
        settings.each_level(measure.middle_weight),
        settings.each_level(measure.bright_weight),
        strict=True,
    ):
        maps = sum(weight > 0 for weight in weights)
        image_seconds = _BOX_OF_A_BRAIN * (_IMAGE_SECONDS + maps * _TISSUE_IMAGE_SECONDS)
        image_bytes = _IMAGE_BYTES + maps * _TISSUE_IMAGE_BYTES
        voxels = float(np.prod(extent / np.maximum(step * scale, fixed.spacing)))
        points = float(np.prod((extent + 2 * settings.padding_mm * scale) / (lattice * scale)))
        flow = _FLOW_SECONDS * (1 + settings.time_steps) * points
        seconds += count * (image_seconds * voxels + flow)
        largest = max(largest, image_bytes * voxels + _FLOW_BYTES * (1 + settings.time_steps) * points)
    memory = _ENGINE_BYTES + prepared_bytes * (fixed.size + moving.size) + largest
    return Cost(memory=int(_MEMORY_MARGIN * memory), cpu_seconds=seconds)
