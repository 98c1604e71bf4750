"""What a notebook shows of a result, a restored slide, restored tiles and a slide."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_case import ContrastClassifier, FakeBundle
from PIL import Image

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.result import CaseResult
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.notebook import LARGEST
from srh_clinic.resampling import ResampledSlide
from srh_clinic.restorers import create_restorer
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity

EVIL = '</div><script>alert(1)</script><img src=x onerror="alert(2)">'
NOTICE = "demonstration weights, research use only"


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    case = simulate_case("tumor", 0.3, 300, 1)
    return ArraySlide(case.counts, case.um_per_px, Identity(patient_id="Doe^Jane", source=EVIL), (EVIL,))


@pytest.fixture(scope="module")
def result(slide: ArraySlide) -> CaseResult:
    pipeline = RestoreThenClassify(FakeBundle(), create_restorer("median"), ContrastClassifier())  # type: ignore[arg-type]
    return pipeline(slide)


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Its elements, after what holds of everything in a notebook: nothing is fetched, nothing runs, it is small and whole."""
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert len(page) < LARGEST
    assert not {tag for tag, _ in elements.seen} & {"script", "style", "link", "iframe", "object"}
    assert not any(name.startswith("on") or name == "href" for _, attributes in elements.seen for name in attributes)
    for source in (attributes["src"] for _, attributes in elements.seen if "src" in attributes):
        assert source is not None
        assert source.startswith("data:image/jpeg;base64,")
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).load()
    return elements.seen


def test_a_result_shows_pictures_numbers_and_what_it_may_not_be_used_for(result: CaseResult) -> None:
    page = result._repr_html_()
    assert [tag for tag, _ in parsed(page)].count("img") == 2
    assert f"{result.probabilities['tumor']:.3f}" in page
    assert f"{result.before.probabilities['tumor']:.3f}" in page
    assert f"{result.support:.3f}" in page
    assert f"{result.tiles.restored} of {result.tiles.total} tiles restored" in page
    assert NOTICE in page
    assert "Doe^" not in page


def test_doubts_stand_above_everything_and_are_text(result: CaseResult) -> None:
    doubtful = replace(result, flags=(f"unsure: {EVIL}", "reading: a note", f"capped: {EVIL}"))
    page = doubtful._repr_html_()
    parsed(page)
    assert "(doubtful)" in page
    assert page.index("unsure: &lt;/div&gt;") < page.index("<img") < page.index("capped: &lt;")
    assert "(doubtful)" not in replace(result, flags=())._repr_html_()


def test_many_long_flags_stay_small(result: CaseResult) -> None:
    page = replace(result, flags=tuple(f"unsure: {number} {'<' * 100_000}" for number in range(1000)))._repr_html_()
    parsed(page)
    assert "and 992 more" in page


def test_a_restored_slide_shows_the_same_place_before_and_after(result: CaseResult) -> None:
    page = result.restored._repr_html_()
    assert [tag for tag, _ in parsed(page)].count("img") == 2
    assert NOTICE in page
    assert f"{result.tiles.restored} of {result.tiles.total} restored" in page


def test_restored_tiles_are_shown_with_what_became_of_them(slide: ArraySlide) -> None:
    tiles = np.stack([slide.counts[:, :64, :64]] * 7)
    made = create_restorer("median").restore(tiles)
    made = replace(made, flags=(("capped",), *made.flags[1:]))
    page = made._repr_html_()
    assert [tag for tag, _ in parsed(page)].count("img") == 4
    assert "7 tiles restored (the first 4)" in page
    assert "tile 0: capped" in page
    assert NOTICE in page


def test_no_tile_is_shown_too() -> None:
    parsed(create_restorer("none").restore(np.empty((0, 2, 8, 8), np.uint16))._repr_html_())


def test_every_slide_is_shown_without_a_name(slide: ArraySlide, result: CaseResult, tmp_path: Path) -> None:
    written = read_slide(write_wsi(replace(slide, notes=()), tmp_path / "case.dcm"))
    for one in (slide, ResampledSlide(slide, 0.94), result.restored.slide, written):
        page = one._repr_html_()
        assert [tag for tag, _ in parsed(page)].count("img") == 1
        assert f"{one.um_per_px:.4g} um" in page
        assert "Doe^" not in page


def test_of_a_large_slide_only_the_middle_is_read() -> None:
    read: list[tuple[int, ...]] = []

    class Large(ArraySlide):
        shape = (30_000, 2_100)  # type: ignore[assignment]

        def read(self, y: int, x: int, height: int, width: int) -> Any:
            read.append((y, x, height, width))
            return np.random.default_rng(0).integers(0, 65_535, (2, height, width), dtype=np.uint16)

    page = Large(np.zeros((2, 1, 1), np.uint16), 0.47)._repr_html_()
    parsed(page)
    assert read == [(13_976, 26, 2048, 2048)]
    assert "the middle 2048 x 2048 pixels" in page
    assert re.search(r"30,000 x 2,100 pixels, 14.10 x 0.99 mm", page)
