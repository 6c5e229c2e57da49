"""Notes and warnings of a method reach terminal, record and report; files of one name are kept apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLUGIN = """
from pathlib import Path
from iterreg.field import DisplacementField
from iterreg.methods.base import Cost, Parameters, Registration

class Telling:
    name = "telling"
    distributions = ()
    def parameters(self, source):
        files = tuple(Path(part) for part in source.split("+"))
        texts = [path.read_text() for path in files]
        return Parameters("two", {"texts": texts}, files, ("own.txt: SomeKey is without effect",))
    def cost(self, parameters, fixed, moving):
        return Cost(50 * 2**20, 0.1)
    def environment(self, threads):
        return {}
    def warm(self):
        pass
    def register(self, task, parameters):
        field = DisplacementField.identity(task.fixed.grid, task.moving.grid)
        own = f"only {task.fixed.path.name}"
        return Registration(field, details={"warnings": ["the engine took a default", own]})
"""


def test_notes_warnings_and_files_of_one_name(make_lab: Callable[..., Any], tmp_path: Path) -> None:
    lab = make_lab("s00", "s01")
    (tmp_path / "telling_plugin.py").write_text(PLUGIN)
    info = tmp_path / "telling_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: telling-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[iterreg.methods]\ntelling = telling_plugin:Telling\n")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "par.txt").write_text(name)
    site = os.pathsep.join([str(tmp_path), str(lab.site)])
    source = f"telling:{tmp_path / 'first' / 'par.txt'}+{tmp_path / 'second' / 'par.txt'}"
    done = lab.run("--method", source, PYTHONPATH=site)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("note: own.txt: SomeKey is without effect") == 1
    assert said.count("telling-two: the engine took a default") == 1  # of two pairs that it warned of
    assert said.count("telling-two: only s00.nii.gz") == said.count("telling-two: only s01.nii.gz") == 1

    arm = lab.out / "telling-two"
    kept = {path.name: path.read_text() for path in (arm / "parameters").iterdir()}
    assert kept == {"par.txt": "first", "2-par.txt": "second"}
    sidecar = json.loads((arm / "fields" / "disp_s00_ref.json").read_text())
    assert sidecar["parameter_files"] == ["par.txt", "2-par.txt"]
    assert sidecar["details"]["warnings"] == ["the engine took a default", "only s00.nii.gz"]

    page = lab.root / "page.html"
    reported = lab.call([*lab.command()[:3], "report", str(lab.out), "--out", str(page)], PYTHONPATH=site)
    assert reported.returncode == 0, reported.stderr
    text = page.read_text()
    assert "SomeKey is without effect" in text
    assert "the engine took a default" in text
