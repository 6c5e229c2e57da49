"""Registration of two images from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.lddmm.lattice import Interpolation, Lattice
from iterreg.lddmm.objective import Channel, Objective
from iterreg.lddmm.optimizer import Descent, Iteration, descend
from iterreg.lddmm.pyramid import LevelImage, Region, foreground, image_levels, standardised
from iterreg.lddmm.reproducing_kernel import Smoother
from iterreg.lddmm.settings import Settings
from iterreg.lddmm.similarity import LNCC, SSD, Similarity
from iterreg.lddmm.tissue import Tissues, agreement, tissue_maps
from iterreg.lddmm.transform import Transform
from iterreg.lddmm.unfolding import calmed, unfold
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["Result", "TissueReport", "register"]

Array = NDArray[Any]
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_HUMAN_BRAIN_MM = 118.0
"""Cube root of the volume of a skull-stripped adult brain (1.65 litres), which the presets are made for."""

_MASK_REACH_MM = 3.0
"""How far beyond the foreground windows count: the brain's outline is an edge worth matching."""

_LEAST_AGREEMENT = 0.1
"""Correlation of two tissue maps before the registration below which they are not compared: they are no one
tissue that both images show."""

_CLASSES = ("dark", "middle", "bright")
"""The tissue maps."""

_SEPARATE = 2.0
"""Standard deviations between classes of their own widths above which few voxels are partly one and partly
another: hard shares say as much as soft ones."""

_DRIFT_MM = 10.0
"""How far from where it is momentum is carried at most, on the way from the meeting point to either image."""


@dataclass(frozen=True)
class TissueReport:
    """Whether the tissue maps of a channel were compared, and why.

    Attributes
    ----------
    clarity
        Of the fixed and the moving image's tissues; see `iterreg.lddmm.tissue.Tissues`.
    apart, own_widths
        The same.
    agreement
        Correlation of the two images' maps before the registration, by name: ``middle``, or
        ``bright with middle`` where the fixed image's class met another one of the moving image.
    compared
        Names of the maps that were compared.
    """

    clarity: tuple[float, float]
    apart: tuple[float, float]
    own_widths: tuple[bool, bool]
    agreement: Mapping[str, float]
    compared: tuple[str, ...]


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
        spans no volume.
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
    inside = (foreground(fixed_images[0]), foreground(moving_images[0]))
    scale = _brain_scale(inside[0], grids[0]) if settings.scale_to_brain else 1.0
    region = Region.around(*grids, inside, settings.margin_mm * scale)
    if not (region.high > region.low).all():
        raise InputError(
            f"{fixed_images[0]!r}: the foreground spans no volume; LDDMM needs several voxels on each axis"
        )
    channels, tissues = _prepared_channels(
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
class _Prepared:
    """What is made of an image by itself: standardised intensities, and its tissues if they are asked for."""

    array: Array
    tissues: Tissues | None

    @classmethod
    def of(cls, image: Volume, settings: Settings, scale: float) -> _Prepared:
        tissues = _tissues(image, scale) if settings.similarity.uses_tissues else None
        return cls(standardised(image, foreground(image), settings.winsorize), tissues)


@dataclass(frozen=True)
class _Compared:
    """Two arrays on the fixed and the moving grid, how much they count, and whether as tissue maps.

    `weights` has one value for each level; where it is 0 they are not compared.
    """

    fixed: Array
    moving: Array
    weights: tuple[float, ...]
    tissue: bool = False


@dataclass(frozen=True)
class _Problem:
    """A pair, prepared."""

    settings: Settings
    scale: float
    region: Region
    grids: tuple[Grid, Grid]
    channels: tuple[_Compared, ...]
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
        support, *made = _each(
            lambda one: image_levels(one[0], one[1].spacing, spacings),
            [(self.support, self.grids[0]), *sides],
            self.threads,
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


def _each(work: Callable[[_Item], _Made], items: Sequence[_Item], threads: int) -> list[_Made]:
    """`work` on every item: numpy and scipy leave the interpreter to others meanwhile."""
    if threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _prepared_channels(
    images: tuple[Sequence[Volume], Sequence[Volume]],
    shares: Sequence[float],
    inside: NDArray[np.bool_],
    settings: Settings,
    scale: float,
    threads: int,
) -> tuple[tuple[_Compared, ...], tuple[TissueReport, ...]]:
    """What is compared of the images themselves and of their tissues."""
    prepared = _each(
        lambda image: _Prepared.of(image, settings, scale), [one for side in images for one in side], threads
    )
    grids = (images[0][0].grid, images[1][0].grid)
    channels: list[_Compared] = []
    reports: list[TissueReport] = []
    for f, m, fixed, moving, share in zip(
        prepared[: len(shares)], prepared[len(shares) :], *images, shares, strict=True
    ):
        channels.append(_Compared(f.array, m.array, settings.each_level((share,))))
        if f.tissues is not None and m.tissues is not None:
            pair = _alike((f.tissues, m.tissues), (fixed, moving), scale)
            maps, report = _compared_maps(pair, grids, inside, settings, share)
            channels += maps
            reports.append(report)
    return tuple(channels), tuple(reports)


def _tissues(image: Volume, scale: float, *, own_widths: bool | None = None) -> Tissues:
    spacing = [s / scale for s in image.grid.spacing]
    return tissue_maps(image.array, foreground(image), spacing, own_widths=own_widths)


def _alike(
    pair: tuple[Tissues, Tissues], images: tuple[Volume, Volume], scale: float
) -> tuple[Tissues, Tissues]:
    """Classes of their own widths in both images where one needs them and the other's are separate.

    Such maps are harder; soft ones beside them differ at every border.
    """
    one, two = pair
    if one.own_widths == two.own_widths:
        return pair
    soft = images[0] if two.own_widths else images[1]
    harder = _tissues(soft, scale, own_widths=True)
    if harder.apart < _SEPARATE:
        return pair
    return (harder, two) if two.own_widths else (one, harder)


def _compared_maps(
    pair: tuple[Tissues, Tissues],
    grids: tuple[Grid, Grid],
    inside: NDArray[np.bool_],
    settings: Settings,
    share: float,
) -> tuple[list[_Compared], TissueReport]:
    """The tissue maps that may be compared, and what spoke for or against it.

    Each class meets the one that it correlates with: grey matter is the middle one in T1, the brightest in
    FLAIR. The weight is the mean of the two classes' own, so that swapping the images changes nothing.
    """
    one, two = pair
    measure = settings.similarity
    asked = [
        settings.each_level(weights) for weights in ((0.0,), measure.middle_weight, measure.bright_weight)
    ]
    # Maps are large, and most are not kept: they are made when they are asked for.
    correlation = [
        [agreement(f, two.map_of(j), grids, inside) for j in range(3)] for f in map(one.map_of, range(3))
    ]
    partners = max(
        permutations(range(3)), key=lambda order: sum(correlation[i][j] for i, j in enumerate(order))
    )
    agreements: dict[str, float] = {}
    kept: dict[str, _Compared] = {}
    for i, j in enumerate(partners):
        weights = tuple(share * 0.5 * (w + v) for w, v in zip(asked[i], asked[j], strict=True))
        if not any(weights):
            continue
        name = _CLASSES[i] if i == j else f"{_CLASSES[i]} with {_CLASSES[j]}"
        agreements[name] = correlation[i][j]
        if one.distinct and two.distinct and correlation[i][j] >= _LEAST_AGREEMENT:
            kept[name] = _Compared(one.map_of(i), two.map_of(j), weights, tissue=True)
    report = TissueReport(
        clarity=(one.clarity, two.clarity),
        apart=(one.apart, two.apart),
        own_widths=(one.own_widths, two.own_widths),
        agreement=agreements,
        compared=tuple(kept),
    )
    return list(kept.values()), report


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
    volume = float(inside.sum()) * float(np.prod(grid.spacing))
    return float(np.clip(volume ** (1 / 3) / _HUMAN_BRAIN_MM, 0.1, 1.2))


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
