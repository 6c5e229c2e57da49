"""Options that plan and run share, and how they become a plan."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import path_argument
from iterreg.errors import InputError

if TYPE_CHECKING:
    from iterreg.batch.plan import Plan, Settings
    from iterreg.batch.runfolder import RunFolder
    from iterreg.dataset.base import Dataset
    from iterreg.jobs.hashing import FileDigests

__all__ = ["add_batch_arguments", "parse_bytes", "plan_from"]

DEFAULT_METHOD = "syn"
DEFAULT_OUT = Path("iterreg-run")


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    """Methods, destination, budgets."""
    parser.add_argument(
        "-m", "--method", action="append", metavar="METHOD[:PRESET|:FILE]",
        help=f"repeat for several; default {DEFAULT_METHOD}; `iterreg methods` lists them",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--out", type=path_argument, default=DEFAULT_OUT, help=f"run folder (default {DEFAULT_OUT})"
    )
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--cores", type=_positive, default=0, help="cores to use (default: all this process has)"
    )
    group.add_argument("--threads", type=_positive, help="threads per job (default: fills the cores)")
    group.add_argument(
        "--memory", type=parse_bytes, default=0, metavar="SIZE",
        help="memory for all jobs together, e.g. 12G (default: 90 %% of what is free)",
    )  # fmt: skip
    group.add_argument(
        "--timeout", type=_seconds, help="wall time per job, e.g. 3600, 90m or 2h (default: none)"
    )
    group.add_argument(
        "--scratch", type=path_argument, help="where temporary files go (default: the system's)"
    )
    group = parser.add_argument_group("registration")
    group.add_argument("--seed", type=int, default=1, help="seed of every engine (default 1)")
    group.add_argument(
        "--masks", choices=("none", "fixed", "moving", "both"), default="none",
        help="confine the similarity to the data set's masks (default none)",
    )  # fmt: skip
    group.add_argument("--inverse", action="store_true", help="write the inverse fields too")
    group.add_argument(
        "--save-momentum", action="store_true",
        help="lddmm: save the momenta too, from which `iterreg lddmm shoot` makes the fields again",
    )  # fmt: skip
    group.add_argument(
        "--cold", action="store_true",
        help="a fresh interpreter per job, so that its times include the engine's import",
    )  # fmt: skip


def settings_from(args: argparse.Namespace) -> Settings:
    """The batch settings these options ask for."""
    from iterreg.batch.plan import Settings

    return Settings(
        cores=args.cores,
        memory=args.memory,
        threads=args.threads,
        timeout=args.timeout,
        seed=args.seed,
        masks=args.masks,
        inverse=args.inverse,
        momentum=args.save_momentum,
        cold=args.cold,
        scratch=args.scratch,
    )


def plan_from(args: argparse.Namespace, dataset: Dataset, folder: RunFolder, digests: FileDigests) -> Plan:
    """Plan the data set with the methods and settings of these options."""
    from iterreg.batch.arms import parse_arm
    from iterreg.batch.plan import make_plan

    arms = [parse_arm(text) for text in args.method or [DEFAULT_METHOD]]
    return make_plan(dataset, arms, folder, settings_from(args), digests=digests)


def parse_bytes(text: str) -> int:
    """``12G``, ``800M``, ``1.5GiB`` or a number of bytes."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([kKmMgGtT]?)(i?[bB])?\s*", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 12G")
    power = "KMGT".find(match[2].upper()) + 1 if match[2] else 0
    count = int(float(match[1]) * 1024**power)
    if count < 1:
        raise argparse.ArgumentTypeError("must be above zero")
    return count


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 3600, 90m or 2h")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be above zero")
    return seconds


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def refuse_findings(dataset: Dataset, *, read_voxels: bool) -> list[str]:
    """Check a data set before any work.

    Returns
    -------
    The notes worth printing.

    Raises
    ------
    InputError
        With one sentence per error found.
    """
    from iterreg.dataset.check import check

    findings = check(dataset, read_voxels=read_voxels)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(
            f"the data set {dataset.name} cannot be used as it is:\n  " + "\n  ".join(errors)
            + "\nNothing was run. Mend these, or choose other pairs with --pairs; "
            "--keep-going runs the pairs that are fine."
        )  # fmt: skip
    return [str(finding) for finding in findings]
