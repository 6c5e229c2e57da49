"""A saved geodesic is the registration: the same field again, or a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iterreg.errors import InputError
from iterreg.lddmm.lattice import Lattice
from iterreg.lddmm.reproducing_kernel import GaussianSum, Sobolev
from iterreg.lddmm.transform import Transform
from iterreg.lddmm.unfolding import unfold
from iterreg.volume import Grid

Array = np.ndarray

FIXED = Grid((31, 27, 22), np.diag([1.0, 1.5, 2.0, 1.0]))
MOVING = Grid((40, 30, 33), np.array([[0, -1.2, 0, 36], [1.1, 0, 0, -1], [0, 0, 1.4, 0], [0, 0, 0, 1]]))


@pytest.fixture(scope="module", params=[False, True], ids=["at the fixed image", "half-way"])
def transform(request: Any, bumps: Callable[..., Array]) -> Transform:
    rng = np.random.default_rng(5)
    lattice = Lattice.covering((0, 0, 0), (30, 39, 42), 2.0, 8.0)
    momentum = np.stack([bumps(rng, lattice, 5.0, 8, 30, 10) for _ in range(3)])
    made = Transform(momentum.astype(np.float32), lattice, Sobolev(4.0), request.param, 4, FIXED, MOVING)
    return replace(made, momentum=made.momentum * np.float32(5 / np.abs(made.velocity).max()))


def test_inverse_undoes_the_field(transform: Transform) -> None:
    there, back = transform.field(), transform.inverse()
    assert (there.fixed, there.moving) == (FIXED, MOVING)
    assert (back.fixed, back.moving) == (MOVING, FIXED)
    moved = np.linalg.norm(there.to_world(), axis=-1)
    assert moved.max() > 3
    loop = there.compose(back)
    inner = np.linalg.norm(loop.vectors, axis=-1)[4:-4, 4:-4, 4:-4]
    assert inner.mean() < 0.02
    assert np.percentile(inner, 99.9) < 0.2


def test_half_way_is_the_middle_of_the_way(transform: Transform) -> None:
    """Turning the momentum round and exchanging the grids inverts the map, where it stands in the middle."""
    if not transform.symmetric:
        assert not transform.to_meeting().any()
        return
    turned = replace(transform, momentum=-transform.momentum)
    np.testing.assert_allclose(turned.displacement(), transform.inverse_displacement(), atol=1e-5)
    assert turned.distance == pytest.approx(transform.distance)


@pytest.mark.parametrize("kernel", [Sobolev(4.0, 4), GaussianSum((6.0, 3.0), (0.25, 0.75))], ids=str)
def test_saved_and_read_it_makes_the_same_field(transform: Transform, kernel: Any, tmp_path: Path) -> None:
    path = tmp_path / "geodesic.npz"
    written = replace(transform, kernel=kernel)
    written.save(path)
    read = Transform.load(path)
    assert (read.fixed, read.moving, read.kernel, read.lattice) == (FIXED, MOVING, kernel, written.lattice)
    assert read.symmetric == written.symmetric
    assert read.distance == written.distance
    np.testing.assert_array_equal(read.field().vectors, written.field().vectors)
    np.testing.assert_array_equal(read.inverse().vectors, written.inverse().vectors)


def about(path: Path, **changes: Any) -> None:
    """Rewrite the description of a saved geodesic."""
    with np.load(path) as content:
        momentum, text = content["momentum"], str(content["about"])
    np.savez(path, momentum=momentum, about=np.array(json.dumps({**json.loads(text), **changes})))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte of the momentum": lambda path: path.write_bytes(
        path.read_bytes()[:5000] + b"\xff" + path.read_bytes()[5001:]
    ),
    "text": lambda path: path.write_text("momentum"),
    "another npz": lambda path: np.savez(path, velocity=np.zeros(3)),
    "a plain array": lambda path: np.save(path.open("wb"), np.zeros((3, 4, 4, 4))),
    "no kernel": lambda path: about(path, kernel={}),
    "an unknown kernel": lambda path: about(path, kernel={"Wendland": {}}),
    "a later format": lambda path: about(path, format=99),
    "a lattice of another shape": lambda path: about(
        path, lattice={"origin": [0, 0, 0], "spacing": [1, 1, 1], "shape": [8, 8, 8]}
    ),
    "a grid without size": lambda path: about(path, fixed={"shape": [0, 1, 1], "affine": np.eye(4).tolist()}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_its_name(transform: Transform, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "geodesic.npz"
    transform.save(path)
    DAMAGE[damage](path)
    with pytest.raises(InputError, match=r"geodesic\.npz"):
        Transform.load(path)


def test_unfolding_leaves_what_does_not_fold(transform: Transform) -> None:
    calm, field, report = unfold(transform)
    assert calm is transform
    assert report["rounds"] == 0
    assert report["norm_kept"] == 1
    np.testing.assert_array_equal(field.vectors, transform.field().vectors)


def test_unfolding_calms_the_momentum_not_the_field(transform: Transform) -> None:
    """A momentum that shears within a voxel: what is written is the plain flow of a calmer one."""
    rng = np.random.default_rng(6)
    rough = rng.standard_normal(transform.momentum.shape).astype(np.float32)
    rough[:, :12] = 0  # rough at one end only
    violent = replace(transform, kernel=Sobolev(1.5), momentum=rough)
    violent = replace(violent, momentum=rough * np.float32(9 / np.abs(violent.velocity).max()))
    before = violent.field().folding()
    assert before.lowest_determinant < 0
    calm, field, report = unfold(violent)
    assert report["rounds"] > 0
    assert 0 < report["norm_kept"] < 1
    assert report["smallest_determinant"] > 0
    assert field.folding().lowest_determinant > 0
    assert field.folding().folded_voxels == 0
    np.testing.assert_array_equal(field.vectors, calm.field().vectors)
    assert calm.distance < violent.distance
