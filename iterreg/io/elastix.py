"""elastix and transformix: transform parameter files and deformation fields.

elastix maps fixed to moving points in LPS millimetres, like ITK. A ``TransformParameters.*.txt`` holds
one transform and the name of the one applied before it. Translation, Euler, similarity, affine,
B-spline and deformation-field transforms are evaluated here; any other one is handed to transformix.

Formulas: the elastix manual (Klein and Staring), chapter "Transform", and ITK's transform classes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import itk as itk_files
from iterreg.io.lps import RAS_TO_LPS, geometry_of, grid_of, lps_matrix
from iterreg.io.nifti import check_folder
from iterreg.io.pointmaps import (
    PointMap,
    affine_map,
    bspline_map,
    chain,
    densify,
    displacement_map,
    sum_of,
)
from iterreg.io.world import sample_displacements
from iterreg.jobs.atomic import write_text
from iterreg.paths import real
from iterreg.text_files import read_text
from iterreg.volume import FloatArray, Grid

__all__ = [
    "is_parameter_file",
    "read_deformation_field",
    "read_parameter_file",
    "read_transform",
    "write_deformation_field",
    "write_transform",
]

_ENTRY = re.compile(r"\(\s*([A-Za-z_][\w-]*)\s+((?:\"[^\"]*\"|[^()\"])*)\)")
_TOKEN = re.compile(r"\"([^\"]*)\"|(\S+)")
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_NONE = ("NoInitialTransform", "")

Parameters = Mapping[str, tuple[str, ...]]


def is_parameter_file(path: str | Path) -> bool:
    """Whether a text file looks like an elastix transform parameter file."""
    path = Path(path)
    try:
        if not path.is_file():  # the opening of a pipe would wait for its writer
            return False
        with path.open(encoding="utf-8", errors="replace") as stream:
            return re.search(r"\(\s*Transform\s+\"", stream.read(100_000)) is not None
    except OSError:
        return False


def read_parameter_file(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Parse ``(Key value ...)`` lines; comments start with ``//``.

    Raises
    ------
    InputError
        If the file cannot be read as text or has no entry ``Transform``.
    """
    lines = read_text(path).splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("//"))
    found = {
        match[1]: tuple(quoted or bare for quoted, bare in _TOKEN.findall(match[2]))
        for match in _ENTRY.finditer(text)
    }
    if "Transform" not in found:
        raise InputError(
            f"{path}: has no (Transform ...) entry; name a TransformParameters.*.txt that elastix wrote"
        )
    return found


def read_transform(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """The field of a ``TransformParameters.*.txt`` with every transform it starts from.

    Parameters
    ----------
    path
        The **last** file of the chain; the initial ones are found through their names, as written or
        beside the file that names them.

    Raises
    ------
    InputError
        If a file of the chain is missing, incomplete or not three-dimensional.
    """
    return _unless_transformix(Path(path), fixed, moving)


def read_deformation_field(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """The field of the image ``transformix -def all`` writes (LPS millimetres, as ITK's warps).

    Raises
    ------
    InputError
        As `iterreg.io.itk.read_warp`.
    """
    return sample_displacements(*itk_files.read_warp(path), fixed, moving, source=str(path))


def write_deformation_field(path: str | Path, field: DisplacementField) -> None:
    """Write the field as transformix would: the ITK warp file."""
    itk_files.write_warp(path, field)


def write_transform(path: str | Path, field: DisplacementField) -> Path:
    """Write a ``DeformationFieldTransform`` for transformix, and beside it the field it refers to.

    Returns
    -------
    The deformation field's file: the name with ``.txt`` replaced by ``.nii.gz``. It is written first.

    Raises
    ------
    InputError
        If the name does not end in ``.txt`` or its folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".txt":
        raise InputError(f"{path}: an elastix transform parameter file is written, the name must end in .txt")
    check_folder(path)
    image = path.with_suffix(".nii.gz")
    itk_files.write_warp(image, field)
    place = geometry_of(field.fixed)
    entries: list[tuple[str, str]] = [
        ("Transform", '"DeformationFieldTransform"'),
        ("NumberOfParameters", "0"),
        ("InitialTransformParameterFileName", '"NoInitialTransform"'),
        ("HowToCombineTransforms", '"Compose"'),
        ("DeformationFieldFileName", f'"{real(image)}"'),
        ("DeformationFieldInterpolationOrder", "1"),
        ("FixedImageDimension", "3"),
        ("MovingImageDimension", "3"),
        ("FixedInternalImagePixelType", '"float"'),
        ("MovingInternalImagePixelType", '"float"'),
        ("Size", _numbers(field.fixed.shape)),
        ("Index", "0 0 0"),
        ("Spacing", _numbers(place.spacing)),
        ("Origin", _numbers(place.origin)),
        # elastix lists the direction matrix column by column
        ("Direction", _numbers(place.direction.T.ravel())),
        ("UseDirectionCosines", '"true"'),
        ("ResampleInterpolator", '"FinalLinearInterpolator"'),
        ("Resampler", '"DefaultResampler"'),
        ("DefaultPixelValue", "0"),
        ("ResultImageFormat", '"nii.gz"'),
        ("ResultImagePixelType", '"float"'),
        ("CompressResultImage", '"true"'),
    ]
    write_text(path, "".join(f"({key} {value})\n" for key, value in entries))
    return image


class _NeedsTransformixError(Exception):
    """A transform of the chain is not evaluated here."""


def _unless_transformix(path: Path, fixed: Grid, moving: Grid) -> DisplacementField:
    try:
        return densify([_map_of(path, ())], fixed, moving, source=str(path))
    except _NeedsTransformixError:
        return _with_transformix(path, fixed, moving)


def _map_of(path: Path, seen: tuple[Path, ...]) -> PointMap:
    """The whole chain that ends in `path`."""
    if real(path) in seen:
        raise InputError(
            f"{path}: is its own initial transform; correct its InitialTransformParameterFileName"
        )
    parameters = read_parameter_file(path)
    if parameters.get("FixedImageDimension", ("3",)) != ("3",):
        raise InputError(
            f"{path}: is a transform of {parameters['FixedImageDimension'][0]} dimensions, not three"
        )
    if parameters.get("UseDirectionCosines", ("true",)) == ("false",):
        raise InputError(
            f'{path}: was made with (UseDirectionCosines "false"), so it ignores the images\' orientation; '
            'register again with "true"'
        )
    current = _single(parameters, path)
    initial = next((parameters[key][0] for key in _INITIAL if parameters.get(key)), "NoInitialTransform")
    if initial in _NONE:
        return current
    before = _map_of(_beside(initial, path), (*seen, real(path)))
    how = parameters.get("HowToCombineTransforms", ("Compose",))[0]
    if how == "Compose":
        return chain([before, current])
    if how == "Add":
        return sum_of(before, current)
    raise InputError(f"{path}: combines transforms by {how!r}; elastix knows Compose and Add")


def _beside(name: str, path: Path) -> Path:
    """A file named by another: as written, or beside the file that names it."""
    written = Path(name)
    for candidate in (written, path.parent / written, path.parent / written.name):
        if candidate.is_file():
            return candidate
    raise InputError(f"{path}: refers to {name}, which is neither there nor beside it; copy that file there")


def _single(parameters: Parameters, path: Path) -> PointMap:
    name = parameters["Transform"][0]
    make = _TRANSFORMS.get(name)
    if make is None:
        raise _NeedsTransformixError(name)
    return make(parameters, path)


def _values(parameters: Parameters, key: str, path: Path, count: int | None = None) -> FloatArray:
    if key not in parameters:
        raise InputError(f"{path}: has no entry {key}; the file is incomplete, write it again")
    try:
        values = np.array([float(v) for v in parameters[key]])
    except ValueError as error:
        raise InputError(f"{path}: {key} does not hold numbers ({error})") from error
    if (count is not None and values.size != count) or not np.isfinite(values).all():
        raise InputError(
            f"{path}: {key} should hold {count or 'only'} finite numbers, it holds {values.size}; "
            "the file is incomplete or of another kind of transform"
        )
    return values


def _centred(linear: FloatArray, translation: FloatArray, parameters: Parameters, path: Path) -> PointMap:
    """``x -> M (x - c) + c + t`` with the centre of rotation c, all in LPS millimetres."""
    centre = _values(parameters, "CenterOfRotationPoint", path, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation + centre - linear @ centre
    return affine_map(lps_matrix(matrix))


def _translation(parameters: Parameters, path: Path) -> PointMap:
    matrix = np.eye(4)
    matrix[:3, 3] = _values(parameters, "TransformParameters", path, 3)
    return affine_map(lps_matrix(matrix))


def _affine(parameters: Parameters, path: Path) -> PointMap:
    values = _values(parameters, "TransformParameters", path, 12)
    return _centred(values[:9].reshape(3, 3), values[9:], parameters, path)


def _euler(parameters: Parameters, path: Path) -> PointMap:
    """Angles about x, y, z: R = Rz Rx Ry, or Rz Ry Rx when ComputeZYX is true (ITK's Euler3DTransform)."""
    values = _values(parameters, "TransformParameters", path, 6)
    (sx, sy, sz), (cx, cy, cz) = np.sin(values[:3]), np.cos(values[:3])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    zyx = parameters.get("ComputeZYX", ("false",))[0] == "true"
    linear = about_z @ about_y @ about_x if zyx else about_z @ about_x @ about_y
    return _centred(linear, values[3:], parameters, path)


def _similarity(parameters: Parameters, path: Path) -> PointMap:
    """Versor (x, y, z), translation, scale (ITK's Similarity3DTransform)."""
    values = _values(parameters, "TransformParameters", path, 7)
    x, y, z = values[:3]
    w = float(np.sqrt(max(0.0, 1 - x * x - y * y - z * z)))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return _centred(values[6] * rotation, values[3:6], parameters, path)


def _bspline(parameters: Parameters, path: Path) -> PointMap:
    if parameters.get("UseCyclicTransform", ("false",))[0] == "true":
        raise _NeedsTransformixError("cyclic B-spline")
    shape = cast(Any, tuple(int(n) for n in _values(parameters, "GridSize", path, 3)))
    index = _values(parameters, "GridIndex", path, 3) if "GridIndex" in parameters else np.zeros(3)
    direction = _values(parameters, "GridDirection", path, 9) if "GridDirection" in parameters else np.eye(3)
    direction = direction.reshape(3, 3).T  # elastix lists the matrix column by column
    spacing = _values(parameters, "GridSpacing", path, 3)
    origin = _values(parameters, "GridOrigin", path, 3) + direction @ (spacing * index)
    values = _values(parameters, "TransformParameters", path, 3 * int(np.prod(shape)))
    # x runs fastest, and all x components come before all y components
    coefficients = np.moveaxis(values.reshape(3, *shape[::-1]), (0, 1, 2, 3), (3, 2, 1, 0))
    order = int(parameters.get("BSplineTransformSplineOrder", ("3",))[0])
    return bspline_map(coefficients * RAS_TO_LPS, grid_of(shape, origin, spacing, direction), order)


def _deformation_field(parameters: Parameters, path: Path) -> PointMap:
    if parameters.get("DeformationFieldInterpolationOrder", ("1",))[0] != "1":
        raise _NeedsTransformixError("nearest-neighbour deformation field")
    if not parameters.get("DeformationFieldFileName"):
        raise InputError(f"{path}: has no entry DeformationFieldFileName; the file is incomplete")
    return displacement_map(*itk_files.read_warp(_beside(parameters["DeformationFieldFileName"][0], path)))


_TRANSFORMS: Mapping[str, Callable[[Parameters, Path], PointMap]] = {
    "TranslationTransform": _translation,
    "EulerTransform": _euler,
    "SimilarityTransform": _similarity,
    "AffineTransform": _affine,
    "BSplineTransform": _bspline,
    "RecursiveBSplineTransform": _bspline,
    "DeformationFieldTransform": _deformation_field,
}


def _with_transformix(path: Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Let transformix sample the chain on the fixed grid."""
    import itk

    parameters = itk.ParameterObject.New()
    files = [path]
    while True:
        found = read_parameter_file(files[0])
        initial = next((found[key][0] for key in _INITIAL if found.get(key)), "NoInitialTransform")
        if initial in _NONE:
            break
        files.insert(0, _beside(initial, files[0]))
    place = geometry_of(fixed)
    for index, file in enumerate(files):
        parameters.AddParameterFile(str(file))
        # the chain is passed as a list: the names of files in it must not be followed a second time
        for key in _INITIAL:
            if key in read_parameter_file(file):
                parameters.SetParameter(index, key, "NoInitialTransform")
        parameters.SetParameter(index, "Size", [str(n) for n in fixed.shape])
        parameters.SetParameter(index, "Index", ["0", "0", "0"])
        parameters.SetParameter(index, "Spacing", [repr(float(v)) for v in place.spacing])
        parameters.SetParameter(index, "Origin", [repr(float(v)) for v in place.origin])
        parameters.SetParameter(index, "Direction", [repr(float(v)) for v in place.direction.T.ravel()])
    image = itk.image_from_array(np.zeros(fixed.shape[::-1], np.float32))
    image.SetSpacing(place.spacing.tolist())
    image.SetOrigin(place.origin.tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(place.direction)))
    try:
        # without an output directory transformix writes the field into the working directory
        with tempfile.TemporaryDirectory(prefix="iterreg-") as scratch:
            result = itk.transformix_deformation_field(image, parameters, output_directory=scratch)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: transformix cannot evaluate it ({reason})") from error
    vectors: NDArray[Any] = np.moveaxis(itk.array_from_image(result), (0, 1, 2), (2, 1, 0))
    return itk_files.from_itk(vectors, fixed, moving)


def _numbers(values: Any) -> str:
    return " ".join(repr(v.item() if hasattr(v, "item") else v) for v in values)
