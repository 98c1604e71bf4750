"""Simulated brain tissue: concentration maps of lipid and protein, with truth.

Each painter returns a :class:`~srh_clinic.simulation.cells.Canvas` of one kind of tissue at 0.47 um per px. The look follows
published stimulated Raman histology (Orringer et al. 2017; Hollon et al. 2020): myelin and lipid droplets bright at 2845 cm-1,
nuclei dark there and bright with chromatin texture at 2930 cm-1, collagen and vessel walls bright at 2930 cm-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import ndimage as ndi

from srh_clinic.diagnosis import CLASSES, Diagnosis
from srh_clinic.simulation.cells import Canvas, NucleusStyle, paint_blobs, paint_nuclei, paint_vessel, soft_step
from srh_clinic.simulation.fields import Field, Rng, fibres, hard_core_points, power_law_field, smooth_field, standardise
from srh_clinic.simulation.sections import SectionRng

DEFOCUS_BLUR = (5.5, 10.0)
"""Standard deviation in px of the blur that makes a patch out of focus, hence non-diagnostic."""


Kind = Literal[
    "white_matter",
    "grey_matter",
    "glioma",
    "metastasis_discohesive",
    "metastasis_glandular",
    "blood",
    "necrosis",
    "debris",
    "empty",
    "out_of_focus",
]


def _directions(rng: Rng, shape: tuple[int, int], bend: float) -> Field:
    """A map of fibre direction in radians that turns slowly over the field."""
    return (rng.uniform(0, np.pi) + bend * smooth_field(rng, shape, 110.0)).astype(np.float32)


def _lookup(directions: Field) -> Callable[..., np.ndarray]:
    height, width = directions.shape

    def orientation(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        rows = np.clip(y.astype(int), 0, height - 1)
        columns = np.clip(x.astype(int), 0, width - 1)
        return directions[rows, columns].astype(np.float64)

    return orientation


def _neuropil(rng: Rng, shape: tuple[int, int], angle: float, coarse: float, fine: float) -> Field:
    """The felt of fine processes between cells: broad shading, an anisotropic mid scale and granules; about 1, positive."""
    shading = power_law_field(rng, shape, rng.uniform(1.2, 1.7))
    felt = power_law_field(rng, shape, rng.uniform(0.75, 1.1), anisotropy=rng.uniform(1.3, 3.0), angle=angle)
    granules = ndi.gaussian_filter(power_law_field(rng, shape, rng.uniform(0.25, 0.6)), 0.6)
    texture = 1 + coarse * shading + fine * felt + 0.9 * fine * standardise(granules)
    return np.clip(texture, 0.08, None).astype(np.float32)


def _pores(rng: Rng, shape: tuple[int, int], density: float) -> Field:
    """Dark pores of about 1 to 3 px (vacuoles, cross-cut processes) as a factor in [0, 1]."""
    chance = rng.random(shape)
    if isinstance(rng, SectionRng):
        chance = rng.renewed(chance)
    seeds = (chance < density).astype(np.float32)
    return np.exp(-ndi.gaussian_filter(seeds, rng.uniform(0.9, 1.5)) * rng.uniform(6, 14)).astype(np.float32)


def _droplets(rng: Rng, canvas: Canvas, density: float, radius: tuple[float, float] = (1.2, 4.5)) -> None:
    centres = hard_core_points(rng, canvas.shape, density, 3.0)
    paint_blobs(rng, canvas, centres, radius=radius, lipid=(1.1, 2.4), protein=(0.3, 0.7), irregularity=0.12)


def white_matter(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Dense oriented myelinated axons, bright in CH2, with few round glial nuclei."""
    directions = _directions(rng, shape, rng.uniform(0.05, 0.4))
    angle = float(directions.mean())
    base = _neuropil(rng, shape, angle, rng.uniform(0.1, 0.2), rng.uniform(0.1, 0.2))
    mesh = fibres(
        rng,
        shape,
        rng.uniform(250, 600),
        length=rng.uniform(120, 260),
        width=rng.uniform(0.7, 1.0),
        orientation=_lookup(directions),
        spread=rng.uniform(0.08, 0.35),
        beading=rng.uniform(0.3, 0.8),
    )
    thick = fibres(
        rng, shape, rng.uniform(10, 70), length=200, width=rng.uniform(1.1, 1.6), orientation=_lookup(directions), spread=0.2
    )
    axons = np.tanh(0.55 * mesh) + 0.5 * np.tanh(0.7 * thick)
    canvas = Canvas(
        lipid=(0.42 * base + rng.uniform(0.35, 0.65) * axons).astype(np.float32),
        protein=(0.27 * base + 0.1 * axons).astype(np.float32),
    )
    canvas.lipid *= _pores(rng, shape, rng.uniform(0.0, 0.006))
    style = NucleusStyle(radius=(4.8, 7.0), elongation=(0.75, 1), nucleoli=0.4, defocus=0.3, halo=rng.uniform(0, 0.4))
    centres = hard_core_points(rng, shape, rng.uniform(3, 13), 14.0)
    paint_nuclei(rng, canvas, centres, style, _lookup(directions)(*centres.T))
    _droplets(rng, canvas, rng.uniform(0, 3))
    return canvas


def grey_matter(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Neuropil with fine dark pores, pyramidal neurons with pale nuclei and nucleoli, sparse glia and single axons."""
    angle = rng.uniform(0, np.pi)
    base = _neuropil(rng, shape, angle, rng.uniform(0.12, 0.25), rng.uniform(0.14, 0.26))
    canvas = Canvas(lipid=0.62 * base, protein=0.2 * base * _neuropil(rng, shape, angle, 0.08, 0.05))
    pores = _pores(rng, shape, rng.uniform(0.006, 0.02))
    canvas.lipid *= pores
    canvas.protein *= 0.4 + 0.6 * pores
    felt = fibres(
        rng, shape, rng.uniform(60, 250), length=60, width=rng.uniform(0.6, 0.8), orientation=angle, spread=1.0, beading=0.8
    )
    single = fibres(
        rng, shape, rng.uniform(1, 9), length=280, width=rng.uniform(0.8, 1.2), orientation=angle, spread=0.5, beading=0.6
    )
    canvas.lipid += 0.22 * np.tanh(0.6 * felt) + 0.75 * np.tanh(single)
    canvas.protein += 0.12 * np.tanh(single)
    neurons = hard_core_points(rng, shape, rng.uniform(2, 8), 34.0)
    soma = NucleusStyle(
        radius=(7.5, 10.5),
        elongation=(0.75, 1.0),
        chromatin=0.18,
        lipid=(0.12, 0.3),
        protein=(0.3, 0.5),
        nucleoli=1.6,
        cytoplasm=rng.uniform(0.3, 0.45),
        cytoplasm_width=1.9,
        halo=rng.uniform(0, 0.3),
        defocus=0.25,
    )
    paint_nuclei(rng, canvas, neurons, soma)
    if len(neurons):  # lipofuscin beside the nucleus of aged neurons
        aged = neurons[rng.random(len(neurons)) < 0.5]
        specks = np.repeat(aged, 7, axis=0) + rng.normal(0, 7.5, (7 * len(aged), 2))
        paint_blobs(rng, canvas, specks, radius=(0.8, 1.5), lipid=(0.9, 1.4), protein=(0.4, 0.6))
    glia = hard_core_points(rng, shape, rng.uniform(2, 9), 16.0)
    paint_nuclei(rng, canvas, glia, NucleusStyle(radius=(4.8, 6.8), halo=rng.uniform(0, 0.5), defocus=0.3))
    _droplets(rng, canvas, rng.uniform(0, 2.5))
    if rng.random() < 0.25:
        paint_vessel(rng, canvas, rng.uniform(3, 7))
    return canvas


def glioma(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Hypercellular and pleomorphic: crowded irregular nuclei in a fibrillary background with broken axons."""
    directions = _directions(rng, shape, rng.uniform(0.1, 0.7))
    angle = float(directions.mean())
    base = _neuropil(rng, shape, angle, rng.uniform(0.2, 0.4), rng.uniform(0.14, 0.28))
    canvas = Canvas(
        lipid=rng.uniform(0.42, 0.6) * base,
        protein=0.22 * base * _neuropil(rng, shape, angle, 0.14, 0.06),
    )
    fibrils = fibres(
        rng,
        shape,
        rng.uniform(80, 420),
        length=rng.uniform(50, 130),
        width=rng.uniform(0.6, 0.9),
        orientation=_lookup(directions),
        spread=rng.uniform(0.25, 0.9),
        beading=0.6,
    )
    axons = fibres(
        rng, shape, rng.uniform(0, 22), length=130, width=rng.uniform(0.8, 1.3), orientation=angle, spread=0.9, wander=0.06
    )
    strands = fibres(rng, shape, rng.uniform(0, 14), length=260, width=1.3, orientation=angle, spread=0.25)
    canvas.lipid += 0.26 * np.tanh(0.6 * fibrils) + 0.7 * np.tanh(axons) + 0.12 * strands
    canvas.protein += 0.12 * np.tanh(0.6 * fibrils) + 0.15 * np.tanh(axons) + 0.3 * np.tanh(strands)
    size = rng.uniform(5.6, 7.6)
    style = NucleusStyle(
        radius=(0.72 * size, 1.4 * size),
        elongation=(rng.uniform(0.35, 0.6), 1.0),
        irregularity=rng.uniform(0.05, 0.11),
        chromatin=rng.uniform(0.3, 0.6),
        protein=(0.4, 0.9),
        rim=rng.uniform(0.2, 0.7),
        nucleoli=rng.uniform(0.5, 1.4),
        cytoplasm=rng.choice([0.0, rng.uniform(0.4, 0.65)]),
        cytoplasm_width=rng.uniform(1.4, 1.8),
        halo=rng.choice([0.0, rng.uniform(0.1, 0.5)]),
        defocus=rng.uniform(0.15, 0.4),
    )
    crowding = np.clip(0.75 + 0.35 * smooth_field(rng, shape, 60.0), 0.15, 1.0)
    centres = hard_core_points(rng, shape, rng.uniform(48, 130), 1.7 * size, accept=crowding)
    paint_nuclei(rng, canvas, centres, style, _lookup(directions)(*centres.T) if rng.random() < 0.6 else None)
    giants = hard_core_points(rng, shape, rng.uniform(0, 2.5), 30.0)
    giant = NucleusStyle(
        radius=(11, 17), irregularity=0.12, chromatin=0.5, nucleoli=2.5, cytoplasm=0.5, cytoplasm_width=1.6, protein=(0.6, 1.0)
    )
    paint_nuclei(rng, canvas, giants, giant)
    _droplets(rng, canvas, rng.uniform(0, 7))
    if rng.random() < 0.3:
        paint_vessel(rng, canvas, rng.uniform(4, 12))
    return canvas


def metastasis_discohesive(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Sheets of round cells with cytoplasm that have come apart: dark gaps, hardly any fibres."""
    gap = _neuropil(rng, shape, 0.0, 0.35, 0.25)
    canvas = Canvas(lipid=rng.uniform(0.16, 0.28) * gap, protein=rng.uniform(0.16, 0.26) * gap)
    size = rng.uniform(6.0, 9.0)
    style = NucleusStyle(
        radius=(0.85 * size, 1.2 * size),
        elongation=(0.75, 1.0),
        irregularity=rng.uniform(0.03, 0.07),
        chromatin=rng.uniform(0.25, 0.5),
        protein=(0.5, 0.85),
        nucleoli=rng.uniform(1.0, 2.2),
        cytoplasm=rng.uniform(0.45, 0.75),
        cytoplasm_width=rng.uniform(1.35, 1.75),
        defocus=rng.uniform(0.1, 0.3),
    )
    spacing = size * rng.uniform(2.1, 2.6)
    room = np.clip(0.85 + 0.4 * smooth_field(rng, shape, 70.0), 0.1, 1.0)
    paint_nuclei(rng, canvas, hard_core_points(rng, shape, 0.62 * 256**2 / spacing**2, spacing, accept=room), style)
    _droplets(rng, canvas, rng.uniform(0, 5), radius=(1.0, 3.0))
    return canvas


def metastasis_glandular(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Adenocarcinoma-like: columnar cells around lumina, in a stroma of collagen strands that is bright in CH3."""
    angle = rng.uniform(0, np.pi)
    base = _neuropil(rng, shape, angle, 0.25, 0.2)
    collagen = fibres(rng, shape, rng.uniform(150, 350), length=220, width=1.0, orientation=angle, spread=0.3, beading=0.2)
    canvas = Canvas(
        lipid=(0.24 * base + 0.08 * np.tanh(0.4 * collagen)).astype(np.float32),
        protein=(0.25 * base + 0.42 * np.tanh(0.4 * collagen)).astype(np.float32),
    )
    stroma_cells = NucleusStyle(radius=(4.5, 6.5), elongation=(0.3, 0.5), nucleoli=0.1)
    paint_nuclei(rng, canvas, hard_core_points(rng, shape, 14.0, 16.0), stroma_cells)
    size = rng.uniform(5.5, 7.5)
    cell = NucleusStyle(
        radius=(0.85 * size, 1.2 * size), elongation=(0.5, 0.85), irregularity=0.06, chromatin=0.4, protein=(0.55, 0.9),
        nucleoli=1.5, defocus=0.1,
    )  # fmt: skip
    bumps = power_law_field(rng, shape, 1.4)
    for cy, cx in hard_core_points(rng, shape, rng.uniform(3.5, 8.0), rng.uniform(58, 76)):
        lumen_radius = rng.uniform(5, 22)
        thickness = size * rng.uniform(2.6, 3.6)
        reach = lumen_radius + thickness + 12
        top, left = int(max(cy - reach, 0)), int(max(cx - reach, 0))
        bottom, right = int(min(cy + reach, shape[0])), int(min(cx + reach, shape[1]))
        if bottom <= top or right <= left:
            continue
        window = (slice(top, bottom), slice(left, right))
        rows, columns = np.mgrid[window]
        ratio, turn = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
        along = (columns - cx) * np.cos(turn) + (rows - cy) * np.sin(turn)
        across = ((rows - cy) * np.cos(turn) - (columns - cx) * np.sin(turn)) / ratio
        distance = np.hypot(along, across) + 2.5 * bumps[window]
        wall = soft_step(distance - lumen_radius - thickness, 0.9)
        lumen = soft_step(distance - lumen_radius, 0.9)
        level, mucin = rng.uniform(0.45, 0.65), rng.choice([0.06, rng.uniform(0.15, 0.35)])
        here = base[window]
        canvas.lipid[window] += wall * (level * here - canvas.lipid[window])
        canvas.protein[window] += wall * (0.7 * level * here - canvas.protein[window])
        canvas.lipid[window] += lumen * (0.07 * here - canvas.lipid[window])
        canvas.protein[window] += lumen * (mucin * here - canvas.protein[window])
        ring = lumen_radius + thickness * rng.uniform(0.5, 0.75)
        around = max(5, int(np.pi * ring * (1 + ratio) / (2.05 * size)))
        phi = np.linspace(0, 2 * np.pi, around, endpoint=False) + rng.normal(0, 0.3 / around, around)
        radial = ring + rng.normal(0, 0.1 * thickness, around)
        u, v = radial * np.cos(phi), radial * np.sin(phi) * ratio
        centres = np.stack([cy + u * np.sin(turn) + v * np.cos(turn), cx + u * np.cos(turn) - v * np.sin(turn)], axis=1)
        paint_nuclei(rng, canvas, centres, cell, np.arctan2(centres[:, 0] - cy, centres[:, 1] - cx))
    _droplets(rng, canvas, rng.uniform(0, 3))
    return canvas


def blood(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Haemorrhage: packed red cells, protein without lipid, fibrin strands, hardly a nucleus."""
    base = _neuropil(rng, shape, 0.0, 0.3, 0.2)
    canvas = Canvas(lipid=0.08 * base, protein=0.18 * base)
    fibrin = fibres(rng, shape, rng.uniform(0, 60), length=120, width=0.8, orientation=0.0, spread=1.5)
    canvas.protein += 0.12 * np.tanh(fibrin)
    spacing = rng.uniform(10.5, 13.0)
    room = np.clip(0.9 + 0.5 * smooth_field(rng, shape, 60.0), 0.05, 1.0)
    cells = hard_core_points(rng, shape, 0.62 * 256**2 / spacing**2, spacing, accept=room)
    paint_blobs(
        rng, canvas, cells, radius=(5.2, 7.2), lipid=(0.08, 0.2), protein=(0.38, 0.6), elongation=(0.45, 1.0), dimple=0.5
    )
    leucocytes = hard_core_points(rng, shape, rng.uniform(0, 2), 20.0)
    paint_nuclei(rng, canvas, leucocytes, NucleusStyle(radius=(5, 6.5), irregularity=0.15, cytoplasm=0.4))
    return canvas


def necrosis(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Ghosts of cells without chromatin, granular debris and clumps of lipid-laden macrophages."""
    base = _neuropil(rng, shape, rng.uniform(0, np.pi), rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.5))
    canvas = Canvas(lipid=rng.uniform(0.25, 0.45) * base, protein=rng.uniform(0.25, 0.4) * base)
    ghosts = NucleusStyle(
        radius=(5, 9),
        irregularity=0.16,
        chromatin=0.15,
        lipid=(0.2, 0.35),
        protein=(0.2, 0.34),
        rim=0.0,
        nucleoli=0.0,
        defocus=1.0,
    )
    painted = Canvas(canvas.lipid, canvas.protein)  # ghosts are no nuclei in truth
    paint_nuclei(rng, painted, hard_core_points(rng, shape, rng.uniform(15, 60), 12.0), ghosts)
    grains = hard_core_points(rng, shape, rng.uniform(60, 260), 3.0)
    paint_blobs(rng, canvas, grains, radius=(0.8, 2.4), lipid=(0.3, 1.2), protein=(0.25, 0.8), irregularity=0.2)
    for cy, cx in hard_core_points(rng, shape, rng.uniform(1, 7), 28.0):
        count = int(rng.integers(15, 45))
        specks = np.array([cy, cx]) + rng.normal(0, 5.0, (count, 2))
        paint_blobs(rng, canvas, specks, radius=(0.9, 2.4), lipid=(0.9, 2.2), protein=(0.3, 0.7))
    return canvas


def debris(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Crushed fragments, fibres and droplets on nearly empty glass."""
    base = _neuropil(rng, shape, 0.0, 0.3, 0.3)
    canvas = Canvas(lipid=0.06 * base, protein=0.07 * base)
    pieces = hard_core_points(rng, shape, rng.uniform(6, 40), 8.0)
    paint_blobs(
        rng,
        canvas,
        pieces,
        radius=(2, 14),
        lipid=(0.1, 0.9),
        protein=(0.1, 0.7),
        elongation=(0.25, 1.0),
        irregularity=0.3,
        softness=1.0,
    )
    strands = fibres(rng, shape, rng.uniform(2, 30), length=120, width=1.1, orientation=0.0, spread=1.5, wander=0.08)
    canvas.lipid += 0.3 * np.tanh(strands)
    canvas.protein += 0.3 * np.tanh(strands)
    rough = np.clip(1 + 0.35 * power_law_field(rng, shape, 0.7), 0.2, 2.0)
    canvas.lipid *= rough
    canvas.protein *= rough
    _droplets(rng, canvas, rng.uniform(0, 12))
    return canvas


def empty(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Glass with a film of water: a faint even signal, now and then a speck."""
    film = np.clip(1 + 0.25 * power_law_field(rng, shape, 1.2), 0.1, None)
    canvas = Canvas(
        lipid=(rng.uniform(0.01, 0.05) * film).astype(np.float32), protein=(rng.uniform(0.02, 0.08) * film).astype(np.float32)
    )
    _droplets(rng, canvas, rng.uniform(0, 1.5))
    return canvas


def out_of_focus(rng: Rng, shape: tuple[int, int]) -> Canvas:
    """Any tissue seen from above or below its plane: blurred until no nucleus can be read."""
    sharp = PAINTERS[rng.choice(["white_matter", "grey_matter", "glioma", "metastasis_discohesive"])](rng, shape)
    blur = rng.uniform(*DEFOCUS_BLUR)
    return Canvas(lipid=ndi.gaussian_filter(sharp.lipid, blur), protein=ndi.gaussian_filter(sharp.protein, blur))


PAINTERS: dict[str, Callable[[Rng, tuple[int, int]], Canvas]] = {
    "white_matter": white_matter,
    "grey_matter": grey_matter,
    "glioma": glioma,
    "metastasis_discohesive": metastasis_discohesive,
    "metastasis_glandular": metastasis_glandular,
    "blood": blood,
    "necrosis": necrosis,
    "debris": debris,
    "empty": empty,
    "out_of_focus": out_of_focus,
}

DIAGNOSIS_OF_KIND: dict[str, Diagnosis] = {
    "white_matter": "normal",
    "grey_matter": "normal",
    "glioma": "tumor",
    "metastasis_discohesive": "tumor",
    "metastasis_glandular": "tumor",
    "blood": "nondiagnostic",
    "necrosis": "nondiagnostic",
    "debris": "nondiagnostic",
    "empty": "nondiagnostic",
    "out_of_focus": "nondiagnostic",
}
"""The truth of a patch by what it shows; the rule that ``docs/protocol.yaml`` states."""

KINDS_OF_DIAGNOSIS: dict[str, tuple[str, ...]] = {
    diagnosis: tuple(kind for kind, d in DIAGNOSIS_OF_KIND.items() if d == diagnosis) for diagnosis in CLASSES
}
