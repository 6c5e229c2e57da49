"""Sampling grids against a twin of grid_sample written from PyTorch's documentation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.torch_grid import from_torch_grid, read, to_torch_grid, write
from iterreg.volume import Grid, Volume


def grid_sample(image: np.ndarray, grid: np.ndarray, align_corners: bool) -> np.ndarray:
    """``grid_sample(image[None, None], grid, mode="bilinear", padding_mode="zeros")`` for interior points.

    The image is (D, H, W); grid[..., 0] addresses W, [..., 1] H, [..., 2] D.
    """
    depth, height, width = image.shape
    w, h, d = (grid[0, ..., c].astype(float) for c in range(3))
    if align_corners:
        w, h, d = (w + 1) / 2 * (width - 1), (h + 1) / 2 * (height - 1), (d + 1) / 2 * (depth - 1)
    else:
        w, h, d = ((w + 1) * width - 1) / 2, ((h + 1) * height - 1) / 2, ((d + 1) * depth - 1) / 2
    return map_coordinates(image, [d, h, w], order=1, mode="constant", cval=0.0)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("orientation", [0, 21])
def test_grid_samples_as_the_field_does(
    align_corners: bool, orientation: int, tools: SimpleNamespace
) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    field = tools.smooth_field(fixed, moving, seed=2)
    image = np.random.default_rng(0).uniform(1, 2, moving.shape).astype(np.float32)
    ours = field.warp_image(Volume(image, moving)).array
    inside = ours > 0
    assert inside.mean() > 0.1

    theirs = grid_sample(image, to_torch_grid(field, align_corners=align_corners), align_corners)
    np.testing.assert_allclose(theirs[inside], ours[inside], atol=1e-4)

    # the twin notices reversed components, negated displacements and the other align_corners
    negated = DisplacementField(-field.vectors, fixed, moving)
    for wrong in (
        to_torch_grid(field, align_corners=align_corners)[..., ::-1],
        to_torch_grid(negated, align_corners=align_corners),
        to_torch_grid(field, align_corners=not align_corners),
    ):
        assert np.abs(grid_sample(image, wrong, align_corners)[inside] - ours[inside]).max() > 0.05


@pytest.mark.parametrize("align_corners", [True, False])
def test_round_trip_through_a_file(align_corners: bool, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(5)
    field = tools.smooth_field(fixed, moving, seed=3)
    write(tmp_path / "grid.npy", field, align_corners=align_corners)
    back = read(tmp_path / "grid.npy", fixed, moving, align_corners=align_corners)
    np.testing.assert_allclose(back.vectors, field.vectors, atol=1e-4)


def test_corners_by_hand() -> None:
    grid = Grid((3, 4, 5))
    identity = DisplacementField.identity(grid)
    aligned = to_torch_grid(identity, align_corners=True)[0]
    np.testing.assert_allclose(aligned[0, 0, 0], [-1, -1, -1])
    np.testing.assert_allclose(aligned[2, 3, 4], [1, 1, 1])
    np.testing.assert_allclose(aligned[2, 0, 0], [-1, -1, 1])  # the first array axis is the last component
    half = to_torch_grid(identity, align_corners=False)[0]
    np.testing.assert_allclose(half[0, 0, 0], [-1 + 1 / 5, -1 + 1 / 4, -1 + 1 / 3])


def test_refusals(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4))
    with pytest.raises(InputError, match="does not fit"):
        from_torch_grid(np.zeros((1, 4, 4, 5, 3)), grid, grid)
    with pytest.raises(InputError, match="NaN"):
        from_torch_grid(np.full((1, 4, 4, 4, 3), np.nan), grid, grid)
    with pytest.raises(InputError, match="align_corners=False"):
        to_torch_grid(DisplacementField.identity(Grid((4, 4, 1))))
    with pytest.raises(InputError, match=r"must end in \.npy"):
        write(tmp_path / "a.npz", DisplacementField.identity(grid))
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"a\.npy"):
        read(tmp_path / "a.npy", grid, grid)
