"""Measures iterreg's LDDMM beside greedy on real labelled brains: Dice, folding, CPU seconds, memory.

    python benchmarks/lddmm.py --data FOLDER

FOLDER holds ``OASIS_dataset.json`` (default: ITERREG_DATA, else ``../shared/data`` beside the checkout, with
``oasis`` below it); greedy comes with ``pip install -e '.[benchmark]'``. The stages, in this order:

    two      the first two pairs, three times, the methods taking turns: the medians are what is quoted
    eight    every pair once
    cold     the first pair with an empty kernel cache: what the very first registration costs
    single   the first pair on one thread
    sweep    the first pair at growing numbers of iterations: Dice against CPU seconds
    fine     the first pair resampled to 0.6 mm (267x373x320), the preset lumir

The command resumes: each run is kept in ``rows.json`` of the run folder as it ends. It is measured anew where
the preset or iterreg's code has changed since (``--keep`` takes it as it is). ``--only STAGE`` picks stages,
``--method`` methods. After every stage ``results/lddmm*.{csv,md,png}`` are rewritten; ``--report-only`` does
nothing else.

Each run is a process of its own. CPU seconds are its user + system time from the start of its interpreter to
its end, with all imports, reading and writing; peak memory is its largest resident set. iterreg's kernels
come from a cache below the run folder that was filled before; a run that compiles all the same is repeated.
Fields are written to disk and scored from there, in another process: mean foreground Dice and HD95 over the
labels of the evaluation config, NDV over fixed > 0. Wall seconds, and with them nothing else, depend on what
the machine does besides: ``load`` says how busy it was, and ``stolen_s`` for how many seconds of the run a
hypervisor gave one of its processors to another guest (counted by Linux over all processors). A column takes
these out of the wall seconds, shared by the threads: no program can use them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import Any

from iterreg.methods.lddmm import LDDMM

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "iterreg"
STAGES = ("two", "eight", "cold", "single", "sweep", "fine")
PRESETS = ("fast", "lumir", "quality")
GREEDY = "100x100x40"
GREEDY_SWEEP = ("20x10x0", "50x25x5", "100x50x10", "100x100x20", "100x100x40", "100x100x80", "200x200x160")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""What the iterations of each preset are multiplied by in the sweep."""
REPEATS = 3
THREADS = 2
FINE_MM = 0.6


@dataclass(frozen=True)
class Run:
    """One registration to be measured.

    Attributes
    ----------
    method
        A preset of LDDMM, or ``greedy``.
    pair
        Ids of the fixed and the moving scan; ``fine`` appended for the resampled pair.
    iterations
        greedy's levels (``100x100x40``), or the factor on the preset's iterations.
    """

    stage: str
    method: str
    pair: str
    repeat: int = 1
    threads: int = THREADS
    iterations: str = ""

    @property
    def key(self) -> str:
        parts = [self.stage, self.pair, self.method, self.iterations, f"{self.threads}t", f"#{self.repeat}"]
        return " ".join(part for part in parts if part)


def planned(stage: str, pairs: Sequence[str], methods: Sequence[str]) -> Iterator[Run]:
    """The runs of a stage; methods take turns, so that a slow hour of the machine meets all of them."""
    ours = [method for method in methods if method != "greedy"]
    if stage == "two":
        for repeat in range(1, REPEATS + 1):
            for pair in pairs[:2]:
                yield from (Run(stage, method, pair, repeat) for method in methods)
    elif stage == "eight":
        for pair in pairs:
            yield from (Run(stage, method, pair) for method in methods)
    elif stage == "cold":
        yield from (Run(stage, method, pairs[0]) for method in ours)
    elif stage == "single":
        yield from (Run(stage, method, pairs[0], threads=1) for method in methods)
    elif stage == "sweep":
        for factor in FACTORS:
            yield from (Run(stage, method, pairs[0], iterations=f"x{factor:g}") for method in ours)
        if "greedy" in methods:
            yield from (Run(stage, "greedy", pairs[0], iterations=levels) for levels in GREEDY_SWEEP)
    elif "lumir" in methods:
        yield Run(stage, "lumir", f"{pairs[0]}fine")


# -- measuring ----------------------------------------------------------------------------------------

OURS = """
import json, sys
from pathlib import Path
from iterreg.io.challenge import write_field
from iterreg.jobs.threads import in_threads
from iterreg.methods.base import Parameters, Task
from iterreg.methods.lddmm import LDDMM
from iterreg.volume import load_image

fixed, moving, values, threads, out = sys.argv[1:]
task = Task(*in_threads(load_image, (fixed, moving), threads=int(threads)), Path("."), threads=int(threads))
result = LDDMM().register(task, Parameters("benchmark", json.loads(values)))
write_field(out, result.field, threads=int(threads))
details = dict(result.details)
details.pop("history")
print(json.dumps(details))
"""

THEIRS = """
import sys
from picsl_greedy import Greedy3D

fixed, moving, levels, threads, out = sys.argv[1:]
command = f"-i {fixed} {moving} -m NCC 2x2x2 -n {levels} -s 1.5mm 0.5mm -threads {threads} -o {out}"
Greedy3D().execute(command, out=sys.stdout)
"""


COMPILES = "compiling kernels"


class Bench:
    """Where the images, the kernel cache and the rows are.

    Parameters
    ----------
    data
        Folder of ``OASIS_dataset.json``.
    out
        The run folder.
    keep
        Take rows of other code and presets as they are.
    """

    def __init__(self, data: Path, out: Path, *, keep: bool) -> None:
        self.data, self.out, self.keep = data, out, keep
        self.kernels = out / "kernels"
        self.kernels.mkdir(parents=True, exist_ok=True)
        path = out / "rows.json"
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
        self.code = code_digest()
        self._warm = False

    def images(self, pair: str) -> list[Path]:
        """Fixed and moving image; the resampled pair is made when it is first asked for."""
        fine = pair.endswith("fine")
        folder = self.out / "fine" if fine else self.data
        if fine and not (folder / "done").exists():
            helper("make-fine", self.data, folder, pair.removesuffix("fine"))
        ids = pair.removesuffix("fine").split("_")
        return [folder / "imagesVal" / f"OASISMRI_{subject}_0000.nii.gz" for subject in ids]

    def values(self, run: Run) -> str:
        """Everything that shapes the result, apart from images and code."""
        if run.method == "greedy":
            return run.iterations or GREEDY
        values = preset_values(run.method)
        if run.iterations:
            factor = float(run.iterations.removeprefix("x"))
            pyramid = values["pyramid"]
            pyramid["iterations"] = [math.ceil(factor * count) for count in pyramid["iterations"]]
        return json.dumps(values, sort_keys=True)

    def is_done(self, run: Run) -> bool:
        row = self.rows.get(run.key)
        if row is None:
            return False
        same_code = run.method == "greedy" or row["code"] == self.code
        return self.keep or (same_code and row["values"] == self.values(run))

    def measure(self, run: Run) -> dict[str, Any]:
        """Register, score, keep the row."""
        fixed, moving = self.images(run.pair)
        values = self.values(run)
        with tempfile.TemporaryDirectory(dir=self.out) as name:
            folder = Path(name)
            out = folder / ("warp.nii.gz" if run.method == "greedy" else "disp.nii.gz")
            program = THEIRS if run.method == "greedy" else OURS
            cold = run.stage == "cold"
            cache = folder / "kernels" if cold else self.kernels
            if run.method != "greedy" and not cold:
                self.warm_up()
            arguments = [str(fixed), str(moving), values, str(run.threads), str(out)]
            cost, said = measured(program, arguments, run.threads, cache)
            if COMPILES in said and not cold:  # a setting that the warm-up did not meet: it is warm now
                cost, said = measured(program, arguments, run.threads, cache)
                if COMPILES in said:
                    sys.exit(f"{run.key}: kernels are compiled again and again; can {cache} be written?")
            scores = json.loads(helper("score", self.data, out, fixed, moving).splitlines()[-1])
        row = {
            **{name: getattr(run, name) for name in ("stage", "method", "pair", "repeat", "threads")},
            "iterations": run.iterations,
            **cost,
            **scores,
            "values": values,
            "code": "" if run.method == "greedy" else self.code,
            "details": {} if run.method == "greedy" else json.loads(said.splitlines()[-1]),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.rows[run.key] = row
        part = self.out / "rows.part"
        part.write_text(json.dumps(self.rows, indent=1))
        part.replace(self.out / "rows.json")
        return row

    def warm_up(self) -> None:
        """Fill the kernel cache by registering a small pair with every preset."""
        if self._warm:
            return
        self._warm = True
        with tempfile.TemporaryDirectory(dir=self.out) as name:
            folder = Path(name)
            helper("make-small", folder)
            pair = [str(folder / f"{role}.nii.gz") for role in ("fixed", "moving")]
            for preset in PRESETS:
                values = preset_values(preset) | {"scale_to_brain": False}
                values["pyramid"]["iterations"] = [2] * len(values["pyramid"]["iterations"])
                arguments = [*pair, json.dumps(values), "1", str(folder / "disp.nii.gz")]
                measured(OURS, arguments, 1, self.kernels)


def measured(
    program: str, arguments: Sequence[str], threads: int, cache: Path
) -> tuple[dict[str, float], str]:
    """Run Python code to its end: what it cost, and what it said."""
    return costed([sys.executable, "-c", program, *arguments], threads, cache, ours=program == OURS)


def costed(command: Sequence[str], threads: int, cache: Path, *, ours: bool) -> tuple[dict[str, float], str]:
    """Run a command to its end, as iterreg would run its own method if it is `ours`."""
    count = {"NUMBA_NUM_THREADS": str(threads), "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads)}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own = LDDMM().environment(threads) if ours else {}
    environment = {**os.environ, **count, **one, **own, "NUMBA_CACHE_DIR": str(cache)}
    load, stolen, began = os.getloadavg()[0], stolen_seconds(), time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    said = child.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"a registration ended with {child.returncode}:\n{said[-3000:]}")
    wall = time.monotonic() - began
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_s": round(wall, 2),
        "stolen_s": round(stolen_seconds() - stolen, 2),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "load": round(load, 2),
    }, said


def stolen_seconds() -> float:
    """Since boot, over all processors; 0 where the system does not count them."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return 0.0
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def code_digest() -> str:
    """Of the files whose change may change a result or its cost."""
    found = hashlib.sha256()
    files = [*PACKAGE.glob("lddmm/**/*.py"), *PACKAGE.glob("kernels/*.py"), PACKAGE / "methods" / "lddmm.py"]
    for path in sorted(files):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def preset_values(preset: str) -> dict[str, Any]:
    """Every setting of a preset, the caller's to change."""
    return json.loads(_preset_text(preset))


@cache
def _preset_text(preset: str) -> str:
    return helper("values", preset)


# -- helpers: work that needs memory is done in processes of its own ------------------------------------
# A child counts what its parent had in memory when it was started as its own peak.


def helper(task: str, *arguments: str | Path) -> str:
    command = [sys.executable, __file__, "--helper", task, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{task} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def help_with(task: str, arguments: Sequence[str]) -> None:
    if task == "values":
        from iterreg.methods.lddmm import LDDMM

        print(json.dumps(LDDMM().parameters(arguments[0]).values))
    elif task == "make-small":
        make_small(Path(arguments[0]))
    elif task == "make-fine":
        make_fine(Path(arguments[0]), Path(arguments[1]), arguments[2])
    elif task == "score":
        print(json.dumps(score(*map(Path, arguments))))


def make_small(folder: Path) -> None:
    from iterreg.io.nifti import write_volume
    from iterreg.methods.trial import make_trial

    trial = make_trial(oblique=False)
    write_volume(folder / "fixed.nii.gz", trial.fixed)
    write_volume(folder / "moving.nii.gz", trial.moving)


def make_fine(data: Path, folder: Path, pair: str) -> None:
    """The pair and its labels on a grid of 0.6 mm: linear and nearest neighbour."""
    import numpy as np

    from iterreg.field import DisplacementField
    from iterreg.io.nifti import write_volume
    from iterreg.volume import Grid, load_image, load_labels

    for subject in pair.split("_"):
        file = f"OASISMRI_{subject}_0000.nii.gz"
        image, labels = load_image(data / "imagesVal" / file), load_labels(data / "labelsVal" / file)
        own = image.grid
        shape = tuple(math.floor(n * s / FINE_MM + 0.5) for n, s in zip(own.shape, own.spacing, strict=True))
        scaled = own.affine @ np.diag([*(FINE_MM / s for s in own.spacing), 1.0])
        finer = DisplacementField.identity(Grid(shape, scaled), own)
        for kind, volume in (("images", finer.warp_image(image)), ("labels", finer.warp_labels(labels))):
            (folder / f"{kind}Val").mkdir(parents=True, exist_ok=True)
            write_volume(folder / f"{kind}Val" / file, volume)
    (folder / "done").touch()


def score(data: Path, path: Path, fixed: Path, moving: Path) -> dict[str, Any]:
    """Score a field as it stands on the disk, greedy's converted to the challenge's format before."""
    import numpy as np

    from iterreg.evaluation import evaluate
    from iterreg.io import itk
    from iterreg.io.challenge import read_field, write_field
    from iterreg.volume import load_image, load_labels

    images = [load_image(fixed), load_image(moving)]
    grids = [image.grid for image in images]
    if "warp" in path.name:
        warp, path = path, path.with_name("disp.nii.gz")
        write_field(path, itk.read_transforms([warp], *grids))
    field = read_field(path, *grids)
    labels = [load_labels(image.parents[1] / "labelsVal" / image.name) for image in (fixed, moving)]
    config = json.loads((data / "OASIS_VAL_Segmentation_evaluation_config.json").read_text())
    listed = next(method["labels"] for method in config["evaluation_methods"] if method["metric"] == "dice")
    found = evaluate(
        field,
        *labels,
        labels=[label for label in listed if label > 0],
        fixed_image=images[0],
        moving_image=images[1],
    )
    by_kind = {
        one.kind: one.official if math.isfinite(one.official) else one.robust for one in found.scores.values()
    }
    brain = images[0].array > 0
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        **{kind: by_kind[kind] for kind in ("dice", "hd95", "ndv")},
        "folded_percent": float((field.jacobian_determinant()[brain] <= 0).mean() * 100),
        "largest_voxels": float(np.abs(field.vectors).max()),
        "field": digest,
    }


# -- the report -----------------------------------------------------------------------------------------

TITLES = {
    "method": "method", "pairs": "pairs", "dice": "mean Dice", "least_gain": "least Dice above greedy",
    "hd95": "mean HD95 mm", "ndv": "largest NDV %", "folded_percent": "largest folded %",
    "cpu_s": "CPU s, 8 pairs", "cpu_median": "CPU s, medians", "share": "of greedy's",
    "wall_share": "wall / CPU", "unstolen_share": "wall / CPU, stolen time taken out",
    "single_cpu": "CPU s, 1 thread", "thread_share": "2 threads / 1",
    "cold_cpu": "CPU s, cold", "peak_mib": "peak MiB", "fine_share": "CPU s 0.6 / 1 mm",
    "fine_mib": "MiB 0.6 mm", "measured": "measured",
}  # fmt: skip
"""Columns of the table (csv) with their titles in the document (md)."""
RUN_COLUMNS = (
    "stage", "method", "pair", "iterations", "threads", "repeat", "dice", "hd95", "ndv", "folded_percent",
    "cpu_s", "wall_s", "stolen_s", "peak_mib", "load", "code", "field", "measured",
)  # fmt: skip


def report(rows: Mapping[str, Mapping[str, Any]], results: Path) -> None:
    """Write the table, every run, and the figure."""
    results.mkdir(parents=True, exist_ok=True)
    table = [summary(method, list(rows.values())) for method in (*PRESETS, "greedy")]
    table = [row for row in table if row]
    write_csv(results / "lddmm.csv", TITLES, table)
    write_csv(results / "lddmm-runs.csv", RUN_COLUMNS, list(rows.values()))
    lines = ["| " + " | ".join(TITLES.values()) + " |", "|" + "---|" * len(TITLES)]
    lines += ["| " + " | ".join(str(row.get(key, "")) for key in TITLES) + " |" for row in table]
    (results / "lddmm.md").write_text("\n".join(lines) + "\n")
    sweep = [row for row in rows.values() if row["stage"] == "sweep"]
    if sweep:
        draw(sweep, results / "lddmm-sweep.png")


def summary(method: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A method's row; what has not been measured yet stays out."""
    own = [row for row in rows if row["method"] == method]
    stage = {name: [row for row in own if row["stage"] == name] for name in STAGES}
    if not own:
        return {}
    out: dict[str, Any] = {"method": method, "measured": max(row["measured"] for row in own)[:10]}
    if stage["eight"]:
        greedy = {r["pair"]: r for r in rows if r["stage"] == "eight" and r["method"] == "greedy"}
        gains = [row["dice"] - greedy[row["pair"]]["dice"] for row in stage["eight"] if row["pair"] in greedy]
        out["pairs"] = len(stage["eight"])
        out["dice"] = f"{mean(row['dice'] for row in stage['eight']):.4f}"
        out["least_gain"] = f"{min(gains):+.4f}" if gains else ""
        out["hd95"] = f"{mean(row['hd95'] for row in stage['eight']):.3f}"
        out["ndv"] = f"{max(row['ndv'] for row in stage['eight']):.6f}"
        out["folded_percent"] = f"{max(row['folded_percent'] for row in stage['eight']):.6f}"
        out["cpu_s"] = f"{mean(row['cpu_s'] for row in stage['eight']):.1f}"
        out["peak_mib"] = f"{max(row['peak_mib'] for row in stage['eight']):.0f}"
    medians = _medians(stage["two"])
    theirs = _medians([r for r in rows if r["stage"] == "two" and r["method"] == "greedy"])
    if medians:
        out["cpu_median"] = " / ".join(f"{cpu:.1f}" for cpu, _, _ in medians.values())
        shares = [cpu / theirs[pair][0] for pair, (cpu, _, _) in medians.items() if pair in theirs]
        out["share"] = f"{max(shares):.3f}" if shares else ""
        out["wall_share"] = f"{max(wall / cpu for cpu, wall, _ in medians.values()):.2f}"
        unstolen = [own / cpu for cpu, _, own in medians.values() if own is not None]
        out["unstolen_share"] = f"{max(unstolen):.2f}" if unstolen else ""
    first = next(iter(medians.values()), None)
    if stage["single"]:
        alone = stage["single"][-1]["cpu_s"]
        out["single_cpu"] = f"{alone:.1f}"
        out["thread_share"] = f"{first[0] / alone:.2f}" if first else ""
    if stage["cold"]:
        out["cold_cpu"] = f"{stage['cold'][-1]['cpu_s']:.1f}"
    if stage["fine"]:
        out["fine_mib"] = f"{stage['fine'][-1]['peak_mib']:.0f}"
        out["fine_share"] = f"{stage['fine'][-1]['cpu_s'] / first[0]:.2f}" if first else ""
    return out


def _medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float, float | None]]:
    """Pair -> median seconds of its repeats, once it has them all: CPU, wall, and wall without the stolen."""
    found = [row["pair"] for row in rows]
    medians: dict[str, tuple[float, float, float | None]] = {}
    for pair in dict.fromkeys(found):
        own = [row for row in rows if row["pair"] == pair]
        if len(own) < REPEATS:
            continue
        cpu, wall = (median(row[name] for row in own) for name in ("cpu_s", "wall_s"))
        # Rows of older versions do not know.
        known = [row["wall_s"] - row["stolen_s"] / row["threads"] for row in own if "stolen_s" in row]
        medians[pair] = (cpu, wall, median(known) if len(known) == len(own) else None)
    return medians


def write_csv(
    path: Path, columns: Sequence[str] | Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(columns), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Dice against CPU seconds: a curve per method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for method, marker in (("fast", "^"), ("lumir", "o"), ("quality", "s"), ("greedy", "x")):
        points = sorted((row["cpu_s"], row["dice"]) for row in rows if row["method"] == method)
        if points:
            name = method if method == "greedy" else f"iterreg lddmm:{method}"
            style = "k--" if method == "greedy" else "-"
            axes.plot(*zip(*points, strict=True), style, marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("CPU seconds of the whole process (two threads)")
    axes.set_ylabel("mean foreground Dice, OASIS 1000 <- 1001")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


# -- the command ----------------------------------------------------------------------------------------


def main() -> int:
    if sys.argv[1:2] == ["--helper"]:
        help_with(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(os.environ.get("ITERREG_DATA", HERE.parents[1] / "shared" / "data")) / "oasis"
    parser.add_argument("--data", type=Path, default=beside, help="folder of OASIS_dataset.json")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "lddmm", help="run folder")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where tables and figure go")
    parser.add_argument("--only", choices=STAGES, action="append", help="this stage (repeat for several)")
    parser.add_argument(
        "--method", choices=(*PRESETS, "greedy"), action="append", help="this method (repeat for several)"
    )
    parser.add_argument("--pairs", type=int, default=8, help="how many pairs (default 8)")
    parser.add_argument("--keep", action="store_true", help="keep what older code and presets measured")
    parser.add_argument("--report-only", action="store_true", help="tabulate what is there")
    args = parser.parse_args()
    source = args.data / "OASIS_dataset.json"
    if not source.is_file():
        print(f"{source}: there is no such file; benchmarks/README.md says how to obtain it", file=sys.stderr)
        return 1
    methods = args.method or [*PRESETS, "greedy"]
    if "greedy" in methods and not args.report_only and find_spec("picsl_greedy") is None:
        print("greedy is missing: pip install -e '.[benchmark]', or choose with --method", file=sys.stderr)
        return 1
    listed = json.loads(source.read_text())["validation"][: args.pairs]
    pairs = ["_".join(Path(pair[role]).name.split("_")[1] for role in ("fixed", "moving")) for pair in listed]
    bench = Bench(args.data.resolve(), args.out.resolve(), keep=args.keep)
    for stage in () if args.report_only else args.only or STAGES:
        for run in planned(stage, pairs, methods):
            if not bench.is_done(run):
                row = bench.measure(run)
                print(
                    f"{run.key}: Dice {row['dice']:.4f}, NDV {row['ndv']:.6f} %, CPU {row['cpu_s']:.1f} s, "
                    f"wall {row['wall_s']:.1f} s, {row['peak_mib']:.0f} MiB",
                    flush=True,
                )
        report(bench.rows, args.results)
    report(bench.rows, args.results)
    print((args.results / "lddmm.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
