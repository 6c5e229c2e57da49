"""BIDS folders: which images are taken, what they are called, which label maps belong to them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from iterreg.dataset import open_dataset
from iterreg.dataset.bids import is_bids, scans_of_bids
from iterreg.errors import InputError


def make(root: Path, *names: str) -> Path:
    """Empty files where their names say: ``sub-01_ses-1_T1w`` goes to ``sub-01/ses-1/anat``."""
    for name in names:
        where, _, name = name.rpartition("/")
        parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = root.joinpath(where, *parts, "anat", f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three subjects in two contrasts with manual label maps of two of them."""
    root = make(tmp_path / "study", *(f"sub-{i}_{c}" for i in ("01", "02", "03") for c in ("T1w", "FLAIR")))
    make(root, "derivatives/manual/sub-01_dseg", "derivatives/manual/sub-02_dseg")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.10.0"}))
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    (root / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    (root / "sub-01/func").mkdir()
    (root / "sub-01/func/sub-01_task-rest_bold.nii.gz").touch()
    return root


def test_t1w_images_with_their_subjects_names_and_label_maps(raw: Path) -> None:
    dataset = open_dataset(raw)
    assert (dataset.name, dataset.notes, dataset.tasks) == ("study", (), ("",))
    assert [pair.name for pair in dataset.pairs] == [
        "sub-01_sub-02", "sub-02_sub-03", "sub-03_sub-01", "sub-01_sub-03", "sub-02_sub-01", "sub-03_sub-02",
    ]  # fmt: skip
    assert dataset.pairs[0].case == "sub-01_0000<--sub-02_0000"
    first, second, third = (pair.fixed for pair in dataset.pairs[:3])
    assert first.path == raw / "sub-01/anat/sub-01_T1w.nii.gz"
    assert first.labels == raw / "derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz"
    assert second.labels == raw / "derivatives/manual/sub-02/anat/sub-02_dseg.nii.gz"
    assert third.labels is None


def test_other_contrasts_and_several(raw: Path) -> None:
    flair = open_dataset(raw, suffix="FLAIR")
    assert {scan.path.name for scan in flair.scans()} == {f"sub-0{i}_FLAIR.nii.gz" for i in (1, 2, 3)}
    assert [pair.name for pair in flair.pairs][:2] == ["sub-01_sub-02", "sub-02_sub-03"]
    both = open_dataset(raw, suffix="T1w,FLAIR")
    assert Counter(pair.task for pair in both.pairs) == {
        "T1w between-subjects": 6, "FLAIR between-subjects": 6,
        "T1w-FLAIR between-subjects": 6, "FLAIR-T1w between-subjects": 6,
        "T1w-FLAIR within-subject": 3, "FLAIR-T1w within-subject": 3,
    }  # fmt: skip
    assert len({pair.name for pair in both.pairs}) == 30
    assert "sub-01_0000_sub-02_0002" in {pair.name for pair in both.pairs}
    with pytest.raises(InputError, match=r"ends with T2w \(it has 3 FLAIR, 3 T1w\).*--suffix"):
        open_dataset(raw, suffix="T2w")
    with pytest.raises(InputError, match="twice"):
        open_dataset(raw, suffix="T1w,T1w")


def test_names_and_tasks_do_not_depend_on_the_pairs_that_are_drawn(raw: Path) -> None:
    everything = {pair.case: (pair.name, pair.task) for pair in open_dataset(raw, suffix="T1w,FLAIR").pairs}
    for which in ("ring", "1", "5", "5:2"):
        some = open_dataset(raw, suffix="T1w,FLAIR", pairs_of=which).pairs
        assert {pair.case: (pair.name, pair.task) for pair in some}.items() <= everything.items()


def test_sessions_and_runs_are_scans_of_their_own(tmp_path: Path) -> None:
    root = make(
        tmp_path / "b", "sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_run-1_T1w",
        "sub-02_ses-1_run-2_T1w", "sub-03_acq-mprage_T1w",
    )  # fmt: skip
    make(
        root, "derivatives/m/sub-01_ses-1_dseg", "derivatives/m/sub-02_ses-1_run-2_dseg",
        "derivatives/m/sub-03_dseg",
    )  # fmt: skip
    assert is_bids(root)
    scans, notes = scans_of_bids(root)
    assert notes == ()
    assert {scan.subject: scan.labels and scan.labels.name for scan in scans} == {
        "sub-01_ses-1": "sub-01_ses-1_dseg.nii.gz",
        "sub-01_ses-2": None,
        "sub-02_ses-1_run-1": None,
        "sub-02_ses-1_run-2": "sub-02_ses-1_run-2_dseg.nii.gz",
        "sub-03": "sub-03_dseg.nii.gz",
    }
    pairs = open_dataset(root).pairs
    assert Counter(pair.task for pair in pairs) == {"between-subjects": 16, "within-subject": 4}
    within = {pair.name for pair in pairs if pair.task == "within-subject"}
    assert "sub-01_ses-1_sub-01_ses-2" in within


def test_a_label_map_without_run_belongs_to_a_lone_scan_only(tmp_path: Path) -> None:
    root = make(tmp_path / "b", "sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-02_run-1_T1w")
    make(root, "derivatives/m/sub-01_dseg", "derivatives/m/sub-02_dseg")
    scans, _ = scans_of_bids(root)
    assert [scan.labels and scan.labels.name for scan in scans] == [None, None, "sub-02_dseg.nii.gz"]


@pytest.fixture
def fmriprep(tmp_path: Path) -> Path:
    """A pipeline's derivatives in two spaces, with three kinds of label maps and brain masks."""
    root = tmp_path / "study"
    for i in ("01", "02"):
        make(root, f"sub-{i}_T1w")
        for space in ("", "space-MNI152NLin6Asym_res-2_"):
            for end in ("desc-preproc_T1w", "desc-brain_mask", "dseg", "label-GM_probseg"):
                make(root, f"derivatives/fmriprep/sub-{i}_{space}{end}")
        for end in ("desc-aseg_dseg", "desc-aparcaseg_dseg"):
            make(root, f"derivatives/fmriprep/sub-{i}_{end}")
    (root / "derivatives/fmriprep/dataset_description.json").write_text('{"DatasetType": "derivative"}')
    return root


def test_versions_of_a_processed_image_are_to_be_chosen(fmriprep: Path) -> None:
    pipeline = fmriprep / "derivatives/fmriprep"
    with pytest.raises(InputError, match=r"sub-01 has 2 versions.*--suffix space-MNI152NLin6Asym_res-2_desc"):
        open_dataset(pipeline)
    scans, notes = scans_of_bids(pipeline, suffix="space-MNI152NLin6Asym_desc-preproc_T1w")
    assert [scan.subject for scan in scans] == ["sub-01", "sub-02"]
    assert notes == ()
    for scan in scans:
        start = scan.path.name.removesuffix("desc-preproc_T1w.nii.gz")
        assert start.endswith("_space-MNI152NLin6Asym_res-2_")
        assert scan.labels == scan.path.with_name(f"{start}dseg.nii.gz")
        assert scan.mask == scan.path.with_name(f"{start}desc-brain_mask.nii.gz")


def test_several_kinds_of_label_maps_are_never_mixed(fmriprep: Path) -> None:
    scans, notes = scans_of_bids(fmriprep)
    assert [scan.path.name for scan in scans] == ["sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"]
    assert [scan.labels for scan in scans] == [None, None]
    assert any("several kinds (desc-aparcaseg_dseg, desc-aseg_dseg, dseg)" in note for note in notes)
    assert any("fmriprep holds processed T1w images too" in note for note in notes)
    scans, _ = scans_of_bids(fmriprep, labels_suffix="desc-aseg_dseg")
    assert [scan.labels.name for scan in scans if scan.labels] == [
        "sub-01_desc-aseg_dseg.nii.gz", "sub-02_desc-aseg_dseg.nii.gz",
    ]  # fmt: skip
    scans, _ = scans_of_bids(fmriprep, labels_suffix="dseg")
    assert [scan.labels.name for scan in scans if scan.labels] == ["sub-01_dseg.nii.gz", "sub-02_dseg.nii.gz"]
    with pytest.raises(InputError, match="no label map that ends with desc-wm_dseg belongs to an image"):
        scans_of_bids(fmriprep, labels_suffix="desc-wm_dseg")


def test_a_pipeline_is_chosen_before_the_suffix(raw: Path) -> None:
    make(raw, *(f"derivatives/synthseg/sub-0{i}_dseg" for i in (1, 2, 3)))
    scans, notes = scans_of_bids(raw)
    assert {scan.labels for scan in scans} == {None}
    assert "manual/dseg, synthseg/dseg" in notes[0]
    scans, notes = scans_of_bids(raw, labels_suffix="synthseg/dseg")
    assert [scan.labels.parts[-4] for scan in scans if scan.labels] == ["synthseg"] * 3
    with pytest.raises(InputError, match=r"several kinds .*\(manual/dseg, synthseg/dseg\)"):
        scans_of_bids(raw, labels_suffix="dseg")


def test_images_of_the_only_pipeline_where_the_raw_data_have_none(tmp_path: Path) -> None:
    root = make(
        tmp_path / "b", "derivatives/strip/sub-01_desc-brain_T1w", "derivatives/strip/sub-02_desc-brain_T1w"
    )
    (root / "dataset_description.json").write_text("{}")
    dataset = open_dataset(root, pairs_of="ring")
    assert [pair.name for pair in dataset.pairs] == ["sub-01_sub-02", "sub-02_sub-01"]
    assert "the images are those of" in dataset.notes[0]
    assert "derivatives/strip" in dataset.notes[0]
    make(root, "derivatives/other/sub-01_T1w")
    with pytest.raises(InputError, match="several pipelines have T1w images"):
        open_dataset(root)


def test_what_does_not_apply_or_cannot_be_is_told(raw: Path) -> None:
    with pytest.raises(InputError, match="modality does not apply to a BIDS folder"):
        open_dataset(raw, modality="0000")
    with pytest.raises(InputError, match="'aseg_dseg' is not how a BIDS name can end"):
        open_dataset(raw, labels_suffix="aseg_dseg")
    empty = raw.parent / "empty"
    empty.mkdir()
    (empty / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError, match="no image in an anat folder"):
        open_dataset(empty)


def test_an_atlas_and_the_subjects_of_a_bids_folder(raw: Path) -> None:
    dataset = open_dataset(raw, atlas=raw.parent / "mni.nii.gz", suffix="FLAIR")
    assert [pair.name for pair in dataset.pairs] == [f"sub-0{i}_0002_mni_0000" for i in (1, 2, 3)]


def test_how_it_was_opened_opens_it_again(raw: Path) -> None:
    dataset = open_dataset(raw, suffix="T1w,FLAIR", labels_suffix="manual/dseg", pairs_of="7:3")
    assert dataset.opened is not None
    options = json.loads(json.dumps(dataset.opened.options))
    assert open_dataset(dataset.opened.sources, **options) == dataset
