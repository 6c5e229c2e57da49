"""Every command and snippet in the documents is run.

A document is one test: one shell session in one folder, which holds what its text takes as given
(`GIVEN`) and nothing else. All that stands after ``$`` in its ``console`` blocks and all its ``python``
blocks are run in the document's order and must succeed; lines of output that a document shows must come.
A command that is meant to fail says so itself, ``… || echo "as it should be"``. What cannot be run as it
stands is listed in `NOT_RUN` and `SHORTENED`, with the reason; a new command is run, or its test fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from iterreg.cli import container
from iterreg.cli.main import COMMANDS, build_parser
from iterreg.dataset import demo, open_dataset
from iterreg.io import icon, torch_grid
from iterreg.io.challenge import read_field, write_field
from iterreg.io.itk import write_warp
from iterreg.methods import presets
from iterreg.methods.registry import available
from iterreg.volume import read_grid

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "docs/*.md", "docker/*.md", "benchmarks/*.md", "parameter_files/**/*.md")
    for path in ROOT.glob(pattern)
)
SLOW = {
    "README.md",
    "benchmarks/README.md",
    "docs/evaluation.md",
    "docs/networks.md",
    "docs/report.md",
    "docs/statistics.md",
    "docs/submission.md",
}
"""Documents whose commands take more than some ten seconds of CPU."""

INSTALL = "python3 -m pip install -e '.[demo]' && iterreg demo"
DEVELOP = "python3 -m pip install -e '.[dev]' && python3 -m pytest"

NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", INSTALL): "test_the_first_command runs it from nothing",
    ("README.md", DEVELOP): "it is what .ci/run does, test_ci_runs_the_second_command",
    ("benchmarks/README.md", "git clone https://github.com/"): "fetches other people's data",
    ("benchmarks/README.md", "cd malf.templates/inst/extdata && sha256sum "): "checks the data just fetched",
    ("docker/README.md", "docker build "): "needs a container engine, test_container_commands_fit",
    ("docker/README.md", "docker save "): "needs a container engine",
    ("docker/README.md", "docker run "): "needs a container engine, test_container_commands_fit",
    ("docker/README.md", "apptainer build "): "needs a container engine, test_container_commands_fit",
    ("docker/README.md", "apptainer run "): "needs a container engine, test_container_commands_fit",
    ("docker/README.md", "apptainer exec "): "needs a container engine",
}
"""(document, beginning of commands) that no test can run here: the reason."""

SHORTENED: Mapping[tuple[str, str, str], str] = {
    (
        "README.md",
        "iterreg run   LUMIR25_dataset.json --root DATA -m syn:cheap -m elastix ",
        "iterreg run   LUMIR25_dataset.json --root DATA -m syn:cheap -m elastix:first.txt ",
    ): "the presets of elastix draw so many samples that they take minutes however small the images",
    (
        "README.md",
        "> mine.toml",
        "> mine.toml && sed -i 's/^iterations = .*/iterations = [20, 10, 5, 2]/' mine.toml",
    ): "the file is there to be changed, and syn:strong takes 40 s of CPU even on tiny images",
    (
        "benchmarks/README.md",
        "iterreg prepare ",
        "iterreg prepare --template template.nii.gz ",
    ): "the default template is at full size, where aligning eight scans takes eight minutes of CPU",
    (
        "benchmarks/README.md",
        "ITERREG_DATA=ITERREG_DATA python ITERREG/benchmarks/oasis.py",
        "iterreg run ITERREG_DATA/oasis/OASIS_dataset.json -m identity --out runs && "
        "ITERREG_DATA=ITERREG_DATA python ITERREG/benchmarks/oasis.py "
        "--report-only --out runs --results results",
    ): "takes six hours, and must leave the checkout's own results alone",
    (
        "docs/submission.md",
        "--method syn:strong",
        "--method identity",
    ): "syn:strong takes 40 s of CPU a pair even on tiny images",
}
"""(document, text in its commands, what runs instead): the reason."""

SHOWN_ONLY = {"", "text", "csv", "dockerfile"}
"""Kinds of blocks that hold nothing to run: trees of files, diagrams, files to write."""

FOREIGN_OPTIONS = {"--user", "--read-only", "--ipc"}
"""Options in the prose that are not iterreg's but docker's."""


# -- what a document holds -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Snippet:
    """Something to run: a shell command, with the lines of output shown below it, or Python."""

    line: int
    kind: str
    text: str
    output: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The text without the comment at its end."""
        return re.sub(r"\s+#\s.*$", "", self.text).strip()


def snippets(text: str) -> list[Snippet]:
    """All there is to run, in order.

    Raises
    ------
    ValueError
        If something looks like a command but stands where it would not be run.
    """
    found: list[Snippet] = []
    for kind, start, lines in blocks(text):
        if kind == "console":
            found += commands(start, lines)
        elif kind == "python":
            found.append(Snippet(start, kind, "\n".join(lines)))
        elif kind == "json":
            json.loads("\n".join(lines))
        elif kind in SHOWN_ONLY | {"prose"}:
            for number, line in enumerate(lines, start):
                if re.match(r"\s*\$ ", line):
                    raise ValueError(f"line {number}: a command outside a console block: {line.strip()}")
        else:
            raise ValueError(
                f"line {start}: blocks of {kind!r} are not run; commands belong in console blocks"
            )
    return found


def blocks(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Kind, first line's number and lines of every fenced block, and of the prose between them."""
    kind, start, lines, indent, fence = "prose", 1, [], 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        opening = re.match(r"( *)(```+|~~~+)\s*(\S*)", line)
        if fence and line.strip() == fence:
            yield kind, start, lines
            kind, start, lines, indent, fence = "prose", number + 1, [], 0, ""
        elif opening and not fence:
            yield kind, start, lines
            indent, fence, kind = len(opening[1]), opening[2], opening[3]
            start, lines = number + 1, []
        else:
            lines.append(line[indent:] if not line[:indent].strip() else line)
    if fence:
        raise ValueError(f"line {start}: a block of {kind!r} is not closed")
    yield kind, start, lines


def commands(start: int, lines: list[str]) -> Iterator[Snippet]:
    """The commands of a console block: a line after ``$``, those that continue it, and its output."""
    current: list[str] = []
    output: list[str] = []
    begun = start
    for number, line in enumerate([*lines, "$ "], start):
        if line.startswith("$ "):
            if current:
                yield Snippet(begun, "console", "\n".join(current), tuple(output))
            current, output, begun = [line[2:]], [], number
        elif current and current[-1].endswith("\\") and not output:
            current.append(line.removeprefix("> "))
        elif line.strip():
            if not current:
                raise ValueError(f"line {number}: output of no command: {line}")
            output.append(line)


def inline_code(text: str) -> Iterator[str]:
    """What stands between backticks in the prose, on one line."""
    for kind, _, lines in blocks(text):
        if kind == "prose":
            for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
                yield from (" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", paragraph))


# -- running it ----------------------------------------------------------------------------------------


class DocumentError(AssertionError):
    """A command or snippet of a document does not do what the document says."""


def run_document(name: str, text: str, sandbox: Path, *, timeout: float = 1500) -> None:
    """Run everything of a document in one shell, as a reader would.

    Raises
    ------
    DocumentError
        With the line, the command and the end of its output.
    """
    found = [s for s in snippets(text) if not excused(name, s)]
    if not found:
        return
    tools = sandbox.with_name(f"{sandbox.name}-tools")
    tools.mkdir()
    script = ["set -o pipefail", 'leave_unless_zero() { [ "$1" -eq 0 ] || exit "$1"; }']
    for number, snippet in enumerate(found):
        script.append(f"echo; echo '<<{tools.name} {number}>>'")
        if snippet.kind == "python":
            path = tools / f"line_{snippet.line}.py"
            path.write_text(snippet.text)
            script.append(f"python {shlex.quote(str(path))}")
        else:
            script.append(shortened(name, snippet.text))
        script.append("leave_unless_zero $?")
    (tools / "session.sh").write_text("\n".join([*script, ""]))
    log = tools / "output.txt"
    code = run_shell(["bash", str(tools / "session.sh")], sandbox, log, environment(tools), timeout)
    outputs = re.split(rf"\n?<<{re.escape(tools.name)} \d+>>\n", log.read_text(errors="replace"))[1:]
    for snippet, output in zip(found, outputs, strict=False):
        is_last = snippet is found[len(outputs) - 1]
        missing = [line for line in snippet.output if not shows(line, output)]
        problem = ""
        if is_last and code:
            problem = "did not end in time" if code == TIMED_OUT else f"ended with exit code {code}"
        elif missing:
            problem = f"does not print {missing[0]!r}"
        if problem:
            end = "\n".join(output.splitlines()[-40:])
            raise DocumentError(f"{name}, line {snippet.line}: {problem}:\n  {snippet.text}\n{end}")
    if len(outputs) < len(found):
        raise DocumentError(f"{name}, line {found[len(outputs) - 1].line}: ends the session")


def excused(name: str, snippet: Snippet) -> list[tuple[str, str]]:
    """The entries of `NOT_RUN` that it comes under."""
    return [entry for entry in NOT_RUN if entry[0] == name and snippet.command.startswith(entry[1])]


TIMED_OUT = -1000


def run_shell(command: list[str], cwd: Path, log: Path, env: Mapping[str, str], timeout: float) -> int:
    """Run with all output in `log`; nothing is left running, whatever happens."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def environment(tools: Path) -> dict[str, str]:
    """This interpreter's ``python`` and ``iterreg`` come first, whatever else is installed."""
    for name, arguments in (("python", ""), ("python3", ""), ("iterreg", "-m iterreg")):
        path = tools / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        path.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ITERREG_")}
    return {**kept, "PATH": os.pathsep.join([str(tools / "bin"), os.environ.get("PATH", os.defpath)])}


def shortened(name: str, text: str) -> str:
    for document, old, new in SHORTENED:
        if document == name:
            text = text.replace(old, new)
    return text


def shows(line: str, output: str) -> bool:
    """Whether a line of output occurs; … stands for anything."""
    pattern = re.sub(r"…|\\\.\\\.\\\.", ".*", re.escape(line.rstrip()))
    return any(re.fullmatch(pattern, candidate.rstrip()) for candidate in output.splitlines())


# -- what the documents take as given ------------------------------------------------------------------

Provider = Callable[[Path, Path], None]


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic people of 40 x 56 x 48 voxels of 4 mm, with labels and the truth between them."""
    pytest.importorskip("nilearn", reason='needs nilearn: pip install "iterreg[demo]"')
    folder = tmp_path_factory.mktemp("people") / "data"
    demo.make_demo(folder, spacing=4, subjects=2)
    return folder


def image(people: Path, person: int, modality: str = "0000", kind: str = "images") -> Path:
    return people / f"{kind}Val" / f"DEMOMRI_{1001 + person}_{modality}.nii.gz"


def two_images(people: Path, sandbox: Path) -> None:
    """fixed, moving, the moving image's labels."""
    shutil.copy(image(people, 0), sandbox / "fixed.nii.gz")
    shutil.copy(image(people, 1), sandbox / "moving.nii.gz")
    shutil.copy(image(people, 1, kind="labels"), sandbox / "labels.nii.gz")


def a_warp(people: Path, sandbox: Path) -> None:
    """What ANTs would have written for these two images, if it never erred."""
    grid = read_grid(image(people, 0))
    field = read_field(people / "truth" / "disp_1001_1002.nii.gz", grid, grid)
    for name in ("1Warp.nii.gz", "warp.nii.gz"):
        write_warp(sandbox / name, field)


def lumir(year: str, folder: str) -> Provider:
    """A LUMIR json with an in-domain and a multi-modal pair, their images in a folder of that name."""

    def provide(people: Path, sandbox: Path) -> None:
        scans = {
            "LUMIRMRI_3455_0000": image(people, 0), "LUMIRMRI_3454_0000": image(people, 1),
            "LUMIRMRI_4024_0000": image(people, 1), "LUMIRMRI_4033_0001": image(people, 0, "0001"),
        }  # fmt: skip
        images = sandbox / folder / "imagesVal"
        images.mkdir(parents=True)
        for name, source in scans.items():
            shutil.copy(source, images / f"{name}.nii.gz")
        paths = [f"./imagesVal/{name}.nii.gz" for name in scans]
        content = {
            "name": f"LUMIR{year}",
            "tensorImageShape": {"0": list(read_grid(image(people, 0)).shape)},
            "validation": [{"fixed": paths[i], "moving": paths[i + 1]} for i in (0, 2)],
        }
        (sandbox / f"LUMIR{year}_dataset.json").write_text(json.dumps(content))

    return provide


def a_study(people: Path, sandbox: Path) -> None:
    """STUDY, a BIDS folder of both people with their label maps."""
    for person in (0, 1):
        folder = sandbox / "STUDY" / f"sub-0{person + 1}" / "anat"
        folder.mkdir(parents=True)
        for kind, suffix in (("images", "T1w"), ("labels", "dseg")):
            shutil.copy(image(people, person, kind=kind), folder / f"sub-0{person + 1}_{suffix}.nii.gz")
    described = {"Name": "a study", "BIDSVersion": "1.10.0"}
    (sandbox / "STUDY" / "dataset_description.json").write_text(json.dumps(described))


def deep_fields(people: Path, sandbox: Path) -> None:
    """A folder of fields as some deep method left them for LUMIR25."""
    (sandbox / "vfa_fields").mkdir()
    for name in ("3455_3454", "4024_4033"):
        field = people / "truth" / "disp_1001_1002.nii.gz"
        shutil.copy(field, sandbox / "vfa_fields" / f"disp_{name}.nii.gz")


def a_dataset(people: Path, sandbox: Path) -> None:
    """DATASET, one pair."""
    folder = sandbox / "DATASET" / "imagesVal"
    folder.mkdir(parents=True)
    names = [image(people, person).name for person in (0, 1)]
    for name in names:
        shutil.copy(people / "imagesVal" / name, folder)
    pair = {role: f"./imagesVal/{name}" for role, name in zip(("fixed", "moving"), names, strict=True)}
    (sandbox / "DATASET" / "SMALL_dataset.json").write_text(json.dumps({"name": "S", "validation": [pair]}))


ELASTIX = """\
(Registration "MultiResolutionRegistration")
(Transform "{transform}")
(Metric "AdvancedNormalizedCorrelation")
(Optimizer "AdaptiveStochasticGradientDescent")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(NumberOfResolutions 2)
(MaximumNumberOfIterations 20)
(FinalGridSpacingInPhysicalUnits 24)
(HowToCombineTransforms "Compose")
(AutomaticTransformInitialization "false")
(ImageSampler "RandomCoordinate")
(NumberOfSpatialSamples 1000)
(NewSamplesEveryIteration "true")
(RequiredRatioOfValidSamples 0.05)
(Interpolator "LinearInterpolator")
(ResampleInterpolator "FinalLinearInterpolator")
(Resampler "DefaultResampler")
(FixedInternalImagePixelType "float")
(MovingInternalImagePixelType "float")
(UseDirectionCosines "true")
(WriteResultImage "false")
(RandomSeed 1)
"""


def elastix_files(people: Path, sandbox: Path) -> None:
    for name, transform in (("first", "AffineTransform"), ("second", "BSplineTransform")):
        (sandbox / f"{name}.txt").write_text(ELASTIX.format(transform=transform))


def raw_scans(people: Path, sandbox: Path) -> None:
    """The eight scans of OASIS with their labels, a template, and the checkout as ITERREG."""
    for number, subject in enumerate((1000, 1001, 1002, 1006, 1007, 1008, 1009, 1010)):
        shutil.copy(image(people, number % 2), sandbox / f"{subject}_SS.nii.gz")
        shutil.copy(image(people, number % 2, kind="labels"), sandbox / f"{subject}_glm.nii.gz")
    shutil.copy(image(people, 0), sandbox / "template.nii.gz")
    (sandbox / "ITERREG").symlink_to(ROOT)


def a_demo_with_fields(people: Path, sandbox: Path) -> None:
    """DEMO, two people, and the true fields of its pairs as if a method had found them."""
    shutil.copytree(people, sandbox / "DEMO")
    shutil.copytree(people / "truth", sandbox / "vfa_fields")


def network_outputs(people: Path, sandbox: Path) -> None:
    """DEMO, and the true fields of its pairs as networks and tools would have written them."""
    shutil.copytree(people, sandbox / "DEMO")
    for pair in open_dataset(people / "DEMO_dataset.json").pairs:
        fixed, moving = pair.fixed.subject, pair.moving.subject
        grids = read_grid(pair.fixed.path), read_grid(pair.moving.path)
        field = read_field(people / "truth" / f"disp_{pair.name}.nii.gz", *grids)
        for folder in ("voxelmorph", "transmorph", "icon", "grids", f"ants/{fixed}"):
            (sandbox / folder).mkdir(parents=True, exist_ok=True)
        planes = np.moveaxis(field.vectors, -1, 0)
        np.savez_compressed(sandbox / "voxelmorph" / f"{fixed}_{moving}.npz", arr_0=planes)
        write_field(sandbox / "transmorph" / f"flow_{moving}_to_{fixed}.nii.gz", field)
        icon.write(sandbox / "icon" / f"{fixed}_{moving}_phi.npy", field)
        images = (scan.path.name.removesuffix(".nii.gz") for scan in (pair.fixed, pair.moving))
        torch_grid.write(sandbox / "grids" / f"{'_'.join(images)}.npy", field)
        write_warp(sandbox / "ants" / fixed / f"{moving}_1Warp.nii.gz", field)
        affine = sandbox / "ants" / fixed / f"{moving}_0GenericAffine.mat"
        SimpleITK.WriteTransform(SimpleITK.AffineTransform(3), str(affine))


def evaluated_runs(people: Path, sandbox: Path) -> None:
    """Scores as `iterreg evaluate` leaves them: seven subjects, two tasks, labels, two preprocessings."""
    generator = np.random.default_rng(7)
    dice = {"syn": 0.70, "elastix": 0.66, "lddmm": 0.72, "vfa": 0.77, "transmorph": 0.76}
    for run, arms in (
        ("runs", ("syn", "elastix", "lddmm")),
        ("plain", tuple(dice)),
        ("cropped", tuple(dice)),
    ):
        for arm in arms:
            folder = sandbox / run / arm / "scores"
            folder.mkdir(parents=True)
            write_scores(folder, dice[arm] - 0.03 * (run == "cropped"), generator)
    (sandbox / "vfa-scores").mkdir()
    write_scores(sandbox / "vfa-scores", 0.77, generator)
    cases = {f"{i}_0000<--{(i + 1) % 7}_0000": {"DSC": {"mean": 0.7 + i / 100}} for i in range(7)}
    (sandbox / "their_metrics.json").write_text(json.dumps({"cases": cases}))


def write_scores(folder: Path, dice: float, generator: np.random.Generator) -> None:
    pairs, labels = ["pair,case,task,outcome,reason,DSC,HD95,TRE_lm,Non-diffeomorphic Volumes"], []
    for i in range(14):
        fixed, moving, task = i % 7, (i + 1 + i // 7) % 7, "in-domain" if i < 7 else "high-field"
        own = dice + generator.normal(0, 0.01, 4)
        case = f"{fixed}_0000<--{moving}_0000"
        numbers = [own.mean(), 10 - 8 * own[0], 6 - 5 * own[1], 0.01 * i]
        pairs.append(",".join([f"{fixed}_{moving}", case, task, "ok", "", *map(str, numbers)]))
        labels += [f"{case},{label},{value},0.5" for label, value in enumerate(own, start=1)]
    (folder / "pairs.csv").write_text("\n".join([*pairs, ""]))
    (folder / "labels.csv").write_text("\n".join(["case,label,dice,initial_dice", *labels, ""]))


GIVEN: Mapping[str, tuple[Provider, ...]] = {
    "docs/batch.md": (a_dataset,),
    "docs/evaluation.md": (a_demo_with_fields,),
    "docs/networks.md": (network_outputs,),
    "docs/report.md": (a_demo_with_fields,),
    "docs/statistics.md": (evaluated_runs,),
    "docs/lddmm.md": (two_images,),
    "README.md": (
        two_images,
        a_warp,
        lumir("25", "DATA"),
        a_dataset,
        a_study,
        deep_fields,
        elastix_files,
    ),
    "docs/submission.md": (lumir("25", "LUMIR25"), lumir("", "LUMIR"), deep_fields),
    "benchmarks/README.md": (raw_scans,),
}


@pytest.mark.parametrize(
    "document",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in DOCUMENTS],
)
@pytest.mark.timeout(1800)
def test_document(document: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    for provide in GIVEN.get(document, ()):
        provide(request.getfixturevalue("people"), sandbox)
    text = (ROOT / document).read_text()
    run_document(document, text, sandbox)
    for promised in run_folder_paths(text):
        assert list(sandbox.glob(promised)), f"{document}: its commands made no {promised}"


def run_folder_paths(text: str) -> list[str]:
    """The paths in a picture of a run folder, as patterns."""
    words = [
        line.split()[0] for kind, _, lines in blocks(text) if kind == "" for line in lines if line.strip()
    ]
    return [re.sub(r"<[^>]*>|FIX|MOV", "*", word).rstrip("/") for word in words if word.startswith("RUN/")]


# -- the lists are true, and the collector sees all -----------------------------------------------------


def all_snippets() -> Iterator[tuple[str, Snippet]]:
    for document in DOCUMENTS:
        yield from ((document, snippet) for snippet in snippets((ROOT / document).read_text()))


def test_the_documents_hold_commands_and_python() -> None:
    kinds = {(document, snippet.kind) for document, snippet in all_snippets()}
    assert {("README.md", "console"), ("README.md", "python"), ("docs/datasets.md", "python")} <= kinds


def test_no_exception_is_stale() -> None:
    used = {entry for document, snippet in all_snippets() for entry in excused(document, snippet)}
    assert set(NOT_RUN) == used
    for document, old, _ in SHORTENED:
        assert any(name == document and old in snippet.text for name, snippet in all_snippets()), old
    for documents in (SLOW, GIVEN):
        assert set(documents) <= set(DOCUMENTS)
    prose = " ".join(code for document in DOCUMENTS for code in inline_code((ROOT / document).read_text()))
    assert all(option in prose for option in FOREIGN_OPTIONS)


def test_collector() -> None:
    text = """
        Prose with `code`.

        - in a list:

          ```console
          $ one --option  # comment
          shown … output
          $ two \\
          >   continued

          $ three '#kept'
          ```

        ~~~python
        if True:
            pass
        ~~~
        """
    found = snippets("\n".join(line[8:] for line in text.splitlines()))
    assert [(s.kind, s.command) for s in found] == [
        ("console", "one --option"),
        ("console", "two \\\n  continued"),
        ("console", "three '#kept'"),
        ("python", "if True:\n    pass"),
    ]
    assert [s.line for s in found] == [7, 9, 12, 16]
    assert found[0].output == ("shown … output",)


@pytest.mark.parametrize(
    "text",
    [
        "```bash\niterreg demo\n```",
        "```\n$ iterreg demo\n```",
        "    $ iterreg demo",
        "```console\niterreg demo\n```",
        "```console\n$ iterreg demo",
        '```json\n{"name": }\n```',
    ],
    ids=["bash", "no kind", "prose", "no $", "not closed", "not json"],
)
def test_collector_refuses_what_would_not_be_run(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|line 2|Expecting value"):
        snippets(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```console\n$ true\n$ false && true\n```", "line 3: ended with exit code 1"),
        ("```console\n$ no-such-command-here\n```", "line 2: ended with exit code 127"),
        ("```console\n$ false | cat  # fails in a pipe\n```", "line 2: ended with exit code 1"),
        ("```console\n$ iterreg run\n```", "line 2: ended with exit code 2"),
        ("```console\n$ exit 0\n$ true\n```", "line 2: ends the session"),
        ("```python\n1 / 0\n```", "line 2: ended with exit code 1"),
        ("```console\n$ echo one\ntwo\n```", "line 2: does not print 'two'"),
        ("```console\n$ sleep 60\n```", "line 2: did not end in time"),
    ],
    ids=lambda value: value.strip("`").replace("\n", " ")[:30],
)
def test_runner_sees_failures(text: str, problem: str, tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    with pytest.raises(DocumentError, match=problem):
        run_document("", text, sandbox, timeout=2 if "sleep" in text else 300)


def test_runner_is_one_session(tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    lines = ["$ mkdir a && cd a && A=1", '$ echo "$A in $(pwd)"', "1 in …/sandbox/a", "$ false || echo so"]
    text = "\n".join(["```console", *lines, "```"])
    run_document("", text, sandbox)


# -- the prose ------------------------------------------------------------------------------------------


def subparsers() -> Mapping[str, argparse.ArgumentParser]:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise AssertionError("iterreg has no commands")


def options(command: str) -> set[str]:
    return {option for action in subparsers()[command]._actions for option in action.option_strings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_the_prose_exist(document: str) -> None:
    everywhere = set().union(*map(options, COMMANDS)) | {"--version", *FOREIGN_OPTIONS}
    for code in inline_code((ROOT / document).read_text()):
        words = re.sub(r"[\[\]]", " ", code).split()
        if words[0] == "iterreg" and len(words) > 1:
            words = words[1:]
            assert words[0] in COMMANDS or words[0].startswith("-"), f"{document}: {code}"
        known = options(words[0]) if words[0] in COMMANDS else everywhere
        if words[0] in COMMANDS or words[0].startswith("--"):
            used = {word.partition("=")[0].rstrip(",.") for word in words if re.match(r"--?[a-zA-Z]", word)}
            assert used <= known, f"{document}: {code}: {used - known} is no option"


def test_every_command_is_described() -> None:
    said = {
        word
        for document in DOCUMENTS
        for text in [
            *(
                snippet.text
                for snippet in snippets((ROOT / document).read_text())
                if snippet.kind == "console"
            ),
            *inline_code((ROOT / document).read_text()),
        ]
        for word in re.findall(r"\biterreg +([a-z]+)\b", text)
    }
    assert said == set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_presets_in_the_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for method in available():
        for name in re.findall(rf"\b{method}:([\w+-]+)(?![\w.+-])", text):
            assert set(name.split("+")) <= set(presets.names(method)), f"{document}: {method}:{name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / document).read_text()):
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert ((ROOT / document).parent / path).exists(), f"{document} links to {target}"


def test_container_commands_fit() -> None:
    """No engine runs them here, but what they name is there: recipes, arguments, the challenges' mounts."""
    run = [s.command for name, s in all_snippets() if excused(name, s) and name == "docker/README.md"]
    recipes = {word for command in run for word in re.findall(r"\bdocker/\S+", command)}
    assert len(recipes) == 2
    text = "".join((ROOT / recipe).read_text() for recipe in recipes)
    for argument in re.findall(r"--build-arg (\w+)=", "".join(run)):
        assert re.search(rf"^ARG {argument}=", text, re.MULTILINE)
    for engine, mount in (("docker", r"target=(\S+?)(?:,|\s|$)"), ("apptainer", r":(/[^,\s]+)")):
        sets = [set(re.findall(mount, command)) for command in run if command.startswith(f"{engine} run")]
        conventions = [{f"/{name}" for name in names} for names in container.CONVENTIONS.values()]
        assert sets
        assert all(found in conventions for found in sets), sets


# -- from nothing ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_first_command(tmp_path: Path) -> None:
    """A bare Python, a fresh clone, the README's first command: the demo is made, registered and scored."""
    assert INSTALL in {s.command for s in snippets((ROOT / "README.md").read_text())}
    clone, bare, log = tmp_path / "clone", tmp_path / "bare", tmp_path / "output.txt"
    call = {"capture_output": True, "text": True, "check": False}
    if not shutil.which("git") or subprocess.run(["git", "clone", "-q", ROOT, clone], **call).returncode:
        pytest.skip("needs a git checkout, to clone it")
    try:
        subprocess.run([sys.executable, "-m", "venv", bare], check=True, capture_output=True)
        reach = [bare / "bin/python", "-m", "pip", "install", "--dry-run", "--no-deps", "setuptools>=69"]
        asked = subprocess.run([*reach, "--ignore-installed"], **call)
        if asked.returncode:
            pytest.skip(f"the package index cannot be reached: {asked.stderr.strip()[-200:]}")
        hidden = ("ITERREG_", "PYTHON", "VIRTUAL_ENV")
        env = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        env["PATH"] = os.pathsep.join([str(bare / "bin"), os.environ.get("PATH", os.defpath)])

        code = run_shell(["bash", "-c", INSTALL], clone, log, env, timeout=4800)
        output = log.read_text(errors="replace")
        assert code == 0, output[-4000:]
        table = demo_table(output)
        idle = table.pop("identity")
        assert len(table) >= 2
        for method, row in table.items():
            assert row["pairs"] == idle["pairs"], output
            assert float(row["error mm"]) < 0.8 * float(idle["error mm"]), method
            assert float(row["Dice"]) > float(idle["Dice"]) + 0.05, method

        began = time.monotonic()
        code = run_shell(["bash", "-c", "iterreg demo"], clone, log, env, timeout=600)
        again = log.read_text(errors="replace")
        assert code == 0, again[-4000:]
        assert " 0 jobs to do" in again
        assert demo_table(again) == {"identity": idle, **table}
        assert time.monotonic() - began < 300
    finally:
        shutil.rmtree(bare, ignore_errors=True)
        shutil.rmtree(clone, ignore_errors=True)


def demo_table(output: str) -> dict[str, dict[str, str]]:
    """The demo's table, row by row: column title -> cell."""
    lines = output.splitlines()
    rule = next(i for i, line in enumerate(lines) if re.fullmatch(r"-+(  -+)+", line))
    spans = [match.span() for match in re.finditer(r"-+", lines[rule])]

    def cells(line: str) -> list[str]:
        return [line[start:end].strip() for start, end in spans]

    rows: dict[str, dict[str, str]] = {}
    for line in lines[rule + 1 :]:
        if not line.strip():
            break
        row = dict(zip(cells(lines[rule - 1]), cells(line), strict=True))
        rows[row.pop("method")] = row
    return rows


def test_ci_runs_the_second_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert DEVELOP in {s.command for s in snippets(readme)}
    install, run = (shlex.split(part) for part in DEVELOP.split("&&"))
    steps = [
        shlex.split(line)
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if re.match(r"\S*python\S*\s+-m", line)
    ]
    assert install[:3] == ["python3", "-m", "pip"]
    assert any(step[1:3] == install[1:3] and step[-2:] == install[-2:] for step in steps)
    tests = [step for step in steps if step[1:3] == run[1:3]]
    everything = re.search(r'`-m "([^"]+)"`', readme)
    assert everything
    assert [step[3:5] for step in tests] == [["-m", everything[1]]]


def test_the_readmes_table_is_the_measured_one() -> None:
    """The README quotes the benchmark's own file, word for word."""
    text = (ROOT / "README.md").read_text()
    quoted = text.partition("<!-- benchmark -->\n")[2].partition("<!-- /benchmark -->")[0]
    assert quoted.strip() == (ROOT / "benchmarks" / "results" / "oasis.md").read_text().strip()
