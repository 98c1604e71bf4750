"""The calibrator: how well does it tell how much noise an image carries?

On clean test phantoms to which noise of a known step is added, as the sampler shows them: as a diffusion's state,
``sqrt(alpha_bar_t) x_0 + sigma_t eps``, and at gain 1, ``x_0 + sigma_t eps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.intensity import counts_to_model
from srh_clinic.metrics import proportion
from srh_clinic.restorers.diffusion import create_rscd
from srh_clinic.rscd.calibrator import REGION_KINDS, Gain, q_sample, region_mask, two_region
from srh_clinic.rscd.schedule import Schedule
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.training.noise import NoiseKind, unit_noise
from srh_clinic.validation.bench.bench import Bench, chunks
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table

LARGEST_MEAN_ERROR = 8.0
"""Steps; what the calibrator was asked for on uniform noise."""

SMALLEST_SHARE_NEARER = 0.9
"""What it was asked for on two regions."""

FED: dict[str, tuple[Gain, bool]] = {
    "state": ("state", False),
    "gain 1": ("unit", False),
    "gain 1, clipped to the detector's range": ("unit", True),
}
"""Ways to show an image to the calibrator: the gain of its signal, and whether it is clipped."""

RANGES = ((0, 19), (20, 59), (60, 119), (120, 200))
"""Ranges of the true index, both ends included, for which errors are told apart."""

KNOWN_T = (20, 50, 100, 150)
"""Indices whose sigma is the standard deviation of the noise that is not white."""

UNIFORM_STREAM = 0
"""Stream of the phantoms' randomness that uniform noise is drawn from; shapes of regions and kinds of noise follow."""

PIXELS_FROM = 100
"""How far the stream of a noise's pixels lies above that of its indices."""

Predict = Callable[[Tensor], NDArray[np.float64]]

K = TypeVar("K")

Found = Mapping[K, Sequence[NDArray[np.float64]]]
"""What was predicted of a kind of noise, one array for each chunk of phantoms."""


def calibration(bench: Bench) -> Report:
    """The protocol's measures of the calibrator, and what it says of noise that is not white."""
    rscd = create_rscd("rscd", str(bench.bundle.path), bench.device, RSCDSettings()).diffusion

    def predict(images: Tensor) -> NDArray[np.float64]:
        return np.asarray(rscd.calibrator(images), dtype=np.float64)

    uniform: dict[str, list[NDArray[np.float64]]] = {name: [] for name in FED}
    regions: dict[tuple[str, str], list[NDArray[np.float64]]] = {(kind, name): [] for kind in REGION_KINDS for name in FED}
    kinds: dict[tuple[str, int], list[NDArray[np.float64]]] = {(kind, t): [] for kind in get_args(NoiseKind) for t in KNOWN_T}
    for members in chunks(bench.indices):
        x0 = torch.from_numpy(np.stack([counts_to_model(bench.protocol.phantom(i).clean) for i in members]))
        for name, pairs in uniform_noise(bench, predict, rscd.schedule, x0, members).items():
            uniform[name].append(pairs)
        for key, triples in two_regions(bench, predict, rscd.schedule, x0, members).items():
            regions[key].append(triples)
        for known, predicted in other_noise(bench, predict, rscd.schedule, x0, members).items():
            kinds[known].append(predicted)
        bench.report("calibrator", members[-1] + 1, len(bench.indices))

    return _report(bench, uniform, regions, kinds)


def _report(bench: Bench, uniform: Found[str], regions: Found[tuple[str, str]], kinds: Found[tuple[str, int]]) -> Report:
    errors, nearer = _errors_by_range(bench, uniform), _nearer_by_shape(regions)
    low, high = bench.protocol.calibrator.uniform_t
    gap = bench.protocol.calibrator.two_region_gap
    return Report(
        name="calibrator",
        title="Step calibration",
        summary=(
            f"{len(bench.indices)} clean test phantoms with noise added. The truth is the 0-based step index whose sigma is "
            "the noise in the image as it stands; predictions are not rounded."
        ),
        tables=(
            Table("What was asked", CRITERIA, _criteria(errors, nearer, gap)),
            Table(
                f"Uniform noise, index {low} to {high}",
                (
                    Column("fed", "Fed as"),
                    Column("true", "True index"),
                    Column("n", "n", "d"),
                    Column("error", "Mean absolute error (steps)", ".2f"),
                    Column("bias", "Bias (steps)", "+.2f"),
                    Column("p95", "95 % of errors below", ".1f"),
                ),
                errors,
            ),
            Table(
                f"Two regions, t - t' of {gap} or more: prediction nearer to the larger",
                (Column("fed", "Fed as"), Column("shape", "Region"), Column("n", "n", "d"), Column("share", "Share", ".3f")),
                nearer,
                "Intervals are exact (Clopper-Pearson).",
            ),
            Table(
                "Noise of known variance that is not white",
                (
                    Column("noise", "Noise"),
                    Column("t", "Index of its sigma", "d"),
                    Column("n", "n", "d"),
                    Column("mean", "Mean prediction", ".1f"),
                    Column("deviation", "Standard deviation", ".1f"),
                ),
                _by_kind_of_noise(kinds),
                "At gain 1, clipped. There is no true index here: the rows say what the sampler will be told. row: half of "
                "the variance is shared by a row; smooth: averaged over 3x3 px; shot: variance in proportion to the signal.",
            ),
        ),
        provenance=bench.provenance(bench.protocol.calibrator.seed),
    )


def _errors_by_range(bench: Bench, uniform: Found[str]) -> list[Row]:
    """Errors on uniform noise, by way of feeding and range of the true index."""
    return [
        {"fed": name, "true": label, **_errors(bench, pairs[chosen])}
        for name, parts in uniform.items()
        for pairs in [np.concatenate(parts)]
        for label, chosen in _ranges(pairs[:, 0])
        if chosen.any()
    ]


def _nearer_by_shape(regions: Found[tuple[str, str]]) -> list[Row]:
    """How often the prediction for two regions is nearer to the larger, by way of feeding and shape."""
    return [
        {"fed": name, "shape": kind, "n": share.n, "share": share}
        for name in FED
        for kind, triples in (
            ("all", np.concatenate([part for shape in REGION_KINDS for part in regions[shape, name]])),
            *((shape, np.concatenate(regions[shape, name])) for shape in REGION_KINDS),
        )
        for share in [proportion(int(_nearer_the_larger(triples).sum()), len(triples))]
    ]


def _by_kind_of_noise(kinds: Found[tuple[str, int]]) -> list[Row]:
    """What is predicted of noise that is not white."""
    return [
        {"noise": kind, "t": t, "n": len(values), "mean": float(values.mean()), "deviation": float(values.std())}
        for (kind, t), parts in kinds.items()
        for values in [np.concatenate(parts)]
    ]


def uniform_noise(
    bench: Bench, predict: Predict, schedule: Schedule, x0: Tensor, members: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """True and predicted index ``(N, 2)`` for each way of feeding, of white noise whose index is drawn uniformly."""
    low, high = bench.protocol.calibrator.uniform_t
    t = torch.tensor([_rng(bench, i, UNIFORM_STREAM).integers(low, high + 1) for i in members])
    noise = _noise(bench, "white", x0, members, UNIFORM_STREAM)
    return {
        name: np.stack([t.numpy(), predict(_clip(q_sample(x0, t, noise, schedule, gain), clipped))], axis=1).astype(np.float64)
        for name, (gain, clipped) in FED.items()
    }


def two_regions(
    bench: Bench, predict: Predict, schedule: Schedule, x0: Tensor, members: Sequence[int]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Larger, smaller and predicted index ``(N, 3)`` for each shape of the region and way of feeding."""
    low, high = bench.protocol.calibrator.uniform_t
    gap = bench.protocol.calibrator.two_region_gap
    found = {}
    for stream, kind in enumerate(REGION_KINDS, start=UNIFORM_STREAM + 1):
        draws = [_rng(bench, i, stream) for i in members]
        larger = torch.tensor([rng.integers(low + gap, high + 1) for rng in draws])
        smaller = torch.tensor([rng.integers(low, int(t) - gap + 1) for rng, t in zip(draws, larger, strict=True)])
        mask = torch.from_numpy(np.stack([region_mask(rng, x0.shape[-1], kind) for rng in draws]))
        noise = _noise(bench, "white", x0, members, stream)
        for name, (gain, clipped) in FED.items():
            images = _clip(two_region(x0, larger, smaller, mask, noise, schedule, gain), clipped)
            found[kind, name] = np.stack([larger.numpy(), smaller.numpy(), predict(images)], axis=1).astype(np.float64)
    return found


def other_noise(
    bench: Bench, predict: Predict, schedule: Schedule, x0: Tensor, members: Sequence[int]
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Predicted index ``(N,)`` of each kind of noise whose mean variance is that of each index of :data:`KNOWN_T`."""
    found = {}
    for stream, kind in enumerate(get_args(NoiseKind), start=UNIFORM_STREAM + 1 + len(REGION_KINDS)):
        noise = _noise(bench, kind, x0, members, stream)
        for t in KNOWN_T:
            images = q_sample(x0, torch.full((len(x0),), t), noise, schedule, "unit")
            found[kind, t] = predict(_clip(images, True))
    return found


def _rng(bench: Bench, index: int, stream: int) -> np.random.Generator:
    """Randomness of one phantom, so that a smaller run is a part of a larger one."""
    return np.random.default_rng([bench.protocol.calibrator.seed, bench.protocol.seed(index), stream])


def _noise(bench: Bench, kind: NoiseKind, x0: Tensor, members: Sequence[int], stream: int) -> Tensor:
    seeds = [int(_rng(bench, i, PIXELS_FROM + stream).integers(2**62)) for i in members]
    drawn = (unit_noise(kind, one[None], torch.Generator().manual_seed(seed)) for one, seed in zip(x0, seeds, strict=True))
    return torch.cat(list(drawn))


def _clip(images: Tensor, clipped: bool) -> Tensor:
    return images.clamp(-1, 1) if clipped else images


def _ranges(t: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    return [("all", np.ones(len(t), dtype=bool)), *((f"{a} to {b}", (a <= t) & (t <= b)) for a, b in RANGES)]


def _errors(bench: Bench, pairs: NDArray[np.float64]) -> dict[str, Any]:
    error = pairs[:, 1] - pairs[:, 0]
    size = np.abs(error)
    return {"n": len(pairs), "error": bench.mean(size), "bias": float(error.mean()), "p95": float(np.quantile(size, 0.95))}


def _nearer_the_larger(triples: NDArray[np.float64]) -> NDArray[np.bool_]:
    larger, smaller, predicted = triples.T
    return np.abs(predicted - larger) < np.abs(predicted - smaller)


def _criteria(errors: Sequence[dict[str, Any]], nearer: Sequence[dict[str, Any]], gap: int) -> list[dict[str, Any]]:
    return [
        *(
            {
                "asked": f"uniform noise, {row['fed']}: mean absolute error at most {LARGEST_MEAN_ERROR:g} steps",
                "measured": f"{row['error'].value:.2f} steps",
                "met": row["error"].value <= LARGEST_MEAN_ERROR,
                "finding": row["error"],
            }
            for row in errors
            if row["true"] == "all"
        ),
        *(
            {
                "asked": f"two regions {gap} or more apart, {row['fed']}: nearer to the larger in {SMALLEST_SHARE_NEARER:.0%}",
                "measured": f"{row['share'].value:.1%}",
                "met": row["share"].value >= SMALLEST_SHARE_NEARER,
                "finding": row["share"],
            }
            for row in nearer
            if row["shape"] == "all"
        ),
    ]
