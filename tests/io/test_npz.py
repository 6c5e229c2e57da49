"""Half-resolution fields against the evaluators' own upsampling call."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import zoom

from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io import npz
from iterreg.volume import Grid

GRID = Grid((12, 16, 10))


def test_reading_is_the_evaluators_zoom(tmp_path: Path) -> None:
    half = np.random.default_rng(0).normal(0, 3, (3, 6, 8, 5)).astype(np.float16)
    np.savez(tmp_path / "disp_1_2.npz", half)
    expected = np.array([zoom(half[i].astype(np.float32), 2, order=2) for i in range(3)])
    got = npz.read(tmp_path / "disp_1_2.npz", GRID, GRID).vectors
    np.testing.assert_array_equal(got, np.moveaxis(expected, 0, -1))


def test_writing_what_was_upsampled_gives_the_half_field_back(tmp_path: Path) -> None:
    half = np.random.default_rng(1).normal(0, 3, (3, 6, 8, 5)).astype(np.float16)
    npz.write(tmp_path / "a.npz", npz.from_half(half, GRID, GRID))
    written = npz.load_array(tmp_path / "a.npz")
    assert written.dtype == np.float16
    assert written.shape == half.shape
    np.testing.assert_allclose(written.astype(float), half.astype(float), atol=4e-3)


def test_writing_is_the_least_squares_solution(tools: SimpleNamespace) -> None:
    """Against a dense solve over the whole (small) grid: the slow twin."""
    grid = Grid((4, 6, 4))
    vectors = np.random.default_rng(2).normal(size=(*grid.shape, 3)).astype(np.float32)
    basis = np.stack(
        [zoom(e.reshape(2, 3, 2), 2, order=2).ravel() for e in np.eye(12)], axis=1
    )  # one column per half-resolution sample
    expected = [np.linalg.lstsq(basis, vectors[..., c].ravel(), rcond=None)[0] for c in range(3)]
    got = npz.to_half(DisplacementField(vectors, grid, grid)).reshape(3, -1)
    np.testing.assert_allclose(got, np.array(expected), rtol=2e-3, atol=2e-3)


def test_least_squares_beats_taking_every_second_voxel(tools: SimpleNamespace) -> None:
    field = tools.smooth_field(GRID, GRID, seed=4, amplitude=3.0)

    def loss(half: np.ndarray) -> float:
        return float(np.square(npz.from_half(half, GRID, GRID).vectors - field.vectors).mean())

    every_second = np.moveaxis(field.vectors[::2, ::2, ::2], -1, 0).astype(np.float16)
    assert loss(npz.to_half(field)) < 0.05 * loss(every_second)


@pytest.mark.parametrize("first", [True, False])
def test_full_size_arrays_are_taken_unscaled(tmp_path: Path, first: bool) -> None:
    vectors = np.random.default_rng(5).normal(size=(*GRID.shape, 3)).astype(np.float16)
    np.savez(tmp_path / "a.npz", np.moveaxis(vectors, -1, 0) if first else vectors)
    got = npz.read(tmp_path / "a.npz", GRID, GRID).vectors
    np.testing.assert_array_equal(got, vectors.astype(np.float32))


def test_write_full(tmp_path: Path, tools: SimpleNamespace) -> None:
    field = tools.smooth_field(GRID, GRID, seed=1)
    npz.write_full(tmp_path / "a.npz", field)
    np.testing.assert_array_equal(npz.read(tmp_path / "a.npz", GRID, GRID).vectors, field.vectors)


class TestRefusals:
    def test_several_arrays(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", np.zeros(3), np.zeros(3))
        with pytest.raises(InputError, match="arr_0, arr_1"):
            npz.read(tmp_path / "a.npz", GRID, GRID)

    def test_odd_sizes(self, tmp_path: Path) -> None:
        odd = Grid((5, 6, 4))
        with pytest.raises(InputError, match="even sizes"):
            npz.write(tmp_path / "a.npz", DisplacementField.identity(odd))
        np.savez(tmp_path / "b.npz", np.zeros((3, 2, 3, 2), np.float16))
        with pytest.raises(InputError, match="even X, Y, Z"):
            npz.read(tmp_path / "b.npz", odd, odd)

    def test_range(self) -> None:
        with pytest.raises(InputError, match="float16's range"):
            npz.to_half(DisplacementField(np.full((4, 4, 4, 3), 1e6, np.float32), Grid((4, 4, 4)), GRID))

    def test_nan(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", np.full((3, 6, 8, 5), np.nan, np.float16))
        with pytest.raises(InputError, match="NaN"):
            npz.read(tmp_path / "a.npz", GRID, GRID)

    def test_pickles_and_truncation(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", np.array([{"a": 1}], dtype=object))
        with pytest.raises(InputError, match="cannot be read"):
            npz.read(tmp_path / "a.npz", GRID, GRID)
        np.savez(tmp_path / "b.npz", np.zeros((3, 6, 8, 5), np.float16))
        (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:100])
        with pytest.raises(InputError, match="cannot be read"):
            npz.read(tmp_path / "b.npz", GRID, GRID)

    def test_name(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"\.npz"):
            npz.write(tmp_path / "a.npy", DisplacementField.identity(GRID))


def _lying_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(100)


def _header(text: str) -> bytes:
    """An array file whose header, which numpy reads as Python, is this text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(1440)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.npz", {"a.txt": b"hello"}, "is an archive of a.txt, not of a numpy array"),
        ("none.npz", {}, "holds the arrays none"),
        ("damaged.npz", {"arr_0.npy": b"hello"}, "magic string"),
        ("lie.npz", {"arr_0.npy": _lying_header((32767,) * 4)}, "bytes instead of"),
        ("lie.npy", _lying_header((32767,) * 4), "cannot be read as a numpy file"),
        ("text.npy", b"not an array", "magic string is not correct"),
        ("empty.npy", b"", "cannot be read as a numpy file"),
        ("open.npy", _header("{'descr': "), "cannot be read as a numpy file"),
        ("open.npz", {"arr_0.npy": _header("{'descr': ")}, "cannot be read as a numpy file"),
        ("list.npz", {"arr_0.npy": _header("{[]: 1}")}, "unhashable"),
        ("tuple.npy", _header("{'descr': (), 'fortran_order': False, 'shape': (3,)}"), "out of range"),
        ("bool.npy", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}"), "integer"),
        ("deep.npy", _header("[" * 5000), "cannot be read as a numpy file"),
    ],
)
def test_what_is_no_array_is_refused(
    name: str, content: bytes | dict[str, bytes], words: str, tmp_path: Path
) -> None:
    """Before memory is asked for what a header promises, and never with the advice to unpickle."""
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in content.items():
                archive.writestr(member, data)
    with pytest.raises(InputError, match=words) as raised:
        npz.load_array(path)
    assert str(path) in str(raised.value)
    assert "pickle" not in str(raised.value)


def test_complex_and_objects_are_refused(tmp_path: Path) -> None:
    for name, array in (("c", np.zeros((4, 4, 4, 3), np.complex64)), ("o", np.array([{}], object))):
        np.save(tmp_path / f"{name}.npy", array)
        np.savez(tmp_path / f"{name}.npz", array)
        for suffix in (".npy", ".npz"):
            with pytest.raises(InputError, match=f"{name}{suffix}: "):
                npz.load_array(tmp_path / f"{name}{suffix}")


@pytest.mark.filterwarnings("error")
def test_a_header_of_python_2_is_read(tmp_path: Path) -> None:
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L, 4L), }"
    path = tmp_path / "old.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes())
    np.testing.assert_array_equal(npz.load_array(path), array)
