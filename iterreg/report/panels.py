"""Draws a pair's slices as panels: rows of three planes side by side in one inline SVG, in millimetres.

A photograph is written once and used again by reference, so that flicker and checkerboard cost nothing and
need no script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from iterreg.report import pictures
from iterreg.report.cutting import Cut, FixedCut, FoldCut
from iterreg.report.encoding import overlay, photo
from iterreg.report.planes import Plane
from iterreg.report.strips import DIFFERENCE, JACOBIAN, MAGNITUDE, Bar, Strip, round_up

__all__ = ["FINE", "QUALITIES", "Painter", "Panel", "Quality"]

Limits = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Quality:
    """How many bytes a picture may cost.

    Attributes
    ----------
    photo, map
        WebP's quality of images and of colour maps.
    longest
        Pixels of a photograph's longer side, at most.
    drawing
        Pixels of a drawing's longer side, about.
    levels
        Grey levels of the grid's lines.
    lines
        Grid lines across the three planes together.
    """

    photo: int
    map: int
    longest: int
    drawing: int
    levels: int
    lines: int


FINE = Quality(photo=75, map=60, longest=384, drawing=448, levels=3, lines=90)
QUALITIES = (
    FINE,
    Quality(photo=60, map=45, longest=256, drawing=448, levels=2, lines=76),
    Quality(photo=45, map=30, longest=200, drawing=240, levels=2, lines=66),
    Quality(photo=30, map=20, longest=140, drawing=160, levels=2, lines=54),
)
"""From fine to frugal: a report takes the first that keeps within its size."""


@dataclass(frozen=True)
class Panel:
    """One kind of picture of the three planes.

    Attributes
    ----------
    kind
        For styles: ``"fixed"``, ``"flicker"``, …
    title, caption
        Plain text.
    svg
        The drawing, safe to stand in a page as it is.
    """

    kind: str
    title: str
    caption: str
    svg: str


class Painter:
    """Makes the panels of one pair.

    Parameters
    ----------
    key
        Begins every id in the page; letters, digits and hyphens.
    name
        The pair's name, for the alternative texts.
    fixed
        The planes, three for each row.
    windows
        Intensity windows of the fixed and the moving image.
    comparable
        Whether both images are of one contrast, so that their difference means something.
    """

    def __init__(
        self,
        key: str,
        name: str,
        fixed: Sequence[FixedCut],
        windows: Limits,
        *,
        comparable: bool,
        quality: Quality = FINE,
    ) -> None:
        self._key, self._name, self._fixed = key, name, tuple(fixed)
        self._windows, self._comparable, self._quality = windows, comparable, quality
        self._strip = Strip([one.plane for one in fixed])

    def fixed(self) -> Panel:
        """The fixed image; every other panel of the pair refers to it, so it must stand in the page too."""
        shared = []
        for i, one in enumerate(self._fixed):
            shown = self._photo(pictures.grey(one.image, self._windows[0]))
            shared.append(self._image(one.plane, shown, name=f"f{i}"))
            if one.labels is not None:
                shared.append(self._image(one.plane, self._borders(one.plane, one.labels, 1), name=f"l{i}"))
        shared.append(f'<g id="{self._key}-furniture">{self._strip.furniture()}</g>')
        shared.append(self._strip.checker(f"{self._key}-checker"))
        for bar in (DIFFERENCE, JACOBIAN, MAGNITUDE):
            shared.append(bar.gradient(f"{self._key}-{bar.name}"))
        return self._panel(
            "fixed", "Fixed", "the image that is registered to", lambda i: self._use(f"f{i}"), shared
        )

    def before(self, cut: Cut) -> list[Panel]:
        """The moving image before registration, and what there was to be done."""
        return [
            self._moved("m", cut, "Moving, before registration", "on the fixed grid by the headers alone"),
            *self._compared("m", cut, "moving"),
        ]

    def after(self, method: int, name: str, cut: Cut) -> list[Panel]:
        """Everything about one method's field.

        Parameters
        ----------
        method
            Its number in the page, for ids.
        """
        key = f"w{method}-"
        panels = [
            self._moved(key, cut, "Warped", f"the moving image after {name}"),
            *self._compared(key, cut, "warped"),
            self._grid(key, cut),
            self._magnitude(cut),
            self._jacobian(cut),
        ]
        # Planes that are shown already are not shown under a second title.
        shown = {(one.plane.axis, one.plane.index) for one in self._fixed}
        folded = {(one.plane.axis, one.plane.index) for one in cut.fold}
        if cut.fold_at is not None and not folded <= shown:
            panels.append(self._worst_fold(cut.fold, cut.fold_at))
        return panels

    # -- panels -----------------------------------------------------------------------------------------

    def _moved(self, key: str, cut: Cut, title: str, caption: str) -> Panel:
        shared = [
            self._image(
                one.plane, self._photo(pictures.grey(warped.image, self._windows[1])), name=f"{key}{i}"
            )
            for i, (one, warped) in enumerate(zip(self._fixed, cut.planes, strict=True))
        ]
        return self._panel("moved", title, caption, lambda i: self._use(f"{key}{i}"), shared)

    def _compared(self, key: str, cut: Cut, what: str) -> list[Panel]:
        """Flicker, checkerboard, difference and contours."""
        panels = [
            self._panel(
                "flicker",
                f"Flicker: fixed and {what} in turn",
                "what stands still is aligned",
                lambda i: f'{self._use(f"f{i}")}<g class="flick">{self._use(f"{key}{i}")}</g>',
                over=f'{self._strip.tag("fixed")}<g class="flick">{self._strip.tag(what)}</g>',
            ),
            self._panel(
                "checker",
                f"Checkerboard of fixed and {what}",
                f"squares of {self._strip.square} mm; edges run on where both are aligned",
                lambda i: (
                    f'{self._use(f"f{i}")}<g mask="url(#{self._key}-checker)">{self._use(f"{key}{i}")}</g>'
                ),
            ),
        ]
        if self._comparable:
            panels.append(self._difference(cut, what))
        known = [one.labels for one in self._fixed] + [one.labels for one in cut.planes]
        if all(labels is not None for labels in known):
            panels.append(self._contours(cut, what))
        return panels

    def _difference(self, cut: Cut, what: str) -> Panel:
        def draw(i: int) -> str:
            one = self._fixed[i]
            colours = pictures.difference(one.image, cut.planes[i].image, self._windows)
            return self._image(one.plane, self._map(colours))

        caption = f"orange: fixed is brighter; blue: {what} is; black: equal"
        return self._panel("difference", f"Difference, fixed − {what}", caption, draw, bar=DIFFERENCE)

    def _contours(self, cut: Cut, what: str) -> Panel:
        def draw(i: int) -> str:
            labels = cut.planes[i].labels
            assert labels is not None
            plane = self._fixed[i].plane
            return (
                f'<g opacity=".6">{self._use(f"f{i}")}</g>{self._use(f"l{i}")}'
                f'<g class="screen">{self._image(plane, self._borders(plane, labels, 2))}</g>'
            )

        caption = f"borders between labels; blue: fixed; orange: {what}; near white: both"
        return self._panel("contours", "Label contours", caption, draw)

    def _grid(self, key: str, cut: Cut) -> Panel:
        distance = self._strip.width / self._quality.lines

        def draw(i: int) -> str:
            one, plane = self._fixed[i], self._fixed[i].plane
            enlarge = self._enlarge(plane)
            step = (distance * plane.shape[0] / plane.height, distance * plane.shape[1] / plane.width)
            lines = pictures.grid_lines(cut.planes[i].positions, step, enlarge)
            seen = binary_dilation(one.foreground, iterations=2)
            lines = lines * seen.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
            indices, colours = pictures.quantised(lines, self._quality.levels)
            return (
                f'<g opacity=".5">{self._use(f"{key}{i}")}</g>{self._image(plane, overlay(indices, colours))}'
            )

        caption = f"a grid of {distance:.2g} mm painted on the moving image and warped with it"
        return self._panel("grid", "Deformed grid", caption, draw)

    def _magnitude(self, cut: Cut) -> Panel:
        inside = [
            warped.magnitude[one.foreground] for one, warped in zip(self._fixed, cut.planes, strict=True)
        ]
        furthest = max((float(one.max()) for one in inside if one.size), default=0.0)
        longest = round_up(furthest)

        def draw(i: int) -> str:
            one = self._fixed[i]
            colours = pictures.magnitude(cut.planes[i].magnitude, longest)
            return self._image(one.plane, self._map(colours * one.foreground[..., None].astype(np.uint8)))

        bar = replace(MAGNITUDE, words=("0", f"{longest / 2:g}", f"{longest:g} mm"))
        caption = (
            f"how far each voxel is moved, out of the plane too: up to {furthest:.3g} mm in these planes"
        )
        return self._panel("magnitude", "Displacement", caption, draw, bar=bar)

    def _jacobian(self, cut: Cut) -> Panel:
        def draw(i: int) -> str:
            one = self._fixed[i]
            return self._determinant(one.plane, cut.planes[i].determinant, one.foreground)

        folded = sum(
            int(((warped.determinant <= 0) & one.foreground).sum())
            for one, warped in zip(self._fixed, cut.planes, strict=True)
        )
        found = f"yellow: folded, {folded} voxels in these planes" if folded else "no folding in these planes"
        caption = f"red: moving is locally larger than fixed; blue: smaller; {found}"
        return self._panel("jacobian", "Log-Jacobian determinant", caption, draw, bar=JACOBIAN)

    def _worst_fold(self, fold: Sequence[FoldCut], at: tuple[int, int, int]) -> Panel:
        strip = Strip([one.plane for one in fold])
        drawn = [self._determinant(one.plane, one.determinant, one.foreground) for one in fold]
        marks = []
        for one in fold:
            x, y = one.plane.across(at)
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{strip.width / 60:.1f}" class="mark" '
                f'stroke-width="{strip.width / 350:.2f}"/>'
            )
        caption = f"planes through the lowest determinant, voxel {at[0]}, {at[1]}, {at[2]}; yellow: folded"
        return self._panel(
            "jacobian", "Worst folding", caption, lambda i: drawn[i] + marks[i], strip=strip, bar=JACOBIAN
        )

    def _determinant(self, plane: Plane, determinant: NDArray[Any], foreground: NDArray[Any]) -> str:
        """The map where the fixed image has tissue: there it is judged."""
        colours = pictures.log_jacobian(determinant) * foreground[..., None].astype(np.uint8)
        drawn = self._image(plane, self._map(colours))
        folded = pictures.folded(determinant) * foreground.astype(np.uint8)
        if not folded.any():
            return drawn
        return drawn + self._image(plane, overlay(folded, pictures.FOLDED), crisp=True)

    # -- elements ---------------------------------------------------------------------------------------

    def _panel(
        self,
        kind: str,
        title: str,
        caption: str,
        draw: Callable[[int], str],
        shared: Sequence[str] = (),
        over: str = "",
        strip: Strip | None = None,
        bar: Bar | None = None,
    ) -> Panel:
        """`draw` gives what stands in each plane; `strip` is where they stand, if not where all do."""
        furniture = strip.furniture() if strip else f'<use href="#{self._key}-furniture"/>'
        strip = strip or self._strip
        drawn = [
            f'<g transform="translate({x:.1f} {y:.1f})">{draw(i)}</g>' for i, (x, y) in enumerate(strip.at)
        ]
        planes = "planes" if len(strip.at) > 3 else "plane"
        words = f"{title}, pair {self._name}: axial, coronal and sagittal {planes}; {caption}"
        defined = f"<defs>{''.join(shared)}</defs>" if shared else ""
        beside = strip.bar(bar, f"{self._key}-{bar.name}") if bar else ""
        box = f"0 0 {strip.width:.1f} {strip.height + (strip.bar_height if bar else 0):.1f}"
        svg = (
            f'<svg viewBox="{box}" role="img" aria-label="{escape(words)}">'
            f"{defined}{''.join(drawn)}{furniture}{over}{beside}</svg>"
        )
        return Panel(kind, title, caption, svg)

    def _image(self, plane: Plane, uri: str, *, name: str = "", crisp: bool = False) -> str:
        """A picture over a whole plane; with a name to be used again."""
        known = f' id="{self._key}-{name}"' if name else ""
        drawn = ' class="crisp"' if crisp else ""
        return (
            f'<image{known}{drawn} width="{plane.width:.6g}" height="{plane.height:.6g}" '
            f'preserveAspectRatio="none" href="{uri}"/>'
        )

    def _use(self, name: str) -> str:
        return f'<use href="#{self._key}-{name}"/>'

    def _photo(self, pixels: NDArray[np.uint8]) -> str:
        return photo(pixels, quality=self._quality.photo, longest=self._quality.longest)

    def _map(self, pixels: NDArray[np.uint8]) -> str:
        return photo(pixels, quality=self._quality.map, longest=self._quality.longest)

    def _borders(self, plane: Plane, labels: NDArray[Any], index: int) -> str:
        return overlay(pictures.borders(labels, self._enlarge(plane)) * np.uint8(index), pictures.CONTOURS)

    def _enlarge(self, plane: Plane) -> int:
        """Pixels along a voxel in drawings."""
        return min(max(int(self._quality.drawing / max(plane.shape)), 1), 4)
