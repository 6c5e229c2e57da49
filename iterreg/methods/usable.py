"""What no engine can make anything of, and most would answer with an undeformed field or strange words."""

from __future__ import annotations

import numpy as np

from iterreg.dataset.suitability import Foreground, apart
from iterreg.errors import InputError
from iterreg.methods.base import Task
from iterreg.volume import Volume, foreground

__all__ = ["named", "refuse_unusable"]


def named(task: Task) -> str:
    """What messages call a pair."""
    return f"{task.fixed.path or 'the fixed image'} <- {task.moving.path or 'the moving image'}"


def refuse_unusable(task: Task, *, masks: bool = True, in_place: bool = True) -> None:
    """Refuse a task whose images or masks say nothing, or whose images show nothing at one place.

    Parameters
    ----------
    masks
        Whether the masks will be used.
    in_place
        Whether the method starts from where the headers place the images; other ones bring centres together.

    Raises
    ------
    InputError
        If an image is not finite or of one value, a mask lies on another grid than its image, is empty, or
        the image is of one value under it, or the two foregrounds' boxes do not meet in the world.
    """
    for image, mask, side in (
        (task.fixed, task.fixed_mask, "fixed"),
        (task.moving, task.moving_mask, "moving"),
    ):
        name = image.path or f"the {side} image"
        low, high = float(image.array.min()), float(image.array.max())
        if not np.isfinite([low, high]).all():
            raise InputError(f"{name}: holds NaN or infinite intensities; replace them before registration")
        if low == high:
            raise InputError(f"{name}: every voxel is {low:g}, there is nothing to register")
        if mask is not None and masks:
            _refuse_mask(mask, image, side)
    fixed, moving = task.fixed, task.moving
    inside = (Foreground.of(foreground(fixed.array)), Foreground.of(foreground(moving.array)))
    if in_place and apart(fixed.grid, moving.grid, inside):
        raise InputError(
            f"{named(task)}: what the two images show does not meet anywhere in the world; correct the "
            "affine in a header, or use a method that brings their centres together, such as syn:affine"
        )


def _refuse_mask(mask: Volume, image: Volume, side: str) -> None:
    name = mask.path or f"the {side} mask"
    if not mask.grid.matches(image.grid):
        raise InputError(
            f"{name}: lies on {mask.grid!r}, its image on {image.grid!r}; resample the mask onto its image"
        )
    seen = image.array[mask.array > 0]
    if not seen.size:
        raise InputError(f"{name}: no voxel of the mask is above zero; check it, or leave it out")
    if float(seen.min()) == float(seen.max()):
        raise InputError(
            f"{name}: the {side} image is {float(seen.min()):g} everywhere under the mask, there is "
            "nothing to register; check the mask"
        )
