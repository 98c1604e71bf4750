"""The methods that benchmarks compare: one table, whose names every report gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from srh_clinic.bundles import BASELINES as LEARNED_PARTS
from srh_clinic.errors import InputError
from srh_clinic.restorers import KINDS
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.validation.bench.protocol import Protocol

NETWORK_STEPS = ("mean", "ancestral")
"""Samplers that evaluate the network at every step, and are slow for it."""


@dataclass(frozen=True)
class Method:
    """A restorer with its settings, under the name that reports give it.

    ``bundle`` names the folder of its networks among the run's weights; None takes the run's own bundle.
    """

    name: str
    restorer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    bundle: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks that it uses."""
        return KINDS[self.restorer].parts

    @property
    def on_device(self) -> bool:
        """Whether it computes where torch does; what has no network computes on the processor."""
        return bool(self.parts) or self.restorer == "deep_image_prior"

    @property
    def slow(self) -> bool:
        """Whether it evaluates RSCD's network at every step."""
        return self.restorer == "rscd" and self.settings.get("sampler", RSCDSettings().sampler) in NETWORK_STEPS


BASELINES = "phantom-baselines"
LINEAR = "phantom-linear"
UNAUGMENTED = "phantom-unaugmented"
"""Bundles of what is only compared with, outside the wheel."""

WHOLE = "rscd_direct"
"""RSCD as it is by default: what the ablations take a part from, and what is ranked."""

OURS = ("rscd", "rscd_direct", "rscd_ddim", "rscd_mean")
"""RSCD by sampler: the paper's ancestral one, few evaluations in one round, DDIM by rounds, and the deterministic mean."""

DDIM_STEPS = 50
"""Steps of conditional diffusion from pure noise; the paper runs 1,000."""

DIP_ITERATIONS, DIP_CHANNELS = 300, 32
"""Iterations and width of Deep Image Prior; the paper runs up to 3,000 of a network of 128 channels, hours a tile on a CPU."""

_DDIM = {"sampler": "ddim"}
_DIRECT = {"sampler": "direct"}
_LINEAR = {"cap": 94, "recalibration_interval": 5, "ddim_stride": 2}
"""Those of DDIM, counted in steps of the linear schedule of the same noise (configs/denoiser-linear.yaml)."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("input", "none"),
        Method("rscd", "rscd", {"sampler": "ancestral"}),
        Method("rscd_direct", "rscd", _DIRECT),
        Method("rscd_ddim", "rscd", _DDIM),
        Method("rscd_mean", "rscd", {"sampler": "mean"}),
        Method("median", "median", {"size": 5}),
        Method("deep_image_prior", "deep_image_prior", {"iterations": DIP_ITERATIONS, "channels": DIP_CHANNELS}),
        Method("synthetic_noise", "synthetic_noise", bundle=BASELINES),
        Method("noise2noise", "noise2noise", bundle=BASELINES),
        Method("noise2void", "noise2void", bundle=BASELINES),
        Method("cyclegan", "cyclegan", bundle=BASELINES),
        Method("conditional_diffusion", "conditional_diffusion", {"steps": DDIM_STEPS}, bundle=BASELINES),
        Method("ccdf", "ccdf"),
        Method("rrd", "rrd"),
        Method("nlm", "nlm"),
        Method("wavelet", "wavelet"),
        Method("rscd_no_recalibration", "rscd", {**_DDIM, "recalibrate": False}),
        Method("rscd_one_evaluation", "rscd", {**_DIRECT, "evaluations": 1}),
        Method("rscd_three_evaluations", "rscd", {**_DIRECT, "evaluations": 3}),
        Method("rscd_as_read", "rscd", {**_DIRECT, "understate": False}),
        Method("rscd_last_difference", "rscd", {**_DIRECT, "keep_difference": False}),
        Method("rscd_upright", "rscd", {**_DIRECT, "turn_last": False}),
        Method("rscd_nonparametric", "rscd", {**_DIRECT, "estimator": "nonparametric"}),
        Method("rscd_fixed_10", "rscd", {**_DIRECT, "fixed_steps": 10}),
        Method("rscd_fixed_50", "rscd", {**_DIRECT, "fixed_steps": 50}),
        Method("rscd_linear", "rscd", {**_DDIM, **_LINEAR}, bundle=LINEAR),
        Method("rscd_unaugmented", "rscd", _DIRECT, bundle=UNAUGMENTED),
        Method("rscd_no_exposure", "rscd", {**_DIRECT, "exposure": None}),
        Method("median_3", "median", {"size": 3}),
        Method("gaussian_1", "gaussian", {"sigma": 1.0}),
    )
}
"""Every method by its name: the input, ours, baselines, ablations, and filters that the protocol alone compares."""

FILTERS = {"median-5": "median", "median-3": "median_3", "gaussian-1": "gaussian_1", "nlm": "nlm"}
"""The protocol's words for methods without weights."""

FIXED_STEPS = ("rscd_fixed_10", "rscd_fixed_50")
"""Ablations that ask no calibrator."""

OF_TABLES = tuple(name for name in METHODS if name not in ("median_3", "gaussian_1"))
"""Every row of the paper's tables, in their order."""

ABLATIONS = tuple(name for name in METHODS if name.startswith("rscd_") and name not in OURS)

LEARNED = (*LEARNED_PARTS, "ccdf", "rrd")
"""Baselines whose networks were trained."""

REDUCED = {
    "deep_image_prior": f"{DIP_CHANNELS} channels and {DIP_ITERATIONS} iterations, the paper's 128 and up to 3,000",
    "conditional_diffusion": f"{DDIM_STEPS} DDIM steps, the paper's 1,000",
}
"""Methods that run shorter than the paper's here, and how much."""


def chosen_methods(names: tuple[str, ...] | None) -> tuple[Method, ...]:
    """Methods by name, those of the paper's tables when None.

    Raises
    ------
    InputError
        When a name is unknown.
    """
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise InputError(f"the methods {', '.join(unknown)}", f"one or more of {', '.join(METHODS)}")
    return tuple(METHODS[name] for name in (OF_TABLES if names is None else names))


def protocol_methods(protocol: Protocol, strides: Sequence[int] = ()) -> tuple[Method, ...]:
    """Every method of the protocol's restoration benchmark, RSCD as it is by default first.

    Parameters
    ----------
    strides
        Further strides of the DDIM sampler.
    """
    by_sampler = {METHODS[name].settings["sampler"]: METHODS[name] for name in OURS}
    samplers = [by_sampler[sampler] for sampler in protocol.restoration.samplers]
    return (
        METHODS[WHOLE],
        *(method for method in samplers if method.name != WHOLE),
        *(Method(f"rscd_ddim_stride_{n}", "rscd", {**_DDIM, "ddim_stride": n}) for n in strides),
        *(METHODS[name] for name in FIXED_STEPS),
        *(METHODS[name] for name in ("input", *(FILTERS[word] for word in protocol.restoration.classical))),
    )
