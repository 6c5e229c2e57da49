"""Packing: what the official evaluator would reject is refused in a sentence; the zip is reproducible."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import nibabel as nib
import numpy as np
import pytest

from iterreg.batch.package import pack
from iterreg.batch.vetting import inspect
from iterreg.cli.main import main
from iterreg.dataset import open_dataset
from iterreg.errors import InputError
from iterreg.field import DisplacementField
from iterreg.io.challenge import write_field
from iterreg.runs import MethodResults, RunFolder, open_results
from iterreg.volume import Grid

SHAPE = (6, 7, 8)


def official_name(entry: dict[str, str]) -> str:
    """The evaluator's own rule, by string positions (twin of `Pair.name`)."""
    fix, mov = entry["fixed"], entry["moving"]
    fix_id, fix_mod, mov_id, mov_mod = fix[-16:-12], fix[-11:-7], mov[-16:-12], mov[-11:-7]
    if fix_mod == mov_mod or (fix_mod == "0000" and mov_mod == "0001"):
        return f"disp_{fix_id}_{mov_id}.nii.gz"
    return f"disp_{fix_id}_{fix_mod}_{mov_id}_{mov_mod}.nii.gz"


def image(number: int, modality: int = 0) -> str:
    return f"./imagesVal/LUMIRMRI_{number:04d}_{modality:04d}.nii.gz"


def lumir25_pairs() -> list[dict[str, str]]:
    """The 36 validation pairs as LUMIR25 lists them, two of the multi-modal ones turned round."""
    ends: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for first in (3455, 4015, 3485):
        ends += [((n, 0), (n - 1, 0)) for n in range(first, first + 9)]
    ends += [((n, 0), (n + 9, 1)) for n in range(4024, 4031)]
    ends += [((n + 9, 1), (n, 0)) for n in range(4031, 4033)]
    return [{"fixed": image(*f), "moving": image(*m)} for f, m in ends]


def write_json(path: Path, pairs: list[dict[str, str]], **more: Any) -> Path:
    content = {"name": "LUMIR25", "tensorImageShape": {"0": list(SHAPE)}, "validation": pairs, **more}
    path.write_text(json.dumps(content))
    return path


def write_random(path: Path, rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE) -> None:
    vectors = rng.standard_normal((*shape, 3)).astype(np.float32)
    write_field(path, DisplacementField(vectors, Grid(shape), Grid(shape)))


@pytest.fixture
def submission(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path, list[str]]:
    """A complete plain folder of the 36 fields, the json, and the names by the official rule."""
    pairs = lumir25_pairs()
    folder = tmp_path / "vfa"
    folder.mkdir()
    names = [official_name(entry) for entry in pairs]
    for name in names:
        write_random(folder / name, rng)
    return folder, write_json(tmp_path / "LUMIR25_dataset.json", pairs), names


def find_fields(path: Path, *, arm: str | None = None) -> MethodResults:
    return open_results(path).only(arm)


def errors(folder: Path, dataset: Path) -> tuple[str, ...]:
    return inspect(find_fields(folder), open_dataset(dataset)).errors


def only(found: tuple[str, ...]) -> str:
    assert len(found) == 1, found
    return found[0]


# -- a plain folder -----------------------------------------------------------------------------------


def test_all_36_pairs_are_packed_by_the_official_names(
    submission: tuple[Path, Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset, names = submission
    out = tmp_path / "vfa.zip"
    assert main(["package", str(folder), "--dataset", str(dataset), "--out", str(out)]) == 0
    with ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(f"folder/{name}" for name in names)
        assert "folder/disp_4041_0001_4032_0000.nii.gz" in archive.namelist()
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        for name in names:
            assert archive.read(f"folder/{name}") == (folder / name).read_bytes()
    said = capsys.readouterr().out
    assert "36 fields" in said
    assert re.search(r"sha256 [0-9a-f]{64}", said)


def test_the_zip_depends_on_the_fields_alone(
    submission: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    folder, dataset, names = submission
    opened = open_dataset(dataset)
    first = pack(inspect(find_fields(folder), opened).members, tmp_path / "a.zip")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in reversed(names):
        shutil.copyfile(folder / name, elsewhere / name)
        (elsewhere / name).chmod(0o600)
    second = pack(inspect(find_fields(elsewhere), opened).members, tmp_path / "b.zip")
    assert first.sha256 == second.sha256
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_real_lumir25_json_is_understood(data_dir: Path, tmp_path: Path) -> None:
    content = json.loads((data_dir / "lumir25_json" / "LUMIR25_dataset.json").read_text())
    dataset = write_json(tmp_path / "LUMIR25_dataset.json", content["validation"])
    folder = tmp_path / "fields"
    folder.mkdir()
    for entry in content["validation"]:
        write_field(folder / official_name(entry), DisplacementField.identity(Grid(SHAPE)))
    found = inspect(find_fields(folder), open_dataset(dataset))
    assert found.errors == ()
    assert len(found.members) == 36


def _remove(path: Path, _: Path) -> None:
    path.unlink()


def _nan(path: Path, _: Path) -> None:
    vectors = np.zeros((*SHAPE, 3), np.float32)
    vectors[1, 2, 3, 0] = np.nan
    nib.save(nib.Nifti1Image(vectors, np.eye(4)), path)


def _five_dimensions(path: Path, _: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 1, 3), np.float32), np.eye(4)), path)


def _reversed_axes(path: Path, _: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE[::-1], 3), np.float32), np.eye(4)), path)


def _truncated(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _long_name(path: Path, folder: Path) -> None:
    path.rename(folder / "disp_3455_0000_3454_0000.nii.gz")


def _swapped(path: Path, folder: Path) -> None:
    path.rename(folder / "disp_3454_3455.nii.gz")


def _uncompressed(path: Path, folder: Path) -> None:
    nib.save(nib.load(path), folder / "disp_3455_3454.nii")
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_remove, r"disp_3455_3454\.nii\.gz: is missing"),
        (_nan, r"disp_3455_3454\.nii\.gz: holds NaN or infinite displacements in 1 voxels"),
        (_five_dimensions, r"disp_3455_3454\.nii\.gz: has shape 6x7x8x1x3, five dimensions as ANTs"),
        (_reversed_axes, r"disp_3455_3454\.nii\.gz: has shape 8x7x6x3, .*the axes are reversed"),
        (_truncated, r"disp_3455_3454\.nii\.gz: cannot be read"),
        (_long_name, r"disp_3455_0000_3454_0000\.nii\.gz: the evaluator looks for disp_3455_3454\.nii\.gz"),
        (_swapped, r"disp_3454_3455\.nii\.gz: names the moving image first"),
        (_uncompressed, r"disp_3455_3454\.nii: the evaluator looks for disp_3455_3454\.nii\.gz"),
    ],
)
def test_a_spoilt_field_is_refused_in_one_sentence(
    spoil: Callable[[Path, Path], None],
    sentence: str,
    submission: tuple[Path, Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, dataset, _ = submission
    spoil(folder / "disp_3455_3454.nii.gz", folder)
    assert re.search(sentence, only(errors(folder, dataset)))
    out = tmp_path / "out.zip"
    assert main(["package", str(folder), "--dataset", str(dataset), "--out", str(out)]) == 1
    assert re.search(sentence, capsys.readouterr().err)
    assert not out.exists()


def test_the_short_name_is_refused_where_the_long_one_is_needed(
    submission: tuple[Path, Path, list[str]],
) -> None:
    folder, dataset, _ = submission
    (folder / "disp_4041_0001_4032_0000.nii.gz").rename(folder / "disp_4041_4032.nii.gz")
    assert "the evaluator looks for disp_4041_0001_4032_0000.nii.gz" in only(errors(folder, dataset))


def test_every_finding_gets_its_sentence(submission: tuple[Path, Path, list[str]]) -> None:
    folder, dataset, names = submission
    for name in names[:3]:
        (folder / name).unlink()
    _nan(folder / names[5], folder)
    found = errors(folder, dataset)
    assert len(found) == 4
    for name, sentence in zip((*names[:3], names[5]), found, strict=True):
        assert name in sentence


def test_fields_of_other_pairs_are_refused_unless_ignored_and_other_files_noted(
    submission: tuple[Path, Path, list[str]], rng: np.random.Generator
) -> None:
    folder, dataset, _ = submission
    write_random(folder / "disp_9999_9998.nii.gz", rng)
    (folder / "metrics.txt").write_text("0.78")
    (folder / "disp_3455_3454.json").write_text("{}")
    opened = open_dataset(dataset)
    found = inspect(find_fields(folder), opened)
    assert "belongs to no pair" in only(found.errors)
    assert any("metrics.txt: is no field" in note for note in found.notes)
    ignoring = inspect(find_fields(folder), opened, ignore_extra=True)
    assert ignoring.errors == ()
    assert len(ignoring.members) == 36


def test_component_first_fields_are_accepted_as_the_evaluator_accepts_them(
    submission: tuple[Path, Path, list[str]],
) -> None:
    folder, dataset, names = submission
    nib.save(nib.Nifti1Image(np.zeros((3, *SHAPE), np.float32), np.eye(4)), folder / names[0])
    assert errors(folder, dataset) == ()


def test_a_field_that_changes_after_its_inspection_is_not_packed(
    submission: tuple[Path, Path, list[str]], tmp_path: Path, rng: np.random.Generator
) -> None:
    folder, dataset, names = submission
    members = inspect(find_fields(folder), open_dataset(dataset)).members
    write_random(folder / names[7], rng)
    out = tmp_path / "out.zip"
    out.write_bytes(b"the zip of yesterday")
    with pytest.raises(InputError, match="changed while it was packed"):
        pack(members, out)
    assert out.read_bytes() == b"the zip of yesterday"
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_plain_folder_needs_a_data_set(
    submission: tuple[Path, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", str(submission[0])]) == 1
    assert "--dataset" in capsys.readouterr().err
    with pytest.raises(InputError, match="is not a run folder"):
        find_fields(submission[0], arm="syn")


def test_without_a_promised_shape_the_fixed_image_decides(tmp_path: Path, rng: np.random.Generator) -> None:
    pairs = [{"fixed": image(1), "moving": image(2)}]
    dataset = write_json(tmp_path / "x_dataset.json", pairs, tensorImageShape=None)
    folder = tmp_path / "fields"
    folder.mkdir()
    write_random(folder / "disp_0001_0002.nii.gz", rng)
    unseen = inspect(find_fields(folder), open_dataset(dataset))
    assert unseen.errors == ()
    assert any("could not be compared" in note for note in unseen.notes)
    (tmp_path / "imagesVal").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((6, 7, 9), np.float32), np.eye(4)), tmp_path / pairs[0]["fixed"])
    assert "6x7x9x3" in only(errors(folder, dataset))


# -- a run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the identity over three pairs, one of them of a constant image, which fails."""
    folder = tmp_path_factory.mktemp("packaged")
    (folder / "imagesVal").mkdir()
    rng = np.random.default_rng(7)
    for number in (1, 2, 3, 4):
        values = rng.random(SHAPE, dtype=np.float32) * 200 if number < 4 else np.ones(SHAPE, np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / image(number))
    pairs = [{"fixed": image(f), "moving": image(m)} for f, m in ((1, 2), (2, 3), (3, 4))]
    write_json(folder / "LUMIR_dataset.json", pairs)
    run = ["run", str(folder / "LUMIR_dataset.json"), "--out", str(folder / "run"), "-m", "identity", "-q"]
    assert main([*run, "--no-check"]) == 2
    return folder


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the run to spoil; its data set stays where it is."""
    shutil.copytree(finished_run / "run", tmp_path / "run")
    return tmp_path / "run"


def two_pairs(run: Path, finished_run: Path) -> Path:
    """The data set without the pair that fails."""
    content = json.loads((finished_run / "LUMIR_dataset.json").read_text())
    path = run.parent / "two_dataset.json"
    return write_json(path, content["validation"][:2])


def test_a_run_is_held_to_its_whole_data_set(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parent / "out.zip"
    assert main(["package", str(run), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "disp_0003_0004.nii.gz: is missing, its job failed" in said
    assert "2 of 3 fields are fit" in said
    assert not out.exists()


@pytest.mark.parametrize("named", ["run", "run/identity", "run/identity/fields"])
def test_a_run_or_its_arm_is_packed_without_sidecars(named: str, run: Path, finished_run: Path) -> None:
    out, dataset = run.parent / "out.zip", two_pairs(run, finished_run)
    assert main(["package", str(run.parent / named), "--dataset", str(dataset), "--out", str(out)]) == 0
    with ZipFile(out) as archive:
        assert archive.namelist() == ["folder/disp_0001_0002.nii.gz", "folder/disp_0002_0003.nii.gz"]


def test_a_field_that_is_not_what_was_written_is_refused(
    run: Path, finished_run: Path, rng: np.random.Generator
) -> None:
    dataset = two_pairs(run, finished_run)
    field = RunFolder(run).arm("identity").job("0001_0002").field
    content = bytearray(field.read_bytes())
    content[-9] ^= 1
    field.write_bytes(content)
    assert "has other content than was written" in only(errors(run, dataset))
    write_random(field, rng)
    assert "has another size than was written" in only(errors(run, dataset))
    field.unlink()
    assert "is gone" in only(errors(run, dataset))


def test_a_field_without_a_status_does_not_count(run: Path, finished_run: Path) -> None:
    RunFolder(run).arm("identity").job("0001_0002").status.unlink()
    assert "its job has not ended" in only(errors(run, two_pairs(run, finished_run)))


def test_a_run_of_some_pairs_is_no_submission(run: Path, finished_run: Path) -> None:
    content = json.loads((finished_run / "LUMIR_dataset.json").read_text())
    pairs = [*content["validation"][:2], {"fixed": image(1), "moving": image(3)}]
    dataset = write_json(run.parent / "more_dataset.json", pairs)
    assert "the run was never asked for this pair" in only(errors(run, dataset))


def test_a_run_on_images_of_another_shape_than_promised_is_refused(run: Path, finished_run: Path) -> None:
    content = json.loads((finished_run / "LUMIR_dataset.json").read_text())
    dataset = write_json(
        run.parent / "other_dataset.json", content["validation"][:1], tensorImageShape={"0": [6, 7, 9]}
    )
    found = inspect(find_fields(run), open_dataset(dataset), ignore_extra=True)
    assert "has shape 6x7x8x3 where 6x7x9x3 is needed" in only(found.errors)


def test_the_pairs_of_the_record_count_when_the_data_set_is_gone(run: Path, finished_run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["dataset"]["source"] = str(run.parent / "gone_dataset.json")
    record["pairs"] = record["pairs"][:2]
    (run / "run.json").write_text(json.dumps(record))
    dataset = RunFolder(run).read().whole()
    assert [pair.name for pair in dataset.pairs] == ["0001_0002", "0002_0003"]
    found = inspect(find_fields(run), dataset)
    assert found.errors == ()
    assert len(found.members) == 2
    assert any("name the challenge's json" in note for note in found.notes)


def test_the_arm_must_be_named_when_there_are_several(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["arms"]["syn-cheap"] = record["arms"]["identity"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"choose with --arm among identity, syn-cheap"):
        find_fields(run)
    assert find_fields(run, arm="identity").name == "identity"
    with pytest.raises(InputError, match="has no arm 'lddmm'"):
        find_fields(run, arm="lddmm")
    with pytest.raises(InputError, match="leave --arm out"):
        find_fields(run / "identity", arm="syn-cheap")


def test_the_zip_must_have_a_place_and_a_name(
    submission: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    members = inspect(find_fields(submission[0]), open_dataset(submission[1])).members
    with pytest.raises(InputError, match=r"end --out in \.zip"):
        pack(members, tmp_path / "fields.tar")
    with pytest.raises(InputError, match="does not exist"):
        pack(members, tmp_path / "nowhere" / "fields.zip")
    with pytest.raises(InputError, match="no field to pack"):
        pack((), tmp_path / "fields.zip")
