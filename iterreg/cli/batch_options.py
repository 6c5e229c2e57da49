"""Options that plan and run share, and how they become a session."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import path_argument
from iterreg.errors import InputError
from iterreg.words import did_you_mean

if TYPE_CHECKING:
    from iterreg.batch.plan import Settings
    from iterreg.batch.session import Session
    from iterreg.dataset.base import Dataset

__all__ = [
    "DEFAULT_METHOD",
    "add_batch_arguments",
    "methods_of",
    "parse_bytes",
    "parse_seconds",
    "positive",
    "refuse_findings",
    "session_from",
]

DEFAULT_METHOD = "syn"
SAVED = ("warped", "labels", "jacobian", "logjacobian", "inverse", "momentum")
"""What ``--save`` takes."""
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    """Methods, destination, budgets."""
    parser.add_argument(
        "-m", "--method", action="append", metavar="METHOD[:PRESET|:FILE]",
        help=f"repeat for several; default {DEFAULT_METHOD}; `iterreg methods` lists them",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--out", type=path_argument,
        help="run folder, of one data set (default: iterreg-run-NAME, by the data set's name)",
    )  # fmt: skip
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--cores", type=positive, default=0, help="cores to use (default: all this process has)"
    )
    group.add_argument("--threads", type=positive, help="threads per job (default: fills the cores)")
    group.add_argument(
        "--memory", type=parse_bytes, default=0, metavar="SIZE",
        help="memory that all jobs together may take, e.g. 12G (default: 90 %% of what is free)",
    )  # fmt: skip
    group.add_argument(
        "--timeout",
        type=parse_seconds,
        help="wall time per job, e.g. 3600 (seconds), 90m, 2h or 1:00:00 (default: none)",
    )
    group.add_argument(
        "--scratch", type=path_argument, help="where temporary files go (default: the system's)"
    )
    parser.add_argument(
        "--keep-changed", action="store_true",
        help="keep what is done and differs by the software alone that made it (an earlier iterreg, other "
        "versions of libraries); default: do it again",
    )  # fmt: skip
    group = parser.add_argument_group("registration")
    group.add_argument("--seed", type=int, default=1, help="seed of every engine (default 1)")
    group.add_argument(
        "--masks", choices=("none", "fixed", "moving", "both"), default="none",
        help="confine the similarity to the data set's masks (default none)",
    )  # fmt: skip
    group.add_argument(
        "--save", action="append", metavar="KIND[,KIND]",
        help=f"save more of every pair: {', '.join(SAVED)}; asked for later, files are made of the fields "
        "that are there (inverse and momentum: registered again)",
    )  # fmt: skip
    group.add_argument("--inverse", action="store_true", help="the same as --save inverse")
    group.add_argument(
        "--save-momentum", action="store_true",
        help="the same as --save momentum: lddmm's momenta, from which `iterreg lddmm shoot` makes the "
        "fields again",
    )  # fmt: skip
    group.add_argument(
        "--cold", action="store_true",
        help="a fresh interpreter per job, so that its times include the engine's import",
    )  # fmt: skip


def out_of(args: argparse.Namespace, dataset: Dataset) -> Path:
    """The run folder: the one that is named, else one called after the data set."""
    if args.out is not None:
        return Path(args.out)
    safe = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in dataset.name)
    return Path(f"iterreg-run-{safe[:100]}")


def settings_from(args: argparse.Namespace) -> Settings:
    """The batch settings these options ask for."""
    from iterreg.batch.plan import Settings

    saved = _saved(args.save)
    return Settings(
        cores=args.cores,
        memory=args.memory,
        threads=args.threads,
        timeout=args.timeout,
        seed=args.seed,
        masks=args.masks,
        inverse=args.inverse or "inverse" in saved,
        momentum=args.save_momentum or "momentum" in saved,
        extras=tuple(role for role in SAVED if role in saved and role not in ("inverse", "momentum")),
        cold=args.cold,
        scratch=args.scratch,
        keep_changed=args.keep_changed,
    )


def _saved(values: list[str] | None) -> set[str]:
    """The kinds of files that ``--save`` asks for."""
    saved = {name for value in values or [] for name in value.split(",") if name}
    for name in saved - set(SAVED):
        guess = did_you_mean(name, SAVED)
        raise InputError(f"--save {name}: {f'{guess} ' if guess else ''}give some of {', '.join(SAVED)}")
    return saved


def session_from(args: argparse.Namespace, dataset: Dataset) -> Session:
    """The session on the run folder of these options, with their settings."""
    from iterreg.batch.session import Session

    return Session(out_of(args, dataset), settings_from(args))


def methods_of(args: argparse.Namespace) -> list[str]:
    """The methods these options ask for."""
    return args.method or [DEFAULT_METHOD]


def parse_bytes(text: str) -> int:
    """``12G``, ``800M``, ``1.5GiB`` or a number of bytes; less than 1 MiB is no memory anybody means."""
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([kmgt]?)(?:i?b)?\s*", text, re.IGNORECASE | re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 12G")
    power = "kmgt".find(match[2].lower()) + 1 if match[2] else 0
    count = float(match[1]) * 1024**power
    if not count < 2**60:
        raise argparse.ArgumentTypeError(f"{text!r} is more memory than there is; a size is written like 12G")
    if count < 2**20:
        raise argparse.ArgumentTypeError(
            f"{text!r} means {count:.0f} bytes, too little for anything; for {match[1]} GiB write {match[1]}G"
        )
    return int(count)


def parse_seconds(text: str) -> float:
    """``3600``, ``90m``, ``2h``, ``1.5h``, ``2h30m``, ``1:00:00`` (an hour) or ``1-12:00:00`` (36 hours)."""
    text = text.strip()
    if re.fullmatch(r"\d+:\d+", text, re.ASCII):
        first, second = text.split(":")
        raise argparse.ArgumentTypeError(
            f"{text!r} may mean minutes or hours; write {first}m{second}s or {first}h{second}m"
        )
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)", text, re.ASCII):
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    elif re.fullmatch(_NUMBER, text, re.ASCII):
        total = float(text)
    elif re.fullmatch(rf"(?:{_NUMBER}[dhms])+", text, re.ASCII):
        parts = re.findall(rf"({_NUMBER})([dhms])", text, re.ASCII)
        total = sum(float(number) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)
    else:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 3600, 90m, 2h or 1:00:00")
    if not 0 < total < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be above zero and below 30 years")
    return total


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not re.fullmatch(r"\+?\d{1,9}", text.strip(), re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


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

    # What engines refuse the plan has said, arm by arm.
    findings = check(dataset, read_voxels=read_voxels, refused_by_engines="note")
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(
            f"the data set {dataset.name} cannot be used as it is:\n  " + "\n  ".join(errors)
            + "\nNothing was run. Mend these, or choose other pairs with --pairs; "
            "--keep-going runs the pairs that are fine."
        )  # fmt: skip
    return [str(finding) for finding in findings]
