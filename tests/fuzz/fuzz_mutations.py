"""Mutations of a file: of its bytes, and of what its format makes of them. Each is a function of numbers alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

Edit = tuple[int, int, int]
"""What is done, where and with what: each a number from 0 to :data:`LARGEST`, taken modulo what there is to choose from."""

LARGEST = 2**32 - 1

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
)
_MOST_BYTES = 2**20


def mutate(content: bytes, format: str, edits: list[Edit]) -> bytes:
    """The file after edits; those of its format come first, while its places are still known."""
    structured = {
        "dicom": _dicom,
        "tiff": _tiff,
        "json": _json,
        "jsonl": _json_lines,
        "csv": _csv,
        "safetensors": _safetensors,
    }
    first, *rest = edits
    if first[0] % 4 and format in structured:
        content = structured[format](content, first)
    else:
        rest = edits
    for edit in rest:
        content = _bytes(content, edit)
    return content[:_MOST_BYTES]


def _bytes(content: bytes, edit: Edit) -> bytes:
    """Flip bits, cut, overwrite with numbers at the edge of their type, put in, take out, or repeat."""
    what, where, with_ = edit
    n = len(content)
    if not n:
        return bytes([with_ & 0xFF])
    # headers are what readers trust: half of the places are within the first two kilobytes
    at = where % (min(n, 2048) if where & 1 else n)
    kind = what // 4 % 9
    if kind <= 2:
        return content[:at] + bytes([content[at] ^ (1 << with_ % 8)]) + content[at + 1 :]
    if kind == 3:
        return content[:at] if with_ % 4 else content[: n - 1 - with_ % 64]
    if kind == 4:
        number = _NUMBERS[with_ % len(_NUMBERS)]
        size = (1, 2, 4, 8)[with_ // 32 % 4]
        order = "little" if with_ & 1024 else "big"
        return content[:at] + (number & (256**size - 1)).to_bytes(size, order) + content[at + size :]  # type: ignore[arg-type]
    if kind == 5:
        return content[:at] + content[at + 1 + with_ % 64 :]
    if kind == 6:
        return content[:at] + bytes([with_ & 0xFF]) * (1 + with_ // 256 % 300) + content[at:]
    if kind == 7:
        length = 1 + with_ % 200
        return content[:at] + content[at : at + length] * 2 + content[at + length :]
    other = with_ % n
    return content[:at] + content[other : other + 16] + content[at + 16 :]


# DICOM: elements of an explicit little-endian data set, those of items of undefined length among them

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR"}


@dataclass(frozen=True)
class _Element:
    start: int
    vr: bytes
    length_at: int
    length_size: int
    value: int
    end: int


@cache
def _elements(content: bytes) -> tuple[_Element, ...]:
    found, at = [], 132
    while at + 8 <= len(content):
        if content[at + 1 : at + 2] == b"\xff":  # an item or its end
            at += 8
            continue
        vr = content[at + 4 : at + 6]
        size = 4 if vr in _LONG else 2
        length_at = at + (8 if vr in _LONG else 6)
        length = int.from_bytes(content[length_at : length_at + size], "little")
        value = length_at + size
        end = value if length == 0xFFFFFFFF else value + length
        found.append(_Element(at, vr, length_at, size, value, end))
        if content[at : at + 4] == b"\xe0\x7f\x10\x00":
            break
        at = end
    return tuple(found)


def _nested(depth: int) -> bytes:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return b"@\x00U\x05SQ\x00\x00\xff\xff\xff\xff".join([item] * depth)


_DICOM_VALUES = (
    b"",
    b" ",
    b"0 ",
    b"-1",
    b"NaN ",
    b"1e400 ",
    b"99999999",
    b"1.5 ",
    b"\\",
    b"0\\0 ",
    b"\x00\x00",
    b"\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x00" * 4,
    b"\x01\x00\x00\x00",
    b"\x00\x00\x00\x80",
    b"\x10\x27",
    b"\x00" * 8,
    b"1.2.840.10008.1.2.5 ",
    b"1.2.840.10008.1.2.4.80",
    b"1.2.840.10008.1.2.4.90",
    b"1.2.840.10008.1.2.1.99",
    b"TILED_SPARSE",
    b"TILED_FULL",
    b"\xe4\xf6",
    b"A" * 300,
    b"/etc/passwd ",
    b"../../x ",
)


def _dicom(content: bytes, edit: Edit) -> bytes:
    what, where, with_ = edit
    elements = _elements(content)
    element = elements[where % len(elements)]
    kind = what // 4 % 6
    if kind <= 2:
        value = _DICOM_VALUES[with_ % len(_DICOM_VALUES)] if element.vr != b"SQ" else b""
        length = len(value).to_bytes(element.length_size, "little")
        return content[: element.length_at] + length + value + content[element.end :]
    if kind == 3:
        number = _NUMBERS[with_ % len(_NUMBERS)] & (256**element.length_size - 1)
        return content[: element.length_at] + number.to_bytes(element.length_size, "little") + content[element.value :]
    if kind == 4:
        number = _NUMBERS[with_ % len(_NUMBERS)]
        size = min(element.end - element.value, 4)
        return content[: element.value] + (number & (256**size - 1)).to_bytes(size, "little") + content[element.value + size :]
    if with_ % 4 == 0:
        return content[: element.value] + _nested(1 + with_ // 4 % 3000) + content[element.value :]
    if with_ % 4 == 1:
        return content[: element.start] + content[element.end :]
    vr = (b"SQ", b"UN", b"OB", b"DS", b"IS", b"US", b"FD", b"UI", b"SS", b"AT")[with_ // 4 % 10]
    return content[: element.start + 4] + vr + content[element.start + 6 :]


# TIFF: entries of its directories


@cache
def _entries(content: bytes) -> tuple[tuple[int, int, str], ...]:
    """Offset, size and byte order of each directory entry."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\x00", b"\x00+")
    offset_type, count_type, size = ("Q", "Q", 20) if big else ("L", "H", 12)
    width = struct.calcsize(order + offset_type)
    (at,) = struct.unpack_from(order + offset_type, content, 8 if big else 4)
    found, seen = [], set()
    while at and at not in seen and at + 8 < len(content):
        seen.add(at)
        (count,) = struct.unpack_from(order + count_type, content, at)
        at += struct.calcsize(order + count_type)
        found += [(at + size * i, size, order) for i in range(count)]
        at += size * count
        (at,) = struct.unpack_from(order + offset_type, content, at) if at + width <= len(content) else (0,)
    return tuple(found)


_TIFF_TAGS = (
    256,
    257,
    258,
    259,
    262,
    266,
    270,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    296,
    301,
    317,
    320,
    322,
    323,
    324,
    325,
    330,
    338,
    339,
    50838,
    50839,
    42112,
    42113,
    285,
)
_COMPRESSIONS = (1, 2, 5, 6, 7, 8, 32773, 32946, 34712, 34925, 50000, 34887, 65000)


def _tiff(content: bytes, edit: Edit) -> bytes:
    what, where, with_ = edit
    entries = _entries(content)
    if not entries:
        return content
    at, size, order = entries[where % len(entries)]
    kind = what // 4 % 5
    number = _NUMBERS[with_ % len(_NUMBERS)]
    long, value = ("Q", at + 12) if size == 20 else ("L", at + 8)
    changed = bytearray(content)
    if kind <= 1:
        if struct.unpack_from(order + "H", content, at)[0] == 259:
            number = _COMPRESSIONS[with_ % len(_COMPRESSIONS)]
        struct.pack_into(order + ("H" if with_ & 64 else long), changed, value, number & 0xFFFF if with_ & 64 else number)
    elif kind == 2:
        struct.pack_into(order + "H", changed, at, _TIFF_TAGS[with_ % len(_TIFF_TAGS)])
    elif kind == 3:
        struct.pack_into(order + "H", changed, at + 2, with_ % 20)
    else:
        struct.pack_into(order + long, changed, at + 4, number)
    return bytes(changed)


# text


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in below for place in _places(one, (*path, key)))]


_JSON_VALUES = (
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1" * 5000,
    "0.5",
    '""',
    '"x"',
    '"/etc/passwd"',
    '"../../x"',
    "[]",
    "{}",
    "[1, [2]]",
    '{"a": 1}',
    "[" * 20000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    '"\\ud800"',
    '"\\u0000"',
    "2147483648",
    "1000000000000",
    "[" * 900 + "]" * 900,
    '"' + "A" * 5000 + '"',
    "99999999",
    "[1e9, 1e9]",
    "100000",
)
_MARK = '"\\u0001mutated\\u0001"'


def _json(content: bytes, edit: Edit) -> bytes:
    """Another value, another name, or nothing in one place of the tree."""
    what, where, with_ = edit
    tree = json.loads(content)
    places = _places(tree)
    *path, last = places[1 + where % (len(places) - 1)]
    holder = tree
    for key in path:
        holder = holder[key]
    kind = what // 4 % 6
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        holder[f"{last}{with_ % 10}"] = holder.pop(last)
    else:
        holder[last] = "\x01mutated\x01"
    return json.dumps(tree).replace(_MARK, _JSON_VALUES[with_ % len(_JSON_VALUES)]).encode("utf-8", "surrogatepass")


def _json_lines(content: bytes, edit: Edit) -> bytes:
    lines = content.splitlines()
    at = edit[1] % len(lines)
    lines[at] = _json(lines[at], (edit[0], edit[1] // 7, edit[2]))
    return b"\n".join(lines) + b"\n"


_CELLS = (
    "",
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "2",
    "tumor",
    '"',
    "\x00",
    "\udcff",
    "=1+1",
    "../../x",
    "/etc/passwd",
    "A" * 200000,
    "1" * 5000,
)


def _csv(content: bytes, edit: Edit) -> bytes:
    rows = [line.split(",") for line in content.decode().split("\n")]
    row = rows[edit[1] % len(rows)]
    row[edit[1] // 31 % len(row)] = _CELLS[edit[2] % len(_CELLS)]
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")


def _safetensors(content: bytes, edit: Edit) -> bytes:
    """Another length of the header, or another value in it."""
    length = int.from_bytes(content[:8], "little")
    if edit[0] // 4 % 3 == 0:
        return _NUMBERS[edit[2] % len(_NUMBERS)].to_bytes(8, "little") + content[8:]
    header = _json(content[8 : 8 + length], edit)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def changed_element(content: bytes, tag: str, value: bytes) -> bytes:
    """A DICOM file with another value in the first element of a tag such as ``0028,0010``, of whatever length."""
    group, number = (int(part, 16) for part in tag.split(","))
    wanted = struct.pack("<HH", group, number)
    element = next(one for one in _elements(content) if content[one.start : one.start + 4] == wanted)
    length = len(value).to_bytes(element.length_size, "little")
    return content[: element.length_at] + length + value + content[element.end :]
