"""Small problems with known answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from iterreg.dataset.diffeomorphisms import exponential
from iterreg.field import DisplacementField
from iterreg.lddmm.lattice import Lattice
from iterreg.lddmm.settings import Kernel, Measure, Optimizer, Pyramid, Settings
from iterreg.volume import Grid, Volume

Array = np.ndarray


@dataclass(frozen=True)
class Pair:
    """Two images of one textured egg, and the map between them: ``fixed(p) = curve(moving(p + u(p)))``."""

    fixed: Volume
    moving: Volume
    truth: DisplacementField
    inside: Array
    """Fixed voxels of textured tissue, two voxels and more from its outline."""

    def error(self, field: DisplacementField) -> Array:
        """Distances to the truth in voxels, over the tissue."""
        return np.asarray(np.linalg.norm(field.vectors - self.truth.vectors, axis=-1)[self.inside])


def egg(shape: tuple[int, int, int], size: float = 0.36) -> Array:
    """Distance from the centre, 1 on the outline."""
    centre, axes = (np.array(shape) - 1) / 2, size * np.array(shape)
    return np.asarray(np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - centre) / axes, axis=-1))


def texture(rng: np.random.Generator, shape: tuple[int, int, int], *, size: float = 0.36) -> Array:
    """Positive tissue of two sizes of detail, zero around an egg."""
    fine, coarse = (gaussian_filter(rng.standard_normal(shape), s) for s in (1.3, 3.5))
    image = 6 + fine / fine.std() + 2 * coarse / coarse.std()
    return np.asarray(np.clip(image, 1, None) * (egg(shape, size) < 1))


def warp(image: Array, field: DisplacementField) -> Array:
    """By cubic splines, which blur less than what is tested."""
    places = np.moveaxis(field.vectors.astype(np.float64), -1, 0) + np.indices(image.shape)
    return np.asarray(map_coordinates(image, places, order=3, mode="nearest"))


def acquired(rng: np.random.Generator, image: Array) -> Array:
    """The image by another scanner: a bent contrast curve, a bias field and noise."""
    tissue = image > 0.5
    top = image.max()
    bent = top * (image.clip(0) / top) ** 0.7
    bias = gaussian_filter(rng.standard_normal(image.shape), 14.0)
    bias *= 0.25 / np.abs(bias[tissue]).max()
    return np.asarray(tissue * (bent * (1 + bias) + 0.15 * rng.standard_normal(image.shape)))


def make_pair(seed: int, largest: float, *, clean: bool = False, shape: Any = (46, 55, 43)) -> Pair:
    """A random pair; `largest` is the largest displacement inside, in voxels."""
    rng = np.random.default_rng(seed)
    grid = Grid(shape)
    anatomy = texture(rng, shape)
    velocity = np.stack([gaussian_filter(rng.standard_normal(shape), 9.0) for _ in range(3)], axis=-1)
    distance = egg(shape)
    velocity *= np.clip((1.35 - distance) / 0.5, 0, 1)[..., None]
    velocity /= np.linalg.norm(velocity, axis=-1)[distance < 0.9].max()
    scale = largest
    for _ in range(4):  # the flow carries points to where the velocity is less
        truth = exponential((scale * velocity).astype(np.float32), grid)
        inside = np.asarray(warp((distance < 0.88).astype(float), truth) > 0.9)
        scale *= largest / np.linalg.norm(truth.vectors, axis=-1)[inside].max()
    fixed = warp(anatomy, truth) * (warp((distance < 1).astype(float), truth) > 0.5)
    if not clean:
        fixed = acquired(rng, fixed)
    return Pair(
        Volume(fixed.astype(np.float32), grid), Volume(anatomy.astype(np.float32), grid), truth, inside
    )


def make_settings(**changes: Any) -> Settings:
    """For eggs of forty voxels of a millimetre; independent of what the presets are tuned to."""
    options: dict[str, Any] = {
        "energy_weight": 3.0,
        "scale_to_brain": False,
        "padding_mm": 10.0,
        "pyramid": Pyramid((4.0, 2.0, 1.0), (3.0, 3.0, 2.0), (25, 30, 20)),
        "similarity": Measure(radius_mm=(5.0, 4.0, 3.0)),
        "kernel": Kernel(length_mm=3.0),
        "optimizer": Optimizer(step_mm=0.5),
    }
    return Settings(**{**options, **changes})


def make_bumps(
    rng: np.random.Generator, lattice: Lattice, width: float, low: float, high: float, count: int = 30
) -> Array:
    """A sum of Gaussians in millimetres at random places between `low` and `high`: (x, y, z)."""
    axes = [
        o + s * np.arange(n) for o, s, n in zip(lattice.origin, lattice.spacing, lattice.shape, strict=True)
    ]
    out = np.zeros(lattice.shape)
    for _ in range(count):
        centre = rng.uniform(low, high, 3)
        x, y, z = (np.exp(-0.5 * ((a - c) / width) ** 2) for a, c in zip(axes, centre, strict=True))
        out += rng.standard_normal() * x[:, None, None] * y[None, :, None] * z
    return out


@pytest.fixture(scope="session")
def pair_of() -> Callable[..., Pair]:
    """`make_pair`."""
    return make_pair


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., Settings]:
    """`make_settings`."""
    return make_settings


@pytest.fixture(scope="session")
def bumps() -> Callable[..., Array]:
    """`make_bumps`."""
    return make_bumps
