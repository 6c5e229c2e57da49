"""Synthetic people: one anatomy, seen through random diffeomorphisms that are known exactly.

Subject i is ``subject_i(p) = anatomy(phi_i(p))`` with ``phi_i = exp(v_i)`` the flow of a random
smooth velocity, so the true map from subject i (fixed) to subject j (moving) is
``phi_j^-1(phi_i(p))``: a registration of the two can be compared with it, voxel by voxel.

The anatomy is made from an average brain (its intensities and its grey- and white-matter
probabilities). An average is blurred, so tissue borders are sharpened, folded by random detail and
given texture; all of it lives in the anatomy and moves with it. Noise, bias field and contrast
belong to each subject alone.

World coordinates are millimetres; the anatomy's box and every subject's grid share one world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iterreg.dataset.diffeomorphisms import Deformation, interpolate_lattice, random_deformation
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume

__all__ = [
    "LABELS",
    "Anatomy",
    "Subject",
    "Template",
    "make_anatomy",
    "make_subject",
    "place_landmarks",
]

FloatVolume = NDArray[np.float32]

LABEL_SMOOTHING = 1.0  # mm, of the tissue fractions before labels are cut

# Seeds of the regions, MNI millimetres, for one side: (|x|, y, z). Regions are their Voronoi cells.
_SEEDS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "superior frontal": ((12, 50, 25), (20, 22, 52), (10, 62, 0)),
    "lateral frontal": ((45, 35, 8), (48, 12, 26), (34, 42, 26)),
    "orbitofrontal": ((26, 36, -15), (7, 36, -20)),
    "cingulate": ((5, 34, 16), (5, 2, 38), (5, -42, 30)),
    "central": ((36, -20, 58), (56, -10, 30), (8, -26, 64)),
    "parietal": ((28, -62, 50), (50, -48, 40), (8, -62, 48)),
    "occipital": ((10, -86, 6), (36, -82, 6), (14, -70, -4)),
    "lateral temporal": ((60, -18, -4), (58, -48, 4), (54, -6, -26), (50, -44, -18)),
    "medial temporal": ((25, -14, -22), (24, -36, -12), (32, 10, -34)),
    "insula": ((39, 8, 0), (39, -10, 4)),
    "striatum": ((13, 14, 6), (26, 4, 0), (21, -6, 0)),
    "thalamus": ((11, -18, 7), (6, -12, 3)),
    "cerebellum": ((25, -66, -36), (7, -70, -28), (40, -58, -40), (14, -50, -20), (8, -58, -46)),
    "brainstem": ((0, -28, -32), (0, -24, -16), (0, -38, -46), (6, -22, -26)),
}
_CORTEX = tuple(_SEEDS)[:10]
_WHITE: Mapping[str, tuple[str, ...]] = {
    "frontal white matter": (*_CORTEX[:4], "insula", "striatum"),
    "parieto-occipital white matter": ("central", "parietal", "occipital", "thalamus"),
    "temporal white matter": ("lateral temporal", "medial temporal"),
    "cerebellar white matter": ("cerebellum",),
}
# Rough ellipsoids (centre and half-axes, MNI mm) where grey and white matter are truly mixed: their borders
# are not to be sharpened and folded.
_DEEP = (
    ((12, -18, 7), (10, 14, 9)),
    ((22, 4, 1), (16, 22, 14)),
    ((0, -28, -28), (14, 13, 32)),
)
_FLUID = {"0000": 0.16, "0001": 0.90}  # intensity of fluid, by modality
_LANDMARKS = (
    (0, 28, 4),
    (0, -38, 12),
    (-22, 14, 2),
    (22, 14, 2),
    (-26, -24, -12),
    (26, -24, -12),
    (-38, -8, 8),
    (38, -8, 8),
    (-12, -76, 10),
    (12, -76, 10),
    (0, -28, -30),
    (0, -12, 8),
)


def _names() -> dict[int, str]:
    both = [*_CORTEX, "striatum", "thalamus", "cerebellum", *_WHITE, "lateral ventricle"]
    names = [f"{side} {name}" for name in both for side in ("left", "right")]
    return dict(enumerate([*names, "brainstem", "cerebrospinal fluid"], start=1))


LABELS: Mapping[int, str] = _names()
"""Every label id of the subjects and what it is called."""


@dataclass(frozen=True, eq=False)
class Template:
    """An average brain on a box of 1 mm voxels.

    Attributes
    ----------
    t1
        (X, Y, Z) float32 in [0, 1], skull-stripped T1-weighted average.
    grey, white
        (X, Y, Z) float32 in [0, 1], tissue probabilities.
    mask
        (X, Y, Z) boolean, the brain.
    origin
        MNI millimetres of voxel (0, 0, 0); axes are left to right, back to front, down to up.
    """

    t1: FloatVolume
    grey: FloatVolume
    white: FloatVolume
    mask: NDArray[np.bool_]
    origin: tuple[float, float, float]

    @property
    def grid(self) -> Grid:
        """The box; its world is millimetres from voxel (0, 0, 0)."""
        return Grid(_triple(self.t1.shape))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What all subjects share.

    Attributes
    ----------
    contrasts
        Modality (``"0000"`` T1-weighted, ``"0001"`` T2-weighted) -> (X, Y, Z) float32 in [0, 1].
    labels
        (X, Y, Z) uint8, ids of `LABELS`, 0 outside the brain.
    grid
        1 mm voxels.
    origin
        MNI millimetres of voxel (0, 0, 0).
    """

    contrasts: Mapping[str, FloatVolume]
    labels: NDArray[np.uint8]
    grid: Grid
    origin: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Subject:
    """One synthetic person.

    Attributes
    ----------
    images
        Modality -> (X, Y, Z) uint8 in [0, 255]; 0 outside the brain and at least 1 inside.
    labels
        (X, Y, Z) uint8, ids of `LABELS`; above zero exactly inside the brain.
    deformation
        The map to the anatomy.
    """

    images: Mapping[str, NDArray[np.uint8]]
    labels: NDArray[np.uint8]
    deformation: Deformation


# -- anatomy ---------------------------------------------------------------------------------------


def make_anatomy(template: Template, seed: int) -> Anatomy:
    """Turn a blurred average into a crisp anatomy with labels and two contrasts.

    The tissue probabilities are raised to a power and their borders moved by band-passed noise
    (structures of 2 to 5 mm, about a gyrus); each contrast then is the mixture of its tissue means
    plus texture. The regions are Voronoi cells of fixed seeds with wavy borders, cut by tissue: in
    the spirit of lobes and nuclei, not an anatomical atlas.

    Parameters
    ----------
    template
        The average brain.
    seed
        Of the folding and the texture.
    """
    rng = np.random.default_rng([seed, 0])
    whole, box = template, _bounding_box(template.mask)
    template = _crop(whole, box)
    shape = template.t1.shape
    coordinates = _mni(template)
    deep = _deep_weight(coordinates)
    fluid, grey, white = tissues = _tissues(template, deep, rng)

    texture = _band(rng, shape, 0.9, 2.0) + 0.8 * _band(rng, shape, 1.6, 4.0)
    other = _band(rng, shape, 1.2, 3.0)
    detail = template.t1 - ndimage.gaussian_filter(template.t1, 5.0, truncate=2.5)
    nuclei = deep * grey
    strength = 0.004 * fluid + 0.028 * grey + 0.018 * white
    t1 = _FLUID["0000"] * fluid + 0.50 * grey + 0.80 * white + 0.07 * nuclei
    t1 += 0.25 * detail + strength * texture
    # Nuclei are brighter than other grey matter in T1w but (iron) darker in T2w, where fluid is brightest:
    # no monotone curve turns one contrast into the other.
    t2 = _FLUID["0001"] * fluid + 0.54 * grey + 0.33 * white - 0.16 * nuclei
    t2 += strength * (0.8 * other - 0.5 * texture)

    contrasts = {}
    for modality, image in (("0000", t1), ("0001", t2)):
        contrasts[modality] = np.full(whole.t1.shape, _FLUID[modality], np.float32)
        contrasts[modality][box] = np.where(template.mask, image, _FLUID[modality])
    labels = np.zeros(whole.t1.shape, np.uint8)
    labels[box] = _label(template, tissues, deep, coordinates, rng)
    return Anatomy(contrasts, labels, whole.grid, whole.origin)


def _tissues(template: Template, deep: FloatVolume, rng: np.random.Generator) -> FloatVolume:
    """(3, X, Y, Z) fractions of fluid, grey and white matter: sharpened, with folded borders."""
    shape = template.t1.shape
    fluid = np.clip(1 - template.grey - template.white, 0, 1) * template.mask
    power = 3.2 - 2.0 * deep
    jitter = 1.0 - deep
    scores = np.stack([np.log(p + np.float32(1e-3)) * power for p in (fluid, template.grey, template.white)])
    # An average fills its sulci: fluid gets an advantage back.
    scores[0] += jitter * (0.8 + 1.2 * _band(rng, shape, 1.8, 4.5))
    scores[2] += jitter * (1.6 * _band(rng, shape, 1.8, 4.0))
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores *= template.mask / scores.sum(axis=0)
    return scores


def _label(
    template: Template,
    tissues: FloatVolume,
    deep: FloatVolume,
    coordinates: FloatVolume,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The label volume: regions by nearest seed, cut by tissue and side."""
    brain = template.mask
    ids = {name: i for i, name in LABELS.items()}
    regions = list(_SEEDS)
    grey_ids = np.zeros((len(regions), 2), np.uint8)
    white_ids = np.zeros_like(grey_ids)
    for r, region in enumerate(regions):
        matter = next((name for name, members in _WHITE.items() if region in members), "")
        for s, side in enumerate(("left", "right")):
            grey_ids[r, s] = ids.get(f"{side} {region}", ids["brainstem"])
            white_ids[r, s] = ids.get(f"{side} {matter}", ids["brainstem"])

    wavy = np.stack(
        [_smooth_noise(template.grid, rng, sigma=5.0, step=4.0)[brain] for _ in range(3)], axis=-1
    )
    where = coordinates[brain]
    right = (where[:, 0] > 0).astype(np.intp)
    where += wavy * np.float32(1.8 / wavy.std())
    where[:, 0] = np.abs(where[:, 0])
    nearest = np.zeros(len(where), np.intp)
    best = np.full(len(where), np.inf, np.float32)
    for r, region in enumerate(regions):
        for seed in _SEEDS[region]:
            away = where - np.array(seed, np.float32)
            distance = np.einsum("nc,nc->n", away, away)
            closer = distance < best
            best[closer] = distance[closer]
            nearest[closer] = r

    # Labels hold no detail finer than a millimetre or two: people draw them so, and it keeps specks out.
    tissue = np.stack([ndimage.gaussian_filter(t, LABEL_SMOOTHING, truncate=3.0)[brain] for t in tissues])
    kind = tissue.argmax(axis=0)
    nuclei = np.isin(nearest, [regions.index("striatum"), regions.index("thalamus")])
    kind[nuclei & (deep[brain] > 0.5) & (template.grey[brain] > 0.3)] = 1
    fluid = np.full(len(where), ids["cerebrospinal fluid"], np.uint8)
    labels = np.zeros(brain.shape, np.uint8)
    labels[brain] = np.choose(kind, [fluid, grey_ids[nearest, right], white_ids[nearest, right]])

    ventricles = _ventricles(template, coordinates) & (labels == ids["cerebrospinal fluid"])
    on_right = coordinates[..., 0] > 0
    labels[ventricles & ~on_right] = ids["left lateral ventricle"]
    labels[ventricles & on_right] = ids["right lateral ventricle"]
    return labels


def _ventricles(template: Template, coordinates: FloatVolume) -> NDArray[np.bool_]:
    """The two largest pieces of fluid deep inside the brain, a little grown."""
    x, y, z = np.moveaxis(coordinates, -1, 0)
    inside = (np.abs(x) < 42) & (np.abs(x) > 1) & (y > -62) & (y < 40) & (z > -22) & (z < 34)
    pieces, count = ndimage.label(template.mask & (template.grey + template.white < 0.55) & inside)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = [piece for piece in np.argsort(sizes)[-2:] if sizes[piece]]
    return np.asarray(ndimage.binary_dilation(np.isin(pieces, largest), iterations=2))


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    return tuple(ndimage.find_objects(mask.astype(np.uint8))[0])


def _crop(template: Template, box: tuple[slice, ...]) -> Template:
    x, y, z = (float(o + s.start) for o, s in zip(template.origin, box, strict=True))
    t = template
    return Template(t.t1[box], t.grey[box], t.white[box], t.mask[box], (x, y, z))


def _mni(template: Template) -> FloatVolume:
    axes = [
        np.arange(n, dtype=np.float32) + o for n, o in zip(template.t1.shape, template.origin, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _deep_weight(coordinates: FloatVolume) -> FloatVolume:
    """1 inside nuclei and brainstem, 0 outside, with a soft border."""
    weight = np.zeros(coordinates.shape[:3], np.float32)
    place = coordinates.copy()
    place[..., 0] = np.abs(place[..., 0])
    for centre, half_axes in _DEEP:
        radius = np.sqrt(
            (((place - np.array(centre, np.float32)) / np.array(half_axes, np.float32)) ** 2).sum(axis=-1)
        )
        np.maximum(weight, np.clip((1.15 - radius) / 0.3, 0, 1), out=weight)
    return weight


def _band(rng: np.random.Generator, shape: tuple[int, ...], fine: float, coarse: float) -> FloatVolume:
    """Band-passed Gaussian noise of unit variance: a difference of two Gaussians (sigmas in voxels)."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, fine, truncate=3.0)
    smooth -= ndimage.gaussian_filter(noise, coarse, truncate=3.0)
    return np.asarray(smooth / smooth.std(dtype=np.float64), dtype=np.float32)


# -- subjects --------------------------------------------------------------------------------------


def make_subject(
    anatomy: Anatomy, grid: Grid, seed: int, number: int, modalities: tuple[str, ...] = ("0000",)
) -> Subject:
    """Scan a synthetic person.

    Voxels of 2 mm and more average the anatomy over eight places (partial volume). Each modality
    then has the subject's own monotone contrast curve, a smooth bias field of at most 25 % and Rician
    noise.

    Parameters
    ----------
    anatomy
        Shared by all subjects.
    grid
        The subject's, in the anatomy's world.
    seed, number
        The data set's seed and which person this is: the same two always give the same person.
    modalities
        Keys of `Anatomy.contrasts`.
    """
    deformation = random_deformation(grid, np.random.default_rng([seed, number, 0]))
    to_anatomy = deformation.forward.compose(DisplacementField.identity(grid, anatomy.grid))
    atlas = Volume(anatomy.labels.astype(np.int32), anatomy.grid)
    labels = to_anatomy.warp_labels(atlas).array.astype(np.uint8)
    brain = labels > 0
    per_axis = 2 if min(grid.spacing) >= 2 else 1
    fine = _finer(to_anatomy, per_axis)
    images = {}
    for modality in modalities:
        rng = np.random.default_rng([seed, number, 1 + int(modality)])
        seen = fine.warp_image(Volume(anatomy.contrasts[modality], anatomy.grid)).array
        images[modality] = _acquire(_block_mean(seen, per_axis), brain, grid, rng)
    return Subject(images, labels, deformation)


def _finer(field: DisplacementField, per_axis: int) -> DisplacementField:
    """The same map sampled at `per_axis` places along each axis of every voxel."""
    if per_axis == 1:
        return field
    affine = field.fixed.affine.copy()
    affine[:3, :3] /= per_axis
    affine[:3, 3] -= (per_axis - 1) / 2 * np.diag(affine)[:3]
    fine = Grid(_triple(n * per_axis for n in field.fixed.shape), affine)
    return DisplacementField.identity(fine, field.fixed).compose(field)


def _block_mean(array: FloatVolume, per_axis: int) -> FloatVolume:
    if per_axis == 1:
        return array
    x, y, z = (n // per_axis for n in array.shape)
    return np.asarray(array.reshape(x, per_axis, y, per_axis, z, per_axis).mean(axis=(1, 3, 5)))


def _acquire(
    ideal: FloatVolume, brain: NDArray[np.bool_], grid: Grid, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Contrast curve, bias field, Rician noise, skull-stripping and scaling to [0, 255]."""
    exponent = rng.uniform(0.85, 1.2)
    bend = rng.uniform(-0.06, 0.06)
    clean = np.clip(ideal, 0, 1) ** exponent
    clean = clean + bend * np.sin(np.pi * clean)  # monotone for |bend| < 1 / pi
    bias = _smooth_noise(grid, rng, sigma=38.0, step=8.0)
    bias -= bias[brain].mean()
    bias *= rng.uniform(0.2, 0.25) / np.abs(bias[brain]).max()
    signal = clean * (1 + bias)
    noise = rng.standard_normal((2, *grid.shape), dtype=np.float32) * np.float32(0.018)
    magnitude = np.hypot(signal + noise[0], noise[1])
    scaled = np.rint(magnitude * (250.0 / np.percentile(magnitude[brain], 99.8)))
    return np.where(brain, np.clip(scaled, 1, 255), 0).astype(np.uint8)


def _smooth_noise(grid: Grid, rng: np.random.Generator, *, sigma: float, step: float) -> FloatVolume:
    """Gaussian-smoothed noise drawn on a lattice of `step` mm and interpolated; sigma in mm."""
    spacing = np.array(grid.spacing)
    nodes = tuple(int(n) for n in np.ceil((np.array(grid.shape) - 1) * spacing / step) + 2)
    noise = ndimage.gaussian_filter(rng.standard_normal(nodes), sigma / step)
    return interpolate_lattice(noise, step, grid)


# -- landmarks -------------------------------------------------------------------------------------


def place_landmarks(
    anatomy: Anatomy, subjects: list[Subject], seed: int, *, candidates: int = 20000
) -> list[NDArray[np.uint8]]:
    """Corresponding landmarks as 3x3x3 blobs, one volume per subject.

    A blob can only be centred on a voxel, while the true place lies between voxels. Around each
    landmark the anatomical point is therefore chosen, among many, whose true places come closest to
    voxel centres in all subjects, so that the true map scores nearly zero.

    Returns
    -------
    One (X, Y, Z) uint8 volume per subject, ids 1 to 12.

    Raises
    ------
    InputError
        If two blobs overlap or one leaves the grid: the voxels are too coarse.
    """
    rng = np.random.default_rng([seed, 1])
    grid = subjects[0].deformation.forward.fixed
    volumes = [np.zeros(grid.shape, np.uint8) for _ in subjects]
    reach = max(5.0, 1.5 * max(grid.spacing))
    for name, place in enumerate(_LANDMARKS, start=1):
        centre = np.array(place) - np.array(anatomy.origin)
        points = grid.world_to_voxel(centre + rng.uniform(-reach, reach, (candidates, 3)))
        mapped = np.stack([s.deformation.inverse.warp_points(points) for s in subjects])
        off = np.linalg.norm(mapped - np.rint(mapped), axis=-1).max(axis=0)
        for volume, (x, y, z) in zip(volumes, np.rint(mapped[:, off.argmin()]).astype(int), strict=True):
            blob = volume[max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2, max(z - 1, 0) : z + 2]
            if blob.size != 27 or blob.any():
                raise InputError(
                    f"{grid!r}: too small or too coarse for 3x3x3 landmark blobs that do not touch"
                )
            blob[:] = name
    return volumes


def _triple(values: Any) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return x, y, z
