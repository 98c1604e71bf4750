"""The exact oracle of every sampler test: a Gaussian random field, whose best denoiser is a Wiener filter.

With a stationary Gaussian prior of mean ``mean`` and power spectrum ``S`` (variance of each unitary Fourier coefficient), the
expectation of the clean image given a state is ``mean + W (x - sqrt(alpha_bar) mean)`` at each frequency, with
``W = sqrt(alpha_bar) S / (alpha_bar S + 1 - alpha_bar)``. Every sampler is then affine at each frequency, and mean and
variance of what it returns follow an exact recursion over the very steps it ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from srh_clinic.intensity import model_to_counts
from srh_clinic.rscd.schedule import Schedule, create_schedule
from srh_clinic.rscd.tile import Tile


@dataclass(frozen=True, eq=False)
class GaussianField:
    """A prior for model-space images ``(size, size)``, the same for both channels."""

    size: int = 16
    mean: float = -0.8
    deviation: float = 0.12
    schedule: Schedule = field(default_factory=create_schedule)

    @property
    def spectrum(self) -> np.ndarray:
        """Variance at each frequency, ``(size, size)``: a power law that flattens below 0.02 cycles a pixel, DC included."""
        frequency = np.fft.fftfreq(self.size)
        power = (frequency[:, None] ** 2 + frequency[None] ** 2 + 0.02**2) ** -1.3
        return power / power.mean() * self.deviation**2

    def wiener(self, t: int) -> np.ndarray:
        alpha_bar = self.schedule.alpha_bar[t]
        return np.sqrt(alpha_bar) * self.spectrum / (alpha_bar * self.spectrum + 1 - alpha_bar)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Clean images, ``(count, 2, size, size)``."""
        white = np.fft.fft2(rng.standard_normal((count, 2, self.size, self.size)))
        return self.mean + np.fft.ifft2(white * np.sqrt(self.spectrum)).real

    def denoiser(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The exact noise estimate, in the precision of ``x``."""
        alpha_bar = self.schedule.alpha_bar[t.numpy()][:, None, None, None]
        wiener = np.stack([self.wiener(step) for step in t.tolist()])[:, None]
        state = x.numpy().astype(np.float64)
        clean = self.mean + np.fft.ifft2(np.fft.fft2(state - np.sqrt(alpha_bar) * self.mean) * wiener).real
        return torch.as_tensor((state - np.sqrt(alpha_bar) * clean) / np.sqrt(1 - alpha_bar), dtype=x.dtype)


@dataclass
class Moments:
    """Mean (of the image; fluctuations have none) and variance at each frequency of a state, carried through steps."""

    mean: float
    variance: np.ndarray

    def scale(self, factor: float) -> None:
        self.mean *= factor
        self.variance = self.variance * factor**2

    def step(self, prior: GaussianField, sampler: str, variance: str, t: int, t_next: int) -> None:
        """One reverse step, from x0 and x (Ho et al. 2020, eq. 7; Song et al. 2021, eq. 12); samplers go from eps."""
        alpha_bar = prior.schedule.alpha_bar[t]
        alpha_bar_next = prior.schedule.alpha_bar[t_next] if t_next >= 0 else 1.0
        if sampler == "ddim":
            of_state = np.sqrt((1 - alpha_bar_next) / (1 - alpha_bar))
            of_clean = np.sqrt(alpha_bar_next) - of_state * np.sqrt(alpha_bar)
            added = 0.0
        else:
            assert t_next == t - 1
            beta = 1 - alpha_bar / alpha_bar_next
            of_clean = np.sqrt(alpha_bar_next) * beta / (1 - alpha_bar)
            of_state = np.sqrt(1 - beta) * (1 - alpha_bar_next) / (1 - alpha_bar)
            posterior = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
            added = {"mean": 0.0, "ancestral": beta if variance == "beta" else posterior}[sampler]
        wiener = prior.wiener(t)
        offset = of_clean * (1 - wiener[0, 0] * np.sqrt(alpha_bar)) * prior.mean
        response = of_state + of_clean * wiener
        self.mean = response[0, 0] * self.mean + offset
        self.variance = response**2 * self.variance + added


def graded_tiles(count: int, size: int = 32) -> list[Tile]:
    """Overlapping tiles of one field whose noise grows from tile to tile, so that they take different numbers of steps."""
    rng = np.random.default_rng(4)
    clean = GaussianField(size=size, mean=0.0).sample(rng, count)
    noise = rng.standard_normal(clean.shape) * np.linspace(0.0, 0.12, count)[:, None, None, None]
    return [Tile(i, model_to_counts(tile), y=8 * i, x=3 * i) for i, tile in enumerate(clean + noise)]
