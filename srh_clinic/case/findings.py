"""A case's result as other programs are told it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from srh_clinic.case.result import FHIR, QUPATH
from srh_clinic.case.scrutiny import WORDS
from srh_clinic.diagnosis import CLASS_WORDS
from srh_clinic.slide import Slide

if TYPE_CHECKING:
    from srh_clinic.case.pictures import SquareMap
    from srh_clinic.case.result import CaseResult
    from srh_clinic.integration.results import CaseFindings


def write_qupath(scan: Slide, result: CaseResult, folder: Path) -> None:
    """Write the files of :data:`~srh_clinic.case.result.QUPATH` into a folder; ``scan`` is the result's slide."""
    from srh_clinic.integration.results import geojson, patches_csv, qupath_script

    findings = findings_of(result, scan)
    geojson_name, csv_name, script_name = QUPATH
    texts = {
        geojson_name: geojson(findings),
        csv_name: patches_csv(findings),
        script_name: qupath_script(findings, geojson_name),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


def write_fhir(scan: Slide, result: CaseResult, folder: Path) -> None:
    """Write :data:`~srh_clinic.case.result.FHIR` into a folder; ``scan`` is the result's slide."""
    from srh_clinic.integration.results import fhir_bundle

    text = fhir_bundle(findings_of(result, scan), datetime.fromisoformat(result.made.at))
    (folder / FHIR).write_text(text, encoding="utf-8")


def findings_of(result: CaseResult, scan: Slide) -> CaseFindings:
    """What the objects of :func:`~srh_clinic.integration.results.write_results` tell of a result; ``scan`` is its slide."""
    from srh_clinic.integration.results import CaseFindings, Marked, Said, Values

    scale = result.maps.um_per_px / scan.um_per_px

    def values(squares: SquareMap) -> Values:
        return Values(squares, scale)

    tiles, steps = result.tiles, result.steps
    poor = f"Worth rescanning: {len(result.rescan)} regions." if result.rescan else "Nowhere is rescanning advised."
    decision = result.decision
    return CaseFindings(
        scan=scan,
        restored=result.restored.on_scan,
        before=Said(result.before.diagnosis, dict(result.before.probabilities), result.before.support),
        after=Said(result.diagnosis, dict(result.probabilities), result.support),
        classes_before=values(result.maps.classes_before),
        classes_after=values(result.maps.classes_after),
        steps=values(result.maps.steps),
        trust=values(result.maps.trust),
        flagged=tuple(Marked(each.kind, WORDS[each.kind], each, each.strength) for each in result.scrutiny.regions),
        rescan=tuple(
            Marked("rescan", f"poor image quality, {each.steps} steps in the mean; worth rescanning", each)
            for each in result.rescan
        ),
        doubts=result.doubts,
        warnings=result.warnings,
        notes=result.notes,
        decision="" if decision is None else f"{CLASS_WORDS[decision.said]}; {decision.why} ({result.policy_from})",
        decided=None if decision is None else decision.said,
        quality=(
            f"Image quality: steps predicted {steps.median} at the median, {steps.p90} or more in a tenth of the tiles, "
            f"{steps.largest} at most. {tiles.restored} of {tiles.total} tiles restored, {tiles.skipped} left alone, "
            f"{tiles.capped} beyond what the restorer is trained for. {poor}"
        ),
        quality_numbers={
            "median": steps.median,
            "p90": steps.p90,
            "largest": steps.largest,
            "restored": tiles.restored,
            "skipped": tiles.skipped,
            "capped": tiles.capped,
            "flagged": len(result.scrutiny.failed),
        },
        channel_order=result.slide["channel_order"],
        provenance=result.provenance,
        scan_sha256=result.origin.pixels_sha256,
    )
