"""How far restorations of one image under several seeds agree: what changes with the seed was not in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.metrics.nuclei import MATCH_UM, STRONG, blob_maxima, nuclear_responses, supported


@dataclass(frozen=True, eq=False)
class Agreement:
    """What K restorations say together.

    Attributes
    ----------
    deviation
        Standard deviation over the restorations of each pixel, unit intensity ``(2, H, W)``.
    nuclei
        Nuclei of any of them, each once, float64 ``(M, 3)`` of y, x and radius in px.
    persistence
        The share of the restorations that show each, ``(M,)``.
    """

    deviation: NDArray[np.float32]
    nuclei: NDArray[np.float64]
    persistence: NDArray[np.float64]


def seed_agreement(restorations: NDArray[np.float32], um_per_px: float) -> Agreement:
    """Pixel deviation, and the persistence of each nucleus, over restorations of one image.

    A nucleus is a maximum from :data:`~srh_clinic.metrics.nuclei.STRONG` on in any of them; one shows it where its response
    within :data:`~srh_clinic.metrics.nuclei.MATCH_UM` is at least :data:`~srh_clinic.metrics.nuclei.WEAK`. Two that lie within
    that distance are one.

    It assumes a sampler whose noise depends on the seed: with a deterministic one all agree and nothing is learned. It fails
    to see what a network invents under every seed.

    Parameters
    ----------
    restorations
        Unit intensity ``(K, 2, H, W)``.

    Raises
    ------
    InputError
        When there are fewer than two; see also :func:`~srh_clinic.metrics.nuclei.nuclear_responses`.
    """
    if len(restorations) < 2:
        raise InputError(f"{len(restorations)} restorations", "two or more")
    responses = [nuclear_responses(one, um_per_px) for one in restorations]
    found = np.concatenate([blob_maxima(one, um_per_px, STRONG) for one in responses])
    kept = np.empty((0, 3))
    for nucleus in found:
        if (np.hypot(*(kept[:, :2] - nucleus[:2]).T) > MATCH_UM / um_per_px).all():
            kept = np.vstack([kept, nucleus])
    shown = np.array([supported(kept, one, um_per_px) for one in responses]).reshape(len(responses), len(kept))
    return Agreement(restorations.std(axis=0, dtype=np.float32), kept, shown.mean(axis=0))
