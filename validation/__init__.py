"""Studies, benchmarks and reports.

For the command line, which only parses and prints::

    run_benchmark("protocol" | "tables", out, *, only=None, options=BenchmarkOptions(), bundle="phantom-demo",
                  device="auto", protocol=None, report=<progress>) -> list[Report]
    run_speed(out, *, bundle="phantom-demo", device="auto", tiles=16, sizes=(2048, 8192), protocol=None,
              report=<progress>) -> Report
    run_slide(out, *, bundle="phantom-demo", sizes=SIZES, before=BEFORE, repository=".", ...) -> dict    # whole slides
    run_guards(out, *, limit=None, bundle="phantom-demo", weights="weights", ...) -> Report
    calibrate_guards(path, work, ...) -> Bundle          # writes the thresholds into the bundle
    check_card(bundle, full=False, phantoms=24, ...) -> list[Checked]    # a model card beside what is measured now
    run_cell(method, index, ...) -> dict                 # one cell of the phantoms' tables, computed anew
    export_study(out, plan=StudyPlan(), sources=(), ...) -> StudyProtocol     # a blinded rater study
    check_study(study) -> Audit; serve_study(study, port) -> Serving; rehearse_study(study)
    unblind(study, interim=False) -> Unblinded; write_analysis(unblinded, out) -> list[Path]
    rich_tables(report) -> list[rich.console.RenderableType]        # for the terminal
    report.markdown, report.to_dict()                    # both also written to out/NAME.md and out/NAME.json

``PARTS`` names what each benchmark can make; ``report(stage, done, total)`` is called as the pipeline's progress is. What a
user can mend is raised as :class:`~srh_clinic.errors.InputError`.

The names stand in ``__init__.pyi`` and are loaded when they are used, so that importing this package does not load the
networks' libraries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
