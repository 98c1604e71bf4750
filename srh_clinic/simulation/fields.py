"""Random fields that tissue and degradation are made of.

Every function takes a :class:`numpy.random.Generator` and returns float32 arrays; lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy import ndimage as ndi

from srh_clinic.simulation.sections import SectionRng

Field = NDArray[np.float32]
Rng = np.random.Generator
OrientationField = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def standardise(field: Field) -> Field:
    """Zero mean and unit standard deviation."""
    field = field - field.mean()
    return (field / (field.std() + 1e-9)).astype(np.float32)


def smooth_field(rng: Rng, shape: tuple[int, int], length: float) -> Field:
    """A standardised Gaussian field with a Gaussian covariance of about ``length`` px.

    Long fields are drawn on a coarse grid and interpolated, so that their cost does not grow with ``length``.
    """
    step = max(1, int(length // 3))
    coarse = (shape[0] // step + 4, shape[1] // step + 4)
    field = ndi.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), length / step, mode="wrap")
    if step > 1:
        field = ndi.zoom(field, step, order=1)
    return standardise(field[: shape[0], : shape[1]])


def power_law_field(rng: Rng, shape: tuple[int, int], exponent: float, anisotropy: float = 1.0, angle: float = 0.0) -> Field:
    """A standardised Gaussian field whose amplitude spectrum falls as frequency to the power ``-exponent``.

    ``anisotropy`` stretches the structure along ``angle`` (radians from the x axis).
    """
    size = tuple(fft.next_fast_len(n, real=True) for n in shape)
    fy = fft.fftfreq(size[0])[:, None]
    fx = fft.rfftfreq(size[1])[None]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.hypot(along * anisotropy, across)
    radius[0, 0] = 1.0
    amplitude = (radius**-exponent).astype(np.float32)
    amplitude[0, 0] = 0.0
    white = fft.rfft2(rng.standard_normal(size, dtype=np.float32))
    if isinstance(rng, SectionRng):
        white = rng.turned(white, np.hypot(fy, fx))
    return standardise(fft.irfft2(white * amplitude, s=size)[: shape[0], : shape[1]])


def splat(image: Field, y: NDArray[np.float64], x: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
    """Add ``weight`` at the sub-pixel places ``(y, x)`` with bilinear shares; places outside are dropped."""
    height, width = image.shape
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    inside = (top >= 0) & (left >= 0) & (top < height - 1) & (left < width - 1)
    top, left, weight = top[inside], left[inside], weight[inside]
    dy, dx = y[inside] - top, x[inside] - left
    flat = image.reshape(-1)
    for row, column, share in (
        (top, left, (1 - dy) * (1 - dx)),
        (top, left + 1, (1 - dy) * dx),
        (top + 1, left, dy * (1 - dx)),
        (top + 1, left + 1, dy * dx),
    ):
        flat += np.bincount(row * width + column, weights=share * weight, minlength=flat.size).astype(np.float32)


def fibres(
    rng: Rng,
    shape: tuple[int, int],
    density: float,
    *,
    length: float,
    width: float,
    orientation: float | OrientationField,
    spread: float,
    wander: float = 0.03,
    beading: float = 0.3,
) -> Field:
    """A mesh of curved fibres, about 1 on the axis of a fibre of unit brightness.

    Parameters
    ----------
    density
        Fibres per 256 x 256 px.
    length, width
        Longest length and Gaussian half-width in px.
    orientation
        Mean direction in radians from the x axis, one for all or a function of ``(y, x)``.
    spread, wander
        Standard deviation of the starting direction and of its change per px, in radians.
    beading
        Share of brightness that varies along a fibre (varicosities, myelin).
    """
    margin = 24
    area = (shape[0] + 2 * margin) * (shape[1] + 2 * margin)
    count = int(rng.poisson(density * area / 256**2))
    image = np.zeros(shape, np.float32)
    if count == 0:
        return image
    y = rng.uniform(-margin, shape[0] + margin, count)
    x = rng.uniform(-margin, shape[1] + margin, count)
    base = orientation(y, x) if callable(orientation) else np.full(count, orientation)
    angle = base + rng.normal(0, spread, count) + np.pi * rng.integers(0, 2, count)
    curvature = rng.normal(0, 0.006, count)
    brightness = rng.gamma(3.0, 1 / 3.0, count)
    steps = (length * rng.uniform(0.25, 1.0, count)).astype(int)
    longest = int(steps.max())
    turn = curvature[None] + rng.normal(0, wander, (longest, count))
    path = angle[None] + np.cumsum(turn, axis=0)
    beads = 1 + beading * ndi.gaussian_filter1d(rng.standard_normal((longest, count)), 2.0, axis=0) * 2.5
    ys = y[None] + np.cumsum(np.sin(path), axis=0)
    xs = x[None] + np.cumsum(np.cos(path), axis=0)
    alive = np.arange(longest)[:, None] < steps[None]
    weight = (brightness[None] * np.clip(beads, 0.1, 3.0))[alive]
    if isinstance(rng, SectionRng):
        number = np.broadcast_to(np.arange(count), alive.shape)[alive]
        for share, (dy, dx) in rng.layers(count):
            splat(image, ys[alive] + dy[number], xs[alive] + dx[number], weight * share[number])
    else:
        splat(image, ys[alive], xs[alive], weight)
    # A line of unit weight per px, blurred by a Gaussian, peaks at 1 / (width sqrt(2 pi)).
    return ndi.gaussian_filter(image, width) * np.float32(width * np.sqrt(2 * np.pi))


def dead_leaves(rng: Rng, shape: tuple[int, int], density: float, smallest: float = 2.0, largest: float = 60.0) -> Field:
    """Overlapping ellipses of random brightness in [0, 1], ``density`` per 256 x 256 px, with power-law radii.

    The dead-leaves model has the edge and occlusion statistics of natural images (Lee, Mumford and Huang 2001).
    """
    image = np.full(shape, rng.uniform(0, 1), np.float32)
    count = int(rng.poisson(density * shape[0] * shape[1] / 256**2))
    for _ in range(count):
        radius = min(largest, smallest / rng.random() ** 0.6)
        cy, cx = rng.uniform(-radius, shape[0] + radius), rng.uniform(-radius, shape[1] + radius)
        top, bottom = int(max(cy - radius, 0)), int(min(cy + radius + 1, shape[0]))
        left, right = int(max(cx - radius, 0)), int(min(cx + radius + 1, shape[1]))
        if bottom <= top or right <= left:
            continue
        dy = np.arange(top, bottom)[:, None] - cy
        dx = np.arange(left, right)[None] - cx
        angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.4, 1)
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / ratio
        image[top:bottom, left:right][along**2 + across**2 < radius**2] = rng.uniform(0, 1)
    return ndi.gaussian_filter(image, rng.uniform(0.5, 1.0))


def hard_core_points(
    rng: Rng, shape: tuple[int, int], density: float, spacing: float, accept: Field | None = None
) -> NDArray[np.float64]:
    """Random points ``(N, 2)`` as (y, x), no two nearer than ``spacing``, about ``density`` per 256 x 256 px.

    ``accept`` is an optional map of acceptance probability. Points may lie up to ``spacing`` outside the image, so that
    objects are cut by its border as in a real field.
    """
    height, width = shape[0] + 2 * spacing, shape[1] + 2 * spacing
    wanted = int(rng.poisson(density * height * width / 256**2))
    cell = spacing / np.sqrt(2)
    grid: dict[tuple[int, int], tuple[float, float]] = {}
    points: list[tuple[float, float]] = []
    for y, x, chance in zip(
        rng.uniform(0, height, 6 * wanted), rng.uniform(0, width, 6 * wanted), rng.random(6 * wanted), strict=True
    ):
        if len(points) >= wanted:
            break
        if accept is not None:
            row = min(max(int(y - spacing), 0), shape[0] - 1)
            column = min(max(int(x - spacing), 0), shape[1] - 1)
            if chance > accept[row, column]:
                continue
        gy, gx = int(y / cell), int(x / cell)
        near = (grid.get((gy + i, gx + j)) for i in range(-2, 3) for j in range(-2, 3))
        if all(p is None or (p[0] - y) ** 2 + (p[1] - x) ** 2 >= spacing**2 for p in near):
            grid[gy, gx] = (y, x)
            points.append((y, x))
    return np.array(points, dtype=np.float64).reshape(-1, 2) - spacing
