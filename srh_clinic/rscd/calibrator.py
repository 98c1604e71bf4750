"""Step calibration: how many steps of noise does an image carry?

The corruptions that a calibrator is trained on, and the caller that asks it in batches of one fixed size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.inference import inference
from srh_clinic.rscd.schedule import Schedule

Gain = Literal["state", "unit"]
"""``"state"``: the signal is scaled by ``sqrt(alpha_bar_t)``, as in a diffusion's states; ``"unit"``: it is left as it is."""

REGION_KINDS = ("rectangle", "ellipse", "half-plane", "blobs")


def q_sample(x0: Tensor, t: Tensor, noise: Tensor, schedule: Schedule, gain: Gain = "state") -> Tensor:
    """The state ``sqrt(alpha_bar_t) x_0 + sigma_t eps``, or ``x_0 + sigma_t eps`` with ``gain="unit"``.

    Parameters
    ----------
    x0
        Clean images in model space ``(N, 2, H, W)``.
    t
        Step indices, long, ``(N,)`` or one for each pixel ``(N, 1, H, W)``; -1 is the clean image.
    noise
        Standard normal, shaped as ``x0``.
    """
    sigma_of_steps = torch.from_numpy(np.concatenate([[0.0], schedule.sigma])).to(x0)
    scale_of_steps = torch.from_numpy(np.concatenate([[1.0], np.sqrt(schedule.alpha_bar)])).to(x0)
    sigma, scale = sigma_of_steps[t + 1], scale_of_steps[t + 1]
    if t.ndim == 1:
        sigma, scale = sigma[:, None, None, None], scale[:, None, None, None]
    return (scale * x0 if gain == "state" else x0) + sigma * noise


def two_region(
    x0: Tensor, t: Tensor, t_small: Tensor, mask: Tensor, noise: Tensor, schedule: Schedule, gain: Gain = "state"
) -> Tensor:
    """Images with step ``t`` where ``mask`` is set and ``t_small`` elsewhere; the calibrator's target is the larger, ``t``.

    Parameters
    ----------
    x0, noise
        Model space and standard normal, ``(N, 2, H, W)``.
    t, t_small
        Step indices, long ``(N,)``, ``-1 <= t_small <= t``.
    mask
        bool ``(N, H, W)``.
    """
    t_map = torch.where(mask[:, None], t[:, None, None, None], t_small[:, None, None, None])
    return q_sample(x0, t_map, noise, schedule, gain)


def region_mask(
    rng: np.random.Generator,
    size: int = 256,
    kind: str = "rectangle",
    *,
    side: tuple[int, int] = (30, 180),
    inside: float = 0.40,
) -> NDArray[np.bool_]:
    """Where the stronger of two noises lies, bool ``(size, size)``.

    ``"rectangle"`` is the paper's: sides U[30, 180] px, the stronger noise inside it with a probability of 0.40, else outside.
    ``"ellipse"`` has its axes from the same range, ``"half-plane"`` a random line near the centre, ``"blobs"`` a thresholded
    random field of long waves.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    if kind in ("rectangle", "ellipse"):
        height, width = (min(int(edge), size) for edge in rng.integers(side[0], side[1] + 1, 2))
        top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
        v, u = (y + 0.5 - top - height / 2) / (height / 2), (x + 0.5 - left - width / 2) / (width / 2)
        region = np.maximum(np.abs(u), np.abs(v)) <= 1 if kind == "rectangle" else u**2 + v**2 <= 1
    elif kind == "half-plane":
        angle = rng.uniform(0, 2 * np.pi)
        region = (y - size / 2) * np.sin(angle) + (x - size / 2) * np.cos(angle) > rng.uniform(-0.3, 0.3) * size
    elif kind == "blobs":
        spectrum = np.zeros((size, size // 2 + 1), dtype=np.complex128)
        spectrum[:6, :6], spectrum[-5:, :6] = _complex_normal(rng, (6, 6)), _complex_normal(rng, (5, 6))
        field = np.fft.irfft2(spectrum, s=(size, size))
        region = field > np.quantile(field, rng.uniform(0.35, 0.65))
    else:
        raise ValueError(f"found region kind {kind!r}; needed one of {REGION_KINDS}.")
    return np.asarray(region if rng.random() < inside else ~region, dtype=bool)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.complex128]:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


class StepCalibrator:
    """Asks a calibrator network so that an image gets the same answer whatever else is in its batch.

    Step indices are integers rounded from a float network, and rounding errors depend on the batch size: batches are padded to
    one fixed size, unless the network says the same of an image in any batch.

    Parameters
    ----------
    network
        Any callable ``(N, 2, H, W)`` model space -> float ``(N,)`` step indices; a module is put into evaluation mode.
    batch_size
        Images in each forward pass; None for a network that sees each image alone, as :class:`~srh_clinic.engine.Engine`'s on
        a processor do.
    device
        Where the network is.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], batch_size: int | None = 8, device: str | torch.device = "cpu"
    ) -> None:
        if isinstance(network, torch.nn.Module):
            network = network.to(device).eval()
        self.network = network
        self.batch_size = batch_size
        self.device = torch.device(device)

    @inference()
    def predict(self, states: Tensor) -> NDArray[np.float64]:
        """Predicted step index, float64 ``(N,)``, not rounded, of model-space states ``(N, 2, H, W)``."""
        t_pred = [np.empty(0, dtype=np.float64)]
        size = self.batch_size or max(len(states), 1)
        for chunk in states.split(size) if len(states) else ():
            padded = torch.zeros((size, *chunk.shape[1:]), dtype=torch.float32, device=self.device)
            padded[: len(chunk)] = chunk
            t_pred.append(self.network(padded)[: len(chunk)].double().cpu().numpy())
        return np.concatenate(t_pred)
