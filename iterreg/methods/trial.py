"""A small pair of volumes with a known answer, to try a method on.

Everything that goes wrong in practice is in it: the object is asymmetric, both grids are oblique and
anisotropic, they differ in shape, spacing, orientation and origin, and the map between them shifts and turns.
A field that is negated, transposed or inverted, or that forgets an affine, is millimetres wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iterreg.field import DisplacementField
from iterreg.volume import FloatArray, Grid, Volume

__all__ = ["Trial", "make_trial"]


@dataclass(frozen=True)
class Trial:
    """A pair with the field that maps it exactly.

    Attributes
    ----------
    fixed, moving
        float32 images of one object before and after a rigid motion, intensities in [0, 255].
    truth
        The field that aligns them.
    mask
        (X, Y, Z) boolean: the object in the fixed image, where the answer can be seen.
    """

    fixed: Volume
    moving: Volume
    truth: DisplacementField
    mask: NDArray[np.bool_]

    def error(self, field: DisplacementField) -> float:
        """Mean distance in millimetres between where `field` and the truth send the object's voxels."""
        steps = (field.vectors - self.truth.vectors)[self.mask].astype(np.float64)
        return float(np.linalg.norm(steps @ self.moving.grid.affine[:3, :3].T, axis=1).mean())


def make_trial(*, oblique: bool = True) -> Trial:
    """Make the pair.

    Parameters
    ----------
    oblique
        False gives both images the same upright grid of 1.5 mm.
    """
    motion = np.eye(4)
    motion[:3, :3] = _rotation((0.3, -0.2, 1.0), 7.0)
    motion[:3, 3] = (4.5, -1.5, -3.0)
    if oblique:
        fixed = _centred(
            (46, 40, 34),
            (1.4, 1.6, 1.9),
            _rotation((1, 2, 0.5), 14.0) @ np.diag([1, 1, 1]),
            (12.0, -7.0, 30.0),
        )
        moving = _centred(
            (42, 50, 38),
            (1.7, 1.3, 1.6),
            _rotation((0.2, 1, -1), -11.0) @ np.diag([-1, 1, 1]),
            (12.0, -7.0, 30.0),
        )
    else:
        fixed = moving = _centred((44, 44, 44), (1.5, 1.5, 1.5), np.eye(3), (12.0, -7.0, 30.0))
    centre = np.array([12.0, -7.0, 30.0])
    # Turn about the object's centre, so that the motion stays small everywhere in it.
    motion[:3, 3] += centre - motion[:3, :3] @ centre
    fixed_image = _object(fixed.voxel_to_world(_voxels(fixed.shape)) - centre)
    back = np.linalg.inv(motion)
    points = moving.voxel_to_world(_voxels(moving.shape)) @ back[:3, :3].T + back[:3, 3]
    moving_image = _object(points - centre)
    return Trial(
        Volume(fixed_image, fixed),
        Volume(moving_image, moving),
        DisplacementField.from_affine(motion, fixed, moving),
        fixed_image > 0,
    )


def _object(points: FloatArray) -> NDArray[np.float32]:
    """An egg with lumps and a texture at 6 to 12 mm, as a function of the world; (..., 3) mm -> intensity."""
    rng = np.random.default_rng(20)
    x, y, z = np.moveaxis(points, -1, 0)
    radius = np.sqrt((x / 24) ** 2 + (y / 21) ** 2 + ((z - 0.12 * x) / 18) ** 2)
    value = np.full(radius.shape, 110.0)
    for _ in range(40):
        direction = rng.normal(size=3)
        place = direction / np.linalg.norm(direction) * 20 * rng.uniform(0, 1) ** (1 / 3)
        width = rng.uniform(2.5, 5.0)
        bump = np.exp(-((points - place) ** 2).sum(-1) / (2 * width**2))
        value += rng.choice((-1.0, 1.0)) * rng.uniform(40, 90) * bump
    edge = 1 / (1 + np.exp((radius - 1) * 14))
    value = np.clip(value, 20, 255) * edge
    value[value < 4] = 0
    return np.asarray(value, dtype=np.float32)


def _voxels(shape: tuple[int, int, int]) -> FloatArray:
    return np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)


def _centred(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    direction: NDArray[np.floating],
    centre: tuple[float, float, float],
) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(spacing)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, affine)


def _rotation(axis: tuple[float, float, float], degrees: float) -> FloatArray:
    """Rotation matrix about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
