"""Sections of an accuracy-shift report that say what it is for and what it cannot say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from srh_clinic.validation.reporting.report import Column, Section, Table


def use(notice: str) -> Section:
    """What this is for, and exactly what was validated."""
    text = [
        "This report compares the diagnoses of a patch classifier on stimulated Raman histology as scanned with those on the "
        "same images restored. It speaks of the versions, weights, settings and data named here and of no others.",
        notice or "The predictions were brought by the manifest; what made them is for its author to say.",
    ]
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
