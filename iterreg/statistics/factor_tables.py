"""The tables of a declared factor (contrast, preprocessing): its effect on each method, and interactions."""

from __future__ import annotations

from iterreg.statistics.comparison import Comparison
from iterreg.statistics.table_formats import Cell, Column, Table, interval, number, p_value, text_cell

__all__ = ["effects_table", "interactions_table"]


def effects_table(comparison: Comparison) -> Table:
    """One row per measure, method (or class) and level of the declared factor."""
    result = comparison.factor
    parts = ("", "_low", "_high")
    columns = (
        Column("measure", ("measure",), numeric=False),
        Column("method", ("method",), numeric=False),
        Column("level", ("level",), numeric=False),
        Column("baseline", ("baseline",), numeric=False),
        Column("n", ("cases_level", "cases_baseline")),
        Column("mean", ("mean_level",)),
        Column("at baseline", ("mean_baseline",)),
        Column("effect", tuple(f"effect{part}" for part in parts)),
        Column("d", ("cohens_d",)),
        Column("d_z", ("cohens_dz",)),
        Column("p Wilcoxon", ("p_wilcoxon",)),
        Column("smallest", ("smallest_p",)),
    )
    rows = tuple(
        (
            text_cell(comparison.scores.measure(row.measure).title),
            Cell(f"{row.method} ({', '.join(row.members)})" if row.members else row.method, (row.method,)),
            text_cell(row.level),
            text_cell(row.baseline),
            Cell("/".join(str(n) for n in dict.fromkeys(row.cases)), row.cases),
            number(row.mean_level),
            number(row.mean_baseline),
            interval(row.effect),
            number(row.cohens_d, signed=True),
            number(row.cohens_dz, signed=True),
            p_value(row.p),
            p_value(row.smallest_p),
        )
        for row in (result.effects if result else ())
    )
    name = result.factor if result else "factor"
    notes = (
        "Effect: level minus baseline, in the measure's unit; d and d_z are positive where the level is "
        "better. p is not corrected.",
        *(result.notes if result else ()),
    )
    return Table("factor_effects", f"Effect of {name} per method", columns, rows, notes)


def interactions_table(comparison: Comparison) -> Table:
    """One row per measure, level and two methods (or classes): does the factor do more to one of them?"""
    result = comparison.factor
    parts = ("", "_low", "_high")
    columns = (
        Column("measure", ("measure",), numeric=False),
        Column("first", ("first",), numeric=False),
        Column("second", ("second",), numeric=False),
        Column("level", ("level",), numeric=False),
        Column("difference of effects", tuple(f"difference{part}" for part in parts)),
        Column("confidence", ("confidence",)),
        Column("p Wilcoxon", ("p_wilcoxon",)),
        Column("Holm", ("p_holm",)),
        Column("smallest", ("smallest_p_holm",)),
        Column("verdict", ("verdict",), numeric=False),
    )
    rows = tuple(
        (
            text_cell(comparison.scores.measure(row.measure).title),
            text_cell(row.first),
            text_cell(row.second),
            text_cell(f"{row.level} − {row.baseline}"),
            interval(row.difference),
            Cell(f"{100 * row.difference.confidence:.3g} %", (row.difference.confidence,)),
            p_value(row.p),
            p_value(row.p_holm),
            p_value(row.smallest_p_holm),
            text_cell(row.words),
        )
        for row in (result.interactions if result else ())
    )
    name = result.factor if result else "factor"
    notes = (
        "Difference of effects: effect on the first minus effect on the second, in the measure's unit. The "
        "intervals' confidence is raised so that all of one measure hold together (Bonferroni).",
    )
    return Table("factor_interactions", f"Interaction of method and {name}", columns, rows, notes)
