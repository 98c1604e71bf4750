"""What raters called hallucinated, how well they see planted ones, and what the guards had flagged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from srh_clinic.estimates import Finding, Interval, Undefined, proportion
from srh_clinic.validation.reporting.report import Column, Table, reasoned_table
from srh_clinic.validation.statistics.paired import step_down
from srh_clinic.validation.statistics.two_way import around_zero, paired_two_way, preference_rate
from srh_clinic.validation.study.analysis.views import LEVELS, Row, Sight, Views, rate, said_of
from srh_clinic.validation.study.records import CATEGORIES, Hallucination, Region
from srh_clinic.validation.study.unblinding import Answer

CALLED: Mapping[str, Hallucination] = {"definite": "definite", "definite or possible": "possible"}
"""What counts as called, and the least that a rater must have said."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, px."""

NEAR = 2.0
"""A point within so many radii of a planted nucleus is a mark of it: who clicks beside a nucleus means that nucleus."""

LARGEST_FIND = 8.0
"""Edge, in radii of a planted nucleus, of the largest box that is a mark of it: one around much of the image finds nothing."""

LISTED = 60
"""Rows at most of a list of single regions."""


def methods_of(views: Views) -> tuple[str, ...]:
    """The method under test and the baselines; of those only what was shown."""
    shown = {one.method for one in views.sights()}
    known = (views.protocol.test, *views.protocol.baselines)
    return tuple(one for one in known if one in shown) + tuple(sorted(shown - set(known)))


def hallucination_rows(views: Views) -> list[Row]:
    """How often each method's images were called hallucinated, with the headline and the naive interval."""
    rows: list[Row] = []
    sights = views.sights()
    for method in methods_of(views):
        seen = [one for one in sights if one.method == method]
        cases = {one.case for one in seen}
        row: dict[str, Any] = {"method": method, "ratings": len(seen), "images": len(cases)}
        for name, least in CALLED.items():
            called = [float(one.called(least)) for one in seen]
            row[name] = rate(called, seen)
            row[f"{name}, naive"] = proportion(int(sum(called)), len(seen))
            row[f"{name}, images"] = len({one.case for one in seen if one.called(least)})
        rows.append(row)
    return rows


def hallucination_table(views: Views) -> Table:
    """The rows of :func:`hallucination_rows`."""
    columns = [Column("method", "Method"), Column("ratings", "Ratings", "d"), Column("images", "Images", "d")]
    for name in CALLED:
        columns += [
            Column(name, f"Called {name}", ".3f"),
            Column(f"{name}, naive", f"{name.capitalize()}, naive", ".3f"),
            Column(f"{name}, images", f"Images ever called {name}", "d"),
        ]
    note = (
        f"Share of ratings, that is of images as the average rater calls them. Intervals: two-way ({views.cluster_name} x "
        "rater); naive is Clopper-Pearson as if ratings were independent. More ratings of a method make it likelier that "
        "somebody ever called one of its images, so the last columns do not compare methods."
    )
    return reasoned_table("Hallucinations by method", columns, hallucination_rows(views), note)


def mcnemar_table(views: Views) -> Table:
    """The method under test against each baseline in the same task, called by at least one of the raters who saw both."""
    columns = (
        Column("baseline", "Against"),
        Column("least", "Called"),
        Column("tasks", "Tasks", "d"),
        Column("both", "Both", "d"),
        Column("test", "Only the method under test", "d"),
        Column("other", "Only the baseline", "d"),
        Column("share", "Only the method under test, of either", ".3f"),
        Column("p", "p, McNemar", ".2g"),
        Column("p_holm", "p, Holm", ".2g"),
        Column("difference", "Difference of rates", ".3f"),
        Column("p_difference", "p, two-way", ".2g"),
    )
    rows = [row for name, least in CALLED.items() for row in _mcnemar_rows(views, name, least)]
    note = (
        "McNemar's test, exact, wants independent pairs: a pair is a task, called by at least one of its raters, and each "
        "baseline meets an image once, so ratings of the same image do not count twice; that raters recur between tasks it "
        "cannot know. Its p is below 0.05 where the exact interval of the share beside it, of the tasks with one of the two "
        "called, leaves 1/2 out. The difference (method under test less baseline, paired within rater and task) has the "
        "two-way interval, which knows of raters, and the p of the same variance. Holm over the baselines, of McNemar's."
    )
    return reasoned_table("Hallucinations against each baseline", columns, rows, note)


def cochran_table(views: Views, seed: int) -> Table:
    """Cochran's Q over all methods, where the same images were shown under all of them."""
    columns = (
        Column("least", "Called"),
        Column("methods", "Methods", "d"),
        Column("images", "Images under all methods", "d"),
        Column("q", "Q", ".2f"),
        Column("p", "p", ".2g"),
    )
    rows = [_cochran_row(views, name, least, seed) for name, least in CALLED.items()]
    note = (
        "Cochran's Q wants every image under every method, each judged alike; it is computed on the images for which that "
        "holds, called by at least one rater of a task, the method under test by those of one task drawn under the seed (it "
        "is in every task, and more raters would call more). Different raters judge different methods of an image, which "
        "the test does not know."
    )
    return reasoned_table("All methods at once", columns, rows, note)


def detected(answer: Answer) -> bool:
    """Whether a rater noticed an edit: called its side possible or definite, or marked the planted place."""
    key, side = answer.key, answer.key.sentinel_side or "A"
    said = said_of(answer, side)
    if said is not None and said != "none":
        return True
    return key.planted is not None and any(
        region.side == side and marks(region, key.planted) for region in answer.rating.regions
    )


def marks(region: Region, planted: tuple[float, float, float]) -> bool:
    """Whether a region is a mark of the nucleus at ``x, y`` with a radius, px.

    A point counts within twice the radius, a box no longer than :data:`LARGEST_FIND` radii that comes within the radius.
    """
    x, y, radius = planted
    if region.shape == "point":
        return bool(np.hypot(region.xy[0] - x, region.xy[1] - y) <= NEAR * radius)
    left, top, right, bottom = box_of(region)
    if max(right - left, bottom - top) > LARGEST_FIND * radius:
        return False
    nearest = np.clip(x, left, right), np.clip(y, top, bottom)
    return bool(np.hypot(nearest[0] - x, nearest[1] - y) <= radius)


def false_alarm(answer: Answer) -> bool:
    """Whether a rater called anything of a sentinel with two equal sides."""
    return any(said_of(answer, side) not in (None, "none") for side in ("A", "B"))


def contradicted(answer: Answer) -> bool:
    """Whether a rater called one of two equal sides and not the other."""
    said = [said_of(answer, side) for side in ("A", "B")]
    return None not in said and said[0] != said[1]


def sensitivity(views: Views) -> Finding:
    """Proportion of planted and erased nuclei that raters noticed, with the headline interval."""
    planted = views.planted("added", "removed")
    return preference_rate(
        [float(detected(one)) for one in planted],
        [views.cluster(one.key) for one in planted],
        [one.rating.rater_id for one in planted],
    )


def sentinel_table(views: Views) -> Table:
    """What raters made of each kind of sentinel."""
    columns = (
        Column("what", "Sentinel"),
        Column("answers", "Answers", "d"),
        Column("raters", "Raters", "d"),
        Column("share", "Share", ".3f"),
        Column("naive", "Naive", ".3f"),
    )
    sharp = [one for one in views.planted("blurred") if one.rating.pref_quality is not None]
    same = views.planted("same")
    sides = [one for one in same if one.task.img_B is not None]
    rows = [
        _sentinel_row(views, "nucleus planted: noticed", views.planted("added"), detected),
        _sentinel_row(views, "nucleus erased: noticed", views.planted("removed"), detected),
        _sentinel_row(views, "planted or erased: noticed (sensitivity)", views.planted("added", "removed"), detected),
        _sentinel_row(views, "nothing edited: called all the same (false alarm)", same, false_alarm),
        _sentinel_row(views, "two equal sides: called one and not the other", sides, contradicted),
        _sentinel_row(views, "one side blurred: the other preferred in quality", sharp, _prefers_sharp),
    ]
    note = (
        "Noticed is: called possible or definite on the edited side, or a region marked at the place (a point within two "
        "radii, a box no longer than eight radii that touches it). A call on an unedited restoration may be of a "
        "hallucination that it really has, so false alarms are at most this many; two answers to two equal sides are "
        "certainly one error."
    )
    rows = [row for row in rows if row["answers"]] if any(row["answers"] for row in rows) else []
    return reasoned_table("Sentinels", columns, rows, note)


def bounds_table(views: Views) -> Table:
    """Upper bounds on the rate of hallucinations, corrected by what raters overlook."""
    columns = (
        Column("method", "Method"),
        Column("images", "Images", "d"),
        Column("clean", "Images nobody called", "d"),
        Column("called", "Called definite or possible", ".3f"),
        Column("upper", "Upper bound as seen", ".3f"),
        Column("sensitivity", "Sensitivity", ".3f"),
        Column("corrected", "Upper bound, corrected", ".3f"),
    )
    found = sensitivity(views)
    rows = []
    sights = views.sights()
    for method in methods_of(views):
        seen = [one for one in sights if one.method == method]
        called = rate([float(one.called("possible")) for one in seen], seen)
        row: dict[str, Any] = {
            "method": method,
            "images": len({one.case for one in seen}),
            "clean": len({one.case for one in seen} - {one.case for one in seen if one.called("possible")}),
            "called": called,
            "sensitivity": found,
        }
        if isinstance(called, Interval):
            row["upper"] = called.high
            row["corrected"] = corrected_bound(called, found)
        rows.append(row)
    note = (
        "Whoever overlooks a share of hallucinations sees at most the rate times the sensitivity: the corrected bound is "
        "the upper end of the rate over the lower end of the sensitivity, each one-sided at 97.5 %, so together at 95 % or "
        "more (Bonferroni), and at most 1. False alarms are not subtracted. The sensitivity is to planted and erased "
        "nuclei; other kinds may be overlooked more often."
    )
    return reasoned_table("Upper bounds", columns, rows, note)


def corrected_bound(called: Interval, found: Finding) -> float | Undefined:
    """The highest rate of hallucinations that goes with how many were called and what proportion is noticed."""
    if isinstance(found, Undefined):
        return Undefined("the study has no planted or erased nuclei, so nobody knows what raters overlook")
    if found.low <= 0:
        return Undefined("the sensitivity may be 0, so any rate goes with what was called")
    return min(1.0, called.high / found.low)


def guard_table(views: Views) -> Table:
    """Regions that raters marked against those that the guards flagged in the same images."""
    columns = (
        Column("what", "Share"),
        Column("of", "Of", "d"),
        Column("share", "With the other", ".3f"),
    )
    rows: list[Row] = []
    flags: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    marked: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for answer in views.real:
        who = views.cluster(answer.key), answer.rating.rater_id
        for side, box, kind in _flagged(answer):
            hit = any(one.side == side and overlap(box_of(one), box) for one in answer.rating.regions)
            for name in ("all kinds", kind):
                flags[name].append((float(hit), *who))
        for region in answer.rating.regions:
            hit = any(side == region.side and overlap(box_of(region), box) for side, box, _ in _flagged(answer))
            for name in ("all categories", region.category):
                marked[name].append((float(hit), *who))
    none = Undefined("the guards flagged nothing in the images shown")
    rows.append(_proportion_row("flags that raters marked (precision of the guards)", flags["all kinds"], none))
    rows += [_proportion_row(f"flags of {kind}", flags[kind], none) for kind in sorted(flags) if kind != "all kinds"]
    none = Undefined("raters marked no region")
    rows.append(_proportion_row("marked regions that were flagged (recall of the guards)", marked["all categories"], none))
    rows += [_proportion_row(f"marked as {name}", marked[name], none) for name in CATEGORIES if name in marked]
    note = (
        "A flag and a mark agree where they overlap on the same side of the same task; each viewing of a flag counts. "
        "Raters did not know of the flags and were not asked to mark everything, so precision is a lower bound. Two-way "
        "intervals."
    )
    return reasoned_table("Guards against raters' regions", columns, rows, note)


def focus_table(views: Views) -> Table | None:
    """In a review, what experts say of regions that the guards flagged and of those that they did not; None without any."""
    asked = [one for one in views.real if one.key.focus_flagged is not None and one.rating.halluc_A is not None]
    if not asked:
        return None
    columns = (
        Column("what", "Regions"),
        Column("regions", "Regions", "d"),
        Column("of", "Answers", "d"),
        *(Column(name, f"Called {name}", ".3f") for name in CALLED),
    )
    flagged = [one for one in asked if one.key.focus_flagged]
    parts: dict[str, list[Answer]] = {
        "flagged (confirmed: precision)": flagged,
        "not flagged (missed by the guards)": [one for one in asked if not one.key.focus_flagged],
    }
    kinds: dict[str, list[Answer]] = defaultdict(list)
    for answer in flagged:
        for kind in {kind for _, box, kind in _flagged(answer) if overlap(box, _focus(answer))}:
            kinds[kind].append(answer)
    parts |= {f"flagged as {kind}": kinds[kind] for kind in sorted(kinds)}
    rows: list[Row] = []
    for name, answers in parts.items():
        row: dict[str, Any] = {
            "what": name,
            "of": len(answers),
            "regions": len({(a.key.case_id, a.task.focus) for a in answers}),
        }
        for called, least in CALLED.items():
            row[called] = _focus_rate(views, answers, least)
        rows.append(row)
    recall: dict[str, Any] = {"what": "called regions that were flagged (recall within this mix)"}
    for called, least in CALLED.items():
        positive = [one for one in asked if _says(one, least)]
        recall[called] = (
            preference_rate(
                [float(bool(one.key.focus_flagged)) for one in positive],
                [views.cluster(one.key) for one in positive],
                [one.rating.rater_id for one in positive],
            )
            if positive
            else Undefined("nothing was called")
        )
    rows.append(recall)
    note = "Recall depends on how many unflagged regions were mixed in and says nothing of other images. Two-way intervals."
    return reasoned_table("Flagged regions reviewed", columns, rows, note)


def missed_table(views: Views) -> Table | None:
    """Regions that raters marked, or called when asked, and no guard had flagged; None where there is none."""
    columns = (
        Column("case", "Case"),
        Column("method", "Method"),
        Column("rater", "Rater"),
        Column("category", "Category"),
        Column("severity", "Severity"),
        Column("place", "x, y (px)"),
    )
    rows: list[Row] = []
    for answer in views.real:
        key = answer.key
        shared = {"case": key.case_id, "rater": answer.rating.rater_id}
        found = [
            {
                **shared,
                "method": _method(answer, one.side),
                "category": one.category,
                "severity": one.severity,
                "place": _centre(one),
            }
            for one in answer.rating.regions
            if not any(side == one.side and overlap(box_of(one), box) for side, box, _ in _flagged(answer))
        ]
        rows += found
        if not found and key.focus_flagged is False and _says(answer, "possible") and answer.task.focus:
            x, y, width, height = answer.task.focus
            said = str(answer.rating.halluc_A)
            rows.append(
                {
                    **shared,
                    "method": key.side_A_method,
                    "category": f"called {said}",
                    "place": f"{x + width // 2}, {y + height // 2}",
                }
            )
    if not rows:
        return None
    rows.sort(key=lambda row: (row["case"], row["method"], row["rater"], row["place"]))
    note = f"The first {LISTED} of {len(rows)}." if len(rows) > LISTED else ""
    return reasoned_table("What the guards missed", columns, rows[:LISTED], note)


def box_of(region: Region) -> Box:
    """A region's box; a point is one without extent."""
    x = region.xy
    if region.shape == "point":
        return x[0], x[1], x[0], x[1]
    return min(x[0], x[2]), min(x[1], x[3]), max(x[0], x[2]), max(x[1], x[3])


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a point."""
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _mcnemar_rows(views: Views, name: str, least: Hallucination) -> list[dict[str, Any]]:
    from statsmodels.stats.contingency_tables import mcnemar

    rows: list[dict[str, Any]] = []
    for baseline in views.protocol.baselines:
        pairs = _paired(views, baseline)
        tasks: dict[str, list[tuple[Sight, Sight]]] = defaultdict(list)
        for ours, theirs in pairs:
            tasks[ours.case].append((ours, theirs))
        table = np.zeros((2, 2), dtype=int)
        for seen in tasks.values():
            table[int(any(a.called(least) for a, _ in seen)), int(any(b.called(least) for _, b in seen))] += 1
        discordant = int(table[0, 1] + table[1, 0])
        why = "raters told the two apart in no task" if tasks else "it was in no task with both sides judged"
        between = paired_two_way(
            [float(a.called(least)) - float(b.called(least)) for a, b in pairs],
            [a.cluster for a, _ in pairs],
            [a.rater for a, _ in pairs],
        )
        rows.append(
            {
                "baseline": baseline,
                "least": name,
                "tasks": len(tasks),
                "both": int(table[1, 1]),
                "test": int(table[1, 0]),
                "other": int(table[0, 1]),
                "share": proportion(int(table[1, 0]), discordant) if discordant else Undefined(why),
                "p": float(mcnemar(table, exact=True).pvalue) if discordant else Undefined(why),
                "difference": between if isinstance(between, Undefined) else around_zero(between.interval()),
                "p_difference": between if isinstance(between, Undefined) else between.p_value(),
            }
        )
    tested = [row for row in rows if isinstance(row["p"], float)]
    if tested:
        for row, p in zip(tested, step_down([row["p"] for row in tested]), strict=True):
            row["p_holm"] = float(p)
    return rows


def _paired(views: Views, baseline: str) -> list[tuple[Sight, Sight]]:
    """Of each rating of a task with this baseline, what was said of the method under test and of the baseline."""
    pairs = []
    for answer in views.real:
        of = {one.method: one for one in views.sights_of([answer])}
        if set(of) == {views.protocol.test, baseline}:
            pairs.append((of[views.protocol.test], of[baseline]))
    return pairs


def _cochran_row(views: Views, name: str, least: Hallucination, seed: int) -> dict[str, Any]:
    from statsmodels.stats.contingency_tables import cochrans_q

    methods = methods_of(views)
    called: dict[str, dict[str, dict[str, bool]]] = defaultdict(lambda: defaultdict(dict))
    for one in views.sights():
        tasks = called[one.case][one.method]
        tasks[one.versus] = tasks.get(one.versus, False) or one.called(least)
    random = np.random.default_rng(seed)
    blocks = [
        [called[case][method][str(random.choice(sorted(called[case][method])))] for method in methods]
        for case in sorted(called)
        if set(called[case]) == set(methods)
    ]
    row: dict[str, Any] = {"least": name, "methods": len(methods), "images": len(blocks)}
    if len(methods) < 2:
        return row | {"q": Undefined("there is one method only")}
    if len(blocks) < 2:
        shown = sorted({len(of) for of in called.values()})
        each = f"{shown[0]} to {shown[-1]}" if len(shown) > 1 else f"{shown[0]}" if shown else "none"
        why = f"the design is incomplete: an image was shown under {each} of {len(methods)} methods, never under all"
        return row | {"q": Undefined(why)}
    table = np.array(blocks, dtype=int)
    if (table.min(axis=1) == table.max(axis=1)).all():
        return row | {"q": Undefined("raters told no methods apart in any image")}
    found = cochrans_q(table)
    return row | {"q": float(found.statistic), "p": float(found.pvalue)}


def _sentinel_row(views: Views, what: str, answers: Sequence[Answer], is_so: Any) -> dict[str, Any]:
    outcome = [float(is_so(one)) for one in answers]
    raters = [one.rating.rater_id for one in answers]
    row: dict[str, Any] = {"what": what, "answers": len(answers), "raters": len(set(raters))}
    if answers:
        row["share"] = preference_rate(outcome, [views.cluster(one.key) for one in answers], raters)
        row["naive"] = proportion(int(sum(outcome)), len(outcome))
    return row


def _prefers_sharp(answer: Answer) -> bool:
    side = answer.key.sentinel_side
    return answer.rating.pref_quality == ("B" if side == "A" else "A")


def _flagged(answer: Answer) -> Iterable[tuple[str, Box, str]]:
    for side, x, y, width, height, kind in answer.key.flagged:
        yield side, (x, y, x + width, y + height), kind


def _focus(answer: Answer) -> Box:
    x, y, width, height = answer.task.focus or (0, 0, answer.task.width, answer.task.height)
    return x, y, x + width, y + height


def _says(answer: Answer, least: Hallucination) -> bool:
    said = answer.rating.halluc_A
    return said is not None and LEVELS.index(said) >= LEVELS.index(least)


def _focus_rate(views: Views, answers: Sequence[Answer], least: Hallucination) -> Finding:
    return preference_rate(
        [float(_says(one, least)) for one in answers],
        [views.cluster(one.key) for one in answers],
        [one.rating.rater_id for one in answers],
    )


def _proportion_row(what: str, records: Sequence[tuple[float, str, str]], none: Undefined) -> Row:
    scores, clusters, raters = zip(*records, strict=True) if records else ((), (), ())
    return {"what": what, "of": len(records), "share": preference_rate(scores, clusters, raters) if records else none}


def _method(answer: Answer, side: str) -> str:
    return str(answer.key.side_A_method if side == "A" else answer.key.side_B_method)


def _centre(region: Region) -> str:
    left, top, right, bottom = box_of(region)
    return f"{(left + right) / 2:.0f}, {(top + bottom) / 2:.0f}"
