"""The case page: what it holds, that nothing of a case becomes markup, and how it behaves in a browser without a network."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.result import CaseResult
from srh_clinic.casepage import page as page_module
from srh_clinic.casepage import write_case_page
from srh_clinic.casepage.pyramid import TILE, halved, make_pyramids
from srh_clinic.display import colour_window, srh_colours, virtual_he
from srh_clinic.restorers import create_restorer
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.trust import GuardPolicy, Promise

SIZE = 700
EVIL = '<img src=x onerror="document.title=1">'
POLICY = GuardPolicy(
    scales={"added": 6.0, "removed": 4.0, "brightness": 0.2},
    promises=(Promise(alpha=0.1, threshold=1.0, confidence=0.95),),
    calibration={},
    steps=(0, 200),
)


class Bundle:
    name, weights_sha256, path = "fake", "0" * 64, Path("fake")
    metadata = {"um_per_px": 0.47, "tile": 256, "demonstration": "demonstration weights, research use only"}  # noqa: RUF012


class Guess:
    patch, recipe = 256, "opensrh"

    def predict_proba(self, patches: np.ndarray) -> np.ndarray:
        return np.tile([0.7, 0.2, 0.1], (len(patches), 1))


@pytest.fixture(scope="module")
def result() -> CaseResult:
    case = simulate_case("tumor", 0.3, SIZE, 1)
    slide = ArraySlide(case.counts, case.um_per_px, Identity(patient_id=EVIL, specimen_id="S-1 & more"))
    made = RestoreThenClassify(Bundle(), create_restorer("median"), Guess(), guard_policy=POLICY)(slide)  # type: ignore[arg-type]
    # A filter predicts no steps; the page is to have some to show.
    steps = replace(made.maps.trust, values=np.linspace(0, 200, len(made.maps.trust.values), dtype=np.float32))
    return replace(made, maps=replace(made.maps, steps=steps))


@pytest.fixture(scope="module")
def page(result: CaseResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case_page(result, tmp_path_factory.mktemp("page") / "case.html", "</title><script>alert(1)</script>.dcm")


def case_data(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="case">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))


def test_nothing_of_the_case_becomes_markup_and_nothing_is_fetched(page: Path) -> None:
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in elements.seen]
    assert "img" not in tags
    assert tags.count("script") == 3
    assert tags.count("title") == 1
    assert not any("src" in attributes or "onerror" in attributes for _, attributes in elements.seen)
    assert [attributes["href"] for _, attributes in elements.seen if "href" in attributes] == ["#findings"]
    assert html.escape(EVIL, quote=False)[:20] in page.read_text(encoding="utf-8")
    (policy,) = (attributes["content"] for _, attributes in elements.seen if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_page_lists_every_flagged_place_and_what_made_the_result(page: Path, result: CaseResult) -> None:
    text = page.read_text(encoding="utf-8")
    assert result.scrutiny.regions
    assert text.count("× threshold") == len(result.scrutiny.regions)
    assert "demonstration weights, research use only" in text.lower()
    assert result.provenance["weights_sha256"] in text
    assert "Not a medical device" in text or "not a medical device" in text


def test_layers_show_the_slide_at_every_level(page: Path) -> None:
    data = case_data(page)
    assert set(data["layers"]) == {"before", "after", "difference"}
    assert (data["frame"]["height"], data["frame"]["width"], data["frame"]["um_per_px"]) == (SIZE, SIZE, 0.47)
    for name, layer in data["layers"].items():
        edge = SIZE if name != "difference" else SIZE // 2
        assert (layer["height"], layer["width"]) == (edge, edge)
        for level in range(layer["levels"]):
            here = -(-edge // 2 ** (layer["levels"] - 1 - level))
            tiles = {key for key in layer["tiles"] if key.startswith(f"{level}/")}
            assert tiles == {f"{level}/{x}_{y}" for x in range(-(-here // TILE)) for y in range(-(-here // TILE))}
            with Image.open(io.BytesIO(base64.b64decode(layer["tiles"][f"{level}/0_0"]))) as tile:
                assert tile.size == (min(here, TILE),) * 2
    assert set(data["overlays"]) == {"steps", "trust", "classes_before", "classes_after"}


def test_the_pages_virtual_he_is_that_of_the_pictures(result: CaseResult) -> None:
    """To 2 of 255: the filter's curve is linear between its points, and the page's pixels are whole numbers."""
    window = colour_window(result.maps.before, result.maps.after)
    shown = srh_colours(result.maps.before, window) / 255
    he = page_module._he_filter()
    densities = np.clip(shown @ np.array(he["matrix"])[:, :3].T, 0, 1)
    curve = np.interp(densities, np.linspace(0, 1, len(he["table"])), he["table"])
    assert np.abs(255 * curve - virtual_he(result.maps.before, window)).max() < 2


def test_doubts_stand_before_everything_else(page: Path, result: CaseResult) -> None:
    doubtful = replace(result, flags=(*result.flags, "unsure: near even"))
    text = page_module.case_page(doubtful, "case")
    assert "(doubtful)</span>" in text
    aside = text[text.index("<aside") :]
    assert (
        aside.index("unsure: near even")
        < aside.index("<fieldset")
        < aside.index('id="flagged"')
        < aside.index("<h2>Probabilities")
    )
    assert ("(doubtful)" in page.read_text(encoding="utf-8")) == bool(result.doubts)


def test_halves_are_means_of_four() -> None:
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    half = halved(picture)
    assert half.shape == (3, 3, 3)
    assert half[0, 0, 0] == 11  # 10.5 of 0, 3, 18 and 21, halves upward
    assert half[2, 2, 1] == (int(picture[4, 4, 1]) + picture[4, 5, 1] + 1) // 2  # the odd edge is repeated


def test_pictures_keep_to_the_budget_or_there_are_none() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1100, 900, 3)).astype(np.uint8)
    sizes = []
    for budget in (1_300_000, 900_000):
        made = make_pyramids({"one": noise}, budget)
        assert made is not None
        sizes.append(sum(map(len, made[0]["one"].tiles.values())))
        assert sizes[-1] <= budget
    assert sizes[1] < sizes[0]
    assert make_pyramids({"one": noise}, 100_000) is None


def test_a_slide_beyond_the_budget_is_shown_smaller(result: CaseResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "BUDGET", 150_000)
    text = page_module.case_page(result, "case")
    frame = json.loads(re.search(r'"frame": (\{.*?\})', text)[1])  # type: ignore[index]
    assert frame["um_per_px"] > 0.47
    assert frame["width"] * frame["um_per_px"] == pytest.approx(SIZE * 0.47, rel=0.01)


def test_a_page_that_cannot_be_written_leaves_nothing(result: CaseResult, tmp_path: Path) -> None:
    (tmp_path / "case.html").mkdir()
    with pytest.raises(OSError, match=r"case\.html"):
        write_case_page(result, tmp_path / "case.html", "case")
    assert [path.name for path in tmp_path.iterdir()] == ["case.html"]


DRIVE = (Path(__file__).parent / "drive.js").read_text(encoding="utf-8")


def test_in_a_browser_without_a_network(page: Path, browser: Any) -> None:
    browser.open(page)
    report = browser.evaluate(DRIVE)
    assert browser.said == []
    colours = report["colours"]
    # Scanned, restored and difference each look like none of the others; every overlay changes what is seen.
    assert len({colours["1"], colours["2"], colours["3"]}) == 3
    assert colours["2"] == colours["4"]
    assert colours["7"] == colours["8"]  # the guess is the same before and after
    assert len({colours[number] for number in "24567"}) == 4
    assert report["zoomed"] == pytest.approx(1.5, rel=0.01)
    assert np.abs(report["jump"]).max() < 2
    assert "threshold" in report["jumped"]
    assert report["marks"] == 2
    assert report["flickered"] == ["after", "before"]
    assert report["still"] == {"layer": "after", "overlay": "none", "side": False, "flicker": False}
    assert report["side"] == {
        "hidden": False,
        "zoom": pytest.approx(1, rel=0.01),
        "apart": pytest.approx(0, abs=1),
        "shown": 1,
        "followed": pytest.approx(1, rel=0.01),
    }
    assert re.fullmatch(r"[125]0* µm", report["scale"])
    assert report["began"] is True
    assert report["scaleLines"] == 1
    assert len(set(report["views"].values())) == 4
    assert report["measured"] == pytest.approx(report["expected"], rel=0.01)
    assert report["title"] != "1"


FILLED = """(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!window.srhCase) await wait(50);
  const { main, second, state } = window.srhCase;
  const share = (viewer) => {
    const { x, y } = viewer.viewport.getContainerSize(), zoom = viewer.viewport.getZoom(true);
    const { width, height } = JSON.parse(document.getElementById("case").textContent).frame;
    return Math.max(zoom, zoom * x * height / width / y);
  };
  let seen, before = "";
  for (let i = 0; i < 60; i++) {
    await wait(100);
    seen = {
      side: state().side,
      shares: [main, second].map(share),
      apart: main.viewport.getCenter().distanceTo(second.viewport.getCenter()),
      overview:
        getComputedStyle(main.navigator.element).visibility === "visible" && main.navigator.viewport.getContainerSize().x,
      overviewed: main.navigator.viewport.getZoom(true) / main.navigator.viewport.getHomeZoom(),
      said: document.getElementById("status").textContent,
      wide: document.documentElement.scrollWidth - innerWidth,
    };
    if (i > 5 && JSON.stringify(seen) === before) break;
    before = JSON.stringify(seen);
  }
  return seen;
})()"""
"""How much of its pane each image fills, in the direction that limits it."""


def resized(browser: Any, width: int, height: int) -> dict:
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    return browser.evaluate(FILLED)


def test_both_images_fill_their_panes_at_every_size(page: Path, browser: Any) -> None:
    """From the start, and when the window changes; nothing lies over the whole slide."""
    browser.open(page)
    for width, height in ((1366, 768), (3840, 2160), (480, 900), (1366, 768)):
        seen = resized(browser, width, height)
        assert seen["side"] is True
        assert seen["shares"] == pytest.approx([1, 1], abs=0.02), (width, height)
        assert seen["apart"] < 0.01
        assert seen["overview"] is False
        assert seen["wide"] <= 0
        assert seen["said"].startswith("above as scanned, below" if width == 480 else "left as scanned, right")


def test_a_closer_look_stays_when_the_window_changes(page: Path, browser: Any) -> None:
    browser.open(page)
    resized(browser, 1366, 768)
    browser.evaluate("document.querySelector('[data-do=in]').click()")
    near = resized(browser, 1366, 768)
    assert near["shares"][0] > 1.4
    assert near["overview"] > 50
    assert near["overviewed"] == pytest.approx(1, abs=0.02)  # it shows the whole slide
    assert resized(browser, 1600, 900)["shares"][0] > 1.2
    browser.evaluate("document.querySelector('[data-do=home]').click()")
    whole = resized(browser, 1600, 900)
    assert whole["shares"] == pytest.approx([1, 1], abs=0.02)
    assert whole["overview"] is False


def seen_by_a_reader(browser: Any) -> np.ndarray:
    """What the left pane shows, uint8 ``(H, W, 3)``, the image alone."""
    box = browser.evaluate(
        """(async () => {
          await new Promise((done) => setTimeout(done, 700));
          const { main } = window.srhCase, frame = JSON.parse(document.getElementById("case").textContent).frame;
          const at = (x, y) => main.viewport.viewportToWindowCoordinates(new OpenSeadragon.Point(x, y));
          const [from, to] = [at(0, 0), at(1, frame.height / frame.width)];
          return [from.x, from.y, to.x - from.x, to.y - from.y];
        })()"""
    )
    x, y, width, height = box
    clip = {"x": x + 4, "y": y + 4, "width": width - 8, "height": height * 0.85 - 8, "scale": 1}
    shot = browser.send("Page.captureScreenshot", format="png", clip=clip)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))


def choose(browser: Any, name: str, value: str) -> np.ndarray:
    browser.evaluate(f"document.querySelector('input[name={name}][value={value}]').click()")
    return seen_by_a_reader(browser)


def slide_to(browser: Any, name: str, value: float) -> np.ndarray:
    browser.evaluate(
        f"(() => {{ const one = document.querySelector('#{name}'); one.value = {value}; "
        "one.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    return seen_by_a_reader(browser)


def test_views_contrast_and_overlays_show_what_they_say(page: Path, browser: Any) -> None:
    """To 3 of 255 in the mean: the browser draws to whole numbers before and after its filter."""
    browser.open(page)
    resized(browser, 1366, 768)
    srh = seen_by_a_reader(browser).astype(float)
    for view, channel in (("ch2", 1), ("ch3", 2)):
        grey = choose(browser, "view", view).astype(float)
        assert np.ptp(grey, axis=2).max() <= 1
        assert np.abs(grey[..., 0] - srh[..., channel]).mean() < 3
    stained = choose(browser, "view", "he").astype(float)
    he = page_module._he_filter()
    densities = np.clip(srh / 255 @ np.array(he["matrix"])[:, :3].T, 0, 1)
    expected = 255 * np.interp(densities, np.linspace(0, 1, len(he["table"])), he["table"])
    assert np.abs(stained - expected).mean() < 3
    choose(browser, "view", "srh")
    harder = slide_to(browser, "contrast", 1.5).astype(float)
    assert np.abs(harder - np.clip(127.5 + 1.5 * (srh - 127.5), 0, 255)).mean() < 3
    slide_to(browser, "contrast", 1)
    faint = choose(browser, "overlay", "steps").astype(float)
    full = slide_to(browser, "opacity", 1).astype(float)
    assert np.abs(faint - (0.65 * srh + 0.35 * full)).mean() < 3  # tissue is seen through it
    assert np.abs(full - srh).mean() > 20
    assert np.abs(choose(browser, "overlay", "none").astype(float) - srh).mean() < 1


def test_scale_bar_and_ruler_have_the_length_that_they_say(page: Path, browser: Any) -> None:
    browser.open(page)
    for width, height in ((1366, 768), (3840, 2160), (480, 900)):
        resized(browser, width, height)
        bar, said, lines, per_px = browser.evaluate(
            """(() => {
              const bar = document.querySelector("#scalebar span"), { main } = window.srhCase;
              const frame = JSON.parse(document.getElementById("case").textContent).frame;
              const screen = main.viewport.getZoom(true) * main.viewport.getContainerSize().x;
              const { width } = bar.getBoundingClientRect();
              return [width, bar.textContent, bar.getClientRects().length, frame.um_per_px * frame.width / screen];
            })()"""
        )
        number, unit = said.split()
        assert bar * per_px == pytest.approx(float(number) * {"mm": 1000, "µm": 1}[unit], rel=0.02)
        assert lines == 1
        length, end = browser.evaluate(
            """(() => {
              const { main } = window.srhCase;
              const button = document.querySelector("[data-do=measure]"), ruler = document.querySelector("#ruler");
              if (button.getAttribute("aria-pressed") !== "true") button.click();
              for (const [x, y] of [[60, 40], [160, 140]]) {
                main.raiseEvent("canvas-click", { quick: true, position: new OpenSeadragon.Point(x, y) });
              }
              return [parseFloat(ruler.textContent), ruler.getBoundingClientRect().width];
            })()"""
        )
        assert length == pytest.approx(100 * 2**0.5 * per_px, rel=0.01)
        assert end == pytest.approx(100, abs=4)
    browser.evaluate("document.querySelector('[data-do=measure]').click()")
    assert browser.said == []
