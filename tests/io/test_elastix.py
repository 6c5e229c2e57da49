"""elastix parameter files against SimpleITK's transforms (fast) and elastix itself (slow)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from iterreg.errors import InputError
from iterreg.io import elastix
from iterreg.volume import Grid

TOLERANCE = 1e-3


def parameter_file(path: Path, transform: str, initial: str = "NoInitialTransform", **entries: Any) -> Path:
    """A file as elastix writes it."""
    lines = [
        "// written by the test, as elastix would",
        f'(Transform "{transform}")',
        f'(InitialTransformParameterFileName "{initial}")',
        "(FixedImageDimension 3)",
        '(UseDirectionCosines "true")',
    ]
    for key, value in ({"HowToCombineTransforms": "Compose"} | entries).items():
        values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
        lines.append(f"({key} " + " ".join(f'"{v}"' if isinstance(v, str) else repr(v) for v in values) + ")")
    path.write_text("\n".join(lines) + "\n")
    return path


CENTRE = (4.0, -1.0, 2.0)


def linear(kind: str) -> tuple[Any, dict[str, Any]]:
    """A SimpleITK transform and the entries that say the same to elastix."""
    if kind == "TranslationTransform":
        return sitk.TranslationTransform(3, (1.0, -2.0, 3.0)), {"TransformParameters": [1.0, -2.0, 3.0]}
    values = {
        "AffineTransform": [1.1, 0.1, 0.0, -0.05, 0.9, 0.2, 0.03, 0.0, 1.05, 2.0, -1.0, 0.5],
        "EulerTransform": [0.3, -0.2, 0.4, 2.0, -1.0, 0.5],
        "EulerTransform zyx": [0.3, -0.2, 0.4, 2.0, -1.0, 0.5],
        "SimilarityTransform": [0.1, -0.2, 0.15, 2.0, -1.0, 0.5, 1.2],
    }[kind]
    transform = {
        "AffineTransform": lambda: sitk.AffineTransform(3),
        "EulerTransform": sitk.Euler3DTransform,
        "EulerTransform zyx": sitk.Euler3DTransform,
        "SimilarityTransform": sitk.Similarity3DTransform,
    }[kind]()
    transform.SetFixedParameters([*CENTRE, *([0.0] if "Euler" in kind else [])])
    transform.SetParameters(values)
    entries: dict[str, Any] = {"TransformParameters": values, "CenterOfRotationPoint": list(CENTRE)}
    if kind.endswith("zyx"):
        transform.SetComputeZYX(True)
        entries["ComputeZYX"] = "true"
    return transform, entries


def bspline(image: Any, order: int, seed: int) -> tuple[Any, dict[str, Any]]:
    """A B-spline around an image, and its elastix entries."""
    transform = sitk.BSplineTransformInitializer(image, [3, 2, 4], order)
    values = np.random.default_rng(seed).normal(0, 1.5, len(transform.GetParameters())).tolist()
    transform.SetParameters(values)
    control = transform.GetCoefficientImages()[0]
    return transform, {
        "TransformParameters": values,
        "GridSize": list(control.GetSize()),
        "GridIndex": [0, 0, 0],
        "GridSpacing": list(control.GetSpacing()),
        "GridOrigin": list(control.GetOrigin()),
        "GridDirection": np.reshape(control.GetDirection(), (3, 3)).T.ravel().tolist(),
        "BSplineTransformSplineOrder": order,
    }


KINDS = [
    "TranslationTransform",
    "AffineTransform",
    "EulerTransform",
    "EulerTransform zyx",
    "SimilarityTransform",
]


@pytest.mark.parametrize("kind", KINDS)
def test_linear_transforms(kind: str, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(14)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    transform, entries = linear(kind)
    file = parameter_file(tmp_path / "TransformParameters.0.txt", kind.split()[0], **entries)
    field = elastix.read_transform(file, fixed, moving)
    assert tools.error(field, tools.itk_targets(transform, *images)) < TOLERANCE


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("orientation", range(0, 48, 7))
def test_bsplines(order: int, orientation: int, tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(orientation)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    # a domain a little larger than the image: at its very border ITK and elastix differ
    around = sitk.ConstantPad(images[0], [1] * 3, [1] * 3)
    transform, entries = bspline(around, order, seed=orientation)
    targets = tools.itk_targets(transform, *images)
    file = parameter_file(tmp_path / "TransformParameters.0.txt", "BSplineTransform", **entries)
    assert tools.error(elastix.read_transform(file, fixed, moving), targets) < TOLERANCE

    for mistake in ("negated", "reversed"):
        values = np.array(entries["TransformParameters"]).reshape(3, -1)
        wrong = {"negated": -values, "reversed": values[::-1]}[mistake]
        parameter_file(file, "BSplineTransform", **entries | {"TransformParameters": wrong.ravel().tolist()})
        assert tools.error(elastix.read_transform(file, fixed, moving), targets) > 100 * TOLERANCE


def test_chain_found_beside_the_file(tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(31)
    images = tools.itk_image(fixed, tmp_path, "fixed"), tools.itk_image(moving, tmp_path, "moving")
    first, first_entries = linear("AffineTransform")
    around = sitk.ConstantPad(images[0], [20] * 3, [20] * 3)
    second, second_entries = bspline(around, 3, seed=1)
    parameter_file(tmp_path / "TransformParameters.0.txt", "AffineTransform", **first_entries)
    gone = "/gone/away/TransformParameters.0.txt"  # written on another machine
    file = parameter_file(tmp_path / "TransformParameters.1.txt", "BSplineTransform", gone, **second_entries)
    targets = tools.itk_targets(sitk.CompositeTransform([second, first]), *images)
    assert tools.error(elastix.read_transform(file, fixed, moving), targets) < TOLERANCE

    entries = second_entries | {"HowToCombineTransforms": "Add"}
    parameter_file(file, "BSplineTransform", gone, **entries)
    one, other, none = (tools.itk_targets(t, *images) for t in (first, second, sitk.Transform(3, 1)))
    assert tools.error(elastix.read_transform(file, fixed, moving), one + other - none) < TOLERANCE


def test_deformation_field_round_trips(tmp_path: Path, tools: SimpleNamespace) -> None:
    fixed, moving = tools.pair_of_grids(40)
    field = tools.smooth_field(fixed, moving, seed=9)
    elastix.write_deformation_field(tmp_path / "deformationField.nii.gz", field)
    back = elastix.read_deformation_field(tmp_path / "deformationField.nii.gz", fixed, moving)
    np.testing.assert_allclose(back.vectors, field.vectors, atol=1e-4)
    image = elastix.write_transform(tmp_path / "TransformParameters.0.txt", field)
    assert image == tmp_path / "TransformParameters.0.nii.gz"
    back = elastix.read_transform(tmp_path / "TransformParameters.0.txt", fixed, moving)
    np.testing.assert_allclose(back.vectors, field.vectors, atol=1e-4)


class TestRefusals:
    GRID = Grid((4, 4, 4))

    def refuse(self, file: Path, words: str) -> None:
        with pytest.raises(InputError, match=words):
            elastix.read_transform(file, self.GRID, self.GRID)

    def test_files(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "absent.txt", "no such file")
        (tmp_path / "a.txt").write_text("nothing of the kind")
        self.refuse(tmp_path / "a.txt", "no \\(Transform")
        assert not elastix.is_parameter_file(tmp_path / "a.txt")

    def test_incomplete(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        self.refuse(parameter_file(file, "AffineTransform"), "no entry TransformParameters")
        self.refuse(
            parameter_file(file, "AffineTransform", TransformParameters=[1.0, 2.0]), "12 finite numbers"
        )
        self.refuse(parameter_file(file, "AffineTransform", TransformParameters=["x"] * 12), "numbers")
        self.refuse(
            parameter_file(file, "TranslationTransform", "lost.txt", TransformParameters=[0.0] * 3), "lost"
        )
        self.refuse(
            parameter_file(file, "TranslationTransform", "a.txt", TransformParameters=[0.0] * 3), "its own"
        )
        self.refuse(
            parameter_file(
                file, "TranslationTransform", TransformParameters=[0.0] * 3, UseDirectionCosines="false"
            ),
            "UseDirectionCosines",
        )
        self.refuse(parameter_file(file, "TranslationTransform", FixedImageDimension=2), "2 dimensions")

    def test_name(self, tmp_path: Path, tools: SimpleNamespace) -> None:
        field = tools.smooth_field(self.GRID, self.GRID, seed=0)
        with pytest.raises(InputError, match=r"\.txt"):
            elastix.write_transform(tmp_path / "a.nii.gz", field)


@pytest.mark.slow
class TestElastixItself:
    """One real registration; every statement about elastix's files is checked against transformix."""

    @pytest.fixture(scope="class")
    @staticmethod
    def run(tmp_path_factory: pytest.TempPathFactory, tools: SimpleNamespace) -> SimpleNamespace:
        itk = pytest.importorskip("itk")
        folder = tmp_path_factory.mktemp("elastix")
        fixed = tools.oriented_grid(37, (30, 28, 26), (1.0, 1.2, 0.9), (0.2, -0.1, 0.3))
        moving = tools.oriented_grid(20, (28, 30, 29), (1.1, 0.9, 1.0), (-0.1, 0.2, 0.1))
        images = []
        for name, grid, shift in (("fixed", fixed, 0.0), ("moving", moving, 2.0)):
            world = grid.voxel_to_world(tools.voxels(grid.shape)) - [5, -3, 8] - shift
            values = 100 * np.exp(-np.square(world * [1.0, 1.4, 0.8]).sum(-1) / 60)
            values += 20 * np.sin(world[..., 0]) * np.cos(world[..., 1]) * (values > 5)
            import nibabel as nib

            nib.Nifti1Image(values.astype(np.float32), grid.affine).to_filename(folder / f"{name}.nii.gz")
            images.append(itk.imread(str(folder / f"{name}.nii.gz"), itk.F))
        parameters = itk.ParameterObject.New()
        affine = parameters.GetDefaultParameterMap("affine", 2)
        spline = parameters.GetDefaultParameterMap("bspline", 2, 8.0)
        for one in (affine, spline):
            one["MaximumNumberOfIterations"] = ["30"]
            one["RandomSeed"] = ["1"]
            parameters.AddParameterMap(one)
        itk.elastix_registration_method(
            *images, parameter_object=parameters, output_directory=str(folder), log_to_console=False
        )
        return SimpleNamespace(itk=itk, folder=folder, fixed=fixed, moving=moving, images=images)

    def last(self, folder: Path) -> Path:
        return sorted(folder.glob("TransformParameters.*.txt"))[-1]

    def test_parameter_files(self, run: SimpleNamespace) -> None:
        native = elastix.read_transform(self.last(run.folder), run.fixed, run.moving)
        oracle = elastix._with_transformix(self.last(run.folder), run.fixed, run.moving)
        assert np.abs(native.vectors - oracle.vectors).max() < TOLERANCE
        assert np.abs(native.deviation).max() > 0.5

    def test_written_transform_is_understood_by_transformix(
        self, run: SimpleNamespace, tmp_path: Path, tools: SimpleNamespace
    ) -> None:
        field = tools.smooth_field(run.fixed, run.moving, seed=4)
        elastix.write_transform(tmp_path / "TransformParameters.0.txt", field)
        oracle = elastix._with_transformix(tmp_path / "TransformParameters.0.txt", run.fixed, run.moving)
        assert np.abs(field.vectors - oracle.vectors).max() < TOLERANCE

    def test_rare_transforms_go_to_transformix(
        self, run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        file = parameter_file(
            tmp_path / "TransformParameters.0.txt",
            "AffineLogTransform",
            NumberOfParameters=12,
            TransformParameters=[0.0] * 9 + [1.0, 2.0, 3.0],
            CenterOfRotationPoint=[0.0, 0.0, 0.0],
            MovingImageDimension=3,
            FixedInternalImagePixelType="float",
            MovingInternalImagePixelType="float",
        )
        field = elastix.read_transform(file, run.fixed, run.moving)
        expected = parameter_file(
            tmp_path / "shift.txt", "TranslationTransform", TransformParameters=[1.0, 2.0, 3.0]
        )
        np.testing.assert_allclose(
            field.vectors, elastix.read_transform(expected, run.fixed, run.moving).vectors, atol=TOLERANCE
        )
        assert list(Path.cwd().iterdir()) == []  # transformix left nothing behind
