"""``iterreg evaluate``: score a folder of displacement fields as the challenges do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iterreg.cli.commands import path_argument
from iterreg.paths import real

if TYPE_CHECKING:
    from iterreg.dataset import Dataset
    from iterreg.evaluation.folder import PairRecord
    from iterreg.evaluation.protocols import Protocol
    from iterreg.evaluation.protocols.config import EvaluationConfig

__all__ = ["add_parser", "run", "score"]

PROTOCOL_NAMES = ("lumir24", "lumir25", "learn2reg", "lumirage")


def add_parser(subparsers: Any) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a folder of fields exactly as the challenge does",
        description="Scores the displacement fields (disp_FIX_MOV.nii.gz or .npz, of iterreg or of any other "
        "method) of a data set's pairs, with the official evaluators' numbers and robust ones beside them.",
        epilog="Exit code: 0 all scored, 1 the request cannot be carried out, 2 some pairs were not scored.",
    )
    parser.add_argument("fields", type=path_argument, metavar="FIELDS", help="folder of the fields")
    parser.add_argument(
        "--dataset", required=True, metavar="DATASET",
        help="a LUMIR or Learn2Reg json (or an evaluation config), a csv of pairs, or a folder of images",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=path_argument, metavar="FOLDER", help="where the data set's relative paths start"
    )
    parser.add_argument(
        "--split", choices=("validation", "test", "training"), help="which list of a json to take"
    )
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
    from iterreg.dataset import open_dataset
    from iterreg.evaluation.records import table

    dataset = open_dataset(args.dataset, root=args.root, split=args.split)
    dataset = dataset.select(tasks=listed(args.task), pairs=listed(args.pairs))
    configs = _configs(args, dataset)
    out = args.out or _beside(args.fields)
    records, protocol = score(
        args.fields, dataset, out,
        configs=configs, protocol=args.protocol, cores=args.cores, with_extras=not args.official_only,
    )  # fmt: skip
    print(table(records, protocol))
    _explain(records)
    print(f"\n{out}: metrics.json (the challenge's schema), pairs.csv, labels.csv, summary.json")
    return 2 if any(record.scores is None or record.scores.problems for record in records) else 0


def score(
    fields: Path,
    dataset: Dataset,
    out: Path,
    *,
    configs: tuple[EvaluationConfig, ...] = (),
    protocol: str | None = None,
    cores: int = 0,
    with_extras: bool = True,
) -> tuple[list[PairRecord], Protocol]:
    """Score a folder of fields, write the results, and say what is going on.

    Parameters
    ----------
    protocol
        Its name; None: by the configs and the data set.
    cores
        To use; 0: all this process has.

    Raises
    ------
    InputError
        If the folder of fields cannot be used or the results cannot be written.
    """
    from iterreg.errors import InputError
    from iterreg.evaluation.folder import evaluate_folder, workers_that_fit
    from iterreg.evaluation.records import write_records
    from iterreg.jobs.progress import Progress
    from iterreg.jobs.resources import available_cores

    rules = _protocol(protocol, configs, dataset)
    if cores < 0:
        raise InputError(f"--cores {cores}: must be at least 1")
    cores = cores or available_cores()
    workers = workers_that_fit(dataset, cores)
    print(_headline(dataset, rules, configs), file=sys.stderr)
    progress = Progress(len(dataset.pairs), parallel=workers)
    try:
        records = evaluate_folder(
            fields,
            dataset,
            rules,
            out,
            configs=configs,
            workers=workers,
            threads=max(1, cores // workers),
            with_extras=with_extras,
            progress=progress,
        )
    finally:
        progress.close()
    name = configs[-1].name if configs else dataset.name
    try:
        write_records(out, records, rules, dataset, name)
    except OSError as error:
        raise InputError(
            f"{out}: the results could not be written ({error}); free space, run again"
        ) from error
    return records, rules


def _configs(args: argparse.Namespace, dataset: Dataset) -> tuple[EvaluationConfig, ...]:
    from iterreg.errors import InputError
    from iterreg.evaluation.protocols.config import configs_beside, read_config

    if args.no_config:
        if args.config:
            raise InputError("--config and --no-config exclude each other; give one of them")
        return ()
    if args.config:
        return tuple(read_config(path) for path in args.config)
    return () if args.protocol == "lumirage" else configs_beside(dataset)


def _protocol(name: str | None, configs: tuple[EvaluationConfig, ...], dataset: Dataset) -> Protocol:
    from iterreg.evaluation.protocols import protocol_named

    if name is None:
        # Both years call themselves LUMIR; their files are LUMIR_… and LUMIR25_….
        files = [dataset.source.name.upper(), *(config.path.name.upper() for config in configs)]
        if any(config.generic for config in configs):
            name = "learn2reg"
        else:
            name = "lumir24" if files[-1].startswith(("LUMIR_", "LUMIR24_")) else "lumir25"
    return protocol_named(name)


def _beside(fields: Path) -> Path:
    folder = real(fields)
    return folder.parent / "scores" if folder.name == "fields" else folder.with_name(f"{folder.name}-scores")


def _headline(dataset: Dataset, protocol: Protocol, configs: tuple[EvaluationConfig, ...]) -> str:
    by = ", ".join(config.path.name for config in configs) or "no evaluation config: all labels that occur"
    return f"{dataset.name}: {len(dataset.pairs)} pairs by the protocol {protocol.name} ({by})"


def _explain(records: list[PairRecord]) -> None:
    """Say by name what the table cannot show."""
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
        for problem in record.scores.problems:
            print(f"{case}: {problem}")
        if record.note:
            print(f"note: {record.note}")
