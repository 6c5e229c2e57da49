"""Makes the golden numbers with the challenges' own evaluators.

    python tests/evaluation/golden/make.py --checkouts FOLDER --data ITERREG_DATA [--only NAME]

FOLDER holds your checkouts ``LUMIR_L2R`` (made with commit 9b88e63), ``LUMIR25_L2R25`` (62d3ae4) and ``L2R``
(8847509); none of their code is part of this project. Takes about a quarter of an hour of CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))
import cases  # noqa: E402

EVALUATORS = {
    "lumir24": "LUMIR_L2R/L2R_LUMIR_Eval",
    "lumir25": "LUMIR25_L2R25/LUMIR25_Evalution_GC",
    "learn2reg": "L2R/evaluation",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkouts", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", help="make only the files whose names hold this")
    args = parser.parse_args()

    def run(protocol: str, fields: Path, data: Path, config: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "metrics.json"
            command = [sys.executable, ROOT / "benchmarks" / "official_evaluator.py"]
            command += [args.checkouts / EVALUATORS[protocol], fields, data, config, out]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            found: dict[str, Any] = json.loads(out.read_text())
        return {key: found[key] for key in ("cases", "aggregates") if key in found}

    def make(name: str, build: Callable[[], dict[str, Any]]) -> None:
        if args.only is None or args.only in name:
            (HERE / f"{name}.json").write_text(json.dumps(build(), indent=None) + "\n")
            print(name, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        brains = cases.make_brains(folder / "brains")
        for protocol in ("lumir24", "lumir25"):
            make(
                f"brains_{protocol}",
                lambda p=protocol: run(p, folder / "brains" / "fields", folder / "brains", brains),
            )
        lungs = cases.make_lungs(folder / "lungs")
        make("lungs", lambda: run("learn2reg", folder / "lungs" / "fields", folder / "lungs", lungs))

        def real_lungs() -> dict[str, Any]:
            config = cases.make_real_lungs(folder / "real_lungs", args.checkouts / "L2R")
            return run("learn2reg", folder / "real_lungs" / "fields", folder / "real_lungs", config)

        make("real_lungs", real_lungs)
        for field, labels, protocol in cases.REAL:

            def real(field: str = field, labels: str = labels, protocol: str = protocol) -> dict[str, Any]:
                cases.make_real_field(folder / field, field)
                config = cases.real_config(folder / "config.json", args.data, labels)
                return run(protocol, folder / field, args.data / "oasis", config)

            make(cases.real_name(field, labels, protocol), real)


if __name__ == "__main__":
    main()
