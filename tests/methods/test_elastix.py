"""The elastix adapter: its parameters everywhere; real registrations of small phantoms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iterreg.errors import EngineError, InputError
from iterreg.methods import presets
from iterreg.methods.base import Method, Parameters, Registration, Task
from iterreg.methods.elastix import FOREGROUND_MASK, Elastix
from iterreg.methods.elastix_log import read_log
from iterreg.volume import Grid, Volume

BSPLINE = """(Transform "BSplineTransform")
(Registration "MultiResolutionRegistration")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(Interpolator "LinearInterpolator")
(ResampleInterpolator "FinalLinearInterpolator")
(Metric "AdvancedNormalizedCorrelation")
(Optimizer "AdaptiveStochasticGradientDescent")
(NumberOfResolutions 2)
(FinalGridSpacingInPhysicalUnits 14)
(MaximumNumberOfIterations 80)
(ImageSampler "RandomCoordinate")
(NumberOfSpatialSamples 1500)
(NewSamplesEveryIteration "true")
"""
AFFINE = (
    BSPLINE.replace("BSplineTransform", "AffineTransform").replace(
        "(FinalGridSpacingInPhysicalUnits 14)\n", ""
    )
    + '(AutomaticScalesEstimation "true")\n'
)
SHIFT = np.array([2.5, -1.5, 2.0])  # RAS mm, fixed to moving


def _file(folder: Path, text: str, name: str = "own.txt") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


# -- parameters, no engine ------------------------------------------------------------------------


def test_follows_the_protocol() -> None:
    assert isinstance(Elastix(), Method)


def test_the_default_is_the_strong_preset() -> None:
    method = Elastix()
    assert method.parameters(None) == method.parameters("bspline-lumir")
    assert method.parameters(None).files[0].name == "bspline-lumir.txt"


@pytest.mark.parametrize("name", presets.names("elastix"))
def test_every_preset_says_what_it_is_and_resolves(name: str) -> None:
    parameters = Elastix().parameters(name)
    assert parameters.preset == name
    assert len(presets.summary("elastix", name)) > 30
    (stage,) = parameters.values["stages"]
    assert "RandomSeed" not in stage  # so that --seed counts
    assert Elastix().cost(parameters, Grid((160, 224, 192)), Grid((160, 224, 192))).cpu_seconds > 5
    json.dumps(parameters.values)


def test_stages_keep_their_order(tmp_path: Path) -> None:
    own = _file(tmp_path, BSPLINE)
    parameters = Elastix().parameters(f"affine+{own}")
    assert parameters.preset == "affine+own"
    assert [stage["Transform"] for stage in parameters.values["stages"]] == [
        ["AffineTransform"],
        ["BSplineTransform"],
    ]
    assert parameters.files == (presets.find("elastix", "affine"), Path(own))


def test_a_path_may_hold_a_plus(tmp_path: Path) -> None:
    own = _file(tmp_path, BSPLINE, "a+b.txt")
    assert Elastix().parameters(own).files == (Path(own),)


def test_unusable_sources_are_refused(tmp_path: Path) -> None:
    method = Elastix()
    with pytest.raises(InputError, match=r"nowhere.*presets are.*bspline-lumir"):
        method.parameters("nowhere")
    with pytest.raises(InputError, match="empty stage"):
        method.parameters("affine+")
    with pytest.raises(InputError, match=r"end in \.txt"):
        method.parameters(_file(tmp_path, BSPLINE, "own.par"))
    with pytest.raises(InputError, match=r"own\.txt.*margin in millimetres"):
        method.parameters(_file(tmp_path, BSPLINE + f'({FOREGROUND_MASK} "true")\n'))


def test_cost_follows_samples_iterations_and_voxels(tmp_path: Path) -> None:
    method, grid = Elastix(), Grid((50, 50, 50))

    def seconds(text: str, on: Grid = grid) -> float:
        return method.cost(method.parameters(_file(tmp_path, text)), on, on).cpu_seconds

    base = seconds(BSPLINE)
    assert seconds(BSPLINE.replace("Samples 1500", "Samples 15000")) > 2 * base
    assert seconds(BSPLINE.replace("Iterations 80", "Iterations 80 800")) > 4 * base
    assert seconds(BSPLINE, Grid((100, 100, 100))) > base
    both = method.parameters("affine+bspline-fast")
    assert method.cost(both, grid, grid).memory > 800 * 2**20


def test_notes_of_every_stage_name_their_file(tmp_path: Path) -> None:
    first = _file(tmp_path, AFFINE, "first.txt")
    second = _file(tmp_path, BSPLINE + "(NumberOfHistogramBins 32)\n", "second.txt")
    (note,) = Elastix().parameters(f"{first}+{second}").notes
    assert note.startswith(f"{second}: without effect: NumberOfHistogramBins (read by Advanced")
    assert Elastix().parameters("affine+bspline-lumir").notes == ()


def test_a_misspelt_key_of_iterreg_s_own_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean {FOREGROUND_MASK}"):
        Elastix().parameters(_file(tmp_path, BSPLINE + "(IterregForegroundMsk 3)\n"))


def test_cost_reads_counts_as_elastix_does(tmp_path: Path) -> None:
    grid = Grid((50, 50, 50))
    method = Elastix()
    plain = method.cost(method.parameters(_file(tmp_path, BSPLINE, "a.txt")), grid, grid)
    zeros = BSPLINE.replace("Iterations 80", "Iterations 80.0").replace("Resolutions 2", "Resolutions 2.00")
    assert method.cost(method.parameters(_file(tmp_path, zeros, "b.txt")), grid, grid) == plain


def test_threads_are_set_by_itk_s_variable() -> None:
    environment = Elastix().environment(3)
    assert environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


LOG = """Resolution: 0
1:ItNr\t2:Metric\t3a:Time
0\t-0.5\t0.0
1\t-0.75\t0.1
Time spent in resolution 0 (ITK initialization and iterating): 2.5
Stopping condition: Maximum number of iterations has been reached.
Resolution: 1
1:ItNr\t2:Metric\t3a:Time
0\t-0.6\t0.0
Description: ITK ERROR: AdvancedNormalizedCorrelationMetric(0x55d2): Too many samples map outside: 3 / 9
WARNING: 1 unused parameter(s) found!
  Unused parameter: Typo
  Unused parameter: ImageSampler1NumberOfSpatialSamples
Resolution: 0
"""


def test_the_log_tells_how_each_resolution_ended() -> None:
    summary = read_log(LOG)
    assert summary.resolutions == (
        {
            "stage": 0,
            "resolution": 0,
            "iterations": 2,
            "metric": -0.75,
            "stop": "Maximum number of iterations has been reached",
            "seconds": 2.5,
        },
        {"stage": 0, "resolution": 1, "iterations": 1, "metric": -0.6, "stop": None, "seconds": None},
        {"stage": 1, "resolution": 0, "iterations": 0, "metric": None, "stop": None, "seconds": None},
    )
    assert summary.unused == ("Typo",)
    assert summary.errors == ("Too many samples map outside: 3 / 9",)
    assert read_log("").resolutions == ()


WARNINGS = """WARNING: The parameter "UseCyclicTransform", requested at entry number 0, does not exist at all.
  The default value "false" is used instead.

WARNING: the fixed pyramid schedule is not fully specified!
  A default pyramid schedule is used.
WARNING: The parameter "SP_A", requested at entry number 1, does not exist at all.
  The default value "20" is used instead.
WARNING: You want to select new samples every iteration,
but the selected ImageSampler is not suited for that.
WARNING: You want to select new samples every iteration,
but the selected ImageSampler is not suited for that.
WARNING: Center of Rotation (point) is not within image boundaries!
WARNING: 1 unused parameter(s) found!
  Unused parameter: Typo
"""


def test_the_log_s_warnings_are_told_apart_from_defaults() -> None:
    summary = read_log(WARNINGS)
    assert summary.defaults == {"UseCyclicTransform": "false", "SP_A": "20"}
    assert summary.warnings == (
        "You want to select new samples every iteration, "
        "but the selected ImageSampler is not suited for that.",
        "Center of Rotation (point) is not within image boundaries!",
    )
    assert summary.unused == ("Typo",)


# -- registrations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    fixed: Volume
    moving: Volume
    inside: np.ndarray

    def error(self, registration: Registration) -> float:
        """Mean distance to the known shift in the object, in fixed voxels of 2 mm."""
        world = registration.field.to_world()
        return float(np.linalg.norm(world[self.inside] - SHIFT, axis=1).mean()) / 2


def _object(grid: Grid, centre: np.ndarray) -> np.ndarray:
    """An asymmetric textured ellipsoid, (X, Y, Z) float32, zero far outside."""
    x, y, z = np.moveaxis(grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)) - centre, -1, 0)
    radius = np.sqrt((x / 26) ** 2 + (y / 32) ** 2 + (z / 22) ** 2) * (1 + 0.004 * x)
    texture = 1 + 0.35 * np.sin(x / 5) * np.cos(y / 6) + 0.25 * np.sin(z / 4 + 1)
    values = 120 * texture / (1 + np.exp((radius - 1) * 20))
    return np.where(values > 1, values, 0).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> Pair:
    fixed = Grid((36, 42, 32), np.array([[-2, 0, 0, 36], [0, 2, 0, -40], [0, 0, 2, -32], [0, 0, 0, 1.0]]))
    turn = np.deg2rad(12)
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned * (2.2, 2.0, 1.8)
    affine[:3, 3] = -affine[:3, :3] @ (18.5, 21, 19)
    moving = Grid((38, 43, 39), affine)
    image = _object(fixed, np.zeros(3))
    return Pair(Volume(image, fixed), Volume(_object(moving, SHIFT), moving), image > 30)


@pytest.fixture(scope="module")
def engine() -> Iterator[Elastix]:
    """A warm engine; itk is imported once for all tests here."""
    method = Elastix()
    before = dict(os.environ)
    os.environ.update(method.environment(1))
    method.warm()
    yield method
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def run(engine: Elastix, pair: Pair, tmp_path: Path) -> Callable[..., Registration]:
    def call(text: str | list[str] = BSPLINE, **changes: Any) -> Registration:
        texts = [text] if isinstance(text, str) else text
        sources = [_file(tmp_path, one, f"stage{number}.txt") for number, one in enumerate(texts)]
        parameters: Parameters = engine.parameters("+".join(sources))
        number = sum(1 for _ in tmp_path.glob("scratch*"))
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        task = replace(Task(pair.fixed, pair.moving, scratch), **changes)
        return engine.register(task, parameters)

    return call


def test_finds_a_shift_between_unequal_grids(run: Callable[..., Registration], pair: Pair) -> None:
    registration = run(BSPLINE + "(NumberOfHistogramBins 32)\n(SP_a 400)\n", seed=5)
    assert pair.error(registration) < 0.3
    assert registration.inverse is None
    details = registration.details
    json.dumps(details)
    assert details["unused"] == ["NumberOfHistogramBins", "SP_a"]
    assert details["warnings"] == ["elastix made no use of SP_a"]  # the other one is noted with the file
    assert details["defaults"]["SP_A"] == "20"
    assert "MaximumNumberOfIterations" not in details["defaults"]
    assert details["fixed_mask"] == "none"
    (stage,) = details["stages"]
    assert stage["seed"] == "5"
    assert [row["iterations"] for row in stage["resolutions"]] == [80, 80]
    assert all(row["metric"] < -0.9 for row in stage["resolutions"])
    assert all("Maximum number of iterations" in row["stop"] for row in stage["resolutions"])
    changed = {change["key"]: (change["file"], change["used"]) for change in details["overrides"]}
    assert changed == {"WriteResultImage": (None, "false"), "RandomSeed": (None, "5")}


@pytest.mark.slow
def test_a_repeat_gives_the_same_bytes(run: Callable[..., Registration]) -> None:
    fields = [run(seed=seed).field.vectors.tobytes() for seed in (3, 3, 4)]
    assert fields[0] == fields[1]
    assert fields[0] != fields[2]


@pytest.mark.slow
def test_the_file_s_seed_wins(run: Callable[..., Registration]) -> None:
    one, two = (run(BSPLINE + "(RandomSeed 9)\n", seed=seed) for seed in (1, 2))
    assert one.field.vectors.tobytes() == two.field.vectors.tobytes()
    assert one.details["stages"][0]["seed"] == "9"
    assert "RandomSeed" not in {change["key"] for change in one.details["overrides"]}


@pytest.mark.slow
def test_masks_hide_what_lies_outside_them(run: Callable[..., Registration], pair: Pair) -> None:
    """A bright block that moves the other way is ignored when masks leave it out."""
    grid = pair.fixed.grid
    spoiled = pair.fixed.array.copy()
    spoiled[:, -8:, :] = 400
    fixed = Volume(spoiled, grid)
    block = pair.moving.array.copy()
    block[:, -5:, :] = 400
    moving = Volume(block, pair.moving.grid)
    mask = np.ones(grid.shape, np.uint8)
    mask[:, -11:, :] = 0
    moving_mask = np.ones(moving.grid.shape, np.uint8)
    moving_mask[:, -6:, :] = 0
    core = replace(pair, inside=pair.inside & (mask > 0))
    masked = run(
        fixed=fixed,
        moving=moving,
        fixed_mask=Volume(mask, grid),
        moving_mask=Volume(moving_mask, moving.grid),
    )
    assert masked.details["fixed_mask"] == "given"
    assert core.error(masked) < 0.3
    assert core.error(run(fixed=fixed, moving=moving)) > 2 * core.error(masked)


FINE = BSPLINE.replace("Units 14", "Units 4").replace("Iterations 80", "Iterations 120") + (
    "(RequiredRatioOfValidSamples 0.02)\n"
)


def assert_lives_in_the_half(registration: Registration, pair: Any, side: int) -> None:
    assert pair.error(registration.field, side) < 1.0
    assert_leaves_the_other_half(registration, pair, side)


def assert_leaves_the_other_half(registration: Registration, pair: Any, side: int) -> None:
    """It moves there by what its B-splines reach over alone."""
    assert pair.error(registration.field, 1 - side) > 1.6
    assert pair.moves(registration.field, 1 - side) < 0.8


def test_the_field_lives_where_the_mask_is(run: Callable[..., Registration], parted: Any) -> None:
    for role, side in (("fixed_mask", 1), ("moving_mask", 0)):
        found = run(FINE, fixed=parted.fixed, moving=parted.moving, **{role: parted.half(side)})
        assert_lives_in_the_half(found, parted, side)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["AdvancedNormalizedCorrelation", "AdvancedMattesMutualInformation"])
def test_every_metric_reads_every_half(
    run: Callable[..., Registration], half: tuple[Any, int], metric: str
) -> None:
    """With a moving mask alone elastix can gain by driving samples out of it: there only what it leaves
    alone is judged, and that it is not nothing at all."""
    pair, side = half
    text = FINE.replace("AdvancedNormalizedCorrelation", metric)
    images = {"fixed": pair.fixed, "moving": pair.moving}
    assert_lives_in_the_half(run(text, **images, fixed_mask=pair.half(side)), pair, side)
    found = run(text, **images, moving_mask=pair.half(side))
    assert_leaves_the_other_half(found, pair, side)
    assert pair.moves(found.field, side) > 1.0


@pytest.mark.slow
def test_a_mask_of_ones_changes_next_to_nothing(run: Callable[..., Registration], parted: Any) -> None:
    """Samples under a mask are drawn by other rules: another draw, not another field."""
    for role in ("fixed_mask", "moving_mask"):
        found = run(FINE, fixed=parted.fixed, moving=parted.moving, **{role: parted.all_ones})
        assert max(parted.error(found.field, side) for side in (0, 1)) < 0.6


def test_a_hole_that_erosion_widens_is_named(run: Callable[..., Registration], with_a_core: Any) -> None:
    """elastix says that no sample is valid, or that the mask is too small; the file alone can mend it."""
    pair = with_a_core
    schedule = FINE.replace("Resolutions 2", "Resolutions 4").replace("Iterations 120", "Iterations 60")
    images = {"fixed": pair.fixed, "moving": pair.moving, "fixed_mask": pair.hole}
    with pytest.raises(
        EngineError, match=r"around every hole.*of the fixed mask too little.*ErodeMask \"false\""
    ):
        run(schedule, **images)
    kept = run(schedule + '(ErodeMask "false")\n', **images)
    assert abs(pair.core_moves(kept.field)) < 0.5


def test_unusable_pairs_are_refused(run: Callable[..., Registration], pair: Pair) -> None:
    grid = pair.fixed.grid
    empty = Volume(np.zeros(grid.shape, np.int32), grid, Path("mask.nii"))
    with pytest.raises(InputError, match=r"mask\.nii: no voxel of the mask is above zero"):
        run(fixed_mask=empty)
    with pytest.raises(InputError, match=r"mask\.nii: lies on Grid"):
        run(moving_mask=empty)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world((0, 0, 14))
    thin = Volume(pair.fixed.array[..., 14:17].copy(), Grid((*grid.shape[:2], 3), affine))
    with pytest.raises(InputError, match=r"fixed image has 36 x 42 x 3 voxels.*need 4 along each axis"):
        run(fixed=thin)


@pytest.mark.slow
def test_a_foreground_mask_can_be_derived(run: Callable[..., Registration], pair: Pair) -> None:
    registration = run(BSPLINE + f"({FOREGROUND_MASK} 4)\n")
    assert pair.error(registration) < 0.3
    assert "4 mm around" in registration.details["fixed_mask"]
    assert registration.details["unused"] == []
    full = Volume(pair.fixed.array + 1, pair.fixed.grid)
    assert (
        "no empty background" in run(BSPLINE + f"({FOREGROUND_MASK} 4)\n", fixed=full).details["fixed_mask"]
    )


@pytest.mark.slow
def test_two_stages_make_one_field(run: Callable[..., Registration], pair: Pair) -> None:
    registration = run([AFFINE, BSPLINE])
    assert pair.error(registration) < 0.3
    assert [stage["transform"] for stage in registration.details["stages"]] == [
        "AffineTransform",
        "BSplineTransform",
    ]
    assert all(len(stage["resolutions"]) == 2 for stage in registration.details["stages"])
    affine = run(AFFINE)
    assert pair.error(affine) < 0.3
    assert not np.array_equal(affine.field.vectors, registration.field.vectors)


@pytest.mark.slow
def test_orientation_cannot_be_switched_off(run: Callable[..., Registration], pair: Pair) -> None:
    registration = run(BSPLINE + '(UseDirectionCosines "false")\n')
    assert pair.error(registration) < 0.3
    assert {"stage": 0, "key": "UseDirectionCosines", "file": ["false"], "used": "true"}.items() <= next(
        change for change in registration.details["overrides"] if change["key"] == "UseDirectionCosines"
    ).items()


@pytest.mark.slow
def test_images_apart_are_refused_or_brought_together(run: Callable[..., Registration], pair: Pair) -> None:
    away = pair.moving.grid.affine.copy()
    away[0, 3] += 500
    elsewhere = Volume(pair.moving.array, Grid(pair.moving.grid.shape, away))
    with pytest.raises(InputError, match=r"does not meet the fixed image anywhere in the world"):
        run(BSPLINE, moving=elsewhere)
    centred = AFFINE + '(AutomaticTransformInitialization "true")\n'
    shift = run([centred, BSPLINE], moving=elsewhere).field.to_world() - [500, 0, 0]
    assert np.linalg.norm(shift[pair.inside] - SHIFT, axis=1).mean() / 2 < 0.4


@pytest.mark.slow
def test_elastix_s_own_words_are_in_the_error(run: Callable[..., Registration], pair: Pair) -> None:
    with pytest.raises(EngineError, match="Too many samples map outside moving image buffer"):
        run(BSPLINE + "(RequiredRatioOfValidSamples 1.0)\n")


@pytest.mark.slow
def test_sheared_grids_are_refused(run: Callable[..., Registration], pair: Pair) -> None:
    affine = pair.fixed.grid.affine.copy()
    affine[0, 1] = 0.2
    with pytest.raises(InputError, match="fixed image cannot be registered: its affine shears"):
        run(fixed=Volume(pair.fixed.array, Grid(pair.fixed.grid.shape, affine)))


FORKED = """
import os, sys, tempfile
import numpy as np
from pathlib import Path
from iterreg.methods.base import Task
from iterreg.methods.elastix import Elastix
from iterreg.volume import Grid, Volume
method = Elastix()
method.warm()
print("threads", len(os.listdir("/proc/self/task")), flush=True)
pid = os.fork()
if pid == 0:
    x, y, z = np.indices((24, 24, 24))
    grid = Grid((24, 24, 24))
    def blob(shift):
        square = (x - 12 - shift) ** 2 + (y - 11) ** 2 + (z - 12) ** 2
        return (100 * np.exp(-square / 40)).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        task = Task(Volume(blob(0), grid), Volume(blob(1.5), grid), Path(scratch))
        field = method.register(task, method.parameters(sys.argv[1])).field
    print("moved", field.vectors[12, 11, 12, 0], flush=True)
    os._exit(0)
print("status", os.waitpid(pid, 0)[1])
"""


@pytest.mark.slow
def test_a_fork_of_a_warm_parent_registers(tmp_path: Path) -> None:
    environment = {**os.environ, **Elastix().environment(1)}
    own = _file(tmp_path, BSPLINE)
    done = subprocess.run(
        [sys.executable, "-c", FORKED, own],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(
        line.split()
        for line in done.stdout.splitlines()
        if line.split()[:1] in (["threads"], ["moved"], ["status"])
    )
    assert said["threads"] == "1"
    assert said["status"] == "0"
    assert float(said["moved"]) == pytest.approx(1.5, abs=0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]
