"""The one way in for image files: volumes, vector fields and the checks of a data set open them here.

NIfTI is meant; what else nibabel or SimpleITK reads (``.mgz``, ``.mha``, ``.nrrd`` …) comes as NIfTI would.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from iterreg.errors import InputError
from iterreg.itk_files import ITK_SUFFIXES, open_with_itk

__all__ = [
    "UNREADABLE",
    "kind_of",
    "open_header",
    "open_whole",
    "plausible_size",
    "refusals",
    "stated_header",
]

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
"""What nibabel and the decompressors raise on files that are damaged or no images."""

MILLIMETRES = {"meter": 1e3, "micron": 1e-3}
"""The units a NIfTI header may state instead of millimetres, and how many of these one is."""

_SMALLEST_HEADER = 348
_NIFTI_2_HEADER = 540
_SMALLEST_OFFSET = {_SMALLEST_HEADER: 352, _NIFTI_2_HEADER: 544}
"""Where voxels begin at the earliest: behind the header and the four bytes that announce extensions."""

_GZIP = b"\x1f\x8b"
_LARGEST_RATIO = 1040
"""What deflate can make of a byte at most (1032), and a little more."""

_SLACK = 2**16
"""Bytes that may follow the last voxel, such as the padding to whole blocks of a tape."""

_OTHER_PARTS = 2**24
"""Bytes that a compressed file of another kind may hold beside its voxels: header, tags, colour tables."""

_CHUNK = 2**22


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
            f"{path}: cannot be read as {kind_of(path)} ({type(error).__name__}: {error}); it is truncated, "
            "damaged or of another format: copy or download it again, or convert it to NIfTI"
        ) from error


def kind_of(path: Path) -> str:
    """What a file should be by its name, for sentences."""
    return "NIfTI" if path.name.lower().endswith((".nii", ".nii.gz")) else "an image"


def open_header(path: Path) -> Any:
    """The nibabel image of a file of which no more than the header is read, in millimetres.

    Raises
    ------
    Exception
        One of `UNREADABLE`, also where the file is too short for its voxels as far as its size tells.
    """
    name = path.name.lower()
    if name.endswith(ITK_SUFFIXES):
        image = open_with_itk(path, voxels=False)
        if name.endswith((".mha", ".nrrd")):  # the others' voxels are in another file
            plausible_size(_voxel_bytes(image), path.stat().st_size, compressed=True)
        return image
    image = cast(Any, nib.load(path))
    needed = _voxel_bytes(image)
    if name.endswith((".nii", ".nii.gz")):
        start = max(int(image.dataobj.offset), _SMALLEST_OFFSET[_header_size(image.header)])
        plausible_size(start + needed, path.stat().st_size, compressed=name.endswith(".gz"))
    elif name.endswith((".mgh", ".mgz")):
        plausible_size(needed, path.stat().st_size, compressed=name.endswith(".mgz"))
    return _in_millimetres(image)


def open_whole(path: Path) -> Any:
    """The nibabel image of a file whose every byte has been read, gzip's checksum at its end included.

    nibabel stops decompressing after the last voxel, so that a damaged download would load as an image with
    noise in it. isal decompresses five times faster, too. No more is decompressed than the header states.

    Raises
    ------
    Exception
        One of `UNREADABLE`.
    """
    name = path.name.lower()
    if name.endswith(ITK_SUFFIXES):
        open_header(path)
        return open_with_itk(path, voxels=True)
    if not name.endswith((".nii", ".nii.gz")):
        image = open_header(path)
        _check_gzip(path, _voxel_bytes(image))
        return image
    size = path.stat().st_size
    compressed = name.endswith(".gz")
    with cast(Any, igzip).open(path, "rb") if compressed else path.open("rb") as stream:
        start = stream.read(_NIFTI_2_HEADER)
        header = _parsed(start)
        if header is None:
            raise ValueError(f"its first {len(start)} bytes are no NIfTI header")
        stated = int(header["vox_offset"])
        offset = max(stated, _SMALLEST_OFFSET[_header_size(header)])
        if not compressed and offset == stated:
            return open_header(path)  # which maps the file into memory instead of reading it
        end = offset + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
        plausible_size(end, size, compressed=compressed)
        content = io.BytesIO()
        if offset != stated:  # some writers leave 0 there
            header["vox_offset"] = offset
            start = bytes(header.binaryblock) + start[_header_size(header) :]
        content.write(start)
        _pour(stream, content, end - len(start))
        if compressed:
            _pour(stream, None, _SLACK, sure=False)
            if stream.read(1):
                raise ValueError(f"it goes on after the {end} bytes that its header states")
    content.seek(0)
    kind = nib.nifti2.Nifti2Image if _header_size(header) == _NIFTI_2_HEADER else nib.nifti1.Nifti1Image
    return _in_millimetres(cast(Any, kind).from_stream(content))


def stated_header(path: Path) -> Any:
    """The NIfTI header as the file states it, nothing mended; None for a file of another kind.

    Raises
    ------
    Exception
        One of `UNREADABLE`.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz", ".hdr")):
        return None
    with cast(Any, igzip).open(path, "rb") if name.endswith(".gz") else path.open("rb") as stream:
        return _parsed(stream.read(_NIFTI_2_HEADER))


def plausible_size(needed: int, size: int, *, compressed: bool) -> None:
    """Refuse a header that promises more than its file, or this machine's memory, can hold.

    Parameters
    ----------
    needed
        Bytes by the header.
    size
        Bytes of the file, or of a compressed part of it.

    Raises
    ------
    ValueError
        With the reason.
    """
    if compressed and needed > _LARGEST_RATIO * size:
        raise ValueError(f"its header promises {needed} bytes, {size} compressed ones cannot hold them")
    if not compressed and needed > size:
        raise ValueError(f"{size} bytes instead of {needed}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(f"its header states {needed / 2**30:.4g} GiB, this machine has {memory / 2**30:.4g}")


def _voxel_bytes(image: Any) -> int:
    return int(math.prod(image.shape) * image.header.get_data_dtype().itemsize)


def _header_size(header: Any) -> int:
    return int(header.template_dtype.itemsize)


def _parsed(start: bytes) -> Any:
    """The header in the first bytes of a NIfTI file, unchecked; None where there is none."""
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if _NIFTI_2_HEADER in sizes and len(start) >= _NIFTI_2_HEADER:
        return cast(Any, nib.nifti2.Nifti2Header)(start[:_NIFTI_2_HEADER], check=False)
    if _SMALLEST_HEADER in sizes and len(start) >= _SMALLEST_HEADER:
        return cast(Any, nib.nifti1.Nifti1Header)(start[:_SMALLEST_HEADER], check=False)
    return None


def _pour(source: IO[bytes], target: IO[bytes] | None, count: int, *, sure: bool = True) -> None:
    """Read `count` bytes, some megabytes at once, so that a lie costs no more than what is there."""
    left = count
    while left > 0:
        part = source.read(min(left, _CHUNK))
        if not part:
            if sure:
                raise EOFError(f"{left} of its bytes are missing")
            return
        left -= len(part)
        if target is not None:
            target.write(part)


def _in_millimetres(image: Any) -> Any:
    """The image with its header's lengths in millimetres, where it states metres or micrometres."""
    if "xyzt_units" not in image.header:
        return image
    factor = MILLIMETRES.get(image.header.get_xyzt_units()[0])
    if factor is None:
        return image
    header = image.header.copy()
    header["pixdim"][1:4] *= factor
    for part in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[part] = header[part] * factor
    header.set_xyzt_units("mm", header.get_xyzt_units()[1])
    return type(image)(image.dataobj, header.get_best_affine(), header)


def _check_gzip(path: Path, voxels: int) -> None:
    """Read a compressed file of another kind (``.mgz``) to its end."""
    with path.open("rb") as stream:
        if stream.read(len(_GZIP)) != _GZIP:
            return
    with cast(Any, igzip).open(path, "rb") as content:
        _pour(content, None, voxels + _OTHER_PARTS, sure=False)
        if content.read(1):
            raise ValueError(f"it goes on after the {voxels} bytes of its voxels")
