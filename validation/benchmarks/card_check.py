"""Whether a model card says what its bundle is and does: its facts against the files, its scores computed anew.

A sample of the test phantoms tells a score within an interval; all of them tell it to the last digit that the card prints.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scipy import stats

from srh_clinic.bundles import Bundle, default_model_card, load_bundle
from srh_clinic.estimates import Interval, proportion
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.benchmarks.model_card import CRITERIA_TABLE, guards_of_card
from srh_clinic.validation.benchmarks.suite import PARTS, BenchmarkOptions, run_benchmark

SAMPLE = 24
"""Test phantoms that scores are computed anew on unless all are asked for: one of each tissue and severity."""

OF_A_SAMPLE = ("calibrator", "classifier")
"""Reports whose scores are means over phantoms, so that some of these tell them."""

LEVEL = 0.999
"""Of the interval in which the card's number has to lie: of a thousand true ones it misses one."""

LAST_DIGITS = 2
"""By how many units of its last digit a number may differ where all phantoms are restored, by another processor."""

_REPORT = re.compile(
    r"^### (?P<title>.+)\n`(?P<command>.+)`\n\n\| asked \| measured \| met \|\n\|[-|]+\|\n(?P<rows>(?:\|.*\|\n?)*)",
    re.MULTILINE,
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.(?P<digits>\d+))?")


@dataclass(frozen=True)
class Claim:
    """A score of a card: the report that it is of, how that was made, what was asked and what the card says was measured."""

    title: str
    command: str
    asked: str
    said: str

    @property
    def part(self) -> str | None:
        """The report among those that are computed anew here; None where it has a command of its own."""
        words = shlex.split(self.command)
        if "protocol" not in words:
            return None
        return next((part for part in PARTS["protocol"] if part in words), None)

    def option(self, name: str) -> int | None:
        """A number that the report was made with."""
        words = shlex.split(self.command)
        return int(words[words.index(name) + 1]) if name in words[:-1] and words[words.index(name) + 1].isdigit() else None


@dataclass(frozen=True)
class Checked:
    """A line of a card beside what was found; ``agrees`` is None where nothing was computed, and ``found`` says why."""

    where: str
    said: str
    found: str
    agrees: bool | None

    def __str__(self) -> str:
        if self.agrees is None:
            return f"card: {self.where}: {self.said}: not computed anew ({self.found})"
        return f"card: {self.where}: says {self.said}, found {self.found}: {'agrees' if self.agrees else 'differs'}"


def check_card(
    path: str | Path,
    *,
    full: bool = False,
    phantoms: int = SAMPLE,
    work: str | Path | None = None,
    device: str = "auto",
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> list[Checked]:
    """Compare the card of a bundle with its files, and its scores with what is measured now.

    Parameters
    ----------
    full
        Compute the scores anew on all that they were measured on, which takes as long as their commands.
    phantoms
        The test phantoms otherwise, the first; 0 computes nothing.
    work
        Folder of what is computed, from which a run that was cut goes on; None keeps nothing.

    Raises
    ------
    InputError
        When the bundle cannot be loaded, or ``work`` cannot be written.
    """
    bundle = load_bundle(path)
    card = bundle.model_card
    checked = list(_facts(bundle, card))
    claims = list(claims_of(card))
    wanted = tuple(dict.fromkeys(claim.part for claim in claims if claim.part in (PARTS["protocol"] if full else OF_A_SAMPLE)))
    made: dict[str, Mapping[str, Any]] = {}
    if wanted and (full or phantoms):
        with TemporaryDirectory() as passing:
            for part in wanted:
                claim = next(one for one in claims if one.part == part)
                limits = [claim.option("--limit"), None if full else phantoms]
                limit = min((one for one in limits if one is not None), default=None)
                (one,) = run_benchmark(
                    "protocol",
                    passing if work is None else work,
                    only=[str(part)],
                    options=BenchmarkOptions(limit=limit, limit_slow=claim.option("--limit-slow")),
                    bundle=path,
                    device=device,
                    protocol=protocol,
                    report=report,
                )
                rows = next(table.rows for table in one.tables if table.title == CRITERIA_TABLE)
                made |= {f"{one.title}: {row['asked']}": row for row in rows}
    return [*checked, *(_compared(claim, made.get(f"{claim.title}: {claim.asked}"), full) for claim in claims)]


def claims_of(card: str) -> Iterator[Claim]:
    """The scores that a card quotes from reports."""
    for found in _REPORT.finditer(card):
        for row in found["rows"].splitlines():
            cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
            if len(cells) == 3:
                yield Claim(found["title"], found["command"], cells[0], cells[1])


def _facts(bundle: Bundle, card: str) -> Iterator[Checked]:
    """What a card says of networks and thresholds, beside the bundle's own files."""
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in bundle.own_parts}
    written = "\n".join([default_model_card(bundle.name, bundle.metadata, parts), *guards_of_card(bundle)])
    ours, theirs = _rows(written), _rows(card)
    for name, said in theirs.items():
        if name in ours:
            yield Checked(name, said, ours[name], said == ours[name])
    named = re.findall(r"\| weights_sha256 \| ([0-9a-f]{64}) \|", card)
    for sha256 in named:
        if sha256 != bundle.weights_sha256:
            yield Checked("weights_sha256", sha256, bundle.weights_sha256, False)


def _rows(card: str) -> dict[str, str]:
    """The rows of a card's tables before its trainings and scores, by section and first cell."""
    found: dict[str, str] = {}
    section = ""
    for line in card.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ").strip() if line.startswith("##") else "bundle"
        elif line.startswith("| ") and section in ("bundle", "Networks", "Guards"):
            first, _, rest = line.strip().strip("|").partition(" | ")
            if rest.strip() and first.strip():
                found[f"{section}: {first.strip()}"] = rest.strip()
    return found


def _compared(claim: Claim, row: Mapping[str, Any] | None, full: bool) -> Checked:
    where = f"{claim.title}: {claim.asked}"
    if row is None:
        return Checked(where, claim.said, f"by --full, or {claim.command}" if claim.part else f"by {claim.command}", None)
    found = str(row["measured"])
    if full:
        return Checked(where, claim.said, found, _same_digits(claim.said, found))
    within, said = _interval(row.get("finding"), found), _NUMBER.search(claim.said)
    if within is None or said is None:
        return Checked(where, claim.said, "a sample does not tell it; by --full", None)
    scale = 0.01 if "%" in claim.said else 1.0
    half_digit = 0.5 * 10.0 ** -len(said["digits"] or "") * scale
    low, high = within.low - half_digit, within.high + half_digit
    share = f"{within.low:.1%} to {within.high:.1%}" if scale < 1 else f"{within.low:.2f} to {within.high:.2f}"
    return Checked(
        where, claim.said, f"{found} of {within.n} of a sample, which tells {share}", low <= float(said[0]) * scale <= high
    )


def _interval(finding: Any, measured: str) -> Interval | None:
    """What a sample tells of a share or of a mean at :data:`LEVEL`."""
    if not isinstance(finding, Interval):
        return None
    if "%" in measured:
        return proportion(round(finding.value * finding.n), finding.n, level=LEVEL)
    wider = float(stats.norm.ppf((1 + LEVEL) / 2) / stats.norm.ppf((1 + finding.level) / 2))
    low, high = (finding.value + wider * (end - finding.value) for end in (finding.low, finding.high))
    return Interval(finding.value, low, high, finding.n, LEVEL)


def _same_digits(said: str, found: str) -> bool:
    """Whether two sentences are the same but for the last digits of their numbers."""
    if _NUMBER.sub("#", said) != _NUMBER.sub("#", found):
        return False
    pairs: Sequence[tuple[re.Match[str], re.Match[str]]] = list(
        zip(_NUMBER.finditer(said), _NUMBER.finditer(found), strict=True)
    )
    return all(
        abs(float(one[0]) - float(other[0])) <= (LAST_DIGITS + 0.01) * 10.0 ** -len(one["digits"] or "")
        if one["digits"]
        else one[0] == other[0]
        for one, other in pairs
    )
