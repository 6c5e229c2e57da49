"""Looks into every file of a data set before hours are spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iterreg.dataset.base import Dataset, Pair, Scan
from iterreg.dataset.findings import Finding, Severity
from iterreg.dataset.inspection import SAME_GRID, Inspection, Role, inspect_file
from iterreg.dataset.suitability import apart, is_sheared, of_a_brain
from iterreg.paths import real
from iterreg.volume import Grid

__all__ = ["Finding", "Severity", "check"]

_FEWEST_SLICES = 4

Progress = Callable[[int, int, Path], None]


def check(
    dataset: Dataset,
    *,
    read_voxels: bool = True,
    refused_by_engines: Severity = "error",
    on_progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Find what would make registering or scoring a data set fail or lie.

    Every file is read once, one at a time, however many pairs use it; what stays in memory is its grid
    and its label ids.

    Parameters
    ----------
    read_voxels
        Read every file to its end. Otherwise only headers: missing files, grids, names and pairs are
        still checked, values are not.
    refused_by_engines
        How grave it is that some engine will refuse an image or a pair. A plan, which knows the methods,
        refuses these pairs itself.
    on_progress
        Called after each file with the number of files done, the number of all, and the file.

    Returns
    -------
    tuple of Finding
        About the data set, then file by file in order of first use, then pair by pair. Errors and notes
        are mixed.
    """
    findings = [
        Finding("note", dataset.source, None, note, "", "about the data set") for note in dataset.notes
    ]
    findings += _names(dataset)
    roles = _roles(dataset)
    seen: dict[Path, Inspection] = {}
    for done, (path, used_as) in enumerate(roles.items(), start=1):
        seen[path] = inspect_file(path, used_as, read_voxels=read_voxels)
        findings += seen[path].findings
        if on_progress is not None:
            on_progress(done, len(roles), path)
    for path, used_as in roles.items():
        if "image" in used_as:
            findings += _promise(dataset, path, seen[path])
    findings += _label_maps([path for path, used_as in roles.items() if "image" in used_as], seen)
    findings += _companions(dataset, seen)
    refused = _Refused(seen, refused_by_engines)
    for path, used_as in roles.items():
        if "image" in used_as:
            findings += refused.image(path)
    for pair in _distinct(dataset.pairs):
        findings += _pair(dataset, pair, seen)
        findings += refused.pair(pair)
    return tuple(findings)


# -- names --------------------------------------------------------------------------------------


def _names(dataset: Dataset) -> Iterator[Finding]:
    """What the list of pairs alone shows."""
    times: dict[tuple[Path, Path], int] = {}
    fields: dict[str, list[Pair]] = {}
    owners: dict[tuple[str, str], Path] = {}
    followed = {scan.path: real(scan.path) for scan in dataset.scans()}
    for pair in dataset.pairs:
        key = (pair.fixed.path, pair.moving.path)
        times[key] = times.get(key, 0) + 1
        if times[key] == 2:
            yield _about(pair, "error", "duplicate pair", "is listed more than once", "list it once")
        if times[key] > 1:
            continue
        if followed[pair.fixed.path] == followed[pair.moving.path]:
            yield _about(
                pair,
                "note",
                "image paired with itself",
                f"registers {pair.fixed.path.name} to itself",
                "leave it out unless it is meant as a test",
            )
        fields.setdefault(pair.name, []).append(pair)
    for name, pairs in fields.items():
        if len(pairs) > 1:
            written = ", ".join(f"{p.fixed.path.name} <- {p.moving.path.name}" for p in pairs[:4])
            more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
            yield Finding(
                "error",
                None,
                name,
                f"{len(pairs)} different pairs have one field name, disp_{name}: {written}{more}",
                "give them ids of their own in a csv (fixed_id, moving_id)",
                "one name for several pairs",
            )
    for scan in dataset.scans():
        first = owners.setdefault((scan.subject, scan.modality), scan.path)
        if first != scan.path:
            yield Finding(
                "note",
                scan.path,
                None,
                f"has the id {scan.subject} and modality {scan.modality} of {first} too",
                "give ids of their own in a csv (fixed_id, moving_id) if they are different scans",
                "one id for several images",
            )


def _distinct(pairs: tuple[Pair, ...]) -> Iterator[Pair]:
    seen: set[tuple[Path, Path]] = set()
    for pair in pairs:
        key = (pair.fixed.path, pair.moving.path)
        if key not in seen:
            seen.add(key)
            yield pair


def _about(pair: Pair, severity: Severity, kind: str, what: str, do: str) -> Finding:
    return Finding(severity, None, pair.name, what, do, kind)


# -- files --------------------------------------------------------------------------------------


def _used(scan: Scan) -> Iterator[tuple[Role, Path]]:
    yield "image", scan.path
    if scan.labels:
        yield "labels", scan.labels
    if scan.landmarks:
        yield "landmarks", scan.landmarks
    if scan.mask:
        yield "mask", scan.mask


def _roles(dataset: Dataset) -> dict[Path, set[Role]]:
    """Every file with what it is used as, in order of first use."""
    roles: dict[Path, set[Role]] = {}
    for pair in dataset.pairs:
        for scan in (pair.fixed, pair.moving):
            for role, path in _used(scan):
                roles.setdefault(path, set()).add(role)
    return roles


def _promise(dataset: Dataset, path: Path, image: Inspection) -> Iterator[Finding]:
    promised = dataset.promised_shape
    if promised is not None and image.grid is not None and image.grid.shape != promised:
        yield Finding(
            "error",
            path,
            None,
            f"has shape {_times(image.grid.shape)} where {dataset.source.name} promises {_times(promised)}",
            "resample or crop it, or correct the json (the evaluator rejects fields of another shape)",
            "promised shape not met",
        )


def _label_maps(images: Sequence[Path], seen: Mapping[Path, Inspection]) -> Iterator[Finding]:
    """Label maps among the images; where all look like that, synthetic ones may be meant."""
    patchy = [path for path in images if seen[path].patchy]
    for path in patchy:
        yield Finding(
            "note" if len(patchy) == len(images) else "error",
            path,
            None,
            "is used as an image but looks like a label map: whole numbers, in patches of one value",
            "take it out of the list or folder, or say with --labels-suffix how names of label maps end",
            "label map as an image",
        )


def _companions(dataset: Dataset, seen: dict[Path, Inspection]) -> Iterator[Finding]:
    """Labels, landmarks and masks against the grid of their image."""
    done: set[tuple[Path, Path]] = set()
    for pair in dataset.pairs:
        for scan in (pair.fixed, pair.moving):
            for role, path in _used(scan):
                if role != "image" and (scan.path, path) not in done:
                    done.add((scan.path, path))
                    yield from _companion(scan, role, path, seen[scan.path], seen[path])


def _companion(scan: Scan, role: Role, path: Path, image: Inspection, other: Inspection) -> Iterator[Finding]:
    if image.grid is None:
        return
    if other.points is not None:
        outside = (other.points < -0.5) | (other.points > np.array(image.grid.shape) - 0.5)
        count = int(outside.any(axis=1).sum())
        if count:
            yield Finding(
                "note",
                path,
                None,
                f"has {count} of {len(other.points)} points outside {scan.path.name}",
                "see that they are in voxels, not millimetres",
                "landmarks outside the image",
            )
    if other.grid is None:
        return
    if _one_place(other.grid, image.grid):
        if role == "mask" and image.foreground and other.foreground:
            boxes = (image.foreground, other.foreground)
            if apart(image.grid, image.grid, boxes):
                yield Finding(
                    "error",
                    path,
                    None,
                    f"lies wholly beside what {scan.path.name} shows",
                    "see whether it is another image's, or mirrored",
                    "mask beside the image",
                )
        return
    if other.grid.shape != image.grid.shape:
        what = f"has shape {_times(other.grid.shape)}, its image {scan.path.name} {_times(image.grid.shape)}"
    else:
        what = f"lies elsewhere in space than its image {scan.path.name}, {_apart(image, other)}"
    yield Finding(
        "error",
        path,
        None,
        what,
        f"resample the {role} onto the image's grid with nearest neighbour, or copy the image's affine "
        "if only the header is wrong",
        f"{role} on another grid",
    )


# -- what engines refuse --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Refused:
    """Images and pairs that some engine will not register, or would answer with an undeformed field."""

    seen: Mapping[Path, Inspection]
    severity: Severity

    def image(self, path: Path) -> Iterator[Finding]:
        image = self.seen[path]
        if image.grid is None:
            return
        if min(image.grid.shape) < _FEWEST_SLICES:
            yield self._about(
                path,
                "too few slices",
                f"has {_times(image.grid.shape)} voxels, which is no volume to engines: they need "
                f"{_FEWEST_SLICES} along each axis at the very least",
                "give the whole volume",
            )
        if is_sheared(image.grid):
            yield self._about(
                path,
                "sheared affine",
                "has an affine that shears (its axes are not perpendicular), which syn and elastix refuse",
                "resample it onto a grid with perpendicular axes, or use lddmm",
            )
        if image.foreground is not None and (what := of_a_brain(image.grid, image.foreground.voxels)):
            what, _, do = what.partition("; ")
            yield self._about(path, "not of a brain's size", f"shows something that {what}", do)

    def pair(self, pair: Pair) -> Iterator[Finding]:
        fixed, moving = self.seen[pair.fixed.path], self.seen[pair.moving.path]
        if fixed.grid is None or moving.grid is None:
            return
        do = "correct the affine in a header, or use a method that brings centres together (syn:affine)"
        if apart(fixed.grid, moving.grid):
            what = "has two images that do not meet anywhere in the world, so that most methods refuse it"
            yield Finding(self.severity, None, pair.name, what, do, "images apart")
        elif apart(fixed.grid, moving.grid, (fixed.foreground, moving.foreground)):
            what = "shows two brains that do not meet anywhere in the world, so that most methods refuse it"
            yield Finding(self.severity, None, pair.name, what, do, "brains apart")

    def _about(self, path: Path, kind: str, what: str, do: str) -> Finding:
        return Finding(self.severity, path, None, what, do, kind)


# -- pairs --------------------------------------------------------------------------------------


def _pair(dataset: Dataset, pair: Pair, seen: dict[Path, Inspection]) -> Iterator[Finding]:
    yield from _one_grid(dataset, pair, seen)
    fixed, moving = pair.fixed, pair.moving
    for kind, f_file, m_file in (
        ("labels", fixed.labels, moving.labels),
        ("landmarks", fixed.landmarks, moving.landmarks),
    ):
        if (f_file is None) != (m_file is None):
            has, lacks = ("moving", "fixed") if f_file is None else ("fixed", "moving")
            yield _about(
                pair,
                "note",
                f"{kind} on one side only",
                f"has {kind} for its {has} image but not for its {lacks} one, and cannot be scored with them",
                "",
            )
    if fixed.labels and moving.labels:
        f, m = seen[fixed.labels].ids, seen[moving.labels].ids
        if f and m and not f & m:
            yield _about(
                pair,
                "error",
                "no label in common",
                f"{fixed.labels} and {moving.labels} have no label id in common",
                "see that both use one numbering",
            )
    if fixed.landmarks and moving.landmarks:
        yield from _landmarks(pair, fixed.landmarks, moving.landmarks, seen)


def _one_grid(dataset: Dataset, pair: Pair, seen: dict[Path, Inspection]) -> Iterator[Finding]:
    fixed, moving = seen[pair.fixed.path], seen[pair.moving.path]
    if fixed.grid is None or moving.grid is None or _one_place(fixed.grid, moving.grid):
        return
    same_shape = fixed.grid.shape == moving.grid.shape
    if dataset.promised_shape is not None:
        if same_shape:  # another shape is reported with the file that breaks the promise
            yield _about(
                pair,
                "error",
                "two grids where one is promised",
                f"{pair.fixed.path} and {pair.moving.path} place their voxels differently "
                f"({_apart(fixed, moving)}), though {dataset.source.name} promises one grid",
                "correct the header that is wrong, or resample one image",
            )
        return
    yield _about(
        pair,
        "note",
        "two grids in a pair",
        f"fixed is a {fixed.grid!r} and moving a {moving.grid!r}"
        + (f", {_apart(fixed, moving)}" if same_shape else "")
        + "; the field will hold the change of grid too",
        "",
    )


def _landmarks(pair: Pair, fixed: Path, moving: Path, seen: dict[Path, Inspection]) -> Iterator[Finding]:
    f, m = seen[fixed], seen[moving]
    if (fixed.suffix == ".csv") != (moving.suffix == ".csv"):
        yield _about(
            pair,
            "error",
            "landmarks do not correspond",
            f"{fixed} and {moving} are a list of points and a volume of blobs",
            "give both in one form",
        )
    if f.points is not None and m.points is not None and len(f.points) != len(m.points):
        yield _about(
            pair,
            "error",
            "landmarks do not correspond",
            f"{fixed} has {len(f.points)} points and {moving} {len(m.points)}",
            "list corresponding points in one order in both",
        )
    if f.ids and m.ids and f.ids - m.ids:
        lost = ", ".join(map(str, sorted(f.ids - m.ids)[:8]))
        yield _about(
            pair,
            "error",
            "landmarks do not correspond",
            f"{moving} lacks {len(f.ids - m.ids)} landmark(s) of {fixed} ({lost}): their error is undefined",
            "mark it in both or in neither",
        )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _one_place(a: Grid, b: Grid) -> bool:
    """Whether two grids are one; equal ones, the rule in large data sets, are told quickly."""
    return a == b or a.matches(b, tolerance=SAME_GRID)


def _apart(a: Inspection, b: Inspection) -> str:
    """How far two grids of one shape lie apart, for a sentence."""
    if a.grid is None or b.grid is None:
        return ""
    steps = a.grid.voxel_to_world(a.grid.corners) - b.grid.voxel_to_world(b.grid.corners)
    distance = np.linalg.norm(steps, axis=1).max()
    if a.grid.orientation != b.grid.orientation:
        return f"{a.grid.orientation} against {b.grid.orientation}"
    return f"up to {distance:.3g} mm apart"
