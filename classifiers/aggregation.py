"""From patches to a slide, in the manner of Hollon et al. 2020 (Nature Medicine 26:52, "inference algorithm")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import CLASSES, NONDIAGNOSTIC, NORMAL, Diagnosis

HOLLON_2020_CLASSES: dict[str, Diagnosis] = {
    "malignant glioma": "tumor",
    "diffuse lower grade glioma": "tumor",
    "pilocytic astrocytoma": "tumor",
    "ependymoma": "tumor",
    "lymphoma": "tumor",
    "metastatic tumor": "tumor",
    "medulloblastoma": "tumor",
    "meningioma": "tumor",
    "pituitary adenoma": "tumor",
    "schwannoma": "tumor",
    "gliosis or pseudoprogression": "normal",
    "grey matter": "normal",
    "white matter": "normal",
    "nondiagnostic": "nondiagnostic",
}
"""The fourteen classes of Hollon et al. 2020 and which of our three each is; treatment effect is not neoplastic."""


@dataclass(frozen=True)
class SlideDiagnosis:
    """What the patches of a slide say together.

    Attributes
    ----------
    diagnosis
        ``tumor``, ``normal`` or ``nondiagnostic``.
    probabilities
        By class. Of a diagnostic slide: the renormalised sum over its diagnostic patches, so ``nondiagnostic`` is 0. Of a
        non-diagnostic one: the mean over all its patches, which the diagnosis need not follow.
    n_patches, n_diagnostic
        Patches in all, and those whose likeliest class is not ``nondiagnostic``.
    n_required
        Diagnostic patches that the slide needed.
    support
        Mean over all patches of the probability of the diagnosis. The renormalised probabilities leave out how much of each
        patch is non-diagnostic; this does not, so it is the one that tells a doubtful slide.
    """

    diagnosis: Diagnosis
    probabilities: dict[str, float]
    n_patches: int
    n_diagnostic: int
    n_required: int
    support: float


def aggregate(
    probabilities: NDArray[np.float64], *, min_share: float = 0.10, min_count: int = 3, normal_above: float = 0.5
) -> SlideDiagnosis:
    """Diagnosis of a slide from its patches.

    Patches whose likeliest class is ``nondiagnostic`` are left out; the softmax of the others is summed, its ``nondiagnostic``
    entry set to 0, and renormalised. With too few diagnostic patches the slide is ``nondiagnostic``.

    Parameters
    ----------
    probabilities
        ``(N, 3)`` in the order of ``CLASSES``.
    min_share, min_count
        A slide needs diagnostic patches to this share of all and to this number (or all, when it has fewer).
    normal_above
        The slide is ``normal`` when the probability of that is above this. Hollon et al. 2020 ask for 0.9 before they call a
        specimen not neoplastic, which suits slides of infiltrated brain; 0.5 takes the likelier.

    Raises
    ------
    ValueError
        When the array is not ``(N, 3)`` with rows that sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != len(CLASSES) or not np.allclose(p.sum(axis=1), 1.0, atol=1e-6):
        raise ValueError(f"found probabilities of shape {p.shape}; needed (N, 3) with rows that sum to 1.")
    diagnostic = p.argmax(axis=1) != NONDIAGNOSTIC
    count, required = int(diagnostic.sum()), max(math.ceil(min_share * len(p)), min(min_count, len(p)), 1)
    if count < required:
        mean = p.mean(axis=0) if len(p) else np.eye(len(CLASSES))[NONDIAGNOSTIC]
        return SlideDiagnosis("nondiagnostic", _by_class(mean), len(p), count, required, float(mean[NONDIAGNOSTIC]))
    total = p[diagnostic].sum(axis=0)
    total[NONDIAGNOSTIC] = 0.0
    total /= total.sum()
    diagnosis: Diagnosis = "normal" if total[NORMAL] > normal_above else "tumor"
    support = float(p[:, CLASSES.index(diagnosis)].mean())
    return SlideDiagnosis(diagnosis, _by_class(total), len(p), count, required, support)


def collapse_hollon_2020(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities ``(N, 14)`` in the order of ``HOLLON_2020_CLASSES`` to ``(N, 3)`` in the order of ``CLASSES``."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != len(HOLLON_2020_CLASSES):
        raise ValueError(f"found probabilities of shape {p.shape}; needed (N, {len(HOLLON_2020_CLASSES)}).")
    membership = np.array([[ours == name for name in CLASSES] for ours in HOLLON_2020_CLASSES.values()], dtype=np.float64)
    return p @ membership


def _by_class(p: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(CLASSES, p, strict=True)}
