"""Identifiers planted in more than 35 places of a slide's header, and the search for them in what was written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from srh_clinic.integration.optical_path import coded

PLANTED: dict[str, str] = {}
"""Every planted identifier by where it stands."""


def plant(path: Path, instance: str = "9") -> None:
    """Write identifiers into a slide's header, sequences and private elements as well, and note each in :data:`PLANTED`."""
    header = pydicom.dcmread(path)
    planted: dict[str, str] = {}

    def put(item: Dataset, keyword: str, value: str, within: str = "") -> None:
        setattr(item, keyword, value)
        planted[f"{within}{keyword}"] = value

    for keyword, value in {
        "PatientName": "Zimmerqvist^Ottoline^Maud",
        "PatientID": "MRN-7781-Q",
        "PatientBirthDate": "19470312",
        "OtherPatientNames": "Ottilie^Formerly",
        "PatientComments": "Daughter of the harbourmaster",
        "PatientAddress": "Kastanienallee 81",
        "PatientTelephoneNumbers": "+49 555 0199",
        "EthnicGroup": "GroupQuux",
        "Occupation": "Lighthouseman",
        "AccessionNumber": "ACC99812",
        "StudyID": "STID-4471",
        "StudyDescription": "Craniotomy of the harbour case",
        "StudyDate": "20190723",
        "StudyTime": "143159",
        "AcquisitionDateTime": "20190724101112",
        "ContentDate": "20190725",
        "SeriesDescription": "Left frontal, theatre nine",
        "ReferringPhysicianName": "Brandstaetter^Ignaz",
        "OperatorsName": "Quillfeather^Ada",
        "InstitutionName": "Saint Elsewhere Clinic",
        "InstitutionAddress": "Harbour Road 12",
        "StationName": "SCANSTATION7",
        "DeviceSerialNumber": "SN-556677-X",
        "ProtocolName": "ProtocolOfWard9",
        "ImageComments": "seen with Dr Quuxbury",
        "LabelText": "LBL S19-4432",
        "BarcodeValue": "BARCODE0098877",
        "ContainerIdentifier": "CONT-S19-4432-A",
        "StudyInstanceUID": "1.2.276.0.999.1.1",
        "SeriesInstanceUID": "1.2.276.0.999.1.2",
        "FrameOfReferenceUID": "1.2.276.0.999.1.3",
    }.items():
        put(header, keyword, value)
    header.SOPInstanceUID = UID(f"1.2.276.0.999.{instance}.{path.stem[3:] or 1}")
    planted["SOPInstanceUID"] = header.SOPInstanceUID
    (specimen,) = header.SpecimenDescriptionSequence
    put(specimen, "SpecimenIdentifier", "SPEC-4432-1", "Specimen")
    put(specimen, "SpecimenUID", "1.2.276.0.999.1.4", "Specimen")
    put(specimen, "SpecimenShortDescription", "Piece of Mrs Zimm", "Specimen")
    put(specimen, "SpecimenDetailedDescription", "From her left frontal lobe", "Specimen")
    specimen.PrimaryAnatomicStructureSequence = [coded("12738006", "SCT", "Brain of Ottoline")]
    planted["CodeMeaning"] = "Brain of Ottoline"
    (path_item,) = header.OpticalPathSequence
    put(path_item, "OpticalPathDescription", path_item.OpticalPathDescription + " tuned by Quillfeather", "OpticalPath")
    for name, item in (("", header), ("Specimen", specimen), ("OpticalPath", path_item)):
        block = item.private_block(0x0099, f"VENDOR{name}BLOCK", create=True)
        value = f"PRIVATE{name}VALUE"
        block.add_new(1, "LO", value)
        inner = Dataset()
        inner.private_block(0x0099, "INNERBLOCK", create=True).add_new(2, "UN", b"INNERPRIVATE" + name.encode())
        block.add_new(3, "SQ", [inner])
        planted[f"{name}private"] = value
        planted[f"{name}nested private"] = f"INNERPRIVATE{name}"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.SourceApplicationEntityTitle = "AETOFWARD9"
    planted["SourceApplicationEntityTitle"] = "AETOFWARD9"
    header.save_as(path)
    PLANTED.update(planted)


def leaked(files: Iterable[Path]) -> list[str]:
    """The planted identifiers, and the words that they are made of, that are in a byte of some files."""
    content = b"".join(file.read_bytes() for file in files).lower()
    values = {place: value for place, value in PLANTED.items() if place != "OpticalPathOpticalPathDescription"}
    pieces = {piece for value in values.values() for piece in (value, *value.replace("^", " ").split(" ")) if len(piece) > 4}
    pieces |= {"Quillfeather", PLANTED["OpticalPathOpticalPathDescription"]}
    # Words that are in our name, or that our own objects say of every slide.
    pieces -= {"Clinic", "Brain"}
    return sorted(piece for piece in pieces if piece.lower().encode() in content)
