"""How near simulated tissue comes to real stimulated Raman histology, in numbers and in a figure.

The real patches are 8-bit, each colour stretched between percentiles, so the phantoms are treated the same way before anything
is measured: what compares is texture and morphology, not counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.metrics import channel_coherence, radial_spectrum
from srh_clinic.simulation import VALIDATION_SEED, simulate_patch
from srh_clinic.validation.reporting.report import Column, Report, Table, provenance

SATURATED_SHARE = 1.5
"""Percentile that the real patches' stretch saturates at each end."""

LIKE_THE_REAL_PATCHES = ("glioma", "glioma", "grey_matter", "glioma")
"""Kind of tissue of each of the four real patches, in the order of their names."""

HIGH_FREQUENCY = 0.4
"""Cycles per px above which the coherence of the channels is taken."""

Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """What is measured of a set of patches.

    spectrum
        ``(2, 16)``: log10 of the radial power spectrum of CH2 and CH3, of the share in the three lowest of 16 bands up to the
        Nyquist frequency.
    quantiles
        ``(2, 5)``: 5, 25, 50, 75 and 95 % quantile of the stretched intensity, 0 to 255.
    correlation
        Of CH2 and CH3 over pixels.
    coherence
        Of CH2 and CH3 above :data:`HIGH_FREQUENCY`, which noise takes away.
    diameters
        Equivalent diameters in px of the nuclei that :func:`nuclear_diameters` finds.
    nuclei_per_patch
        Their mean number in 256 x 256 px.
    """

    spectrum: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    correlation: float
    coherence: float
    diameters: NDArray[np.float64]
    nuclei_per_patch: float


def stretch(channel: NDArray[np.floating]) -> Colours:
    """One channel, percentile-stretched to 8 bits as the real patches are."""
    low, high = np.percentile(channel, [SATURATED_SHARE, 100 - SATURATED_SHARE])
    return np.rint(np.clip((channel - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def srh_rgb(counts: NDArray[np.integer]) -> Colours:
    """Counts ``(2, H, W)`` to RGB ``(H, W, 3)`` of CH3 - CH2, CH2 and CH3, each stretched."""
    ch2, ch3 = counts.astype(np.float64)
    return np.stack([stretch(ch3 - ch2), stretch(ch2), stretch(ch3)], axis=-1)


def read_real_patches(folder: Path) -> list[Colours]:
    """The PNG patches of a folder, uint8 ``(H, W, 3)``, in the order of their names.

    Raises
    ------
    InputError
        When there is none, or one is not RGB.
    """
    from matplotlib.image import imread

    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise InputError("no PNG files", "a folder of RGB patches (CH3 - CH2, CH2, CH3)", folder)
    patches = []
    for path in paths:
        image = np.rint(imread(path) * 255).astype(np.uint8)
        if image.ndim != 3:
            raise InputError("a grey image", "an RGB image (CH3 - CH2, CH2, CH3)", path)
        patches.append(image[..., :3])
    return patches


def nuclear_diameters(rgb: Colours) -> NDArray[np.float64]:
    """Equivalent diameters in px of bright compact bodies in CH3 - CH2 (red), by a crude segmentation that treats all alike.

    Gaussian of 1.5 px, Otsu's threshold, opening; bodies of 6 to 40 px with a solidity of at least 0.8.
    """
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops

    red = ndi.gaussian_filter(rgb[..., 0].astype(np.float64), 1.5)
    bodies = ndi.binary_opening(red > threshold_otsu(red), iterations=2)
    found = [r for r in regionprops(label(bodies)) if r.solidity >= 0.8]
    diameters = np.array([r.equivalent_diameter_area for r in found])
    return diameters[(diameters >= 6) & (diameters <= 40)] if len(diameters) else diameters


def measure(patches: list[Colours]) -> Look:
    """The :class:`Look` of RGB patches (CH3 - CH2, CH2, CH3)."""
    spectra = np.array([[radial_spectrum(p[..., c]) for c in (1, 2)] for p in patches])
    quantiles = np.array([[np.quantile(p[..., c], [0.05, 0.25, 0.5, 0.75, 0.95]) for c in (1, 2)] for p in patches])
    found = [nuclear_diameters(p) for p in patches]
    return Look(
        spectrum=spectra.mean(axis=0),
        quantiles=quantiles.mean(axis=0),
        correlation=float(np.mean([np.corrcoef(p[..., 1].ravel(), p[..., 2].ravel())[0, 1] for p in patches])),
        coherence=float(np.mean([channel_coherence(np.moveaxis(p[..., 1:], -1, 0), HIGH_FREQUENCY) for p in patches])),
        diameters=np.concatenate(found),
        nuclei_per_patch=float(np.mean([len(d) for d in found])),
    )


def phantom_patches(severity: float, repeats: int = 4, seed: int = VALIDATION_SEED) -> list[Colours]:
    """Phantoms of the same kinds as the real patches, ``repeats`` times, at ``severity`` (0: the clean image)."""
    patches = []
    for index, kind in enumerate(LIKE_THE_REAL_PATCHES * repeats):
        phantom = simulate_patch(kind, severity, seed + index)
        patches.append(srh_rgb(phantom.clean if severity == 0 else phantom.counts))
    return patches


QUANTITIES = (
    Column("set", "Set"),
    Column("patches", "Patches", "d"),
    Column("ch2", "CH2 quantiles, 5/25/50/75/95 %"),
    Column("ch3", "CH3 quantiles"),
    Column("correlation", "Correlation of the channels", ".2f"),
    Column("coherence", f"Coherence above {HIGH_FREQUENCY} cycles per px", ".2f"),
    Column("nuclei", "Nuclei a patch", ".1f"),
    Column("diameter", "Nuclear diameter, px (quartiles)"),
)

BANDS = (0, 2, 4, 6, 8, 10, 12, 14, 15)
"""Bands of the spectrum that the table shows; the JSON holds all."""


def realism(real_folder: Path, out: Path) -> Report:
    """Compare phantoms with the real patches of a folder, and write ``realism.png`` to ``out``.

    The figure shows the real patches: it stays with whoever has the right to them.

    Raises
    ------
    InputError
        When the folder holds no RGB patches.
    """
    real_patches = read_real_patches(real_folder)
    sets = {"real": real_patches, "phantom, clean": phantom_patches(0.0), "phantom, severity 0.2": phantom_patches(0.2)}
    looks = {name: measure(patches) for name, patches in sets.items()}
    quantities = [
        {
            "set": name,
            "patches": len(sets[name]),
            "ch2": _slashed(look.quantiles[0], ".0f"),
            "ch3": _slashed(look.quantiles[1], ".0f"),
            "correlation": look.correlation,
            "coherence": look.coherence,
            "nuclei": look.nuclei_per_patch,
            "diameter": _slashed(np.quantile(look.diameters, [0.25, 0.5, 0.75]), ".1f"),
        }
        for name, look in looks.items()
    ]
    spectra = [
        {"set": name, "channel": channel, **{str(band): float(value) for band, value in enumerate(look.spectrum[c])}}
        for c, channel in enumerate(("CH2", "CH3"))
        for name, look in looks.items()
    ]
    frequencies = tuple(Column(str(band), f"{(band + 0.5) / 32:.2f}", ".2f") for band in BANDS)
    out.mkdir(parents=True, exist_ok=True)
    _draw(sets, looks, out / "realism.png")
    return Report(
        name="realism",
        title="Phantoms beside real patches",
        summary="Real patches and phantoms of the same kinds of tissue, all stretched to 8 bits in the same way.",
        tables=(
            Table("Intensities and nuclei", QUANTITIES, quantities),
            Table(
                "Radial power spectrum",
                (Column("channel", "Channel"), Column("set", "Set"), *frequencies),
                spectra,
                note="log10 of the mean power by cycles per px, relative to the three lowest of 16 bands.",
            ),
        ),
        provenance=provenance(seed=VALIDATION_SEED),
    )


def _slashed(values: NDArray[np.float64], form: str) -> str:
    return " / ".join(format(float(value), form) for value in values)


def _draw(sets: dict[str, list[Colours]], looks: dict[str, Look], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 15), layout="constrained")
    grid = figure.add_gridspec(4, 4)
    for row, (name, patches) in enumerate(sets.items()):
        for column in range(4):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(patches[column])
            axes.set_axis_off()
            if column == 0:
                axes.set_title(name, loc="left")
    spectrum, histogram, sizes = (figure.add_subplot(grid[3, i]) for i in range(3))
    frequency = (np.arange(16) + 0.5) / 32
    for name, look in looks.items():
        spectrum.plot(frequency, look.spectrum[0], label=f"{name}, CH2")
        values = np.concatenate([p[..., 1].ravel() for p in sets[name]])
        histogram.hist(values, bins=64, range=(0, 255), density=True, histtype="step", label=name)
        sizes.hist(look.diameters, bins=17, range=(6, 40), density=True, histtype="step", label=name)
    spectrum.set(title="radial power spectrum", xlabel="cycles per px", ylabel="log10, relative")
    histogram.set(title="CH2, stretched", xlabel="8-bit intensity")
    sizes.set(title="nuclear diameter", xlabel="px of 0.47 um")
    spectrum.legend(fontsize=7)
    figure.savefig(path, dpi=90)
