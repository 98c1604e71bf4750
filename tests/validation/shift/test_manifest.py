"""A manifest says who is who: what is wrong in it is told in one sentence, what is only odd becomes a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from srh_clinic.errors import InputError
from srh_clinic.validation.shift.manifest import cohort_from_predictions, read_manifest

HEAD = "case,patient,truth,site"
CLASSES = ("tumor", "normal", "nondiagnostic")
SHARES = [f"{when}_{name}" for when in ("before", "after") for name in CLASSES]
PREDICTED = ",".join(["case", "patient", "truth", *SHARES, "slide", "trust"])


def written(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no CSV|an empty file|no column"),
        (["case,patient"], r"no column truth; needed the columns case, patient, truth"),
        (["case,patient,truth,case"], r"the column case twice"),
        ([HEAD], "no row"),
        ([HEAD, "a,P1,benign,A"], r"the truth 'benign' in line 2; needed one of tumor, normal, nondiagnostic"),
        ([HEAD, "a,P1,tumor,A", "a,P2,tumor,A"], r"the case 'a' in lines 2 and 3; needed each case once"),
        ([HEAD, ",P1,tumor,A"], "no case in line 2"),
        ([HEAD, "a,,tumor,A"], "no patient in line 2"),
        ([HEAD + ",before_tumor", "a,P1,tumor,A,1"], "before_tumor but not before_normal"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as found:
        read_manifest(written(tmp_path, *lines))
    assert str(tmp_path / "manifest.csv") in str(found.value)


def test_a_manifest_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="a file that is not CSV in UTF-8"):
        read_manifest(tmp_path / "picture.csv")


def test_what_is_odd_is_a_warning(tmp_path: Path) -> None:
    lines = [HEAD + ",colour", "a,P1,tumor,A,red", "b,P1,tumor,B,red", "", "c,P2,tumor,A,blue"]
    found = read_manifest(written(tmp_path, *lines))
    assert [row["case"] for row in found.rows] == ["a", "b", "c"]
    assert any("colour" in one for one in found.warnings)
    assert any("more than one site: P1;" in one for one in found.warnings)
    assert any("All cases are tumor" in one for one in found.warnings)


def test_a_spreadsheets_mark_and_capitals_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xef\xbb\xbfCase, Patient ,TRUTH\r\na,P1,tumor\r\nb,P2,normal\r\n")
    found = read_manifest(path)
    assert [row["truth"] for row in found.rows] == ["tumor", "normal"]
    assert not found.has_predictions
    assert not found.warnings


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("0.5,0.5,0.5,1,0,0", "add up to 1"),
        ("-0.1,1,0.1,1,0,0", "three numbers from 0 to 1"),
        ("half,0.5,0,1,0,0", "'half' as before_tumor in line 2"),
        ("nan,0.5,0.5,1,0,0", "a finite number"),
    ],
)
def test_probabilities_that_are_none_are_refused(tmp_path: Path, cells: str, said: str) -> None:
    manifest = read_manifest(written(tmp_path, PREDICTED, f"a,P1,tumor,{cells},,"))
    with pytest.raises(InputError, match=said):
        cohort_from_predictions(manifest)


def test_rows_without_a_prediction_are_left_out_and_say_so(tmp_path: Path) -> None:
    lines = [PREDICTED, "a,P1,tumor,0.7,0.2,0.1,0.1,0.8,0.1,,1.25", "b,P2,normal,,,,,,,,"]
    cohort = cohort_from_predictions(read_manifest(written(tmp_path, *lines)))
    (case,) = cohort.cases
    assert (case.before.said, case.after.said, case.trust, case.steps_predicted) == ("tumor", "normal", 1.25, None)
    assert [(one.case, one.why) for one in cohort.excluded] == [("b", "no prediction in the manifest")]
    assert cohort.level == "slide"


def test_several_rows_of_one_slide_are_patches(tmp_path: Path) -> None:
    rows = [f"{name},P1,tumor,0.7,0.2,0.1,0.1,0.8,0.1,s1," for name in "ab"]
    assert cohort_from_predictions(read_manifest(written(tmp_path, PREDICTED, *rows))).level == "patch"


CELLS = ["a", "P1", "tumor", *["0,5", "0,25", "0,25"] * 2, "s1", "1,5"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_may_be_separated_as_spreadsheets_do(tmp_path: Path, separator: str) -> None:
    lines = [
        PREDICTED.replace(",", separator),
        separator.join(CELLS),
    ]
    (case,) = cohort_from_predictions(read_manifest(written(tmp_path, *lines))).cases
    assert (case.before.probabilities, case.trust) == ((0.5, 0.25, 0.25), 1.5)


def test_the_line_that_names_the_separator_is_read(tmp_path: Path) -> None:
    lines = ["sep=;", PREDICTED.replace(",", ";"), ";".join(CELLS)]
    manifest = read_manifest(written(tmp_path, *lines))
    assert cohort_from_predictions(manifest).cases[0].before.probabilities == (0.5, 0.25, 0.25)
    assert manifest.rows[0].line == 3
    with pytest.raises(InputError, match=r"found columns separated by '\|'; needed commas, semicolons or tabs"):
        read_manifest(written(tmp_path, HEAD.replace(",", "|"), "a|P1|tumor|A"))


@pytest.mark.parametrize("again", ["./scans/a.dcm", "scans//a.dcm", "x/../scans/a.dcm", "scans/a\u200b.dcm"])
def test_one_case_under_two_names_is_refused(tmp_path: Path, again: str) -> None:
    rest = "tumor,0.7,0.2,0.1,0.1,0.8,0.1,,"
    with pytest.raises(InputError, match="in lines 2 and 3; needed each case once"):
        read_manifest(written(tmp_path, PREDICTED, f"scans/a.dcm,P1,{rest}", f"{again},P2,{rest}"))


@pytest.mark.parametrize("line", ["b,P2,tumor", "b,P2,tumor,A,more"])
def test_a_row_with_another_number_of_cells_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"cells in line 4 under 4 columns"):
        read_manifest(written(tmp_path, HEAD, '"a\na",P1,tumor,A', line))


def test_probabilities_rounded_to_three_digits_are_taken(tmp_path: Path) -> None:
    rows = ["a,P1,tumor,0.333,0.333,0.333,0.3335,0.3335,0.3335,,"]
    (case,) = cohort_from_predictions(read_manifest(written(tmp_path, PREDICTED, *rows))).cases
    assert sum(case.before.probabilities) == pytest.approx(1)


def test_codes_for_missing_values_are_told(tmp_path: Path) -> None:
    lines = [PREDICTED, "a,P1,tumor,0.7,0.2,0.1,0.1,0.8,0.1,NA,-99", "b,P2,normal,-1,-1,-1,0.1,0.8,0.1,,"]
    cohort = cohort_from_predictions(read_manifest(written(tmp_path, *lines)))
    assert cohort.cases[0].trust is None
    assert [one.case for one in cohort.excluded] == ["b"]
    assert "before_tumor, before_normal, before_nondiagnostic missing" in cohort.excluded[0].why
    (told,) = [one for one in cohort.warnings if one.startswith("Taken for missing")]
    assert all(one in told for one in ("slide NA (1 rows)", "trust -99 (1 rows)", "before_tumor -1 (1 rows)"))
    with pytest.raises(InputError, match="no patient in line 2"):
        read_manifest(written(tmp_path, HEAD, "a,NA,tumor,A"))


@pytest.mark.parametrize("code", ["#N/A", "<NA>", "-", "--", "?", "-1.0", "-99.0", "-9999"])
def test_every_code_for_a_missing_value_is_one(tmp_path: Path, code: str) -> None:
    row = f"a,P1,tumor,0.7,0.2,0.1,0.1,0.8,0.1,,{code}"
    cohort = cohort_from_predictions(read_manifest(written(tmp_path, PREDICTED, row)))
    assert cohort.cases[0].trust is None
    assert any(f"trust {code} (1 rows)" in one for one in cohort.warnings)


def test_slides_numbered_within_patients_stay_slides(tmp_path: Path) -> None:
    rows = [f"{name},{patient},tumor,0.7,0.2,0.1,0.1,0.8,0.1,1," for name, patient in (("a", "P1"), ("b", "P2"))]
    assert cohort_from_predictions(read_manifest(written(tmp_path, PREDICTED, *rows))).level == "slide"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "P1\ufe0f"),
        ("P1", "P\u034f1"),
        ("P1", "\u3164P1"),
        ("P-1", "P\u20111"),
        ("P-1", "p\u2013 01"),
        ("12", "\u0661\u0662"),
        ("007", "'7"),
        ("1", "1.00"),
        ("10", "010.0"),
        ("Stra\u00dfe", "STRASSE"),
    ],
)
def test_labels_that_look_alike_are_told(tmp_path: Path, one: str, other: str) -> None:
    path = written(tmp_path, HEAD, f"a,{one},tumor,A", f"b,{other},normal,A")
    assert len({row["patient"] for row in read_manifest(path, join_labels=True).rows}) == 1
    assert any("Labels of patient" in said for said in read_manifest(path).warnings)


@pytest.mark.parametrize(("one", "other"), [("P1", "P10"), ("1.5", "15"), ("P-1", "P1"), ("1.05", "1.5"), ("P 1", "P 11")])
def test_labels_that_differ_are_not_joined(tmp_path: Path, one: str, other: str) -> None:
    path = written(tmp_path, HEAD, f"a,{one},tumor,A", f"b,{other},normal,A")
    assert len({row["patient"] for row in read_manifest(path, join_labels=True).rows}) == 2


ALIKE = ["P01", "p1", "P 1", "P1\u200b", "\uff301", "P1"]


def test_labels_in_two_spellings_are_told_and_joined_when_asked(tmp_path: Path) -> None:
    rows = [
        f"c{place},{patient},tumor,{site}"
        for place, (patient, site) in enumerate(zip(ALIKE, ["1", "1.0", "01", "A", "a", "B"], strict=True))
    ]
    rows += ["c8,Caf\u00e9,tumor,2", "c9,Cafe\u0301,tumor,20"]
    path = written(tmp_path, HEAD, *rows)
    apart, joined = read_manifest(path), read_manifest(path, join_labels=True)
    assert len({row["patient"] for row in apart.rows}) == 8
    assert any("Labels of patient" in one and "counted as different (--join-labels" in one for one in apart.warnings)
    assert len({row["patient"] for row in joined.rows}) == 2
    assert len({row["site"] for row in joined.rows}) == 5
    assert any("Labels of site" in one and "joined as one" in one for one in joined.warnings)


@pytest.mark.parametrize("spoiled", [("P1", '"P1'), ("a,P1", '"a,P1'), ("tumor", 'tumor,"')])
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path, spoiled: tuple[str, str]) -> None:
    """Two open quotes made one cell of everything between them: a row was gone, and nobody was told."""
    rows = ["a,P1,tumor,,", "b,P1,tumor,,", "c,P2,normal,,"]
    path = written(tmp_path, "case,patient,truth,site,depth", *(row.replace(*spoiled) for row in rows))
    with pytest.raises(InputError, match=r"line \d"):
        read_manifest(path)


def test_cases_whose_names_differ_only_in_spelling_are_told(tmp_path: Path) -> None:
    rows = [f"{name},P{at},tumor,0.7,0.2,0.1,0.1,0.8,0.1,," for at, name in enumerate(("Slide 1", "slide 01", "slide 2"))]
    assert (
        "Cases whose names differ only in spelling, each counted: 'Slide 1' = 'slide 01'."
        in read_manifest(written(tmp_path, PREDICTED, *rows)).warnings
    )


@pytest.mark.parametrize("nobody", ["unknown", "UNK"])
def test_patients_of_whom_nothing_is_known_are_not_one(tmp_path: Path, nobody: str) -> None:
    with pytest.raises(InputError, match="no patient in line 3"):
        read_manifest(written(tmp_path, "case,patient,truth", "a,P1,tumor", f"b,{nobody},tumor", f"c,{nobody},normal"))
