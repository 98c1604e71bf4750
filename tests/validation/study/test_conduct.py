"""While raters rate and after: early looks, drop-outs, what the log keeps, and which pages answers come from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi
from small_study import IMAGES, RATERS, build, image, no_power
from typer.testing import CliRunner

from srh_clinic.cli.app import app
from srh_clinic.errors import InputError
from srh_clinic.validation import add_rater, check_returns, check_study, drop_out, load_unblinded, rehearse_study, unblind
from srh_clinic.validation.study import export
from srh_clinic.validation.study.amendment import amendable
from srh_clinic.validation.study.analysis.page import analyse
from srh_clinic.validation.study.blinding import Blinding
from srh_clinic.validation.study.folder import read_protocol, read_sealed
from srh_clinic.validation.study.further_images import amend_with, plan_of
from srh_clinic.validation.study.log import read_log
from srh_clinic.validation.study.restored import RestoredImages, View
from srh_clinic.validation.study.returns import read_return, write_return
from srh_clinic.validation.study.unblinding import REHEARSAL
from srh_clinic.validation.study.viewer import read_viewer


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "sample_size", no_power)
        folder = build(tmp_path_factory.mktemp("built") / "study")
        rehearse_study(folder)
        yield folder


@pytest.fixture
def study(answered: Path, tmp_path: Path) -> Path:
    """A copy to spoil; simulated raters have answered it."""
    return shutil.copytree(answered, tmp_path / "study")


def secret_of(study: Path, rater: str) -> str:
    return read_viewer(study / "public" / rater / "viewer.html").secret


def rows_of(study: Path, rater: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (study / "returned" / f"{rater}.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "prev_hash"} for row in rows if row["record"] == "rating"]


def rewrite(study: Path, rater: str, rows: list[dict[str, Any]], **how: Any) -> Path:
    """A return as the rater's own page would write it."""
    path = study / "returned" / f"{rater}.jsonl"
    secret = secret_of(study, rater)
    path.write_text(write_return(rows, read_protocol(study)[0].study_id, rater, secret, **how))
    return path


def titles(study: Path) -> list[str]:
    return [report.title for report in analyse(load_unblinded(study))]


# An early look


def test_an_early_look_marks_every_later_report(study: Path) -> None:
    late = study / "returned" / "r03.jsonl"
    kept = late.read_bytes()
    late.unlink()
    assert unblind(study, interim=True).interim
    assert all(title.startswith("INTERIM: ") for title in titles(study))
    late.write_bytes(kept)
    opened = unblind(study)
    assert not opened.interim
    assert len(opened.early) == 1
    assert load_unblinded(study) == opened
    reports = analyse(opened)
    assert all(report.title.startswith("AFTER AN EARLY LOOK: ") for report in reports)
    assert "The key was opened before all returns were in" in reports[0].summary
    assert reports[0].provenance["log"] == opened.log


def test_what_stands_in_unblinded_json_is_trusted_by_nothing(study: Path) -> None:
    (study / "returned" / "r03.jsonl").unlink()
    opened = unblind(study, interim=True)
    path = study / "unblinded.json"
    content = json.loads(path.read_bytes())
    content["interim"], content["early"] = False, []
    for one in content["answers"]:
        one["rating"]["pref_quality"] = "A"
    path.write_text(json.dumps(content))
    assert load_unblinded(study) == opened
    path.unlink()
    assert load_unblinded(study) == opened


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[:-1], "from which some were taken"),
        (lambda lines: [lines[0], *lines[2:]], "line 2, which was not written by this study"),
        (lambda lines: [line.replace('"interim":true', '"interim":false') for line in lines], "not written by this study"),
        (lambda lines: [], "from which some were taken"),
        (lambda lines: ["{}", *lines], "line 1, which is no event"),
    ],
)
def test_a_log_that_was_changed_is_refused(study: Path, spoil: Any, says: str) -> None:
    (study / "returned" / "r03.jsonl").unlink()
    unblind(study, interim=True)
    path = study / "study.log"
    path.write_text("".join(f"{line}\n" for line in spoil(path.read_text().splitlines())))
    with pytest.raises(InputError, match=says):
        load_unblinded(study)


def test_a_rehearsal_stays_one_when_its_mark_is_removed(study: Path) -> None:
    (study / "returned" / REHEARSAL).unlink()
    assert unblind(study).protocol.title.startswith("REHEARSAL: ")


def test_the_commitment_is_on_every_page_that_a_rater_gets(study: Path) -> None:
    committed = (study / "public" / "commitment.txt").read_text().strip()
    pages = [*study.glob("public/*/viewer.html"), study / "public" / "protocol.html"]
    assert len(pages) == RATERS + 1
    assert all(committed in page.read_text() for page in pages)


# A rater drops out


def test_a_rater_who_drops_out_is_recorded_with_the_reason_and_the_balance(study: Path) -> None:
    rewrite(study, "r03", rows_of(study, "r03")[:10], closed=False)
    with pytest.raises(InputError, match="10 of 37 tasks answered and no closing line"):
        unblind(study)
    said = drop_out(study, "r03", "moved away")
    assert said.endswith("ratings a baseline")
    assert f"of {2 * IMAGES * 2} ratings" in said
    opened = unblind(study)
    assert not opened.interim
    assert "moved away" in opened.dropped["r03"]
    assert len(opened.answers) == 3 * 37 + 10
    summary = analyse(opened)[0].summary
    assert "r03 dropped out (" in summary
    assert "moved away). Of the design remain " in summary


def test_a_rater_who_never_began_may_drop_out_and_others_may_not(study: Path) -> None:
    (study / "returned" / "r02.jsonl").unlink()
    drop_out(study, "r02", "no time")
    for rater, reason, says in (
        ("r02", "again", "'r02', who is out already; needed one of r01, r03, r04"),
        ("r09", "who", "the rater 'r09'"),
        ("r01", "bored", "a finished return of r01"),
        ("r03", " ", "no reason"),
    ):
        with pytest.raises(InputError, match=says):
            drop_out(study, rater, reason)
    assert set(unblind(study).returns) == {"r01", "r03", "r04"}
    with pytest.raises(InputError, match="a study whose key was opened; needed drop-outs recorded before"):
        drop_out(study, "r04", "too late")


def test_the_command_says_what_remains(study: Path) -> None:
    (study / "returned" / "r02.jsonl").unlink()
    run = CliRunner().invoke(app, ["study", "drop-out", str(study), "r02", "--reason", "no time"])
    assert run.exit_code == 0, run.output
    assert "r02 has dropped out. Of the design remain " in run.stdout
    assert [event.event for event in read_log(study, read_sealed(study).salt)][-1] == "dropped out"


# What comes back


def test_answers_come_from_the_page_of_their_rater(study: Path) -> None:
    """Who has only another page, or none, cannot write a return that is taken: the chain needs the page's secret."""
    rows, protocol = rows_of(study, "r02"), read_protocol(study)[0]
    path = study / "returned" / "r02.jsonl"
    for secret in ("", secret_of(study, "r01")):
        path.write_text(write_return(rows, protocol.study_id, "r02", secret))
        with pytest.raises(InputError, match="another page than that of r02 wrote them"):
            unblind(study)
    secrets = {secret_of(study, f"r{number + 1:02}") for number in range(RATERS)}
    assert len(secrets) == RATERS
    assert all(len(secret) == 64 for secret in secrets)


def test_a_page_whose_secret_was_exchanged_is_no_page_of_the_study(study: Path) -> None:
    page = study / "public" / "r02" / "viewer.html"
    ours, theirs = secret_of(study, "r02"), "ab" * 32
    page.write_bytes(page.read_bytes().replace(ours.encode(), theirs.encode()))
    rewrite(study, "r02", rows_of(study, "r02"))
    with pytest.raises(InputError, match="pages that the key was not sealed with"):
        unblind(study)
    assert any("r02/viewer.html" in str(finding) for finding in check_study(study).findings)


WHOLE = {"side": "A", "shape": "box", "xy": [0, 0, 48, 48], "category": "other", "severity": "minor"}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no answer": ({"pref_quality": None}, "no pref_quality in task number 4"),
    "times": ({"t_answered": 5}, "task number 4 answered before it was shown; needed times in order"),
    "number": ({"seq": 99}, "task number 4 answered as number 99; needed each answer under the number of its task"),
    "before time began": ({"t_shown": -5}, "line 5, which is not an answer (t_shown: "),
    "in the year 3,170,843": ({"t_answered": 10**17}, "line 5, which is not an answer (t_answered: "),
    "true": ({"confidence": True}, "line 5, which is not an answer (confidence: "),
    "a mark that is true": (
        {"regions": [WHOLE | {"shape": "point", "xy": [True, 3]}]},
        "line 5, which is not an answer (regions.0.xy.0: ",
    ),
    "outside": ({"regions": [WHOLE | {"xy": [0, 0, 10, 49]}]}, "a box of 0, 0, 10, 49 in task number 4"),
    "turned": ({"regions": [WHOLE | {"xy": [10, 0, 5, 9]}]}, "a box of 10, 0, 5, 9 in task number 4"),
    "pieces": (
        {"regions": [WHOLE | {"xy": [left, 0, left + 12, 48]} for left in (0, 12, 24, 36)]},
        "boxes over 100% of side A of task number 4; needed boxes that hold at most 50%",
    ),
    "points": (
        {"regions": [WHOLE | {"shape": "point", "xy": [x, y]} for x in range(0, 48, 6) for y in range(0, 48, 5)]},
        "80 marks on side A of task number 4; needed at most 60",
    ),
    "everything": ({"regions": [WHOLE]}, "a box of 0, 0, 48, 48 in task number 4; needed boxes of at most 50% of the image"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_answer_is_refused_with_its_task(study: Path, fault: str) -> None:
    change, says = WRONG[fault]
    rows = rows_of(study, "r02")
    rewrite(study, "r02", [*rows[:4], rows[4] | change, *rows[5:]])
    with pytest.raises(InputError, match=re.escape(says)):
        unblind(study)
    checked = {one.rater_id: one for one in check_returns(study)}
    assert checked["r02"].fault
    assert says in checked["r02"].said
    assert not checked["r01"].fault


def test_a_number_that_is_none_and_an_answer_given_twice_are_refused(study: Path) -> None:
    secret, protocol = secret_of(study, "r02"), read_protocol(study)[0]
    path = study / "returned" / "r02.jsonl"
    line = path.read_text().splitlines()[0]
    for old, new, says in (
        (
            '"regions":[',
            '"regions":[{"category":"other","severity":"minor","shape":"point","side":"A","xy":[NaN,1]},',
            "finite",
        ),
        ('"confidence":', '"confidence":1,"confidence":', "a question answered twice"),
    ):
        path.write_text(line.replace(old, new).replace(",]", "]") + "\n")
        with pytest.raises(InputError, match=f"line 1, which is not an answer .*{says}"):
            read_return(path, protocol.study_id, secret)


def test_answers_in_another_order_than_the_page_asks_are_refused(study: Path) -> None:
    rows = rows_of(study, "r02")
    rewrite(study, "r02", [*rows[:2], rows[5], *rows[2:5], *rows[6:]])
    with pytest.raises(InputError, match="task number 2 answered after number 5; needed answers in the order of the tasks"):
        unblind(study)


def test_a_task_answered_twice_is_refused(study: Path) -> None:
    rows = rows_of(study, "r02")
    rewrite(study, "r02", [*rows, rows[3]])
    with pytest.raises(InputError, match="task number 3 answered twice"):
        unblind(study)


def test_a_clock_that_was_set_back_is_told_and_taken(study: Path) -> None:
    rows = rows_of(study, "r02")
    earlier = {"t_shown": rows[3]["t_shown"] - 10**7, "t_answered": rows[3]["t_answered"] - 10**7}
    rewrite(study, "r02", [*rows[:4], rows[4] | earlier, *rows[5:]])
    said = next(one for one in check_returns(study) if one.rater_id == "r02")
    assert not said.fault
    assert "37 of 37 tasks answered, finished; 1 tasks shown before the one before was answered" in said.said
    assert len(unblind(study).returns) == RATERS


@pytest.mark.parametrize(
    "mangle",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\n", b"\r"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content + b"\n\n",
        lambda content: content.rstrip(b"\n"),
    ],
)
def test_what_mail_and_editors_do_to_a_file_changes_no_answer(study: Path, mangle: Any) -> None:
    path = study / "returned" / "r02.jsonl"
    path.write_bytes(mangle(path.read_bytes()))
    assert len(unblind(study).returns) == RATERS


@pytest.mark.parametrize("name", ["r02 (1).jsonl", "r02(2).jsonl", "r02 - Copy.jsonl"])
def test_a_return_under_a_browsers_name_is_taken(study: Path, name: str) -> None:
    path = study / "returned" / "r02.jsonl"
    whole = path.read_bytes()
    path.rename(path.with_name(name))
    assert len(unblind(study).returns) == RATERS
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))  # an earlier export of the same answers
    assert len(unblind(study).answers) == RATERS * 37


def test_returns_that_differ_and_returns_of_nobody_are_named(study: Path) -> None:
    path = study / "returned" / "r02.jsonl"
    other = path.with_name("r02 (1).jsonl")
    other.write_bytes(path.read_bytes().replace(b"\n", b" \n"))
    with pytest.raises(InputError, match=r"returns of r02 that differ \(r02 \(1\)\.jsonl, r02\.jsonl\)"):
        unblind(study)
    other.rename(path.with_name("answers.jsonl"))
    with pytest.raises(InputError, match=r"answers\.jsonl, named after no rater; needed returns named r01\.jsonl"):
        unblind(study)
    run = CliRunner().invoke(app, ["study", "check", str(study)])
    assert run.exit_code == 2
    assert "answers.jsonl, named after no rater" in run.stdout
    assert "note: whoever has this package can apply median" in run.stdout


@pytest.mark.parametrize("name", ["r02.jsonl.txt", "R02.JSONL", "r02.json", "r02 - Copy.jsonl.bak", "r02.txt", "x.jsonl"])
def test_a_return_under_a_name_that_nobody_reads_is_named(study: Path, name: str) -> None:
    path = study / "returned" / "r02.jsonl"
    path.rename(path.with_name(name))
    with pytest.raises(InputError, match=f"{re.escape(name)}, named after no rater"):
        unblind(study)


@pytest.mark.parametrize("name", ["r02(1).jsonl", "r02 (2).jsonl", "r02 - Copy.jsonl", "r02 - Copy (3).jsonl"])
def test_a_return_under_the_name_of_a_copy_is_taken(study: Path, name: str) -> None:
    path = study / "returned" / "r02.jsonl"
    path.rename(path.with_name(name))
    assert "r02" in unblind(study).returns


def test_a_return_that_stands_twice_in_its_file_is_refused(study: Path) -> None:
    path = study / "returned" / "r02.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(InputError, match="line "):
        unblind(study)
    path.write_text(path.read_text()[:100], encoding="utf-16")
    with pytest.raises(InputError, match="a file that is not readable text"):
        unblind(study)


# A rater is added


def test_a_rater_who_is_added_has_the_tasks_of_another_newly_blinded(study: Path) -> None:
    before = (study / "public" / "commitment.txt").read_bytes(), (study / "sealed" / "key.json").read_bytes()
    drop_out(answerless(study, "r02"), "r02", "moved away")
    assert add_rater(study, "r02", "r02 moved away") == "r05"
    assert ((study / "public" / "commitment.txt").read_bytes(), (study / "sealed" / "key.json").read_bytes()) == before
    assert check_study(study).findings == ()
    entries = read_sealed(study).entries.values()
    old, new = ([entry for entry in entries if entry.rater_id == rater] for rater in ("r02", "r05"))
    for kind in ("real", "sentinel"):
        shown = [
            sorted((one.case_id, *sorted((one.side_A_method, str(one.side_B_method)))) for one in of if one.kind == kind)
            for of in (old, new)
        ]
        assert shown[0] == shown[1]
    sides = [{one.case_id: one.side_A_method for one in of if one.kind == "real"} for of in (old, new)]
    assert 5 < sum(sides[0][case] != sides[1][case] for case in sides[0]) < 25
    by_id = {one.task_id: one for one in new}
    repeats = [one for one in new if one.kind == "repeat"]
    assert len(repeats) == 3
    for one in repeats:
        first = by_id[str(one.repeat_of)]
        assert (first.case_id, first.side_A_method) == (one.case_id, one.side_B_method)
    assert not {one.task_id for one in old} & set(by_id)


def test_the_pixels_of_an_added_rater_are_those_of_the_key(study: Path) -> None:
    answerless(study, "r02")
    add_rater(study, "r02", "more power")
    entries = read_sealed(study).entries
    shown: dict[tuple[str, str], set[bytes]] = {}
    for rater in ("r02", "r05"):
        page = read_viewer(study / "public" / rater / "viewer.html")
        for task in page.tasks:
            entry = entries[task["task_id"]]
            if entry.kind == "sentinel":
                continue
            for side, method in (("img_A", entry.side_A_method), ("img_B", entry.side_B_method), ("lq_img", "scan")):
                shown.setdefault((entry.case_id, str(method)), set()).add(page.images[task[side]])
    assert {len(pixels) for pixels in shown.values()} == {1}


def test_an_added_rater_is_awaited_counted_and_named(study: Path) -> None:
    drop_out(answerless(study, "r02"), "r02", "moved away")
    add_rater(study, "r02", "r02 moved away")
    with pytest.raises(InputError, match="no return of r05"):
        unblind(study)
    page = read_viewer(study / "public" / "r05" / "viewer.html")
    answers = dict.fromkeys(("pref_quality", "pref_fidelity", "method_guess"), "A")
    said = {**answers, "halluc_A": "none", "halluc_B": "none", "confidence": 3, "t_shown": 1, "t_answered": 2}
    rewrite(study, "r05", [{"seq": task["seq"], "task_id": task["task_id"], **said} for task in page.tasks])
    opened = unblind(study)
    assert set(opened.returns) == {"r01", "r03", "r04", "r05"}
    assert load_unblinded(study) == opened
    assert "r05 was added by an amendment (" in analyse(opened)[0].summary
    with pytest.raises(InputError, match="a study whose key was opened"):
        add_rater(study, "r01", "late")


def test_an_amendment_that_the_log_has_not_signed_is_refused(study: Path) -> None:
    add_rater(study, "r01", "more power")
    path = study / "sealed" / "amendment-1.json"
    path.write_bytes(path.read_bytes().replace(b'"side_A_method":"rscd"', b'"side_A_method":"median"', 1))
    with pytest.raises(InputError, match="the amendment 1, which the study's log has not signed"):
        read_sealed(study)


def more_images(study: Path, reason: str = "too few of one site", count: int = 8) -> tuple[str, ...]:
    """An amendment of small images, restored by filters."""
    protocol, sealed = amendable(study, reason)
    images = [image(1_000 + number) for number in range(count)]
    views = {}
    for name, sigma in (("rscd", 1.0), ("median", 2.0), ("cyclegan", 0.7)):
        for number, one in enumerate(images):
            made = ndi.gaussian_filter(one.counts.astype(float), (0, sigma, sigma))
            views[name, number] = View(name, np.rint(made).astype(np.uint16), ((4, 4, 10, 10, "structure"),))
    restored = RestoredImages(SimpleNamespace(report=lambda *_: None), images, views)  # type: ignore[arg-type]
    return amend_with(study, protocol, sealed, plan_of(study, protocol, sealed, count), restored, reason)


def answer_all(study: Path, page: str, choice: str = "A") -> None:
    answers = dict.fromkeys(("pref_quality", "pref_fidelity", "method_guess"), choice)
    said = {**answers, "halluc_A": "none", "halluc_B": "none", "confidence": 3, "t_shown": 1, "t_answered": 2}
    tasks = read_viewer(study / "public" / page / "viewer.html").tasks
    rewrite(study, page, [{"seq": task["seq"], "task_id": task["task_id"], **said} for task in tasks])


def test_images_are_added_on_further_pages_and_count_as_their_raters_answers(study: Path) -> None:
    drop_out(answerless(study, "r02"), "r02", "moved away")
    before = {path: path.read_bytes() for path in (study / "public").rglob("*") if path.is_file()}
    pages = more_images(study)
    assert pages == ("r01-2", "r03-2", "r04-2")
    assert {path: path.read_bytes() for path in before} == before
    assert check_study(study).findings == ()
    protocol, _ = read_protocol(study)
    entries = read_sealed(study).entries.values()
    added = [entry for entry in entries if entry.rater_id in pages]
    assert len({entry.case_id for entry in added}) == 8
    assert (protocol.images, protocol.tasks) == (30 + 8, 60 + len(added) // 2)
    one = next(entry for entry in added if entry.case_id == "case-1001")
    assert one.patient_hash == Blinding(read_sealed(study).salt).hashed("patient-1001")
    with pytest.raises(InputError, match="no return of r01-2, r03-2, r04-2"):
        unblind(study)
    for page in pages:
        answer_all(study, page)
    assert all(not one.fault for one in check_returns(study))
    opened = unblind(study)
    assert {answer.rating.rater_id for answer in opened.answers} == {"r01", "r03", "r04"}
    assert {answer.key.rater_id for answer in opened.answers} == {"r01", "r03", "r04"}
    assert [rater.rater_id for rater in opened.protocol.raters] == ["r01", "r02", "r03", "r04"]
    assert load_unblinded(study) == opened
    summary = analyse(opened)[0].summary
    assert "8 images: too few of one site" in summary
    assert "r02 dropped out" in summary
    with pytest.raises(InputError, match="a study whose key was opened"):
        more_images(study)


def test_images_of_an_amendment_that_nobody_signed_are_refused(study: Path) -> None:
    more_images(study)
    path = study / "sealed" / "amendment-1.json"
    path.write_bytes(path.read_bytes().replace(b'"side_A_method":"rscd"', b'"side_A_method":"median"', 1))
    with pytest.raises(InputError, match="the amendment 1, which the study's log has not signed"):
        read_sealed(study)


def test_a_rater_who_comes_or_goes_after_images_were_added_does_so_on_all_pages(study: Path) -> None:
    more_images(study)
    assert add_rater(study, "r01", "more power") == "r05"
    pages = {page: len(read_viewer(study / "public" / page / "viewer.html").tasks) for page in ("r01", "r01-2", "r05")}
    assert pages["r05"] == pages["r01"] + pages["r01-2"]
    assert check_study(study).findings == ()
    with pytest.raises(InputError, match="the rater 'r01-2'; needed one of r01, r02, r03, r04, r05"):
        drop_out(study, "r01-2", "moved away")
    drop_out(study, "r05", "moved away")
    drop_out(study, "r02", "has no time for the further page")
    for page in ("r01-2", "r03-2", "r04-2"):
        answer_all(study, page)
    opened = unblind(study)
    assert set(opened.dropped) >= {"r02", "r05"}
    assert {answer.rating.rater_id for answer in opened.answers} == {"r01", "r02", "r03", "r04"}
    assert not opened.interim


def test_an_early_look_marks_what_comes_after_further_images_were_refused(study: Path) -> None:
    unblind(answerless(study, "r02"), interim=True)
    with pytest.raises(InputError, match="amendments before that"):
        more_images(study)


def answerless(study: Path, rater: str) -> Path:
    (study / "returned" / f"{rater}.jsonl").unlink()
    return study


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5_000], ids=["nested", "digits"])
def test_a_line_that_python_does_not_follow_is_no_answer(study: Path, value: str) -> None:
    path = study / "returned" / "r02.jsonl"
    path.write_text(f'{{"record": {value}\n')
    with pytest.raises(InputError, match="line 1, which is not an answer"):
        unblind(study)
