"""Data that the golden numbers were made on, remade bit by bit: no random generator, no rounding.

Displacements are multiples of 2^-10 interpolated linearly between the points of a lattice, so that every
sum is exact in float32; labels and points come from an integer hash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (40, 36, 44)
LABELS = [0, 3, 5, 8, 9, 11, 12, 40]
"""9 is absent in the moving volume, 11 in the fixed one, 12 vanishes in the warping, 40 is in neither."""


def hashed(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """uint64 that look random (splitmix64 of the index)."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).reshape(shape)


def interpolated(lattice: np.ndarray, step: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(X, Y, Z, 3) float32: a lattice of vectors, `step` voxels apart, interpolated linearly."""
    out = lattice.astype(np.float64)
    for axis, n in enumerate(shape):
        place = np.arange(n)
        low, weight = place // step, (place % step) / step
        shaped = weight.reshape([-1 if a == axis else 1 for a in range(4)])
        out = np.take(out, low, axis) * (1 - shaped) + np.take(out, low + 1, axis) * shaped
    assert np.array_equal(out, out.astype(np.float32)), "the sums must be exact"
    return out.astype(np.float32)


def random_field(shape: tuple[int, int, int], seed: int, *, step: int, amplitude: int) -> np.ndarray:
    """Up to `amplitude` voxels, changing over `step` voxels: it may fold where 2 amplitude > step."""
    size = tuple((n - 1) // step + 2 for n in shape)
    whole = hashed((*size, 3), seed) % np.uint64(2 * amplitude * 16 + 1)
    return interpolated(whole.astype(np.float64) / 16 - amplitude, step, shape)


def random_labels(shape: tuple[int, int, int], seed: int, ids: list[int], *, step: int = 8) -> np.ndarray:
    """Blocks with ragged edges."""
    size = tuple((n - 1) // step + 2 for n in shape)
    blocks = np.array(ids)[(hashed(size, seed) % np.uint64(len(ids))).astype(int)]
    offsets = hashed((*shape, 3), seed + 1) % np.uint64(3)
    place = [(np.indices(shape)[axis] + offsets[..., axis].astype(int)) // step for axis in range(3)]
    return blocks[tuple(place)].astype(np.int16)


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def write_config(
    path: Path, pairs: list[tuple[str, str]], methods: list[dict[str, Any]], **more: Any
) -> Path:
    listed = [{"fixed": f"./{fixed}", "moving": f"./{moving}"} for fixed, moving in pairs]
    path.write_text(json.dumps({"eval_pairs": listed, "evaluation_methods": methods, **more}, indent=1))
    return path


def make_brains(folder: Path) -> Path:
    """Five LUMIR-like pairs, each with something awkward; gives the config. Fields lie in ``fields``.

    1. 0011 <- 0010: labels absent on either side, a label and a landmark that vanish in the warping; indices
       just outside the grid; field as (3, X, Y, Z).
    2. 0012 <- 0011: field in float64, just below halves.
    3. 0013 <- 0012: contrasts 0001 <- 0000, so the field has its long name; stored as scaled int16.
    4. 0010 <- 0013: contrasts 0000 <- 0001, short name; it folds.
    5. 0011 <- 0013: zero displacement.
    """
    spots = [(8, 8, 8), (20, 18, 22), (30, 10, 33), (12, 28, 36), (33, 30, 6)]
    present = {
        10: [0, 3, 5, 8, 11, 12],
        11: [0, 3, 5, 8, 9, 12],
        12: [0, 3, 5, 8, 9],
        13: [0, 3, 5, 8, 9, 11],
    }
    for subject, ids in present.items():
        for modality in ("0000", "0001"):
            name = f"BRAINMRI_{subject:04d}_{modality}.nii.gz"
            labels = random_labels(SHAPE, 10 * subject, [i for i in ids if i != 12])
            if 12 in ids:
                labels[2:4, 2:4, 2:4] = 12
            image = (hashed(SHAPE, subject) % np.uint64(250)).astype(np.uint8)
            image[:3], image[:, :, -4:] = 0, 0
            blobs = np.zeros(SHAPE, np.uint8)
            for k, spot in enumerate(spots, start=1):
                x, y, z = np.array(spot) + (hashed((3,), 100 * subject + k) % np.uint64(4)).astype(int) - 1
                blobs[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = k
            blobs[20, 20, 2] = 9 if subject in (10, 11) else 0
            save(folder / "imagesVal" / name, image)
            save(folder / "labelsVal" / name, labels)
            save(folder / "landmarksVal" / name, blobs)
    fields = folder / "fields"
    u = random_field(SHAPE, 1, step=8, amplitude=2)
    u[0, :, :, 0], u[1, :, :, 0], u[-1, :, :, 0] = -0.25, -1.0, 2.0**-10
    u[2:6, :, :, 1] = 0.5
    u[:8, :8, :8, 2] = 8.0  # nothing of label 12's corner is left
    u[16:25, 16:25, :6, 2] = 8.0  # nor of landmark 9
    save(fields / "disp_0011_0010.nii.gz", np.ascontiguousarray(np.moveaxis(u, -1, 0)))
    v = random_field(SHAPE, 2, step=8, amplitude=3).astype(np.float64)
    v[10:20, ..., 0] += 0.5 - 2.0**-40  # float32 would round it up to the next voxel
    save(fields / "disp_0012_0011.nii.gz", v)
    w = np.round(random_field(SHAPE, 3, step=16, amplitude=4) * 64).astype(np.int16)
    image = nib.Nifti1Image(w, np.eye(4))
    image.header.set_slope_inter(1 / 64, 0)
    nib.save(image, fields / "disp_0013_0001_0012_0000.nii.gz")
    save(fields / "disp_0010_0013.nii.gz", random_field(SHAPE, 4, step=4, amplitude=5))
    save(fields / "disp_0011_0013.nii.gz", np.zeros((*SHAPE, 3), np.float32))
    pairs = [("0011_0000", "0010_0000"), ("0012_0000", "0011_0000"), ("0013_0001", "0012_0000"),
             ("0010_0000", "0013_0001"), ("0011_0000", "0013_0000")]  # fmt: skip
    paths = [(f"imagesVal/BRAINMRI_{f}.nii.gz", f"imagesVal/BRAINMRI_{m}.nii.gz") for f, m in pairs]
    methods: list[dict[str, Any]] = [
        {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
        {"name": "DSC", "metric": "dice", "labels": LABELS},
        {"name": "HD95", "metric": "hd95", "labels": LABELS},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
    ]
    return write_config(
        folder / "BRAIN_VAL_evaluation_config.json", paths, methods, name="BRAIN", expected_shape=[*SHAPE, 3]
    )


def make_lungs(folder: Path) -> Path:
    """Two pairs like LungCT's under anisotropic headers; gives the config.

    The first is 0000 <- 0001 with its short name and a field in ``.npz``; the second 0002 <- 0001, with its
    long name, a field in ``.nii.gz`` and its keypoints in a folder of its own.
    """
    fixed_spacing, moving_spacing = (1.75, 1.25, 1.5), (1.5, 0.75, 2.5)
    pairs = [("0001_0000", "0001_0001"), ("0002_0002", "0002_0001")]
    for number, (fixed, moving) in enumerate(pairs):
        for side, (name, spacing) in enumerate(((fixed, fixed_spacing), (moving, moving_spacing))):
            seed = 50 + 10 * number + side
            path = f"LUNG_{name}.nii.gz"
            save(folder / "imagesTr" / path, (hashed(SHAPE, seed) % np.uint64(900)).astype(np.int16), spacing)
            save(folder / "labelsTr" / path, random_labels(SHAPE, seed, [0, 1, 2]), spacing)
            mask = random_labels(SHAPE, seed + 5, [0, 1, 1], step=16).astype(np.uint8)
            save(folder / "masksTr" / path, mask, spacing)
            between = "00010002" if number else ""
            for kind, count in (("landmarks", 100), ("keypoints", 700)):
                whole = hashed((count, 3), seed + 3 + len(kind) % 2 + count) % np.uint64(2**16)
                points = whole.astype(np.float64) / 2**16 * (np.array(SHAPE) - 1)
                points[:2] = [[0, 0, 0], np.array(SHAPE) - 1]  # corners of the grid
                points[2] = [-0.25, 5, 6]  # outside
                target = folder / f"{kind}{between}Tr"
                target.mkdir(parents=True, exist_ok=True)
                np.savetxt(target / f"LUNG_{name}.csv", points, delimiter=",", fmt="%.6f")
    fields = folder / "fields"
    fields.mkdir(exist_ok=True)
    np.savez_compressed(fields / "disp_0001_0001.npz", random_field(SHAPE, 5, step=8, amplitude=3))
    save(fields / "disp_0002_0002_0002_0001.nii.gz", random_field(SHAPE, 6, step=16, amplitude=6))
    methods: list[dict[str, Any]] = [
        {"name": "LogJacDetStd", "metric": "sdlogj"},
        {"name": "DSC", "metric": "dice", "labels": [1, 2]},
        {"name": "HD95", "metric": "hd95", "labels": [1, 2]},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        {"name": "TRE_kp", "metric": "tre", "dest": "keypoints"},
    ]
    paths = [(f"imagesTr/LUNG_{f}.nii.gz", f"imagesTr/LUNG_{m}.nii.gz") for f, m in pairs]
    return write_config(
        folder / "LUNG_VAL_evaluation_config.json", paths, methods,
        task_name="LUNG", expected_shape=[*SHAPE, 3], masked_evaluation=True,
    )  # fmt: skip


REAL_SHAPE = (160, 224, 192)
REAL = (
    ("identity", "oasis", "lumir25"),
    ("folding", "lumir25", "lumir25"),
    ("folding", "oasis", "lumir24"),
    ("syn", "oasis", "lumir25"),
    ("syn", "lumir25", "lumir25"),
)
"""Field, list of labels and protocol of the golden numbers of the real pair."""
LUNG_SHAPE = (192, 192, 208)


def make_real_field(folder: Path, name: str) -> None:
    """A field for the real pair 1000 <- 1001: identity, folding, or SyN's.

    SyN's is antspyx's of `iterreg run -m syn:cheap` with [100, 60, 4] iterations, kept in 1/64 voxels at
    every fourth voxel.
    """
    if name == "identity":
        field = np.zeros((*REAL_SHAPE, 3), np.float32)
    elif name == "folding":
        field = random_field(REAL_SHAPE, 7, step=8, amplitude=6)
    else:
        with np.load(Path(__file__).with_name("syn.npz")) as stored:
            field = interpolated(stored["lattice"] / 64, int(stored["step"]), REAL_SHAPE)
    save(folder / "disp_1000_1001.nii.gz", field)


def make_real_lungs(folder: Path, checkout: Path) -> Path:
    """Learn2Reg's own lung points and masks (of a checkout of MDL-UzL/L2R) with made-up images and fields."""
    source = checkout / "evaluation" / "L2RTest" / "ground-truth"
    pairs = []
    for number in (1, 2, 3):
        for modality, spacing in (("0000", (1.75, 1.25, 1.75)), ("0001", (1.5, 1.0, 2.5))):
            name = f"LungCT_{number:04d}_{modality}"
            save(folder / "imagesTr" / f"{name}.nii.gz", np.zeros(LUNG_SHAPE, np.uint8), spacing)
            for kind in ("landmarksTr", "keypointsTr"):
                (folder / kind).mkdir(exist_ok=True)
                (folder / kind / f"{name}.csv").write_bytes((source / kind / f"{name}.csv").read_bytes())
        mask = np.asanyarray(nib.load(source / "masksTr" / f"LungCT_{number:04d}_0000.nii.gz").dataobj)
        save(
            folder / "masksTr" / f"LungCT_{number:04d}_0000.nii.gz", mask.astype(np.uint8), (1.75, 1.25, 1.75)
        )
        field = random_field(LUNG_SHAPE, 20 + number, step=16, amplitude=8)
        save(folder / "fields" / f"disp_{number:04d}_{number:04d}.nii.gz", field)
        pairs.append(
            (f"imagesTr/LungCT_{number:04d}_0000.nii.gz", f"imagesTr/LungCT_{number:04d}_0001.nii.gz")
        )
    methods: list[dict[str, Any]] = [
        {"name": "LogJacDetStd", "metric": "sdlogj"},
        {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        {"name": "TRE_kp", "metric": "tre", "dest": "keypoints"},
    ]
    return write_config(
        folder / "LungCT_VAL_evaluation_config.json", pairs, methods,
        task_name="LungCT", expected_shape=[*LUNG_SHAPE, 3], masked_evaluation=True,
    )  # fmt: skip


def real_name(field: str, labels: str, protocol: str) -> str:
    """The file of golden numbers."""
    return f"real_{field}_{labels}_labels_{protocol}"


def real_config(path: Path, data: Path, labels: str) -> Path:
    """All LUMIR measures on the real pair, under its own labels ("oasis") or the challenge's ("lumir25")."""
    source = {
        "oasis": data / "oasis" / "OASIS_VAL_Segmentation_evaluation_config.json",
        "lumir25": data / "lumir25_json" / "LUMIR25_VAL_HighField_Segmentation_evaluation_config.json",
    }[labels]
    methods = json.loads(source.read_text())["evaluation_methods"]
    methods.append({"name": "TRE_lm", "metric": "tre", "dest": "landmarks"})
    name = "imagesVal/OASISMRI_{}_0000.nii.gz"
    return write_config(
        path, [(name.format(1000), name.format(1001))], methods, name="OASIS", expected_shape=[*REAL_SHAPE, 3]
    )
