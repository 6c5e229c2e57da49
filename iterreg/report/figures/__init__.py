"""Figures of a comparison. Nothing here touches pyplot or its global state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from iterreg.errors import InputError
from iterreg.report.figures.cost import cost
from iterreg.report.figures.critical import critical_difference
from iterreg.report.figures.forest import forest
from iterreg.report.figures.heatmap import heatmap
from iterreg.report.figures.raincloud import raincloud
from iterreg.report.figures.style import FORMATS, Drawn
from iterreg.statistics.comparison import Comparison

__all__ = ["FORMATS", "Drawn", "draw_all", "write_all"]


def draw_all(comparison: Comparison) -> Iterator[Drawn]:
    """Every figure that the comparison has numbers for, the first measure's first.

    Rainclouds of all measures; the others of the first measure, mean ranks and effect sizes of all.
    """
    primary = comparison.measures[0]
    order = [run.name for run in comparison.scores.own_runs]
    ranks = {one.measure: one for one in comparison.friedman}
    first = [raincloud(comparison, primary), cost(comparison, primary)]
    if primary.name in ranks:
        first.append(critical_difference(ranks[primary.name], primary, order))
    first += [forest(comparison, primary), heatmap(comparison, primary)]
    yield from (one for one in first if one is not None)
    for measure in comparison.measures[1:]:
        further = [raincloud(comparison, measure), forest(comparison, measure)]
        if measure.name in ranks:
            further.insert(1, critical_difference(ranks[measure.name], measure, order))
        yield from (one for one in further if one is not None)


def write_all(
    comparison: Comparison, folder: Path, formats: Sequence[str] = ("png", "svg", "pdf")
) -> list[Path]:
    """Write every figure in every format.

    Returns
    -------
    The files, ``NAME.FORMAT``.

    Raises
    ------
    InputError
        If a format is not known or the folder cannot be written.
    """
    for form in formats:
        if form not in FORMATS:
            raise InputError(f"figures are written as {', '.join(FORMATS)}, not as {form!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for drawn in draw_all(comparison) for path in drawn.write(folder, formats)]
    except OSError as error:
        raise InputError(f"{folder}: the figures could not be written ({error})") from error
