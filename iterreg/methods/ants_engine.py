"""antsRegistration and antsApplyTransforms as functions: images in, what they print and write out.

Nothing here knows SyN's settings.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import EngineError
from iterreg.io.itk import from_itk
from iterreg.io.lps import geometry_of
from iterreg.volume import Grid

__all__ = ["Box", "Pixel", "ants_image", "compose_transforms", "run_program", "slices", "whole_box"]

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Pixel = Literal["float", "double", "unsigned char"]


def whole_box(grid: Grid) -> Box:
    x, y, z = grid.shape
    return ((0, x), (0, y), (0, z))


def slices(box: Box) -> tuple[slice, slice, slice]:
    (a, b), (c, d), (e, f) = box
    return slice(a, b), slice(c, d), slice(e, f)


def ants_image(array: NDArray[Any], grid: Grid, box: Box, pixel: Pixel = "float") -> Any:
    """The part of an array that lies in a box, as an image of antspyx.

    Parameters
    ----------
    array
        (X, Y, Z) on `grid`.
    pixel
        What the program takes the memory for, of which it gets a bare pointer: antsRegistration reads images
        in the precision it computes in, and masks as ``unsigned char``. Another type is not an error there
        but other numbers.
    """
    import ants

    geometry = geometry_of(grid, first=[low for low, _ in box])
    image = ants.from_numpy(
        np.asarray(array[slices(box)], dtype=np.uint8 if pixel == "unsigned char" else np.float32),
        origin=tuple(geometry.origin.tolist()),
        spacing=tuple(geometry.spacing.tolist()),
        direction=geometry.direction,
    )
    return image.clone("double") if pixel == "double" else image


def run_program(program: str, arguments: Sequence[str], folder: Path) -> str:
    """Call one of antspyx's programs and return what it printed.

    Raises
    ------
    EngineError
        If it fails, or if it caught an exception and went on: antsRegistration skips a stage that fails, and
        its exit code says nothing of it.
    """
    from ants.internal import get_lib_fn

    with _printed(folder / f"{program}.log") as printed:
        print(program, *arguments, flush=True)
        try:
            code = get_lib_fn(program)(list(arguments))
        except RuntimeError as error:
            raise EngineError(f"{program} failed: {error}{_tail(printed())}") from error
        log = printed()
    if code != 0:
        raise EngineError(f"{program} failed with exit code {code}{_tail(log)}")
    if "Exception caught" in log:
        reason = re.search(r"ITK ERROR: *(.+)", log)
        raise EngineError(
            f"{program} could not finish a stage: {reason[1].strip()}"
            if reason
            else f"{program} failed{_tail(log)}"
        )
    return log


@contextmanager
def _printed(path: Path) -> Iterator[Callable[[], str]]:
    """Read back what is printed from here on, by this process's C++ code too.

    A job's standard output is a file, which is read where it grows. Anything else (a terminal, a pipe) is
    replaced by the file `path` meanwhile, and gets its content afterwards.
    """
    _flush()
    before = os.fstat(1)
    if stat.S_ISREG(before.st_mode):
        start, source = before.st_size, Path("/proc/self/fd/1")
        yield lambda: _read(source, start)
        return
    keep = os.dup(1)
    try:
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
        yield lambda: _read(path, 0)
    finally:
        _flush()
        os.dup2(keep, 1)
        os.close(keep)
        print(_read(path, 0), end="", flush=True)


def _read(path: Path, start: int) -> str:
    _flush()
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _flush() -> None:
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def _tail(log: str, lines: int = 6) -> str:
    last = [line for line in log.splitlines() if line.strip()][-lines:]
    return "; its last lines were: " + " | ".join(last) if last else "; see the job's log"


def compose_transforms(chain: Sequence[str], start: Grid, end: Grid, path: Path) -> NDArray[np.float32]:
    """A chain of transforms as displacements in voxels of `end`, sampled on the whole grid of `start`.

    A warp lies on the cropped grid, and on a coarser one when the last level was coarse: it is interpolated
    linearly, and is zero beyond its grid.

    Returns
    -------
    vectors
        (X, Y, Z, 3) float32, iterreg's convention.
    """
    import nibabel as nib
    from ants.internal import get_pointer_string

    # In double precision: rounded sampling points would add noise to a warp that lies on the very same grid.
    reference = ants_image(np.zeros(start.shape, np.float32), start, whole_box(start), "double")
    pointer = get_pointer_string(reference)
    arguments = ["-d", "3", "-i", pointer, "-r", pointer, "-o", f"[{path},1]", "-n", "Linear"]
    for transform in chain:
        arguments += ["-t", transform]
    arguments += ["--float", "0", "-v", "0", "-e", "0", "-f", "0"]
    run_program("antsApplyTransforms", arguments, path.parent)
    if not path.is_file():
        raise EngineError("antsApplyTransforms ended without error, but did not write the composed field")
    stored = np.asarray(cast(Any, nib.nifti1.load)(path).dataobj, dtype=np.float32)
    path.unlink()
    if stored.shape != (*start.shape, 1, 3) or not np.isfinite(stored).all():
        raise EngineError(
            f"antsApplyTransforms wrote a field of shape {stored.shape}, not a finite one on {start.shape}"
        )
    return from_itk(stored, start, end).vectors
