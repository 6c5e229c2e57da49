"""``iterreg.evaluate`` on arrays, and points against scipy on the whole volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import iterreg
from iterreg.errors import InputError
from iterreg.evaluation import dice, hd95, point_errors
from iterreg.evaluation.landmarks import read_points
from iterreg.evaluation.scoring import PairScores
from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume

SHAPE = (15, 14, 13)


@pytest.fixture
def labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    blocks = [np.kron(rng.integers(0, 3, (4, 4, 4)), np.ones((4, 4, 4), int)) for _ in range(2)]
    one, two = (block[:15, :14, :13].astype(np.int32) for block in blocks)
    return one, two


def test_everything_at_once(
    random_field: Callable[..., np.ndarray], labels: tuple[np.ndarray, np.ndarray]
) -> None:
    fixed, moving = labels
    field = DisplacementField(random_field(SHAPE, 2.0), Grid(SHAPE), Grid(SHAPE))
    found = iterreg.evaluate(
        field,
        fixed,
        moving,
        fixed_landmarks=(fixed == 1).astype(int),
        moving_landmarks=(moving == 1).astype(int),
        fixed_image=fixed,
        inverse=field.invert().field,
    )
    assert list(found.scores) == ["Non-diffeomorphic Volumes", "DSC", "HD95", "TRE_lm"]
    warped = field.warp_labels(Volume(moving, Grid(SHAPE))).array
    assert found.scores["DSC"].detailed == list(dice(fixed, warped, [0, 1, 2], moving=moving).values())
    assert found.scores["HD95"].detailed == list(hd95(fixed, warped, [0, 1, 2], moving=moving).values())
    assert found.labels[1].fixed_mm3 == (fixed == 1).sum()
    assert found.extras["jacobian_min"] <= 1 <= found.extras["jacobian_max"]
    assert found.extras["inverse_consistency_mean_mm"] < 0.5
    assert found.problems == ()
    assert PairScores.from_json(found.to_json()) == found


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 1.5, 3.0)])
def test_distances_in_millimetres(
    random_field: Callable[..., np.ndarray], labels: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]
) -> None:
    """The official numbers stay in voxels and say so; beside them stand those of the header's voxel size."""
    fixed, moving = labels
    grid = Grid(SHAPE, np.diag([*spacing, 1.0]))
    field = DisplacementField(random_field(SHAPE, 1.0), grid, grid)
    blobs = {"fixed_landmarks": (fixed == 1).astype(int), "moving_landmarks": (moving == 1).astype(int)}
    found = iterreg.evaluate(field, fixed, moving, labels=[1, 2], **blobs)
    warped = field.warp_labels(Volume(moving, grid)).array
    in_voxels, in_mm = (hd95(fixed, warped, [1, 2], moving=moving, spacing=s) for s in ((1, 1, 1), spacing))
    assert found.scores["HD95"].official == pytest.approx(np.mean(list(in_voxels.values())))
    assert found.extras["hd95_mm"] == pytest.approx(np.mean(list(in_mm.values())))
    apart = [np.argwhere(volume == 1).mean(axis=0) for volume in (fixed, warped)]
    assert found.scores["TRE_lm"].official == pytest.approx(np.linalg.norm(apart[0] - apart[1]))
    assert found.extras["tre_mm"] == pytest.approx(np.linalg.norm((apart[0] - apart[1]) * spacing))
    assert (found.scores["HD95"].unit, found.scores["TRE_lm"].unit) == ("voxels", "voxels")


def test_labels_and_measures_may_be_chosen(labels: tuple[np.ndarray, np.ndarray]) -> None:
    fixed, moving = labels
    zero = np.zeros((*SHAPE, 3), np.float32)
    found = iterreg.evaluate(zero, fixed, moving, labels=[2, 1, 9], extras=False)
    assert len(found.scores["DSC"].detailed) == 3
    assert found.scores["DSC"].missing == (9,)
    assert found.extras == {}
    found = iterreg.evaluate(zero, fixed, moving, labels=[1, 2, 9], protocol="lumirage")
    assert found.scores["DSC"].detailed[2] == 1, "absent on both sides"


def test_volumes_are_in_cubic_millimetres(labels: tuple[np.ndarray, np.ndarray]) -> None:
    grid = Grid(SHAPE, np.diag([2.0, 1.5, 1.0, 1.0]))
    fixed, moving = (Volume(array, grid) for array in labels)
    found = iterreg.evaluate(DisplacementField.identity(grid), fixed, moving)
    assert found.labels[1].moving_mm3 == 3 * (moving.array == 1).sum()


def test_material_that_does_not_fit_is_a_problem(labels: tuple[np.ndarray, np.ndarray]) -> None:
    fixed, moving = labels
    found = iterreg.evaluate(np.zeros((9, 9, 9, 3), np.float32), fixed, moving)
    assert list(found.scores) == ["Non-diffeomorphic Volumes"]
    assert len(found.problems) == 2
    with pytest.raises(InputError, match="voxel displacements"):
        iterreg.evaluate(np.zeros((9, 9, 9)))
    with pytest.raises(InputError, match="no protocol"):
        iterreg.evaluate(np.zeros((9, 9, 9, 3)), protocol="lumir26")


def test_points_need_their_neighbourhood_only(rng: np.random.Generator) -> None:
    """The whole volume's cubic splines, a box of it and points outside give the same errors."""
    vectors = rng.normal(0, 3, (80, 30, 9, 3)).astype(np.float32)
    fixed = rng.uniform(30, 34, (50, 3)) % [80, 30, 9]
    moving = rng.uniform(0, 9, (50, 3))
    for points in (fixed, np.vstack([fixed, [[-0.2, 3, 3]]])):
        target = np.vstack([moving, [[1, 2, 3]]])[: len(points)]
        u = [map_coordinates(vectors[..., c].astype(float), points.T) for c in range(3)]
        expected = np.linalg.norm((points + np.stack(u, axis=-1) - target) * [1.5, 0.7, 2], axis=1)
        found = point_errors(vectors, points, target, spacing=(1.5, 0.7, 2))
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_bad_points(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    with pytest.raises(InputError, match="no such file"):
        read_points(path)
    for text in ("x,y,z\n1,2,3\n", "1,2\n3,4\n", "", "1,2,nan\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"points\.csv"):
            read_points(path)
    with pytest.raises(InputError, match="same length"):
        point_errors(np.zeros((5, 5, 5, 3)), np.zeros((2, 3)), np.zeros((3, 3)), spacing=(1, 1, 1))
