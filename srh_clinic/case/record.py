"""What ``result.json`` holds: one model that is written, read back, and makes the JSON Schema.

``schemas/result.schema.json`` in the package and the table of ``docs/result.md`` are made of it; after a change make them
anew, from the repository's root::

    python -m srh_clinic.case.record > result.schema.json && mv result.schema.json srh_clinic/schemas/
    python -m srh_clinic.case.record fields    # prints the table
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from srh_clinic.diagnosis import Diagnosis, Use
from srh_clinic.errors import InputError, first_fault
from srh_clinic.regions import Region

RESULT = "result.json"
"""What the file is called in a result's folder."""

ChangeKind = Literal["added_nucleus", "removed_nucleus", "one_channel", "brightness", "structure", "steps_left", "lattice"]
"""What may be wrong with a restored place."""

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Flag = Annotated[str, Field(pattern="^[a-z-]+: .")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _naming_the_restorer(settings: dict[str, Any]) -> dict[str, Any]:
    if "restorer" not in settings:
        raise ValueError("found no restorer among the settings; needed its name")
    return settings


Settings = Annotated[dict[str, Any], AfterValidator(_naming_the_restorer), Field(json_schema_extra={"required": ["restorer"]})]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClassProbabilities(_Part):
    """The probability of each class."""

    tumor: Probability
    normal: Probability
    nondiagnostic: Probability


class SaidOfSlide(_Part):
    """What the classifier says of a slide."""

    diagnosis: Diagnosis
    """The class."""
    probabilities: ClassProbabilities
    """Of a diagnostic slide: over its diagnostic patches, so that of nondiagnostic is 0."""
    support: Probability
    """Mean over all patches of the probability of the diagnosis; unlike the probabilities of a diagnostic slide it counts how
    non-diagnostic each patch is."""


class DecisionRecord(_Part):
    """What a selective policy lets stand."""

    use: Use
    """Whose word stands; nondiagnostic: neither's."""
    diagnosis: Diagnosis
    """The class that follows."""
    why: str = Field(min_length=1)
    """The reason in one clause."""
    policy: str = Field(min_length=1)
    """Which policy: the one that the bundle carries, or the file given with --policy."""


class TileCounts(_Part):
    """What became of a slide's tiles: total = restored + skipped."""

    total: int = Field(ge=1)
    """All tiles of the slide."""
    restored: Count
    """Those that were changed."""
    skipped: Count
    """Without tissue, or left alone because the calibrator found them clean enough."""
    capped: Count
    """Restored ones that were worse than the restorer was trained for."""


class StepSummary(_Part):
    """Reverse steps that the calibrator predicted, over the tiles that it saw, and how all restored tiles ended.

    The more steps, the poorer the image.
    """

    median: Count
    p90: Count
    """A tenth of the tiles need so many or more."""
    largest: Count
    stop_reasons: dict[str, Count]
    """Tiles by the reason why their restoration ended."""


class RescanRegion(Region):
    """A connected region of poor image quality, worth rescanning."""

    tiles: int = Field(ge=1)
    """Tiles in the region."""
    capped: Count
    """Those that were worse than the restorer was trained for."""
    steps: Count
    """Mean prediction over the region's tiles."""


class FlaggedRegion(Region):
    """Where the restored image differs from its input in a way that the input does not explain."""

    kind: ChangeKind
    """What seems to be wrong."""
    strength: float = Field(ge=1)
    """In thresholds: 1 is just flagged."""


class UncertainNucleus(Region):
    """A nucleus that only some restorations show."""

    persistence: Probability
    """Proportion of the restorations that show it."""


class TrustRecord(_Part):
    """Where the restored image differs from its input in a way that the input does not explain."""

    calibrated: bool
    """Whether the bundle states thresholds for its guards; without, nothing is examined."""
    miss_rate: float | None
    """Of tiles of the calibrated kinds in which something is wrong, at most this share goes unflagged."""
    examined: Count
    """Tiles that the restorer changed."""
    flagged: Count
    """Tiles in which a guard speaks."""
    withheld: Count
    """Flagged tiles that show the original (--conservative)."""
    outside_calibration: Count
    """Tiles that asked for other numbers of steps than any that the promise was calibrated on."""
    regions: tuple[FlaggedRegion, ...]
    """Where to look, the strongest first."""


class CertaintyRecord(_Part):
    """What restorations under further seeds agree on (--certainty)."""

    seeds: int = Field(ge=1)
    """How many there were beside the one that is shown."""
    deviation_median: float = Field(ge=0)
    """Standard deviation over the restorations, of squares of 32 pixels, unit intensity."""
    deviation_largest: float = Field(ge=0)
    nuclei: tuple[UncertainNucleus, ...]
    """Nuclei that half of the restorations or fewer show, the least certain first."""


class CaseOrigin(_Part):
    """Whose the result is: what the file says of itself, null where it says nothing or --no-identity left it out."""

    source: str | None
    """The file or folder, as it was named."""
    patient_id: str | None
    specimen_id: str | None
    study_uid: str | None
    """DICOM Study Instance UID."""
    series_uid: str | None
    """DICOM Series Instance UID."""
    sop_uids: tuple[str, ...]
    """DICOM SOP Instance UIDs of the files that the pixels come from."""
    channel_order: str | None
    """Which channel of the file was taken for CH2 and CH3, and why."""
    pixels_sha256: Sha256
    """Of the counts that were read: row by row, of each row CH2 and then CH3, as little-endian uint16. Stands also with
    --no-identity; whoever has the image can compute it."""


class ScannedSlide(_Part):
    """The slide as scanned."""

    height: int = Field(ge=1)
    """In pixels."""
    width: int = Field(ge=1)
    """In pixels."""
    um_per_px: float = Field(gt=0)
    """Edge of a pixel in micrometres."""
    channel_order: str
    """Which of the file's channels was taken for CH2 and which for CH3, and why; empty when there was nothing to choose."""


class Timing(_Part):
    """Seconds, and tiles a second."""

    total_s: Seconds
    restoring_s: Seconds
    examining_s: Seconds
    """The guards."""
    classifying_s: Seconds
    networks_s: Seconds
    """In forward passes."""
    outside_networks_s: Seconds
    tiles_per_s: float = Field(ge=0)
    """Of the tiles that this run restored."""


class Provenance(_Part):
    """Enough to compute the result again."""

    version: str
    """Of srh-clinic."""
    bundle: str
    """Name of the bundle."""
    weights_sha256: Sha256
    """Of all its weights."""
    seed: int
    """Of the restorer's noise."""
    settings: Settings
    """Everything that was chosen."""
    notice: str
    """What must be said of everything that this bundle computes."""


class Made(_Part):
    """When and with what the result was computed."""

    at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$")
    """ISO 8601, with the offset from UTC."""
    platform: str
    """Operating system and processor."""
    python: str
    """Its version."""
    libraries: dict[str, str]
    """Versions of the libraries that a number may depend on."""


class CaseRecord(SaidOfSlide):
    """What restore-then-classify found in one case. Research software, not a medical device.

    ``diagnosis``, ``probabilities`` and ``support`` are after restoration.
    """

    case: CaseOrigin
    """Whose the result is."""
    before: SaidOfSlide
    """The slide as scanned."""
    decision: DecisionRecord | None
    """What the policy lets stand: that of the bundle, or another (--policy); null when there was none, and then nothing is
    decided. diagnosis above is after restoration whatever the policy says."""
    tiles: TileCounts
    """What became of the slide's tiles."""
    steps: StepSummary
    """How poor the image was."""
    rescan: tuple[RescanRegion, ...]
    """Regions of poor image quality that are worth rescanning, largest first."""
    trust: TrustRecord
    """What the guards say of the restored image."""
    certainty: CertaintyRecord | None
    """What restorations under further seeds agree on (--certainty); null when there were none."""
    flags: tuple[Flag, ...]
    """Whatever a reader must know before trusting the result: a code, a colon, a sentence. Each stands in one of the next
    three lists, too."""
    notes: tuple[Flag, ...]
    """Those that say how the image was read and treated; nothing is wrong."""
    warnings: tuple[Flag, ...]
    """Those that say that the image, or what was computed of it, may not be what it seems."""
    doubts: tuple[Flag, ...]
    """Those that speak against the diagnosis; it is doubtful when there is one."""
    slide: ScannedSlide
    """Size as scanned."""
    timing: Timing
    """Seconds; tiles_per_s counts the tiles that this run restored."""
    provenance: Provenance
    """Enough to compute the result again."""
    made: Made
    """When and with what it was computed."""


def read_result(path: str | Path) -> CaseRecord:
    """A case's result as ``srh-clinic diagnose`` wrote it.

    Parameters
    ----------
    path
        ``result.json``, or the folder that it lies in.

    Raises
    ------
    InputError
        When it cannot be read, or holds anything else.
    """
    path = Path(path)
    file = path / RESULT if path.is_dir() else path
    needed = f"the {RESULT} that srh-clinic diagnose writes"
    try:
        return CaseRecord.model_validate_json(file.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(error.strerror or str(error), needed, file) from error
    except ValidationError as error:
        raise InputError(first_fault(error), needed, file) from error


class _Plain(GenerateJsonSchema):
    """Without a title for every field, which repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def result_schema() -> dict[str, Any]:
    """The JSON Schema of ``result.json``."""
    schema = CaseRecord.model_json_schema(schema_generator=_Plain)
    return {"$schema": _Plain.schema_dialect, **schema, "title": "srh-clinic result"}


def result_fields() -> str:
    """Every field of ``result.json`` as a table in Markdown: its path, its type, and what it says."""
    schema = result_schema()
    rows = [f"| `{path}` | {kind} | {said} |" for path, kind, said in _fields(schema, schema["$defs"], "")]
    return "\n".join(("| field | type | what it says |", "|---|---|---|", *rows)) + "\n"


def _fields(part: dict[str, Any], parts: dict[str, Any], at: str) -> Iterator[tuple[str, str, str]]:
    for name, field in part["properties"].items():
        inner, kind = _kind(field, parts)
        said = " ".join(str(field.get("description", inner.get("description", ""))).split())
        yield f"{at}{name}", kind.replace("|", "or"), said
        if "properties" in inner:
            yield from _fields(inner, parts, f"{at}{name}{'[]' if kind.startswith('list') else ''}.")


def _kind(field: dict[str, Any], parts: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What stands in a field, and its type in words."""
    if "$ref" in field:
        return _kind(parts[field["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in field:
        inner, kind = _kind(field["anyOf"][0], parts)
        return inner, f"{kind}, or null"
    if "enum" in field:
        return field, ", ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        inner, kind = _kind(field["items"], parts)
        return inner, f"list of: {kind}"
    return field, str(field.get("type", "any"))


if __name__ == "__main__":
    print(result_fields() if sys.argv[1:] == ["fields"] else json.dumps(result_schema(), indent=2))
