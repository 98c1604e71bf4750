"""A case's patches and regions for QuPath and for tables: GeoJSON, a script that loads it, and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.display import CLASS_COLOURS
from srh_clinic.escaping import csv_text
from srh_clinic.integration.dicom_header import derived_uuid
from srh_clinic.integration.results.content import CaseFindings

FLAGGED_COLOUR, RESCAN_COLOUR = (230, 159, 0), (240, 228, 66)

COLUMNS = (
    *("y_px", "x_px", "height_px", "width_px", "y_um", "x_um", "height_um", "width_um", "class_before", "class_after"),
    *(f"{when}_{name}" for when in ("before", "after") for name in CLASSES),
)
"""Columns of the table of patches; edges are told in pixels of the scan and in micrometres from its upper left corner."""


def geojson(findings: CaseFindings) -> str:
    """Patches as tiles and regions as annotations, in pixels of the scan: a FeatureCollection as QuPath 0.4 and later reads.

    Patches carry the probability of each class before and after; flagged regions how loud a guard is. A repeated run gives the
    same identifiers.
    """
    return json.dumps({"type": "FeatureCollection", "features": [*_patches(findings), *_regions(findings)]}) + "\n"


def patches_csv(findings: CaseFindings) -> str:
    """The same patches as a table of :data:`COLUMNS`, one a line."""
    um = findings.scan.um_per_px
    rows: list[list[Any]] = [list(COLUMNS)]
    for box, before, after in _rows(findings):
        top, left, bottom, right = box
        pixels = [top, left, bottom - top, right - left]
        named = [CLASSES[int(np.argmax(each))] for each in (before, after)]
        chances = [round(float(chance), 6) for each in (before, after) for chance in each]
        rows.append([*(_number(edge) for edge in pixels), *(round(edge * um, 3) for edge in pixels), *named, *chances])
    return csv_text(rows)


def qupath_script(findings: CaseFindings, name: str) -> str:
    """A Groovy script that loads the GeoJSON called ``name`` into the slide that is open, if it has the scan's size."""
    height, width = findings.scan.shape
    return _SCRIPT.replace("@WIDTH@", str(width)).replace("@HEIGHT@", str(height)).replace("@GEOJSON@", name)


def _rows(findings: CaseFindings) -> Iterator[tuple[tuple[float, ...], Any, Any]]:
    """The edges of each patch, and its probabilities before and after."""
    after = findings.classes_after
    squares = findings.classes_before.squares
    before = dict(zip(map(tuple, squares.positions.tolist()), squares.values, strict=True))
    boxes = after.boxes(findings.scan.shape).tolist()
    for position, box, chances in zip(after.squares.positions.tolist(), boxes, after.squares.values, strict=True):
        yield tuple(box), before[tuple(position)], chances


def _patches(findings: CaseFindings) -> Iterator[dict[str, Any]]:
    for box, before, after in _rows(findings):
        name = CLASSES[int(np.argmax(after))]
        measured = {
            f"{when}: probability of {CLASS_WORDS[each]}": round(float(chance), 6)
            for when, chances in (("as scanned", before), ("restored", after))
            for each, chance in zip(CLASSES, chances, strict=True)
        }
        colour = [int(part) for part in CLASS_COLOURS[CLASSES.index(name)]]
        yield _feature(findings, "tile", box, CLASS_WORDS[name], colour, measured)


def _regions(findings: CaseFindings) -> Iterator[dict[str, Any]]:
    for marked in (*findings.flagged, *findings.rescan):
        at = marked.region
        box = (at.y, at.x, at.y + at.height, at.x + at.width)
        measured = {} if marked.strength is None else {"strength in thresholds": float(marked.strength)}
        colour = RESCAN_COLOUR if marked.kind == "rescan" else FLAGGED_COLOUR
        kind = "worth rescanning" if marked.kind == "rescan" else f"flagged: {marked.kind.replace('_', ' ')}"
        yield _feature(findings, "annotation", box, kind, colour, measured, name=marked.words)


def _feature(
    findings: CaseFindings,
    kind: str,
    box: tuple[float, ...],
    classification: str,
    colour: Any,
    measured: Mapping[str, float],
    **more: Any,
) -> dict[str, Any]:
    top, left, bottom, right = (_number(edge) for edge in box)
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "id": str(derived_uuid("qupath", findings.run, kind, classification, repr(box))),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": kind,
            "classification": {"name": classification, "color": list(colour)},
            "measurements": dict(measured),
            "isLocked": True,
            **more,
        },
    }


def _number(edge: float) -> float | int:
    """A whole number of pixels as one."""
    return int(edge) if float(edge).is_integer() else round(float(edge), 3)


_SCRIPT = """\
// Loads what srh-clinic found in a slide of @WIDTH@ x @HEIGHT@ pixels into QuPath 0.4 or later. Research use only.
// In the window: open the slide, an OME-TIFF of "srh-clinic convert", then this script by Automate > Script editor; run it.
// Without: QuPath script --image slide.ome.tif --args @GEOJSON@ qupath.groovy
// Without --args the file @GEOJSON@ is looked for beside the slide and in the working folder.
import static qupath.lib.scripting.QP.*

def server = getCurrentServer()
if (server == null)
    throw new IllegalStateException("No slide is open: open the slide first.")
if (server.getWidth() != @WIDTH@ || server.getHeight() != @HEIGHT@)
    throw new IllegalStateException("Another slide is open: it is not one of @WIDTH@ x @HEIGHT@ pixels.")

def places = []
if (binding.hasVariable("args") && args != null && args.size() > 0)
    places << new File(args[0] as String)
server.getURIs().findAll { it.getScheme() == "file" }.each { places << new File(new File(it).getParentFile(), "@GEOJSON@") }
places << new File("@GEOJSON@")
def found = places.find { it.isFile() }
if (found == null)
    throw new FileNotFoundException("@GEOJSON@ was not found; looked at " + places.join(", "))

importObjectsFromFile(found.getPath())
fireHierarchyUpdate()
println "Loaded " + found
"""
