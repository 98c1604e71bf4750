"""What can be chosen of filters and baselines; no network library is loaded for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from srh_clinic.rscd.schedule import TOTAL_STEPS
from srh_clinic.rscd.settings import RestorerSettings


class NoneSettings(RestorerSettings):
    """Leaving alone takes no settings."""


class MedianSettings(RestorerSettings):
    """The paper's baseline is the 5 x 5 median."""

    size: Literal[3, 5] = 5
    """Edge of the window in pixels."""


class GaussianSettings(RestorerSettings):
    """A Gaussian blur."""

    sigma: float = Field(default=1.0, gt=0, le=64)
    """Standard deviation in pixels."""


class NonLocalMeansSettings(RestorerSettings):
    """scikit-image's fast non-local means with the noise estimated for each tile and channel.

    Defaults are those of scikit-image's own example: patches of 5 px within 6 px, cut-off 0.8 sigma.
    """

    patch_size: int = Field(default=5, ge=1, le=31)
    """Edge of the compared patches in pixels."""
    patch_distance: int = Field(default=6, ge=1, le=64)
    """Largest distance of compared patches in pixels."""
    cut_off: float = Field(default=0.8, gt=0)
    """Cut-off of the grey-level distance, in estimated noise standard deviations."""


class WaveletSettings(RestorerSettings):
    """scikit-image's wavelet shrinkage with the noise estimated for each tile and channel."""

    wavelet: Literal["db1", "db2", "db4", "sym4", "sym8"] = "sym4"
    """An orthogonal wavelet by PyWavelets' name. On phantoms sym4 and db4 gained 1.5 dB, scikit-image's default db1 1.1."""
    mode: Literal["soft", "hard"] = "soft"
    """Whether coefficients above the threshold shrink by it."""


class DeepImagePriorSettings(RestorerSettings):
    """How a tile is fitted; the defaults are the authors' for denoising."""

    iterations: int = Field(default=3000, ge=1)
    """Steps of the optimiser. Too many fit the noise as well: this is the method's only knob against it."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Of Adam."""
    channels: int = Field(default=128, ge=1)
    """Width of every scale."""
    scales: int = Field(default=5, ge=1, le=8)
    """Times that the image is halved."""
    skip_channels: int = Field(default=4, ge=1)
    """Width of the paths past the lower scales."""
    input_channels: int = Field(default=32, ge=1)
    """Planes of noise that the network draws the image from."""
    jitter: float = Field(default=1 / 30, ge=0)
    """Standard deviation of the noise added to them at each iteration."""
    average: float = Field(default=0.99, ge=0, lt=1)
    """Weight of the past in the running average of outputs, which is what is handed on."""
    check_every: int = Field(default=100, ge=1)
    """Iterations between two looks at the fit."""
    largest_drop: float = Field(default=5.0, gt=0)
    """A fit that is worse than at the last look by more dB than this goes back to the weights it had there."""
    max_rollbacks: int = Field(default=10, ge=0)
    """A tile that goes back more often has diverged."""


class LearnedSettings(RestorerSettings):
    """Settings of a baseline that restores in one pass of its network."""

    batch_size: int = Field(default=8, ge=1)
    """Tiles in one evaluation; it changes no result but by float rounding."""


class ConditionalDiffusionSettings(LearnedSettings):
    """Settings of conditional diffusion."""

    steps: int = Field(default=TOTAL_STEPS, ge=1, le=TOTAL_STEPS)
    """Evaluations of the network for a tile. All 1,000 are ancestral sampling, the paper's; fewer are DDIM, 50 serve."""
