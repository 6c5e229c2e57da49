"""LDDMM as a method: its files, what it costs, and what comes out of the real command."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from iterreg.batch.doctor import examine
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import read_field
from iterreg.lddmm import Iteration, TissueReport
from iterreg.methods import lddmm, presets
from iterreg.methods.base import Method, Task, saves_momentum
from iterreg.methods.identity import Identity
from iterreg.methods.lddmm import LDDMM, _tissue_sentence
from iterreg.methods.trial import Trial, make_trial
from iterreg.volume import Grid, Volume

QUICK = """\
scale_to_brain = false
padding_mm = 8.0
[pyramid]
image_spacing_mm = [4.0, 2.0]
velocity_spacing_mm = [4.0, 4.0]
iterations = [12, 12]
[similarity]
radius_mm = [6.0, 4.0]
"""
"""A short schedule that still aligns the trial pair."""


# -- parameter files ----------------------------------------------------------------------------------


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = copy.deepcopy(dict(base))
    for key, value in changes.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, Mapping) else value
    return out


def knobs(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The names of all settings, tables flattened."""
    names = set()
    for key, value in values.items():
        names |= knobs(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key}
    return names


def test_follows_the_protocol() -> None:
    method = LDDMM()
    assert isinstance(method, Method)
    assert method.name == "lddmm"
    assert saves_momentum(method)
    assert not saves_momentum(Identity())


def test_every_preset_states_every_knob() -> None:
    assert {"lumir", "fast", "quality"} <= set(presets.names("lddmm"))
    for name in presets.names("lddmm"):
        parameters = LDDMM().parameters(name)
        assert parameters.preset == name
        (path,) = parameters.files
        written = tomllib.loads(path.read_text())
        assert merged(parameters.values, written) == parameters.values
        assert knobs(written) == knobs(parameters.values), "a knob that is not there cannot be turned"
        assert json.loads(json.dumps(parameters.values)) == parameters.values
        assert parameters.values["energy_weight"] > 0


def test_default_is_lumir_and_a_path_is_taken(tmp_path: Path) -> None:
    assert LDDMM().parameters(None) == LDDMM().parameters("lumir")
    mine = tmp_path / "mine.toml"
    mine.write_text(QUICK)
    parameters = LDDMM().parameters(str(mine))
    assert (parameters.preset, parameters.files) == ("mine", (mine,))
    assert parameters.values["pyramid"]["iterations"] == [12, 12]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enregy_weight = 1", ["'enregy_weight'", "'energy_weight'"]),
        ("energy_weight = -1", ["energy_weight", "at least 0"]),
        ("save_momentum = true", ["'save_momentum'"]),
        ("time_steps = 3", ["time_steps", "even when symmetric"]),
        ("[similarity]\nname = 'ncc'", ["similarity.name", "'lncc'"]),
        ("[pyramid]\niterations = [10, 10]", ["[pyramid]", "3, 3 and 2"]),
        ("[kernel]\norder = 2", ["kernel.order", "at least 3"]),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        LDDMM().parameters(str(path))
    for word in ["bad.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("compared", "words"), [(("middle", "bright"), "middle, bright ("), ((), "similarity alone")]
)
def test_the_log_says_which_tissues_were_compared(compared: tuple[str, ...], words: str) -> None:
    agreement = {"middle": 0.35, "bright": 0.57}
    report = TissueReport((0.71, 0.68), (2.0, 1.9), (False, False), agreement, compared)
    text = _tissue_sentence(report)
    assert words in text
    for value in (*report.clarity, *report.agreement.values()):
        assert f"{value:.2f}" in text


# -- cost and threads ---------------------------------------------------------------------------------


def test_presets_cost_what_their_names_say() -> None:
    method, grid = LDDMM(), Grid((160, 224, 192))
    fast, lumir, quality = (
        method.cost(method.parameters(name), grid, grid) for name in ("fast", "lumir", "quality")
    )
    assert fast.cpu_seconds <= lumir.cpu_seconds <= quality.cpu_seconds
    assert max(cost.memory for cost in (fast, lumir)) < 1.2 * 2**30


def test_finer_images_cost_more(tmp_path: Path) -> None:
    """In proportion to the voxels at most: velocities stay on their millimetres."""
    path = tmp_path / "mine.toml"
    path.write_text(QUICK)
    method, parameters = LDDMM(), LDDMM().parameters(str(path))
    coarse, fine = Grid((80, 112, 96), np.diag([2, 2, 2, 1])), Grid((160, 224, 192))
    low, high = (method.cost(parameters, grid, grid) for grid in (coarse, fine))
    assert 1 < high.cpu_seconds / low.cpu_seconds < 8
    assert 1 < high.memory / low.memory < 8


@pytest.mark.slow
def test_memory_is_what_was_promised(data_dir: Path, tmp_path: Path) -> None:
    """A real pair with full-resolution images: the estimate is neither too low nor twice too high."""
    path = tmp_path / "mine.toml"
    path.write_text("[pyramid]\niterations = [1, 1, 2]\nvelocity_spacing_mm = [4.0, 3.0, 2.0]\n")
    images = [data_dir / "oasis" / "imagesVal" / f"OASISMRI_{s}_0000.nii.gz" for s in (1000, 1001)]
    run_command(tmp_path / "run", *images, "--method", f"lddmm:{path}")
    (sidecar,) = (tmp_path / "run" / "lddmm-mine" / "fields").glob("*.json")
    peak = json.loads(sidecar.read_text())["peak_bytes"]
    grid = Grid((160, 224, 192))
    promised = LDDMM().cost(LDDMM().parameters(str(path)), grid, grid).memory
    assert 0.5 * promised < peak < promised


def test_threads_are_held() -> None:
    environment = LDDMM().environment(3)
    assert environment["NUMBA_NUM_THREADS"] == "3"
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"


# -- the real command ---------------------------------------------------------------------------------


def run_command(out: Path, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "iterreg", "run", *map(str, arguments), "--out", str(out)]
    if "--threads" not in arguments:
        command += ["--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Done:
    """The trial pair, registered: its folder holds the images, ``quick.toml`` and the run ``run``."""

    trial: Trial
    folder: Path

    @property
    def arguments(self) -> list[str | Path]:
        pair = [self.folder / "fixed.nii.gz", self.folder / "moving.nii.gz"]
        return [*pair, "--method", f"lddmm:{self.folder / 'quick.toml'}"]

    @property
    def arm(self) -> Path:
        return self.folder / "run" / "lddmm-quick"

    def field(self, arm: Path | None = None) -> DisplacementField:
        path = (arm or self.arm) / "fields" / "disp_fixed_moving.nii.gz"
        return read_field(path, self.trial.fixed.grid, self.trial.moving.grid)


def save(volume: Volume, path: Path) -> None:
    image = nib.nifti1.Nifti1Image(volume.array, volume.grid.affine)
    image.to_filename(path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    found = Done(make_trial(), tmp_path_factory.mktemp("lddmm"))
    save(found.trial.fixed, found.folder / "fixed.nii.gz")
    save(found.trial.moving, found.folder / "moving.nii.gz")
    (found.folder / "quick.toml").write_text(QUICK)
    run_command(found.folder / "run", *found.arguments, "--inverse", "--save-momentum")
    return found


def test_finds_the_way_between_oblique_anisotropic_unequal_grids(done: Done) -> None:
    trial, field = done.trial, done.field()
    still = trial.error(DisplacementField.identity(trial.fixed.grid, trial.moving.grid))
    assert trial.error(field) < 0.5 * still
    assert field.folding(trial.mask).ndv_percent == 0


def test_the_inverse_is_the_engines_own(done: Done) -> None:
    fixed, moving = done.trial.fixed.grid, done.trial.moving.grid
    inverse = read_field(done.arm / "inverse" / "disp_fixed_moving.nii.gz", moving, fixed)
    residual = np.linalg.norm(done.field().compose(inverse).vectors[done.trial.mask], axis=-1)
    assert residual.mean() < 0.03
    assert residual.max() < 0.3
    sidecar = json.loads((done.arm / "fields" / "disp_fixed_moving.json").read_text())
    assert sidecar["inverse"]["source"] == "engine"


def test_the_sidecar_tells_how_it_went(done: Done) -> None:
    sidecar = json.loads((done.arm / "fields" / "disp_fixed_moving.json").read_text())
    details = sidecar["details"]
    assert details["distance"] > 0
    assert isinstance(details["converged"], bool)
    assert details["unfolding"]["smallest_determinant"] > 0
    assert len(details["levels"]) == 2
    history = details["history"]
    assert {len(column) for column in history.values()} == {sum(v["iterations"] for v in details["levels"])}
    for number, level in enumerate(details["levels"]):
        chosen = [i for i, which in enumerate(history["level"]) if which == number]
        terms = ("dissimilarity", "regularity")
        energies = [sum(history[term][i] for term in terms) for i in chosen]
        assert energies[0] == pytest.approx(level["energy"][0], rel=1e-4)
        assert min(energies) == pytest.approx(level["energy"][1], rel=1e-4)
        assert level["energy"][1] < level["energy"][0]
        assert level["stopped"] in ("converged", "small steps", "iterations")
    momentum = done.arm / "momentum" / "fixed_moving.npz"
    assert sidecar["momentum"]["bytes"] == momentum.stat().st_size


def test_the_log_follows_the_iterations(done: Done) -> None:
    log = (done.arm / "jobs" / "fixed_moving" / "log.txt").read_text()
    for line in ("level 0 iteration   0: energy", "level 1 iteration   5: energy", "geodesic distance"):
        assert line in log


def test_the_same_command_resumes_and_more_is_done_when_more_is_asked(done: Done) -> None:
    field = done.arm / "fields" / "disp_fixed_moving.nii.gz"
    before = field.stat().st_mtime_ns
    run_command(done.folder / "run", *done.arguments, "--inverse", "--save-momentum")
    run_command(done.folder / "run", *done.arguments)
    assert field.stat().st_mtime_ns == before
    (done.arm / "momentum" / "fixed_moving.npz").unlink()
    run_command(done.folder / "run", *done.arguments)
    assert field.stat().st_mtime_ns == before
    bits = field.read_bytes()
    run_command(done.folder / "run", *done.arguments, "--inverse", "--save-momentum")
    assert field.stat().st_mtime_ns > before
    assert field.read_bytes() == bits
    assert (done.arm / "momentum" / "fixed_moving.npz").is_file()


def test_threads_change_no_bit(done: Done, tmp_path: Path) -> None:
    run_command(tmp_path / "run", *done.arguments, "--threads", "2", "--cores", "2")
    assert (done.field(tmp_path / "run" / "lddmm-quick").vectors == done.field().vectors).all()


def test_masks_confine_the_similarity(done: Done, tmp_path: Path) -> None:
    """Half of the object is masked: there it is aligned as before, far from there nothing pulls."""
    trial = done.trial
    half = np.zeros(trial.fixed.grid.shape, np.uint8)
    half[:18] = 1
    save(Volume(half, trial.fixed.grid), tmp_path / "mask.nii.gz")
    table = tmp_path / "pairs.csv"
    files = [done.folder / "fixed.nii.gz", done.folder / "moving.nii.gz", tmp_path / "mask.nii.gz"]
    table.write_text("fixed,moving,fixed_mask\n" + ",".join(map(str, files)) + "\n")
    run_command(tmp_path / "run", table, *done.arguments[2:], "--masks", "fixed")
    masked = done.field(tmp_path / "run" / "lddmm-quick")
    identity = DisplacementField.identity(trial.fixed.grid, trial.moving.grid).vectors

    def moves(field: DisplacementField, part: slice) -> float:
        inside = trial.mask[part]
        return float(np.linalg.norm((field.vectors - identity)[part][inside], axis=-1).mean())

    near, far = slice(8, 15), slice(32, None)
    assert moves(masked, near) > 0.6 * moves(done.field(), near)
    assert moves(masked, far) < 0.4 * moves(done.field(), far)


HALVES = """\
energy_weight = 0.2
scale_to_brain = false
margin_mm = 4.0
padding_mm = 5.0
[pyramid]
image_spacing_mm = [2.0, 1.0]
velocity_spacing_mm = [2.0, 2.0]
iterations = [15, 15]
[similarity]
name = "NAME"
radius_mm = [3.0]
middle_weight = [TISSUES]
[kernel]
name = "gaussians"
sigmas_mm = [2.0, 1.5]
weights = [0.5, 0.5]
"""


@pytest.fixture
def register(tmp_path: Path) -> Callable[..., DisplacementField]:
    """Register the halves of a parted pair, or the like, under masks."""

    def run(pair: Any, name: str = "ssd", tissues: float = 0.0, **masks: Volume) -> DisplacementField:
        path = tmp_path / "halves.toml"
        path.write_text(HALVES.replace("NAME", name).replace("TISSUES", str(tissues)))
        task = Task(pair.fixed, pair.moving, scratch=tmp_path, **masks)
        return LDDMM().register(task, LDDMM().parameters(str(path))).field

    return run


def assert_lives_in_the_half(field: DisplacementField, pair: Any, side: int, depth: int = 3) -> None:
    assert pair.error(field, side) < 0.95
    assert pair.error(field, 1 - side, depth) > 1.5
    assert pair.moves(field, 1 - side, depth) < 0.5


@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
def test_the_field_lives_where_the_mask_is(
    register: Callable[..., DisplacementField], half: tuple[Any, int], role: str
) -> None:
    pair, side = half
    assert_lives_in_the_half(register(pair, **{role: pair.half(side)}), pair, side)


@pytest.mark.parametrize("tissues", [0.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_correlation_looks_past_a_mask_by_its_boxes_at_most(
    register: Callable[..., DisplacementField], parted: Any, tissues: float
) -> None:
    """A box counts where its centre lies in the mask: it sees three voxels further, and pushes there."""
    for role, side in (("fixed_mask", 0), ("moving_mask", 1)):
        field = register(parted, "lncc", tissues, **{role: parted.half(side)})
        assert_lives_in_the_half(field, parted, side, depth=6)


def test_a_mask_of_ones_changes_next_to_nothing(
    register: Callable[..., DisplacementField], parted: Any
) -> None:
    field = register(parted).vectors
    for role in ("fixed_mask", "moving_mask"):
        np.testing.assert_allclose(register(parted, **{role: parted.all_ones}).vectors, field, atol=0.02)


def test_a_hole_is_not_looked_into(register: Callable[..., DisplacementField], with_a_core: Any) -> None:
    assert with_a_core.core_moves(register(with_a_core)) > 1.0
    for role in ("fixed_mask", "moving_mask"):
        assert abs(with_a_core.core_moves(register(with_a_core, **{role: with_a_core.hole}))) < 0.4


def test_unusable_masks_are_refused(tmp_path: Path) -> None:
    trial = make_trial()
    empty = Volume(np.zeros(trial.fixed.grid.shape, np.int32), trial.fixed.grid, Path("mask.nii"))
    task = Task(trial.fixed, trial.moving, scratch=tmp_path, fixed_mask=empty)
    with pytest.raises(InputError, match=r"mask\.nii: no voxel of the mask"):
        LDDMM().register(task, LDDMM().parameters(None))
    beside = np.zeros(trial.fixed.grid.shape, np.int32)
    beside[0, 0, 0] = beside[-1, 0, 0] = 1
    task = replace(task, fixed_mask=Volume(beside, trial.fixed.grid, Path("mask.nii")))
    with pytest.raises(InputError, match=r"mask\.nii: the fixed image is 0 everywhere under the mask"):
        LDDMM().register(task, LDDMM().parameters(None))


def other_unit(volume: Volume, factor: float) -> Volume:
    return Volume(
        volume.array,
        Grid(volume.grid.shape, np.diag([factor, factor, factor, 1]) @ volume.grid.affine),
        Path("other.nii"),
    )


@pytest.mark.parametrize(("factor", "size"), [(0.005, r"0\.33"), (1000, r"6\.6e\+04")])
def test_a_brain_of_another_unit_is_refused(tmp_path: Path, factor: float, size: str) -> None:
    """It gave zeros with `ok`, or asked for 50 TB."""
    trial = make_trial(oblique=False)
    fixed, moving = other_unit(trial.fixed, factor), other_unit(trial.moving, factor)
    with pytest.raises(InputError, match=rf"other\.nii.* is about {size} mm across.*2 to 500 mm; .*header"):
        LDDMM().register(Task(fixed, moving, tmp_path), LDDMM().parameters("fast"))


def test_images_of_two_units_are_refused(tmp_path: Path) -> None:
    trial = make_trial(oblique=False)
    centred = np.eye(4)
    centred[:3, 3] = -np.array([12.0, -7.0, 30.0])
    fixed, moving = (
        Volume(one.array, Grid(one.grid.shape, centred @ one.grid.affine))
        for one in (trial.fixed, trial.moving)
    )
    with pytest.raises(
        InputError, match=r"other\.nii: its foreground is about 4\.15 mm across.*the fixed image 41\.5 mm"
    ):
        LDDMM().register(Task(fixed, other_unit(moving, 0.1), tmp_path), LDDMM().parameters("fast"))


def test_lengths_that_fit_no_brain_are_refused(tmp_path: Path) -> None:
    trial = make_trial(oblique=False)
    path = tmp_path / "mine.toml"
    path.write_text(QUICK)
    for factor, word in ((0.2, "coarse"), (1000, "fine")):
        fixed, moving = other_unit(trial.fixed, factor), other_unit(trial.moving, factor)
        with pytest.raises(InputError, match=rf"a velocity lattice of 4 mm is too {word}"):
            LDDMM().register(Task(fixed, moving, tmp_path), LDDMM().parameters(str(path)))


@pytest.mark.slow
def test_a_mouse_s_brain_is_registered(tmp_path: Path) -> None:
    """Lengths follow the brain's size: 8 mm across here, where a human one has 118."""
    trial = make_trial(oblique=False)
    fixed, moving = other_unit(trial.fixed, 0.25), other_unit(trial.moving, 0.25)
    field = LDDMM().register(Task(fixed, moving, tmp_path), LDDMM().parameters("fast")).field
    small = replace(trial, fixed=fixed, moving=moving)
    assert small.error(field) < 0.5 * small.error(DisplacementField.identity(fixed.grid, moving.grid))


@pytest.mark.slow
def test_the_doctor_finds_it_healthy() -> None:
    found = examine("lddmm", threads=1, timeout=600)
    assert found.healthy, found.message


# -- bounds and forks ---------------------------------------------------------------------------------


def test_a_long_history_is_thinned() -> None:
    """What a child answers must fit into one packet."""
    entries = [Iteration(0, number, 1 / 3, 2 / 3, step_mm=0.1) for number in range(7001)]
    history = lddmm._history(entries)
    assert history["iteration"][:3] == [0, 4, 8]
    assert len(json.dumps(history)) < 100_000


CHILD = """
import hashlib, os, sys
from pathlib import Path
import numba
from iterreg.methods.base import Task
from iterreg.methods.lddmm import LDDMM
from iterreg.methods.trial import make_trial

method, trial = LDDMM(), make_trial(oblique=False)
method.warm()
print(len(os.listdir("/proc/self/task")))

def digest():
    result = method.register(Task(trial.fixed, trial.moving, Path(".")), method.parameters(sys.argv[1]))
    return hashlib.sha256(result.field.vectors.tobytes()).hexdigest()

for _ in range(2):
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        found = digest()
        cores = len(os.sched_getaffinity(0))
        os.write(write_end, f"{found}\\n{numba.threading_layer()}\\n{cores}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    print(os.read(read_end, 100).decode())
    if sys.argv[2] == "parent":
        print(digest())
"""


@pytest.fixture
def call_child(tmp_path: Path) -> Callable[..., list[str]]:
    def call(who: str, **environment: str) -> list[str]:
        (tmp_path / "quick.toml").write_text(QUICK.replace("[12, 12]", "[3, 2]"))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path / "quick.toml"), who],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if " " not in line]

    return call


def test_warming_starts_no_threads_and_children_can_register(call_child: Callable[..., list[str]]) -> None:
    """A batch's children use OpenMP; a notebook's survive what their parent has run, with the same bits."""
    threads, one, layer, _, other, _, _ = call_child("children only", **LDDMM().environment(2))
    assert threads == "1"
    assert layer == "omp"
    digests = call_child("parent", NUMBA_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")
    assert digests.pop(0) == "1"
    assert digests[1::4] == ["workqueue", "workqueue"]
    assert {one} == {other, *digests[::4], *digests[3::4]}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core, to which all are bound")
def test_children_are_not_bound_to_the_same_cores(call_child: Callable[..., list[str]]) -> None:
    """What clusters set for one OpenMP program a node would put all children onto the first cores."""
    bound = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0"}
    _, _, layer, cores, *_ = call_child("children only", **{**bound, **LDDMM().environment(2)})
    assert layer == "omp"
    assert int(cores) == len(os.sched_getaffinity(0))
