"""The packaged demo: a small data set in the challenge's layout, made on the spot, with its truth.

Nothing is downloaded: the anatomy comes from the MNI152 average brain that nilearn installs. The
subjects are made by `iterreg.dataset.phantom`; the known answers are read by `iterreg.dataset.truth`.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.dataset.base import Pair, Scan
from iterreg.dataset.paths import absolute
from iterreg.dataset.phantom import LABELS, Subject, Template, make_anatomy, make_subject, place_landmarks
from iterreg.dataset.truth import truth_path
from iterreg.errors import InputError
from iterreg.io.challenge import write_field
from iterreg.io.nifti import write_volume
from iterreg.jobs.atomic import write_json, write_text
from iterreg.jobs.hashing import digest
from iterreg.volume import Grid, Volume

__all__ = ["load_template", "make_demo"]

VERSION = 1  # of what the demo holds: raise it with every change of the phantom or of this module's files
MARKER = ".iterreg_demo.json"
BOX = (160, 224, 192)  # the challenge's voxels, 1 mm
BOX_START = (18, 5, -19)  # nilearn's voxel that becomes voxel (0, 0, 0) of the box
T1, T2 = "0000", "0001"
FIRST_ID = 1001

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Recipe:
    """What tells two demos apart."""

    version: int
    spacing: int
    seed: int
    subjects: int


def make_demo(
    folder: str | Path,
    *,
    spacing: int = 2,
    seed: int = 7,
    subjects: int = 4,
    on_progress: Progress | None = None,
) -> Path:
    """Write the demo data set and give the path of its ``DEMO_dataset.json``.

    Synthetic people in the layout of LUMIR: up to three mono-modal pairs in a chain and one
    multi-modal pair that closes the ring, with labels, landmarks, masks, an evaluation config and the
    true fields. The same arguments give the same bytes. The folder appears whole or not at all; one
    that already holds this demo is left as it is.

    Parameters
    ----------
    folder
        Must not exist, be empty, or hold this very demo.
    spacing
        Voxel size in millimetres: 1 gives the challenge's 160 x 224 x 192 voxels, 2 half of them along every
        axis, 4 a quarter.
    seed
        Of everything random.
    subjects
        Number of people, at least two.
    on_progress
        Called with a short sentence before each step.

    Raises
    ------
    InputError
        If nilearn is missing, the folder holds something else, or an argument is out of range.
    """
    folder, recipe = absolute(folder), _Recipe(VERSION, spacing, seed, subjects)
    if recipe.spacing not in (1, 2, 4):
        raise InputError(f"a demo has voxels of 1, 2 or 4 mm, not {recipe.spacing}")
    if not 2 <= recipe.subjects <= 99:
        raise InputError(f"a demo needs 2 to 99 subjects, got {recipe.subjects}")
    if recipe.seed < 0:
        raise InputError(f"the demo's seed must not be negative, got {recipe.seed}")
    dataset = folder / "DEMO_dataset.json"
    if _holds(folder, recipe):
        return dataset
    say = on_progress or (lambda _: None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    temporary.mkdir()
    try:
        _write(temporary, recipe, say)
        try:
            temporary.rename(folder)  # onto nothing or an empty folder, never onto files
        except OSError:
            if not _holds(folder, recipe):  # else another process made it meanwhile
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return dataset


def _holds(folder: Path, recipe: _Recipe) -> bool:
    """Whether the folder already is this demo; False when it is free.

    Raises
    ------
    InputError
        If it holds anything else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        found, files = marker["digest"], marker["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder}: is not empty and holds no demo of iterreg; give the demo a folder of its own"
        ) from None
    if found != digest(asdict(recipe)):
        raise InputError(
            f"{folder}: holds another demo (size, seed, subjects or version differ); "
            "choose another folder or delete this one"
        )
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: the demo there has lost {missing[0]}; delete the folder and make it again"
        )
    return True


# -- what is written -------------------------------------------------------------------------------


def _write(folder: Path, recipe: _Recipe, say: Progress) -> None:
    say("reading the MNI152 average brain")
    template = load_template()
    say("making the anatomy")
    anatomy = make_anatomy(template, recipe.seed)
    spacing = recipe.spacing
    x, y, z = (n // spacing for n in BOX)
    grid = Grid((x, y, z), np.diag([spacing, spacing, spacing, 1.0]))

    people = []
    for number in range(recipe.subjects):
        say(f"subject {number + 1} of {recipe.subjects}")
        modalities = (T1, T2) if number < 2 else (T1,)
        people.append(make_subject(anatomy, grid, recipe.seed, number, modalities))
    say("writing")
    landmarks = place_landmarks(anatomy, people, recipe.seed)
    for name in ("imagesVal", "labelsVal", "landmarksVal", "masksVal", "truth"):
        (folder / name).mkdir()
    for number, (person, blobs) in enumerate(zip(people, landmarks, strict=True)):
        for modality, image in person.images.items():
            for kind, array in (
                ("images", image),
                ("labels", person.labels),
                ("landmarks", blobs),
                ("masks", (person.labels > 0).astype(np.uint8)),
            ):
                write_volume(folder / f"{kind}Val" / _file_name(number, modality), Volume(array, grid))

    pairs = _pairs(recipe.subjects)
    for fixed, moving in pairs:
        f, m = people[fixed[0]].deformation, people[moving[0]].deformation
        pair = Pair(_scan(folder, *fixed), _scan(folder, *moving))
        write_field(truth_path(pair), f.forward.compose(m.inverse))
    listed = [{"fixed": _image(*fixed), "moving": _image(*moving)} for fixed, moving in pairs]
    write_json(folder / "DEMO_dataset.json", _dataset_json(listed, grid))
    write_json(folder / "DEMO_VAL_evaluation_config.json", _evaluation_json(listed, grid))
    write_text(
        folder / "labels.csv", "".join(["id,name\n", *(f"{i},{name}\n" for i, name in LABELS.items())])
    )
    write_text(folder / "README.txt", _readme(recipe, grid, people))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    marker = {"digest": digest(asdict(recipe)), **asdict(recipe), "files": files}
    write_json(folder / MARKER, marker)


def _pairs(subjects: int) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    """Fixed and moving (subject, modality): a chain of T1w, then T1w of the last with T2w of the first."""
    chain = min(subjects, 4)
    pairs = [((i, T1), (i + 1, T1)) for i in range(chain - 1)]
    return [*pairs, ((chain - 1, T1), (0, T2))]


def _file_name(number: int, modality: str) -> str:
    return f"DEMOMRI_{FIRST_ID + number}_{modality}.nii.gz"


def _image(number: int, modality: str) -> str:
    return f"./imagesVal/{_file_name(number, modality)}"


def _scan(folder: Path, number: int, modality: str) -> Scan:
    return Scan(folder / _image(number, modality), str(FIRST_ID + number), modality)


def _dataset_json(pairs: Sequence[Mapping[str, str]], grid: Grid) -> dict[str, Any]:
    return {
        "name": "DEMO",
        "description": "Synthetic people made from the MNI152 average brain; see README.txt",
        "modality": {"0": "T1w (synthetic)", "1": "T2w-like (synthetic)"},
        "tensorImageShape": {"0": list(grid.shape)},
        "numTraining": 0,
        "numValidation": len(pairs),
        "training": [],
        "validation": list(pairs),
    }


def _evaluation_json(pairs: Sequence[Mapping[str, str]], grid: Grid) -> dict[str, Any]:
    labels = list(LABELS)
    return {
        "name": "DEMO",
        "expected_shape": [*grid.shape, 3],
        "eval_pairs": list(pairs),
        "eval_config_version": 0.0,
        "masked_evaluation": False,
        "evaluation_methods": [
            {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
            {"name": "DSC", "metric": "dice", "labels": labels},
            {"name": "HD95", "metric": "hd95", "labels": labels},
            {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        ],
    }


def _readme(recipe: _Recipe, grid: Grid, people: Sequence[Subject]) -> str:
    shape = " x ".join(map(str, grid.shape))
    lowest = min(person.deformation.lowest_determinant for person in people)
    return f"""\
DEMO: a synthetic data set in the layout of the Learn2Reg / LUMIR challenge
===========================================================================
Made by iterreg (demo version {recipe.version}, seed {recipe.seed}, {recipe.subjects} subjects).
No subject is a real person: say so wherever a figure uses them.

What is here
------------
DEMO_dataset.json                 the pairs to register, "fixed" and "moving"
DEMO_VAL_evaluation_config.json   what is measured on them, and the label list
imagesVal/DEMOMRI_<ID>_<MOD>      images: ID four digits, MOD 0000 = T1w, 0001 = T2w-like
labelsVal/                        {len(LABELS)} labels per subject (names in labels.csv)
landmarksVal/                     12 corresponding landmarks, as blobs of 3x3x3 voxels
masksVal/                         the brain
truth/disp_<FIX>_<MOV>            the true displacement field of every pair

Volumes are {shape} voxels of {recipe.spacing} mm, skull-stripped, affinely aligned, intensities [0, 255].
Labels, landmarks and masks carry the name of their image in the folder beside it.
The last pair is multi-modal: fixed T1w, moving T2w.

How it was made
---------------
One anatomy (the MNI152 average, sharpened, with random detail) is seen through one random
diffeomorphism phi per subject (exp of a smooth random velocity; smallest Jacobian determinant of
phi and its inverse over all subjects {lowest:.2f}). Each scan has its own contrast, bias field and noise.
The labels are Voronoi cells of fixed seeds cut by tissue: in the spirit of lobes and nuclei, no atlas.
The truth of a pair is u(p) = phi_moving^-1(phi_fixed(p)) - p in voxels on the fixed grid, and
moved(p) = moving(p + u(p)). As label voxels are cut twice by nearest neighbour, the truth itself
scores a Dice below 1 (about 0.88 at 2 mm, 0.93 at 1 mm; before registration 0.5 to 0.6): that is
what a perfect registration reaches here.
Measures without millimetres (TRE, HD95 as the challenge takes them) are in voxels.

Your own data
-------------
1. Make a folder like this one: imagesVal/<NAME>_<ID>_<MOD>.nii.gz, four-digit ID and MOD.
2. Put labels, landmarks and masks, as far as you have them, under the same file names in
   labelsVal/, landmarksVal/ and masksVal/. truth/ exists for synthetic data only.
3. Copy DEMO_dataset.json to <NAME>_dataset.json; change "name", "tensorImageShape" and the pairs.
4. Copy the evaluation config to <NAME>_VAL_evaluation_config.json; change "name",
   "expected_shape" (the image's, and 3), "eval_pairs" and the label list.
Images should be skull-stripped and affinely aligned, as these are.

The average brain
-----------------
ICBM 152 nonlinear 2009a symmetric, as installed with nilearn. Fonov et al., NeuroImage 54 (2011)
313-327; Fonov et al., NeuroImage 47 (2009) S102. Its notice:
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
Institute, McGill University. Permission to use, copy, modify, and distribute this software and its
documentation for any purpose and without fee is hereby granted, provided that the above copyright
notice appear in all copies. The authors and McGill University make no representations about the
suitability of this software for any purpose. It is provided "as is" without express or implied warranty.
"""


# -- the average brain -----------------------------------------------------------------------------


def load_template() -> Template:
    """The MNI152 average brain in the challenge's box of 160 x 224 x 192 voxels of 1 mm.

    Raises
    ------
    InputError
        If nilearn is not installed.
    """
    try:
        from nilearn import datasets
    except ImportError as error:
        raise InputError(
            f"the demo is made from the brain template that nilearn ships ({error}); "
            'pip install "iterreg[demo]"'
        ) from error
    t1_image = datasets.load_mni152_template(resolution=1)
    t1 = np.asarray(t1_image.dataobj, np.float32)
    grey = np.asarray(datasets.load_mni152_gm_template(resolution=1).dataobj, np.float32)
    white = np.asarray(datasets.load_mni152_wm_template(resolution=1).dataobj, np.float32)
    mask = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    affine = np.asarray(t1_image.affine, np.float64)
    if not np.array_equal(affine[:3, :3], np.eye(3)):
        raise InputError(
            "nilearn's MNI152 template is not on 1 mm axes from left to right; install nilearn 0.11 or later"
        )
    x, y, z = (float(v) for v in affine[:3, 3] + BOX_START)
    return Template(_boxed(t1 * mask), _boxed(grey), _boxed(white), _boxed(mask), (x, y, z))


def _boxed(array: NDArray[Any]) -> NDArray[Any]:
    """Cut out the box, zero beyond the array."""
    out = np.zeros(BOX, array.dtype)
    source, target = [], []
    for start, n, size in zip(BOX_START, BOX, array.shape, strict=True):
        low, high = max(start, 0), min(start + n, size)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    out[tuple(target)] = array[tuple(source)]
    return out
