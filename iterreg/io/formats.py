"""The names of the field formats, and how each is read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.headers import grid_by_itk
from iterreg.io import challenge, elastix, fsl, icon, itk, niftyreg, npz, spm, torch_grid, world
from iterreg.io.sniff import describe
from iterreg.io.unknown import FIELD_SUFFIXES, ITK_IMAGES
from iterreg.volume import Grid, read_grid

__all__ = ["FORMATS", "Format", "guess_input", "guess_output", "named", "read", "read_between"]

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
    in_itk_world
        Whether the files belong to the world as ITK reads the images' headers.
    """

    name: str
    description: str
    reader: Callable[[Files, Grid, Grid], DisplacementField]
    writer: Callable[[str | Path, DisplacementField], None]
    chains: bool = False
    in_itk_world: bool = False


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
            in_itk_world=True,
        ),
        Format(
            "elastix",
            "TransformParameters.*.txt with its initial transforms, or transformix's deformation field",
            _one(_read_elastix),
            _write_elastix,
            in_itk_world=True,
        ),
        Format(
            "npz",
            "Learn2Reg's half-resolution float16 .npz (full-size arrays are read, too, and .npy)",
            _one(npz.read),
            npz.write,
        ),
        Format("ras", "(X, Y, Z, 3) displacements in RAS+ mm, .nii.gz", _one(world.read), world.write),
        Format("spm", "SPM's y_: places in RAS+ mm, (X, Y, Z, 1, 3), .nii", _one(spm.read), spm.write),
        Format(
            "niftyreg",
            "NiftyReg's deformation or displacement field, .nii.gz",
            _one(niftyreg.read),
            niftyreg.write,
        ),
        Format(
            "fsl",
            "FSL's relative warp in its own mm, .nii.gz",
            _one(partial(fsl.read, absolute=False)),
            partial(fsl.write, absolute=False),
        ),
        Format(
            "fsl-absolute",
            "FSL's absolute warp in its own mm, .nii.gz",
            _one(partial(fsl.read, absolute=True)),
            partial(fsl.write, absolute=True),
        ),
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
        Format("icon", "ICON's maps: places in [0, 1], (1, 3, X, Y, Z), .npy", _one(icon.read), icon.write),
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


def read_between(
    files: Files, fixed: str | Path, moving: str | Path, *, name: str | None = None
) -> DisplacementField:
    """Read a field as `read` does, between two image files of which only the headers are read.

    Where ITK reads a header differently (`iterreg.headers`), the files of ITK's tools are taken to live in
    the world as ITK sees it, unless a warp lies on the fixed image's grid as iterreg sees it.

    Raises
    ------
    InputError
        As `read`, or if an image's header cannot be read.

    Warns
    -----
    InputWarning
        If the transform covers only a part of the fixed image.
    """
    chosen = named(name) if name else guess_input(files)
    grids = read_grid(fixed), read_grid(moving)
    theirs = tuple(
        grid_by_itk(Path(path), grid) or grid for path, grid in zip((fixed, moving), grids, strict=True)
    )
    if not chosen.in_itk_world or theirs == grids or _lies_on(files[0], grids[0], theirs[0]):
        return read(files, *grids, name=chosen.name)
    return DisplacementField(read(files, *theirs, name=chosen.name).vectors, *grids)


def _lies_on(file: str | Path, ours: Grid, theirs: Grid) -> bool:
    """Whether a warp's own grid says that the fixed image was read as `ours` when it was made."""
    path = Path(file)
    if ours == theirs or not path.name.lower().endswith((".nii", ".nii.gz", *ITK_IMAGES)):
        return False
    _, grid = itk.read_warp(path)
    return grid.matches(ours) and not grid.matches(theirs)


def guess_input(files: Files) -> Format:
    """The format of existing files, where names, headers and numbers leave no doubt.

    Raises
    ------
    InputError
        If they do, with what they seem to be.
    """
    if len(files) > 1:
        return FORMATS["itk"]
    path = Path(files[0])
    name = path.name.lower()
    if str(files[0]).startswith("[") or name.endswith((".mat", ".tfm", ".h5", ".hdf5", ".xfm", *ITK_IMAGES)):
        return FORMATS["itk"]
    if name.endswith(".txt"):
        return FORMATS["elastix" if elastix.is_parameter_file(path) else "itk"]
    seems = ""
    if name.endswith(FIELD_SUFFIXES):
        belief = describe(path)
        if belief.certain:
            return FORMATS[belief.format]
        seems = f" ({belief.reason})" if belief.reason else ""
    raise InputError(
        f"{path}: its name and header do not make its format certain{seems}; look at it with `iterreg "
        f"inspect` and name the format with --from: {', '.join(FORMATS)}"
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
