"""A study's answers as what was preferred and what was seen, by method and no longer by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from srh_clinic.estimates import FEWEST_UNITS, Finding
from srh_clinic.validation.statistics.agreement import UNSEEN, Codes
from srh_clinic.validation.statistics.two_way import preference_rate
from srh_clinic.validation.study.records import Hallucination, KeyEntry, Preference, Sentinel, StudyProtocol
from srh_clinic.validation.study.unblinding import Answer, Unblinded

Aspect = Literal["quality", "fidelity"]
ASPECTS: tuple[Aspect, ...] = ("quality", "fidelity")

Row = Mapping[str, Any]
"""Of a table: by column's name what stands there, numbers unrounded."""

LEVELS: tuple[Hallucination, ...] = ("none", "possible", "definite")
"""In ascending order."""

SCORES = {"test": 1.0, "tie": 0.5, "baseline": 0.0}
"""What a choice counts towards the preference for the method under test."""

CHOSEN = tuple(SCORES)


@dataclass(frozen=True)
class Choice:
    """A rater's preference in one task between the method under test and a baseline."""

    rater: str
    group: str
    cluster: str
    unit: str
    baseline: str
    stratum: str
    side: Preference
    chosen: str
    """``test``, ``baseline`` or ``tie``."""

    @property
    def score(self) -> float:
        """See :data:`SCORES`."""
        return SCORES[self.chosen]


@dataclass(frozen=True)
class Sight:
    """What a rater said of one image of one task: whether something in it is a hallucination."""

    rater: str
    group: str
    cluster: str
    case: str
    unit: str
    method: str
    versus: str
    """The method on the other side; empty in a review."""
    stratum: str
    said: Hallucination

    def called(self, least: Hallucination) -> bool:
        """Whether the rater said ``least`` or more."""
        return LEVELS.index(self.said) >= LEVELS.index(least)


@dataclass(frozen=True)
class Views:
    """A study's answers, sorted by what they serve; see :func:`views`."""

    protocol: StudyProtocol
    real: tuple[Answer, ...]
    repeats: tuple[tuple[Answer, Answer], ...]
    """First and second answer of a rater to the same images."""
    sentinels: tuple[Answer, ...]
    by_patient: bool
    """Whether intervals resample patients in the place of images, because patients gave several."""

    @cached_property
    def groups(self) -> dict[str, str]:
        """Each rater's group."""
        return {rater.rater_id: rater.group for rater in self.protocol.raters}

    @property
    def cluster_name(self) -> str:
        """What the intervals take as independent beside the raters."""
        return "patient" if self.by_patient else "image"

    def cluster(self, key: KeyEntry) -> str:
        """The patient or image that an answer belongs to."""
        return key.patient_hash if self.by_patient else key.case_id

    def choices(self, aspect: Aspect) -> list[Choice]:
        """Preferences in the real tasks that show the method under test."""
        return self._choices[aspect]

    @cached_property
    def _choices(self) -> dict[Aspect, list[Choice]]:
        return {aspect: [choice for answer in self.real if (choice := self.choice(answer, aspect))] for aspect in ASPECTS}

    def choice(self, answer: Answer, aspect: Aspect) -> Choice | None:
        """What the rater preferred, if asked of the method under test and a baseline."""
        key, side = answer.key, preferred(answer, aspect)
        methods = key.side_A_method, key.side_B_method
        if side is None or (methods[0] == self.protocol.test) == (methods[1] == self.protocol.test):
            return None
        test_side = "A" if methods[0] == self.protocol.test else "B"
        baseline = methods[1] if test_side == "A" else methods[0]
        chosen = "tie" if side == "tie" else "test" if side == test_side else "baseline"
        rater = answer.rating.rater_id
        return Choice(
            rater, self.groups.get(rater, ""), self.cluster(key), unit(answer), str(baseline), key.stratum, side, chosen
        )

    def sights(self) -> list[Sight]:
        """What was said of hallucinations in the real tasks, one for each side."""
        return self._sights

    @cached_property
    def _sights(self) -> list[Sight]:
        return self.sights_of(self.real)

    def sights_of(self, answers: Iterable[Answer]) -> list[Sight]:
        """What was said of hallucinations in these answers, one for each side."""
        found = []
        for answer in answers:
            key, rater = answer.key, answer.rating.rater_id
            shared = rater, self.groups.get(rater, ""), self.cluster(key), key.case_id
            for side, method, versus in (
                ("A", key.side_A_method, key.side_B_method),
                ("B", key.side_B_method, key.side_A_method),
            ):
                said = said_of(answer, side)
                if said is not None and method is not None:
                    found.append(Sight(*shared, f"{unit(answer)}/{method}", method, versus or "", key.stratum, said))
        return found

    def planted(self, *kinds: Sentinel) -> list[Answer]:
        """Answers to the sentinels of these kinds."""
        return [answer for answer in self.sentinels if answer.key.sentinel in kinds]


def views(unblinded: Unblinded) -> Views:
    """Sort a study's answers.

    Headline numbers come from real tasks alone. Patients take the place of images as clusters where they gave several images
    and there are at least eight of them: images of one patient are not independent.
    """
    answers = unblinded.answers
    real = tuple(answer for answer in answers if answer.key.kind == "real")
    first = {answer.key.task_id: answer for answer in real}
    repeats = tuple(
        (first[answer.key.repeat_of], answer)
        for answer in answers
        if answer.key.kind == "repeat" and answer.key.repeat_of in first
    )
    sentinels = tuple(answer for answer in answers if answer.key.kind == "sentinel")
    patients, cases = {answer.key.patient_hash for answer in real}, {answer.key.case_id for answer in real}
    return Views(unblinded.protocol, real, repeats, sentinels, FEWEST_UNITS <= len(patients) < len(cases))


def preferred(answer: Answer, aspect: Aspect) -> Preference | None:
    """The side that a rater preferred."""
    return answer.rating.pref_quality if aspect == "quality" else answer.rating.pref_fidelity


def said_of(answer: Answer, side: str) -> Hallucination | None:
    """What a rater said of one side's hallucinations."""
    return answer.rating.halluc_A if side == "A" else answer.rating.halluc_B


def unit(answer: Answer) -> str:
    """What raters are compared on: an image, its methods whichever side they are on, and the region asked of."""
    key = answer.key
    methods = sorted(str(one) for one in (key.side_A_method, key.side_B_method) if one is not None)
    return "/".join([key.case_id, *methods, str(answer.task.focus or "")])


def rate(scores: Sequence[float], of: Sequence[Choice] | Sequence[Sight]) -> Finding:
    """The mean of scores with the headline interval."""
    return preference_rate(scores, [one.cluster for one in of], [one.rater for one in of])


def codes_of(entries: Iterable[tuple[str, str, str, int]], raters: Sequence[str]) -> tuple[Codes, list[str]]:
    """Categories by unit and rater, from unit, cluster, rater and category; with the cluster of each unit.

    Returns
    -------
    Codes ``(units, raters)`` and one cluster for each unit.
    """
    column = {rater: place for place, rater in enumerate(raters)}
    rows: dict[str, dict[int, int]] = defaultdict(dict)
    clusters: dict[str, str] = {}
    for name, cluster, rater, category in entries:
        rows[name][column[rater]] = category
        clusters[name] = cluster
    codes = np.full((len(rows), len(raters)), UNSEEN, dtype=np.int64)
    for place, name in enumerate(rows):
        codes[place, list(rows[name])] = list(rows[name].values())
    return codes, [clusters[name] for name in rows]
