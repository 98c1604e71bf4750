"""What the terminal shows of a result."""

from __future__ import annotations

import json
from pathlib import Path

from calling import Run

from srh_clinic.errors import ExitCode


def test_the_panel_says_what_a_reader_needs(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("diagnose", *call_of_case, "--restorer", "median")
    assert ran.code == ExitCode.DONE
    for words in (
        "Demonstration weights, research use only",
        "as scanned",
        "after restoration",
        "4 of 4 restored",
        "case.tif",
    ):
        assert words in ran.out
    assert "case-diagnosis/summary.png" in ran.out.replace("\n", "")
    assert {path.name for path in (tmp_path / "case-diagnosis").iterdir()} >= {"result.json", "summary.png", "step_map.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["case-diagnosis"]


def test_the_panel_says_where_the_restored_image_is_not_to_be_trusted(
    run: Run, call_of_case: tuple[object, ...], tiny_bundle: Path, wary_bundle: Path, tmp_path: Path
) -> None:
    of_case = (wary_bundle if part == tiny_bundle else part for part in call_of_case)
    call = ("diagnose", *of_case, "--restorer", "median", "--out", "out")
    ran = run(*call, "--html")
    said = " ".join(ran.out.replace("│", " ").split())
    assert "restored image differs from its input at 4 places, see out/trust_map.png" in said
    assert "a change of brightness at y 0, x 0 um" in said
    assert "in the guards" in said
    assert "case.tif" in (tmp_path / "out" / "case.html").read_text(encoding="utf-8")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert (result["trust"]["flagged"], result["trust"]["withheld"]) == (4, 0)
    careful = json.loads(run(*call, "--conservative", "--json").out)
    assert (careful["trust"]["withheld"], careful["diagnosis"]) == (4, "nondiagnostic")


def test_a_doubtful_diagnosis_is_called_so_and_what_was_not_restored_is_not_distrusted(
    run: Run, call_of_case: tuple[object, ...], tiny_bundle: Path, wary_bundle: Path
) -> None:
    of_case = tuple(wary_bundle if part == tiny_bundle else part for part in call_of_case)
    said = " ".join(run("diagnose", *of_case, "--restorer", "none", "--out", "out").out.replace("│", " ").split())
    assert "(doubtful)" in said
    assert "Doubtful unsure: over the patches" in said
    assert "nothing was restored, so nothing can have been invented" in said
    assert "differs" not in said
    said = " ".join(run("diagnose", *call_of_case, "--restorer", "median", "--out", "out").out.replace("│", " ").split())
    assert "not examined: nobody looked for what restoration may have invented" in said
