"""Registers real labelled brains with every preset and writes the table the README quotes.

    python benchmarks/oasis.py --data FOLDER

FOLDER holds ``OASIS_dataset.json`` (see benchmarks/README.md for how anyone obtains it; default: the
environment variable ITERREG_DATA, else ``../shared/data`` beside the checkout, with ``oasis`` below it).

The command resumes: interrupt it whenever you like. It asks for the jobs in the order of `STAGES`, one thread
per job, and after every stage scores what is there and rewrites ``benchmarks/results/oasis.{csv,md}``.
A method that the run folder holds no field of keeps the row that an earlier run of the command left in the
table, and is marked as such; a row tells when and with which iterreg it was measured.
CPU seconds are user + system time of each job's own child process; the import of an engine by its warm
parent is not in them (it is paid once per run: 4 s for antspyx, 20 s for itk-elastix).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from iterreg.batch.plan import Settings
from iterreg.batch.session import Session
from iterreg.cli.batch_options import parse_bytes
from iterreg.dataset import open_dataset
from iterreg.evaluation.scores import score_folder
from iterreg.runs import RunFolder, Sidecar
from iterreg.runs.folder import read_sidecar

HERE = Path(__file__).resolve().parent
FIRST = "1000_1001"
# Cheap answers first; a registration with cross-correlation at full resolution takes about an hour of CPU.
STAGES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("identity", "lddmm:fast", "lddmm:lumir"), ()),
    (("lddmm:quality",), (FIRST,)),
    (("syn:lumir24-script-today", "syn:lumir24-published", "syn:strong"), (FIRST,)),
    (("elastix:bspline-lumir", "elastix:bspline-fast", "elastix:affine+bspline-lumir"), (FIRST,)),
    (("syn:cheap", "elastix:bspline-lumir"), ()),
)
TITLES = {
    "method": "method", "pairs": "pairs", "dice_1000_1001": "Dice 1000 <- 1001", "dice": "mean Dice",
    "tre_voxels": "TRE vox", "ndv_percent": "NDV %", "folded_percent": "folded %", "sdlogj": "sd log J",
    "cpu_s": "CPU s", "wall_s": "wall s", "peak_mib": "peak MiB", "measured": "measured (iterreg)",
}  # fmt: skip
"""Columns of the table of results (csv) with their titles in the document (md)."""
COLUMNS = (*TITLES, "run")
"""Columns of the csv; ``run``: ``this``, the run folder given, or ``earlier``, one that it replaced."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=_default_data(), help="folder of OASIS_dataset.json")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "oasis", help="run folder")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the tables go")
    parser.add_argument("--cores", type=int, default=0, help="default: all")
    parser.add_argument("--memory", type=parse_bytes, default="16G")
    parser.add_argument("--report-only", action="store_true", help="score and tabulate what is there")
    args = parser.parse_args()
    source = args.data / "OASIS_dataset.json"
    if not source.is_file():
        print(
            f"{source}: there is no such file; benchmarks/README.md says how to obtain the data",
            file=sys.stderr,
        )
        return 1
    failed = 0
    if not args.report_only:
        dataset = open_dataset([source])
        settings = Settings(cores=args.cores, threads=1, memory=args.memory)
        with Session(args.out, settings) as session:
            for methods, pairs in STAGES:
                plan = session.plan(dataset.select(pairs=pairs or None), methods)
                summary = session.run(plan)
                report(source, args.out, args.results)
                if summary.left:
                    return 130
                failed += summary.failed + len(plan.in_state("refused"))
    report(source, args.out, args.results)
    print((args.results / "oasis.md").read_text())
    return 2 if failed else 0


def report(source: Path, out: Path, results: Path) -> None:
    """Score every field of the run and write both tables."""
    dataset = open_dataset([source])
    folder = RunFolder(out)
    rows = _earlier_rows(results / "oasis.csv")
    for name in folder.read().arms:
        place = folder.arm(name)
        scores = score_folder(place.fields, dataset.pairs, cache=place.path / "scores.json")
        sidecars = [found for pair in scores if (found := read_sidecar(place.job(pair).field)) is not None]
        if scores:
            rows[name] = _row(name, scores, sidecars)
    ordered = sorted(rows.values(), key=lambda row: _position(str(row["method"])))
    results.mkdir(parents=True, exist_ok=True)
    with (results / "oasis.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
    (results / "oasis.md").write_text(_markdown(ordered))


def _earlier_rows(table: Path) -> dict[str, dict[str, object]]:
    """The table as the last report left it, by method."""
    if not table.is_file():
        return {}
    with table.open(newline="") as stream:
        return {row["method"]: {**row, "run": "earlier"} for row in csv.DictReader(stream)}


def _position(name: str) -> int:
    """Where a method's row stands: methods in the order of the stages, others last."""
    names = [method.replace(":", "-") for methods, _ in STAGES for method in methods]
    return names.index(name) if name in names else len(names)


def _row(
    name: str, scores: Mapping[str, Mapping[str, float]], sidecars: Sequence[Sidecar]
) -> dict[str, object]:
    """One method's means; `sidecars` are those of the fields that were scored."""
    records = [one.status for one in sidecars]
    row: dict[str, object] = {"method": name, "pairs": len(scores)}
    row["dice_1000_1001"] = f"{scores[FIRST]['dice']:.4f}" if FIRST in scores else ""
    for key, digits in (
        ("dice", 4),
        ("tre_voxels", 3),
        ("ndv_percent", 6),
        ("folded_percent", 5),
        ("sdlogj", 3),
    ):
        known = [score[key] for score in scores.values() if key in score]  # not every data set has landmarks
        row[key] = f"{mean(known):.{digits}f}" if known else ""
    row["cpu_s"] = f"{mean(record.cpu_seconds or 0.0 for record in records):.0f}"
    row["wall_s"] = f"{mean(record.wall_seconds or 0.0 for record in records):.0f}"
    row["peak_mib"] = f"{max(record.peak_bytes or 0 for record in records) / 2**20:.0f}"
    versions = ", ".join(sorted({str(one.versions["iterreg"]) for one in sidecars}))
    row["measured"] = f"{max(record.finished for record in records)[:10]} ({versions})"
    row["run"] = "this"
    return row


def _markdown(rows: Sequence[Mapping[str, object]]) -> str:
    lines = ["| " + " | ".join(TITLES.values()) + " |", "|" + "---|" * len(TITLES)]
    for row in rows:
        cells = [str(row[key]) for key in TITLES]
        cells[0] += " \\*" if row["run"] == "earlier" else ""
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["run"] == "earlier" for row in rows):
        lines += ["", r"\* of an earlier run of the command; the run of the others has none of these yet."]
    return "\n".join(lines) + "\n"


def _default_data() -> Path:
    beside = HERE.parents[1] / "shared" / "data"
    return Path(os.environ.get("ITERREG_DATA", beside)) / "oasis"


if __name__ == "__main__":
    sys.exit(main())
