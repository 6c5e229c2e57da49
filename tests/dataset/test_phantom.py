"""The phantom on a made-up anatomy: every map against scipy, every promise against a number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from iterreg.dataset import diffeomorphisms, phantom
from iterreg.dataset.phantom import Anatomy, Subject, Template
from iterreg.errors import InputError
from iterreg.volume import Grid

SHAPE = (96, 128, 88)


def spacing_grid(spacing: int) -> Grid:
    x, y, z = (n // spacing for n in SHAPE)
    return Grid((x, y, z), np.diag([spacing, spacing, spacing, 1.0]))


@pytest.fixture(scope="module")
def template() -> Template:
    """An egg: a shell of grey matter around white matter around two fluid ventricles."""
    place = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij"), axis=-1)
    radius = np.linalg.norm(place / (38, 54, 34), axis=-1)
    middle = np.minimum(*[np.linalg.norm((place - (side, 0, 4)) / (6, 16, 6), axis=-1) for side in (-10, 10)])
    mask = radius < 1
    fluid = (middle < 1).astype(np.float32)
    grey = ((radius > 0.8) & mask).astype(np.float32)
    white = np.clip(mask - fluid - grey, 0, 1).astype(np.float32)
    grey, white = (ndimage.gaussian_filter(t, 1.5) for t in (grey, white))
    t1 = (0.3 * fluid + 0.6 * grey + 0.9 * white).astype(np.float32) * mask
    return Template(t1, grey, white, mask, (-48.0, -90.0, -44.0))


@pytest.fixture(scope="module")
def anatomy(template: Template) -> Anatomy:
    return phantom.make_anatomy(template, 3)


@pytest.fixture(scope="module")
def people(anatomy: Anatomy) -> list[Subject]:
    return [phantom.make_subject(anatomy, spacing_grid(2), 3, n, ("0000", "0001")) for n in range(2)]


def scipy_map(subject: Subject) -> np.ndarray:
    """Anatomy voxels (1 mm) where the voxels of a 2 mm subject lie, by the definition of phi."""
    u = subject.deformation.forward.vectors.astype(np.float64)
    return 2.0 * (np.moveaxis(u, -1, 0) + np.indices(u.shape[:3]))


def test_labels_are_named_once() -> None:
    assert list(phantom.LABELS) == list(range(1, len(phantom.LABELS) + 1))
    assert len(set(phantom.LABELS.values())) == len(phantom.LABELS)


def test_anatomy_labels_the_brain_and_nothing_else(anatomy: Anatomy, template: Template) -> None:
    assert np.array_equal(anatomy.labels > 0, template.mask)
    assert set(np.unique(anatomy.labels)) - {0} <= set(phantom.LABELS)


def test_anatomy_sides(anatomy: Anatomy) -> None:
    """Left labels lie at negative MNI x (array axes run from left to right), up to the midline's waves."""
    x = np.arange(SHAPE[0]) + anatomy.origin[0]
    for label, name in phantom.LABELS.items():
        found = x[np.nonzero(anatomy.labels == label)[0]]
        if len(found) and name.startswith(("left", "right")):
            assert (np.median(found) < 0) == name.startswith("left"), name


def test_ventricles_are_found(anatomy: Anatomy) -> None:
    names = {name: label for label, name in phantom.LABELS.items()}
    for side in ("left", "right"):
        volume = np.count_nonzero(anatomy.labels == names[f"{side} lateral ventricle"])
        assert volume == pytest.approx(4 / 3 * np.pi * 6 * 16 * 6, rel=0.35)


def test_tissues_have_the_order_of_the_contrasts(anatomy: Anatomy) -> None:
    t1, t2 = anatomy.contrasts["0000"], anatomy.contrasts["0001"]

    def mean(image: np.ndarray, *endings: str) -> float:
        chosen = [label for label, name in phantom.LABELS.items() if name.endswith(endings)]
        return float(image[np.isin(anatomy.labels, chosen)].mean())

    fluid, grey, white = ("ventricle",), ("frontal", "parietal", "temporal"), ("white matter",)
    assert mean(t1, *fluid) < mean(t1, *grey) < mean(t1, *white)
    assert mean(t2, *fluid) > mean(t2, *grey) > mean(t2, *white)


def test_exponential_of_a_linear_velocity_is_the_matrix_exponential() -> None:
    grid = Grid((24, 24, 24))
    rate = np.array([[0.0, -0.2, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.1]])
    place = np.moveaxis(np.indices(grid.shape), 0, -1) - 11.5
    flow = diffeomorphisms.exponential((place @ rate.T).astype(np.float32), grid, squarings=8)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, np.exp(0.1)]])
    inner = (slice(6, -6),) * 3
    expected = place @ turn.T - place
    assert np.abs(flow.vectors - expected)[inner].max() < 0.01


@pytest.mark.parametrize("spacing", [4, 2])
def test_deformation_is_a_diffeomorphism_of_the_box(spacing: int) -> None:
    grid = spacing_grid(spacing)
    deformation = diffeomorphisms.random_deformation(grid, np.random.default_rng(5))
    u = deformation.forward.vectors
    assert deformation.lowest_determinant > diffeomorphisms.LOWEST_DETERMINANT
    assert deformation.forward.folding().ndv_percent == 0
    assert deformation.inverse.folding().ndv_percent == 0
    assert np.abs(u[0]).max() < 1e-5  # velocities vanish at the border
    assert np.abs(u[-1]).max() < 0.5
    assert np.linalg.norm(u, axis=-1).max() * spacing > 4  # and are several mm inside


def test_inverse_against_scipy(people: list[Subject]) -> None:
    """``phi(phi^-1(q)) = q``, interpolated by scipy."""
    deformation = people[0].deformation
    u, back = (
        np.moveaxis(f.vectors.astype(np.float64), -1, 0) for f in (deformation.forward, deformation.inverse)
    )
    q = np.indices(back.shape[1:])
    there = q + back
    again = there + np.stack([ndimage.map_coordinates(c, there, order=1, mode="nearest") for c in u])
    assert np.abs(again - q).max() < 2e-3
    assert deformation.residual < 2e-3


def test_truth_between_two_people(people: list[Subject]) -> None:
    """``phi_j(p + u(p)) = phi_i(p)``: both voxels show one anatomical point, by scipy."""
    first, second = (person.deformation for person in people)
    u = np.moveaxis(first.forward.compose(second.inverse).vectors.astype(np.float64), -1, 0)
    to_anatomy = [np.moveaxis(d.forward.vectors.astype(np.float64), -1, 0) for d in (first, second)]
    p = np.indices(u.shape[1:])
    q = p + u
    shown = q + np.stack([ndimage.map_coordinates(c, q, order=1, mode="nearest") for c in to_anatomy[1]])
    off = np.linalg.norm(shown - (p + to_anatomy[0]), axis=0)[people[0].labels > 0]
    assert off.mean() < 0.02
    assert off.max() < 0.25  # where phi_j^-1 bends most, between its voxels


def test_exp_of_minus_v_is_the_inverse() -> None:
    """The inverse that is solved for is the flow backwards, up to the grid's resolution."""
    grid = spacing_grid(2)
    deformation = diffeomorphisms.random_deformation(grid, np.random.default_rng(5))
    velocity = diffeomorphisms._velocity(grid, np.random.default_rng(5))
    forward = diffeomorphisms.exponential(velocity, grid)
    assert np.array_equal(forward.vectors, deformation.forward.vectors)  # no shrinking was needed
    backward = diffeomorphisms.exponential(-velocity, grid)
    off = np.linalg.norm(backward.vectors - deformation.inverse.vectors, axis=-1)
    assert off.mean() < 0.05


def test_same_anatomy_at_any_resolution() -> None:
    """The velocity is drawn in millimetres: grids of 1 and 2 mm see the same person."""
    fine = diffeomorphisms._velocity(spacing_grid(1), np.random.default_rng(9))
    coarse = diffeomorphisms._velocity(spacing_grid(2), np.random.default_rng(9))
    assert np.abs(fine[::2, ::2, ::2] - 2 * coarse).max() < 1e-4
    assert np.abs(coarse).max() > 1


def test_no_affine_part() -> None:
    rng = np.random.default_rng(0)
    axes = [np.arange(n) * 4.0 for n in (9, 10, 11)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    affine = points @ rng.normal(size=(3, 3)) + rng.normal(size=3)
    weight = rng.uniform(0.1, 1, points.shape[:3])
    assert np.allclose(diffeomorphisms._affine_part(affine, axes, weight), affine)


def test_rotated_grid_is_refused() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0, -1], [1, 0]]
    with pytest.raises(InputError, match="world's axes"):
        diffeomorphisms.random_deformation(Grid((20, 20, 20), turned), np.random.default_rng(0))


def test_labels_are_the_anatomy_seen_through_phi(people: list[Subject], anatomy: Anatomy) -> None:
    for person in people:
        where = scipy_map(person)
        expected = ndimage.map_coordinates(anatomy.labels, where, order=0, mode="constant")
        # rounding of a coordinate that lies on a voxel's edge may differ
        assert np.mean(expected != person.labels) < 1e-4


def test_images_are_the_anatomy_seen_through_phi(people: list[Subject], anatomy: Anatomy) -> None:
    """A subject's clean intensities explain its image: what is left is bias field, curve and noise."""
    for person in people:
        inside = ndimage.binary_erosion(person.labels > 0, iterations=2)
        for modality, image in person.images.items():
            where = scipy_map(person)
            seen = ndimage.map_coordinates(anatomy.contrasts[modality], where, order=1, mode="nearest")
            assert np.corrcoef(seen[inside], image[inside])[0, 1] > 0.85
            elsewhere = ndimage.zoom(
                anatomy.contrasts[modality], 0.5, order=1, grid_mode=True, mode="nearest"
            )
            assert np.corrcoef(elsewhere[inside], image[inside])[0, 1] < 0.8


def test_images_use_the_challenges_range(people: list[Subject]) -> None:
    for person in people:
        for image in person.images.values():
            assert image.dtype == np.uint8
            assert np.array_equal(image > 0, person.labels > 0)
            assert image.max() > 230


def test_anatomy_repeats(anatomy: Anatomy, template: Template) -> None:
    again = phantom.make_anatomy(template, 3)
    other = phantom.make_anatomy(template, 4)
    assert np.array_equal(again.labels, anatomy.labels)
    for modality, image in anatomy.contrasts.items():
        assert np.array_equal(again.contrasts[modality], image)
        assert not np.array_equal(other.contrasts[modality], image)


def test_people_differ_and_repeat(people: list[Subject], anatomy: Anatomy) -> None:
    again = phantom.make_subject(anatomy, spacing_grid(2), 3, 1, ("0001",))
    assert np.array_equal(again.images["0001"], people[1].images["0001"])  # whatever else was made with it
    assert np.array_equal(again.labels, people[1].labels)
    assert np.mean(people[0].labels != people[1].labels) > 0.05


def test_landmarks_correspond(people: list[Subject], anatomy: Anatomy) -> None:
    first, second = phantom.place_landmarks(anatomy, people, 3)
    grid = spacing_grid(2)
    for name in range(1, 13):
        assert np.count_nonzero(first == name) == np.count_nonzero(second == name) == 27
        centres = [np.argwhere(volume == name).mean(axis=0) for volume in (first, second)]
        places = [p.deformation.forward.warp_points(c[None])[0] for p, c in zip(people, centres, strict=True)]
        # Both blobs sit on one anatomical point: half the error of each is at most rounding.
        assert np.linalg.norm(places[0] - places[1]) < 0.8
        assert np.all(np.array(places) < grid.shape)


def test_landmarks_refuse_a_coarse_grid(anatomy: Anatomy) -> None:
    coarse = [phantom.make_subject(anatomy, spacing_grid(8), 3, n) for n in range(2)]
    with pytest.raises(InputError, match="too coarse"):
        phantom.place_landmarks(anatomy, coarse, 3, candidates=50)
