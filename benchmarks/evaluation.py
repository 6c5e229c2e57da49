"""Compares `iterreg evaluate` with the official LUMIR25 evaluator on a real pair: CPU, memory, every number.

    python benchmarks/evaluation.py --official LUMIR25_L2R25/LUMIR25_Evalution_GC [--field FILE]

The official code is your own checkout of JHU-MedImage-Reg/LUMIR25_L2R25. Both score OASIS 1000 <- 1001 under
all labels of the pair (the background is one) with NDV, Dice, HD95 and TRE, each in a process of its own:
starting the interpreter, importing and reading included. The fields are zero, random and folding, and those
given with --field. Then iterreg alone scores the same pair resampled to 0.6 mm. CPU seconds are user + system
time on one thread, peak memory is the largest resident set. iterreg's compiled kernels come from numba's
cache; the row "first run" may have filled it.

The table goes to ``benchmarks/results/evaluation.{csv,md}``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "field", "grid", "evaluator", "cpu_s", "wall_s", "peak_mib", "times_less_cpu", "numbers",
    "largest_difference", "dice", "hd95", "tre_voxels", "ndv_percent", "measured",
)  # fmt: skip
MEASURES = {"dice": "DSC", "hd95": "HD95", "tre_voxels": "TRE_lm", "ndv_percent": "Non-diffeomorphic Volumes"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(os.environ.get("ITERREG_DATA", HERE.parents[1] / "shared" / "data")) / "oasis"
    parser.add_argument("--official", type=Path, help="folder of the official evaluator's evaluation.py")
    parser.add_argument("--data", type=Path, default=beside, help="folder of OASIS_dataset.json")
    parser.add_argument("--field", type=Path, action="append", default=[], help="further fields to score")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the tables go")
    parser.add_argument("--no-fine", action="store_true", help="leave out the 0.6 mm pair")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.data, args.make)
        return 0
    if not (args.data / "OASIS_dataset.json").is_file():
        print(f"{args.data}: holds no OASIS_dataset.json; benchmarks/README.md says how to obtain it")
        return 1
    if args.official and not (args.official / "evaluation.py").is_file():
        print(f"{args.official}: holds no evaluation.py; give the folder of your own checkout that does")
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        rows = compare(args, Path(scratch))
    write(args.results, rows)
    print((args.results / "evaluation.md").read_text())
    return 0


def compare(args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """A row per field and evaluator."""
    # In a process of its own: what a parent had in memory would count as its children's.
    subprocess.run([sys.executable, __file__, "--data", str(args.data), "--make", str(scratch)], check=True)
    fields = {"identity": scratch / "identity", "random, folding": scratch / "folding"}
    for number, path in enumerate(args.field):
        folder = scratch / f"given{number}"
        folder.mkdir()
        shutil.copy(path, folder / "disp_1000_1001.nii.gz")
        fields[_title(path)] = folder
    config, rows = scratch / "config.json", []
    first = run_ours(fields["identity"], args.data, config, scratch / "warm")
    rows.append(_row("identity", "1 mm", "iterreg, first run", *first))
    for name, folder in fields.items():
        ours = run_ours(folder, args.data, config, scratch / f"ours {name}")
        row = _row(name, "1 mm", "iterreg", *ours)
        if args.official:
            theirs = run_official(args.official, folder, args.data, config, scratch / "official.json")
            row["times_less_cpu"] = f"{theirs[1]['cpu_s'] / ours[1]['cpu_s']:.1f}"
            count, largest = difference(ours[0], theirs[0])
            row |= {"numbers": count, "largest_difference": f"{largest:.1e}"}
            rows.append(_row(name, "1 mm", "official", *theirs))
        rows.append(row)
    if not args.no_fine:
        fine = scratch / "fine"
        found = run_ours(fine / "fields", fine, fine / "config.json", scratch / "ours fine")
        rows.append(_row("random, folding", "0.6 mm, 267x373x320", "iterreg", *found))
    return rows


def run_ours(fields: Path, data: Path, config: Path, out: Path) -> tuple[Any, dict[str, float]]:
    """The case's numbers, and what they cost."""
    command = [sys.executable, "-m", "iterreg", "evaluate", str(fields), "--dataset", str(config)]
    command += ["--root", str(data), "--protocol", "lumir25", "--official-only"]
    command += ["--cores", "1", "--out", str(out)]
    cost = measured(command)
    return next(iter(json.loads((out / "metrics.json").read_text())["cases"].values())), cost


def run_official(
    evaluator: Path, fields: Path, data: Path, config: Path, out: Path
) -> tuple[Any, dict[str, float]]:
    command = [sys.executable, str(HERE / "official_evaluator.py")]
    cost = measured([*command, *(str(path) for path in (evaluator, fields, data, config, out))])
    return next(iter(json.loads(out.read_text())["cases"].values())), cost


def measured(command: list[str]) -> dict[str, float]:
    """Run a command to its end, on one thread: its CPU and wall seconds and its peak memory."""
    threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    began = datetime.now(UTC)
    child = subprocess.Popen(
        command, env={**os.environ, **threads}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    complaint = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {child.returncode}:\n{complaint}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": (datetime.now(UTC) - began).total_seconds(),
        "peak_mib": usage.ru_maxrss / 1024,
    }


def difference(ours: Any, theirs: Any) -> tuple[int, float]:
    """How many numbers two cases hold, and the largest difference between two that belong together."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        found = [difference(ours[key], theirs[key]) for key in theirs]
    elif isinstance(theirs, list):
        found = [difference(*pair) for pair in zip(ours, theirs, strict=True)]
    elif math.isfinite(theirs):
        return 1, abs(ours - theirs)
    else:
        return 1, 0.0 if str(ours) == str(theirs) else math.inf
    return sum(count for count, _ in found), max(largest for _, largest in found)


def write(results: Path, rows: list[dict[str, Any]]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    with (results / "evaluation.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |" for row in rows]
    (results / "evaluation.md").write_text("\n".join(lines) + "\n")


def make(data: Path, folder: Path) -> None:
    """Fields, the config with all labels of the pair, and the pair at 0.6 mm."""
    import nibabel as nib
    import numpy as np
    from scipy.ndimage import gaussian_filter

    names = [f"OASISMRI_{subject}_0000.nii.gz" for subject in (1000, 1001)]
    volumes = {
        (kind, name): np.asanyarray(nib.load(data / f"{kind}Val" / name).dataobj)
        for kind in ("images", "labels", "landmarks")
        for name in names
    }
    shape = volumes["images", names[0]].shape
    labels = sorted({int(label) for name in names for label in np.unique(volumes["labels", name])})
    rng = np.random.default_rng(1)
    noise = [gaussian_filter(rng.standard_normal(shape, np.float32), 4) for _ in range(3)]
    folding = np.stack(noise, axis=-1) * np.float32(120)

    def config(path: Path, size: tuple[int, ...]) -> None:
        listed = [{"fixed": f"./imagesVal/{names[0]}", "moving": f"./imagesVal/{names[1]}"}]
        methods = [
            {"name": "Non-diffeomorphic Volumes", "metric": "ndv"},
            {"name": "DSC", "metric": "dice", "labels": labels},
            {"name": "HD95", "metric": "hd95", "labels": labels},
            {"name": "TRE_lm", "metric": "tre", "dest": "landmarks"},
        ]
        content = {"name": "OASIS", "expected_shape": [*size, 3], "eval_pairs": listed}
        path.write_text(json.dumps({**content, "evaluation_methods": methods}))

    def save(path: Path, array: Any, spacing: float = 1.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1.0])), path)

    config(folder / "config.json", shape)
    save(folder / "identity" / "disp_1000_1001.nii.gz", np.zeros((*shape, 3), np.float32))
    save(folder / "folding" / "disp_1000_1001.nii.gz", folding)
    fine = tuple(math.floor(n / 0.6 + 0.5) for n in shape)
    nearest = np.ix_(
        *(np.minimum((np.arange(m) * 0.6 + 0.5).astype(int), n - 1) for m, n in zip(fine, shape, strict=True))
    )
    for (kind, name), volume in volumes.items():
        save(folder / "fine" / f"{kind}Val" / name, volume[nearest], 0.6)
    save(folder / "fine" / "fields" / "disp_1000_1001.nii.gz", folding[nearest] / np.float32(0.6), 0.6)
    config(folder / "fine" / "config.json", fine)


def _title(path: Path) -> str:
    """The method's name in a run folder, else the folder's."""
    return path.parent.parent.name if path.parent.name == "fields" else path.parent.name


def _row(field: str, grid: str, evaluator: str, case: Any, cost: dict[str, float]) -> dict[str, Any]:
    scores = {key: f"{case[name]['mean']:.6f}" for key, name in MEASURES.items()}
    return {
        "field": field, "grid": grid, "evaluator": evaluator, "cpu_s": f"{cost['cpu_s']:.2f}",
        "wall_s": f"{cost['wall_s']:.1f}", "peak_mib": f"{cost['peak_mib']:.0f}", **scores,
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
