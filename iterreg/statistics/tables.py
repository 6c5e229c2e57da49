"""The tables of a comparison; `table_formats` writes each of them as CSV, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from iterreg.jobs.atomic import write_text
from iterreg.statistics.comparison import Comparison, Summary
from iterreg.statistics.factor_tables import effects_table, interactions_table
from iterreg.statistics.intervals import Interval
from iterreg.statistics.measures import Measure
from iterreg.statistics.paired import VAGUE, Pairwise
from iterreg.statistics.scores import ALL_CASES, Scope
from iterreg.statistics.table_formats import (
    VAGUE_MARK,
    Cell,
    Column,
    Table,
    counted,
    interval,
    number,
    p_value,
    text_cell,
    to_csv,
    to_latex,
    to_markdown,
    vague,
)  # fmt: skip

__all__ = [
    "lacking", "means_table", "missing_table",
    "pairwise_table", "ranking_tables", "remarks", "scope_means_table", "structures_table", "tables_of",
    "verdict_table", "verdict_words", "write_tables",
]  # fmt: skip

_MEAN_PARTS = ("mean", "std", "cases", "low", "high", "own_mean", "own_cases")

_RUN = Column("run", ("run",), numeric=False)


def tables_of(comparison: Comparison) -> tuple[Table, ...]:
    """All tables that have a row."""
    found = [means_table(comparison), pairwise_table(comparison, "all")]
    for kind in ("task", "contrast", "group", "label"):
        found += [scope_means_table(comparison, kind), pairwise_table(comparison, kind)]
    found.append(structures_table(comparison))
    found += [*ranking_tables(comparison), effects_table(comparison), interactions_table(comparison)]
    found.append(missing_table(comparison))
    return tuple(table for table in found if table.rows)


def write_tables(
    comparison: Comparison, folder: Path, formats: Sequence[str] = ("csv", "md", "tex")
) -> list[Path]:
    """Write every table in every format.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    forms = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables_of(comparison):
        for suffix in formats:
            path = folder / f"{table.name}.{suffix}"
            write_text(path, forms[suffix](table))
            written.append(path)
    return written


# -- means ----------------------------------------------------------------------------------------------


def means_table(comparison: Comparison) -> Table:
    """One row per run: every measure's mean and standard deviation over all its cases."""
    return Table(
        "means",
        "Mean ± standard deviation",
        (_RUN, *_mean_columns(comparison.measures)),
        tuple(
            (_run_cell(comparison, run.name), *_mean_cells(comparison, run.name, ALL_CASES))
            for run in comparison.scores.runs
        ),
        _mean_notes(comparison, comparison.measures),
    )


def scope_means_table(comparison: Comparison, kind: str) -> Table:
    """One row per scope of a kind and run."""
    scopes = dict.fromkeys(row.scope for row in comparison.summaries if row.scope.kind == kind)
    measures = tuple(
        measure
        for measure in comparison.measures
        if any(row.measure == measure.name and row.scope.kind == kind for row in comparison.summaries)
    )
    rows = tuple(
        (
            text_cell(_scope_name(comparison, scope)),
            _run_cell(comparison, run.name),
            *_mean_cells(comparison, run.name, scope, measures),
        )
        for scope in scopes
        for run in comparison.scores.own_runs
    )
    title = {"group": "label group"}.get(kind, kind)
    return Table(
        f"means_{kind}s",
        f"Mean ± standard deviation per {title}",
        (Column(title, (kind,), numeric=False), _RUN, *_mean_columns(measures)),
        rows,
        _mean_notes(comparison, measures),
    )


def _mean_columns(measures: Sequence[Measure]) -> list[Column]:
    return [
        Column(f"{one.title} {one.arrow}".strip(), tuple(f"{one.name}_{part}" for part in _MEAN_PARTS))
        for one in measures
    ]


def _mean_cells(
    comparison: Comparison, run: str, scope: Scope, measures: Sequence[Measure] | None = None
) -> list[Cell]:
    cells = []
    for measure in comparison.measures if measures is None else measures:
        rows = [row for row in comparison.summary(measure.name, scope) if row.run == run]
        cells.append(_mean_cell(rows[0]) if rows else Cell("", ("",) * len(_MEAN_PARTS)))
    return cells


def _mean_cell(row: Summary) -> Cell:
    """Mean ± deviation over the cases that all runs have; that over all of its own too, if they are more."""
    common = row.common_mean
    values = (
        common.estimate, row.common_std, row.common_cases, common.low, common.high, row.mean, row.cases
    )  # fmt: skip
    if row.reference:
        return Cell(_plus_minus(row.mean, row.std), (row.mean, row.std, "", "", "", "", ""))
    if not row.cases:
        return Cell("–", ("", "", 0, "", "", "", 0))
    if not row.common_cases:
        return Cell(f"{_plus_minus(row.mean, row.std)} (n={row.cases})", values)
    text = _plus_minus(common.estimate, row.common_std)
    if row.cases != row.common_cases:
        text += f" ({number(row.mean).text} of {row.cases})"
    return Cell(text, values, row.best, "*" if row.worse_than_best else "")


def _plus_minus(mean: float, deviation: float) -> str:
    return number(mean).text + ("" if math.isnan(deviation) else f" ± {number(deviation).text}")


def lacking(comparison: Comparison, measure: Measure) -> str:
    """Which runs have no finite number in how many cases, and why; empty where none lacks one."""
    said = []
    for run in comparison.scores.own_runs:
        found = [
            one for one in comparison.scores.missing if (one.run, one.measure) == (run.name, measure.name)
        ]
        reasons = list(dict.fromkeys(one.reason for one in found))
        if found:
            why = reasons[0] if len(reasons) == 1 else f"for example {reasons[0]}"
            count = "1 case" if len(found) == 1 else f"{len(found)} cases"
            said.append(f"{run.name} has no finite number in {count} ({why})")
    if not said:
        return ""
    return (
        f"{measure.title}: {'; '.join(said)}. These cases are in no mean over the cases that all runs have."
    )


def remarks(measures: Iterable[Measure]) -> tuple[str, ...]:
    """What must be known of the numbers of these measures."""
    return tuple(dict.fromkeys(measure.remark for measure in measures if measure.remark))


def _mean_notes(comparison: Comparison, measures: Sequence[Measure]) -> tuple[str, ...]:
    notes = [*remarks(measures)]
    if len(comparison.scores.own_runs) > 1:
        notes.append(
            "Means over the cases that all runs have. Bold: the best. *: worse than that run, by Wilcoxon's "
            f"signed-rank test with Holm's correction (alpha {comparison.alpha:g}) and, where cases share "
            "subjects, by the dyadic test."
        )
    own = [row for row in comparison.summaries if not row.reference]
    if any(row.cases != row.common_cases for row in own):
        notes.append(
            "(… of n): the mean over all n cases of that run, of which other runs lack some. (n=…): no case "
            "is common to all runs, and these means do not compare. The table of missing cases says why."
        )
    notes += filter(None, (lacking(comparison, measure) for measure in measures))
    if any(run.reference for run in comparison.scores.runs):
        notes.append("†: published by others, not measured here, not tested.")
    return tuple(notes)


def _run_cell(comparison: Comparison, name: str) -> Cell:
    reference = any(run.name == name and run.reference for run in comparison.scores.runs)
    return text_cell(name, mark="†" if reference else "")


def _scope_name(comparison: Comparison, scope: Scope) -> str:
    if scope.kind == "label":
        name = comparison.scores.label_names.get(int(scope.name), "")
        return f"{scope.name} {name}".strip()
    return scope.name or "all cases"


# -- comparisons ----------------------------------------------------------------------------------------


def pairwise_table(comparison: Comparison, kind: str = "all") -> Table:
    """One row per measure, scope and two runs: difference, counts, tests, effect sizes, verdict."""
    percent = f"{100 * comparison.confidence:g} %"
    parts = ("", "_low", "_high")
    columns = (
        *([] if kind == "all" else [Column(kind, (kind,), numeric=False)]),
        Column("measure", ("measure",), numeric=False),
        Column("first", ("first",), numeric=False),
        Column("second", ("second",), numeric=False),
        Column("n", ("cases",)),
        Column(f"difference [{percent}]", tuple(f"difference{part}" for part in parts)),
        Column("won/tied/lost", ("wins", "ties", "losses")),
        Column("p Wilcoxon", ("p_wilcoxon",)),
        Column("Holm", ("p_wilcoxon_holm",)),
        Column("smallest", ("smallest_p_wilcoxon_holm",)),
        Column("p sign flips", ("p_sign_flips",)),
        Column("Holm", ("p_sign_flips_holm",)),
        Column("smallest", ("smallest_p_sign_flips_holm",)),
        Column("p dyadic", ("p_dyadic",)),
        Column("Holm", ("p_dyadic_holm",)),
        Column(f"d_z [{percent}]", tuple(f"cohens_dz{part}" for part in parts)),
        Column("g_z", ("hedges_gz",)),
        Column("d", tuple(f"cohens_d{part}" for part in parts)),
        Column("g", ("hedges_g",)),
        Column("δ", tuple(f"cliffs_delta{part}" for part in parts)),
        Column("verdict", ("verdict", "why", "assumption"), numeric=False),
    )
    rows = tuple(
        (
            *([] if kind == "all" else [text_cell(_scope_name(comparison, row.scope))]),
            *_pairwise_cells(row, comparison),
        )
        for row in comparison.pairwise
        if row.scope.kind == kind
    )
    name = "pairwise" if kind == "all" else f"pairwise_{kind}s"
    return Table(name, _pairwise_title(kind), columns, rows, _pairwise_notes(comparison, kind))


def verdict_table(comparison: Comparison) -> Table:
    """One row per measure and two runs over all cases, short: the one with the better mean stands first."""
    columns = (
        Column("measure", ("measure",), numeric=False),
        Column("run", ("run",), numeric=False),
        Column("than", ("than",), numeric=False),
        Column("n", ("cases",)),
        Column(f"better by [{100 * comparison.confidence:g} %]", ("better_by", "low", "high")),
        Column("won/tied/lost", ("wins", "ties", "losses")),
        Column("d_z", ("cohens_dz",)),
        Column("p", ("p_wilcoxon",)),
        Column("Holm", ("p_wilcoxon_holm",)),
        Column("least", ("smallest_p_wilcoxon_holm",)),
        Column("dyadic", ("p_dyadic_holm",)),
        Column("verdict", ("verdict",), numeric=False),
    )
    rows = []
    for row in comparison.pairwise:
        if row.scope.kind != "all":
            continue
        measure = comparison.scores.measure(row.measure)
        turned = measure.sign * row.difference.estimate < 0
        names = (row.second, row.first) if turned else (row.first, row.second)
        counts = (row.wins, row.ties, row.losses)[:: -1 if turned else 1]
        better_by = row.difference.scaled(-measure.sign if turned else measure.sign)
        rows.append(
            (
                text_cell(measure.title),
                text_cell(names[0], bold=bool(row.better)),
                text_cell(names[1]),
                counted(row.cases),
                interval(better_by),
                Cell("/".join(map(str, counts)), counts),
                number(row.effects.cohens_dz.estimate * (-1 if turned else 1), signed=True),
                p_value(row.wilcoxon.result.p),
                p_value(row.wilcoxon.p_holm),
                p_value(row.wilcoxon.smallest_p_holm),
                p_value(row.dyadic.p_holm),
                text_cell(row.verdict.replace("first ", "").replace("second ", "")),
            )
        )
    return Table(
        "verdicts",
        "Who is better, by how much, and how sure",
        columns,
        tuple(rows),
        (
            "p: Wilcoxon's signed-rank test, two-sided; Holm: corrected for all rows of the measure; least: "
            "the smallest corrected p that so many differing cases could have given; dyadic: the corrected p "
            "of Student's test that allows for shared subjects, which decides too where cases share any. d_z "
            "= mean / standard deviation of the differences.",
            *_pairwise_notes(comparison, "all")[1:],
            *(f"Too few cases: {why}." for why in _whys(comparison)),
        ),
    )


def _whys(comparison: Comparison) -> list[str]:
    rows = (row for row in comparison.pairwise if row.scope.kind == "all" and row.verdict == "too few cases")
    return list(dict.fromkeys(row.why for row in rows))


def _pairwise_cells(row: Pairwise, comparison: Comparison) -> tuple[Cell, ...]:
    wilcoxon, flips, effects = row.wilcoxon, row.sign_flips, row.effects
    star = "*" if row.better else ""
    return (
        text_cell(comparison.scores.measure(row.measure).title),
        text_cell(row.first, bold=row.better == row.first),
        text_cell(row.second, bold=row.better == row.second),
        counted(row.cases),
        interval(row.difference, mark=star),
        Cell(f"{row.wins}/{row.ties}/{row.losses}", (row.wins, row.ties, row.losses)),
        p_value(wilcoxon.result.p),
        p_value(wilcoxon.p_holm),
        p_value(wilcoxon.smallest_p_holm),
        p_value(flips.result.p),
        p_value(flips.p_holm),
        p_value(flips.smallest_p_holm),
        p_value(row.dyadic.result.p),
        p_value(row.dyadic.p_holm),
        _size(effects.cohens_dz),
        number(effects.hedges_gz.estimate, signed=True),
        _estimate(effects.cohens_d),
        number(effects.hedges_g.estimate, signed=True),
        _estimate(effects.cliffs_delta),
        Cell(verdict_words(row), (row.verdict, row.why, row.assumption)),
    )


def _estimate(found: Interval) -> Cell:
    """The estimate alone; CSV gets its interval too."""
    return Cell(number(found.estimate, signed=True).text, (found.estimate, found.low, found.high))


def _size(found: Interval) -> Cell:
    """A standardised effect with its interval, marked where that hardly bounds it."""
    return interval(found, mark=VAGUE_MARK if vague(found) else "")


def verdict_words(row: Pairwise) -> str:
    """The verdict with the run's name in it."""
    return f"{row.better} better" if row.better else row.verdict


def structures_table(comparison: Comparison) -> Table:
    """One row per measure and two runs: in how many labels one, or the other, is better."""
    columns = (
        Column("measure", ("measure",), numeric=False),
        Column("first", ("first",), numeric=False),
        Column("second", ("second",), numeric=False),
        Column("labels", ("labels",)),
        Column("better/equal/worse mean", ("mean_first_better", "mean_equal", "mean_second_better")),
        Column("first better", ("first_better",)),
        Column("second better", ("second_better",)),
        Column("no difference shown", ("no_difference_shown",)),
        Column("too few cases", ("too_few_cases",)),
    )
    groups: dict[tuple[str, str, str], list[Pairwise]] = {}
    for row in comparison.pairwise:
        if row.scope.kind == "label":
            groups.setdefault((row.measure, row.first, row.second), []).append(row)
    rows = []
    for (name, first, second), found in groups.items():
        measure = comparison.scores.measure(name)
        leads = [measure.sign * row.difference.estimate for row in found]
        means = (sum(x > 0 for x in leads), sum(x == 0 for x in leads), sum(x < 0 for x in leads))
        verdicts = Counter(row.verdict for row in found)
        rows.append(
            (
                text_cell(measure.title),
                text_cell(first),
                text_cell(second),
                counted(len(found)),
                Cell("/".join(map(str, means)), means),
                counted(verdicts["first better"]),
                counted(verdicts["second better"]),
                counted(verdicts["no difference shown"] + verdicts["equal"]),
                counted(verdicts["too few cases"]),
            )
        )
    notes = (
        "Better by the verdict over cases, corrected for all labels and pairs of runs; the means are the "
        "first run's against the second's, whatever the verdict. Each label is in pairwise_labels.",
    )
    return Table("structures", "In how many labels which is better", columns, tuple(rows), notes)


def _pairwise_title(kind: str) -> str:
    what = {"all": "all cases", "group": "label groups"}.get(kind, f"{kind}s")
    return f"Comparisons two by two, {what}"


def _pairwise_notes(comparison: Comparison, kind: str) -> tuple[str, ...]:
    rows = [row for row in comparison.pairwise if row.scope.kind == kind]
    assumptions = [text[0].upper() + text[1:] + "." for text in dict.fromkeys(row.assumption for row in rows)]
    if len(assumptions) > _MANY:
        assumptions = [
            "Wilcoxon and sign flips take cases for independent. Where cases share subjects their p are too "
            "small (anticonservative); the dyadic test and the intervals allow for it. Each row's own "
            "assumption is in the csv."
        ]
    return (
        "Difference: first minus second. Effect sizes are positive in favour of the first run. p: two-sided. "
        "Holm: corrected for all rows of the same measure here; smallest: the least corrected p that so many "
        "differing cases could have given.",
        *remarks(comparison.scores.measure(name) for name in dict.fromkeys(row.measure for row in rows)),
        *assumptions,
        *(
            [f"{VAGUE_MARK}: an interval wider than {VAGUE:g}: too few to say how large the effect is."]
            if any(vague(row.effects.cohens_dz) for row in rows)
            else []
        ),
    )


_MANY = 5
"""More assumptions than this are said in one sentence."""


# -- rankings, factors, what is missing -----------------------------------------------------------------


def ranking_tables(comparison: Comparison) -> list[Table]:
    """One table per scheme."""
    found = []
    for ranking in comparison.rankings:
        titles = {measure.name: measure.title for measure in comparison.scores.measures}
        names = [(name, titles.get(name, name)) for name in ranking.measures]
        columns = (
            Column("rank", ("rank",)),
            _RUN,
            Column("score", ("score",)),
            Column("95 % of ranks", ("rank_low", "rank_high")),
            Column("first in", ("first_share",)),
            *(Column(title, (name,)) for name, title in names),
        )
        rows = tuple(
            (
                Cell(f"{row.rank:g}", (row.rank,)),
                text_cell(row.run, mark="†" if row.reference else "", bold=row.rank == 1),
                number(row.score),
                Cell(
                    f"{row.rank_low:g}–{row.rank_high:g}" if row.rank_low == row.rank_low else "–",
                    (row.rank_low, row.rank_high),
                ),
                Cell(
                    f"{100 * row.first_share:.0f} %" if row.first_share == row.first_share else "–",
                    (row.first_share,),
                ),
                *(number(row.parts[name]) for name, _ in names),
            )
            for row in ranking.rows
        )
        found.append(
            Table(f"ranking_{ranking.key}", f"Ranking: {ranking.scheme}", columns, rows, ranking.notes)
        )
    return found


def missing_table(comparison: Comparison) -> Table:
    """One row per run, case and measure that another run has a number for."""
    names = {measure.name for measure in comparison.measures}
    columns = (
        _RUN,
        Column("case", ("case",), numeric=False),
        Column("measure", ("measure",), numeric=False),
        Column("reason", ("reason",), numeric=False),
    )
    rows = tuple(
        (text_cell(one.run), text_cell(one.case), text_cell(one.measure), text_cell(one.reason))
        for one in comparison.scores.missing
        if one.measure in names
    )
    return Table(
        "missing",
        "Cases without a number",
        columns,
        rows,
        ("Leaving such a case out favours the run that failed on it.",),
    )
