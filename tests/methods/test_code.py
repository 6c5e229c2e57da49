"""Digests of code: what they cover, what they pass over, and that they are the same everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import iterreg
from iterreg.methods import code

PACKAGE = Path(iterreg.__file__).parent
ROOTS = {
    "identity": ("iterreg.methods.identity",),
    "syn": ("iterreg.methods.syn",),
    "elastix": ("iterreg.methods.elastix",),
    "lddmm": ("iterreg.methods.lddmm", "iterreg.lddmm"),
}
PROBE = """
import json
from iterreg.batch.arms import parse_arm
print(json.dumps({name: dict(parse_arm(name).software) for name in ("identity", "syn", "elastix", "lddmm")}))
"""


def forget() -> None:
    for one in (code.code_digest, code.shared_digest, code.modules, code._tree, code._file):
        one.cache_clear()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of iterreg's source, which the digests are of."""
    place = tmp_path / "elsewhere" / "iterreg"
    shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    monkeypatch.setattr(code, "files", lambda _: place)
    return place


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    """Nothing that was digested here is taken for iterreg's own elsewhere."""
    yield
    forget()


def digests() -> dict[str, str]:
    forget()
    return {
        "shared": code.shared_digest(),
        **{name: code.code_digest(*roots) for name, roots in ROOTS.items()},
    }


def digest_of_identity() -> str:
    forget()
    return code.code_digest(*ROOTS["identity"])


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)


def append(text: str) -> Callable[[str], str]:
    return lambda before: f"{before}\n{text}\n"


@pytest.mark.parametrize(
    ("name", "shaped"),
    [
        ("kernels.flow", {"lddmm"}),
        ("kernels.lncc", {"lddmm"}),
        ("lddmm.similarity.ssd", {"lddmm"}),
        ("lddmm.tissue", {"lddmm"}),
        ("methods.lddmm", {"lddmm"}),
        ("methods.syn_settings", {"syn"}),
        ("methods.ants_engine", {"syn"}),
        ("methods.cropping", {"syn"}),
        ("io.itk", {"syn"}),
        ("methods.elastix_parameters", {"elastix"}),
        ("methods.itk_grid", {"syn", "elastix"}),
        ("dataset.suitability", {"lddmm", "syn", "elastix"}),
        ("methods.identity", {"identity"}),
        ("volume", {"shared"}),
        ("field", {"shared"}),
        ("io.challenge", {"shared"}),
        ("kernels.inversion", {"shared"}),
        ("kernels.first_use", set()),
        ("methods.usable", set()),
        ("methods.code", set()),
        ("dataset.bids", set()),
        ("evaluation.overlap", set()),
        ("batch.plan", set()),
        ("cli.run", set()),
        ("__init__", set()),
    ],
)
def test_a_module_counts_for_the_methods_it_shapes(name: str, shaped: set[str]) -> None:
    shared = code.modules("iterreg.volume", "iterreg.io.challenge")
    counted = {method: code.modules(*roots) - shared for method, roots in ROOTS.items()} | {"shared": shared}
    assert {method for method, modules in counted.items() if f"iterreg.{name}" in modules} == shaped


def test_an_edited_kernel_is_other_code_of_its_method_alone(copy: Path) -> None:
    before = digests()
    edit(copy / "kernels/flow.py", append("def more():\n    return 1"))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {"lddmm"}


@pytest.mark.parametrize(
    "change",
    [
        append("# a comment"),
        append('"""A text that stands alone."""'),
        lambda text: text.replace('"""Zero displacement in the world, the', '"""No displacement, the'),
        lambda text: text.replace("    def warm(self)", "\n\n\n    def warm(self)  "),
        lambda text: text.replace("cpu_seconds=1.0)", "cpu_seconds=(  1.0 ),)"),
        append("if TYPE_CHECKING:\n    import iterreg.lddmm.tissue"),
    ],
    ids=["comment", "text", "docstring", "blank lines", "brackets", "for checkers"],
)
def test_words_and_spaces_undo_nothing(change: Callable[[str], str], copy: Path) -> None:
    before = digest_of_identity()
    edit(copy / "methods/identity.py", change)
    assert digest_of_identity() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("30 * fixed.size", "31 * fixed.size"),
        ("identity(fixed, moving)", "identity(moving, fixed)"),
        ("if task.inverse else None", "if not task.inverse else None"),
        ("Registration(\n", "Registration(\n            momentum=None,\n"),
    ],
)
def test_what_python_would_do_otherwise_counts(old: str, new: str, copy: Path) -> None:
    before = digest_of_identity()
    edit(copy / "methods/identity.py", lambda text: text.replace(old, new))
    assert digest_of_identity() != before


def test_a_new_helper_counts_as_soon_as_it_is_imported(copy: Path) -> None:
    (copy / "kernels/helper.py").write_text("FACTOR = 2\n")
    before = digest_of_identity()
    edit(copy / "methods/identity.py", append("def late():\n    from iterreg.kernels import helper"))
    imported = digest_of_identity()
    (copy / "kernels/helper.py").write_text("FACTOR = 3\n")
    assert len({before, imported, digest_of_identity()}) == 3


def software(place: Path | None, **environment: str) -> dict[str, Mapping[str, str]]:
    """What another process says, with iterreg imported from another place."""
    variables = {**os.environ, **environment}
    if place is not None:
        variables["PYTHONPATH"] = str(place)
    probe = f"{PROBE}\nimport iterreg, sys\nprint(iterreg.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=variables, capture_output=True, text=True, check=True, cwd="/"
    )
    said, where = done.stdout.splitlines()
    assert place is None or where.startswith(str(place)), where
    found: dict[str, Mapping[str, str]] = json.loads(said)
    return found


def test_every_process_and_every_place_says_the_same(copy: Path) -> None:
    here = software(None, PYTHONHASHSEED="1")
    assert software(copy.parent, PYTHONHASHSEED="2") == here
    assert {name: here[name][f"code of {name}"] for name in ROOTS} == {
        name: digests()[name] for name in ROOTS
    }
    assert str(copy.parent) not in json.dumps(here)


@pytest.mark.slow
def test_an_installed_wheel_says_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        PACKAGE.parent,
        source,
        ignore=shutil.ignore_patterns(".venv", ".git", "build", "*.egg-info", ".*_cache"),
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True
    )
    assert software(site) == software(None)


def test_all_that_lddmm_loads_to_compute_with_counts() -> None:
    """What is imported to register, but for the rooms that shape nothing, is covered."""
    probe = (
        "import sys\n"
        "import iterreg.lddmm.registration, iterreg.io.challenge\n"
        "print(*(name for name in sys.modules if name.startswith('iterreg.')))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not hasattr(sys.modules.get(name), "__path__")}
    counted = code.modules(*ROOTS["lddmm"], "iterreg.volume", "iterreg.io.challenge")
    packages = {"iterreg.dataset", "iterreg.io", "iterreg.jobs", "iterreg.kernels"}
    missed = {name for name in loaded - counted - packages if not code._shapes_nothing(name)}
    # What opens a data set comes with its package and is not used.
    assert {name for name in missed if not name.startswith("iterreg.dataset.")} == set()
