"""The guards: calibrated on phantoms in which something was changed, and judged on others.

Hallucinations come in two ways: nuclei planted into restored phantoms and erased from them, whose place is known, and
restorations by methods that invent, judged against the clean phantom.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.bundles import Bundle, annotate_bundle, load_bundle
from srh_clinic.case.provenance import guard_policy_of
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.guards import GUARDS, NUCLEUS_VERSION, examine, steps_left
from srh_clinic.inference import choose_device
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import Interval, nuclei_changes, proportion
from srh_clinic.progress import Progress, silent
from srh_clinic.restorers.diffusion import load_calibrator
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.simulation import Phantom
from srh_clinic.simulation.edits import CONTRASTS, ERASED, erase_nucleus, plant_nucleus
from srh_clinic.trust import GuardPolicy, calibrated_policy, conformal_limit
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer, chunks
from srh_clinic.validation.bench.cells import CellStore
from srh_clinic.validation.bench.methods import BASELINES, METHODS, WHOLE, Method
from srh_clinic.validation.bench.protocol import COIN_STREAM, EDIT_STREAM, SEVERITIES, Protocol, load_protocol
from srh_clinic.validation.reporting.figures import roc_curves
from srh_clinic.validation.reporting.page import write_reports
from srh_clinic.validation.reporting.report import CRITERIA, Column, Figure, Report, Table

EXAMINED = 3
"""Version of what :func:`examined` measures; cells of another are computed anew."""

LEAST_AUC = 0.95
"""Area under the curve that was asked for at the protocol's contrast."""

MOST_FALSE_FLAGS = 0.05
"""Share of faithful restorations that may be flagged."""

SMALLEST_ERASED_PX = 4.0
"""Nuclei of a smaller radius are not erased: what the guards look for is larger."""

PROMISING = ("nucleus",)
"""Guards that the promise is made of: what it promises is that nuclei are not missed."""

PATTERN = "lattice"
"""The guard of patterns, whose limit is not read off restorations that may have one."""

NO_CURVE = ("one_channel", PATTERN)
"""Guards that the figure leaves out: what the first says is in ``nucleus``, and the other speaks of no nuclei."""

LIMITED = ("brightness", "structure", "steps_left")
"""Guards that do not look for nuclei speak in the extreme alone: each adds its false flags to those of the others."""

FALSE_FLAGS = 0.0025
"""Share of faithful tiles that each of them may flag."""

CONTROL = "lattice_control"
"""The strongest answer of the guard of patterns where no grid has a frequency: what it says without a pattern."""

LEAST_PATTERN = 2.0
"""A pattern of less than this many times the amplitude around it is never flagged: who sees it has to know of it."""

PATTERN_FALSE_FLAGS = 0.005
"""Share of tiles without a pattern that the limit of patterns may flag."""

FAITHFUL, WRONG = "faithful", "wrong"
"""RSCD's own restorations, by what the clean phantom says of them."""

Scores = Mapping[str, float]
Variants = Callable[[str, int, Phantom, Counts], Iterable[tuple[str, Counts]]]
"""Of a method's name and a restored phantom by number: groups, and the images that belong to them."""


@dataclass(frozen=True)
class Case:
    """A restored phantom that was examined: what was done to it, and what the guards said."""

    index: int
    group: str
    scores: Scores
    steps: int


@dataclass(frozen=True)
class Examiner:
    """Restores phantoms, changes them in known ways, and asks the guards.

    Parameters
    ----------
    bench
        Its protocol says which phantoms.
    inventing
        Methods that invent beside RSCD, and the phantoms that each restores.
    sparing
        Examine of a phantom's edits the one that a promise is made of and no other, which is all that a calibration needs.
    """

    bench: Bench
    inventing: Sequence[tuple[Method, Sequence[int]]] = ()
    sparing: bool = False

    def cases(self) -> list[Case]:
        """Every case; those that are not on disk yet are computed and put there."""
        found = list(self._of(METHODS[WHOLE], self.bench.indices, self._edited))
        for method, indices in self.inventing:
            found += self._of(method, indices, self._judged)
        return found

    def _of(self, method: Method, indices: Sequence[int], variants: Variants) -> Iterator[Case]:
        store = CellStore(self.bench.work / "guards.jsonl", ("method", "phantom"))
        calibrate = load_calibrator(self.bench.bundle, choose_device(self.bench.device))
        with PhantomRestorer(self.bench, method, keep=True) as restorer, ThreadPoolExecutor(os.cpu_count()) as threads:
            sparing = {"contrast": self.bench.protocol.guards.contrast} if self.sparing else {}
            key = fingerprint(version=EXAMINED, restored=restorer.fingerprint, edits=[CONTRASTS, ERASED], **sparing)
            for members in chunks([i for i in indices if store.get(key, method.name, i) is None]):
                phantoms = dict(zip(members, threads.map(self.bench.protocol.phantom, members), strict=True))
                made = restorer({i: phantom.counts for i, phantom in phantoms.items()})
                drawn = threads.map(lambda i: list(variants(method.name, i, phantoms[i], made[i].counts)), members)  # noqa: B023
                shown = [(i, group, image) for i, images in zip(members, drawn, strict=True) for group, image in images]
                groups: dict[int, dict[str, Scores]] = {i: {} for i in members}
                for (i, group, _), scores in zip(shown, self._examined(shown, phantoms, calibrate, threads), strict=True):
                    groups[i][group] = scores
                for i in members:
                    steps = made[i].steps_predicted or 0
                    store.put(key, method=method.name, phantom=i, steps=steps, groups=groups[i])
                self.bench.report(f"guards: {method.name}", members[-1] + 1, indices[-1] + 1)
        for i in indices:
            if kept := store.get(key, method.name, i):
                yield from (Case(i, group, scores, kept["steps"]) for group, scores in kept["groups"].items())

    def _examined(
        self,
        shown: Sequence[tuple[int, str, Counts]],
        phantoms: Mapping[int, Phantom],
        calibrate: Callable[[Any], Any],
        threads: ThreadPoolExecutor,
    ) -> Iterator[Scores]:
        """What the guards say of images of phantoms by number; the calibrator is asked about all of them at once."""
        if not shown:
            return iter(())
        left = steps_left(np.stack([counts_to_unit(image) for _, _, image in shown]), calibrate)

        def scores(one: tuple[int, str, Counts], asked: float) -> Scores:
            phantom = phantoms[one[0]]
            found = examine(counts_to_unit(phantom.counts), counts_to_unit(one[2]), phantom.um_per_px, asked, control=True)
            control = {} if found.pattern is None else {CONTROL: found.pattern.without}
            return {name: round(score, 5) for name, score in {**found.scores, **control}.items()}

        return threads.map(scores, shown, left.tolist())

    def _edited(self, name: str, index: int, phantom: Phantom, restored: Counts) -> Iterator[tuple[str, Counts]]:
        """The restoration itself, and with a nucleus more or less at each contrast; nothing of a tile that was left alone."""
        if np.array_equal(restored, phantom.counts):
            return
        yield _judgement(phantom, restored), restored
        rng = np.random.default_rng([self.bench.protocol.seed(index), EDIT_STREAM])
        nuclei = np.asarray(phantom.nuclei, dtype=np.float64).reshape(-1, 3)
        edits: dict[str, Counts] = {}
        for contrast in CONTRASTS:
            planted = plant_nucleus(rng, restored, nuclei, CONTRASTS[contrast], phantom.um_per_px)
            erased = erase_nucleus(rng, restored, nuclei[nuclei[:, 2] > SMALLEST_ERASED_PX], ERASED[contrast])
            for what, edit in (("planted", planted), ("erased", erased)):
                if edit is not None:
                    edits[f"{what} {contrast}"] = edit.counts
        chosen = promised_group(index, edits, self.bench.protocol) if self.sparing else None
        yield from (one for one in edits.items() if not self.sparing or one[0] == chosen)

    def _judged(self, name: str, index: int, phantom: Phantom, restored: Counts) -> Iterator[tuple[str, Counts]]:
        """The restoration of another method, by what the clean phantom says of it."""
        yield f"{name} {_judgement(phantom, restored)}", restored


def _judgement(phantom: Phantom, restored: Counts) -> str:
    changes = nuclei_changes(counts_to_unit(restored), counts_to_unit(phantom.clean), phantom.um_per_px, truth=phantom.nuclei)
    return WRONG if changes.added + changes.removed else FAITHFUL


def promised(cases: Sequence[Case], protocol: Protocol) -> list[Case]:
    """One edit a phantom at the protocol's contrast, planted or erased by a coin: what the promise is made for."""
    by_index: dict[int, dict[str, Case]] = {}
    for case in cases:
        by_index.setdefault(case.index, {})[case.group] = case
    chosen = ((groups, promised_group(index, groups, protocol)) for index, groups in sorted(by_index.items()))
    return [groups[group] for groups, group in chosen if group is not None]


def promised_group(index: int, groups: Container[str], protocol: Protocol) -> str | None:
    """Of the groups that a phantom's edits belong to, the one that the coin falls on; None where it has neither."""
    both = [f"{what} {protocol.guards.contrast}" for what in ("planted", "erased")]
    if np.random.default_rng([protocol.seed(index), COIN_STREAM]).random() < 0.5:
        both.reverse()
    # Where there is no nucleus to erase, or no room for one, the other is done.
    return next((group for group in both if group in groups), None)


def pattern_limit(controls: ArrayLike) -> float:
    """From which amplitude on a pattern of a grid is flagged: at least :data:`LEAST_PATTERN`.

    It is what the guard says without a pattern in all but :data:`PATTERN_FALSE_FLAGS` of tiles, read beside the frequencies
    of a grid and not at them, so weights that leave a pattern everywhere do not talk their own limit up.
    """
    return max(LEAST_PATTERN, conformal_limit(controls, PATTERN_FALSE_FLAGS))


def policy_from(cases: Sequence[Case], protocol: Protocol, weights_sha256: str) -> GuardPolicy:
    """The threshold of the promise from the edits, limits of the other guards from the faithful restorations.

    One guard makes the promise, so its scale, which only says how loud a faithful tile is, cancels in the threshold: each edit
    may count, also of a phantom whose restoration the scale is read from. The rate of false flags is no promise; what holds it
    down is that one guard looks for nuclei, with all the evidence that there is at a place, and that the others speak in the
    extreme.
    """
    faithful = [case.scores for case in cases if case.group == FAITHFUL]
    wrong = promised(cases, protocol)
    limits = {name: conformal_limit([scores[name] for scores in faithful], FALSE_FLAGS) for name in LIMITED}
    restored = [case for case in cases if case.group in (FAITHFUL, WRONG)]
    steps = [case.steps for case in restored]
    controls = [case.scores[CONTROL] for case in restored if CONTROL in case.scores]
    phantoms = protocol.phantoms
    edits = CONTRASTS[protocol.guards.contrast], ERASED[protocol.guards.contrast]
    if controls:
        limits[PATTERN] = pattern_limit(controls)
    return calibrated_policy(
        [{name: scores[name] for name in PROMISING} for scores in faithful],
        [case.scores for case in wrong],
        protocol.guards.alphas,
        steps=(min(steps), max(steps)),
        limits=limits,
        calibration={
            "faithful tiles": len(faithful),
            "tiles with one edit": len(wrong),
            "tiles heard for patterns": len(controls),
            "edits": f"a nucleus planted at contrast {edits[0]:g}, or {edits[1]:.0%} of one erased",
            "images": f"phantoms of {phantoms.size} px, all kinds and severities, first seed {phantoms.first_seed}",
            "restored by": "rscd",
            "settings": RSCDSettings().model_dump_json(),
            "version of nucleus": NUCLEUS_VERSION,
            "weights_sha256": weights_sha256,
        },
    )


def calibrate_guards(
    path: str | Path,
    work: str | Path,
    *,
    device: str = "auto",
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> Bundle:
    """Calibrate the guards for a bundle's networks and write the thresholds into its metadata (``trust``).

    Parameters
    ----------
    path
        Folder of the bundle.
    work
        Folder for what is restored on the way; a run that was cut goes on from there.

    Raises
    ------
    InputError
        When the bundle cannot be read or written, or lacks a network.
    """
    bundle, fixed = load_bundle(path), load_protocol(protocol).for_calibration
    cases = Examiner(Bench(fixed, bundle, Path(work), device, None, report), sparing=True).cases()
    policy = policy_from(cases, fixed, bundle.weights_sha256)
    return annotate_bundle(bundle, {"trust": policy.model_dump(mode="json")})


def guards(bench: Bench) -> Report:
    """ROC of the guards, alone and together, and whether the bundle's promises hold on the test phantoms."""
    policy = guard_policy_of(bench.bundle)
    if policy is None:
        needed = "those that srh-clinic bundle calibrate writes for these weights"
        raise InputError("no thresholds for the guards", needed, bench.bundle.path)
    protocol = bench.protocol
    stride = protocol.guards.overlong_stride * len(SEVERITIES)
    some = [i for i in bench.indices if i % stride < len(SEVERITIES)]
    overlong = Method("rscd_overlong", "rscd", {"fixed_steps": protocol.guards.overlong_steps})
    inventing = ((Method("cyclegan", "cyclegan", bundle=BASELINES), bench.indices), (overlong, some))
    cases = Examiner(bench, inventing).cases()
    calibration = Bench(protocol.for_calibration, bench.bundle, bench.out / "calibration", bench.device, None, bench.report)
    performance = GuardPerformance(cases, Examiner(calibration, sparing=True).cases(), policy, protocol)
    return Report(
        name="guards",
        title="What the guards find",
        summary=(
            f"{len(bench.indices)} test phantoms restored by RSCD with its defaults, each with one nucleus planted or erased "
            "at three contrasts, and restorations by methods that invent. Faithful are the restorations by RSCD in which, "
            "against the clean phantom, no nucleus was added or removed. One case is one tile of "
            f"{protocol.phantoms.size} px; intervals are exact binomial ones, or 95% bootstrap ones over tiles for areas."
        ),
        tables=performance.tables(),
        provenance=bench.provenance(0, calibration=policy.calibration["images"]),
        figures=[performance.figure()],
    )


@dataclass(frozen=True)
class GuardPerformance:
    """The guards on cases of which it is known whether they are right.

    Parameters
    ----------
    cases
        Of the test phantoms.
    calibration
        Of the calibration phantoms.
    """

    cases: Sequence[Case]
    calibration: Sequence[Case]
    policy: GuardPolicy
    protocol: Protocol

    def tables(self) -> tuple[Table, ...]:
        """What was asked, the areas, the promises, the promises under a shift of severity."""
        areas, promises, shifts = self._areas(), self._promises(), self._shifts()
        interval = Column("area", "Area under the curve", ".3f")
        return (
            Table("What was asked", CRITERIA, self._criteria(areas, promises)),
            Table(
                "All guards together",
                (
                    Column("group", "Cases"),
                    Column("n", "n", "d"),
                    interval,
                    *(Column(f"flagged_{alpha:g}", f"Flagged at {alpha:g}", ".1%") for alpha in self.protocol.guards.alphas),
                ),
                areas,
                f"Against {len(self._strengths(FAITHFUL))} faithful restorations; the last row is of these.",
            ),
            Table(
                "Each guard alone: area under the curve",
                (Column("group", "Cases"), *(Column(name, name, ".3f") for name in GUARDS)),
                [{"group": group, **{name: self._area(group, name) for name in GUARDS}} for group in self._groups()],
            ),
            Table(
                "The promised miss rate on tiles that were not calibrated on",
                (
                    Column("alpha", "Promised", ".0%"),
                    Column("threshold", "Threshold", ".3f"),
                    Column("cases", "Tiles"),
                    Column("n", "n", "d"),
                    Column("missed", "Missed", ".1%"),
                    Column("false_flags", "Faithful ones flagged", ".1%"),
                ),
                promises,
                "One edit a tile at the usual contrast, planted or erased by a coin.",
            ),
            Table(
                "Under a shift of severity",
                (
                    Column("alpha", "Promised", ".0%"),
                    Column("calibrated", "Calibrated on"),
                    Column("threshold", "Threshold", ".3f"),
                    Column("judged", "Judged on"),
                    Column("n", "n", "d"),
                    Column("missed", "Missed", ".1%"),
                    Column("false_flags", "Faithful ones flagged", ".1%"),
                ),
                shifts,
                "The promise is made for tiles like those that were calibrated on; these are not.",
            ),
        )

    def figure(self) -> Figure:
        """ROC curves at the protocol's contrast."""
        contrast = self.protocol.guards.contrast
        named: dict[str, str | None] = {"together": None, **{name: name for name in GUARDS if name not in NO_CURVE}}
        panels = {}
        for group in (f"planted {contrast}", f"erased {contrast}", f"cyclegan {WRONG}", f"rscd_overlong {WRONG}"):
            if self._strengths(group).size:
                panels[group] = {
                    name: (self._strengths(FAITHFUL, of), self._strengths(group, of)) for name, of in named.items()
                }
        caption = "Share of wrong tiles flagged over that of faithful ones, for every threshold; the faithful are RSCD's."
        return Figure("guards_roc", "Guards alone and together", caption, roc_curves(panels))

    def _groups(self) -> list[str]:
        order = [f"{what} {contrast}" for what in ("planted", "erased") for contrast in CONTRASTS]
        order += [WRONG, f"cyclegan {WRONG}", f"rscd_overlong {WRONG}"]
        return [group for group in order if self._strengths(group).size]

    def _strengths(self, group: str, of: str | None = None) -> NDArray[np.float64]:
        """What one guard says, or in thresholds of the promise in use what all say together."""
        if of is not None:
            return np.array([scores[of] for scores in self._scores(group)])
        threshold = self.policy.promises[0].threshold
        return np.array([max(self.policy.against(one, threshold).values(), default=0.0) for one in self._scores(group)])

    def _scores(self, group: str) -> list[Scores]:
        return [case.scores for case in self.cases if case.group == group]

    def _area(self, group: str, of: str | None = None) -> Interval:
        return area_under_roc(self._strengths(FAITHFUL, of), self._strengths(group, of))

    def _areas(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for group in [*self._groups(), FAITHFUL]:
            found = self._strengths(group)
            flagged = {
                f"flagged_{promise.alpha:g}": _flagged(self.policy, promise.threshold, self._scores(group))
                for promise in self.policy.promises
            }
            area = None if group == FAITHFUL else self._area(group)
            rows.append({"group": group, "n": len(found), "area": area, **flagged})
        return rows

    def _promises(self) -> list[dict[str, Any]]:
        chosen = promised(self.cases, self.protocol)
        rows = []
        for promise in self.policy.promises:
            for name in ("all", *SEVERITIES):
                row = self._kept(self.policy, promise.threshold, chosen, name)
                rows.append({"alpha": promise.alpha, "threshold": promise.threshold, "cases": name, **row})
        return rows

    def _kept(self, policy: GuardPolicy, threshold: float, chosen: Sequence[Case], severity: str) -> dict[str, Any]:
        """Misses and false flags on the test phantoms of a severity."""

        def within(cases: Iterable[Case]) -> list[Scores]:
            return [case.scores for case in cases if severity in ("all", self.protocol.bin(case.index))]

        wrong = np.array([policy.strength(scores) for scores in within(chosen)])
        faithful = within(case for case in self.cases if case.group == FAITHFUL)
        return {
            "n": len(wrong),
            "missed": proportion(int((wrong < threshold).sum()), len(wrong)),
            "false_flags": _flagged(policy, threshold, faithful) if faithful else None,
        }

    def _shifts(self) -> list[dict[str, Any]]:
        """Calibrated without one severity, judged on that alone."""
        calibration, chosen = self.protocol.for_calibration, promised(self.cases, self.protocol)
        rows = []
        for left_out in SEVERITIES:
            cases = [case for case in self.calibration if calibration.bin(case.index) != left_out]
            policy = policy_from(cases, calibration, "")
            others = " and ".join(name for name in SEVERITIES if name != left_out)
            for promise in policy.promises:
                row = self._kept(policy, promise.threshold, chosen, left_out)
                shift = {"calibrated": others, "threshold": promise.threshold, "judged": left_out}
                rows.append({"alpha": promise.alpha, **shift, **row})
        return rows

    def _criteria(self, areas: list[dict[str, Any]], promises: list[dict[str, Any]]) -> list[dict[str, Any]]:
        contrast, by_group = self.protocol.guards.contrast, {row["group"]: row for row in areas}
        asked: list[dict[str, Any]] = []
        for group in (f"planted {contrast}", f"erased {contrast}", f"cyclegan {WRONG}", f"rscd_overlong {WRONG}"):
            if group in by_group:
                area, wanted = by_group[group]["area"].value, f"{group}: area at least {LEAST_AUC}"
                asked.append({"asked": wanted, "measured": f"{area:.3f}", "met": area >= LEAST_AUC})
        for row in (row for row in promises if row["cases"] == "all"):
            missed, flags = row["missed"], row["false_flags"]
            asked.append(
                {
                    "asked": f"promised miss rate {row['alpha']:g}: held within its binomial interval",
                    "measured": f"{missed.value:.1%} of {row['n']}, interval from {missed.low:.1%}",
                    "met": missed.low <= row["alpha"],
                }
            )
            if row["alpha"] == self.policy.promises[0].alpha:
                asked.append(
                    {
                        "asked": f"false flags at most {MOST_FALSE_FLAGS:.0%} of faithful restorations, at the promise in use",
                        "measured": f"{flags.value:.1%}",
                        "met": flags.value <= MOST_FALSE_FLAGS,
                    }
                )
        return asked


def _flagged(policy: GuardPolicy, threshold: float, tiles: Sequence[Scores]) -> Interval:
    """The share of tiles in which any guard speaks, those with a limit of their own among them."""
    return proportion(sum(bool(policy.reasons(scores, threshold)) for scores in tiles), len(tiles))


def area_under_roc(
    negative: NDArray[np.float64], positive: NDArray[np.float64], *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Probability that a wrong case is stronger than a faithful one, with a bootstrap interval over both.

    Raises
    ------
    ValueError
        When there is none of either.
    """
    if not len(negative) or not len(positive):
        raise ValueError(f"found {len(negative)} faithful and {len(positive)} wrong cases; needed one or more of each.")
    rng = np.random.default_rng(seed)
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    rows = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), resamples) / len(positive)
    columns = rng.multinomial(len(negative), np.full(len(negative), 1 / len(negative)), resamples) / len(negative)
    low, high = np.quantile(np.einsum("bi,ij,bj->b", rows, wins, columns, optimize=True), [0.025, 0.975])
    return Interval(float(wins.mean()), float(low), float(high), len(positive))


def run_guards(
    out: str | Path,
    *,
    limit: int | None = None,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> Report:
    """Judge a bundle's guards and write ``guards.md``, ``.json``, ``.csv``, ``.html`` and the figure into ``out``.

    Raises
    ------
    InputError
        When the bundle states no thresholds, a network is missing, or ``out`` cannot be written.
    """
    bench = Bench(load_protocol(protocol), load_bundle(bundle), Path(out), device, limit, report, Path(weights))
    made = guards(bench)
    demonstration = str(bench.bundle.metadata.get("demonstration", ""))
    write_reports([made], bench.out, "guards", "What the guards find", demonstration)
    return made
