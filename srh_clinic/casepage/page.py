"""The case page: everything ``diagnose`` found, in one HTML file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from srh_clinic.case.pictures import STEPS_SHOWN, STRENGTH_SHOWN, CaseMaps
from srh_clinic.case.result import CaseResult
from srh_clinic.case.scrutiny import WORDS
from srh_clinic.casepage.pyramid import Pyramid, data_uri, make_pyramids
from srh_clinic.diagnosis import CLASS_WORDS
from srh_clinic.display import (
    EOSIN,
    HE_STRENGTH,
    HEMATOXYLIN,
    RGB,
    ColourWindow,
    class_colours,
    colour_window,
    srh_colours,
)
from srh_clinic.escaping import page_text
from srh_clinic.files import whole_file
from srh_clinic.intensity import Counts
from srh_clinic.resampling import block_mean, blocks
from srh_clinic.slide import Slide
from srh_clinic.tiling import MosaicSlide

BUDGET = 38_000_000
"""Bytes that the pictures may take; the page is to stay below 40 MB."""

MOST_PIXELS = 40_000_000
"""Pixels of the largest picture: a larger slide is shown smaller, so that memory and page stay bounded."""

BLOCK = 1024
"""Edge in slide pixels of the blocks that a slide is read in."""

DEVIATION_SHOWN = 0.05
"""Upper end of the scale of the deviation over seeds, unit intensity."""

DENSITIES = 33
"""Points of the curve by which the page turns optical densities of virtual H&E into light."""

DIFFERENCE_SATURATED = 0.5
"""Percentage of the pixels at which the difference's scale ends, at either side."""


def write_case_page(result: CaseResult, path: str | Path, name: str) -> Path:
    """Write the case page into ``path``, whole or not at all.

    Parameters
    ----------
    result
        Of :class:`~srh_clinic.case.pipeline.RestoreThenClassify`, with its restored slide still readable.
    name
        What the case is called at the head of the page.

    Raises
    ------
    InputError
        When the slide cannot be read.
    OSError
        When the page cannot be written.
    """
    path = Path(path)
    content = case_page(result, name)
    with whole_file(path) as draft:
        draft.write_text(content, encoding="utf-8")
    return path


def case_page(result: CaseResult, name: str) -> str:
    """The page as text; see :func:`write_case_page`. Whatever comes from the case is shown as text."""
    pyramids, factor, quality = _pictures(result)
    seen, origin = result.restored.slide, result.origin
    scale = result.slide["um_per_px"] / seen.um_per_px / factor
    said = result.to_dict()
    ground = pyramids["after"]
    return page_text(
        [Path(__file__).parent],
        "page.html",
        name=name,
        identity={"Patient": origin.patient_id, "Specimen": origin.specimen_id},
        result=said,
        classes=CLASS_WORDS,
        uncertain=[_place(nucleus, scale) for nucleus in (said["certainty"] or {"nuclei": []})["nuclei"]],
        flagged=[_place(region, scale, words=WORDS[region["kind"]]) for region in said["trust"]["regions"]],
        rescan=[_place(region, scale) for region in said["rescan"]],
        style=_vendored("style.css"),
        openseadragon=re.sub(r"//# sourceMappingURL=\S+\s*$", "", _vendored("vendor/openseadragon.min.js")),
        viewer=_vendored("viewer.js"),
        layers={key: _as_json(pyramid) for key, pyramid in pyramids.items()},
        overlays=_overlays(result.maps),
        frame={
            "width": ground.width,
            "height": ground.height,
            "um_per_px": seen.um_per_px * factor,
            "quality": quality,
        },
        he=_he_filter(),
        keys={"steps": STEPS_SHOWN, "strength": STRENGTH_SHOWN, "deviation": DEVIATION_SHOWN},
    )


def _pictures(result: CaseResult) -> tuple[dict[str, Pyramid], int, int]:
    """The layers that are looked at in detail, the slide pixels to each of theirs, and their quality."""
    restored = result.restored.slide
    window = colour_window(result.maps.before, result.maps.after)
    factor = 1
    while restored.shape[0] * restored.shape[1] / factor**2 > MOST_PIXELS:
        factor *= 2
    while True:
        before, after = (_picture(slide, factor, window) for slide in (restored.source, restored))
        pictures = {"before": before, "after": after, "difference": _difference(result.maps, restored, 2 * factor)}
        if made := make_pyramids(pictures, BUDGET):
            return made[0], factor, made[1]
        factor *= 2


def _he_filter() -> dict[str, list[Any]]:
    """:func:`~srh_clinic.display.virtual_he` of pixels in the SRH colours, as an SVG filter takes it: a matrix and a curve."""
    densities = np.stack([HE_STRENGTH[0] * HEMATOXYLIN, HE_STRENGTH[1] * EOSIN, np.zeros(3)], axis=1)
    most = float(densities.sum(axis=1).max())
    matrix = [[*(round(float(value), 5) for value in row / most), 0, 0] for row in densities]
    return {"matrix": matrix, "table": [round(float(np.exp(-most * at)), 5) for at in np.linspace(0, 1, DENSITIES)]}


def _picture(slide: Slide, factor: int, window: ColourWindow) -> RGB:
    """A slide in the usual SRH colours, each pixel the mean of ``factor x factor``."""
    height, width = (-(-edge // factor) for edge in slide.shape)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for region in blocks(slide.shape, BLOCK):
        y, x = region[:2]
        small = srh_colours(_smaller(slide, region, factor), window)
        picture[y // factor : y // factor + small.shape[0], x // factor : x // factor + small.shape[1]] = small
    return picture


def _difference(maps: CaseMaps, restored: MosaicSlide, factor: int) -> RGB:
    """What restoration changed, mean of both channels: orange where it made the image brighter, violet where darker."""
    change = (maps.after.astype(np.float32) - maps.before).mean(axis=0)
    low, high = np.percentile(change, [DIFFERENCE_SATURATED, 100 - DIFFERENCE_SATURATED])
    limit = max(abs(low), abs(high), 1.0)
    height, width = (-(-edge // factor) for edge in restored.shape)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    colours = (colormaps["PuOr_r"](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
    for region in blocks(restored.shape, BLOCK):
        y, x = region[:2]
        here = (_smaller(restored, region, factor).astype(np.float32) - _smaller(restored.source, region, factor)).mean(axis=0)
        small = colours[np.clip(np.rint(127.5 + 127.5 * here / limit), 0, 255).astype(np.uint8)]
        picture[y // factor : y // factor + small.shape[0], x // factor : x // factor + small.shape[1]] = small
    return picture


def _smaller(slide: Slide, region: tuple[int, int, int, int], factor: int) -> Counts:
    """A region of a slide whose pixels are the means of ``factor x factor``."""
    return np.rint(block_mean(slide.read(*region), factor)).astype(np.uint16)


def _overlays(maps: CaseMaps) -> dict[str, str]:
    """The maps as small transparent pictures, which the page lays over the tissue."""

    def painted(values: NDArray[np.float32], colours: RGB) -> str:
        outside = np.isnan(values if values.ndim == 2 else values[..., 0])
        return data_uri(Image.fromarray(np.dstack([colours, np.where(outside, 0, 255).astype(np.uint8)])))

    steps, trust = (part.painted(maps.shape, maps.factor) for part in (maps.steps, maps.trust))
    before, after = (part.painted(maps.shape, maps.factor) for part in (maps.classes_before, maps.classes_after))
    found = {
        "steps": painted(steps, _coloured(steps / STEPS_SHOWN, "plasma")),
        "trust": painted(trust, _coloured(trust / STRENGTH_SHOWN, "PuOr_r")),
        "classes_before": painted(before, class_colours(np.nan_to_num(before))),
        "classes_after": painted(after, class_colours(np.nan_to_num(after))),
    }
    if maps.deviation is not None:
        deviation = maps.deviation.painted(maps.shape, maps.factor)
        found["certainty"] = painted(deviation, _coloured(deviation / DEVIATION_SHOWN, "viridis"))
    return found


def _coloured(values: NDArray[np.floating], name: str) -> RGB:
    return (colormaps[name](np.nan_to_num(values))[..., :3] * 255).astype(np.uint8)


def _place(region: Mapping[str, Any], scale: float, words: str = "") -> dict[str, Any]:
    """A region with its rectangle in pixels of the page's pictures."""
    box = {f"box_{edge}": region[edge] * scale for edge in ("y", "x", "height", "width")}
    return {**region, **box, "words": words}


def _as_json(pyramid: Pyramid) -> dict[str, Any]:
    return {"height": pyramid.height, "width": pyramid.width, "levels": pyramid.levels, "tiles": dict(pyramid.tiles)}


def _vendored(name: str) -> str:
    return (files("srh_clinic.casepage") / name).read_text(encoding="utf-8")
