"""The README's Python is run as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_it_opens_with_the_two_commands() -> None:
    assert re.search(r"make demo.*\nmake test", README.split("##")[0])


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_each_block_runs(block: str, phantom_case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([line for line in block.splitlines() if line.strip()]) < 10
    monkeypatch.chdir(tmp_path)
    shutil.copy(phantom_case, "case.dcm")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102 - the README's own text
    if "result.save" in block:
        assert (tmp_path / "out" / "result.json").is_file()


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) == 3
