"""The script of docs/cluster.md is run as it stands, with programs in the place of Slurm's and ours that note their call."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8")


def test_each_task_of_the_slurm_array_calls_its_shard(tmp_path: Path) -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "4"}
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MANIFEST": "/data/the manifest.csv", "OUT": "/data/run"}
    ran = subprocess.run(["bash", "-eu", "-c", script], env=task | paths, capture_output=True, text=True, check=True)
    call = ran.stdout.splitlines()
    assert call[:4] == ["srh-clinic", "cohort", "run", "/data/the manifest.csv"]
    assert call[call.index("--shard") + 1] == "3/16"
    from typer.testing import CliRunner

    from srh_clinic.cli.app import app

    said = CliRunner().invoke(app, [*call[1:], "--help"], terminal_width=200)
    assert said.exit_code == 0
    assert all(option in said.output for option in call if option.startswith("--"))
