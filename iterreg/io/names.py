"""The formats' names alone, so that the command line can list them without loading anything."""

from __future__ import annotations

__all__ = ["FORMAT_NAMES"]

FORMAT_NAMES = (
    "challenge",
    "itk",
    "ants",
    "elastix",
    "npz",
    "ras",
    "spm",
    "niftyreg",
    "fsl",
    "fsl-absolute",
    "torch",
    "torch-unaligned",
    "icon",
)
"""Keys of `iterreg.io.formats.FORMATS`, and ``ants``, which is another name of ``itk``."""
