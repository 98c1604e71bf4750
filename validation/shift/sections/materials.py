"""Sections of an accuracy-shift report on what was evaluated: the images by their headers, the model by its card, the size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from srh_clinic.estimates import Undefined
from srh_clinic.validation.reporting.report import Column, Section, Table
from srh_clinic.validation.shift.records import STRATA, Cohort
from srh_clinic.validation.statistics.clusters import standard_errors

NO_IMAGES = "the manifest brought predictions, so there are no images"

POWER = 2.8
"""Standard errors that a true change must have to be found in four studies of five at the 5 % level (1.96 + 0.84)."""

HALF_WIDTH = 0.05
"""Half width of an interval that the section on size plans for."""

TOLD = ("Training data", "Limits", "Training", "Networks", "Guards")
"""Chapters of a model card that the report repeats."""


def known_facts(cohort: Cohort, scans: Sequence[Mapping[str, Any]]) -> set[str]:
    """What manifest and headers say, of which an item of a checklist may need some: strata, images, devices, dates."""
    facts = {name for name in STRATA if any(getattr(case, name) for case in cohort.cases)}
    facts |= {"images"} if scans else set()
    facts |= {"devices"} if scans and all(scan["device"] for scan in scans) else set()
    return facts | ({"dates"} if scans and all(scan["acquired"] for scan in scans) else set())


def scan_facts(slide: Any) -> dict[str, Any]:
    """What a slide's headers say of its acquisition and nothing of its patient."""
    headers = slide.identity.attributes.get("headers", ())
    said = headers[0] if headers else {}
    names = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber")
    device = ", ".join(str(said.get(name)) for name in names if said.get(name))
    return {
        "device": device,
        "acquired": str(said.get("AcquisitionDateTime") or said.get("ContentDate") or "")[:8],
        "um_per_px": float(slide.um_per_px),
        "height": int(slide.shape[0]),
        "width": int(slide.shape[1]),
        "channel_order": slide.identity.channel_order or "not stated",
        "notes": list(slide.notes),
    }


def acquisition(scans: Sequence[Mapping[str, Any]]) -> Section:
    """Devices, dates, pixel sizes and sizes, as the headers say."""
    title = "Images and their acquisition"
    if not scans:
        return Section("acquisition", title, missing=[NO_IMAGES])
    devices = Counter(scan["device"] or "not stated" for scan in scans)
    dates = sorted(scan["acquired"] for scan in scans if scan["acquired"])
    when = f"Acquired from {dates[0]} to {dates[-1]} by the headers of {len(dates)} of {len(scans)} images. " if dates else ""
    text = [
        f"{when}All were stored, with their truth, before the software saw them: for the index test this study is "
        "retrospective."
    ]
    pixels, edges = [scan["um_per_px"] for scan in scans], [max(scan["height"], scan["width"]) for scan in scans]
    text.append(
        f"Pixel size {min(pixels):g} to {max(pixels):g} um; longer edge {min(edges)} to {max(edges)} px; two channels, CH2 "
        "(2845 cm-1) and CH3 (2930 cm-1), measured by stimulated Raman scattering."
    )
    tables = [_counted("Devices by the headers", "Device, software, serial number", devices)]
    tables.append(_counted("Channels and why", "Which is CH2 and CH3", Counter(scan["channel_order"] for scan in scans)))
    if noted := Counter(note for scan in scans for note in scan["notes"]):
        tables.append(_counted("What reading them said", "Note", noted))
    return Section("acquisition", title, text, tables)


def preprocessing(settings: Mapping[str, Any]) -> Section:
    """What is done to an image before a network sees it, and what becomes of identities."""
    title = "Preprocessing"
    if not settings:
        return Section("preprocessing", title, missing=[NO_IMAGES])
    tile, overlap = settings.get("tile", "?"), settings.get("overlap", "?")
    text = [
        f"Counts are resampled to {settings.get('um_per_px', '?')} um where the pixel size differs and cut into tiles of "
        f"{tile} px that overlap by {overlap} px; tiles without tissue are left alone. The classifier sees each patch in the "
        "colours that it was trained with. Nothing is chosen or corrected by hand.",
        "An image is refused when its channels, its pixel size or its intensity scale cannot be known; what was assumed is "
        "noted in the case's result.",
        "Patient, specimen and UIDs of the files are left out of the cases' results and of this report; the labels shown are "
        "those of the manifest.",
    ]
    rows = [{"what": name, "value": str(value)} for name, value in settings.items()]
    return Section("preprocessing", title, text, [Table("Settings", (Column("what", ""), Column("value", "")), rows)])


def model(card: str, metadata: Mapping[str, Any]) -> Section:
    """What the model card says: networks, training, data, limits; and what the output means."""
    title = "The model, by its card"
    if not card:
        return Section("model", title, missing=[NO_IMAGES])
    text = [
        "Output: a probability for tumor, normal and non-diagnostic of each patch. A slide is non-diagnostic when fewer than "
        "a tenth of its patches, or fewer than three, are diagnostic, else the class likelier over those. The categories "
        "and cut-offs were fixed before this evaluation; a policy's thresholds are chosen on other patients than it is tried "
        "on. Poor input asks for more steps, is capped beyond what was trained, is flagged, and may end as non-diagnostic.",
    ]
    tables = []
    for name, content in _chapters(card).items():
        if name in TOLD:
            sentences = " ".join(line for line in content.splitlines() if line and not line.startswith("|"))
            text += [f"{name}: {sentences}"] if sentences else []
            rows = [_cells(line) for line in content.splitlines() if line.startswith("|")]
            body = [dict(zip("abcdefgh", row, strict=False)) for row in rows[1:] if not set("".join(row)) <= set("-: ")]
            if body:
                columns = tuple(Column(key, head) for key, head in zip("abcdefgh", rows[0], strict=False))
                tables.append(Table(f"{name} (model card)", columns, body))
    stated = {key: metadata[key] for key in ("version", "license", "changelog") if key in metadata}
    said = [{"what": key, "value": str(value)} for key, value in stated.items()]
    return Section("model", title, text, [Table("Bundle", (Column("what", ""), Column("value", "")), said), *tables])


def size(cohort: Cohort) -> Section:
    """What a cohort of this size can find, and how many patients an interval of a given width would need."""
    title = "Size of the study"
    errors = standard_errors(cohort.correct("after").astype(float), cohort.correct("before").astype(float), cohort.patients)
    if isinstance(errors, Undefined):
        return Section("size", title, missing=[errors.why])
    patients, error = len(set(cohort.patients.tolist())), float(errors.clustered)
    needed = int(np.ceil(patients * (1.96 * error / HALF_WIDTH) ** 2))
    text = [
        f"{patients} patients give the change in accuracy to within {1.96 * error:.1%} to either side (standard error "
        f"{error:.3f}); a true change of {POWER * error:.1%} would be found in four studies of five. For an interval of "
        f"{HALF_WIDTH:.0%} to either side about {needed} patients like these are needed. This was computed from the data "
        "after the fact; which size was intended, and why, is for the author to add."
    ]
    return Section("size", title, text)


def development(cohort: Cohort, scans: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any], card: str) -> Section:
    """This cohort beside the data of the development, as far as the bundle tells."""
    title = "Beside the development data"
    if not scans:
        return Section("development", title, missing=[NO_IMAGES])
    steps = [case.steps_predicted for case in cohort.cases if case.steps_predicted is not None]
    trained = metadata.get("trust", {}).get("steps")
    pixels = sorted({round(scan["um_per_px"], 4) for scan in scans})
    data = _chapters(card).get("Training data", "not stated in the model card").strip()
    rows = [
        {"what": "Images", "here": f"{len(scans)} of this manifest", "there": data},
        {"what": "Pixel size, um", "here": ", ".join(map(str, pixels[:5])), "there": str(metadata.get("um_per_px"))},
        {
            "what": "Steps asked for",
            "here": f"median {np.median(steps):.0f}, at most {max(steps):.0f} (median of a slide)" if steps else "none",
            "there": f"{trained[0]} to {trained[1]} where the guards were calibrated" if trained else "not stated",
        },
        {
            "what": "Truth",
            "here": ", ".join(f"{count} {name}" for name, count in sorted(Counter(c.truth for c in cohort.cases).items())),
            "there": "by the model card",
        },
    ]
    columns = (Column("what", ""), Column("here", "This cohort"), Column("there", "Development"))
    return Section("development", title, tables=[Table("This cohort and the development data", columns, rows)])


def _counted(title: str, what: str, counts: Counter[str]) -> Table:
    rows = [{"what": name, "images": count} for name, count in counts.most_common()]
    return Table(title, (Column("what", what), Column("images", "Images", "d")), rows)


def _chapters(card: str) -> dict[str, str]:
    """A model card's chapters by their titles."""
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    return dict(zip((one.strip() for one in parts[1::2]), parts[2::2], strict=True))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
