"""Noise schedules of a 1,000-step diffusion, tabulated in float64.

A step index ``t`` runs from 0 to ``T - 1``; a state at index ``t`` has ``t + 1`` reverse steps before it (the paper counts
those steps, its released code counts the index).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError

TOTAL_STEPS = 1000
"""Steps of the diffusion, T."""

TRAINED_STEPS = 200
"""The first steps, which alone a denoiser learns unless told otherwise: the paper's T'."""

ScheduleName = Literal["cosine", "linear"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Tables of a discrete diffusion ``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps`` (Ho et al. 2020).

    Parameters
    ----------
    name
        What the bundle's metadata calls it.
    beta
        float64 ``(T,)``, variance added by each forward step.
    """

    name: ScheduleName
    beta: NDArray[np.float64]

    @cached_property
    def alpha(self) -> NDArray[np.float64]:
        """``1 - beta``."""
        return 1.0 - self.beta

    @cached_property
    def alpha_bar(self) -> NDArray[np.float64]:
        """Cumulative product of ``alpha``."""
        return np.cumprod(self.alpha, dtype=np.float64)

    @cached_property
    def alpha_bar_previous(self) -> NDArray[np.float64]:
        """``alpha_bar`` of the step before; 1 before the first."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @cached_property
    def sigma(self) -> NDArray[np.float64]:
        """Standard deviation of the noise in a state, ``sqrt(1 - alpha_bar)``, in model units."""
        return np.sqrt(1.0 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> NDArray[np.float64]:
        """``beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)`` (Ho et al. 2020, eq. 7)."""
        return self.beta * (1.0 - self.alpha_bar_previous) / (1.0 - self.alpha_bar)

    @cached_property
    def noise_to_signal(self) -> NDArray[np.float64]:
        """``sqrt((1 - alpha_bar) / alpha_bar)``: the noise in a state after its signal is scaled back to gain 1."""
        return np.sqrt((1.0 - self.alpha_bar) / self.alpha_bar)

    def alpha_bar_at(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """``alpha_bar`` by index (any shape), where index -1 is the clean image, whose ``alpha_bar`` is 1."""
        return np.where(np.asarray(t) < 0, 1.0, self.alpha_bar[t])

    def index_of_sigma(self, sigma: NDArray[np.float64]) -> NDArray[np.int64]:
        """The index whose state, scaled to gain 1, has noise nearest to ``sigma`` (model units, any shape)."""
        target = np.asarray(sigma, dtype=np.float64)
        right = np.clip(np.searchsorted(self.noise_to_signal, target), 1, len(self.beta) - 1)
        left_is_nearer = target - self.noise_to_signal[right - 1] <= self.noise_to_signal[right] - target
        return (right - left_is_nearer).astype(np.int64)


@lru_cache(maxsize=4)
def create_schedule(name: ScheduleName = "cosine", total_steps: int = TOTAL_STEPS) -> Schedule:
    """A schedule by name.

    ``cosine`` is Nichol and Dhariwal 2021 with s = 0.008 and betas clipped to [1e-4, 0.9999] (the paper's; the clip touches
    the first 13 steps); ``linear`` is Ho et al. 2020, 1e-4 to 0.02 (an ablation). Step counts of the two do not compare. Any
    other name raises :class:`~srh_clinic.errors.InputError`.
    """
    if name == "cosine":
        s = 0.008
        phase = (np.linspace(0.0, total_steps, total_steps + 1) / total_steps + s) / (1.0 + s) * (math.pi / 2.0)
        signal = np.cos(phase) ** 2
        beta = np.clip(1.0 - signal[1:] / signal[:-1], 1e-4, 0.9999)
    elif name == "linear":
        beta = np.linspace(1e-4, 0.02, total_steps)
    else:
        raise InputError(f"the schedule {name!r}", "'cosine' or 'linear'")
    beta.setflags(write=False)
    return Schedule(name=name, beta=beta)
