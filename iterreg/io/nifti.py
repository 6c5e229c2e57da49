"""Reading vector NIfTI files as they are stored, and writing NIfTI files atomically."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.io.gzip_blocks import write_gzip
from iterreg.jobs.atomic import atomic_path
from iterreg.nifti_files import open_header, open_whole, refusals
from iterreg.volume import FloatArray, Volume

__all__ = [
    "DISPLACEMENT_INTENT",
    "VECTOR_INTENT",
    "StoredVectors",
    "check_folder",
    "read_vectors",
    "stored_shape",
    "write_array",
    "write_volume",
]

VECTOR_INTENT = 1007
"""NIfTI's "vector" intent, as ITK writes it: the numbers are ITK's own, in LPS."""

DISPLACEMENT_INTENT = 1006
"""NIfTI's "displacement vector" intent: the numbers are in RAS, and ITK turns them to LPS as it reads."""

_PART_BYTES = 2**21
"""What is converted and compressed at once."""


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """A vector image exactly as its file stores it.

    Attributes
    ----------
    array
        The stored array, not reordered, not converted; float32 or float64 (integers become float32).
    affine
        (4, 4) float64, voxel index -> RAS+ millimetres, of the header.
    intent, intent_name, parameter
        The NIfTI intent's code, its name, and the first of its parameters.
    path
        The file.
    """

    array: NDArray[Any]
    affine: FloatArray
    intent: int
    intent_name: str
    parameter: float
    path: Path


def read_vectors(path: str | Path) -> StoredVectors:
    """Read a NIfTI file of any dimension whole.

    Raises
    ------
    InputError
        If the file is missing, truncated, not NIfTI, or holds no real numbers.
    """
    path = Path(path)
    with refusals(path):
        image = open_whole(path)
        array: NDArray[Any] = np.asanyarray(image.dataobj)
        affine = image.affine
        header = image.header
        known = "intent_code" in header
        intent = int(header["intent_code"]) if known else 0
        name = bytes(header["intent_name"]).rstrip(b"\0").decode("latin-1") if known else ""
        parameter = float(header["intent_p1"]) if known else 0.0
    if array.dtype.fields is not None or array.dtype.kind not in "iubf" or affine is None:
        raise InputError(
            f"{path}: holds {array.dtype} values, real numbers are needed; write the field as float32"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    return StoredVectors(array, np.asarray(affine, dtype=np.float64), intent, name, parameter, path)


def stored_shape(path: str | Path) -> tuple[int, ...]:
    """The array's shape by the header alone.

    Raises
    ------
    InputError
        If the file is missing or not NIfTI.
    """
    path = Path(path)
    with refusals(path):
        return tuple(int(n) for n in open_header(path).shape)


def write_array(
    path: str | Path,
    array: NDArray[Any],
    affine: FloatArray,
    *,
    intent: int = 0,
    intent_name: str = "",
    threads: int = 1,
) -> None:
    """Write an array as NIfTI-1, atomically; the same array gives the same bytes, with any number of threads.

    Parameters
    ----------
    path
        ``.nii.gz`` (compressed with isal, no time and no name in the gzip header) or ``.nii``.
    array
        Any dtype NIfTI knows, in nibabel's axis order.
    affine
        (4, 4), written as sform and, where it does not shear, as qform.
    intent, intent_name
        What the numbers are.
    threads
        For the compression.

    Raises
    ------
    InputError
        If the name ends otherwise or its folder does not exist.
    """
    path = Path(path)
    if not path.name.endswith((".nii.gz", ".nii")):
        raise InputError(f"{path}: a NIfTI file is written, the name must end in .nii.gz or .nii")
    check_folder(path)
    image = cast(Any, nib.nifti1.Nifti1Image)(array, affine)
    header = image.header
    header.set_xyzt_units("mm")
    header["intent_code"] = intent
    header["intent_name"] = intent_name.encode()
    if not np.array_equal(affine, np.eye(4)):
        image.set_qform(affine, code=1, strip_shears=True)
        image.set_sform(affine, code=1)
    blocks = [partial(_header_bytes, header), *(partial(_fortran_bytes, part) for part in _parts(array))]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if path.name.endswith(".gz"):
            write_gzip(stream, blocks, threads=threads)
        else:
            for block in blocks:
                stream.write(block())


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume with its grid's affine; integers are stored in the smallest of uint8, int16, int32.

    Raises
    ------
    InputError
        If the name is not a NIfTI name or its folder does not exist.
    """
    array = volume.array
    if array.dtype.kind in "iub":
        lowest, highest = (int(array.min()), int(array.max())) if array.size else (0, 0)
        for dtype in (np.uint8, np.int16, np.int32):
            if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
                array = array.astype(dtype)
                break
    else:
        array = array.astype(np.float32, copy=False)
    write_array(path, array, volume.grid.affine)


def check_folder(path: Path) -> None:
    """Refuse a name whose folder does not exist.

    Raises
    ------
    InputError
        If it does not.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")


def _header_bytes(header: Any) -> bytes:
    buffer = io.BytesIO()
    header.set_data_offset(352)
    header.set_slope_inter(1.0, 0.0)
    header.write_to(buffer)
    return buffer.getvalue().ljust(352, b"\0")


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The array in parts of some megabytes, in the order they have on disk: the last axis is the slowest."""
    if array.ndim > 3:
        for index in range(array.shape[-1]):
            yield from _parts(array[..., index])
        return
    slices = max(1, _PART_BYTES * array.shape[-1] // max(1, array.nbytes))
    for start in range(0, array.shape[-1], slices):
        yield array[..., start : start + slices]


def _fortran_bytes(array: NDArray[Any]) -> bytes:
    # Turned round first: `tobytes` would go through the elements one by one, and let no other thread run.
    return np.ascontiguousarray(array.T, array.dtype.newbyteorder("<")).tobytes()
