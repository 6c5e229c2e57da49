"""syntx's time-varying velocities (Avants, 2026): python syntx_tvf.py FIXED MOVING THREADS OUT

Needs the packages ``syntx`` and ``antspyx`` and a torch; a GPU is used where torch sees one. Settings: those
of the project's own benchmark (``syntx.benchmark.config``), called as its ``evaluate`` calls them; the images
are aligned already, so the affine to start from is the identity.
"""

from __future__ import annotations

import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import torch

if find_spec("antstorch") is None:  # imported by syntx for what is not used here, and not on PyPI
    sys.modules["antstorch"] = types.ModuleType("antstorch")

import syntx
from syntx.benchmark.config import get_model_config


def register(fixed: Path, moving: Path, threads: int, out: Path) -> None:
    torch.set_num_threads(threads)
    config = get_model_config("tvf")
    with tempfile.TemporaryDirectory() as folder:
        identity = str(Path(folder) / "identity.mat")
        ants.write_transform(ants.create_ants_transform(transform_type="AffineTransform"), identity)
        pair = [ants.image_read(str(path)) for path in (fixed, moving)]
        result = syntx.tvf(
            *pair,
            initial_transform=identity,
            backend="pytorch",
            device="cuda" if torch.cuda.is_available() else "cpu",
            regularizer=config["tvf_regularizer"],
            alpha=config["dsti_alpha"],
            flow_sigma=3.0,  # anything above zero switches the Green operator on
            total_sigma=config["tvf_total_sigma"],
            optimizer=config["optimizer"],
            optimizer_lr=config["optimizer_lr"],
            max_step_norm=config["max_step_norm"],
            multipoint_loss=config["multipoint_loss"],
            antisymmetric=config["tvf_antisymmetric"],
            reg_iterations=config["reg_iterations"],
            solver="euler",
            n_time_steps=config["tvf_n_time_steps"],
            constant_speed=config["tvf_constant_speed"],
            constant_speed_relaxation=config["tvf_constant_speed_relaxation"],
            cfl_momentum=config["tvf_cfl_momentum"],
            fast_smooth=config["tvf_fast_smooth"],
            use_analytical_gradients=config["tvf_use_analytical_gradients"],
            similarity_metric=config["similarity_metric"],
            amp=config["amp"],
        )
        whole = ants.apply_transforms(*pair, result["fwdtransforms"], compose=str(Path(folder) / "whole"))
        vectors = np.asarray(nib.load(whole).dataobj, np.float64)[:, :, :, 0]  # millimetres, L, P, S
    to_world, to_moving = nib.load(fixed).affine, np.linalg.inv(nib.load(moving).affine)
    here = np.stack(np.meshgrid(*map(np.arange, vectors.shape[:3]), indexing="ij"), axis=-1)
    there = here @ to_world[:3, :3].T + to_world[:3, 3] + vectors * (-1, -1, 1)
    u = there @ to_moving[:3, :3].T + to_moving[:3, 3] - here
    nib.save(nib.Nifti1Image(u.astype(np.float32), to_world), out)


if __name__ == "__main__":
    register(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
