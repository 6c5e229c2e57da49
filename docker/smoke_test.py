"""Runs the container's entry point on a tiny made-up data set: `python smoke_test.py METHOD …`.

The image's build runs it once per method it is meant for. It proves that the engines load and that the
output is complete, and with NUMBA_CACHE_DIR set it leaves compiled kernels behind for the image to keep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (40, 48, 44)


def ball(centre: float, seed: int) -> np.ndarray:
    """A smooth textured ball in an empty (X, Y, Z) volume, intensities in [0, 255]."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    inside = ((grid[0] - centre) ** 2 + grid[1] ** 2 + grid[2] ** 2) < 0.6
    texture = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 2)
    texture = (texture - texture.min()) / np.ptp(texture)
    return (gaussian_filter(inside * (0.4 + 0.6 * texture), 1) * 255).astype(np.float32)


def main(methods: list[str]) -> None:
    for method in methods:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            images, output = root / "input" / "imagesVal", root / "output"
            images.mkdir(parents=True)
            output.mkdir()
            pair = {}
            for role, number, centre in (("fixed", 1, 0.0), ("moving", 2, 0.1)):
                path = images / f"LUMIRMRI_{number:04d}_0000.nii.gz"
                nib.save(nib.Nifti1Image(ball(centre, seed=1), np.eye(4)), path)
                pair[role] = f"./imagesVal/{path.name}"
            content = {"name": "LUMIR", "tensorImageShape": {"0": list(SHAPE)}, "validation": [pair]}
            (root / "LUMIR_dataset.json").write_text(json.dumps(content))
            subprocess.run(
                [sys.executable, "-m", "iterreg", "container", "--root", str(root)],
                env={**os.environ, "ITERREG_METHOD": method, "ITERREG_FALLBACK": "none"},
                check=True,
            )
            field = nib.load(output / "disp_0001_0002.nii.gz")
            if field.shape != (*SHAPE, 3) or [path.name for path in output.iterdir()] != [
                "disp_0001_0002.nii.gz"
            ]:
                sys.exit(f"{method}: the output is not the one field it should be")
            print(f"{method}: fine")


if __name__ == "__main__":
    main(sys.argv[1:])
