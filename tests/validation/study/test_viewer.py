"""The viewer: what its file holds, that the file can be taken apart, and a rater who answers a study in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from srh_clinic.errors import InputError
from srh_clinic.validation.study.records import Task, Window
from srh_clinic.validation.study.returns import Return, read_return, require_whole
from srh_clinic.validation.study.viewer import Page, read_viewer, viewer_code, write_viewer

EVIL = 'A trial </title></script><script>document.title = "1"</script>'
ANSWERS = {
    "pref_quality": "A",
    "pref_fidelity": "tie",
    "confidence": 4,
    "halluc_A": "none",
    "halluc_B": "definite",
    "method_guess": "unsure",
}
ANSWER_KEYS = ("1", "2", "4", "1", "3", "2")
"""What answers a task as ``ANSWERS`` say."""

NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('off', 'SecurityError'); } });"
NO_CRYPTO = "Object.defineProperty(Crypto.prototype, 'subtle', { get: () => undefined });"


@pytest.fixture
def study(noise_tasks: Callable[..., Any], tmp_path: Path) -> tuple[Path, list[Task], dict[str, NDArray[np.uint8]]]:
    """A viewer of twelve tasks, the tasks and the images."""
    tasks, images = noise_tasks(12)
    return (
        write_viewer(tmp_path / "viewer.html", Page(EVIL, "preference", "Research use only & not a device"), tasks, images),
        tasks,
        images,
    )


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


# ---- The file ----


def test_a_viewer_gives_back_its_tasks_its_pixels_in_order_and_the_code(study: Any) -> None:
    path, tasks, images = study
    found = read_viewer(path)
    assert [Task.model_validate(task) for task in found.tasks] == tasks
    assert list(found.images) == [name for task in tasks for name in (task.lq_img, task.img_A, task.img_B)]
    assert all(found.images[name] == planes.tobytes() for name, planes in images.items())
    assert found.code == viewer_code(Page(EVIL, "preference", "Research use only & not a device"))


def test_a_viewers_bytes_follow_from_its_input_alone(study: Any, tmp_path: Path) -> None:
    path, tasks, images = study
    shuffled = dict(sorted(images.items()))
    again = write_viewer(
        tmp_path / "again.html", Page(EVIL, "preference", "Research use only & not a device"), tasks, shuffled
    )
    assert again.read_bytes() == path.read_bytes()


def test_a_flat_image_takes_as_much_room_as_noise(noise_tasks: Callable[..., Any], tmp_path: Path) -> None:
    tasks, images = noise_tasks(1)
    flat = {name: np.zeros_like(planes) for name, planes in images.items()}
    sizes = [
        write_viewer(tmp_path / "viewer.html", Page("trial", "preference", ""), tasks, shown).stat().st_size
        for shown in (images, flat)
    ]
    assert sizes[0] == sizes[1]


def test_150_tasks_of_256_px_stay_below_100_mb(noise_tasks: Callable[..., Any], tmp_path: Path) -> None:
    tasks = [task.model_copy(update={"height": 256, "width": 256}) for task in noise_tasks(2)[0]]
    images = {name: np.zeros((2, 256, 256), np.uint8) for task in tasks for name in (task.lq_img, task.img_A, task.img_B)}
    one, two = (
        write_viewer(tmp_path / "v.html", Page("t", "preference", ""), tasks[:n], images).stat().st_size for n in (1, 2)
    )
    assert one + 149 * (two - one) < 100e6


def test_nothing_of_a_study_becomes_markup_and_nothing_can_be_fetched(noise_tasks: Callable[..., Any], tmp_path: Path) -> None:
    tasks, images = noise_tasks(2, study="</script><script>alert(1)</script><!--")
    content = write_viewer(tmp_path / "viewer.html", Page(EVIL, "preference", EVIL), tasks, images).read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(content)
    scripts = [attributes.get("type") for tag, attributes in elements.seen if tag == "script"]
    assert scripts == ["application/json", "application/json", *["text/plain"] * 6, None]
    assert not any({"src", "href", "onerror", "style"} & set(attributes) for _, attributes in elements.seen)
    (policy,) = (attributes["content"] or "" for _, attributes in elements.seen if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert {part.split()[0] for part in policy.split("; ")} == {
        *("default-src", "style-src", "script-src", "connect-src", "base-uri", "form-action")
    }
    assert read_viewer(tmp_path / "viewer.html").tasks[0]["study_id"] == "</script><script>alert(1)</script><!--"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (rb'<script type="application/json" id="tasks">', b"<script>", "no list of tasks"),
        (rb"<!-- images -->", b"", "no part with images"),
        (rb"<!-- end of images -->", b"<!-- end of images -->\n<!-- images -->\n", "more than one part with images"),
        (rb'id="tasks">\[', b'id="tasks">', "not valid JSON"),
        (rb'id="tasks">.*?</script>', b'id="tasks">[1]</script>', "not a list of objects"),
        (rb'data-img="[0-9a-f]{4}', b'data-img="', "not an image"),
        (rb"<!-- end of images -->", b"<b></b>\n<!-- end of images -->", "not an image"),
    ],
)
def test_a_file_that_is_no_viewer_is_refused(study: Any, old: bytes, new: bytes, found: str) -> None:
    path = study[0]
    path.write_bytes(re.sub(old, lambda _: new, path.read_bytes(), count=1))
    with pytest.raises(InputError, match=found):
        read_viewer(path)


def test_an_image_that_is_there_twice_or_of_odd_length_is_refused(study: Any, tmp_path: Path) -> None:
    path, tasks, _ = study
    content = path.read_bytes()
    line = re.search(rb"<script type=\"text/plain\".*?</script>\n", content)
    assert line
    path.write_bytes(content.replace(line[0], 2 * line[0]))
    with pytest.raises(InputError, match=f"two images named {tasks[0].lq_img}"):
        read_viewer(path)
    path.write_bytes(content.replace(line[0], re.sub(rb">.", b">", line[0], count=1)))
    with pytest.raises(InputError, match="not valid base64"):
        read_viewer(path)
    with pytest.raises(InputError, match="No such file"):
        read_viewer(tmp_path / "none.html")


def test_images_that_do_not_fit_their_task_are_refused(study: Any, tmp_path: Path) -> None:
    _, tasks, images = study
    with pytest.raises(InputError, match="no image"):
        write_viewer(tmp_path / "v.html", Page("t", "preference", ""), tasks, {})
    for wrong in (np.zeros((2, 64, 63), np.uint8), np.zeros((2, 64, 64), np.uint16)):
        with pytest.raises(InputError, match="uint8 with shape \\(2, 64, 64\\)"):
            write_viewer(tmp_path / "v.html", Page("t", "preference", ""), tasks, images | {tasks[3].img_A: wrong})
    with pytest.raises(InputError, match="no task"):
        write_viewer(tmp_path / "v.html", Page("t", "preference", ""), [], {})
    assert not (tmp_path / "v.html").exists()


# ---- In a browser ----


def test_a_pages_secret_and_commitment_reach_its_rater_and_its_return(
    study: Any, new_rater: Callable[[], Any], tmp_path: Path
) -> None:
    _, tasks, images = study
    page = Page("trial", "preference", secret="5e" * 32, commitment="c0" * 32)
    rater = new_rater()
    rater.begin(write_viewer(tmp_path / "secret.html", page, tasks[:1], images))
    assert "c0" * 32 in rater.text("#start")
    rater.open_task()
    rater.press("m")
    rater.drag(on_image(rater, "A", 1, 1), on_image(rater, "A", 60, 60))
    assert "a box around so much of the image finds nothing" in rater.text("#hint")
    for left in (1, 22):
        rater.press("m")
        rater.drag(on_image(rater, "A", left, 1), on_image(rater, "A", left + 20, 60))
        if left == 1:
            rater.press("1", "1")
    assert "boxes around so much of the image find nothing" in rater.text("#hint")
    rater.click("#marks ul button")
    rater.press(*ANSWER_KEYS)
    rater.commit()
    path = exported(rater, tmp_path, "#deliver")
    returned = read_return(path, tasks[0].study_id, page.secret)
    assert (returned.closed, returned.ratings[0].regions) == (True, ())
    assert rater.text("#receipt") == returned.receipt
    with pytest.raises(InputError, match="line 1, which does not follow the file's beginning"):
        read_return(path, tasks[0].study_id)


def test_a_second_window_of_one_browser_is_told_in_both(study: Any, new_rater: Callable[[], Any]) -> None:
    path, _, _ = study
    rater = new_rater()
    rater.begin(path)
    first = rater._session
    rater._session = ""
    rater.begin(path)
    second = rater._session
    for window in (first, second):
        rater._session = window
        rater.until("document.getElementById('trouble').innerText.includes('another window')")
    rater.evaluate("location.href = 'about:blank'")
    rater._session = first
    rater.until("document.getElementById('trouble').hidden")


def on_image(rater: Any, panel: str, x: int, y: int) -> tuple[float, float]:
    """Where the middle of a pixel of the image lies on the screen, at one screen pixel per CSS pixel."""
    view = rater.state()["view"]
    at = rater.at(f"#panel-{panel} canvas")
    return at[0] + (x + 0.5 - view["x"]) * view["zoom"], at[1] + (y + 0.5 - view["y"]) * view["zoom"]


def pixels(rater: Any, panel: str) -> NDArray[np.uint8]:
    """What a panel's canvas holds, uint8 ``(height, width, 4)``."""
    uri = rater.evaluate(f"document.querySelector('#panel-{panel} canvas').toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


def colours(planes: NDArray[np.uint8], window: Window) -> NDArray[np.float64]:
    """Colours by the words of :class:`Window`, not yet rounded."""
    ch2, ch3 = window.low + planes.astype(np.float64) * (window.high - window.low) / 255
    shown = zip((ch3 - ch2, ch2, ch3), (window.red, window.green, window.blue), strict=True)
    return np.stack([np.clip(255 * (counts - low) / (high - low), 0, 255) for counts, (low, high) in shown], axis=-1)


def exported(rater: Any, folder: Path, button: str = "#export") -> Path:
    """Click on an export, and wait for its file."""
    path = folder / "p1.jsonl"
    path.unlink(missing_ok=True)
    rater.downloads(folder)
    rater.click(button)
    for _ in range(500):
        if path.exists() and path.stat().st_size:
            return path
        time.sleep(0.02)
    raise AssertionError("nothing was exported")


def finish(rater: Any, path: Path, tasks: list[Task]) -> Return:
    """Answer what is left by keyboard alone, and hold the export against the tasks and the receipt."""
    while not rater.state()["closed"]:
        if rater.evaluate("document.getElementById('task').hidden"):
            rater.open_task()
        rater.press(*ANSWER_KEYS)
        rater.commit()
    returned = read_return(exported(rater, path, "#deliver"), tasks[0].study_id)
    require_whole(returned, [task.task_id for task in tasks], path)
    assert rater.text("#receipt") == returned.receipt
    assert [(rating.seq, rating.task_id) for rating in returned.ratings] == [(task.seq, task.task_id) for task in tasks]
    return returned


def test_a_study_is_answered_by_keyboard_and_mouse_and_a_reload_loses_nothing(
    study: Any, new_rater: Callable[[], Any], tmp_path: Path
) -> None:
    path, tasks, _ = study
    rater = new_rater()
    rater.begin(path)
    assert rater.text("h1") == EVIL
    assert rater.evaluate("document.title") == EVIL
    assert "Research use only & not a device" in rater.text("#start")
    rater.open_task()

    # By keyboard: nothing is committed before all is answered.
    rater.press(*ANSWER_KEYS[:-1], "Enter")
    rater.settle()
    assert "method under test" in rater.text("#hint")
    rater.press(ANSWER_KEYS[-1])
    rater.commit()

    # By mouse, with zoom, flicker, a box and a point.
    for name, value in ANSWERS.items():
        rater.click(f"[data-ask={name}] [value='{value}']")
    for _ in range(3):
        rater.wheel("#panel-B canvas", -100)
    rater.until("!window.srhStudy.state().view.whole")
    rater.press("0")
    rater.until("window.srhStudy.state().view.whole")
    rater.key("f", down=True)
    seen = [rater.state()["flickering"]]
    while len(seen) < 3:
        rater.until(f"window.srhStudy.state().flickering !== '{seen[-1]}'")
        seen.append(rater.state()["flickering"])
    rater.key("f", down=False)
    assert seen == ["input", "B", "A"]
    assert rater.state()["flickering"] is None
    rater.press("m")
    rater.drag(on_image(rater, "A", 30, 12), on_image(rater, "A", 10, 22))
    rater.press("2", "1")
    rater.press("m")
    rater.click("#panel-input canvas")
    assert "not in the image as scanned" in rater.text("#hint")
    place = on_image(rater, "B", 50, 7)
    rater.drag(place, place)
    rater.press("6")
    rater.click("[data-ask=severity] [value=major]")
    rater.commit()

    # A reload in the middle: answers, marks, a mark that is half made, the comment and the counts are still there.
    rater.press("3", "3", "+")
    rater.press("m", "b", "ArrowLeft", " ")
    rater.press("ArrowDown", shift=True)
    rater.press(" ", "1", "2")
    rater.press("m", " ", " ")
    rater.press("c", *"ad")
    rater.press("Enter")
    before = rater.state()
    rater.reload()
    assert "Continue with task 3 of 12" in rater.text("#begin")
    rater.open_task()
    after = rater.state()
    assert after["draft"] == before["draft"]
    assert before["draft"]["pending"]["shape"] == "point"
    assert after["current"] == "category"
    rater.press("Escape")
    rater.press("1", "1", "1", "1")
    rater.commit()

    # A mark can be taken back.
    for _ in range(2):
        rater.press("m", " ", " ", "7", "1")
    rater.press("Delete")
    rater.click("#marks li button")
    assert rater.text("#marks ul") == "none"

    returned = finish(rater, tmp_path / "out", tasks)
    assert rater.said == []
    first, second, third, fourth = returned.ratings[:4]
    assert first.model_dump(include=set(ANSWERS)) == ANSWERS
    assert (first.n_zoom, first.n_flicker, first.regions, first.comment) == (0, 0, (), "")
    assert second.model_dump(include=set(ANSWERS)) == ANSWERS
    assert (second.n_zoom, second.n_flicker) == (2, 1)  # three turns of the wheel in one go, then the whole field
    assert [region.model_dump() for region in second.regions] == [
        {"side": "A", "shape": "box", "xy": (10, 12, 31, 23), "category": "removed nucleus", "severity": "minor"},
        {"side": "B", "shape": "point", "xy": (50, 7), "category": "stripe or stitch", "severity": "major"},
    ]
    assert [region.model_dump() for region in third.regions] == [
        {"side": "B", "shape": "box", "xy": (31, 32, 32, 43), "category": "added nucleus", "severity": "major"}
    ]
    assert (third.comment, third.n_zoom, third.pref_quality) == ("ad", 1, "B")
    assert third.t_shown == before["draft"]["t_shown"]
    assert fourth.regions == ()
    assert all(
        one.t_shown <= one.t_answered <= two.t_shown for one, two in zip(returned.ratings, returned.ratings[1:], strict=False)
    )


def test_an_export_is_continued_on_another_machine_and_a_foreign_one_is_refused(
    study: Any, noise_tasks: Callable[..., Any], new_rater: Callable[[], Any], tmp_path: Path
) -> None:
    path, tasks, _ = study
    rater = new_rater()
    rater.begin(path)
    rater.open_task()
    for _ in range(7):
        if rater.evaluate("document.getElementById('task').hidden"):  # the pause between two blocks
            rater.open_task()
        rater.press(*ANSWER_KEYS)
        rater.commit()
    half = exported(rater, tmp_path / "half")
    assert not read_return(half, tasks[0].study_id).closed

    elsewhere = new_rater()
    elsewhere.begin(path)
    lines = half.read_text().splitlines()
    spoiled = {
        "does not follow": [*lines[:3], *lines[4:]],
        "is no answer": [*lines, "{"],
        "is of another": [lines[0].replace(tasks[0].study_id, "another")],
    }
    for said, wrong in spoiled.items():
        (tmp_path / "wrong.jsonl").write_text("".join(f"{line}\n" for line in wrong))
        elsewhere.choose_file(tmp_path / "wrong.jsonl")
        elsewhere.until(f"document.getElementById('trouble').textContent.includes('{said}')")
        assert elsewhere.state()["answered"] == 0
    elsewhere.choose_file(half)
    elsewhere.until("window.srhStudy.state().answered === 7")
    elsewhere.until("document.getElementById('begin').textContent.includes('task 8')")
    assert elsewhere.evaluate("document.getElementById('trouble').hidden")
    elsewhere.open_task()
    finish(elsewhere, tmp_path / "whole", tasks)
    assert (tmp_path / "whole" / "p1.jsonl").read_text().startswith(half.read_text())

    # What a browser keeps of a study whose tasks were drawn anew is not mixed with them.
    write_viewer(path, Page("trial", "preference", ""), tasks[::-1], study[2])
    rater.begin(path, until="!document.getElementById('aside').hidden")
    assert "do not belong to this page" in rater.text("#trouble")
    assert rater.said + elsewhere.said == []


def test_every_panel_shows_the_window_colours_of_the_same_place_without_smoothing(
    study: Any, new_rater: Callable[[], Any]
) -> None:
    path, tasks, images = study
    rater = new_rater()
    rater.begin(path)
    rater.screen(1366, 768)
    rater.open_task()
    rater.press("+")
    rater.drag(rater.at("#panel-A canvas"), rater.at("#panel-A canvas", 0.3, 0.4))
    rater.press("ArrowUp")
    rater.mouse("mouseMoved", (5, 5))  # away from the images, where it draws a cross
    rater.settle()
    view = rater.state()["view"]
    assert view["zoom"] == 8
    assert view["x"] > 32
    for panel, name in (("input", tasks[0].lq_img), ("A", tasks[0].img_A), ("B", tasks[0].img_B)):
        shown = pixels(rater, panel)
        height, width = shown.shape[:2]
        top, left = (np.floor(edge / 2 - view[axis] * 8 + 0.5) for edge, axis in ((height, "y"), (width, "x")))
        rows, columns = (np.arange(edge) - start for edge, start in ((height, top), (width, left)))
        rows, columns = (axis[(axis >= 0) & (axis < 512)].astype(int) for axis in (rows, columns))
        inside = shown[int(rows[0] + top) :, int(columns[0] + left) :][: len(rows), : len(columns)]
        expected = colours(images[name], tasks[0].window)[rows // 8][:, columns // 8]
        # Half a grey value for rounding, and no more: every screen pixel is exactly one pixel of the image.
        assert np.abs(inside[..., :3] - expected).max() <= 0.5 + 1e-9
    assert rater.text("#panel-A .scalebar") == "5 µm"
    assert rater.evaluate("document.querySelector('#panel-A .scalebar').offsetWidth") == pytest.approx(5 / 0.5 * 8, abs=1)


def test_the_task_fits_the_screen(study: Any, new_rater: Callable[[], Any]) -> None:
    rater = new_rater()
    rater.begin(study[0])
    rater.open_task()
    rater.press("1", "m", " ", " ", "1", "1")
    for size in ([1366, 768], [1366, 620], [3840, 2160]):
        rater.screen(*size)
        assert rater.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == size
        assert rater.evaluate(CUT) == []
        assert rater.evaluate("document.querySelector('#commit').getBoundingClientRect().bottom") <= size[1]
        assert min(pixels(rater, "A").shape[:2]) > 0.5 * size[1]


def test_a_review_frames_its_focus_in_both_images_and_asks_of_a_alone(
    noise_tasks: Callable[..., Any], new_rater: Callable[[], Any], tmp_path: Path
) -> None:
    tasks, images = noise_tasks(2, "review")
    rater = new_rater()
    rater.begin(write_viewer(tmp_path / "viewer.html", Page("trial", "review", ""), tasks, images))
    rater.open_task()
    assert rater.evaluate("document.querySelectorAll('figure').length") == 2
    for panel in ("input", "A"):
        shown = pixels(rater, panel)
        x, y = (
            at - start
            for at, start in zip(on_image(rater, panel, 16, 8), rater.at(f"#panel-{panel} canvas", 0, 0), strict=True)
        )
        half = rater.state()["view"]["zoom"] / 2
        corner = shown[int(y - half - 8) : int(y - half), int(x - half - 8) : int(x - half), :3].reshape(-1, 3)
        assert (np.abs(corner.astype(int) - (255, 180, 84)).sum(axis=1) < 60).any()
    rater.key("f", down=True)
    assert rater.state()["flickering"] == "input"
    rater.key("f", down=False)
    for _ in tasks:
        rater.press("m", "ArrowUp", " ", " ", "1", "1", "2", "5")
        rater.commit()
    returned = read_return(exported(rater, tmp_path / "out", "#deliver"), tasks[0].study_id)
    require_whole(returned, [task.task_id for task in tasks], "p1")
    (one, two) = returned.ratings
    assert (one.halluc_A, one.confidence, one.halluc_B, one.pref_quality, one.method_guess) == (
        "possible",
        5,
        None,
        None,
        None,
    )
    assert two.regions[0].model_dump() == {
        **{"side": "A", "shape": "point", "xy": (32, 31), "category": "added nucleus", "severity": "minor"}
    }
    assert rater.said == []


def test_a_browser_that_keeps_nothing_or_cannot_hash_says_so(
    noise_tasks: Callable[..., Any], new_rater: Callable[[], Any], tmp_path: Path
) -> None:
    tasks, images = noise_tasks(2)
    path = write_viewer(tmp_path / "viewer.html", Page("trial", "preference", ""), tasks, images)
    forgetful = new_rater()
    forgetful.begin(path, before=NO_STORAGE)
    assert "keeps nothing" in forgetful.text("#kept")
    forgetful.open_task()
    finish(forgetful, tmp_path / "out", tasks)
    unable = new_rater()
    unable.begin(path, before=NO_CRYPTO, until="!document.getElementById('trouble').hidden")
    assert "crypto.subtle is missing" in unable.text("#trouble")
    assert unable.evaluate("document.getElementById('begin').disabled")
    assert forgetful.said + unable.said == []


def test_every_control_has_a_name_and_text_that_can_be_read(study: Any, new_rater: Callable[[], Any]) -> None:
    rater = new_rater()
    rater.begin(study[0])
    rater.open_task()
    rater.press("1", "m", " ", " ", "1", "1")
    nodes = rater.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node for node in nodes if node.get("role", {}).get("value") in {"button", "textbox", "img", "progressbar", "group"}
    ]
    assert len(controls) > 30
    assert [node["role"] for node in controls if not node["ignored"] and not node.get("name", {}).get("value")] == []
    assert min(json.loads(rater.evaluate(CONTRASTS)).values()) >= 4.5


CUT = """
[...document.querySelectorAll("#task button, #task h3, #marks li")]
  .filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)
"""
"""Texts that have no room."""

CONTRASTS = """
(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => numbers(colour).slice(0, 3).map((c) => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return numbers(colour)[3] === 0 ? ground(node.parentElement) : colour;
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length || node.disabled || node.closest(".scalebar")) continue;
    const [high, low] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
    found[`${node.tagName}.${node.className} ${node.textContent.trim()}`] = (high + 0.05) / (low + 0.05);
  }
  return JSON.stringify(found);
})()
"""
"""Contrast of every text to its ground as WCAG 2 defines it."""
