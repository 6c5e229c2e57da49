"""The one way in for NIfTI files: volumes, vector fields and the checks of a data set open them here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from iterreg.errors import InputError

__all__ = ["UNREADABLE", "open_header", "open_whole", "refusals"]

UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
)
"""What nibabel and the decompressors raise on files that are damaged or no NIfTI."""

_SMALLEST_HEADER = 348
_NIFTI_2_HEADER = 540
_GZIP = b"\x1f\x8b"


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn whatever a missing, forbidden or damaged file makes the block raise into one sentence.

    Raises
    ------
    InputError
        Instead of any of `UNREADABLE`, and before the block if there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check the path or the data set's root")
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: may not be read ({error.strerror}); ask its owner for access") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as NIfTI ({type(error).__name__}: {error}); "
            "it is truncated, damaged or of another format: copy, download or convert it again"
        ) from error


def open_header(path: Path) -> Any:
    """The nibabel image of a file of which no more than the header is read.

    Raises
    ------
    Exception
        One of `UNREADABLE`, also where an uncompressed file is too short for its voxels.
    """
    image = cast(Any, nib.load(path))
    if path.name.endswith(".nii"):
        voxels = int(np.prod(image.shape, dtype=np.int64)) * image.header.get_data_dtype().itemsize
        needed, size = int(image.dataobj.offset) + voxels, path.stat().st_size
        if size < needed:
            raise ValueError(f"{size} bytes instead of {needed}")
    return image


def open_whole(path: Path) -> Any:
    """The nibabel image of a file whose every byte has been read, gzip's checksum at its end included.

    nibabel stops decompressing after the last voxel, so that a damaged download would load as an image with
    noise in it. isal decompresses five times faster, too.

    Raises
    ------
    Exception
        One of `UNREADABLE`.
    """
    if not path.name.endswith(".nii.gz"):
        _check_gzip(path)
        return open_header(path)
    with cast(Any, igzip).open(path, "rb") as stream:
        data = stream.read()
    if len(data) < _SMALLEST_HEADER:
        raise ValueError(f"{len(data)} bytes are less than a header")
    sizes = {int.from_bytes(data[:4], order) for order in ("little", "big")}
    kind = nib.nifti2.Nifti2Image if _NIFTI_2_HEADER in sizes else nib.nifti1.Nifti1Image
    return cast(Any, kind).from_bytes(data)


def _check_gzip(path: Path) -> None:
    """Read a compressed file of another kind (``.mgz``) to its end."""
    with path.open("rb") as stream:
        if stream.read(len(_GZIP)) != _GZIP:
            return
    with cast(Any, igzip).open(path, "rb") as content:
        while content.read(2**20):
            pass
