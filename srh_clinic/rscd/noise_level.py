"""How strong is the white noise in an image? The nonparametric answer, which RSCD's calibrator is compared with.

Chen, Zhu and Heng 2015, "An efficient statistical method for image noise level estimation", ICCV: patches of a natural image
lie near a subspace, so that the smaller eigenvalues of their covariance are the noise's alone. The noise's eigenvalues have a
mean that is also their median; larger ones are dropped until that holds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from srh_clinic.errors import InputError
from srh_clinic.rscd.schedule import Schedule

PATCH = 8
"""Edge of a patch in pixels."""
STRIDE = 3
"""Distance of neighbouring patches in pixels."""
FEWEST = 3
"""Eigenvalues that the rule needs: of two, one always lies above their mean and one below, which says nothing of noise."""


def noise_level(image: ArrayLike) -> float:
    """Standard deviation of the white noise in an image, in the image's unit; NaN where the method has no answer.

    A patch spans the channels, as in the authors' code for colour images: one number comes of both, for channels of unequal
    noise the root of their mean variance.

    Within 3 % on white noise in tiles of 256 px, and low in small ones, whose few patches spread the eigenvalues (by a third
    at 64 px). Correlated noise is taken for structure: on noise blurred by 3 x 3 px the answer falls to an eighth.

    Parameters
    ----------
    image
        ``(C, H, W)``, any intensity space.

    Returns
    -------
    NaN where :func:`noise_variance` has no answer, or where the image has no more patches than a patch has pixels, so that
    some eigenvalues are zero whatever the noise.

    Raises
    ------
    InputError
        When the image is not finite or not ``(C, H, W)``.

    Examples
    --------
    >>> noise = 0.05 * np.random.default_rng(0).standard_normal((2, 256, 256))
    >>> bool(abs(noise_level(noise) - 0.05) < 0.0015)
    True
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 3 or not np.isfinite(image).all():
        found = f"an image of shape {image.shape}" if image.ndim != 3 else "an image with values that are not finite"
        raise InputError(found, "finite numbers of shape (C, H, W)")
    channels, height, width = image.shape
    if min(height, width) < PATCH:
        return math.nan
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    patches = windows.transpose(1, 2, 0, 3, 4).reshape(-1, channels * PATCH**2)
    if len(patches) <= patches.shape[1]:
        return math.nan
    patches = patches - patches.mean(axis=0)
    # One thread: how the sums are shared out changes their last digits, and with them the index that is nearest to the answer.
    with threadpool_limits(1, "blas"):
        eigenvalues = np.linalg.eigvalsh(patches.T @ patches / len(patches))
    # Rounding leaves the zero eigenvalues of a plain image on either side of zero.
    eigenvalues = np.maximum(eigenvalues, 0.0)
    return math.sqrt(noise_variance(eigenvalues))


def noise_variance(eigenvalues: NDArray[np.float64]) -> float:
    """The mean of the smallest eigenvalues that has as many of them above it as below (Algorithm 1).

    The largest of what is left is dropped until that holds, all being tried first. Where ties or too steep a fall keep it from
    holding until two are left, there is no answer.

    Parameters
    ----------
    eigenvalues
        Of the patches' covariance, ascending, ``(d,)``.

    Returns
    -------
    NaN without an answer.

    Examples
    --------
    >>> noise_variance(np.array([1.0, 1.0, 2.0, 2.0, 100.0]))
    1.5
    >>> noise_variance(np.array([1.0, 1.0, 2.0]))
    nan
    """
    for kept in range(len(eigenvalues), FEWEST - 1, -1):
        smallest = eigenvalues[:kept]
        mean = smallest.mean()
        if (smallest > mean).sum() == (smallest < mean).sum():
            return float(mean)
    return math.nan


def index_of_noise(images: Tensor, schedule: Schedule) -> NDArray[np.float64]:
    """The index whose ``schedule.sigma`` is nearest to the noise in each image as it stands: a calibrator without a network.

    Parameters
    ----------
    images
        Model space at a gain of 1, ``(N, 2, H, W)``.

    Returns
    -------
    Whole numbers from 0, float64 ``(N,)``; NaN where :func:`noise_level` is.
    """
    sigma = np.array([noise_level(image) for image in images.double().cpu().numpy()])
    nearest = np.abs(schedule.sigma - sigma[:, None]).argmin(axis=1).astype(np.float64)
    return np.where(np.isnan(sigma), np.nan, nearest)
