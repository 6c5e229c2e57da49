"""The names of the field formats, and how each is read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import challenge, elastix, itk, npz, torch_grid, world
from iterreg.io.nifti import stored_shape
from iterreg.volume import Grid

__all__ = ["FORMATS", "Format", "guess_input", "guess_output", "named", "read"]

Files = Sequence[str | Path]


@dataclass(frozen=True)
class Format:
    """One way to store a field.

    Attributes
    ----------
    name
        As in ``--from`` and ``--to``.
    description
        One line for the help.
    reader
        ``(files, fixed, moving) -> DisplacementField``.
    writer
        ``(path, field)``.
    chains
        Whether several files make one transform.
    """

    name: str
    description: str
    reader: Callable[[Files, Grid, Grid], DisplacementField]
    writer: Callable[[str | Path, DisplacementField], None]
    chains: bool = False


def _one(
    reader: Callable[[str | Path, Grid, Grid], DisplacementField],
) -> Callable[[Files, Grid, Grid], DisplacementField]:
    return lambda files, fixed, moving: reader(files[0], fixed, moving)


def _read_elastix(path: str | Path, fixed: Grid, moving: Grid) -> DisplacementField:
    if Path(path).suffix == ".txt":
        return elastix.read_transform(path, fixed, moving)
    return elastix.read_deformation_field(path, fixed, moving)


def _write_elastix(path: str | Path, field: DisplacementField) -> None:
    if Path(path).suffix == ".txt":
        elastix.write_transform(path, field)
        return
    elastix.write_deformation_field(path, field)


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format(
            "challenge",
            "(X, Y, Z, 3) voxel displacements, .nii.gz (Learn2Reg, LUMIR; iterreg's own convention)",
            _one(challenge.read_field),
            challenge.write_field,
        ),
        Format(
            "itk",
            "ITK and ANTs: 5-D warp in LPS mm, .mat, .txt, .h5, or a list of them as for antsApplyTransforms",
            itk.read_transforms,
            itk.write_warp,
            chains=True,
        ),
        Format(
            "elastix",
            "TransformParameters.*.txt with its initial transforms, or transformix's deformation field",
            _one(_read_elastix),
            _write_elastix,
        ),
        Format(
            "npz",
            "Learn2Reg's half-resolution float16 .npz (full-size arrays are read too)",
            _one(npz.read),
            npz.write,
        ),
        Format("ras", "(X, Y, Z, 3) displacements in RAS+ mm, .nii.gz", _one(world.read), world.write),
        Format(
            "torch",
            "grid_sample grid, align_corners=True, .npy",
            _one(partial(torch_grid.read, align_corners=True)),
            partial(torch_grid.write, align_corners=True),
        ),
        Format(
            "torch-unaligned",
            "grid_sample grid, align_corners=False, .npy",
            _one(partial(torch_grid.read, align_corners=False)),
            partial(torch_grid.write, align_corners=False),
        ),
    )
}
"""Every format by its name."""


def named(name: str) -> Format:
    """The format called `name` (``ants`` is another name of ``itk``).

    Raises
    ------
    InputError
        If there is none.
    """
    found = FORMATS.get("itk" if name == "ants" else name)
    if found is None:
        raise InputError(f"there is no field format {name!r}; known are {', '.join(FORMATS)}")
    return found


def read(files: Files, fixed: Grid, moving: Grid, *, name: str | None = None) -> DisplacementField:
    """Read a field in the format `name`, or in the one its file's name and header make certain.

    Raises
    ------
    InputError
        If the format is not certain, takes one file and got several, or the reader refuses the file.
    """
    chosen = named(name) if name else guess_input(files)
    if len(files) != 1 and not chosen.chains:
        raise InputError(
            f"the format {chosen.name} takes one file, got {len(files)}; lists are of format itk"
        )
    return chosen.reader(files, fixed, moving)


def guess_input(files: Files) -> Format:
    """The format of existing files, where name and header leave no doubt.

    Raises
    ------
    InputError
        If they do.
    """
    if len(files) > 1:
        return FORMATS["itk"]
    path = Path(files[0])
    name = path.name.lower()
    if str(files[0]).startswith("[") or name.endswith((".mat", ".tfm", ".h5", ".hdf5", ".xfm")):
        return FORMATS["itk"]
    if name.endswith(".txt"):
        return FORMATS["elastix" if elastix.is_parameter_file(path) else "itk"]
    if name.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        return FORMATS["itk"]
    if name.endswith(".npz"):
        return FORMATS["npz"]
    if name.endswith((".nii", ".nii.gz")):
        shape = stored_shape(path)
        if len(shape) == 5 and shape[3:] == (1, 3):
            return FORMATS["itk"]
        if len(shape) == 4 and name.startswith("disp_"):
            return FORMATS["challenge"]
    raise InputError(
        f"{path}: its name and header do not make its format certain; look at it with `iterreg inspect` and "
        f"name the format: {', '.join(FORMATS)}"
    )


def guess_output(path: str | Path) -> Format:
    """The format to write, where the file's name leaves no doubt.

    Raises
    ------
    InputError
        If it does.
    """
    name = Path(path).name.lower()
    if name.startswith("disp_") and name.endswith(".nii.gz"):
        return FORMATS["challenge"]
    if name.endswith(("warp.nii.gz", "warp.nii")):
        return FORMATS["itk"]
    if name.endswith(".npz"):
        return FORMATS["npz"]
    if name.endswith(".txt"):
        return FORMATS["elastix"]
    raise InputError(
        f"{path}: its name does not say what format to write; name it with --to: {', '.join(FORMATS)}"
    )
