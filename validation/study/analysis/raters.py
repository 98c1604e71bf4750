"""The raters: each one's row, agreement between them and with themselves, blinding, time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from srh_clinic.estimates import Finding, Interval, Undefined, proportion
from srh_clinic.validation.reporting.report import Column, Table, reasoned_table
from srh_clinic.validation.statistics.agreement import (
    Codes,
    cohen_pairs,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent_agreement,
    random_agreement,
)
from srh_clinic.validation.statistics.two_way import around_zero, preference_rate
from srh_clinic.validation.study.analysis.hallucinations import detected, false_alarm
from srh_clinic.validation.study.analysis.preference import by_rater, side_rows
from srh_clinic.validation.study.analysis.views import ASPECTS, CHOSEN, LEVELS, Row, Views, codes_of, rate
from srh_clinic.validation.study.unblinding import Answer

GUESSED = {"right": 1.0, "unsure": 0.5, "wrong": 0.0}


def raters_table(views: Views) -> Table:
    """Every rater's own row."""
    preference = views.protocol.kind == "preference"
    columns = [Column("rater", "Rater"), Column("group", "Group"), Column("ratings", "Real tasks", "d")]
    if preference:
        columns += [Column(aspect, f"Preference, {aspect}", ".3f") for aspect in ASPECTS]
        columns += [Column("ties", "Ties", ".2f"), Column("side", "Side A of decided", ".2f")]
    columns += [
        Column("called", "Called definite or possible", ".3f"),
        Column("sensitivity", "Noticed of planted", ".2f"),
        Column("alarms", "False alarms", ".2f"),
    ]
    if preference:
        columns += [Column("repeated", "Same when repeated", ".2f"), Column("blinding", "Blinding index", ".2f")]
    columns.append(Column("confidence", "Mean confidence", ".1f"))
    rows = [_rater_row(views, rater.rater_id) for rater in views.protocol.raters]
    note = (
        f"A rater saw each {views.cluster_name} once or a few times, so intervals here are over {views.cluster_name}s and "
        "about this rater; shares of sentinels and repeats are exact (Clopper-Pearson)."
    )
    return reasoned_table("Raters", columns, rows, note)


def agreement_table(views: Views) -> Table:
    """Agreement on each question."""
    columns = (
        Column("question", "Question"),
        Column("units", "Units", "d"),
        Column("percent", "Agreement", ".3f"),
        Column("chance", "By chance alone", ".3f"),
        Column("ac1", "Gwet's AC1", ".3f"),
        Column("fleiss", "Fleiss' kappa", ".3f"),
        Column("alpha", "Krippendorff's alpha", ".3f"),
    )
    rows = []
    for question, (codes, clusters, categories) in _questions(views).items():
        used = codes[codes >= 0]
        proportions = np.bincount(used, minlength=categories) / max(len(used), 1)
        ordinal = question == "hallucination"
        rows.append(
            {
                "question": question,
                "units": len(codes),
                "percent": percent_agreement(codes, categories, clusters),
                "chance": float((proportions**2).sum()) if categories > 2 else random_agreement(float(proportions[1])),
                "ac1": gwet_ac1(codes, categories, clusters),
                "fleiss": fleiss_kappa(codes, categories, clusters),
                "alpha": krippendorff_alpha(codes, "ordinal" if ordinal else "nominal", clusters),
            }
        )
    note = (
        "Real tasks; preferences are compared by method, not by side. A unit is a task, or one side of it where "
        "hallucinations are asked of. By chance alone: raters who answer at random with the shares seen. Alpha of "
        f"hallucinations is ordinal (none, possible, definite). Intervals are over {views.cluster_name}s and of these "
        "raters: AC1 by Gwet's variance, kappa and alpha by the jackknife, each in Wilson's form on the scale of the rarer "
        "answers, so that agreement on nothing does not count as knowledge. Percent agreement is high wherever an answer is "
        "rare; read AC1 and kappa."
    )
    return reasoned_table("Agreement between raters", columns, rows, note)


def pairs_table(views: Views) -> Table:
    """Cohen's kappa of each pair of raters."""
    questions = _questions(views)
    raters = [rater.rater_id for rater in views.protocol.raters]
    kappas = {
        question: cohen_pairs(codes, categories, clusters) for question, (codes, clusters, categories) in questions.items()
    }
    rows: list[Row] = []
    for a, b in itertools.combinations(range(len(raters)), 2):
        row: dict[str, Any] = {"pair": f"{raters[a]}, {raters[b]}"}
        for question, (codes, _, _) in questions.items():
            row[question] = kappas[question][a, b]
            row[f"{question}, n"] = int((codes[:, [a, b]] >= 0).all(axis=1).sum())
        rows.append(row)
    columns = [Column("pair", "Raters")]
    for question in questions:
        columns += [Column(f"{question}, n", f"Units, {question}", "d"), Column(question, f"Kappa, {question}", ".2f")]
    return reasoned_table(
        "Cohen's kappa of each pair",
        columns,
        rows,
        f"Unweighted kappa, jackknife over {views.cluster_name}s, in Wilson's form on the scale of the rarer answers.",
    )


def repeats_table(views: Views) -> Table:
    """How often raters answer alike when they see the same images again with the sides swapped."""
    columns = (
        Column("question", "Question"),
        Column("pairs", "Repeats", "d"),
        Column("same", "Same answer", ".3f"),
        Column("ac1", "Gwet's AC1", ".3f"),
    )
    rows: list[Row] = []
    for aspect in ASPECTS:
        pairs = [(views.choice(first, aspect), views.choice(again, aspect)) for first, again in views.repeats]
        both = [(a, b) for a, b in pairs if a and b]
        codes = [[CHOSEN.index(a.chosen), CHOSEN.index(b.chosen)] for a, b in both]
        rows.append(_repeat_row(aspect, codes, [(a.cluster, a.rater) for a, _ in both], len(CHOSEN)))
    codes, who = [], []
    for first, again in views.repeats:
        before = {one.method: one for one in views.sights_of([first])}
        for one in views.sights_of([again]):
            if one.method in before:
                codes.append([LEVELS.index(before[one.method].said), LEVELS.index(one.said)])
                who.append((one.cluster, one.rater))
    rows.append(_repeat_row("hallucination", codes, who, len(LEVELS)))
    rows = [row for row in rows if row["pairs"]]
    note = (
        "Sides are swapped in a repeat: answers are compared by method. Shares have two-way intervals, AC1 that over images."
    )
    return reasoned_table("The same rater again", columns, rows, note)


def bang_index(right: int, wrong: int, unsure: int) -> Interval | Undefined:
    """Bang's blinding index (2004, Control. Clin. Trials 25:143) of one arm, with its multinomial interval.

    ``(right - wrong) / n``: 0 for guesses by chance, 1 when all are right, -1 when all are wrong. Guesses that are all alike
    have no variance; up to ``u`` of all may yet be of another kind, Clopper and Pearson's bound for none among n, and the
    interval is ``[c - u (c + 1), c + u (1 - c)]`` for an index of c.
    """
    n = right + wrong + unsure
    if not n:
        return Undefined("nobody was asked for a guess")
    value = (right - wrong) / n
    if n in (right, wrong, unsure):
        other = proportion(0, n).high
        return Interval(value, value - other * (value + 1), value + other * (1 - value), n)
    half = 1.96 * float(np.sqrt(((right + wrong) / n - value**2) / n))
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0), n)


def blinding_table(views: Views) -> Table:
    """Whether raters could tell the method under test: Bang's index, overall and against each baseline."""
    columns = (
        Column("of", "Against"),
        Column("right", "Right", "d"),
        Column("wrong", "Wrong", "d"),
        Column("unsure", "Unsure", "d"),
        Column("index", "Bang's index", ".3f"),
        Column("naive", "Naive", ".3f"),
    )
    rows: list[Row] = []
    for baseline in (*views.protocol.baselines, "all baselines"):
        answers = [one for one in views.real if baseline in (_baseline(views, one), "all baselines")]
        rows.append({"of": baseline, **_blinding(views, answers)})
    note = (
        "(right - wrong) / n over real tasks: 0 is chance, 1 is no blinding. "
        "Two-way interval; naive is Bang's own, as if guesses were independent. A better image is a fair reason for a "
        "guess: an index above 0 need not mean a leak."
    )
    return reasoned_table("Blinding", columns, rows, note)


def sides_table(views: Views) -> Table:
    """Whether raters favour a side."""
    columns = (
        Column("aspect", "Question"),
        Column("decided", "Decided", "d"),
        Column("side", "Share of A", ".3f"),
        Column("p", "p against 1/2", ".2g"),
        Column("ties", "Ties", ".3f"),
    )
    note = "Sides are random, so an even share is expected whatever the methods are worth. Two-way intervals."
    return reasoned_table("Side bias", columns, side_rows(views), note)


def time_table(views: Views) -> Table:
    """Time and use of the viewer, by rater, all tasks."""
    columns = (
        Column("rater", "Rater"),
        Column("tasks", "Tasks", "d"),
        Column("median", "Median (s)", ".1f"),
        Column("lower", "Lower quartile (s)", ".1f"),
        Column("upper", "Upper quartile (s)", ".1f"),
        Column("hours", "Total (h)", ".2f"),
        Column("zooms", "Zooms a task", ".1f"),
        Column("flickers", "Flickers a task", ".1f"),
    )
    answers = [*views.real, *(again for _, again in views.repeats), *views.sentinels]
    rows = []
    for rater in (*(one.rater_id for one in views.protocol.raters), "all raters"):
        own = [one.rating for one in answers if rater in (one.rating.rater_id, "all raters")]
        if not own:
            rows.append({"rater": rater, "tasks": 0, "median": Undefined("there is no answer yet")})
            continue
        seconds = np.array([(one.t_answered - one.t_shown) / 1000 for one in own])
        lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75])
        rows.append(
            {
                "rater": rater,
                "tasks": len(own),
                "median": float(median),
                "lower": float(lower),
                "upper": float(upper),
                "hours": float(seconds.sum() / 3600),
                "zooms": float(np.mean([one.n_zoom for one in own])),
                "flickers": float(np.mean([one.n_flicker for one in own])),
            }
        )
    return reasoned_table("Time", columns, rows, "Shown to answered, repeats and sentinels included; pauses count.")


def _rater_row(views: Views, rater: str) -> Row:
    real = [one for one in views.real if one.rating.rater_id == rater]
    row: dict[str, Any] = {"rater": rater, "group": views.groups[rater], "ratings": len(real)}
    for aspect in ASPECTS:
        own = by_rater(views.choices(aspect)).get(rater, [])
        row[aspect] = rate([one.score for one in own], own)
        if aspect == "quality" and own:
            decided = [one for one in own if one.side != "tie"]
            row["ties"] = 1 - len(decided) / len(own)
            row["side"] = rate([float(one.side == "A") for one in decided], decided)
    seen = [one for one in views.sights() if one.rater == rater]
    row["called"] = rate([float(one.called("possible")) for one in seen], seen)
    none = Undefined("the rater has no such sentinel or repeat")
    row["sensitivity"] = _exact([detected(one) for one in _own(views.planted("added", "removed"), rater)], none)
    row["alarms"] = _exact([false_alarm(one) for one in _own(views.planted("same"), rater)], none)
    same = [
        first.chosen == again.chosen
        for a, b in views.repeats
        if a.rating.rater_id == rater and (first := views.choice(a, "quality")) and (again := views.choice(b, "quality"))
    ]
    row["repeated"] = _exact(same, none)
    row["blinding"] = _blinding(views, real)["index"]
    confidence = [one.rating.confidence for one in real if one.rating.confidence is not None]
    row["confidence"] = float(np.mean(confidence)) if confidence else Undefined("no confidence was given")
    return row


def _own(answers: Sequence[Answer], rater: str) -> list[Answer]:
    return [one for one in answers if one.rating.rater_id == rater]


def _exact(outcomes: Sequence[bool], none: Undefined) -> Finding:
    return proportion(sum(outcomes), len(outcomes)) if outcomes else none


def _questions(views: Views) -> dict[str, tuple[Codes, list[str], int]]:
    """For each question that was asked: categories by unit and rater, the units' clusters, the number of categories."""
    raters = [rater.rater_id for rater in views.protocol.raters]
    found: dict[str, tuple[Codes, list[str], int]] = {}
    for aspect in ASPECTS:
        entries = [(one.unit, one.cluster, one.rater, CHOSEN.index(one.chosen)) for one in views.choices(aspect)]
        if entries:
            found[aspect] = (*codes_of(entries, raters), len(CHOSEN))
    sights = views.sights()
    if sights:
        level: Callable[[Any], int] = lambda one: LEVELS.index(one.said)  # noqa: E731
        called: Callable[[Any], int] = lambda one: int(one.called("possible"))  # noqa: E731
        for question, category, categories in (("hallucination", level, 3), ("hallucination, called or not", called, 2)):
            entries = [(one.unit, one.cluster, one.rater, category(one)) for one in sights]
            found[question] = (*codes_of(entries, raters), categories)
    return found


def _repeat_row(question: str, codes: list[list[int]], who: list[tuple[str, str]], categories: int) -> Row:
    table = np.array(codes, dtype=np.int64).reshape(-1, 2)
    clusters, raters = [one for one, _ in who], [one for _, one in who]
    return {
        "question": question,
        "pairs": len(table),
        "same": preference_rate((table[:, 0] == table[:, 1]).astype(float), clusters, raters),
        "ac1": gwet_ac1(table, categories, clusters),
    }


def _baseline(views: Views, answer: Answer) -> str | None:
    sides = [answer.key.side_A_method, answer.key.side_B_method]
    others = [one for one in sides if one != views.protocol.test]
    return others[0] if len(others) == 1 else None


def _blinding(views: Views, answers: Sequence[Answer]) -> dict[str, Any]:
    asked = [one for one in answers if one.rating.method_guess is not None and _baseline(views, one) is not None]
    guesses = [_guess(views, one) for one in asked]
    right, wrong, unsure = (guesses.count(one) for one in ("right", "wrong", "unsure"))
    found = preference_rate(
        [GUESSED[one] for one in guesses], [views.cluster(one.key) for one in asked], [one.rating.rater_id for one in asked]
    )
    return {
        "right": right,
        "wrong": wrong,
        "unsure": unsure,
        "index": found if isinstance(found, Undefined) else around_zero(found),
        "naive": bang_index(right, wrong, unsure),
    }


def _guess(views: Views, answer: Answer) -> str:
    guess = answer.rating.method_guess
    if guess == "unsure":
        return "unsure"
    return "right" if guess == ("A" if answer.key.side_A_method == views.protocol.test else "B") else "wrong"
