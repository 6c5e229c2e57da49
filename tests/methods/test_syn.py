"""SyN: its settings reach antsRegistration, and what comes back is the right field."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from iterreg.errors import EngineError, InputError
from iterreg.field import DisplacementField
from iterreg.methods import presets
from iterreg.methods.base import Method, Parameters, Registration, Task, refusal
from iterreg.methods.syn import SyN
from iterreg.methods.syn_settings import Settings, antsregistration_arguments
from iterreg.methods.trial import make_trial
from iterreg.toml_parameters import from_mapping, plain
from iterreg.volume import Grid, Volume

PRESETS = ("cheap", "mi", "strong", "lumir24-published", "lumir24-script-today")
SHAPE = (32, 30, 28)

# A short schedule that still aligns the phantoms below.
QUICK: dict[str, Any] = {
    "gradient_step": 0.25,
    "metric": {"name": "MeanSquares"},
    "pyramid": {"iterations": [30, 20], "shrink_factors": [4, 2], "smoothing_sigmas": [2.0, 1.0]},
}

Register = Callable[..., Registration]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """ITK reads its variable when antspyx is first used in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SyN().environment(1).items():
            patch.setenv(name, value)
        yield


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = copy.deepcopy(dict(base))
    for key, value in changes.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, Mapping) else value
    return out


def settings(**changes: Any) -> Settings:
    return from_mapping(merged({}, changes), Settings, source="test")


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """Register two volumes with QUICK and changes to it."""

    def run(
        fixed: Volume, moving: Volume, task: Mapping[str, Any] | None = None, **changes: Any
    ) -> Registration:
        scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        values = plain(from_mapping(merged(QUICK, changes), Settings, source="test"))
        return SyN().register(
            Task(fixed, moving, scratch=scratch, **dict(task or {})), Parameters("test", values)
        )

    return run


def texture(shape: tuple[int, int, int]) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(7).standard_normal(shape), 2)
    return 120 + 30 * noise / noise.std()


def ball(
    shape: tuple[int, int, int], radius: float, shift: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
    centre = (np.array(shape) - 1) / 2 + shift
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1)
    return np.clip(radius + 0.5 - distance, 0, 1)


def make_pair(shape: tuple[int, int, int] = SHAPE, radius: float = 9.0) -> tuple[Volume, Volume]:
    """A textured ball, and the same moved by about a voxel and grown a little; zero around both."""
    pattern = texture(shape)
    fixed = pattern * ball(shape, radius)
    moving = np.roll(pattern, (1, 0, -1), (0, 1, 2)) * ball(shape, radius + 0.7, (1.3, 0.4, -1.0))
    return Volume(fixed.astype(np.float32), Grid(shape)), Volume(moving.astype(np.float32), Grid(shape))


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    return make_pair()


def mean_difference(fixed: Volume, moving: Volume, field: DisplacementField) -> float:
    return float(np.abs(fixed.array - field.warp_image(moving).array).mean())


# -- settings -----------------------------------------------------------------------------------------


def test_follows_the_protocol() -> None:
    method = SyN()
    assert isinstance(method, Method)
    assert method.name == "syn"
    assert method.distributions == ("antspyx",)


def test_every_preset_is_complete_and_resolves() -> None:
    assert set(PRESETS) <= set(presets.names("syn"))
    for name in presets.names("syn"):
        parameters = SyN().parameters(name)
        assert parameters.preset == name
        (path,) = parameters.files
        written = tomllib.loads(path.read_text())
        # What a preset states is what is resolved, and what is resolved survives JSON.
        assert merged(parameters.values, written) == parameters.values
        assert json.loads(json.dumps(parameters.values)) == parameters.values


def test_default_is_cheap_and_a_path_is_taken(tmp_path: Path) -> None:
    assert SyN().parameters(None) == SyN().parameters("cheap")
    mine = tmp_path / "mine.toml"
    mine.write_text("gradient_step = 0.3\n[metric]\nradius = 4\n")
    parameters = SyN().parameters(str(mine))
    assert parameters.preset == "mine"
    assert parameters.files == (mine,)
    assert parameters.values["gradient_step"] == 0.3
    assert parameters.values["metric"] == {"name": "CC", "radius": 4, "bins": 32}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flow_sgima = 3", ["'flow_sgima'"]),
        ("gradient_stp = 3", ["'gradient_stp'", "'gradient_step'"]),
        ("gradient_step = 0", ["gradient_step", "above 0"]),
        ("[metric]\nname = 'NCC'", ["metric.name", "'CC'"]),
        ("[pyramid]\niterations = [10, 10]", ["[pyramid]", "2, 4 and 4"]),
        ("[linear]\nstage = 'rigid'\niterations = [10]", ["[linear]", "1, 4 and 4"]),
        ("winsorize = [0.9, 0.1]", ["winsorize"]),
        ("discard_initial_translation = true", ["discard_initial_translation", "linear.initialization"]),
        (
            "discard_initial_translation = true\n"
            "[linear]\ninitialization = 'center_of_mass'\nstage = 'affine'",
            ["discard_initial_translation", "linear.stage"],
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        SyN().parameters(str(path))
    for word in ["bad.toml", *words]:
        assert word in str(caught.value)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'cheap'"):
        SyN().parameters("cheep")


# -- arguments ----------------------------------------------------------------------------------------


def arguments(**changes: Any) -> list[str]:
    return antsregistration_arguments(
        settings(**changes), fixed="F", moving="M", fixed_mask="FM", moving_mask="MM", output="out_", seed=5
    )


def value_of(listed: list[str], option: str, which: int = 0) -> str:
    places = [i for i, text in enumerate(listed) if text == option]
    return listed[places[which] + 1]


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({}, "--transform", "SyN[0.2,3.0,0.0]"),
        ({"gradient_step": 0.35}, "--transform", "SyN[0.35,3.0,0.0]"),
        ({"update_field_variance": 2}, "--transform", "SyN[0.2,2.0,0.0]"),
        ({"total_field_variance": 0.5}, "--transform", "SyN[0.2,3.0,0.5]"),
        ({"metric": {"radius": 4}}, "--metric", "CC[F,M,1,4]"),
        ({"metric": {"name": "MI", "bins": 48}}, "--metric", "MI[F,M,1,48]"),
        ({"metric": {"name": "MeanSquares"}}, "--metric", "MeanSquares[F,M,1,2]"),
        ({"metric": {"name": "Demons", "radius": 3}}, "--metric", "Demons[F,M,1,3]"),
        ({"pyramid": {"iterations": [9, 8, 7, 0]}}, "--convergence", "[9x8x7x0,1e-06,10]"),
        ({"convergence": {"threshold": 1e-8}}, "--convergence", "[100x70x50x20,1e-08,10]"),
        ({"convergence": {"window": 6}}, "--convergence", "[100x70x50x20,1e-06,6]"),
        ({"pyramid": {"shrink_factors": [6, 4, 3, 2]}}, "--shrink-factors", "6x4x3x2"),
        ({"pyramid": {"smoothing_sigmas": [2, 1.5, 1, 0.5]}}, "--smoothing-sigmas", "2x1.5x1x0.5vox"),
        ({"precision": "double"}, "--float", "0"),
        ({}, "--float", "1"),
        ({"winsorize": [0.005, 0.995]}, "--winsorize-image-intensities", "[0.005,0.995]"),
        ({"histogram_matching": True}, "--use-histogram-matching", "1"),
        ({}, "--use-histogram-matching", "0"),
        ({}, "--masks", "[FM,MM]"),
        ({}, "--random-seed", "5"),
        ({}, "--output", "[out_]"),
        ({"linear": {"initialization": "center_of_mass"}}, "--initial-moving-transform", "[F,M,1]"),
        ({"linear": {"initialization": "geometric_center"}}, "--initial-moving-transform", "[F,M,0]"),
    ],
)
def test_each_knob_reaches_the_command(changes: dict[str, Any], option: str, value: str) -> None:
    assert value_of(arguments(**changes), option) == value


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({}, "--transform", "Rigid[0.1]"),
        ({"gradient_step": 0.2}, "--transform", "Rigid[0.2]"),
        ({}, "--metric", "MI[F,M,1,32,Regular,0.25]"),
        ({"bins": 16, "sampling_share": 0.5, "sampling": "Random"}, "--metric", "MI[F,M,1,16,Random,0.5]"),
        ({"metric": "CC", "radius": 3, "sampling": "None"}, "--metric", "CC[F,M,1,3,None]"),
        ({"metric": "GC"}, "--metric", "GC[F,M,1,0,Regular,0.25]"),
        ({"iterations": [9, 8, 7, 6]}, "--convergence", "[9x8x7x6,1e-06,10]"),
        ({"threshold": 1e-5, "window": 5}, "--convergence", "[1000x500x250x0,1e-05,5]"),
        ({"shrink_factors": [6, 4, 3, 2]}, "--shrink-factors", "6x4x3x2"),
        ({"smoothing_sigmas": [4, 3, 2, 1]}, "--smoothing-sigmas", "4x3x2x1vox"),
    ],
)
def test_each_linear_knob_reaches_the_command(changes: dict[str, Any], option: str, value: str) -> None:
    listed = arguments(linear={"stage": "rigid", **changes})
    assert value_of(listed, option) == value
    assert value_of(listed, "--transform", 1).startswith("SyN[")


def test_stages_and_what_is_left_out() -> None:
    affine = arguments(linear={"stage": "affine"})
    assert [value_of(affine, "--transform", i).split("[")[0] for i in range(3)] == ["Rigid", "Affine", "SyN"]
    plain_list = arguments(use_masks=False)
    for option in ("--masks", "--initial-moving-transform", "--winsorize-image-intensities"):
        assert option not in plain_list
    one_mask = antsregistration_arguments(
        settings(), fixed="F", moving="M", moving_mask="MM", output="o", seed=1
    )
    assert value_of(one_mask, "--masks") == "[NA,MM]"


def test_every_setting_changes_the_command_or_the_images() -> None:
    """No setting is dead: those absent from the argument list are the ones register handles itself."""
    handled_elsewhere = {"crop_margin_mm", "discard_initial_translation"}
    covered = {"metric", "pyramid", "convergence", "linear"}
    simple = {
        "gradient_step": 0.9,
        "update_field_variance": 1.5,
        "total_field_variance": 1.5,
        "precision": "double",
        "winsorize": [0.1, 0.9],
        "histogram_matching": True,
        "use_masks": False,
    }
    assert set(plain(Settings())) == handled_elsewhere | covered | set(simple)
    for name, value in simple.items():
        assert arguments(**{name: value}) != arguments(), name


# -- cost and environment -----------------------------------------------------------------------------


def test_cost_follows_grid_schedule_and_crop() -> None:
    method, grid = SyN(), Grid((160, 224, 192))
    strong, cheap = (method.cost(method.parameters(name), grid, grid) for name in ("strong", "cheap"))
    full = method.cost(method.parameters("lumir24-script-today"), grid, grid)
    assert strong.cpu_seconds > 4 * cheap.cpu_seconds
    # Measured on an OASIS pair: 2,209 MB at full resolution, 0.93 GB for a cropped level of half resolution.
    assert 1.0 < full.memory / 2209e6 < 1.3
    assert 1.0 < cheap.memory / 928e6 < 1.3
    # Measured there: about 140 CPU s for an iteration at full resolution, 3,375 for all.
    assert 0.7 < full.cpu_seconds / 3375 < 1.4
    half = Grid((80, 112, 96))
    assert method.cost(method.parameters("strong"), half, half).cpu_seconds < strong.cpu_seconds / 6


def test_threads_are_held() -> None:
    environment = SyN().environment(3)
    assert environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


# -- the engine ---------------------------------------------------------------------------------------


def test_finds_the_way_between_oblique_anisotropic_grids(register: Register) -> None:
    trial = make_trial()
    still = trial.error(DisplacementField.identity(trial.fixed.grid, trial.moving.grid))
    linear = {
        "initialization": "center_of_mass",
        "stage": "rigid",
        "shrink_factors": [4, 2],
        "smoothing_sigmas": [2, 1],
        "iterations": [200, 100],
    }
    result = register(trial.fixed, trial.moving, {"inverse": True}, crop_margin_mm=8.0, linear=linear)
    assert trial.error(result.field) < 0.15 * still
    assert result.field.fixed == trial.fixed.grid
    assert result.field.moving == trial.moving.grid
    assert result.inverse is not None
    assert result.inverse.fixed == trial.moving.grid
    there_and_back = result.field.compose(result.inverse).vectors[trial.mask]
    assert np.abs(there_and_back).max() < 0.3


def test_forward_and_inverse_agree(register: Register, pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    result = register(fixed, moving, {"inverse": True})
    before = mean_difference(fixed, moving, DisplacementField.identity(fixed.grid))
    assert mean_difference(fixed, moving, result.field) < 0.6 * before
    assert result.inverse is not None
    assert mean_difference(moving, fixed, result.inverse) < 0.6 * before
    residual = result.field.compose(result.inverse).vectors[fixed.array > 0]
    assert np.abs(residual).max() < 0.1
    assert np.abs(result.field.vectors).max() > 1
    assert register(fixed, moving).inverse is None


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": {"name": "Demons"}},
        {"metric": {"name": "MI", "bins": 16}},
        {"metric": {"name": "CC"}},
        {"metric": {"name": "CC", "radius": 3}},
        {"gradient_step": 0.1},
        {"update_field_variance": 1.0},
        {"total_field_variance": 0.5},
        {"pyramid": {"iterations": [30, 0]}},
        {"convergence": {"threshold": 1e-2}},
        {"winsorize": [0.0, 0.9]},
        {"histogram_matching": True},
        {"precision": "double"},
    ],
    ids=lambda changes: "-".join(map(str, changes.items())),
)
def test_knobs_change_the_field(
    register: Register, pair: tuple[Volume, Volume], quick_field: np.ndarray, changes: dict[str, Any]
) -> None:
    vectors = register(*pair, **changes).field.vectors
    # Double precision alone changes little.
    assert np.abs(vectors - quick_field).max() > (0 if "precision" in changes else 1e-3)
    assert np.abs(vectors).max() > 0.3


@pytest.fixture(scope="module")
def quick_field(pair: tuple[Volume, Volume], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    values = plain(from_mapping(QUICK, Settings, source="test"))
    task = Task(*pair, scratch=tmp_path_factory.mktemp("quick"))
    return SyN().register(task, Parameters("test", values)).field.vectors


def test_crop_changes_next_to_nothing(register: Register) -> None:
    fixed, moving = make_pair((44, 40, 42), radius=8)
    whole = register(fixed, moving)
    cropped = register(fixed, moving, crop_margin_mm=9.0)
    box = np.array(cropped.details["box"])
    filled = np.argwhere((fixed.array > 0) | (moving.array > 0))
    np.testing.assert_array_equal(box[:, 0], np.maximum(filled.min(axis=0) - 9, 0))
    np.testing.assert_array_equal(box[:, 1], np.minimum(filled.max(axis=0) + 10, fixed.grid.shape))
    assert (box[:, 1] - box[:, 0]).prod() < 0.8 * fixed.grid.size
    difference = np.linalg.norm(whole.field.vectors - cropped.field.vectors, axis=-1)[fixed.array > 0]
    moved = np.linalg.norm(whole.field.vectors, axis=-1)[fixed.array > 0]
    assert difference.mean() < 0.1 * moved.mean()
    outside = np.ones(fixed.grid.shape, bool)
    outside[tuple(slice(a, b) for a, b in box)] = False
    assert not cropped.field.vectors[outside].any()


def test_crop_follows_the_initial_translation(register: Register) -> None:
    """Grids far apart in the world: the boxes meet only after the centres of mass do."""
    fixed, moving = make_pair((44, 40, 42), radius=8)
    affine = np.eye(4)
    affine[:3, 3] = (60, -30, 20)
    far = Volume(moving.array, Grid(moving.grid.shape, affine))
    result = register(fixed, far, crop_margin_mm=6.0, linear={"initialization": "center_of_mass"})
    box = np.array(result.details["box"])
    assert (box[:, 1] - box[:, 0]).prod() < 0.6 * fixed.grid.size
    still = DisplacementField.identity(fixed.grid, fixed.grid)
    assert mean_difference(fixed, far, result.field) < 0.7 * mean_difference(fixed, moving, still)


# Enough for the halves of a parted pair: 2 voxels to go, at the whole resolution in the end.
MASKED: dict[str, Any] = {
    "pyramid": {"iterations": [30, 15], "shrink_factors": [2, 1], "smoothing_sigmas": [1.0, 0.5]},
}
METRICS = ("CC", "MI", "MeanSquares", "Demons")


def assert_lives_in_the_half(found: Registration, pair: Any, side: int) -> None:
    assert pair.error(found.field, side) < 0.95
    assert pair.error(found.field, 1 - side) > 1.6
    assert pair.moves(found.field, 1 - side) < 0.4


@pytest.mark.parametrize(("role", "side"), [("fixed_mask", 0), ("moving_mask", 1)])
def test_the_field_lives_where_the_mask_is(register: Register, parted: Any, role: str, side: int) -> None:
    images = (parted.fixed, parted.moving, {role: parted.half(side)})
    assert_lives_in_the_half(register(*images, **MASKED, metric={"name": "MI"}), parted, side)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "role"),
    [
        ("MI", "fixed_mask"), ("MI", "moving_mask"), ("CC", "fixed_mask"), ("CC", "moving_mask"),
        ("MeanSquares", "fixed_mask"), ("Demons", "moving_mask"),
    ],
)  # fmt: skip
def test_every_metric_reads_every_half(
    register: Register, half: tuple[Any, int], metric: str, role: str
) -> None:
    pair, side = half
    found = register(pair.fixed, pair.moving, {role: pair.half(side)}, **MASKED, metric={"name": metric})
    assert_lives_in_the_half(found, pair, side)


@pytest.mark.parametrize("metric", ["CC", "MeanSquares", "Demons"])
def test_metrics_read_masks_in_both_precisions(register: Register, parted: Any, metric: str) -> None:
    both = {"fixed_mask": parted.half(1), "moving_mask": parted.half(1)}
    for precision in ("float", "double"):
        found = register(
            parted.fixed, parted.moving, both, **MASKED, metric={"name": metric}, precision=precision
        )
        assert_lives_in_the_half(found, parted, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mask_of_ones_changes_nothing(register: Register, parted: Any, metric: str) -> None:
    """Mutual information failed with any mask: it found no sample inside."""
    quick = {"pyramid": {"iterations": [6, 4]}, "metric": {"name": metric}}
    plain_field = register(parted.fixed, parted.moving, **quick).field.vectors
    for role in ("fixed_mask", "moving_mask"):
        masked = register(parted.fixed, parted.moving, {role: parted.all_ones}, **quick)
        np.testing.assert_array_equal(masked.field.vectors, plain_field)


@pytest.mark.parametrize("metric", ["MI", "MeanSquares"])
def test_a_hole_is_not_looked_into(register: Register, with_a_core: Any, metric: str) -> None:
    pair, settings = with_a_core, {**MASKED, "metric": {"name": metric}}
    assert pair.core_moves(register(pair.fixed, pair.moving, **settings).field) > 1.0
    for role in ("fixed_mask", "moving_mask"):
        found = register(pair.fixed, pair.moving, {role: pair.hole}, **settings)
        assert abs(pair.core_moves(found.field)) < 0.4


@pytest.mark.parametrize("metric", ["MI", "MeanSquares", "CC", "GC"])
def test_linear_stages_follow_the_mask(register: Register, parted: Any, metric: str) -> None:
    """One translation for two halves that move apart: the mask says which."""
    linear = {
        "stage": "rigid", "metric": metric, "sampling": "None", "gradient_step": 0.2,
        "iterations": [150, 100], "shrink_factors": [2, 1], "smoothing_sigmas": [1.0, 0.0],
    }  # fmt: skip
    still = {"pyramid": {"iterations": [0], "shrink_factors": [1], "smoothing_sigmas": [0.0]}}
    for role, side in (("fixed_mask", 0), ("moving_mask", 1)):
        found = register(parted.fixed, parted.moving, {role: parted.half(side)}, linear=linear, **still)
        assert parted.error(found.field, side) < 0.6
        assert parted.error(found.field, 1 - side) > 2.5


def test_masks_are_left_out_on_request(
    register: Register, pair: tuple[Volume, Volume], quick_field: np.ndarray
) -> None:
    fixed, moving = pair
    half = np.zeros(SHAPE, np.int32)
    half[:12] = 1
    mask = Volume(half, fixed.grid)
    ignored = register(fixed, moving, {"fixed_mask": mask, "moving_mask": mask}, use_masks=False)
    np.testing.assert_array_equal(ignored.field.vectors, quick_field)


def test_discarding_the_initial_translation_loses_it(register: Register) -> None:
    """The published row's defect: the field lacks exactly the shift between the centres of mass."""
    fixed, _ = make_pair()
    moving = Volume(np.roll(fixed.array, (3, -2, 2), (0, 1, 2)), fixed.grid)
    linear = {"initialization": "center_of_mass"}
    kept = register(fixed, moving, {"inverse": True}, linear=linear)
    lost = register(fixed, moving, {"inverse": True}, linear=linear, discard_initial_translation=True)
    np.testing.assert_allclose(
        kept.field.vectors - lost.field.vectors, np.broadcast_to((3, -2, 2), (*SHAPE, 3)), atol=0.02
    )
    assert np.abs(lost.field.vectors).max() < 0.3
    assert mean_difference(fixed, moving, kept.field) < 0.1 * mean_difference(fixed, moving, lost.field)
    assert kept.details["transforms"] == ["syn_1Warp.nii.gz", "syn_0GenericAffine.mat"]
    assert lost.details["transforms"] == ["syn_1Warp.nii.gz"]
    assert lost.inverse is not None
    assert np.abs(lost.inverse.vectors).max() < 0.3


def test_details_tell_how_each_level_ended(register: Register, pair: tuple[Volume, Volume]) -> None:
    result = register(*pair, pyramid={"iterations": [4, 3]})
    levels = result.details["levels"]
    assert [level["iterations"] for level in levels] == [4, 3]
    assert {level["stage"] for level in levels} == {"syn"}
    assert all(np.isfinite(level["metric"]) for level in levels)
    json.dumps(result.details)


def test_nothing_is_left_outside_scratch(
    register: Register, pair: tuple[Volume, Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    register(*pair, pyramid={"iterations": [1, 1]})
    assert list(elsewhere.iterdir()) == []


# -- errors -------------------------------------------------------------------------------------------


def test_shear_is_refused(register: Register, pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(
        InputError, match=r"tilted\.nii: the moving image cannot be registered: its affine shears"
    ):
        register(fixed, Volume(moving.array, Grid(SHAPE, affine), Path("tilted.nii")))


def test_rounding_in_the_affine_is_no_shear(
    register: Register, pair: tuple[Volume, Volume], quick_field: np.ndarray
) -> None:
    affine = np.eye(4)
    affine[0, 1] = 1e-5
    fixed, moving = (Volume(volume.array, Grid(SHAPE, affine)) for volume in pair)
    np.testing.assert_allclose(register(fixed, moving).field.vectors, quick_field, atol=0.02)


@pytest.mark.parametrize(("value", "words"), [(0.0, "every voxel is 0"), (np.nan, "holds NaN")])
def test_images_without_content_are_refused(
    register: Register, pair: tuple[Volume, Volume], value: float, words: str
) -> None:
    fixed, _ = pair
    empty = Volume(np.full(SHAPE, value, np.float32), fixed.grid, Path("empty.nii"))
    with pytest.raises(InputError, match=rf"empty\.nii: {words}"):
        register(fixed, empty)


def test_images_apart_in_the_world_are_refused(register: Register, pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    affine = np.eye(4)
    affine[:3, 3] = 100
    with pytest.raises(InputError, match=r"does not meet the fixed image.*linear\.initialization"):
        register(fixed, Volume(moving.array, Grid(SHAPE, affine)))


def test_unusable_masks_are_refused(register: Register, pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    empty = Volume(np.zeros(SHAPE, np.int32), fixed.grid, Path("mask.nii"))
    with pytest.raises(InputError, match=r"mask\.nii: no voxel of the mask"):
        register(fixed, moving, {"fixed_mask": empty})
    small = Volume(np.ones((5, 5, 5), np.int32), Grid((5, 5, 5)), Path("mask.nii"))
    with pytest.raises(InputError, match=r"mask\.nii: lies on Grid\(5x5x5"):
        register(fixed, moving, {"moving_mask": small})
    beside = np.zeros(SHAPE, np.int32)
    beside[:2, :2, :2] = 1
    with pytest.raises(InputError, match=r"mask\.nii: the fixed image is 0 everywhere under the mask"):
        register(fixed, moving, {"fixed_mask": Volume(beside, fixed.grid, Path("mask.nii"))})


@pytest.mark.parametrize(
    ("fixed", "moving", "preset", "words"),
    [
        (Grid((34, 30, 1)), Grid((34, 30, 9)), "mi", "fixed image has 34 x 30 x 1 voxels"),
        (Grid((34, 30, 9)), Grid((34, 3, 9)), "mi", "moving image has 34 x 3 x 9 voxels"),
        (Grid((34, 30, 7)), Grid((34, 30, 7)), "cheap", "needs 4 along each axis after shrinking by 2"),
        (Grid((9, 9, 9)), Grid((9, 9, 9), np.diag([1, 1, 1, 1]) + np.eye(4, k=1) * 0.1), "mi", "shears"),
        (Grid((9, 9, 9)), Grid((9, 9, 9), np.eye(4) + 20 * np.eye(4, k=3)), "mi", "does not meet"),
        (Grid((34, 30, 8)), Grid((34, 30, 4)), "cheap", ""),
        (Grid((9, 9, 9)), Grid((9, 9, 9), np.eye(4) + 20 * np.eye(4, k=3)), "affine", ""),
    ],
)
def test_grids_tell_what_will_be_refused(fixed: Grid, moving: Grid, preset: str, words: str) -> None:
    method = SyN()
    said = refusal(method, method.parameters(preset), fixed, moving)
    assert words in said
    assert bool(said) == bool(words)


def test_levels_without_an_inner_voxel_are_refused(register: Register, pair: tuple[Volume, Volume]) -> None:
    """antsRegistration answers with zeros: a grid's border does not move."""
    fixed, moving = (Volume(one.array[..., 10:15].copy(), Grid((*SHAPE[:2], 5))) for one in pair)
    with pytest.raises(InputError, match=r"32 x 30 x 5 voxels.*needs 4 along each axis after shrinking by 2"):
        register(fixed, moving)
    assert np.abs(register(fixed, moving, pyramid={"shrink_factors": [2, 1]}).field.vectors).max() > 0.3


def test_a_stage_that_antsregistration_skips_is_an_error(register: Register) -> None:
    """It catches the exception of a stage without overlap, goes on, and exits with 0."""
    image = texture(SHAPE).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = (31, 29, 27)  # one corner in common
    with pytest.raises(EngineError, match=r"could not finish a stage.*outside moving image"):
        register(Volume(image, Grid(SHAPE)), Volume(image, Grid(SHAPE, affine)), linear={"stage": "rigid"})


def test_brains_apart_in_the_world_are_refused(register: Register, pair: tuple[Volume, Volume]) -> None:
    """Their grids meet, so that antsRegistration answers with an undeformed field."""
    fixed, moving = pair
    affine = np.eye(4)
    affine[0, 3] = 25
    away = Volume(moving.array, Grid(SHAPE, affine), Path("away.nii"))
    with pytest.raises(InputError, match=r"away\.nii: what the two images show does not meet"):
        register(fixed, away)


# -- one thread, one seed -----------------------------------------------------------------------------

CHILD = """
import hashlib, json, os, sys
from pathlib import Path
from iterreg.methods.syn import SyN
from iterreg.methods.base import Task, Parameters

method, folder = SyN(), Path(sys.argv[1])
method.warm()
threads = len(os.listdir("/proc/self/task"))

import ants
import nibabel as nib
import numpy as np
from iterreg.volume import load_image

def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()

def run(name, preset, **changes):
    scratch = folder / name
    scratch.mkdir()
    values = {**method.parameters(preset).values, **changes}
    result = method.register(Task(fixed, moving, scratch, seed=3), Parameters(preset, values))
    return result.field

fixed, moving = load_image(folder / "fixed.nii"), load_image(folder / "moving.nii")
linear = {"stage": "rigid", "sampling": "Random", "initialization": "center_of_mass"}
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    os.write(write_end, digest(run("child", "cheap", linear=linear).vectors).encode())
    os._exit(0)
_, status = os.waitpid(child, 0)
os.close(write_end)
forked = os.read(read_end, 1000).decode()
ours = [digest(run(f"parent{i}", "cheap", linear=linear).vectors) for i in range(2)]

images = [ants.image_read(str(folder / name)) for name in ("fixed.nii", "moving.nii")]
theirs = ants.registration(*images, "antsRegistrationSyN[so]", outprefix=str(folder / "theirs_"))
warp = nib.load(theirs["fwdtransforms"][0]).get_fdata(dtype=np.float32)[:, :, :, 0]
preset = run("script", "lumir24-script-today").to_world().astype(np.float32) * np.float32([-1, -1, 1])
report = {
    "threads": threads, "status": status, "forked": forked, "ours": ours, "moved": float(np.abs(warp).max()),
    "theirs": digest(warp), "preset": digest(preset + 0),
}
(folder / "report.json").write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A process of its own: the number of threads is fixed when antspyx is imported."""
    import nibabel as nib

    folder = tmp_path_factory.mktemp("process")
    for name, volume in zip(("fixed", "moving"), make_pair((24, 22, 20), radius=7), strict=True):
        nib.nifti1.Nifti1Image(volume.array, volume.grid.affine).to_filename(folder / f"{name}.nii")
    finished = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env={**os.environ, **SyN().environment(1)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_warming_starts_no_threads_and_children_can_register(report: dict[str, Any]) -> None:
    assert report["threads"] == 1
    assert report["status"] == 0
    assert report["forked"] == report["ours"][0]


def test_one_thread_and_one_seed_give_the_same_bytes(report: dict[str, Any]) -> None:
    assert report["ours"][0] == report["ours"][1]


def test_script_today_is_what_antspyx_does(report: dict[str, Any]) -> None:
    """The preset's field equals ants.registration(fixed, moving, "antsRegistrationSyN[so]") bit for bit."""
    assert report["moved"] > 0.5
    assert report["preset"] == report["theirs"]
