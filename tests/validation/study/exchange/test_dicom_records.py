"""What raters called hallucinations is written as DICOM beside the slides."""

from __future__ import annotations

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest
from rated import (
    BOX,
    POINT,
    answer,
    planted,
    task,
    unblinded,
)

from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.validation.study.exchange.dicom_records import dicom_export


class TestDicom:
    @pytest.fixture
    def slide(self, tmp_path):
        counts = np.arange(2 * 80 * 100, dtype=np.uint16).reshape(2, 80, 100)
        write_wsi(ArraySlide(counts, 0.47, Identity(patient_id="P1", specimen_id="S1")), tmp_path / "slide")
        return tmp_path / "slide"

    def test_regions_lie_where_the_case_was_cut_from(self, tmp_path, slide):
        study = unblinded(answer(task(0), "s@16,32", regions=(BOX, POINT), halluc_B="none"))
        report, selection = dicom_export(study, {"s@16,32": (slide, 16, 32)}, tmp_path / "out")
        assert [path.name for path in (report, selection)] == ["slide1-r1-report.dcm", "slide1-r1-key-objects.dcm"]
        content = hd.sr.srread(report).content
        box, point = content.get_planar_roi_measurement_groups()
        assert box.roi.value.tolist() == [[42, 36], [62.5, 36], [62.5, 56], [42, 56], [42, 36]]
        assert point.roi.value.tolist() == [[37, 79.75]]
        methods = [group.get_qualitative_evaluations()[0].value.value for group in (box, point)]
        assert methods == ["rscd", "noise2void"]
        calls = [group.get_qualitative_evaluations()[1].value.value for group in content.get_image_measurement_groups()]
        assert calls == ["HALL-DEFINITE", "HALL-NONE"]
        instances = {pydicom.dcmread(file).SOPInstanceUID for file in slide.iterdir()}
        chosen = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(selection)).content.get_references()
        assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in chosen} == instances

    def test_only_real_tasks_are_reported_and_only_calls_are_key(self, tmp_path, slide):
        none = {"halluc_A": "none", "halluc_B": "none"}
        study = unblinded(
            answer(task(0), "s", **none),
            answer(task(1), "s", {"kind": "repeat", "repeat_of": task(0).task_id}),
            answer(task(2), "s", planted("added", "A")),
            answer(task(0, "r2"), "s"),
        )
        written = dicom_export(study, {"s": (slide, 0, 0)}, tmp_path / "out")
        assert [path.name for path in written] == ["slide1-r1-report.dcm", "slide1-r2-report.dcm", "slide1-r2-key-objects.dcm"]
        identifiers = [group.tracking_identifier for group in hd.sr.srread(written[0]).content.get_image_measurement_groups()]
        assert identifiers == ["r1/0/A", "r1/0/B"]

    def test_dciodvfy_finds_no_error(self, tmp_path, slide):
        if shutil.which("dciodvfy") is None:
            pytest.skip("dciodvfy is missing: install the Debian package dicom3tools")
        study = unblinded(answer(task(0), "s", regions=(BOX, POINT)))
        for path in dicom_export(study, {"s": (slide, 0, 0)}, tmp_path / "out"):
            run = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
            assert [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")] == []

    def test_a_case_without_file_or_outside_its_slide_is_refused(self, tmp_path, slide):
        study = unblinded(answer(task(0), "s"))
        with pytest.raises(InputError, match="no DICOM file for the case s"):
            dicom_export(study, {}, tmp_path / "out")
        with pytest.raises(
            InputError, match="the case s at y=17 x=0, 64 x 64 px; needed a place within the slide's 80 x 100 px"
        ):
            dicom_export(study, {"s": (slide, 17, 0)}, tmp_path / "out")
        assert not (tmp_path / "out").exists()
