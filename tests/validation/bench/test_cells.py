"""Cells of a benchmark survive a cut and never mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.validation.bench.cells import CellStore


def test_cells_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "work" / "cells.jsonl"
    CellStore(path, ("phantom", "method")).put("key", phantom=3, method="nlm", psnr=1 / 3)
    found = CellStore(path, ("phantom", "method"))
    assert found.get("key", 3, "nlm") == {"fingerprint": "key", "phantom": 3, "method": "nlm", "psnr": 1 / 3}
    assert found.get("key", 4, "nlm") is None
    assert found.get("other weights", 3, "nlm") is None


def test_a_half_written_line_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    CellStore(path, ("phantom",)).put("key", phantom=0)
    with path.open("a") as file:
        file.write('{"fingerprint": "key", "pha')
    cut = CellStore(path, ("phantom",))
    cut.put("key", phantom=1)
    again = CellStore(path, ("phantom",))
    assert again.get("key", 0)
    assert again.get("key", 1)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_text("something else\n")
    with pytest.raises(InputError, match="found lines that this benchmark has not written"):
        CellStore(path, ("phantom",))


def test_a_fingerprint_names_all_it_depends_on() -> None:
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1)
    assert len({fingerprint(a=1), fingerprint(a=2), fingerprint(b=1)}) == 3
