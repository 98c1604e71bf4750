"""What travels by the DICOM network: SOP classes, transfer syntaxes and services with our roles in them.

One table for the clients, the listener, and the conformance statement.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    KeyObjectSelectionDocumentStorage,
    MicroscopyBulkSimpleAnnotationsStorage,
    ParametricMapStorage,
    RLELossless,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

ECHO, FIND, MOVE, GET = (
    "1.2.840.10008.1.1",
    *(f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3)),
)
"""SOP classes of services: verification, and finding, moving and getting by the study root."""

SLIDES = str(VLWholeSlideMicroscopyImageStorage)
"""SOP class of slides."""

OBJECT_CLASSES: tuple[str, ...] = tuple(
    map(
        str,
        (
            VLWholeSlideMicroscopyImageStorage,
            ParametricMapStorage,
            SegmentationStorage,
            MicroscopyBulkSimpleAnnotationsStorage,
            Comprehensive3DSRStorage,
            KeyObjectSelectionDocumentStorage,
            ComprehensiveSRStorage,
        ),
    )
)
"""SOP classes of all that is written or read."""

SYNTAXES: tuple[str, ...] = tuple(
    map(
        str,
        (
            ExplicitVRLittleEndian,
            JPEGLSLossless,
            RLELossless,
            JPEG2000Lossless,
            JPEGLSNearLossless,
            ImplicitVRLittleEndian,
        ),
    )
)
"""Transfer syntaxes in which objects are received, the preferred one first; they are sent in that of their file."""

ALSO_RECEIVED: tuple[str, ...] = tuple(
    map(
        str,
        (
            HTJ2KLossless,
            HTJ2KLosslessRPCL,
            JPEG2000,
            HTJ2K,
            JPEGLosslessSV1,
            JPEGLossless,
            JPEGBaseline8Bit,
            JPEGExtended12Bit,
        ),
    )
)
"""Taken beside those by the listener, which parks what it cannot read: a slide that is no SRH comes in JPEG."""

RECEIVED = (*SYNTAXES, *ALSO_RECEIVED)
"""All that is received, by the listener and by C-GET and C-MOVE."""

MOST_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd numbers from 1 to 255)."""


@dataclass(frozen=True)
class Service:
    """A service of the network: its SOP class or section of PS3.18, our role, the commands that use it, and what for."""

    where: str
    role: str
    commands: str
    what: str


DIMSE: tuple[Service, ...] = (
    Service(ECHO, "SCP", "listen", "answers C-ECHO"),
    Service(ECHO, "SCU", "push", "a context beside those of the objects; C-ECHO is not sent"),
    Service(SLIDES, "SCP", "listen, fetch", "takes slides: from who may call, by C-GET (role selection) and by C-MOVE"),
    *(Service(kind, "SCP", "fetch --all", "the same, by C-GET and C-MOVE") for kind in OBJECT_CLASSES if kind != SLIDES),
    *(Service(kind, "SCU", "push, listen --to", "stores it, in the transfer syntax of its file") for kind in OBJECT_CLASSES),
    Service(FIND, "SCU", "push, listen --to, fetch", "asks at levels STUDY, SERIES and IMAGE for what is there"),
    Service(GET, "SCU", "fetch", "at level IMAGE, by UIDs"),
    Service(MOVE, "SCU", "fetch --by move", "at level IMAGE, by UIDs"),
)
"""What is spoken by DIMSE."""

WEB: tuple[Service, ...] = (
    Service("10.5 Store", "user agent", "push, listen --to", "`POST /studies`, multipart/related; application/dicom"),
    Service("10.6 Search", "user agent", "push, listen --to, fetch", "studies, series, instances, page by page"),
    Service(
        "10.4 Retrieve", "user agent", "fetch, listen --ups", "instances, `transfer-syntax=*`; metadata where no search is"
    ),
    Service(
        "11.9 Search", "user agent", "listen --ups", "`GET /workitems`: SCHEDULED and READY, by station and workitem code"
    ),
    Service("11.5 Retrieve", "user agent", "listen --ups", "`GET /workitems/{uid}`"),
    Service("11.7 Change state", "user agent", "listen --ups", "to IN PROGRESS, COMPLETED, CANCELED, by a Transaction UID"),
    Service("11.6 Update", "user agent", "listen --ups", "progress, performed procedure, discontinuation"),
    Service("11.10 Subscribe", "user agent", "listen --ups", "to each workitem that is claimed"),
    Service("8.10 Notifications", "user agent", "listen --ups", "a web socket, on which cancel requests are heard"),
)
"""What is spoken by DICOMweb (PS3.18); media types are application/dicom+json and application/dicom."""


def name_of_uid(uid: str) -> str:
    """The name of a SOP class or transfer syntax in the standard, or the UID of one without."""
    return UID(uid).name
