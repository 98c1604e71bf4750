"""How far an image is from its reference.

Images are unit intensity ``(2, H, W)``, channel 0 CH2, channel 1 CH3, unless a docstring says otherwise.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from srh_clinic.errors import InputError
from srh_clinic.inference import inference
from srh_clinic.metrics.networks import State, load_into, load_state, srh_view

LPIPS_WEIGHTS = "SRH_LPIPS_WEIGHTS"
"""Environment variable that names the file of AlexNet's weights."""

LPIPS_SMALLEST = 31
"""Edge in px below which nothing is left of an image behind AlexNet's pooling."""

ALEXNET_SLICES = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
"""Slice of the LPIPS network that holds each convolution of torchvision's ``features``."""


def psnr(image: ArrayLike, reference: ArrayLike, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(data_range**2 / MSE)``, the mean squared error over channels and pixels.

    Equal images have infinitely many dB.

    Parameters
    ----------
    image, reference
        Unit intensity ``(2, H, W)``.
    """
    x, y = _pair(image, reference)
    error = float(np.mean((x - y) ** 2))
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def ssim(image: ArrayLike, reference: ArrayLike, *, sigma: float = 1.5, size: int = 11, data_range: float = 1.0) -> float:
    """Structural similarity, the mean over channels and over the pixels whose whole window lies in the image.

    ``(2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))`` with Gaussian-weighted means and (co)variances,
    ``c1 = (0.01 data_range)^2`` and ``c2 = (0.03 data_range)^2`` (Wang et al. 2004, IEEE TIP 13:600, eq. 13).

    Parameters
    ----------
    image, reference
        Unit intensity ``(2, H, W)``, H and W at least ``size``.
    sigma, size
        Standard deviation and edge of the Gaussian window in pixels.
    """
    from monai.metrics.regression import compute_ssim_and_cs

    x, y = (torch.from_numpy(one.astype(np.float32))[None] for one in _pair(image, reference))
    similarity, _ = compute_ssim_and_cs(
        x, y, spatial_dims=2, kernel_size=(size, size), kernel_sigma=(sigma, sigma), data_range=data_range
    )
    return float(similarity.double().mean())


def micro_ssim(image: ArrayLike, reference: ArrayLike, *, background: float = 3.0) -> float:
    """MicroSSIM: structural similarity whatever the background and the scale (Ashesh et al. 2024, arXiv 2408.08747).

    In each channel the ``background`` percentile of either image is taken off and both are divided by the reference's maximum;
    the image is then scaled by the factor that makes the mean structural similarity largest, which is the result. Microscopes'
    images fill little of their range, and there the constants of plain SSIM call everything similar. The mean over channels;
    the window is :func:`ssim`'s, covariances are a sample's. The authors' package stops at a factor a little off the largest.

    Parameters
    ----------
    image, reference
        ``(2, H, W)`` in any unit, H and W at least 11. A reference without contrast has no MicroSSIM: NaN.
    """
    return float(np.mean([_scaled_ssim(x, y, background) for x, y in zip(*_pair(image, reference), strict=True)]))


def _scaled_ssim(image: NDArray[np.float64], reference: NDArray[np.float64], background: float) -> float:
    """Largest mean SSIM over a factor on the image, both ``(H, W)``, less their backgrounds."""
    from scipy.ndimage import gaussian_filter
    from scipy.optimize import minimize_scalar

    y = reference - np.percentile(reference, background)
    x = image - np.percentile(image, background)
    if y.max() <= 0:
        return float("nan")
    x, y = x / y.max(), y / y.max()

    def local(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(plane, 1.5, radius=5))[5:-5, 5:-5]

    mx, my = local(x), local(y)
    sample = 121 / 120  # theirs are covariances of a sample of 11 x 11 pixels
    xx, yy, xy = (sample * one for one in (local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my))
    c1, c2 = (0.01 * np.ptp(y)) ** 2, (0.03 * np.ptp(y)) ** 2

    def similarity(factor: float) -> float:
        luminance = (2 * factor * mx * my + c1) / ((factor * mx) ** 2 + my**2 + c1)
        return float((luminance * (2 * factor * xy + c2) / (factor**2 * xx + yy + c2)).mean())

    best = minimize_scalar(lambda log_factor: -similarity(float(np.exp(log_factor))), bounds=(-3.0, 3.0), method="bounded")
    return max(similarity(float(np.exp(best.x))), similarity(1.0))


def lpips(image: ArrayLike, reference: ArrayLike, *, weights: str | Path | None = None) -> float:
    """Learned perceptual image patch similarity, 0 for equal images (Zhang et al. 2018, CVPR; AlexNet, version 0.1).

    Both images are shown as :func:`~srh_clinic.metrics.networks.srh_view`, scaled to [-1, 1]. The heads come with the package
    ``lpips``; AlexNet's feature layers come from ``weights``, else from the file that the environment variable
    ``SRH_LPIPS_WEIGHTS`` names, else torchvision downloads them, which it says on stderr.

    Parameters
    ----------
    image, reference
        Unit intensity ``(2, H, W)``, H and W at least 31.
    weights
        File with torchvision's names (``features.0.weight``, ...), safetensors or a state dict; further tensors are ignored.

    Raises
    ------
    InputError
        When the package or the weights are missing or do not fit, or the images are too small.
    """
    x, y = _pair(image, reference)
    if min(x.shape[1:]) < LPIPS_SMALLEST:
        raise InputError(f"an image of {x.shape[1]} x {x.shape[2]} px", f"at least {LPIPS_SMALLEST} px a side for LPIPS")
    named = weights or os.environ.get(LPIPS_WEIGHTS)
    network = _lpips_network(None if named is None else Path(named).resolve())
    with inference():
        shown = torch.from_numpy(srh_view(np.stack([x, y]))) * 2 - 1
        return float(network(shown[:1], shown[1:]))


def channel_coherence(image: ArrayLike, above: float) -> float:
    """How far the two channels of an image agree at high frequencies, 0 (not at all) to 1.

    The magnitude of their cross-spectrum over the root of the product of their power spectra, each summed over the
    frequencies ``above`` so many cycles a pixel, under a Hann window. What both channels see of tissue is coherent; noise of
    separate acquisitions is not.

    Parameters
    ----------
    image
        ``(2, H, W)``, in any unit.
    """
    first, second, shared = _high_frequencies(image, above)
    return shared / (first * second) ** 0.5 if first * second > 0 else 0.0


def incoherent_noise(image: ArrayLike, above: float) -> tuple[float, float]:
    """Standard deviation of the noise in CH2 and CH3, in the image's unit, if it is white and its share is alike in both.

    ``sqrt(P (1 - coherence))`` with the mean power ``P`` of a channel and the :func:`channel_coherence` at the frequencies
    ``above`` so many cycles a pixel: the power that the other channel does not share. What tissue shows in one channel alone
    counts as noise. No reference is needed.

    Parameters
    ----------
    image
        ``(2, H, W)``, in any unit.
    """
    first, second, shared = _high_frequencies(image, above)
    alone = max(1 - shared / (first * second) ** 0.5, 0.0) if first * second > 0 else 1.0
    return (first * alone) ** 0.5, (second * alone) ** 0.5


def _high_frequencies(image: ArrayLike, above: float) -> tuple[float, float, float]:
    """Mean power of both channels and magnitude of their mean cross-spectrum; white noise has its variance."""
    channels = np.asarray(image, dtype=np.float64)
    if channels.ndim != 3 or len(channels) != 2:
        raise ValueError(f"found an image of shape {channels.shape}; needed (2, H, W).")
    height, width = channels.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    centred = (channels - channels.mean(axis=(1, 2), keepdims=True)) * window
    first, second = np.fft.fft2(centred)[:, frequency > above] / (window**2).sum() ** 0.5
    power = float((np.abs(first) ** 2).mean()), float((np.abs(second) ** 2).mean())
    return *power, float(np.abs((first * second.conj()).mean()))


def _pair(image: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 3 or x.shape[0] != 2:
        raise ValueError(f"found images of shape {x.shape} and {y.shape}; needed two of one shape (2, H, W).")
    return x, y


@cache
def _lpips_network(weights: Path | None) -> nn.Module:
    try:
        from lpips import LPIPS
    except ModuleNotFoundError as error:
        raise InputError("that the package lpips is not installed", "pip install 'srh-clinic[metrics]'") from error
    state = _downloaded_alexnet() if weights is None else load_state(weights)
    # The package first fills AlexNet at random: the caller's random numbers are none of its business.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by a deprecated name
        network: nn.Module = LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    layers = {
        f"slice{number}.{layer}.{kind}": state[name]
        for layer, number in ALEXNET_SLICES.items()
        for kind in ("weight", "bias")
        if (name := f"features.{layer}.{kind}") in state
    }
    load_into(network.get_submodule("net"), layers, "AlexNet's feature layers under torchvision's names", weights)
    return network.eval().requires_grad_(False)


def _downloaded_alexnet() -> State:
    from torchvision.models import AlexNet_Weights

    try:
        return dict(AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"no weights of AlexNet ({error})",
            f"a file of them (argument weights or {LPIPS_WEIGHTS}), or internet access for torchvision to download them",
        ) from error
