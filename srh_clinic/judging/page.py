"""The folder that a judgement is written into: numbers as JSON, a page, and pictures side by side."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srh_clinic.case.provenance import made_now
from srh_clinic.display import RGB, colour_window, srh_colours
from srh_clinic.escaping import page_text
from srh_clinic.estimates import Finding, Interval
from srh_clinic.files import whole_files
from srh_clinic.judging.judge import Judgement, said
from srh_clinic.metrics.sharing import SHARING_BANDS

SCHEMA_VERSION = 1

JUDGEMENT, PAGE = "judgement.json", "judgement.html"

CROP, TIMES = 64, 4
"""Edge in px of what is shown enlarged, and how many times."""

SHOWN_TILES = 2


def save_judgement(judgement: Judgement, out: str | Path, name: str) -> Path:
    """Write ``judgement.json``, ``judgement.html`` and the pictures into the folder ``out``, all of them or none.

    Parameters
    ----------
    name
        What the case is called at the head of the page.

    Raises
    ------
    InputError
        When another run writes into ``out`` now.
    OSError
        When ``out`` cannot be written; then nothing of it is left behind.
    """
    out = Path(out)
    earlier = [path.name for path in out.glob("tile*_*.png")] if out.is_dir() else []
    with whole_files(out, JUDGEMENT, [JUDGEMENT, PAGE, *earlier]) as draft:
        pictures = _pictures(judgement)
        for file, picture in pictures.items():
            (draft / file).write_bytes(picture)
        (draft / PAGE).write_text(_page(judgement, name, pictures), encoding="utf-8")
        (draft / JUDGEMENT).write_text(json.dumps(judgement_record(judgement), indent=2) + "\n", encoding="utf-8")
    return out


def judgement_record(judgement: Judgement) -> dict[str, Any]:
    """What ``judgement.json`` holds; PSNR and ``behind_db`` in dB, places in pixels of the slide as scanned."""
    noise = judgement.noise
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": judgement.provenance["notice"],
        "case": None if judgement.origin is None else judgement.origin.model_dump(mode="json"),
        "verdict": judgement.verdict,
        "resolved": judgement.resolved,
        "restorers": [
            {
                "place": one.place,
                "name": one.name,
                "psnr_db": _finding(one.psnr),
                "psnr_difference_db": _finding(one.psnr_difference),
                "behind_db": None if one.behind is None else _finding(one.behind),
                "tissue_taken": [
                    {"cycles_per_px": list(band), **(_finding(part) or {})}
                    for band, part in zip(SHARING_BANDS, one.taken, strict=False)
                ],
                "patterns_of_period_2": {key: round(value, 6) for key, value in one.patterns._asdict().items()},
            }
            for one in judgement.restorers
        ],
        "noise": {
            "standard_deviation": list(judgement.noise_level),
            "constant": noise.constant.tolist(),
            "slope": noise.slope.tolist(),
            "whiteness": noise.whiteness.tolist(),
        },
        "tiles": [{"y": int(y), "x": int(x)} for y, x in judgement.corners],
        "notes": list(judgement.notes),
        "provenance": judgement.provenance,
        "made": made_now().model_dump(mode="json"),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    if isinstance(finding, Interval):
        return {"value": finding.value, "low": finding.low, "high": finding.high, "blocks": finding.n}
    return {"value": None, "why": finding.why}


def _pictures(judgement: Judgement) -> dict[str, bytes]:
    """By file name, PNG: the tiles of most contrast, and their middles enlarged, as each restorer shows them."""
    contrast = judgement.scanned.astype(np.float64).std(axis=(1, 2, 3))
    made, stems = {}, file_names([one.name for one in judgement.restorers])
    for number, tile in enumerate(np.argsort(-contrast, kind="stable")[:SHOWN_TILES].tolist(), start=1):
        best = judgement.restorers[0].restored[tile]
        window = colour_window(judgement.scanned[tile], best)
        for one in judgement.restorers:
            picture = srh_colours(one.restored[tile], window)
            made[f"tile{number}_{stems[one.name]}.png"] = _png(picture)
            made[f"tile{number}_{stems[one.name]}_enlarged.png"] = _png(_enlarged(picture))
    return made


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Restorers' names as parts of files', numbered where they would be the same."""
    stems: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")
        free = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        # A file system may take names for one that differ in capitals alone.
        stems[name] = next(stem for stem in free if stem.lower() not in {one.lower() for one in stems.values()})
    return stems


def _enlarged(picture: RGB) -> RGB:
    height, width = picture.shape[:2]
    y, x = (height - CROP) // 2, (width - CROP) // 2
    return picture[y : y + CROP, x : x + CROP].repeat(TIMES, axis=0).repeat(TIMES, axis=1)


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _page(judgement: Judgement, name: str, pictures: dict[str, bytes]) -> str:
    uris = {file: f"data:image/png;base64,{base64.b64encode(content).decode()}" for file, content in pictures.items()}
    shown, stems = min(SHOWN_TILES, len(judgement.scanned)), file_names([one.name for one in judgement.restorers])
    return page_text(
        [Path(__file__).parent],
        "page.html",
        name=name,
        notice=judgement.provenance["notice"],
        verdict=judgement.verdict,
        notes=judgement.notes,
        tiles=len(judgement.scanned),
        bands=[f"{low:g} to {high:g}" for low, high in SHARING_BANDS],
        rows=[
            {
                "place": one.place,
                "name": one.name,
                "numbers": [
                    said(one.psnr),
                    said(one.psnr_difference),
                    "–" if one.behind is None else said(one.behind, "+.2f"),
                    *([said(part, "+.3f") for part in one.taken] or ["–"] * len(SHARING_BANDS)),
                    f"{one.patterns.largest:.5f}",
                ],
            }
            for one in judgement.restorers
        ],
        strips=[
            [
                (
                    one.name,
                    uris[f"tile{number}_{stems[one.name]}.png"],
                    uris[f"tile{number}_{stems[one.name]}_enlarged.png"],
                )
                for one in judgement.restorers
            ]
            for number in range(1, shown + 1)
        ],
        noise=[f"{level:.4f}" for level in judgement.noise_level],
        style=STYLE,
    )


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem; color: #1a1a1a; }
body { background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.notice { background: #fff4d6; border-left: 4px solid #b07d00; padding: .4rem .8rem; }
.verdict { font-size: 1.1rem; }
.wide, .strip { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
thead th { vertical-align: bottom; white-space: normal; }
.strip { display: flex; gap: .6rem; padding-bottom: .6rem; } figure { margin: 0; }
figcaption { font-size: .85rem; padding-bottom: .2rem; }
img { display: block; width: 256px; height: 256px; margin-bottom: .3rem; image-rendering: pixelated; }
"""
