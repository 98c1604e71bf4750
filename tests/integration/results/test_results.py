"""One case gives the whole set of result objects, in the scan's study, and independent readers read each back exactly."""

from __future__ import annotations

import errno
import io
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from case import (
    FLAGGED,
    NOTICE,
    PATCH,
    PROVENANCE,
    RESCAN,
    RESTORED_BY,
    SHAPE,
    WHEN,
    Planted,
    corners,
    counts,
    findings,
    probabilities,
    region,
    written,
)
from highdicom.pm.sop import pmread
from highdicom.spatial import PixelToReferenceTransformer, ReferenceToPixelTransformer
from pydicom.sr import codedict
from validators import complaints, needs_validators

from srh_clinic.errors import InputError
from srh_clinic.integration import convert, dicom_writer, read_slide, write_wsi
from srh_clinic.integration.deidentify import Pseudonyms
from srh_clinic.integration.dicom_header import image_header
from srh_clinic.integration.results import (
    Marked,
    Values,
    fhir_bundle,
    geojson,
    require_free_results,
    result_objects_before,
    write_results,
    writing,
)
from srh_clinic.integration.results.maps import NOT_READ, class_segmentation, heat_maps, parametric_map
from srh_clinic.integration.results.report import case_report
from srh_clinic.integration.results.study import ResultStudy
from srh_clinic.integration.results.writing import OBJECTS
from srh_clinic.resampling import block_mean
from srh_clinic.slide import ArraySlide, Identity

CELL = 32
MAPS = ("tumor", "normal", "nondiagnostic", "steps", "trust")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return written(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def objects(case):
    """The data sets by file name."""
    return {file.name: pydicom.dcmread(file) for file in case[1]}


@pytest.fixture(scope="module")
def folder(case):
    return case[1][0].parent


def geometry(header, **more):
    """Arguments of highdicom's transformers for the matrix of an image."""
    (origin,) = header.TotalPixelMatrixOriginSequence
    spacing = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    return {
        "image_position": [float(origin[f"{axis}OffsetInSlideCoordinateSystem"].value) for axis in "XY"] + [0.0],
        "image_orientation": [float(cosine) for cosine in header.ImageOrientationSlide],
        "pixel_spacing": [float(each) for each in spacing],
        **more,
    }


def test_the_set_is_whole_and_in_the_study_of_the_scan(case, objects):
    levels = ("", "-2")
    assert set(objects) == {f"SRS{shift}{level}.dcm" for shift in (2845, 2930) for level in levels} | set(OBJECTS)
    scan = pydicom.dcmread(case[0][0])
    repeated = (
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "AccessionNumber",
    )
    for name, document in objects.items():
        assert [document[each].value for each in repeated] == [scan[each].value for each in repeated], name
        assert document.SeriesInstanceUID != scan.SeriesInstanceUID
        assert document.Manufacturer == "srh-clinic"
        assert "ab" * 32 in document.ContributingEquipmentSequence[-1].ContributionDescription, name
        assert (document.ContentDate, document.ContentTime) == ("20260304", "050607")
    assert len({document.SOPInstanceUID for document in objects.values()}) == len(objects)
    numbers = {document.SeriesInstanceUID: document.SeriesNumber for document in objects.values()}
    assert sorted(numbers.values()) == [1001, 1002, 1003, 1004, 1005]


def test_the_restored_slide_is_derived_and_exact_at_every_level(case, objects):
    restored = counts() // 2
    sources = {str(pydicom.dcmread(file).SOPInstanceUID) for file in case[0]}
    for factor in (1, 2):
        for channel, shift in enumerate((2845, 2930)):
            name = f"SRS{shift}{'' if factor == 1 else f'-{factor}'}.dcm"
            image = hd.imread(case[1][0].parent / name)
            height, width = (int(edge / factor + 0.5) for edge in SHAPE)
            expected = np.rint(block_mean(restored, factor))[channel, :height, :width]
            np.testing.assert_array_equal(image.get_total_pixel_matrix(dtype=np.uint16), expected)
            assert objects[name].ImageType[0] == "DERIVED"
            assert {item.ReferencedSOPInstanceUID for item in objects[name].SourceImageSequence} == sources
    read = read_slide(case[1][0].parent)
    np.testing.assert_array_equal(read.read(0, 0, *SHAPE), restored)


class TestHeatMaps:
    def expected(self, values, fill=NOT_READ):
        """The values of 96 px patches at multiples of 96 px, on cells of 32 px; one patch is glass, and so is the rest."""
        cells = np.full((14, 22), fill, dtype=np.float32)
        for (y, x), value in zip(corners() // CELL, values, strict=True):
            cells[y : y + 3, x : x + 3] = value
        return cells

    def test_every_map_is_read_back_exactly(self, folder):
        made = findings(read_slide(folder.parent / "scan"))
        values = [*probabilities().T, made.steps.squares.values, made.trust.squares.values]
        for name, of_patch in zip(MAPS, values, strict=True):
            read = pmread(folder / f"map-{name}.dcm").get_total_pixel_matrix()
            np.testing.assert_array_equal(read, self.expected(of_patch).astype(read.dtype))

    def test_a_cell_lies_over_its_tissue_at_every_level(self, folder, objects):
        """A map's cell and the pixels of each level that it tells of have the same edges on the slide, to a hundredth of a
        pixel; half a pixel is asked."""
        for name in (*(f"map-{name}" for name in MAPS), "classes"):
            to_slide = PixelToReferenceTransformer(**geometry(objects[f"{name}.dcm"]))
            cells = np.array([[0, 0], [21, 0], [0, 13], [21, 13], [7, 5]])
            for factor in (1, 2):
                level = objects["SRS2845.dcm" if factor == 1 else f"SRS2845-{factor}.dcm"]
                to_level = ReferenceToPixelTransformer(**geometry(level), drop_slice_index=True, round_output=False)
                centres = to_level(to_slide(cells))
                expected = (cells + 0.5) * (CELL / factor) - 0.5
                np.testing.assert_allclose(centres, expected, atol=0.01)

    def test_no_level_of_the_pyramid_has_its_pixels(self, objects):
        """Of a map with a level's pixels dicom-microscopy-viewer takes the ratio of the level's widths for its scale, which is
        not quite that of the pixels; of others it takes that of the pixels, which must be a whole number then."""
        base = geometry(objects["SRS2845.dcm"])["pixel_spacing"]
        levels = [geometry(header)["pixel_spacing"] for name, header in objects.items() if name.startswith("SRS")]
        for name in (*(f"map-{name}" for name in MAPS), "classes"):
            spacing = geometry(objects[f"{name}.dcm"])["pixel_spacing"]
            np.testing.assert_allclose(np.divide(spacing, base), CELL, rtol=1e-9)
            assert not any(np.allclose(spacing, level, rtol=1e-9) for level in levels)
            assert objects[f"{name}.dcm"].FrameOfReferenceUID == objects["SRS2845.dcm"].FrameOfReferenceUID

    def test_the_segmentation_holds_the_probabilities(self, folder):
        segmentation = hd.seg.segread(folder / "classes.dcm")
        read = segmentation.get_total_pixel_matrix(rescale_fractional=True)
        for number in range(3):
            expected = self.expected(probabilities()[:, number], fill=0.0)
            np.testing.assert_allclose(read[..., number], expected, atol=0.5 / 255 + 1e-6)
        assert [each.segment_label for each in map(segmentation.get_segment_description, (1, 2, 3))] == [
            "tumor",
            "normal",
            "non-diagnostic",
        ]

    @pytest.mark.parametrize("scale", [1.3, 0.5])
    def test_patches_of_other_pixels_count_by_area(self, scale):
        """The sum over cells of value times covered area is that over patches, and a landmark patch's centre stays."""
        scan = ArraySlide(counts(shape=(800, 900)), 0.47)
        square = Planted(np.array([(200, 300)]), 96, np.ones(1, dtype=np.float32))
        cells = Values(square, scale).cells(scan.shape, 8)
        there = np.argwhere(~np.isnan(cells))
        centre = (there.min(axis=0) + there.max(axis=0) + 1) / 2 * 8
        # A cell is in when half of it is: either edge is off by half a cell at most.
        np.testing.assert_allclose(centre, np.array([248, 348]) * scale, atol=4)
        np.testing.assert_allclose((there.max(axis=0) - there.min(axis=0) + 1) * 8, 96 * scale, atol=8)

    def test_a_slide_without_tissue_has_maps_without_values(self, tmp_path):
        none = Values(Planted(np.empty((0, 2), dtype=np.int64), PATCH, np.empty((0, 3), dtype=np.float32)), 1.0)
        one = Values(Planted(np.empty((0, 2), dtype=np.int64), PATCH, np.empty(0, dtype=np.float32)), 1.0)
        empty = {"classes_before": none, "classes_after": none, "steps": one, "trust": one, "flagged": (), "rescan": ()}
        _, files = written(tmp_path, **empty)
        assert "annotations.dcm" not in {file.name for file in files}
        assert (pmread(tmp_path / "results/map-tumor.dcm").get_total_pixel_matrix() == NOT_READ).all()

    def test_maps_and_report_of_a_large_slide_are_below_a_megabyte(self):
        """6,000 x 6,000 px of 0.47 um, patches and tiles of 256 px everywhere, 200 flagged regions."""

        class Large:
            shape, um_per_px, identity, notes = (6000, 6000), 0.47, Identity(patient_id="P"), ()

        at = np.array([(y, x) for y in range(0, 6000, 256) for x in range(0, 6000, 256)], dtype=np.int64)
        scalar = Values(Planted(at, 256, np.ones(len(at), dtype=np.float32)), 1.0)
        classes = Values(Planted(at, 256, np.full((len(at), 3), 1 / 3, dtype=np.float32)), 1.0)
        small = findings(ArraySlide(counts(shape=(96, 96)), 0.47))
        made = replace(
            small,
            scan=Large(),
            classes_after=classes,
            classes_before=classes,
            steps=scalar,
            trust=scalar,
            flagged=FLAGGED * 100,
        )
        header = image_header(Large(), [0], (512, 512), number=1, content="c", created=WHEN)
        header.ContributingEquipmentSequence = []
        study = ResultStudy(made, (), (header,), WHEN)
        maps = [parametric_map(study, shown, 1) for shown in heat_maps(made)] + [class_segmentation(study)]
        sizes = [len(writing_bytes(document)) for document in (*maps, case_report(study, maps))]
        assert sum(sizes) < 1_000_000


def writing_bytes(document):
    file = io.BytesIO()
    pydicom.dcmwrite(file, document, enforce_file_format=True)
    return file.getvalue()


class TestAnnotations:
    @pytest.fixture(scope="class")
    def groups(self, folder):
        return {group.label: group for group in hd.ann.annread(folder / "annotations.dcm").get_annotation_groups()}

    def test_every_patch_is_in_the_group_of_its_class_with_its_probabilities(self, groups):
        most = probabilities().argmax(axis=1)
        for number, words in enumerate(("tumor", "normal", "non-diagnostic")):
            at = corners()[most == number]
            group = groups[f"Patches: {words}"]
            read = group.get_graphic_data("2D")
            assert len(read) == len(at) > 0
            for polygon, (y, x) in zip(read, at, strict=True):
                expected = [[x, y], [x + PATCH, y], [x + PATCH, y + PATCH], [x, y + PATCH]]
                np.testing.assert_array_equal(polygon, expected)
            _, values, _ = group.get_measurements()
            np.testing.assert_array_equal(values, probabilities()[most == number])

    def test_flagged_regions_and_those_worth_rescanning_are_there(self, groups):
        for marked, label in (
            (FLAGGED[0], "Nucleus that the input does not support"),
            (FLAGGED[1], "Pattern of a grid that the input lacks"),
            (RESCAN[0], "Region worth rescanning"),
        ):
            (polygon,) = groups[label].get_graphic_data("2D")
            at = marked.region
            np.testing.assert_array_equal(polygon.min(axis=0), [at.x, at.y])
            np.testing.assert_array_equal(polygon.max(axis=0), [at.x + at.width, at.y + at.height])
        _, strengths, _ = groups["Nucleus that the input does not support"].get_measurements()
        np.testing.assert_array_equal(strengths, [[1.75]])


class TestReport:
    @pytest.fixture(scope="class")
    def report(self, folder):
        return hd.sr.srread(folder / "report.dcm")

    @pytest.fixture(scope="class")
    def by_name(self, report):
        groups = report.content.get_planar_roi_measurement_groups()
        return {group.tracking_identifier: group for group in groups}

    def test_it_says_before_and_after(self, by_name):
        for name, diagnosis, values in (
            ("as-scanned", "Non-diagnostic quality", [0.0, 0.0, 1.0, 0.75]),
            ("after-restoration", "Neoplasm", [0.8125, 0.1875, 0.0, 0.625]),
        ):
            group = by_name[name]
            assert group.finding_type.meaning == diagnosis
            assert [measurement.value for measurement in group.get_measurements()][:4] == values
        after = {each.name.meaning: each.value for each in by_name["after-restoration"].get_measurements()}
        assert after["Median of predicted steps"] == 90
        assert after["Tiles restored"] == 17
        said = {each.name.meaning: each.value.meaning for each in by_name["after-restoration"].get_qualitative_evaluations()}
        assert said["Decision of the policy"] == "Neoplasm"

    def test_its_regions_lie_where_they_were_found(self, by_name, objects):
        to_pixel = ReferenceToPixelTransformer(**geometry(objects["SRS2845.dcm"]), drop_slice_index=True, round_output=False)

        def box(group):
            corners_mm = group.roi.value
            # Edges are told from the corner of the first pixel, which lies half a pixel before its centre.
            return np.concatenate([to_pixel(corners_mm).min(axis=0), to_pixel(corners_mm).max(axis=0)]) + 0.5

        np.testing.assert_allclose(box(by_name["as-scanned"]), [0, 0, SHAPE[1], SHAPE[0]], atol=0.01)
        for number, marked in enumerate((*RESCAN, *FLAGGED), start=1):
            at = marked.region
            expected = [at.x, at.y, at.x + at.width, at.y + at.height]
            np.testing.assert_allclose(box(by_name[f"region-{number}"]), expected, atol=0.01)

    def test_it_says_what_must_be_known_before_it_is_trusted(self, report, objects):
        texts = [str(element.value) for element in report.iterall() if element.keyword == "TextValue"]
        said = "\n".join(texts)
        made = findings(ArraySlide(counts(), 0.47))
        for sentence in (NOTICE, *made.doubts, *made.warnings, *made.notes, made.channel_order, made.decision, made.quality):
            assert sentence in said
        assert f"weights_sha256={'ab' * 32}" in texts
        assert any('"sampler": "direct"' in text for text in texts)
        assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "COMPLETE")

    def test_it_names_every_other_object_and_the_scan(self, report, objects, case):
        named = {element.value for element in report.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
        scan = {pydicom.dcmread(file).SOPInstanceUID for file in case[0]}
        others = {objects[name].SOPInstanceUID for name in (*OBJECTS[:-1], "SRS2845.dcm", "SRS2930.dcm")}
        assert named == scan | others


def codes_of(document):
    """Every coded concept within a data set."""
    for element in document.iterall():
        if element.keyword.endswith("CodeSequence"):
            yield from ((str(item.CodeValue), item.CodingSchemeDesignator, item.CodeMeaning) for item in element.value)


def without_type(meaning):
    """A meaning without the semantic type that SNOMED CT adds in brackets: Source (attribute)."""
    return meaning.lower().partition(" (")[0]


def test_every_code_is_in_pydicoms_dictionaries_with_its_meaning_or_ours(objects):
    known = {}
    for scheme, by_keyword in codedict.CONCEPTS.items():
        for by_code in by_keyword.values():
            for code, (meaning, _) in by_code.items():
                known.setdefault((code, scheme), set()).add(without_type(meaning))
    seen = set()
    for name, document in objects.items():
        for code, scheme, meaning in codes_of(document):
            seen.add(scheme)
            assert len(code) <= 16
            assert len(meaning) <= 64
            # UCUM takes what stands in braces as it is: {pixels} of highdicom's image library.
            if scheme not in ("99SRHCLINIC", "RFC5646") and not (scheme == "UCUM" and code.startswith("{")):
                assert without_type(meaning) in known.get((code, scheme), set()), (name, code, scheme, meaning)
    assert seen >= {"DCM", "SCT", "RADLEX", "UCUM", "99SRHCLINIC"}


def test_a_repeated_run_makes_the_same_objects_and_others_make_others(tmp_path, case):
    first = {file.name: file for file in case[1]}
    _, again = written(tmp_path / "again")
    assert {file.name: file.read_bytes() for file in again} == {name: file.read_bytes() for name, file in first.items()}
    uids = {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in case[1]}
    other = {**PROVENANCE, "weights_sha256": "ef" * 32}
    made = findings(read_slide(case[0][0].parent), provenance=other)
    files = write_results(made, tmp_path / "other", restored_by={**RESTORED_BY, "weights_sha256": "ef" * 32}, created=WHEN)
    assert not uids & {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files}
    changed = findings(read_slide(case[0][0].parent), doubts=())
    files = write_results(changed, tmp_path / "changed", restored_by=RESTORED_BY, created=WHEN)
    report = pydicom.dcmread(files[-1])
    assert report.SOPInstanceUID not in uids
    assert report.SeriesInstanceUID == pydicom.dcmread(first["report.dcm"]).SeriesInstanceUID


def test_private_elements_of_the_scan_are_in_no_result(tmp_path):
    def plant(file: Path) -> None:
        header = pydicom.dcmread(file)
        specimen = header.SpecimenDescriptionSequence[0]
        for level in (header, specimen, specimen.PrimaryAnatomicStructureSequence[0], header.OpticalPathSequence[0]):
            level.private_block(0x0099, "VENDORBLOCK", create=True).add_new(1, "LO", "PLANTEDVALUE")
        header.save_as(file)

    scan, results = written(tmp_path, plant)
    assert b"PLANTEDVALUE" in scan[0].read_bytes()
    for file in results:
        content = file.read_bytes()
        assert b"PLANTEDVALUE" not in content, file.name
        assert b"VENDORBLOCK" not in content, file.name


class TestOddHeaders:
    """What a scanner writes against its value representation, leaves out or leaves empty is repeated, and stops nothing."""

    def odd(self, file):
        header = pydicom.dcmread(file)
        header.SpecificCharacterSet = "ISO_IR 100"
        header.PatientName = "Müller^Jörg"
        header.SpecimenDescriptionSequence[0].SpecimenShortDescription = "Gewebeprobe Ä"
        header.PatientSex, header.PatientBirthDate, header.StudyTime = "X", "spring of 1970", "9:30"
        header.TotalPixelMatrixOriginSequence = []
        header.AcquisitionDateTime = ""
        del header.AccessionNumber
        del header.StudyID
        header.save_as(file)

    def test_results_are_written_and_repeat_it(self, tmp_path, capfd, caplog):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, files = written(tmp_path, self.odd)
            assert "ller" not in "".join(capfd.readouterr())
            assert "ller" not in caplog.text
            assert [file.name for file in files[-8:]] == list(OBJECTS)
            for file in files:
                document = pydicom.dcmread(file)
                assert str(document.PatientName) == "Müller^Jörg", file.name
                assert (document.PatientSex, document.StudyTime) == ("X", "9:30")
                assert document.PatientBirthDate == "spring of 1970"
                if "SpecimenDescriptionSequence" in document:
                    assert document.SpecimenDescriptionSequence[0].SpecimenShortDescription == "Gewebeprobe Ä"
            restored = pydicom.dcmread(files[0])
            assert len(restored.TotalPixelMatrixOriginSequence) == 1
            assert restored.AcquisitionDateTime
            assert hd.sr.srread(files[-1]).content is not None


@needs_validators
def test_dciodvfy_and_dcentvfy_find_nothing(case):
    for file in case[1]:
        assert complaints("dciodvfy", file) == [], file.name
    assert complaints("dcentvfy", *case[0], *case[1]) == []


@needs_validators
def test_the_validator_still_finds_an_error_where_there_is_one(tmp_path, folder):
    document = pydicom.dcmread(folder / "map-tumor.dcm")
    del document.ContentQualification
    document.save_as(tmp_path / "wrong.dcm")
    assert complaints("dciodvfy", tmp_path / "wrong.dcm") != []


def test_wsidicom_reads_the_restored_slide_among_the_results(folder):
    wsidicom = pytest.importorskip("wsidicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with wsidicom.WsiDicom.open(folder) as read:
            region = np.asarray(read.read_region((0, 0), 0, (SHAPE[1], SHAPE[0]), path="SRS2930"))
    np.testing.assert_array_equal(region, counts()[1] // 2)


def test_a_scan_that_is_no_dicom_has_results_of_its_own_study(tmp_path):
    scan = ArraySlide(counts(), 0.47, Identity(source="a.tif"))
    files = write_results(findings(scan), tmp_path / "results", restored_by=RESTORED_BY, created=WHEN)
    assert len({pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID for file in files}) == 1


class TestAllOrNothing:
    def test_a_failure_at_the_last_object_leaves_what_was_there(self, tmp_path, monkeypatch):
        written(tmp_path)
        before = {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()}

        def fail(*_):
            raise OSError("no")

        monkeypatch.setattr(writing, "case_report", fail)
        with pytest.raises(OSError, match="no"):
            written(tmp_path)
        assert {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()} == before

    def test_what_is_no_earlier_result_stays(self, tmp_path):
        scan = ArraySlide(counts(), 0.47)
        folder = tmp_path / "results"
        folder.mkdir()
        (folder / "report.dcm").write_text("somebody's")
        for refuse in (
            lambda: require_free_results(folder, scan, RESTORED_BY),
            lambda: write_results(findings(scan), folder, restored_by=RESTORED_BY),
        ):
            with pytest.raises(InputError, match="did not write"):
                refuse()
        assert [file.name for file in folder.iterdir()] == ["report.dcm"]

    def test_results_of_the_same_call_are_known_again(self, case, folder):
        scan = read_slide(case[0][0].parent)
        assert result_objects_before(folder, findings(scan).run)
        assert not result_objects_before(folder, findings(scan, provenance={**PROVENANCE, "seed": 8}).run)
        assert not result_objects_before(folder.parent / "scan", findings(scan).run)


class TestOtherScans:
    """Scans whose headers differ from those that we write; nothing was found on them, and they are small."""

    @pytest.fixture
    def nothing(self):
        at = np.empty((0, 2), dtype=np.int64)
        classes = Values(Planted(at, PATCH, np.empty((0, 3), dtype=np.float32)), 1.0)
        numbers = Values(Planted(at, PATCH, np.empty(0, dtype=np.float32)), 1.0)
        corner = (Marked("rescan", "a corner", region(30, 70, 30, 20)),)
        both = {"classes_before": classes, "classes_after": classes}
        return {**both, "steps": numbers, "trust": numbers, "flagged": (), "rescan": corner}

    @pytest.fixture
    def small(self, tmp_path, nothing):
        """The header of a small scan, once changed, the objects of its results by name, and its findings."""

        def small(change, **reading):
            scan = ArraySlide(counts(shape=(60, 90)), 0.47, Identity("P1", "S1"))
            for file in write_wsi(scan, tmp_path / "scan", created=WHEN):
                header = pydicom.dcmread(file)
                change(header)
                header.save_as(file)
            made = findings(read_slide(tmp_path / "scan", **reading), **nothing)
            write_results(made, tmp_path / "results", restored_by=RESTORED_BY, created=WHEN)
            by_name = {file.name: pydicom.dcmread(file) for file in (tmp_path / "results").iterdir()}
            return pydicom.dcmread(tmp_path / "scan/SRS2845.dcm"), by_name, made

        return small

    def test_two_without_identity_share_no_uid(self, tmp_path, nothing):
        """Their pixels tell them apart, though the same was found on both."""
        uids = []
        for seed in (0, 1):
            made = findings(ArraySlide(counts(seed, shape=(60, 90)), 0.47), **nothing)
            by = {**RESTORED_BY, "source_pixels_sha256": made.scan_sha256}
            headers = [
                pydicom.dcmread(file) for file in write_results(made, tmp_path / str(seed), restored_by=by, created=WHEN)
            ]
            of_dicom = {str(header[f"{what}InstanceUID"].value) for header in headers for what in ("Study", "Series", "SOP")}
            of_fhir = {each["fullUrl"] for each in json.loads(fhir_bundle(made, WHEN.astimezone()))["entry"]}
            uids.append(of_dicom | of_fhir | {each["id"] for each in json.loads(geojson(made))["features"]})
            assert result_objects_before(tmp_path / str(seed), made.run)
        assert len(uids[0]) > 10
        assert not uids[0] & uids[1]

    def test_pixels_that_are_not_quite_square_stay_so(self, small):
        """One per cent passes for square: over 6,000 pixels it would be 60."""

        def stretched(header):
            header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.00047, 0.000474]
            header.ImagedVolumeWidth = 90 * 0.000474

        scan, objects, made = small(stretched)
        assert geometry(objects["SRS2845.dcm"]) == geometry(scan)
        np.testing.assert_allclose(geometry(objects["map-tumor.dcm"])["pixel_spacing"], np.multiply([0.00047, 0.000474], CELL))
        assert objects["SRS2845.dcm"].FrameOfReferenceUID == scan.FrameOfReferenceUID
        assert objects["SRS2845.dcm"].ImagedVolumeWidth == pytest.approx(90 * 0.000474)
        to_pixel = ReferenceToPixelTransformer(**geometry(scan), drop_slice_index=True, round_output=False)
        groups = hd.sr.srread(io.BytesIO(writing_bytes(objects["report.dcm"]))).content.get_planar_roi_measurement_groups()
        (of_report,) = [group.roi.value for group in groups if group.tracking_identifier == "region-1"]
        told = [each["resource"] for each in json.loads(fhir_bundle(made, WHEN.astimezone()))["entry"]]
        (selection,) = [each for each in told if each["resourceType"] == "ImagingSelection"]
        of_fhir = np.reshape(selection["instance"][0]["imageRegion3D"][0]["coordinate"], (-1, 3))
        for corners_mm in (of_report, of_fhir):
            at = to_pixel(np.asarray(corners_mm)) + 0.5
            np.testing.assert_allclose([*at.min(axis=0), *at.max(axis=0)], [70, 30, 90, 60], atol=0.01)

    def test_another_size_by_the_caller_is_another_frame_of_reference(self, small):
        scan, objects, _ = small(lambda header: None, um_per_px=0.5)
        assert geometry(objects["SRS2845.dcm"])["pixel_spacing"] == [0.0005, 0.0005]
        frames = {str(document.FrameOfReferenceUID) for name, document in objects.items() if "FrameOfReferenceUID" in document}
        assert len(frames) == 1
        assert scan.FrameOfReferenceUID not in frames

    @pytest.mark.parametrize(
        ("character_set", "name"),
        [
            ("ISO_IR 100", "Müller^Jürgen"),
            (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("GB18030", "Wang^XiaoDong=王^小东"),
        ],
    )
    def test_a_name_is_the_same_bytes_in_every_object(self, small, character_set, name):
        def named(header):
            header.SpecificCharacterSet, header.PatientName = character_set, name

        scan, objects, _ = small(named)
        stored = scan.get_item("PatientName").value
        assert str(scan.PatientName) == name
        for document in objects.values():
            assert document.get_item("PatientName").value == stored
            assert str(document.PatientName) == name

    def test_where_the_character_set_lacks_a_letter_of_ours_it_is_unicode(self, small, nothing):
        def named(header):
            header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jürgen"

        nothing["notes"] = ("reading: the file is called 王.dcm",)
        _, objects, _ = small(named)
        assert {str(document.PatientName) for document in objects.values()} == {"Müller^Jürgen"}
        assert objects["report.dcm"].SpecificCharacterSet == "ISO_IR 192"
        assert "王" in "".join(str(element.value) for element in objects["report.dcm"].iterall() if element.VR == "UT")

    def test_an_empty_frame_of_reference_is_none(self, small):
        def emptied(header):
            header.FrameOfReferenceUID = ""

        _, objects, _ = small(emptied)
        assert [element for element in objects["report.dcm"].iterall() if element.VR == "UI" and not element.value] == []

    def test_of_many_regions_none_is_passed_over_and_none_speaks_for_all(self, small, nothing):
        nothing["rescan"] = tuple(Marked("rescan", f"{n} steps in the mean", region(n % 30, n, 20, 20)) for n in range(63))
        _, objects, made = small(lambda header: None)
        texts = [str(element.value) for element in objects["report.dcm"].iterall() if element.VR == "UT"]
        assert "3 further regions worth rescanning stand in the bulk annotations." in texts
        (group,) = objects["annotations.dcm"].AnnotationGroupSequence
        assert (group.NumberOfAnnotations, group.AnnotationGroupDescription) == (63, "Region worth rescanning")
        told = [each["resource"] for each in json.loads(fhir_bundle(made, WHEN.astimezone()))["entry"]]
        (selection,) = [each for each in told if each["resourceType"] == "ImagingSelection"]
        assert selection["code"]["text"] == "Region worth rescanning"


class TestWhatIsThere:
    """A file under one of our names is replaced when it is that result of the same study, never else."""

    @pytest.fixture
    def scan(self, tmp_path):
        write_wsi(ArraySlide(counts(shape=(60, 90)), 0.47, Identity("P1", "S1")), tmp_path / "scan", created=WHEN)
        return read_slide(tmp_path / "scan")

    def refused(self, place, scan, found):
        before = {path: path.read_bytes() for path in place.iterdir()}
        with pytest.raises(InputError, match=found):
            require_free_results(place, scan, RESTORED_BY)
        assert {path: path.read_bytes() for path in place.iterdir()} == before

    @pytest.mark.parametrize("name", ["report.dcm", "map-trust.dcm", "SRS2845-2.dcm"])
    def test_a_scan_of_the_name_of_a_result_stays(self, tmp_path, name):
        (tmp_path / "in").mkdir()
        write_wsi(ArraySlide(counts(shape=(60, 90)), 0.47), tmp_path / "in" / "one.dcm")
        shutil.move(tmp_path / "in" / "one.dcm", tmp_path / "in" / name)
        self.refused(tmp_path / "in", read_slide(tmp_path / "in" / name), "a file that the slide is read from")

    def test_a_slide_is_no_report_and_a_report_no_map(self, tmp_path, scan, folder):
        for number, (file, name) in enumerate((("scan/SRS2845.dcm", "report.dcm"), (folder / "report.dcm", "map-steps.dcm"))):
            place = tmp_path / str(number)
            place.mkdir()
            shutil.copy(tmp_path / file, place / name)
            self.refused(place, scan, "did not write as this result")

    def test_a_report_of_another_study_stays(self, tmp_path, scan, folder):
        (tmp_path / "place").mkdir()
        shutil.copy(folder / "report.dcm", tmp_path / "place")
        self.refused(tmp_path / "place", scan, "a result of another study")

    def test_a_full_disk_is_told_of_the_folder_that_was_asked_for(self, tmp_path, scan, monkeypatch):
        def full(*args, **more):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(dicom_writer, "flush", full)
        for out, write in (
            (tmp_path / "results", lambda out: write_results(findings(scan), out, restored_by=RESTORED_BY)),
            (tmp_path / "other", lambda out: convert(tmp_path / "scan", out, pseudonyms=Pseudonyms.fresh())),
        ):
            with pytest.raises(InputError, match="no space left on the disk") as told:
                write(out)
            assert told.value.path == out
            assert not out.exists()
