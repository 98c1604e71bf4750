"""Whom does restoration help and whom does it harm: subgroups, screened for those that it harms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.estimates import Finding, Interval, Undefined
from srh_clinic.validation.shift.harm import newly_wrong
from srh_clinic.validation.shift.records import STRATA, WHEN, Cohort
from srh_clinic.validation.statistics.clusters import clustered, clustered_proportion, difference
from srh_clinic.validation.statistics.paired import holm, within_patient_permutation

UTILITY = {"correct": 1.0, "nondiagnostic": 0.5, "wrong": 0.0}
"""What an outcome is worth when one looks for harm: a wrong diagnosis is as much worse than none as a right one is better."""

SIGNIFICANCE = 0.05
"""Of the screen as a whole: Holm's correction is over all subgroups."""


@dataclass(frozen=True)
class Subgroup:
    """What restoration did to the cases of one value of one stratum.

    Attributes
    ----------
    before, after, shift
        Share of correct cases, and its change, with intervals over patients.
    newly_wrong
        Share of cases that are wrong and were not.
    excess
        That share less the share among all other cases, with an interval at Bonferroni's level.
    worth
        Mean change of what outcomes are worth (:data:`UTILITY`).
    p, p_holm
        Of the permutation within patients of what outcomes are worth (:data:`UTILITY`), before and after Holm's correction;
        None when there was nothing to permute.
    alarm
        Why restoration is said to harm it; "" where it is not.
    """

    stratum: str
    value: str
    cases: int
    patients: int
    before: Finding
    after: Finding
    shift: Finding
    newly_wrong: Finding
    excess: Finding
    worth: float
    p: float | None
    p_holm: float | None
    alarm: str

    @property
    def name(self) -> str:
        """Stratum and value."""
        return f"{self.stratum}: {self.value}"


def strata(cohort: Cohort) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Each stratum with more than one value, each of its values, and which cases have it, bool ``(N,)``.

    Steps are cut into three groups of equal size by the cohort's own terciles.
    """
    for stratum in STRATA:
        values = [getattr(case, stratum) for case in cohort.cases]
        named = dict.fromkeys(value for value in values if value)
        if len(named) > 1 or (named and "" in values):
            for value in sorted(named):
                yield stratum, value, np.array([one == value for one in values], dtype=bool)
    steps = np.array(
        [np.nan if case.steps_predicted is None else case.steps_predicted for case in cohort.cases], dtype=np.float64
    )
    known = np.isfinite(steps)
    if known.sum() >= 3:
        first, second = np.quantile(steps[known], [1 / 3, 2 / 3])
        if steps[known].min() < first < second:
            yield "t_pred", f"below {first:.0f}", steps < first
            yield "t_pred", f"{first:.0f} to {second:.0f}", (steps >= first) & (steps < second)
            yield "t_pred", f"{second:.0f} and more", steps >= second


def screen(cohort: Cohort, seed: int = 0) -> list[Subgroup]:
    """Every subgroup, and whether restoration harms it.

    It does where outcomes are worth less after than before beyond chance (a permutation within patients, Holm's correction
    over all subgroups), or where more cases become newly wrong than of all others (the interval of the excess lies above 0). A
    subgroup with too few patients says so; its counts are shown all the same.
    """
    groups = list(strata(cohort))
    patients = cohort.patients
    utility = {
        when: np.array([UTILITY[OUTCOMES[place]] for place in cohort.outcomes(when)], dtype=np.float64) for when in WHEN
    }
    right = {when: cohort.correct(when) for when in WHEN}
    new = np.array([newly_wrong(case) for case in cohort.cases], dtype=bool)
    p_values: dict[str, float | None] = {}
    for stratum, value, inside in groups:
        test = within_patient_permutation(utility["before"][inside], utility["after"][inside], patients[inside], seed=seed)
        p_values[f"{stratum}: {value}"] = None if isinstance(test, Undefined) else test.p
    adjusted = holm(p_values)
    level = 1 - SIGNIFICANCE / max(len(groups), 1)
    found = []
    for stratum, value, inside in groups:
        name, members = f"{stratum}: {value}", patients[inside]
        gain = float(utility["after"][inside].mean() - utility["before"][inside].mean())
        excess = _excess(new, inside, patients, level, seed)
        corrected = adjusted.get(name)
        alarms = []
        if gain < 0 and corrected is not None and corrected < SIGNIFICANCE:
            alarms.append(f"outcomes are worse after restoration (p = {corrected:.2g} after Holm's correction)")
        if isinstance(excess, Interval) and excess.low > 0:
            alarms.append(
                f"{new[inside].mean():.0%} become newly wrong, {new[~inside].mean():.0%} of all others "
                f"({level:.1%} interval of the difference from {excess.low:+.0%})"
            )
        found.append(
            Subgroup(
                stratum=stratum,
                value=value,
                cases=int(inside.sum()),
                patients=len(np.unique(members)),
                before=clustered_proportion(right["before"][inside], members, seed=seed),
                after=clustered_proportion(right["after"][inside], members, seed=seed),
                shift=difference(right["after"][inside], right["before"][inside], members, seed=seed),
                newly_wrong=clustered_proportion(new[inside], members, seed=seed),
                excess=excess,
                worth=gain,
                p=p_values[name],
                p_holm=corrected,
                alarm="; ".join(alarms),
            )
        )
    return found


def _excess(
    new: NDArray[np.bool_], inside: NDArray[np.bool_], patients: NDArray[np.int64], level: float, seed: int
) -> Finding:
    if inside.all():
        return Undefined("there are no other cases to compare with")

    counted = np.stack([inside, ~inside, inside & new, ~inside & new], axis=1).astype(np.float64)

    def statistic(weights: NDArray[np.float64]) -> float:
        of_inside, of_others, new_inside, new_others = (weights @ counted).tolist()
        return new_inside / of_inside - new_others / of_others if of_inside and of_others else float("nan")

    return clustered(statistic, patients, level=level, seed=seed)
