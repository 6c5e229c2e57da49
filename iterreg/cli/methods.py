"""``iterreg methods``: the installed methods and their presets."""

from __future__ import annotations

import argparse

from iterreg.cli.commands import Subparsers
from iterreg.errors import InputError

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "methods",
        help="list methods and presets, or print a preset",
        description="Lists the installed methods and their presets; `iterreg methods syn:cheap` prints one, "
        "to be saved, changed and used as --method syn:FILE.",
    )
    parser.add_argument("which", nargs="?", metavar="METHOD:PRESET")


def run(args: argparse.Namespace) -> int:
    from iterreg.methods import presets
    from iterreg.methods.registry import available, load

    if args.which:
        method, _, preset = args.which.partition(":")
        for path in load(method).parameters(preset or None).files:
            print(path.read_text(), end="")
        return 0
    for name in available():
        try:
            default = load(name).parameters(None).preset
        except InputError as error:  # one broken package does not hide the others
            print(f"{name}  {error}")
            continue
        print(name)
        for preset in presets.names(name):
            mark = " (default)" if preset == default else ""
            print(f"  {name}:{preset}{mark}  {presets.summary(name, preset)}")
    return 0
