"""The Python of docs/monai.md is run as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from srh_clinic.integration import write_wsi
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide

PAGE = (Path(__file__).parent.parent / "docs/monai.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) == 3


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = simulate_case("tumor", quality=0.6, size=256, seed=1)
    path = tmp_path_factory.mktemp("case") / "case.dcm"
    write_wsi(ArraySlide(phantom.counts, phantom.um_per_px), path)
    return path


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_each_block_runs(block: str, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(case, "case.dcm")
    exec(compile(block, "monai.md", "exec"), {"__name__": "docs"})  # noqa: S102 - our own text
