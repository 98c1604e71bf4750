"""When what has arrived is a case: both shifts of every level are there, and nothing has come for a while.

How many levels a slide has stands nowhere in it, so the while is needed. What is no case by then is parked with one word of
why; it waits again by itself when what was missing comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.ledger import Enrolled, Ledger
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.integration.arriving import Instance, instance_in, is_whole
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.inbox import Inbox

SETTLE = 2.0
"""Seconds without anything new after which a series that can be whole is taken to be."""

PATIENCE = 600.0
"""Seconds that what is missing gets to come."""

LOOKED = 0.5
"""Seconds that one look at the inbox takes at most, before others have their turn."""

Reason = Literal["whole", "channel-missing", "level-missing", "not-srh", "label", "unreadable"]

SENTENCES: dict[Reason, str] = {
    "channel-missing": "one Raman shift came, or part of one, and the other did not; needed both shifts of every level",
    "level-missing": "only lower levels of the pyramid came, both shifts of each; needed the level with all pixels",
    "not-srh": "a series of images that are no SRH; needed 16-bit monochrome whole slide images of both Raman shifts",
    "unreadable": "what came is no DICOM file, or breaks off before its pixels; needed a whole DICOM file",
}
"""What the ledger says of a series that is parked."""


@dataclass(frozen=True)
class Series:
    """What has come of a series, or of two series that hold one shift each of one scan."""

    uid: str
    instances: tuple[Instance, ...]
    reason: Reason

    @property
    def source(self) -> Path:
        """One file of it, by which the reader finds the others: of the largest level."""
        return max(self.instances, key=lambda one: (one.srh, one.size[0] * one.size[1], one.uid)).path

    def enrolled(self, name: str) -> Enrolled:
        """The same for the ledger: files are never written again here, so that their names and sizes say all."""
        files = sorted((one.path.name, one.path.stat().st_size) for one in self.instances)
        return Enrolled(name, (str(self.source),), fingerprint(files=files))


def series_of(instances: Sequence[Instance]) -> list[Series]:
    """What the instances of one study are; two series of one shift each, of one place and size, are one."""
    by_uid: dict[str, list[Instance]] = {}
    for instance in instances:
        by_uid.setdefault(instance.series, []).append(instance)
    found = {uid: Series(uid, tuple(of), _reason(of)) for uid, of in sorted(by_uid.items())}
    for one, two in combinations(list(found), 2):
        if one in found and two in found and _are_halves(found[one], found[two]):
            ch2, ch3 = sorted((found.pop(one), found.pop(two)), key=lambda half: min(half.instances[0].shifts))
            both = (*ch2.instances, *ch3.instances)
            found[ch2.uid] = Series(ch2.uid, both, _reason(both))
    return list(found.values())


def _reason(instances: Sequence[Instance]) -> Reason:
    srh = [one for one in instances if one.srh]
    if not srh:
        return "label" if all(one.beside for one in instances) else "not-srh"
    levels: dict[tuple[int, int], list[Instance]] = {}
    for one in srh:
        levels.setdefault(one.size, []).append(one)
    if not all(is_whole(level) for level in levels.values()):
        return "channel-missing"
    return "level-missing" if all(one.resampled for one in srh) else "whole"


def _are_halves(one: Series, two: Series) -> bool:
    said = [frozenset().union(*(each.shifts for each in series.instances)) for series in (one, two)]
    places = {each.frame_of_reference for series in (one, two) for each in series.instances}
    sizes = [max(each.size for each in series.instances) for series in (one, two)]
    return sorted(map(sorted, said)) == [[0], [1]] and len(places) == 1 and "" not in places and sizes[0] == sizes[1]


def name_in(ledger: Ledger, series: Series) -> str:
    """The name of a series' case, which a half that came before may have given it."""
    names = [case_name(uid) for uid in dict.fromkeys((series.uid, *(one.series for one in series.instances)))]
    return next((name for name in names if ledger.state_of(name) is not None), names[0])


class Arrivals:
    """Makes cases of what is in an inbox.

    Parameters
    ----------
    settle, patience
        See :data:`SETTLE` and :data:`PATIENCE`.
    """

    def __init__(self, inbox: Inbox, audit: Audit, settle: float = SETTLE, patience: float = PATIENCE) -> None:
        self.inbox, self.audit, self.settle, self.patience = inbox, audit, settle, patience
        self._known: dict[Path, Instance | None] = {}
        self._since: dict[Path, tuple[object, float]] = {}

    def look(self, ledger: Ledger) -> None:
        """Enrol what is whole, and park what is no case."""
        until = time.monotonic() + LOOKED
        for study in self.inbox.open_studies():
            if time.monotonic() > until:
                return
            with suppress(FileNotFoundError):  # taken away by hand: the next look finds what is left
                self._look_at(study, ledger)

    def _look_at(self, study: Path, ledger: Ledger) -> None:
        files = sorted(study.glob("*.dcm"))
        if not files:
            self.inbox.settled(study, 0)
            return
        age = self._age(study, files)
        if age < self.settle or self.inbox.moving(study) < self.settle:
            return
        instances = [instance for file in files if (instance := self._instance(file)) is not None]
        if not instances:
            self._turn_away(Enrolled(case_name(study.name), tuple(map(str, files)), study.name), "unreadable", ledger)
        missing = False
        for series in series_of(instances):
            if series.reason == "whole":
                self._enrol(series, ledger)
            elif series.reason in ("channel-missing", "level-missing") and age < self.patience:
                missing = True
            elif series.reason != "label":
                self._turn_away(series.enrolled(case_name(series.uid)), series.reason, ledger)
        if not missing:
            self.inbox.settled(study, len(files))
            self._since.pop(study, None)
            for file in files:
                self._known.pop(file, None)

    def _age(self, study: Path, files: Sequence[Path]) -> float:
        """Seconds since the last file came, by a clock that nobody sets; of what came before this process, by its files."""
        stamps = [file.stat().st_mtime for file in files]
        now, seen = time.monotonic(), self._since.get(study)
        if seen is None or seen[0] != stamps:
            seen = self._since[study] = (stamps, now - max(0.0, time.time() - max(stamps)))
        return now - seen[1]

    def _instance(self, file: Path) -> Instance | None:
        if file not in self._known:
            try:
                self._known[file] = instance_in(file)
            except InputError:
                self._known[file] = None
        return self._known[file]

    def _enrol(self, series: Series, ledger: Ledger) -> None:
        """Enrol a case under the name under which its first half may have been parked."""
        name = name_in(ledger, series)
        before = ledger.moves()
        ledger.enrol([series.enrolled(name)])
        if ledger.moves() != before:
            self.audit.note("arrived", case=name, files=len(series.instances))

    def _turn_away(self, case: Enrolled, reason: Reason, ledger: Ledger) -> None:
        if ledger.turn_away(case, reason, SENTENCES[reason]):
            self.audit.note("parked", case=case.name, reason=reason)
