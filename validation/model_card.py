"""The model card of a bundle: what it is, how it was trained, and what it scored, from files and not from memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srh_clinic.bundles import Bundle, default_model_card, load_bundle, save_bundle
from srh_clinic.errors import InputError
from srh_clinic.training import TASKS, read_settings

SCORES = ("restoration", "calibrator", "classifier", "seams", "real")
"""Reports that a card quotes, by the name of their file."""

CRITERIA_TABLE = "What was asked"


def write_model_card(path: str | Path, reports: str | Path) -> Bundle:
    """Rewrite the card of the bundle at ``path`` with the settings of its training and the scores in ``reports``.

    Parameters
    ----------
    reports
        Folder of the JSON reports of ``srh-clinic benchmark protocol``; those that were made with other weights are refused.

    Raises
    ------
    InputError
        When a report is of other weights, or there is none.
    """
    bundle = load_bundle(path)
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in bundle.own_parts}
    found = [Path(reports) / f"{name}.json" for name in SCORES if (Path(reports) / f"{name}.json").is_file()]
    if not found:
        raise InputError("no report", f"some of {', '.join(f'{name}.json' for name in SCORES)}", reports)
    sections = [default_model_card(bundle.name, bundle.metadata, parts), *_training(bundle), *_scores(bundle, found)]
    kept = {key: value for key, value in bundle.metadata.items() if key != "sha256"}
    return save_bundle(
        bundle.path, parts, kept, "\n".join(sections), storage=bundle.metadata.get("weights_storage", "float32")
    )


def _training(bundle: Bundle) -> list[str]:
    lines = [
        "## Training",
        "On two CPU cores, from simulated tissue, by `make train`; `docs/training.md` says what came in between.",
        "",
    ]
    lines += ["| network | seed | settings |", "|---|---|---|"]
    for task in TASKS:
        if task in bundle.parts:
            settings = read_settings(task).model_dump(mode="json", exclude={"network", "options"})
            lines.append(f"| {task} | {settings.pop('seed')} | `{json.dumps(settings)}` |")
    return lines


def _scores(bundle: Bundle, files: list[Path]) -> list[str]:
    lines = [
        "",
        "## Scores",
        "On the test phantoms that `docs/protocol.yaml` fixed before training, unless a line says otherwise.",
    ]
    for file in files:
        report: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        weights = report["provenance"].get("weights_sha256")
        if weights != bundle.weights_sha256:
            raise InputError(f"a report on the weights {weights}", f"one on {bundle.weights_sha256}", file)
        lines += [
            "",
            f"### {report['title']}",
            f"`{report['provenance']['command']}`",
            "",
            "| asked | measured | met |",
            "|---|---|---|",
        ]
        lines += [
            f"| {row['asked']} | {row['measured']} | {'yes' if row['met'] else '**no**'} |"
            for row in report["tables"][CRITERIA_TABLE]
        ]
    return [*lines, ""]
