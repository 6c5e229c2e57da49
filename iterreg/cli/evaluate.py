"""``iterreg evaluate``: score a folder of displacement fields as the challenges do."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iterreg.cli.commands import path_argument
from iterreg.cli.dataset_options import add_reading_arguments
from iterreg.cli.storage_options import add_storage_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iterreg.dataset import Dataset
    from iterreg.evaluation.folder import PairRecord
    from iterreg.evaluation.protocols.config import EvaluationConfig
    from iterreg.evaluation.rules import Rules
    from iterreg.evaluation.storage import Storage
    from iterreg.runs import MethodResults

__all__ = ["add_parser", "refresh", "run", "score"]

PROTOCOL_NAMES = ("lumir24", "lumir25", "learn2reg", "lumirage")


def add_parser(subparsers: Any) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a run, or a folder of fields, exactly as the challenge does",
        description="Scores the displacement fields (disp_FIX_MOV.nii.gz or .npz, or with --from and "
        "--pattern whatever a network or a tool has written) of a data set's pairs, with the official "
        "evaluators' numbers and robust ones beside them.",
        epilog="Exit code: 0 all scored, 1 the request cannot be carried out, 2 some pairs were not scored.",
    )
    parser.add_argument(
        "fields", type=path_argument, metavar="FIELDS|RUN[/ARM]",
        help="a folder of fields, an arm of a run, or a run folder (all its arms)",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", metavar="DATASET",
        help="a LUMIR or Learn2Reg json (or an evaluation config), a csv of pairs, or a folder of images, "
        "BIDS or not (default: the pairs that the run was asked for)",
    )  # fmt: skip
    add_reading_arguments(parser)
    add_storage_options(parser, named=False)
    parser.add_argument(
        "--protocol", choices=PROTOCOL_NAMES,
        help="default: learn2reg for a Learn2Reg evaluation config, lumir24 for LUMIR24's, else lumir25",
    )  # fmt: skip
    parser.add_argument(
        "--config", action="append", type=path_argument, metavar="FILE",
        help="evaluation config with measures and label lists; repeat for several (default: those beside the "
        "data set's json that list its pairs)",
    )  # fmt: skip
    parser.add_argument(
        "--no-config", action="store_true",
        help="measure by the protocol's defaults, over all labels that occur",
    )  # fmt: skip
    parser.add_argument(
        "--task", action="append", metavar="NAME[,NAME]", help="score only the pairs of these tasks"
    )
    parser.add_argument(
        "--pairs", action="append", metavar="FIX_MOV[,FIX_MOV]", help="score only these pairs"
    )
    parser.add_argument(
        "-o", "--out", type=path_argument, metavar="FOLDER",
        help="where the results go (default: scores beside a folder called fields, else FIELDS-scores)",
    )  # fmt: skip
    parser.add_argument("--cores", type=int, default=0, help="cores to use (default: all this process has)")
    parser.add_argument(
        "--official-only", action="store_true",
        help="leave out what is beyond the challenge: folding and range of the Jacobian, inverse "
        "consistency, Dice before registration",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Score, write the results, print the table.

    Raises
    ------
    InputError
        If the data set, a config or the folder of fields cannot be used.
    """
    from iterreg.cli.dataset_options import listed
    from iterreg.cli.storage_options import storages
    from iterreg.errors import InputError
    from iterreg.evaluation.records import table, with_scored
    from iterreg.evaluation.rules import choose_rules
    from iterreg.evaluation.storage import Storage
    from iterreg.runs import open_results
    from iterreg.runs.opening import dataset_of, with_fields

    opened = open_results(args.fields, in_folders=bool(args.storage_pattern))
    for note in opened.notes:
        print(f"note: {note}", file=sys.stderr)
    methods, notes = with_fields(opened)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if args.out and len(methods) > 1:
        raise InputError(
            f"{args.fields}: holds {len(methods)} methods and --out names one folder; "
            "leave it out, or name an arm"
        )
    if args.dataset:
        whole = _open(args)
    else:
        found = dataset_of(methods)
        if found is None:
            raise InputError(f"{args.fields}: is not of a run, so the data set must be named with --dataset")
        whole = found
    dataset = whole.select(tasks=listed(args.task), pairs=listed(args.pairs))
    configs = _configs(args)
    stored = storages(args, methods)
    all_scored = True
    for number, method in enumerate(methods):
        out = args.out or method.scores
        if len(methods) > 1:
            print("\n" * bool(number) + f"{method.name}:")
        rules = choose_rules(
            with_scored(dataset, whole, out),
            protocol=args.protocol,
            configs=configs,
            with_extras=not args.official_only,
            storage=stored.get(method.name, Storage()),
        )
        records = score(method, dataset, rules, whole=whole, out=out, cores=args.cores)
        print(table(records, rules.protocol))
        _explain(records, rules)
        for note in method.kept(pair.name for pair in dataset.pairs):
            print(f"note: {note}")
        print(f"\n{out}: metrics.json (the challenge's schema), pairs.csv, labels.csv, summary.json")
        all_scored &= not any(record.scores is None or record.scores.problems for record in records)
    return 0 if all_scored else 2


def score(
    method: MethodResults,
    dataset: Dataset,
    rules: Rules,
    *,
    whole: Dataset,
    out: Path | None = None,
    cores: int = 0,
    on_work: Callable[[int], None] | None = None,
) -> list[PairRecord]:
    """Score a method's fields, write the results, and say what is going on.

    Parameters
    ----------
    whole
        The data set that the pairs of `dataset` were chosen from. What was scored of it before stays in the
        results, at the cost of looking whether it is still true.
    out
        Where the results go; None for the method's own place.
    cores
        To use; 0: all this process has.
    on_work
        Called with the number of pairs that are to be computed, when there are any.

    Returns
    -------
    A record for every pair of `dataset`.

    Raises
    ------
    InputError
        If the folder of fields cannot be used or the results cannot be written.
    """
    from iterreg.errors import InputError
    from iterreg.evaluation.folder import evaluate_folder, workers_that_fit
    from iterreg.evaluation.records import with_scored, write_records
    from iterreg.jobs.progress import Progress
    from iterreg.jobs.resources import available_cores

    if cores < 0:
        raise InputError(f"--cores {cores}: must be at least 1")
    cores = cores or available_cores()
    out = out or method.scores
    together = with_scored(dataset, whole, out)
    workers = workers_that_fit(together, cores)
    progress = Progress(len(together.pairs), parallel=workers)

    def begin(count: int) -> None:
        if on_work:
            on_work(count)
        print(_headline(together, rules), file=sys.stderr)

    try:
        records = evaluate_folder(
            method,
            together,
            rules,
            out,
            workers=workers,
            threads=max(1, cores // workers),
            progress=progress,
            on_work=begin,
        )
    finally:
        progress.close()
    try:
        write_records(out, records, rules, together)
    except OSError as error:
        raise InputError(
            f"{out}: the results could not be written ({error}); free space, run again"
        ) from error
    chosen = {pair.case for pair in dataset.pairs}
    return [record for record in records if record.pair.case in chosen]


def refresh(
    methods: Sequence[MethodResults],
    dataset: Dataset,
    *,
    whole: Dataset,
    chosen: bool = False,
    protocol: str | None = None,
    stored: Mapping[str, Storage] | None = None,
    cores: int = 0,
) -> tuple[list[str], list[str]]:
    """Make sure that the scores on disk are those of the fields on disk, by the rules they were made by.

    Parameters
    ----------
    dataset, whole
        As for `score`.
    chosen
        Whether the data set was named by the user. Otherwise scores that were made with another one are left
        as they are, and a sentence says so.
    protocol
        For what is not scored yet, and for scores by another one.
    stored
        Name of a method -> how its fields are stored, where that is said anew; else as it was said when they
        were scored before.

    Returns
    -------
    The names of the methods of which something was scored, and what to know of fields that are not what
    they are said to be, one sentence each.

    Raises
    ------
    InputError
        If a method has neither fields nor scores, or the results cannot be written.
    """
    from iterreg.errors import InputError
    from iterreg.evaluation.folder import doubts
    from iterreg.evaluation.records import with_scored
    from iterreg.evaluation.rules import choose_rules, recorded_rules, source_of, storage_of

    new: list[str] = []
    notes: list[str] = []
    for method in methods:
        if method.fields is None:
            if not (method.scores / "pairs.csv").is_file():
                raise InputError(f"{method.scores}: holds no scores, and there are no fields to score")
            continue
        other = source_of(method.scores)
        if not chosen and other not in (None, str(whole.source.absolute())):
            notes.append(
                f"{method.name}: its scores were made with {other}; "
                "name that with --dataset to have them checked."
            )
            notes += [f"{method.name}: {said}." for said in doubts(method, dataset)]
            continue
        together = with_scored(dataset, whole, method.scores)
        rules = recorded_rules(method.scores, together)
        if rules is None or protocol not in (None, rules.protocol.name):
            rules = choose_rules(together, protocol=protocol, storage=storage_of(method.scores))
        if stored and method.name in stored:
            rules = replace(rules, storage=stored[method.name])

        def tell(_: int, name: str = method.name) -> None:
            new.append(name)
            print(f"{name}: not scored yet, or changed since; evaluating", file=sys.stderr)

        try:
            records = score(method, dataset, rules, whole=whole, cores=cores, on_work=tell)
        except InputError as error:
            if method.run is not None or len(methods) == 1:
                raise
            notes.append(f"{method.name}: {error}.")  # the others are not to suffer for it
            continue
        notes += [f"{method.name}: {said}." for said in foreign_formats(records, rules)]
        notes += [f"{method.name}: {record.doubt}." for record in records if record.doubt]
        notes += [f"{method.name}: {said}." for p in dataset.pairs if (said := method.other_version(p.name))]
        notes += [f"{said}." for said in method.kept(pair.name for pair in dataset.pairs)]
    return new, notes


def foreign_formats(records: Sequence[PairRecord], rules: Rules) -> list[str]:
    """One line for each format that fields were read as where the evaluator would take them for voxels."""
    from collections import Counter

    from iterreg.words import count

    official = [] if rules.storage else ["challenge", "npz"]
    why = "as --from says" if rules.storage.format else "which their names, headers and numbers make certain"
    found = Counter(one.format for one in records if one.format not in ("", *official))
    return [f"{count(number, 'field')} read as {name}, {why}" for name, number in sorted(found.items())]


def _open(args: argparse.Namespace) -> Dataset:
    from iterreg.cli.dataset_options import reading_of
    from iterreg.dataset import open_dataset

    return open_dataset(args.dataset, **reading_of(args))


def _configs(args: argparse.Namespace) -> tuple[EvaluationConfig, ...] | None:
    """The configs that are asked for; None for those beside the data set."""
    from iterreg.errors import InputError
    from iterreg.evaluation.protocols.config import read_config

    if args.no_config:
        if args.config:
            raise InputError("--config and --no-config exclude each other; give one of them")
        return ()
    return tuple(read_config(path) for path in args.config) if args.config else None


def _headline(dataset: Dataset, rules: Rules) -> str:
    by = (
        ", ".join(config.path.name for config in rules.configs)
        or "no evaluation config: all labels that occur"
    )
    return f"{dataset.name}: {len(dataset.pairs)} pairs by the protocol {rules.protocol.name} ({by})"


def _explain(records: Sequence[PairRecord], rules: Rules) -> None:
    """Say by name what the table cannot show."""
    for said in foreign_formats(records, rules):
        print(said)
    for record in records:
        case = record.pair.name
        if record.scores is None:
            print(f"not scored: {case}: {record.reason}")
            continue
        for name, score in record.scores.scores.items():
            if score.affected:
                what = "landmarks" if score.kind == "tre" else "labels"
                names = ", ".join(str(one) for one in score.affected)
                print(
                    f"{case}: {name} is {score.official}, because the {what} {names} vanished in the warping"
                )
        if record.scores.background_alone:
            print(
                f"{case}: Dice is that of the background alone, because no other label is in both volumes; "
                "do the label files belong to these images?"
            )
        for problem in record.scores.problems:
            print(f"{case}: {problem}")
        for note in filter(None, (record.note, record.doubt)):
            print(f"note: {note}")
