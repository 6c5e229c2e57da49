"""``iterreg demo``: the main job on an embedded data set whose answer is known."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iterreg.cli.commands import Subparsers, path_argument

if TYPE_CHECKING:
    from iterreg.dataset import Dataset, Pair
    from iterreg.field import DisplacementField
    from iterreg.runs import MethodResults, OpenedResults

__all__ = ["add_parser", "run"]

METHODS = ("identity", "syn:mi", "elastix:bspline-mi", "lddmm:fast")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "demo",
        help="make a small data set, register it with every method, score it, report it",
        description="Makes synthetic people with known deformations in the challenge's layout, registers "
        "every pair with every method in parallel, scores the fields against the truth, and shows all in "
        "report.html. The data folder can be copied as the template of your own data set.",
    )
    parser.add_argument(
        "-o", "--out", type=path_argument, default=Path("iterreg-demo"), help="default: iterreg-demo"
    )
    parser.add_argument("--full", action="store_true", help="160x224x192 voxels of 1 mm, as in the challenge")
    parser.add_argument("-m", "--method", action="append", help=f"default: {', '.join(METHODS)}")
    parser.add_argument("--seed", type=int, default=7, help="of the synthetic people (default 7)")
    parser.add_argument("--cores", type=int, default=0, help="cores to use (default: all)")
    parser.add_argument("--threads", type=int, help="threads per job (default: fills the cores)")


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.plan import Settings
    from iterreg.batch.session import Session
    from iterreg.cli.run import close
    from iterreg.dataset import open_dataset
    from iterreg.dataset.demo import make_demo
    from iterreg.report import require_libraries

    require_libraries()
    began = time.monotonic()
    source = make_demo(
        args.out / "data",
        spacing=1 if args.full else 2,
        seed=args.seed,
        on_progress=lambda text: print(text, file=sys.stderr),
    )
    dataset = open_dataset([source])
    methods = args.method or METHODS
    with Session(args.out / "run", Settings(cores=args.cores, threads=args.threads)) as session:
        plan = session.plan(dataset, methods)
        print(
            f"{len(dataset.pairs)} pairs in {source.parent}, {len(methods)} methods: {len(plan.todo)} jobs "
            f"to do, {plan.parallel} at a time"
        )
        summary = session.run(plan)
    results = session.results()
    print()
    _print_table([_row(results.only(arm.name), dataset) for arm in plan.arms])
    print()
    _report(results, dataset, args.out / "report.html", cores=args.cores)
    print(
        f"fields and provenance: {results.path}; data set to copy as a template: {source.parent}\n"
        f"took {time.monotonic() - began:.0f} s; the same command again resumes"
    )
    return close(plan, session.folder, summary)


def _report(run: OpenedResults, dataset: Dataset, out: Path, *, cores: int) -> None:
    """Evaluate as the challenge does and show it; what is still true is not made again."""
    from iterreg.cli.evaluate import refresh
    from iterreg.cli.report import make_report
    from iterreg.runs.opening import open_named

    methods, notes = open_named([str(run.path)])
    refresh(methods, dataset, whole=dataset, cores=cores)
    if out.is_file():
        made_of = [method.scores / "pairs.csv" for method in methods]
        made_of += [job.status for method in methods if method.arm is not None for job in method.arm.jobs()]
        newest = max(path.stat().st_mtime_ns for path in made_of if path.is_file())
        if out.stat().st_mtime_ns > newest:
            print(f"{out}: is up to date")
            return
    make_report(methods, dataset, out, notes=notes, cores=cores)


def _row(method: MethodResults, dataset: Dataset) -> dict[str, Any]:
    """A method's means over the pairs, scored against the known truth."""
    from iterreg.dataset.truth import load_truth, truth_error
    from iterreg.evaluation.scores import score_folder
    from iterreg.volume import load_image

    def against_truth(pair: Pair, field: DisplacementField) -> Mapping[str, float]:
        mask = load_image(pair.fixed.path).array > 0
        return {"truth_mm": truth_error(field, load_truth(pair), mask)["mean_mm"]}

    assert method.fields is not None
    cache = method.fields.with_name("scores.json")
    scores = score_folder(method.fields, dataset.pairs, cache=cache, extra=against_truth)
    statuses = [status for name in scores if (status := method.status(name)) is not None]
    row: dict[str, Any] = {"method": method.name, "pairs": f"{len(scores)}/{len(dataset.pairs)}"}
    for key in ("truth_mm", "dice", "tre_voxels", "ndv_percent"):
        row[key] = _mean([score[key] for score in scores.values() if key in score])
    row["cpu_s"] = _mean([status.cpu_seconds or 0.0 for status in statuses])
    row["wall_s"] = _mean([status.wall_seconds or 0.0 for status in statuses])
    row["peak_mib"] = max(((status.peak_bytes or 0) / 2**20 for status in statuses), default=0.0)
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


_COLUMNS = (
    ("method", "method", "<", ""),
    ("pairs", "pairs", ">", ""),
    ("truth_mm", "error mm", ">", ".2f"),
    ("dice", "Dice", ">", ".3f"),
    ("tre_voxels", "TRE vox", ">", ".2f"),
    ("ndv_percent", "NDV %", ">", ".4f"),
    ("cpu_s", "CPU s", ">", ".0f"),
    ("wall_s", "wall s", ">", ".0f"),
    ("peak_mib", "peak MiB", ">", ".0f"),
)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    cells = [[title for _, title, _, _ in _COLUMNS]]
    cells += [[format(row[key], form) for key, _, _, form in _COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
    for number, line in enumerate(cells):
        print("  ".join(format(cell, f"{_COLUMNS[i][2]}{widths[i]}") for i, cell in enumerate(line)))
        if number == 0:
            print("  ".join("-" * width for width in widths))
