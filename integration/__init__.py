"""Files in and out: DICOM whole slide images and TIFF stacks become slides, slides become DICOM."""

from srh_clinic.integration.converter import convert
from srh_clinic.integration.dicom_reader import DicomSlide
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.reader import read_slide
from srh_clinic.integration.targets import check_place, require_free_target

__all__ = ["DicomSlide", "check_place", "convert", "read_slide", "require_free_target", "write_wsi"]
