"""Planes: which side is where on the page, for every way a volume can be stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.dataset.base import Pair, Scan
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.report.cutting import PairCutter
from iterreg.report.planes import Slab, oblique_degrees, planes, spread
from iterreg.volume import Grid, Volume

SIGN = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def world(grid: Grid) -> np.ndarray:
    """(X, Y, Z, 3) RAS+ millimetres of every voxel."""
    return grid.voxel_to_world(np.stack(np.indices(grid.shape), axis=-1))


@pytest.mark.parametrize("oblique", [0.0, 12.0])
def test_letters_tell_where_the_sides_are(
    orientation: str, random_grid: Callable[..., Grid], oblique: float
) -> None:
    grid = random_grid(orientation, (1.0, 2.0, 0.7), oblique)
    places = world(grid)
    for plane in planes(grid, (4, 4, 3)):
        page = plane.cut(places)
        assert page.shape[:2] == plane.shape
        for letter, other, first, last in (
            (plane.left, plane.right, page[:, 0], page[:, -1]),
            (plane.top, plane.bottom, page[0], page[-1]),
        ):
            axis, sign = SIGN[letter]
            assert SIGN[other] == (axis, -sign)
            assert (sign * (first[..., axis] - last[..., axis]) > 0).all()
    assert [(p.left, p.top) for p in planes(grid, (4, 4, 3))] == [("R", "A"), ("R", "S"), ("A", "S")]


def test_the_page_is_the_same_however_it_is_stored(
    orientation: str, random_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = random_grid(orientation)
    array = rng.random(grid.shape)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array, grid.affine))
    ras = Grid(canonical.shape, canonical.affine)
    at = (2, 3, 1)
    there = tuple(int(v) for v in np.rint(ras.world_to_voxel(grid.voxel_to_world(at))))
    for one, other in zip(planes(grid, at), planes(ras, there), strict=True):
        np.testing.assert_array_equal(one.cut(array), other.cut(canonical.get_fdata()))
        assert (one.width, one.height) == pytest.approx((other.width, other.height))


def test_size_is_in_millimetres_and_a_voxel_is_found_again() -> None:
    grid = Grid((10, 12, 8), np.diag([2.0, 1.0, 5.0, 1.0]))
    at = (7, 2, 5)
    array = np.zeros(grid.shape)
    array[at] = 1
    for plane in planes(grid, at, [(3, 10), (0, 9), (2, 8)]):
        page = plane.cut(array)
        row, column = np.argwhere(page)[0]
        x, y = plane.across(at)
        assert x == pytest.approx((column + 0.5) * plane.width / plane.shape[1])
        assert y == pytest.approx((row + 0.5) * plane.height / plane.shape[0])
    axial, coronal, sagittal = planes(grid, at, [(3, 10), (0, 9), (2, 8)])
    assert (axial.width, axial.height) == (14, 9)
    assert (coronal.width, coronal.height) == (14, 30)
    assert (sagittal.width, sagittal.height) == (9, 30)


def test_oblique_degrees(random_grid: Callable[..., Grid]) -> None:
    assert oblique_degrees(random_grid("LPI", (1, 2, 3))) == pytest.approx(0, abs=1e-6)
    turned = np.eye(4)
    angle = np.deg2rad(17)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert oblique_degrees(Grid((3, 3, 3), turned)) == pytest.approx(17)


@pytest.mark.parametrize("at", [(0, 0, 0), (4, 3, 2), (8, 7, 6)])
def test_a_slab_shows_what_the_whole_field_shows(
    random_grid: Callable[..., Grid],
    random_field: Callable[..., np.ndarray],
    rng: np.random.Generator,
    at: tuple[int, int, int],
) -> None:
    fixed = random_grid("LAS", (1.0, 1.5, 2.0), 5.0)
    moving = random_grid("PSR", (1.2, 1.0, 1.6), 0.0, (11, 10, 12))
    vectors = DisplacementField.identity(fixed, moving).vectors + random_field(fixed.shape, 1.0)
    whole = DisplacementField(vectors, fixed, moving)
    image = Volume(rng.random(moving.shape).astype(np.float32), moving)
    labels = Volume(rng.integers(0, 9, moving.shape).astype(np.uint8), moving)
    for plane in planes(fixed, at):
        slab = Slab.of(vectors, fixed, moving, plane)
        np.testing.assert_allclose(
            slab.cut(slab.field.warp_image(image).array), plane.cut(whole.warp_image(image).array), atol=1e-4
        )
        same = slab.cut(slab.field.warp_labels(labels).array) == plane.cut(whole.warp_labels(labels).array)
        assert same.mean() > 0.99, "float32 sums may round a voxel or two to the other side"
        np.testing.assert_allclose(
            slab.cut(slab.field.jacobian_determinant()), plane.cut(whole.jacobian_determinant()), atol=1e-4
        )


def test_rows_are_spread_on_both_sides_of_the_place() -> None:
    shown = [(0, 21), (10, 31), (5, 106)]
    assert spread((10, 12, 55), shown, 1) == [(10, 12, 55)]
    assert spread((10, 12, 55), shown, 3) == [(5, 11, 30), (10, 12, 55), (15, 21, 80)]
    for rows in (3, 5):
        for places, (start, stop) in zip(
            zip(*spread((0, 30, 55), shown, rows), strict=True), shown, strict=True
        ):
            assert list(places) == sorted(places)
            assert start <= places[0] <= places[-1] < stop


def test_magnitude_is_how_far_a_voxel_moves_in_the_world(
    tmp_path: Path, random_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    """Between grids that differ, oblique and anisotropic, a shift by (3, -4, 12) mm moves all by 13 mm."""
    fixed, moving = random_grid("LAS", (1.0, 2.0, 0.7), 12.0), random_grid("PSR", (1.5, 1.0, 2.0), 7.0)
    scans = []
    for name, grid in (("1", fixed), ("2", moving)):
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(rng.random(grid.shape, np.float32) + 1, grid.affine), path)
        scans.append(Scan(path, name, ""))
    there = moving.world_to_voxel(world(fixed) + np.array([3.0, -4.0, 12.0]))
    vectors = (there - np.stack(np.indices(fixed.shape), axis=-1)).astype(np.float32)
    write_field(tmp_path / "disp_1_2.nii.gz", DisplacementField(vectors, fixed, moving))
    cutter = PairCutter(Pair(*scans), {}, rows=3)
    for cut in cutter.before.planes:
        np.testing.assert_allclose(cut.magnitude, 0, atol=1e-4)
    found = cutter.after([tmp_path / "disp_1_2.nii.gz"], folds=False).planes
    assert len(found) == 9
    for cut in found:
        np.testing.assert_allclose(cut.magnitude, 13.0, rtol=1e-4)
