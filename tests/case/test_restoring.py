"""A slide restored tile by tile: what it asks for, what is left alone, and that a cut run goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_case import FLAT, SCHEDULE, TILE, ContrastClassifier, FakeBundle, denoise, noisy, pipeline, restored_counts

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.restoring import RESCAN_STEPS, at_pixel_size, look_over, restore_slide
from srh_clinic.case.result import CaseResult
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.resampling import ResampledSlide
from srh_clinic.restorers import create_restorer
from srh_clinic.restorers.diffusion import DiffusionRestorer
from srh_clinic.rscd import RSCD, RSCDSettings
from srh_clinic.rscd.baselines import CCDF
from srh_clinic.rscd.settings import CCDFSettings
from srh_clinic.slide import ArraySlide, Identity, check_region


def test_the_calibrated_steps_are_the_noise_of_the_slide(result: CaseResult) -> None:
    # sigma of 3,000 counts is 0.0916 in model units; a tile of 64 x 64 x 2 pixels tells it to 1 %.
    expected = int(np.abs(SCHEDULE.sigma - 2 * 3_000 / 65_536).argmin()) + 1
    assert result.steps.median == pytest.approx(expected, abs=2)
    np.testing.assert_allclose(result.maps.steps.values, expected, atol=3)


def test_tiles_without_an_estimate_are_left_alone_counted_and_flagged() -> None:
    settings = RSCDSettings(estimator="nonparametric")
    silent = DiffusionRestorer("rscd", RSCD(denoise, lambda states: np.full(len(states), np.nan), SCHEDULE, settings))
    result = RestoreThenClassify(FakeBundle(), silent, ContrastClassifier())(noisy(3_000))  # type: ignore[arg-type]
    assert result.steps.stop_reasons == {"no-estimate": 24}
    assert (result.tiles.restored, result.tiles.skipped) == (0, 24)
    assert len(result.maps.steps.positions) == 0
    assert "no-estimate: the noise estimator had no answer for 24 of 24 tiles" in result.flags


def test_a_fixed_number_of_steps_is_no_prediction() -> None:
    ccdf = DiffusionRestorer("ccdf", CCDF(denoise, SCHEDULE, CCDFSettings(t0=200, ddim_stride=50)))
    result = RestoreThenClassify(FakeBundle(), ccdf, ContrastClassifier())(noisy(3_000))  # type: ignore[arg-type]
    assert result.steps.stop_reasons == {"fixed-steps": 24}
    assert len(result.maps.steps.positions) == len(result.rescan) == 0


def test_a_filter_predicts_no_steps() -> None:
    run = RestoreThenClassify(FakeBundle(), create_restorer("median", size=3), ContrastClassifier())  # type: ignore[arg-type]
    result = run(noisy(3_000))
    assert result.steps.stop_reasons == {"filtered": 24}
    assert len(result.maps.steps.positions) == 0


def test_every_tile_is_counted(result: CaseResult) -> None:
    # Tiles of 64 px every 32 px, the last ones at 86 and 146: 4 rows of 6.
    assert (result.tiles.total, result.tiles.restored, result.tiles.skipped) == (24, 24, 0)
    assert sum(result.steps.stop_reasons.values()) == 24


def test_empty_glass_is_neither_restored_nor_classified_but_counted() -> None:
    counts = noisy(1_500, (192, 640)).counts.copy()
    counts[:, :, 256:] = (counts[:, :, 256:] * 0.02).astype(np.uint16)
    run = pipeline()
    result = run(ArraySlide(counts, 0.47))
    assert result.tiles.total == 5 * 19
    assert 5 * 7 <= result.tiles.restored <= 5 * 12
    assert result.tiles.skipped == result.tiles.total - result.tiles.restored
    assert run.classifier.seen == 2 * len(result.maps.classes_after.positions)  # type: ignore[attr-defined]
    glass = result.restored.slide.read(0, 448, 192, 192)
    np.testing.assert_array_equal(glass, counts[:, :, 448:])


def test_another_pixel_size_is_resampled_and_flagged() -> None:
    slide = ArraySlide(noisy(0, (200, 260)).counts, 0.35)
    view, flags = at_pixel_size(slide, 0.47)
    assert isinstance(view, ResampledSlide)
    assert flags == ("resampled: from 0.35 to 0.47 um per pixel, the size that the networks were trained at",)
    assert at_pixel_size(ArraySlide(slide.counts, 0.5), 0.47)[1] == ()
    result = pipeline()(slide)
    assert result.maps.um_per_px == 0.47
    assert result.slide == {"height": 200, "width": 260, "um_per_px": 0.35, "channel_order": ""}


def test_a_bright_speck_of_debris_changes_nothing_else() -> None:
    counts = noisy(100, (640, 640)).counts.copy()
    counts[:, 300:330, 300:330] = 65_535
    result = pipeline()(ArraySlide(counts, 0.47))
    assert result.diagnosis == "tumor"
    assert result.restored.index.size == result.tiles.total


def test_tiles_that_are_clean_at_the_first_look_are_left_alone() -> None:
    result = pipeline()(noisy(100))
    assert (result.tiles.restored, result.tiles.skipped) == (0, 24)
    assert result.steps.stop_reasons == {"clean": 24}


def test_pixels_too_large_to_show_a_nucleus_are_refused() -> None:
    at_pixel_size(ArraySlide(noisy(0).counts, 1.88), 0.47)
    with pytest.raises(InputError, match=r"found pixels of 1\.9 um; needed at most 1\.88 um"):
        at_pixel_size(ArraySlide(noisy(0).counts, 1.9), 0.47)


def poor_corner(um_per_px: float = 0.47) -> ArraySlide:
    noise = np.full((320, 480), 1_000.0)
    noise[:100, :100] = 9_000
    noise[250:, 440:] = 9_000
    return ArraySlide(noisy(noise, (320, 480), 32_768).counts, um_per_px)


def test_poor_regions_are_named_largest_first() -> None:
    result = pipeline()(poor_corner())
    first, second = result.rescan
    assert (first.where, second.where) == ("upper left", "lower right")
    assert (first.y, first.x) == (0, 0)
    assert 100 <= first.height <= 160
    assert second.y + second.height == 320
    assert second.x + second.width == 480
    assert first.tiles > second.tiles
    assert first.steps > RESCAN_STEPS
    assert first.height_um == pytest.approx(first.height * 0.47, abs=0.1)
    assert "rescan: 2 regions of poor image quality" in result.flags


def test_regions_are_told_in_pixels_of_the_slide_as_scanned() -> None:
    # Pixels of 0.6 um are interpolated to 0.47, so the networks see 409 x 613 of them; the region ends where the slide ends.
    slide = poor_corner(um_per_px=0.6)
    result = pipeline()(slide)
    assert result.maps.shape == (409, 613)
    last = next(region for region in result.rescan if region.where == "lower right")
    assert (last.y + last.height, last.x + last.width) == slide.shape == (320, 480)
    assert last.width_um == pytest.approx(last.width * 0.6, abs=0.1)


def test_a_slide_that_is_poor_throughout_says_so() -> None:
    result = pipeline(cap=110)(noisy(9_000, level=32_768))
    assert [region.where for region in result.rescan] == ["nearly everywhere"]
    assert result.tiles.capped == result.tiles.restored
    assert any(flag.startswith("capped: 24 of 24 tiles") for flag in result.flags)


def test_batch_size_changes_nothing_but_rounding() -> None:
    # One count is 1/65,536 of the range: float32 sums in another order move a value across a rounding border at most.
    one, five = (pipeline(batch_size=size)(noisy(3_000)) for size in (1, 5))
    assert np.abs(restored_counts(one).astype(int) - restored_counts(five).astype(int)).max() <= 1
    assert one.steps == five.steps


class Cut(RuntimeError):
    """The power fails."""


@dataclass(frozen=True)
class BreakingSlide:
    """A slide whose reading fails after some reads of a tile."""

    source: ArraySlide
    left: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        if (height, width) == (TILE, TILE):
            self.left[0] -= 1
            if self.left[0] < 0:
                raise Cut
        return self.source.read(y, x, height, width)


def test_a_run_that_was_cut_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    slide = noisy(3_000)
    with pytest.raises(Cut):  # once the slide is seen and classified as scanned, and some tiles are read
        pipeline(sampler="ancestral", batch_size=2)(BreakingSlide(slide, [24]), work=tmp_path)  # type: ignore[arg-type]
    resumed = pipeline(sampler="ancestral", batch_size=2)(slide, work=tmp_path)
    assert 0 < resumed.restored.computed < 24
    np.testing.assert_array_equal(
        restored_counts(resumed), restored_counts(pipeline(sampler="ancestral", batch_size=2)(slide))
    )
    resumed.restored.discard()
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    "changed",
    [
        lambda run: (run, noisy(2_999)),
        lambda run: (run, replace(noisy(3_000), identity=Identity(content="a changed file"))),
        lambda _: (pipeline(cap=150), noisy(3_000)),
    ],
    ids=["another slide", "a changed file", "another setting"],
)
def test_tiles_of_another_run_are_never_mixed_in(changed: Callable[[Any], tuple[Any, Any]], tmp_path: Path) -> None:
    pipeline()(noisy(3_000), work=tmp_path)
    other, slide = changed(pipeline())
    assert other(slide, work=tmp_path).restored.computed == 24


def test_temporary_tiles_live_as_long_as_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = pipeline()(noisy(3_000))
    assert len(list(tmp_path.iterdir())) == 1
    assert restored_counts(result).shape == (2, 150, 210)
    del result
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_no_temporary_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Cut):
        pipeline()(BreakingSlide(noisy(3_000), [3]))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class ProceduralSlide:
    """A large slide that holds no pixels: flat, with noise that depends on the place."""

    shape: tuple[int, int]
    um_per_px: float = 0.47
    notes: tuple[str, ...] = ()
    identity: Any = field(default_factory=lambda: noisy(0).identity)
    largest: list[int] = field(default_factory=lambda: [0])

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        check_region(self.shape, y, x, height, width)
        self.largest[0] = max(self.largest[0], height * width)
        row = (np.arange(y, y + height) * 7919 % 4_001)[:, None]
        column = (np.arange(x, x + width) * 104_729 % 4_003)[None]
        return np.broadcast_to(FLAT + (row + column) % 3_001, (2, height, width)).astype(np.uint16)


def test_a_large_slide_is_never_read_as_a_whole() -> None:
    slide = ProceduralSlide((3_000, 2_500))
    bundle = FakeBundle(metadata={"um_per_px": 0.47, "tile": 512})
    seen = look_over(slide)
    restored = restore_slide(slide, seen, create_restorer("none"), bundle)  # type: ignore[arg-type]
    assert seen.picture.shape == (2, 1_500, 1_250)
    assert slide.largest[0] <= 2_048**2
    assert restored.counts.total == restored.counts.restored == 7 * 6
    np.testing.assert_array_equal(restored.slide.read(1_000, 700, 50, 60), slide.read(1_000, 700, 50, 60))
