"""Sections of an accuracy-shift report on probabilities: discrimination, calibration; and on how sites compare."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import CLASSES, OUTCOMES
from srh_clinic.estimates import Finding, Interval, Undefined
from srh_clinic.validation.reporting.figures import forest, line_plot
from srh_clinic.validation.reporting.report import Column, Figure, Section, Table, reasoned_table
from srh_clinic.validation.shift.records import WHEN, Cohort
from srh_clinic.validation.shift.sections.outcomes import TITLES
from srh_clinic.validation.shift.sites import heterogeneity, pooled, site_effects
from srh_clinic.validation.statistics.calibration import (
    RiskCoverage,
    brier,
    brier_difference,
    expected_calibration_error,
    null_calibration_error,
    reliability,
    risk_coverage,
)
from srh_clinic.validation.statistics.roc import TwoAucs, delong, obuchowski, roc_points


def discrimination(cohort: Cohort) -> Section:
    """AUC of each class against the others: DeLong of patients, Obuchowski of cases."""
    patients, truth = cohort.patients, cohort.truth
    before, after = cohort.probabilities("before"), cohort.probabilities("after")
    by_patient = _per_patient(cohort)
    rows = []
    for place, name in enumerate(CLASSES):
        rows.append(
            {"what": f"{name}, {cohort.level}s", "method": "Obuchowski"}
            | _areas(obuchowski(truth == place, before[:, place], after[:, place], patients))
        )
        if by_patient is not None:
            of_patient, p_before, p_after = by_patient
            found = delong(of_patient == place, p_before[:, place], p_after[:, place])
        else:
            found = Undefined("cases of one patient differ in truth")
        rows.append({"what": f"{name}, patients", "method": "DeLong"} | _areas(found))
    columns = (
        Column("what", "Class against the others"),
        Column("method", "Variance after"),
        Column("before", "AUC as scanned", ".3f"),
        Column("after", "AUC restored", ".3f"),
        Column("difference", "Difference", "+.3f"),
        Column("p", "p", ".2g"),
    )
    note = (
        "The score is the class's probability; a patient's is the mean over its cases. DeLong's variance needs independent "
        f"rows, so it is of patients; Obuchowski's takes {cohort.level}s of one patient as they depend on each other."
    )
    tumor = truth == CLASSES.index("tumor")
    plots = []
    if 0 < tumor.sum() < len(tumor):
        curves = {TITLES[when]: roc_points(cohort.probabilities(when)[:, 0], tumor) for when in WHEN}
        caption = "Probability of tumor against its truth."
        labels = "false positive rate", "sensitivity"
        plots = [line_plot("roc", "Tumor against the others", curves, caption, diagonal=True, labels=labels)]
    return Section(
        "discrimination",
        "Discrimination",
        tables=[reasoned_table("Areas under the curve", columns, rows, note)],
        figures=plots,
    )


def _areas(found: TwoAucs | Undefined) -> dict[str, Any]:
    if isinstance(found, Undefined):
        return dict.fromkeys(("before", "after", "difference", "p"), found)
    return {"before": found.before, "after": found.after, "difference": found.difference, "p": found.p}


def _per_patient(cohort: Cohort) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Truth and mean probabilities of each patient; None when a patient's cases differ in truth."""
    patients, truth = cohort.patients, cohort.truth
    number = int(patients.max()) + 1
    of_patient = np.zeros(number, dtype=np.int64)
    of_patient[patients] = truth
    if (of_patient[patients] != truth).any():
        return None
    sums = [np.zeros((number, len(CLASSES))) for _ in WHEN]
    for total, when in zip(sums, WHEN, strict=True):
        np.add.at(total, patients, cohort.probabilities(when))
    cases = np.bincount(patients, minlength=number)[:, None]
    return of_patient, sums[0] / cases, sums[1] / cases


def calibration(cohort: Cohort, seed: int) -> Section:
    """Brier score first, calibration error only beside what a perfectly calibrated model would show, risk against coverage."""
    patients, truth = cohort.patients, cohort.truth
    rows = []
    plots: list[Figure] = []
    diagrams, risks = {}, {}
    for when in WHEN:
        confidence = np.array([getattr(case, when).certainty for case in cohort.cases], dtype=np.float64)
        correct = cohort.correct(when)
        null = null_calibration_error(confidence, seed=seed)
        found = risk_coverage(confidence, cohort.outcomes(when) == OUTCOMES.index("wrong"))
        rows.append(
            {
                "when": TITLES[when],
                "brier": brier(cohort.probabilities(when), truth),
                "ece": expected_calibration_error(confidence, correct),
                "null": null if isinstance(null, Undefined) else null.mean,
                "null_high": null if isinstance(null, Undefined) else null.high,
                "area": found.area if isinstance(found, RiskCoverage) else found,
            }
        )
        bins = reliability(confidence, correct, patients=patients, seed=seed)
        points = [(one.confidence, one.right.value) for one in bins if isinstance(one.right, Interval)]
        if points:
            diagrams[TITLES[when]] = tuple(np.array(points).T)
        if isinstance(found, RiskCoverage):
            risks[TITLES[when]] = (found.coverage, found.risk)
    change: Finding = brier_difference(
        cohort.probabilities("before"), cohort.probabilities("after"), truth, patients, seed=seed
    )
    columns = (
        Column("when", ""),
        Column("brier", "Brier score (0 best, 2 worst)", ".3f"),
        Column("ece", "Calibration error", ".3f"),
        Column("null", "of a perfectly calibrated model: mean", ".3f"),
        Column("null_high", "95 % quantile", ".3f"),
        Column("area", "Area under risk against coverage", ".3f"),
    )
    tables = [
        reasoned_table(
            "Calibration", columns, rows, "The calibration error is biased upwards in few cases: read it beside the null."
        ),
        reasoned_table(
            "Brier score, restored less as scanned",
            (Column("what", ""), Column("change", "Change", "+.3f")),
            [{"what": f"{cohort.level}s, interval over patients", "change": change}],
        ),
    ]
    if diagrams:
        labels = "certainty of what was said", "share correct"
        caption = "Bins of at least eight patients; on the dotted line confidence is what it says."
        plots.append(line_plot("reliability", "Reliability", diagrams, caption, diagonal=True, labels=labels))
    if risks:
        labels = "share diagnosed, the surest first", "share of them wrong"
        top = max(0.05, 1.1 * max(float(risk.max()) for _, risk in risks.values()))
        caption = "What would be wrong if only the surest were diagnosed."
        plots.append(
            line_plot("risk_coverage", "Risk against coverage", risks, caption, y_range=(0.0, min(top, 1.0)), labels=labels)
        )
    return Section("calibration", "Calibration", tables=tables, figures=plots)


def sites(cohort: Cohort, seed: int) -> Section:
    """Each site's shift, what they are together, and whether they differ."""
    rows = site_effects(cohort, seed=seed)
    if len(rows) < 2:
        return Section("sites", "Sites", missing=["the cases are of one site, or of none that the manifest names"])
    together = pooled(rows)
    listed: list[dict[str, Any]] = [
        {
            "site": row.name,
            "patients": row.patients,
            "cases": row.cases,
            "before": row.before,
            "after": row.after,
            "shift": row.shift,
            "weight": None if isinstance(together, Undefined) else together.weights[row.name],
        }
        for row in rows
    ]
    text, drawn = [], [(row.name, row.shift) for row in rows if isinstance(row.shift, Interval)]
    if isinstance(together, Undefined):
        missing = [together.why]
    else:
        missing = []
        listed.append({"site": "all sites, random effects", "cases": len(cohort), "shift": together.effect})
        drawn.append(("all sites", together.effect))
        text.append(
            f"Between sites the shift differs with a standard deviation of {np.sqrt(together.tau2):.3f}; Q = "
            f"{together.q:.2f}, {together.df} degrees of freedom (p = {together.p:.2g}), I2 = {together.i2:.0%}. Over sites "
            "the interval is Hartung and Knapp's."
        )
    columns = (
        Column("site", "Site"),
        Column("patients", "Patients", "d"),
        Column("cases", "Cases", "d"),
        Column("before", "Correct as scanned", ".1%"),
        Column("after", "Correct restored", ".1%"),
        Column("shift", "Change", "+.1%"),
        Column("weight", "Weight", ".0%"),
    )
    tables: list[Table] = [reasoned_table("By site", columns, listed)]
    by_depth = heterogeneity(cohort, "depth")
    if not isinstance(by_depth, Undefined):
        text.append(
            f"By depth, whose images share patients, the shift differs with p = {by_depth.p:.2g} "
            f"(Wald, {by_depth.df} degrees of freedom)."
        )
    plots = (
        [forest("sites", "Change in accuracy by site", drawn, "Meta-analysis of sites.", pooled="all sites")] if drawn else []
    )
    return Section("sites", "Sites", text, tables, plots, missing=missing)
