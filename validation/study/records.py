"""The records of a study: tasks as a rater's file holds them, the key to them, and the ratings that come back.

Tasks and ratings are JSON that the viewer reads and writes; whatever else reads or writes them goes through these models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION: Literal[1] = 1

Kind = Literal["preference", "review"]
TaskKind = Literal["real", "repeat", "sentinel"]
Sentinel = Literal["same", "blurred", "added", "removed"]
"""One restoration on both sides; one against the same blurred; one against the same with a nucleus planted, or erased."""

Question = Literal["pref_quality", "pref_fidelity", "confidence", "halluc_A", "halluc_B", "method_guess"]

Preference = Literal["A", "B", "tie"]
Hallucination = Literal["none", "possible", "definite"]
Category = Literal[
    "added nucleus", "removed nucleus", "changed morphology", "invented texture", "over-smoothing", "stripe or stitch", "other"
]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Severity = Literal["minor", "major"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

LARGEST_MARK = 0.5
"""Proportion of an image that a box, or all boxes on one side together, may hold: those around everything find nothing."""

MOST_MARKS = 60
"""Marks on one side of a task: points everywhere find nothing either."""

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ImageId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
"""128 random bits, for one image of one task of one rater."""


class Record(BaseModel):
    """JSON of known fields; anything else is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rater(Record):
    """Somebody who rates; ``group`` is such as ``clinician`` or ``imaging expert``, or empty."""

    rater_id: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,31}$")
    group: str = ""


class StudyProtocol(Record):
    """What is fixed before anybody rates; public. What would unblind (sides, ids, the seed) is not in it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    study_id: str
    title: str
    kind: Kind
    preset: str
    date: str
    test: str
    """The restorer under test."""
    baselines: tuple[str, ...]
    raters: tuple[Rater, ...]
    images: int = Field(gt=0)
    tasks: int = Field(gt=0)
    """Real tasks, each rated by ``raters_per_task``."""
    raters_per_task: int = Field(gt=0)
    repeats: int = Field(ge=0)
    """Tasks that each rater sees a second time, sides swapped."""
    repeat_gap: int = 30
    """Tasks that at least lie between the two."""
    sentinels: dict[Sentinel, int]
    """For each rater."""
    questions: tuple[Question, ...]
    sample_size: dict[str, Any]
    imbalance: dict[str, int]
    """Largest less smallest number of tasks per baseline, per rater, and per rater and baseline."""
    sources: str
    notice: str = ""


class Amendment(Record):
    """What was added after the export, a rater or images; public. What ``commitment`` commits to is sealed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    number: int = Field(ge=1)
    rater: Rater | None = None
    """Who was added; None for images."""
    like: str = ""
    """Whose tasks the rater has."""
    images: int = Field(default=0, ge=0)
    """How many were added."""
    tasks: int = Field(default=0, ge=0)
    """Real tasks of these images, each rated by as many raters as those of the export."""
    pages: Mapping[str, Rater] = Field(default_factory=dict)
    """Further pages by their names, each with the rater whose it is: images that were added are judged there."""
    reason: str
    commitment: Hash

    @property
    def added(self) -> tuple[Rater, ...]:
        """Whoever has a page of this amendment, by the page's name."""
        if self.rater is not None:
            return (self.rater,)
        return tuple(Rater(rater_id=page, group=rater.group) for page, rater in self.pages.items())


class Window(Record):
    """How the two 8-bit planes of a task's images become colours; one for all three images.

    A plane's value ``v`` stands for ``low + v (high - low) / 255`` counts. Red shows ``CH3 - CH2``, green CH2 and blue CH3,
    each from 0 at the first of its two counts to full at the second.
    """

    low: float
    high: float
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


class Task(Record):
    """One task, as the rater's file holds it: nothing in it tells methods, cases or repeats."""

    schema_version: Literal[1] = SCHEMA_VERSION
    study_id: str
    rater_id: str
    seq: int = Field(ge=0)
    block: int = Field(ge=0)
    task_id: ImageId
    lq_img: ImageId
    img_A: ImageId
    img_B: ImageId | None
    """None in a review."""
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    um_per_px: float = Field(gt=0)
    window: Window
    focus: tuple[int, int, int, int] | None = None
    """A region that a review asks of: x, y, width and height in px."""
    questions: tuple[Question, ...]

    @property
    def kind(self) -> Kind:
        """Of the study that it is of."""
        return "review" if self.img_B is None else "preference"


class KeyEntry(Record):
    """What a task is; sealed until the returns are in."""

    task_id: ImageId
    rater_id: str
    kind: TaskKind
    side_A_method: str
    side_B_method: str | None
    case_id: str
    patient_hash: Hash
    stratum: str = ""
    """What results are broken down by, such as the severity of a phantom."""
    repeat_of: ImageId | None = None
    sentinel: Sentinel | None = None
    sentinel_side: Literal["A", "B"] | None = None
    """The side that was blurred or edited."""
    planted: tuple[float, float, float] | None = None
    """x, y and radius in px of the nucleus that was planted or erased."""
    focus_flagged: bool | None = None
    """Whether the guards flagged the region that a review asks of."""
    flagged: tuple[tuple[Literal["A", "B"], int, int, int, int, str], ...] = ()
    """What the guards flagged: side, x, y, width and height in px, and the kind."""
    source_sha256: Hash
    model_sha256: str
    seed: int


class Region(Record):
    """What a rater marked in an image."""

    side: Literal["A", "B"]
    shape: Literal["box", "point"]
    xy: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    """px: x and y of a point; left, top, right and bottom of a box."""
    category: Category
    severity: Severity

    @model_validator(mode="after")
    def _as_many_numbers_as_the_shape_has(self) -> Self:
        if len(self.xy) != (wanted := 2 if self.shape == "point" else 4):
            raise ValueError(f"a {self.shape} of {len(self.xy)} numbers, not {wanted}")
        return self


LATEST = 253_402_300_799_999
"""Milliseconds since 1970 up to which there are dates: the end of the year 9999."""


class Rating(Record):
    """A rater's answer to one task; what the task does not ask is None."""

    record: Literal["rating"] = "rating"
    schema_version: Literal[1] = SCHEMA_VERSION
    study_id: str
    rater_id: str
    seq: int = Field(ge=0)
    task_id: ImageId
    pref_quality: Preference | None = None
    pref_fidelity: Preference | None = None
    confidence: int | None = Field(default=None, ge=1, le=5)
    halluc_A: Hallucination | None = None
    halluc_B: Hallucination | None = None
    regions: tuple[Region, ...] = ()
    method_guess: Literal["A", "B", "unsure"] | None = None
    """Which side the rater takes for the method under test."""
    comment: str = ""
    t_shown: int = Field(ge=0, le=LATEST)
    """Milliseconds since 1970, UTC, as are the next."""
    t_answered: int = Field(ge=0, le=LATEST)
    n_zoom: int = Field(default=0, ge=0)
    n_flicker: int = Field(default=0, ge=0)
    prev_hash: Hash


class Closing(Record):
    """The last line of a return: the rater has answered everything."""

    record: Literal["closing"] = "closing"
    study_id: str
    rater_id: str
    ratings: int = Field(ge=0)
    prev_hash: Hash


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and without spaces, UTF-8: one value, one sequence of bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def first_hash(study_id: str, rater_id: str, secret: str = "") -> str:
    """What the first line of a return carries as ``prev_hash``: the :func:`line_hash` of ``STUDY/RATER``."""
    return line_hash(f"{study_id}/{rater_id}", secret)


def line_hash(line: str, secret: str = "") -> str:
    """What the line after this one carries as ``prev_hash``: the SHA-256 of its UTF-8 bytes, without the line's end.

    The secret of the rater's page and a slash come before them where it has one, so that nobody else can chain a line.
    """
    return hashlib.sha256((f"{secret}/{line}" if secret else line).encode()).hexdigest()
