"""What a study is to be: its kind, restorers, raters, and how many images, repeats and sentinels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

from srh_clinic.errors import InputError
from srh_clinic.validation.study.records import Kind, Rater, Sentinel

Preset = Literal["default", "paper"]

TITLE = "Images of stimulated Raman histology"
"""Of a study that is given none: raters read it, so it does not say what was done to the images."""


DEFAULT_RESTORERS = ("rscd", "median", "nlm", "synthetic_noise", "cyclegan", "ccdf")
"""The method under test and five that it is compared with."""

REPEATED = 0.1
"""Proportion of a rater's tasks that come a second time."""

SENTINELS: dict[Kind, dict[Sentinel, int]] = {
    "preference": {"same": 3, "blurred": 3, "added": 6, "removed": 6},
    "review": {"same": 4, "added": 6, "removed": 6},
}
"""Tasks for each rater whose answer is known."""

KNOWN: dict[Kind, tuple[Sentinel, ...]] = {
    "preference": ("same", "blurred", "added", "removed"),
    "review": ("same", "added", "removed"),
}
"""Kinds of sentinels by kind of study; a review has no other side to compare with a blur."""

SPARE = 0.5
"""Further images for each nucleus that is to be planted or erased: an image may have no nucleus, or no room for one."""


@dataclass(frozen=True)
class StudyPlan:
    """What is to be exported.

    Parameters
    ----------
    kind
        ``preference``: the restorer under test beside another, blinded; ``review``: one restoration beside its input, with a
        region to judge.
    preset
        ``paper``: 100 images with every baseline, each task to two raters, no repeats and no sentinels; ``default``: every
        rater sees each image once, with repeats and sentinels.
    restorers
        The first is under test.
    raters, clinicians
        How many rate, and how many of them, the first, are clinicians; the others are imaging experts. None leaves groups out.
    images
        How many images; None takes the preset's (150 or 100), or all that the sources have.
    repeats
        Tasks that each rater sees twice; None takes a tenth.
    sentinels
        Tasks for each rater whose answer is known, by kind; None takes :data:`SENTINELS`.
    seed
        Of what raters may know: which tiles of a case are shown, and the simulation of the sample size. All else that is drawn
        comes from the study's salt.
    """

    kind: Kind = "preference"
    preset: Preset = "default"
    restorers: tuple[str, ...] = DEFAULT_RESTORERS
    raters: int = 6
    clinicians: int | None = None
    images: int | None = None
    repeats: int | None = None
    sentinels: Mapping[Sentinel, int] | None = None
    seed: int = 0
    title: str = TITLE

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"the kind {self.kind!r}", " or ".join(get_args(Kind)))
        if self.preset not in get_args(Preset):
            raise InputError(f"the preset {self.preset!r}", " or ".join(get_args(Preset)))
        least = 2 if self.kind == "preference" else 1
        if len(self.restorers) < least or len(set(self.restorers)) < len(self.restorers):
            raise InputError(f"the restorers {', '.join(self.restorers) or 'none'}", f"at least {least}, each of them once")
        if self.raters < 1 or not 0 <= (self.clinicians or 0) <= self.raters:
            raise InputError(
                f"{self.raters} raters, {self.clinicians} of them clinicians",
                "at least one rater, and no more clinicians than raters",
            )
        if self.images is not None and self.images < 1:
            raise InputError(f"{self.images} images", "at least one")
        wrong = [
            f"{kind}={count}" for kind, count in (self.sentinels or {}).items() if kind not in KNOWN[self.kind] or count < 0
        ]
        if wrong:
            raise InputError(f"the sentinels {', '.join(wrong)}", f"counts of {', '.join(KNOWN[self.kind])}")

    @property
    def planned_sentinels(self) -> dict[Sentinel, int]:
        """Sentinels of each kind for each rater."""
        if self.sentinels is not None:
            return {kind: count for kind, count in self.sentinels.items() if count}
        return {} if self.preset == "paper" else dict(SENTINELS[self.kind])

    @property
    def sentinel_images(self) -> int:
        """Images that sentinels are made of; no real task shows one of them."""
        planted = sum(count for kind, count in self.planned_sentinels.items() if kind in ("added", "removed"))
        return sum(self.planned_sentinels.values()) + ceil(SPARE * planted)

    @property
    def rater_list(self) -> tuple[Rater, ...]:
        """The raters by id and group."""
        digits = len(str(self.raters))
        return tuple(
            Rater(rater_id=f"r{number + 1:0{max(digits, 2)}}", group=self._group(number)) for number in range(self.raters)
        )

    def _group(self, number: int) -> str:
        if self.clinicians is None:
            return ""
        return "clinician" if number < self.clinicians else "imaging expert"
