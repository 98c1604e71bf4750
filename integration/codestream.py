"""What a compressed frame says of itself, before it is decoded: its codec, its size and its depth."""

from __future__ import annotations

from dataclasses import dataclass

JPEG_LS, JPEG_2000, RLE, JPEG = "JPEG-LS", "JPEG 2000", "RLE", "JPEG"

_CODEC = {
    "1.2.840.10008.1.2.4.80": JPEG_LS,
    "1.2.840.10008.1.2.4.81": JPEG_LS,
    "1.2.840.10008.1.2.4.90": JPEG_2000,
    "1.2.840.10008.1.2.4.91": JPEG_2000,
    "1.2.840.10008.1.2.4.201": JPEG_2000,
    "1.2.840.10008.1.2.4.202": JPEG_2000,
    "1.2.840.10008.1.2.4.203": JPEG_2000,
    "1.2.840.10008.1.2.5": RLE,
    "1.2.840.10008.1.2.4.50": JPEG,
    "1.2.840.10008.1.2.4.51": JPEG,
    "1.2.840.10008.1.2.4.57": JPEG,
    "1.2.840.10008.1.2.4.70": JPEG,
}
_START = {JPEG_LS: b"\xff\xd8", JPEG: b"\xff\xd8", JPEG_2000: b"\xff\x4f\xff\x51"}
_JP2 = b"\x00\x00\x00\x0cjP  "
_SOF_LS = 0xF7
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_SOF_LS}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class Codestream:
    """Codec, and where it states them rows, columns, bits and components."""

    codec: str
    rows: int | None = None
    columns: int | None = None
    bits: int | None = None
    components: int | None = None


def codec_of(syntax: str) -> str | None:
    """The codec that a transfer syntax names, ``None`` for raw pixels and for those that are not told apart here."""
    return _CODEC.get(syntax)


def starts_frame(codec: str, fragment: bytes) -> bool:
    """Whether a fragment is the first of a frame of this codec; each RLE frame is one fragment (PS3.5 A.4.2)."""
    return codec == RLE or fragment.startswith(_START[codec]) or (codec == JPEG_2000 and fragment.startswith(_JP2))


def read_codestream(encoded: bytes) -> Codestream | None:
    """The header of a compressed frame; ``None`` when it is none that is known."""
    if encoded.startswith(_JP2):
        encoded = encoded[max(encoded.find(_START[JPEG_2000]), 0) :]
    if encoded.startswith(_START[JPEG_2000]):
        return _jpeg_2000(encoded)
    if encoded.startswith(_START[JPEG]):
        return _jpeg(encoded)
    n_segments, first = int.from_bytes(encoded[:4], "little"), int.from_bytes(encoded[4:8], "little")
    if len(encoded) >= 64 and 1 <= n_segments <= 15 and first == 64:
        return Codestream(RLE)
    return None


def _jpeg(encoded: bytes) -> Codestream | None:
    """By the frame header (ISO 10918-1 B.2.2; JPEG-LS has its own, ISO 14495-1 C.2.2)."""
    at = 2
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _SOF:
            if at + 10 > len(encoded):
                return None
            bits, rows, columns = encoded[at + 4], *(int.from_bytes(encoded[i : i + 2], "big") for i in (at + 5, at + 7))
            return Codestream(JPEG_LS if marker == _SOF_LS else JPEG, rows, columns, bits, encoded[at + 9])
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return None


def _jpeg_2000(encoded: bytes) -> Codestream | None:
    """By the image and tile size segment (ISO 15444-1 A.5.1)."""
    if len(encoded) < 43:
        return None
    width, height, left, top = (int.from_bytes(encoded[i : i + 4], "big") for i in range(8, 24, 4))
    components = int.from_bytes(encoded[40:42], "big")
    return Codestream(JPEG_2000, height - top, width - left, (encoded[42] & 0x7F) + 1, components)
