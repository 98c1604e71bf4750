"""When to use the restored diagnosis: a policy chosen on some patients, compared with always and never on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import OUTCOMES, USES, outcome
from srh_clinic.estimates import Undefined
from srh_clinic.trust.selective_policy import (
    ALWAYS,
    NEVER,
    NONDIAGNOSTIC,
    Observations,
    SelectivePolicy,
    choose_policy,
    halves,
)
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.statistics.calibration import RiskCoverage, risk_coverage
from srh_clinic.validation.statistics.clusters import clustered_proportion, difference

FEWEST_PATIENTS = 16
"""Patients below which nothing is chosen: a quarter of them would choose, and 8 be held out for the intervals."""

CERTAINTIES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
TRUST_LIMITS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""In thresholds of the guards: 1 is just flagged."""

HARMS = (1, 2, 5, 10)
"""What a wrong diagnosis costs, where a correct one is worth 1 and a non-diagnostic case nothing."""


@dataclass(frozen=True, eq=False)
class SelectiveStudy:
    """What a policy does to patients that had no part in its choice or its bound.

    Attributes
    ----------
    policy
        As chosen and bounded by the patients of ``calibration``.
    calibration, held_out
        Cohorts of different patients.
    comparison
        A row for ``never``, ``always`` and ``selective``: the shares ``correct``, ``wrong`` and ``nondiagnostic``, findings
        over held-out patients, and the share of cases whose restored word is ``used``.
    differences
        The row ``selective - always`` and ``selective - never``: the paired differences of the same shares, findings.
    curve
        The decision curve of the held-out cases: a row for each demand on ``certainty`` or on ``trust`` alone (``limit``,
        ``at``, None for no limit) and for what is said otherwise (``original`` or ``nondiagnostic``), with the three shares
        and ``used``. As in every policy, the demand on trust is not made where the original says the same.
    net_benefit
        A row for each weight ``harm`` of a wrong diagnosis: ``correct - harm * wrong`` of the three, and the paired
        ``difference`` of selective and always, a finding.
    restored, original
        Share wrong among the diagnosed, as ever less sure ones are diagnosed; ``coverage`` is a share of all held-out cases,
        and ends where the others are non-diagnostic.
    """

    policy: SelectivePolicy
    calibration: Cohort
    held_out: Cohort
    comparison: tuple[Mapping[str, Any], ...]
    differences: tuple[Mapping[str, Any], ...]
    curve: tuple[Mapping[str, Any], ...]
    net_benefit: tuple[Mapping[str, Any], ...]
    restored: RiskCoverage | Undefined
    original: RiskCoverage | Undefined


def study_policy(
    cohort: Cohort,
    *,
    seed: int = 0,
    calibration_proportion: float = 0.5,
    alpha: float | None = None,
    made_by: Mapping[str, str | int | float] | None = None,
    resamples: int = 2000,
) -> SelectiveStudy | Undefined:
    """Choose a policy on some of a cohort's patients, and see what it does to the others.

    Parameters
    ----------
    cohort
        Of slides or of patches; a policy for ``diagnose --policy`` is of slides.
    seed
        Of both splits of the patients and of the resamples.
    calibration_proportion
        Of the patients, for the choice and its bound; see
        :func:`~srh_clinic.trust.selective_policy.choose_policy`, which also has ``alpha``.
    made_by
        What the policy has to remember of what made the cases: ``weights_sha256``, ``restorer``.

    Returns
    -------
    Undefined with fewer than 16 patients.

    Raises
    ------
    InputError
        When no policy keeps ``alpha``.
    """
    patients = cohort.patients
    count = len(np.unique(patients))
    if count < FEWEST_PATIENTS:
        return Undefined(f"a policy needs {FEWEST_PATIENTS} patients or more to be chosen and tried; there are {count}")
    calibrating = halves(patients, seed, calibration_proportion)
    calibration, held_out = (
        replace(cohort, cases=tuple(case for case, ours in zip(cohort.cases, which, strict=True) if ours))
        for which in (calibrating, ~calibrating)
    )
    policy = choose_policy(
        observations_of(calibration),
        [case.truth for case in calibration.cases],
        [case.patient for case in calibration.cases],
        alpha=alpha,
        seed=seed,
        calibration={"level": cohort.level, **(made_by or {})},
    )
    return try_policy(policy, calibration, held_out, seed=seed, resamples=resamples)


def try_policy(
    policy: SelectivePolicy, calibration: Cohort, held_out: Cohort, *, seed: int = 0, resamples: int = 2000
) -> SelectiveStudy:
    """What a policy does to held-out patients, beside always and never using the restored diagnosis.

    Raises
    ------
    ValueError
        When a patient is in both cohorts.
    """
    if both := {case.patient for case in calibration.cases} & {case.patient for case in held_out.cases}:
        raise ValueError(f"found {min(both)!r} among calibration and held-out patients; needed different ones.")
    observations, patients = observations_of(held_out), held_out.patients
    policies = {"never": NEVER, "always": ALWAYS, "selective": policy}
    came_of = {name: policy_outcomes(one, observations, held_out) for name, one in policies.items()}
    drawn: dict[str, Any] = {"seed": seed, "resamples": resamples}
    comparison = [
        {
            "policy": name,
            "cases": len(held_out),
            **{kind: clustered_proportion(came_of[name] == kind, patients, **drawn) for kind in OUTCOMES},
            "used": _used(one, observations),
        }
        for name, one in policies.items()
    ]
    differences = [
        {
            "policy": f"selective - {other}",
            "cases": len(held_out),
            **{kind: difference(came_of["selective"] == kind, came_of[other] == kind, patients, **drawn) for kind in OUTCOMES},
        }
        for other in ("always", "never")
    ]
    utility = {
        harm: {name: 1.0 * (found == "correct") - harm * (found == "wrong") for name, found in came_of.items()}
        for harm in HARMS
    }
    net_benefit = [
        {
            "harm": harm,
            **{name: float(values.mean()) for name, values in of.items()},
            "difference": difference(of["selective"], of["always"], patients, widest=1.0 + harm, **drawn),
        }
        for harm, of in utility.items()
    ]
    return SelectiveStudy(
        policy=policy,
        calibration=calibration,
        held_out=held_out,
        comparison=tuple(comparison),
        differences=tuple(differences),
        curve=decision_curve(held_out),
        net_benefit=tuple(net_benefit),
        restored=_risk(observations.restored, observations.p_restored, held_out),
        original=_risk(observations.original, observations.p_original, held_out),
    )


def observations_of(cohort: Cohort) -> Observations:
    """What is known of a cohort's cases without their truth; what nobody measured is NaN."""
    cases = cohort.cases

    def column(name: str) -> NDArray[np.float64]:
        values = [getattr(case, name) for case in cases]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return Observations(
        restored=np.array([case.after.said for case in cases], dtype=np.str_),
        p_restored=np.array([case.after.certainty for case in cases], dtype=np.float64),
        original=np.array([case.before.said for case in cases], dtype=np.str_),
        p_original=np.array([case.before.certainty for case in cases], dtype=np.float64),
        trust=column("trust"),
        steps=column("steps_predicted"),
        agreement=column("agreement"),
    )


def decision_curve(cohort: Cohort) -> tuple[Mapping[str, Any], ...]:
    """Shares correct, wrong and non-diagnostic at each demand on certainty, and on trust where the guards were asked."""
    observations = observations_of(cohort)
    limits: list[tuple[str, float | None]] = [("certainty", at) for at in CERTAINTIES]
    if not np.isnan(observations.trust).all():
        limits += [("trust", at) for at in (*TRUST_LIMITS, None)]
    rows: list[Mapping[str, Any]] = []
    for limit, at in limits:
        p = at if limit == "certainty" else 0.0
        for otherwise, p_original in (("nondiagnostic", None), ("original", 0.0)):
            policy = SelectivePolicy(
                p_restored=p,
                p_agreeing=p,
                p_contradicted=p,
                p_original=p_original,
                trust_limit=at if limit == "trust" else None,
            )
            found = policy_outcomes(policy, observations, cohort)
            proportions: dict[str, float] = {kind: float((found == kind).mean()) for kind in OUTCOMES}
            rows.append({"limit": limit, "at": at, "otherwise": otherwise, **proportions, "used": _used(policy, observations)})
    return tuple(rows)


def policy_outcomes(policy: SelectivePolicy, observations: Observations, cohort: Cohort) -> NDArray[np.str_]:
    """What comes of each case under a policy, ``(N,)``."""
    said = policy.said(observations).tolist()
    return np.array([outcome(case.truth, word) for case, word in zip(cohort.cases, said, strict=True)], dtype=np.str_)


def _used(policy: SelectivePolicy, observations: Observations) -> float:
    """Share of the cases whose restored word stands."""
    return float((policy.uses(observations) == USES.index("restored")).mean())


def _risk(said: NDArray[np.str_], certainty: NDArray[np.float64], cohort: Cohort) -> RiskCoverage | Undefined:
    """Risk and coverage of the cases that are diagnosed; a non-diagnostic word is no diagnosis, however sure."""
    diagnosed = said != NONDIAGNOSTIC
    if not diagnosed.any():
        return Undefined("no case is diagnosed")
    wrong = said != np.array([case.truth for case in cohort.cases], dtype=np.str_)
    found = risk_coverage(certainty[diagnosed], wrong[diagnosed])
    return found if isinstance(found, Undefined) else replace(found, coverage=found.coverage * diagnosed.mean())
