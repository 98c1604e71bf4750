"""A study from its images to a folder: what is shown, what is planted, and what is refused."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
from typer.testing import CliRunner

from srh_clinic.bundles import load_bundle
from srh_clinic.cli.app import app
from srh_clinic.errors import InputError
from srh_clinic.validation import StudyPlan, check_study, export_study, load_unblinded, rehearse_study, unblind, write_analysis
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study import export
from srh_clinic.validation.study.exchange.formats import export_answers, import_answers
from srh_clinic.validation.study.images import phantom_images
from srh_clinic.validation.study.records import KeyEntry
from srh_clinic.validation.study.restored import RestoredImages, study_method
from srh_clinic.validation.study.viewer import read_viewer

PLAN = StudyPlan(
    restorers=("gaussian", "median"), raters=2, images=4, sentinels={"added": 1, "same": 1}, repeats=1, title="<b>A study</b>"
)


def bench(tmp_path: Path) -> Bench:
    return Bench(load_protocol(), load_bundle("phantom-demo"), tmp_path / "work", "cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "study"
    export_study(folder, PLAN, device="cpu")
    return folder


def test_a_planted_nucleus_is_where_the_key_says_and_nothing_else_was_changed(tmp_path: Path) -> None:
    images = phantom_images(load_protocol(), 1, 0)
    restored = RestoredImages(bench(tmp_path), images)
    restored.restore({"gaussian": [0]})
    for kind in ("added", "removed"):
        planted = restored.sentinel(kind, "gaussian", 0, np.random.default_rng(0))
        assert planted is not None
        assert planted.place is not None
        before, after = (view.counts.astype(int) for view in planted.views)
        y, x = np.nonzero((np.abs(before - after) > 100).any(axis=0))
        assert np.hypot(x - planted.place[0], y - planted.place[1]).max() < 1.25 * planted.place[2] + 6
    same = restored.sentinel("same", "gaussian", 0, np.random.default_rng(0))
    assert same is not None
    assert np.array_equal(same.views[0].counts, same.views[1].counts)


def test_methods_go_by_the_names_of_restorers(tmp_path: Path) -> None:
    assert study_method("rscd", bench(tmp_path)).settings == {"sampler": "direct"}
    assert study_method("cyclegan", bench(tmp_path)).bundle == "phantom-baselines"
    assert study_method("ccdf", bench(tmp_path)).bundle is None
    with pytest.raises(InputError, match="found the restorer 'sharpen'; needed one of rscd, none"):
        study_method("sharpen", bench(tmp_path))


def test_one_call_makes_a_study_that_passes_its_audit(study: Path) -> None:
    audit = check_study(study)
    assert audit.findings == ()
    assert audit.tasks == 2 * (4 + 1 + 2)
    tasks = read_viewer(study / "public" / "r01" / "viewer.html").tasks
    assert [task["seq"] for task in tasks] == list(range(7))
    assert b"<b>A study</b>" not in (study / "public" / "protocol.html").read_bytes()
    assert not list(study.parent.glob(".study*"))


def test_an_export_that_was_cut_goes_on_to_make_the_same_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, salts = tmp_path / "study", []

    def cut(*arguments: object) -> None:
        salts.append((tmp_path / ".study.partial" / "salt").read_bytes())
        raise KeyboardInterrupt

    plan = replace(PLAN, images=2, sentinels={}, repeats=0)
    with monkeypatch.context() as patch:
        patch.setattr(export, "write_study", cut)
        with pytest.raises(KeyboardInterrupt):
            export_study(out, plan, device="cpu")
    assert stat.S_IMODE((tmp_path / ".study.partial" / "salt").stat().st_mode) == 0o600
    export_study(out, plan, device="cpu")
    assert (out / "sealed" / "salt").read_bytes() == salts[0]
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_second_export_into_one_folder_is_told(tmp_path: Path) -> None:
    out = tmp_path / "study"
    # From another process, as the same one may claim a place again.
    claim = "from pathlib import Path; from srh_clinic.files import claimed"
    script = f"{claim}\nwith claimed(Path('study')): print(1, flush=True); input()"
    with Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, cwd=tmp_path) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match="study: found a run that writes there now"):
            export_study(out, replace(PLAN, images=2, sentinels={}, repeats=0), device="cpu")
        other.communicate(b"\n")
    assert not list(tmp_path.iterdir())


def test_a_study_goes_from_answers_to_figure_6(study: Path, tmp_path: Path) -> None:
    rehearse_study(study)
    unblind(study)
    page, *files = write_analysis(load_unblinded(study), tmp_path / "out")
    assert page.name == "analysis.html"
    assert "REHEARSAL with simulated raters: nothing here was measured." in page.read_text()
    assert any(path.suffix == ".png" for path in files)
    assert b"http://" not in page.read_bytes().replace(b"http://www.w3.org", b"")
    assert [path.name for path in export_answers(study, "coco", tmp_path)] == ["regions.json"]
    assert len(export_answers(study, "imrmc", tmp_path)) == 2
    with pytest.raises(InputError, match="found no DICOM file of the case phantom-"):
        export_answers(study, "sr", tmp_path / "sr")
    with pytest.raises(InputError, match="found the format 'pdf'; needed one of label-studio, redcap, coco, imrmc, kos, sr"):
        export_answers(study, "pdf", tmp_path / "pdf")


def test_answers_from_another_program_become_a_return(study: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(study, tmp_path / "copy")
    for path in list((copy / "returned").iterdir()):
        path.unlink()
    dictionary, data, *_ = export_answers(copy, "redcap", tmp_path / "redcap")
    assert dictionary.parent.name == "r01"
    header, *rows = data.read_text().splitlines()
    columns = header.split(",")
    filled = []
    for row in rows:
        cells = dict(zip(columns, row.split(","), strict=True))
        cells |= {"pref_quality": "1", "pref_fidelity": "3", "confidence": "4", "halluc_a": "1", "halluc_b": "2"}
        cells |= {"method_guess": "3", "t_shown": "2026-01-01 10:00:00"}
        filled.append(cells)
    known = [name for name in columns if name in filled[0]]
    text = "\n".join([",".join(known), *(",".join(cells[name] for name in known) for cells in filled)])
    path = tmp_path / "export.csv"
    path.write_text(text + "\n")
    returned = import_answers(copy, "redcap", path, "r01")
    assert returned.name == "r01.jsonl"
    assert len(returned.read_text().splitlines()) == 8
    with pytest.raises(InputError, match=r"r01.jsonl: found a return that r01 already made; needed no return"):
        import_answers(copy, "redcap", path, "r01")
    with pytest.raises(InputError, match="found the rater 'r07'; needed one of r01, r02"):
        import_answers(copy, "redcap", path, "r07")


def test_the_papers_design_shows_an_image_again_and_passes_its_audit(tmp_path: Path) -> None:
    plan = StudyPlan(preset="paper", restorers=("gaussian", "median", "none"), raters=3, images=3)
    made = export_study(tmp_path / "paper", plan, device="cpu")
    assert (made.tasks, made.repeats, made.sentinels) == (6, 0, {})
    page = (tmp_path / "paper" / "public" / "protocol.html").read_text()
    assert "a rater sees an image again with another baseline" in page


def test_a_review_asks_of_one_region_and_all_who_review_it_of_the_same(tmp_path: Path) -> None:
    plan = replace(PLAN, kind="review", restorers=("gaussian",), sentinels={"removed": 1}, repeats=0)
    export_study(tmp_path / "review", plan, device="cpu")
    entries = json.loads((tmp_path / "review" / "sealed" / "key.json").read_bytes())["entries"]
    key = {entry["task_id"]: KeyEntry.model_validate(entry) for entry in entries}
    regions: dict[str, set[tuple[int, ...]]] = {}
    for rater in ("r01", "r02"):
        for task in read_viewer(tmp_path / "review" / "public" / rater / "viewer.html").tasks:
            entry = key[task["task_id"]]
            assert task["img_B"] is None
            x, y, width, height = task["focus"]
            assert 0 <= x <= 256 - width
            assert 0 <= y <= 256 - height
            if entry.kind == "real":
                assert entry.focus_flagged is not None
                regions.setdefault(entry.case_id, set()).add(tuple(task["focus"]))
            else:
                assert entry.planted is not None
                assert x <= entry.planted[0] <= x + width
                assert y <= entry.planted[1] <= y + height
    assert len(regions) == 4
    assert all(len(found) == 1 for found in regions.values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "OUT"], "found neither sources nor --phantom; needed either cases and folders, or --phantom N"),
        (["export", "OUT", "case.dcm", "--phantom", "3"], "found sources and --phantom"),
        (["export", "OUT", "--phantom", "3", "--restorers", "rscd,sharpen"], "found the restorer 'sharpen'"),
        (["export", "OUT", "--phantom", "3", "--kind", "poll"], "found the kind 'poll'"),
        (["export", "OUT", "--phantom", "3", "--weights", "nowhere", "--restorers", "rscd,cyclegan"], "phantom-baselines"),
        (["export", "OUT", "--phantom", "3", "--sentinels", "two"], "found the sentinels 'two'; needed KIND=N"),
        (["export", "OUT", "--phantom", "3", "--sentinels", "fake=2"], "found the sentinels fake=2; needed counts of same"),
        (["check", "OUT"], "found no folder named public"),
        (["unblind", "OUT"], "found no readable protocol"),
        (["unblind", "OUT", "--receipt", "r01"], "found the receipt 'r01'; needed RATER=CODE"),
        (["analyse", "OUT"], "found a study that is still blinded"),
        (["serve", "OUT"], "needed the folder of an exported study"),
        (["convert", "OUT", "to", "--to", "redcap"], "found no readable protocol"),
        (["rehearse", "OUT"], "found no readable sealed key"),
    ],
)
def test_a_wrong_call_is_told_in_one_sentence_and_writes_nothing(arguments: list[str], says: str, tmp_path: Path) -> None:
    out = tmp_path / "none"
    run = CliRunner().invoke(app, ["study", *(str(out) if one == "OUT" else one for one in arguments)])
    assert run.exit_code == 2
    assert says in run.stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="found a file, or a folder that is not empty; needed a new or empty folder"):
        export_study(tmp_path, PLAN)
    assert (tmp_path / "mine.txt").read_text() == "mine"
