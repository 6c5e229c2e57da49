"""The container's entry point, run for real in a mimicked mount tree: as a stranger, nothing writable."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from iterreg.cli.container import find_mounts
from iterreg.cli.main import main
from iterreg.errors import InputError

SHAPE = (12, 13, 14)
STRANGER = 12345
_ROLES = ("fixed", "moving")
LAYOUTS = {
    "LUMIR24": ("LUMIR_dataset.json", "input", "output"),
    "LUMIR25": ("app/LUMIR25_dataset.json", "app/input", "app/output"),
}


def official_name(entry: Mapping[str, str]) -> str:
    """The evaluator's own rule, by string positions."""
    fix, mov = entry["fixed"], entry["moving"]
    fix_id, fix_mod, mov_id, mov_mod = fix[-16:-12], fix[-11:-7], mov[-16:-12], mov[-11:-7]
    if fix_mod == mov_mod or (fix_mod == "0000" and mov_mod == "0001"):
        return f"disp_{fix_id}_{mov_id}.nii.gz"
    return f"disp_{fix_id}_{fix_mod}_{mov_id}_{mov_mod}.nii.gz"


@dataclass(frozen=True)
class Tree:
    """A folder that stands for / of a container, with a data set of a few tiny images."""

    root: Path
    challenge: str

    @property
    def dataset(self) -> Path:
        return self.root / LAYOUTS[self.challenge][0]

    @property
    def images(self) -> Path:
        return self.root / LAYOUTS[self.challenge][1] / "imagesVal"

    @property
    def output(self) -> Path:
        return self.root / LAYOUTS[self.challenge][2]

    def image(self, name: str) -> Path:
        return self.images / f"LUMIRMRI_{name}.nii.gz"

    def mount(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Write the images and the json; return the files the evaluator will look for, sorted."""
        self.images.mkdir(parents=True)
        self.output.mkdir(parents=True)
        self.output.chmod(0o777)
        for number, name in enumerate(sorted({name for pair in pairs for name in pair})):
            self.write_image(name, number)
        listed = [
            {role: f"./imagesVal/LUMIRMRI_{name}.nii.gz" for role, name in zip(_ROLES, pair, strict=True)}
            for pair in pairs
        ]
        content = {"name": "LUMIR", "tensorImageShape": {"0": list(SHAPE)}, "validation": listed}
        self.dataset.write_text(json.dumps(content))
        return sorted(map(official_name, listed))

    def write_image(self, name: str, seed: int) -> None:
        values = np.random.default_rng(seed).random(SHAPE, dtype=np.float32) * 255
        nib.save(nib.Nifti1Image(values, np.eye(4)), self.image(name))

    def in_output(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir())


def _reachable(name: str) -> Path:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix=f"iterreg-test-{name}-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = _reachable("container")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@cache
def as_stranger() -> tuple[str, ...]:
    """What to put before a command so that it runs as a user that owns nothing and has no name.

    Root may have its interpreter where others may not look: the right to read (not to write) is kept then.
    """
    if os.getuid() != 0:
        return ()
    user = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    for prefix in (user, (*user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")):
        try:
            if (
                subprocess.run([*prefix, "env", sys.executable, "-c", ""], capture_output=True).returncode
                == 0
            ):
                return prefix
        except FileNotFoundError:
            break
    pytest.skip("root cannot become another user here: setpriv (util-linux) is needed")


def contain(
    tree: Tree, *, prefix: Sequence[str] = (), root: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the entry point as a container does: no arguments but the stand-in for /, a bare environment."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "iterreg", "container", "--root", str(root or tree.root)],
        cwd="/",
        env={"PATH": os.environ["PATH"], "ITERREG_METHOD": "identity", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@dataclass(frozen=True)
class Finished:
    """A container that has run: its tree, the files expected of it, how it ended, and the folders it had."""

    tree: Tree
    expected: list[str]
    ended: subprocess.CompletedProcess[str]
    temporary: Path
    kernels: Path


@pytest.fixture(scope="module")
def homeless() -> Iterator[Finished]:
    """LUMIR25's way: ``--user $(id -u):$(id -g)``, no home. Its kernels are kept, as by an image's build."""
    folder = _reachable("homeless")
    temporary, kernels = folder / "tmp", folder / "kernels"
    for writable in (temporary, kernels):
        writable.mkdir()
        writable.chmod(0o777)
    tree = Tree(folder, "LUMIR25")
    expected = tree.mount(
        [("3455_0000", "3454_0000"), ("4024_0000", "4033_0001"), ("4033_0001", "4024_0000")]
    )
    environment = {"HOME": "/nonexistent", "TMPDIR": str(temporary), "NUMBA_CACHE_DIR": str(kernels)}
    ended = contain(tree, prefix=as_stranger(), **environment)
    subprocess.run(["chmod", "-R", "a+rX", str(kernels)], check=True)
    yield Finished(tree, expected, ended, temporary, kernels)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_stranger_without_a_home_fills_the_output(homeless: Finished) -> None:
    tree, ended = homeless.tree, homeless.ended
    assert ended.returncode == 0, ended.stderr
    assert homeless.expected[-1] == "disp_4033_0001_4024_0000.nii.gz"
    assert tree.in_output() == homeless.expected
    assert "LUMIR25" in ended.stdout
    assert "3 of 3 pairs registered" in ended.stdout
    for name in homeless.expected:
        field = nib.load(tree.output / name)
        assert field.shape == (*SHAPE, 3)
        assert not np.asanyarray(field.dataobj).any()
    assert list(homeless.temporary.iterdir()) == []


def test_a_sealed_container_works_in_its_output_with_the_kernels_of_its_image(
    homeless: Finished, open_folder: Path
) -> None:
    """LUMIR24's way, with a home and temporary folders that can only be read."""
    shutil.copytree(homeless.kernels, open_folder / "kernels")
    (open_folder / "home").mkdir(mode=0o555)
    tree = Tree(open_folder, "LUMIR24")
    expected = tree.mount([("3455_0000", "3454_0000"), ("3456_0000", "3455_0000")])
    whole = tree.image("3456_0000").read_bytes()
    tree.image("3456_0000").write_bytes(whole[:-2000])  # this pair fails, so that the hidden folder stays
    sealed, root = _sealed(open_folder)
    environment = {
        "HOME": str(root / "home"),
        "ITERREG_KERNELS": str(root / "kernels"),
        "NUMBA_DEBUG_CACHE": "1",
    }

    ended = contain(tree, prefix=(*sealed, *as_stranger()), root=root, ITERREG_FALLBACK="none", **environment)
    assert ended.returncode == 2, ended.stderr
    assert tree.in_output() == [".iterreg", expected[0]]
    log = (tree.output / ".iterreg" / "run" / "identity" / "jobs" / "3455_3454" / "log.txt").read_text()
    assert "[cache] data loaded from" in log
    assert "[cache] data saved to" not in log  # nothing was compiled anew
    if sealed:
        assert (tree.output / ".iterreg" / "scratch").is_dir()

    ended = contain(tree, prefix=(*sealed, *as_stranger()), root=root, **environment)
    assert ended.returncode == 0, ended.stderr
    assert "1 identity fields stand in" in ended.stdout
    assert tree.in_output() == expected
    assert list((open_folder / "home").iterdir()) == []


def _sealed(root: Path) -> tuple[tuple[str, ...], Path]:
    """A prefix that runs a command where no temporary folder can be written, and where `root` lies then."""
    inside = Path("/mnt")
    # Read-only, not hidden: the interpreter may itself lie in a temporary folder, as CI's does.
    closed = " && ".join(
        f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
        for folder in ("/tmp", "/var/tmp")
    )
    script = f'mount --bind "$0" {inside} && {closed} && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, str(root))
    try:
        works = inside.is_dir() and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        works = False
    return (prefix, inside) if works else ((), root)


def test_failed_pairs_are_named_and_a_restart_repeats_only_them(
    homeless: Finished, open_folder: Path
) -> None:
    tree = Tree(open_folder, "LUMIR24")
    expected = tree.mount(
        [("3455_0000", "3454_0000"), ("3456_0000", "3455_0000"), ("3457_0000", "3456_0000")]
    )
    whole = tree.image("3457_0000").read_bytes()
    tree.image("3457_0000").write_bytes(whole[:-2000])  # a good header before half an image
    claim = tree.output / ".iterreg" / "run" / "identity" / "jobs" / "3455_3454" / "claim-0001"
    # A relative --root: jobs run in folders of their own, and must find their kernels all the same.
    root = tree.root.relative_to("/")
    environment = {"ITERREG_FALLBACK": "none", "ITERREG_KERNELS": str(homeless.kernels)}
    done = contain(tree, root=root, **environment, NUMBA_DEBUG_CACHE="1")
    assert done.returncode == 2
    assert "FAILED: 1 of 3 pairs" in done.stderr
    assert "3457_3456: bad input: " in done.stderr
    assert tree.in_output() == [".iterreg", *expected[:2]]

    assert "[cache] data saved to" not in claim.with_name("log.txt").read_text()

    # The restart finds a claim of a container that was killed a moment ago on another host.
    claim.write_text(json.dumps({"host": "another", "pid": 1, "start": "x"}))
    written = (tree.output / expected[0]).stat().st_mtime_ns
    tree.image("3457_0000").write_bytes(whole)
    done = contain(tree, root=root, **environment)
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stdout
    assert "2 done, 1 to do again" in done.stdout
    assert tree.in_output() == expected
    assert (tree.output / expected[0]).stat().st_mtime_ns == written


def test_the_identity_stands_in_for_a_failed_pair_loudly(homeless: Finished, open_folder: Path) -> None:
    tree = Tree(open_folder, "LUMIR25")
    expected = tree.mount(
        [("3455_0000", "3454_0000"), ("3456_0000", "3455_0000"), ("3457_0000", "3455_0000")]
    )
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), tree.image("3456_0000"))
    tree.image("3457_0000").write_bytes(b"not an image")
    (tree.output / "notes.txt").write_text("the user's own")
    run = open_folder / "run"
    done = contain(tree, ITERREG_RUN=str(run), ITERREG_KERNELS=str(homeless.kernels))
    assert done.returncode == 0, done.stderr
    assert tree.in_output() == [*expected, "notes.txt"]
    assert "2 of 3 fields in" in done.stderr
    assert "are the IDENTITY, not a registration: 3456_3455, 3457_3455" in done.stderr
    assert "is constant" in done.stderr
    assert "notes.txt" in done.stderr
    for name in expected[1:]:
        field = nib.load(tree.output / name)
        assert field.shape == (*SHAPE, 3)
        assert field.get_data_dtype() == np.float32
        assert not np.asanyarray(field.dataobj).any()
    # The run was asked to be kept, and packing it does not take the stand-ins for results.
    assert (run / "results.csv").is_file()
    assert main(["package", str(run), "--out", str(open_folder / "x.zip")]) == 1


def test_nothing_is_handed_in_when_no_pair_could_be_registered(homeless: Finished, open_folder: Path) -> None:
    tree = Tree(open_folder, "LUMIR25")
    tree.mount([("3455_0000", "3454_0000")])
    tree.image("3454_0000").unlink()
    done = contain(tree, ITERREG_KERNELS=str(homeless.kernels))
    assert done.returncode == 2
    assert "no pair could be registered" in done.stderr
    assert "LUMIRMRI_3454_0000.nii.gz: there is no such file" in done.stderr
    assert tree.in_output() == [".iterreg"]


# -- refused before any work --------------------------------------------------------------------------


def test_the_mounts_of_both_challenges_are_recognised(tmp_path: Path) -> None:
    for challenge in LAYOUTS:
        tree = Tree(tmp_path / challenge, challenge)
        tree.mount([("3455_0000", "3454_0000")])
        mounts = find_mounts(tree.root)
        assert (mounts.challenge, mounts.dataset) == (challenge, tree.dataset)
        assert (mounts.images, mounts.output) == (tree.images.parent, tree.output)


def test_mounts_that_are_missing_or_wrong_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no challenge's json is mounted.*LUMIR24.*LUMIR25"):
        find_mounts(tmp_path)
    tree = Tree(tmp_path, "LUMIR24")
    tree.dataset.touch()
    with pytest.raises(InputError, match="no challenge's json is mounted"):
        find_mounts(tmp_path)
    tree.dataset.unlink()
    tree.dataset.mkdir()
    with pytest.raises(InputError, match="is a folder, as docker makes it"):
        find_mounts(tmp_path)
    tree.dataset.rmdir()
    tree.dataset.write_text("{}")
    with pytest.raises(InputError, match="mount the images there"):
        find_mounts(tmp_path)
    tree.images.parent.mkdir()
    with pytest.raises(InputError, match="mount the output there"):
        find_mounts(tmp_path)
    Tree(tmp_path, "LUMIR25").mount([("3455_0000", "3454_0000")])
    with pytest.raises(InputError, match="two challenges' jsons"):
        find_mounts(tmp_path)


def test_an_output_of_another_user_is_refused_before_any_work(open_folder: Path) -> None:
    tree = Tree(open_folder, "LUMIR24")
    tree.mount([("3455_0000", "3454_0000")])
    tree.output.chmod(0o555)
    done = contain(tree, prefix=as_stranger())
    assert done.returncode == 1
    assert f"{tree.output}: cannot be written by user" in done.stderr
    assert "--user" in done.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ITERREG_FALLBACK": "zero"}, "ITERREG_FALLBACK='zero' is not understood"),
        ({"ITERREG_OPTIONS": "--out elsewhere"}, "--out has no meaning here"),
        ({"ITERREG_OPTIONS": "--timeout soon"}, "'soon' is not a duration"),
        ({"ITERREG_OPTIONS": "--first 3"}, "unrecognized arguments"),
        ({"ITERREG_METHOD": "identity", "ITERREG_OPTIONS": "-m syn"}, "names a method and so does"),
        ({"ITERREG_OPTIONS": "-m identity -m syn"}, "a container submits one method"),
    ],
)
def test_settings_that_are_not_understood_are_refused(
    variables: dict[str, str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = Tree(tmp_path, "LUMIR25")
    tree.mount([("3455_0000", "3454_0000")])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["container", "--root", str(tmp_path)]) == 1
    assert sentence in capsys.readouterr().err
    assert tree.in_output() == []


def test_a_second_container_on_one_output_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path, "LUMIR25")
    tree.mount([("3455_0000", "3454_0000")])
    (tree.output / ".iterreg").mkdir()
    with (tree.output / ".iterreg" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["container", "--root", str(tmp_path)]) == 1
    assert "another container is writing here" in capsys.readouterr().err
