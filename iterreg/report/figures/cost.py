"""Accuracy against what it costs."""

from __future__ import annotations

import numpy as np

from iterreg.report.figures.style import SIZE, Drawn, colours, markers, new_figure, quiet, shortened
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.measures import Measure

__all__ = ["cost"]


def cost(comparison: Comparison, measure: Measure) -> Drawn | None:
    """A measure against CPU time per pair; None when no run recorded its time."""
    scores = comparison.scores
    if "cpu_s" not in [m.name for m in scores.measures]:
        return None
    times, values = scores.table("cpu_s"), scores.table(measure.name)
    runs = [run.name for run in scores.own_runs]
    points = {}
    for run in runs:
        seconds = times[run].dropna().to_numpy(dtype=float)
        numbers = values[run].dropna().to_numpy(dtype=float)
        numbers = numbers[np.isfinite(numbers)]
        if seconds.size and numbers.size and seconds.mean() > 0:
            points[run] = (float(seconds.mean()), numbers)
    if not points:
        return None
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    colour, marker = colours(runs), markers(runs)
    for run, (seconds, numbers) in points.items():
        low, high = np.quantile(numbers, (0.25, 0.75))
        mean = float(numbers.mean())
        if numbers.size > 1:
            axes.plot([seconds, seconds], [low, high], color=colour[run], linewidth=2, alpha=0.6)
        axes.plot(
            seconds, mean, marker=marker[run], color=colour[run], markersize=10, linestyle="none",
            markeredgecolor="white", label=f"{shortened(run)} ({numbers.size})",
        )  # fmt: skip
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.3, high * 1.3)
    _plain_ticks(axes)
    axes.set_xlabel("CPU time per pair [s], logarithmic", fontsize=SIZE)
    axes.set_ylabel(f"{measure.title} {measure.arrow}".strip(), fontsize=SIZE)
    axes.margins(y=0.1)
    quiet(axes, grid="both")
    figure.legend(loc="outside right upper", fontsize=SIZE - 1, frameon=False, title="method (pairs)")
    without = [run for run in runs if run not in points]
    said = f" No time is known of {', '.join(without)}." if without else ""
    return Drawn(
        "cost",
        f"{measure.title} against CPU time",
        "Means over the pairs; bars span the quartiles." + said,
        "; ".join(f"{run}: {value[0]:.3g} s, {value[1].mean():.4g}" for run, value in points.items()) + said,
        figure,
        measure=measure.name,
    )


def _plain_ticks(axes: object) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    assert isinstance(axes, Axes)
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
