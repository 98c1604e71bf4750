"""Strips of an NIO imager: laid side by side, registered, flat; and what is missing or damaged is named, never filled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.guards.channels import look_at_channels
from srh_clinic.integration import convert, read_slide, write_wsi
from srh_clinic.integration.nio_writer import NIO_LAYOUTS, NioLayout, Scan, write_nio
from srh_clinic.integration.tiff_writer import write_tiff
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.transforms import LoadSRH

STRIP = 512
SHIFT = (-0.4, 1.3)


@cache
def tissue(quality: float = 0.5, size: int = 2 * STRIP) -> ArraySlide:
    phantom = simulate_case("tumor", quality, size, 3)
    return ArraySlide(phantom.counts, phantom.um_per_px, Identity("PHANTOM", "tumor-3"))


@pytest.fixture(scope="module")
def clear() -> ArraySlide:
    return tissue(0.9)


def border_ratio(counts: np.ndarray, pitch: int) -> float:
    """Mean brightness step across the borders, over that between other neighbours: the worse of both channels."""
    step = np.abs(np.diff(counts.astype(np.float64), axis=2)).mean(axis=1)
    borders = np.arange(pitch, counts.shape[2], pitch) - 1
    return max(float(row[borders].mean() / np.delete(row, borders).mean()) for row in step)


@pytest.mark.parametrize("layout", NIO_LAYOUTS)
def test_strips_of_each_layout_are_the_image_that_was_scanned(layout: NioLayout, clear: ArraySlide, tmp_path: Path) -> None:
    write_nio(clear, tmp_path / "nio", layout, Scan(STRIP, 0))
    slide = read_slide(tmp_path / "nio")
    np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), clear.counts)
    assert slide.um_per_px == pytest.approx(clear.um_per_px)
    assert (slide.identity.patient_id, slide.identity.specimen_id) == ("PHANTOM", "tumor-3")
    assert "in register" in " ".join(slide.notes)
    np.testing.assert_array_equal(LoadSRH()(tmp_path / "nio").numpy(), clear.counts)


@pytest.mark.parametrize(
    ("layout", "quality", "overlap"), [("folders", 0.9, 0), ("mosaic", 0.3, 50), ("numbered", 0.3, 0), ("numbered", 0.9, 50)]
)
def test_channels_are_registered_and_borders_vanish(layout: NioLayout, quality: float, overlap: int, tmp_path: Path) -> None:
    case = tissue(quality)
    write_nio(case, tmp_path / "nio", layout, Scan(STRIP + overlap // 2, overlap, SHIFT, falloff=0.15))
    slide = read_slide(tmp_path / "nio", flat_field="columns")
    counts = slide.read(0, 0, *slide.shape)
    seen = look_at_channels(slide)
    assert seen is not None
    assert seen.shift_px is not None
    assert np.hypot(*seen.shift_px) < 0.2
    assert border_ratio(counts, STRIP) <= 1.02
    said = next(note for note in slide.notes if note.startswith("CH3 registered on CH2"))
    down, right = (float(word) for word in said.split() if word[0] in "+-")
    assert np.hypot(down - SHIFT[0], right - SHIFT[1]) < 0.2
    lie = f"overlap by {overlap} px" if overlap else "only touch"
    assert any(lie in note for note in slide.notes)
    assert slide.shape == (1024, 1024 if overlap == 0 else 2 * (STRIP + overlap // 2) - overlap)


def test_without_a_flat_field_the_borders_show_and_are_told(clear: ArraySlide, tmp_path: Path) -> None:
    write_nio(clear, tmp_path / "nio", "folders", Scan(STRIP, 0, falloff=0.15))
    slide = read_slide(tmp_path / "nio")
    assert border_ratio(slide.read(0, 0, *slide.shape), STRIP) > 1.1
    assert any("--flat-field columns lowers it" in note for note in slide.notes)


def test_registration_keeps_the_noise_as_white_as_it_was(tmp_path: Path) -> None:
    """A spline would take half of the noise at the finest scale, and the calibrator would be told of fewer steps."""
    case = tissue()
    rng = np.random.default_rng(0)
    noisy = np.clip(case.counts / 2 + 20_000 + rng.normal(0, 4_000, case.counts.shape), 0, 65_535).astype(np.uint16)
    write_nio(ArraySlide(noisy, 0.47), tmp_path / "nio", "folders", Scan(STRIP, 0, (0.0, 1.5)))
    counts = read_slide(tmp_path / "nio").read(0, 0, 1024, 1024).astype(np.float64)
    finest = [np.std(image[:, 8:-8:2][:, : image[:, 9:-8:2].shape[1]] - image[:, 9:-8:2]) for image in counts]
    assert finest[1] / finest[0] == pytest.approx(1.0, abs=0.05)


def test_a_region_is_the_same_as_of_the_whole(clear: ArraySlide, tmp_path: Path) -> None:
    write_nio(clear, tmp_path / "nio", "mosaic", Scan(STRIP, 0, SHIFT, 0.1))
    slide = read_slide(tmp_path / "nio", flat_field="columns")
    whole = slide.read(0, 0, *slide.shape)
    np.testing.assert_array_equal(slide.read(100, 400, 300, 250), whole[:, 100:400, 400:650])


def test_a_strip_becomes_dicom(clear: ArraySlide, tmp_path: Path) -> None:
    write_nio(clear, tmp_path / "nio", "numbered", Scan(STRIP, 0))
    convert(tmp_path / "nio", tmp_path / "case.dcm")
    written = read_slide(tmp_path / "case.dcm")
    np.testing.assert_array_equal(written.read(0, 0, *written.shape), clear.counts)
    assert any("strips of an NIO imager" in note for note in written.notes)


def test_channels_of_strips_can_be_said(clear: ArraySlide, tmp_path: Path) -> None:
    write_nio(clear, tmp_path / "nio", "folders", Scan(STRIP, 0))
    slide = read_slide(tmp_path / "nio", channels="CH3,CH2")
    np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), clear.counts[::-1])


def edit(path: Path, **attributes: object) -> None:
    header = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    pydicom.dcmwrite(path, header, enforce_file_format=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def narrower(path: Path) -> None:
    header = pydicom.dcmread(path)
    header.PixelData, header.Columns = np.ascontiguousarray(header.pixel_array[:, :-2]).tobytes(), header.Columns - 2
    pydicom.dcmwrite(path, header, enforce_file_format=True)


def copy(path: Path, other: Path, **attributes: object) -> None:
    shutil.copyfile(path, other)
    if attributes:
        edit(other, **attributes)


FOLDERS, IN_TURN = ("strips/CH2/IMG{:05d}.dcm", "strips/CH3/IMG{:05d}.dcm"), "NIO001_1_{}.dcm"
DAMAGE: dict[str, tuple[NioLayout, Callable[[Path], object], str]] = {
    "ch3-missing": ("folders", lambda d: (d / FOLDERS[1].format(12)).unlink(), "no strip 12 of CH3 beside IMG00011.dcm"),
    "ch2-missing": ("folders", lambda d: (d / FOLDERS[0].format(11)).unlink(), "no strip 11 of CH2 beside IMG00012.dcm"),
    "both-missing": (
        "folders",
        lambda d: [(d / name.format(11 + at)).unlink() for at, name in enumerate(FOLDERS)],
        "no strip 11 between IMG00006.dcm and IMG00016.dcm",
    ),
    "first-missing": (
        "folders",
        lambda d: [(d / name.format(6 + at)).unlink() for at, name in enumerate(FOLDERS)],
        "no strip 6 before IMG00011.dcm",
    ),
    "channel-missing": ("folders", lambda d: shutil.rmtree(d / "strips" / "CH3"), "strips of CH2 alone"),
    "missing-in-turn": ("numbered", lambda d: (d / IN_TURN.format(4)).unlink(), "no strip 4 .CH3. beside NIO001_1_3.dcm"),
    "first-missing-in-turn": ("numbered", lambda d: (d / IN_TURN.format(1)).unlink(), "no strip 1 before NIO001_1_2.dcm"),
    "last-missing-in-turn": ("numbered", lambda d: (d / IN_TURN.format(6)).unlink(), "no strip 6 .CH3. beside NIO001_1_5.dcm"),
    "twice": (
        "folders",
        lambda d: copy(d / FOLDERS[0].format(11), d / "strips/CH2/IMG00011 (1).dcm"),
        "strip 11 twice .IMG00011 .1..dcm and IMG00011.dcm",
    ),
    "copied-over": (
        "folders",
        lambda d: copy(d / FOLDERS[0].format(6), d / FOLDERS[0].format(11)),
        "IMG00011.dcm: found the same instance as IMG00006.dcm",
    ),
    "pixels-copied-over": (
        "folders",
        lambda d: copy(d / FOLDERS[0].format(6), d / FOLDERS[0].format(11), SOPInstanceUID="1.2.3"),
        "IMG00011.dcm: found the pixels of IMG00006.dcm",
    ),
    "misnumbered": (
        "folders",
        lambda d: [(d / n.format(11 + at)).rename(d / n.format(13 + at)) for at, n in enumerate(FOLDERS)],
        "strip IMG00013.dcm, 7 after IMG00006.dcm",
    ),
    "unnumbered": (
        "folders",
        lambda d: (d / FOLDERS[0].format(11)).rename(d / "strips/CH2/last.dcm"),
        "last.dcm: found a name",
    ),
    "cut": ("numbered", lambda d: cut(d / IN_TURN.format(3)), "NIO001_1_3.dcm: found a truncated file"),
    "empty": (
        "numbered",
        lambda d: (d / IN_TURN.format(3)).write_bytes(b""),
        "NIO001_1_3.dcm: found a file that is",
    ),
    "text": ("mosaic", lambda d: next(d.glob("img1_3_*")).write_text("no"), "img1_3_.*: found a file that is not DICOM"),
    "blank": (
        "numbered",
        lambda d: edit(d / IN_TURN.format(3), PixelData=bytes(2 * 64 * 256)),
        "NIO001_1_3.dcm: found a strip of which every pixel is 0",
    ),
    "narrower": ("numbered", lambda d: narrower(d / IN_TURN.format(3)), "NIO001_1_3.dcm: found a strip of 254 x 64 pixels"),
    "another-patient": (
        "mosaic",
        lambda d: edit(next(d.glob("img1_3_*")), PatientID="OTHER"),
        "img1_3_.*: found a strip of another patient than img1_1_",
    ),
    "another-channel": (
        "folders",
        lambda d: edit(d / FOLDERS[1].format(12), SeriesDescription="CH2 2845 cm-1"),
        "IMG00012.dcm: found a strip that says it is of CH2",
    ),
    "frames": (
        "numbered",
        lambda d: edit(d / IN_TURN.format(3), NumberOfFrames=3),
        "_3.dcm: found a strip of 3 frames",
    ),
    "two-mosaics": (
        "mosaic",
        lambda d: next(d.glob("img1_3_*")).rename(d / "img2_3_00000000.dcm"),
        "strips of 2 mosaics .1, 2.",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_strip_that_is_not_right_is_named(damage: str, tmp_path: Path) -> None:
    layout, spoil, says = DAMAGE[damage]
    image = np.random.default_rng(0).integers(5_000, 60_000, (2, 64, 3 * 256)).astype(np.uint16)
    folder = write_nio(ArraySlide(image, 0.47), tmp_path / "nio", layout, Scan(256, 0))
    assert read_slide(folder).shape == (64, 3 * 256)
    spoil(folder)
    with pytest.raises(InputError, match=says) as caught:
        read_slide(folder)
    assert "\n" not in str(caught.value)
    assert "OTHER" not in str(caught.value)


def swapped(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def textured(width: int = 3 * 128, height: int = 128) -> np.ndarray:
    """What both channels show, with noise of their own: nothing of it is alike 128 columns further on."""
    rng = np.random.default_rng(1)
    tissue = ndi.gaussian_filter(rng.normal(size=(height, width)), 1.0) * 20_000 + 25_000
    return np.clip([tissue + rng.normal(0, 500, tissue.shape) for _ in range(2)], 0, 65_535).astype(np.uint16)


@pytest.mark.parametrize(
    ("layout", "names", "says"),
    [
        ("folders", [FOLDERS[0].format(6), FOLDERS[0].format(11)], "IMG00007.dcm: .*shows what IMG00011.dcm of CH2 does"),
        ("numbered", [IN_TURN.format(2), IN_TURN.format(6)], "NIO001_1_2.dcm: .*shows what NIO001_1_5.dcm of CH2 does"),
    ],
)
def test_strips_that_changed_their_numbers_are_named(layout: NioLayout, names: list[str], says: str, tmp_path: Path) -> None:
    """In one channel alone: CH2 and CH3 of a strip would show two places, and every result of them be nonsense."""
    folder = write_nio(ArraySlide(textured(), 0.47), tmp_path / "nio", layout, Scan(128, 0, (0.4, -1.2)))
    assert "3 pieces" in " ".join(read_slide(folder).notes)
    swapped(folder, *names)
    with pytest.raises(InputError, match=says):
        read_slide(folder)


def test_a_strip_that_tells_nothing_follows_the_others_and_is_counted(tmp_path: Path) -> None:
    image = textured()
    image[:, :, 128:256] = np.random.default_rng(2).normal(20_000, 500, (2, 128, 128)).astype(np.uint16)
    slide = read_slide(write_nio(ArraySlide(image, 0.47), tmp_path / "nio", "folders", Scan(128, 0, (0.0, 2.0))))
    assert "1 of them tells nothing and follows the others" in " ".join(slide.notes)


def test_channels_that_lie_too_far_apart_are_told(tmp_path: Path) -> None:
    slide = read_slide(write_nio(ArraySlide(textured(), 0.47), tmp_path / "nio", "folders", Scan(128, 0, (32.0, 0.0))))
    assert "what resembles most lies 32 px away, and beyond 20 px that is chance" in " ".join(slide.notes)


def test_a_flat_field_is_for_strips_alone(tmp_path: Path) -> None:
    image = np.full((2, 64, 64), 9_000, np.uint16)
    path = write_tiff(ArraySlide(image, 0.47), tmp_path / "case.tif")
    with pytest.raises(InputError, match="--flat-field columns for a case that is not strips"):
        read_slide(path, flat_field="columns")


def test_whole_slides_that_are_named_as_strips_are_none(clear: ArraySlide, tmp_path: Path) -> None:
    """Even where the first of them is damaged: what is said then is of a slide."""
    folder = tmp_path / "case"
    for file in write_wsi(clear, folder):
        file.rename(folder / f"case_1_{file.stem[-1]}.dcm")
    np.testing.assert_array_equal(read_slide(folder).read(0, 0, *clear.shape), clear.counts)
    first = min(folder.iterdir())
    first.write_bytes(first.read_bytes()[:200])
    with pytest.raises(InputError) as caught:
        read_slide(folder)
    assert "strip" not in str(caught.value)
