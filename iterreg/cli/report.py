"""``iterreg report``: one self-contained HTML file about any number of evaluated runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.cli.dataset_options import add_reading_arguments
from iterreg.cli.label_options import add_label_options, label_choice
from iterreg.cli.storage_options import add_storage_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iterreg.dataset import Dataset
    from iterreg.evaluation.storage import Storage
    from iterreg.report.gallery import PairSection
    from iterreg.report.results import Results
    from iterreg.runs import MethodResults
    from iterreg.statistics.comparison import Comparison

__all__ = ["add_parser", "make_report", "run"]

MEGABYTES = 20.0


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "report",
        help="show runs in one HTML file: summary, figures, tables, pictures of every pair",
        description="Writes one self-contained HTML file about any number of runs: who is best, by how much "
        "and how sure, tables that sort, figures, pictures of every pair with the worst first, failed pairs "
        "with reasons, parameters and versions. Fields that are not scored yet, or changed since, are "
        "evaluated first, by the rules that were used before.",
        epilog="Exit code: 0 written, 1 the request cannot be carried out.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]RUN",
        help="a run folder of iterreg run (all its arms), one arm of it, a folder of anyone's fields, or a "
        "folder of scores; published:TABLE adds published means as reference rows",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", metavar="DATASET",
        help="a LUMIR or Learn2Reg json, a csv of pairs, or a folder of images, BIDS or not (default: the "
        "one that the runs record)",
    )  # fmt: skip
    add_reading_arguments(parser)
    parser.add_argument(
        "--task", action="append", metavar="NAME[,NAME]", help="only the pairs of these tasks"
    )
    parser.add_argument("--pairs", action="append", metavar="FIX_MOV[,FIX_MOV]", help="only these pairs")
    parser.add_argument(
        "--protocol", choices=("lumir24", "lumir25", "learn2reg", "lumirage"),
        help="for what is not scored yet (default: as iterreg evaluate chooses)",
    )  # fmt: skip
    parser.add_argument(
        "-o",
        "--out",
        type=path_argument,
        default=Path("report.html"),
        metavar="FILE",
        help="default: report.html",
    )
    parser.add_argument(
        "--figures",
        type=path_argument,
        metavar="FOLDER",
        help="write the figures there too, as PNG, SVG and PDF",
    )
    parser.add_argument(
        "--megabytes", type=float, default=MEGABYTES, metavar="N",
        help="how large the file may become; pictures are made coarser to keep to it (default %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--slices", type=int, choices=(3, 9, 15), default=3,
        help="slices of each pair in every picture: 3 are one axial, one coronal, one sagittal (default)",
    )  # fmt: skip
    parser.add_argument("--cores", type=int, default=0, help="for the evaluation (default: all)")
    add_storage_options(parser, named=True)
    add_label_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate what is not evaluated, compare, draw, write.

    Raises
    ------
    InputError
        If a run or the data set cannot be used, or the file cannot be written.
    """
    from iterreg.cli.dataset_options import listed, reading_of
    from iterreg.cli.storage_options import storages
    from iterreg.dataset import open_dataset
    from iterreg.errors import InputError
    from iterreg.runs.opening import dataset_of, open_named

    if args.megabytes <= 0:
        raise InputError(f"--megabytes {args.megabytes:g}: must be above zero")
    if args.out.is_dir():
        raise InputError(f"{args.out}: is a folder; name a file with --out")
    published = [text for text in args.runs if "published:" in text]
    entries, notes = open_named(
        [text for text in args.runs if text not in published], in_folders=bool(args.storage_pattern)
    )
    if args.dataset:
        whole: Dataset | None = open_dataset(args.dataset, **reading_of(args))
    else:
        whole = dataset_of(entries)
    make_report(
        entries,
        whole and whole.select(tasks=listed(args.task), pairs=listed(args.pairs)),
        args.out,
        whole=whole,
        chosen=bool(args.dataset),
        published=published,
        notes=notes,
        protocol=args.protocol,
        stored=storages(args, entries),
        cores=args.cores,
        figures=args.figures,
        megabytes=args.megabytes,
        slices=args.slices,
        labels=label_choice(args),
    )
    return 0


def make_report(
    entries: Sequence[MethodResults],
    dataset: Dataset | None,
    out: Path,
    *,
    whole: Dataset | None = None,
    chosen: bool = False,
    published: Sequence[str] = (),
    notes: Sequence[str] = (),
    protocol: str | None = None,
    stored: Mapping[str, Storage] | None = None,
    cores: int = 0,
    figures: Path | None = None,
    megabytes: float = MEGABYTES,
    slices: int = 3,
    labels: Mapping[str, Any] | None = None,
) -> None:
    """Write the report about some entries and say where it is.

    Parameters
    ----------
    dataset
        The pairs to report. None: only scores are shown, no pictures.
    whole
        The data set that those pairs were chosen from; what was scored of it before stays scored.
    chosen
        Whether it was named by the user, and not found by the runs.
    published
        Tables of published means, for reference rows.
    stored
        Name of an entry -> how its fields are stored, where that is said anew.
    slices
        Of each pair in every picture: an odd multiple of three.
    labels
        Which labels count and how they are grouped; see `iterreg.cli.label_options.label_choice`.
    """
    from iterreg.errors import InputError
    from iterreg.jobs.atomic import write_text
    from iterreg.report import require_libraries

    require_libraries()
    from iterreg.report.gallery import gallery
    from iterreg.report.page import Page, ranking_of, render
    from iterreg.report.results import Results
    from iterreg.report.words import count

    said = list(notes)
    if dataset is None:
        said.append("No data set is known, so there are no pictures; name it with --dataset.")
    evaluated, doubts = _evaluate(
        entries, dataset, whole or dataset, chosen=chosen, protocol=protocol, stored=stored, cores=cores
    )
    said += doubts
    for doubt in doubts:
        print(f"note: {doubt}", file=sys.stderr)
    results = [Results.of(entry) for entry in entries]
    comparison = _compare(results, dataset, published, labels or {})
    ranking = ranking_of(comparison)
    sections: list[PairSection] = []
    if dataset is not None:
        total = len(dataset.pairs)

        def tell(name: str) -> None:
            print(f"pictures {len(sections) + 1}/{total}: {name}", file=sys.stderr)

        # A tenth is for the figures and tables.
        budget = int(megabytes * 0.9 * 1e6)
        for section in gallery(results, dataset, ranking, budget=budget, rows=slices // 3, on_pair=tell):
            sections.append(section)
    text = render(Page(results, dataset, comparison, sections, ranking, said, evaluated))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    size = len(text.encode()) / 1e6
    print(f"{out}: {size:.1f} MB, {count(len(results), 'method')}, {count(len(sections), 'pair')}")
    if figures is not None and comparison is not None:
        from iterreg.report.figures import write_all

        print(f"{figures}: {len(write_all(comparison, figures))} figures")


def _evaluate(
    entries: Sequence[MethodResults],
    dataset: Dataset | None,
    whole: Dataset | None,
    *,
    chosen: bool,
    protocol: str | None,
    stored: Mapping[str, Storage] | None,
    cores: int,
) -> tuple[str, list[str]]:
    """Score what is not scored yet; what to say about it, and about doubtful fields."""
    from iterreg.cli.evaluate import refresh
    from iterreg.errors import InputError
    from iterreg.evaluation.rules import protocol_of

    new: list[str] = []
    doubts: list[str] = []
    if dataset is None or whole is None:
        for entry in entries:
            if not (entry.scores / "pairs.csv").is_file():
                raise InputError(f"{entry.scores}: holds no scores; name the data set with --dataset")
    else:
        new, doubts = refresh(
            entries, dataset, whole=whole, chosen=chosen, protocol=protocol, stored=stored, cores=cores
        )
    protocols = sorted({found for entry in entries if (found := protocol_of(entry.scores))})
    by = f"Scored by the protocol {', '.join(protocols)}." if protocols else ""
    return (f"{by} Evaluated for this report: {', '.join(new)}." if new else by), doubts


def _compare(
    results: Sequence[Results], dataset: Dataset | None, published: Sequence[str], labels: Mapping[str, Any]
) -> Comparison | None:
    """The comparison of all that have a number on the reported pairs; None when nobody has."""
    from iterreg.statistics.comparison import compare
    from iterreg.statistics.scores import load_scores

    cases = None if dataset is None else {pair.case for pair in dataset.pairs}
    texts = []
    for one in results:
        if any(one.scores(case) for case in one.rows if cases is None or case in cases):
            texts.append(f"{one.entry.name}={one.entry.scores}")
    if not texts:
        return None
    scores = load_scores([*texts, *published], **labels)
    if cases is not None:
        scores = replace(
            scores,
            cases=scores.cases[scores.cases["case"].isin(cases)],
            labels=scores.labels[scores.labels["case"].isin(cases)],
            missing=tuple(one for one in scores.missing if one.case in cases),
        )
    return compare(scores)
