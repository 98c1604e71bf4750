"""What a TIFF states of its images, by OME, ImageJ, tags and descriptions: channels, pixel size, depths, meaning of values."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import ChannelStatement, channel_in_words, channel_of_words
from srh_clinic.integration.depth import PixelStatements
from srh_clinic.integration.units import StatedLength, agree, is_credible, number, unit_um

_OME = re.compile(r"<(?:\w+:)?OME[\s>]")
_OME_WITHIN = 2000  # characters: an XML declaration and comments may stand before the root
_UNIT_OF_TAG = {2: "inch", 3: "cm"}
_LISTS = {"channel", "channels", "channelname", "channelnames", "channel_names", "chnames", "labels", "names"}
_OF_CHANNEL = re.compile(r"raman|shift|wave.?number|channel", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\n;|]|,(?!\d{3}(?!\d))|\s/\s|\sand\s")
_TEXT = 20_000  # characters of a text that may name channels
_MICROMANAGER = 51123
_WORDS_OF_A_NAME = 3  # SRS CH3 2930 cm-1
_ALPHA = {1, 2}  # ExtraSamples that are opacity

_LARGEST = 65535
_RESOLUTIONS, _RESOLUTION_UNIT = (282, 283), 296  # by number: tifffile goes through all tags for a name
_NO_DATA, _GDAL = 42113, 42112
_CURVES = {301: "a TransferFunction", 291: "a GrayResponseCurve"}
_IMAGEJ_STRAIGHT, _IMAGEJ_NONE = 0, 20


def ome_header(tiff: TiffFile, path: Path) -> ET.Element | None:
    """The OME header of a file, ``None`` when it has none; one that is cut or broken is not taken for none."""
    said = tiff.pages.first.description if len(tiff.pages) else ""
    if not (tiff.is_ome or _OME.search(said[:_OME_WITHIN])):
        return None
    try:
        return ET.fromstring(said.strip("\0 \n"))  # noqa: S314  expat bounds entity expansion since 2.4.1
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"a damaged OME header ({error})", "a header of whole XML, or none", path) from error


def ome_pixels(ome: ET.Element | None, tiff: TiffFile, at: int, path: Path) -> ET.Element | None:
    """What an OME header says of a series, ``None`` without such a header; refused when it does not say it of this one."""
    if ome is None:
        return None
    described, series = ome.findall("{*}Image/{*}Pixels"), tiff.series[at]
    lengths = dict(zip(series.axes, series.shape, strict=True))
    size = [str(lengths.get("X")), str(lengths.get("Y"))]
    if len(described) != len(tiff.series) or [described[at].get(f"Size{axis}") for axis in "XY"] != size:
        raise InputError(
            f"an OME header that does not describe image {at + 1} of {len(tiff.series)}",
            "a header that describes every image",
            path,
        )
    stated = described[at].get("Type", "")
    if stated and stated != str(series.dtype):
        raise InputError(f"an OME header of {stated} pixels over a TIFF of {series.dtype}", "one that describes it", path)
    return described[at]


def names_other_files(ome: ET.Element | None, path: Path) -> bool:
    """Whether an OME header has pixels in other files; none is opened because a file names it."""
    if ome is None:
        return False
    if ome.find("{*}BinaryOnly") is not None:
        return True
    own = ome.get("UUID")
    named = ome.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID")
    return any(item.get("FileName") not in (None, path.name) and (item.text or "").strip() != own for item in named)


# channels


def channel_statements(
    tiff: TiffFile,
    series: TiffPageSeries,
    pixels: ET.Element | None,
    n_channels: int,
    pages_of: list[list[TiffPage]],
    path: Path,
) -> list[ChannelStatement]:
    """What the file says of each channel, wherever its format puts it.

    ``pages_of`` are the pages of each channel; where all channels lie in one, only what is said of the whole is looked at.
    """
    words: list[list[str]] = [[] for _ in range(n_channels)]
    wavelengths: list[float | None] = [None] * n_channels
    for names in (
        _ome_names(pixels, wavelengths, n_channels, path),
        _imagej_labels(tiff, series, n_channels, path),
        _listed(tiff.micromanager_metadata or {}, n_channels),
        *(_listed(said, n_channels) for said in _shaped(tiff, series)),
        _micromanager(pages_of, n_channels),
        _imagej_info(tiff, n_channels),
        _gdal_names(series, n_channels, path),
        *_of_pages(pages_of, n_channels),
    ):
        for channel, name in enumerate(names):
            words[channel] += [name] if name.strip() else []
    return [ChannelStatement(tuple(said), nm) for said, nm in zip(words, wavelengths, strict=True)]


def _ome_names(pixels: ET.Element | None, wavelengths: list[float | None], n_channels: int, path: Path) -> list[str]:
    items = [] if pixels is None else pixels.findall("{*}Channel")
    names = [" ".join(filter(None, (item.get("Name", ""), item.get("Fluor", "")))) for item in items]
    if len(items) != n_channels:
        if any(names):
            raise InputError(f"an OME header of {len(items)} channels for {n_channels}", "one that describes them", path)
        return []
    for channel, item in enumerate(items):
        stated = item.get("ExcitationWavelength")
        if stated:
            unit = unit_um(item.get("ExcitationWavelengthUnit", "nm"))
            value = number(stated, "ExcitationWavelength", path, "a number, with a decimal point")
            if unit is None:  # it stands, and is not understood
                names[channel] += f" {stated} {item.get('ExcitationWavelengthUnit')}"
            else:
                wavelengths[channel] = float(f"{value * unit * 1000:.9g}")
        elif item.get("EmissionWavelength"):
            names[channel] += f" emission {item.get('EmissionWavelength')}"
    return names


def _imagej_labels(tiff: TiffFile, series: TiffPageSeries, n_channels: int, path: Path) -> list[str]:
    labels = (tiff.imagej_metadata or {}).get("Labels") or []
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    n_planes = prod(map(int, series.shape)) // max(series.shape[series.axes.index("Y")], 1)
    n_planes //= max(series.shape[series.axes.index("X")], 1) * n_channels
    if not any(labels) or len(labels) != n_channels * n_planes:
        return []
    names = []
    for channel in range(n_channels):
        of_channel = labels[channel::n_channels]
        named = {channel_in_words(label) for label in of_channel}
        if len(named) > 1:
            said = " and ".join(map(repr, of_channel[:3]))
            raise InputError(f"slice labels of one channel that name another in each plane ({said})", "--channels", path)
        names.append(of_channel[0])
    return names


def _shaped(tiff: TiffFile, series: TiffPageSeries) -> Iterable[Mapping[str, Any]]:
    """The JSON that tifffile writes into descriptions: that of this series."""
    metadata = tiff.shaped_metadata or ()
    try:
        at = list(tiff.series).index(series)
    except ValueError:
        return ()
    return metadata[at : at + 1] if len(metadata) == len(tiff.series) else metadata[:1]


def _listed(said: Any, n_channels: int) -> list[str]:
    """Names of channels within a mapping, at any of the keys that writers use, one level down too."""
    if not isinstance(said, Mapping):
        return []
    for key, value in said.items():
        if str(key).lower() in _LISTS:
            if isinstance(value, Mapping):
                by_place = _by_place(value) if len(value) == n_channels else None
                value = by_place or next((names for name, names in value.items() if str(name).lower() == "name"), None)
            if isinstance(value, list) and len(value) == n_channels:
                named = [item.get("Name", item.get("name", "")) if isinstance(item, Mapping) else item for item in value]
                return [str(name) for name in named]
    if n_channels == 1 and (of_one := _named_in(said)):
        return [of_one]
    for value in said.values():
        if isinstance(value, Mapping) and (names := _listed(value, n_channels)):
            return names
        if isinstance(value, list) and len(value) == n_channels and _names_both(value):  # raman_shifts, wavenumbers and so on
            return [str(item) for item in value]
    return []


def _named_in(said: Mapping[str, Any]) -> str:
    """What of a mapping about one channel names it: words at any key, numbers where the key speaks of it."""
    words = [
        str(value)
        for key, value in said.items()
        if isinstance(value, str) or (isinstance(value, int | float) and _OF_CHANNEL.search(str(key)))
    ]
    return " ".join(word for word in words if channel_in_words(word) is not None)


def _names_both(items: Iterable[Any]) -> bool:
    return {channel_in_words(str(item)) for item in items if isinstance(item, str | int | float)} >= {0, 1}


def _by_place(said: Mapping[str, Any]) -> list[Any] | None:
    """Values whose keys are numbers, or end in one, in the order of these, or keys that name both channels, by their values.

    ``None`` for others.
    """
    if _names_both(said) and all(type(place) is int for place in said.values()) and len(set(said.values())) == len(said):
        return sorted(said, key=lambda name: int(said[name]))
    places = {key: re.fullmatch(r"\D*(\d+)", str(key)) for key in said}
    if not all(places.values()):
        return None
    return [said[key] for key in sorted(said, key=lambda key: int(places[key][1]))]  # type: ignore[index]


def _micromanager(pages_of: list[list[TiffPage]], n_channels: int) -> list[str]:
    """What Micro-Manager says of each page: its channel, or the names of all."""
    said = [[_as_json(page.tags.get(_MICROMANAGER)) for page in pages] for pages in pages_of]
    if len(said) == n_channels:
        names = [next((str(one["Channel"]) for one in of_channel if one.get("Channel")), "") for of_channel in said]
        if any(names):
            return names
    return next((names for of_channel in said for one in of_channel if (names := _listed(one, n_channels))), [])


def _as_json(tag: Any) -> Mapping[str, Any]:
    value = None if tag is None else tag.value
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _imagej_info(tiff: TiffFile, n_channels: int) -> list[str]:
    """Names of channels in ImageJ's Info, free text of many lines, of which two are of the vocabulary."""
    info = (tiff.imagej_metadata or {}).get("Info")
    return _in_text(info[:_TEXT], n_channels) if isinstance(info, str) else []


def _in_text(text: str, n_channels: int) -> list[str]:
    """Names of both channels within one text, in its order; the text itself for each where it names both in another way."""
    if n_channels == 1:
        return [text] if channel_in_words(text) is not None else []
    parts = _SEPARATORS.split(text)
    named = [(part.strip(), channel) for part in parts if (channel := channel_in_words(part)) is not None]
    if len(named) == n_channels == 2 and len({channel for _, channel in named}) == 2:
        return [part for part, _ in named]
    both = channel_of_words(parts)
    return [text] * n_channels if n_channels == 2 and both is not None and both < 0 else []


def _gdal(series: TiffPageSeries, path: Path) -> list[tuple[str, int, str]]:
    """Role, sample and text of the items in which GDAL says what it knows of bands."""
    tag = series.keyframe.aspage().tags.get(_GDAL)
    if tag is None:
        return []
    try:
        items = ET.fromstring(str(tag.value).rstrip("\0")).iter("Item")  # noqa: S314  as above
        return [_gdal_item(item.get("role", ""), int(item.get("sample") or 0), item.text or "") for item in items]
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"damaged metadata of GDAL ({error})", "whole XML, or none", path) from error


def _gdal_item(role: str, sample: int, text: str) -> tuple[str, int, str]:
    if role in ("scale", "offset"):
        float(text)
    return role, sample, text


def _gdal_names(series: TiffPageSeries, n_channels: int, path: Path) -> list[str]:
    names = {sample: text for role, sample, text in _gdal(series, path) if role == "description"}
    return [names.get(channel, "") for channel in range(n_channels)] if names else []


def _of_pages(pages_of: list[list[TiffPage]], n_channels: int) -> Iterable[list[str]]:
    """Page names, and the descriptions of pages that are no format's own; or a list of channels in the first description."""
    for read in (_page_name, _description):
        said = [[read(page) for page in pages] for pages in pages_of]
        texts = [text for of_channel in said for text in of_channel]
        if not any(texts):
            continue
        first = next(text for text in texts if text)
        of_all = _in_text(first, n_channels) if len(set(filter(None, texts))) == 1 else []
        if of_all:
            yield of_all
        elif read is _description and texts[1:] == [""] * (len(texts) - 1) and _is_of_the_whole(first):
            yield [first] * n_channels
        elif len(pages_of) == n_channels and len(set(texts)) > 1 and read is _description:
            # a description may be anything; it speaks of channels when it names one
            names = [" ".join(dict.fromkeys(of_channel)) for of_channel in said]
            if any(channel_in_words(name) is not None for name in names):
                yield names
        elif len(pages_of) == n_channels and len(set(texts)) > 1:
            yield [of_channel[0] for of_channel in said]


def _is_of_the_whole(text: str) -> bool:
    """Whether a description at the first page alone that names one channel says more than that page's name."""
    return channel_in_words(text) is not None and len(re.findall(r"[^\W\d_]{2,}", text)) > _WORDS_OF_A_NAME


def _page_name(page: TiffPage) -> str:
    tag = page.tags.get(285)
    return "" if tag is None else str(tag.value).strip("\0 ")


def _description(page: TiffPage) -> str:
    text = page.description
    if page.is_ome or page.is_imagej or page.is_shaped or _OME.search(text[:_OME_WITHIN]):
        return ""
    if text.lstrip().startswith("{"):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return text[:1000]
        named = {str(key).lower(): value for key, value in said.items()} if isinstance(said, dict) else {}
        for key in ("name", "channel", "label", "channel_name", "channelname", "description"):
            if isinstance(named.get(key), str):
                return str(named[key])
        for key in _LISTS:
            if isinstance(named.get(key), list):
                return "\n".join(map(str, named[key]))
        return " ".join(str(value) for value in named.values() if isinstance(value, str))
    return text[:1000]


# stored values


def pixel_statements(
    tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, pages: list[TiffPage], path: Path
) -> PixelStatements:
    """What the file says of its stored values, the same on each of its pages."""
    said = {_of_page(page) for page in pages}
    dark_is_bright, table, orientation, padding = next(iter(said))
    if len(turns := sorted({of_page[2] for of_page in said})) > 1:
        raise InputError(f"pages of Orientation {' and '.join(map(str, turns))}", "the same on each", path)
    if len({of_page[3] for of_page in said}) > 1:
        raise InputError("pages that state different values for no data (GDAL_NODATA)", "the same on each", path)
    if len(said) > 1:
        raise InputError("pages that state differently what their values mean", "the same on each", path)
    _check_imagej(tiff, series, path)
    allocated = 8 * np.dtype(series.dtype).itemsize
    calibration: list[tuple[float, float]] = []
    imagej = tiff.imagej_metadata or {}
    function = int(imagej.get("cf", _IMAGEJ_NONE))
    if function == _IMAGEJ_STRAIGHT:
        calibration.append((float(imagej.get("c0", 0)), float(imagej.get("c1", 1))))
    elif function != _IMAGEJ_NONE:
        table = f"ImageJ's calibration function {function}"
    scales = {sample: float(text) for role, sample, text in _gdal(series, path) if role == "scale"}
    offsets = {sample: float(text) for role, sample, text in _gdal(series, path) if role == "offset"}
    calibration += [(offsets.get(sample, 0.0), scales.get(sample, 1.0)) for sample in sorted(scales | offsets)]
    return PixelStatements(
        bits=_stated_bits(series, pixels, path),
        allocated=allocated,
        calibration=tuple(calibration),
        table=table,
        dark_is_bright=dark_is_bright,
        padding=padding,
        orientation=orientation,
    )


def _check_imagej(tiff: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Refuse a file that holds another number of images than ImageJ's header says: it is cut, or changed since."""
    says = tiff.imagej_metadata or {}
    lengths = dict(zip(series.axes, map(int, series.shape), strict=True))
    there = prod(n for axis, n in lengths.items() if axis not in "YX")
    for name, n in (("images", there), ("channels", lengths.get("C", there if there == lengths.get("S") else 0))):
        stated = says.get(name)
        if stated is not None and n and int(stated) != n:
            raise InputError(f"{n} {name} where ImageJ's header says {stated}", "as many as it says", path)


def _of_page(page: TiffPage) -> tuple[str, str, int, tuple[int, int] | None]:
    dark_is_bright, table = "", ""
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        dark_is_bright = "MINISWHITE"
    elif page.photometric == PHOTOMETRIC.PALETTE:
        dark_is_bright, table = _palette(page)
    elif page.photometric != PHOTOMETRIC.MINISBLACK:
        table = f"the photometric interpretation {getattr(page.photometric, 'name', page.photometric)}"
    if int(page.fillorder) != 1:
        table = f"bits in reverse (FillOrder {int(page.fillorder)})"
    for code, name in _CURVES.items():
        tag = page.tags.get(code)
        if tag is not None and not _is_straight(np.asarray(tag.value)):
            table = name
    tag = page.tags.get(274)
    orientation = 1 if tag is None else int(tag.value)
    no_data = page.tags.get(_NO_DATA)
    padding = None
    if no_data is not None:
        padding = _no_data(str(no_data.value))
    return dark_is_bright, table, orientation, padding


def _no_data(said: str) -> tuple[int, int] | None:
    """The stored value that is no image; ``None`` for one that no pixel has: a fraction, less than nothing, NaN, a word."""
    try:
        value = float(said.strip("\0 "))
    except ValueError:
        return None
    return (int(value), int(value)) if 0 <= value <= _LARGEST and value.is_integer() else None


def _palette(page: TiffPage) -> tuple[str, str]:
    """Whether a colour map inverts, or is another than grey from dark to bright."""
    colours = np.asarray(page.colormap)
    grey = colours.ndim == 2 and (colours == colours[0]).all()
    if grey and _is_straight(colours[0]):
        return "", ""
    if grey and _is_straight(colours[0][::-1]):
        return "an inverted palette", ""
    return "", "a colour map (palette)"


def _is_straight(values: Any) -> bool:
    """Whether a curve rises in a straight line, within the rounding of its steps."""
    values = np.asarray(values, dtype=np.float64).ravel()
    if len(values) < 2 or not values[-1] > values[0]:
        return False
    line = np.linspace(values[0], values[-1], len(values))
    return bool(np.abs(values - line).max() <= 0.005 * (values[-1] - values[0]) + 1)


def _stated_bits(series: TiffPageSeries, pixels: ET.Element | None, path: Path) -> int | None:
    """Significant bits: 8 for uint8, what OME or BitsPerSample say for uint16, ``None`` when neither does."""
    if series.dtype == np.uint8:
        return 8
    if pixels is not None and pixels.get("SignificantBits"):
        stated = number(pixels.get("SignificantBits"), "SignificantBits", path, "a whole number")
        if not stated.is_integer():
            raise InputError(f"SignificantBits {stated:g}", "a whole number", path)
        return int(stated)
    bits = int(series.keyframe.bitspersample)
    return bits if bits < 16 else None


def has_opacity(page: TiffPage) -> bool:
    """Whether one of a page's samples is its opacity, no channel."""
    return bool(_ALPHA & {int(kind) for kind in page.extrasamples})


# lengths


def stated_pixel_sizes(
    tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, pages: Iterable[TiffPage], path: Path
) -> tuple[list[StatedLength], list[InputError]]:
    """Every credible statement of the pixel edge, and why others are none.

    ``pages`` are those that are read: each may state a resolution.
    """
    stated: list[StatedLength] = []
    faults: list[InputError] = []
    beyond: list[InputError] = []
    of_pages = ((f"resolution tags of page {page.index + 1}", partial(_of_page_tags, page)) for page in pages)
    first = ("OME", _of_ome), ("ImageJ", _of_imagej), ("JSON", _of_json), ("resolution tags", _of_tags)
    ways: Iterable[tuple[str, Callable[..., tuple[float, float] | None]]] = (*first, *of_pages)
    for where, read in ways:
        try:
            edges = read(tiff, series, pixels, path)
        except InputError as error:
            faults.append(error)
            continue
        if edges is None or not all(map(is_credible, edges)):
            if edges is not None and where in ("OME", "JSON"):  # resolution tags often hold a default
                beyond.append(InputError(f"pixels of {edges[0]:.6g} x {edges[1]:.6g} um ({where})", "--um-per-px", path))
            continue
        across, down = edges
        if not agree(across, down):
            faults.append(InputError(f"pixels of {across:.6g} x {down:.6g} um ({where})", "--um-per-px", path))
            continue
        stated.append(StatedLength(float(f"{across:.9g}"), where))
    return stated, faults or ([] if stated else beyond)


def _of_ome(tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, path: Path) -> tuple[float, float] | None:
    if pixels is None or not pixels.get("PhysicalSizeX"):
        return None
    edges = []
    for axis in "XY":
        name = f"PhysicalSize{axis}" if pixels.get(f"PhysicalSize{axis}") else "PhysicalSizeX"
        unit = unit_um(pixels.get(f"{name}Unit", "µm"))
        value = number(pixels.get(name), name, path, "a decimal point, or --um-per-px")
        if unit is None:
            return None
        edges.append(value * unit)
    return edges[0], edges[1]


def _of_json(tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, path: Path) -> tuple[float, float] | None:
    for said in _shaped(tiff, series):
        if said.get("PhysicalSizeX"):
            edges = [said["PhysicalSizeX"], said.get("PhysicalSizeY") or said["PhysicalSizeX"]]
            units = [unit_um(str(said.get(f"PhysicalSize{axis}Unit", "µm"))) for axis in "XY"]
            values = [number(edge, "PhysicalSizeX", path, "a decimal point, or --um-per-px") for edge in edges]
            if units[0] is not None and units[1] is not None:
                return values[0] * units[0], values[1] * units[1]
    return None


def _of_imagej(tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, path: Path) -> tuple[float, float] | None:
    said = tiff.imagej_metadata or {}
    across, down = unit_um(str(said.get("unit", ""))), unit_um(str(said.get("yunit", said.get("unit", ""))))
    resolution = _resolution(series.keyframe.aspage())
    if across is None or down is None or resolution is None:
        return None
    return across / resolution[0], down / resolution[1]


def _of_tags(tiff: TiffFile, series: TiffPageSeries, pixels: ET.Element | None, path: Path) -> tuple[float, float] | None:
    return _of_page_tags(series.keyframe.aspage())


def _of_page_tags(page: TiffPage, *_: object) -> tuple[float, float] | None:
    resolution = _resolution(page)
    if resolution is None:
        return None
    tag = page.tags.get(_RESOLUTION_UNIT)
    unit = 2 if tag is None else int(tag.value)  # TIFF 6.0: the inch
    if unit not in _UNIT_OF_TAG:
        return None
    length = unit_um(_UNIT_OF_TAG[unit]) or 0.0
    return length / resolution[0], length / resolution[1]


def _resolution(page: TiffPage) -> tuple[float, float] | None:
    """Pixels per unit across and down, ``None`` when not stated."""
    both = []
    for code in _RESOLUTIONS:
        tag = page.tags.get(code)
        if tag is None:
            return None
        numerator, denominator = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
        if not (numerator and denominator):
            return None
        both.append(numerator / denominator)
    return both[0], both[1]


STEP_TOLERANCE = 0.05
"""Relative difference of the mean of measured depths and a stated step up to which both agree: a stage has its play."""


def depths_um(tiff: TiffFile, pixels: ET.Element | None, n_planes: int, path: Path) -> list[float | None]:
    """Depths in micrometres: OME's PositionZ, otherwise equal steps of OME or ImageJ; ``None`` when neither is stated."""
    answer = "a number, with a decimal point"
    positions: dict[int, set[float]] = {}
    for plane in [] if pixels is None else pixels.findall("{*}Plane[@PositionZ]"):
        unit = unit_um(plane.get("PositionZUnit", "reference frame"))
        value = number(plane.get("PositionZ"), "PositionZ", path, answer)
        at = int(number(plane.get("TheZ", "0"), "TheZ", path, answer))
        positions.setdefault(at, set()).add(np.nan if unit is None else value * unit)
    depths = [depth for known in positions.values() for depth in known]
    step = _step_um(tiff, pixels, path)
    if depths and np.isfinite(depths).all() and (n_planes == 1 or len(set(depths)) > 1):  # all one: nobody followed the focus
        if sorted(positions) != list(range(n_planes)) or len(depths) != n_planes:
            raise InputError(f"{len(depths)} depths (PositionZ) for {n_planes} focal planes", "one for each plane", path)
        stated: list[float | None] = [positions[plane].pop() for plane in range(n_planes)]
        mean = abs((stated[-1] or 0.0) - (stated[0] or 0.0)) / max(n_planes - 1, 1)
        if step is not None and step > 0 and n_planes > 1 and not agree(mean, step, STEP_TOLERANCE):
            found = f"focal planes {mean:g} um apart by PositionZ and {step:g} um by PhysicalSizeZ"
            raise InputError(found, "one distance of both", path)
        return stated
    return [plane * step for plane in range(n_planes)] if step is not None and step > 0 else [None] * n_planes


def _step_um(tiff: TiffFile, pixels: ET.Element | None, path: Path) -> float | None:
    """Distance of focal planes as OME or ImageJ state it."""
    answer = "a number, with a decimal point"
    step: float | None = None
    if pixels is not None and pixels.get("PhysicalSizeZ"):
        unit = unit_um(pixels.get("PhysicalSizeZUnit", "µm"))
        step = None if unit is None else number(pixels.get("PhysicalSizeZ"), "PhysicalSizeZ", path, answer) * unit
    elif tiff.imagej_metadata and "spacing" in tiff.imagej_metadata:
        unit = unit_um(str(tiff.imagej_metadata.get("unit", "")))
        step = None if unit is None else number(tiff.imagej_metadata["spacing"], "spacing", path, answer) * unit
    return step
