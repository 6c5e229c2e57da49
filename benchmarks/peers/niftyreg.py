"""NiftyReg's reg_f3d (Modat et al., 2010): python niftyreg.py FIXED MOVING THREADS OUT

Its programs are looked for in NIFTYREG_BIN, else on the PATH. Settings: local correlation of 3 voxels, a
control point every 4, three levels; the better of two that were tried on one pair.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

SETTINGS = ["--lncc", "3", "-sx", "-4", "-be", "0.0005", "-le", "0.005", "-ln", "3", "-pad", "0"]


def register(fixed: Path, moving: Path, threads: int, out: Path) -> None:
    programs = Path(os.environ.get("NIFTYREG_BIN", ""))
    omp = ["-omp", str(threads)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points, field = folder / "points.nii", folder / "field.nii"
        pair, result = ["-ref", fixed, "-flo", moving], ["-cpp", points, "-res", folder / "warped.nii"]
        for command in (
            ["reg_f3d", *pair, *result, *SETTINGS, *omp, "-voff"],
            ["reg_transform", "-ref", fixed, "-disp", points, field, *omp],
        ):
            subprocess.run([programs / command[0], *command[1:]], check=True, stdout=subprocess.DEVNULL)
        millimetres = np.asarray(nib.load(field).dataobj, np.float32).squeeze()
    # The moving voxel of a fixed voxel p: inverse(moving affine) (fixed affine p + displacement).
    image = nib.load(fixed)
    back = np.linalg.inv(nib.load(moving).affine)
    still = back @ image.affine
    places = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    u = millimetres @ back[:3, :3].T + (places @ still[:3, :3].T + still[:3, 3] - places)
    nib.save(nib.Nifti1Image(u.astype(np.float32), image.affine), out)


if __name__ == "__main__":
    register(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
