"""Images as ITK reads them: files that nibabel does not know, and where ITK places a file.

ITK's world is LPS millimetres; everything here is given in RAS+ millimetres, with nibabel's axis order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

__all__ = ["ITK_SUFFIXES", "affine_by_itk", "open_with_itk"]

ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
"""How the names of files end that SimpleITK reads and nibabel does not (in small letters)."""

_REAL = tuple(np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"))
_COMPLEX = (np.dtype("c8"), np.dtype("c16"))
_DTYPES = (*_REAL, *_COMPLEX, *_REAL)
"""By SimpleITK's number of a pixel type: scalars, complex numbers, vectors."""


def open_with_itk(path: Path, *, voxels: bool) -> Any:
    """A MetaImage or NRRD file as a nibabel image in memory; several components come as a last axis.

    Parameters
    ----------
    voxels
        Read them; otherwise every voxel of the image is zero and takes no memory.

    Raises
    ------
    OSError
        If ITK cannot read the file.
    """
    import SimpleITK

    reader = _reader(path)
    axes, components = int(reader.GetDimension()), int(reader.GetNumberOfComponents())
    size = tuple(int(n) for n in reader.GetSize())
    if voxels:
        try:
            array = cast(Any, SimpleITK).GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise OSError(_reason(error)) from error
        array = np.moveaxis(array, tuple(range(axes)), tuple(reversed(range(axes))))
    else:
        shape = size if components == 1 else (*size, components)
        array = np.broadcast_to(np.zeros((), _DTYPES[reader.GetPixelIDValue()]), shape)
    return cast(Any, nib.nifti1.Nifti1Image)(array, _affine(reader), dtype=array.dtype)


def affine_by_itk(path: Path) -> NDArray[np.float64] | str:
    """Where ITK places the voxels of an image file, or ITK's reason not to read it.

    Returns
    -------
    (4, 4) float64, voxel index -> RAS+ millimetres, or a reason.
    """
    try:
        return _affine(_reader(path))
    except OSError as error:
        return str(error)


def _reader(path: Path) -> Any:
    """A reader that has read the file's header."""
    import SimpleITK

    sitk = cast(Any, SimpleITK)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # `iterreg.headers` has its own words for odd headers
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise OSError(_reason(error)) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return reader


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's message, without its own words around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ") if lines else "ITK gives no reason"


def _affine(reader: Any) -> NDArray[np.float64]:
    """Its first three axes; a fourth one of a series is none of space."""
    axes = int(reader.GetDimension())
    direction = np.reshape(reader.GetDirection(), (axes, axes)) * np.asarray(reader.GetSpacing())
    affine = np.eye(4)
    affine[: min(axes, 3), : min(axes, 3)] = direction[:3, :3]
    affine[: min(axes, 3), 3] = reader.GetOrigin()[:3]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
