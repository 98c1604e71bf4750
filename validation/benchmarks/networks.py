"""Which compact denoiser to ship: quality at an equal number of operations.

On a CPU a forward pass is bound by its arithmetic, so networks are compared after training with the same number of
floating-point operations, not the same number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from srh_clinic.rscd.networks import create_denoiser, forward_gflop, parameter_count
from srh_clinic.training import read_settings, train
from srh_clinic.validation.reporting.report import Column, Report, Table, provenance

CANDIDATES: dict[str, dict[str, Any]] = {
    "2, (16, 32, 64)": {"channels": [16, 32, 64], "unshuffle": 2},
    "2, (24, 48, 96)": {"channels": [24, 48, 96], "unshuffle": 2},
    "2, (32, 64, 128)": {"channels": [32, 64, 128], "unshuffle": 2},
    "4, (64, 128)": {"channels": [64, 128], "unshuffle": 4},
}
"""Unshuffle factor and channels of the networks compared."""

MEASURES = ("psnr_t10", "psnr_t34", "psnr_t100", "psnr_t190")


def compare_networks(
    data: str,
    out: Path,
    *,
    steps: int = 1000,
    reference: str = "2, (24, 48, 96)",
    candidates: Mapping[str, Mapping[str, Any]] = CANDIDATES,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Report:
    """Train each candidate with the operations that ``steps`` steps of the ``reference`` take, and measure it.

    Parameters
    ----------
    data
        Folder of a training pool, or ``"phantom"``.
    out
        Holds a folder for each candidate, from whose checkpoint a run that was cut goes on.
    """
    x, t = torch.zeros(1, 2, 256, 256), torch.zeros(1, dtype=torch.long)
    gflop = {name: forward_gflop(create_denoiser(dict(config)), x, t) for name, config in candidates.items()}
    rows = []
    for done, (name, config) in enumerate(candidates.items()):
        report("networks", done, len(candidates))
        folder = out / name.replace(" ", "").replace(",", "-").translate(str.maketrans("", "", "()"))
        budget = round(steps * gflop[reference] / gflop[name])
        train(
            "denoiser",
            data,
            None,
            folder,
            network=dict(config),
            steps=budget,
            warmup_steps=min(300, budget // 5),
            ema_decay=0.99,
        )
        rows.append(
            {
                "network": name,
                "parameters": parameter_count(create_denoiser(dict(config))) / 1e6,
                "gflop": gflop[name],
                "steps": budget,
                **_last_validation(folder / "training" / "denoiser" / "log.jsonl"),
            }
        )
    report("networks", len(candidates), len(candidates))
    columns = (
        Column("network", "Unshuffle, channels"),
        Column("parameters", "Parameters, M", ".2f"),
        Column("gflop", "GFLOP per 256 x 256", ".1f"),
        Column("steps", "Training steps", "d"),
        *(Column(key, f"PSNR at {key.removeprefix('psnr_')}, dB", ".2f") for key in MEASURES),
    )
    return Report(
        name="networks",
        title="Compact denoisers at equal training operations",
        summary=f"One-step PSNR on held-out tiles after the operations of {steps} steps of {reference}.",
        tables=(Table("Candidates", columns, rows),),
        provenance=provenance(seed=read_settings("denoiser").seed, data=data),
    )


def _last_validation(log: Path) -> Mapping[str, float]:
    lines: Sequence[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    last: dict[str, float] = [line["validation"] for line in lines if "validation" in line][-1]
    return last
