"""A heat map of structures: which method is good where."""

from __future__ import annotations

import numpy as np

from iterreg.report.figures.style import SIZE, Drawn, new_figure, shortened
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.measures import Measure

__all__ = ["heatmap"]

_BAND = 46
"""Structures beside each other before the next band begins."""


def heatmap(comparison: Comparison, measure: Measure) -> Drawn | None:
    """Runs × labels, the mean over each run's cases; None without numbers per label."""
    scores = comparison.scores
    rows = scores.labels[(scores.labels["measure"] == measure.name) & np.isfinite(scores.labels["value"])]
    rows = rows[rows["label"] != 0]
    if rows.empty:
        return None
    runs = [run.name for run in scores.own_runs if run.name in set(rows["run"])]
    means = rows.groupby(["run", "label"])["value"].mean().unstack("label").reindex(runs)
    groups = rows.drop_duplicates("label").set_index("label")["group"]
    order = list(dict.fromkeys(groups.sort_index()))
    labels = sorted(means.columns, key=lambda label: (order.index(groups[label]), label))
    values = means[labels].to_numpy(dtype=float)
    names = [_name(label, scores.label_names.get(label, "")) for label in labels]
    bands = -(-len(labels) // _BAND)
    across = -(-len(labels) // bands)
    longest = max(map(len, names))
    height = bands * (0.27 * len(runs) + 0.075 * longest + 0.45)
    figure = new_figure(min(max(0.24 * across + 3.4, 6.0), 14.5), max(height, 2.2))
    grid = np.asarray(figure.subplots(bands, 1, squeeze=False))[:, 0]
    higher = bool(measure.higher_is_better)
    finite = values[np.isfinite(values)]
    limits = (0.0, 1.0) if measure.kind == "dice" else (0.0, float(np.quantile(finite, 0.98)) or 1.0)
    image = None
    for number, axes in enumerate(grid):
        part = slice(number * across, (number + 1) * across)
        shown = np.full((len(runs), across), np.nan)
        shown[:, : values[:, part].shape[1]] = values[:, part]
        image = axes.imshow(
            shown, cmap="cividis" if higher else "cividis_r", vmin=limits[0], vmax=limits[1], aspect="auto"
        )
        count = len(names[part])
        axes.set_xticks(range(count), names[part], rotation=90, fontsize=8.5)
        axes.set_yticks(range(len(runs)), [shortened(run) for run in runs], fontsize=SIZE)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        if len(labels) <= 24:
            for (y, x), value in np.ndenumerate(shown):
                if np.isfinite(value):
                    bright = (value - limits[0]) / (limits[1] - limits[0]) > 0.55
                    dark_text = bright if higher else not bright
                    axes.text(
                        x, y, f"{value:.2f}", ha="center", va="center", fontsize=7.5,
                        color="black" if dark_text else "white",
                    )  # fmt: skip
        for x in range(1, count):
            if groups[labels[part][x]] != groups[labels[part][x - 1]]:
                axes.axvline(x - 0.5, color="white", linewidth=2.5)
    assert image is not None
    bar = figure.colorbar(image, ax=list(grid), shrink=0.9 if bands == 1 else 0.5, pad=0.012, aspect=22)
    bar.set_label(f"{measure.title} {measure.arrow}".strip(), fontsize=SIZE)
    bar.ax.tick_params(labelsize=SIZE - 1)
    worst = int(np.nanargmin(np.nanmean(values, axis=0) * measure.sign))
    best = int(np.nanargmax(np.nanmean(values, axis=0) * measure.sign))
    return Drawn(
        "structures-" + measure.kind,
        f"{measure.title} by structure",
        "Mean over each method's own pairs. White lines part groups of structures; white cells have no "
        "number.",
        f"{measure.title} of {len(labels)} structures and {len(runs)} methods. On average {names[best]} is "
        f"best and {names[worst]} worst; the numbers stand in the table of structures.",
        figure,
        measure=measure.name,
        wide=len(labels) > 12,
    )


def _name(label: int, name: str) -> str:
    return shortened(f"{label} {name}".strip(), 30)
