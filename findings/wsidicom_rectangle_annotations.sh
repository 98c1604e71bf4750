#!/usr/bin/env bash
# wsidicom 0.36.1: a slide whose folder also holds an annotation group of graphic type RECTANGLE cannot be opened at all.
#
# One would expect: RECTANGLE is one of the five Graphic Types of Microscopy Bulk Simple Annotations (DICOM PS3.3 C.37.1.2),
# highdicom writes it, and a folder with a slide and its annotations opens whatever groups they hold; a group that a reader does not
# know is left out or reported when somebody asks for it.
#
# What happens: WsiDicom.open(FOLDER) raises NotImplementedError while it sorts the folder's files, so that neither the annotations nor
# the slide can be read. With the same four corners as POLYGON it opens. Patches and cells of a grid are rectangles; until this changes,
# write them as POLYGON, which every reader that we know draws.
#
# Versions: wsidicom 0.36.1, highdicom 0.28.2, pydicom 3.0.2, numpy 2.4.6, Python 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check wsidicom==0.36.1 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.ann import AnnotationGroup, MicroscopyBulkSimpleAnnotations
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid
from wsidicom import WsiDicom

print(*(f"{name} {version(name)}" for name in ("wsidicom", "highdicom", "pydicom", "numpy")))
SIZE = 256


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def slide() -> Dataset:
    """A slide of one tile: grey, 0.5 um a pixel."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = generate_uid(), generate_uid(), generate_uid()
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Phantom^", "1", "", "O"
    made.StudyID, made.AccessionNumber, made.StudyDate, made.StudyTime, made.ReferringPhysicianName = "1", "", "", "", ""
    made.SeriesNumber, made.InstanceNumber, made.Modality = 1, 1, "SM"
    made.Manufacturer, made.ManufacturerModelName, made.DeviceSerialNumber, made.SoftwareVersions = "none", "none", "1", "1"
    made.ContentDate, made.ContentTime, made.AcquisitionDateTime = "20260101", "000000", "20260101000000"
    made.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = made.TotalPixelMatrixRows = made.TotalPixelMatrixColumns = SIZE
    made.TotalPixelMatrixFocalPlanes, made.NumberOfFrames = 1, 1
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PresentationLUTShape, made.RescaleIntercept, made.RescaleSlope = "IDENTITY", 0, 1
    made.ImagedVolumeWidth = made.ImagedVolumeHeight = SIZE * 0.0005
    made.ImagedVolumeDepth = 1.0
    made.DimensionOrganizationType = "TILED_FULL"
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID=generate_uid())]
    made.TotalPixelMatrixOriginSequence = [item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)]
    made.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    made.SpecimenLabelInImage, made.BurnedInAnnotation, made.FocusMethod, made.ExtendedDepthOfField = "NO", "NO", "AUTO", "NO"
    made.LossyImageCompression, made.VolumetricProperties = "00", "VOLUME"
    made.ContainerIdentifier, made.IssuerOfTheContainerIdentifierSequence, made.ContainerComponentSequence = "1", [], []
    made.ContainerTypeCodeSequence = [code("433466003", "SCT", "Microscope slide")]
    made.AcquisitionContextSequence = []
    made.SpecimenDescriptionSequence = [
        item(
            SpecimenIdentifier="1",
            SpecimenUID=generate_uid(),
            IssuerOfTheSpecimenIdentifierSequence=[],
            SpecimenPreparationSequence=[],
        )
    ]
    made.OpticalPathSequence = [
        item(
            OpticalPathIdentifier="1",
            IlluminationTypeCodeSequence=[code("111744", "DCM", "Brightfield illumination")],
            IlluminationColorCodeSequence=[code("371251000", "SCT", "White color")],
        )
    ]
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.0005, 0.0005], SliceThickness=1.0)],
            OpticalPathIdentificationSequence=[item(OpticalPathIdentifier="1")],
            WholeSlideMicroscopyImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        )
    ]
    made.PixelData = np.zeros((SIZE, SIZE), dtype=np.uint8).tobytes()
    return made


def annotations(source: Dataset, graphic_type: str) -> MicroscopyBulkSimpleAnnotations:
    corners = np.array([[32.0, 32.0], [64.0, 32.0], [64.0, 64.0], [32.0, 64.0]])
    group = AnnotationGroup(
        number=1,
        uid=generate_uid(),
        label="patch",
        annotated_property_category=codes.SCT.AnatomicalStructure,
        annotated_property_type=codes.SCT.Brain,
        graphic_type=graphic_type,
        graphic_data=[corners],
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="grid", family=codes.DCM.ArtificialIntelligence, version="1"
        ),
    )
    return MicroscopyBulkSimpleAnnotations(
        source_images=[source],
        annotation_coordinate_type="2D",
        annotation_groups=[group],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )


outcomes = {}
for graphic_type in ("POLYGON", "RECTANGLE"):
    folder = Path(sys.argv[1]) / graphic_type
    folder.mkdir()
    image = slide()
    image.save_as(folder / "slide.dcm", enforce_file_format=True)
    annotations(image, graphic_type).save_as(folder / "annotations.dcm")
    try:
        with WsiDicom.open(folder) as opened:
            outcomes[graphic_type] = f"opened, {opened.size.width} x {opened.size.height} px"
    except NotImplementedError as error:
        outcomes[graphic_type] = f"NotImplementedError{error.args}"
    print(graphic_type, outcomes[graphic_type])

assert outcomes["POLYGON"].startswith("opened"), "the behaviour has changed for POLYGON"
assert outcomes["RECTANGLE"].startswith("NotImplementedError"), "the behaviour has changed: RECTANGLE opens"
print("As described: one group of rectangles keeps the slide beside it from being read.")
PYTHON
