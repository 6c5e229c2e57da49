"""Large deformation diffeomorphic metric mapping, coarse to fine, on a CPU.

``register`` finds the geodesic of diffeomorphisms that takes a moving image to a fixed one::

    from iterreg.lddmm import register
    from iterreg.volume import load_image

    result = register(load_image("fixed.nii.gz"), load_image("moving.nii.gz"))
    moved = result.field.warp_image(load_image("moving.nii.gz"))
"""

from iterreg.lddmm.optimizer import Iteration
from iterreg.lddmm.registration import Result, register
from iterreg.lddmm.settings import Settings
from iterreg.lddmm.transform import Transform

__all__ = ["Iteration", "Result", "Settings", "Transform", "register"]
