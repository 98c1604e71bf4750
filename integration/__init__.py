"""Files in and out: DICOM whole slide images and TIFF stacks become slides, slides become DICOM."""

from srh_clinic.integration.converter import convert
from srh_clinic.integration.dicom_reader import DicomSlide
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.earlier import written_before
from srh_clinic.integration.identifiers import identifying_words
from srh_clinic.integration.pair import cases_in
from srh_clinic.integration.reader import read_slide
from srh_clinic.integration.targets import require_free_target
from srh_clinic.integration.z_stack import FocalPlane, read_z_stack, write_z_stack

__all__ = [
    "DicomSlide",
    "FocalPlane",
    "cases_in",
    "convert",
    "identifying_words",
    "read_slide",
    "read_z_stack",
    "require_free_target",
    "write_wsi",
    "write_z_stack",
    "written_before",
]
