"""What may be made of a field beside it: the warped image, the warped labels, maps of the Jacobian."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.nifti import write_volume
from iterreg.volume import Volume, load_labels

__all__ = ["EXTRAS", "write_extras"]

EXTRAS: Mapping[str, str] = {
    "warped": "warped image",
    "labels": "warped label map",
    "jacobian": "map of the Jacobian determinant",
    "logjacobian": "map of the log Jacobian determinant",
}
"""Roles of files that are made of a field and the pair's own files, and what to call them."""

_FOLDED = 1e-9
"""Determinant whose log a folded voxel gets; Learn2Reg's SDlogJ has the same floor."""


def write_extras(
    wanted: Mapping[str, Path], field: DisplacementField, moving: Volume, labels: Path | None
) -> None:
    """Write what is wanted, each a volume on the fixed grid with the fixed image's affine.

    ``warped`` is the moving image by linear interpolation, 0 outside it; ``labels`` the moving label map by
    nearest neighbour, as the evaluators warp it; ``jacobian`` the determinant of the map's Jacobian as
    `DisplacementField.jacobian_determinant` defines it; ``logjacobian`` its natural logarithm, that of 1e-9
    where the map folds.

    Parameters
    ----------
    wanted
        Role (see `EXTRAS`) -> file.
    labels
        The moving label map; needed for ``labels``.

    Raises
    ------
    InputError
        If the label map cannot be read or lies on another grid than the moving image.
    """
    for path in wanted.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    if "warped" in wanted:
        write_volume(wanted["warped"], field.warp_image(moving))
    if "labels" in wanted:
        if labels is None:
            raise InputError(f"{moving.path}: has no label map to warp; leave out --save labels")
        write_volume(wanted["labels"], field.warp_labels(load_labels(labels)))
    if "jacobian" in wanted or "logjacobian" in wanted:
        determinant = field.jacobian_determinant()
        if "jacobian" in wanted:
            write_volume(wanted["jacobian"], Volume(determinant, field.fixed))
        if "logjacobian" in wanted:
            log = np.log(np.maximum(determinant, _FOLDED))
            write_volume(wanted["logjacobian"], Volume(log, field.fixed))
