"""``iterreg compare``: which method is better, by how much, and how sure that is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.label_options import add_label_options, label_choice
from iterreg.cli.storage_options import add_storage_options

if TYPE_CHECKING:
    from iterreg.runs import MethodResults
    from iterreg.statistics.comparison import Comparison
    from iterreg.statistics.scores import ScopeKind

__all__ = ["add_parser", "run"]

SCOPES: tuple[ScopeKind, ...] = ("task", "contrast", "group", "label")
TABLE_FORMATS = ("csv", "md", "tex")
FIGURE_FORMATS = ("png", "svg", "pdf")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "compare",
        help="compare evaluated runs with paired tests, effect sizes and rankings",
        description="Compares any number of evaluated runs case by case: Wilcoxon's signed-rank test, sign "
        "flips and a dyadic t-test, all with Holm's correction, effect sizes with intervals that allow for "
        "shared subjects, the challenges' rankings with their stability, and what a declared factor does to "
        "each method.",
        epilog="SCORES is a folder of iterreg evaluate, an arm's or a run's folder, a pairs.csv, a "
        "challenge's metrics json, or published:lumir24-validation or published:lumir24-test. What a run "
        "has not scored yet is scored first, and so are folders of anyone's fields beside a run. "
        "Exit code: 0 compared, 1 the request cannot be carried out.",
    )
    parser.add_argument(
        "scores", nargs="+", metavar="[NAME=]SCORES",
        help="an evaluated run, called as its folder without a name; METHOD@LEVEL=SCORES for --factor",
    )  # fmt: skip
    parser.add_argument(
        "--measure", action="append", metavar="NAME[,NAME]",
        help="compare by these (default: the challenges' measures that some run has)",
    )  # fmt: skip
    parser.add_argument(
        "--better", action="append", metavar="MEASURE=up|down",
        help="whether more or less is better, of a measure that iterreg does not know",
    )  # fmt: skip
    parser.add_argument(
        "--reference", default="", metavar="RUN",
        help="compare all others with this run only: fewer tests, a milder correction",
    )  # fmt: skip
    parser.add_argument(
        "--by", action="append", metavar="SCOPE[,SCOPE]",
        help=f"look also at these by themselves: {', '.join(SCOPES)}, or none (default: all of them)",
    )  # fmt: skip
    add_storage_options(parser, named=True)
    add_label_options(parser)
    parser.add_argument(
        "--robust", action="store_true",
        help="use the robust numbers, means over what is finite, where the official one is NaN or infinite",
    )  # fmt: skip
    parser.add_argument(
        "--factor", default="", metavar="NAME",
        help="what distinguishes the levels of runs called METHOD@LEVEL; or task or contrast, of the cases",
    )  # fmt: skip
    parser.add_argument("--baseline", default="", metavar="LEVEL", help="the level others are compared with")
    parser.add_argument(
        "--class", dest="classes", action="append", metavar="NAME=METHOD[,METHOD]",
        help="a class of methods, whose effects of the factor are averaged; repeat for several",
    )  # fmt: skip
    parser.add_argument("--alpha", type=float, default=0.05, help="level of the tests (default: 0.05)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
    parser.add_argument(
        "--resamples", type=int, default=300, metavar="N",
        help="of the subjects, over which rankings are repeated (default: %(default)s); intervals need none",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all random draws (default: 1)")
    parser.add_argument(
        "-o", "--out", type=path_argument, metavar="FOLDER", help="write all tables and figures there"
    )
    parser.add_argument(
        "--formats", metavar="FORMAT[,FORMAT]", default="csv,md,tex,png,svg,pdf",
        help="of tables (csv, md, tex) and figures (png, svg, pdf) in --out (default: all)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Compare, print, write.

    Raises
    ------
    InputError
        If scores cannot be read, an argument does not fit them, or the results cannot be written.
    """
    from iterreg.cli.dataset_options import listed
    from iterreg.statistics.comparison import compare
    from iterreg.statistics.scores import load_scores

    _check(args)
    formats = _formats(args.formats)
    kinds: tuple[ScopeKind, ...] = ("all", *_scopes(listed(args.by)))
    better = dict(_assigned(text, "--better") for text in args.better or [])
    classes = {
        name: members.split(",") for name, members in (_assigned(t, "--class") for t in args.classes or [])
    }
    texts = _score(args)
    scores = load_scores(texts, robust=args.robust, better=better, **label_choice(args))
    comparison = compare(
        scores,
        measures=listed(args.measure),
        reference=args.reference,
        scopes=kinds,
        factor=args.factor,
        baseline=args.baseline,
        classes=classes,
        alpha=args.alpha,
        confidence=args.confidence,
        resamples=args.resamples,
        seed=args.seed,
    )
    print(_text(comparison))
    if args.out:
        _write(comparison, args.out, formats)
    return 0


def _score(args: argparse.Namespace) -> list[str]:
    """Score what is not scored yet or has changed since, of runs and of anyone's fields beside a run.

    Returns
    -------
    Where the scores are, as the user named them.
    """
    from iterreg.cli.evaluate import refresh
    from iterreg.cli.storage_options import storages
    from iterreg.runs.opening import dataset_of, named, open_results
    from iterreg.statistics.sources import PUBLISHED

    texts: list[str] = []
    notes: list[str] = []
    runs: list[MethodResults] = []
    foreign: list[MethodResults] = []
    for text in args.scores:
        if PUBLISHED in text:
            texts.append(text)
            continue
        name, path = named(text)
        opened = open_results(path, in_folders=bool(args.storage_pattern))
        notes += opened.notes
        if opened.kind == "fields":
            foreign += [replace(one, name=name or one.name) for one in opened.methods]
            texts.append((f"{name}=" if name else "") + str(foreign[-1].scores))
            continue
        texts.append(text)
        arms = [one for one in opened.methods if one.run is not None and one.arm]
        begun = [one for one in arms if one.arm and one.arm.is_begun]
        notes += [
            f"{one.name}: its fields are gone, so that its scores could not be checked."
            for one in arms
            if one not in begun and (one.scores / "pairs.csv").is_file()
        ]
        dataset = dataset_of(begun)
        if dataset is not None and opened.kind in ("run", "arm"):
            notes += refresh(begun, dataset, whole=dataset)[1]
        runs += begun
    stored = storages(args, foreign)
    dataset = dataset_of(runs) if foreign else None
    if dataset is not None:
        notes += refresh(foreign, dataset, whole=dataset, stored=stored)[1]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return texts


# -- arguments ------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> None:
    from iterreg.errors import InputError

    for option, value in (("--alpha", args.alpha), ("--confidence", args.confidence)):
        if not 0 < value < 1:
            raise InputError(f"{option} {value:g}: must lie between 0 and 1")
    if args.resamples < 100:
        raise InputError(f"--resamples {args.resamples}: fewer than 100 say nothing")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: must not be negative")
    for option, value in (("--baseline", args.baseline), ("--class", args.classes)):
        if value and not args.factor:
            raise InputError(f"{option} belongs to a factor; name it with --factor")


def _formats(text: str) -> list[str]:
    from iterreg.errors import InputError

    formats = [name for name in text.split(",") if name]
    known = (*TABLE_FORMATS, *FIGURE_FORMATS)
    for name in formats:
        if name not in known:
            raise InputError(f"--formats {name}: there is no such format; there are {', '.join(known)}")
    return formats


def _scopes(names: list[str] | None) -> tuple[ScopeKind, ...]:
    from iterreg.errors import InputError

    if names is None:
        return SCOPES
    if names == ["none"]:
        return ()
    for name in names:
        if name not in SCOPES:
            raise InputError(f"--by {name}: there is no such scope; there are {', '.join(SCOPES)} and none")
    return tuple(scope for scope in SCOPES if scope in names)


def _assigned(text: str, option: str) -> tuple[str, str]:
    from iterreg.errors import InputError

    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise InputError(f"{option} {text}: write NAME=VALUE")
    return name, value


# -- what the terminal shows ----------------------------------------------------------------------------


def _text(comparison: Comparison) -> str:
    """What a reader wants first: who is best, by how much, how sure; then where; then the rest."""
    from iterreg.statistics import factor_tables, tables
    from iterreg.statistics.table_formats import to_text

    parts = [_headline(comparison)]
    shown = [tables.means_table(comparison), tables.verdict_table(comparison)]
    for kind in ("task", "contrast", "group"):
        shown.append(tables.scope_means_table(comparison, kind))
    shown += [tables.structures_table(comparison), *tables.ranking_tables(comparison)]
    shown += [factor_tables.effects_table(comparison), factor_tables.interactions_table(comparison)]
    said: set[str] = set()
    for table in shown:
        if table.rows:
            notes = [note for note in table.notes if note not in said]
            said.update(notes)
            parts.append(
                "\n".join([table.title, "", to_text(table), *(_wrapped(_as_text(note)) for note in notes)])
            )
    parts += filter(None, [_missing(comparison)])
    return "\n\n".join(parts)


def _as_text(note: str) -> str:
    """What is bold elsewhere has a ``>`` before it in a terminal."""
    return note.replace("Bold: the best.", ">: the best.")


def _headline(comparison: Comparison) -> str:
    scores = comparison.scores
    own = scores.own_runs
    lines = []
    if own:
        cases = scores.cases.drop_duplicates("case")
        subjects = set(cases["fixed"]) | set(cases["moving"])
        datasets = ", ".join(dict.fromkeys(run.dataset for run in own if run.dataset))
        protocols = ", ".join(dict.fromkeys(run.protocol for run in own if run.protocol))
        lines.append(
            " ".join(filter(None, [datasets, f"by {protocols}" if protocols else ""]))
            + (": " if datasets or protocols else "")
            + f"{len(own)} {'run' if len(own) == 1 else 'runs'}, {len(cases)} cases, {len(subjects)} subjects"
        )
    lines += [_wrapped(f"note: {note}") for note in comparison.notes]
    return "\n".join(lines)


def _missing(comparison: Comparison) -> str:
    """Which runs lack which cases, one line a run and reason."""
    names = {measure.name for measure in comparison.measures}
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in comparison.scores.missing:
        if one.measure in names:
            reasons = found.setdefault((one.run, one.case), {})
            reasons.setdefault(one.reason, []).append(comparison.scores.measure(one.measure).title)
    if not found:
        return ""
    lines = ["Cases without a number (leaving one out favours the run that failed on it)"]
    if any(reason.startswith("its number is") for reasons in found.values() for reason in reasons):
        lines[0] += "; --robust takes means over what is finite"
    for (run_name, case), reasons in list(found.items())[:_SHOWN]:
        for reason, measures in reasons.items():
            lines.append(f"  {run_name}: {case}: {', '.join(measures)}: {reason}")
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more; --out writes all of them into missing.csv")
    return "\n".join(lines)


_SHOWN = 12


def _wrapped(text: str) -> str:
    from textwrap import fill

    return fill(text, 110, subsequent_indent="  ", break_on_hyphens=False)


# -- what is written ------------------------------------------------------------------------------------


def _write(comparison: Comparison, out: Path, formats: Sequence[str]) -> None:
    from iterreg.errors import InputError
    from iterreg.statistics.tables import write_tables

    try:
        written = write_tables(comparison, out, [name for name in TABLE_FORMATS if name in formats])
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}); free space or choose another --out") from error
    figures = [name for name in FIGURE_FORMATS if name in formats]
    if figures and len(comparison.scores.own_runs):
        try:
            from iterreg.report.figures import write_all
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "matplotlib":
                raise
            print("no figures: matplotlib is not installed; pip install matplotlib", file=sys.stderr)
        else:
            written += write_all(comparison, out, figures)
    kinds = ", ".join(dict.fromkeys(path.suffix[1:] for path in written))
    print(f"\n{out}: {len(written)} files ({kinds})")
