"""Restorers judged by tiles of one slide: how near each comes to the slide without its noise, and what it took or made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.case.record import CaseOrigin
from srh_clinic.case.restoring import at_pixel_size, look_over
from srh_clinic.errors import InputError
from srh_clinic.estimates import Finding, Interval, Undefined
from srh_clinic.guards.channels import channel_flags, check_channels
from srh_clinic.intensity import CHANNELS, Counts, counts_to_unit, unit_to_counts
from srh_clinic.metrics import Period2, gain_over, measured, period_2_amplitudes, residual_sharing, upsnr
from srh_clinic.metrics.unreferenced import ADDED, Measured, NoiseModel, nearer
from srh_clinic.progress import Progress, silent
from srh_clinic.resampling import ResampledSlide
from srh_clinic.restorers import KINDS, Restorer, create_restorer
from srh_clinic.slide import ArraySlide, Slide
from srh_clinic.tiling import read_tile

INPUT = "input"
"""What the slide as it was scanned is called among the restorers."""

RESTORERS = ("rscd", "nlm", "wavelet", "median")
"""Who is judged when nobody is named."""

MOST_TILES = 12
"""Tiles that are judged by unless another number is asked for, spread over the tissue."""

LEAST_TISSUE = 0.5
"""Share of a tile that has to be tissue."""

ROWS_ALIKE = (0.75, 1.33)
"""Within these the noise is independent from row to row, as its model has it; see ``NoiseModel.whiteness``."""

MOST_CUT_OFF = 0.01
"""Share of pixels at 0, or at a channel's largest value, from which on noise was cut off there, which no restoration is
charged for."""

BRIGHT = 32_768
"""Counts below which a channel's largest value is none of a detector's, and shared by pixels because there are few levels."""

DRAWS = 4
"""Draws of noise that its variance is read from where a slide is resampled."""

DEMONSTRATION = "research use only"


@dataclass(frozen=True, eq=False)
class Judged:
    """One restorer.

    Attributes
    ----------
    name
        As ``--restorer`` names it, with its bundle where there are several.
    place
        1 for the nearest to the noise-free slide; those that the intervals do not tell from the one before share its place.
    psnr, psnr_difference
        Estimated PSNR in dB of the channels, and of CH3 - CH2, without a reference (:func:`~srh_clinic.metrics.upsnr`).
    behind
        How many dB behind the first, by the same blocks; None for the first.
    taken
        Tissue taken (above 0) or likeness made (below) by band (:func:`~srh_clinic.metrics.residual_sharing`).
    patterns
        Amplitudes of the three patterns of period 2.
    restored
        The tiles, uint16 counts ``(N, 2, tile, tile)``.
    """

    name: str
    place: int
    psnr: Finding
    psnr_difference: Finding
    behind: Finding | None
    taken: list[Finding]
    patterns: Period2
    restored: Counts


@dataclass(frozen=True, eq=False)
class Judgement:
    """What :func:`judge` found, the best first.

    ``scanned`` are the tiles as they came, ``corners`` their places in pixels of the slide, ``notes`` what a reader must know.
    """

    restorers: tuple[Judged, ...]
    noise: NoiseModel
    noise_level: tuple[float, float]
    scanned: Counts
    corners: NDArray[np.int64]
    um_per_px: float
    notes: tuple[str, ...]
    provenance: dict[str, Any]
    origin: CaseOrigin | None = None

    @property
    def resolved(self) -> bool:
        """Whether the intervals tell the first from all others."""
        return sum(one.place == 1 for one in self.restorers) == 1

    def __str__(self) -> str:
        return "\n".join([*(f"{one.place}. {one.name}: {_in_decibels(one.psnr)}" for one in self.restorers), self.verdict])

    @property
    def verdict(self) -> str:
        """Who is first, in a sentence."""
        first = [one.name for one in self.restorers if one.place == 1]
        if len(first) == 1:
            return f"{first[0]} comes nearest to the slide without its noise."
        return f"Not resolved: the intervals do not tell {', '.join(first[:-1])} and {first[-1]} apart."


def said(finding: Finding, form: str = ".2f") -> str:
    """An estimate with its interval, or why there is none."""
    if isinstance(finding, Interval):
        return f"{finding.value:{form}} [{finding.low:{form}}, {finding.high:{form}}]"
    return finding.why


def _in_decibels(finding: Finding) -> str:
    return f"{said(finding)} dB" if isinstance(finding, Interval) else said(finding)


def judge(
    slide: Slide,
    restorers: Sequence[str] = RESTORERS,
    bundles: Sequence[str | Path] = ("phantom-demo",),
    *,
    tiles: int = MOST_TILES,
    seed: int = 0,
    device: str = "auto",
    origin: CaseOrigin | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Judgement:
    """Rank restorers on a slide without a reference.

    Noise is fitted to the tiles as they were scanned (:func:`~srh_clinic.metrics.fit_noise`), and some more of it is drawn;
    each restorer works on the tiles with and without it, at the pixel size of its networks, and what it leaves of the added
    noise says how much it left of the slide's own (:meth:`~srh_clinic.metrics.Measured.errors`).

    Parameters
    ----------
    restorers
        Names that :func:`~srh_clinic.restorers.create_restorer` takes; the input takes part in any case.
    bundles
        Whose networks are used; a restorer that has networks is judged with each of them.
    tiles
        Most tiles to judge by.
    settings
        Of RSCD; the precision, of every restorer that has one.

    Raises
    ------
    InputError
        When a name or a bundle is unknown, no restorer takes a setting, pixel sizes of bundles differ, the slide has no tile
        full of tissue, or not two channels that differ and vary: noise is told from tissue by what they share.
    """
    if tiles < 1:
        raise InputError(f"{tiles} tiles", "one or more")
    loaded = [load_bundle(bundle) for bundle in bundles] or [load_bundle("phantom-demo")]
    sizes = {(bundle.metadata["um_per_px"], bundle.metadata["tile"]) for bundle in loaded}
    if len(sizes) > 1:
        raise InputError("bundles of several pixel or tile sizes", "bundles that know one, to be compared")
    ((um_per_px, tile),) = sizes
    named = _restorers(restorers, loaded, device, settings)
    resampled = at_pixel_size(slide, um_per_px)[0] is not slide
    edge = round(tile * um_per_px / slide.um_per_px) if resampled else tile
    corners = _corners(slide, edge, tiles)
    native = np.stack([read_tile(slide, y, x, edge) for y, x in corners.tolist()])
    _require_two_channels(native, slide)
    progress("fitting noise", 0, 1)
    truth, noise, spikes = measured(_unit(native), seed)
    seen = [native, *(unit_to_counts(_unit(native) + sign * ADDED * truth.added) for sign in (1, -1))]
    if resampled:
        seen = [_at_size(images, slide.um_per_px, um_per_px, tile) for images in seen]
        truth = _truth_at_size(truth, noise, slide.um_per_px, um_per_px, tile, seed)
    scanned = seen[0]
    progress("fitting noise", 1, 1)
    found = {INPUT: seen}
    for name, restorer in named.items():
        progress("judging", len(found) - 1, len(named))
        # Each tile far from the others, so that noise of the sampler is its own; the same with and without the added noise.
        places = np.array([(number * 2 * tile, 0) for number in range(len(scanned))])
        found[name] = [restorer.restore(images, places, seed).counts for images in seen]
    progress("judging", len(named), len(named))
    errors = {name: truth.errors(*map(_unit, made)) for name, made in found.items()}
    ranked = _ranked({name: made for name, (made, *_) in found.items()}, scanned, errors, seed)
    return Judgement(
        restorers=ranked,
        noise=noise,
        noise_level=tuple(float(level) for level in np.sqrt(truth.variance.mean(axis=(0, 2, 3)))),  # type: ignore[arg-type]
        scanned=scanned,
        corners=corners,
        um_per_px=um_per_px,
        notes=(*_notes(slide, noise, spikes, native, resampled), *_of_tissue(ranked)),
        provenance={
            "bundles": {name: bundle.weights_sha256 for name, bundle in _by_name(loaded).items()},
            "settings": {name: dict(restorer.settings) for name, restorer in named.items()},
            "seed": seed,
            "tiles": len(scanned),
            "tile": tile,
            "um_per_px": um_per_px,
            "notice": loaded[0].metadata.get("demonstration", DEMONSTRATION),
        },
        origin=origin,
    )


def _by_name(bundles: Sequence[Bundle]) -> dict[str, Bundle]:
    """Each bundle by its name, with a number where several have one name."""
    named: dict[str, Bundle] = {}
    for bundle in bundles:
        number = sum(one.name == bundle.name for one in named.values()) + 1
        named[bundle.name if number == 1 else f"{bundle.name} ({number})"] = bundle
    return named


def _restorers(names: Sequence[str], bundles: Sequence[Bundle], device: str, settings: dict[str, Any]) -> dict[str, Restorer]:
    """Each restorer by the name that it is told by; those with networks once for each bundle that has them."""
    made: dict[str, Restorer] = {}
    idle = set(settings)
    for name in dict.fromkeys(names):
        if name not in KINDS:
            raise InputError(f"a restorer {name}", f"one of {', '.join(KINDS)}")
        taken = KINDS[name].settings.model_fields
        given = {key: value for key, value in settings.items() if name == "rscd" or (key == "precision" and key in taken)}
        idle -= set(given)
        if not KINDS[name].parts:
            if name != "none":
                made[name] = create_restorer(name, device=device)
            continue
        named = _by_name(bundles)
        fitting = [key for key, bundle in named.items() if set(KINDS[name].parts) <= set(bundle.parts)] or list(named)[:1]
        for key in fitting:
            label = name if len(bundles) == 1 else f"{name} @ {key}"
            made[label] = create_restorer(name, bundle=str(named[key].path), device=device, **given)
    if idle:
        raise InputError(
            f"the setting {min(idle)}, which no restorer that is judged takes", "rscd among them, or no such setting"
        )
    return made


def _require_two_channels(native: Counts, slide: Slide) -> None:
    """Refuse tiles whose channels do not tell tissue from noise."""
    needed = "two channels of one field, which share its tissue and no noise"
    for place, channel in enumerate(CHANNELS):
        if np.ptp(native[:, place]) == 0:
            raise InputError(f"{channel} that is {native[0, place, 0, 0]} in all tiles", needed, _source(slide))
    if np.array_equal(native[:, 0], native[:, 1]):
        raise InputError("CH2 and CH3 that are the same image", needed, _source(slide))


def _source(slide: Slide) -> str | Path | None:
    return slide.identity.source or None


def _corners(slide: Slide, edge: int, most: int) -> NDArray[np.int64]:
    """Where tiles full of tissue lie, at most so many, evenly spread over all of them, ``(N, 2)``."""
    height, width = slide.shape
    if min(height, width) < edge:
        raise InputError(f"a slide of {height} x {width} px", f"at least {edge} px a side, a tile", _source(slide))
    mask = look_over(slide).mask
    places = [(y, x) for y in range(0, height - edge + 1, edge) for x in range(0, width - edge + 1, edge)]
    full = [(y, x) for y, x in places if mask.within(y, x, edge, edge) >= LEAST_TISSUE]
    if not full:
        raise InputError("no tile full of tissue", "tissue to judge by", _source(slide))
    chosen = np.unique(np.linspace(0, len(full) - 1, min(most, len(full))).round().astype(int))
    return np.array([full[number] for number in chosen], dtype=np.int64)


def _ranked(
    restored: dict[str, Counts], scanned: Counts, errors: dict[str, NDArray[np.float64]], seed: int
) -> tuple[Judged, ...]:
    """The nearest first; whom the difference's interval does not tell from the first of a place shares that place."""
    order = sorted(errors, key=lambda name: float(errors[name][:, 0].mean()))
    best, leader, place = order[0], order[0], 1
    ranked = []
    for number, name in enumerate(order):
        if number and nearer(errors[leader][:, 0], errors[name][:, 0], seed=seed):
            leader, place = name, number + 1
        images = restored[name]
        amplitudes = [period_2_amplitudes(_unit(image)) for image in images]
        ranked.append(
            Judged(
                name=name,
                place=place,
                psnr=upsnr(errors[name][:, 0], seed=seed),
                psnr_difference=upsnr(errors[name][:, 1], seed=seed),
                behind=None if name == best else gain_over(errors[best][:, 0], errors[name][:, 0], seed=seed),
                taken=[] if name == INPUT else residual_sharing(_unit(scanned), _unit(images), seed=seed),
                patterns=Period2(*np.mean(amplitudes, axis=0).tolist()),
                restored=images,
            )
        )
    return tuple(ranked)


def _notes(slide: Slide, noise: NoiseModel, spikes: float, native: Counts, resampled: bool) -> Iterator[str]:
    yield from (f"reading: {note}" for note in slide.notes)
    yield from channel_flags(check_channels(list(native), slide.um_per_px))
    if resampled:
        yield f"resampled: noise was fitted at {slide.um_per_px:.4g} um a pixel, as scanned, and resampled with the image"
    low, high = ROWS_ALIKE
    for place, channel in enumerate(CHANNELS):
        ratio = float(noise.whiteness[place])
        if not noise.constant[place] and not noise.slope[place]:
            yield f"no-noise: none was found in {channel}; whatever a restorer changes there counts as its error"
        elif not low <= ratio <= high:
            yield (
                f"rows-alike: noise of {channel} is not independent from row to row (variance ratio {ratio:.2f}), as in "
                "images that were smoothed, compressed or scanned along columns; the estimates do not hold"
            )
        seen = native[:, place]
        largest = float((seen == seen.max()).mean())
        if largest >= MOST_CUT_OFF and seen.max() >= BRIGHT:
            yield (
                f"saturated: {largest:.1%} of the pixels of {channel} have its largest value, {seen.max()}, where tissue and "
                "noise were cut off; no restoration is charged for that"
            )
    cut_off = float((native == 0).mean())
    if cut_off >= MOST_CUT_OFF:
        yield f"cut-off: {cut_off:.1%} of the pixels are 0, where noise was cut off; no restoration is charged for that"
    if spikes:
        yield f"spikes: {spikes:.2%} of the pixels stand alone in one channel and were left out of the noise"


def _of_tissue(ranked: Sequence[Judged]) -> Iterator[str]:
    """Whether there is anything to restore: coarse structure is what both channels show of any tissue."""
    if any(one.taken and isinstance(one.taken[0], Undefined) for one in ranked):
        yield "no-tissue: the channels share nothing in these tiles, as on glass; who is first there makes them most even"


def _unit(counts: Counts) -> NDArray[np.float64]:
    return np.asarray(counts_to_unit(counts), dtype=np.float64)


def _at_size(images: Counts, have: float, want: float, tile: int) -> Counts:
    return np.stack([read_tile(ResampledSlide(ArraySlide(image, have), want), 0, 0, tile) for image in images])


def _truth_at_size(truth: Measured, noise: NoiseModel, have: float, want: float, tile: int, seed: int) -> Measured:
    """What the images are measured by at another pixel size; noise, raised by half of the range, goes the same way."""

    def resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return _unit(_at_size(unit_to_counts(values + 0.5), have, want, tile)) - 0.5

    images = _unit(_at_size(unit_to_counts(truth.images), have, want, tile))
    more = (noise.draw(truth.images, np.random.default_rng([seed, number])) for number in range(1, DRAWS + 1))
    variance = np.mean([resampled(one) ** 2 for one in more], axis=0)
    return Measured(images, resampled(truth.added), variance, noise.skewness(images))
