"""The report finds the harm that was put in, says what it cannot compute, and shows whatever it is given as text."""

from __future__ import annotations

import csv
import json
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from srh_clinic.cli.app import app
from srh_clinic.diagnosis import CLASSES
from srh_clinic.estimates import Interval
from srh_clinic.validation.shift.harm import TRANSITIONS, harm_rows, ledger
from srh_clinic.validation.shift.records import Cohort, Prediction, ShiftCase
from srh_clinic.validation.shift.report import ShiftReport
from srh_clinic.validation.shift.sections.checklists import SECTIONS
from srh_clinic.validation.shift.sections.gallery import gallery
from srh_clinic.validation.shift.sections.outcomes import change_rows
from srh_clinic.validation.shift.subgroups import screen
from srh_clinic.validation.shift.validate import validate_cohort

SURE = {
    "tumor": Prediction("tumor", (0.9, 0.06, 0.04)),
    "normal": Prediction("normal", (0.1, 0.8, 0.1)),
    "nondiagnostic": Prediction("nondiagnostic", (0.2, 0.1, 0.7)),
}


def case(truth: str, before: str, after: str, number: int = 0, **more: str) -> ShiftCase:
    return ShiftCase(f"c{number}", f"P{number // 2}", truth, SURE[before], SURE[after], **more)


def manifest(path: Path, patients: int, *, harmed: str = "", name: str = "P") -> Path:
    """A cohort that restoration helps, but for the tumors of one subtype, most of which it turns into normal tissue."""
    rng = np.random.default_rng(5)
    rows = []
    for patient in range(patients):
        truth = CLASSES[(0, 0, 1, 1, 2)[patient // 4 % 5]]
        subtype = f"{truth} {patient % 2}"
        for depth in ("0 um", "75 um"):
            before = truth if rng.random() < 0.5 else "nondiagnostic"
            after = truth if rng.random() < 0.95 else "nondiagnostic"
            if subtype == harmed and rng.random() < 0.8:
                after = "normal"
            site = f"{name} site {patient % 4}"
            predictions = (*SURE[before].probabilities, *SURE[after].probabilities)
            rows.append([f"{name}{patient} {depth}", f"{name}{patient}", truth, site, depth, subtype, *predictions])
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["case", "patient", "truth", "site", "depth", "subtype"]
        csv.writer(file).writerows([[*columns, *(f"{when}_{one}" for when in ("before", "after") for one in CLASSES)], *rows])
    return path


@dataclass(frozen=True)
class Validated:
    """A report that several tests look at, its manifest and its folder."""

    report: ShiftReport
    manifest: Path
    folder: Path


def validated(folder: Path, patients: int, *, seed: int = 0, **how: str) -> Validated:
    source = manifest(folder / "m.csv", patients, **how)
    return Validated(validate_cohort(source, folder / "out", seed=seed), source, folder / "out")


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Validated:
    return validated(tmp_path_factory.mktemp("harmed"), 60, harmed="tumor 1")


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> Validated:
    return validated(tmp_path_factory.mktemp("helped"), 60)


@pytest.fixture(scope="module")
def marked_up(tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """Few patients, one subgroup harmed, and names that are markup."""
    return validated(tmp_path_factory.mktemp("few"), 24, seed=3, harmed="tumor 1", name="<script>alert(1)</script>$x$")


def test_harm_to_one_subgroup_is_on_the_first_page(harmed: Validated) -> None:
    report = harmed.report
    assert any(alarm.startswith("subtype: tumor 1") for alarm in report.first.alarms)
    assert not any("tumor 0" in alarm for alarm in report.first.alarms)
    page = (harmed.folder / "report.html").read_text(encoding="utf-8")
    first = page[: page.index("<nav")]
    assert "Restoration harms" in first
    assert "subtype: tumor 1" in first


def test_no_p_stands_beside_an_interval_that_it_does_not_invert(harmed: Validated) -> None:
    beside = []
    for part in harmed.report.sections:
        for table in part.tables:
            p_values = {column.key for column in table.columns} & {"p", "p_holm", "holm"}
            intervals = any(isinstance(row.get(column.key), Interval) for column in table.columns for row in table.rows)
            if p_values and intervals:
                beside.append(table.title)
                for row in table.rows:
                    if row["p"] is not None and row["difference"] is not None:
                        assert (row["p"] < 0.05) == (not row["difference"].low <= 0 <= row["difference"].high)
    assert beside == ["Areas under the curve"]


def test_no_library_warns_where_nothing_varies(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        names = ["case", "patient", "truth", "site", *(f"{when}_{one}" for when in ("before", "after") for one in CLASSES)]
        said = [*SURE["tumor"].probabilities, *SURE["tumor"].probabilities]
        rows = [[f"c{n}", f"P{n}", CLASSES[n % 2], f"site {n % 3}", *said] for n in range(24)]
        csv.writer(file).writerows([names, *rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = validate_cohort(path, tmp_path / "out")
    areas = next(table for part in report.sections for table in part.tables if table.title == "Areas under the curve")
    assert "have the same score" in areas.note
    assert "rank the cases alike" not in areas.note


def test_a_cohort_that_is_only_helped_raises_no_alarm(helped: Validated) -> None:
    report = helped.report
    assert report.first.alarms == ()
    assert {part.name for part in report.sections} - {"patches"} == set(SECTIONS)
    empty = {part.name for part in report.sections if not part.filled}
    assert empty == {"drift", "gallery", "acquisition", "preprocessing", "model", "development"}, (
        "predictions come without images; everything else is filled"
    )


def test_the_same_manifest_and_seed_give_the_same_bytes(marked_up: Validated, tmp_path: Path) -> None:
    validate_cohort(marked_up.manifest, tmp_path, seed=3)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert {"report.html", "report.json", "policy.json", "tables/harm-harm-and-benefit.csv"} <= set(names)
    for name in names:
        assert (tmp_path / name).read_bytes() == (marked_up.folder / name).read_bytes(), name


def test_markup_in_names_is_text(marked_up: Validated) -> None:
    page = (marked_up.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x$" in page


@pytest.mark.parametrize("patients", [1, 9])
def test_few_rows_give_a_report_that_says_what_is_missing(tmp_path: Path, patients: int) -> None:
    report = validate_cohort(manifest(tmp_path / "m.csv", patients), tmp_path / "out")
    assert any("policy needs 16 patients" in one for one in report.first.missing)
    numbers = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert numbers["first_page"]["missing"]
    assert not (tmp_path / "out" / "policy.json").exists()


def test_a_cohort_without_harm_is_not_a_gallery_that_could_not_be_made(tmp_path: Path) -> None:
    unharmed = gallery(Cohort((case("tumor", "nondiagnostic", "tumor", 0),)), tmp_path)
    assert (list(unharmed.text), list(unharmed.missing)) == (["No case was harmed."], [])
    harmed = gallery(Cohort((case("tumor", "tumor", "normal", 0),)), tmp_path)
    assert list(harmed.missing) == ["the manifest brought predictions, so there are no images"]


def test_every_harm_is_in_the_ledger_and_the_gravest_comes_first() -> None:
    cases = [
        case("tumor", "tumor", "nondiagnostic", 0),  # a diagnosis that was lost
        case("normal", "nondiagnostic", "tumor", 1),  # newly wrong
        case("tumor", "nondiagnostic", "normal", 2),  # a tumor now called normal
        case("tumor", "nondiagnostic", "tumor", 3),  # won
        case("normal", "tumor", "tumor", 4),  # wrong before and after: no harm of restoration
        case("tumor", "normal", "nondiagnostic", 5),  # no longer wrong
        case("nondiagnostic", "nondiagnostic", "tumor", 6),  # an invented diagnosis
    ]
    assert [one.case for one in ledger(Cohort(tuple(cases)))] == ["c2", "c1", "c6", "c0"]
    counted = {row["transition"]: (row["count"], row["of"]) for row in harm_rows(Cohort(tuple(cases)))}
    assert counted["correct → wrong"] == (1, 2)
    assert counted["non-diagnostic → wrong"] == (2, 3)
    assert counted["correct → non-diagnostic"] == (1, 2)
    assert counted["tumor not called normal → normal"] == (1, 3)
    assert counted["wrong → non-diagnostic"] == (1, 2)
    assert len(counted) == len(TRANSITIONS)


def test_shares_of_outcomes_add_up_before_and_after() -> None:
    cohort = Cohort(
        tuple([case("tumor", "tumor", "normal", i) for i in range(20)] + [case("normal", "nondiagnostic", "normal", 40)])
    )
    rows = change_rows(cohort, 0)
    for when in ("before_share", "after_share"):
        assert sum(row[when] for row in rows) == pytest.approx(1)


def test_the_screen_seldom_cries_wolf() -> None:
    """Where restoration changes outcomes at random, about one cohort in twenty may raise an alarm of each of two screens."""
    rng = np.random.default_rng(11)
    alarmed = 0
    for _ in range(20):
        cases = []
        for number in range(120):
            words = rng.choice(["tumor", "normal", "nondiagnostic"], 2, p=[0.6, 0.2, 0.2])
            cases.append(case("tumor", *words, number, site="AB"[number // 2 % 2], depth=str(number % 2)))
        alarmed += any(group.alarm for group in screen(Cohort(tuple(cases))))
    # Each of 5 %: the 99.9 % quantile of Bin(20, 0.1) is 7.
    assert alarmed <= 7


def test_what_takes_no_part_stands_first_and_in_the_exit_code(tmp_path: Path) -> None:
    source = manifest(tmp_path / "m.csv", 12)
    lines = source.read_text(encoding="utf-8").splitlines()
    cells = lines[1].split(",")
    header = lines[0].split(",")
    cells[header.index("before_tumor")] = "-99"
    source.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n", encoding="utf-8")
    call = ["validate", str(source), "--out", str(tmp_path / "out")]
    done, allowed = (CliRunner().invoke(app, [*call, *more]) for more in ([], ["--allow-missing"]))
    assert (done.exit_code, allowed.exit_code) == (4, 0)
    assert done.stdout.splitlines()[0].startswith(f"1 of {len(lines) - 1} rows take no part: no prediction in the manifest")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.index("rows take no part") < page.index("classified as scanned and after restoration")


def test_the_abstract_says_what_the_first_page_says(marked_up: Validated) -> None:
    report = marked_up.report
    abstract = " ".join(next(part for part in report.sections if part.name == "abstract").text)
    correct, wrong = (one.split("; ")[0] for one in (abstract.partition("correct were ")[2], abstract.partition("wrong ")[2]))
    before, after = (float(share) for share in re.findall(r"([\d.]+)%", correct)[:2])
    wrong_before, wrong_after = (float(share) for share in re.findall(r"([\d.]+)%", wrong)[:2])
    first = report.first.sentences[1]
    assert f"{before}% were correct as scanned and {after}% restored" in first
    assert f"Confidently wrong: {wrong_before}%, then {wrong_after}%" in first


def test_what_an_earlier_report_had_and_this_one_lacks_is_gone(helped: Validated, tmp_path: Path) -> None:
    """A policy of other patients beside a report decides cases; files of the user stay."""
    out = shutil.copytree(helped.folder, tmp_path / "out")
    assert (out / "policy.json").is_file()
    for name in ("report.pdf", "reference.json", "impact.html", "impact.json", "notes.txt"):
        (out / name).write_text("of another run")
    few = manifest(tmp_path / "few.csv", 6)
    validate_cohort(few, out)
    validate_cohort(few, tmp_path / "fresh")
    found, fresh = ({path.relative_to(top) for path in top.rglob("*")} for top in (out, tmp_path / "fresh"))
    assert found - fresh == {Path("notes.txt")}
