"""The trial pair tells a right field from every usual wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.field import DisplacementField
from iterreg.methods.trial import make_trial


@pytest.mark.parametrize("oblique", [True, False])
def test_truth_maps_moving_onto_fixed(oblique: bool) -> None:
    pair = make_trial(oblique=oblique)
    points = np.indices(pair.fixed.grid.shape) + np.moveaxis(pair.truth.vectors, -1, 0)
    moved = map_coordinates(pair.moving.array, points, order=1)
    still = DisplacementField.identity(pair.fixed.grid, pair.moving.grid).warp_image(pair.moving).array
    residual = np.abs(moved - pair.fixed.array)[pair.mask].mean()
    assert residual < 0.2 * np.abs(still - pair.fixed.array)[pair.mask].mean()


def test_wrong_conventions_are_millimetres_wrong() -> None:
    pair = make_trial()
    fixed, moving = pair.fixed.grid, pair.moving.grid
    still = pair.error(DisplacementField.identity(fixed, moving))
    assert still > 4
    world = pair.truth.to_world()
    wrong = {
        "negated": DisplacementField.from_world(-world, fixed, moving),
        "transposed": DisplacementField.from_world(world[..., ::-1], fixed, moving),
        "LPS taken as RAS": DisplacementField.from_world(world * (-1, -1, 1), fixed, moving),
        "inverted": DisplacementField.from_world(
            DisplacementField.identity(fixed, moving).compose(pair.truth.invert().field).to_world(),
            fixed,
            moving,
        ),
        "raw world components": DisplacementField(world.astype(np.float32), fixed, moving),
    }
    for name, field in wrong.items():
        assert pair.error(field) > 0.8 * still, name
    assert pair.error(pair.truth) == 0
