"""What travels by the DICOM network: SOP classes, transfer syntaxes and services with our roles in them.

One table for the clients, the listener, and the conformance statement.
"""

from __future__ import annotations

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

MOST_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd numbers from 1 to 255)."""


def name_of_uid(uid: str) -> str:
    """The name of a SOP class or transfer syntax in the standard, or the UID of one without."""
    return UID(uid).name
