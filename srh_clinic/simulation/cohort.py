"""A simulated cohort: patients of several sites, each scanned at several depths, whose truth is known.

Sites differ in how good their instrument is and how bright its images are, deeper images are worse, and a patient's images are
better or worse together, so that the images of one patient are no independent samples: as in a clinical validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.intensity import rounded_counts
from srh_clinic.simulation.phantom import Phantom, simulate_patch
from srh_clinic.simulation.tissue import DIAGNOSIS_OF_KIND

COHORT_SEED = 9_800_000
"""First seed of a cohort's tissue: no network was trained and no setting chosen on it or beyond."""

KINDS = (
    "glioma",
    "white_matter",
    "metastasis_discohesive",
    "grey_matter",
    "glioma",
    "metastasis_glandular",
    "white_matter",
    "necrosis",
    "glioma",
    "grey_matter",
    "blood",
    "white_matter",
    "metastasis_discohesive",
    "glioma",
    "grey_matter",
    "out_of_focus",
)
"""Tissue of one patient after another, in the order of their numbers within a site."""

DEPTHS_UM = (0, 75, 150)

SEVERITY_AT_SURFACE = (0.25, 0.40, 0.50, 0.60)
"""Mean severity of each site's images at the surface, from the best instrument to the worst; a fifth site is as the first."""

BRIGHTNESS = (1.0, 1.15, 0.9, 0.7)
"""What each site's counts are multiplied by: the laser's power and the detector's gain."""

SEVERITY_PER_UM = 0.0018
"""Rise of the severity with depth."""

PATIENT_SPREAD = 0.10
"""Standard deviation, over patients, of what their severity has in common beyond site and depth."""

SEVERITY_RANGE = (0.10, 1.00)
"""No image is better or worse than the protocol's phantoms."""

SEVERITY_NAMES = {"mild": 0.35, "moderate": 0.60, "severe": 1.0}
"""Names of severities and the largest of each, as in the protocol."""


@dataclass(frozen=True, eq=False)
class CohortImage:
    """One image of a cohort: a phantom, and what a manifest says of it."""

    phantom: Phantom
    case: str
    patient: str
    site: str
    depth: str
    subtype: str
    severity: str

    @property
    def truth(self) -> str:
        """``tumor``, ``normal`` or ``nondiagnostic``."""
        return DIAGNOSIS_OF_KIND[self.subtype]


def simulate_cohort(
    patients: int = 64,
    sites: int = 4,
    depths_um: Sequence[float] = DEPTHS_UM,
    size: int = 480,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
) -> Iterator[CohortImage]:
    """Images of a cohort, patient by patient, each at every depth.

    At each depth lies another field of the same tissue. Patient ``p`` is of site ``p mod sites`` and is the same whatever
    the number of patients.

    Parameters
    ----------
    depths_um
        0 and more; what is deeper is worse, see :data:`SEVERITY_PER_UM`.
    size
        Edge of an image in px of 0.47 um.
    seed
        Of the whole cohort.
    kinds
        Tissue of a site's patients one after another, over and over.

    Raises
    ------
    InputError
        When a number is not positive, there are no depths, or a kind of tissue is unknown.
    """
    if patients < 1 or sites < 1 or size < 1:
        raise InputError(f"{patients} patients, {sites} sites and images of {size} px", "positive numbers")
    if not len(depths_um) or min(depths_um) < 0:
        raise InputError(f"the depths {list(depths_um)}", "one or more depths in micrometres, none below 0")
    if unknown := [kind for kind in kinds if kind not in DIAGNOSIS_OF_KIND]:
        raise InputError(f"the tissue {', '.join(unknown)}", f"one of {', '.join(DIAGNOSIS_OF_KIND)}")
    # What the arguments say is checked above, at the call; the images come one by one.
    return _images(patients, sites, depths_um, size, seed, tuple(kinds))


def _images(
    patients: int, sites: int, depths_um: Sequence[float], size: int, seed: int, kinds: tuple[str, ...]
) -> Iterator[CohortImage]:
    for patient in range(patients):
        site = patient % sites
        rng = np.random.default_rng([COHORT_SEED, seed, patient])
        kind = kinds[patient // sites % len(kinds)]
        own = rng.normal(0.0, PATIENT_SPREAD)
        for depth in depths_um:
            severity = SEVERITY_AT_SURFACE[site % len(SEVERITY_AT_SURFACE)] + SEVERITY_PER_UM * depth + own
            severity = float(np.clip(severity + rng.normal(0.0, 0.03), *SEVERITY_RANGE))
            phantom = simulate_patch(kind, severity, COHORT_SEED + int(rng.integers(0, 2**31)), size)
            yield CohortImage(
                phantom=_at_brightness(phantom, BRIGHTNESS[site % len(BRIGHTNESS)]),
                case=f"P{patient + 1:03d}-{depth:g}um",
                patient=f"P{patient + 1:03d}",
                site=f"site {chr(ord('A') + site)}" if sites <= 26 else f"site {site + 1}",
                depth=f"{depth:g} um",
                subtype=kind,
                severity=next(name for name, largest in SEVERITY_NAMES.items() if severity <= largest),
            )


def _at_brightness(phantom: Phantom, factor: float) -> Phantom:
    """The phantom as an instrument of another gain would store it."""
    counts = rounded_counts(phantom.counts * np.float64(factor))
    return replace(phantom, counts=counts)
