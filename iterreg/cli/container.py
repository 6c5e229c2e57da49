"""``iterreg container``: what a challenge's container runs, without arguments.

It finds the challenge's mounts, registers every pair, and leaves exactly the fields in the output
folder. Until then everything lies in a hidden folder of the output: it is the one place that is sure
to be writable, it holds what a restart goes on from, and fields move out of it without being copied.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from iterreg.cli.batch_options import add_batch_arguments, methods_of, session_from
from iterreg.cli.commands import Subparsers, path_argument
from iterreg.errors import InputError

if TYPE_CHECKING:
    from iterreg.batch.plan import Plan
    from iterreg.runs import RunFolder
    from iterreg.runs.survey import Entry

__all__ = ["Mounts", "add_parser", "find_mounts", "run"]

CONVENTIONS: Mapping[str, tuple[str, str, str]] = {
    "LUMIR24": ("LUMIR_dataset.json", "input", "output"),
    "LUMIR25": ("app/LUMIR25_dataset.json", "app/input", "app/output"),
}
"""Where each challenge mounts its json, the folder its image paths start at, and the output."""

_HIDDEN = ".iterreg"
_LOG_LINES = 12
_LOGS_SHOWN = 3
_TEMPORARY_BYTES = 4 * 2**30
"""What engines may write to the temporary folder between them; with less there, the output's disk serves."""


@dataclass(frozen=True)
class Mounts:
    """What a challenge mounts into the container.

    Attributes
    ----------
    challenge
        A name of `CONVENTIONS`.
    dataset
        The json of the pairs.
    images
        Where the json's relative paths (``./imagesVal/…``) start.
    output
        Where ``disp_*.nii.gz`` go, side by side.
    """

    challenge: str
    dataset: Path
    images: Path
    output: Path


def add_parser(subparsers: Subparsers) -> None:
    """Add the command to ``iterreg``."""
    parser = subparsers.add_parser(
        "container",
        help="the entry point of a challenge container: finds the mounts, fills the output",
        description="Registers every pair of the mounted LUMIR24 or LUMIR25 data set into the mounted output "
        "folder, which then holds disp_*.nii.gz and nothing else of iterreg's. Takes its settings from the "
        "environment.",
        epilog="ITERREG_METHOD: METHOD[:PRESET|:FILE] (default: that of iterreg run). "
        "ITERREG_OPTIONS: further options of iterreg run, e.g. '--timeout 30m --memory 14G'. "
        "ITERREG_FALLBACK: identity (default) writes the identity field for a pair that failed, because one "
        "missing file aborts the whole official evaluation; none leaves it out. "
        "ITERREG_RUN: a folder to keep the run in, with its logs. "
        "Exit code: 0 every pair has a field, 1 refused before any work, 2 a field is missing or no pair at "
        "all could be registered, 3 some pairs are with another process, 130 interrupted.",
    )
    parser.add_argument(
        "--root", type=path_argument, default=Path("/"), help="folder that stands for / in every mount point"
    )


def run(args: argparse.Namespace) -> int:
    # Jobs work in folders of their own: a relative path would lead elsewhere there.
    mounts = find_mounts(args.root.absolute())
    fallback = _fallback(os.environ.get("ITERREG_FALLBACK", ""))
    options = _options(os.environ)
    kept = os.environ.get("ITERREG_RUN")
    print(f"{mounts.challenge}: {mounts.dataset}, images below {mounts.images}, fields to {mounts.output}")
    with _hidden_folder(mounts.output) as hidden:
        _writable_places(hidden)
        options.out = Path(kept).absolute() if kept else _resumable(hidden / "run")
        code, clean = _register(mounts, options, fallback)
    if clean:  # after the lock is closed: NFS keeps an open file in its folder
        shutil.rmtree(hidden, ignore_errors=True)
    return code


# -- what is mounted, what is asked -------------------------------------------------------------------


def find_mounts(root: Path) -> Mounts:
    """Recognise the challenge by its json.

    Raises
    ------
    InputError
        If no challenge's json is mounted or several are, or its folders are missing or not writable.
    """
    found = []
    for challenge, names in CONVENTIONS.items():
        dataset, images, output = (root / name for name in names)
        # An empty file is the mount point that an image has to bring along for Apptainer.
        if dataset.is_dir() or (dataset.is_file() and dataset.stat().st_size):
            found.append(Mounts(challenge, dataset, images, output))
    if len(found) != 1:
        expected = "; ".join(
            f"{challenge}: {', '.join(str(root / name) for name in names)}"
            for challenge, names in CONVENTIONS.items()
        )
        what = "two challenges' jsons are mounted" if found else "no challenge's json is mounted"
        raise InputError(f"{what}; mount the json, the images and the output of one of {expected}")
    mounts = found[0]
    if mounts.dataset.is_dir():
        raise InputError(
            f"{mounts.dataset}: is a folder, as docker makes it when the file to mount does not exist; "
            "check the source of the mount"
        )
    for folder, what in ((mounts.images, "images"), (mounts.output, "output")):
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; mount the {what} there")
    if not os.access(mounts.output, os.W_OK | os.X_OK):
        raise InputError(
            f"{mounts.output}: cannot be written by user {os.getuid()}:{os.getgid()}; start the container "
            "with --user $(id -u):$(id -g), or as root, or make the folder writable"
        )
    return mounts


def _fallback(said: str) -> bool:
    """Whether a failed pair gets the identity field."""
    if said not in ("", "identity", "none"):
        raise InputError(f"ITERREG_FALLBACK={said!r} is not understood; set it to identity or none")
    return said != "none"


class _OptionsParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"ITERREG_OPTIONS: {message}; it takes the options of `iterreg run`")


def _options(environment: Mapping[str, str]) -> argparse.Namespace:
    """The options of ``iterreg run`` that the environment asks for."""
    parser = _OptionsParser(prog="ITERREG_OPTIONS", add_help=False)
    add_batch_arguments(parser)
    options = parser.parse_args(shlex.split(environment.get("ITERREG_OPTIONS", "")))
    if options.out != parser.get_default("out"):
        raise InputError("ITERREG_OPTIONS: --out has no meaning here; keep the run with ITERREG_RUN")
    method = environment.get("ITERREG_METHOD", "").strip()
    if method and options.method:
        raise InputError("ITERREG_OPTIONS: names a method and so does ITERREG_METHOD; set one")
    options.method = [method] if method else options.method
    if options.method and len(options.method) > 1:
        raise InputError("a container submits one method; name one")
    return options


# -- where to write -----------------------------------------------------------------------------------


@contextmanager
def _hidden_folder(output: Path) -> Iterator[Path]:
    """The hidden folder of the output, held against a second container for the block.

    The claims an earlier container left in it are removed: it is gone, or it would hold the lock.
    """
    hidden = output / _HIDDEN
    with ExitStack() as stack:
        try:
            hidden.mkdir(exist_ok=True)
            lock = stack.enter_context((hidden / "lock").open("w"))
        except OSError as error:
            raise InputError(f"{hidden}: cannot be written ({error.strerror}); remove it") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{output}: another container is writing here; wait for its end") from None
        except OSError as error:  # some network file systems have no locks
            print(f"note: {hidden / 'lock'}: cannot be locked ({error.strerror})", file=sys.stderr)
        else:
            for pattern in ("run/*/jobs/*/claim-*", "run/.lock/claim-*"):
                for claim in hidden.glob(pattern):
                    claim.unlink(missing_ok=True)
        yield hidden


def _resumable(folder: Path) -> Path:
    """The run folder, emptied when what an earlier container left in it cannot be gone on from."""
    from iterreg.runs import RunFolder

    try:
        RunFolder(folder).read()
        print(f"going on from what an earlier container left in {folder}")
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def _writable_places(hidden: Path) -> None:
    """Point this process and its children to places they can write, whatever user they run as.

    It must come before numba is imported, which reads its settings once.
    """
    scratch = hidden / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    tempfile.tempdir = None
    try:
        # Python's last resort is the working directory, which is / in a container. Apptainer's --contain
        # gives a temporary folder of 64 MB.
        place = tempfile.gettempdir()
        usable = place != str(Path.cwd()) and shutil.disk_usage(place).free >= _TEMPORARY_BYTES
    except OSError:
        usable = False
    if not usable:
        scratch.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    if "NUMBA_CACHE_DIR" not in os.environ:
        # numba caches nothing where it cannot write, so an image's compiled kernels serve as a copy. Without
        # a home every job would compile its own.
        kernels, baked = hidden / "kernels", os.environ.get("ITERREG_KERNELS")
        with suppress(OSError):
            if baked and not kernels.exists():
                shutil.copytree(baked, kernels, copy_function=shutil.copyfile)
            kernels.mkdir(exist_ok=True)
        os.environ["NUMBA_CACHE_DIR"] = str(kernels)


# -- the work -----------------------------------------------------------------------------------------


def _register(mounts: Mounts, options: argparse.Namespace, fallback: bool) -> tuple[int, bool]:
    """Run the batch and deliver.

    Returns
    -------
    The exit code, and whether nothing is left that a restart could go on from.
    """
    from iterreg.cli.plan import print_plan
    from iterreg.dataset import open_dataset

    dataset = open_dataset(mounts.dataset, root=mounts.images)
    with session_from(options, dataset) as session:
        plan, folder = session.plan(dataset, methods_of(options)), session.folder
        print_plan(plan)
        sys.stdout.flush()
        summary = session.run(plan)
    if summary.left:
        print(f"interrupted: the same command goes on from {folder.path}", file=sys.stderr)
        return 130, False
    if summary.elsewhere:
        print(f"{summary.elsewhere} pairs are being computed by another process", file=sys.stderr)
        return 3, False
    return _deliver(plan, folder, mounts, fallback)


def _deliver(plan: Plan, folder: RunFolder, mounts: Mounts, fallback: bool) -> tuple[int, bool]:
    from iterreg.io.challenge import field_name
    from iterreg.runs.survey import survey

    arm = plan.arms[0].name
    names = [pair.name for pair in plan.dataset.pairs]
    entries = survey(folder, folder.read(), arms=[arm], pairs=names)
    # A pair that cannot be read now may have been done by an earlier container, from other images.
    refused = {planned.job.pair.name: planned.why for planned in plan.in_state("refused")}
    failed = {
        entry.pair: (entry, refused.get(entry.pair) or entry.why or "it has not ended")
        for entry in entries
        if not entry.is_usable or entry.pair in refused
    }
    for name in names:
        if name not in failed:
            _put(folder.arm(arm).job(name).field, mounts.output / field_name(name))
    _report_strangers(mounts.output, {field_name(name) for name in names})
    done = f"{len(names) - len(failed)} of {len(names)} pairs registered by {arm}"
    if not failed:
        print(f"{done}; {len(names)} fields in {mounts.output}")
        return 0, True
    print(f"FAILED: {len(failed)} of {len(names)} pairs", file=sys.stderr)
    _name_failures(folder, failed)
    if len(failed) == len(names):
        print("no pair could be registered: nothing is handed in; mend the cause above", file=sys.stderr)
        return 2, False
    if not fallback:
        print(f"{done}; the others have NO field (ITERREG_FALLBACK=none); a restart repeats them")
        return 2, False
    left = _fill(plan, set(failed), mounts.output)
    for sentence in left:
        print(f"  {sentence}", file=sys.stderr)
    print(
        f"ATTENTION: {len(failed) - len(left)} of {len(names)} fields in {mounts.output} are the IDENTITY, "
        f"not a registration: {', '.join(failed)}",
        file=sys.stderr,
    )
    print(f"{done}; {len(failed) - len(left)} identity fields stand in for pairs that failed")
    return (2, False) if left else (0, True)


def _put(field: Path, target: Path) -> None:
    """Make a finished field appear in the output whole; it takes no space twice where links exist."""
    from iterreg.jobs.atomic import atomic_path

    if target.exists() and target.samefile(field):  # renaming one link of a file over another does nothing
        return
    with atomic_path(target) as temporary:
        try:
            os.link(field, temporary)
        except OSError:
            shutil.copyfile(field, temporary)


def _fill(plan: Plan, failed: set[str], output: Path) -> list[str]:
    """Write the identity for every failed pair; return a sentence for each where even that is impossible."""
    from iterreg.field import DisplacementField
    from iterreg.io.challenge import field_name, write_field
    from iterreg.volume import Grid, read_grid

    impossible = []
    for pair in plan.dataset.pairs:
        if pair.name not in failed:
            continue
        try:
            fixed, moving = read_grid(pair.fixed.path), read_grid(pair.moving.path)
        except InputError as error:
            if plan.dataset.promised_shape is None:
                impossible.append(f"{field_name(pair.name)} cannot be written: {error}")
                continue
            fixed = moving = Grid(plan.dataset.promised_shape)
        write_field(output / field_name(pair.name), DisplacementField.identity(fixed, moving))
    return impossible


def _name_failures(folder: RunFolder, failed: Mapping[str, tuple[Entry, str]]) -> None:
    """Every failed pair with its reason, and the end of the first few logs: the run folder may be lost."""
    shown = 0
    for name, (entry, why) in failed.items():
        print(f"  {name}: {why}", file=sys.stderr)
        with suppress(OSError):
            if shown < _LOGS_SHOWN:
                lines = folder.arm(entry.arm).job(name).log.read_text(errors="replace").splitlines()
                print("\n".join(f"    | {line}" for line in lines[-_LOG_LINES:]), file=sys.stderr)
                shown += 1


def _report_strangers(output: Path, expected: set[str]) -> None:
    """Say what else lies in the output; nothing that iterreg did not make is removed."""
    strangers = sorted(
        path.name for path in output.iterdir() if path.name not in expected and path.name != _HIDDEN
    )
    if strangers:
        listed = ", ".join(strangers[:8]) + (" ..." if len(strangers) > 8 else "")
        print(f"note: {output} also holds what was there before, left as it is: {listed}", file=sys.stderr)
