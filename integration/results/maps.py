"""Heat maps of a case: Parametric Maps of probabilities, steps and trust, and a fractional segmentation of the classes.

All lie on cells of a whole number of the scan's pixels, a power of 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.integration.results.content import CaseFindings
from srh_clinic.integration.results.study import ResultStudy
from srh_clinic.integration.results.vocabulary import (
    CLASS_CODES,
    COLOURS,
    MORPHOLOGY,
    NO_UNITS,
    PROBABILITY,
    STEPS,
    TRUST,
)

CELLS_PER_PATCH = 3
"""A patch of the classifier is at least so many cells wide."""

NOT_READ = -1.0
"""Value of a cell where nothing was said, such as glass."""

LARGEST_TILE = 512
"""A map with longer edges than this is cut into tiles of it."""


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map: its name, what it says, of which quantity, up to which value it is shown, and its cells, float32 ``(h, w)``."""

    name: str
    said: str
    quantity: Code
    shown_up_to: float
    cells: NDArray[np.float32]


def cell_px(findings: CaseFindings) -> int:
    """Edge of a map's cell in pixels of the scan: a power of 2."""
    patch = findings.classes_after.squares.edge * findings.classes_after.scale
    return int(2 ** max(math.floor(math.log2(patch / CELLS_PER_PATCH)), 0))


def heat_maps(findings: CaseFindings) -> Iterator[HeatMap]:
    """The maps of a case: the probability of each class after restoration, the predicted steps, the strength of the guards."""
    shape, factor = findings.scan.shape, cell_px(findings)

    def cells(values: Any) -> NDArray[np.float32]:
        return np.nan_to_num(values, nan=NOT_READ)

    classes = findings.classes_after.cells(shape, factor)
    for number, name in enumerate(CLASSES):
        said = f"Probability of {CLASS_WORDS[name]} after restoration"
        yield HeatMap(name, said, PROBABILITY, 1.0, cells(classes[..., number]))
    yield HeatMap("steps", "Reverse steps of restoration predicted", STEPS, 200.0, cells(findings.steps.cells(shape, factor)))
    yield HeatMap("trust", "Strength of the guards in thresholds", TRUST, 2.0, cells(findings.trust.cells(shape, factor)))


def parametric_map(study: ResultStudy, shown: HeatMap, number: int) -> Dataset:
    """One map as a Parametric Map (PS3.3 A.75) of float32; a cell without a value holds :data:`NOT_READ`."""
    mapping = RealWorldValueMapping(
        lut_label=shown.name.upper(),
        lut_explanation=shown.said,
        unit=NO_UNITS,
        value_range=(NOT_READ, max(shown.shown_up_to, float(shown.cells.max(initial=0.0)))),
        slope=1.0,
        intercept=0.0,
        quantity_definition=shown.quantity,
    )
    document = ParametricMap(
        [study.image],
        shown.cells[None],
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=shown.shown_up_to / 2, window_width=shown.shown_up_to)],
        contains_recognizable_visual_features=False,
        content_label="HEATMAP",
        content_description=shown.said,
        **study.instance(f"map {shown.name}", number),
        **study.series("maps"),
        **study.equipment,
        **_geometry(study, shown.cells.shape[:2]),
    )
    document.FloatPixelPaddingValue = document.FloatPixelPaddingRangeLimit = NOT_READ
    return study.finish(document)


def class_segmentation(study: ResultStudy) -> Dataset:
    """The classes after restoration as a fractional Segmentation (PS3.3 A.51): of each the probability, 0 to 255."""
    findings = study.findings
    cells = np.nan_to_num(findings.classes_after.cells(findings.scan.shape, cell_px(findings)), nan=0.0)
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=CLASS_WORDS[name],
            segmented_property_category=MORPHOLOGY,
            segmented_property_type=CLASS_CODES[name],
            algorithm_type="AUTOMATIC",
            algorithm_identification=study.algorithm("srh-clinic classifier"),
            tracking_uid=study.instance(f"segment {name}")["sop_instance_uid"],
            tracking_id=f"srh-clinic {name}",
            display_color=COLOURS[name],
        )
        for number, name in enumerate(CLASSES, start=1)
    ]
    document = Segmentation(
        [study.image],
        np.clip(cells, 0.0, 1.0)[None],
        "FRACTIONAL",
        segments,
        omit_empty_frames=False,
        content_label="CLASSES",
        content_description="Class probabilities after restoration",
        **study.instance("classes"),
        **study.series("classes"),
        **study.equipment,
        **_geometry(study, cells.shape[:2]),
    )
    document.PatientOrientation = ""  # required, and empty, where nothing else says how the image lies to the patient
    return study.finish(document)


def _geometry(study: ResultStudy, shape: tuple[int, ...]) -> dict[str, Any]:
    """Where the cells lie."""
    factor = cell_px(study.findings)
    spacing = [edge * factor for edge in study.plane.spacing_mm]
    orientation = [float(cosine) for cosine in study.image.ImageOrientationSlide]
    centre = np.array((factor - 1) / 2)
    first = study.plane.at_mm(centre, centre)
    thickness = study.image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].get("SliceThickness")
    return {
        "pixel_measures": PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=float(thickness or 0.001)),
        "plane_orientation": PlaneOrientationSequence("SLIDE", orientation),
        "plane_positions": [PlanePositionSequence("SLIDE", image_position=first.tolist(), pixel_matrix_position=(1, 1))],
        "tile_pixel_array": True,
        "tile_size": shape if max(shape) <= LARGEST_TILE else (LARGEST_TILE, LARGEST_TILE),
        "dimension_organization_type": "TILED_SPARSE",
    }
