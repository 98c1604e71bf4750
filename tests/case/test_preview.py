"""What is shown before the result is there, and that it changes nothing of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from flat_case import FLAT, TILE, ContrastClassifier, calibrate, pipeline
from PIL import Image

from srh_clinic.case.classifying import classify_slide
from srh_clinic.case.preview import GAP, PICTURE, Preview
from srh_clinic.case.restoring import look_over
from srh_clinic.slide import ArraySlide


def worse_below() -> ArraySlide:
    """Flat tissue of five rows of tiles with noise that grows from row to row."""
    rng = np.random.default_rng(5)
    sigma = np.linspace(500, 4_000, 224)[:, None]
    counts = FLAT + sigma * rng.standard_normal((2, 224, 160))
    return ArraySlide(counts.clip(0, 65_535).astype(np.uint16), 0.47)


def test_a_preview_tells_the_worst_tissue_first_and_changes_no_result(tmp_path: Path) -> None:
    said: list[str] = []
    come: list[tuple[int, int]] = []

    class Listening(Preview):
        def restored(self, tile, y, x, scanned):
            come.append((tile.t_pred, y))
            np.testing.assert_array_equal(scanned(), worse_below().read(y, x, TILE, TILE))
            super().restored(tile, y, x, scanned)

    case, diagnose = worse_below(), replace(pipeline(), calibrator=calibrate)
    plain = diagnose(case)
    shown = diagnose(case, preview=Listening(said.append, tmp_path))
    assert shown.restored.slide.read(0, 0, 224, 160).tobytes() == plain.restored.slide.read(0, 0, 224, 160).tobytes()
    one, other = (result.to_dict() | {"timing": None, "made": None} for result in (plain, shown))
    assert one == other
    steps = [t_pred for t_pred, _ in come]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1]
    assert come[0][1] > come[-1][1]
    assert said[0].startswith("preview: as scanned nondiagnostic (p = 0.80, ")
    assert said[1].startswith(f"preview: 8 tiles restored, worst first ({steps[0] + 1} to {steps[7] + 1} steps), see ")
    picture = np.asarray(Image.open(tmp_path / PICTURE))
    assert picture.shape == (4 * (TILE + GAP), 160 + 2 * (TILE + GAP), 3)
    # The worst is shown as scanned, rough, and beside it restored, even.
    left = 160 + GAP
    scanned, restored = (picture[:TILE, at : at + TILE, 1].astype(float) for at in (left, left + TILE + GAP))
    assert restored.std() < 0.3 * scanned.std()


def test_a_preview_without_a_folder_or_a_calibrator_only_speaks(tmp_path: Path) -> None:
    said: list[str] = []
    result = pipeline()(worse_below(), preview=Preview(said.append))
    assert result.diagnosis == "tumor"
    assert len(said) > 1
    assert all("see" not in one for one in said)
    assert not list(tmp_path.iterdir())


def test_a_slide_in_small_shows_only_places_that_a_tile_covers_whole() -> None:
    preview, slide = Preview(lambda said: None), worse_below()
    seen = replace(look_over(slide), picture=np.zeros((2, 56, 40), np.uint16), factor=4)
    preview.scanned(classify_slide(slide, seen.mask, ContrastClassifier()), seen)
    preview._paste(np.full((2, TILE, TILE), 7, np.uint16), 6, 130, 4)
    rows, columns = np.nonzero(preview._picture[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 16, 33, 39)
    assert (preview._picture[:, 2:17, 33:40] == 7).all()
