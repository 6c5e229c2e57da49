"""Registers two real pairs with other tools and writes them beside iterreg's LDDMM.

    python benchmarks/peers.py --data FOLDER

FOLDER holds ``OASIS_dataset.json`` (as for benchmarks/lddmm.py). What is not installed is left out, with a
line that says what it needs; each tool's settings stand in its program under ``benchmarks/peers``. Every tool
gets one thread; counted are the CPU seconds of the whole child process. Fields are written in the challenge's
format and scored as in benchmarks/lddmm.py, whose presets are measured here in the same way.

The command resumes; it takes some 40 minutes with every tool.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lddmm

HERE = Path(__file__).resolve().parent
PAIRS = ("1000_1001", "1006_1007")
OURS = ("lddmm:fast", "lddmm:lumir")
PEERS = ("deeds", "convexadam", "niftyreg", "fireants_greedy")
SLOW = ("syntx_tvf",)
"""Only when asked for by name: made for a GPU, and some four hours a pair without one."""
NEEDS = {
    "deeds": ("deedsBCV", "DEEDS_DIR"),
    "niftyreg": ("reg_f3d", "NIFTYREG_BIN"),
    "convexadam": ("convexAdam", ""),
    "fireants_greedy": ("fireants", ""),
    "syntx_tvf": ("syntx", ""),
}
"""A program and the variable that names its folder, or a Python package."""
COLUMNS = ("method", "pair", "dice", "hd95", "ndv", "folded_percent", "cpu_s", "wall_s", "peak_mib")


def missing(peer: str, python: str) -> str:
    """What a tool lacks here; nothing if it can run."""
    name, folder = NEEDS[peer]
    if folder:
        found = shutil.which(name, path=os.environ.get(folder) or os.environ.get("PATH"))
        return "" if found else f"{peer}: needs the program {name} in ${folder} or on the PATH"
    have = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
    return "" if have.returncode == 0 else f"{peer}: needs the package {name} in {python} (see --python)"


def measure(method: str, pair: str, data: Path, out: Path, python: str) -> dict[str, Any]:
    fixed, moving = (data / "imagesVal" / f"OASISMRI_{one}_0000.nii.gz" for one in pair.split("_"))
    with tempfile.TemporaryDirectory(dir=out) as name:
        field = Path(name) / "disp.nii.gz"
        if method in OURS:
            values = json.dumps(lddmm.preset_values(method.removeprefix("lddmm:")))
            command = [sys.executable, "-c", lddmm.OURS, str(fixed), str(moving), values, "1", str(field)]
        else:
            interpreter = python if not NEEDS[method][1] else sys.executable
            program = HERE / "peers" / f"{method}.py"
            command = [interpreter, str(program), str(fixed), str(moving), "1", str(field)]
        cost, said = lddmm.costed(command, 1, out / "kernels", ours=method in OURS)
        if lddmm.COMPILES in said:
            cost, _ = lddmm.costed(command, 1, out / "kernels", ours=True)
        scores = json.loads(lddmm.helper("score", data, field, fixed, moving).splitlines()[-1])
    return {"method": method, "pair": pair, **cost, **scores}


def report(rows: Sequence[Mapping[str, Any]], results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    lddmm.write_csv(results / "peers.csv", COLUMNS, rows)
    lines = [
        "| method | pair | Dice | HD95 mm | NDV % | folded % | CPU s, 1 thread | peak MiB |",
        "|" + "---|" * 8,
    ]
    lines += [
        f"| {row['method']} | {row['pair']} | {row['dice']:.4f} | {row['hd95']:.3f} | {row['ndv']:.4f} "
        f"| {row['folded_percent']:.4f} | {row['cpu_s']:.0f} | {row['peak_mib']:.0f} |"
        for row in sorted(rows, key=lambda row: (row["pair"], -row["dice"]))
    ]
    (results / "peers.md").write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(os.environ.get("ITERREG_DATA", HERE.parents[1] / "shared" / "data")) / "oasis"
    parser.add_argument("--data", type=Path, default=beside, help="folder of OASIS_dataset.json")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "peers", help="run folder")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the tables go")
    methods = (*OURS, *PEERS, *SLOW)
    parser.add_argument("--method", choices=methods, action="append", help="only this (repeatable)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and its tools")
    args = parser.parse_args()
    if not (args.data / "OASIS_dataset.json").is_file():
        print(
            f"{args.data}: holds no OASIS_dataset.json; benchmarks/README.md says how to obtain it",
            file=sys.stderr,
        )
        return 1
    (args.out / "kernels").mkdir(parents=True, exist_ok=True)
    kept = args.out / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for method in args.method or (*OURS, *PEERS):
        lacks = "" if method in OURS else missing(method, args.python)
        if lacks:
            print(f"left out: {lacks}", file=sys.stderr)
            continue
        for pair in PAIRS:
            key = f"{pair} {method} {lddmm.code_digest() if method in OURS else ''}".strip()
            if key not in rows:
                rows[key] = measure(method, pair, args.data, args.out, args.python)
                part = kept.with_suffix(".part")
                part.write_text(json.dumps(rows, indent=1))
                part.replace(kept)
            row = rows[key]
            print(
                f"{key}: Dice {row['dice']:.4f}, {row['cpu_s']:.1f} CPU s, {row['peak_mib']:.0f} MiB",
                flush=True,
            )
    if rows:
        latest = {(row["method"], row["pair"]): row for row in rows.values()}
        report(list(latest.values()), args.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
