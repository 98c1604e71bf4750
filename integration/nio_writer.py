"""Strips as an NIO imager leaves them, of a slide whose truth is known: to try readers on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from srh_clinic.errors import InputError
from srh_clinic.files import require_new_folder, whole_folder
from srh_clinic.integration.dicom_header import derived_uid
from srh_clinic.integration.strip_registration import moved
from srh_clinic.intensity import Counts, rounded_counts
from srh_clinic.slide import Slide

NioLayout = Literal["folders", "mosaic", "numbered"]
NIO_LAYOUTS = ("folders", "mosaic", "numbered")


@dataclass(frozen=True)
class Scan:
    """How the strips are scanned.

    Attributes
    ----------
    strip
        Width of a strip in px; the imager's is 1,000.
    overlap
        Pixels that neighbours share; the imager's are 100.
    shift
        How far CH3 lies below and right of CH2, in px.
    falloff
        By how much the brightness falls from the middle of a strip to its edges, as a share; 0 for a flat field.
    """

    strip: int = 1000
    overlap: int = 100
    shift: tuple[float, float] = (0.0, 0.0)
    falloff: float = 0.0

    @property
    def profile(self) -> NDArray[np.float64]:
        """Brightness of each column ``(strip,)``, of mean 1, a little brighter on the left."""
        place = np.linspace(-1, 1, self.strip)
        profile = 1 - self.falloff * place**2 - 0.3 * self.falloff * place
        return np.asarray(profile / profile.mean())


def write_nio(slide: Slide, out: Path, layout: NioLayout = "folders", scan: Scan | None = None) -> Path:
    """Write the strips of a slide into a new folder; the right end that makes no whole strip is left out.

    Parameters
    ----------
    slide
        What is scanned, in counts.
    out
        A folder that is not there, or empty.
    layout
        ``"folders"``: ``strips/CH2/IMG00006.dcm``; ``"mosaic"``: ``img<mosaic>_<strip>_<hash>.dcm``; ``"numbered"``:
        ``<case>_<specimen>_<number>.dcm``.
    scan
        How (default: the imager's strips, in register and flat).

    Raises
    ------
    InputError
        When the layout is unknown, the slide is narrower than a strip, or the folder cannot be written.
    """
    scan = scan or Scan()
    if layout not in NIO_LAYOUTS:
        raise InputError(f"the layout {layout!r}", "one of " + ", ".join(NIO_LAYOUTS))
    if not 0 <= scan.overlap < scan.strip or slide.shape[1] < scan.strip:
        found = f"a slide {slide.shape[1]} px wide, strips of {scan.strip} px that share {scan.overlap}"
        raise InputError(found, "a slide of one strip or more")
    require_new_folder(out)
    with whole_folder(out) as draft:
        for name, channel, counts in _strips(slide, scan, layout):
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            dcmwrite(path, _dataset(counts, slide, name, channel), enforce_file_format=True)
    return out


def _strips(slide: Slide, scan: Scan, layout: NioLayout) -> Iterator[tuple[str, int, Counts]]:
    """Name, channel and counts of each strip."""
    pitch = scan.strip - scan.overlap
    count = (slide.shape[1] - scan.overlap) // pitch
    counts = slide.read(0, 0, *slide.shape)
    # what lies below and right of where CH2 shows it: the content is moved the other way than a reader moves it back
    ch3 = moved(counts[1].astype(np.float64), -np.array([scan.shift])) if any(scan.shift) else counts[1].astype(np.float64)
    for at in range(count):
        columns = slice(at * pitch, at * pitch + scan.strip)
        for channel, whole in enumerate((counts[0].astype(np.float64), ch3)):
            yield _name(layout, at, channel), channel, rounded_counts(whole[:, columns] * scan.profile)


def _name(layout: NioLayout, at: int, channel: int) -> str:
    if layout == "folders":
        return f"strips/CH{2 + channel}/IMG{5 * (at + 1) + 1 + channel:05d}.dcm"
    number = 2 * at + 1 + channel
    return f"img1_{number}_{derived_uid('strip', str(number))[-8:]}.dcm" if layout == "mosaic" else f"NIO001_1_{number}.dcm"


def _dataset(counts: Counts, slide: Slide, name: str, channel: int) -> Dataset:
    identity = slide.identity
    series = (identity.patient_id, identity.specimen_id, str(slide.shape))
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = derived_uid("strip", name, *series)
    header.StudyInstanceUID, header.SeriesInstanceUID = derived_uid("study", *series), derived_uid("series", *series)
    header.PatientID, header.AccessionNumber = identity.patient_id, identity.specimen_id[:16]
    header.Modality, header.ConversionType, header.InstanceNumber = "OT", "SYN", channel + 1
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = counts.shape
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelSpacing = [f"{slide.um_per_px / 1000:.9g}"] * 2
    header.PixelData = np.ascontiguousarray(counts, dtype="<u2").tobytes()
    header["PixelData"].VR = "OW"
    return header
