"""Measures how often verdicts are wrong and intervals miss, where the truth is known because it is simulated.

    python benchmarks/verdicts.py

Two methods are compared over registration pairs in the designs of small studies, by the very code of
``iterreg compare``. The difference of a pair is a constant, plus an effect of each of its two subjects, plus
noise, all normal; its variance is 1, so that the constant is d_z. Subjects make none of the variance or
nearly all of it; in a third kind their effects are exponential. Where the constant is 0 any verdict that one
is better is wrong.

The command resumes: a cell stays in ``results/verdicts.csv`` until `iterreg.statistics` changes (``--keep``
takes it as it is). ``results/verdicts.md`` and the table of ``docs/statistics.md`` are rewritten after every
cell. All of it takes some six minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iterreg.statistics.dyads import Dyads
from iterreg.statistics.measures import measure_named
from iterreg.statistics.paired import Pairwise, compare_pair, judged
from iterreg.statistics.scores import ALL_CASES

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "iterreg" / "statistics"
DOCUMENT = HERE.parent / "docs" / "statistics.md"
BEGIN, END = "<!-- made by benchmarks/verdicts.py -->", "<!-- end -->"

DATA_SETS = 2000
"""In a cell without a difference; a quarter of it where the chance of finding one is measured."""

ALPHA = 0.05
SUBJECTS, NOISE, SKEWED = "subjects", "noise", "skewed subjects"
SHARES = {SUBJECTS: 1 / 1.045, NOISE: 0.0, SKEWED: 1 / 1.045}
"""Of the variance that is due to subjects; the first is effects of 1 with noise of 0.3."""

EFFECTS = (0.0, 0.5, 1.0, 2.0)
"""True d_z: without a difference, and how often a small, a clear and a large one is found."""

COLUMNS = (
    "design", "cases", "subjects", "scatter", "d_z", "data_sets", "verdicts", "covered", "covered_dz",
    "width", "code",
)  # fmt: skip

Pairs = list[tuple[int, int]]


def ring(count: int) -> Pairs:
    return [(i, (i + 1) % count) for i in range(count)]


def every_two(count: int) -> Pairs:
    return [(i, j) for i in range(count) for j in range(i)]


def some_of(count: int, cases: int) -> Pairs:
    """So many pairs, drawn once and for all."""
    pairs = every_two(count)
    return [pairs[k] for k in np.random.default_rng(3).choice(len(pairs), cases, replace=False)]


DESIGNS: Mapping[str, Pairs] = {
    "ring of 8 (0 ← 1, 1 ← 2, …)": ring(8),
    "ring of 12": ring(12),
    "every two of 6": every_two(6),
    "every two of 10": every_two(10),
    "14 random pairs of 9": some_of(10, 14),
    "6 pairs of 12, none shared": [(2 * i, 2 * i + 1) for i in range(6)],
}
"""What small studies compare over."""


@dataclass(frozen=True)
class Cell:
    """One design with one kind of scatter and one true difference."""

    design: str
    scatter: str
    effect: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.design, self.scatter, f"{self.effect:g}"


def differences(pairs: Pairs, scatter: str, data_sets: int, seed: int) -> NDArray[np.float64]:
    """(data sets, pairs) of mean 0 and variance 1."""
    generator = np.random.default_rng(seed)
    fixed, moving = np.array(pairs).T
    share = SHARES[scatter]
    shape = data_sets, 1 + max(fixed.max(), moving.max())
    effects = generator.exponential(1, shape) - 1 if scatter == SKEWED else generator.standard_normal(shape)
    noise = generator.standard_normal((data_sets, len(pairs)))
    return np.asarray(
        math.sqrt(share / 2) * (effects[:, fixed] + effects[:, moving]) + math.sqrt(1 - share) * noise
    )


def verdict(values: NDArray[np.float64], index: pd.MultiIndex, dyads: Dyads) -> Pairwise:
    """What `iterreg compare` says of two runs that differ by these values."""
    table = pd.DataFrame({"a": values, "b": 0.0}, index=index)
    dice = measure_named("DSC")
    found = compare_pair(table, ALL_CASES, dice, "a", "b", designs=lambda _: dyads, all_intervals=False)
    return judged([found], alpha=ALPHA)[0]


def measured(cell: Cell, data_sets: int) -> dict[str, str]:
    """A row of the csv; equal calls give equal rows."""
    pairs = DESIGNS[cell.design]
    fixed, moving = ([str(pair[side]) for pair in pairs] for side in (0, 1))
    cases = [f"{one}<--{other}" for one, other in zip(fixed, moving, strict=True)]
    index = pd.MultiIndex.from_arrays([cases, fixed, moving], names=["case", "fixed", "moving"])
    dyads = Dyads(fixed, moving)
    seed = list(DESIGNS).index(cell.design) * len(SHARES) + list(SHARES).index(cell.scatter)
    drawn = differences(pairs, cell.scatter, data_sets, seed) + cell.effect
    found = [verdict(values, index, dyads) for values in drawn]

    def share(hits: Sequence[bool]) -> str:
        return f"{np.mean(hits):.3f}"

    return {
        "design": cell.design,
        "cases": str(len(pairs)),
        "subjects": str(len(set(fixed) | set(moving))),
        "scatter": cell.scatter,
        "d_z": f"{cell.effect:g}",
        "data_sets": str(data_sets),
        "verdicts": share([bool(one.better) for one in found]),
        "covered": share([one.difference.low <= cell.effect <= one.difference.high for one in found]),
        "covered_dz": share(
            [one.effects.cohens_dz.low <= cell.effect <= one.effects.cohens_dz.high for one in found]
        ),
        "width": f"{np.mean([one.difference.high - one.difference.low for one in found]):.2f}",
        "code": code(),
    }


@cache
def code() -> str:
    """A digest of the modules that verdicts come from."""
    names = ("dyads", "intervals", "paired", "effect_sizes", "tests")
    return hashlib.sha256(b"".join((PACKAGE / f"{name}.py").read_bytes() for name in names)).hexdigest()[:12]


# -- what is kept and shown -----------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Two lines per design: wrong verdicts, coverage and power, by subjects and with noise alone."""
    by_key = {(row["design"], row["scatter"], row["d_z"]): row for row in rows}
    powers = " / ".join(f"{effect:g}" for effect in EFFECTS[1:])
    lines = [
        "| design | pairs | scatter | wrong verdicts | covered | covered, d_z of 1 | "
        f"found, d_z of {powers} | wrong, skewed |",
        "|---|---:|---|---:|---:|---:|---|---:|",
    ]
    for design in DESIGNS:
        skewed = by_key.get((design, SKEWED, "0"))
        for scatter in (SUBJECTS, NOISE):
            found = [by_key.get((design, scatter, f"{effect:g}")) for effect in EFFECTS]
            if skewed is None or any(row is None for row in found):
                continue
            null, *others = (row for row in found if row is not None)
            clear = others[EFFECTS.index(1.0) - 1]
            power = " / ".join(f"{float(row['verdicts']):.2f}" for row in others)
            wrong = f"{100 * float(skewed['verdicts']):.1f} %" if scatter == SUBJECTS else ""
            lines.append(
                f"| {design} | {null['cases']} | {scatter} | {100 * float(null['verdicts']):.1f} % | "
                f"{float(null['covered']):.3f} | {float(clear['covered_dz']):.3f} | {power} | {wrong} |"
            )
    return "\n".join(lines)


def report(rows: Sequence[Mapping[str, str]], results: Path, document: Path) -> None:
    """Write the csv, the table, and the table's place in the document."""
    write(results / "verdicts.csv", rows)
    text = table(rows)
    (results / "verdicts.md").write_text(f"# Verdicts and intervals, simulated\n\n{text}\n", encoding="utf-8")
    old = document.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{document}: has no place for the table; write {BEGIN} and {END} where it stands")
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-sets", type=int, default=DATA_SETS,
        help="in each cell without a difference, a quarter in the others (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="take cells as they are, whatever code made them")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    cells = {
        cell: options.data_sets // (4 if cell.effect else 1)
        for cell in (Cell(d, s, e) for d in DESIGNS for s in SHARES for e in EFFECTS)
        if cell.scatter != SKEWED or not cell.effect
    }
    sizes = {cell.key: str(data_sets) for cell, data_sets in cells.items()}
    kept = {
        key: row
        for row in read(options.results / "verdicts.csv")
        for key in [(row["design"], row["scatter"], row["d_z"])]
        if options.keep or (row["code"], row["data_sets"]) == (code(), sizes.get(key))
    }
    for cell, data_sets in cells.items():
        if cell.key not in kept:
            kept[cell.key] = measured(cell, data_sets)
            print(", ".join(f"{name} {text}" for name, text in kept[cell.key].items()), flush=True)
            report([kept[one.key] for one in cells if one.key in kept], options.results, options.document)
    report([kept[one.key] for one in cells], options.results, options.document)


if __name__ == "__main__":
    main()
