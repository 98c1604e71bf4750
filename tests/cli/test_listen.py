"""``pacs listen`` called wrongly: one sentence, exit code 2, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import Run, left_behind

from srh_clinic.errors import ExitCode


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no way by which cases come in"),
        (["--port", "0"], "nobody who may call"),
        (["--port", "0", "--accept", "TITLE\\1"], "the AE title"),
        (["--port", "0", "--accept", "A", "--tls", "--cert", "c"], "--tls without all that it needs"),
        (["--port", "0", "--accept", "A", "--to", "nowhere"], "an address that is neither"),
        (["--folder", "none"], "no folder that can be read"),
    ],
)
def test_a_call_that_cannot_be_is_told_in_a_sentence(run: Run, tmp_path: Path, words: list[str], says: str) -> None:
    ran = run("pacs", "listen", "--out", tmp_path / "out", *words)
    assert (ran.code, ran.out) == (ExitCode.INPUT, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert left_behind(tmp_path) == []
