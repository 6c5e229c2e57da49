"""Learn2Reg's ``.npz`` fields: half-resolution float16, 3 x X/2 x Y/2 x Z/2.

Values are voxels of the **full** grid; only the sampling is halved. Evaluators read them by
``scipy.ndimage.zoom(component, 2, order=2)``, whose first and last samples lie on the grid's corners
(so sample k lies at full voxel ``k (n - 1) / (n/2 - 1)``, not at 2 k).

Source of the rule: ``--scale`` of L2R_LUMIR_Eval/digital_diffeomorphism.py in JHU-MedImage-Reg/LUMIR_L2R.
The present Learn2Reg evaluator (MDL-UzL/L2R) reads full-size arrays from ``.npz`` unscaled; so does `read`,
from ``.npy``, too.
"""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from functools import cache
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import check_vectors, unbatched
from iterreg.io.nifti import check_folder
from iterreg.jobs.atomic import atomic_path
from iterreg.nifti_files import plausible_size
from iterreg.volume import FloatArray, Grid

__all__ = ["DAMAGE", "from_half", "load_array", "read", "to_half", "write", "write_full"]

DAMAGE = (
    EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError, OverflowError,
    RecursionError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and its zip files raise for files that are damaged: it parses headers as Python."""


def from_half(half: ArrayLike, fixed: Grid, moving: Grid) -> DisplacementField:
    """Upsample (3, X/2, Y/2, Z/2) full-grid voxel displacements as the evaluators do.

    Raises
    ------
    InputError
        If the shape is not half the fixed grid's.
    """
    from scipy.ndimage import zoom

    array = np.asarray(half, dtype=np.float32)
    if tuple(2 * n for n in array.shape[1:]) != fixed.shape or array.shape[0] != 3:
        raise InputError(
            f"a half-resolution field of shape {array.shape} does not fit a fixed image of shape "
            f"{fixed.shape}; (3, X/2, Y/2, Z/2) is needed, with even X, Y, Z"
        )
    vectors = np.stack([zoom(component, 2, order=2) for component in array], axis=-1)
    return DisplacementField(vectors, fixed, moving)


def to_half(field: DisplacementField) -> NDArray[np.float16]:
    """The (3, X/2, Y/2, Z/2) float16 array that reads back closest to `field` (least squares).

    Raises
    ------
    InputError
        If an axis of the fixed grid is odd or shorter than four voxels, or a value exceeds float16.
    """
    shape = field.fixed.shape
    if any(n % 2 or n < 4 for n in shape):
        raise InputError(
            f"half-resolution fields need even sizes of at least four voxels, the fixed image is {shape}; "
            "write the full field instead (challenge format)"
        )
    half: NDArray[Any] = np.moveaxis(field.vectors, -1, 0).astype(np.float64)
    for axis, n in enumerate(shape, start=1):
        half = np.moveaxis(np.tensordot(_downsampling(n // 2), half, axes=(1, axis)), 0, axis)
    if np.abs(half).max() > np.finfo(np.float16).max:
        raise InputError("the field holds displacements beyond float16's range; write the challenge format")
    return half.astype(np.float16)


def read(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    """Read a ``.npy``, or a ``.npz`` of one array: half-resolution, or full (X, Y, Z, 3) or (3, X, Y, Z).

    A leading batch axis of length one is dropped.

    Raises
    ------
    InputError
        If it cannot be read, holds several arrays, has another shape, or is not finite.
    """
    array = unbatched(load_array(path), fixed.shape)
    if array.ndim == 4 and array.shape == (3, *(n // 2 for n in fixed.shape)):
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: holds NaN or infinite displacements; the registration that wrote it failed"
            )
        return from_half(array, fixed, moving)
    return DisplacementField(check_vectors(array, path, fixed.shape), fixed, moving)


def write(path: str | Path, field: DisplacementField) -> None:
    """Write the half-resolution float16 form, atomically, as the single array ``arr_0``.

    Raises
    ------
    InputError
        As `to_half`, or if the name does not end in ``.npz``.
    """
    _save(path, to_half(field))


def write_full(path: str | Path, field: DisplacementField) -> None:
    """Write (X, Y, Z, 3) float32 at full resolution, the form the present evaluator takes unscaled."""
    _save(path, field.vectors)


def load_array(path: str | Path) -> NDArray[Any]:
    """The one array of a ``.npz`` or ``.npy`` file.

    Raises
    ------
    InputError
        If it is missing, truncated, holds several arrays or something that is not real numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Reading `.npy`", UserWarning
            )  # Python 2's header, read as it is
            array = _from_archive(path) if zipfile.is_zipfile(path) else _from_array_file(path)
    except InputError:
        raise
    except (OSError, *DAMAGE) as error:
        raise InputError(
            f"{path}: cannot be read as a numpy file ({type(error).__name__}: {error}); "
            "write or copy it again"
        ) from error
    if array.dtype.kind not in "iubf":
        raise InputError(f"{path}: holds {array.dtype} values, real numbers are needed")
    return array


def _from_array_file(path: Path) -> NDArray[Any]:
    with path.open("rb") as stream:
        cast(Any, np.lib.format).read_magic(
            stream
        )  # `np.load` takes whatever has none for a pickle, and says so
    # Mapped first: a header that promises more than the file holds is refused before memory is asked for.
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _from_archive(path: Path) -> NDArray[Any]:
    """The one array of an archive, whose header must promise what its member holds."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            names = ", ".join(member.filename.removesuffix(".npy") for member in members[:8])
            raise InputError(f"{path}: holds the arrays {names or 'none'}; one is needed")
        member = members[0]
        if not member.filename.endswith(".npy"):
            raise InputError(
                f"{path}: is an archive of {member.filename}, not of a numpy array; save the field with "
                "numpy.savez"
            )
        plausible_size(
            member.file_size, member.compress_size, compressed=member.compress_type != zipfile.ZIP_STORED
        )
        with archive.open(member) as stream:
            promised = _promised(stream) + stream.tell()
        if promised != member.file_size:
            raise ValueError(f"{member.file_size} bytes instead of {promised}")
        with archive.open(member) as stream:
            return np.asarray(cast(Any, np.lib.format).read_array(stream, allow_pickle=False))


def _promised(stream: IO[bytes]) -> int:
    """The bytes that the header of an array, which is read, promises after itself."""
    numpy_format = cast(Any, np.lib.format)
    version = numpy_format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = numpy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = numpy_format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"format version {version} is for arrays of records")
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return int(math.prod(shape) * dtype.itemsize)


@cache
def _downsampling(n: int) -> FloatArray:
    """(n, 2n): the pseudo-inverse of zoom by 2, which is linear and works along one axis at a time."""
    from scipy.ndimage import zoom

    upsampling = np.stack([zoom(row, 2, order=2) for row in np.eye(n)], axis=1)
    return np.asarray(np.linalg.pinv(upsampling))


def _save(path: str | Path, array: NDArray[Any]) -> None:
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path}: a numpy archive is written, the name must end in .npz")
    check_folder(path)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, array)
