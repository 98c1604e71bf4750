"""QuPath's GeoJSON and the table of patches tell every patch and region where it lies on the scan."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from case import FLAGGED, PATCH, RESCAN, SHAPE, Planted, corners, counts, findings, probabilities

from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.integration.results import Values, geojson, patches_csv, qupath_script
from srh_clinic.slide import ArraySlide


@pytest.fixture(scope="module")
def made():
    return findings(ArraySlide(counts(), 0.47))


def box(feature):
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert len(ring) == 5
    x, y = np.array(ring).T
    return [y.min(), x.min(), y.max(), x.max()]


def test_every_patch_is_a_tile_with_its_class_and_probabilities(made):
    read = json.loads(geojson(made))
    assert read["type"] == "FeatureCollection"
    tiles = [each for each in read["features"] if each["properties"]["objectType"] == "tile"]
    assert len(tiles) == len(corners())
    for tile, (y, x), chances, before in zip(tiles, corners(), probabilities(), probabilities(1), strict=True):
        assert box(tile) == [y, x, y + PATCH, x + PATCH]
        told = tile["properties"]
        assert told["classification"]["name"] == CLASS_WORDS[CLASSES[int(chances.argmax())]]
        for name, chance, was in zip(CLASSES, chances, before, strict=True):
            assert told["measurements"][f"restored: probability of {CLASS_WORDS[name]}"] == pytest.approx(chance, abs=1e-6)
            assert told["measurements"][f"as scanned: probability of {CLASS_WORDS[name]}"] == pytest.approx(was, abs=1e-6)


def test_flagged_regions_and_those_worth_rescanning_are_annotations(made):
    read = [each for each in json.loads(geojson(made))["features"] if each["properties"]["objectType"] == "annotation"]
    assert [each["properties"]["name"] for each in read] == [marked.words for marked in (*FLAGGED, *RESCAN)]
    for feature, marked in zip(read, (*FLAGGED, *RESCAN), strict=True):
        at = marked.region
        assert box(feature) == [at.y, at.x, at.y + at.height, at.x + at.width]
    assert read[0]["properties"]["measurements"] == {"strength in thresholds": 1.75}


def test_identifiers_are_those_of_a_repeated_run_and_differ(made):
    ids = [each["id"] for each in json.loads(geojson(made))["features"]]
    assert ids == [each["id"] for each in json.loads(geojson(findings(ArraySlide(counts(), 0.47))))["features"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("scale", [1.3, 0.5])
def test_patches_of_other_pixels_are_told_in_those_of_the_scan(scale):
    scan = ArraySlide(counts(), 0.47)
    values = Values(Planted(corners()[:5], PATCH, probabilities()[:5]), scale)
    made = findings(scan, classes_before=values, classes_after=values)
    tiles = [each for each in json.loads(geojson(made))["features"] if each["properties"]["objectType"] == "tile"]
    for tile, (y, x) in zip(tiles, corners()[:5], strict=True):
        expected = np.minimum(np.array([y, x, y + PATCH, x + PATCH]) * scale, [*SHAPE, *SHAPE])
        np.testing.assert_allclose(box(tile), expected, atol=1e-3)


def test_the_table_has_a_line_for_each_patch(made):
    rows = list(csv.DictReader(io.StringIO(patches_csv(made))))
    assert len(rows) == len(corners())
    for row, (y, x), chances, before in zip(rows, corners(), probabilities(), probabilities(1), strict=True):
        assert [int(row[each]) for each in ("y_px", "x_px", "height_px", "width_px")] == [y, x, PATCH, PATCH]
        assert float(row["y_um"]) == pytest.approx(0.47 * y, abs=1e-3)
        assert row["class_after"] == CLASSES[int(chances.argmax())]
        assert [float(row[f"before_{name}"]) for name in CLASSES] == pytest.approx(before.tolist(), abs=1e-6)
        assert [float(row[f"after_{name}"]) for name in CLASSES] == pytest.approx(chances.tolist(), abs=1e-6)


def test_the_script_refuses_another_slide_and_names_the_file(made):
    script = qupath_script(made, "found.geojson")
    assert "@" not in script
    assert "server.getWidth() != 700 || server.getHeight() != 460" in script
    assert '"found.geojson"' in script
