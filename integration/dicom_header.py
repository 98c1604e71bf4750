"""The attributes of the VL Whole Slide Microscopy images that we write (PS3.3 A.32.8), original and derived."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage
from pydicom.valuerep import DSfloat

from srh_clinic import __version__
from srh_clinic.errors import InputError
from srh_clinic.integration.channels import channel_of_words
from srh_clinic.integration.dicom_pixel_size import edges_um
from srh_clinic.integration.dicom_reader import NOTES_PREFIX
from srh_clinic.integration.optical_path import RESTORED, coded, optical_path, statement_of
from srh_clinic.integration.targets import MANUFACTURER, derivation
from srh_clinic.intensity import RAMAN_SHIFTS
from srh_clinic.slide import Identity, Slide

_UID_NAMESPACE = uuid.UUID("0d1b6a5e-6f0c-5a3e-9f0e-51e2a7c4d930")

_SLICE_MM = 0.001
"""Nominal thickness of the optical section; SRH images a plane of fresh tissue."""

_MAX_ID = 64  # characters of an LO value
_MAX_IS = 2**31 - 1  # largest IS value
_ACQUISITION = "109101"  # DCM code of the equipment that acquired an image

# what a derived image shares with its source whatever it says: patient and study
PATIENT_AND_STUDY = """
    TimezoneOffsetFromUTC
    PatientName PatientID IssuerOfPatientID OtherPatientIDsSequence PatientBirthDate PatientSex PatientAge
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber IssuerOfAccessionNumberSequence
    ReferringPhysicianName
""".split()  # noqa: SIM905  a line a module reads better than a line a keyword

# and where it says something: container and specimen, acquisition and place
_SPECIMEN_AND_PLACE = """
    ContainerIdentifier IssuerOfTheContainerIdentifierSequence ContainerTypeCodeSequence ContainerComponentSequence
    SpecimenDescriptionSequence
    AcquisitionContextSequence AcquisitionDateTime FocusMethod ExtendedDepthOfField BurnedInAnnotation SpecimenLabelInImage
    FrameOfReferenceUID PositionReferenceIndicator TotalPixelMatrixOriginSequence ImageOrientationSlide
""".split()  # noqa: SIM905  as above

FROM_SOURCE = (*PATIENT_AND_STUDY, *_SPECIMEN_AND_PLACE)
"""What a derived image repeats of its source."""

_EQUIPMENT = """
    Manufacturer InstitutionName StationName ManufacturerModelName DeviceSerialNumber SoftwareVersions
    DateOfLastCalibration TimeOfLastCalibration
""".split()  # noqa: SIM905  as above


def derived_uid(*entropy: str) -> UID:
    """A UID that is a function of ``entropy`` alone (PS3.5 B.2: ``2.25.`` and a name-based UUID)."""
    return UID(f"2.25.{derived_uuid(*entropy).int}")


def derived_uuid(*entropy: str) -> uuid.UUID:
    """A name-based UUID that is a function of ``entropy`` alone."""
    return uuid.uuid5(_UID_NAMESPACE, json.dumps(entropy))


def content_of(slide: Slide, digest: str, one_file: bool) -> str:
    """Everything that an image of ``slide`` tells, so that images that differ never share a UID.

    ``digest`` is that of its frames; ``one_file`` says whether both optical paths share an instance.
    """
    identity, edges = slide.identity, edges_um(slide)
    size = edges[0] if len(set(edges)) == 1 else list(edges)
    pixels = [digest, [int(edge) for edge in slide.shape], size, list(slide.notes)]
    return json.dumps([*pixels, identity.patient_id, identity.specimen_id, one_file])


def image_header(
    slide: Slide,
    channels: Sequence[int],
    frame_shape: tuple[int, int],
    *,
    number: int,
    content: str,
    created: datetime,
) -> Dataset:
    """Header of an original image without its pixel data.

    Parameters
    ----------
    slide
        What the image shows.
    channels
        The channels (0 CH2, 1 CH3) that this instance holds, in the order of its frames.
    frame_shape
        Rows and columns of a tile.
    number
        Instance Number.
    content
        What makes the series unique, from :func:`content_of`: its UIDs follow from it.
    created
        Time of acquisition and of creation.
    """
    header = Dataset()
    _set_identity(header, slide.identity, content, created)
    _set_image(header, slide, frame_shape, len(channels))
    header.SOPInstanceUID = derived_uid("instance", content, *map(str, channels))
    header.InstanceNumber = number
    header.OpticalPathSequence = [optical_path(channel) for channel in channels]
    header.NumberOfOpticalPaths = len(channels)
    header.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    header.SharedFunctionalGroupsSequence = [_shared_groups(header.ImageType, edges_um(slide))]
    if slide.notes:
        header.ImageComments = NOTES_PREFIX + "; ".join(slide.notes)
    said = slide.identity.attributes
    for keyword, value in said.get("deidentified", {}).items():
        setattr(header, keyword, copy.deepcopy(value))
    if said.get("lossy") is not None:
        _keep_lossy(header, [said["lossy"]])
    return header


def make_derived(
    header: Dataset,
    source: Identity,
    channels: Sequence[int],
    provenance: Mapping[str, Any],
    *,
    content: str,
    resampled: bool,
    created: datetime,
) -> None:
    """Turn an original header into that of an image restored from ``source``: same study, new series, its origin stated.

    UIDs follow from the source's, the provenance and ``content``, so that a repeated run makes the same objects.

    Raises
    ------
    InputError
        When the source's headers hold no optical path for a channel.
    """
    origins: tuple[Dataset, ...] = source.attributes.get("headers", ())
    run = json.dumps(provenance, sort_keys=True, default=str)
    entropy = [*(str(origin.SOPInstanceUID) for origin in origins), run, content]
    header.SOPInstanceUID = derived_uid("derived instance", *entropy, *map(str, channels))
    header.SeriesInstanceUID = derived_uid("derived series", *entropy)
    header.SeriesDescription = "SRH restored by srh-clinic, research use only"
    header.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if resampled else "NONE"]
    header.SharedFunctionalGroupsSequence[0].WholeSlideMicroscopyImageFrameTypeSequence[0].FrameType = header.ImageType
    header.DerivationDescription = derivation(provenance)
    header.DerivationCodeSequence = [coded(*RESTORED)]
    header.ContributingEquipmentSequence = [_processing_equipment(provenance, created)]
    if not origins:
        return
    first = origins[0]
    for keyword in FROM_SOURCE:
        if keyword in first and (keyword in PATIENT_AND_STUDY or first[keyword].value not in (None, "", [])):
            header[keyword] = copy.deepcopy(first[keyword])
    if "SpecificCharacterSet" in first:
        header.SpecificCharacterSet = first.SpecificCharacterSet
    else:
        del header.SpecificCharacterSet
    _leave_frame_of_another_size(header, source, resampled)
    header.SeriesNumber = min(int(first.get("SeriesNumber") or 0) + 1000, _MAX_IS)
    header.OpticalPathSequence = _paths_of(source, channels)
    _keep_lossy(header, origins)
    header.SourceImageSequence = [_reference(origin, purpose=True) for origin in origins]
    header.ReferencedSeriesSequence = _referenced_series(origins)
    header.ContributingEquipmentSequence = [*_equipment_of(first), *header.ContributingEquipmentSequence]
    # Nobody but its maker knows what a private element says, or of whom; those within sequences go as well.
    header.remove_private_tags()


def _leave_frame_of_another_size(header: Dataset, source: Identity, resampled: bool) -> None:
    """Give an image of the scan's pixels a frame of reference of its own where a caller stated another size of them.

    In the scan's own frame its pixels would lie elsewhere than those of the scan.
    """
    stated = source.attributes.get("edges_um")
    told = [1000 * float(mm) for mm in header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing]
    if stated and not resampled and not np.allclose(told, stated, rtol=1e-6):
        header.FrameOfReferenceUID = derived_uid("frame of reference", str(header.FrameOfReferenceUID), *map(repr, told))


def make_level(header: Dataset, factor: int, shape: tuple[int, int]) -> None:
    """Turn the header of an image into that of one level of its pyramid, whose pixels are ``factor`` of its own squared.

    All levels show the same field: the centre of a level's first pixel lies in the middle of those that it averages.
    """
    header.PyramidUID = derived_uid("pyramid", str(header.SeriesInstanceUID))
    if factor == 1:
        return
    header.SOPInstanceUID = derived_uid("level", str(header.SOPInstanceUID), str(factor))
    header.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns = shape
    across, down = (-(-edge // step) for edge, step in zip(shape, (header.Rows, header.Columns), strict=True))
    header.NumberOfFrames = int(header.NumberOfOpticalPaths) * across * down
    (groups,) = header.SharedFunctionalGroupsSequence
    (measures,) = groups.PixelMeasuresSequence
    finest = [float(spacing) for spacing in measures.PixelSpacing]
    measures.PixelSpacing = [DSfloat(spacing * factor, auto_format=True) for spacing in finest]
    groups.WholeSlideMicroscopyImageFrameTypeSequence[0].FrameType = header.ImageType
    place_origin(header, (factor - 1) / 2, finest)


def place_origin(header: Dataset, pixels: float, spacing: Sequence[float]) -> None:
    """Move the origin of a matrix by so many pixels of ``spacing`` (mm, row then column distance) down and across it."""
    (origin,) = header.TotalPixelMatrixOriginSequence
    rows, columns = np.reshape([float(cosine) for cosine in header.ImageOrientationSlide], (2, 3))
    moved = pixels * (spacing[1] * rows + spacing[0] * columns)
    for axis, by in zip("XY", moved, strict=False):
        keyword = f"{axis}OffsetInSlideCoordinateSystem"
        setattr(origin, keyword, DSfloat(float(origin.get(keyword) or 0) + float(by), auto_format=True))


def _set_identity(header: Dataset, identity: Identity, content: str, created: datetime) -> None:
    """Patient, study, series, frame of reference, equipment, specimen and container."""
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    header.PatientName, header.PatientID = "", identity.patient_id
    header.PatientBirthDate, header.PatientSex = "", ""
    header.StudyInstanceUID = identity.study_uid or derived_uid("study", content)
    header.StudyDate, header.StudyTime, header.StudyID = date, time, "1"
    header.ReferringPhysicianName, header.AccessionNumber = "", ""
    header.SeriesInstanceUID = derived_uid("series", content)
    header.SeriesNumber, header.Modality = 1, "SM"
    header.FrameOfReferenceUID = derived_uid("frame of reference", content)
    header.PositionReferenceIndicator = "SLIDE_CORNER"
    header.Manufacturer, header.ManufacturerModelName = MANUFACTURER, "srh-clinic"
    header.DeviceSerialNumber, header.SoftwareVersions = "none", __version__
    header.AcquisitionDateTime = date + time
    header.ContentDate, header.ContentTime = date, time
    header.AcquisitionContextSequence = []
    specimen_id = identity.specimen_id or "unknown"
    header.ContainerIdentifier = specimen_id
    header.IssuerOfTheContainerIdentifierSequence = []
    header.ContainerTypeCodeSequence = [coded("433466003", "SCT", "Microscope slide")]
    specimen = Dataset()
    specimen.SpecimenIdentifier = specimen_id
    specimen.SpecimenUID = derived_uid("specimen", content)
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    specimen.SpecimenPreparationSequence = []
    specimen.PrimaryAnatomicStructureSequence = [coded("12738006", "SCT", "Brain")]
    header.SpecimenDescriptionSequence = [specimen]


def _set_image(header: Dataset, slide: Slide, frame_shape: tuple[int, int], n_paths: int) -> None:
    """Whole slide image, pixel description and TILED_FULL dimension organisation (PS3.3 C.8.12.4, C.7.6.17)."""
    (height, width), (down, across) = slide.shape, edges_um(slide)
    rows, columns = frame_shape
    header.ImagedVolumeWidth = width * across / 1000
    header.ImagedVolumeHeight = height * down / 1000
    header.ImagedVolumeDepth = _SLICE_MM * 1000
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = width, height
    header.TotalPixelMatrixFocalPlanes = 1
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 0.0, 0.0
    header.TotalPixelMatrixOriginSequence = [origin]
    header.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    header.Rows, header.Columns = rows, columns
    header.NumberOfFrames = n_paths * -(-height // rows) * -(-width // columns)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PresentationLUTShape, header.RescaleIntercept, header.RescaleSlope = "IDENTITY", 0, 1
    header.LossyImageCompression, header.VolumetricProperties = "00", "VOLUME"
    header.SpecimenLabelInImage, header.BurnedInAnnotation = "NO", "NO"
    header.FocusMethod, header.ExtendedDepthOfField = "AUTO", "NO"
    header.DimensionOrganizationType = "TILED_FULL"
    organization = Dataset()
    organization.DimensionOrganizationUID = derived_uid("dimensions", str(header.SeriesInstanceUID))
    header.DimensionOrganizationSequence = [organization]


def _shared_groups(image_type: Sequence[str], edges: tuple[float, float]) -> Dataset:
    measures = Dataset()
    measures.PixelSpacing = [DSfloat(um / 1000, auto_format=True) for um in edges]
    measures.SliceThickness = _SLICE_MM
    frame_type = Dataset()
    frame_type.FrameType = image_type
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    groups.WholeSlideMicroscopyImageFrameTypeSequence = [frame_type]
    return groups


def _processing_equipment(provenance: Mapping[str, Any], created: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded("109102", "DCM", "Processing Equipment")]
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, "srh-clinic"
    item.SoftwareVersions = str(provenance.get("version", __version__))
    item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = (
        f"Restoration; bundle {provenance.get('bundle', 'none')}, weights sha256 {provenance.get('weights_sha256', 'none')}"
    )
    return item


def _equipment_of(source: Dataset) -> list[Dataset]:
    """What equipment made the source: that which it names, and its own as that of the acquisition where it names none."""
    earlier: list[Dataset] = copy.deepcopy(list(source.get("ContributingEquipmentSequence") or []))
    purposes = [code.get("CodeValue") for item in earlier for code in item.get("PurposeOfReferenceCodeSequence") or []]
    return earlier if _ACQUISITION in purposes else [_acquisition_equipment(source), *earlier]


def _acquisition_equipment(source: Dataset) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(_ACQUISITION, "DCM", "Acquisition Equipment")]
    item.Manufacturer = "unknown"
    for keyword in _EQUIPMENT:
        if keyword in source:
            item[keyword] = copy.deepcopy(source[keyword])
    return item


def _referenced_series(origins: Sequence[Dataset]) -> list[Dataset]:
    """The instances of a source by their series; each Raman shift may have one of its own."""
    by_series: dict[str, list[Dataset]] = {}
    for origin in origins:
        by_series.setdefault(str(origin.SeriesInstanceUID), []).append(_reference(origin, purpose=False))
    referenced = []
    for uid, instances in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, instances
        referenced.append(item)
    return referenced


def _reference(origin: Dataset, *, purpose: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = origin.SOPClassUID, origin.SOPInstanceUID
    if purpose:
        item.PurposeOfReferenceCodeSequence = [coded("121322", "DCM", "Source image for image processing operation")]
    return item


def _paths_of(source: Identity, channels: Sequence[int]) -> list[Dataset]:
    """The source's own descriptions of ``channels``; each instance of it may use one identifier, a single file may not.

    A path that does not name its Raman shift in words, or another one, as a caller had to say, is described anew.
    """
    items: tuple[Dataset, ...] = source.attributes.get("optical_paths", ())
    if len(items) != len(RAMAN_SHIFTS):
        raise InputError("a source without an optical path for each channel", "the headers of both Raman shifts")
    paths = []
    for channel in channels:
        named = channel_of_words(statement_of(items[channel]).words) == channel
        paths.append(copy.deepcopy(items[channel]) if named else optical_path(channel))
    if len({str(path.get("OpticalPathIdentifier")) for path in paths}) < len(paths):
        for path, channel in zip(paths, channels, strict=True):
            path.OpticalPathIdentifier = f"SRS{RAMAN_SHIFTS[channel]}"
    return paths


def _keep_lossy(header: Dataset, origins: Sequence[Dataset]) -> None:
    """What was lost by compression stays lost, in each channel restored from both (PS3.3 C.7.6.1.1.5)."""
    for origin in origins:
        if origin.get("LossyImageCompression") == "01":
            for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
                if keyword in origin:
                    header[keyword] = copy.deepcopy(origin[keyword])
            return


def check_identifiers(header: Dataset) -> None:
    """Refuse identifiers that are longer than DICOM allows; a reader would cut or refuse them."""
    specimens = header.get("SpecimenDescriptionSequence") or []
    named = [(header, "PatientID"), (header, "ContainerIdentifier"), *((item, "SpecimenIdentifier") for item in specimens)]
    for item, keyword in named:
        length = len(str(item.get(keyword) or ""))
        if length > _MAX_ID:
            raise InputError(f"a {keyword} of {length} characters", f"at most {_MAX_ID} characters")
