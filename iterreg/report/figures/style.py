"""What all figures share: one colour and one marker per method, readable type, files without a date."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from iterreg.errors import InputError
from iterreg.jobs.atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "Drawn", "colours", "markers", "new_figure", "quiet", "shortened"]

FORMATS = ("png", "svg", "pdf")

_GREY = "#7a7a7a"
_FAMILIES = {"lddmm": "#009E73", "syn": "#0072B2", "elastix": "#D55E00"}
_FREE = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#5B3E96", "#B22222", "#2F6B4F")
"""Okabe and Ito's colours, and darker ones for when there are more methods than those."""

_MARKERS = "osD^vPX<>*hp"

SIZE = 11.0
"""Points of all text, when a figure is shown at its own width."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure with its words.

    Attributes
    ----------
    name
        Begins its files' names.
    title, caption
        What it shows and how it is read.
    alternative
        What a reader who does not see it must know.
    measure
        The measure's name in the files.
    wide
        Whether it needs the page's whole width.
    """

    name: str
    title: str
    caption: str
    alternative: str
    figure: Figure
    measure: str = ""
    wide: bool = False

    def encode(self, form: str) -> bytes:
        """The figure as a file's content.

        Raises
        ------
        InputError
            If there is no such format.
        """
        if form not in FORMATS:
            raise InputError(f"figures are written as {', '.join(FORMATS)}, not as {form!r}")
        stream = io.BytesIO()
        # The same figure gives the same bytes: no date, no random ids.
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
        with mpl.rc_context({"svg.hashsalt": "iterreg", "svg.fonttype": "path", "pdf.fonttype": 42}):
            self.figure.savefig(
                stream, format=form, dpi=160, metadata=metadata, bbox_inches="tight", pad_inches=0.08
            )
        return stream.getvalue()

    def write(self, folder: Path, formats: Sequence[str]) -> list[Path]:
        """Write it as ``NAME.FORMAT`` for each format."""
        paths = []
        for form in formats:
            path = folder / f"{self.name}.{form}"
            write_bytes(path, self.encode(form))
            paths.append(path)
        return paths


def colours(runs: Sequence[str]) -> Mapping[str, str]:
    """A colour for every run: its family's where it is the first of that family, else the next free one.

    The same runs have the same colours in every figure and report.
    """
    families = [family for run in runs for family in _FAMILIES if run.lower().startswith(family)]
    spare = [*_FREE, *(colour for family, colour in _FAMILIES.items() if family not in families)]
    free = itertools.cycle(spare)
    taken: set[str] = set()
    found = {}
    for run in runs:
        family = next((name for name in _FAMILIES if run.lower().startswith(name)), "")
        if run.lower().startswith(("identity", "zero")) and _GREY not in taken:
            found[run] = _GREY
        elif family and _FAMILIES[family] not in taken:
            found[run] = _FAMILIES[family]
        else:
            found[run] = next(free)
        taken.add(found[run])
    return found


def markers(runs: Sequence[str]) -> Mapping[str, str]:
    """A marker for every run, so that no figure rests on colour alone."""
    return {run: _MARKERS[i % len(_MARKERS)] for i, run in enumerate(runs)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches; it lays itself out."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def quiet(axes: Axes, *, grid: Literal["x", "both"] | None = None) -> None:
    """Take away what carries no information; leave a light grid along one axis or both."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SIZE)
    if grid:
        axes.grid(axis=grid, color="#e3e6ea", linewidth=0.8)
        axes.set_axisbelow(True)


def shortened(name: str, longest: int = 28) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"
