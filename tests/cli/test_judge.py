"""``srh-clinic judge`` from the shell."""

from __future__ import annotations

import json
from pathlib import Path

from calling import Run


def test_a_case_is_judged_into_a_folder_of_its_own(run: Run, case: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged"
    reading = ("--um-per-px", 0.47, "--full-scale", 65536)
    call = ("judge", case, *reading, "--restorer", "median", "--restorer", "gaussian", "--out", out, "--tiles", 1)
    said = run(*call)
    assert said.code == 0
    assert "demonstration weights, research use only" in said.out
    assert (out / "judgement.html").is_file()
    found = json.loads((out / "judgement.json").read_text())
    assert {one["name"] for one in found["restorers"]} == {"input", "median", "gaussian"}
    other = json.loads((out / "judgement.json").read_text())
    other["case"]["pixels_sha256"] = "0" * 64
    (out / "judgement.json").write_text(json.dumps(other))
    refused = run(*call)
    assert refused.code == 2
    assert "the result of another case" in refused.err
    unknown = run("judge", case, *reading, "--restorer", "wrong", "--json")
    assert unknown.code == 2
    assert "a restorer wrong" in unknown.err
