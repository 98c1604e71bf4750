"""The model card of a bundle: what it is, how it was trained, and what it scored, from files and not from memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srh_clinic.bundles import Bundle, annotate_bundle, default_model_card, load_bundle
from srh_clinic.case.provenance import guard_policy_of
from srh_clinic.errors import InputError
from srh_clinic.training import TASKS, read_settings
from srh_clinic.training.together import CONFIGS
from srh_clinic.validation.reporting.report import CRITERIA

SCORES = ("restoration", "calibrator", "classifier", "seams", "real", "guards")
"""Reports that a card quotes, by the name of their file."""

CRITERIA_TABLE = "What was asked"


def write_model_card(path: str | Path, reports: str | Path | None = None) -> Bundle:
    """Rewrite the card of the bundle at ``path`` with the settings of its trainings and what it scored.

    Parameters
    ----------
    reports
        Folder of the JSON reports of ``srh-clinic benchmark protocol``; those that were made with other weights are refused.
        Without, the scores are those on held-out images in the logs of the trainings, which lie beside the bundle.

    Raises
    ------
    InputError
        When a report is of other weights, or there is neither report nor log.
    """
    bundle = load_bundle(path)
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in bundle.own_parts}
    scores = _held_out(bundle) if reports is None else _scores(bundle, _reports(Path(reports)))
    sections = [default_model_card(bundle.name, bundle.metadata, parts), *_training(bundle), *guards_of_card(bundle), *scores]
    return annotate_bundle(bundle, model_card="\n".join(sections))


def _reports(folder: Path) -> list[Path]:
    found = [folder / f"{name}.json" for name in SCORES if (folder / f"{name}.json").is_file()]
    if not found:
        raise InputError("no reports", f"one or more of {', '.join(f'{name}.json' for name in SCORES)}", folder)
    return found


def _training(bundle: Bundle) -> list[str]:
    lines = [
        "## Training",
        "On two CPU cores, from simulated tissue, by `srh-clinic train NETWORK`; see `docs/training.md`.",
        "",
    ]
    lines += ["| network | seed | settings |", "|---|---|---|"]
    for task in TASKS:
        if task in bundle.own_parts:
            settings = _settings(bundle, task)
            lines.append(f"| {task} | {settings.pop('seed')} | `{json.dumps(settings)}` |")
    return lines


def guards_of_card(bundle: Bundle) -> list[str]:
    """What the bundle promises of its guards, when it does."""
    policy = guard_policy_of(bundle)
    if policy is None:
        return []
    lines = ["", "## Guards", "Thresholds on simulated tissue, by `srh-clinic bundle calibrate`; see `docs/trust.md`.", ""]
    lines += ["| of tiles with one edit, at most | with confidence | go unflagged at threshold |", "|---:|---:|---:|"]
    lines += [f"| {promise.alpha:.0%} | {promise.confidence:.0%} | {promise.threshold:.3f} |" for promise in policy.promises]
    facts = {**policy.calibration, "steps": f"{policy.steps[0]} to {policy.steps[1]} predicted"}
    return [*lines, "", "| calibrated on | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]


def _settings(bundle: Bundle, task: str) -> dict[str, Any]:
    """Settings of a training: those of its checkpoint where that lies beside the bundle, else the packaged ones
    of such a network."""
    checkpoint = bundle.path / "training" / task / "checkpoint.pt"
    if checkpoint.is_file():
        import torch

        settings: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)["settings"]
    else:
        chosen = read_settings(task, CONFIGS.get(task)).model_dump(mode="json")
        fits = chosen.get("network") == bundle.config(task)
        settings = chosen if fits else read_settings(task).model_dump(mode="json")
    return {key: value for key, value in settings.items() if key not in ("network", "options")}


def _held_out(bundle: Bundle) -> list[str]:
    """The last validation of each training, and what the one at three quarters of it said."""
    lines = ["", "## Scores", "On held-out simulated images, at three quarters of the training and at its end.", ""]
    lines += ["| network | measure | three quarters | end |", "|---|---|---:|---:|"]
    for task in bundle.own_parts:
        log = bundle.path / "training" / task / "log.jsonl"
        if not log.is_file():
            raise InputError("no training log", f"{log.name} of the {task}, or a folder of reports", log)
        entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        judged = [entry for entry in entries if "validation" in entry]
        end = judged[-1]
        earlier = min(judged, key=lambda entry: abs(entry["step"] - 0.75 * end["step"]))
        for name, value in end["validation"].items():
            lines.append(f"| {task} | {name} | {earlier['validation'][name]:.3f} (step {earlier['step']}) | {value:.3f} |")
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
            raise InputError(f"a report on the weights {weights}", f"a report on the weights {bundle.weights_sha256}", file)
        lines += [
            "",
            f"### {report['title']}",
            f"`{report['provenance']['command']}`",
            "",
            "| asked | measured | met |",
            "|---|---|---|",
        ]
        lines += [f"| {' | '.join(column.markdown(row) for column in CRITERIA)} |" for row in report["tables"][CRITERIA_TABLE]]
    return [*lines, ""]
