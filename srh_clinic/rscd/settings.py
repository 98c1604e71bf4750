"""What can be chosen of RSCD and of the reverse diffusions that it is compared with; no network library is loaded for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from srh_clinic.intensity import FULL_SCALE
from srh_clinic.rscd.schedule import TOTAL_STEPS

Variance = Literal["posterior", "beta"]

Profile = Literal["paper-text", "paper-algorithm1", "official"]

SamplerName = Literal["direct", "ddim", "ancestral", "mean"]

BY_ROUNDS: tuple[SamplerName, ...] = ("ddim", "ancestral", "mean")
"""Samplers that go by rounds."""

READERS: dict[str, tuple[SamplerName, ...]] = {
    **dict.fromkeys(("profile", "recalibration_interval", "max_rounds", "max_extra_steps", "recalibrate"), BY_ROUNDS),
    **dict.fromkeys(("evaluations", "understate", "keep_difference", "turn_last"), ("direct",)),
    "variance": ("ancestral",),
    "ddim_stride": ("ddim",),
}
"""Which samplers read a setting; what is not here, all of them read."""

OF_CALIBRATIONS = ("estimator", "cap", "skip_below", "understate")
"""Settings that say how the answer of a calibration is got and taken."""

ROUNDING = ("batch_size", "precision")
"""Settings that say how a result is computed; they change it by float rounding at most."""


class RestorerSettings(BaseModel):
    """Settings of a restorer; a name that is none of them is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RSCDSettings(RestorerSettings):
    """How RSCD runs; every setting of the paper and of its released code.

    ``sampler="ancestral", variance="beta", prescale=False, max_extra_steps=None`` with either paper profile is the paper to
    the letter.
    """

    profile: Profile = "paper-text"
    """When to stop. ``paper-text``: with fewer than ``recalibration_interval`` steps left, run them and stop.
    ``paper-algorithm1``: until the calibrator sees none left. ``official``, the released code: with an index below
    ``recalibration_interval``, and in the last round, run index + 3 steps and stop; an index is cut off to a whole number, not
    rounded."""
    estimator: Literal["calibrator", "nonparametric"] = "calibrator"
    """Who says how much noise there is, at every look: the bundle's calibrator, or in its place (an ablation)
    :func:`~srh_clinic.rscd.noise_level.index_of_noise`, whose tiles without an answer are flagged."""
    sampler: SamplerName = Field(
        default_factory=lambda data: "direct" if data.get("profile", "paper-text") == "paper-text" else "ddim"
    )
    """How a tile goes down. ``direct``: all steps that the first calibration asks for in one round of few deterministic steps
    (``evaluations``), after which the guards' look at the calibrator says what is left. By rounds, between which the
    calibrator looks again: ``ancestral``, the paper's; ``ddim``, the deterministic one with an evaluation per ``ddim_stride``
    steps; ``mean``, the mean-only one. A profile that says how rounds end goes by rounds: there the default is ``ddim``."""
    evaluations: int = Field(default=2, ge=1)
    """Evaluations of the denoiser that a tile gets with ``sampler="direct"``, spread quadratically over its steps
    (:func:`~srh_clinic.rscd.sampler.quadratic`); fewer where there are fewer steps. One alone is the mean of what the tile may
    be; more give its fine structure back."""
    understate: bool = True
    """With ``sampler="direct"``, a tile begins a little below the index that the calibrator reads
    (:func:`~srh_clinic.rscd.restoration.understated`). What a denoiser finds likeliest is smoother than tissue; told of a
    little less noise it leaves more fine structure, and what it so leaves of the noise costs no PSNR."""
    keep_difference: bool = True
    """With ``sampler="direct"``, the restored CH3 - CH2 is that of the first evaluation (of tiles with little noise a share of
    it), and further ones change what the channels have in common. The difference is what histology reads, and its mean is
    nearer to the truth than a draw: what further evaluations draw into it on real tissue is likelier invented than found."""
    turn_last: bool = True
    """With ``sampler="direct"``, the last of several evaluations sees the image transposed. A laser's noise runs along the
    rows, and a denoiser that has learnt so takes some of what tissue has along the rows for noise; where little of the noise
    is left, that is the greater loss."""
    recalibration_interval: int = Field(default=10, ge=1, le=TOTAL_STEPS)
    """Reverse steps between two calibrations, the paper's d."""
    max_rounds: int = Field(default=15, ge=1)
    """Rounds a tile may take; the last of them runs all that is left."""
    max_extra_steps: int | None = Field(default_factory=lambda data: None if data.get("profile") == "official" else 0, ge=0)
    """Steps that all rounds may run beyond those that the first calibration asked for; None for no limit, as in the paper and,
    by default, under the ``official`` profile. Where fine structure is taken for noise at every look, only this keeps it from
    being worn away round by round."""
    cap: int = Field(default=190, ge=0, lt=TOTAL_STEPS)
    """Largest index taken from the calibrator (the paper's T' = 200 is where the denoiser's training ends)."""
    skip_below: int = -1
    """A tile whose first predicted index is below this is left alone."""
    variance: Variance = "posterior"
    """Noise variance of an ancestral step: the posterior's, or beta_t as in the paper."""
    prescale: bool = True
    """Follow the state's gain (see the module's docstring); False takes the image as it is, as paper and released code do."""
    ddim_stride: int = Field(default=4, ge=1)
    """Reverse steps to one evaluation of the denoiser, for ``sampler="ddim"``."""
    exposure: float | None = Field(default=24_000.0, gt=0, lt=FULL_SCALE)
    """Counts that a darker tile is brightened to before it is restored, and back after; see :func:`exposure_gain`. None, as in
    the paper, restores it as dark as it is."""
    fixed_steps: int | None = Field(default=None, ge=1, le=TOTAL_STEPS)
    """Run this many steps on every tile and ask no calibrator (an ablation)."""
    recalibrate: bool = True
    """False runs all steps of the first calibration in one round (an ablation)."""
    batch_size: int = Field(default=8, ge=1)
    """Tiles in one evaluation; on a processor it changes no result, on a card none but by float rounding."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What the denoiser is computed in; ``auto`` is the faster of the two here, and a restorer's settings say which that was
    (:func:`~srh_clinic.engine.choose_precision`)."""

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> RSCDSettings:
        for name, beside, needed in self._idle():
            standard = RSCDSettings.model_fields[name].get_default(
                call_default_factory=True, validated_data={"profile": self.profile}
            )
            if getattr(self, name) != standard:
                raise ValueError(f"{name}, which has no effect with {beside}; needed {needed}")
        return self

    def _idle(self) -> Iterator[tuple[str, str, str]]:
        """Settings that nothing reads beside another, that one, and what is needed instead."""
        yield from _of_other_samplers(self.sampler)
        if self.fixed_steps is not None:
            for name in OF_CALIBRATIONS:
                yield name, "fixed_steps", "no fixed_steps, so that a calibration says how many"


def _of_other_samplers(sampler: SamplerName) -> Iterator[tuple[str, str, str]]:
    """The same of settings that the sampler does not read."""
    for name in without_effect(sampler):
        readers = READERS[name]
        by_rounds = f"a sampler that goes by rounds ({', '.join(readers)})"
        yield name, f"the sampler {sampler}", by_rounds if readers == BY_ROUNDS else f"the sampler {readers[0]}"


def without_effect(sampler: SamplerName) -> tuple[str, ...]:
    """Names of the settings of RSCD that a sampler does not read."""
    return tuple(name for name, readers in READERS.items() if sampler not in readers)


LowPassName = Literal["official", "corrected"]


class ReverseSettings(RestorerSettings):
    """How a reverse diffusion steps; see :class:`RSCDSettings`."""

    sampler: Literal["ancestral", "ddim"] = "ddim"
    """Reverse step: the published one, or the deterministic one with an evaluation per ``ddim_stride`` steps."""
    variance: Variance = "posterior"
    """Noise variance of an ancestral step."""
    ddim_stride: int = Field(default=4, ge=1)
    """Reverse steps to one evaluation of the denoiser, for ``sampler="ddim"``."""
    batch_size: int = Field(default=8, ge=1)
    """Tiles in one evaluation; on a processor it changes no result, on a card none but by float rounding."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What the denoiser is computed in; ``auto`` is the faster of the two here, and a restorer's settings say which that was
    (:func:`~srh_clinic.engine.choose_precision`)."""

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> ReverseSettings:
        for name, beside, needed in _of_other_samplers(self.sampler):
            fields = ReverseSettings.model_fields
            if name in fields and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name}, which has no effect with {beside}; needed {needed}")
        return self

    @property
    def stride(self) -> int:
        """Reverse steps to one evaluation."""
        return self.ddim_stride if self.sampler == "ddim" else 1


class CCDFSettings(ReverseSettings):
    """How CCDF runs."""

    t0: int = Field(default=50, ge=1, le=TOTAL_STEPS)
    """Steps of noise that are added and taken away again. Neither paper states it; 25, 50, 100 and 200 are worth a sweep."""


class RRDSettings(ReverseSettings):
    """How RRD runs. The defaults begin and regularise as the code released with RSCD does, whose numbers the paper's table
    gives; the sampler's default is RSCD's, where that code samples ancestrally."""

    low_pass: LowPassName = "official"  # noqa: S105 (a filter, no password)
    """What a state is pulled towards, see :func:`pull`; ``official`` takes contrast away, ``corrected`` does not."""
    prescale: bool = False
    """Follow the state's gain, as RSCD's ``prescale`` does; False takes the image as it is, as the released code does."""
    cap: int = Field(default=190, ge=0, lt=TOTAL_STEPS)
    """Largest index taken from the estimator; RSCD's, because the denoiser is trained no further."""
