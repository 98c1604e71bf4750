"""Every command of docs/your-data.md, on a small synthetic tree."""

from __future__ import annotations

import json
import re
import shlex
import sys
from functools import partial
from pathlib import Path

import pytest

from srh_clinic.cli.app import main
from srh_clinic.integration.opensrh_writer import write_opensrh

PAGE = (Path(__file__).parent.parent / "docs/your-data.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()
            if line.startswith("srh-clinic ")]  # fmt: skip

SMALLER = {"--steps 400": "--steps 2"}
"""What is changed for the test to end soon, beside the patches: one of each patient."""

FEWER = {"patients=4, patches=4": "patients=3, patches=2"}
"""The same for the notebook."""

WRITTEN = {
    "simulate": "tree/meta/opensrh.json",
    "train": "mine/models/denoiser.safetensors",
    "diagnose": "case/case.html",
    "cohort": "manifest.csv",
    "validate": "report/report.html",
    "benchmark": "table/unpaired.html",
}


def test_the_page_shows_one_tree_and_five_commands() -> None:
    assert [shlex.split(command)[1] for command in COMMANDS] == list(WRITTEN)


def test_each_command_runs_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("srh_clinic.judging.gain.MOST_TILES", 1)
    monkeypatch.setattr("srh_clinic.integration.layouts.write_opensrh", partial(write_opensrh, patches=1))
    for command in COMMANDS:
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert not stop.value.code, printed.err
        assert (tmp_path / WRITTEN[shlex.split(command)[1]]).is_file(), command
        if " train " in command:
            assert re.search(r"(helped|harm|not shown to help|cannot be told|tells no interval)", printed.out)
            assert "on 4 held-out patients" in printed.out
            assert "patients_train 8" in printed.err


NOTEBOOK = Path(__file__).parent.parent / "docs/your-data.ipynb"


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("srh_clinic.judging.gain.MOST_TILES", 1)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "a notebook is kept without what it printed"
    names: dict[str, object] = {"__name__": "notebook"}
    sources = ["".join(cell["source"]) for cell in cells]
    for many, few in FEWER.items():
        assert sum(many in source for source in sources) == 1
        sources = [source.replace(many, few) for source in sources]
    for source in sources:
        exec(compile(source, NOTEBOOK.name, "exec"), names)  # noqa: S102 - our own text
    assert (tmp_path / "case" / "result.json").is_file()
