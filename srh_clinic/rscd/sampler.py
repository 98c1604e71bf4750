"""One reverse step of a diffusion, for a batch in which every sample is at its own index.

All samplers take the same arguments and return the next states:

``x``
    States in model space, floating point ``(N, 2, H, W)``.
``eps``
    The denoiser's estimate of the noise in them, the same shape.
``t``, ``t_next``
    int64 ``(N,)``, the indices of the states and of the states wanted; ``t_next = -1`` is the clean image.
``schedule``
    The float64 tables; coefficients are rounded to the states' dtype last.
``noise``
    Standard normal draws of the states' shape; the deterministic samplers ignore it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.rscd.schedule import Schedule
from srh_clinic.rscd.settings import Variance

Indices = NDArray[np.int64]


def denoised(x: Tensor, eps: Tensor, t: Indices, schedule: Schedule) -> Tensor:
    """The clean image implied by ``eps``: ``(x - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)`` (Ho et al. 2020, eq. 9)."""
    return (x - _per_sample(schedule.sigma[t], x) * eps) / _per_sample(np.sqrt(schedule.alpha_bar[t]), x)


def mean_only(x: Tensor, eps: Tensor, t: Indices, t_next: Indices, schedule: Schedule, noise: Tensor | None = None) -> Tensor:
    """The mean of the ancestral step and no noise: what the released RSCD code calls ``ddim=True``.

    ``(x - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t)`` (Ho et al. 2020, Algorithm 2, line 4 without its ``z``). It
    goes one index at a time, so ``t_next`` is ``t - 1``.
    """
    _require_single_steps(t, t_next)
    return (x - _per_sample(schedule.beta[t] / schedule.sigma[t], x) * eps) / _per_sample(np.sqrt(schedule.alpha[t]), x)


def ancestral(
    x: Tensor,
    eps: Tensor,
    t: Indices,
    t_next: Indices,
    schedule: Schedule,
    noise: Tensor | None = None,
    variance: Variance = "posterior",
) -> Tensor:
    """Ancestral sampling, ``mean + sqrt(variance_t) noise`` (Ho et al. 2020, Algorithm 2; RSCD's Algorithm 1, line 9).

    ``variance="posterior"`` adds none at the last step, ``"beta"`` adds ``beta_0`` there, as Algorithm 1 does at k = 1. It
    goes one index at a time, so ``t_next`` is ``t - 1``.
    """
    if noise is None:
        raise ValueError("found no noise; needed standard normal draws of the states' shape.")
    added = _per_sample(np.sqrt(reverse_variance(schedule, variance)[t]), x)
    return mean_only(x, eps, t, t_next, schedule) + added * noise


def ddim(x: Tensor, eps: Tensor, t: Indices, t_next: Indices, schedule: Schedule, noise: Tensor | None = None) -> Tensor:
    """Deterministic DDIM, ``sqrt(alpha_bar_next) x_0 + sqrt(1 - alpha_bar_next) eps`` (Song et al. 2021, eq. 12, eta = 0).

    ``t_next`` is any index below ``t``.
    """
    alpha_bar = schedule.alpha_bar_at(t_next)
    clean = denoised(x, eps, t, schedule)
    return _per_sample(np.sqrt(alpha_bar), x) * clean + _per_sample(np.sqrt(1.0 - alpha_bar), x) * eps


def reverse_variance(schedule: Schedule, variance: Variance) -> NDArray[np.float64]:
    """Variance that an ancestral step adds, by index: float64 ``(T,)``, in squared model units."""
    return schedule.posterior_variance if variance == "posterior" else schedule.beta


def descent(t: int, steps: int, stride: int) -> list[int]:
    """The indices at which ``steps`` reverse steps from index ``t`` are evaluated, and where they end.

    There is at least one, and they are spread evenly, ``stride`` apart at most; the last entry, ``t - steps``, is where they
    end and is not evaluated.

    >>> descent(34, 10, stride=4)
    [34, 31, 27, 24]
    >>> descent(2, 3, stride=1)
    [2, 1, 0, -1]
    """
    return [int(index) for index in np.rint(np.linspace(t, t - steps, math.ceil(steps / stride) + 1))]


def quadratic(t: int, steps: int, evaluations: int) -> list[int]:
    """As :func:`descent`, but in so many evaluations, or in one for each step where there are fewer steps, ever nearer to each
    other towards the end (Song et al. 2021, appendix D.2).

    >>> quadratic(35, 36, evaluations=2)
    [35, 8, -1]
    >>> quadratic(35, 36, evaluations=3)
    [35, 15, 3, -1]
    >>> quadratic(2, 3, evaluations=3)
    [2, 1, 0, -1]
    """
    left = np.arange(min(evaluations, steps), -1, -1)
    # A step is one index at least: where few are left they are taken one by one.
    above = np.maximum(np.rint(steps * (left / left[0]) ** 2), left)
    return [int(index) for index in t - steps + above]


def _per_sample(values: NDArray[np.float64], x: Tensor) -> Tensor:
    """One coefficient for each sample, ``(N, 1, 1, 1)``, in the dtype and on the device of the states."""
    return torch.as_tensor(values, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)


def _require_single_steps(t: Indices, t_next: Indices) -> None:
    if not np.array_equal(t_next, t - 1):
        raise ValueError(f"found steps from {t} to {t_next}; needed steps of one index, DDIM alone skips.")
