"""The reader of elastix's parameter files, against elastix's documented rules (and elastix itself, slow)."""

from __future__ import annotations

from pathlib import Path

import pytest

from iterreg.errors import InputError
from iterreg.methods import presets
from iterreg.methods.elastix_parameters import (
    first_value,
    parse_parameter_map,
    per_resolution,
    read_parameter_map,
)

TRICKY = """// a comment
(Transform "BSplineTransform") // after the bracket
\t(GridSpacingSchedule\t8 4   2 1)
  (Metric "AdvancedNormalizedCorrelation" "TransformBendingEnergyPenalty")

(Metric0Weight 1.0)
(Spaces "a b"  "c")
(Glued "x""y")
(Bracket "a)b")
(Quotes a"b"c)
(Slash/Dash-_1 -0.5)
(Empty "" "z")
(Nothing "")\r
"""


def test_reads_what_elastix_reads() -> None:
    assert parse_parameter_map(TRICKY, "tricky.txt") == {
        "Transform": ["BSplineTransform"],
        "GridSpacingSchedule": ["8", "4", "2", "1"],
        "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
        "Metric0Weight": ["1.0"],
        "Spaces": ["a b", "c"],
        "Glued": ["x", "y"],
        "Bracket": ["a)b"],
        "Quotes": ["a", "b", "c"],
        "Slash/Dash-_1": ["-0.5"],
        "Empty": ["z"],
        "Nothing": [],
    }


def test_values_stay_text_in_the_file_s_order(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text('\ufeff(Zeta 1e-5)\n(Transform "AffineTransform")\n(Alpha 007)\n', encoding="utf-8")
    values = read_parameter_map(path)
    assert list(values.items()) == [
        ("Zeta", ["1e-5"]),
        ("Transform", ["AffineTransform"]),
        ("Alpha", ["007"]),
    ]


def test_written_again_it_reads_the_same() -> None:
    values = parse_parameter_map(TRICKY, "tricky.txt")
    kept = {key: given for key, given in values.items() if given}
    lines = [f"({key} " + " ".join(f'"{value}"' for value in given) + ")" for key, given in kept.items()]
    text = "\n".join(lines)
    assert parse_parameter_map(text, "again.txt") == kept


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(NumberOfResolutions 4", "line 2.*between"),
        ("NumberOfResolutions 4)", "line 2.*between"),
        ("(NumberOfResolutions 4) 5", "line 2.*between"),
        ('(Url "http://x")', "line 2.*between"),  # elastix cuts comments inside quotes too
        ('(Metric "Mattes)', "line 2.*odd number of quotes"),
        ("(NumberOfResolutions)", "line 2.*at least one value"),
        ("( NumberOfResolutions 4)", "line 2.*needs a key"),
        ("()", "line 2.*needs a key"),
        ("(Number:Of 4)", "line 2.*':'"),
        ("(A(B 4)", r"line 2.*'\('"),
        ('(Transform "AffineTransform")', "line 2.*second time"),
        ("(NumberOfResolutions 4.5)", "NumberOfResolutions 4.5.*whole number"),
        ('(NumberOfResolutions 4) (Metric "Mattes")', "line 2.*two entries; write one"),
        ("(NumberOfResolutions 0)", "NumberOfResolutions 0.*whole number"),
        ("(RandomSeed x)", "RandomSeed x.*whole number"),
        ("(TransformParameters 0 0 0)", "wrote as its result"),
    ],
)
def test_a_broken_file_is_named_with_its_line(line: str, said: str) -> None:
    with pytest.raises(InputError, match=f"my.txt.*{said}"):
        parse_parameter_map(f'(Transform "BSplineTransform")\n{line}\n', "my.txt")


@pytest.mark.parametrize("text", ["", "// only words\n", "(Metric 1)\n"])
def test_a_file_without_a_transform_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not an elastix registration parameter file"):
        parse_parameter_map(text, "my.txt")


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such elastix parameter file"):
        read_parameter_map(tmp_path / "absent.txt")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"binary.txt.*plain UTF-8"):
        read_parameter_map(binary)


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf(Transform "AffineTransform")\r\n(NumberOfResolutions 2.000)\r\n',
        '// Prüfung\n(Transform "AffineTransform")\n(NumberOfResolutions 2.000)\n'.encode("latin-1"),
    ],
    ids=["byte order mark and CRLF", "Latin-1"],
)
def test_old_and_foreign_text_files_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    found = read_parameter_map(path)
    assert found == {"Transform": ["AffineTransform"], "NumberOfResolutions": ["2.000"]}


def test_a_second_entry_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: SP_A is given a second time, it stands in line 2"):
        parse_parameter_map('(Transform "AffineTransform")\n(SP_A 1)\n(SP_A 2)\n', "my.txt")


def test_one_value_holds_for_all_resolutions() -> None:
    values = {"Once": ["7"], "Each": ["1", "2", "3"], "Short": ["1", "2"]}
    assert per_resolution(values, "Once", "0", 3) == ["7", "7", "7"]
    assert per_resolution(values, "Each", "0", 3) == ["1", "2", "3"]
    assert per_resolution(values, "Short", "0", 3) == ["1", "2", "1"]
    assert per_resolution(values, "Absent", "9", 2) == ["9", "9"]
    assert first_value(values, "Each", "0") == "1"
    assert first_value(values, "Absent", "0") == "0"


@pytest.mark.slow
def test_elastix_s_own_reader_agrees(tmp_path: Path) -> None:
    itk = pytest.importorskip("itk")
    tricky = tmp_path / "tricky.txt"
    tricky.write_text(TRICKY, newline="")
    shipped = [presets.find("elastix", name) for name in presets.names("elastix")]
    assert shipped
    for path in [tricky, *shipped]:
        settings = itk.ParameterObject.New()
        settings.AddParameterFile(str(path))
        theirs = {key: list(values) for key, values in dict(settings.GetParameterMap(0)).items()}
        assert read_parameter_map(path) == theirs
