"""Soft tissue maps, and what comparing them does to a registration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.errors import InputError
from iterreg.lddmm import Settings, channels, register
from iterreg.lddmm.settings import Measure
from iterreg.lddmm.tissue import agreement, tissue_maps
from iterreg.volume import Grid, Volume

Array = np.ndarray
SHAPE = (28, 32, 26)


def three_tissues(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Classes 0, 1, 2 in a ball, intensities around 30, 70 and 110, and the ball."""
    smooth = gaussian_filter(rng.standard_normal(SHAPE), 2.5)
    classes = np.searchsorted(np.quantile(smooth, [0.25, 0.65]), smooth)
    middle = (np.array(SHAPE) - 1) / 2
    inside = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - middle, axis=-1) < 11
    image = (30.0 + 40 * classes + rng.normal(0, 4, SHAPE)) * inside
    return classes, image.astype(np.float32), inside


def test_maps_find_the_classes(rng: np.random.Generator) -> None:
    classes, image, inside = three_tissues(rng)
    tissues = tissue_maps(image, inside)
    assert tissues.clarity > 0.9
    for number, found in ((1, tissues.map_of(1)), (2, tissues.map_of(2))):
        assert found.dtype == np.float32
        assert (found[~inside] == 0).all()
        assert found[inside].std() == pytest.approx(1, rel=1e-4)
        full = float(found.max())
        assert (found[inside & (classes == number)] > 0.8 * full).mean() > 0.98
        assert (found[inside & (classes != number)] < 0.2 * full).mean() > 0.98


def a_rare_class(rng: np.random.Generator, rare: str) -> tuple[Array, Array, Array]:
    """As `three_tissues`, with two close classes and few voxels far from both."""
    _, _, inside = three_tissues(rng)
    smooth = gaussian_filter(rng.standard_normal(SHAPE), 2.5)
    classes = np.searchsorted(np.quantile(smooth[inside], [0.15, 0.55]), smooth)
    image = np.array([20.0, 120, 140])[classes]
    if rare == "bright":
        classes, image = 2 - classes, 200 - image
    return classes, ((image + rng.normal(0, 4, SHAPE)) * inside).astype(np.float32), inside


@pytest.mark.parametrize("rare", ["dark", "bright"])
def test_widths_of_their_own_find_a_rare_class(rng: np.random.Generator, rare: str) -> None:
    """Fluid in T2-weighted brains (bright) and in FLAIR (dark): classes of one width run into each other."""
    classes, image, inside = a_rare_class(rng, rare)
    assert tissue_maps(image, inside, own_widths=False).apart < 1
    tissues = tissue_maps(image, inside)
    assert tissues.own_widths
    assert tissues.distinct
    assert tissues.clarity > 0.9
    assert tissues.apart > 3
    for number, found in ((1, tissues.map_of(1)), (2, tissues.map_of(2))):
        belongs = found[inside] > found.max() / 2
        assert (belongs == (classes[inside] == number)).mean() > 0.97


def test_the_brightest_voxels_are_bright_beside_a_wide_dark_class(rng: np.random.Generator) -> None:
    """Far out on either side a wide Gaussian is above a narrow one: there are a few bright vessels."""
    _, _, inside = three_tissues(rng)
    classes = rng.integers(0, 3, SHAPE)
    image = np.array([60.0, 110, 130])[classes] + np.array([25.0, 5, 3])[classes] * rng.standard_normal(SHAPE)
    image[rng.random(SHAPE) < 0.01] = 155
    image = (np.clip(image, 1, 155) * inside).astype(np.float32)
    bright = tissue_maps(image, inside, own_widths=True).map_of(2)[inside]
    assert (bright[image[inside] > 130] > 0.8 * bright.max()).all()
    assert (bright[image[inside] < 60] < 0.1 * bright.max()).all()


@pytest.mark.parametrize("own_widths", [False, True])
@pytest.mark.parametrize(("factor", "constant"), [(100.0, 0.0), (1e-3, 0.0), (1.0, 1000.0), (600.0, -20.0)])
def test_scale_and_offset_do_not_matter(
    rng: np.random.Generator, factor: float, constant: float, own_widths: bool
) -> None:
    _, image, inside = three_tissues(rng)
    other = np.where(inside, factor * image + constant, 0).astype(np.float32)
    one, two = (tissue_maps(values, inside, own_widths=own_widths) for values in (image, other))
    np.testing.assert_allclose(one.map_of(1), two.map_of(1), atol=1e-2)
    np.testing.assert_allclose(one.map_of(2), two.map_of(2), atol=1e-2)


def test_what_stripping_left_draws_no_class(rng: np.random.Generator) -> None:
    """A few voxels that are very bright, and as many that are very dark."""
    _, image, inside = three_tissues(rng)
    expected = tissue_maps(image, inside)
    places = np.argwhere(inside)[:: inside.sum() // 10]
    for number, place in enumerate(places):
        image[tuple(place)] = 5000.0 if number % 2 else 1e-3
    found = tissue_maps(image, inside)
    assert np.abs(found.map_of(1) - expected.map_of(1))[inside].mean() < 0.02
    assert np.abs(found.map_of(2) - expected.map_of(2))[inside].mean() < 0.02


def test_a_bias_field_makes_no_tissue(rng: np.random.Generator) -> None:
    """A third darker on one side than on the other."""
    _, image, inside = three_tissues(rng)
    expected = tissue_maps(image, inside)
    biased = image * np.linspace(0.8, 1.2, SHAPE[1], dtype=np.float32)[:, None]
    found = tissue_maps(biased, inside)
    assert np.abs(found.map_of(1) - expected.map_of(1))[inside].mean() < 0.1
    assert np.abs(found.map_of(2) - expected.map_of(2))[inside].mean() < 0.1


def test_noise_makes_tissues_less_clear(rng: np.random.Generator) -> None:
    classes, _, inside = three_tissues(rng)
    noise = rng.standard_normal(SHAPE)
    clarity = [tissue_maps(classes + s * noise, inside).clarity for s in (0.05, 0.15, 0.3, 0.6)]
    assert sorted(clarity, reverse=True) == clarity
    assert 1 / 3 < clarity[-1] < clarity[0] <= 1


@pytest.mark.parametrize("own_widths", [False, True])
@pytest.mark.parametrize("values", [np.ones(SHAPE), np.zeros(SHAPE)])
def test_one_intensity_makes_empty_maps(values: Array, own_widths: bool) -> None:
    found = tissue_maps(values.astype(np.float32), np.ones(SHAPE, bool), own_widths=own_widths)
    assert not found.map_of(1).any()
    assert not found.map_of(2).any()
    assert found.clarity == 0


@pytest.mark.parametrize("own_widths", [False, True])
def test_two_intensities_make_finite_maps(rng: np.random.Generator, own_widths: bool) -> None:
    values = (rng.random(SHAPE) > 0.5).astype(np.float32)
    found = tissue_maps(values, np.ones(SHAPE, bool), own_widths=own_widths)
    assert np.isfinite(found.map_of(1)).all()
    assert np.isfinite(found.map_of(2)).all()


def test_agreement_is_the_correlation_where_the_images_lie(rng: np.random.Generator) -> None:
    one = gaussian_filter(rng.standard_normal(SHAPE), 2).astype(np.float32)
    grid = Grid(SHAPE)
    everywhere = np.ones(SHAPE, bool)
    assert agreement(one, one, (grid, grid), everywhere) == pytest.approx(1)
    assert agreement(one, -one, (grid, grid), everywhere) == pytest.approx(-1)
    assert agreement(one, 0 * one, (grid, grid), everywhere) == 0
    # The same anatomy, stored back to front on a grid of its own.
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    flipped = np.ascontiguousarray(one[::-1])
    assert agreement(one, flipped, (grid, Grid(SHAPE, flip)), everywhere) == pytest.approx(1)
    assert agreement(one, flipped, (grid, grid), everywhere) < 0.5


# -- registrations -------------------------------------------------------------------------------------


@pytest.fixture
def beside(settings_of: Callable[..., Settings]) -> Settings:
    settings = settings_of()
    measure = replace(settings.similarity, middle_weight=(1.0,), bright_weight=(1.0,))
    return replace(settings, similarity=measure)


@pytest.fixture(scope="module")
def pair(pair_of: Callable[..., Any]) -> Any:
    return pair_of(2, 9.0)


def test_it_recovers_a_known_deformation_either_way(pair: Any, beside: Settings) -> None:
    """With a bias field, noise and a bent contrast curve; the geodesic back is as long."""
    there = register(pair.fixed, pair.moving, beside)
    assert pair.error(there.field).mean() < 0.5
    assert there.field.folding().lowest_determinant > 0
    assert there.tissues[0].compared == ("middle", "bright")
    back = register(pair.moving, pair.fixed, beside)
    assert back.distance == pytest.approx(there.distance, rel=0.05)


@pytest.fixture
def brief(beside: Settings) -> Settings:
    """Enough to see a difference, not to end."""
    return replace(beside, pyramid=replace(beside.pyramid, iterations=(8, 5, 3)))


@pytest.mark.parametrize(("factor", "constant"), [(100.0, 0.0), (1.0, 1000.0)])
def test_scale_and_offset_hardly_move_the_field(
    pair: Any, brief: Settings, factor: float, constant: float
) -> None:
    image = pair.moving
    inside = image.array != 0
    other = replace(image, array=np.where(inside, factor * image.array + constant, 0).astype(np.float32))
    one, two = (register(pair.fixed, moving, brief).field.vectors for moving in (image, other))
    assert np.linalg.norm(one - two, axis=-1)[pair.inside].max() < 0.01


CONTRASTS = {
    "inverted": ([110.0, 70, 30], ("dark with bright", "middle", "bright with dark")),
    "FLAIR": ([30.0, 110, 70], ("middle with bright", "bright with middle")),
}


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_tissues_meet_whatever_their_contrast(
    rng: np.random.Generator, brief: Settings, contrast: str
) -> None:
    """And either way the same is compared, with the same weights."""
    classes, _, inside = a_rare_class(rng, "dark")
    intensities, expected = CONTRASTS[contrast]
    pair = [
        Volume(
            (np.where(inside, np.array(of)[classes] + rng.normal(0, 4, SHAPE), 0)).astype(np.float32),
            Grid(SHAPE),
        )
        for of in ([30.0, 70, 110], intensities)
    ]
    uneven = replace(brief.similarity, middle_weight=(2.0, 1.0, 0.5), bright_weight=(1.0, 0.0, 0.0))
    settings = replace(brief, similarity=uneven)
    there, back = register(*pair, settings), register(*pair[::-1], settings)
    (found,), (swapped,) = there.tissues, back.tissues
    assert found.compared == expected
    assert min(found.agreement.values()) > 0.9
    assert sorted(swapped.agreement.values()) == pytest.approx(sorted(found.agreement.values()), abs=1e-3)
    assert [level["dissimilarity"][0] for level in back.levels[:1]] == pytest.approx(
        [level["dissimilarity"][0] for level in there.levels[:1]], rel=1e-3
    )


def test_maps_that_hardly_agree_are_left_out(
    pair: Any, brief: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = min(register(pair.fixed, pair.moving, brief).tissues[0].agreement.values())
    monkeypatch.setattr(channels, "_LEAST_AGREEMENT", least + 1e-6)
    (found,) = register(pair.fixed, pair.moving, brief).tissues
    assert len(found.compared) == 1
    assert found.agreement[found.compared[0]] > least


def test_without_any_map_that_agrees_it_is_the_measure_alone(
    rng: np.random.Generator, pair: Any, brief: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The best of chance correlations, in a brain of few voxels.
    monkeypatch.setattr(channels, "_LEAST_AGREEMENT", 0.3)
    inside = pair.moving.array != 0
    noise = np.where(inside, 100 + rng.standard_normal(inside.shape), 0).astype(np.float32)
    other = replace(pair.moving, array=noise)
    alone = replace(brief, similarity=replace(brief.similarity, middle_weight=(0.0,), bright_weight=(0.0,)))
    one, two = register(pair.fixed, other, brief), register(pair.fixed, other, alone)
    assert max(one.tissues[0].agreement.values()) < 0.3
    assert one.tissues[0].compared == ()
    assert two.tissues == ()
    np.testing.assert_array_equal(one.field.vectors, two.field.vectors)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("spread", "both"), [(4, True), (16, False)])
def test_both_images_get_widths_of_their_own_where_one_needs_them(
    rng: np.random.Generator, brief: Settings, swapped: bool, spread: float, both: bool
) -> None:
    """If the other's classes are separate; wide ones (partial volume) stay as they are."""
    classes, odd, _ = a_rare_class(rng, "bright")
    even = np.where(odd != 0, 30 + 40 * classes + rng.normal(0, spread, SHAPE), 0).astype(np.float32)
    pair = [Volume(values, Grid(SHAPE)) for values in (even, odd)]
    assert not tissue_maps(even, odd != 0).own_widths
    (found,) = register(*(pair[::-1] if swapped else pair), brief).tissues
    assert found.own_widths == ((True, both) if swapped else (both, True))
    assert found.compared == ("middle", "bright")


def test_an_image_without_three_classes_is_not_compared(rng: np.random.Generator, brief: Settings) -> None:
    """As in a brain that is not myelinated yet: fluid, and one tissue of many shades."""
    classes, clear, inside = a_rare_class(rng, "dark")
    shades = gaussian_filter(rng.standard_normal(SHAPE), 1.0)
    values = np.where(classes == 0, 20, 120 + 10 * shades / shades.std()) + rng.normal(0, 1, SHAPE)
    unclear = Volume((values * inside).astype(np.float32), Grid(SHAPE))
    for other in (unclear, Volume(clear, Grid(SHAPE))):
        (found,) = register(unclear, other, brief).tissues
        assert found.apart[0] < 1
        assert found.compared == ()
    assert min(register(unclear, unclear, brief).tissues[0].agreement.values()) > 0.9


def test_channels_keep_their_weights(pair: Any, brief: Settings) -> None:
    """Twice the same channel is that channel once, its maps included."""
    one = register(pair.fixed, pair.moving, brief)
    two = register([pair.fixed] * 2, [pair.moving] * 2, brief)
    assert len(two.tissues) == 2
    assert np.abs(one.field.vectors - two.field.vectors).max() < 0.01


def test_constant_images_stay_where_they_are(beside: Settings) -> None:
    image = Volume(np.full(SHAPE, 7, np.float32), Grid(SHAPE))
    found = register(image, image, beside)
    assert (found.field.vectors == 0).all()


def test_each_map_is_compared_on_the_levels_that_weigh_it(pair: Any, brief: Settings) -> None:
    def levels(middle: tuple[float, ...], bright: tuple[float, ...]) -> list[float]:
        measure = replace(brief.similarity, middle_weight=middle, bright_weight=bright)
        still = replace(brief.optimizer, step_mm=1e-6)
        found = register(pair.fixed, pair.moving, replace(brief, similarity=measure, optimizer=still))
        assert found.tissues[0].compared == tuple(
            name for name, weights in (("middle", middle), ("bright", bright)) if any(weights)
        )
        return [level["dissimilarity"][0] for level in found.levels]

    nothing = levels((0.0, 0.0, 1e-9), (0.0,))
    middle = levels((1.0, 0.0, 0.0), (0.0,))
    either = levels((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    assert middle[0] > 1.01 * nothing[0]
    assert middle[1:] == pytest.approx(nothing[1:], rel=1e-3)
    assert either[:2] == pytest.approx(middle[:2], rel=1e-3)
    assert either[2] > 1.01 * middle[2]


@pytest.mark.parametrize("name", ["middle_weight", "bright_weight"])
def test_weights_that_fit_no_level_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"similarity.{name} needs one value, or one for each of the 3"):
        Settings(similarity=Measure(**{name: (1.0, 2.0)}))
