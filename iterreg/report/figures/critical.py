"""The critical-difference diagram (Demšar, JMLR 2006): mean ranks, and which of them cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

from iterreg.report.figures.style import SIZE, Drawn, colours, new_figure, shortened
from iterreg.statistics.measures import Measure
from iterreg.statistics.ranking import FriedmanRanks

__all__ = ["critical_difference"]


def critical_difference(found: FriedmanRanks, measure: Measure, order: list[str]) -> Drawn | None:
    """Mean ranks on a line; None with fewer than three methods or two cases.

    Parameters
    ----------
    order
        All runs in their order, for their colours.
    """
    ranks: Mapping[str, float] = found.ranks
    if len(ranks) < 3 or found.cases < 2 or not all(map(math.isfinite, ranks.values())):
        return None
    runs = sorted(ranks, key=lambda run: ranks[run])
    cliques = [clique for clique in found.cliques() if len(clique) > 1]
    half = (len(runs) + 1) // 2
    colour = colours(order)
    highest = len(runs)
    below = 0.35 + 0.22 * len(cliques)
    depth = below + 0.42 * (half - 1) + 0.25
    figure = new_figure(8.4, 0.62 * (1.0 + depth))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(1 - 0.62 * (highest - 1), highest + 0.62 * (highest - 1))
    axes.set_ylim(depth, -1.0)
    axes.plot([1, highest], [0, 0], color="black", linewidth=1.4)
    for rank in range(1, highest + 1):
        axes.plot([rank, rank], [0, -0.12], color="black", linewidth=1.2)
        axes.text(rank, -0.2, str(rank), ha="center", va="bottom", fontsize=SIZE)
    if math.isfinite(found.critical_difference):
        end = min(1 + found.critical_difference, highest)
        cut = "" if end == 1 + found.critical_difference else " (longer than the axis)"
        axes.plot([1, end], [-0.62, -0.62], color="black", linewidth=2.5, solid_capstyle="butt")
        axes.text(
            1, -0.72, f"critical difference {found.critical_difference:.2f}{cut}", ha="left", va="bottom",
            fontsize=SIZE - 1,
        )  # fmt: skip
    for number, clique in enumerate(cliques):
        y = 0.2 + 0.22 * number
        ends = [ranks[run] for run in clique]
        axes.plot(
            [min(ends) - 0.04, max(ends) + 0.04], [y, y], color="#444444", linewidth=4, solid_capstyle="round"
        )
    for number, run in enumerate(runs):
        left = number < half
        line = number if left else len(runs) - 1 - number
        y = below + 0.42 * line
        end = 1 - 0.06 * (highest - 1) if left else highest + 0.06 * (highest - 1)
        axes.plot([ranks[run], ranks[run], end], [0, y, y], color=colour[run], linewidth=1.6)
        axes.plot(ranks[run], 0, marker="o", color=colour[run], markersize=6, clip_on=False)
        label = f"{shortened(run)}  {ranks[run]:.2f}"
        axes.text(
            end + (-0.02 if left else 0.02) * (highest - 1), y, label, ha="right" if left else "left",
            va="center", fontsize=SIZE,
        )  # fmt: skip
    joined = (
        "Thick bars join methods whose mean ranks differ by less than the critical difference (Nemenyi)."
        if cliques
        else "All mean ranks differ by more than the critical difference (Nemenyi)."
    )
    return Drawn(
        f"critical-difference-{measure.kind}",
        f"Mean ranks by {measure.title}",
        f"Over {found.cases} pairs that all these methods have; 1 is best. {joined} "
        f"Friedman p = {found.p:.3g}; both take pairs for independent.",
        ", ".join(f"{run} {ranks[run]:.2f}" for run in runs) + f". {joined}",
        figure,
        measure=measure.name,
    )
