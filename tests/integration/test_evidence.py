"""What an observer said of a slide is read back from DICOM by highdicom and passed by an independent validator."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr import codedict
from pydicom.sr.codedict import codes

from srh_clinic.errors import InputError
from srh_clinic.integration import evidence, read_slide
from srh_clinic.integration.evidence import MarkedRegion, ObserverReading

WHEN = datetime(2026, 3, 4, 5, 6, 7)
BOX = MarkedRegion("box", (10.0, 20.0, 70.5, 140.0), "added nucleus", "minor")
POINT = MarkedRegion("point", (229.0, 0.25), "stripe or stitch", "major")
READINGS = [
    ObserverReading("r1/0/A", "rscd", "definite", (BOX, POINT)),
    ObserverReading("r1/0/B", "a longer method's name", "none"),
]


@pytest.fixture
def files(tmp_path, slide, write):
    return write(slide, tmp_path / "case")


@pytest.fixture
def sources(files):
    return read_slide(files[0]).headers


def selection(sources, **changes):
    settings = {"observer": "r1", "description": "Hallucination called", "created": WHEN} | changes
    return evidence.key_object_selection(sources, **settings)


def report(sources, readings=READINGS, **changes):
    settings = {"observer": "r1", "title": "Rater study s", "created": WHEN} | changes
    return evidence.observation_report(sources, readings, **settings)


def read_back(document):
    return pydicom.dcmread(io.BytesIO(evidence.encoded(document)))


def codes_of(item):
    """Every coded concept within a data set."""
    for element in item.iterall():
        if element.keyword.endswith("CodeSequence"):
            yield from (
                (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
                for code in element.value
                if "CodeValue" in code
            )


class TestKeyObjectSelection:
    def test_it_points_out_every_instance_of_the_slide(self, sources):
        document = hd.ko.KeyObjectSelectionDocument.from_dataset(read_back(selection(sources)))
        uids = [source.SOPInstanceUID for source in sources]
        assert len(uids) == 2
        items = document.content.get_references()
        assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items] == uids
        series = sources[0].StudyInstanceUID, sources[0].SeriesInstanceUID
        assert [document.resolve_reference(uid) for uid in uids] == [(*series, uid) for uid in uids]

    def test_title_description_and_observer_are_read_back(self, sources):
        document = hd.ko.KeyObjectSelectionDocument.from_dataset(read_back(selection(sources)))
        title = document.ConceptNameCodeSequence[0]
        assert (title.CodeValue, title.CodingSchemeDesignator) == (codes.DCM.ForResearch.value, "DCM")
        (person,) = document.content.get_observer_contexts(observer_type=codes.DCM.Person)
        assert str(person.observer_identifying_attributes.name) == "r1^"
        texts = [item.TextValue for item in document.ContentSequence if item.ValueType == "TEXT"]
        assert texts == ["Hallucination called"]


class TestObservationReport:
    def test_regions_are_read_back_with_category_and_severity(self, sources):
        content = hd.sr.srread(io.BytesIO(evidence.encoded(report(sources)))).content
        box, point = content.get_planar_roi_measurement_groups()
        corners = [(10, 20), (70.5, 20), (70.5, 140), (10, 140), (10, 20)]
        np.testing.assert_array_equal(box.roi.value, corners)
        np.testing.assert_array_equal(point.roi.value, [(229, 0.25)])
        assert [group.roi.graphic_type.value for group in (box, point)] == ["POLYLINE", "POINT"]
        assert {group.roi.PixelOriginInterpretation for group in (box, point)} == {"VOLUME"}
        assert [group.finding_type.meaning for group in (box, point)] == ["Added nucleus", "Stripe or stitch"]
        severities = [group.get_qualitative_evaluations(name=codes.SCT.Severity)[0].value for group in (box, point)]
        assert severities == [codes.SCT.Minor, codes.SCT.Major]
        for group in (box, point):
            image = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
            assert image.ReferencedSOPInstanceUID == sources[0].SOPInstanceUID
            assert "ReferencedFrameNumber" not in image  # all of them

    def test_each_reading_has_its_method_and_its_call(self, sources):
        content = hd.sr.srread(io.BytesIO(evidence.encoded(report(sources)))).content
        groups = content.get_image_measurement_groups()
        said = [[one.value.meaning for one in group.get_qualitative_evaluations()] for group in groups]
        assert said == [["rscd", "Definite hallucination"], ["a longer method's name", "No hallucination seen"]]
        assert [group.tracking_identifier for group in groups] == ["r1/0/A", "r1/0/B"]
        for group in groups:
            shown = [image.referenced_sop_instance_uid for image in group.source_images]
            assert shown == [source.SOPInstanceUID for source in sources]

    def test_observer_and_specimen_are_the_subject_and_the_rater(self, sources):
        content = hd.sr.srread(io.BytesIO(evidence.encoded(report(sources)))).content
        (person,) = content.get_observer_contexts(observer_type=codes.DCM.Person)
        assert str(person.observer_identifying_attributes.name) == "r1^"
        (subject,) = content.get_subject_contexts(subject_class=codes.DCM.Specimen)
        assert subject.subject_class_specific_context.specimen_identifier == "S1"


@pytest.mark.parametrize("make", [selection, report])
class TestBoth:
    def test_they_join_the_slides_study_as_a_new_series(self, sources, make):
        document = read_back(make(sources))
        for keyword in (
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyInstanceUID",
            "StudyID",
            "StudyDate",
        ):
            assert document[keyword] == sources[0][keyword]
        assert document.SeriesInstanceUID != sources[0].SeriesInstanceUID
        assert (document.ContentDate, document.ContentTime) == ("20260304", "050607")

    def test_a_repeated_run_makes_the_same_objects_and_another_observer_others(self, sources, make):
        def uids(document):
            return document.SOPInstanceUID, document.SeriesInstanceUID

        assert uids(make(sources)) == uids(make(sources))
        assert not set(uids(make(sources))) & set(uids(make(sources, observer="r2")))

    def test_every_public_code_is_in_pydicoms_dictionary_and_every_other_is_ours(self, sources, make):
        known = {
            (code, scheme)
            for scheme, by_keyword in codedict.CONCEPTS.items()
            for by_code in by_keyword.values()
            for code in by_code
        }
        schemes = set()
        for value, scheme, meaning in codes_of(read_back(make(sources))):
            schemes.add(scheme)
            assert scheme in ("99SRHCLINIC", "RFC5646", "UCUM") or (value, scheme) in known, meaning
            assert len(value) <= 16
        assert schemes >= {"DCM", "SCT"}

    def test_sources_of_two_studies_or_none_are_refused(self, sources, make):
        other = copy.deepcopy(sources[0])
        other.StudyInstanceUID = "2.25.1"
        for wrong, found in (([sources[0], other], "instances of 2 studies"), ([], "instances of 0 studies")):
            with pytest.raises(InputError, match=f"found {found}; needed instances of one study"):
                make(wrong)

    def test_a_header_that_lacks_what_a_study_needs_is_refused(self, sources, make):
        bare = copy.deepcopy(sources[0])
        del bare.AccessionNumber
        with pytest.raises(InputError, match="a header without AccessionNumber"):
            make([bare])

    def test_dciodvfy_and_dcentvfy_find_no_error(self, tmp_path, files, sources, make):
        if shutil.which("dciodvfy") is None or shutil.which("dcentvfy") is None:
            pytest.skip("dciodvfy and dcentvfy are missing: install the Debian package dicom3tools")
        path = tmp_path / "document.dcm"
        path.write_bytes(evidence.encoded(make(sources)))
        assert errors("dciodvfy", path) == []
        assert errors("dcentvfy", *files, path) == []


def errors(tool: str, *files: Path) -> list[str]:
    run = subprocess.run([tool, *files], capture_output=True, text=True)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


def test_dciodvfy_finds_an_error_where_there_is_one(tmp_path, sources):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is missing: install the Debian package dicom3tools")
    document = report(sources)
    del document.CompletionFlag
    (tmp_path / "wrong.dcm").write_bytes(evidence.encoded(document))
    assert errors("dciodvfy", tmp_path / "wrong.dcm") != []


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (ObserverReading("1", "rscd", "perhaps"), "the hallucination 'perhaps'; needed one of none, possible, definite"),
        (ObserverReading("1", "m" * 65, "none"), "a method's name of 65 characters; needed at most 64"),
        (
            ObserverReading("1", "rscd", "none", (MarkedRegion("point", (1, 1), "ghost", "minor"),)),
            "the category 'ghost'; needed one of added nucleus",
        ),
        (
            ObserverReading("1", "rscd", "none", (MarkedRegion("point", (1, 1), "other", "huge"),)),
            "the severity 'huge'; needed one of minor, major",
        ),
        (
            ObserverReading("1", "rscd", "none", (MarkedRegion("point", (231, 1), "other", "minor"),)),
            r"a point at \(231, 1\); needed one within the slide's 230 x 150 px",
        ),
    ],
)
def test_what_dicom_cannot_say_is_refused(sources, reading, sentence):
    with pytest.raises(InputError, match=sentence):
        report(sources, [reading])


def test_a_report_without_reading_and_one_of_a_long_title_are_refused(sources):
    with pytest.raises(InputError, match="no reading"):
        report(sources, [])
    with pytest.raises(InputError, match="a title of 65 characters"):
        report(sources, title="t" * 65)
