"""Sections of an accuracy-shift report that say what it is for and what it cannot say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.estimates import Undefined
from srh_clinic.validation.reporting.report import Column, Section, Table
from srh_clinic.validation.shift.records import Cohort


def abstract(cohort: Cohort, changes: Sequence[Mapping[str, Any]]) -> Section:
    """The report in short, by parts."""
    rows = dict(zip(OUTCOMES, changes, strict=True))
    patients = len(set(cohort.patients.tolist()))

    def told(row: Mapping[str, Any]) -> str:
        found = row["change"]
        share = f"{row['before_share']:.1%} as scanned and {row['after_share']:.1%} restored"
        if isinstance(found, Undefined):
            return f"{share}, without an interval because {found.why}"
        return f"{share}, a change of {100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"

    text = [
        "An evaluation of diagnostic accuracy with artificial intelligence: restoration of stimulated Raman histology before "
        "its classification as tumor, normal or non-diagnostic.",
        "Background: images that are deep, dim or out of focus are often non-diagnostic. Objective: whether restoring them "
        "first changes the accuracy of the diagnosis, and whom it harms.",
        f"Methods: {len(cohort)} {cohort.level}s of {patients} patients with known truth, each classified before and after; "
        "the main measure is the change in accuracy, with an interval by the bootstrap over patients.",
        f"Results: correct were {told(rows['correct'])}; confidently wrong {told(rows['wrong'])}.",
        "Interpretation: of these versions, weights and data only; the section Limitations says what else to keep in mind.",
    ]
    return Section("abstract", "Abstract", text)


def use(notice: str) -> Section:
    """What this is for, and exactly what was validated."""
    text = [
        "Stimulated Raman histology shows fresh tissue during an operation. Here it is restored before a classifier sees it, "
        "between scanner and reading; a clinician who reads the slide and its result decides. Its users must know that "
        "restored pixels are an estimate, that flags and doubts go with a result, and that the scan stays beside it.",
        "Population: whoever the cases of the manifest stand for. Objective: the change in accuracy and its harm; the "
        "hypothesis that is tested is of no change, in either direction.",
        "This report compares the diagnoses of a patch classifier on stimulated Raman histology as scanned with those on the "
        "same images restored. It speaks of the versions, weights, settings and data named here and of no others.",
        notice or "The predictions were brought by the manifest; what made them is for its author to say.",
    ]
    if notice:  # the networks were run here, so it is known what they were given
        text.append(
            "The truth is one of three categories that the manifest states before anything is run. The software is given "
            "images alone: no truth, no clinical data, no other result."
        )
    return Section("use", "Intended use", text)


def versions(provenance: Mapping[str, Any]) -> Section:
    """Versions, hashes and seed: what one needs to make the report again."""
    rows = [{"what": name, "value": _short(value)} for name, value in provenance.items()]
    return Section(
        "provenance",
        "Versions, weights, data, seed",
        tables=[Table("Provenance", (Column("what", ""), Column("value", "")), rows)],
    )


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


LIMITATIONS = (
    "The truth is what the manifest says; a slide's truth is taken for that of each of its patches, which need not show what "
    "the slide is called for.",
    "Cases of one patient depend on each other. Intervals and permutations are of patients; with fewer than about forty even "
    "they are rough, and with fewer than eight there are none.",
    "A subgroup that the manifest does not name cannot be seen. Depth, severity and steps depend on each other, so their rows "
    "are not separate findings.",
    "The screen for harm looks at every subgroup and corrects for it, so it misses small harm in small subgroups.",
    "Predictions are those of one classifier: another may be changed by restoration in other ways.",
)


def limitations(notice: str) -> Section:
    """What this report cannot say."""
    simulated = [notice] if notice else []
    return Section("limitations", "Limitations", [*LIMITATIONS, *simulated])
