"""A study's folder: what raters get tells nothing, what is sealed stays sealed, and what comes back is checked."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from small_study import IMAGES, NAME, PX, RATERS, build, no_power

from srh_clinic.errors import InputError
from srh_clinic.validation.study import export
from srh_clinic.validation.study.audit import STAMP, check_study, require_blind
from srh_clinic.validation.study.disguises import occurs
from srh_clinic.validation.study.plan import StudyPlan
from srh_clinic.validation.study.records import KeyEntry, StudyProtocol
from srh_clinic.validation.study.rehearsal import rehearse_study
from srh_clinic.validation.study.returns import read_return, write_return
from srh_clinic.validation.study.unblinding import load_unblinded, unblind
from srh_clinic.validation.study.viewer import read_viewer


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "sample_size", no_power)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, _quick: None) -> Path:
    return build(tmp_path_factory.mktemp("built") / "study")


@pytest.fixture
def study(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(built, tmp_path / "study")


def key_of(study: Path) -> dict[str, KeyEntry]:
    entries = json.loads((study / "sealed" / "key.json").read_bytes())["entries"]
    return {entry["task_id"]: KeyEntry.model_validate(entry) for entry in entries}


def rewrite(study: Path, change: Callable[[dict[str, Any], dict[str, bytes], KeyEntry], None]) -> None:
    """Change every task of every viewer, and the images, as a careless export might have."""
    key = key_of(study)
    for path in sorted(study.glob("public/*/viewer.html")):
        contents = read_viewer(path)
        tasks, images = [dict(task) for task in contents.tasks], dict(contents.images)
        for task in tasks:
            change(task, images, key[task["task_id"]])
        text = path.read_bytes()
        listed = json.dumps(tasks, sort_keys=True, separators=(",", ":")).encode()
        start = text.index(b'id="tasks">') + len(b'id="tasks">')
        text = text[:start] + listed + text[text.index(b"</script>", start) :]
        order = [name for task in tasks for name in (task["lq_img"], task["img_A"], task["img_B"])]
        rows = b"".join(
            b'<script type="text/plain" data-img="%s">%s</script>\n' % (name.encode(), base64.b64encode(images[name]))
            for name in order
        )
        start, end = text.index(b"\n<!-- images -->\n") + len(b"\n<!-- images -->\n"), text.rindex(b"<!-- end of images -->")
        path.write_bytes(text[:start] + rows + text[end:])
        os.utime(path, (STAMP, STAMP))


def planes(pixels: bytes) -> np.ndarray:
    return np.frombuffer(pixels, dtype=np.uint8).reshape(2, PX, PX)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (STAMP, STAMP))


def longer(study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        name = task["img_A"] if entry.side_A_method == "rscd" else task["img_B"]
        images[name] += bytes(3)

    rewrite(study, change)


def touched(study: Path) -> None:
    os.utime(study / "public" / "r02" / "viewer.html", (STAMP + 60, STAMP + 60))


def ordered(study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        if (task["img_A"] < task["img_B"]) != (entry.side_A_method == "rscd"):
            a, b = task["img_A"], task["img_B"]
            images[a], images[b] = images[b], images[a]
            task["img_A"], task["img_B"] = b, a

    rewrite(study, change)


def remarked(study: Path) -> None:
    remark = PngImagePlugin.PngInfo()
    remark.add_text("Software", "srh-clinic")
    path = study / "public" / "r01" / "logo.png"
    Image.new("L", (8, 8)).save(path, pnginfo=remark)
    os.utime(path, (STAMP, STAMP))


def named(study: Path) -> None:
    rewrite(study, lambda task, images, entry: task.update(note=entry.side_A_method))


def fixed(study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        entries[entry.task_id] |= {"side_A_method": "rscd", "side_B_method": "median"}

    key = json.loads((study / "sealed" / "key.json").read_bytes())
    entries = {entry["task_id"]: entry for entry in key["entries"]}
    rewrite(study, change)
    (study / "sealed" / "key.json").write_text(json.dumps(key))


def repeated(study: Path) -> None:
    first: dict[str, bytes] = {}

    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        if task["seq"] in (0, 7):
            images[task["lq_img"]] = first.setdefault(task["rater_id"], images[task["lq_img"]])

    rewrite(study, change)


def windowed(study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        if "cyclegan" in (entry.side_A_method, entry.side_B_method):
            task["window"] = {**task["window"], "high": task["window"]["high"] * 1.3}

    rewrite(study, change)


def patient(study: Path) -> None:
    path = study / "public" / "protocol.html"
    put(path, path.read_bytes() + b"<!-- x" + base64.b64encode(b"PN=" + NAME.encode()) + b" -->")


def identified(study: Path) -> None:
    path = study / "public" / "protocol.html"
    put(path, path.read_bytes().replace(b"</body>", b"<p>1.2.276.0.7230010.3.1.4.8323329.9</p></body>"))


LEAKS = {
    "file size": (longer, "not stored raw"),
    "mtime": (touched, "r02/viewer.html: has a time of its own"),
    "id order": (ordered, r"attributes tell the method under test in 1\d\d of 1\d\d tasks \(name of A less that of B"),
    "PNG text chunk": (remarked, "r01/logo.png: embeds an image file"),
    "method name": (named, "names the method cyclegan"),
    "fixed side": (fixed, r"the method under test is on side A in 120 of 120 tasks"),
    "image repeated": (repeated, "task 7 shows an image again"),
    "window by method": (windowed, "window high 0 tells tasks with cyclegan from others"),
    "patient name": (patient, "protocol.html: names a patient, a case or its source"),
    "DICOM UID": (identified, "protocol.html: holds a DICOM identifier"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(leak: str, study: Path) -> None:
    plant, says = LEAKS[leak]
    plant(study)
    found = [str(finding) for finding in check_study(study).findings]
    assert any(re.search(says, one) for one in found), found


def test_an_export_that_leaks_is_refused(study: Path) -> None:
    touched(study)
    with pytest.raises(
        InputError, match=r"study: found a leak \(r02/viewer.html: has a time of its own\); needed a study whose public folder"
    ):
        require_blind(study)


@pytest.mark.parametrize("salt", range(3))
def test_a_clean_export_passes(salt: int, tmp_path: Path) -> None:
    audit = check_study(build(tmp_path / "study", hashlib.sha256(bytes([salt])).digest()))
    assert audit.findings == ()
    assert audit.tasks == RATERS * (IMAGES + 3 + 4)
    assert len(audit.checks) >= 15


def test_a_name_hidden_among_the_pixels_is_found(study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        if task["seq"] == 3:
            images[task["lq_img"]] = NAME.upper().encode() + images[task["lq_img"]][len(NAME) :]

    rewrite(study, change)
    found = [str(finding) for finding in check_study(study).findings]
    assert any("r01/viewer.html: names a patient, a case or its source among the pixels" in one for one in found), found


@pytest.mark.parametrize("place", [0, 1, (1 << 22) - 3, (1 << 22) + 2, (1 << 23) - 9])
def test_a_pattern_is_found_wherever_it_lies(place: int) -> None:
    content = bytearray(np.random.default_rng(0).bytes(1 << 23))
    patterns = [b"Adelaide", *(np.random.default_rng(n).bytes(9) for n in range(1, 500))]
    assert not occurs(patterns, bytes(content))
    content[place : place + 8] = b"Adelaide"
    assert occurs(patterns, bytes(content))


def shifted(image: np.ndarray) -> np.ndarray:
    return np.roll(image, (1, 2), axis=(1, 2))


def rounded(image: np.ndarray) -> np.ndarray:
    return image & 0xFE


def stamped(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[0, 5, 6] = 77
    return image


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        (shifted, r"images of median are shifted by 1, 2 px"),
        (rounded, "values of median prefer some remainders of 2"),
        (stamped, "images of median have one value at y 5, x 6 throughout"),
    ],
)
def test_a_mark_in_the_pixels_of_one_method_is_found(mark: Callable[[np.ndarray], np.ndarray], says: str, study: Path) -> None:
    def change(task: dict[str, Any], images: dict[str, bytes], entry: KeyEntry) -> None:
        for side, method in (("img_A", entry.side_A_method), ("img_B", entry.side_B_method)):
            if method == "median":
                images[task[side]] = mark(planes(images[task[side]])).tobytes()

    rewrite(study, change)
    found = [str(finding) for finding in check_study(study).findings]
    assert any(re.search(says, one) for one in found), found


def test_the_key_is_for_its_owner_and_nothing_of_it_is_public(study: Path) -> None:
    assert stat.S_IMODE((study / "sealed").stat().st_mode) == 0o700
    for path in (study / "sealed").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    public = b"".join(path.read_bytes() for path in (study / "public").rglob("*") if path.is_file())
    for entry in key_of(study).values():
        assert entry.patient_hash.encode() not in public
        assert entry.case_id.encode() not in public


def test_a_repeat_has_its_sides_swapped_and_new_names(study: Path) -> None:
    key = key_of(study)
    repeats = [entry for entry in key.values() if entry.kind == "repeat"]
    assert len(repeats) == RATERS * 3
    for entry in repeats:
        assert entry.repeat_of is not None
        first = key[entry.repeat_of]
        assert (first.side_A_method, first.side_B_method) == (entry.side_B_method, entry.side_A_method)
        assert (first.case_id, first.rater_id) == (entry.case_id, entry.rater_id)


def test_the_two_sides_of_a_task_are_what_the_key_says(study: Path) -> None:
    key = key_of(study)
    viewer = read_viewer(study / "public" / "r01" / "viewer.html")
    spread = {"rscd": 1.0, "cyclegan": 0.7, "median": 2.0}
    for task in viewer.tasks:
        entry = key[task["task_id"]]
        if entry.kind == "sentinel":
            continue
        rough = {
            method: float(np.diff(planes(viewer.images[task[side]]).astype(float), axis=2).std())
            for side, method in (("img_A", entry.side_A_method), ("img_B", entry.side_B_method))
        }
        assert sorted(rough, key=lambda method: spread[method]) == sorted(rough, key=lambda method: -rough[method])


def test_one_salt_gives_one_study_and_another_other_sides(built: Path, tmp_path: Path) -> None:
    one, other = build(tmp_path / "a"), build(tmp_path / "b", bytes([1] * 32))
    viewer = "public/r03/viewer.html"
    assert (one / viewer).read_bytes() == (built / viewer).read_bytes()
    sides = [[entry.side_A_method for entry in key_of(study).values() if entry.kind == "real"] for study in (one, other)]
    assert sides[0] != sides[1]


def test_a_study_is_answered_unblinded_and_kept(study: Path) -> None:
    with pytest.raises(InputError, match="found a study that is still blinded"):
        load_unblinded(study)
    rehearse_study(study)
    opened = unblind(study)
    assert len(opened.answers) == RATERS * (IMAGES + 3 + 4)
    assert not opened.interim
    assert load_unblinded(study) == opened
    assert "all returns are in" in (study / "study.log").read_text()
    with pytest.raises(InputError, match="found returns of raters"):
        rehearse_study(study)


def test_nothing_is_unblinded_before_every_return_is_in(study: Path) -> None:
    rehearse_study(study)
    (study / "returned" / "r03.jsonl").unlink()
    with pytest.raises(InputError, match=r"found no return of r03; needed all returns before the key is opened"):
        unblind(study)
    assert not (study / "unblinded.json").exists()
    opened = unblind(study, interim=True)
    assert opened.interim
    assert set(opened.returns) == {"r01", "r02", "r04"}
    assert "interim: returns are missing" in (study / "study.log").read_text()


def edited(text: str) -> str:
    line = text.splitlines()[4]
    value = '"confidence":1' if '"confidence":1' not in line else '"confidence":2'
    return text.replace(line, re.sub(r'"confidence":\d', value, line))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edited, r"line 6, which does not follow line 5"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), "no closing line"),
        (lambda text: "".join(text.splitlines(keepends=True)[:20]), r"20 of 37 tasks answered and no closing line"),
        (lambda text: text[:-40], r"line 38, which is not an answer"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "line 1, which does not follow the file's beginning"),
        (lambda text: text.replace("r02", "r09"), r"does not follow|r09"),
        (lambda text: "", "found no answer"),
    ],
)
def test_a_return_that_was_changed_or_cut_is_named(change: Callable[[str], str], says: str, study: Path) -> None:
    rehearse_study(study)
    path = study / "returned" / "r02.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=says) as caught:
        unblind(study)
    assert "r02.jsonl" in str(caught.value)


def test_a_return_that_was_made_up_anew_is_told_by_its_receipt(study: Path) -> None:
    rehearse_study(study)
    path = study / "returned" / "r02.jsonl"
    secret = read_viewer(study / "public" / "r02" / "viewer.html").secret
    receipt = read_return(path, read_protocol(study).study_id, secret).receipt
    rows = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    for row in rows:
        row["pref_quality"] = "A"
        row.pop("prev_hash")
    path.write_text(write_return(rows, read_protocol(study).study_id, "r02", secret))
    unblind(study)
    with pytest.raises(InputError, match=rf"needed {receipt}, which r02 was shown"):
        unblind(study, receipts={"r02": receipt})


def read_protocol(study: Path) -> StudyProtocol:
    return StudyProtocol.model_validate_json((study / "public" / "protocol.json").read_bytes())


def test_a_key_or_a_protocol_that_was_changed_is_refused(study: Path) -> None:
    rehearse_study(study)
    path = study / "sealed" / "key.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"side_A_method":"rscd"', b'"side_A_method":"none"', 1))
    with pytest.raises(InputError, match="found a key that does not fit its commitment"):
        unblind(study)
    path.write_bytes(whole)
    protocol = study / "public" / "protocol.json"
    protocol.write_bytes(protocol.read_bytes().replace(b'"test":"rscd"', b'"test":"none"'))
    with pytest.raises(InputError, match="found a protocol that the key was not sealed with"):
        unblind(study)


def test_a_protocol_that_is_none_is_told_by_all_who_read_it(study: Path) -> None:
    (study / "public" / "protocol.json").write_text("{}")
    for reads in (check_study, unblind, rehearse_study):
        with pytest.raises(
            InputError, match=r"protocol\.json: found .*Field required; needed the protocol of an exported study"
        ):
            reads(study)


def test_an_unblinded_study_knows_when_a_return_was_changed_since(study: Path) -> None:
    rehearse_study(study)
    unblind(study)
    path = study / "returned" / "r01.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match="found a return that has changed since it was unblinded"):
        load_unblinded(study)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"kind": "poll"}, "found the kind 'poll'; needed preference or review"),
        ({"preset": "large"}, "found the preset 'large'; needed default or paper"),
        ({"restorers": ("rscd",)}, "found the restorers rscd; needed at least 2"),
        ({"restorers": ("rscd", "rscd")}, "needed at least 2, each of them once"),
        ({"raters": 2, "clinicians": 3}, "found 2 raters, 3 of them clinicians"),
        ({"images": 0}, "found 0 images"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        StudyPlan(**plan)
