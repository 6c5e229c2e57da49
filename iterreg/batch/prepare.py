"""Brings raw scans into the challenge's shape with the fields of a registration to a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.nifti import write_array
from iterreg.jobs.atomic import write_json
from iterreg.volume import load_image, load_labels

__all__ = ["RawScan", "companion", "ring", "write_dataset", "write_prepared"]


@dataclass(frozen=True)
class RawScan:
    """A scan as it was acquired.

    Attributes
    ----------
    subject
        Four digits, its id in the prepared data set.
    image
        Skull-stripped intensities.
    labels
        On the image's grid, or None.
    """

    subject: str
    image: Path
    labels: Path | None = None


def companion(image: Path, image_suffix: str, labels_suffix: str) -> Path | None:
    """The label file beside an image: its name with one suffix in place of another, when it exists."""
    if not image.name.endswith(image_suffix):
        raise InputError(f"{image}: its name does not end in {image_suffix!r}; set --image-suffix")
    path = image.with_name(image.name.removesuffix(image_suffix) + labels_suffix)
    return path if path.is_file() else None


def write_prepared(folder: Path, name: str, scan: RawScan, field: DisplacementField) -> None:
    """Resample one scan and its labels onto the template's grid and write them by the challenge's rules.

    Intensities are clipped at the 99.9th percentile of the brain and scaled to [0, 255] (uint8); labels
    take the nearest voxel; the header's affine is the identity, as in LUMIR.
    """
    file = f"{name}MRI_{scan.subject}_0000.nii.gz"
    image = field.warp_image(load_image(scan.image)).array
    (folder / "imagesVal").mkdir(parents=True, exist_ok=True)
    write_array(folder / "imagesVal" / file, to_bytes(image), np.eye(4))
    if scan.labels is not None:
        labels = field.warp_labels(load_labels(scan.labels)).array
        (folder / "labelsVal").mkdir(exist_ok=True)
        write_array(folder / "labelsVal" / file, labels.astype(np.int16), np.eye(4))


def to_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale intensities to [0, 255]: 0 stays 0, the brain's 99.9th percentile becomes 255.

    Raises
    ------
    InputError
        If nothing is above zero.
    """
    brain = image[image > 0]
    if brain.size == 0:
        raise InputError("nothing of the image is above zero after resampling; did the affine step fail?")
    top = float(np.percentile(brain, 99.9))
    return np.asarray(np.rint(np.clip(image / top, 0, 1) * 255), dtype=np.uint8)


def ring(subjects: Sequence[str]) -> list[tuple[str, str]]:
    """Every subject fixed once and moving once: (first, second), (second, third) … (last, first)."""
    return list(zip(subjects, [*subjects[1:], *subjects[:1]], strict=True))


def write_dataset(folder: Path, name: str, subjects: Sequence[str], shape: tuple[int, int, int]) -> Path:
    """Write ``NAME_dataset.json`` with the ring of pairs and return its path."""
    path = folder / f"{name}_dataset.json"

    def image(subject: str) -> str:
        return f"./imagesVal/{name}MRI_{subject}_0000.nii.gz"

    write_json(
        path,
        {
            "name": name,
            "modality": {"0": "T1w Brain MRI"},
            "tensorImageShape": {"0": list(shape)},
            "numTraining": 0,
            "numValidation": len(subjects),
            "training": [],
            "validation": [{"fixed": image(a), "moving": image(b)} for a, b in ring(subjects)],
        },
    )
    return path
