"""Runs a challenge's own evaluation code, as its authors wrote it, under today's numpy.

    python benchmarks/official_evaluator.py EVALUATOR FIELDS DATA CONFIG OUT

EVALUATOR is the folder of your own checkout that holds the evaluator's ``evaluation.py`` and ``utils.py``:
``LUMIR_L2R/L2R_LUMIR_Eval``, ``LUMIR25_L2R25/LUMIR25_Evalution_GC`` or ``L2R/evaluation``. DATA holds
``imagesVal`` and its companions, CONFIG is an evaluation config. OUT gets its cases and aggregates as json.

Nothing of the evaluator is changed. It was written for numpy 1 and needs the package evalutils, of which it
uses one exception: the names that numpy 2 dropped, and that exception, are supplied here.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("evaluator", "fields", "data", "config", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    evaluation = load_evaluator(args.evaluator)
    returned = evaluation.evaluate_L2R(str(args.fields), str(args.data), str(args.out), str(args.config))
    if returned is not None:  # LUMIR's evaluators return the cases and write several configs' at once
        args.out.write_text(json.dumps({"cases": returned[0], "name": returned[1]}, indent=1) + "\n")
    return 0


def load_evaluator(folder: Path) -> Any:
    """The evaluator's module ``evaluation``."""
    warnings.filterwarnings("ignore")
    for old, value in (("NAN", np.nan), ("Inf", np.inf)):
        if not hasattr(np, old):
            setattr(np, old, value)
    if "evalutils" not in sys.modules and importlib.util.find_spec("evalutils") is None:
        package, module = types.ModuleType("evalutils"), types.ModuleType("evalutils.exceptions")
        module.ValidationError = type("ValidationError", (ValueError,), {})
        sys.modules |= {"evalutils": package, "evalutils.exceptions": module}
    sys.path.insert(0, str(folder))
    if (folder / "surface-distance").is_dir():  # Learn2Reg's copy is a package one folder below
        sys.path.insert(0, str(folder / "surface-distance"))
    return importlib.import_module("evaluation")


if __name__ == "__main__":
    sys.exit(main())
