"""A case of flat tissue with noise, for which calibrator, denoiser and classifier are exact in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.result import CaseResult
from srh_clinic.intensity import Counts
from srh_clinic.restorers.diffusion import DiffusionRestorer
from srh_clinic.rscd import RSCD, RSCDSettings, create_schedule
from srh_clinic.slide import ArraySlide

TILE = 64


FLAT = 20_000


SCHEDULE = create_schedule()


@dataclass(frozen=True)
class FakeBundle:
    """What the pipeline asks of a bundle; tiles of 64 pixels keep the tests small."""

    name: str = "fake"
    weights_sha256: str = "0" * 64
    metadata: dict[str, Any] = field(
        default_factory=lambda: {"um_per_px": 0.47, "tile": TILE, "demonstration": "demonstration weights, research use only"}
    )


class ContrastClassifier:
    """Nondiagnostic where neighbouring pixels differ much (noise), else tumor where it is bright."""

    patch = TILE
    recipe = "opensrh"

    def __init__(self) -> None:
        self.seen = 0

    def predict_proba(self, patches: Counts) -> NDArray[np.float64]:
        self.seen += len(patches)
        roughness = np.abs(np.diff(patches.astype(np.float64), axis=-1)).mean(axis=(1, 2, 3))
        bright = patches.mean(axis=(1, 2, 3)) > FLAT / 2
        which = np.where(roughness > 500, 2, np.where(bright, 0, 1))
        return np.eye(3)[which] * 0.7 + 0.1


def spread(states: Tensor) -> Tensor:
    """Standard deviation of each image about its mean: the noise of a flat one, in model units."""
    return states.std(dim=(1, 2, 3))


def calibrate(states: Tensor) -> NDArray[np.float64]:
    """The exact calibrator of flat images: the index whose sigma is their spread; below the smallest, nothing is left."""
    sigma = spread(states).numpy().astype(np.float64)
    return np.where(sigma < SCHEDULE.sigma[0], -1, np.abs(SCHEDULE.sigma[None] - sigma[:, None]).argmin(axis=1))


def denoise(x: Tensor, t: Tensor) -> Tensor:
    """The exact denoiser of flat images: all that differs from the mean is noise."""
    sigma = torch.as_tensor(SCHEDULE.sigma)[t].to(x.dtype)[:, None, None, None]
    return (x - x.mean(dim=(2, 3), keepdim=True)) / sigma


def flat_restorer(**settings: Any) -> DiffusionRestorer:
    """Of tiles as they are: brightened, they would ask for the steps of brighter noise."""
    return DiffusionRestorer("rscd", RSCD(denoise, calibrate, SCHEDULE, RSCDSettings(**{"exposure": None, **settings})))


def noisy(noise: float | NDArray[np.float64], shape: tuple[int, int] = (150, 210), level: float = FLAT) -> ArraySlide:
    """A flat slide with noise of the given standard deviation in counts."""
    rng = np.random.default_rng(0)
    image = level + noise * rng.standard_normal((2, *shape))
    return ArraySlide(np.clip(image, 1, 65_535).astype(np.uint16), 0.47)


def pipeline(**settings: Any) -> RestoreThenClassify:
    return RestoreThenClassify(FakeBundle(), flat_restorer(**settings), ContrastClassifier(), seed=3)  # type: ignore[arg-type]


def restored_counts(result: CaseResult) -> Counts:
    return result.restored.slide.read(0, 0, *result.restored.slide.shape)
