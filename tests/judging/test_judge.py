"""Restorers on one slide, without a reference: their order, ties, and the folder that they are told in."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.estimates import Undefined
from srh_clinic.intensity import counts_to_unit
from srh_clinic.judging import Judgement, judge, save_judgement
from srh_clinic.judging.judge import INPUT, _by_name, _ranked
from srh_clinic.judging.page import file_names
from srh_clinic.metrics import psnr
from srh_clinic.metrics.unreferenced import fit_noise, nearer
from srh_clinic.simulation import Sources, degrade, simulate_case
from srh_clinic.simulation.degradation import Degraded
from srh_clinic.slide import ArraySlide

FILTERS = ("median", "gaussian", "none")


@cache
def noisy() -> Degraded:
    """Four tiles under simulated noise."""
    clean = simulate_case("tumor", 1.0, 512, 3).counts.astype(np.float32)
    return degrade(np.random.default_rng(0), clean, Sources(instrument=0.5))


def scanned(um_per_px: float = 0.47) -> tuple[ArraySlide, np.ndarray]:
    """A slide of four tiles, and the same without noise, unit intensity."""
    return ArraySlide(noisy().counts, um_per_px), noisy().expected / 65_536


@pytest.fixture(scope="module")
def judgement() -> Judgement:
    return judge(scanned()[0], FILTERS)


def test_the_order_and_the_numbers_are_those_of_the_truth(judgement: Judgement) -> None:
    truth = scanned()[1]
    true = {}
    for one in judgement.restorers:
        tiles = [truth[:, y : y + 256, x : x + 256] for y, x in judgement.corners.tolist()]
        true[one.name] = psnr(np.concatenate(counts_to_unit(one.restored), axis=1), np.concatenate(tiles, axis=1))
        # Twelve tiles know it to 0.3 dB (benchmark judging), four less well.
        assert one.psnr.value == pytest.approx(true[one.name], abs=0.5)
    names = [one.name for one in judgement.restorers]
    assert sorted(names) == sorted([INPUT, "median", "gaussian"])  # none is the input, which is there in any case
    assert names == sorted(names, key=lambda name: -true[name])
    assert judgement.resolved
    assert [one.place for one in judgement.restorers] == [1, 2, 3]
    assert judgement.restorers[0].behind is None
    assert judgement.verdict == f"{names[0]} comes nearest to the slide without its noise."
    # A median of five pixels takes the finest tissue away; the input's residual is nothing.
    (median,) = (one for one in judgement.restorers if one.name == "median")
    assert median.taken[2].value > 0.3


def test_the_same_call_gives_the_same_numbers(judgement: Judgement) -> None:
    again = judge(scanned()[0], FILTERS)
    assert str(again) == str(judgement)


def test_at_another_pixel_size_noise_goes_the_same_way_as_the_image() -> None:
    found = judge(scanned(um_per_px=0.345)[0], ("gaussian",), tiles=2)
    assert any(note.startswith("resampled") for note in found.notes)
    (smooth,) = (one for one in found.restorers if one.name == "gaussian")
    (as_it_was,) = (one for one in found.restorers if one.name == INPUT)
    assert smooth.restored.shape[1:] == (2, 256, 256)
    # Shrinking by a quarter has averaged noise already, and the input is as near as its noise is strong.
    level = np.mean(np.square(found.noise_level))
    assert as_it_was.psnr.value == pytest.approx(-10 * np.log10(level), abs=0.3)


def test_whom_the_intervals_do_not_tell_apart_share_a_place() -> None:
    random = np.random.default_rng(0)
    means = {"a": 1e-3, "b": 1.01e-3, "c": 2e-3}
    errors = {name: np.stack([random.normal(mean, 2e-4, 64)] * 2, axis=1) for name, mean in means.items()}
    images = np.zeros((1, 2, 64, 64), np.uint16)
    ranked = _ranked(dict.fromkeys(errors, images), images, errors, 0)
    assert [one.place for one in ranked] == [1, 1, 3]
    assert {one.name for one in ranked[:2]} == {"a", "b"}


def test_a_place_is_told_where_noise_hides_the_error_of_the_first() -> None:
    """As of a slide without noise: its own error is none, and decibels there are none to compare."""
    random = np.random.default_rng(0)
    errors = {
        "input": np.zeros((64, 2)),
        "blur": random.uniform(1e-5, 3e-5, (64, 2)),
        "median": random.uniform(5e-5, 8e-5, (64, 2)),
    }
    ranked = _ranked(
        dict.fromkeys(errors, np.zeros((1, 2, 64, 64), np.uint16)), np.zeros((1, 2, 64, 64), np.uint16), errors, 0
    )
    assert [(one.name, one.place) for one in ranked] == [("input", 1), ("blur", 2), ("median", 3)]
    assert isinstance(ranked[1].behind, Undefined)
    assert not nearer(np.zeros(4), np.ones(4))  # four blocks tell nothing


def clipped() -> np.ndarray:
    return np.minimum(2.5 * scanned()[0].read(0, 0, 256, 256), 65_520).astype(np.uint16)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (clipped, "saturated: "),
        (lambda: np.random.default_rng(0).normal(1500, 300, (2, 512, 256)).clip(0).astype(np.uint16), "no-tissue: "),
        (lambda: scanned()[0].read(0, 0, 256, 256)[::-1], "channels-swapped: "),
    ],
)
def test_what_speaks_against_the_numbers_is_among_the_notes(counts: Callable[[], np.ndarray], said: str) -> None:
    found = judge(ArraySlide(counts(), 0.47), ("gaussian",), tiles=2)
    assert any(note.startswith(said) for note in found.notes), found.notes


def test_an_even_channel_has_no_noise_and_no_colour_of_it() -> None:
    tiles = np.stack([np.random.default_rng(0).random((1, 64, 64)), np.zeros((1, 64, 64))], axis=1)
    np.testing.assert_array_equal(fit_noise(tiles).along_rows[1], np.ones(64))


def test_pictures_of_no_two_restorers_have_one_name() -> None:
    names = ["rscd @ ä", "rscd @ ö", "RSCD", "rscd-2", "nlm"]
    assert len({stem.lower() for stem in file_names(names).values()}) == len(names)
    assert file_names(["rscd @ one", "nlm"]) == {"rscd @ one": "rscd-one", "nlm": "nlm"}


def test_bundles_of_one_name_are_told_apart() -> None:
    bundle = load_bundle("phantom-demo")
    assert list(_by_name([bundle, bundle])) == ["phantom-demo", "phantom-demo (2)"]


def test_the_folder_is_whole_and_its_page_shows_names_as_text(judgement: Judgement, tmp_path: Path) -> None:
    out = save_judgement(judgement, tmp_path / "out", "<script>alert(1)</script>")
    said = json.loads((out / "judgement.json").read_text())
    assert said["schema_version"] == 1
    assert said["notice"] == "demonstration weights, research use only"
    assert [one["name"] for one in said["restorers"]] == [one.name for one in judgement.restorers]
    assert said["restorers"][0]["psnr_db"]["low"] < said["restorers"][0]["psnr_db"]["value"]
    page = (out / "judgement.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Content-Security-Policy" in page
    assert "demonstration weights, research use only" in page
    assert page.count("data:image/png") == 12  # two tiles, whole and enlarged, three restorers
    (out / "tile1_other.png").write_bytes(b"of an earlier run")
    save_judgement(judgement, out, "again")
    assert sorted(path.name for path in out.glob("tile1_*")) == sorted(
        f"tile1_{one.name}{end}.png" for one in judgement.restorers for end in ("", "_enlarged")
    )


def with_ch3(slide: ArraySlide, made_of: Callable[[np.ndarray], np.ndarray]) -> ArraySlide:
    ch2 = slide.read(0, 0, 300, 300)[0]
    return ArraySlide(np.stack([ch2, made_of(ch2)]), 0.47)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda slide: judge(slide, ("unknown",)), "a restorer unknown"),
        (lambda slide: judge(slide, ("median",), tiles=0), "0 tiles"),
        (lambda slide: judge(slide, ("median",), ("nowhere",)), "nowhere"),
        (lambda slide: judge(ArraySlide(slide.read(0, 0, 100, 300), 0.47), ("median",)), "a slide of 100 x 300 px"),
        (lambda slide: judge(ArraySlide(np.zeros((2, 300, 300), np.uint16), 0.47), ("median",)), "no tile full of tissue"),
        (lambda slide: judge(with_ch3(slide, lambda ch2: 0 * ch2), ("median",)), "CH3 that is 0 in all tiles"),
        (lambda slide: judge(with_ch3(slide, lambda ch2: 0 * ch2 + 65_535), ("median",)), "CH3 that is 65535 in all tiles"),
        (lambda slide: judge(with_ch3(slide, lambda ch2: ch2), ("median",)), "CH2 and CH3 that are the same image"),
        (
            lambda slide: judge(slide, ("median",), sampler="ddim"),
            "the setting sampler, which no restorer that is judged takes",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(call: Callable[[ArraySlide], Judgement], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(scanned()[0])
