"""The DICOM conformance statement, made of what the writers write::

    python -m srh_clinic.integration.conformance > docs/conformance.md

Every object of a small case is made, and its attributes are told as they stand in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import dictionary_description
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    KeyObjectSelectionDocumentStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from srh_clinic.integration import evidence, network
from srh_clinic.integration.deidentify import Pseudonyms, nameless
from srh_clinic.integration.dicom_file import quiet_pydicom
from srh_clinic.integration.dicom_header import FROM_SOURCE
from srh_clinic.integration.dicom_writer import TRANSFER_SYNTAXES, write_wsi
from srh_clinic.integration.network import MOST_CONTEXTS
from srh_clinic.integration.optical_path import PUMP_NM, SCHEME
from srh_clinic.integration.reader import read_slide
from srh_clinic.integration.results import vocabulary
from srh_clinic.integration.results.content import CaseFindings, Marked, Said, Values
from srh_clinic.integration.results.writing import write_results
from srh_clinic.regions import Region, placed
from srh_clinic.slide import ArraySlide, Identity, Slide

WHEN = datetime(2000, 1, 1)

OBJECTS = {
    "scan": ("A slide that convert or simulate makes", "SRS2845.dcm"),
    "anonymous": ("A slide that convert --deidentify makes", "SRS2845.dcm"),
    "restored": ("The restored slide", "SRS2845.dcm"),
    "level": ("A level of its pyramid", "SRS2845-2.dcm"),
    "map": ("Heat maps", "map-tumor.dcm"),
    "classes": ("Segmentation of the classes", "classes.dcm"),
    "annotations": ("Patches and regions", "annotations.dcm"),
    "report": ("The report", "report.dcm"),
}
"""Every kind of object that is written: what it is, and an example's file."""

ORIGINAL = ("scan", "anonymous")
"""Those that repeat nothing of a scan."""

OF_STUDIES = (str(KeyObjectSelectionDocumentStorage), str(ComprehensiveSRStorage))
"""SOP classes of what is written of rater studies."""


def conformance_statement() -> str:
    """The statement as Markdown."""
    with tempfile.TemporaryDirectory() as folder, quiet_pydicom():
        examples = _examples(Path(folder))
    lines = [*_head(examples)]
    for name, (what, _) in OBJECTS.items():
        repeated = () if name in ORIGINAL else (*FROM_SOURCE, "SpecificCharacterSet")
        lines += [f"## {what}", "", f"{_class_of(examples[name])}.", ""]
        lines += ["| tag | attribute | VR | value |", "|---|---|---|---|", *_rows(examples[name], 0, repeated), ""]
    return "\n".join(lines).rstrip() + "\n"


_HEAD = f"""\
# DICOM conformance statement

Made of the code by `python -m srh_clinic.integration.conformance`; a test compares. Files (PS3.10), and services of the
network by `srh-clinic pacs`. Research software, not a medical device.

## SOP classes

| SOP class | UID | reads | writes |
|---|---|---|---|
@CLASSES@

Read are 16-bit monochrome volume images of both Raman shifts; [reading.md](reading.md) says which forms of them. The last two
are written of rater studies (`study convert`).

## Transfer syntaxes

| transfer syntax | UID | written for |
|---|---|---|
@SYNTAXES@

## Services by DIMSE

| SOP class | UID | role | pacs | |
|---|---|---|---|---|
@DIMSE@

Who calls offers each transfer syntax in a presentation context of its own, {MOST_CONTEXTS} of them at most; nothing is
transcoded. Objects are sent in that of their file and received in these: @RECEIVED@.
Our AE title is `SRHCLINIC` unless `--title` says another. `dicoms://` and `listen --tls` are TLS 1.2 or newer.

## Services by DICOMweb

| PS3.18 | role | pacs | |
|---|---|---|---|
@WEB@

Not spoken: creating workitems, requesting their cancelation, global subscriptions, and whatever is not named here.

## Identifiers, character sets, private data

- UIDs are `2.25.` and a name-based UUID (PS3.5 B.2). Those of results follow from the scan's SOP Instance UIDs, the settings,
  the weights and what is told: a repeated run makes the same objects, and objects that differ never share a UID.
- Specific Character Set is ISO_IR 192, but that of the scan in the restored slide.
- No private elements are written, and none of a scan is carried over, within sequences neither.
- Raman shifts stand in words and codes; Illumination Wave Length is the Stokes wavelength for a pump of {PUMP_NM:.0f} nm.
- [identity.md](identity.md) says what `--deidentify` and `--no-identity` leave.

## Concepts of the private scheme {SCHEME}

| code | meaning |
|---|---|
@CODES@

Below, a word in capitals is always that one; *scan* is repeated of the scan where it has one, *made* is computed, *empty* is
written without a value. Of a sequence the attributes of its first item are told.
"""


def _head(examples: dict[str, Dataset]) -> list[str]:
    uids = list(dict.fromkeys(str(each.SOPClassUID) for each in examples.values()))
    classes = [
        f"| {_name_of(uid)} | `{uid}` | {'yes' if uid == VLWholeSlideMicroscopyImageStorage else 'no'} | yes |"
        for uid in (*uids, *OF_STUDIES)
    ]
    syntaxes = []
    for name, syntax in TRANSFER_SYNTAXES.items():
        which = {"jpeg-ls": "slides (default)", "raw": "slides; all other objects"}.get(name, "slides")
        syntaxes.append(f"| {UID(syntax).name} | `{syntax}` | {which} |")
    codes = [f"| `{code}` | {meaning} |" for code, meaning in sorted(_private_codes(examples))]
    text = _HEAD
    dimse = [f"| {_name_of(one.where)} | `{one.where}` | {one.role} | {one.commands} | {one.what} |" for one in network.DIMSE]
    web = [f"| {one.where} | {one.role} | {one.commands} | {one.what} |" for one in network.WEB]
    text = text.replace("@RECEIVED@", "; ".join(network.name_of_uid(uid) for uid in network.RECEIVED))
    for mark, rows in (
        *(("@CLASSES@", classes), ("@SYNTAXES@", syntaxes), ("@CODES@", codes)),
        *(("@DIMSE@", dimse), ("@WEB@", web)),
    ):
        text = text.replace(mark, "\n".join(rows))
    return text.split("\n")


def _private_codes(examples: dict[str, Dataset]) -> set[tuple[str, str]]:
    tables = [vocabulary.QUALITY_NUMBERS, vocabulary.REGION_CODES, vocabulary.CLASS_PROBABILITY]
    codes = [value for value in vars(vocabulary).values() if hasattr(value, "scheme_designator")]
    codes += [code for table in tables for code in table.values()]
    codes += [code for value in vars(evidence).values() for code in _codes_in(value)]
    found = {(code.value, code.meaning) for code in codes if code.scheme_designator == SCHEME}
    for example in examples.values():
        for item in (item for element in example.iterall() if element.VR == "SQ" for item in element.value):
            if item.get("CodingSchemeDesignator") == SCHEME:
                found.add((str(item.CodeValue), str(item.CodeMeaning)))
    return found


def _codes_in(value: Any) -> list[Any]:
    """The coded concepts that a constant holds."""
    if isinstance(value, dict):
        return [code for each in value.values() for code in _codes_in(each)]
    return [value] if isinstance(value, CodedConcept) else []


def _rows(level: Dataset, depth: int, repeated: Sequence[str]) -> Iterator[str]:
    """A row for each attribute; of a sequence the attributes of its first item, and of a report's content none."""
    for element in level:
        tag = f"({element.tag.group:04X},{element.tag.element:04X})"
        name = f"{'> ' * depth}{dictionary_description(element.tag)}"
        scan = "*scan*" if depth == 0 and element.keyword in repeated else ""
        if element.VR != "SQ":
            yield f"| {tag} | {name} | {element.VR} | {scan or _value(element)} |"
            continue
        items = list(element.value)
        yield f"| {tag} | {name} | SQ | {scan or ('' if items else 'empty')} |"
        if items and not scan and element.keyword != "ContentSequence":
            yield from _rows(items[0], depth + 1, ())


def _value(element: DataElement) -> str:
    value: Any = element.value
    if value is None or value == "" or value == []:
        return "empty"
    if element.VR == "CS":
        return " ".join(value) if not isinstance(value, str) else value
    if element.keyword in ("CodingSchemeDesignator", "Manufacturer", "SOPClassUID", "ReferencedSOPClassUID"):
        return UID(str(value)).name if element.VR == "UI" else str(value)
    return "*made*"


def _class_of(example: Dataset) -> str:
    return _name_of(str(example.SOPClassUID))


def _name_of(uid: str) -> str:
    return UID(uid).name.removesuffix(" Storage")


@dataclass(frozen=True, eq=False)
class _Squares:
    positions: NDArray[np.int64]
    edge: int
    values: NDArray[Any]


def _examples(folder: Path) -> dict[str, Dataset]:
    """One object of each kind, of a case of four patches and a region."""
    counts = (np.arange(2 * 600 * 600, dtype=np.int64).reshape(2, 600, 600) % 50_000).astype(np.uint16)
    named = Identity(patient_id="P", specimen_id="S")
    write_wsi(ArraySlide(counts, 0.47, named), folder / "scan", created=WHEN)
    scan = read_slide(folder / "scan")
    write_wsi(nameless(scan, Pseudonyms(bytes(16))), folder / "anonymous", created=WHEN)
    findings = _findings(scan, counts)
    write_results(findings, folder / "results", restored_by={**findings.provenance, "source_pixels_sha256": ""}, created=WHEN)
    where = {"scan": folder / "scan", "anonymous": folder / "anonymous"}
    return {name: dcmread(where.get(name, folder / "results") / file) for name, (_, file) in OBJECTS.items()}


def _findings(scan: Slide, counts: NDArray[np.uint16]) -> CaseFindings:
    at = np.array([(0, 0), (0, 256), (256, 0), (256, 256)], dtype=np.int64)
    classes = Values(_Squares(at, 256, np.full((4, 3), 1 / 3, dtype=np.float32)), 1.0)
    numbers = Values(_Squares(at, 256, np.ones(4, dtype=np.float32)), 1.0)
    chances = {"tumor": 1.0, "normal": 0.0, "nondiagnostic": 0.0}
    return CaseFindings(
        scan=scan,
        restored=ArraySlide(counts // 2, scan.um_per_px, scan.identity),
        before=Said("tumor", chances, 1.0),
        after=Said("tumor", chances, 1.0),
        classes_before=classes,
        classes_after=classes,
        steps=numbers,
        trust=numbers,
        flagged=(Marked("lattice", "a pattern", Region(**placed(0, 0, 64, 64, scan, scan)), 1.5),),
        rescan=(),
        doubts=(),
        warnings=(),
        notes=(),
        decision="",
        decided=None,
        quality="Image quality.",
        quality_numbers={"median": 1},
        channel_order="",
        provenance=dict.fromkeys(("version", "bundle", "weights_sha256", "seed"), "") | {"settings": {}, "notice": "None."},
        scan_sha256="",
    )


if __name__ == "__main__":
    print(conformance_statement(), end="")
