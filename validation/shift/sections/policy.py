"""Sections of an accuracy-shift report on use: when the restored diagnosis should stand, and which cases are unlike these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.estimates import Undefined
from srh_clinic.trust.selective_policy import NONDIAGNOSTIC
from srh_clinic.validation.reporting.figures import line_plot
from srh_clinic.validation.reporting.report import Column, Figure, Section, Table, reasoned_table
from srh_clinic.validation.shift.drift import ProfiledCase, drift_table, site_drift
from srh_clinic.validation.shift.selective import SelectiveStudy, observations_of, policy_outcomes
from srh_clinic.validation.statistics.calibration import RiskCoverage

DRIFT_LEVEL = 0.05
"""Share of exchangeable cases that a drift reference of a validation flags: at 0.01 it would need 99 patients."""

PROPORTIONS = (
    Column("correct", "Correct", ".1%"),
    Column("nondiagnostic", "Non-diagnostic", ".1%"),
    Column("wrong", "Confidently wrong", ".1%"),
)
CHANGES = tuple(Column(column.key, column.title, "+.1%") for column in PROPORTIONS)


def selective(study: SelectiveStudy | Undefined) -> Section:
    """Always, never or only where trust and certainty allow it."""
    title = "When to use the restored diagnosis"
    if isinstance(study, Undefined):
        return Section("selective", title, missing=[study.why])
    policy, held_out = study.policy, study.held_out
    chose, tried = (len(set(cohort.patients.tolist())) for cohort in (study.calibration, held_out))
    where = f"Chosen on {chose} patients of this cohort" if chose else "Chosen on another cohort"
    text = [f"{where} and tried on {tried} others ({len(held_out)} {held_out.level}s). The policy: {policy.in_words()}"]
    if policy.bound is not None:
        text.append(
            f"Of patients that had no part in its choice {policy.bound.rate:.1%} of a patient's cases got a wrong diagnosis "
            f"on average; with a confidence of {policy.bound.confidence:.0%} it is at most {policy.bound.upper:.1%} among "
            f"further patients like them ({policy.bound.patients} patients, Learn then Test). It promises nothing for others."
        )
    tables: list[Table] = [
        reasoned_table(
            "Held-out patients",
            (Column("policy", "Restored diagnosis is used"), *PROPORTIONS, Column("used", "Share used", ".1%")),
            study.comparison,
        ),
        reasoned_table("Differences, paired", (Column("policy", "Policies"), *CHANGES), study.differences),
        reasoned_table(
            "Net benefit: correct less a weight times wrong",
            (
                Column("harm", "Weight of a wrong diagnosis", "d"),
                Column("never", "Never", "+.3f"),
                Column("always", "Always", "+.3f"),
                Column("selective", "Selective", "+.3f"),
                Column("difference", "Selective less always", "+.3f"),
            ),
            study.net_benefit,
        ),
        reasoned_table(
            "Decision curve",
            (
                Column("limit", "Demand on"),
                Column("at", "at", ".2f"),
                Column("otherwise", "Said otherwise"),
                *PROPORTIONS,
                Column("used", "Share used", ".1%"),
            ),
            study.curve,
            "Certainty: the least probability of the restored class. Trust: the strongest word of the guards, in thresholds; "
            "a dash is no limit.",
        ),
    ]
    return Section("selective", title, text, tables, _plots(study))


def _plots(study: SelectiveStudy) -> list[Figure]:
    drawn = []
    risks = {
        name: (found.coverage, found.risk)
        for name, found in (("restored", study.restored), ("original", study.original))
        if isinstance(found, RiskCoverage)
    }
    if risks:
        observations = observations_of(study.held_out)
        wrong = policy_outcomes(study.policy, observations, study.held_out) == "wrong"
        diagnosed = float((study.policy.said(observations) != NONDIAGNOSTIC).mean())
        points = {"policy": (diagnosed, float(wrong.mean()) / diagnosed)} if diagnosed else {}
        top = max([0.05, *(1.15 * float(risk.max()) for _, risk in risks.values())])
        labels = "share of cases diagnosed, the surest first", "share of them wrong"
        caption = "Held-out patients; the star is the policy, which also asks guards and original."
        drawn.append(
            line_plot(
                "selective_risk",
                "Risk against coverage",
                risks,
                caption,
                points=points,
                y_range=(0.0, min(top, 1.0)),
                labels=labels,
            )
        )
    certainty = [row for row in study.curve if row["limit"] == "certainty" and row["otherwise"] == "nondiagnostic"]
    if certainty:
        at = [row["at"] for row in certainty]
        curves = {str(name): (np.array(at), np.array([row[name] for row in certainty])) for name in OUTCOMES}
        labels = "least probability of the restored class", "share of cases"
        caption = "Held-out patients; below the demand a case is non-diagnostic."
        drawn.append(line_plot("decision", "Decision curve", curves, caption, labels=labels))
    return drawn


def drift(cases: Sequence[ProfiledCase], why_not: str, seed: int) -> Section:
    """How often a site's cases are told from those of the others, which is what ``diagnose --reference`` warns of."""
    title = "Drift between sites"
    if not cases:
        return Section("drift", title, missing=[why_not])
    if len({case.site for case in cases}) < 2:
        return Section("drift", title, missing=["the cases are of one site, or of none that the manifest names"])
    found = site_drift(cases, level=DRIFT_LEVEL, seed=seed)
    text = [
        "Each site against a reference of the others, in brightness, steps asked for and what the classifier sees; "
        "the same check against all patients of this validation is what srh-clinic diagnose --reference warns from."
    ]
    return Section("drift", title, text, [drift_table(found)])


def remembered(provenance: Mapping[str, Any]) -> dict[str, str | int | float]:
    """What a policy has to remember of what made its cases."""
    if not provenance:
        return {}
    return {"weights_sha256": provenance["weights_sha256"], "restorer": provenance["settings"]["restorer"]}
