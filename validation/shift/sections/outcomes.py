"""The sections of an accuracy-shift report, each from the cohort alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from srh_clinic.diagnosis import CLASSES, OUTCOMES
from srh_clinic.estimates import Finding, Interval, Undefined
from srh_clinic.validation.reporting.figures import before_and_after, flow_diagram, forest, transition_map
from srh_clinic.validation.reporting.report import Column, Figure, Section, Table, reasoned_table
from srh_clinic.validation.shift.harm import harm_rows, ledger, ledger_rows
from srh_clinic.validation.shift.records import STRATA, WHEN, Cohort, When, patient_outcomes, patient_said
from srh_clinic.validation.shift.subgroups import UTILITY, Subgroup
from srh_clinic.validation.statistics.clusters import (
    clustered_proportion,
    difference,
    naive_difference,
    p_of_change,
    standard_errors,
)
from srh_clinic.validation.statistics.paired import (
    PairedTest,
    holm,
    mcnemar,
    stuart_maxwell,
    within_patient_permutation,
)

PAPER_ROWS = (
    {"label": "paper, as scanned", "correct": 0.24, "nondiagnostic": 0.50, "wrong": 0.26},
    {"label": "paper, restored", "correct": 0.75, "nondiagnostic": 0.19, "wrong": 0.06},
)
"""Lyu et al. 2025, Downstream Clinical Tasks: over 50 % non-diagnostic and 26 % wrong as scanned, over 75 % correct and 6 %
wrong restored; see :data:`PAPER_NOTE`."""

PAPER_NOTE = (
    "The paper's rows are of human tissue and another classifier, so they do not compare as numbers. Where it gives a bound "
    "(over 50 % non-diagnostic as scanned, over 75 % correct restored), it is shown, and the rest is the outcome not given."
)

TITLES: dict[When, str] = {"before": "as scanned", "after": "restored"}

CHANGE = {
    "correct": "Correct",
    "nondiagnostic": "Non-diagnostic where a diagnosis could be made",
    "wrong": "Confidently wrong",
}


def flow(cohort: Cohort, rows: int) -> Section:
    """How many rows the manifest has, which take part, which do not and why."""
    why = Counter(one.why for one in cohort.excluded)
    counted = [
        {"step": "rows of the manifest", "cases": rows},
        *({"step": f"left out: {reason}", "cases": -count} for reason, count in sorted(why.items())),
        {"step": "analysed", "cases": len(cohort), "patients": len(set(cohort.patients.tolist()))},
        *(
            {
                "step": f"of them {name} in truth",
                "cases": sum(case.truth == name for case in cohort.cases),
                "patients": len({case.patient for case in cohort.cases if case.truth == name}),
            }
            for name in CLASSES
        ),
    ]
    columns = (Column("step", ""), Column("cases", "Cases", "d"), Column("patients", "Patients", "d"))
    tables = [Table("Flow of cases", columns, counted)]
    if cohort.excluded:
        left_out = [{"case": one.case, "why": one.why} for one in cohort.excluded]
        tables.append(Table("Every exclusion", (Column("case", "Case"), Column("why", "Reason")), left_out))
    spread = [
        {
            "stratum": stratum,
            "value": value,
            "cases": sum(getattr(case, stratum) == value for case in cohort.cases),
            "patients": len({case.patient for case in cohort.cases if getattr(case, stratum) == value}),
        }
        for stratum in STRATA
        for value in sorted({getattr(case, stratum) for case in cohort.cases} - {""})
    ]
    if spread:
        named = (Column("stratum", "Stratum"), Column("value", "Value"), *columns[1:])
        tables.append(Table("Cases by stratum", named, spread))
    shown = [f"{rows} rows of the manifest", *(f"{count} left out: {reason}" for reason, count in sorted(why.items()))]
    kept = f"{len(cohort)} {cohort.level}s of {len(set(cohort.patients.tolist()))} patients analysed"
    truths = [f"{sum(case.truth == name for case in cohort.cases)} {name}" for name in CLASSES]
    diagram = flow_diagram(shown[0], shown[1:], kept, truths)
    each = len(cohort) / max(len(set(cohort.patients.tolist())), 1)
    text = [
        "Every row of the manifest is taken, in this order: one of three truths and a patient, an image that is no other "
        "row's, two channels whose pixel size and scale are known; a row without predictions, or whose image cannot be read, "
        "is left out with its reason.",
        f"{each:.1f} {cohort.level}s a patient on average. {' '.join(cohort.warnings)}".strip(),
    ]
    text.append(
        "All that are analysed are one test set: no network is trained on them. For a policy alone the patients, never their "
        "slides, are divided at random, a quarter to choose it, a quarter to bound it and half to try it; with fewer than 16 "
        "none is chosen and nobody is set apart. A policy that was chosen on another cohort is tried on all of them."
    )
    return Section("flow", "Flow of cases", text, tables, [diagram])


def change_rows(cohort: Cohort, seed: int) -> list[dict[str, Any]]:
    """Each outcome's share before and after, and its change: intervals over patients, and one as if rows were independent."""
    patients = cohort.patients
    rows = []
    for outcome in OUTCOMES:
        before, after = (cohort.outcomes(when) == OUTCOMES.index(outcome) for when in WHEN)
        rows.append(
            {
                "outcome": CHANGE[outcome],
                "n": len(cohort),
                "before_share": float(before.mean()),
                "after_share": float(after.mean()),
                "before": clustered_proportion(before, patients, seed=seed),
                "after": clustered_proportion(after, patients, seed=seed),
                "change": difference(after, before, patients, seed=seed),
                "naive": naive_difference(after.astype(float), before.astype(float)),
            }
        )
    return rows


def outcomes(cohort: Cohort, rows: Sequence[dict[str, Any]]) -> Section:
    """Before and after, non-diagnostic kept as an outcome of its own, the paper's row beside ours; of :func:`change_rows`."""
    columns = (
        Column("outcome", "Outcome"),
        Column("n", "n", "d"),
        Column("before", "As scanned", ".1%"),
        Column("after", "Restored", ".1%"),
        Column("change", "Change", "+.1%"),
    )
    note = "95 % intervals by the bootstrap over patients. " + PAPER_NOTE
    return Section(
        "outcomes",
        "Before and after",
        tables=[
            reasoned_table("Outcomes", columns, rows, note),
            *(confusion(cohort, when, title) for when, title in TITLES.items()),
        ],
        figures=[bars(cohort)],
    )


def bars(cohort: Cohort, name: str = "outcomes") -> Figure:
    """Outcomes before and after beside the paper's, under a name of its own wherever it stands on a page."""
    ours = [
        {
            "label": label,
            **{one: float(np.mean(cohort.outcomes(when) == place)) for place, one in enumerate(OUTCOMES)},
        }
        for when, label in TITLES.items()
    ]
    return before_and_after(name, [*ours, *PAPER_ROWS], f"{len(cohort)} {cohort.level}s. {PAPER_NOTE}")


def confusion(cohort: Cohort, when: When, title: str) -> Table:
    """Truth against what was said."""
    truth, said = cohort.truth, cohort.said(when)
    rows = [
        {"truth": name, **{other: int(((truth == i) & (said == j)).sum()) for j, other in enumerate(CLASSES)}}
        for i, name in enumerate(CLASSES)
    ]
    return Table(
        f"Truth (rows) and what was said (columns), {title}",
        (Column("truth", "Truth"), *(Column(name, name, "d") for name in CLASSES)),
        rows,
    )


def transitions(cohort: Cohort) -> Section:
    """Outcome to outcome, and class to class within each truth."""
    before, after = cohort.outcomes("before"), cohort.outcomes("after")
    places = range(len(OUTCOMES))
    counts = np.array([[((before == i) & (after == j)).sum() for j in places] for i in places])
    said = [(case.truth, case.before.said, case.after.said) for case in cohort.cases]
    counted = Counter(said)
    rows = [
        {"truth": truth, "before": was, "after": now, "cases": counted[truth, was, now]}
        for truth in CLASSES
        for was in CLASSES
        for now in CLASSES
        if counted[truth, was, now]
    ]
    columns = (
        Column("truth", "Truth"),
        Column("before", "As scanned"),
        Column("after", "Restored"),
        Column("cases", "Cases", "d"),
    )
    plot = transition_map("transitions", "From outcome to outcome", counts, OUTCOMES, f"{len(cohort)} {cohort.level}s.")
    return Section("transitions", "Transitions", tables=[Table("From class to class", columns, rows)], figures=[plot])


def harm(cohort: Cohort, seed: int) -> Section:
    """How often restoration makes it worse, and of whom."""
    columns = (
        Column("transition", "Transition"),
        Column("harm", ""),
        Column("count", "Cases", "d"),
        Column("of", "Of those that could", "d"),
        Column("patients", "Patients", "d"),
        Column("exact", "Share, Clopper-Pearson", ".1%"),
        Column("clustered", "Share, over patients", ".1%"),
    )
    note = "Clopper and Pearson's interval takes the cases of a patient as independent; the last column does not."
    harmed = ledger(cohort)
    listed = (
        Column("case", "Case"),
        Column("patient", "Patient"),
        Column("site", "Site"),
        Column("truth", "Truth"),
        Column("before", "As scanned (p)"),
        Column("after", "Restored (p)"),
        Column("change", "Change"),
        Column("t_pred", "Steps", ".0f"),
        Column("trust", "Guards", ".2f"),
    )
    tables = [reasoned_table("Harm and benefit", columns, harm_rows(cohort, seed), note)]
    text = [
        "Accuracy hides harm: a correct case that was lost is outweighed by one that was won, and a case that was called "
        "non-diagnostic and is now confidently wrong was no success before either."
    ]
    if harmed:
        tables.append(
            Table(
                "Every harmed case",
                listed,
                ledger_rows(harmed),
                "Tumors called normal first, then other new errors. In brackets the certainty: of a patch its probability, of "
                "a slide the mean over its patches. Guards: their strongest word, in thresholds; 1 is just flagged.",
            )
        )
    else:
        text.append("No case was harmed.")
    return Section("harm", "Harm ledger", text, tables)


def tests(cohort: Cohort, seed: int) -> Section:
    """Tests at the level where they hold: of patients for McNemar and Stuart-Maxwell, of cases only by permuting patients."""
    patients = cohort.patients
    correct = OUTCOMES.index("correct")
    by_patient = {when: patient_outcomes(cohort, when) == correct for when in WHEN}
    utility = {when: np.array([UTILITY[OUTCOMES[place]] for place in cohort.outcomes(when)]) for when in WHEN}
    found: dict[str, PairedTest | Undefined] = {
        "accuracy, patients": mcnemar(by_patient["before"], by_patient["after"]),
        "classes said, patients": stuart_maxwell(patient_said(cohort, "before"), patient_said(cohort, "after")),
        f"accuracy, {cohort.level}s": within_patient_permutation(
            cohort.correct("before").astype(float), cohort.correct("after").astype(float), patients, seed=seed
        ),
        f"worth of the outcome, {cohort.level}s": within_patient_permutation(
            utility["before"], utility["after"], patients, seed=seed
        ),
    }
    accuracy = found[name := f"accuracy, {cohort.level}s"]
    p = p_of_change(cohort.correct("after"), cohort.correct("before"), patients, seed=seed)
    if not isinstance(accuracy, Undefined) and not isinstance(p, Undefined):
        found[name] = replace(accuracy, p=p)
    adjusted = holm({name: None if isinstance(test, Undefined) else test.p for name, test in found.items()})
    rows = [
        {"what": name, "test": test, "p": test}
        if isinstance(test, Undefined)
        else {
            "what": name,
            "test": test.name,
            "statistic": test.statistic,
            "n": test.n,
            "changed": test.changed,
            "p": test.p,
            "holm": adjusted[name],
        }
        for name, test in found.items()
    ]
    columns = (
        Column("what", "What is compared"),
        Column("test", "Test"),
        Column("statistic", "Statistic", ".3g"),
        Column("n", "Pairs or patients", "d"),
        Column("changed", "of them changed", "d"),
        Column("p", "p", ".2g"),
        Column("holm", "p after Holm", ".2g"),
    )
    note = (
        "McNemar's and Stuart-Maxwell's tests need independent rows, so each patient is one: the most frequent outcome of its "
        f"cases, the least favourable of equally frequent ones. {cohort.level.capitalize()}s are compared by swapping before "
        f"and after of whole patients; p of the accuracy of {cohort.level}s is below 0.05 just where the 95 % interval of its "
        "change leaves 0 out. Patients' outcomes are another quantity, whose p may say otherwise where patients have several "
        "cases. The worth of an outcome is 1 correct, 0.5 non-diagnostic, 0 wrong."
    )
    return Section("tests", "Tests", tables=[reasoned_table("Before against after", columns, rows, note)])


def intervals(cohort: Cohort, rows: Sequence[dict[str, Any]]) -> Section:
    """What taking rows as independent would have claimed, of :func:`change_rows`."""
    errors = standard_errors(cohort.correct("after").astype(float), cohort.correct("before").astype(float), cohort.patients)
    columns = (
        Column("outcome", "Outcome"),
        Column("change", "Change, over patients", "+.1%"),
        Column("naive", "as if rows were independent", "+.1%"),
    )
    tables = [reasoned_table("Intervals of the change", columns, rows)]
    if isinstance(errors, Undefined):
        return Section("intervals", "Intervals", tables=tables, missing=[errors.why])
    text = [
        f"The standard error of the change in accuracy is {errors.clustered:.4f} over patients; taking rows as independent it "
        f"would be {errors.naive:.4f}. Intervals of this report are by the bootstrap over patients, with percentiles widened "
        "for few of them; how often they cover on simulated cohorts is what srh-clinic benchmark shift measures."
    ]
    return Section("intervals", "Intervals", text, tables)


def subgroups(found: Sequence[Subgroup]) -> Section:
    """What restoration did to whom."""
    if not found:
        why = "the manifest breaks cases down by nothing, or by one value alone"
        return Section("subgroups", "Subgroups", missing=[why])
    rows = [
        {
            "group": one.name,
            **{
                key: getattr(one, key)
                for key in ("cases", "patients", "before", "after", "shift", "newly_wrong", "excess", "p", "p_holm", "worth")
            },
            "alarm": "harmed" if one.alarm else "",
        }
        for one in found
    ]
    columns = (
        Column("group", "Subgroup"),
        Column("cases", "Cases", "d"),
        Column("patients", "Patients", "d"),
        Column("before", "Correct as scanned", ".1%"),
        Column("after", "Correct restored", ".1%"),
        Column("shift", "Change", "+.1%"),
        Column("newly_wrong", "Newly wrong", ".1%"),
        Column("excess", "more than among others", "+.1%"),
        Column("alarm", "Screen"),
    )
    screened = (
        columns[0],
        Column("worth", "Change of the worth of an outcome", "+.3f"),
        Column("p", "p, permutation", ".2g"),
        Column("p_holm", "p after Holm", ".2g"),
        Column("alarm", "Screen"),
    )
    note = (
        "The screen: outcomes worth less after restoration by the permutation within patients (p after Holm's correction over "
        "all subgroups below 0.05), or more newly wrong cases than among all others (Bonferroni's interval above 0). p is of "
        "the worth of outcomes, 1 correct, 0.5 non-diagnostic, 0 wrong, and no test of the change in accuracy."
    )
    drawn: list[tuple[str, Finding]] = [(f"{one.name} (n = {one.cases})", one.shift) for one in found]
    shown = [(label, shift) for label, shift in drawn if isinstance(shift, Interval)]
    marked = frozenset(f"{one.name} (n = {one.cases})" for one in found if one.alarm)
    caption = "Vermilion: the screen says that restoration harms it."
    plots = [forest("subgroups", "Change in accuracy by subgroup", shown, caption, marked=marked)] if shown else []
    tables = [reasoned_table("By subgroup", columns, rows, "95 % intervals over patients; the excess at Bonferroni's level.")]
    tables.append(reasoned_table("Screen of subgroups", screened, rows, note))
    return Section("subgroups", "Subgroups", tables=tables, figures=plots)
