"""One door to every kind of data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec

from iterreg.dataset.atlas import AtlasRole, pairs_with_atlas, scans_of_files
from iterreg.dataset.base import Dataset, Opened, Scan
from iterreg.dataset.csv_pairs import read_csv
from iterreg.dataset.files import pair_of_files
from iterreg.dataset.folder import pairs_of_folder, scans_of_folder
from iterreg.dataset.learn2reg import Split, read_learn2reg
from iterreg.dataset.paths import absolute, is_image
from iterreg.errors import InputError

__all__ = ["open_dataset"]

_P = ParamSpec("_P")


def _remembered(opener: Callable[_P, Dataset]) -> Callable[_P, Dataset]:
    """Have the data set know how it was opened, so that a run of it can open it again."""

    defaults = {name: one.default for name, one in signature(opener).parameters.items()}

    @wraps(opener)
    def remembering(*args: _P.args, **options: _P.kwargs) -> Dataset:
        dataset = opener(*args, **options)
        source: Any = args[0] if args else options["source"]
        sources = [source] if isinstance(source, str | Path) else list(source)
        given: dict[str, Any] = {
            name: str(absolute(str(value))) if name in ("root", "atlas") or isinstance(value, Path) else value
            for name, value in options.items()
            if name != "source" and value != defaults[name]
        }
        # A folder and the json that describes it are one data set.
        paths = [dataset.source] if len(sources) == 1 and "atlas" not in given else map(absolute, sources)
        return replace(dataset, opened=Opened(tuple(paths), given))

    return remembering


@_remembered
def open_dataset(
    source: str | Path | Sequence[str | Path],
    *,
    root: str | Path | None = None,
    split: Split | None = None,
    modality: str | None = None,
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
        - a folder: its only ``*_dataset.json`` if there is one, else all ordered pairs of its images;
        - two image files, fixed and moving;
        - with `atlas`: any of these for its scans, or any number of image files.
    root
        For json and csv: where relative paths start. Default: the file's folder.
    split
        For json: ``"validation"``, ``"test"`` or ``"training"``.
    modality
        For a folder of images: only scans of this modality.
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
    images = bool(paths) and all(is_image(path) and not path.is_dir() for path in paths)
    given = {"root": root, "split": split, "modality": modality, "limit": limit}
    if atlas is not None:
        if images:
            _only((), given, "image files")
            scans: Sequence[Scan] = scans_of_files(paths)
        else:
            scans = _scans(_one(paths), given, root, split, modality)
        return pairs_with_atlas(atlas, scans, role=atlas_role, source=paths[0].parent if images else paths[0])
    if images and len(paths) == 2:
        _only((), given, "two image files")
        return pair_of_files(paths[0], paths[1])
    if images:
        raise InputError(f"{paths[0]}: {len(paths)} image file(s) were given; give two, a folder or an atlas")
    path = _described(_one(paths))
    if path.is_dir():
        _only(("modality", "limit"), given, "a folder of images")
        return pairs_of_folder(path, modality=modality, limit=limit)
    return _read_file(path, given, root, split)


def _scans(
    path: Path,
    given: Mapping[str, object],
    root: str | Path | None,
    split: Split | None,
    modality: str | None,
) -> Sequence[Scan]:
    path = _described(path)
    if path.is_dir():
        _only(("modality",), given, "the folder of an atlas's subjects")
        return scans_of_folder(path, modality=modality)
    return list(_read_file(path, given, root, split).scans())


def _read_file(
    path: Path, given: Mapping[str, object], root: str | Path | None, split: Split | None
) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".json":
        _only(("root", "split"), given, "a json")
        return read_learn2reg(path, root=root, split=split)
    if suffix in (".csv", ".tsv"):
        _only(("root",), given, "a csv")
        return read_csv(path, root=root)
    what = "is of an unknown kind" if path.exists() else "there is no such file or folder"
    raise InputError(f"{path}: {what}; give a .json, a .csv, a folder, or two .nii.gz files")


def _one(paths: Sequence[Path]) -> Path:
    if len(paths) != 1:
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
            raise InputError(f"{name} does not apply to {kind}; leave it out")
