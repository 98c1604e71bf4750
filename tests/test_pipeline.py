"""Restore, then classify: with true tiles, store, mosaic and Algorithm 1, and networks replaced by closed forms."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.restoring import RESCAN_STEPS, at_pixel_size, look_over, restore_slide
from srh_clinic.case.result import CaseResult
from srh_clinic.errors import InputError
from srh_clinic.inference import inference, network_seconds
from srh_clinic.intensity import Counts
from srh_clinic.regions import in_words
from srh_clinic.resampling import ResampledSlide
from srh_clinic.restorers import create_restorer
from srh_clinic.restorers.diffusion import DiffusionRestorer
from srh_clinic.rscd import RSCD, RSCDSettings, create_schedule
from srh_clinic.rscd.baselines import CCDF
from srh_clinic.rscd.settings import CCDFSettings
from srh_clinic.slide import ArraySlide, check_region

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))
TILE = 64
FLAT = 20_000
SCHEDULE = create_schedule()


@dataclass(frozen=True)
class FakeBundle:
    """What the pipeline asks of a bundle; tiles of 64 pixels keep the tests small."""

    name: str = "fake"
    weights_sha256: str = "0" * 64
    metadata: dict[str, Any] = field(
        default_factory=lambda: {"um_per_px": 0.47, "tile": TILE, "demonstration": "demonstration weights, research use only"}
    )


class ContrastClassifier:
    """Nondiagnostic where neighbouring pixels differ much (noise), else tumor where it is bright."""

    patch = TILE
    recipe = "opensrh"

    def __init__(self) -> None:
        self.seen = 0

    def predict_proba(self, patches: Counts) -> NDArray[np.float64]:
        self.seen += len(patches)
        roughness = np.abs(np.diff(patches.astype(np.float64), axis=-1)).mean(axis=(1, 2, 3))
        bright = patches.mean(axis=(1, 2, 3)) > FLAT / 2
        which = np.where(roughness > 500, 2, np.where(bright, 0, 1))
        return np.eye(3)[which] * 0.7 + 0.1


def spread(states: Tensor) -> Tensor:
    """Standard deviation of each image about its mean: the noise of a flat one, in model units."""
    return states.std(dim=(1, 2, 3))


def calibrate(states: Tensor) -> NDArray[np.float64]:
    """The exact calibrator of flat images: the index whose sigma is their spread; below the smallest, nothing is left."""
    sigma = spread(states).numpy().astype(np.float64)
    return np.where(sigma < SCHEDULE.sigma[0], -1, np.abs(SCHEDULE.sigma[None] - sigma[:, None]).argmin(axis=1))


def denoise(x: Tensor, t: Tensor) -> Tensor:
    """The exact denoiser of flat images: all that differs from the mean is noise."""
    sigma = torch.as_tensor(SCHEDULE.sigma)[t].to(x.dtype)[:, None, None, None]
    return (x - x.mean(dim=(2, 3), keepdim=True)) / sigma


def flat_restorer(**settings: Any) -> DiffusionRestorer:
    """Of tiles as they are: brightened, they would ask for the steps of brighter noise."""
    return DiffusionRestorer("rscd", RSCD(denoise, calibrate, SCHEDULE, RSCDSettings(**{"exposure": None, **settings})))


def noisy(noise: float | NDArray[np.float64], shape: tuple[int, int] = (150, 210), level: float = FLAT) -> ArraySlide:
    """A flat slide with noise of the given standard deviation in counts."""
    rng = np.random.default_rng(0)
    image = level + noise * rng.standard_normal((2, *shape))
    return ArraySlide(np.clip(image, 1, 65_535).astype(np.uint16), 0.47)


def pipeline(**settings: Any) -> RestoreThenClassify:
    return RestoreThenClassify(FakeBundle(), flat_restorer(**settings), ContrastClassifier(), seed=3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> CaseResult:
    return pipeline()(noisy(3_000))


def test_restoration_turns_a_noisy_case_into_a_diagnosis(result: CaseResult) -> None:
    assert result.before.diagnosis == "nondiagnostic"
    assert result.diagnosis == "tumor"
    assert result.probabilities["tumor"] == pytest.approx(0.8 / 0.9)
    assert any(flag.startswith("diagnosis-changed: nondiagnostic as scanned, tumor") for flag in result.flags)


def test_the_result_fits_its_schema(result: CaseResult) -> None:
    jsonschema.validate(json.loads(json.dumps(result.to_dict())), SCHEMA)


def test_the_schema_refuses_what_is_not_a_result(result: CaseResult) -> None:
    wrong = {**result.to_dict(), "diagnosis": "glioma"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


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


def test_time_is_split_between_networks_and_the_rest(result: CaseResult) -> None:
    timing = result.timing
    assert timing["networks_s"] + timing["outside_networks_s"] == pytest.approx(timing["total_s"])
    assert timing["tiles_per_s"] == pytest.approx(24 / timing["restoring_s"])


def test_provenance_names_all_that_the_result_depends_on(result: CaseResult) -> None:
    settings = result.provenance["settings"]
    assert result.provenance["seed"] == 3
    assert settings["restorer"] == "rscd"
    assert settings["profile"] == "paper-text"
    assert (settings["tile"], settings["overlap"], settings["patch"]) == (TILE, 32, TILE)
    assert result.provenance["notice"].startswith("Demonstration weights, research use only.")


def test_saved_pictures_are_whole_and_of_the_slide_s_size(result: CaseResult, tmp_path: Path) -> None:
    out = result.save(tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {
        "result.json",
        *(
            f"{name}.png"
            for name in ("before", "after", "before_he", "after_he", "step_map", "trust_map", "class_map", "summary")
        ),
    }
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    for name in ("before", "after", "before_he", "after_he"):
        assert Image.open(out / f"{name}.png").size == (210, 150)


def test_saving_fails_without_a_trace(result: CaseResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_saving_replaces_an_older_result_only_when_whole(
    result: CaseResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text("older")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            result.save(tmp_path)
    assert (tmp_path / "result.json").read_text() == "older"
    result.save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["diagnosis"] == "tumor"


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


def test_a_slide_without_any_signal_is_nondiagnostic_and_says_so() -> None:
    result = pipeline()(ArraySlide(np.zeros((2, 100, 100), np.uint16), 0.47))
    assert result.diagnosis == "nondiagnostic"
    assert result.tiles.restored == 0
    assert any(flag.startswith("no-tissue: ") for flag in result.flags)
    jsonschema.validate(json.loads(json.dumps(result.to_dict())), SCHEMA)


@pytest.mark.parametrize("shape", [(40, 300), (64, 64), (9, 7)])
def test_slides_smaller_than_a_tile_run_through(shape: tuple[int, int], tmp_path: Path) -> None:
    result = pipeline()(noisy(3_000, shape))
    assert result.diagnosis == "tumor"
    result.save(tmp_path)


def test_another_pixel_size_is_resampled_and_flagged() -> None:
    slide = ArraySlide(noisy(0, (200, 260)).counts, 0.35)
    view, flags = at_pixel_size(slide, 0.47)
    assert isinstance(view, ResampledSlide)
    assert flags == ("resampled: from 0.35 to 0.47 um per pixel, the size that the networks were trained at",)
    assert at_pixel_size(ArraySlide(slide.counts, 0.5), 0.47)[1] == ()
    result = pipeline()(slide)
    assert result.maps.um_per_px == 0.47
    assert result.slide == {"height": 200, "width": 260, "um_per_px": 0.35}


def test_notes_of_the_reader_become_flags() -> None:
    slide = ArraySlide(noisy(100).counts, 0.47, notes=("stretched from 8 bits",))
    assert pipeline()(slide).flags == ("reading: stretched from 8 bits",)


def flags_of(counts: Counts) -> list[str]:
    return [flag.split(":")[0] for flag in pipeline()(ArraySlide(counts, 0.47)).flags]


def test_a_channel_in_which_nothing_was_measured_is_flagged() -> None:
    counts = noisy(100).counts.copy()
    assert flags_of(counts) == []
    counts[1] = 0
    assert "dead-channel" in flags_of(counts)
    counts[1] = counts[0]
    assert "same-channels" in flags_of(counts)


def test_a_slide_that_is_nearly_all_glass_is_flagged() -> None:
    counts = noisy(10, (640, 640), level=400).counts.copy()
    counts[:, :48, :48] = noisy(100, (48, 48)).counts
    assert "little-tissue" in flags_of(counts)


def test_a_slide_smaller_than_a_patch_is_flagged() -> None:
    assert "small" in flags_of(noisy(100, (TILE - 1, 200)).counts)
    assert "small" not in flags_of(noisy(100, (TILE, 200)).counts)


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


@pytest.mark.parametrize(
    ("y", "x", "words"),
    [
        (0.1, 0.1, "upper left"),
        (0.5, 0.5, "centre"),
        (0.9, 0.5, "lower centre"),
        (0.5, 1.0, "right"),
        (1.0, 0.0, "lower left"),
    ],
)
def test_places_in_words(y: float, x: float, words: str) -> None:
    assert in_words(y, x) == words


def restored_counts(result: CaseResult) -> Counts:
    return result.restored.slide.read(0, 0, *result.restored.slide.shape)


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
    with pytest.raises(Cut):
        pipeline(sampler="ancestral", batch_size=2)(BreakingSlide(slide, [12]), work=tmp_path)  # type: ignore[arg-type]
    resumed = pipeline(sampler="ancestral", batch_size=2)(slide, work=tmp_path)
    assert 0 < resumed.restored.computed < 24
    np.testing.assert_array_equal(
        restored_counts(resumed), restored_counts(pipeline(sampler="ancestral", batch_size=2)(slide))
    )
    resumed.restored.discard()
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    "changed",
    [lambda run: (run, noisy(2_999)), lambda _: (pipeline(cap=150), noisy(3_000))],
    ids=["another slide", "another setting"],
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


def test_progress_reaches_the_end_of_every_stage() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    pipeline()(noisy(3_000), progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)))
    assert list(told) == ["reading", "restoring", "classifying as scanned", "classifying restored"]
    for steps in told.values():
        assert steps[-1][0] == steps[-1][1]
        assert steps == sorted(steps)


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


def test_network_seconds_count_what_is_nested_once() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3), torch.nn.Conv2d(8, 2, 3))
    with network_seconds() as spent:
        assert spent() == 0
        with inference(), inference():
            network(torch.zeros(1, 2, 64, 64))
        first = spent()
        assert first > 0
    with inference():
        network(torch.zeros(1, 2, 64, 64))
    assert spent() == first


def test_each_of_two_threads_is_told_its_own_network_seconds() -> None:
    together = threading.Barrier(2)

    def work() -> float:
        with network_seconds() as spent:
            together.wait()
            with inference():
                time.sleep(0.1)
            return spent()

    with ThreadPoolExecutor(2) as pool:
        seconds = [one.result() for one in [pool.submit(work), pool.submit(work)]]
    assert all(0.1 <= one < 0.5 for one in seconds)  # a busy machine wakes late, but neither counts the other's
