"""What of two images is compared: their intensities, and maps of their tissues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.jobs.threads import in_threads
from iterreg.lddmm.pyramid import standardised
from iterreg.lddmm.settings import Settings
from iterreg.lddmm.tissue import Tissues, agreement, tissue_maps
from iterreg.volume import Grid, Volume, foreground

__all__ = ["Compared", "TissueReport", "compared_channels"]

Array = NDArray[Any]

_LEAST_AGREEMENT = 0.1
"""Correlation of two tissue maps before the registration below which they are not compared: they are no one
tissue that both images show."""

_CLASSES = ("dark", "middle", "bright")
"""The tissue maps."""

_SEPARATE = 2.0
"""Standard deviations between classes of their own widths above which few voxels are partly one and partly
another: hard shares say as much as soft ones."""


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
class Compared:
    """Two arrays that are compared.

    Attributes
    ----------
    fixed, moving
        (X, Y, Z) float32, each on its image's grid.
    weights
        How much they count on each level; where it is 0 they are not compared.
    tissue
        Whether they are tissue maps, which squared differences compare.
    """

    fixed: Array
    moving: Array
    weights: tuple[float, ...]
    tissue: bool = False


@dataclass(frozen=True)
class _Prepared:
    """What is made of an image by itself: standardised intensities, and its tissues if they are asked for."""

    array: Array
    tissues: Tissues | None

    @classmethod
    def of(cls, image: Volume, settings: Settings, scale: float) -> _Prepared:
        tissues = _tissues(image, scale) if settings.similarity.uses_tissues else None
        return cls(standardised(image, foreground(image.array), settings.winsorize), tissues)


def compared_channels(
    images: tuple[Sequence[Volume], Sequence[Volume]],
    shares: Sequence[float],
    inside: NDArray[np.bool_],
    settings: Settings,
    scale: float,
    threads: int,
) -> tuple[tuple[Compared, ...], tuple[TissueReport, ...]]:
    """What is compared of the images themselves and, where the settings ask for them, of their tissues.

    Parameters
    ----------
    images
        The channels of the fixed and of the moving image.
    shares
        Of the channels; they sum to one.
    inside
        (X, Y, Z), the fixed image's foreground, where tissue maps must agree.
    scale
        This brain's size relative to the one that the settings' lengths are given for.
    threads
        Images that are prepared at once; they do not change the result.

    Returns
    -------
    Pairs of arrays, each channel's own before those of its tissues; one report for each channel, none where
    no tissue maps are asked for.
    """
    prepared = in_threads(
        lambda image: _Prepared.of(image, settings, scale),
        [one for side in images for one in side],
        threads=threads,
    )
    grids = (images[0][0].grid, images[1][0].grid)
    channels: list[Compared] = []
    reports: list[TissueReport] = []
    for f, m, fixed, moving, share in zip(
        prepared[: len(shares)], prepared[len(shares) :], *images, shares, strict=True
    ):
        channels.append(Compared(f.array, m.array, settings.each_level((share,))))
        if f.tissues is not None and m.tissues is not None:
            pair = _alike((f.tissues, m.tissues), (fixed, moving), scale)
            maps, report = _compared_maps(pair, grids, inside, settings, share)
            channels += maps
            reports.append(report)
    return tuple(channels), tuple(reports)


def _tissues(image: Volume, scale: float, *, own_widths: bool | None = None) -> Tissues:
    spacing = [s / scale for s in image.grid.spacing]
    return tissue_maps(image.array, foreground(image.array), spacing, own_widths=own_widths)


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
) -> tuple[list[Compared], TissueReport]:
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
    kept: dict[str, Compared] = {}
    for i, j in enumerate(partners):
        weights = tuple(share * 0.5 * (w + v) for w, v in zip(asked[i], asked[j], strict=True))
        if not any(weights):
            continue
        name = _CLASSES[i] if i == j else f"{_CLASSES[i]} with {_CLASSES[j]}"
        agreements[name] = correlation[i][j]
        if one.distinct and two.distinct and correlation[i][j] >= _LEAST_AGREEMENT:
            kept[name] = Compared(one.map_of(i), two.map_of(j), weights, tissue=True)
    report = TissueReport(
        clarity=(one.clarity, two.clarity),
        apart=(one.apart, two.apart),
        own_widths=(one.own_widths, two.own_widths),
        agreement=agreements,
        compared=tuple(kept),
    )
    return list(kept.values()), report
