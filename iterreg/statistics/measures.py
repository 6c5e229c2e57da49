"""What is known of a measure by its name: its kind, a short title, and whether more is better."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from iterreg.errors import InputError

__all__ = ["Measure", "measure_named", "with_directions"]


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes
    ----------
    name
        As the files call it, for example ``"DSC"``.
    kind
        ``"dice"``, ``"hd95"``, ``"tre"``, ``"ndv"``, ``"sdlogj"``; ``"cost"`` of time and memory;
        ``"extra"`` of what is measured beyond the challenges; ``""`` when the name is not known.
    title
        What tables and figures call it, with its unit in brackets where it has one.
    higher_is_better
        None when neither is, or when it is not known: such a measure is shown and not compared.
    remark
        What must be known of its numbers wherever they are shown; a sentence.
    """

    name: str
    kind: str
    title: str
    higher_is_better: bool | None
    remark: str = ""

    def called(self, name: str) -> bool:
        """Whether that is its name or its title, with or without the unit."""
        titles = (self.name, self.title, self.title.partition(" [")[0])
        return name.lower() in [one.lower() for one in titles]

    @property
    def sign(self) -> int:
        """+1 when more is better, -1 when less is; times a difference, positive favours the first."""
        return 1 if self.higher_is_better else -1

    @property
    def place(self) -> int:
        """Where it stands among others: overlap first, what is beyond the challenges last."""
        return _ORDER.index(self.kind)

    @property
    def range(self) -> tuple[float, float]:
        """Between what its mean must lie."""
        if self.kind == "dice":
            return 0.0, 1.0
        return (0.0 if self.kind in ("hd95", "tre", "ndv", "sdlogj", "cost") else -math.inf), math.inf

    @property
    def official(self) -> bool:
        """Whether a challenge ranks by it."""
        return self.kind in ("dice", "hd95", "tre", "ndv", "sdlogj", "")

    @property
    def arrow(self) -> str:
        """↑ or ↓, or nothing."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_EXTRAS: Mapping[str, tuple[str, str, bool | None]] = {
    "cpu_s": ("cost", "CPU time [s]", False),
    "wall_s": ("cost", "wall time [s]", False),
    "peak_mib": ("cost", "peak memory [MiB]", False),
    "folded_voxels": ("extra", "folded voxels", False),
    "folded_percent": ("extra", "folded voxels [%]", False),
    "jacobian_min": ("extra", "smallest Jacobian determinant (central differences)", True),
    "jacobian_max": ("extra", "largest Jacobian determinant (central differences)", None),
    "sdlogj": ("extra", "SDlogJ in the brain", False),
    "tetrahedra_folded_voxels": ("extra", "voxels folded by a tetrahedron", False),
    "tetrahedra_min": ("extra", "smallest tetrahedral determinant", True),
    "hd95_mm": ("extra", "HD95 [mm]", False),
    "tre_mm": ("extra", "TRE [mm]", False),
    "inverse_consistency_mean_mm": ("extra", "inverse-consistency error, mean [mm]", False),
    "inverse_consistency_p95_mm": ("extra", "inverse-consistency error, 95 % [mm]", False),
    "inverse_consistency_max_mm": ("extra", "inverse-consistency error, max [mm]", False),
}
"""Exact names of the columns beyond the challenges' measures: kind, title, direction."""

_KINDS: tuple[tuple[str, str, bool], ...] = (
    (r"dice|dsc", "dice", True),
    (r"hd95|hddist|hausdorff", "hd95", False),
    (r"tre(?![a-z])", "tre", False),
    (r"ndv|non.?diffeomorphic", "ndv", False),
    (r"sd.?log.?j|logjacdetstd|std.?log.?j", "sdlogj", False),
)
"""A pattern anywhere in the name, the kind, whether more is better."""

_ORDER = ("dice", "tre", "hd95", "ndv", "sdlogj", "", "cost", "extra")
"""In which order kinds of measures are shown."""

_TITLES = {"DSC": "Dice", "Non-diffeomorphic Volumes": "NDV %", "LogJacDetStd": "SDlogJ", "TRE_lm": "TRE"}


def measure_named(name: str, unit: str = "") -> Measure:
    """What is known of a measure of that name, measured in that unit."""
    if name in _EXTRAS:
        kind, title, higher = _EXTRAS[name]
        return Measure(name, kind, title, higher)
    for pattern, kind, higher in _KINDS:
        if re.search(pattern, name, re.IGNORECASE):
            title = _TITLES.get(name, name)
            return Measure(name, kind, f"{title} [{unit}]" if unit else title, higher)
    return Measure(name, "", name, None)


def with_directions(measures: tuple[Measure, ...], better: Mapping[str, str]) -> tuple[Measure, ...]:
    """The measures with directions as the user declares them, name -> ``"up"`` or ``"down"``.

    Raises
    ------
    InputError
        If there is no such measure or direction.
    """
    known = {measure.name: measure for measure in measures}
    for name, direction in better.items():
        if name not in known:
            raise InputError(f"there is no measure {name!r}; there are {', '.join(map(repr, known))}")
        if direction not in ("up", "down"):
            raise InputError(f"{name}={direction}: the better direction is up or down")
        known[name] = replace(known[name], higher_is_better=direction == "up")
    return tuple(known.values())
