"""Makes ``learn2reg.json`` with Learn2Reg's own ranking code.

    python tests/statistics/golden/make.py --checkout L2R

L2R is your checkout of MDL-UzL/L2R (made with commit 8847509); none of its code is part of this project.
The scores are random but fixed: six methods with ties between them, (case, label) cells of Dice and HD95,
cases of SDlogJ. As its notebooks do, lower-is-better measures go in negated, the losses go negated into the
rank scores, and the measures' scores are multiplied and rooted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
METHODS = 6
SHAPES = {"dice": (8, 5), "hd95": (8, 5), "sdlogj": (12,)}


def scores() -> dict[str, np.ndarray]:
    """(methods, cells) of every measure; methods 2 and 3 are equal, and the last two hardly differ."""
    generator = np.random.default_rng(8847509)
    levels = {
        "dice": [0.60, 0.70, 0.74, 0.74, 0.80, 0.805],
        "hd95": [4.0, 3.4, 3.1, 3.1, 2.6, 2.7],
        "sdlogj": [0.05, 0.11, 0.08, 0.08, 0.12, 0.09],
    }
    spreads = {"dice": 0.06, "hd95": 0.5, "sdlogj": 0.012}
    found = {}
    for name, shape in SHAPES.items():
        cells = int(np.prod(shape))
        values = np.array(levels[name])[:, None] + spreads[name] * generator.standard_normal((METHODS, cells))
        values[3] = values[2]
        found[name] = values.round(3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, required=True)
    path = parser.parse_args().checkout / "ranking" / "ranking_utils.py"
    spec = importlib.util.spec_from_file_location("ranking_utils", path)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    values = scores()
    ranked = {}
    for name, table in values.items():
        losses = theirs.scores_better(table if name == "dice" else -table, METHODS)
        ranked[name] = theirs.rankscore_avgtie(-losses.astype("int64"))
    total = np.power(np.prod(list(ranked.values()), axis=0), 1 / len(ranked))
    content = {
        "values": {name: table.tolist() for name, table in values.items()},
        "rank_scores": {name: found.tolist() for name, found in ranked.items()},
        "total": total.tolist(),
    }
    (HERE / "learn2reg.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
