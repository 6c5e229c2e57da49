"""Whole registrations of small eggs with known answers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.lddmm import Iteration, Result, Settings, register
from iterreg.lddmm.settings import Kernel, Measure, Optimizer, Pyramid
from iterreg.volume import Grid, Volume

Array = np.ndarray


@pytest.fixture(scope="module")
def pair(pair_of: Callable[..., Any]) -> Any:
    """Nine voxels apart, with a bias field, noise and a bent contrast curve."""
    return pair_of(2, 9.0)


@pytest.fixture(scope="module")
def settings(settings_of: Callable[..., Settings]) -> Settings:
    return settings_of()


@pytest.fixture(scope="module")
def quick(settings_of: Callable[..., Settings]) -> Settings:
    """Enough to see a difference, not to end."""
    return settings_of(pyramid=Pyramid((3.0, 2.0), (4.0, 4.0), (8, 5)), similarity=Measure(radius_mm=(4.0,)))


@pytest.fixture(scope="module")
def found(pair: Any, settings: Settings) -> Result:
    return register(pair.fixed, pair.moving, settings)


def moved_by(image: Volume, affine: Array) -> Volume:
    """The same array elsewhere in the world."""
    return Volume(image.array, Grid(image.grid.shape, affine @ image.grid.affine))


def resampled(image: Volume, grid: Grid) -> Volume:
    """Averaged over about a voxel of the new grid, then sampled."""
    sigma = [0.4 * max(n / o - 1, 0) for n, o in zip(grid.spacing, image.grid.spacing, strict=True)]
    smooth = Volume(gaussian_filter(image.array, sigma), image.grid)
    return DisplacementField.identity(grid, image.grid).warp_image(smooth)


def oblique(degrees: float) -> Array:
    turn = np.deg2rad(degrees)
    out = np.eye(4)
    out[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    tilt = np.eye(4)
    tilt[1:3, 1:3] = out[:2, :2]
    return out @ tilt


def apart(one: DisplacementField, two: DisplacementField, inside: Array) -> Array:
    """Distance of two fields of one pair, in voxels."""
    return np.asarray(np.linalg.norm(one.vectors - two.vectors, axis=-1)[inside])


# -- what it finds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "symmetric"),
    [
        (1, True),
        (2, False),
        *(pytest.param(seed, True, marks=pytest.mark.slow) for seed in range(2, 11)),
        *(pytest.param(seed, False, marks=pytest.mark.slow) for seed in (1, *range(3, 11))),
    ],
)
def test_known_diffeomorphisms_are_recovered(
    pair_of: Callable[..., Any], settings: Settings, seed: int, symmetric: bool
) -> None:
    problem = pair_of(seed, 8.2)
    before = problem.error(DisplacementField.identity(problem.fixed.grid))
    assert before.max() > 8
    assert before.mean() > 3
    result = register(problem.fixed, problem.moving, replace(settings, symmetric=symmetric))
    assert problem.error(result.field).mean() < 0.5
    assert result.field.folding().lowest_determinant > 0


def test_field_and_inverse_undo_each_other(found: Result, pair: Any) -> None:
    """Inside the brain, both ways round."""
    inverse = found.inverse()
    for one, two in ((found.field, inverse), (inverse, found.field)):
        loop = np.linalg.norm(one.compose(two).vectors, axis=-1)[pair.inside]
        assert loop.mean() < 0.02
        assert np.percentile(loop, 99.9) < 0.2


def test_the_result_tells_how_it_came(found: Result, settings: Settings) -> None:
    levels = settings.pyramid.iterations
    assert len(found.levels) == len(levels)
    assert len(found.history) == sum(level["iterations"] for level in found.levels)
    for number, (level, most) in enumerate(zip(found.levels, levels, strict=True)):
        own = [entry for entry in found.history if entry.level == number]
        assert [entry.iteration for entry in own] == list(range(level["iterations"]))
        assert level["iterations"] <= most
        assert level["energy"] == [own[0].energy, min(entry.energy for entry in own)]
        assert level["energy"][1] < level["energy"][0]
        assert level["stopped"] in {"converged", "small steps", "iterations"}
    last = found.history[-1]
    assert last.regularity > 0
    assert last.energy >= last.dissimilarity + last.regularity > 0
    assert found.distance == found.transform.distance > 0
    np.testing.assert_array_equal(found.transform.field().vectors, found.field.vectors)
    weight = settings.energy_weight
    best = min((e for e in found.history if e.level == len(levels) - 1), key=lambda e: e.energy)
    if not found.unfolding["rounds"]:
        assert best.regularity == pytest.approx(0.5 * weight * found.distance**2, rel=1e-3)


def test_the_energy_matters(pair: Any, quick: Settings) -> None:
    short, long = (
        register(pair.fixed, pair.moving, replace(quick, energy_weight=weight)).distance
        for weight in (1000.0, 0.01)
    )
    assert short < 0.7 * long


def test_swapping_fixed_and_moving_inverts_the_field(pair: Any, settings: Settings, found: Result) -> None:
    swapped = register(pair.moving, pair.fixed, settings)
    assert swapped.distance == pytest.approx(found.distance, rel=0.05)
    loop = np.linalg.norm(found.field.compose(swapped.field).vectors, axis=-1)[pair.inside]
    assert loop.mean() < 0.1
    assert np.percentile(loop, 99) < 0.5


@pytest.mark.parametrize(
    ("name", "symmetric", "largest"), [("lncc", True, 0.02), ("lncc", False, 0.25), ("ssd", False, 0.02)]
)
def test_identical_images_give_the_identity(
    pair: Any, settings_of: Callable[..., Settings], name: Any, symmetric: bool, largest: float
) -> None:
    """LNCC's epsilon favours strong contrast: of two images at one place the moving one gains a little."""
    settings = settings_of(symmetric=symmetric, similarity=Measure(name, radius_mm=(4.0,)))
    settings = replace(settings, pyramid=replace(settings.pyramid, iterations=(25, 30, 60)))
    result = register(pair.moving, pair.moving, settings)
    assert np.abs(result.field.vectors).max() < largest
    assert np.abs(result.field.vectors).mean() < 0.1 * largest + 0.01
    assert result.converged


def test_ssd_recovers_images_of_one_contrast(
    pair_of: Callable[..., Any], settings_of: Callable[..., Settings]
) -> None:
    problem = pair_of(1, 8.0, clean=True)
    settings = settings_of(similarity=Measure("ssd"), energy_weight=1.0)
    result = register(problem.fixed, problem.moving, settings)
    assert problem.error(result.field).mean() < 0.5


def test_a_sum_of_gaussians_serves_as_well(pair: Any, settings_of: Callable[..., Settings]) -> None:
    kernel = Kernel("gaussians", sigmas_mm=(10.0, 5.0, 3.0), weights=(0.2, 0.3, 0.5))
    result = register(pair.fixed, pair.moving, settings_of(kernel=kernel))
    assert pair.error(result.field).mean() < 0.6


def test_no_folding_on_a_hard_pair(pair_of: Callable[..., Any], settings_of: Callable[..., Settings]) -> None:
    """Two eggs that have nothing in common, and next to no energy to hold the momentum back."""
    one, two = pair_of(1, 8.0), pair_of(7, 8.0)
    settings = settings_of(energy_weight=0.001, kernel=Kernel(length_mm=1.5))
    result = register(one.fixed, two.moving, settings)
    assert np.linalg.norm(result.field.vectors, axis=-1).max() > 4
    assert result.field.vectors.dtype == np.float32
    folding = result.field.folding()
    assert folding.lowest_determinant > 0
    assert folding.folded_voxels == 0
    assert result.field.jacobian_determinant().min() > 0
    assert result.unfolding["smallest_determinant"] == pytest.approx(folding.lowest_determinant, rel=1e-3)


def test_what_is_mended_on_the_way_is_not_left_for_the_end(
    pair_of: Callable[..., Any], settings_of: Callable[..., Settings]
) -> None:
    one, two = pair_of(1, 8.0), pair_of(7, 8.0)
    late, early = (
        register(
            one.fixed,
            two.moving,
            settings_of(
                energy_weight=0.05,
                kernel=Kernel(length_mm=1.5),
                optimizer=Optimizer(calming=calming, tolerance=0.0),
            ),
        )
        for calming in (0, 12)
    )
    assert 0 < early.unfolding["rounds"] < late.unfolding["rounds"]
    assert early.unfolding["norm_kept"] > 1.3 * late.unfolding["norm_kept"]
    assert len(early.history) == len(late.history)
    # What a level reports is the energy of what it hands on, not the lowest: what folds is cheap.
    looked = [entry.energy for entry in early.history if entry.level == 2][-10:]
    assert early.levels[-1]["energy"][1] in looked


# -- what must not matter ------------------------------------------------------------------------------


# With few iterations: an iterate refused for a rounding error would send a long run along another path.


@pytest.fixture(scope="module")
def brief(pair: Any, quick: Settings) -> Result:
    return register(pair.fixed, pair.moving, quick)


@pytest.mark.parametrize(("factor", "constant"), [(100.0, 0.0), (1.0, 1000.0), (1e-3, 0.0), (4000.0, -20.0)])
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_scale_and_offset_of_intensities_do_not_matter(
    pair: Any, quick: Settings, brief: Result, side: str, factor: float, constant: float
) -> None:
    """4000 takes them to about 65535."""
    images = {"fixed": pair.fixed, "moving": pair.moving}
    array = factor * images[side].array + constant
    images[side] = Volume(array.astype(np.float32), images[side].grid)
    again = register(images["fixed"], images["moving"], quick)
    assert np.abs(brief.field.vectors).max() > 2
    assert np.abs(again.field.vectors - brief.field.vectors).max() < 0.01


def test_directions_of_both_images_do_not_matter(pair: Any, quick: Settings, brief: Result) -> None:
    """Turned together, with the axes' signs changed as well, voxels still meet the same voxels."""
    turn = oblique(25.0) @ np.diag([-1.0, 1.0, -1.0, 1.0])
    turn[:3, 3] = (40, -30, 12)
    again = register(moved_by(pair.fixed, turn), moved_by(pair.moving, turn), quick)
    assert np.abs(again.field.vectors - brief.field.vectors).max() < 0.01


def test_stored_orientation_of_the_moving_image_does_not_matter(
    pair: Any, quick: Settings, brief: Result
) -> None:
    """Axes exchanged, one mirrored: the same world, hence the same map."""
    array = np.flip(pair.moving.array.transpose(2, 0, 1), 1)
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 2] = affine[3, 3] = 1
    affine[0, 1], affine[0, 3] = -1, pair.moving.grid.shape[0] - 1
    stored = Volume(np.ascontiguousarray(array), Grid(array.shape, affine))
    again = register(pair.fixed, stored, quick)
    assert again.field.moving == stored.grid
    assert np.abs(again.field.to_world() - brief.field.to_world()).max() < 0.02


def test_a_moving_image_on_a_finer_oblique_grid_gives_about_the_same_map(
    pair: Any, settings: Settings
) -> None:
    linear = oblique(20.0) @ np.diag([0.8, 0.9, 1.1, 1.0])
    shape = (70, 76, 50)
    linear[:3, 3] = (np.array(pair.moving.grid.shape) - 1) / 2 - linear[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, linear)
    again = register(pair.fixed, resampled(pair.moving, grid), settings)
    truth = pair.truth.to_world()
    assert np.linalg.norm(again.field.to_world() - truth, axis=-1)[pair.inside].mean() < 0.5
    back = np.linalg.norm(again.field.compose(again.inverse()).vectors, axis=-1)[pair.inside]
    assert back.mean() < 0.05


@pytest.mark.parametrize("side", ["fixed", "moving", pytest.param("both", marks=pytest.mark.slow)])
def test_thick_slices(pair: Any, settings_of: Callable[..., Settings], side: str) -> None:
    """1 x 1 x 3 mm: worse than isotropic voxels, but the map in millimetres all the same."""
    settings = settings_of()
    shape = pair.fixed.grid.shape
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[2, 3] = 0.5
    thick = Grid((shape[0], shape[1], shape[2] // 3), affine)
    fixed = resampled(pair.fixed, thick) if side != "moving" else pair.fixed
    moving = resampled(pair.moving, thick) if side != "fixed" else pair.moving
    result = register(fixed, moving, settings)
    to_own = DisplacementField.identity(result.field.fixed, pair.fixed.grid)
    truth = to_own.compose(pair.truth).to_world()
    inside = to_own.warp_labels(Volume(pair.inside.astype(np.int32), pair.fixed.grid)).array > 0
    error = np.linalg.norm(result.field.to_world() - truth, axis=-1)[inside]
    assert np.linalg.norm(truth, axis=-1)[inside].mean() > 4
    assert error.mean() < 1.2
    assert result.field.folding().lowest_determinant > 0


def test_constant_images_stay_where_they_are(settings: Settings) -> None:
    grid = Grid((24, 27, 22))
    for values in ((0.0, 0.0), (5.0, 5.0), (65535.0, 0.0)):
        fixed, moving = (Volume(np.full(grid.shape, v, np.float32), grid) for v in values)
        result = register(fixed, moving, settings)
        assert not result.field.vectors.any()
        assert not result.inverse().vectors.any()
        assert result.converged


def test_a_constant_image_beside_a_textured_one_is_finite(pair: Any, quick: Settings) -> None:
    flat = Volume((pair.fixed.array > 0).astype(np.float32), pair.fixed.grid)
    result = register(flat, pair.moving, quick)
    assert np.isfinite(result.field.vectors).all()
    assert np.isfinite([entry.energy for entry in result.history]).all()


CHILD = """
import hashlib, sys
import numpy as np
from iterreg.lddmm import register
from iterreg.lddmm.settings import Pyramid, Settings
from iterreg.volume import Grid, Volume

with np.load(sys.argv[1]) as images:
    fixed, moving = (Volume(images[side], Grid(images[side].shape)) for side in ("fixed", "moving"))
settings = Settings(scale_to_brain=False, pyramid=Pyramid((3.0, 1.0, 1.0), (4.0, 4.0, 2.0), (4, 3, 2)))
result = register(fixed, moving, settings, threads=int(sys.argv[2]))
import numba
print(numba.get_num_threads(), hashlib.sha256(result.field.vectors.tobytes()).hexdigest(), result.distance)
"""


def test_one_and_two_threads_give_the_same_bits(pair: Any, tmp_path: Path) -> None:
    images = tmp_path / "images.npz"
    np.savez(images, fixed=pair.fixed.array, moving=pair.moving.array)
    said = []
    for threads in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(images), threads],
            env={**os.environ, "NUMBA_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(child.stdout.split()[-3:])
    assert [words[0] for words in said] == ["1", "2"]
    assert said[0][1:] == said[1][1:]
    assert len(said[0][1]) == len(hashlib.sha256().hexdigest())


# -- what must matter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_mask_keeps_a_lesion_out(pair: Any, settings: Settings, side: str) -> None:
    image = pair.fixed if side == "fixed" else pair.moving
    place = np.moveaxis(np.indices(image.grid.shape), 0, -1) - np.array(image.grid.shape) * (0.5, 0.5, 0.6)
    lesion = np.linalg.norm(place, axis=-1) < 8
    rng = np.random.default_rng(3)
    blobs = gaussian_filter(rng.standard_normal(image.grid.shape), 2.0)
    sick = Volume(np.where(lesion, 10 + 4 * blobs / blobs.std(), image.array).astype(np.float32), image.grid)
    fixed, moving = (sick, pair.moving) if side == "fixed" else (pair.fixed, sick)
    healthy = Volume((~lesion).astype(np.uint8), image.grid)
    errors = []
    for mask in (None, healthy):
        result = register(fixed, moving, settings, **{f"{side}_mask": mask})
        errors.append(pair.error(result.field).mean())
    assert errors[1] < 0.9 * errors[0]


def test_channels_matter_by_their_weights(pair: Any, quick: Settings) -> None:
    """An uninformative first channel: alone it finds little, with a second one it does not hurt."""
    rng = np.random.default_rng(8)
    flat = [
        Volume(
            ((image.array > 0) * (10 + rng.standard_normal(image.grid.shape))).astype(np.float32), image.grid
        )
        for image in (pair.fixed, pair.moving)
    ]
    alone = register(flat[0], flat[1], quick)
    one, two = [flat[0], pair.fixed], [flat[1], pair.moving]
    both = register(one, two, quick)
    assert pair.error(both.field).mean() < pair.error(alone.field).mean() - 1
    only = register(one, two, quick, channel_weights=(1.0, 0.0))
    np.testing.assert_allclose(only.field.vectors, alone.field.vectors, atol=1e-4)
    other = register(one, two, quick, channel_weights=(1.0, 9.0))
    assert apart(other.field, both.field, pair.inside).max() > 0.05


def test_callback_sees_every_evaluation(pair: Any, quick: Settings) -> None:
    seen: list[Iteration] = []
    result = register(pair.fixed, pair.moving, quick, callback=seen.append)
    assert tuple(seen) == result.history
    assert {entry.level for entry in seen} == {0, 1}
    assert seen[0].step_mm == 0
    assert seen[0].regularity == 0
    assert seen[-1].energy < seen[0].energy


def test_a_callback_may_stop_it(pair: Any, quick: Settings) -> None:
    def stop(iteration: Iteration) -> None:
        if iteration.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register(pair.fixed, pair.moving, quick, callback=stop)


def test_a_run_that_used_all_its_iterations_did_not_converge(pair: Any, quick: Settings) -> None:
    hurried = replace(quick, optimizer=Optimizer(tolerance=0.0, step_mm=0.2))
    assert not register(pair.fixed, pair.moving, hurried).converged
    easily = replace(quick, optimizer=Optimizer(tolerance=0.5, window=2, step_mm=0.2))
    content = register(pair.fixed, pair.moving, easily)
    assert content.converged
    assert len(content.history) < sum(quick.pyramid.iterations)
    assert content.levels[-1]["stopped"] == "converged"


# -- what it refuses -----------------------------------------------------------------------------------


def test_refusals(pair: Any, quick: Settings) -> None:
    fixed, moving = pair.fixed, pair.moving
    small = Volume(np.ones((9, 9, 9), np.float32), Grid((9, 9, 9)))
    with pytest.raises(InputError, match="2 fixed and 1 moving channels"):
        register([fixed, fixed], moving, quick)
    with pytest.raises(InputError, match="different grids"):
        register([fixed, small], [moving, moving], quick)
    with pytest.raises(InputError, match="no image"):
        register([], [], quick)
    with pytest.raises(InputError, match="moving mask"):
        register(fixed, moving, quick, moving_mask=small)
    with pytest.raises(InputError, match="channel weights"):
        register(fixed, moving, quick, channel_weights=(1.0, 2.0))
    broken = fixed.array.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        register(Volume(broken, fixed.grid), moving, quick)
    away = np.eye(4)
    away[0, 3] = 1000
    with pytest.raises(InputError, match="do not meet"):
        register(fixed, moved_by(moving, away), quick)


def test_settings_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="3, 2 and 3"):
        Pyramid((4.0, 2.0, 1.0), (4.0, 4.0), (10, 10, 10))
    with pytest.raises(InputError, match="radius_mm"):
        Settings(similarity=Measure(radius_mm=(4.0, 2.0)))
    with pytest.raises(InputError, match="even"):
        Settings(time_steps=3)
    assert Settings(time_steps=3, symmetric=False).time_steps == 3
    with pytest.raises(InputError, match="one value per Gaussian"):
        Kernel(sigmas_mm=(4.0, 2.0), weights=(1.0,))
