"""What the commands share: every module has ``add_parser(subparsers)`` and ``run(args)``, its exit code."""

from __future__ import annotations

import argparse
from typing import TypeAlias

__all__ = ["Subparsers"]

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command's ``add_parser`` adds its own parser to."""
