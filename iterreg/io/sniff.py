"""What a field file seems to be: its format, layout and units, with the evidence for it.

With the pair's two images at hand, `iterreg.io.readings` can say more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from iterreg.errors import InputError
from iterreg.io import elastix, fsl, itk, niftyreg, spm
from iterreg.io.coordinates import System, fit_lines
from iterreg.io.nifti import DISPLACEMENT_INTENT, VECTOR_INTENT, StoredVectors
from iterreg.io.unknown import FIELD_SUFFIXES, ITK_IMAGES, Unknown, as_vectors, load_unknown, voxels
from iterreg.volume import Grid

__all__ = ["Belief", "describe"]

Units = Literal["voxels", "millimetres", "normalised", "absolute voxels", "absolute millimetres", "unknown"]


@dataclass(frozen=True)
class Belief:
    """What a file is believed to be.

    Attributes
    ----------
    path
        The file.
    format
        The name for ``--from`` (a key of `iterreg.io.formats.FORMATS`), or ``""`` when none fits.
    certain
        Whether nothing speaks against it, so that it need not be named.
    layout
        How the array is laid out, in words.
    shape, dtype
        Of the stored array; empty for transform files.
    units
        Of the stored numbers.
    grid
        The header's grid, where there is a header.
    statistics
        Measures of the numbers: mean and largest length, and each component's range.
    evidence, warnings
        Sentences.
    """

    path: Path
    format: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    units: Units
    grid: Grid | None
    statistics: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    certain: bool = False

    @property
    def reason(self) -> str:
        """The sentence that most explains a doubt, ``""`` where there is none."""
        return next(iter((*self.warnings, *self.evidence)), "").rstrip(".")


def describe(path: str | Path) -> Belief:
    """Say what a file seems to be.

    Raises
    ------
    InputError
        If it cannot be read or its kind is not known.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".txt") and elastix.is_parameter_file(path):
        return _describe_elastix(path)
    if name.endswith((".mat", ".txt", ".tfm", ".h5", ".hdf5", ".xfm")):
        itk.read_transforms([path], Grid((2, 2, 2)), Grid((2, 2, 2)))
        return Belief(
            path,
            "itk",
            "transform file of ITK or ANTs",
            (),
            "",
            "millimetres",
            None,
            evidence=("ITK reads it as a transform between points in LPS millimetres.",),
        )
    if not name.endswith(FIELD_SUFFIXES):
        raise InputError(
            f"{path}: its name ends in none of the known ways: "
            f"{', '.join(FIELD_SUFFIXES)}, .mat, .txt, .tfm, .h5"
        )
    return _Sniffer(load_unknown(path)).belief()


def _describe_elastix(path: Path) -> Belief:
    parameters = elastix.read_parameter_file(path)
    kind = parameters["Transform"][0]
    initial = parameters.get("InitialTransformParameterFileName", ("NoInitialTransform",))[0]
    evidence = [f'It has an entry (Transform "{kind}"), as elastix\'s transform parameter files do.']
    if initial not in ("NoInitialTransform", ""):
        evidence.append(f"It starts from {initial}, which is read along with it.")
    return Belief(
        path, "elastix", f"elastix transform, {kind}", (), "", "millimetres", None, evidence=tuple(evidence)
    )


class _Sniffer:
    """Collects evidence about one dense field."""

    def __init__(self, unknown: Unknown) -> None:
        self.path, self.array, self.grid = unknown.path, unknown.array, unknown.grid
        self.stored, self.intent = unknown.stored, unknown.intent
        self.whole, self.layout = as_vectors(unknown.array, unknown.path)
        self.shape = self.whole.shape[:3]
        step = max(1, int(np.ceil((self.whole[..., 0].size / 100_000) ** (1 / 3))))
        chosen = (slice(None, None, step),) * 3
        self.sample = self.whole[chosen].reshape(-1, 3).astype(np.float64)
        self.index = voxels(self.shape, step)
        self.lines = fit_lines(self.whole, self.grid)
        self.evidence: list[str] = []
        self.warnings: list[str] = []
        self.certain = False

    def belief(self) -> Belief:
        broken = int(np.count_nonzero(~np.isfinite(self.whole).all(axis=-1)))
        if broken:
            self.warnings.append(
                f"{broken} voxels hold NaN or infinite values: every evaluator rejects them."
            )
            good = np.isfinite(self.sample).all(axis=-1)
            self.sample, self.index = self.sample[good], self.index[good]
        file_format, units = self._decide() if len(self.sample) else ("", "unknown")
        self._warn_about(units)
        return Belief(
            self.path,
            file_format,
            self.layout,
            self.array.shape,
            str(self.array.dtype),
            units,
            self.grid,
            self._statistics(),
            tuple(self.evidence),
            tuple(self.warnings),
            self.certain and file_format != "",
        )

    def _decide(self) -> tuple[str, Units]:
        if self.stored is not None and self.stored.intent_name == niftyreg.INTENT_NAME:
            return self._niftyreg(self.stored)
        if self.stored is not None and self.intent in fsl.COEFFICIENTS:
            self._says_why_not(fsl.refuse_coefficients, self.stored)
            return "", "unknown"
        if self.lines.system is not None:
            return self._places(self.lines.system)
        if self.layout == "X x Y x Z x 1 x 3":
            return self._five_dimensions()
        if self.intent == fsl.FIELD_INTENT:
            self.evidence.append(
                "The NIfTI intent is 2006, an FNIRT displacement field: millimetres of FSL, relative as no "
                "component runs along an axis."
            )
            self.certain = True
            return "fsl", "millimetres"
        if self.path.suffix in (".npz", ".npy"):
            return self._numpy()
        self._suspect_normalised()
        return self._four_dimensions()

    def _niftyreg(self, stored: StoredVectors) -> tuple[str, Units]:
        number = stored.parameter
        if number not in (niftyreg.DEFORMATION, niftyreg.DISPLACEMENT):
            self._says_why_not(niftyreg.refuse_other_kinds, stored)
            return "", "unknown"
        self.evidence.append(
            f"The intent is called {niftyreg.INTENT_NAME} and its parameter is {number:g}: a "
            f"{niftyreg.KINDS[int(number)]} of NiftyReg, RAS+ millimetres."
        )
        places = self.lines.system is not None and self.lines.system.format == "spm"
        self.certain = places == (number == niftyreg.DEFORMATION)
        if not self.certain:
            self.warnings.append(
                f"The numbers look like {'places' if places else 'displacements'}, against what the header "
                "says."
            )
        return "niftyreg", "absolute millimetres" if number == niftyreg.DEFORMATION else "millimetres"

    def _says_why_not(self, refuse: Callable[[StoredVectors], None], stored: StoredVectors) -> None:
        try:
            refuse(stored)
        except InputError as error:
            said = str(error).removeprefix(f"{self.path}: ")
            self.warnings.append(f"{said[0].upper()}{said[1:]}.")

    def _five_dimensions(self) -> tuple[str, Units]:
        if self.path.name.lower().endswith(ITK_IMAGES):
            self.evidence.append("An image of vectors that only ITK's tools write: LPS millimetres.")
            self.certain = True
            return "itk", "millimetres"
        name = self.stored.intent_name if self.stored is not None else ""
        flat = self.grid is not None and self.lines.like_displacements(self.grid)
        if self.intent == DISPLACEMENT_INTENT:
            self.evidence.append(
                "The NIfTI intent is 1006 (displacement vector): RAS+ millimetres, which ITK turns to LPS "
                "when it reads them."
            )
            self.certain = flat
        else:
            self.evidence.append(
                "Five dimensions X x Y x Z x 1 x 3 are ITK's and ANTs' form: LPS millimetres."
            )
            if self.intent == VECTOR_INTENT and name in ("", "vector"):
                self.evidence.append("The NIfTI intent is 1007 (vector), as ITK writes it.")
                self.certain = flat
            elif self.intent == VECTOR_INTENT:
                self.warnings.append(
                    f"The NIfTI intent is called {name!r}, which ITK does not write: these may be other "
                    "millimetres."
                )
            else:
                self.warnings.append(
                    f"The NIfTI intent is {self.intent}, not 1007: ITK would read five dimensions, and "
                    "other tools write RAS+ millimetres so."
                )
        if not flat:
            self.warnings.append(
                "The numbers grow along the axes too much for displacements, and unlike any system of "
                "coordinates."
            )
        self.warnings.append(
            "The challenge's evaluator rejects five dimensions: `iterreg convert --from itk --to challenge`."
        )
        return "itk", "millimetres"

    def _numpy(self) -> tuple[str, Units]:
        if self.path.suffix == ".npz":
            self.evidence.append(
                "A float16 .npz is Learn2Reg's half-resolution form: voxels of the full grid."
                if self.array.dtype == np.float16
                else "A .npz is what Learn2Reg's evaluator takes: voxels."
            )
            self.certain = True
            return "npz", "voxels"
        self._suspect_normalised()
        if self.path.name.startswith("disp_"):
            self.evidence.append("The name disp_* is the challenge's: voxels.")
            self.certain = True
            return "npz", "voxels"
        self.evidence.append(
            "A plain array has no header; displacements in voxels are the commonest content, which --from "
            "npz reads."
        )
        return "npz", "unknown"

    def _suspect_normalised(self) -> None:
        if 0 < float(np.abs(self.sample).max()) <= 1.1:
            self.warnings.append(
                "No component exceeds 1.1: these may be normalised displacements (of a network before "
                "scaling by half the image size) instead of voxels."
            )

    def _four_dimensions(self) -> tuple[str, Units]:
        if self.intent == VECTOR_INTENT:
            self.evidence.append(
                "Four dimensions with the intent 1007 (vector): displacements in RAS+ millimetres are usual."
            )
            return "ras", "millimetres"
        if self.path.name.startswith("disp_"):
            self.evidence.append(
                "The name disp_*.nii.gz and four dimensions are the challenge's form: voxels."
            )
            self.certain = True
        else:
            self.evidence.append("Four dimensions and no vector intent are the challenge's form: voxels.")
        if self.grid is not None and np.array_equal(self.grid.affine, np.eye(4)):
            self.evidence.append(
                "The header's affine is the identity, as the challenge's baselines write it."
            )
        return "challenge", "voxels"

    def _places(self, system: System) -> tuple[str, Units]:
        """Numbers that run along the axes like coordinates are never displacements."""
        self.evidence.append(
            f"The components run along the axes as coordinates do, in {system.name}: these are places, not "
            "displacements."
        )
        if system.name == "voxels" and self.layout == "X x Y x Z x 1 x 3" and self.intent == VECTOR_INTENT:
            self.evidence.append(
                "With an identity affine voxels are millimetres, and SPM writes five dimensions."
            )
            self.certain = True
            return "spm", "absolute millimetres"
        numpy = self.path.suffix in (".npz", ".npy")
        components_last = self.array.shape[-1] == 3
        if system.range is not None:
            if system.format.startswith("torch"):
                self.evidence.append(
                    f"The span fits align_corners={system.format == 'torch'} better; only the code that "
                    "made it is certain."
                )
            readable = numpy and (components_last or system.format == "icon")
            if system.format == "" and system.range == (-1, 1):
                self.warnings.append(
                    "grid_sample wants the last array axis first: this grid has another order of components."
                )
            self.certain = system.format == "icon"
            units: Units = "normalised"
        else:
            readable = not numpy and components_last
            name = self.stored.intent_name if self.stored is not None else ""
            five = self.layout == "X x Y x Z x 1 x 3"
            self.certain = (
                five and self.intent == VECTOR_INTENT and name in ("", spm.INTENT_NAME)
                if system.format == "spm"
                else self.intent == fsl.FIELD_INTENT
            )
            units = "absolute voxels" if "voxels" in system.name else "absolute millimetres"
        if readable and system.format:
            return system.format, units
        if not self.warnings:
            self.warnings.append(
                "No format is like that: these are absolute coordinates, subtract each voxel's own first."
            )
        return "", units

    def _warn_about(self, units: Units) -> None:
        if not len(self.sample):
            return
        if not np.any(self.sample):
            self.warnings.append("Every displacement is zero.")
            return
        spacing = None if self.grid is None else np.array(self.grid.spacing)
        lengths = np.linalg.norm(self.sample, axis=-1)
        if units == "voxels" and spacing is not None and np.abs(spacing - 1).max() > 0.01:
            text = " x ".join(f"{s:.3g}" for s in spacing)
            self.warnings.append(
                f"The header has voxels of {text} mm, but the challenge's baselines write an identity "
                "header: the values may be millimetres. Give both images to find out."
            )
        if units == "voxels" and self.array.dtype.kind == "f" and float(lengths.max()) > max(self.shape):
            self.warnings.append(
                f"The longest displacement ({lengths.max():.1f}) exceeds the grid's longest side."
            )
        outside = self.index + self.sample
        gone = ((outside < -0.5) | (outside > np.array(self.shape) - 0.5)).any(axis=-1).mean()
        if units == "voxels" and gone > 0.3:
            self.warnings.append(
                f"Read as voxels, {gone:.0%} of the displacements point out of the grid: other units or "
                "another moving grid are likely."
            )

    def _statistics(self) -> dict[str, float]:
        if not len(self.sample):
            return {}
        lengths = np.linalg.norm(self.sample, axis=-1)
        out = {"mean length": float(lengths.mean()), "largest length": float(lengths.max())}
        for c in range(3):
            out[f"component {c} lowest"] = float(self.sample[:, c].min())
            out[f"component {c} highest"] = float(self.sample[:, c].max())
        return out
