"""One door to every kind of data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iterreg.dataset import bids
from iterreg.dataset.atlas import AtlasRole, pairs_with_atlas, scans_of_files
from iterreg.dataset.base import Dataset, Opened, Scan
from iterreg.dataset.csv_pairs import read_csv
from iterreg.dataset.files import pair_of_files
from iterreg.dataset.folder import scans_of_folder
from iterreg.dataset.learn2reg import Split, read_learn2reg
from iterreg.dataset.pairing import pairs_of_scans
from iterreg.dataset.paths import absolute, is_readable
from iterreg.dataset.tasks import by_modality
from iterreg.errors import InputError

__all__ = ["open_dataset"]


def open_dataset(
    source: str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    split: Split | None = None,
    modality: str | None = None,
    suffix: str | None = None,
    labels_suffix: str | None = None,
    pairs_of: str | None = None,
    limit: int | None = None,
    atlas: str | Path | None = None,
    atlas_role: AtlasRole = "moving",
) -> Dataset:
    """Open a data set, whatever it is written in.

    Parameters
    ----------
    source
        - ``….json``: a LUMIR or Learn2Reg data set, or an evaluation config;
        - ``….csv`` or ``….tsv``: a table of pairs;
        - a folder: its only ``*_dataset.json`` if there is one; else the images of a BIDS data set (see
          `iterreg.dataset.bids`), or the images that lie in it (see `iterreg.dataset.folder`);
        - two image files, fixed and moving;
        - with `atlas`: any of these for its scans, or any number of image files.
    root
        For json and csv: where relative paths start. Default: the file's folder.
    split
        For json: ``"validation"``, ``"test"`` or ``"training"``.
    modality
        For a folder of images that is no BIDS data set: only scans of this modality.
    suffix
        For a folder: how its images' names end, ``"T1w"``. Default: T1w for BIDS, anything otherwise.
    labels_suffix
        For a folder: how the names of their label maps end, ``"dseg"``.
    pairs_of
        For a folder: ``"all"`` ordered pairs (the default), a ``"ring"``, or ``"N"`` or ``"N:SEED"`` random
        ones (see `iterreg.dataset.pairing`).
    limit
        For a folder of images: at most so many pairs.
    atlas, atlas_role
        Register an atlas image to every scan of `source` (``"moving"``, the default), every scan to the
        atlas (``"fixed"``), or ``"both"``.

    Returns
    -------
    Dataset
        Image files need not exist: `iterreg.dataset.check` and planning report those that are missing.

    Raises
    ------
    InputError
        If the source is missing, not understood or without pairs, or an option does not apply to it.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    paths = [absolute(one) for one in sources]
    given: dict[str, Any] = {
        "root": root, "split": split, "modality": modality, "suffix": suffix, "labels_suffix": labels_suffix,
        "pairs_of": pairs_of, "limit": limit,
    }  # fmt: skip
    dataset = _open(paths, given) if atlas is None else _with_atlas(paths, given, atlas, atlas_role)
    if root is not None:
        given["root"] = str(absolute(root))
    if atlas is not None:
        given["atlas"] = str(absolute(atlas))
        given["atlas_role"] = atlas_role if atlas_role != "moving" else None
    options = {name: value for name, value in given.items() if value is not None}
    # A folder and the json that describes it are one data set.
    opened = (dataset.source,) if len(paths) == 1 and atlas is None else tuple(paths)
    return replace(dataset, opened=Opened(opened, options))


def _open(paths: Sequence[Path], given: Mapping[str, Any]) -> Dataset:
    if _are_images(paths):
        if len(paths) != 2:
            raise InputError(
                f"{paths[0]}: {len(paths)} image file(s) were given; give two, a folder or an atlas"
            )
        _only((), given, "two image files")
        return pair_of_files(paths[0], paths[1])
    path = _described(_one(paths))
    if not path.is_dir():
        return _read_file(path, given)
    found = _look_into(path, {name: value for name, value in given.items() if name not in _PAIRING})
    if len(found.scans) < 2:
        raise InputError(f"{path}: holds one image only, {found.scans[0].path.name}; a pair needs two")
    pairs = pairs_of_scans(found.scans, given["pairs_of"] or "all", limit=given["limit"])
    pairs = bids.with_tasks(pairs, found.scans) if found.is_bids else by_modality(pairs)
    name = path.parent.name if path.name.startswith("images") else path.name
    return Dataset(name, tuple(pairs), path, notes=found.notes)


def _with_atlas(
    paths: Sequence[Path], given: Mapping[str, Any], atlas: str | Path, role: AtlasRole
) -> Dataset:
    notes: tuple[str, ...] = ()
    if _are_images(paths):
        _only((), given, "image files")
        source, scans = paths[0].parent, scans_of_files(paths)
    else:
        source = _one(paths)
        path = _described(source)
        if path.is_dir():
            found = _look_into(path, given)
            scans, notes = list(found.scans), found.notes
        else:
            scans = list(_read_file(path, given).scans())
    return replace(pairs_with_atlas(atlas, scans, role=role, source=source), notes=notes)


_PAIRING = ("pairs_of", "limit")


@dataclass(frozen=True)
class _FolderScans:
    scans: Sequence[Scan]
    notes: tuple[str, ...]
    is_bids: bool


def _look_into(path: Path, given: Mapping[str, Any]) -> _FolderScans:
    suffixes = {name: given[name] for name in ("suffix", "labels_suffix")}
    if bids.is_bids(path):
        _only(tuple(suffixes), given, "a BIDS folder")
        return _FolderScans(*bids.scans_of_bids(path, **suffixes), is_bids=True)
    _only(("modality", *suffixes), given, "a folder of images")
    return _FolderScans(*scans_of_folder(path, modality=given["modality"], **suffixes), is_bids=False)


def _read_file(path: Path, given: Mapping[str, Any]) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".json":
        _only(("root", "split"), given, "a json")
        return read_learn2reg(path, root=given["root"], split=given["split"])
    if suffix in (".csv", ".tsv"):
        _only(("root",), given, "a csv")
        return read_csv(path, root=given["root"])
    what = "is of an unknown kind" if path.exists() else "there is no such file or folder"
    raise InputError(f"{path}: {what}; give a .json, a .csv, a folder, or two .nii.gz files")


def _are_images(paths: Sequence[Path]) -> bool:
    return bool(paths) and all(is_readable(path) and not path.is_dir() for path in paths)


def _one(paths: Sequence[Path]) -> Path:
    if len(paths) != 1:
        for path in paths:
            if is_readable(path) and path.is_dir():
                raise InputError(
                    f"{path}: is a folder, though it is called like an image; name the file in it"
                )
        names = " ".join(str(path) for path in paths) or "nothing"
        raise InputError(f"{names}: give one json, csv or folder, or two image files (fixed, moving)")
    return paths[0]


def _described(path: Path) -> Path:
    """The json that describes a folder where there is exactly one, else the path itself."""
    if not path.is_dir():
        return path
    described = sorted(path.glob("*_dataset.json"))
    if len(described) > 1:
        names = ", ".join(one.name for one in described)
        raise InputError(f"{path}: holds several data set jsons ({names}); name the one to use")
    return described[0] if described else path


def _only(allowed: Sequence[str], given: Mapping[str, object], kind: str) -> None:
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise InputError(f"{name.replace('_', '-')} does not apply to {kind}; leave it out")
