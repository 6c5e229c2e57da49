"""Large deformation diffeomorphic metric mapping, coarse to fine, on a CPU.

``register`` finds the geodesic of diffeomorphisms that takes a moving image to a fixed one::

    from iterreg.lddmm import register
    from iterreg.volume import load_image

    result = register(load_image("fixed.nii.gz"), load_image("moving.nii.gz"))
    moved = result.field.warp_image(load_image("moving.nii.gz"))

The names are loaded on first use: planning a batch reads `Settings` and needs no compiled kernel.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iterreg.lddmm.channels import TissueReport
    from iterreg.lddmm.optimizer import Iteration
    from iterreg.lddmm.registration import Result, register
    from iterreg.lddmm.settings import Settings
    from iterreg.lddmm.transform import Transform

__all__ = ["Iteration", "Result", "Settings", "TissueReport", "Transform", "register"]

_HOMES = {
    "Iteration": "optimizer",
    "Result": "registration",
    "Settings": "settings",
    "TissueReport": "channels",
    "Transform": "transform",
    "register": "registration",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
