"""From a manifest to the report: what is missing is run, every section is made, the files are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic import __version__
from srh_clinic.errors import InputError
from srh_clinic.estimates import Undefined
from srh_clinic.files import claimed, write_whole
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Reading
from srh_clinic.trust.drift import TooFewPatientsError, fit_reference, stated_profile
from srh_clinic.trust.selective_policy import SelectivePolicy
from srh_clinic.validation.reporting.report import Section
from srh_clinic.validation.shift.drift import ProfiledCase
from srh_clinic.validation.shift.manifest import Manifest, cohort_from_predictions, read_manifest
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.shift.report import ShiftReport, require_pdf, write_report_files
from srh_clinic.validation.shift.sections.checklists import tables as checklist_tables
from srh_clinic.validation.shift.sections.first_page import first_page
from srh_clinic.validation.shift.sections.gallery import gallery
from srh_clinic.validation.shift.sections.materials import (
    acquisition,
    development,
    known_facts,
    model,
    preprocessing,
    size,
)
from srh_clinic.validation.shift.sections.outcomes import (
    change_rows,
    flow,
    harm,
    intervals,
    outcomes,
    subgroups,
    tests,
    transitions,
)
from srh_clinic.validation.shift.sections.policy import DRIFT_LEVEL, drift, remembered, selective
from srh_clinic.validation.shift.sections.probabilities import calibration, discrimination, sites
from srh_clinic.validation.shift.sections.texts import abstract, limitations, use, versions
from srh_clinic.validation.shift.selective import SelectiveStudy, study_policy, try_policy
from srh_clinic.validation.shift.subgroups import screen

if TYPE_CHECKING:
    from srh_clinic.validation.shift.running import Run


def validate_cohort(
    manifest: str | Path,
    out: str | Path,
    *,
    bundle: str | Path = "phantom-demo",
    restorer: str = "rscd",
    device: str = "auto",
    seed: int = 0,
    reading: Reading | None = None,
    policy: SelectivePolicy | None = None,
    join_labels: bool = False,
    previous_bundle: str | Path | None = None,
    pdf: bool = False,
    report: Progress = silent,
    **settings: Any,
) -> ShiftReport:
    """Make the accuracy-shift report of a manifest and write it into ``out``.

    Written are ``report.html``, ``report.json``, ``tables/*.csv``, ``policy.json`` (for ``diagnose --policy``) and
    ``reference.json`` (for ``diagnose --reference``) where the cohort allows them, and the cases' results in ``cases``. The
    same manifest, images and seed give the same bytes.

    Parameters
    ----------
    manifest
        See :func:`~srh_clinic.validation.shift.manifest.read_manifest`.
    bundle, restorer, device, settings
        As of :meth:`~srh_clinic.case.pipeline.RestoreThenClassify.from_bundle`; not used when the manifest brings predictions.
    reading
        What the images do not say of themselves.
    seed
        Of the restorer's noise, of resamples, permutations and the split of the selective policy.
    policy
        Of another cohort, to be tried on all patients; None chooses one on half of them, and tries it on the others.
    join_labels
        Take labels that differ only in how they are written for one; see :mod:`~srh_clinic.validation.shift.labels`.
    previous_bundle
        Also restore and classify with this bundle, into ``previous/cases``, and write ``impact.html``: what the change from it
        to ``bundle`` changes.
    pdf
        Also write ``report.pdf``, with WeasyPrint.

    Raises
    ------
    InputError
        When the manifest is wrong, no case can be read, ``out`` cannot be written, or another run writes there now.
    """
    found, out = read_manifest(manifest, join_labels=join_labels), Path(out)
    if pdf:
        require_pdf()
    with claimed(out):
        if found.has_predictions:
            if previous_bundle is not None:
                raise InputError(
                    "a previous bundle and ready predictions", "a manifest of images, which both bundles see", manifest
                )
            return _written(_report(found, cohort_from_predictions(found), None, out, seed, policy), out, pdf)
        # Predictions need none of the networks' libraries.
        from srh_clinic.case.pipeline import RestoreThenClassify
        from srh_clinic.validation.shift.running import run_cases

        # Both before anything is computed: one that is no bundle is told at once.
        bundles = [bundle] if previous_bundle is None else [bundle, previous_bundle]
        pipeline, *earlier = (
            RestoreThenClassify.from_bundle(str(one), restorer, device, seed, profiled=True, **settings) for one in bundles
        )
        run = run_cases(found, out, pipeline, reading or Reading(), report=report)
        impact: list[Path] = []
        for one in earlier:
            from srh_clinic.validation.shift.impact import write_impact

            previous = run_cases(found, out / "previous", one, reading or Reading(), report=report)
            impact = write_impact(previous, run, found.sha256, out, seed)
        report("writing", 0, 1)
        made = _written(_report(found, run.slides, run, out, seed, policy), out, pdf, impact)
        report("writing", 1, 1)
        return made


def _report(
    manifest: Manifest, cohort: Cohort, run: Run | None, out: Path, seed: int, policy: SelectivePolicy | None
) -> _Made:
    """Every section, and what ``diagnose`` can use of it."""
    made_by: Mapping[str, Any] = {} if run is None else run.provenance
    notice = str(made_by.get("notice", ""))
    provenance: dict[str, Any] = {
        "srh-clinic": __version__,
        "manifest": manifest.path.name,
        "manifest_sha256": manifest.sha256,
        "seed": seed,
        **{name: made_by[name] for name in ("bundle", "weights_sha256", "settings") if name in made_by},
    }
    groups, changes = screen(cohort, seed), change_rows(cohort, seed)
    if policy is None:
        study = study_policy(cohort, seed=seed, made_by=remembered(made_by))
    else:
        study = try_policy(policy, Cohort((), cohort.level), cohort, seed=seed)
    profiled = [] if run is None else _profiled(run)
    scans, card, metadata = ((), "", {}) if run is None else (run.scans, run.card, run.metadata)
    sections = [
        abstract(cohort, changes),
        use(notice),
        acquisition(scans),
        preprocessing(made_by.get("settings", {})),
        model(card, metadata),
        size(cohort),
        flow(cohort, len(manifest.rows)),
        outcomes(cohort, changes),
        transitions(cohort),
        harm(cohort, seed),
        tests(cohort, seed),
        intervals(cohort, changes),
        discrimination(cohort),
        calibration(cohort, seed),
        subgroups(groups),
        sites(cohort, seed),
        *([patch_level(run.patches, seed)] if run is not None and len(run.patches) else []),
        selective(study),
        drift(profiled, "the manifest brought predictions, so there are no images to compare", seed),
        development(cohort, scans, metadata, card),
        gallery(cohort, out),
        limitations(notice),
        versions(provenance),
    ]
    filled = {one.name for one in sections if one.filled}
    known = known_facts(cohort, scans)
    checked = Section("checklists", "Checklists", [CHECKLISTS], checklist_tables({*filled, "checklists"} - {"patches"}, known))
    sections.append(checked)
    first = first_page(cohort, changes, groups, _unavailable(sections))
    return _Made(
        ShiftReport(first, tuple(sections), notice, provenance), study, profiled, {} if run is None else run.made_with
    )


CHECKLISTS = (
    "Which items of STARD-AI, TRIPOD+AI, CLAIM, DECIDE-AI and FUTURE-AI this report answers and in which section, in our own "
    "short words; what it cannot know is left to the author of a paper."
)


@dataclass(frozen=True, eq=False)
class _Made:
    """A report, and what of it ``diagnose`` can use."""

    report: ShiftReport
    study: SelectiveStudy | Undefined
    profiled: Sequence[ProfiledCase]
    made_with: Mapping[str, str]


IN_SOME = ("report.pdf", "policy.json", "reference.json", "impact.html", "impact.json")
"""Files of a report that another one may lack: what an earlier run left of them is of other cases, and goes."""


def _written(made: _Made, out: Path, pdf: bool, impact: Sequence[Path] = ()) -> ShiftReport:
    for name in set(IN_SOME) - {path.name for path in impact}:
        (out / name).unlink(missing_ok=True)
    write_report_files(made.report, out, pdf=pdf)
    if not isinstance(made.study, Undefined):
        write_whole(out / "policy.json", (made.study.policy.model_dump_json(indent=2) + "\n").encode())
    if made.profiled:
        try:
            reference = fit_reference(
                [case.profile for case in made.profiled],
                [case.patient for case in made.profiled],
                made_with=made.made_with,
                level=DRIFT_LEVEL,
            )
        except TooFewPatientsError:
            return made.report  # the section on drift says so
        reference.write(out / "reference.json")
    return made.report


def _profiled(run: Run) -> list[ProfiledCase]:
    return [
        ProfiledCase(case.case, case.patient, case.site, stated_profile(run.profiles[case.case])) for case in run.slides.cases
    ]


def patch_level(cohort: Cohort, seed: int) -> Section:
    """The same at the level of patches."""
    sections = (outcomes(cohort, change_rows(cohort, seed)), harm(cohort, seed), tests(cohort, seed))
    tables = [table for section in sections for table in section.tables if not table.title.startswith("Every harmed")]
    policy = selective(study_policy(cohort, seed=seed))
    tables += policy.tables[:2]
    slides = len({(case.patient, case.slide) for case in cohort.cases})
    text = [f"{len(cohort)} patches of {slides} slides, each with the truth of its slide."]
    text += policy.text
    named = [replace(table, title=f"{table.title}, patches") for table in tables]
    return Section("patches", "At the level of patches", text, named, missing=policy.missing)


def _unavailable(sections: Sequence[Section]) -> list[str]:
    """What sections could not compute, for the first page."""
    return [f"{section.title}: {reason}." for section in sections for reason in section.missing]
