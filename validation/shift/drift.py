"""How often cases of a site would be flagged for drift by a reference made of the other sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srh_clinic.estimates import Finding, Undefined, proportion
from srh_clinic.trust.drift import (
    QUANTITIES,
    CaseProfile,
    DriftReference,
    Quantity,
    TooFewPatientsError,
    fit_reference,
    one_per_patient,
    patients_needed,
)
from srh_clinic.validation.reporting.report import Column, Table, reasoned_table

LEVEL = 0.05
"""Share of exchangeable cases flagged: 19 patients in the other sites suffice for it."""

QUANTITY_TITLES: dict[Quantity, str] = {"intensity": "By brightness", "steps": "By steps", "embedding": "By what is seen"}


@dataclass(frozen=True)
class ProfiledCase:
    """A case of a cohort, by name, patient and site, with its profile."""

    case: str
    patient: str
    site: str
    profile: CaseProfile


@dataclass(frozen=True)
class SiteDrift:
    """What a reference fitted on all other sites says of a site.

    Attributes
    ----------
    patients
        Of the site, one case of each: those that the shares are of.
    reference_patients
        Of the other sites.
    flagged
        Share of the site's patients that are flagged in any quantity, exact interval. Were the site like the others, it would
        be ``level`` or less.
    by_quantity
        Share flagged in each quantity, at the same level over all of them together.
    """

    site: str
    patients: int
    reference_patients: int
    level: float
    flagged: Finding
    by_quantity: dict[Quantity, Finding]


def site_drift(cases: Sequence[ProfiledCase], *, level: float = LEVEL, seed: int = 0) -> tuple[SiteDrift, ...]:
    """Each site against a reference fitted on the others, in the order of the sites' first cases.

    One case of each patient is drawn by lot, in the site as in the reference, so the shares are of independent patients. A
    patient of the site who was also seen elsewhere takes no part in the reference. Cases of one patient in two sites count in
    each. Cases that lack a quantity which the reference has, for want of tissue, take no part.

    Parameters
    ----------
    cases
        Of a cohort.
    level
        Share of exchangeable cases that may be flagged.
    seed
        Of the lot.
    """
    return tuple(_of_site(site, cases, level, seed) for site in dict.fromkeys(case.site for case in cases))


def drift_table(found: Sequence[SiteDrift]) -> Table:
    """The table of a report; a share that could not be had is a dash, with its reason in the note."""
    columns = [
        Column("site", "Site"),
        Column("patients", "Patients", "d"),
        Column("reference_patients", "Patients elsewhere", "d"),
        Column("flagged", "Share flagged", ".2f"),
        *(Column(name, QUANTITY_TITLES[name], ".2f") for name in QUANTITIES),
    ]
    rows = [
        {
            "site": one.site or "not stated",
            "patients": one.patients,
            "reference_patients": one.reference_patients,
            "flagged": one.flagged,
            **one.by_quantity,
        }
        for one in found
    ]
    levels = ", ".join(f"{level:g}" for level in sorted({one.level for one in found}))
    note = f"Of patients like those of the other sites at most a share of {levels} would be flagged." if found else ""
    return reasoned_table("Drift of each site from the others", columns, rows, note)


def _of_site(site: str, cases: Sequence[ProfiledCase], level: float, seed: int) -> SiteDrift:
    here = [case for case in cases if case.site == site]
    names = {case.patient for case in here}
    elsewhere = [case for case in cases if case.site != site and case.patient not in names]
    reference_patients = len({case.patient for case in elsewhere})
    try:
        # All profiles are of one run, made alike.
        reference = fit_reference(
            [case.profile for case in elsewhere], [case.patient for case in elsewhere], made_with={}, level=level, seed=seed
        )
    except TooFewPatientsError:
        why = (
            f"the other sites have too few patients for a level of {level:g}, which needs {patients_needed(level)} with tissue"
        )
        return _undetermined(site, len(names), reference_patients, level, why)
    comparable = [case for case in here if _comparable(case.profile, reference)]
    if not comparable:
        why = "no case of the site has all that the other sites' cases have"
        return _undetermined(site, 0, reference.patients, level, why)
    drawn = one_per_patient([case.patient for case in comparable], seed)
    checks = [reference.check(comparable[place].profile) for place in drawn]
    hits = [{drift.name for drift in reference.unlike(drifts)} for drifts in checks]
    absent = Undefined("no case of the other sites has it")
    by_quantity: dict[Quantity, Finding] = {
        name: proportion(sum(name in hit for hit in hits), len(hits)) if name in reference.quantities else absent
        for name in QUANTITIES
    }
    flagged = proportion(sum(bool(hit) for hit in hits), len(hits))
    return SiteDrift(site, len(hits), reference.patients, level, flagged, by_quantity)


def _undetermined(site: str, patients: int, reference_patients: int, level: float, why: str) -> SiteDrift:
    nothing = Undefined(why)
    return SiteDrift(site, patients, reference_patients, level, nothing, dict.fromkeys(QUANTITIES, nothing))


def _comparable(profile: CaseProfile, reference: DriftReference) -> bool:
    return all(getattr(profile, name) is not None for name in reference.quantities)
