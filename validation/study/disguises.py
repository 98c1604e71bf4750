"""A word in disguise: the forms in which an identifier may hide in a text or among pixels, and whether one occurs."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHORTEST_IN_BASE64, SHORTEST_IN_PIXELS = 6, 7
"""Letters of the shortest form of a word that is looked for: a shorter one occurs by chance."""

CHUNK = 1 << 20
"""Words of four bytes that are looked at together."""


def encodings_of(word: str) -> list[bytes]:
    """A word as it is, in lower and upper case, in UTF-8 and UTF-16."""
    cases = dict.fromkeys((word, word.lower(), word.upper()))
    return [case.encode(encoding) for case in cases for encoding in ("utf-8", "utf-16-le", "utf-16-be")]


def disguises_of(word: str) -> list[bytes]:
    """A word as it may stand in a text, lower case: in plain, UTF-16, hexadecimal, or base64 at any of three offsets."""
    forms = [form.lower() for form in encodings_of(word)]
    for case in dict.fromkeys((word, word.lower(), word.upper())):
        encoded = case.encode()
        forms.append(encoded.hex().encode())
        for offset in range(3):
            whole = base64.b64encode(bytes(offset) + encoded)
            # The first and last letters depend on what stands beside the word.
            inner = whole[-(-offset * 4 // 3) : len(whole) - 4 + (len(encoded) + offset) % 3]
            if len(inner) >= SHORTEST_IN_BASE64:
                forms.append(inner.lower())
    return list(dict.fromkeys(forms))


def occurs(patterns: Sequence[bytes], content: bytes) -> bool:
    """Whether any of many patterns of four bytes or more occurs in a large content.

    One pass for all of them: places whose first four bytes, hashed, are those of a pattern are few, and only these are read.
    """
    by_start: dict[bytes, list[bytes]] = defaultdict(list)
    for pattern in patterns:
        by_start[pattern[:4]].append(pattern)
    hashed = np.zeros(1 << 20, dtype=bool)
    hashed[_hashes(np.frombuffer(b"".join(by_start), dtype="<u4"))] = True
    for offset in range(min(4, len(content) - 3)):
        words = np.frombuffer(content, dtype="<u4", count=(len(content) - offset) // 4, offset=offset)
        for start in range(0, len(words), CHUNK):
            for place in offset + 4 * (start + np.flatnonzero(hashed[_hashes(words[start : start + CHUNK])])):
                if any(content.startswith(pattern, place) for pattern in by_start.get(content[place : place + 4], ())):
                    return True
    return False


def _hashes(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hashes of 20 bits of words of four bytes."""
    return (words * np.uint32(2_654_435_761)) >> np.uint32(12)
