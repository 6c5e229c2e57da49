"""Folders laid out by BIDS, the Brain Imaging Data Structure: their scans, label maps and brain masks.

The rules are the specification's (version 1.10, https://bids-specification.readthedocs.io): file names are
"Common principles: entities", where images lie is "Magnetic Resonance Imaging: anatomy imaging data",
label maps (``_dseg``) and masks (``_mask``) are "Derivatives: imaging data types".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from iterreg.dataset.base import Pair, Scan
from iterreg.dataset.label_maps import Found, of_one_kind
from iterreg.dataset.paths import absolute, is_image
from iterreg.errors import InputError

__all__ = ["BidsName", "is_bids", "scans_of_bids", "with_tasks"]

DEFAULT_SUFFIX = "T1w"
DEFAULT_LABELS = "dseg"

_CONTRASTS = (
    "T1w", "T2w", "FLAIR", "PDw", "T2starw", "inplaneT1", "inplaneT2", "PDT2", "UNIT1", "angio",
    "T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap", "PDmap", "MTRmap", "MTsat", "Chimap",
)  # fmt: skip
"""Suffixes of anatomical images; their places are the four-digit modalities."""

_PROCESSED = ("space", "res", "den", "desc")
"""Entities of derivatives that tell versions of one scan apart, not scans."""

_KINDS = ("seg", "atlas", "label", "scale", "desc")
"""Entities that tell label maps of one scan apart."""


@dataclass(frozen=True)
class BidsName:
    """A file's name, taken apart.

    Attributes
    ----------
    root
        The raw data set or the pipeline's folder it lies in.
    entities
        ``{"sub": "01", "ses": "1", …}`` in the name's order.
    suffix
        ``"T1w"``, ``"dseg"`` ….
    """

    path: Path
    root: Path
    entities: Mapping[str, str]
    suffix: str

    def joined(self, *, leave: Sequence[str] = (), keep: Sequence[str] | None = None) -> str:
        """``sub-01_ses-1``: its entities, without some, or some alone."""
        return "_".join(
            f"{key}-{value}"
            for key, value in self.entities.items()
            if key not in leave and (keep is None or key in keep)
        )

    @property
    def session(self) -> str:
        return self.joined(keep=("sub", "ses"))


@dataclass(frozen=True)
class _Wanted:
    """What `--suffix` and `--labels-suffix` say: a suffix, entities before it, a pipeline before those."""

    text: str
    suffix: str
    entities: Mapping[str, str]
    pipeline: str = ""

    @classmethod
    def of(cls, text: str) -> _Wanted:
        pipeline, _, name = text.rpartition("/")
        *entities, suffix = name.strip("_").split("_")
        if not suffix or not all(re.fullmatch(r"[A-Za-z0-9]+-[A-Za-z0-9+]+", one) for one in entities):
            raise InputError(
                f"{text!r} is not how a BIDS name can end; give a suffix such as T1w, "
                "or entities and a suffix such as desc-preproc_T1w"
            )
        return cls(text, suffix, dict(one.split("-", 1) for one in entities), pipeline)

    def means(self, name: BidsName) -> bool:
        return (
            name.suffix == self.suffix
            and self.entities.items() <= name.entities.items()
            and self.pipeline in ("", name.root.name)
        )

    def says_all(self, name: BidsName) -> bool:
        """Whether a label map's name has no entity of its kind that is not asked for."""
        return all(key in self.entities for key in name.entities if key in _KINDS)


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set or derivative: it says so, or its subjects' folders do."""
    return (folder / "dataset_description.json").is_file() or next(_anat_folders(folder), None) is not None


def scans_of_bids(
    folder: str | Path, *, suffix: str | None = None, labels_suffix: str | None = None
) -> tuple[list[Scan], tuple[str, ...]]:
    """The anatomical scans of a BIDS folder, subject by subject, with the label maps that belong to them.

    Parameters
    ----------
    folder
        A raw data set, or a pipeline's folder in ``derivatives``. Where a raw data set has no such images
        itself, those of its only pipeline that has are taken.
    suffix
        Which images: ``"T1w"`` (the default), ``"T2w"``; several, joined by commas; with entities to choose
        among versions of derivatives, ``"space-MNI152NLin6Asym_desc-preproc_T1w"``.
    labels_suffix
        Which label maps: ``"dseg"`` (the default), ``"desc-aseg_dseg"``, or with the pipeline that made
        them, ``"synthseg/dseg"``. They are looked for beside the image and in every pipeline.

    Returns
    -------
    The scans, whose ids are ``sub-01`` and ``sub-01_ses-1``, with further entities (``_run-2``) where a
    session has several; and what to know about them, one sentence each.

    Raises
    ------
    InputError
        If there is no such image, a scan has several versions, or the label maps asked for are not there.
    """
    folder = absolute(folder)
    asked = [_Wanted.of(one) for one in (suffix or DEFAULT_SUFFIX).split(",") if one]
    if len({wanted.suffix for wanted in asked}) < max(1, len(asked)):
        raise InputError(f"--suffix {suffix}: names no suffix, or one twice; give T1w, or T1w,T2w")
    notes: list[str] = []
    root, names = _names_of_images(folder, asked, notes)
    pipelines = [place for place in _pipelines(folder) if place != root]
    beside = list(chain(names, *(_names(place) for place in pipelines)))
    images: list[BidsName] = []
    ids: dict[Path, str] = {}
    modality: dict[Path, str] = {}
    further = iter(range(len(_CONTRASTS), 10_000))
    for wanted in asked:
        chosen = [name for name in names if wanted.means(name)]
        _refuse_versions(folder, wanted, chosen)
        sessions = Counter(name.session for name in chosen)
        number = _CONTRASTS.index(wanted.suffix) if wanted.suffix in _CONTRASTS else next(further)
        for name in chosen:
            alone = sessions[name.session] == 1
            ids[name.path] = name.session if alone else name.joined(leave=_PROCESSED)
            modality[name.path] = f"{number:04d}"
        images += chosen
    wanted_labels = _Wanted.of(labels_suffix or DEFAULT_LABELS)
    maps = [one for one in beside if wanted_labels.means(one)]
    if labels_suffix is not None:
        maps = [one for one in maps if wanted_labels.says_all(one)] or maps
    labels, said = of_one_kind(
        _belonging(images, maps),
        asked=labels_suffix,
        where=folder,
        ends=lambda: sorted({one.suffix for one in beside if one.suffix in ("dseg", "probseg", "mask")}),
    )
    brain = _Wanted.of("desc-brain_mask")
    masks = _belonging(images, [one for one in beside if brain.means(one)])
    scans = [
        Scan(
            name.path,
            ids[name.path],
            modality[name.path],
            labels=labels.get(name.path),
            mask=masks[name.path][0].path if len(masks[name.path]) == 1 else None,
        )
        for name in images
    ]
    return scans, (*notes, *said)


def with_tasks(pairs: Iterable[Pair], scans: Sequence[Scan]) -> list[Pair]:
    """The pairs with tasks for what differs: contrasts, and whether two scans are of one subject.

    ``T1w``, ``T1w-T2w`` (fixed-moving) where the scans are of several contrasts; ``within-subject`` and
    ``between-subjects`` where a subject has several; both words where both apply. All scans decide, so that
    a pair's task does not depend on which others are chosen.
    """
    several_contrasts = len({_contrast(scan) for scan in scans}) > 1
    several_scans = len({_person(scan) for scan in scans}) < len(scans)

    def task(pair: Pair) -> str:
        contrasts = dict.fromkeys((_contrast(pair.fixed), _contrast(pair.moving)))
        within = _person(pair.fixed) == _person(pair.moving)
        return " ".join(
            ["-".join(contrasts)] * several_contrasts
            + ["within-subject" if within else "between-subjects"] * several_scans
        )

    return [replace(pair, task=task(pair)) for pair in pairs]


def _contrast(scan: Scan) -> str:
    return scan.path.name.split(".")[0].rpartition("_")[2]


def _person(scan: Scan) -> str:
    return scan.subject.partition("_")[0]


# -- where files lie -----------------------------------------------------------------------------------


def _anat_folders(root: Path) -> Iterator[Path]:
    for subject in sorted(root.glob("sub-*")):
        for folder in (subject / "anat", *sorted(subject.glob("ses-*/anat"))):
            if folder.is_dir():
                yield folder


def _names(root: Path) -> list[BidsName]:
    """The NIfTI files of all ``anat`` folders whose names are BIDS's."""
    found = (_name(path, root) for folder in _anat_folders(root) for path in sorted(folder.iterdir()))
    return [name for name in found if name is not None]


def _name(path: Path, root: Path) -> BidsName | None:
    if not is_image(path):
        return None
    *entities, suffix = path.name.removesuffix(".gz").removesuffix(".nii").split("_")
    parts = [one.partition("-") for one in entities]
    if not suffix.isalnum() or not all(key and value for key, _, value in parts):
        return None
    named = {key: value for key, _, value in parts}
    return BidsName(path, root, named, suffix) if "sub" in named else None


def _pipelines(folder: Path) -> list[Path]:
    """Where derivatives of a data set may lie: in it, and beside it when it is a pipeline's folder itself."""
    around = [folder / "derivatives"]
    if folder.parent.name == "derivatives":
        around.append(folder.parent)
    return [path for place in around if place.is_dir() for path in sorted(place.iterdir()) if path.is_dir()]


def _names_of_images(folder: Path, asked: Sequence[_Wanted], notes: list[str]) -> tuple[Path, list[BidsName]]:
    """The folder that the images are taken from, and all its names."""
    own = _names(folder)
    processed = {
        place: names
        for place in _pipelines(folder)
        if place != folder and (names := _names(place)) and _has_all(names, asked)
    }
    if _has_all(own, asked):
        for place in processed if folder.parent.name != "derivatives" else ():
            notes.append(f"{place} holds processed {_list(asked)} images too; name that folder to take those")
        return folder, own
    if len(processed) == 1:
        place, names = next(iter(processed.items()))
        notes.append(f"the images are those of {place}, as {folder} has no {_list(asked)} images itself")
        return place, names
    if processed:
        listed = ", ".join(str(place) for place in processed)
        raise InputError(f"{folder}: several pipelines have {_list(asked)} images; name one of {listed}")
    there = Counter(name.suffix for name in own)
    has = (
        ", ".join(f"{count} {suffix}" for suffix, count in there.most_common(8))
        or "no image in an anat folder"
    )
    raise InputError(
        f"{folder}: is laid out by BIDS but holds no image that ends with {_list(asked)} (it has {has}); "
        "choose another with --suffix"
    )


def _has_all(names: Sequence[BidsName], asked: Iterable[_Wanted]) -> bool:
    return all(any(wanted.means(name) for name in names) for wanted in asked)


def _list(asked: Iterable[_Wanted]) -> str:
    return ",".join(wanted.text for wanted in asked)


def _refuse_versions(folder: Path, wanted: _Wanted, chosen: Sequence[BidsName]) -> None:
    scans: dict[str, list[BidsName]] = {}
    for name in chosen:
        scans.setdefault(name.joined(leave=_PROCESSED), []).append(name)
    for scan, versions in scans.items():
        if len(versions) > 1:
            ends = ["_".join(filter(None, [one.joined(keep=_PROCESSED), wanted.suffix])) for one in versions]
            raise InputError(
                f"{folder}: {scan} has {len(versions)} versions of its {wanted.suffix} image "
                f"({', '.join(one.path.name for one in versions)}); choose one for all scans, for example "
                f"with --suffix {max(ends, key=len)}"
            )


# -- what belongs to an image --------------------------------------------------------------------------


def _belonging(images: Sequence[BidsName], others: Sequence[BidsName]) -> dict[Path, list[Found]]:
    """For every image the files of `others` made of it, with what tells those of one image apart."""
    by_session: dict[str, list[BidsName]] = {}
    for one in others:
        by_session.setdefault(one.session, []).append(one)
    sessions = Counter((name.session, name.suffix) for name in images)
    several = len({one.root for one in others}) > 1
    return {
        image.path: [
            Found(one.path, _kind(one, several))
            for one in by_session.get(image.session, ())
            if _belongs(one, image, alone=sessions[image.session, image.suffix] == 1)
        ]
        for image in images
    }


def _kind(name: BidsName, several_roots: bool) -> str:
    """How `--labels-suffix` would ask for a file like this."""
    ending = "_".join(filter(None, [name.joined(keep=_KINDS), name.suffix]))
    return f"{name.root.name}/{ending}" if several_roots else ending


def _belongs(one: BidsName, image: BidsName, *, alone: bool) -> bool:
    """Whether `one` lies in the image's space and was made of that scan.

    A derivative may leave out entities (``run``, ``acq``) where a session has one scan.
    """
    space = image.entities.get("space")
    spaces = (space,) if space else (None, "orig", image.suffix)
    if one.entities.get("space") not in spaces or one.entities.get("res") != image.entities.get("res"):
        return False
    apart = {*_PROCESSED, *_KINDS}
    for key in {*one.entities, *image.entities} - apart:
        value = one.entities.get(key)
        if value != image.entities.get(key) and not (alone and value is None):
            return False
    return True
