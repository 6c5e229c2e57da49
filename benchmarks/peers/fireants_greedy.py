"""FireANTs' greedy registration (Jena et al., 2024): python fireants_greedy.py FIXED MOVING THREADS OUT

Needs the package ``fireants`` and a torch for CPUs. Settings: the project's own for OASIS, with fewer
iterations (theirs are 250, 200 and 100, made for a GPU).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fireants.io.image import BatchedImages, Image
from fireants.registration.greedy import GreedyRegistration

SCALES, ITERATIONS = [4, 2, 1], [100, 100, 15]


def register(fixed: Path, moving: Path, threads: int, out: Path) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        pair = [scaled(path, Path(name)) for path in (fixed, moving)]
    greedy = GreedyRegistration(
        SCALES,
        ITERATIONS,
        *pair,
        loss_type="cc",
        cc_kernel_size=7,
        deformation_type="compositive",
        optimizer="adam",
        optimizer_lr=0.25,
        optimizer_params={"beta1": 0.1, "scaledown": False},
        smooth_grad_sigma=1,
        smooth_warp_sigma=0.25,
        progress_bar=False,
    )
    # Torch's own convolutions of one channel are faster than oneDNN's, by a factor of up to three.
    with torch.backends.mkldnn.flags(enabled=False):
        greedy.optimize()
    with torch.no_grad():  # (1, z, y, x, 3), components x, y, z in [-1, 1] from corner to corner
        places = greedy.get_warped_coordinates(*pair)[0].numpy().transpose(2, 1, 0, 3)
    image = nib.load(fixed)
    here = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    u = (places + 1) / 2 * (np.array(nib.load(moving).shape) - 1) - here
    nib.save(nib.Nifti1Image(u.astype(np.float32), image.affine), out)


def scaled(path: Path, folder: Path) -> BatchedImages:
    """The image with intensities from 0 to 1."""
    image = nib.load(path)
    array = np.asarray(image.dataobj, np.float32)
    nib.save(nib.Nifti1Image(array / array.max(), image.affine), folder / "image.nii")
    return BatchedImages(Image.load_file(str(folder / "image.nii"), device="cpu"))


if __name__ == "__main__":
    register(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
