"""How planes are laid out in one drawing, in millimetres: rows of three, letters, ticks, scale, colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from iterreg.report import pictures
from iterreg.report.planes import Plane

__all__ = ["DIFFERENCE", "JACOBIAN", "MAGNITUDE", "Bar", "Strip", "round_up"]


@dataclass(frozen=True)
class Bar:
    """What a map's colours mean.

    Attributes
    ----------
    name
        Ends the id of its gradient.
    colours
        Equally spaced, from the left to the right end.
    words
        Equally spaced below it.
    """

    name: str
    colours: tuple[pictures.Colour, ...]
    words: tuple[str, ...]

    def gradient(self, name: str) -> str:
        """Its definition, by an id that is the page's alone."""
        last = len(self.colours) - 1
        stops = "".join(
            f'<stop offset="{i / last:.3g}" stop-color="rgb{colour}"/>'
            for i, colour in enumerate(self.colours)
        )
        return f'<linearGradient id="{name}">{stops}</linearGradient>'


JACOBIAN = Bar(
    "jacobian",
    pictures.JACOBIAN_COLOURS,
    (f"1/{2**pictures.LOG2_LIMIT:g}", "1", f"{2**pictures.LOG2_LIMIT:g} times as large"),
)
DIFFERENCE = Bar(
    "difference",
    pictures.DIFFERENCE_COLOURS,
    (
        f"−{100 * pictures.DIFFERENCE_LIMIT:g}",
        "0",
        f"{100 * pictures.DIFFERENCE_LIMIT:g} % of the window",
    ),
)
MAGNITUDE = Bar("magnitude", pictures.MAGNITUDE_COLOURS, ())


class Strip:
    """Where planes stand in rows of three, on one scale, and what stands beside them.

    Parameters
    ----------
    planes
        Three for each row.

    Attributes
    ----------
    width, height
        Of all rows together, in millimetres.
    at
        Where each plane's upper left corner stands.
    square
        The side of a checkerboard's squares, a round number of millimetres.
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._rows = tuple(tuple(planes[i : i + 3]) for i in range(0, len(planes), 3))
        total = sum(plane.width for plane in self._rows[0])
        gap = total / 100
        self.width = total + gap * 2
        row_height = max(plane.height for plane in self._rows[0])
        self.height = len(self._rows) * (row_height + gap) - gap
        self.at: list[tuple[float, float]] = []
        for number, row in enumerate(self._rows):
            x = 0.0
            for plane in row:
                self.at.append((x, number * (row_height + gap) + (row_height - plane.height) / 2))
                x += plane.width + gap
        self._letter = self.width / 42
        self.square = _round_length(self.width / 20)

    def checker(self, name: str) -> str:
        """A mask that lets every other square through."""
        a = self.square
        size = f'width="{self.width:.0f}" height="{self.height:.0f}"'
        return (
            f'<pattern id="{name}-squares" width="{2 * a}" height="{2 * a}" patternUnits="userSpaceOnUse">'
            f'<path fill="#fff" d="M0 0h{a}v{a}H0zM{a} {a}h{a}v{a}h-{a}z"/></pattern>'
            f'<mask id="{name}" maskUnits="userSpaceOnUse" x="0" y="0" {size}>'
            f'<rect {size} fill="url(#{name}-squares)"/></mask>'
        )

    def furniture(self) -> str:
        """Anatomical directions, where the other planes of the row cut, and a scale bar."""
        drawn = []
        size = self._letter
        shown = [(plane, row) for row in self._rows for plane in row]
        for (x, y), (plane, row) in zip(self.at, shown, strict=True):
            index = {other.axis: other.index for other in row}
            crossing = (index[0], index[1], index[2])
            left, top = x + size * 0.45, y + size * 1.0
            right, bottom = x + plane.width - size * 0.45, y + plane.height - size * 0.3
            across, down = plane.across(crossing)
            middle = x + _beside(plane.width / 2, across, size)
            centre = y + _beside(plane.height / 2, down, size) + size * 0.35
            for letter, at_x, at_y in (
                (plane.left, left, centre),
                (plane.right, right, centre),
                (plane.top, middle, top),
                (plane.bottom, middle, bottom),
            ):
                drawn.append(self._text(letter, at_x, at_y))
            tick, thin = size * 0.6, f'stroke-width="{size * 0.09:.3f}"'
            for x1, y1, x2, y2 in (
                (x + across, y, x + across, y + tick),
                (x + across, y + plane.height - tick, x + across, y + plane.height),
                (x, y + down, x + tick, y + down),
                (x + plane.width - tick, y + down, x + plane.width, y + down),
            ):
                drawn.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="tick" {thin}/>')
        return "".join(drawn) + self._scale_bar()

    @property
    def bar_height(self) -> float:
        """What a colour bar needs below the planes."""
        return self._letter * 2.6

    def bar(self, bar: Bar, gradient: str) -> str:
        """A colour bar below the planes, with its words."""
        size = self._letter
        x, y, width = size * 0.8, self.height + size * 0.4, self.width / 3
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{size * 0.8:.1f}"'
        drawn = f'<rect {place} fill="url(#{gradient})" class="scale" stroke-width="{size * 0.06:.2f}"/>'
        last = len(bar.words) - 1
        for i, word in enumerate(bar.words):
            anchor = "start" if i in (0, last) else "middle"
            at = x + width * i / last - (size * 0.3 if anchor == "start" else 0)
            drawn += self._text(word, at, y + size * 1.85, anchor=anchor)
        return drawn

    def tag(self, word: str) -> str:
        """A word at the top left, on its own ground, so that another may lie below it."""
        size = self._letter
        place = f'x="{size * 0.4:.1f}" y="{size * 1.1:.1f}" font-size="{size:.1f}"'
        return (
            f'<rect width="{size * 0.62 * (len(word) + 1):.1f}" height="{size * 1.5:.1f}"/>'
            f'<text {place} class="tag">{escape(word)}</text>'
        )

    def _scale_bar(self) -> str:
        length = _round_length(self.width / 12)
        size = self._letter
        x, y = self.width - size * 0.6, self.height - size * 0.6
        return (
            f'<path d="M{x - length:.1f} {y:.1f}H{x:.1f}" class="bar" stroke-width="{size * 0.18:.2f}"/>'
            + self._text(f"{length} mm", x, y - size * 0.45, anchor="end")
        )

    def _text(self, word: str, x: float, y: float, *, anchor: str = "middle") -> str:
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{self._letter:.1f}" text-anchor="{anchor}"'
        return f'<text {place} class="side">{word}</text>'


def _round_length(most: float) -> float:
    """The largest of 1, 2 and 5, times a power of ten, that is not above `most`; in millimetres."""
    power = 10.0 ** math.floor(math.log10(most))
    length = max(n for n in (1, 2, 5) if n * power <= most * (1 + 1e-9)) * power
    return int(length) if length >= 1 else length


def round_up(length: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 4, 6 and 8, times a power of ten, that is not below `length`; 1 for 0."""
    if length <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(length))
    return next(n * power for n in (1, 1.5, 2, 3, 4, 6, 8, 10) if n * power >= length * (1 - 1e-9))


def _beside(middle: float, tick: float, size: float) -> float:
    """Where a letter stands that would hide a tick in the middle of a side."""
    return middle - size if abs(middle - tick) < size * 0.7 else middle
