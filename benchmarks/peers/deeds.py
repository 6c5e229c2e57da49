"""deedsBCV (Heinrich et al., MICCAI 2013): python deeds.py FIXED MOVING THREADS OUT

Its program is looked for in DEEDS_DIR, else on the PATH. Settings: the defaults for brains, without an affine
step, the images being aligned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

LEVELS = ["-G", "6x5x4x3x2", "-L", "6x5x4x3x2", "-Q", "5x4x3x2x1"]
SPACING = 2
"""Voxels between the control points of the last level, on which the result is given."""


def register(fixed: Path, moving: Path, threads: int, out: Path) -> None:
    program = Path(os.environ.get("DEEDS_DIR", ""), "deedsBCV")
    image = nib.load(fixed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for role, path in (("fixed", fixed), ("moving", moving)):  # it reads plain float32
            array = np.asarray(nib.load(path).dataobj, np.float32)
            nib.save(nib.Nifti1Image(array, image.affine), folder / f"{role}.nii.gz")
        inputs = ["-F", folder / "fixed.nii.gz", "-M", folder / "moving.nii.gz"]
        subprocess.run(
            [program, *inputs, "-O", folder / "out", *LEVELS],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
        )
        numbers = np.fromfile(folder / "out_displacements.dat", np.float32)
    # Three control grids, the first array axis fastest; components along axes 1, 0, 2.
    grid = [n // SPACING for n in image.shape]
    u = numbers.reshape(3, *grid[::-1]).transpose(3, 2, 1, 0)[..., [1, 0, 2]]
    for axis, size in enumerate(image.shape):
        u = stretched(u, axis, size)
    nib.save(nib.Nifti1Image(np.asarray(u, np.float32), image.affine), out)


def stretched(u: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation along an axis as deeds does it: voxel i lies at ``i n / size``."""
    n = u.shape[axis]
    at = np.arange(size) * (n / size)
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(u.ndim)])
    first = np.take(u, np.minimum(low, n - 1), axis)
    return first + share * (np.take(u, np.minimum(low + 1, n - 1), axis) - first)


if __name__ == "__main__":
    register(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
