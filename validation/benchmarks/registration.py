"""Registration of two acquisitions of one field, so that what they share can be compared pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts

Array = NDArray[np.float64]

GOOD_QUALITY = 0.3
"""Quality below which two images are not taken for one field."""

SMALLEST_OVERLAP = 0.5
"""Share of the smaller image that both must show."""

LARGEST_STRETCH = 0.05
"""How far either principal scale may lie from 1: two scans of one instrument differ by less."""

LARGEST_ROTATION_DEG = 5.0
"""How far a slide may lie turned under the objective the second time."""

SMALLEST_EDGE, LARGEST_EDGE_RATIO = 64, 1.25

_BAND = (2.0, 8.0)  # sigmas in px of the band of nuclei and fibre bundles, wide enough for pixel noise to average out
_WINDOW = 10.0  # sigma in px of the neighbourhood of a local correlation
_LEVELS = (4, 2, 1)  # coarse to fine: bands wider by the factor, on as much coarser a grid
_ITERATIONS = 40
_CONVERGED_PX = 1e-3


@dataclass(frozen=True)
class Registration:
    """Where a moving image lies over a fixed one.

    matrix
        float64 ``(3, 3)``: takes a place ``(y, x, 1)`` of the fixed image, in px, to that of the moving image which shows the
        same; the way in which images are resampled.
    quality
        Mean local normalised cross-correlation within the overlap, -1 to 1 (see :func:`alignment_quality`).
    overlap
        bool ``(H, W)``, the shape of the fixed image: where the moving one shows the place too.
    moving_shape
        Height and width of the moving image.
    """

    matrix: Array
    quality: float
    overlap: NDArray[np.bool_]
    moving_shape: tuple[int, int]

    @property
    def shift(self) -> tuple[float, float]:
        """Displacement (y, x) in px of the fixed image's centre."""
        centre = (np.array(self.overlap.shape) - 1) / 2
        y, x = self.matrix[:2, :2] @ centre + self.matrix[:2, 2] - centre
        return float(y), float(x)

    @property
    def rotation_deg(self) -> float:
        """Rotation in degrees: that of the orthogonal factor of the polar decomposition."""
        turn = linalg.polar(self.matrix[:2, :2])[0]
        return float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))

    @property
    def scales(self) -> tuple[float, float]:
        """Principal scales: the largest and the smallest stretch along any direction."""
        largest, smallest = np.linalg.svd(self.matrix[:2, :2], compute_uv=False)
        return float(largest), float(smallest)

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """The moving image, or another of its size, on the pixels of the fixed one; 0 outside the overlap.

        Parameters
        ----------
        image
            ``(..., H, W)`` of the moving image's size, in any intensity space; the result has its dtype. Cubic splines keep
            its texture; whole numbers are rounded and stay within what the image holds.

        Raises
        ------
        InputError
            When its size is another.
        """
        image = np.asarray(image)
        if image.ndim < 2 or image.shape[-2:] != self.moving_shape:
            raise InputError(
                f"an image of shape {image.shape}", f"one of {self.moving_shape[0]} x {self.moving_shape[1]} pixels"
            )
        place = _places(self.matrix, np.mgrid[0 : self.overlap.shape[0], 0 : self.overlap.shape[1]].astype(np.float64))
        flat = image.reshape(-1, *self.moving_shape).astype(np.float64)
        moved = np.stack([ndi.map_coordinates(plane, place, order=3, mode="mirror") for plane in flat])
        if np.issubdtype(image.dtype, np.integer):
            moved = np.clip(np.rint(moved), image.min(), image.max())
        return np.where(self.overlap, moved, 0).astype(image.dtype).reshape(*image.shape[:-2], *self.overlap.shape)


def register(moving: Counts, fixed: Counts) -> Registration:
    """Find the affine map under which ``moving`` agrees best with ``fixed``.

    Both channels are band-passed to the size of nuclei and fibre bundles. The translation is the peak of their summed
    cross-correlation; from there the affine map follows to fractions of a px by maximising the normalised cross-correlation
    of both channels from coarse to fine (Evangelidis and Psarakis 2008, IEEE PAMI 30:1858, forward additive form).

    To compare a restoration with a better acquisition, move the better one: resampling smooths, and would smooth what is to
    be judged.

    Parameters
    ----------
    moving, fixed
        uint16 counts ``(2, H, W)``, of sizes that may differ by a quarter.

    Returns
    -------
    Registration
        The best map found, good or not: :func:`require_good` judges it.

    Raises
    ------
    InputError
        When an image is not of that kind.
    """
    _check_images(moving, fixed)
    matrix = np.eye(3)
    matrix[:2, 2] = _translation(_band(moving, *_BAND), _band(fixed, *_BAND))
    for factor in _LEVELS:
        low, high = (factor * sigma for sigma in (0.75 * _BAND[0], _BAND[1] / 2))
        matrix = _refined(matrix, _band(moving, low, high), _band(fixed, low, high), factor)
    return Registration(
        matrix=matrix,
        quality=alignment_quality(moving, fixed, matrix),
        overlap=_overlap(matrix, moving.shape[1:], fixed.shape[1:]),
        moving_shape=(moving.shape[1], moving.shape[2]),
    )


def alignment_quality(moving: Counts, fixed: Counts, matrix: Array) -> float:
    """How well two images agree under a map: the mean, within their overlap, of the local normalised cross-correlation.

    Within Gaussian windows of 10 px the band-passed channels are correlated together, so that neither brightness nor
    shading counts and pixel noise counts little. Range -1 to 1: 1 for equal images, about 0 for unrelated ones or where
    there is no overlap.

    Parameters
    ----------
    moving, fixed
        uint16 counts ``(2, H, W)``.
    matrix
        float64 ``(3, 3)``, as in :class:`Registration`.
    """
    overlap = _overlap(matrix, moving.shape[1:], fixed.shape[1:])
    if not overlap.any():
        return 0.0
    grid = np.mgrid[0 : fixed.shape[1], 0 : fixed.shape[2]].astype(np.float64)
    a = np.where(overlap, _sampled(_band(moving, *_BAND), _places(matrix, grid)), 0)
    b = np.where(overlap, _band(fixed, *_BAND), 0)
    cross, aa, bb = (ndi.gaussian_filter((p * q).sum(axis=0), _WINDOW) for p, q in ((a, b), (a, a), (b, b)))
    return float((cross / np.sqrt(aa * bb + 1e-12))[overlap].mean())


def require_good(registration: Registration) -> Registration:
    """The registration itself when it is credible.

    Raises
    ------
    InputError
        When the map is none that two scans of one field differ by, too little is shown by both, or they do not agree.
    """
    needed = "two acquisitions of one field"
    largest, smallest = registration.scales
    stretch = max(largest - 1, 1 - smallest)
    if not stretch <= LARGEST_STRETCH or np.linalg.det(registration.matrix[:2, :2]) < 0:
        raise InputError(f"images that fit only when stretched to {smallest:.3g}..{largest:.3g}", needed)
    if abs(registration.rotation_deg) > LARGEST_ROTATION_DEG:
        raise InputError(f"images that fit only when turned by {registration.rotation_deg:.1f} degrees", needed)
    smaller = min(registration.overlap.size, registration.moving_shape[0] * registration.moving_shape[1])
    share = registration.overlap.sum() / smaller
    if share < SMALLEST_OVERLAP:
        raise InputError(f"images that share {share:.0%} of the field", f"{SMALLEST_OVERLAP:.0%} or more")
    if not registration.quality >= GOOD_QUALITY:
        raise InputError(f"images whose structures agree by {registration.quality:.2f}", f"{needed} ({GOOD_QUALITY} or more)")
    return registration


def _check_images(moving: Counts, fixed: Counts) -> None:
    for image in (moving, fixed):
        if image.ndim != 3 or image.shape[0] != 2 or image.dtype != np.uint16:
            raise InputError(f"an array of {image.dtype} with shape {image.shape}", "uint16 counts of shape (2, H, W)")
        if min(image.shape[1:]) < SMALLEST_EDGE:
            raise InputError(
                f"an image of {image.shape[1]} x {image.shape[2]} pixels", f"edges of {SMALLEST_EDGE} pixels or more"
            )
    for one, other in zip(moving.shape[1:], fixed.shape[1:], strict=True):
        if max(one, other) > LARGEST_EDGE_RATIO * min(one, other):
            raise InputError(f"images with edges of {one} and {other} pixels", "edges that differ by at most a quarter")


def _band(image: Counts, low: float, high: float) -> Array:
    """Both channels between two blurs, sigmas in px, at unit variance; float64 ``(2, H, W)``.

    The root makes shot noise even; what lies beyond four standard deviations (droplets, spikes) counts as that much.
    """
    root = np.sqrt(image.astype(np.float64))
    band = ndi.gaussian_filter(root, (0, low, low)) - ndi.gaussian_filter(root, (0, high, high))
    spread = band.std(axis=(1, 2), keepdims=True)
    return np.asarray(np.clip(band / np.where(spread > 0, spread, 1), -4, 4))


def _translation(moving: Array, fixed: Array) -> Array:
    """Where in ``moving`` the origin of ``fixed`` lies, (y, x) in whole px, from two band-passed images.

    The channels' cross-correlations are summed before the peak is sought: it must be one of both, and positive.
    """
    shape = [one + other for one, other in zip(moving.shape[1:], fixed.shape[1:], strict=True)]  # no shift wraps round
    spectrum = fft.rfft2(moving, shape) * fft.rfft2(fixed, shape).conj()
    correlation = fft.irfft2(spectrum.sum(axis=0), shape)
    peak = np.array(np.unravel_index(np.argmax(correlation), correlation.shape), dtype=np.float64)
    return np.where(peak < moving.shape[1:], peak, peak - shape)


def _places(matrix: Array, grid: Array) -> Array:
    """Places ``(2, ...)`` of the moving image for those of the fixed one."""
    return np.tensordot(matrix[:2, :2], grid, axes=1) + matrix[:2, 2].reshape(2, *[1] * (grid.ndim - 1))


def _sampled(image: Array, place: Array) -> Array:
    return np.stack([ndi.map_coordinates(channel, place, order=1, mode="nearest") for channel in image])


def _overlap(matrix: Array, moving: tuple[int, ...], fixed: tuple[int, ...]) -> NDArray[np.bool_]:
    y, x = _places(matrix, np.mgrid[0 : fixed[0], 0 : fixed[1]].astype(np.float64))
    return np.asarray((y >= 0) & (x >= 0) & (y <= moving[0] - 1) & (x <= moving[1] - 1))


def _refined(matrix: Array, moving: Array, fixed: Array, factor: int) -> Array:
    """The map near ``matrix`` that maximises the correlation of two band-passed images on every ``factor``-th pixel."""
    grid = np.mgrid[0 : fixed.shape[1] : factor, 0 : fixed.shape[2] : factor].astype(np.float64)
    centre = (np.array(fixed.shape[1:]) - 1).reshape(2, 1, 1) / 2
    radius = float(centre.max())
    reach = (grid - centre) / radius  # so that every parameter is the px by which it moves an edge
    reference = fixed[:, ::factor, ::factor]
    slopes = np.gradient(moving, axis=1), np.gradient(moving, axis=2)
    best, best_fit = matrix, -np.inf
    for _ in range(_ITERATIONS):
        place = _places(matrix, grid)
        inside = ((place >= 0) & (place <= np.array(moving.shape[1:]).reshape(2, 1, 1) - 1)).all(axis=0)
        if inside.sum() < 100:
            break
        target = np.concatenate([channel[inside] - channel[inside].mean() for channel in reference])
        warped = np.concatenate([channel[inside] - channel[inside].mean() for channel in _sampled(moving, place)])
        scale = np.linalg.norm(target) * np.linalg.norm(warped)
        fit = float(target @ warped / scale) if scale > 0 else -np.inf
        if not fit > best_fit:
            break
        best, best_fit = matrix, fit
        down, across = (_sampled(slope, place)[:, inside] for slope in slopes)
        basis = (reach[0][inside], reach[1][inside], np.ones(int(inside.sum())))
        jacobian = np.stack([(slope * weight).ravel() for slope in (down, across) for weight in basis], axis=1)
        step = _step(jacobian, warped, target)
        if step is None:
            break
        matrix = matrix.copy()
        change = step.reshape(2, 3)
        linear, offset = change[:, :2] / radius, change[:, 2]
        matrix[:2, :2] += linear
        matrix[:2, 2] += offset - linear @ centre.ravel()
        if np.abs(step).max() < _CONVERGED_PX:
            break
    return best


def _step(jacobian: Array, warped: Array, target: Array) -> Array | None:
    """The next change of the parameters (Evangelidis and Psarakis 2008); ``None`` when there is none."""
    try:
        solved = np.linalg.solve(jacobian.T @ jacobian, np.stack([jacobian.T @ warped, jacobian.T @ target], axis=1))
    except np.linalg.LinAlgError:  # an image without structure
        return None
    numerator = warped @ warped - (jacobian.T @ warped) @ solved[:, 0]
    denominator = target @ warped - (jacobian.T @ target) @ solved[:, 0]
    if not denominator > 0:
        return None
    return np.asarray(numerator / denominator * solved[:, 1] - solved[:, 0])
