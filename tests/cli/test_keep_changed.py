"""Results that other code made: done again or kept, and never mixed without a word, by an edited iterreg."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import iterreg
from iterreg.cli.main import main
from iterreg.methods import code

PAIRS = ("1001_1000", "1002_1000", "1003_1000")
MOVED = "field=DisplacementField.identity(fixed, moving)"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(4):
        array = np.random.default_rng(number).uniform(1, 200, (12, 10, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"brain_100{number}_0000.nii.gz")
    path = tmp_path / "pairs.csv"
    rows = [f"brain_100{number}_0000.nii.gz,brain_1000_0000.nii.gz" for number in (1, 2, 3)]
    path.write_text("\n".join(["fixed,moving", *rows]) + "\n")
    return path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an iterreg of its own."""
    package = Path(iterreg.__file__).parent
    place = tmp_path / "site"
    shutil.copytree(package, place / "iterreg", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def edit(site: Path) -> Callable[[str, str], None]:
    """Replace a text in the identity's module."""

    def replace(old: str, new: str) -> None:
        path = site / "iterreg" / "methods" / "identity.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        for one in (code.code_digest, code.shared_digest, code.modules, code._tree, code._file):
            one.cache_clear()

    return replace


@pytest.fixture
def digests_of_site(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The code that counts in this process is that of the site."""
    monkeypatch.setattr(code, "files", lambda _: site / "iterreg")
    caches = (code.code_digest, code.shared_digest, code.modules, code._tree, code._file)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def made_with(out: Path) -> dict[str, str]:
    with (out / "results.csv").open(newline="") as stream:
        return {row["pair"]: row["made_with"] for row in csv.DictReader(stream)}


@pytest.mark.slow
@pytest.mark.usefixtures("digests_of_site")
def test_what_other_code_made_is_told_wherever_it_is_used(
    table: Path, tmp_path: Path, edit: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def said(*arguments: str | Path, expected: int = 0) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == expected
        return "".join(capsys.readouterr())

    options = (table, "--out", out, "--method", "identity")
    said("run", *options, "-q")
    edit("cpu_seconds=1.0", "cpu_seconds=1.5")
    plan = said("plan", *options)
    assert "identity: 3 done with other software, to do again" in plan
    notes = [line for line in plan.splitlines() if "note" in line]
    assert notes == [
        "  note: 3 results made with other code of identity: done again, unless --keep-changed keeps them"
    ]
    part = said("run", *options, "--pairs", PAIRS[0], "-q", expected=1)
    assert "2 of its fields (1002_1000, 1003_1000) were made with other code of identity" in part
    assert "--keep-changed" in part
    assert said("status", out).splitlines()[1:] == ["  identity  3 done"], "nothing else was asked for yet"

    run = said("run", *options, "--keep-changed")
    assert "  note: 3 results made with other code of identity, kept by --keep-changed" in run
    assert "3 of 3 done" in run
    assert said("status", out).splitlines()[1:] == [
        "  identity  3 kept",
        "  kept identity: 3 results made with other code of identity",
    ]
    assert made_with(out) == dict.fromkeys(PAIRS, "other code of identity (kept)")

    said("run", *options, "--pairs", PAIRS[0], "-q")
    assert made_with(out) == {
        PAIRS[0]: "",
        PAIRS[1]: "other code of identity (kept)",
        PAIRS[2]: "other code of identity (kept)",
    }
    note = (
        "identity: 2 of its fields are kept that were made with other code of identity (1002_1000, 1003_1000)"
    )
    assert note in said("evaluate", out, "--cores", "1")
    assert f"note: {note}" in said("package", out, "--out", tmp_path / "fields.zip")
    assert note in said("compare", out)

    said("run", *options, "--seed", "2", "--keep-changed", "-q")
    assert made_with(out) == dict.fromkeys(PAIRS, "")
    assert "3 done" in said("status", out)
    assert json.loads((out / "run.json").read_text())["arms"]["identity"].get("kept") is None


@pytest.mark.usefixtures("digests_of_site")
def test_what_an_interrupted_redoing_leaves_is_changed(
    table: Path, tmp_path: Path, edit: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Some results are new, some are not: those are no results of the arm as it is."""
    out = tmp_path / "run"
    command = ["run", str(table), "--out", str(out), "--method", "identity", "-q"]
    assert main(command) == 0
    old = out / "identity" / "jobs" / PAIRS[1] / "status.json"
    before = old.read_text()
    edit("cpu_seconds=1.0", "cpu_seconds=1.5")
    capsys.readouterr()
    assert main(["plan", *command[1:-1]]) == 0
    assert "3 results made with other code of identity: done again, unless" in capsys.readouterr().out
    assert main(command) == 0
    old.write_text(before)
    capsys.readouterr()
    assert main(["status", str(out)]) == 2
    text = capsys.readouterr().out
    assert "2 done, 1 changed" in text
    assert f"changed identity/{PAIRS[1]}: " in text
    assert "was made with other code of identity" in text
    assert main(["package", str(out), "--out", str(tmp_path / "fields.zip")]) == 1
    assert "was made with other code of identity" in capsys.readouterr().err


@dataclass(frozen=True)
class Elsewhere:
    """The command line of an iterreg in another folder."""

    site: Path

    def __call__(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "iterreg", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(self.site)},
            cwd=self.site,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def shifts(out: Path) -> list[float]:
    """The mean displacement along x of every pair's field."""
    found = []
    for pair in PAIRS:
        image: Any = nib.load(out / "identity" / "fields" / f"disp_{pair}.nii.gz")
        found.append(float(np.asarray(image.dataobj)[..., 0].mean()))
    return found


@pytest.mark.slow
def test_a_corrected_method_makes_its_results_anew(
    table: Path, tmp_path: Path, site: Path, edit: Callable[[str, str], None]
) -> None:
    """The real thing: the package that runs is edited, and the fields tell by which code they were made."""
    out, call = tmp_path / "run", Elsewhere(site)
    options = ("run", table, "--out", out, "--method", "identity")
    call(*options, "-q")
    assert shifts(out) == [0, 0, 0]
    edit('"""The unregistered baseline', '"""Reworded: the unregistered baseline')
    assert "identity: 3 done\n" in call(*options)
    shifted = (
        "field=DisplacementField(\n                DisplacementField.identity(fixed, moving).vectors "
        "+ fixed.affine.dtype.type(2).astype('float32'), fixed, moving\n            )"
    )
    edit(MOVED, shifted)
    assert "kept by --keep-changed" in call(*options, "--keep-changed")
    assert shifts(out) == [0, 0, 0]
    call(*options, "--pairs", PAIRS[0])
    assert shifts(out) == [2, 0, 0]
    assert made_with(out)[PAIRS[0]] == ""
    assert "2 results made with other code of identity: done again" in call(*options)
    assert shifts(out) == [2, 2, 2]
    assert set(made_with(out).values()) == {""}
