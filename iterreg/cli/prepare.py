"""``iterreg prepare``: raw scans into the challenge's shape."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iterreg.cli.commands import Subparsers, path_argument
from iterreg.words import count

if TYPE_CHECKING:
    from iterreg.batch.prepare import RawScan

__all__ = ["add_parser", "run"]

_LAST_RESORT_ID = 1


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "prepare",
        help="align raw skull-stripped scans to MNI152 and write them in the challenge's layout",
        description="Registers skull-stripped scans affinely to a template, resamples them and their "
        "labels onto its grid, scales intensities to [0, 255] and writes a data set in the challenge's "
        "layout, with a json that pairs every subject with the next.",
    )
    parser.add_argument("images", nargs="+", type=path_argument, metavar="IMAGE", help="skull-stripped scans")
    parser.add_argument(
        "-o", "--out", type=path_argument, required=True, help="folder of the prepared data set"
    )
    parser.add_argument("--name", default="BRAIN", help="name of the data set (default BRAIN)")
    parser.add_argument(
        "--image-suffix", default=".nii.gz", help="how the images' names end, e.g. _SS.nii.gz"
    )
    parser.add_argument("--labels-suffix", help="how the names of their labels end, e.g. _glm.nii.gz")
    parser.add_argument(
        "--template", type=path_argument,
        help="image to align to; default: the MNI152 average brain of nilearn in 160x224x192 voxels of 1 mm",
    )  # fmt: skip
    parser.add_argument("-m", "--method", default="syn:affine", help="how to align (default syn:affine)")
    parser.add_argument("--cores", type=int, default=0, help="cores to use (default: all)")


def run(args: argparse.Namespace) -> int:
    from iterreg.batch.plan import Settings
    from iterreg.batch.prepare import write_dataset, write_prepared
    from iterreg.batch.session import Session
    from iterreg.cli.batch_options import refuse_findings
    from iterreg.cli.run import close
    from iterreg.dataset.atlas import pairs_with_atlas, scans_of_files
    from iterreg.io.challenge import read_field
    from iterreg.volume import read_grid

    scans = _raw_scans(args)
    template = args.template or _default_template(args.out)
    dataset = pairs_with_atlas(template, scans_of_files([scan.image for scan in scans]), role="fixed")
    with Session(args.out / "alignment", Settings(cores=args.cores, threads=1)) as session:
        plan = session.plan(dataset, [args.method])
        if plan.todo:
            for note in refuse_findings(dataset, read_voxels=True):
                print(f"note: {note}", file=sys.stderr)
        code = close(plan, session.folder, session.run(plan))
    if code:
        return code
    grid = read_grid(template)
    for scan, planned in zip(scans, plan.jobs, strict=True):
        field = read_field(planned.folder.field, grid, read_grid(scan.image))
        write_prepared(args.out, args.name, scan, field)
    path = write_dataset(args.out, args.name, [scan.subject for scan in scans], grid.shape)
    print(f"{count(len(scans), 'subject')} prepared; next: iterreg check {path}")
    return 0


def _raw_scans(args: argparse.Namespace) -> list[RawScan]:
    from iterreg.batch.prepare import RawScan, companion
    from iterreg.errors import InputError

    scans: list[RawScan] = []
    for number, image in enumerate(args.images, start=_LAST_RESORT_ID):
        digits = re.findall(r"\d+", image.name)
        subject = f"{int(digits[0]) if digits else number:04d}"
        labels = companion(image, args.image_suffix, args.labels_suffix) if args.labels_suffix else None
        scans.append(RawScan(subject, image, labels))
    ids = [scan.subject for scan in scans]
    twice = {name for name in ids if ids.count(name) > 1 or len(name) != 4}
    if twice:
        raise InputError(
            f"the first number in an image's name is its subject's id of four digits, but {sorted(twice)} "
            "occur twice or are longer; rename the files"
        )
    return scans


def _default_template(out: Path) -> Path:
    from iterreg.dataset.demo import load_template
    from iterreg.io.nifti import write_volume
    from iterreg.volume import Volume

    path = out / "template.nii.gz"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        template = load_template()
        write_volume(path, Volume(template.t1, template.grid))
    return path
