"""Registration of two images from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.dataset.suitability import BRAIN_MM, of_a_brain, size_mm
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.jobs.threads import in_threads
from iterreg.lddmm.channels import Compared, TissueReport, compared_channels
from iterreg.lddmm.lattice import Interpolation, Lattice
from iterreg.lddmm.objective import Channel, Objective
from iterreg.lddmm.optimizer import Descent, Iteration, descend
from iterreg.lddmm.pyramid import LevelImage, Region, image_levels
from iterreg.lddmm.reproducing_kernel import Smoother
from iterreg.lddmm.settings import Settings
from iterreg.lddmm.similarity import LNCC, SSD, Similarity
from iterreg.lddmm.transform import Transform
from iterreg.lddmm.unfolding import calmed, unfold
from iterreg.volume import FloatArray, Grid, Volume, foreground

__all__ = ["Result", "register"]

Array = NDArray[Any]

_HUMAN_BRAIN_MM = 118.0
"""Cube root of the volume of a skull-stripped adult brain (1.65 litres), which the presets are made for."""

_SCALES = (BRAIN_MM[0] / _HUMAN_BRAIN_MM, 1.2)
"""By how much lengths are scaled at least and at most. What is larger than a human brain is one with its
head, or with a background that counts, so that lengths stay a human brain's."""

_POINTS_ACROSS = (4, 600)
"""Points of the finest velocity lattice across the foreground: fewer cannot move it, more are of another
unit."""

_ALIKE = 5.0
"""Most by which one image's foreground may be larger than the other's."""

_MASK_REACH_MM = 3.0
"""How far beyond the foreground windows count: the brain's outline is an edge worth matching."""

_DRIFT_MM = 10.0
"""How far from where it is momentum is carried at most, on the way from the meeting point to either image."""


@dataclass(frozen=True)
class Result:
    """What a registration found.

    Attributes
    ----------
    field
        Fixed to moving.
    transform
        The geodesic itself: its momentum, from which `field` and the inverse are made.
    levels
        One entry per level: spacings, iterations, first and last energy, step and why it stopped.
    history
        Every evaluation of the energy.
    converged
        Whether the last level stopped because its energy no longer fell.
    unfolding
        What it took to be free of folding: rounds, and the share of the momentum taken away.
    tissues
        One entry for each channel; none where no tissue maps are asked for.
    """

    field: DisplacementField
    transform: Transform
    levels: tuple[Mapping[str, Any], ...]
    history: tuple[Iteration, ...]
    converged: bool
    unfolding: Mapping[str, Any]
    tissues: tuple[TissueReport, ...] = ()

    @property
    def distance(self) -> float:
        """Length of the geodesic in the velocity space's norm."""
        return self.transform.distance

    def inverse(self) -> DisplacementField:
        """Moving to fixed, integrated backwards along the same geodesic."""
        return self.transform.inverse()


def register(
    fixed: Volume | Sequence[Volume],
    moving: Volume | Sequence[Volume],
    settings: Settings | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    channel_weights: Sequence[float] | None = None,
    threads: int = 1,
    callback: Callable[[Iteration], None] | None = None,
) -> Result:
    """Find the geodesic that takes the moving image to the fixed one.

    Parameters
    ----------
    fixed, moving
        Images, or as many channels on either side, each side on one grid. The two grids may differ; what
        their affines say of the world is the starting point.
    settings
        See `Settings`.
    fixed_mask, moving_mask
        Voxels above zero take part in the similarity; on their image's grid.
    channel_weights
        Shares of the channels; equal by default.
    threads
        Of the preparation and the Fourier transforms. Kernels obey numba's own setting. None changes the
        result.
    callback
        Called after each evaluation of the energy.

    Raises
    ------
    InputError
        If channels or masks do not fit their grids, the images do not meet in the world, or the foreground
        spans no volume or has not the size that the settings' lengths are for.
    """
    settings = settings or Settings()
    fixed_images, moving_images = _channels(fixed), _channels(moving)
    if len(fixed_images) != len(moving_images):
        raise InputError(
            f"{len(fixed_images)} fixed and {len(moving_images)} moving channels: pair each with one"
        )
    shares = _shares(channel_weights, len(fixed_images))
    grids = (fixed_images[0].grid, moving_images[0].grid)
    for mask, grid, side in ((fixed_mask, grids[0], "fixed"), (moving_mask, grids[1], "moving")):
        if mask is not None and not mask.grid.matches(grid):
            raise InputError(
                f"the {side} mask lies on {mask.grid!r}, its image on {grid!r}; resample the mask"
            )
    inside = (foreground(fixed_images[0].array), foreground(moving_images[0].array))
    scale = _brain_scale(inside[0], grids[0]) if settings.scale_to_brain else 1.0
    _refuse_other_sizes((fixed_images[0], moving_images[0]), inside, settings, scale)
    region = Region.around(*grids, inside, settings.margin_mm * scale)
    if not (region.high > region.low).all():
        raise InputError(
            f"{fixed_images[0]!r}: the foreground spans no volume; LDDMM needs several voxels on each axis"
        )
    channels, tissues = compared_channels(
        (fixed_images, moving_images), shares, inside[0], settings, scale, threads
    )
    problem = _Problem(
        settings=settings,
        scale=scale,
        region=region,
        grids=grids,
        channels=channels,
        support=_support(inside, grids, _MASK_REACH_MM * scale),
        masks=tuple(
            None if m is None else (m.array > 0).astype(np.float32) for m in (fixed_mask, moving_mask)
        ),
        threads=threads,
    )
    return replace(problem.solve(callback), tissues=tissues)


@dataclass(frozen=True)
class _Problem:
    """A pair, prepared."""

    settings: Settings
    scale: float
    region: Region
    grids: tuple[Grid, Grid]
    channels: tuple[Compared, ...]
    support: Array
    masks: tuple[Array | None, ...]
    threads: int

    def solve(self, callback: Callable[[Iteration], None] | None) -> Result:
        # The search's images and maps are gone when the field is made: it is as large as many of them.
        found, reports, history, converged = self._search(callback)
        transform, field, unfolding = unfold(found)
        return Result(field, transform, reports, history, converged, unfolding)

    def _search(
        self, callback: Callable[[Iteration], None] | None
    ) -> tuple[Transform, tuple[Mapping[str, Any], ...], tuple[Iteration, ...], bool]:
        """Descend on every level; what `Result` keeps of it, the geodesic first."""
        settings, pyramid = self.settings, self.settings.pyramid
        spacings = [s * self.scale for s in pyramid.image_spacing_mm]
        sides = [
            side for one in self.channels for side in zip((one.fixed, one.moving), self.grids, strict=True)
        ]
        support, *made = in_threads(
            lambda one: image_levels(one[0], one[1].spacing, spacings),
            [(self.support, self.grids[0]), *sides],
            threads=self.threads,
        )
        images = list(zip(made[::2], made[1::2], strict=True))
        masks = [
            None if m is None else image_levels(m, grid.spacing, spacings)
            for m, grid in zip(self.masks, self.grids, strict=True)
        ]
        smoother: Smoother | None = None
        momentum: Array | None = None
        reports: list[Mapping[str, Any]] = []
        history: list[Iteration] = []
        stopped = "iterations"
        for number, limit in enumerate(pyramid.iterations):
            smoother, momentum = self._velocity_space(
                pyramid.velocity_spacing_mm[number] * self.scale, smoother, momentum
            )
            lattice = self.region.lattice(spacings[number], self.grids[0].spacing)
            objective = self._objective(
                lattice,
                smoother,
                self._channels_at(number, lattice, images),
                support[number],
                (
                    None if masks[0] is None else masks[0][number],
                    None if masks[1] is None else masks[1][number],
                ),
            )
            if limit == 0:
                continue
            last = number == len(pyramid.iterations) - 1
            descent = descend(
                objective,
                momentum,
                settings.optimizer,
                iterations=limit,
                step_mm=settings.optimizer.step_mm * self.scale,
                level=number,
                calm=partial(self._calmed, smoother) if last else None,
                callback=callback,
            )
            momentum, stopped = descent.momentum, descent.stopped
            history += descent.history
            reports.append(_report(lattice, smoother.lattice, descent))
        assert smoother is not None
        assert momentum is not None
        found = self._transform(momentum, smoother)
        return found, tuple(reports), tuple(history), stopped != "iterations"

    def _calmed(self, smoother: Smoother, momentum: Array, rounds: int) -> Array | None:
        found = calmed(self._transform(momentum, smoother), rounds)
        return None if found is None else found.momentum

    def _transform(self, momentum: Array, smoother: Smoother) -> Transform:
        settings = self.settings
        return Transform(
            momentum=momentum,
            lattice=smoother.lattice,
            kernel=settings.kernel.build().scaled(self.scale),
            symmetric=settings.symmetric,
            time_steps=settings.time_steps,
            fixed=self.grids[0],
            moving=self.grids[1],
            threads=self.threads,
        )

    def _velocity_space(
        self, spacing: float, smoother: Smoother | None, momentum: Array | None
    ) -> tuple[Smoother, Array]:
        """The kernel on a lattice of this spacing, and the momentum so far brought onto it."""
        if smoother is not None and momentum is not None and smoother.lattice.spacing[0] == spacing:
            return smoother, momentum
        lattice = Lattice.covering(
            self.region.low.tolist(),
            self.region.high.tolist(),
            spacing,
            self.settings.padding_mm * self.scale,
        )
        finer = Smoother(self.settings.kernel.build().scaled(self.scale), lattice, threads=self.threads)
        if smoother is None or momentum is None:
            return finer, np.zeros((3, *lattice.shape), np.float32)
        # A momentum is a density times a cell.
        density = Interpolation(smoother.lattice, lattice)(momentum)
        share = np.float32(lattice.cell / smoother.lattice.cell)
        return finer, np.ascontiguousarray(np.moveaxis(density, 3, 0)) * share

    def _channels_at(
        self, level: int, lattice: Lattice, images: Sequence[tuple[list[LevelImage], list[LevelImage]]]
    ) -> tuple[Channel, ...]:
        """The channels that count at this level."""
        return tuple(
            Channel(
                fixed[level],
                moving[level],
                SSD(lattice.shape) if one.tissue else self._similarity(level, lattice),
                one.weights[level],
            )
            for (fixed, moving), one in zip(images, self.channels, strict=True)
            if one.weights[level] > 0
        )

    def _objective(
        self,
        lattice: Lattice,
        smoother: Smoother,
        channels: tuple[Channel, ...],
        support: LevelImage,
        masks: tuple[LevelImage | None, LevelImage | None],
    ) -> Objective:
        matrices = tuple(_from_fixed_frame(self.grids[0], grid) for grid in self.grids)
        weight = np.empty(lattice.shape, np.float32)
        still = Interpolation(smoother.lattice, lattice)
        still.warp(
            [support.array],
            np.zeros((3, *smoother.lattice.shape), np.float32),
            support.from_full(matrices[0]),
            [weight],
        )
        weight *= np.float32(lattice.cell)
        return Objective(
            channels,
            lattice,
            smoother,
            weight=weight,
            masks=masks,
            matrices=(matrices[0], matrices[1]),
            energy_weight=self.settings.energy_weight,
            drift_mm=_DRIFT_MM * self.scale,
            symmetric=self.settings.symmetric,
            time_steps=self.settings.time_steps,
        )

    def _similarity(self, level: int, lattice: Lattice) -> Similarity:
        measure = self.settings.similarity
        if measure.name == "ssd":
            return SSD(lattice.shape)
        radius_mm = self.settings.each_level(measure.radius_mm)[level] * self.scale
        x, y, z = (max(1, round(radius_mm / s)) for s in lattice.spacing)
        return LNCC(lattice.shape, radius=(x, y, z), epsilon=measure.epsilon, power=measure.power)


def _report(images: Lattice, velocities: Lattice, descent: Descent) -> dict[str, Any]:
    first, last = descent.history[0], descent.kept
    return {
        "image_spacing_mm": list(images.spacing),
        "velocity_spacing_mm": velocities.spacing[0],
        "iterations": len(descent.history),
        "energy": [first.energy, last.energy],
        "dissimilarity": [first.dissimilarity, last.dissimilarity],
        "regularity": [first.regularity, last.regularity],
        "step_mm": descent.history[-1].step_mm,
        "stopped": descent.stopped,
    }


def _channels(images: Volume | Sequence[Volume]) -> list[Volume]:
    found = [images] if isinstance(images, Volume) else list(images)
    if not found:
        raise InputError("no image was given; at least one channel is needed")
    for image in found[1:]:
        if not image.grid.matches(found[0].grid):
            raise InputError(
                f"channels lie on different grids, {found[0].grid!r} and {image.grid!r}; resample one"
            )
    for image in found:
        if not np.isfinite(image.array).all():
            raise InputError(f"{image!r} holds NaN or infinite intensities; replace them before registration")
    return [replace(image, array=np.ascontiguousarray(image.array, dtype=np.float32)) for image in found]


def _shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if weights is None:
        return (1.0 / count,) * count
    if len(weights) != count or not all(w >= 0 for w in weights) or not sum(weights) > 0:
        raise InputError(
            f"channel weights must be {count} numbers that are not negative, got {list(weights)}"
        )
    return tuple(w / sum(weights) for w in weights)


def _brain_scale(inside: NDArray[np.bool_], grid: Grid) -> float:
    """Size of the foreground relative to the brain that lengths are given for."""
    size = size_mm(grid, int(inside.sum()))
    return float(np.clip(size / _HUMAN_BRAIN_MM, *_SCALES))


def _refuse_other_sizes(
    images: tuple[Volume, Volume], inside: tuple[Array, Array], settings: Settings, scale: float
) -> None:
    """Refuse foregrounds of a size that lengths in millimetres cannot be meant for.

    They would end as a field of zeros, or ask for terabytes.
    """
    sizes = []
    for image, mask, side in zip(images, inside, ("fixed", "moving"), strict=True):
        voxels = int(mask.sum())
        sizes.append(size_mm(image.grid, voxels))
        if settings.scale_to_brain and (sentence := of_a_brain(image.grid, voxels)):
            raise InputError(f"{image.path or f'the {side} image'}: its foreground {sentence}")
    names = [
        str(image.path or f"the {side} image")
        for image, side in zip(images, ("fixed", "moving"), strict=True)
    ]
    if max(sizes) > _ALIKE * min(sizes):
        raise InputError(
            f"{names[1]}: its foreground is about {sizes[1]:.3g} mm across (the cube root of its volume), "
            f"that of {names[0]} {sizes[0]:.3g} mm; the spacing of one is probably wrong or in another unit: "
            "correct its header"
        )
    spacing = settings.pyramid.velocity_spacing_mm[-1] * scale
    fewest, most = _POINTS_ACROSS
    if not fewest <= sizes[0] / spacing <= most:
        wrong = "coarse" if sizes[0] < fewest * spacing else "fine"
        raise InputError(
            f"{names[0]}: its foreground is about {sizes[0]:.3g} mm across (the cube root of its volume), "
            f"for which a velocity lattice of {spacing:.3g} mm is too {wrong} "
            f"({fewest} to {most} points across are expected); correct the spacing in its header, or set "
            "pyramid.velocity_spacing_mm and the other lengths for images of this size"
        )


def _from_fixed_frame(fixed: Grid, grid: Grid) -> FloatArray:
    """(3, 4) from millimetres along the fixed grid's axes to voxels of `grid`."""
    matrix = np.array(fixed.to(grid)[:3], dtype=np.float64)
    matrix[:, :3] /= np.asarray(fixed.spacing)
    return matrix


def _support(inside: tuple[Array, Array], grids: tuple[Grid, Grid], reach_mm: float) -> Array:
    """(X, Y, Z) float32 on the fixed grid: 1 in both foregrounds and a little around them."""
    own, moved = inside
    if not grids[0].matches(grids[1]):
        labels = Volume(moved.astype(np.int32), grids[1])
        moved = DisplacementField.identity(*grids).warp_labels(labels).array > 0
    if not moved.any():
        raise InputError("the two images do not meet in the world; check their headers or align them first")
    both = own | moved
    if both.all():
        return both.astype(np.float32)
    for axis, spacing in enumerate(grids[0].spacing):
        both = ndimage.maximum_filter1d(both, 2 * max(1, round(reach_mm / spacing)) + 1, axis=axis)
    return both.astype(np.float32)
