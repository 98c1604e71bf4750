"""Reads many mutated files in worker processes and tells what was found: ``python fuzz.py FILES [SEED]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHARES = {"dicom": 0.35, "tiff": 0.3, "z_stack": 0.15, "json": 0.17, "bundle": 0.03}
"""Of all files, by group; bundles load torch and take longest."""

MOST_A_PROCESS = 2000
SECONDS = 3600
"""After which a worker is stopped; what it was reading last is kept."""


def fuzz(group: str, files: int, seed: int, keep: Path) -> dict[str, Any]:
    """Mutate and read ``files`` files of a group in a process of its own; files that do harm are kept in ``keep``."""
    shared = [HERE, HERE.parent / "case", HERE.parent / "validation" / "study"]
    paths = os.pathsep.join([*map(str, shared), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "fuzz_worker.py"), group, str(files), str(seed), str(keep)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False, cwd=HERE.parent
        )
    except subprocess.TimeoutExpired:
        return {"group": group, "files": 0, "found": {f"{group} seed {seed}: no end within {SECONDS} s": {"times": 1}}}
    if done.returncode != 0 or not done.stdout.strip():
        fault = f"{group} seed {seed}: the process ended with {done.returncode}: {done.stderr[-600:]}"
        return {"group": group, "files": 0, "found": {fault: {"times": 1}}}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def parts(files: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Group, number of files and seed of each process; every group has its turn."""
    left = {group: max(round(files * share), 1) for group, share in SHARES.items()}
    while any(left.values()):
        for group in SHARES:
            if left[group]:
                yield group, min(left[group], MOST_A_PROCESS), seed
                left[group] -= min(left[group], MOST_A_PROCESS)
                seed += 1


def main(files: int, seed: int = 0) -> int:
    keep = Path(tempfile.mkdtemp(prefix="srh-fuzz-"))
    total, found = 0, 0
    with ThreadPoolExecutor(max_workers=max((os.cpu_count() or 1), 1)) as pool:
        runs = [pool.submit(fuzz, group, count, of_part, keep) for group, count, of_part in parts(files, seed)]
        for run in runs:
            told = run.result()
            faults = told.pop("found")
            total, found = total + told["files"], found + sum(fault["times"] for fault in faults.values())
            print(json.dumps(told), flush=True)
            for fault, where in faults.items():
                print(f"  {fault} {where}", flush=True)
    print(f"{total} mutated files, {found} of them not read or refused as they must be ({keep})")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(int, sys.argv[2:3])))
