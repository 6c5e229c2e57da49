"""Raincloud plots: of every method the cloud (density), the box and the rain (each case), task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import gaussian_kde

from iterreg.report.figures.style import SIZE, Drawn, colours, markers, new_figure, quiet, shortened
from iterreg.report.words import count
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.measures import Measure
from iterreg.statistics.scores import Scope

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["raincloud"]

_COLUMNS = 3
_FEWEST_FOR_DENSITY = 5


def raincloud(comparison: Comparison, measure: Measure) -> Drawn | None:
    """A measure's distribution over the cases; None when no run has it."""
    scores = comparison.scores
    runs = [run.name for run in scores.own_runs]
    scopes = scores.scopes(measure.name, "task") or (Scope("all"),)
    tables = [scores.table(measure.name, scope) for scope in scopes]
    if not any(np.isfinite(table.to_numpy(dtype=float)).any() for table in tables):
        return None
    columns = 2 if len(scopes) == 4 else min(len(scopes), _COLUMNS)
    rows = -(-len(scopes) // columns)
    figure = new_figure(max(7.6, 1.8 + 3.9 * columns), rows * (1.0 + 0.62 * len(runs)))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, axes in enumerate(grid.flat):
        if number >= len(scopes):
            axes.set_visible(False)
            continue
        _panel(axes, tables[number].to_dict("series"), runs)
        title = scopes[number].name if scopes[number].kind != "all" else ""
        axes.set_title(f"{title}  ({count(len(tables[number]), 'pair')})".strip(), fontsize=SIZE, loc="left")
        if number + columns >= len(scopes):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(f"{measure.title} {measure.arrow}".strip(), fontsize=SIZE)
    means = ", ".join(
        f"{row.run} {row.mean:.4g} over {row.cases}" for row in comparison.summary(measure.name) if row.cases
    )
    return Drawn(
        f"raincloud-{_slug(measure.name)}",
        f"{measure.title} over the pairs",
        "Each dot is a pair, the box spans the quartiles with the median, the diamond is the mean, the cloud "
        f"the density (from {_FEWEST_FOR_DENSITY} pairs on).",
        f"Distribution of {measure.title} per method. Means: {means}.",
        figure,
        measure=measure.name,
        wide=columns > 1,
    )


def _panel(axes: Axes, table: dict[str, NDArray[np.float64]], runs: list[str]) -> None:
    colour, marker = colours(runs), markers(runs)
    for place, run in enumerate(runs):
        values = np.asarray(table[run], dtype=float)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        _cloud(axes, values, place, colour[run])
        # The dots of a pair lie at the same height in every row, so that rows can be compared.
        jitter = np.random.default_rng(1).uniform(-0.1, 0.1, values.size)
        axes.scatter(
            values,
            place + 0.3 + jitter,
            s=20,
            color=colour[run],
            marker=marker[run],
            alpha=0.75,
            linewidths=0,
        )
        if values.size > 2:
            axes.boxplot(
                values,
                positions=[place + 0.08],
                widths=0.13,
                orientation="horizontal",
                showfliers=False,
                whis=(0, 100),
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": "white", "edgecolor": colour[run], "linewidth": 1.3},
                medianprops={"color": colour[run], "linewidth": 2},
                whiskerprops={"color": colour[run]},
                capprops={"color": colour[run]},
            )
        axes.plot(values.mean(), place + 0.08, marker="D", color="black", markersize=4.5)
    axes.set_yticks(range(len(runs)), [shortened(run) for run in runs], fontsize=SIZE)
    axes.set_ylim(len(runs) - 0.42, -0.55)
    axes.margins(x=0.04)
    quiet(axes, grid="x")


def _cloud(axes: Axes, values: NDArray[np.float64], place: int, colour: str) -> None:
    """Half a violin above the box."""
    if values.size < _FEWEST_FOR_DENSITY or np.ptp(values) <= 1e-9 * max(abs(values).max(), 1e-300):
        return
    spread = np.ptp(values) * 0.15
    at = np.linspace(values.min() - spread, values.max() + spread, 200)
    density = gaussian_kde(values)(at)
    axes.fill_between(
        at, place - 0.02, place - 0.02 - 0.42 * density / density.max(), color=colour, alpha=0.35, lw=0
    )


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
