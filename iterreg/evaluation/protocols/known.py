"""The protocols of the challenges.

Sources: LUMIR24, JHU-MedImage-Reg/LUMIR_L2R (commit 9b88e63); LUMIR25, JHU-MedImage-Reg/LUMIR25_L2R25
(62d3ae4); Learn2Reg, MDL-UzL/L2R (8847509); LUMirage, rohitrango/lumirage-evals (36f5471).
"""

from __future__ import annotations

from iterreg.dataset.lumir import HIGH_FIELD, IN_DOMAIN, MULTI_MODAL
from iterreg.errors import InputError
from iterreg.evaluation.protocols.base import Measure, Protocol

__all__ = ["PROTOCOLS", "protocol_named"]

_DICE = Measure("DSC", "dice")
_HD95 = Measure("HD95", "hd95")
_NDV = Measure("Non-diffeomorphic Volumes", "ndv")
_TRE = Measure("TRE_lm", "tre")

_LUMIR24 = Protocol(
    name="lumir24",
    version="2.0",
    always=(_NDV,),
    labelled=(_DICE, _HD95),
    landmarked=(_TRE,),
    ndv_mask="moving",
    background=True,
)
_LUMIR25 = Protocol(
    name="lumir25",
    version="3.0",
    always=(_NDV,),
    labelled=(_DICE, _HD95),
    landmarked=(_TRE,),
    ndv_mask="fixed",
    background=True,
    upper_quantile=frozenset({"TRE_lm"}),
    groups=(("ID_dice", IN_DOMAIN), ("OOD_dice", HIGH_FIELD), ("MM_dice", MULTI_MODAL)),
)
_LEARN2REG = Protocol(
    name="learn2reg",
    version="2.0",
    always=(Measure("LogJacDetStd", "sdlogj"),),
    labelled=(_DICE, _HD95),
    landmarked=(_TRE,),
    upper_quantile=frozenset({"tre", "sdlogj"}),
    suffixes=(".npz", ".nii.gz"),
    long_names=True,
)
_LUMIRAGE = Protocol(
    name="lumirage",
    version="1.0",
    labelled=(_DICE,),
    interpolation="linear",
    epsilon=1e-5,
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (_LUMIR24, _LUMIR25, _LEARN2REG, _LUMIRAGE)}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
