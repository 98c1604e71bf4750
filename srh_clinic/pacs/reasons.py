"""What status codes of storing say in words (PS3.4 B.2.3, PS3.18 Table 10.5.3-1, PS3.7 C)."""

from __future__ import annotations

DUPLICATE = "it has it already"

_EXACT = {
    0x0110: "processing failure",
    0x0111: DUPLICATE,
    0x0112: "no such object",
    0x0117: "a UID that it takes for invalid",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0211: "unrecognized operation",
    0x0213: "resource limitation",
    0xC122: "transfer syntax not supported",
}
_RANGES = (
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "data set does not match its SOP class"),
    (0xC000, 0xCFFF, "data set not understood"),
)


def reason_of(code: int | str) -> str:
    """A failure's code with its meaning: ``"SOP class not supported (0x0122)"``; what is no number has no words."""
    try:
        number = int(code)
    except ValueError:
        return "a failure without a code"
    words = _EXACT.get(number) or next((said for low, high, said in _RANGES if low <= number <= high), "failure")
    return words if words is DUPLICATE else f"{words} (0x{number:04X})"
