"""The ``iterreg`` command as a whole: light, polite, and complete when installed from a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import iterreg
from iterreg.cli import main as command_line
from iterreg.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "SimpleITK", "ants", "antspyx", "itk", "joblib", "nibabel", "nilearn", "numba", "numpy", "scipy", "tqdm",
}  # fmt: skip


def call(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        **{"capture_output": True, "text": True, "check": False, "timeout": 600, **options},
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    done = call("-X", "importtime", "-m", "iterreg", *arguments, cwd=tmp_path)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "iterreg.cli.main" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


def test_importing_the_package_costs_nothing() -> None:
    code = "import iterreg, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    assert set(call("-c", code).stdout.split()) & HEAVY == set()


def test_public_names_come_when_they_are_asked_for() -> None:
    for name in iterreg.__all__:
        assert getattr(iterreg, name) is not None
    assert set(iterreg.__all__) <= set(dir(iterreg))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = iterreg.no_such_name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"iterreg {iterreg.__version__}\n"
    assert version("iterreg") == iterreg.__version__


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: iterreg {command} ")
    assert len(out.split("\n\n")) >= 3  # usage, description, options


def test_every_module_of_a_command_is_on_the_command_line() -> None:
    modules = {
        path.stem
        for path in Path(command_line.__file__).parent.glob("*.py")
        if "def add_parser(" in path.read_text()
    }
    assert modules == set(COMMANDS)


def test_the_installed_script_is_main() -> None:
    (script,) = entry_points(group="console_scripts", name="iterreg")
    assert script.load() is main


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "nowhere.json"],
        ["run", "nowhere.nii.gz", "nowhere_either.nii.gz"],
        ["plan", "nowhere.csv"],
        ["status", "nowhere"],
        ["package", "nowhere"],
        ["inspect", "nowhere.nii.gz"],
        ["convert", "nowhere.nii.gz", "disp_1_2.nii.gz", "--fixed", "nowhere.nii.gz"],
        ["warp", "--field", "nowhere.nii.gz", "--moving", "nowhere.nii.gz", "--out", "out.nii.gz"],
        ["methods", "syn:nowhere"],
        ["methods", "nowhere"],
        ["container", "--root", "nowhere"],
    ],
    ids=" ".join,
)
def test_refusal_is_one_sentence(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"iterreg {arguments[0]}: ")
    assert "nowhere" in sentence
    assert not list(tmp_path.iterdir()), "a refusal leaves nothing behind"


def test_refusal_shows_no_traceback(tmp_path: Path) -> None:
    done = call("-m", "iterreg", "check", "nowhere.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"iterreg check: .*nowhere\.json.*\n", done.stderr)


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, complaint in (
        (["regsiter"], "invalid choice: 'regsiter'"),
        ([], "COMMAND"),
        (["run"], "DATASET"),
        (["run", "a.json", "--cores", "0"], "--cores"),
        (["run", "a.json", "--memory", "much"], "'much' is not a size such as 12G"),
        (["run", "a.json", "--no-such-option"], "--no-such-option"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert complaint in capsys.readouterr().err


def test_python_dash_m(tmp_path: Path) -> None:
    done = call("-m", "iterreg", "methods", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert {"identity", "syn", "elastix"} <= set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["methods"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(arguments: list[str]) -> None:
    """As in ``iterreg methods | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    try:
        done = call("-m", "iterreg", *arguments, capture_output=False, stdout=writing, stderr=-1, env=env)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_wheel(tmp_path: Path) -> None:
    """A wheel of the checkout carries all of the package and the presets, and finds them where it lies."""
    source, wheels, target = tmp_path / "source", tmp_path / "wheels", tmp_path / "target"
    if (
        not shutil.which("git")
        or subprocess.run(["git", "clone", "-q", ROOT, source], check=False).returncode
    ):
        pytest.skip("needs a git checkout, to clone it: building in place would leave files there")
    pip = ["-m", "pip", "--disable-pip-version-check"]
    asked = call(*pip, "install", "--dry-run", "--no-deps", "--ignore-installed", "setuptools>=69")
    isolation = []
    if asked.returncode:
        # Without an index an installed setuptools will do, if it builds wheels by itself.
        if _version_of("setuptools") < (70, 1):
            pytest.skip(f"the package index cannot be reached: {asked.stderr.strip()[-200:]}")
        isolation = ["--no-build-isolation"]
    built = call(*pip, "wheel", source, "--no-deps", *isolation, "--wheel-dir", wheels)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())

    sources = {
        str(path.relative_to(source / "iterreg"))
        for path in (source / "iterreg").rglob("*")
        if path.is_file()
    }
    presets = {
        str(path.relative_to(source / "parameter_files"))
        for path in (source / "parameter_files").rglob("*")
        if path.is_file()
    }
    assert "py.typed" in sources
    assert {name for name in presets if name.endswith((".toml", ".txt"))}
    inside = sources | {f"parameter_files/{name}" for name in presets}
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == {f"iterreg/{name}" for name in inside}

    installed = call(*pip, "install", "--no-deps", "--target", target, wheel)
    assert installed.returncode == 0, installed.stderr
    env = {**os.environ, "PYTHONPATH": str(target)}
    where = call("-c", "import iterreg; print(iterreg.__file__)", cwd=tmp_path, env=env).stdout
    assert Path(where.strip()).is_relative_to(target)
    listed = call("-m", "iterreg", "methods", cwd=tmp_path, env=env)
    assert listed.returncode == 0, listed.stderr
    shown = set(listed.stdout.split())
    for name in presets:
        method, _, file = name.partition("/")
        if file:
            assert f"{method}:{Path(file).stem}" in shown


def _version_of(distribution: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in re.findall(r"\d+", version(distribution))[:2])
    except ModuleNotFoundError:
        return ()
