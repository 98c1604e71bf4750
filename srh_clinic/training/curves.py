"""The picture of a training's log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def draw_log(log: Path, picture: Path) -> None:
    """Draw the loss and the validation measures of ``log.jsonl`` over the steps, as a PNG.

    The loss is drawn as logged and as a running mean over 20 lines; each measure of the validation has a panel of its own.
    """
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = np.array([(line["step"], line["loss"]) for line in lines if "loss" in line], dtype=np.float64).reshape(-1, 2)
    validations = [(line["step"], line["validation"]) for line in lines if "validation" in line]
    names = list(validations[-1][1]) if validations else []
    columns = 4
    rows = 1 + -(-len(names) // columns)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    axes = figure.add_subplot(grid[0, :])
    axes.plot(*losses.T, color="0.75", label="loss")
    if len(losses) >= 20:
        mean = np.convolve(losses[:, 1], np.full(20, 1 / 20), mode="valid")
        axes.plot(losses[19:, 0], mean, color="C0", label="mean of 20 lines")
    scale = "log" if (losses[:, 1] > 0).all() else "linear"  # a mean logarithm falls below 0
    axes.set(xlabel="step", yscale=scale, title=f"{log.parent.name}: training loss")
    axes.legend()
    for i, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + i // columns, i % columns])
        axes.plot([step for step, _ in validations], [values[name] for _, values in validations], marker=".")
        axes.set_title(name, fontsize=9)
    figure.savefig(picture, dpi=80)
