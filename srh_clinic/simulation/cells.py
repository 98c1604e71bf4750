"""Cells and other bodies, painted onto concentration maps of lipid and protein."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.simulation.fields import Field, Rng, power_law_field
from srh_clinic.simulation.sections import Column, ColumnMember, Cut, SectionRng


@dataclass
class Canvas:
    """Concentration maps while a tissue is painted: lipid and protein, float32 ``(H, W)``, 1 about that of solid white matter.

    ``nuclei`` collects one row ``(y, x, radius)`` for each nucleus in focus.
    """

    lipid: Field
    protein: Field
    nuclei: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        return self.lipid.shape[0], self.lipid.shape[1]


@dataclass(frozen=True)
class NucleusStyle:
    """How the nuclei of a cell type look; ranges are uniform.

    radius
        Mean radius in px of 0.47 um.
    elongation
        Ratio of the short to the long axis.
    irregularity
        Relative amplitude of the outline's harmonics.
    chromatin
        Contrast of the clumps.
    lipid, protein
        What remains of the lipid inside (SRH nuclei are dark in CH2), and the mean protein.
    rim
        Excess of protein along the nuclear membrane.
    nucleoli
        Mean number of nucleoli.
    cytoplasm, cytoplasm_width
        Concentration in the cell body, and its radius in radii of the nucleus.
    halo
        Share of signal lost around the nucleus (retraction, oedema).
    defocus
        Chance that a nucleus lies above or below the optical section and shows faint and soft.
    """

    radius: tuple[float, float] = (6.0, 8.0)
    elongation: tuple[float, float] = (0.75, 1.0)
    irregularity: float = 0.04
    chromatin: float = 0.3
    lipid: tuple[float, float] = (0.05, 0.25)
    protein: tuple[float, float] = (0.45, 0.75)
    rim: float = 0.25
    nucleoli: float = 0.6
    cytoplasm: float = 0.0
    cytoplasm_width: float = 1.6
    halo: float = 0.0
    defocus: float = 0.2


def _window(shape: tuple[int, int], y: float, x: float, reach: float) -> tuple[slice, slice] | None:
    top, bottom = int(max(np.floor(y - reach), 0)), int(min(np.ceil(y + reach) + 1, shape[0]))
    left, right = int(max(np.floor(x - reach), 0)), int(min(np.ceil(x + reach) + 1, shape[1]))
    return None if bottom <= top or right <= left else (slice(top, bottom), slice(left, right))


def _outline(
    rng: Rng,
    window: tuple[slice, slice],
    y: float,
    x: float,
    radius: float,
    elongation: float,
    angle: float,
    irregularity: float,
) -> NDArray[np.float64]:
    """Distance from the centre in units of the outline's radius in that direction (1 on the outline)."""
    dy = np.arange(window[0].start, window[0].stop)[:, None] - y
    dx = np.arange(window[1].start, window[1].stop)[None] - x
    stretch = np.sqrt(elongation)
    along = (dx * np.cos(angle) + dy * np.sin(angle)) * stretch
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
    theta = np.arctan2(across, along)
    outline = np.ones_like(theta)
    for harmonic in (2, 3, 4, 5):
        outline += irregularity * rng.normal() / harmonic**0.5 * np.cos(harmonic * theta + rng.uniform(0, 2 * np.pi))
    return np.hypot(along, across) / (radius * np.clip(outline, 0.4, 1.8))


def soft_step(distance: NDArray[np.floating], softness: float) -> NDArray[np.floating]:
    """1 inside (negative distance), 0 outside, over about ``softness`` px."""
    return 1 / (1 + np.exp(np.clip(distance / softness, -30, 30)))


def paint_nuclei(
    rng: Rng,
    canvas: Canvas,
    centres: NDArray[np.float64],
    style: NucleusStyle,
    angles: NDArray[np.float64] | None = None,
) -> None:
    """Paint a nucleus at each of ``centres`` ``(N, 2)``: dark in lipid, bright chromatin, with rim, nucleoli, cytoplasm.

    ``angles`` ``(N,)`` are optional mean directions of the long axes, in radians; without them each is random.
    """
    if len(centres) == 0:
        return
    grain = power_law_field(rng, (256, 256), 0.8)
    grain = np.tile(ndi.gaussian_filter(grain, 0.7, mode="wrap"), (2, 2))
    grain /= grain.std()
    if angles is None:
        angles = rng.uniform(0, np.pi, len(centres))
    columns: list[Column] | list[None] = rng.columns(len(centres)) if isinstance(rng, SectionRng) else [None] * len(centres)
    for centre, direction, column in zip(centres, angles, columns, strict=True):
        cut = _paint_nucleus(rng, canvas, centre, style, direction, grain, column)
        if cut is not None and column is not None and cut.member:
            stream, shift, member = column.below(cut, style.radius[0])
            _paint_nucleus(stream, canvas, centre + shift, style, direction, grain, member)


def _paint_nucleus(
    rng: Rng,
    canvas: Canvas,
    centre: NDArray[np.float64],
    style: NucleusStyle,
    direction: float,
    grain: Field,
    column: Column | ColumnMember | None,
) -> Cut | None:
    """Paint one nucleus, and say how a section cuts its ``column``; ``None`` without one or when it lies outside the field."""
    y, x = centre
    radius = rng.uniform(*style.radius)
    elongation = rng.uniform(*style.elongation)
    reach = radius * max(1.6, style.cytoplasm_width) / elongation**0.5 + 6
    window = _window(canvas.shape, y, x, reach)
    if window is None:
        return None
    angle = direction + rng.normal(0, 0.35)
    distance = _outline(rng, window, y, x, radius, elongation, angle, style.irregularity)
    out_of_section = rng.random() < style.defocus
    softness, presence = (rng.uniform(1.2, 2.6), rng.uniform(0.25, 0.7)) if out_of_section else (0.55, 1.0)
    cut = None if column is None else column.cut(radius, out_of_section)
    in_focus = not out_of_section
    if cut is not None:
        softness, presence, scale = cut.look(softness, presence)
        distance, radius, in_focus = distance / scale, radius * scale, cut.in_focus
    nucleus = soft_step((distance - 1) * radius, softness) * presence
    lipid, protein = canvas.lipid[window], canvas.protein[window]
    if style.halo:
        halo = soft_step((distance - 1.45) * radius, 1.2) * style.halo * presence
        lipid *= 1 - halo
        protein *= 1 - halo
    if style.cytoplasm:
        body = soft_step((distance - style.cytoplasm_width) * radius, 1.0) * presence
        level = style.cytoplasm * rng.uniform(0.7, 1.3)
        lipid += body * (level - 0.75 * lipid) * 0.6
        protein += body * (0.8 * level - 0.5 * protein) * 0.6
    gy, gx = rng.integers(0, 180, 2)
    chromatin = grain[gy : gy + distance.shape[0], gx : gx + distance.shape[1]]
    if chromatin.shape != distance.shape:  # a giant cell, larger than the spare margin of the grain
        chromatin = np.resize(grain, distance.shape)
    strength = style.chromatin * rng.uniform(0.5, 1.5)
    inside = rng.uniform(*style.protein) * np.clip(1 + strength * chromatin, 0.15, 2.4)
    inside = inside * (1 + style.rim * rng.uniform(0.3, 1.5) * np.exp(-(((distance - 0.9) * radius / 1.1) ** 2)))
    for _ in range(int(rng.poisson(style.nucleoli))):
        offset = rng.normal(0, 0.3 * radius, 2)
        ny = np.arange(window[0].start, window[0].stop)[:, None] - y - offset[0]
        nx = np.arange(window[1].start, window[1].stop)[None] - x - offset[1]
        inside = inside + rng.uniform(0.2, 0.6) * np.exp(-(ny**2 + nx**2) / (2 * rng.uniform(0.9, 1.8) ** 2))
    lipid += nucleus * (rng.uniform(*style.lipid) * (1 + 0.2 * chromatin) - 0.92 * lipid)
    protein += nucleus * (inside - 0.92 * protein)
    if in_focus and 0 <= y < canvas.shape[0] and 0 <= x < canvas.shape[1]:
        canvas.nuclei.append((float(y), float(x), float(radius)))
    return cut


def paint_blobs(
    rng: Rng,
    canvas: Canvas,
    centres: NDArray[np.float64],
    *,
    radius: tuple[float, float],
    lipid: tuple[float, float],
    protein: tuple[float, float],
    elongation: tuple[float, float] = (0.6, 1.0),
    irregularity: float = 0.08,
    softness: float = 0.6,
    dimple: float = 0.0,
) -> None:
    """Paint solid bodies (lipid droplets, red cells, debris): the concentrations inside replace those below.

    ``dimple`` lowers the centre, as of a biconcave red cell.
    """
    columns: list[Column] | list[None] = rng.columns(len(centres)) if isinstance(rng, SectionRng) else [None] * len(centres)

    def paint(stream: Rng, centre: NDArray[np.float64], column: Column | ColumnMember | None) -> Cut | None:
        y, x = centre
        size = stream.uniform(*radius)
        window = _window(canvas.shape, y, x, size * 1.9 + 3)
        if window is None:
            return None
        distance = _outline(stream, window, y, x, size, stream.uniform(*elongation), stream.uniform(0, np.pi), irregularity)
        cut = None if column is None else column.cut(size)
        soft, presence, scale = (softness, 1.0, 1.0) if cut is None else cut.look(softness, 1.0)
        distance, size = distance / scale, size * scale
        body = soft_step((distance - 1) * size, soft) * presence
        level = 1 - dimple * np.exp(-((distance / 0.45) ** 2))
        canvas.lipid[window] += body * (stream.uniform(*lipid) * level - canvas.lipid[window])
        canvas.protein[window] += body * (stream.uniform(*protein) * level - canvas.protein[window])
        return cut

    for centre, column in zip(centres, columns, strict=True):
        cut = paint(rng, centre, column)
        if cut is not None and column is not None and cut.member:
            stream, shift, member = column.below(cut, radius[0])
            paint(stream, centre + shift, member)


def paint_vessel(rng: Rng, canvas: Canvas, width: float) -> Field:
    """A vessel across the field: collagen wall (bright in protein), endothelial nuclei and red cells in a dark lumen.

    Returns the map of the lumen (1 inside), which absorbs light.
    """
    height, columns = canvas.shape
    length = int(1.6 * np.hypot(height, columns))
    angle = rng.uniform(0, np.pi) + np.cumsum(rng.normal(0, 0.012, length))
    start = np.array([rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * columns])
    path = np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1), axis=0)
    path += start - path[length // 2]
    axis = np.ones((height, columns), bool)
    rows, cols = np.rint(path).astype(int).T
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < columns)
    axis[rows[inside], cols[inside]] = False
    distance = ndi.distance_transform_edt(axis).astype(np.float32)
    distance += 0.12 * width * power_law_field(rng, canvas.shape, 1.2)
    lumen = soft_step(distance - width, 0.8).astype(np.float32)
    wall = np.exp(-(((distance - width - 2.2) / 1.8) ** 2)).astype(np.float32)
    streaks = np.clip(1 + 0.35 * power_law_field(rng, canvas.shape, 0.9), 0.3, 2)
    canvas.lipid *= 1 - 0.9 * lumen
    canvas.protein *= 1 - 0.85 * lumen
    canvas.protein += 0.55 * wall * streaks
    canvas.lipid += 0.18 * wall * streaks
    on_path = path[inside]
    if width > 4 and len(on_path):
        cells = on_path[rng.integers(0, len(on_path), int(len(on_path) * width / 60))]
        cells = cells + rng.uniform(-0.6, 0.6, cells.shape) * width
        paint_blobs(
            rng, canvas, cells, radius=(4.5, 6.5), lipid=(0.08, 0.2), protein=(0.4, 0.6), elongation=(0.5, 1), dimple=0.45
        )
    if len(on_path):
        walls = on_path[rng.integers(0, len(on_path), max(1, len(on_path) // 45))]
        side = rng.choice([-1.0, 1.0], len(walls))[:, None] * (width + 2.5)
        direction = rng.uniform(0, 2 * np.pi, len(walls))
        offset = np.stack([np.sin(direction), np.cos(direction)], axis=1) * side
        paint_nuclei(rng, canvas, walls + offset, NucleusStyle(radius=(4.5, 6), elongation=(0.3, 0.5), nucleoli=0.2))
    return lumen
