"""Studies, benchmarks and reports.

For the command line, which only parses and prints::

    run_protocol(out, *, only=PARTS, limit=None, limit_slow=None, strides=(), bundle="phantom-demo", device="auto",
                 protocol=None, real_data=None, report=<progress>) -> list[Report]
    run_speed(out, *, bundle="phantom-demo", device="auto", tiles=16, sizes=(2048, 8192), protocol=None,
              report=<progress>) -> Report
    run_tables(out, *, only=TABLE_PARTS, preset="quick", methods=None, own=None, stack=None, ...) -> list[Report]
    run_guards(out, *, limit=None, bundle="phantom-demo", weights="weights", ...) -> Report
    calibrate_guards(path, work, ...) -> Bundle          # writes the thresholds into the bundle
    run_cell(method, index, ...) -> dict                 # one cell of the phantoms' tables, computed anew
    export_study(out, plan=StudyPlan(), sources=(), ...) -> StudyProtocol     # a blinded rater study
    check_study(study) -> Audit; serve_study(study, port) -> Serving; rehearse_study(study)
    unblind(study, interim=False) -> Unblinded; write_analysis(unblinded, out) -> list[Path]
    rich_tables(report) -> list[rich.table.Table]        # for the terminal
    report.markdown, report.to_dict()                    # both also written to out/NAME.md and out/NAME.json

``PARTS`` is ``("restoration", "calibrator", "classifier", "seams", "real")``; ``report(stage, done, total)`` is called as the
pipeline's progress is. Both raise :class:`~srh_clinic.errors.InputError` for what a user can mend.

The names are loaded when they are used, so that importing this package does not load the networks' libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srh_clinic.validation.bench.images import Reading
    from srh_clinic.validation.bench.protocol import Protocol, load_protocol
    from srh_clinic.validation.benchmarks.coverage import run_shift_coverage, run_study_coverage
    from srh_clinic.validation.benchmarks.guards import calibrate_guards, run_guards
    from srh_clinic.validation.benchmarks.speed import run_speed
    from srh_clinic.validation.benchmarks.suite import PARTS, run_protocol
    from srh_clinic.validation.benchmarks.table_suite import TABLE_PARTS, OwnImages, run_cell, run_tables
    from srh_clinic.validation.reporting.report import Report, rich_tables, write_report
    from srh_clinic.validation.shift.cohort import write_cohort
    from srh_clinic.validation.shift.validate import validate_cohort
    from srh_clinic.validation.study.analysis.page import write_analysis
    from srh_clinic.validation.study.audit import check_study
    from srh_clinic.validation.study.exchange.formats import export_answers, import_answers
    from srh_clinic.validation.study.export import export_study
    from srh_clinic.validation.study.plan import StudyPlan
    from srh_clinic.validation.study.rehearsal import rehearse_study
    from srh_clinic.validation.study.serve import serve_study
    from srh_clinic.validation.study.unblinding import load_unblinded, unblind

__all__ = [
    "PARTS",
    "TABLE_PARTS",
    "OwnImages",
    "Protocol",
    "Reading",
    "Report",
    "StudyPlan",
    "calibrate_guards",
    "check_study",
    "export_answers",
    "export_study",
    "import_answers",
    "load_protocol",
    "load_unblinded",
    "rehearse_study",
    "rich_tables",
    "run_cell",
    "run_guards",
    "run_protocol",
    "run_shift_coverage",
    "run_speed",
    "run_study_coverage",
    "run_tables",
    "serve_study",
    "unblind",
    "validate_cohort",
    "write_analysis",
    "write_cohort",
    "write_report",
]

_HOME = {
    "write_analysis": "study.analysis.page",
    "check_study": "study.audit",
    "run_study_coverage": "benchmarks.coverage",
    "export_answers": "study.exchange.formats",
    "import_answers": "study.exchange.formats",
    "StudyPlan": "study.plan",
    "export_study": "study.export",
    "rehearse_study": "study.rehearsal",
    "serve_study": "study.serve",
    "load_unblinded": "study.unblinding",
    "unblind": "study.unblinding",
    "PARTS": "benchmarks.suite",
    "TABLE_PARTS": "benchmarks.table_suite",
    "OwnImages": "benchmarks.table_suite",
    "Protocol": "bench.protocol",
    "Reading": "bench.images",
    "Report": "reporting.report",
    "calibrate_guards": "benchmarks.guards",
    "load_protocol": "bench.protocol",
    "rich_tables": "reporting.report",
    "run_cell": "benchmarks.table_suite",
    "run_guards": "benchmarks.guards",
    "run_protocol": "benchmarks.suite",
    "run_tables": "benchmarks.table_suite",
    "run_shift_coverage": "benchmarks.coverage",
    "run_speed": "benchmarks.speed",
    "validate_cohort": "shift.validate",
    "write_cohort": "shift.cohort",
    "write_report": "reporting.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
