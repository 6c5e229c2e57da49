"""The field's arithmetic over all orientations, against formulas written out point by point."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.volume import Grid, Volume

GRIDS = Callable[..., Grid]
FIELDS = Callable[..., np.ndarray]


def to_world(grid: Grid, voxel: np.ndarray) -> np.ndarray:
    return (grid.affine @ np.array([*voxel, 1.0]))[:3]


def to_voxel(grid: Grid, world: np.ndarray) -> np.ndarray:
    return np.linalg.solve(grid.affine, np.array([*world, 1.0]))[:3]


def all_voxels(grid: Grid) -> np.ndarray:
    return np.array(list(np.ndindex(grid.shape)))


def apply_in_world(field: DisplacementField, world: np.ndarray) -> np.ndarray:
    """The map at (N, 3) world points: world displacements interpolated, the nearest beyond the border."""
    voxels = np.array([to_voxel(field.fixed, w) for w in world])
    displacement = field.to_world()
    d = [map_coordinates(displacement[..., c], voxels.T, order=1, mode="nearest") for c in range(3)]
    return world + np.stack(d, -1)


@pytest.fixture
def pair(orientation: str, rng: np.random.Generator, random_grid: GRIDS) -> tuple[Grid, Grid]:
    """Anisotropic oblique grids, the fixed one in each of the 48 orientations, the moving one in any."""
    other = "".join(rng.permutation([rng.choice(list(axis)) for axis in ("RL", "AP", "SI")]))
    fixed = random_grid(orientation, (1.0, 1.3, 0.7), oblique=20, shape=(7, 6, 5))
    moving = random_grid(other, (0.8, 0.9, 1.5), oblique=-15, shape=(9, 6, 8))
    return fixed, moving


class TestOrientations:
    def test_identity_keeps_every_point_in_the_world(self, pair: tuple[Grid, Grid]) -> None:
        fixed, moving = pair
        field = DisplacementField.identity(fixed, moving)
        for p in all_voxels(fixed):
            np.testing.assert_allclose(
                to_world(moving, p + field.vectors[tuple(p)]), to_world(fixed, p), atol=1e-5
            )
        np.testing.assert_allclose(field.to_world(), 0, atol=1e-5)
        np.testing.assert_allclose(field.deviation, 0, atol=1e-5)

    def test_from_affine(self, pair: tuple[Grid, Grid], rng: np.random.Generator) -> None:
        fixed, moving = pair
        world = np.eye(4)
        world[:3] += rng.normal(0, 0.1, (3, 4))
        field = DisplacementField.from_affine(world, fixed, moving)
        for p in all_voxels(fixed):
            expected = (world @ [*to_world(fixed, p), 1])[:3]
            np.testing.assert_allclose(to_world(moving, p + field.vectors[tuple(p)]), expected, atol=1e-5)
        np.testing.assert_allclose(field.jacobian_determinant(), np.linalg.det(world[:3, :3]), rtol=1e-4)

    def test_from_world_is_the_formula_and_comes_back(
        self, pair: tuple[Grid, Grid], rng: np.random.Generator
    ) -> None:
        fixed, moving = pair
        displacement = rng.normal(0, 3, (*fixed.shape, 3))
        field = DisplacementField.from_world(displacement, fixed, moving)
        for p in all_voxels(fixed):
            q = to_voxel(moving, to_world(fixed, p) + displacement[tuple(p)])
            np.testing.assert_allclose(field.vectors[tuple(p)], q - p, atol=1e-5)
        np.testing.assert_allclose(field.to_world(), displacement, atol=1e-5)
        np.testing.assert_allclose(
            field.deviation, displacement @ np.linalg.inv(moving.affine[:3, :3]).T, atol=2e-5
        )

    def test_points_and_composition(
        self, pair: tuple[Grid, Grid], rng: np.random.Generator, random_grid: GRIDS
    ) -> None:
        fixed, moving = pair
        third = random_grid("PIR", (1.1, 0.6, 0.9), oblique=40, shape=(6, 8, 7))
        first = DisplacementField.from_world(rng.normal(0, 1, (*fixed.shape, 3)), fixed, moving)
        second = DisplacementField.from_world(rng.normal(0, 1, (*moving.shape, 3)), moving, third)
        both = first.compose(second)
        assert both.fixed == fixed
        assert both.moving == third
        start = all_voxels(fixed)
        expected = apply_in_world(second, apply_in_world(first, fixed.voxel_to_world(start)))
        reached = third.voxel_to_world(start + both.vectors.reshape(-1, 3))
        np.testing.assert_allclose(reached, expected, atol=1e-4)
        points = rng.uniform(-2, 8, (40, 3))
        moved = first.warp_points(points)
        np.testing.assert_allclose(
            moving.voxel_to_world(moved), apply_in_world(first, fixed.voxel_to_world(points)), atol=1e-4
        )

    def test_inversion(self, pair: tuple[Grid, Grid], random_field: FIELDS) -> None:
        fixed, moving = pair
        field = DisplacementField.from_world(random_field(fixed.shape, 0.8, 1.2), fixed, moving)
        inversion = field.invert(tolerance=1e-4)
        assert inversion.field.fixed == moving
        assert inversion.field.moving == fixed
        assert inversion.residual.shape == inversion.inside.shape == moving.shape
        start = all_voxels(moving)
        found = start + inversion.field.vectors.reshape(-1, 3)
        inside = ((found >= 0) & (found <= np.array(fixed.shape) - 1)).all(axis=1)
        np.testing.assert_array_equal(inside, inversion.inside.ravel())
        back = field.warp_points(found)
        np.testing.assert_allclose(
            np.linalg.norm(back - start, axis=1), inversion.residual.ravel(), atol=1e-4
        )
        assert inversion.summary()["max"] < 2e-4

    def test_folding_is_of_the_map_not_of_its_grids(
        self, pair: tuple[Grid, Grid], random_grid: GRIDS, orientation: str, rng: np.random.Generator
    ) -> None:
        fixed, moving = pair
        for field in (DisplacementField.identity(fixed, moving), DisplacementField.identity(moving, fixed)):
            folding = field.folding()
            assert folding.ndv_percent == 0
            assert folding.folded_voxels == 0
            assert folding.lowest_determinant == pytest.approx(1, abs=1e-4)
            np.testing.assert_allclose(field.jacobian_determinant(), 1, atol=1e-4)
        # A reflection in the world does fold, on any grids.
        mirror = DisplacementField.from_affine(np.diag([-1, 1, 1, 1]), fixed, moving)
        assert (mirror.jacobian_determinant() < 0).all()
        assert mirror.folding().folded_voxels == 5 * 4 * 3
        # One noisy world map on equal grids and on unequal ones has one Jacobian.
        noise = rng.normal(0, 0.4, (*fixed.shape, 3))
        on_fixed = DisplacementField.from_world(noise, fixed)
        on_moving = DisplacementField.from_world(noise, fixed, moving)
        np.testing.assert_allclose(
            on_moving.jacobian_determinant(), on_fixed.jacobian_determinant(), atol=1e-4
        )
        assert on_fixed.folding().folded_voxels > 0
        assert on_moving.folding().ndv_percent == pytest.approx(on_fixed.folding().ndv_percent, rel=1e-4)

    def test_a_mirrored_copy_loses_no_border_voxel(
        self, orientation: str, random_grid: GRIDS, rng: np.random.Generator
    ) -> None:
        """An image and its copy stored in another orientation have the same voxels, to the last one."""
        import nibabel as nib

        fixed = random_grid("RAS", (0.7, 1.1, 0.6), oblique=33, shape=(5, 7, 6))
        array = rng.integers(1, 1000, fixed.shape).astype(np.int32)
        image = nib.Nifti1Image(array, fixed.affine)
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(
                nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(tuple(orientation))
            )
        )
        moving = Grid(turned.shape, turned.affine)
        moved = DisplacementField.identity(fixed, moving).warp_labels(
            Volume(np.asarray(turned.dataobj), moving)
        )
        np.testing.assert_array_equal(moved.array, array)


def test_headers_that_differ_by_rounding_are_one_grid(rng: np.random.Generator, random_grid: GRIDS) -> None:
    """The sform is float32: a border voxel must not fall out of the grid for that."""
    fixed = random_grid("LPS", (0.6, 0.6, 0.6), oblique=12, shape=(40, 50, 45))
    moving = Grid(fixed.shape, fixed.affine.astype(np.float32))
    assert moving != fixed
    labels = rng.integers(1, 9, fixed.shape).astype(np.int32)
    for one, two in ((fixed, moving), (moving, fixed)):
        identity = DisplacementField.identity(one, two)
        assert not identity.vectors.any()
        assert identity.deviation is identity.vectors
        np.testing.assert_array_equal(identity.warp_labels(Volume(labels, two)).array, labels)
    displacement = rng.normal(0, 1, (*fixed.shape, 3))
    np.testing.assert_allclose(
        DisplacementField.from_world(displacement, fixed, moving).vectors,
        DisplacementField.from_world(displacement, fixed).vectors,
        atol=1e-5,
    )


def test_a_true_shift_is_not_rounded_away() -> None:
    shifted = np.eye(4)
    shifted[0, 3] = 5e-4
    field = DisplacementField.identity(Grid((5, 5, 5)), Grid((5, 5, 5), shifted))
    np.testing.assert_allclose(field.vectors[..., 0], -5e-4, rtol=1e-3)


def test_warping_takes_the_moving_voxel_at_p_plus_u(rng: np.random.Generator) -> None:
    """The convention itself: moved(p) = moving(p + u(p)), components in array-axis order."""
    grid = Grid((5, 6, 7))
    array = rng.random(grid.shape, dtype=np.float32)
    vectors = np.zeros((*grid.shape, 3), np.float32)
    vectors[..., 1] = 2
    field = DisplacementField(vectors, grid, grid)
    moved = field.warp_image(Volume(array, grid), fill=-1)
    np.testing.assert_array_equal(moved.array[:, :4], array[:, 2:])
    assert (moved.array[:, 4:] == -1).all()
    labels = (array * 100).astype(np.int32)
    for interpolation in ("nearest", "linear"):
        moved = field.warp_labels(Volume(labels, grid), interpolation=interpolation)
        np.testing.assert_array_equal(moved.array[:, :4], labels[:, 2:])
        assert not moved.array[:, 4:].any()
    np.testing.assert_array_equal(field.warp_points([[1, 1, 1]]), [[1, 3, 1]])


def test_big_endian_labels_are_warped() -> None:
    grid = Grid((2, 2, 2))
    labels = np.arange(8).reshape(2, 2, 2).astype(">i2")
    moved = DisplacementField.identity(grid).warp_labels(Volume(labels, grid))
    np.testing.assert_array_equal(moved.array, labels)


def test_folding_counts_the_interior_of_the_mask() -> None:
    grid = Grid((6, 6, 6))
    vectors = np.zeros((6, 6, 6, 3), np.float32)
    vectors[2, 3, 4, 0] = -1.5
    field = DisplacementField(vectors, grid, grid)
    whole = field.folding()
    # The voxel and the neighbour behind it: four corners of determinant -0.5 each (tests of the kernel).
    assert whole.folded_voxels == 2
    assert whole.ndv_percent == pytest.approx(100 * 2 * (4 * 0.5 / 12) / 4**3)
    assert whole.lowest_determinant == pytest.approx(-0.5)
    assert whole.lowest_at in {(1, 3, 4), (2, 3, 4)}
    mask = np.zeros((6, 6, 6), bool)
    mask[2:, 3, 4] = True  # one of the two, and three more of which the last is not interior
    masked = field.folding(mask)
    assert masked.folded_voxels == 1
    assert masked.ndv_percent == pytest.approx(100 * (4 * 0.5 / 12) / 3)
    assert masked.lowest_at == whole.lowest_at
    assert np.isnan(field.folding(np.zeros((6, 6, 6), bool)).ndv_percent)


def test_summary_without_any_voxel_inside() -> None:
    far = np.eye(4)
    far[:3, 3] = 1000
    inversion = DisplacementField.identity(Grid((3, 3, 3)), Grid((3, 3, 3), far)).invert()
    assert not inversion.inside.any()
    assert all(np.isnan(value) for value in inversion.summary().values())


class TestErrors:
    grid = Grid((4, 4, 4))

    def field(self) -> DisplacementField:
        return DisplacementField.identity(self.grid)

    def test_shapes(self) -> None:
        with pytest.raises(InputError, match=r"\(4, 4, 4, 3\) is needed"):
            DisplacementField(np.zeros((3, 4, 4, 4), np.float32), self.grid, self.grid)
        with pytest.raises(InputError, match="do not fit a fixed grid"):
            DisplacementField.from_world(np.zeros((4, 4, 5, 3)), self.grid)
        with pytest.raises(InputError, match="not the moving grid's"):
            self.field().warp_image(Volume(np.zeros((4, 4, 5), np.float32), Grid((4, 4, 5))))
        with pytest.raises(InputError, match="the mask's shape"):
            self.field().folding(np.ones((4, 4, 5), bool))
        with pytest.raises(InputError, match=r"\(N, 3\)"):
            self.field().warp_points(np.zeros((4, 6)))

    def test_values(self) -> None:
        with pytest.raises(InputError, match="integer"):
            self.field().warp_labels(Volume(np.zeros((4, 4, 4)), self.grid))
        with pytest.raises(InputError, match="'cubic'"):
            self.field().warp_labels(Volume(np.zeros((4, 4, 4), int), self.grid), interpolation="cubic")
        with pytest.raises(InputError, match=r"\(4, 4\)"):
            DisplacementField.from_affine(np.eye(3), self.grid)
        with pytest.raises(InputError, match="three voxels"):
            DisplacementField.identity(Grid((4, 4, 2))).folding()
        with pytest.raises(InputError, match="cannot compose"):
            self.field().compose(DisplacementField.identity(Grid((4, 4, 5))))
        for bad in (np.nan, np.inf):
            vectors = np.zeros((4, 4, 4, 3), np.float32)
            vectors[1, 1, 1, 1] = bad
            with pytest.raises(InputError, match="NaN or infinite"):
                DisplacementField(vectors, self.grid, self.grid).folding()


def test_unequal_grids_take_no_copies_in_float64(random_grid: GRIDS) -> None:
    """Field arithmetic goes slab by slab: beside its result it needs a few slabs of 2^18 voxels."""
    shape = (60, 200, 200)
    fixed = random_grid("RAS", shape=shape)
    moving = random_grid("LPS", oblique=5, shape=shape)
    field = DisplacementField.identity(fixed, moving)
    size = field.vectors.nbytes
    calls: list[tuple[Callable[[], np.ndarray], int]] = [
        (lambda: field.deviation, size),
        (lambda: field.to_world(), 2 * size),
        (lambda: DisplacementField.identity(fixed, moving).vectors, size),
        (lambda: DisplacementField.from_world(field.vectors, fixed, moving).vectors, size),
    ]
    for call, result in calls:
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < result + 4 * 2**18 * 3 * 8


@pytest.mark.parametrize("labels", [False, True])
def test_edges_are_itks(labels: bool, rng: np.random.Generator) -> None:
    """Where ITK ends an image: at its outer faces, the lower ones belonging to it, the upper ones not."""
    import SimpleITK as sitk  # noqa: N813

    marks = np.array(
        [-1.0, -0.6, -0.5, -0.3, -1e-6, 0.0, 0.25, 1.75, 4.9, 5.0, 5.000001, 5.3, 5.4999, 5.5, 6.0]
    )
    places = np.stack(np.meshgrid(marks, marks, marks, indexing="ij"), axis=-1)
    fixed, moving = Grid((len(marks),) * 3), Grid((6, 6, 6))
    vectors = (places - np.moveaxis(np.indices(fixed.shape), 0, -1)).astype(np.float32)
    field = DisplacementField(vectors, fixed, moving)
    array = rng.integers(1, 100, moving.shape).astype(np.int16)
    image = sitk.GetImageFromArray((array if labels else array.astype(np.float32)).T)
    warp = sitk.GetImageFromArray(vectors.astype(np.float64).transpose(2, 1, 0, 3), True)
    transform = sitk.DisplacementFieldTransform(warp)
    interpolator = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    fill = 0 if labels else -7
    reference = sitk.Image(fixed.shape, sitk.sitkFloat32)
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, reference, transform, interpolator, fill)).T
    if labels:
        ours = field.warp_labels(Volume(array, moving), edge="itk").array
        np.testing.assert_array_equal(ours, theirs)
    else:
        ours = field.warp_image(Volume(array.astype(np.float32), moving), fill=-7, edge="itk").array
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    with pytest.raises(InputError, match="edge rules"):
        field.warp_image(Volume(array, moving), edge="ants")  # type: ignore[arg-type]
