"""What the result objects of a case have in common: the study that they join, their UIDs, their equipment and their place."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from numpy.typing import NDArray
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from srh_clinic import __version__
from srh_clinic.integration.dicom_header import PATIENT_AND_STUDY, derived_uid
from srh_clinic.integration.results.content import CaseFindings
from srh_clinic.integration.results.vocabulary import AI
from srh_clinic.integration.targets import MANUFACTURER

SERIES = {"maps": 1001, "classes": 1002, "annotations": 1003, "report": 1004}
"""Each series of results, and what is added to the scan's Series Number for it; the restored slide's is 1000 above it."""

TEXTS = {"SH", "LO", "ST", "LT", "UC", "UT", "PN"}
"""The VRs whose letters are those of the Specific Character Set (PS3.5 6.1.2.3)."""

_RANDOM = "1.2.826.0.1.3680043.10.511.3."  # root of the UIDs that highdicom draws

_MAX_IS = 2**31 - 1  # largest IS value


def result_uid(kind: str, run: str, *more: str) -> UID:
    """A UID of a result: a function of what made it of which slide, :attr:`CaseFindings.run`, and of ``more``."""
    return UID(str(derived_uid("result", kind, run, *more)))


@dataclass(frozen=True)
class ResultStudy:
    """The study that the results of a case join.

    ``scanned`` are the headers of the scan's instances, empty where it is no DICOM; ``restored`` those of the restored slide's
    finest level, CH2 first. Every object repeats patient, study, container and specimen of the latter, which hold no private
    elements.
    """

    findings: CaseFindings
    scanned: tuple[Dataset, ...]
    restored: tuple[Dataset, ...]
    created: datetime

    @cached_property
    def image(self) -> Dataset:
        """The image that objects refer to, as highdicom takes it, see :func:`_plain`."""
        return _plain(self.restored[0])

    @property
    def images(self) -> list[Dataset]:
        """The instances of the scan and of the restored slide, as highdicom takes them."""
        return [_plain(header) for header in (*self.scanned, *self.restored)]

    @cached_property
    def run(self) -> str:
        return self.findings.run

    @cached_property
    def digest(self) -> str:
        return self.findings.digest

    def series(self, kind: str) -> dict[str, Any]:
        """Series Instance UID, Series Number and description of a kind of :data:`SERIES`."""
        number = int(self.image.get("SeriesNumber") or 0) - 1000 + SERIES[kind]
        return {
            "series_instance_uid": result_uid(f"series {kind}", self.run),
            "series_number": min(max(number, 1), _MAX_IS),
            "series_description": f"SRH {kind} by srh-clinic, research use only",
        }

    def instance(self, name: str, number: int = 1) -> dict[str, Any]:
        """SOP Instance UID and Instance Number."""
        uid = result_uid(f"instance {name}", self.run, self.digest)
        return {"sop_instance_uid": uid, "instance_number": number}

    @property
    def equipment(self) -> dict[str, str]:
        """General and Enhanced General Equipment."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": "srh-clinic",
            "software_versions": __version__,
            "device_serial_number": "none",
        }

    def algorithm(self, name: str) -> AlgorithmIdentificationSequence:
        """What computed it: the program, and in its parameters the networks."""
        made_by = self.findings.provenance
        parameters = {"bundle": str(made_by["bundle"]), "weights_sha256": str(made_by["weights_sha256"])}
        return AlgorithmIdentificationSequence(name, AI, __version__, MANUFACTURER, parameters)

    def finish(self, document: Dataset) -> Dataset:
        """Give an object its times and the equipment that contributed to the restored slide."""
        for what in ("Content", "InstanceCreation"):
            setattr(document, f"{what}Date", self.created.strftime("%Y%m%d"))
            setattr(document, f"{what}Time", self.created.strftime("%H%M%S"))
        for keyword in PATIENT_AND_STUDY:
            if keyword in self.restored[0]:
                document[keyword] = copy.deepcopy(self.restored[0][keyword])
        document.ContributingEquipmentSequence = copy.deepcopy(list(self.image.ContributingEquipmentSequence))
        document.remove_private_tags()
        self._settle_uids(document)
        _write_as(document, self.restored[0].get("SpecificCharacterSet"))
        return document

    def _settle_uids(self, document: Dataset) -> None:
        """Replace the random UIDs that highdicom makes by ones that a repeated run makes again."""
        settled: dict[str, UID] = {}

        def settle(_: Dataset, element: DataElement) -> None:
            if element.VR == "UI" and str(element.value).startswith(_RANDOM):
                name = f"{document.SOPInstanceUID} {len(settled)}"
                element.value = settled.setdefault(str(element.value), self.instance(name)["sop_instance_uid"])

        document.walk(settle)

    @cached_property
    def plane(self) -> SlidePlane:
        """Where the matrix of the image lies."""
        return SlidePlane.of(self.image)


def _write_as(document: Dataset, character_set: Any) -> None:
    """Write an object as the scan is written, where that has every letter of it: then a name is the same bytes in a study."""
    letters = set("".join(str(element.value) for element in document.iterall() if element.VR in TEXTS))
    encodings = convert_encodings(character_set)
    if all(letter.isascii() or any(_has(each, letter) for each in encodings) for letter in letters):
        document.SpecificCharacterSet = character_set
        if character_set is None:
            del document.SpecificCharacterSet


def _has(encoding: str, letter: str) -> bool:
    try:
        return bool(letter.encode(encoding))
    except UnicodeError:
        return False


def _plain(header: Dataset) -> Dataset:
    """A header without what highdicom refuses or tells on stderr where a scanner has written it oddly.

    Text in UTF-8; names, sexes and dates, which :meth:`ResultStudy.finish` brings back as they are.
    """
    plain = copy.deepcopy(header)
    plain.decode()
    plain.SpecificCharacterSet = "ISO_IR 192"
    if not plain.get("FrameOfReferenceUID"):
        plain.pop("FrameOfReferenceUID", None)  # an empty one would stand in the report's list of images
    for keyword in ("PatientName", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(plain, keyword, "")
    for keyword in ("PatientID", "StudyID", "AccessionNumber"):
        setattr(plain, keyword, plain.get(keyword) or "")
    return plain


@dataclass(frozen=True, eq=False)
class SlidePlane:
    """Where a total pixel matrix lies in the slide coordinate system, mm.

    Attributes
    ----------
    origin_mm
        The centre of the matrix's first pixel, ``(3,)``.
    rows, columns
        Unit vectors along a row and down a column, ``(3,)``.
    spacing_mm
        Distance of the matrix's rows, and of its columns.
    """

    origin_mm: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    spacing_mm: tuple[float, float]

    @classmethod
    def of(cls, header: Dataset, edges_um: tuple[float, float] | None = None) -> SlidePlane:
        """That of an image; ``AttributeError`` where it does not say.

        ``edges_um`` is the distance of its rows and of its columns, where the header may tell it of each frame alone.
        """
        rows, columns = np.reshape([float(cosine) for cosine in header.ImageOrientationSlide], (2, 3))
        if edges_um is None:
            (groups,) = header.SharedFunctionalGroupsSequence
            down, across = (float(spacing) for spacing in groups.PixelMeasuresSequence[0].PixelSpacing)
        else:
            down, across = (um / 1000 for um in edges_um)
        (origin,) = header.TotalPixelMatrixOriginSequence
        x, y = (float(origin.get(f"{axis}OffsetInSlideCoordinateSystem") or 0) for axis in "XY")
        return cls(np.array([x, y, 0.0]), rows, columns, (down, across))

    def at_mm(self, down: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places in the matrix, rows and columns from the centre of its first pixel, as ``(..., 3)``."""
        return np.asarray(
            self.origin_mm
            + across[..., None] * (self.spacing_mm[1] * self.rows)
            + down[..., None] * (self.spacing_mm[0] * self.columns)
        )

    def corners_mm(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The four corners of boxes from their edges in pixels, ``(N, 4)`` to ``(N, 4, 3)``.

        Upper left, upper right, lower right, lower left. Edge 0 is that of the first pixel, half a pixel before its centre.
        """
        top, left, bottom, right = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
        down = np.stack([top, top, bottom, bottom], axis=1) - 0.5
        across = np.stack([left, right, right, left], axis=1) - 0.5
        return self.at_mm(down, across)
