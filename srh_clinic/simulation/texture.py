"""Generic rich texture for the denoiser's training.

Anatomy alone is too simple a teacher: a denoiser trained on it smooths real tissue. These images carry fine structure of every
kind (power-law fields, fibre meshes, dead leaves, granular chromatin) at random contrast, and no diagnosis.
"""

from __future__ import annotations

import numpy as np

from srh_clinic.simulation.cells import Canvas, NucleusStyle, paint_nuclei
from srh_clinic.simulation.fields import Field, Rng, dead_leaves, fibres, hard_core_points, power_law_field


def generic_texture(rng: Rng, size: int = 256) -> Field:
    """One image of random texture, float32 unit intensity ``(2, size, size)``."""
    shape = (size, size)
    angle = rng.uniform(0, np.pi)
    mesh = fibres(
        rng,
        shape,
        rng.uniform(20, 600),
        length=rng.uniform(20, 150),
        width=rng.uniform(0.55, 1.3),
        orientation=angle,
        spread=rng.uniform(0.1, 1.3),
        beading=rng.uniform(0, 0.9),
    )
    shading = power_law_field(rng, shape, rng.uniform(0.8, 1.6), rng.uniform(1, 3.5), angle)
    fine = power_law_field(rng, shape, rng.uniform(0.3, 0.9), rng.uniform(1, 2.5), rng.uniform(0, np.pi))
    leaves = dead_leaves(rng, shape, rng.uniform(20, 400)) if rng.random() < 0.5 else np.zeros(shape, np.float32)
    share = rng.dirichlet([1.5, 1.5, 1.0, 1.0])
    lipid = 0.35 + 0.25 * share[0] * shading + 0.4 * share[1] * fine + 0.9 * share[2] * np.tanh(mesh) + 0.8 * share[3] * leaves
    canvas = Canvas(
        np.clip(lipid, 0, None).astype(np.float32), (rng.uniform(0.2, 0.6) * np.clip(lipid, 0, None)).astype(np.float32)
    )
    density = rng.choice([rng.uniform(0, 15), rng.uniform(15, 60), rng.uniform(60, 160)])
    radius = rng.uniform(4, 10)
    style = NucleusStyle(
        radius=(0.7 * radius, 1.3 * radius),
        elongation=(0.35, 1.0),
        irregularity=rng.uniform(0, 0.15),
        chromatin=rng.uniform(0.1, 0.9),
        lipid=(0.02, 0.4),
        protein=(0.3, 1.0),
        rim=rng.uniform(0, 0.6),
        nucleoli=rng.uniform(0, 2),
        cytoplasm=rng.choice([0.0, rng.uniform(0.2, 0.8)]),
        halo=rng.choice([0.0, rng.uniform(0, 0.6)]),
    )
    paint_nuclei(rng, canvas, hard_core_points(rng, shape, density, 1.5 * radius), style)
    strands = fibres(
        rng,
        shape,
        rng.uniform(0, 300),
        length=rng.uniform(20, 120),
        width=rng.uniform(0.55, 1.2),
        orientation=angle,
        spread=0.8,
    )
    protein = canvas.protein + rng.uniform(0, 0.3) * np.tanh(strands)
    protein = protein + rng.uniform(0, 0.12) * power_law_field(rng, shape, rng.uniform(0.4, 1.0))
    image = np.stack([canvas.lipid + 0.12 * protein, rng.uniform(0.4, 1.0) * canvas.lipid + protein])
    high = np.percentile(image, rng.uniform(96, 99.8), axis=(1, 2), keepdims=True)
    low = np.percentile(image, rng.uniform(0, 3), axis=(1, 2), keepdims=True) * rng.uniform(0, 1)
    image = np.clip((image - low) / (high - low + 1e-6), 0, None) ** rng.uniform(0.7, 1.6)
    image = image * np.exp(rng.uniform(np.log(0.12), np.log(0.9))) + rng.uniform(0, 0.05)
    return np.clip(image, 0, 1).astype(np.float32)
