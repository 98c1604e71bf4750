"""A slide without whom it shows: rebuilt from its pixels and a few numbers, and searched for what its source says.

Nothing of a source's header is copied and then cleaned. What is written is what our writers make of pixels, the size of a
pixel, a pseudonym and a date; every text of the source, within sequences and private elements too, is then looked for in the
bytes.
"""

from __future__ import annotations

import hmac
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, claimed, draft_of, telling_of
from srh_clinic.integration.dicom_header import derived_uid
from srh_clinic.integration.dicom_writer import FRAME_PX, pyramid_levels
from srh_clinic.integration.optical_path import coded
from srh_clinic.integration.targets import source_files
from srh_clinic.intensity import Counts
from srh_clinic.notebook import ShownSlide
from srh_clinic.resampling import level_shape
from srh_clinic.slide import Identity, Slide, require_unchanged, sparing

NO_DATE = datetime(2000, 1, 1)
"""Stands where DICOM asks for a date and none is told."""

LEAST_SECRET = 16
"""Bytes of the shortest secret."""

MOST_DAYS = 36_500
"""Most days that dates are shifted by."""

SHORTEST, SHORTEST_IN_PIXELS = 4, 8
"""Letters of the shortest word that is looked for, and of the shortest in compressed pixels, which hold others by chance."""

_TEXTS = {"AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT"}
_PRIVATE_TEXTS = {"CS", "OB"}  # of the standard's own these hold terms and pixels
_SAFE_NOTES = re.compile(r"stretched from a full scale of \d+ \(x[\d.]+\)|lossy compression|focal plane \d+ of \d+")
_SAFE_ORDER = re.compile(r"CH2 is channel \d+, CH3 is channel \d+")
_LOSSY_METHODS = {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_2", "ISO_15444_15"}
_PIXELS = b"\xe0\x7f\x10\x00"  # the tag of Pixel Data; behind it there is no text
_LEFT_OUT = "a note of the reading was left out, since it may name somebody"


@dataclass(frozen=True)
class Pseudonyms:
    """What stands for the identifiers of one cohort: the same secret gives the same pseudonyms and UIDs, and another others.

    ``days`` is what dates are shifted by; None leaves dates out. Raises ``InputError`` when the secret is too short to be one,
    or the shift is none.
    """

    secret: bytes
    days: int | None = None

    def __post_init__(self) -> None:
        if len(self.secret) < LEAST_SECRET:
            raise InputError(f"a secret of {len(self.secret)} bytes", f"at least {LEAST_SECRET}")
        if self.days is not None and not 0 < abs(self.days) <= MOST_DAYS:
            raise InputError(f"dates shifted by {self.days} days", f"1 to {MOST_DAYS} days, either way")

    @classmethod
    def fresh(cls, days: int | None = None) -> Pseudonyms:
        """With a secret that nobody knows and that is gone afterwards: nothing links what is made with it to anything else."""
        return cls(secrets.token_bytes(32), days)

    def name(self, kind: str, identifier: str) -> str:
        """A pseudonym of 12 letters; empty for an empty identifier."""
        return self._keyed(kind, identifier)[:12].upper() if identifier else ""

    def uid(self, kind: str, uid: str) -> str:
        """A UID in the place of another; empty for none."""
        return str(derived_uid("deidentified", self._keyed(kind, uid))) if uid else ""

    def _keyed(self, kind: str, identifier: str) -> str:
        return hmac.digest(self.secret, f"{kind}\0{identifier}".encode(), "sha256").hex()


@dataclass(frozen=True, eq=False)
class NamelessSlide(ShownSlide):
    """A slide whose identity and notes are others than its source's; its pixels are the source's own."""

    source: Slide
    identity: Identity
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def um_per_px(self) -> float:
        return self.source.um_per_px

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that its pixels come from, which are not written over; none of their names is told."""
        found: tuple[Path, ...] = getattr(self.source, "files", ())
        return found

    @property
    def spared(self) -> NamelessSlide:
        """The same of a source that is read in little memory, see :func:`~srh_clinic.slide.sparing`."""
        return replace(self, source=sparing(self.source))

    def check_unchanged(self) -> None:
        """Raise ``InputError`` when a file of the source is no longer what it was."""
        require_unchanged(self.source)

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        return self.source.read(y, x, height, width)


@dataclass(frozen=True)
class _OfNobody(ShownSlide):
    """A dark slide of nobody: what is said of it is said of every slide."""

    um_per_px: float
    shape: tuple[int, int] = (64, 64)
    identity: Identity = field(default_factory=Identity)
    notes: tuple[str, ...] = ()

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        return np.zeros((2, height, width), dtype=np.uint16)


def nameless(slide: Slide, pseudonyms: Pseudonyms | None = None) -> NamelessSlide:
    """A slide without identity, or with that of ``pseudonyms``; what is read of it from then on tells nobody's name.

    Of the notes of the reading and the order of channels only sentences of known words and numbers stay.

    Raises
    ------
    InputError
        When the source says that its pixels name the patient.
    """
    said, headers = slide.identity, _headers(slide)
    for header in headers:
        for keyword in ("BurnedInAnnotation", "SpecimenLabelInImage"):
            if str(header.get(keyword) or "") == "YES":
                raise InputError(f"{keyword} YES: its pixels may name the patient", "an image without", said.source or None)
    notes = tuple(note for note in slide.notes if _SAFE_NOTES.fullmatch(note))
    order = _SAFE_ORDER.match(said.channel_order)
    identity = Identity(
        channel_order=order[0] if order else "",
        content=said.content,
        attributes={
            "deidentified": _statement(pseudonyms),
            "lossy": _lossy(headers),
            "edges_um": said.attributes.get("edges_um"),
        },
    )
    if pseudonyms is not None:
        patient = said.patient_id or said.study_uid or said.source
        if issuer := next((str(header.get("IssuerOfPatientID") or "") for header in headers), ""):
            patient = f"{issuer}\0{patient}"  # another hospital gives the same numbers to other patients
        specimen = said.specimen_id or said.series_uid or said.source
        identity = Identity(
            patient_id=pseudonyms.name("patient", patient),
            specimen_id=pseudonyms.name("specimen", f"{patient}\0{specimen}" if specimen else ""),
            study_uid=pseudonyms.uid("study", said.study_uid),
            channel_order=identity.channel_order,
            content=said.content,
            attributes=identity.attributes,
        )
    return NamelessSlide(slide, identity, (*notes, *((_LEFT_OUT,) if len(notes) < len(slide.notes) else ())))


def _anybodys(told: Slide) -> NamelessSlide:
    """A dark slide of nobody of which the same is said, but no pseudonym: its notes, its statement, what compression has lost.

    A source that we have written says such sentences too, and they are no trace of it.
    """
    nobody = replace(told.identity, patient_id="", specimen_id="", study_uid="")
    return NamelessSlide(_OfNobody(told.um_per_px), nobody, told.notes)


def _sizes(shape: tuple[int, int]) -> set[str]:
    """The numbers of rows, columns and tiles that formats tell of an image and of the levels of its pyramid, as text."""
    shapes = [level_shape(shape, factor) for factor in (1, *pyramid_levels(shape))]
    tiles = [-(-height // FRAME_PX) * -(-width // FRAME_PX) for height, width in shapes]
    return {str(number) for number in (*(edge for level in shapes for edge in level), *tiles, *(2 * each for each in tiles))}


def date_of(slide: Slide, pseudonyms: Pseudonyms) -> datetime:
    """The day of a slide's acquisition, shifted; :data:`NO_DATE` where dates are left out or none is stated."""
    if pseudonyms.days is None:
        return NO_DATE
    for header in _headers(slide):
        if str(header.get("LongitudinalTemporalInformationModified") or "") == "REMOVED":
            continue  # what stands there is no date
        for keyword in ("AcquisitionDateTime", "AcquisitionDate", "StudyDate", "ContentDate"):
            try:
                day = datetime.strptime(str(header.get(keyword) or "")[:8], "%Y%m%d")
                return day + timedelta(days=pseudonyms.days)
            except (ValueError, OverflowError):
                continue
    return NO_DATE


def export_deidentified(
    slide: Slide, out: Path, write: Callable[[Slide, Path, datetime], object], pseudonyms: Pseudonyms
) -> Path:
    """Write a nameless slide to ``out``, which must not be there, once no text of its source is found in what was written.

    Parameters
    ----------
    write
        Writes a slide to a place, with a time stamped into it.

    Raises
    ------
    InputError
        When ``out`` is taken or cannot be written, when the pixels may name the patient, or when a text of the source is
        found: then nothing is written.
    """
    if out.exists():
        raise InputError("a name that is taken", "another one", out)
    check_place(out, folder=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    place = draft_of(out.absolute())
    anyone, draft = place / "anyone" / out.name, place / out.name
    with claimed(out), ExitStack() as afterwards, telling_of(out, place):
        afterwards.callback(shutil.rmtree, place, ignore_errors=True)
        anyone.parent.mkdir(parents=True)
        told = nameless(slide, pseudonyms)
        write(_anybodys(told), anyone, NO_DATE)
        words = words_of(slide)
        # What each slide of ours says tells nothing of this one, nor do the numbers of its pixels.
        words -= found_in(_files(anyone), words) | _sizes(slide.shape)
        write(told, draft, date_of(slide, pseudonyms))
        if found_in(_files(draft), words):
            raise InputError("a text of the source in what would be written", "an export without; nothing was written")
        draft.replace(out)
    return out


def words_of(slide: Slide) -> set[str]:
    """Every text that a slide's source says of anything, of :data:`SHORTEST` letters or more.

    Values of all elements, within sequences and private ones too, names by their components, and the names of its files and
    folder; not the UIDs of the standard, which name a class or a syntax and nobody.
    """
    said, path = slide.identity, Path(slide.identity.source)
    words = {said.patient_id, said.specimen_id, said.study_uid, said.series_uid, *said.sop_uids}
    words |= {path.parent.name, *(file.stem for file in (path, *source_files(slide)))}
    for header in _headers(slide):
        words |= set(_texts(header))
    return {word for word in words if len(word) >= SHORTEST and not word.startswith("1.2.840.10008.")}


def found_in(files: Iterable[Path], words: Iterable[str]) -> set[str]:
    """Those of ``words`` that are in a file, in any case of letters and three encodings.

    Short words are looked for where a file holds text, long ones in all of it: compressed pixels hold short ones by chance.
    """
    found = set()
    for file in files:
        content = file.read_bytes().lower()
        text = _text_of(file, content)
        for word in words:
            for sought in _encoded(word):
                if _holds(content if len(sought) >= SHORTEST_IN_PIXELS else text, sought):
                    found.add(word)
    return found


def _encoded(word: str) -> set[bytes]:
    """A word as bytes whose Latin letters are small: as it is, in small and in large letters."""
    written = {
        one.encode(encoding, "ignore").lower()
        for one in (word, word.lower(), word.upper())
        for encoding in ("utf-8", "latin-1", "utf-16-le")
    }
    return {sought for sought in written if len(sought) >= SHORTEST}


def _files(written: Path) -> list[Path]:
    return [written] if written.is_file() else [file for file in written.rglob("*") if file.is_file()]


def _text_of(file: Path, content: bytes) -> bytes:
    """The part of a file that holds text: what precedes the pixels of DICOM, the OME-XML of a TIFF, all of JSON."""
    if file.suffix.lower() == ".dcm":
        return content.partition(_PIXELS)[0]
    if file.suffix.lower() in (".tif", ".tiff"):
        return content.partition(b"<ome")[2].partition(b"</ome>")[0]
    return content if file.suffix == ".json" else b""


def _holds(content: bytes, sought: bytes) -> bool:
    """Whether a word is there; one of digits alone not as a part of a longer number."""
    if not sought.isdigit():
        return sought in content
    return re.search(rb"(?<!\d)" + sought + rb"(?!\d)", content) is not None


def _headers(slide: Slide) -> tuple[Dataset, ...]:
    found: tuple[Dataset, ...] = slide.identity.attributes.get("headers", ())
    return found


def _texts(header: Dataset) -> Iterator[str]:
    for element in header.iterall():
        if element.VR not in _TEXTS and not (element.tag.is_private and element.VR in _PRIVATE_TEXTS):
            continue
        value = element.value
        several = value if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]
        for each in several:
            text = each.decode("latin-1", "ignore") if isinstance(each, bytes) else str(each)
            text = text.strip("\0 ")
            yield text
            if element.VR == "PN":
                yield from re.split(r"[\^= ]+", text)


def _statement(pseudonyms: Pseudonyms | None) -> dict[str, Any]:
    """What an image says of its own de-identification (PS3.3 C.7.1.1, C.12.1)."""
    shifted = pseudonyms is not None and pseudonyms.days is not None
    codes = [coded("113100", "DCM", "Basic Application Confidentiality Profile")]
    if shifted:
        codes.append(coded("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"))
    return {
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "srh-clinic: rebuilt from pixels and their size",
        "DeidentificationMethodCodeSequence": codes,
        "LongitudinalTemporalInformationModified": "MODIFIED" if shifted else "REMOVED",
    }


def _lossy(headers: Sequence[Dataset]) -> Dataset | None:
    """What compression has lost, in numbers and the standard's own terms."""
    for header in headers:
        if str(header.get("LossyImageCompression") or "") == "01":
            told = Dataset()
            told.LossyImageCompression = "01"
            ratios, methods = header.get("LossyImageCompressionRatio"), header.get("LossyImageCompressionMethod")
            told.LossyImageCompressionRatio = [float(each) for each in _several(ratios)] or [1.0]
            told.LossyImageCompressionMethod = [str(each) for each in _several(methods) if str(each) in _LOSSY_METHODS]
            return told
    return None


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if type(value).__name__ == "MultiValue" or isinstance(value, list) else [value]
