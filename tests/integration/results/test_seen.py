"""A viewer shows channels, map, segmentation, annotations and the report's regions over the tissue that they tell of.

The viewer is dicom-microscopy-viewer (npm), in headless Chromium, served on loopback; without either it is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from case import RESTORED_BY, WHEN, Planted, findings, region
from PIL import Image
from seen.server import Stand, served

from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.integration.results import Marked, Values, write_results
from srh_clinic.slide import ArraySlide, Identity

CHROMIUM = shutil.which("chromium")
VIEWER = Path(os.environ.get("DICOM_MICROSCOPY_VIEWER", "no such folder"))
"""The folder ``dist`` of the npm package dicom-microscopy-viewer 0.48.24."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: install the Debian package chromium"),
    pytest.mark.skipif(
        not (VIEWER / "dicomMicroscopyViewer.bundle.min.js").is_file(),
        reason="DICOM_MICROSCOPY_VIEWER names no folder dist of npm's dicom-microscopy-viewer",
    ),
]

SHAPE = (1200, 1800)
SHOWN = 0.5
"""Screen pixels to a pixel of the slide: 900 x 600 px show all of it."""

LANDMARK = (384, 960, 96, 96)
"""Top, left, height and width of a bright patch in CH2, of which everything speaks; in CH3 it is 192 px further left."""

SECONDS = 12.0
"""That the page has for drawing."""

LEGEND, SCALE = 170, 560
"""Rows of the screen above and below which the viewer's own legend and scale stand."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    counts = np.full((2, *SHAPE), 6_000, dtype=np.uint16)
    top, left, height, width = LANDMARK
    counts[0, top : top + height, left : left + width] = 60_000
    counts[1, top : top + height, left - 192 : left - 192 + width] = 60_000
    write_wsi(ArraySlide(counts, 0.47, Identity("P1", "S1")), folder / "scan", created=WHEN)
    scan = read_slide(folder / "scan")
    y, x = np.mgrid[0 : SHAPE[0] - 95 : 96, 0 : SHAPE[1] - 95 : 96]
    at = np.stack([y.ravel(), x.ravel()], axis=1)
    hit = (at == LANDMARK[:2]).all(axis=1)
    classes = Values(Planted(at, 96, np.where(hit[:, None], [1.0, 0, 0], [0, 1.0, 0]).astype(np.float32)), 1.0)
    numbers = Values(Planted(at, 96, hit.astype(np.float32)), 1.0)
    made = findings(
        scan,
        restored=ArraySlide(counts, 0.47, scan.identity),
        **dict.fromkeys(("classes_before", "classes_after"), classes),
        **dict.fromkeys(("steps", "trust"), numbers),
        flagged=(Marked("added_nucleus", "a nucleus", region(*LANDMARK), 1.5),),
        rescan=(),
    )
    write_results(made, folder / "results", restored_by=RESTORED_BY, created=WHEN)
    return folder / "results"


def regions_of(folder):
    frame = str(pydicom.dcmread(folder / "SRS2845.dcm", stop_before_pixels=True).FrameOfReferenceUID)
    groups = hd.sr.srread(folder / "report.dcm").content.get_planar_roi_measurement_groups()
    told = [group for group in groups if group.tracking_identifier.startswith("region")]
    return [{"corners_mm": group.roi.value.tolist(), "frame": frame} for group in told]


def seen(folder, shown, tmp_path):
    """The screen, uint8 ``(600, 900, 3)``, with a part of the results shown."""
    stand = Stand(folder, VIEWER, regions_of(folder), SECONDS)
    picture = tmp_path / "screen.png"
    with served(stand) as address:
        subprocess.run(
            [
                *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
                *("--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,700"),
                *("--timeout=60000", f"--screenshot={picture}", f"{address}/?shown={shown}"),
            ],
            capture_output=True,
            timeout=150,
            check=True,
        )
    assert stand.said == ""
    screen = np.array(Image.open(picture).convert("RGB"))[:600, :900]
    screen[:LEGEND] = screen[SCALE:] = 0
    return screen


def box(mask):
    """Top, left, bottom and right of what is set, in pixels of the slide."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert len(rows) > 0, "nothing of it is seen"
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / SHOWN


TOP, LEFT, HEIGHT, WIDTH = LANDMARK
PLACE = np.array([TOP, LEFT, TOP + HEIGHT, LEFT + WIDTH])


@pytest.mark.parametrize(("channel", "shift"), [("CH2", 0), ("CH3", -192)])
def test_each_channel_is_seen(results, tmp_path, channel, shift):
    screen = seen(results, channel, tmp_path)
    np.testing.assert_allclose(box((screen > 200).all(axis=2)), PLACE + np.array([0, shift, 0, shift]), atol=1 / SHOWN)


@pytest.mark.parametrize("shown", ["segmentation", "annotations", "report"])
def test_what_is_told_lies_over_its_tissue_to_a_pixel_of_the_screen(results, tmp_path, shown):
    screen = seen(results, shown, tmp_path).astype(int)
    red = (screen[..., 0] > 150) & (screen[..., 1] < 90) & (screen[..., 2] < 90)
    np.testing.assert_allclose(box(red), PLACE, atol=1 / SHOWN)


def test_the_heat_map_is_brightest_over_its_tissue(results, tmp_path):
    screen = seen(results, "map", tmp_path).astype(float)
    brightness = screen.sum(axis=2)
    y, x = np.mgrid[:600, :900]
    weight = np.where(brightness > 0.5 * brightness.max(), brightness, 0)
    centre = np.array([(weight * (y + 0.5)).sum(), (weight * (x + 0.5)).sum()]) / weight.sum() / SHOWN
    # The viewer blurs a map between its cells; its centre is that of the patch.
    np.testing.assert_allclose(centre, [TOP + HEIGHT / 2, LEFT + WIDTH / 2], atol=1 / SHOWN)
