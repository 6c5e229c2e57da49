"""A forest plot of effect sizes: every comparison with its interval."""

from __future__ import annotations

import math

import numpy as np

from iterreg.report.figures.style import SIZE, Drawn, new_figure, quiet, shortened
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.measures import Measure
from iterreg.statistics.paired import Pairwise

__all__ = ["forest"]

_MOST = 40
_FARTHEST = 10.0
"""Effects beyond this are drawn as arrows: with few pairs d_z may be anything."""


def forest(comparison: Comparison, measure: Measure) -> Drawn | None:
    """Hedges' g_z of every two methods, over all cases and per task; None without comparisons."""
    rows = list(comparison.pairs(measure.name))
    for scope in comparison.scopes(measure.name, "task"):
        rows += comparison.pairs(measure.name, scope)
    rows = [one for one in rows if math.isfinite(one.effects.hedges_gz.estimate)]
    left_out = max(len(rows) - _MOST, 0)
    rows = rows[:_MOST]
    if not rows:
        return None
    figure = new_figure(11.4, 1.1 + 0.34 * len(rows))
    axes = figure.subplots()
    known = [
        abs(value)
        for one in rows
        for value in (one.effects.hedges_gz.estimate, one.effects.hedges_gz.low, one.effects.hedges_gz.high)
        if math.isfinite(value)
    ]
    reach = min(max(1.0, 1.08 * float(np.max(known))), _FARTHEST)
    for y, one in enumerate(rows):
        _row(axes, y, one, reach)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [_label(one) for one in rows], fontsize=SIZE - 0.5)
    axes.set_xlabel("← second better     Hedges' $g_z$ (paired)     first better →", fontsize=SIZE)
    quiet(axes, grid="x")
    beside = axes.twinx()
    beside.set_ylim(axes.get_ylim())
    beside.set_yticks(range(len(rows)), [_words(one) for one in rows], fontsize=SIZE - 0.5)
    beside.tick_params(length=0)
    for side in beside.spines.values():
        side.set_visible(False)
    more = f" {left_out} further comparisons stand in the tables." if left_out else ""
    return Drawn(
        f"effects-{measure.kind}",
        f"Effect sizes, {measure.title}",
        "Dots with intervals that allow for shared subjects; filled where the verdict is that one is better. "
        f"Positive favours the first method.{more}",
        "; ".join(f"{_label(one)}: {one.effects.hedges_gz.estimate:.2g}, {one.verdict}" for one in rows),
        figure,
        measure=measure.name,
        wide=True,
    )


def _row(axes: object, y: int, one: Pairwise, reach: float) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    effect = one.effects.hedges_gz
    colour = "#0072B2" if one.better == one.first else "#D55E00" if one.better else "#666666"
    if effect.known:
        low, high = max(effect.low, -reach), min(effect.high, reach)
        axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        for end, inside, marker in ((-reach, effect.low, "<"), (reach, effect.high, ">")):
            if abs(inside) > reach and inside * end > 0:
                axes.plot(end, y, marker=marker, color=colour, markersize=7, clip_on=False)
    place = float(np.clip(effect.estimate, -reach, reach))
    axes.plot(
        place, y, marker="o" if abs(effect.estimate) <= reach else ">" if effect.estimate > 0 else "<",
        markersize=8, color=colour, markerfacecolor=colour if one.better else "white", markeredgewidth=1.8,
        clip_on=False,
    )  # fmt: skip


def _label(one: Pairwise) -> str:
    scope = "" if one.scope.kind == "all" else f"{one.scope.name}: "
    return f"{scope}{shortened(one.first, 24)} − {shortened(one.second, 24)}"


def _words(one: Pairwise) -> str:
    gain = f"{one.difference.estimate:+.3g}".replace("-", "−")
    verdict = f"{shortened(one.better, 20)} better" if one.better else one.verdict
    return f"{gain} over {one.cases}: {verdict}"
