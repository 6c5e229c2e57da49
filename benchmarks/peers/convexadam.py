"""ConvexAdam with MIND (Siebert et al., 2021): python convexadam.py FIXED MOVING THREADS OUT

Needs the package ``convexAdam`` and a torch for CPUs. Settings: the package's defaults, in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt


def register(fixed: Path, moving: Path, threads: int, out: Path) -> None:
    torch.set_num_threads(threads)
    pair = [torch.from_numpy(np.asarray(nib.load(path).dataobj, np.float32)) for path in (fixed, moving)]
    u = convex_adam_pt(*pair, dtype=torch.float32, device=torch.device("cpu"))
    nib.save(nib.Nifti1Image(u.astype(np.float32), nib.load(fixed).affine), out)


if __name__ == "__main__":
    register(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
