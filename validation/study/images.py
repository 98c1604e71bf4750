"""What a study shows: tiles of cases, of folders, or of simulated tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.slide import Reading, require_unchanged
from srh_clinic.validation.bench.protocol import SEVERITIES, Protocol
from srh_clinic.validation.study.streams import Stream, stream

PHANTOM_SEED = 9_900_000
"""Phantoms of studies have seeds from here on: neither training, nor validation, nor the tables use them."""

STRENGTH = 3
"""The stream that a phantom's degradation is drawn from, as the tables draw it."""

LEAST_TISSUE = 0.5
"""Proportion of tissue that a tile of a case has to show."""

TILES_PER_CASE = 8


@dataclass(frozen=True, eq=False)
class StudyImage:
    """A tile and what is known of it.

    Parameters
    ----------
    case_id
        Names it in the sealed key.
    patient
        Whose it is; only its salted hash is kept.
    counts
        As scanned, uint16 ``(2, H, W)``.
    position
        Its top left corner (y, x) in the slide, px.
    clean, nuclei
        As scanned through a perfect instrument, and its nuclei ``(K, 3)`` of y, x and radius in px; None when nobody knows.
    stratum
        What results are broken down by.
    channel_order
        Which channels of its file are CH2 and CH3, and why; for the sealed key.
    identifiers
        Words that must not come into a rater's hands.
    """

    case_id: str
    patient: str
    counts: Counts
    um_per_px: float
    position: tuple[int, int] = (0, 0)
    clean: Counts | None = None
    nuclei: NDArray[np.float64] | None = None
    stratum: str = ""
    identifiers: tuple[str, ...] = ()
    channel_order: str = ""


def phantom_images(protocol: Protocol, count: int, seed: int) -> list[StudyImage]:
    """Simulated tissue that can be judged, in all severities: tumor and normal kinds of the protocol in turn."""
    from srh_clinic.simulation import simulate_patch

    readable = [kind for kind in protocol.phantoms.kinds if kind in protocol.truth.tumor + protocol.truth.normal]
    made = []
    for number in range(count):
        severity, own = SEVERITIES[number % len(SEVERITIES)], PHANTOM_SEED + 10_000 * seed + number
        low, high = getattr(protocol.severity, severity)
        strength = float(np.random.default_rng([own, STRENGTH]).uniform(low, high))
        phantom = simulate_patch(readable[number // len(SEVERITIES) % len(readable)], strength, own, protocol.phantoms.size)
        name = f"phantom-{own}"
        made.append(
            StudyImage(
                name,
                name,
                phantom.counts,
                protocol.phantoms.um_per_px,
                clean=phantom.clean,
                nuclei=phantom.nuclei,
                stratum=severity,
            )
        )
    return made


def case_images(sources: Sequence[Path], protocol: Protocol, per_case: int, reading: Reading, seed: int) -> list[StudyImage]:
    """Tiles of cases: DICOM slides, TIFFs, folders of a case's instances, or folders of images, at the networks' pixel size.

    Of each case at most ``per_case`` tiles are drawn among those that show tissue. A source's patient is the one that its
    header names; without one, the file.

    Raises
    ------
    InputError
        When a source cannot be read, or no tile of it shows tissue.
    """
    rng = stream(seed, Stream.TILES)
    from srh_clinic.integration import cases_in

    files = [file for source in sources for file in _files(source)]
    return [image for case in cases_in(files) for image in _tiles(case, protocol, per_case, reading, rng)]


def _files(source: Path) -> Iterator[Path]:
    """A file, a case's folder of DICOM instances, or each file of a folder of images."""
    files = sorted(path for path in source.iterdir() if not path.name.startswith(".")) if source.is_dir() else []
    if source.is_dir() and not files:
        raise InputError("an empty folder", "a case or a folder of images", source)
    if not files or all(path.suffix.lower() == ".dcm" for path in files):
        yield source
        return
    yield from files


def _tiles(
    files: Path | tuple[Path, Path], protocol: Protocol, per_case: int, reading: Reading, rng: np.random.Generator
) -> Iterator[StudyImage]:
    from srh_clinic.case.restoring import at_pixel_size, look_over
    from srh_clinic.integration import identifying_words, read_slide
    from srh_clinic.integration.identifiers import SHORTEST
    from srh_clinic.validation.bench.images import cut, read_patch

    paths = (files,) if isinstance(files, Path) else files
    case = paths[0]
    size, um_per_px = protocol.phantoms.size, protocol.phantoms.um_per_px
    if case.suffix.lower() == ".png":
        corners, identity = cut(read_patch(case), size), None
    else:
        scanned = read_slide(files, **reading.options)
        slide, _ = at_pixel_size(scanned, um_per_px)
        identity = scanned.identity
        mask, (height, width) = look_over(slide).mask, slide.shape
        places = [(y, x) for y in range(0, height - size + 1, size) for x in range(0, width - size + 1, size)]
        shown = [(y, x) for y, x in places if mask.within(y, x, size, size) >= LEAST_TISSUE]
        corners = {(y, x): slide.read(y, x, size, size) for y, x in _some(shown, per_case, rng)}
        require_unchanged(scanned)
    if not corners:
        raise InputError(f"no tile of {size} px with tissue", f"a case with at least {size} px of tissue", case)
    named = () if identity is None else identifying_words(identity)
    of_files = [word for file in paths for word in (file.name, file.stem)]
    known = tuple(dict.fromkeys((*named, *(word for word in of_files if len(word) >= SHORTEST))))
    order = "" if identity is None else identity.channel_order
    patient = identity.patient_id if identity is not None and identity.patient_id else case.stem
    for y, x in _some(sorted(corners), per_case, rng):
        tile = np.ascontiguousarray(corners[y, x])
        yield StudyImage(
            f"{case.name}@{y},{x}",
            patient,
            tile,
            um_per_px,
            (y, x),
            stratum=case.parent.name,
            identifiers=known,
            channel_order=order,
        )


def _some(places: Sequence[tuple[int, int]], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    if not places:
        return []
    return [places[number] for number in sorted(rng.choice(len(places), size=min(count, len(places)), replace=False))]
