"""ITK and ANTs transforms: warps in LPS millimetres, affine matrices, composites and chains.

A warp file holds d(x) on the fixed grid with ``moved(x) = moving(x + d(x))``, x and d in LPS
millimetres. Between the images' affines A (RAS+) and with F = diag(-1, -1, 1)::

    u(p) = A_mov^-1 (A_fix p + F d(p)) - p
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.headers import grid_by_itk
from iterreg.io.lps import RAS_TO_LPS, grid_of, lps_matrix
from iterreg.io.nifti import DISPLACEMENT_INTENT, VECTOR_INTENT, read_vectors, write_array
from iterreg.io.pointmaps import PointMap, affine_map, bspline_map, densify, displacement_map
from iterreg.io.world import sample_displacements
from iterreg.paths import to_path
from iterreg.volume import FloatArray, Grid

__all__ = ["from_itk", "read_transforms", "read_warp", "to_itk", "write_warp"]

_TRANSFORM_SUFFIXES = (".h5", ".hdf5", ".hdf", ".mat", ".txt", ".tfm", ".xfm")
_IMAGE_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")


def to_itk(field: DisplacementField) -> NDArray[np.float32]:
    """The field as ITK stores it: (X, Y, Z, 1, 3) float32 displacements in LPS millimetres."""
    displacement = (field.to_world() * RAS_TO_LPS).astype(np.float32)
    return displacement[:, :, :, np.newaxis, :]


def from_itk(vectors: ArrayLike, fixed: Grid, moving: Grid | None = None) -> DisplacementField:
    """The field of a warp that was sampled on the fixed grid itself.

    Parameters
    ----------
    vectors
        (X, Y, Z, 1, 3) or (X, Y, Z, 3), displacements in LPS millimetres.
    fixed, moving
        The two images' grids; `moving` defaults to `fixed`.
    """
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim == 5:
        array = array[:, :, :, 0, :]
    return DisplacementField.from_world(array * RAS_TO_LPS, fixed, moving)


def write_warp(path: str | Path, field: DisplacementField) -> None:
    """Write a NIfTI warp that ITK, ANTs and elastix read, atomically.

    Raises
    ------
    InputError
        If the fixed grid's axes are not perpendicular: ITK images cannot hold such a grid.
    """
    axes = field.fixed.affine[:3, :3] / np.array(field.fixed.spacing)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4:
        raise InputError(
            f"{path}: the fixed image's affine shears, and ITK images have perpendicular axes; "
            "resample the fixed image onto a grid without shear first"
        )
    write_array(path, to_itk(field), field.fixed.affine, intent=VECTOR_INTENT)


def read_warp(path: str | Path) -> tuple[NDArray[np.float64], Grid]:
    """Read a displacement image of ITK: NIfTI with five dimensions, or MetaImage or NRRD.

    Returns
    -------
    displacement, grid
        (X, Y, Z, 3) in **RAS+** millimetres, and the grid it is sampled on, as ITK reads its header.

    Raises
    ------
    InputError
        If it cannot be read, is no three-dimensional vector image, or holds NaN or infinite values.
    """
    path = Path(path)
    if path.name.endswith(_IMAGE_SUFFIXES):
        array, grid = _read_with_simpleitk(path)
    else:
        stored = read_vectors(path)
        if stored.array.ndim != 5 or stored.array.shape[3:] != (1, 3):
            raise InputError(
                f"{path}: has shape {'x'.join(map(str, stored.array.shape))}; an ITK or ANTs warp has "
                "XxYxZx1x3; see what it is with `iterreg inspect` and name its format"
            )
        array = stored.array[:, :, :, 0, :]
        if stored.intent == DISPLACEMENT_INTENT:
            array = array * RAS_TO_LPS
        grid = Grid(cast(Any, array.shape[:3]), stored.affine)
        grid = grid_by_itk(path, grid) or grid
    if not np.isfinite(array).all():
        raise InputError(
            f"{path}: holds NaN or infinite displacements; the registration that wrote it failed"
        )
    return array * RAS_TO_LPS, grid


def read_transforms(files: Sequence[str | Path], fixed: Grid, moving: Grid) -> DisplacementField:
    """One field from a list of transforms, in the order antsApplyTransforms takes them.

    As there, the **last** one is applied first to the moving image; seen from a fixed point, the
    first one is applied first: ``["1Warp.nii.gz", "0GenericAffine.mat"]``.

    Parameters
    ----------
    files
        Warps (``.nii``, ``.nii.gz``, ``.mha``, ``.mhd``, ``.nrrd``) and ITK transforms (``.mat``, ``.txt``,
        ``.tfm``, ``.h5`` composites). ``"[0GenericAffine.mat,1]"`` inverts a linear transform. Warps may
        be sampled on another grid than `fixed`; they are then interpolated as ITK does.

    Raises
    ------
    InputError
        If a file cannot be read, or a transform that is not linear is to be inverted.
    """
    if not files:
        raise InputError("no transform was given; name at least one file")
    if len(files) == 1:
        path, invert = _parse(str(files[0]))
        if not invert and not path.name.endswith(_TRANSFORM_SUFFIXES):
            return sample_displacements(*read_warp(path), fixed, moving, source=str(path))
    maps: list[PointMap] = []
    for item in files:
        path, invert = _parse(str(item))
        maps.extend(_maps(path, invert))
    return densify(maps, fixed, moving, source=" ".join(map(str, files)))


def _simpleitk() -> Any:
    import SimpleITK

    return SimpleITK


def _parse(item: str) -> tuple[Path, bool]:
    """Split antsApplyTransforms' ``[file,useInverse]``."""
    if not (item.startswith("[") and item.endswith("]")):
        return to_path(item), False
    name, _, flag = item[1:-1].rpartition(",")
    if not name or flag.strip() not in ("0", "1"):
        raise InputError(f"{item}: a transform in brackets is written [file,0] or [file,1] (1: inverted)")
    return to_path(name.strip()), flag.strip() == "1"


def _maps(path: Path, invert: bool) -> list[PointMap]:
    if not path.name.endswith(_TRANSFORM_SUFFIXES):
        displacement, grid = read_warp(path)
        if invert:
            raise InputError(
                f"{path}: a warp cannot be inverted by a flag; name its InverseWarp file instead, or use "
                "`iterreg convert --invert`"
            )
        return [displacement_map(displacement, grid)]
    sitk = _simpleitk()

    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: ITK cannot read it as a transform ({reason}); write it again") from error
    if transform.GetDimension() != 3:
        raise InputError(f"{path}: is a transform of {transform.GetDimension()} dimensions, three are needed")
    if invert:
        if not transform.IsLinear():
            raise InputError(
                f"{path}: only a linear transform can be inverted by a flag; use `iterreg convert --invert`"
            )
        return [affine_map(np.linalg.inv(_linear_matrix(transform)))]
    return _maps_of(transform, path)


def _maps_of(transform: Any, path: Path) -> list[PointMap]:
    """The links of an ITK transform, the one applied first to a fixed point first."""
    name = transform.GetName()
    if "CompositeTransform" in name:
        sitk = _simpleitk()

        composite = sitk.CompositeTransform(transform)
        links = [composite.GetNthTransform(i) for i in range(composite.GetNumberOfTransforms())]
        return [one for link in reversed(links) for one in _maps_of(link, path)]
    if transform.IsLinear():
        return [affine_map(_linear_matrix(transform))]
    specific = transform.Downcast()
    if "DisplacementField" in name:
        array, grid = _from_sitk_image(specific.GetDisplacementField())
        return [displacement_map(array * RAS_TO_LPS, grid)]
    if "BSpline" in name:
        images = [_from_sitk_image(image) for image in specific.GetCoefficientImages()]
        coefficients = np.stack([array for array, _ in images], axis=-1) * RAS_TO_LPS
        return [bspline_map(coefficients, images[0][1], specific.GetOrder())]
    raise InputError(
        f"{path}: holds a {name}, which iterreg cannot read; write it as a displacement field first"
    )


def _linear_matrix(transform: Any) -> FloatArray:
    """The (4, 4) RAS+ matrix of a linear ITK transform, from where it takes four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(tuple(np.eye(3)[axis].tolist()))) - origin
    matrix[:3, 3] = origin
    return lps_matrix(matrix)


def _read_with_simpleitk(path: Path) -> tuple[NDArray[Any], Grid]:
    sitk = _simpleitk()

    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: ITK cannot read it as an image ({reason}); write it again") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(
            f"{path}: is no displacement image: it has {image.GetDimension()} dimensions and "
            f"{image.GetNumberOfComponentsPerPixel()} components, three and three are needed"
        )
    return _from_sitk_image(image)


def _from_sitk_image(image: Any) -> tuple[NDArray[Any], Grid]:
    """A SimpleITK image as an array in nibabel's axis order (values untouched) and its RAS+ grid."""
    sitk = _simpleitk()

    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, (0, 1, 2), (2, 1, 0))
    grid = grid_of(array.shape[:3], image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return array, grid
