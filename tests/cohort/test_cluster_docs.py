"""The scripts of docs/cluster.md are run as they stand, with programs in the place of Slurm's and ours that note a call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srh_clinic.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8")
NOTES = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
"""A program that prints what it was called with."""


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(text)


def program(folder: Path, name: str) -> None:
    (folder / name).write_text(NOTES)
    (folder / name).chmod(0o755)


def bash(script: str, folder: Path, *options: str, **variables: str) -> list[str]:
    """What a script prints that finds the programs of a folder before all others."""
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"} | variables
    command = ["bash", "-eu", *options, "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def require_options(call: list[str]) -> None:
    """That ``srh-clinic`` takes the options of a call."""
    said = CliRunner().invoke(app, [*call, "--help"], terminal_width=200)
    assert said.exit_code == 0
    assert all(option in said.output for option in call if option.startswith("--"))


def test_each_task_of_the_slurm_array_calls_its_shard(tmp_path: Path) -> None:
    script = block("bash")
    bash(script, tmp_path, "-n")
    program(tmp_path, "srun")
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "4"}
    call = bash(script, tmp_path, **task, MANIFEST="/data/the manifest.csv", OUT="/data/run")
    assert call[:4] == ["srh-clinic", "cohort", "run", "/data/the manifest.csv"]
    assert call[call.index("--shard") + 1] == "3/16"
    require_options(call[1:])


def braced(text: str, opening: str) -> str:
    """What stands between the braces that ``opening`` ends in."""
    begin = text.index(opening) + len(opening)
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    raise AssertionError(f"{opening} is not closed")


def section(process: str, name: str) -> str:
    """A part of a process: what follows its label up to the next one."""
    (found,) = re.findall(
        rf"^ *{name}:\n(.*?)(?=^ *(?:input|output|script|stub|when):\n|\Z)", process, re.DOTALL | re.MULTILINE
    )
    return str(found)


def rendered(text: str, values: dict[str, str]) -> str:
    """The one text of a section as Nextflow gives it to bash: values in the place of names, and escapes taken away."""
    (script,) = re.findall(r'"""\n(.*?)"""', text, flags=re.DOTALL)
    filled = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda found: values[found[1]], script)
    return re.sub(r"\\([\\$])", r"\1", filled)


def test_the_nextflow_process_calls_a_shard_and_its_stub_leaves_what_the_process_gives_out(tmp_path: Path) -> None:
    text = block("nextflow")
    assert text.count('"""') % 2 == 0
    process = braced(text, "process SRH_COHORT {")
    given = re.findall(r"val\((\w+)\)", section(process, "input"))
    assert given == ["part", "parts", "manifest", "out"]
    assert f"[{', '.join(['part', 'params.parts', 'manifest', 'out'])}]" in braced(text, "workflow {")
    values = {"part": "3", "parts": "16", "manifest": "/data/the manifest.csv", "out": "/data/run", "task.cpus": "4"}
    promised = re.findall(r'path "([^"]+)"', section(process, "output"))
    assert promised
    for name in ("script", "stub"):
        folder = tmp_path / name
        folder.mkdir()
        program(folder, "srh-clinic")
        script = rendered(section(process, name), values)
        bash(script, folder, "-n")
        call = bash(script, folder, "-o", "pipefail")
        assert all(list(folder.glob(pattern)) for pattern in promised)
        if name == "stub":
            assert call == []
        else:
            assert call[:3] == ["cohort", "run", "/data/the manifest.csv"]
            assert call[call.index("--shard") + 1] == "3/16"
            require_options(call)


def test_nextflow_runs_the_module_in_stub_mode(tmp_path: Path) -> None:
    if shutil.which("nextflow") is None:
        pytest.skip("no nextflow; the module was read and its scripts run by bash alone")
    (tmp_path / "srh-clinic.nf").write_text(block("nextflow"))
    command = ["nextflow", "run", "srh-clinic.nf", "-stub-run", "--manifest", "manifest.csv", "--out", "run", "--parts", "3"]
    environment = os.environ | {"NXF_OFFLINE": "true"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    assert len(list((tmp_path / "work").rglob("log-*.jsonl"))) == 3
