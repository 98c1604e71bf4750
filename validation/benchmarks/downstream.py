"""What restoration does to the diagnosis: on the protocol's phantoms, and on the tables' images by each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from srh_clinic.classifiers import load_classifier
from srh_clinic.diagnosis import CLASSES, Outcome, outcome
from srh_clinic.inference import choose_device
from srh_clinic.metrics import proportion
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer, chunks
from srh_clinic.validation.bench.cells import CellStore, Row
from srh_clinic.validation.bench.methods import METHODS, WHOLE
from srh_clinic.validation.bench.protocol import SEVERITIES
from srh_clinic.validation.benchmarks.tables import Cells, Tables
from srh_clinic.validation.reporting.figures import outcome_bars
from srh_clinic.validation.reporting.report import CRITERIA, Column, Figure, Report, Table

CONDITIONS = ("clean", "before", "after")
"""The patch through a perfect instrument, as scanned, and restored."""

PRINTED: dict[Outcome, str] = {"correct": "correct", "wrong": "wrong", "nondiagnostic": "missed"}
"""Outcomes as reports print them: readable tissue that is called non-diagnostic was missed."""

PAPER_SHARES = "Paper: more than 50 % non-diagnostic and 26 % wrong as scanned; after RSCD more than 75 % correct, 6 % wrong."

OUTCOME_COLUMNS = (
    Column("n", "n", "d"),
    *(Column(word, word.capitalize(), ".3f") for word in PRINTED.values()),
    Column("nondiagnostic", "Called non-diagnostic", ".3f"),
)


def outcome_proportions(calls: Sequence[tuple[str, str]]) -> Row:
    """Of pairs of a true class and the one that was said: the proportion of each outcome, and of non-diagnostic calls."""
    n, results = len(calls), [outcome(truth, said) for truth, said in calls]
    called = sum(said == "nondiagnostic" for _, said in calls)
    return {
        "n": n,
        **{word: proportion(results.count(one), n) for one, word in PRINTED.items()},
        "nondiagnostic": proportion(called, n),
    }


def classification(bench: Bench) -> Report:
    """Accuracy of the classifier on clean phantoms, and on each severity before and after restoration by the default RSCD."""
    rows = classified(bench)
    groups = {
        title: [rows[condition][i] for i in members] for title, (condition, members) in _groups(bench).items() if members
    }
    measured = [
        {"patches": title, **outcome_proportions([(row["truth"], row["said"]) for row in chosen])}
        for title, chosen in groups.items()
    ]
    return Report(
        name="classifier",
        title="Classification before and after restoration",
        summary=(
            f"{len(bench.indices)} test phantoms, restored by {WHOLE} with its defaults. The truth is the tissue, "
            "whatever the noise. Wrong is a confident class that is not the truth, so blood called tumor is wrong; missed is "
            "readable tissue called non-diagnostic. Intervals are exact (Clopper-Pearson, 95 %)."
        ),
        tables=(
            Table("What was asked", CRITERIA, _criteria({row["patches"]: row for row in measured})),
            Table(
                "Shares of patches",
                (Column("patches", "Patches"), *OUTCOME_COLUMNS),
                measured,
            ),
            Table(
                "Correct by tissue, all severities",
                (Column("kind", "Tissue"), Column("n", "n", "d"), *(Column(c, c, ".3f") for c in CONDITIONS)),
                _by_kind(bench, rows),
            ),
            *(_confusion(title, chosen) for title, chosen in groups.items()),
        ),
        provenance=bench.provenance(0),
    )


def classified(bench: Bench) -> dict[str, dict[int, Row]]:
    """What the classifier says of each phantom in each condition; what is not on disk yet is computed and put there."""
    classifier = load_classifier(bench.bundle, choose_device(bench.device))
    cells = CellStore(bench.work / "classifier.jsonl", ("phantom", "condition"))
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        key = bench.fingerprint(learned=True, restoration=restore.fingerprint)
        for members in chunks(bench.indices):
            missing = [i for i in members if any(cells.get(key, i, condition) is None for condition in CONDITIONS)]
            if missing:
                phantoms = {i: bench.protocol.phantom(i) for i in missing}
                restored = restore({i: phantom.counts for i, phantom in phantoms.items()})
                shown = {
                    "clean": [phantoms[i].clean for i in missing],
                    "before": [phantoms[i].counts for i in missing],
                    "after": [restored[i].counts for i in missing],
                }
                for condition, patches in shown.items():
                    probabilities = classifier.predict_proba(np.stack(patches))
                    for i, row in zip(missing, probabilities, strict=True):
                        cells.put(
                            key,
                            phantom=i,
                            condition=condition,
                            truth=bench.protocol.truth_of(i),
                            said=CLASSES[int(row.argmax())],
                            probabilities=[round(float(p), 6) for p in row],
                        )
            bench.report("classifier", members[-1] + 1, len(bench.indices))
    return {condition: {i: row for i in bench.indices if (row := cells.get(key, i, condition))} for condition in CONDITIONS}


def _groups(bench: Bench) -> dict[str, tuple[str, Sequence[int]]]:
    """Condition and phantoms of each row of the tables, in the protocol's order."""
    everything = list(bench.indices)
    asked = bench.protocol.classifier.report
    groups: dict[str, tuple[str, Sequence[int]]] = {"clean": ("clean", everything)} if "clean" in asked else {}
    for condition in ("before", "after"):
        for severity in (name for name in SEVERITIES if name in asked):
            members = [i for i in everything if bench.protocol.bin(i) == severity]
            groups[f"{severity}, {condition}"] = (condition, members)
        groups[condition] = (condition, everything)
    return groups


def _by_kind(bench: Bench, rows: Mapping[str, Mapping[int, Row]]) -> list[Row]:
    """Share of correct patches by tissue, in each condition."""
    by_kind = []
    for kind in dict.fromkeys(bench.protocol.kind(i) for i in bench.indices):
        members = [i for i in bench.indices if bench.protocol.kind(i) == kind]
        row: Row = {"kind": kind, "n": len(members)}
        for condition in CONDITIONS:
            correct = sum(rows[condition][i]["said"] == rows[condition][i]["truth"] for i in members)
            row[condition] = proportion(correct, len(members))
        by_kind.append(row)
    return by_kind


def _confusion(title: str, rows: Sequence[Row]) -> Table:
    counted = [
        {"truth": truth, **{said: sum(row["truth"] == truth and row["said"] == said for row in rows) for said in CLASSES}}
        for truth in CLASSES
    ]
    return Table(
        f"Truth (rows) and what was said (columns): {title}",
        (Column("truth", "Truth"), *(Column(said, said, "d") for said in CLASSES)),
        counted,
    )


def _criteria(measured: Mapping[str, Row]) -> list[Row]:
    """The issue's four numbers; restoration is judged where it is needed most, and over all severities."""
    asked = [
        ("clean", "correct", ">=", 0.95),
        ("severe, before", "nondiagnostic", ">", 0.5),
        *((group, *rule) for group in ("severe, after", "after") for rule in (("correct", ">=", 0.75), ("wrong", "<=", 0.06))),
    ]
    words = {">=": "at least", ">": "more than", "<=": "at most"}
    compare: dict[str, Callable[[float, float], bool]] = {
        ">=": lambda a, b: a >= b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
    }
    return [
        {
            "asked": f"{group}: {words[sign]} {target:.0%} {'called non-diagnostic' if called == 'nondiagnostic' else called}",
            "measured": f"{measured[group][called].value:.1%} of {measured[group]['n']}",
            "met": compare[sign](measured[group][called].value, target),
            "finding": measured[group][called],
        }
        for group, called, sign, target in asked
        if group in measured
    ]


def downstream(tables: Tables, cells: Cells) -> Report:
    """Figure 7: what the classifier says of the images as scanned and restored by each method."""
    truths = {i: tables.images.image(i).truth for i in tables.images.indices}
    rows = []
    for name, made in cells.items():
        if calls := [(truths[i], cell["said"]) for i, cell in made.items() if truths[i]]:
            rows.append({"method": name, **outcome_proportions(calls)})
    columns = (Column("method", "Method"), *OUTCOME_COLUMNS)
    said = [{"method": name, "n": len(made), **_said(made)} for name, made in cells.items()]
    drawn = [Table("Outcome by method", columns, rows, PAPER_SHARES)] if rows else []
    drawn.append(
        Table(
            "What was said",
            (
                Column("method", "Method"),
                Column("n", "n", "d"),
                *(Column(c, c, "d") for c in CLASSES),
            ),
            said,
        )
    )
    figures = [Figure("outcomes", "Diagnosis by method", "As Figure 7 of the paper.", outcome_bars(rows))] if rows else []
    summary = (
        f"{tables.images.title}. Wrong is a confident class that is not the truth, blood called tumor among them; missed is "
        "readable tissue called non-diagnostic. Intervals are exact (Clopper-Pearson, 95 %)."
    )
    title = "Figure 7: diagnosis before and after"
    return Report("downstream", title, summary, tuple(drawn), tables.provenance(), figures)


def _said(made: Mapping[int, Row]) -> dict[str, int]:
    return {one: sum(cell["said"] == one for cell in made.values()) for one in CLASSES}
