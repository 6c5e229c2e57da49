"""Every finding of a check, each provoked by one broken file in an otherwise sound data set."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from iterreg.dataset import Dataset, Pair, Scan
from iterreg.dataset.check import Finding, check

SHAPE = (6, 7, 8)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])

Maker = Callable[..., Path]


def voxels(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, SHAPE).astype(np.float32)


def label_array() -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[4, 4, 4] = 7
    return labels


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Writes a NIfTI file under the data set's folder."""

    def write(
        name: str, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE, image: type = nib.Nifti1Image
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image(array, affine), path)
        return path

    return write


@pytest.fixture
def sound(tmp_path: Path, make: Maker) -> Dataset:
    """Two pairs over three scans with labels, landmarks (blobs) and masks: nothing is wrong with it."""
    scans = []
    for i in range(3):
        name = f"X_{i:04d}_0000.nii.gz"
        scans.append(
            Scan(
                make(f"images/{name}", voxels(i)),
                f"{i:04d}",
                labels=make(f"labels/{name}", label_array()),
                landmarks=make(f"landmarks/{name}", label_array()),
                mask=make(f"masks/{name}", (label_array() > 0).astype(np.uint8)),
            )
        )
    pairs = (Pair(scans[0], scans[1]), Pair(scans[1], scans[2]))
    return Dataset("X", pairs, tmp_path / "X_dataset.json", promised_shape=SHAPE)


def unpromised(dataset: Dataset) -> Dataset:
    return replace(dataset, promised_shape=None)


def only(dataset: Dataset, **options: Any) -> Finding:
    findings = check(dataset, **options)
    assert len(findings) == 1, [str(f) for f in findings]
    return findings[0]


def with_scan(dataset: Dataset, **changes: Any) -> Dataset:
    """The data set with its first scan changed."""
    pair = dataset.pairs[0]
    changed = replace(pair, fixed=replace(pair.fixed, **changes))
    return replace(dataset, pairs=(changed, *dataset.pairs[1:]))


def image_0(dataset: Dataset) -> Path:
    return dataset.pairs[0].fixed.path


def labels_0(dataset: Dataset) -> Path:
    assert dataset.pairs[0].fixed.labels is not None
    return dataset.pairs[0].fixed.labels


def test_a_sound_data_set_has_no_findings(sound: Dataset) -> None:
    assert check(sound) == ()
    assert check(sound, read_voxels=False) == ()


def test_a_finding_is_one_sentence() -> None:
    file = Path("/d/a.nii")
    assert str(Finding("error", file, None, "is bad", "mend it", "k")) == "/d/a.nii: is bad; mend it"
    assert str(Finding("note", None, "1_2", "is odd", "", "k")) == "pair 1_2: is odd"
    assert str(Finding("note", file, "1_2", "is odd", "", "k")) == "/d/a.nii (pair 1_2): is odd"
    assert str(Finding("note", None, None, "is odd", "see", "k")) == "is odd; see"


# -- what engines refuse -------------------------------------------------------------------------


@pytest.fixture
def two_images(make: Maker, tmp_path: Path) -> Callable[..., Dataset]:
    """A pair of images made from arrays and affines."""

    def pair_of(fixed: tuple[Any, Any], moving: tuple[Any, Any] | None = None) -> Dataset:
        files = [make(f"{name}.nii", *one) for name, one in (("f", fixed), ("m", moving or fixed))]
        return Dataset("two", (Pair(Scan(files[0], "1"), Scan(files[1], "2")),), tmp_path)

    return pair_of


def brain(shape: tuple[int, int, int], low: int = 1, high: int = -1) -> NDArray[np.float32]:
    array = np.zeros(shape, np.float32)
    inner = (slice(low, high if high > 0 else None),) + (slice(1, -1),) * 2
    array[inner] = np.random.default_rng(1).uniform(50, 255, array[inner].shape)
    return array


def moved(x: float) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[0, 3] = x
    return affine


def kinds(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(finding.severity, finding.kind) for finding in findings}


@pytest.mark.parametrize("read_voxels", [True, False])
def test_slices_are_no_volumes(two_images: Callable[..., Dataset], read_voxels: bool) -> None:
    noise = np.random.default_rng(0).random((20, 20, 1)).astype(np.float32)
    findings = check(two_images((noise, np.diag([1, 1, 8, 1]))), read_voxels=read_voxels)
    assert kinds(findings) == {("error", "too few slices")}
    assert "has 20x20x1 voxels" in str(findings[0])


@pytest.mark.parametrize("read_voxels", [True, False])
def test_sheared_affines(two_images: Callable[..., Dataset], read_voxels: bool) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    findings = check(two_images((brain((12, 12, 12)), sheared)), read_voxels=read_voxels)
    assert kinds(findings) == {("error", "sheared affine")}
    rounded = np.eye(4)
    rounded[0, 1] = 1e-5
    assert check(two_images((brain((12, 12, 12)), rounded)), read_voxels=read_voxels) == ()


@pytest.mark.parametrize("read_voxels", [True, False])
def test_images_that_do_not_meet(two_images: Callable[..., Dataset], read_voxels: bool) -> None:
    image = brain((12, 12, 12))
    findings = check(two_images((image, np.eye(4)), (image, moved(12))), read_voxels=read_voxels)
    assert ("error", "images apart") in kinds(findings)
    assert ("error", "images apart") not in kinds(check(two_images((image, np.eye(4)), (image, moved(8)))))


def test_brains_that_do_not_meet(two_images: Callable[..., Dataset]) -> None:
    """Their grids do: only the voxels tell."""
    left, right = brain((30, 12, 12), 1, 10), brain((30, 12, 12), 20, 29)
    found = check(two_images((left, np.eye(4)), (right, np.eye(4))))
    assert kinds(found) == {("error", "brains apart")}
    assert check(two_images((left, np.eye(4)), (right, moved(-15))), refused_by_engines="note") != ()
    assert kinds(check(two_images((left, np.eye(4)), (right, moved(-15))))) == {
        ("note", "two grids in a pair")
    }
    assert check(two_images((left, np.eye(4)), (right, np.eye(4))), read_voxels=False) == ()


@pytest.mark.parametrize(("scale", "size"), [(1e-3, "0.0"), (1.0, ""), (1e3, "e+04")])
def test_brains_of_another_unit(two_images: Callable[..., Dataset], scale: float, size: str) -> None:
    affine = np.diag([scale, scale, scale, 1])
    findings = check(two_images((brain((16, 16, 16)), affine)))
    assert kinds(findings) == ({("error", "not of a brain's size")} if size else set())
    if size:
        assert size in findings[0].what
        assert f"its spacing of {scale:.3g} x {scale:.3g} x {scale:.3g} mm" in findings[0].do


def test_run_leaves_it_to_the_plan_what_an_engine_refuses(two_images: Callable[..., Dataset]) -> None:
    image = brain((12, 12, 12))
    pair = two_images((image, np.eye(4)), (image, moved(50)))
    assert ("note", "images apart") in kinds(check(pair, refused_by_engines="note"))


def test_a_mask_beside_what_the_image_shows(sound: Dataset, make: Maker) -> None:
    array = voxels(0)
    array[3:] = 0
    array[:, -2:] = array[:, :1] = array[..., -1:] = array[..., :1] = 0
    image = make("images/X_0000_0000.nii.gz", array)
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 3, 3] = 1
    make("masks/X_0000_0000.nii.gz", mask)
    (found,) = [finding for finding in check(sound) if finding.kind == "mask beside the image"]
    assert found.severity == "error"
    assert image.name in found.what


# -- forms of files that are fine ----------------------------------------------------------------


def test_accepted_forms_of_images(sound: Dataset, make: Maker, tmp_path: Path) -> None:
    big_endian = nib.Nifti1Image(voxels(5), AFFINE, header=nib.Nifti1Header(endianness=">"))
    nib.save(big_endian, tmp_path / "big.nii.gz")
    assert nib.load(tmp_path / "big.nii.gz").header.endianness == ">"
    scaled = nib.Nifti1Image(voxels(6).astype(np.int16), AFFINE)
    scaled.header.set_slope_inter(0.5, 3)
    nib.save(scaled, tmp_path / "scaled.nii")
    forms = [
        make("plain.nii", voxels(1)),
        make("four.nii.gz", voxels(2)[..., None]),
        make("five.nii.gz", voxels(2)[..., None, None]),
        make("bytes.nii.gz", voxels(3).astype(np.uint8)),
        make("double.nii.gz", voxels(4).astype(np.float64)),
        make("two.nii.gz", voxels(4), image=nib.Nifti2Image),
        tmp_path / "big.nii.gz",
        tmp_path / "scaled.nii",
    ]
    for path in forms:
        assert check(with_scan(sound, path=path)) == (), path
        assert check(with_scan(sound, path=path), read_voxels=False) == (), path


def test_values_are_judged_after_scaling(sound: Dataset, tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(6).astype(np.int16), AFFINE)
    image.header.set_slope_inter(1.0, -1000)
    nib.save(image, tmp_path / "ct.nii.gz")
    assert only(with_scan(sound, path=tmp_path / "ct.nii.gz")).kind == "negative intensities"


def test_labels_stored_as_whole_floats_are_fine(sound: Dataset, make: Maker) -> None:
    make("labels/X_0000_0000.nii.gz", label_array().astype(np.float64))
    make("masks/X_0000_0000.nii.gz", label_array().astype(bool).astype(np.float32))
    assert check(sound) == ()


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_voxels", [True, False])
def test_missing_files(sound: Dataset, read_voxels: bool) -> None:
    for path in (image_0(sound), labels_0(sound)):
        content = path.read_bytes()
        path.unlink()
        found = only(sound, read_voxels=read_voxels)
        assert (found.severity, found.kind, found.file) == ("error", "missing file", path)
        path.write_bytes(content)


def test_a_folder_is_no_file(sound: Dataset) -> None:
    image_0(sound).unlink()
    image_0(sound).mkdir()
    assert "is not a file" in str(only(sound))


def test_truncated_files(sound: Dataset, make: Maker, tmp_path: Path) -> None:
    path = image_0(sound)
    whole = path.read_bytes()
    # The last cut leaves every voxel readable: only gzip's own checksum is gone.
    for keep in (0, 10, 200, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:keep])
        found = only(sound)
        assert (found.severity, found.kind, found.file) == ("error", "unreadable file", path), keep
    plain = make("plain.nii", voxels(0))
    plain.write_bytes(plain.read_bytes()[:-1])
    for read_voxels in (True, False):
        assert only(with_scan(sound, path=plain), read_voxels=read_voxels).kind == "unreadable file"


def test_damaged_and_foreign_files(sound: Dataset) -> None:
    path = image_0(sound)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 0xFF  # the checksum
    path.write_bytes(bytes(whole))
    assert only(sound).kind == "unreadable file"
    for content in (b"not gzip at all" * 40, gzip.compress(b"not NIfTI" * 400)):
        path.write_bytes(content)
        for read_voxels in (True, False):
            assert only(sound, read_voxels=read_voxels).kind == "unreadable file"


def patched(path: Path, offset: int, content: bytes) -> Path:
    """The file with some of its header overwritten."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(bytes(whole))
    return path


def test_a_header_with_an_unknown_voxel_type(sound: Dataset, make: Maker) -> None:
    plain = patched(make("plain.nii", voxels(0)), 70, (4321).to_bytes(2, "little"))  # datatype
    for read_voxels in (True, False):
        assert only(with_scan(sound, path=plain), read_voxels=read_voxels).severity == "error"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_as_float32(sound: Dataset, make: Maker, value: float) -> None:
    array = voxels(0).astype(np.float64)
    array[1, 2, 3] = value
    found = only(with_scan(sound, path=make("bad.nii.gz", array)))
    assert (found.severity, found.kind) == ("error", "not finite")
    assert "1 NaN" in found.what


def test_constant_image(sound: Dataset, make: Maker) -> None:
    make("images/X_0000_0000.nii.gz", np.full(SHAPE, 4, np.uint8))
    found = only(sound)
    assert (found.severity, found.kind) == ("error", "constant image")


def test_negative_intensities_are_a_note(sound: Dataset, make: Maker) -> None:
    make("images/X_0000_0000.nii.gz", voxels(0) - 10)
    found = only(sound)
    assert (found.severity, found.kind) == ("note", "negative intensities")


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 8, 2), (6, 7, 8, 1, 3)])
@pytest.mark.parametrize("read_voxels", [True, False])
def test_wrong_dimensions(sound: Dataset, make: Maker, shape: tuple[int, ...], read_voxels: bool) -> None:
    make("images/X_0000_0000.nii.gz", np.ones(shape, np.float32))
    found = only(sound, read_voxels=read_voxels)
    assert (found.severity, found.kind) == ("error", "wrong dimensions")
    assert "x".join(map(str, shape)) in found.what


@pytest.mark.parametrize("dtype", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_voxels_that_are_not_scalars(sound: Dataset, make: Maker, dtype: Any) -> None:
    make("images/X_0000_0000.nii.gz", np.zeros(SHAPE, np.dtype(dtype)))
    assert only(sound).kind == "wrong voxel type"


@pytest.mark.parametrize("read_voxels", [True, False])
def test_an_affine_that_cannot_be_used(sound: Dataset, make: Maker, read_voxels: bool) -> None:
    plain = patched(make("plain.nii", voxels(0)), 312, np.zeros(4, "<f4").tobytes())  # srow_z
    found = only(with_scan(sound, path=plain), read_voxels=read_voxels)
    assert (found.severity, found.kind) == ("error", "bad affine")


def save_forms(path: Path, q: NDArray[np.float64], qcode: int, s: NDArray[np.float64], scode: int) -> None:
    image = nib.Nifti1Image(voxels(0), AFFINE)
    image.set_qform(q, qcode)
    image.set_sform(s, scode)
    nib.save(image, path)


def test_qform_and_sform_conflict(sound: Dataset) -> None:
    path = image_0(sound)
    moved = AFFINE.copy()
    moved[0, 3] = 0.5
    save_forms(path, moved, 1, AFFINE, 2)
    for read_voxels in (True, False):
        found = only(sound, read_voxels=read_voxels)
        assert (found.severity, found.kind, found.file) == ("error", "qform and sform disagree", path)
    save_forms(path, moved, 0, AFFINE, 2)
    assert check(sound) == ()
    moved[0, 3] = 0.01
    save_forms(path, moved, 1, AFFINE, 2)
    assert check(sound) == ()


def test_an_invalid_qform_beside_an_sform(sound: Dataset, make: Maker) -> None:
    plain = make("plain.nii", voxels(0))
    save_forms(plain, AFFINE, 1, AFFINE, 1)
    assert check(with_scan(sound, path=plain)) == ()
    patched(plain, 256, np.array([3.0, 3.0, 3.0], "<f4").tobytes())  # a quaternion longer than one
    assert only(with_scan(sound, path=plain)).kind == "qform and sform disagree"


def test_no_orientation_at_all_is_a_note(sound: Dataset) -> None:
    dataset = unpromised(sound)
    save_forms(image_0(sound), AFFINE, 0, AFFINE, 0)
    kinds = {f.kind: f.severity for f in check(dataset)}
    assert kinds["no orientation"] == "note"


# -- labels, landmarks, masks --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "landmarks", "masks"])
@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, -1.0, 3e9])
def test_label_values_that_are_no_labels(sound: Dataset, make: Maker, kind: str, value: float) -> None:
    array = label_array().astype(np.float32)
    array[0, 0, 0] = value
    found = only_about(sound, make(f"{kind}/X_0000_0000.nii.gz", array))
    assert (found.severity, found.kind) == ("error", "bad labels")


def only_about(dataset: Dataset, path: Path) -> Finding:
    (found,) = [f for f in check(dataset) if f.file == path]
    return found


@pytest.mark.parametrize("kind", ["labels", "landmarks", "masks"])
def test_empty_labels(sound: Dataset, make: Maker, kind: str) -> None:
    found = only_about(sound, make(f"{kind}/X_0000_0000.nii.gz", np.zeros(SHAPE, np.uint8)))
    assert (found.severity, found.kind) == ("error", "empty labels")


@pytest.mark.parametrize("kind", ["labels", "landmarks", "masks"])
def test_labels_on_another_grid(sound: Dataset, make: Maker, kind: str) -> None:
    role = "mask" if kind == "masks" else kind
    name = f"{kind}/X_0000_0000.nii.gz"
    make(name, label_array()[:-1])
    for read_voxels in (True, False):
        found = only(sound, read_voxels=read_voxels)
        assert (found.severity, found.kind) == ("error", f"{role} on another grid")
        assert "5x7x8" in found.what
    shifted = AFFINE.copy()
    shifted[1, 3] = 1
    make(name, label_array(), shifted)
    assert "elsewhere in space" in only(sound).what
    assert "1 mm" in only(sound).what
    shifted[1, 3] = 0.001
    make(name, label_array(), shifted)
    assert check(sound) == ()


def test_no_label_in_common(sound: Dataset, make: Maker) -> None:
    make("labels/X_0000_0000.nii.gz", label_array() * 10)
    found = only(sound)
    assert (found.severity, found.kind, found.pair) == ("error", "no label in common", "0000_0001")


def test_labels_beyond_a_small_range_are_counted_too(sound: Dataset, make: Maker) -> None:
    make("labels/X_0000_0000.nii.gz", label_array().astype(np.int32) * 2_000_000)
    assert only(sound).kind == "no label in common"


def test_labels_and_landmarks_on_one_side_only(sound: Dataset) -> None:
    found = only(with_scan(sound, labels=None))
    assert (found.severity, found.kind, found.pair) == ("note", "labels on one side only", "0000_0001")
    assert "for its moving image" in found.what
    assert only(with_scan(sound, landmarks=None)).kind == "landmarks on one side only"


def test_a_landmark_that_the_moving_volume_lacks(sound: Dataset, make: Maker) -> None:
    array = label_array()
    array[0, 0, 0] = 9
    make("landmarks/X_0000_0000.nii.gz", array)
    found = only(sound)
    assert (found.severity, found.kind) == ("error", "landmarks do not correspond")
    assert "(9)" in found.what
    make("landmarks/X_0000_0000.nii.gz", label_array())
    make("landmarks/X_0002_0000.nii.gz", array)  # moving may have more than fixed
    assert check(sound) == ()


def with_points(dataset: Dataset, *texts: str) -> Dataset:
    """The data set with landmark csv files for its first pair."""
    pair = dataset.pairs[0]
    scans = []
    for scan, text in zip((pair.fixed, pair.moving), texts, strict=True):
        path = scan.path.with_name(f"{scan.subject}.csv")
        path.write_text(text)
        scans.append(replace(scan, landmarks=path))
    return replace(dataset, pairs=(Pair(*scans),))


def test_landmark_csv_files(sound: Dataset) -> None:
    good = "1,2,3\n4.5,5,6\n"
    assert check(with_points(sound, good, good)) == ()
    for text, kind in (
        ("x,y,z\n1,2,3\n", "bad landmarks"),
        ("1,2\n", "bad landmarks"),
        ("1,2,nan\n", "bad landmarks"),
        ("\n", "empty labels"),
    ):
        found = only(with_points(sound, text, good))
        assert (found.severity, found.kind) == ("error", kind), text
    found = only(with_points(sound, good, "1,2,3\n"))
    assert (found.severity, found.kind) == ("error", "landmarks do not correspond")
    found = only(with_points(sound, "1,2,3\n4,5,60\n", good))
    assert (found.severity, found.kind) == ("note", "landmarks outside the image")
    assert "1 of 2" in found.what


def test_landmarks_in_two_forms(sound: Dataset) -> None:
    dataset = with_points(sound, "1,2,3\n", "1,2,3\n")
    pair = dataset.pairs[0]
    mixed = replace(pair, moving=replace(pair.moving, landmarks=sound.pairs[0].moving.landmarks))
    assert only(replace(dataset, pairs=(mixed,))).kind == "landmarks do not correspond"


# -- grids ---------------------------------------------------------------------------------------


def bare(dataset: Dataset) -> Dataset:
    """Its first pair without companions."""
    pair = dataset.pairs[0]
    scans = [replace(s, labels=None, landmarks=None, mask=None) for s in (pair.fixed, pair.moving)]
    return replace(dataset, pairs=(Pair(*scans),))


@pytest.mark.parametrize("read_voxels", [True, False])
def test_promised_shape_not_met(sound: Dataset, make: Maker, read_voxels: bool) -> None:
    make("images/X_0000_0000.nii.gz", voxels(0)[:-1])
    found = only(bare(sound), read_voxels=read_voxels)
    assert (found.severity, found.kind) == ("error", "promised shape not met")
    assert "5x7x8" in found.what
    assert "6x7x8" in found.what


def test_two_places_in_a_pair(sound: Dataset, make: Maker) -> None:
    shifted = AFFINE.copy()
    shifted[2, 3] = 3
    make("images/X_0000_0000.nii.gz", voxels(0), shifted)
    found = only(bare(sound))
    assert (found.severity, found.kind) == ("error", "two grids where one is promised")
    assert "3 mm" in found.what
    found = only(unpromised(bare(sound)))
    assert (found.severity, found.kind) == ("note", "two grids in a pair")


def test_two_orientations_in_a_pair(sound: Dataset, make: Maker) -> None:
    make("images/X_0000_0000.nii.gz", voxels(0), np.diag([-1.0, 1.0, 2.0, 1.0]))
    assert "LAS against RAS" in only(bare(sound)).what


def test_two_shapes_in_a_pair_are_a_note_when_nothing_is_promised(sound: Dataset, make: Maker) -> None:
    make("images/X_0000_0000.nii.gz", voxels(0)[:-1])
    found = only(unpromised(bare(sound)))
    assert (found.severity, found.kind) == ("note", "two grids in a pair")


# -- pairs ---------------------------------------------------------------------------------------


def test_duplicate_pairs_are_told_once(sound: Dataset) -> None:
    found = only(replace(sound, pairs=sound.pairs + sound.pairs[:1] * 3))
    assert (found.severity, found.kind, found.pair) == ("error", "duplicate pair", "0000_0001")


def test_two_pairs_with_one_field_name(sound: Dataset) -> None:
    first = sound.pairs[0]
    clash = Pair(sound.pairs[1].moving, replace(first.moving, path=first.fixed.path))
    clash = replace(clash, fixed=replace(clash.fixed, subject=first.fixed.subject))
    found = [x for x in check(replace(sound, pairs=(first, clash))) if x.severity == "error"]
    assert [(x.kind, x.pair) for x in found] == [("one name for several pairs", "0000_0001")]
    assert "X_0000_0000.nii.gz <- X_0001_0000.nii.gz" in found[0].what
    told_apart = replace(clash, moving=replace(clash.moving, subject="0009"))
    assert not [x for x in check(replace(sound, pairs=(first, told_apart))) if x.severity == "error"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_label_map_as_an_image(sound: Dataset, make: Maker, dtype: type) -> None:
    mapped = with_scan(sound, path=make("images/X_0009_0000.nii.gz", label_array().astype(dtype)))
    found = only(mapped)
    assert (found.severity, found.kind, found.file) == ("error", "label map as an image", image_0(mapped))
    one = replace(sound.pairs[0].fixed, path=image_0(mapped))
    both = replace(sound, pairs=(Pair(one, replace(one, path=labels_0(sound), subject="1")),))
    assert {(f.severity, f.kind) for f in check(both)} == {("note", "label map as an image")}
    flat = make("images/X_0008_0000.nii.gz", (np.rint(voxels(3) / 10) * 10).astype(dtype))
    assert check(with_scan(sound, path=flat)) == ()


def test_one_id_for_two_images_is_a_note(sound: Dataset) -> None:
    first, second = sound.pairs
    found = only(
        replace(sound, pairs=(first, replace(second, moving=replace(second.moving, subject="0000"))))
    )
    assert (found.severity, found.kind) == ("note", "one id for several images")
    assert found.file == second.moving.path


def test_an_image_paired_with_itself_is_a_note(sound: Dataset, tmp_path: Path) -> None:
    scan = sound.pairs[0].fixed
    found = only(replace(sound, pairs=(Pair(scan, scan),)))
    assert (found.severity, found.kind) == ("note", "image paired with itself")
    link = tmp_path / "link.nii.gz"
    link.symlink_to(scan.path)
    found = only(replace(sound, pairs=(Pair(scan, replace(scan, path=link, subject="link")),)))
    assert found.kind == "image paired with itself"


def test_the_data_sets_own_notes_are_passed_on(sound: Dataset) -> None:
    found = only(replace(sound, notes=("was guessed",)))
    assert (found.severity, found.what) == ("note", "was guessed")


# -- cost ----------------------------------------------------------------------------------------


def test_every_file_is_read_once_and_progress_told(sound: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import iterreg.dataset.check as module

    read: list[Path] = []
    inspect = module.inspect_file

    def counted(path: Path, roles: Any, **options: Any) -> Any:
        read.append(path)
        return inspect(path, roles, **options)

    monkeypatch.setattr(module, "inspect_file", counted)
    backwards = tuple(Pair(p.moving, p.fixed) for p in sound.pairs)
    told: list[tuple[int, int, Path]] = []
    findings = check(replace(sound, pairs=sound.pairs + backwards), on_progress=lambda *a: told.append(a))
    assert findings == ()
    assert len(read) == len(set(read)) == 12
    assert told == [(i, 12, path) for i, path in enumerate(read, start=1)]
