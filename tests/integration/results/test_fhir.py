"""The FHIR bundle is valid R5 and tells what the result tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from case import FLAGGED, NOTICE, PROVENANCE, RESCAN, counts, findings, written

from srh_clinic.integration import read_slide
from srh_clinic.integration.results import fhir_bundle
from srh_clinic.slide import ArraySlide, Identity

WHEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fhir")
    written(folder)
    return read_slide(folder / "scan")


@pytest.fixture(scope="module")
def bundle(scan):
    return json.loads(fhir_bundle(findings(scan), WHEN))


def of_type(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def test_the_published_models_of_r5_take_it(bundle):
    models = pytest.importorskip("fhir.resources.bundle", reason="fhir.resources is not installed")
    read = models.Bundle.model_validate(bundle)
    kinds = [entry.resource.get_resource_type() for entry in read.entry]
    assert kinds == ["DiagnosticReport", "Device", "Observation", "Observation", *["ImagingSelection"] * 3]


def test_the_models_refuse_what_is_no_r5(bundle):
    models = pytest.importorskip("fhir.resources.bundle", reason="fhir.resources is not installed")
    wrong = json.loads(json.dumps(bundle))
    del wrong["entry"][0]["resource"]["status"]
    with pytest.raises(ValueError, match="status"):
        models.Bundle.model_validate(wrong)


def test_the_report_is_preliminary_and_says_what_must_be_known(bundle):
    (report,) = of_type(bundle, "DiagnosticReport")
    made = findings(ArraySlide(counts(), 0.47))
    assert report["status"] == "preliminary"
    assert report["conclusionCode"][0]["coding"][0]["code"] == "108369006"
    for sentence in (NOTICE, made.decision, made.quality, *made.doubts, *made.warnings, *made.notes, made.channel_order):
        assert sentence in report["conclusion"]
    assert report["subject"]["identifier"]["value"] == "P1"


def test_what_it_concludes_is_what_the_policy_lets_stand(scan):
    for decided, code in (("nondiagnostic", "RID14"), ("normal", "17621005"), (None, "108369006")):
        (report,) = of_type(json.loads(fhir_bundle(findings(scan, decided=decided), WHEN)), "DiagnosticReport")
        assert report["conclusionCode"][0]["coding"][0]["code"] == code


def test_before_and_after_have_every_probability(bundle):
    before, after = of_type(bundle, "Observation")
    values = [[each["valueQuantity"]["value"] for each in one["component"]] for one in (before, after)]
    assert values == [[0.0, 0.0, 1.0, 0.75], [0.8125, 0.1875, 0.0, 0.625]]
    assert [one["valueCodeableConcept"]["text"] for one in (before, after)] == ["non-diagnostic", "tumor"]


def test_regions_are_those_of_the_scan(bundle, scan):
    selections = of_type(bundle, "ImagingSelection")
    assert [each["code"]["text"] for each in selections] == [marked.words for marked in (*FLAGGED, *RESCAN)]
    for selection, marked in zip(selections, (*FLAGGED, *RESCAN), strict=True):
        assert [each["uid"] for each in selection["instance"]] == list(scan.identity.sop_uids)
        assert (selection["studyUid"], selection["seriesUid"]) == (scan.identity.study_uid, scan.identity.series_uid)
        (region,) = selection["instance"][0]["imageRegion3D"]
        corners_mm = np.reshape(region["coordinate"], (-1, 3))
        # Our own scans lie with their rows along Y and their columns along X, their first pixel's centre at the origin.
        edges_px = corners_mm / 0.00047 + 0.5
        at = marked.region
        np.testing.assert_allclose(edges_px[:, 1].min(), at.x, atol=1e-3)
        np.testing.assert_allclose(edges_px[:, 1].max(), at.x + at.width, atol=1e-3)
        np.testing.assert_allclose(edges_px[:, 0].min(), at.y, atol=1e-3)
        np.testing.assert_allclose(edges_px[:, 0].max(), at.y + at.height, atol=1e-3)
        assert selection["frameOfReferenceUid"] == scan.headers[0].FrameOfReferenceUID


def test_every_reference_is_of_an_entry(bundle):
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(bundle["entry"])

    def references(item):
        if isinstance(item, dict):
            for name, value in item.items():
                if name == "reference":
                    yield value
                yield from references(value)
        elif isinstance(item, list):
            for each in item:
                yield from references(each)

    assert set(references(bundle)) <= urls


def test_a_repeated_run_makes_the_same_and_other_weights_others(scan, bundle):
    assert json.loads(fhir_bundle(findings(scan), WHEN)) == bundle
    other = json.loads(fhir_bundle(findings(scan, provenance={**PROVENANCE, "weights_sha256": "ef" * 32}), WHEN))
    assert not {each["fullUrl"] for each in other["entry"]} & {each["fullUrl"] for each in bundle["entry"]}


def test_without_identity_nothing_refers_to_anybody():
    text = fhir_bundle(findings(ArraySlide(counts(), 0.47, Identity())), WHEN)
    bundle = json.loads(text)
    assert of_type(bundle, "ImagingSelection") == []
    assert "subject" not in text
    assert "specimen" not in text
