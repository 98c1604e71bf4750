"""Sets of images that the paper's tables are made on: the protocol's phantoms, or a user's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts, unit_to_counts
from srh_clinic.simulation import degrade, draw_sources
from srh_clinic.simulation.pairs import simulate_pair
from srh_clinic.slide import Reading, Slide, require_unchanged
from srh_clinic.validation.bench.protocol import SEVERITIES, Protocol

DEGRADATION_SEED = 7

KEPT_PHANTOMS = 1024
"""Simulated phantoms kept in memory, half a megabyte each: every method sees all of them, and to simulate one takes longer
than most methods take to restore it."""


@dataclass(frozen=True, eq=False)
class Image:
    """One image of a set and what is known of it.

    Parameters
    ----------
    counts
        As scanned, uint16 ``(2, H, W)``.
    clean
        Through a perfect instrument, uint16 ``(2, H, W)``; None when nobody knows.
    nuclei
        y, x and radius in px of every nucleus, ``(K, 3)``; None when nobody knows.
    truth
        Its class, or "".
    group
        What it is broken down by: the severity of a phantom, the folder's name of a user's image.
    source
        The source of degradation that leads, or "".
    """

    name: str
    counts: Counts
    clean: Counts | None = None
    nuclei: NDArray[np.float64] | None = None
    truth: str = ""
    group: str = ""
    source: str = ""


class ImageSet(Interface):
    """Images by number, in the size of a tile."""

    @property
    def title(self) -> str:
        """A sentence that says what they are."""

    @property
    def sha256(self) -> str:
        """Of everything that the images depend on."""

    @property
    def um_per_px(self) -> float: ...

    @property
    def indices(self) -> Sequence[int]:
        """Numbers of the images in use."""

    def image(self, index: int) -> Image: ...

    def references(self) -> Iterator[Counts]:
        """High-quality images of other fields, uint16 ``(2, H, W)``; none when nobody has any."""

    @property
    def references_sha256(self) -> str:
        """Of everything that they depend on."""

    def second_acquisition(self, index: int) -> Counts | None:
        """The same field scanned again at high quality, not registered, uint16 ``(2, H, W)``."""

    @property
    def channel_orders(self) -> str | None:
        """Which channels of their files were taken for CH2 and CH3, and why; None when they come from no file."""


@dataclass(frozen=True)
class PhantomImages:
    """The protocol's phantoms.

    Parameters
    ----------
    count
        Use so many, evenly spread; None uses all of the tables'.
    """

    protocol: Protocol
    count: int | None = None

    @property
    def title(self) -> str:
        return f"{len(self.indices)} phantoms with noise that is neither Gaussian nor uniform, from docs/protocol.yaml"

    @property
    def channel_orders(self) -> None:
        """They come from no file."""
        return None

    @property
    def sha256(self) -> str:
        return self.protocol.images_sha256

    @property
    def um_per_px(self) -> float:
        return self.protocol.phantoms.um_per_px

    @property
    def indices(self) -> Sequence[int]:
        everything = self.protocol.tables.count
        return range(everything) if self.count is None else spread(self.count, everything)

    def image(self, index: int) -> Image:
        return self._simulated(index)

    def references(self) -> Iterator[Counts]:
        return (self.protocol.reference(index) for index in self._references)

    @property
    def references_sha256(self) -> str:
        seed = self.protocol.tables.reference.first_seed
        return hashlib.sha256(f"{self.sha256} {seed} {list(self._references)}".encode()).hexdigest()

    @property
    def _references(self) -> Sequence[int]:
        everything = self.protocol.tables.reference.count
        count = everything if self.count is None else min(self.count, everything)
        return [place * everything // count for place in range(count)]

    @cached_property
    def _simulated(self) -> Callable[[int], Image]:
        return lru_cache(maxsize=KEPT_PHANTOMS)(partial(_phantom_image, self.protocol))

    def second_acquisition(self, index: int) -> Counts:
        protocol = self.protocol
        pair = simulate_pair(protocol.kind(index), protocol.strength(index), protocol.seed(index), protocol.phantoms.size)
        return pair.high


def spread(count: int, everything: int) -> list[int]:
    """``count`` of the numbers below ``everything``, in runs of one number for each severity bin, the runs evenly spread."""
    count, bins = min(count, everything), len(SEVERITIES)
    if everything < bins:
        return list(range(count))
    runs, wanted = everything // bins, -(-count // bins)
    return [bins * (place // bins * runs // wanted) + place % bins for place in range(count)]


def _phantom_image(protocol: Protocol, index: int) -> Image:
    phantom = protocol.phantom(index)
    strengths = {name: getattr(phantom.sources, name) for name in protocol.sources}
    return Image(
        name=f"phantom {index}, {phantom.kind.replace('_', ' ')}",
        counts=phantom.counts,
        clean=phantom.clean,
        nuclei=phantom.nuclei,
        truth=phantom.diagnosis,
        group=protocol.bin(index),
        source=max(strengths, key=lambda name: strengths[name]),
    )


@dataclass(frozen=True)
class FolderImages:
    """A user's images, cut into tiles.

    Parameters
    ----------
    folder
        Holds slides that :func:`~srh_clinic.integration.read_slide` reads, or 8-bit RGB patches (CH3 - CH2, CH2, CH3) as PNG.
        Where it has the folders ``low`` and ``high``, images of one name in both are two acquisitions of one field.
    tile
        Edge of a tile in px; what is left at the borders of an image is not used.
    um_per_px
        Pixel size of the networks, to which images are resampled; see :func:`~srh_clinic.case.restoring.at_pixel_size`.
    reference
        Folder of high-quality images of other fields.
    severity
        When given, the images are taken for clean and degraded by the simulator at this severity in [0, 1].
    reading
        What the files do not say of themselves.
    """

    folder: Path
    tile: int = 256
    um_per_px: float = 0.47
    reference: Path | None = None
    severity: float | None = None
    reading: Reading = field(default_factory=Reading)
    count: int | None = None

    @property
    def title(self) -> str:
        degraded = (
            "" if self.severity is None else f", taken for clean and degraded by the simulator at severity {self.severity}"
        )
        return f"{len(self.indices)} tiles of {self.folder.name}{degraded}"

    @cached_property
    def sha256(self) -> str:
        # The second acquisitions too: what is measured against them is kept under this name.
        tiles = (*self._tiles.values(), *self._second.values())
        return tiles_sha256(tiles, self.tile, self.um_per_px, self.severity, self.reading)

    @property
    def indices(self) -> Sequence[int]:
        everything = len(self._tiles)
        count = everything if self.count is None else min(self.count, everything)
        return [place * everything // count for place in range(count)]

    def image(self, index: int) -> Image:
        name, scanned = list(self._tiles.items())[index]
        if self.severity is None:
            return Image(name, scanned, group=self.folder.name)
        rng = np.random.default_rng([DEGRADATION_SEED, index])
        degraded = degrade(rng, scanned.astype(np.float32), draw_sources(rng, self.severity))
        return Image(name, degraded.counts, clean=scanned, group=self.folder.name)

    def references(self) -> Iterator[Counts]:
        return iter(self._references.values())

    @cached_property
    def references_sha256(self) -> str:
        return tiles_sha256(self._references.values(), self.tile, self.um_per_px, self.reading)

    def second_acquisition(self, index: int) -> Counts | None:
        return self._second.get(list(self._tiles)[index])

    @property
    def channel_orders(self) -> str | None:
        return told_orders(self._low[1])

    @property
    def _tiles(self) -> dict[str, Counts]:
        return self._low[0]

    @cached_property
    def _low(self) -> tuple[dict[str, Counts], list[str]]:
        return read_tiles(self._part("low"), self.tile, self.um_per_px, self.reading)

    @cached_property
    def _second(self) -> dict[str, Counts]:
        high = self.folder / "high"
        return read_tiles(high, self.tile, self.um_per_px, self.reading)[0] if high.is_dir() else {}

    @cached_property
    def _references(self) -> dict[str, Counts]:
        return read_tiles(self.reference, self.tile, self.um_per_px, self.reading)[0] if self.reference is not None else {}

    def _part(self, name: str) -> Path:
        return self.folder / name if (self.folder / name).is_dir() else self.folder


def tiles_sha256(tiles: Iterable[Counts], *depends_on: Any) -> str:
    """Of tiles, uint16 counts ``(2, H, W)`` each, and of what else an image that is made of them depends on."""
    digest = hashlib.sha256(repr(depends_on).encode())
    for tile in tiles:
        digest.update(tile.tobytes())
    return digest.hexdigest()


def told_orders(orders: Iterable[str]) -> str | None:
    """Each order of channels that images have, and of how many; None when there is none."""
    return "; ".join(f"{order} ({count} images)" for order, count in sorted(Counter(orders).items())) or None


def slides_in(folder: Path, reading: Reading, every: int = 1) -> Iterator[tuple[str, Slide]]:
    """The slides of a folder by name, opened one after the other: each file is one, or two of one channel each.

    With ``every`` each so manyth, from the first.
    """
    from srh_clinic.integration import cases_in, read_slide

    for case in cases_in(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))[::every]:
        slide = read_slide(case, **reading.options)
        yield (case if isinstance(case, Path) else case[0]).name, slide
        require_unchanged(slide)


def read_tiles(folder: Path, tile: int, um_per_px: float, reading: Reading) -> tuple[dict[str, Counts], list[str]]:
    """Tiles of every image in a folder by name and corner, uint16 counts ``(2, tile, tile)``, in the order of the names.

    Returns
    -------
    dict and list of str
        The tiles, and of each slide which of its channels were taken for CH2 and CH3, and why.

    Raises
    ------
    InputError
        When the folder has no image, one cannot be read, or none is as large as a tile.
    """
    from srh_clinic.case.restoring import at_pixel_size

    orders: list[str] = []
    if not folder.is_dir():
        raise InputError("no such folder", "a folder of images", folder)
    if any(path.suffix.lower() == ".png" for path in folder.iterdir()):
        whole = read_patches(folder)
    else:
        whole = {}
        for name, scanned in slides_in(folder, reading):
            slide, _ = at_pixel_size(scanned, um_per_px)
            whole[name] = slide.read(0, 0, *slide.shape)
            orders.append(scanned.identity.channel_order)
    if not whole:
        raise InputError("no images", "a folder of DICOM slides, TIFFs or PNG patches", folder)
    tiles = {f"{name} at {y}, {x}": part for name, image in whole.items() for (y, x), part in cut(image, tile).items()}
    if not tiles:
        largest = max(min(image.shape[1:]) for image in whole.values())
        raise InputError(f"images of at most {largest} px", f"images of at least {tile} px at {um_per_px} um/px", folder)
    return tiles, orders


def cut(image: Counts, tile: int) -> dict[tuple[int, int], Counts]:
    """Whole tiles ``(2, tile, tile)`` side by side in an image ``(2, H, W)``, by their corners (y, x)."""
    return {
        (y, x): np.ascontiguousarray(image[:, y : y + tile, x : x + tile])
        for y in range(0, image.shape[1] - tile + 1, tile)
        for x in range(0, image.shape[2] - tile + 1, tile)
    }


GAIN = (0.55, 0.60)
"""Unit intensity of a patch's brightest green (CH2) and blue (CH3): its colours are stretched, its counts unknown."""


def read_patches(folder: Path) -> dict[str, Counts]:
    """Real SRH patches, uint16 counts ``(2, H, W)`` by file name.

    Parameters
    ----------
    folder
        PNG images, 8-bit RGB in the colours (CH3 - CH2, CH2, CH3), each stretched.

    Raises
    ------
    InputError
        When it holds none.
    """
    patches = {path.name: read_patch(path) for path in sorted(folder.glob("*.png"))}
    if not patches:
        raise InputError("no PNG images", "8-bit RGB images in the colours (CH3 - CH2, CH2, CH3)", folder)
    return patches


def read_patch(path: Path) -> Counts:
    """One real SRH patch, uint16 counts ``(2, H, W)``, from an image as :func:`read_patches` reads them.

    Raises
    ------
    InputError
        When the file is no image.
    """
    from PIL import Image

    try:
        colours = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    except OSError as error:
        raise InputError("no readable image", "an 8-bit RGB image in the colours (CH3 - CH2, CH2, CH3)", path) from error
    return unit_to_counts(np.stack([colours[..., 1] * GAIN[0], colours[..., 2] * GAIN[1]]))
