"""The leak audit: nothing that a rater can get at, besides the pixels shown, may tell the methods, cases or people.

Some leaks are facts, which a file has or has not: a word, an identifier, a time stamp, a field that no task has. Others are
tendencies, which a classifier looks for: it is shown every attribute of the images on sides A and B and has to say which is
the method under test. On a clean study it is right half of the time.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from srh_clinic.errors import InputError, first_fault
from srh_clinic.validation.study.disguises import SHORTEST_IN_PIXELS, disguises_of, encodings_of, occurs
from srh_clinic.validation.study.folder import amendments, commitment, read_amended, read_protocol, read_secrets, viewer_path
from srh_clinic.validation.study.records import Amendment, KeyEntry, StudyProtocol, Task
from srh_clinic.validation.study.viewer import Page, ViewerContents, read_viewer, viewer_code

LEVEL = 1e-4
"""A tendency counts as a leak when chance alone would show one as strong in so few clean studies, for each test."""

LEAST_PAIRS = 16
"""Tasks below which a tendency cannot be told from chance at that level; the audit says so."""

FOLDS = 5

UID = re.compile(rb"(?<![\d.])(?:[012](?:\.(?:0|[1-9]\d*)){5,}|2\.25\.[1-9]\d{20,})(?![\d.])")
"""A DICOM unique identifier of six or more components, or made of a UUID (PS3.5 chapter 9 and B.2)."""

STAMP = 946_684_800
"""When all public files were last changed: 2000-01-01, so that a file's time says nothing."""

IMAGE_FILES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1")
"""What PNG and JPEG files begin with; they hold remarks, and their length tells what is in them."""

DATA_URI = re.compile(rb"data:image/[a-z0-9.+-]+;base64,")

SHIFT_PX = 8
"""Shifts up to this are looked for between an image and what a method made of it."""


@dataclass(frozen=True)
class Leak:
    """What tells raters more than they should know, and where."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Audit:
    """What an audit looked at and what it found."""

    findings: tuple[Leak, ...]
    checks: tuple[str, ...]
    tasks: int
    notes: tuple[str, ...] = ()
    """What no file can keep from raters, and the coordinator has to know."""


def check_study(study: str | Path) -> Audit:
    """Audit a study's public folder against its sealed key.

    Raises
    ------
    InputError
        When the study cannot be read.
    """
    return Auditor(Path(study)).audit()


def require_blind(study: str | Path) -> Audit:
    """Audit a study, and refuse it when anything leaks.

    Raises
    ------
    InputError
        With the first leak and how many there are.
    """
    audit = check_study(study)
    if audit.findings:
        first = audit.findings[0]
        more = f" and {len(audit.findings) - 1} more" if len(audit.findings) > 1 else ""
        raise InputError(
            f"a leak ({first}{more})", "a study whose public folder says nothing of methods, cases or people", study
        )
    return audit


def what_raters_can_compute(protocol: StudyProtocol) -> tuple[str, ...]:
    """Sentences about methods that need no network: whoever has the package can apply them to the image as scanned."""
    from srh_clinic.restorers.registry import FILTERS

    used = [name for name in (protocol.test, *protocol.baselines) if name in FILTERS]
    if not used or protocol.kind != "preference":
        return ()
    return (
        f"whoever has this package can apply {', '.join(used)} to the image as scanned and so find its side in every task; no "
        "file prevents it, so raters must not have the package at hand",
    )


@dataclass(frozen=True, eq=False)
class Auditor:
    """Looks through one study."""

    study: Path

    def audit(self) -> Audit:
        """Every check, in order."""
        checks: tuple[tuple[str, Callable[[], Iterator[Leak]]], ...] = (
            ("only what the export writes is in public/", self._files),
            ("every file has the same time and is free of the sealed key", self._stamps),
            ("the viewers are this version's, to the byte", self._code),
            ("tasks hold the fields of a task and nothing else", self._fields),
            ("no method is named in a rater's file", self._methods),
            ("no patient, case or source is named", self._people),
            ("no DICOM identifier occurs", self._uids),
            ("no image file is embedded, which would have room for remarks", self._embedded),
            ("every image has a random name of its own", self._names),
            ("every image is stored raw, in one size", self._sizes),
            ("no rater sees an image more often than the key says", self._again),
            ("sides are drawn evenly", self._sides),
            ("no attribute tells the method under test from the other", self._attributes),
            ("no attribute tells which baseline it is", self._baselines),
            ("images and restorations lie on the same pixels", self._shifts),
            ("pixels carry no mark: rounding and fixed places", self._marks),
        )
        findings = [finding for _, check in checks for finding in check()]
        return Audit(tuple(findings), tuple(name for name, _ in checks), len(self.key), what_raters_can_compute(self.protocol))

    @cached_property
    def public(self) -> Path:
        public = self.study / "public"
        if not public.is_dir():
            raise InputError("no folder named public", "a study as study export makes it", self.study)
        return public

    @cached_property
    def secrets(self) -> tuple[bytes, bytes]:
        """The bytes of the sealed key, and the salt."""
        return read_secrets(self.study)

    @cached_property
    def sealed(self) -> dict[str, Any]:
        """The key as it lies in the sealed folder."""
        try:
            content: dict[str, Any] = json.loads(self.secrets[0])
        except ValueError as error:
            raise InputError(f"no readable key ({error})", "the sealed key of the study", self.study) from error
        for amendment in self.amendments:
            added = json.loads(read_amended(self.study, amendment))
            content["entries"] = [*content["entries"], *added["entries"]]
            content["pages"] = content.get("pages", {}) | added["pages"]
            content["identifiers"] = [*content["identifiers"], *added.get("identifiers", [])]
        return content

    @cached_property
    def amendments(self) -> list[Amendment]:
        return amendments(self.study)

    @cached_property
    def key(self) -> dict[str, KeyEntry]:
        """The key's entries by task."""
        return {entry["task_id"]: KeyEntry.model_validate(entry) for entry in self.sealed["entries"]}

    @cached_property
    def protocol(self) -> StudyProtocol:
        return read_protocol(self.public.parent)[0]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Every file of the public folder by its name within it."""
        return {
            str(path.relative_to(self.public)): path.read_bytes() for path in sorted(self.public.rglob("*")) if path.is_file()
        }

    @cached_property
    def viewers(self) -> dict[str, ViewerContents]:
        """What each rater's file holds; those that cannot be taken apart are in :attr:`broken`."""
        found = {}
        for rater in self.protocol.raters:
            try:
                found[rater.rater_id] = read_viewer(viewer_path(self.study, rater.rater_id))
            except InputError as error:
                self.broken[rater.rater_id] = error.found
        return found

    @cached_property
    def broken(self) -> dict[str, str]:
        """What is wrong with viewers that cannot be taken apart, by rater."""
        return {}

    @cached_property
    def tasks(self) -> list[Task]:
        """All tasks that are as tasks should be."""
        made = []
        for viewer in self.viewers.values():
            for row in viewer.tasks:
                try:
                    made.append(Task.model_validate({k: v for k, v in row.items() if k in Task.model_fields}))
                except ValidationError:
                    continue
        return [task for task in made if task.task_id in self.key]

    @cached_property
    def images(self) -> dict[str, bytes]:
        """Every image of every rater by its name."""
        return {name: pixels for viewer in self.viewers.values() for name, pixels in viewer.images.items()}

    @cached_property
    def told(self) -> list[tuple[Task, int]]:
        """Tasks with two different methods of which one is under test, and whether it is on side A (1) or B (0)."""
        test, found = self.protocol.test, []
        for task in self.tasks:
            entry = self.key[task.task_id]
            if entry.kind != "sentinel" and entry.side_B_method is not None:
                found.append((task, int(entry.side_A_method == test)))
        return found

    def _files(self) -> Iterator[Leak]:
        expected = {"protocol.json", "protocol.html", "commitment.txt"}
        expected |= {f"amendment-{amendment.number}.json" for amendment in self.amendments}
        expected |= {f"{rater.rater_id}/viewer.html" for rater in self.protocol.raters}
        for name in sorted(set(self.files) - expected):
            yield Leak("a file that no export writes", name)
        for name in sorted(expected - set(self.files)):
            yield Leak("is missing", name)

    def _stamps(self) -> Iterator[Leak]:
        for name in self.files:
            if (self.public / name).stat().st_mtime != STAMP:
                yield Leak("has a time of its own", name)
        secret, salt = self.secrets
        for name, content in self.files.items():
            if secret[:200] in content or salt in content or salt.hex().encode() in content.lower():
                yield Leak("holds part of the sealed key", name)
        for path in (self.study / "sealed").iterdir():
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                yield Leak("can be read by others than its owner", f"sealed/{path.name}")

    def _code(self) -> Iterator[Leak]:
        key, salt = self.secrets
        page = Page(self.protocol.title, self.protocol.kind, self.protocol.notice, commitment=commitment(key, salt))
        own = {one.rater_id: amendment.commitment for amendment in self.amendments for one in amendment.added}
        for rater, viewer in self.viewers.items():
            secret = self.sealed.get("pages", {}).get(rater, "")
            if viewer.code != viewer_code(replace(page, secret=secret, commitment=own.get(rater, page.commitment))):
                yield Leak("holds something beside this version's viewer, its tasks and its images", f"{rater}/viewer.html")
        for rater, found in self.broken.items():
            yield Leak(f"cannot be taken apart: {found}", f"{rater}/viewer.html")

    def _fields(self) -> Iterator[Leak]:
        for rater, viewer in self.viewers.items():
            for place, row in enumerate(viewer.tasks):
                try:
                    task = Task.model_validate(row)
                except ValidationError as error:
                    yield Leak(f"task {place} with a field that tells more than a task should ({first_fault(error)})", rater)
                    continue
                if task.seq != place or task.rater_id != rater or task.task_id not in self.key:
                    yield Leak(f"task {place} that the key does not know in this place", rater)

    @cached_property
    def texts(self) -> dict[str, bytes]:
        """What can be read in each public file: all of it, but of a viewer neither images nor, twice, its tasks."""
        found = {name: content for name, content in self.files.items() if not name.endswith("/viewer.html")}
        for rater, viewer in self.viewers.items():
            found[f"{rater}/viewer.html"] = viewer.code + json.dumps(viewer.tasks, ensure_ascii=False).encode()
        for rater in self.broken:
            found[f"{rater}/viewer.html"] = self.files.get(f"{rater}/viewer.html", b"")
        return found

    def _methods(self) -> Iterator[Leak]:
        methods = {entry.side_A_method for entry in self.key.values()} | {e.side_B_method or "" for e in self.key.values()}
        wanted = sorted((methods | set(self.sealed["restorers"])) - {""})
        # The protocol names them for everybody; the viewer's code is this version's, and its words are no method's.
        told = {name: text for name, text in self.texts.items() if not name.startswith("protocol.")}
        told |= {f"{rater}/viewer.html": json.dumps(viewer.tasks).encode() for rater, viewer in self.viewers.items()}
        for name, text in told.items():
            lower = text.lower()
            for method in wanted:
                if re.search(rb"(?<![a-z0-9])" + re.escape(method.lower().encode()) + rb"(?![a-z0-9])", lower):
                    yield Leak(f"names the method {method}", name)

    def _people(self) -> Iterator[Leak]:
        words = sorted({*self.sealed["identifiers"], *(entry.case_id for entry in self.key.values())})
        disguised = [form for word in words for form in disguises_of(word)]
        # The word itself is not told: it would leak into whatever this is printed to.
        for name, text in self.texts.items():
            lower = text.lower()
            if any(form in lower for form in disguised):
                yield Leak("names a patient, a case or its source", name)
        hidden = [form for word in words for form in encodings_of(word) if len(form) >= SHORTEST_IN_PIXELS]
        for rater, viewer in self.viewers.items():
            if hidden and occurs(hidden, b"".join(viewer.images.values())):
                yield Leak("names a patient, a case or its source among the pixels", f"{rater}/viewer.html")

    def _uids(self) -> Iterator[Leak]:
        for name, text in self.texts.items():
            if UID.search(text):
                yield Leak("holds a DICOM identifier", name)

    def _embedded(self) -> Iterator[Leak]:
        for name, content in self.files.items():
            if any(magic in content for magic in IMAGE_FILES) or DATA_URI.search(content):
                yield Leak("embeds an image file, which has room for remarks and a length that tells its content", name)

    def _names(self) -> Iterator[Leak]:
        seen: Counter[str] = Counter()
        for task in self.tasks:
            seen.update(name for name in (task.task_id, task.lq_img, task.img_A, task.img_B) if name)
        twice = [name for name, count in seen.items() if count > 1]
        if twice:
            yield Leak(f"{len(twice)} names that are used twice", "the viewers")
        for rater, viewer in self.viewers.items():
            shown = [n for row in viewer.tasks for n in (row.get("lq_img"), row.get("img_A"), row.get("img_B")) if n]
            if list(viewer.images) != shown:
                yield Leak("holds other images than its tasks show, or in another order", f"{rater}/viewer.html")

    def _sizes(self) -> Iterator[Leak]:
        for task in self.tasks:
            for name in (task.lq_img, task.img_A, task.img_B):
                if name and len(self.images.get(name, b"")) != 2 * task.height * task.width:
                    yield Leak("an image that is not stored raw, two planes of bytes", f"{task.rater_id}, task {task.seq}")

    def _again(self) -> Iterator[Leak]:
        if self.protocol.preset == "paper":
            return  # Its design shows an image with every baseline; the protocol says so.
        for rater in self.viewers:
            first: dict[str, str] = {}
            for task in (task for task in self.tasks if task.rater_id == rater):
                entry = self.key[task.task_id]
                pixels = hashlib.sha256(self.images.get(task.lq_img, b"")).hexdigest()
                if pixels in first and entry.repeat_of != first[pixels]:
                    yield Leak(f"task {task.seq} shows an image again", rater)
                first.setdefault(pixels, task.task_id)

    def _sides(self) -> Iterator[Leak]:
        per_rater: dict[str, list[int]] = defaultdict(list)
        for task, side in self.told:
            if self.key[task.task_id].kind == "real":
                per_rater[task.rater_id].append(side)
        everybody = [side for sides in per_rater.values() for side in sides]
        for rater, sides in {**per_rater, "all raters": everybody}.items():
            if sides and 2 * _by_chance(max(sum(sides), len(sides) - sum(sides)), len(sides)) < LEVEL:
                yield Leak(f"the method under test is on side A in {sum(sides)} of {len(sides)} tasks", rater)

    def _attributes(self) -> Iterator[Leak]:
        if len(self.told) < LEAST_PAIRS:
            return
        table = self._table
        target = np.array([side for _, side in self.told])
        right = _told_right(table, target)
        if _by_chance(right, len(target)) < LEVEL:
            yield Leak(
                f"attributes tell the method under test in {right} of {len(target)} tasks ({self._telling(target)})",
                "the viewers",
            )

    def _telling(self, target: NDArray[np.int64]) -> str:
        """The attribute that tells most by itself."""
        from scipy import stats

        found = {}
        for name, values in self._columns.items():
            if len(np.unique(values)) > 1:
                found[name] = abs(stats.spearmanr(values, target).statistic)
        return max(found, key=lambda name: found[name]) if found else "none by itself"

    def _baselines(self) -> Iterator[Leak]:
        entries = [self.key[task.task_id] for task, _ in self.told]
        other = np.array([e.side_B_method if e.side_A_method == self.protocol.test else e.side_A_method for e in entries])
        if len(np.unique(other)) < 2:
            return
        for method in np.unique(other):
            target = (other == method).astype(int)
            if min(target.sum(), len(target) - target.sum()) < LEAST_PAIRS:
                continue
            from scipy import stats

            for name, values in self._columns.items():
                if name in ("seq", "block") or len(np.unique(values)) < 2:
                    continue
                if stats.mannwhitneyu(values[target == 1], values[target == 0]).pvalue < LEVEL / len(self._columns):
                    yield Leak(f"{name} tells tasks with {method} from others", "the viewers")

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.float64]]:
        """Every attribute of a task, and every attribute of an image on side A less that on side B, by name."""
        order = {name: place for viewer in self.viewers.values() for place, name in enumerate(viewer.images)}
        raw = {row.get("task_id"): row for viewer in self.viewers.values() for row in viewer.tasks}
        columns: dict[str, list[float]] = defaultdict(list)
        for task, _ in self.told:
            a, b = task.img_A, task.img_B or task.img_A
            columns["seq"].append(task.seq)
            columns["block"].append(task.block)
            for name, values in (("window", task.window.model_dump()), ("task", raw[task.task_id])):
                for field, value in _numbers(name, values):
                    columns[field].append(value)
            columns["name of A"].append(_number(a))
            columns["name of B"].append(_number(b))
            columns["name of A less that of B"].append(_number(a) - _number(b))
            columns["name of A less that of the input"].append(_number(a) - _number(task.lq_img))
            columns["name of the task"].append(_number(task.task_id))
            columns["order"].append(order.get(a, -1) - order.get(b, -1))
            columns["stored length"].append(len(self.images.get(a, b"")) - len(self.images.get(b, b"")))
        return {name: np.array(values, dtype=float) for name, values in columns.items() if len(values) == len(self.told)}

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """What the classifier sees, ``(tasks, attributes)``."""
        return np.column_stack(list(self._columns.values()))

    @cached_property
    def _pixels(self) -> dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
        """By method, its images with those that they were made from, uint8 ``(2, H, W)``; each once."""
        found: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = defaultdict(list)
        seen = set()
        for task in self.tasks:
            entry = self.key[task.task_id]
            if entry.kind == "sentinel":
                continue
            for name, method in ((task.img_A, entry.side_A_method), (task.img_B, entry.side_B_method)):
                if name is None or method is None or (method, entry.case_id) in seen:
                    continue
                shape = (2, task.height, task.width)
                raw, scanned = self.images.get(name, b""), self.images.get(task.lq_img, b"")
                if len(raw) == len(scanned) == np.prod(shape):
                    seen.add((method, entry.case_id))
                    image = np.frombuffer(raw, dtype=np.uint8).reshape(shape)
                    found[method].append((image, np.frombuffer(scanned, dtype=np.uint8).reshape(shape)))
        return found

    def _shifts(self) -> Iterator[Leak]:
        for method, pairs in self._pixels.items():
            shifts = Counter(_shift(image.mean(axis=0), scanned.mean(axis=0)) for image, scanned in pairs[:40])
            (most, count), *_ = shifts.most_common(1)
            if most != (0, 0) and 2 * count > sum(shifts.values()):
                yield Leak(f"images of {method} are shifted by {most[0]}, {most[1]} px against their input", "the pixels")

    def _marks(self) -> Iterator[Leak]:
        for method, pairs in self._pixels.items():
            stack = np.stack([image for image, _ in pairs])
            inner = stack[(stack > 0) & (stack < 255)]
            for modulus in (2, 3, 5):
                counts = np.bincount(inner % modulus, minlength=modulus) / max(inner.size, 1)
                if inner.size > 10_000 and np.abs(counts - 1 / modulus).max() > 0.2 / modulus:
                    yield Leak(f"values of {method} prefer some remainders of {modulus}: another rounding", "the pixels")
                    break
            if len(stack) < LEAST_PAIRS // 2:
                continue
            fixed = (stack == stack[0]).all(axis=0)
            inputs = np.stack([scanned for _, scanned in pairs])
            fixed &= ~(inputs == inputs[0]).all(axis=0)
            if fixed.any():
                _, y, x = (int(one) for one in np.argwhere(fixed)[0])
                yield Leak(f"images of {method} have one value at y {y}, x {x} throughout", "the pixels")


def _by_chance(right: int, of: int) -> float:
    """The probability that so many coins or more show heads; exact, and sooner than scipy.stats is imported."""
    return sum(comb(of, heads) for heads in range(right, of + 1)) / 2**of


def _told_right(table: NDArray[np.float64], target: NDArray[np.int64]) -> int:
    """In how many tasks a forest, taught by others, says the right side."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if min(target.sum(), len(target) - target.sum()) < FOLDS:
        return 0  # One side throughout: the sides' own check has said it.
    forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=3, random_state=0, n_jobs=1)
    said = cross_val_predict(forest, table, target, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0))
    return int((said == target).sum())


def _numbers(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number in a table of a task, by name; text that is no name of an image counts by its length."""
    known = {"schema_version", "seq", "block", "task_id", "lq_img", "img_A", "img_B", "study_id", "rater_id", "window"}
    for field, value in sorted(values.items()):
        if field in known:
            continue
        flat = value if isinstance(value, list | tuple) else [value]
        for place, one in enumerate(flat):
            if isinstance(one, bool | int | float):
                yield f"{name} {field} {place}", float(one)
            elif isinstance(one, str):
                yield f"{name} {field} {place}", float(len(one))


def _number(name: str) -> float:
    return int(name[:13], 16) / 16**13


def _shift(image: NDArray[np.floating], scanned: NDArray[np.floating]) -> tuple[int, int]:
    """Whole pixels, y and x, by which an image is shifted against another: the peak of their cross-correlation."""
    a, b = image - image.mean(), scanned - scanned.mean()
    correlation = np.fft.ifft2(np.fft.fft2(a) * np.conj(np.fft.fft2(b))).real
    near = np.roll(correlation, (SHIFT_PX, SHIFT_PX), axis=(0, 1))[: 2 * SHIFT_PX + 1, : 2 * SHIFT_PX + 1]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    return int(y) - SHIFT_PX, int(x) - SHIFT_PX
