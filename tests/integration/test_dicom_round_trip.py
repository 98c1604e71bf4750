"""What is written is read back exactly, by us and by highdicom."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from srh_clinic.errors import InputError
from srh_clinic.integration import DicomSlide, dicom_writer, read_slide, require_free_target
from srh_clinic.slide import ArraySlide, Identity

SYNTAXES = ["jpeg-ls", "raw", "rle", "jpeg-2000"]
PROVENANCE = {
    "version": "0.1.0",
    "bundle": "phantom-demo",
    "weights_sha256": "ab" * 32,
    "seed": 7,
    "settings": {"sampler": "ddim", "recalibration_interval": 10},
}


def whole(slide):
    return slide.read(0, 0, *slide.shape)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_folder_gets_one_instance_a_raman_shift_and_highdicom_reads_it(tmp_path, slide, counts, write, syntax):
    files = write(slide, tmp_path / "case", transfer_syntax=syntax)
    assert [file.name for file in files] == ["SRS2845.dcm", "SRS2930.dcm"]
    for channel, file in enumerate(files):
        np.testing.assert_array_equal(highdicom.imread(file).get_total_pixel_matrix(dtype=np.uint16), counts[channel])
    for path in (tmp_path / "case", *files):
        read = read_slide(path)
        np.testing.assert_array_equal(whole(read), counts)
    assert isinstance(read, DicomSlide)
    assert (read.um_per_px, read.shape, read.notes) == (0.47, counts.shape[1:], ())
    assert (read.identity.patient_id, read.identity.specimen_id) == ("P1", "S1")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_dcm_name_gets_both_optical_paths_and_highdicom_reads_its_frames(tmp_path, slide, counts, write, syntax):
    (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax=syntax)
    np.testing.assert_array_equal(whole(read_slide(file)), counts)
    frames = highdicom.imread(file).get_stored_frames().reshape(2, 3, 4, 64, 64)
    matrix = frames.transpose(0, 1, 3, 2, 4).reshape(2, 192, 256)
    np.testing.assert_array_equal(matrix[:, : counts.shape[1], : counts.shape[2]], counts)


def test_every_region_is_that_of_the_array(tmp_path, slide, counts, write):
    read = read_slide(write(slide, tmp_path / "case.dcm")[0])
    for y, x, height, width in [(0, 0, 1, 1), (149, 229, 1, 1), (63, 63, 2, 2), (10, 60, 120, 80), (64, 128, 64, 64)]:
        np.testing.assert_array_equal(read.read(y, x, height, width), counts[:, y : y + height, x : x + width])
    with pytest.raises(ValueError, match="not within"):
        read.read(100, 0, 51, 10)


def test_a_slide_smaller_than_a_tile_is_one_tile(tmp_path, counts):
    slide = ArraySlide(counts[:, :5, :7], 0.5)
    (file,) = dicom_writer.write_wsi(slide, tmp_path / "small.dcm")
    np.testing.assert_array_equal(whole(read_slide(file)), counts[:, :5, :7])
    assert pydicom.dcmread(file).NumberOfFrames == 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 600)])
def test_a_slide_of_a_few_pixels_is_written_whatever_its_noise(tmp_path, shape):
    noise = np.random.default_rng(0).integers(0, 2**16, (2, *shape), dtype=np.uint16)
    (file,) = dicom_writer.write_wsi(ArraySlide(noise, 0.5), tmp_path / "few.dcm")
    np.testing.assert_array_equal(whole(read_slide(file)), noise)


@pytest.mark.parametrize("table", ["extended", "none", "fragments", "fragments without table of one frame"])
def test_frames_are_found_by_every_kind_of_offset_table(tmp_path, slide, counts, write, edit, monkeypatch, table):
    if table.endswith("one frame"):
        monkeypatch.setattr(dicom_writer, "FRAME_PX", 512)
    files = write(slide, tmp_path / "case")

    def reencapsulate(header):
        frames = list(generate_frames(header.PixelData, number_of_frames=int(header.NumberOfFrames)))
        if table == "extended":
            header.PixelData, header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        elif table == "none":
            header.PixelData = encapsulate(frames, has_bot=False)
        else:
            header.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=not table.endswith("one frame"))

    for file in files:
        edit(file, reencapsulate)
    np.testing.assert_array_equal(whole(read_slide(files[0])), counts)


def test_above_4_gib_the_extended_offset_table_is_written(tmp_path, slide, counts, write, monkeypatch):
    monkeypatch.setattr(dicom_writer, "MAX_32_BIT", 1000)
    (file,) = write(slide, tmp_path / "case.dcm")
    header = pydicom.dcmread(file)
    assert len(header.ExtendedOffsetTable) == 8 * header.NumberOfFrames
    np.testing.assert_array_equal(header.pixel_array[0], counts[0, :64, :64])
    np.testing.assert_array_equal(whole(read_slide(file)), counts)
    with pytest.raises(InputError, match="raw pixels"):
        write(slide, tmp_path / "raw.dcm", transfer_syntax="raw")


def test_the_same_slide_gives_the_same_bytes(tmp_path, slide, write):
    created = datetime(2024, 5, 17, 9, 30)
    first, second = (write(slide, tmp_path / name, created=created)[0].read_bytes() for name in ("a.dcm", "b.dcm"))
    assert first == second


def test_notes_travel_with_the_file(tmp_path, counts, write):
    noted = ArraySlide(counts, 0.47, notes=("stretched from a full scale of 256 (x257)", "cut"))
    assert read_slide(write(noted, tmp_path / "case.dcm")[0]).notes == noted.notes


class TestDerived:
    def test_repeated_runs_make_the_same_objects_and_other_settings_others(self, tmp_path, slide, counts, write):
        source = read_slide(write(slide, tmp_path / "source")[0])
        restored = ArraySlide(counts // 2, 0.47, source.identity)

        def uids(name, provenance):
            files = write(restored, tmp_path / name, derived_from=source, provenance=provenance)
            headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
            assert len({header.SeriesInstanceUID for header in headers}) == 1
            return [(header.SeriesInstanceUID, header.SOPInstanceUID) for header in headers]

        first = uids("first", PROVENANCE)
        assert uids("again", dict(reversed(PROVENANCE.items()))) == first
        for other in ({"seed": 8}, {"weights_sha256": "cd" * 32}, {"settings": {"sampler": "mean"}}):
            changed = uids("other", PROVENANCE | other)
            assert not {uid for pair in changed for uid in pair} & {uid for pair in first for uid in pair}

    @pytest.mark.parametrize("layout", ["source", "source.dcm"])
    def test_it_stays_in_the_study_and_names_its_source(self, tmp_path, slide, counts, write, layout):
        source = read_slide(write(slide, tmp_path / layout)[0])
        files = write(ArraySlide(counts // 2, 0.47), tmp_path / "out", derived_from=source, provenance=PROVENANCE)
        origins = {header.SOPInstanceUID for header in source.headers}
        for number, file in enumerate(files, start=1):
            header = pydicom.dcmread(file)
            same = [
                "StudyInstanceUID",
                "PatientID",
                "FrameOfReferenceUID",
                "ContainerIdentifier",
                "SpecimenDescriptionSequence",
            ]
            assert [header[keyword] for keyword in same] == [source.headers[0][keyword] for keyword in same]
            assert header.SeriesInstanceUID != source.identity.series_uid
            assert header.InstanceNumber == number
            assert list(header.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
            assert {item.ReferencedSOPInstanceUID for item in header.SourceImageSequence} == origins
            (series,) = header.ReferencedSeriesSequence
            assert series.SeriesInstanceUID == source.identity.series_uid
            assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == origins
            assert '"sampler": "ddim"' in header.DerivationDescription
            acquisition, processing = header.ContributingEquipmentSequence
            assert acquisition.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
            assert processing.SoftwareVersions == "0.1.0"
            assert "ab" * 32 in processing.ContributionDescription
        np.testing.assert_array_equal(whole(read_slide(files[1])), counts // 2)

    def test_a_source_of_two_series_is_referenced_in_both(self, tmp_path, slide, write, edit):
        files = write(slide, tmp_path / "source")
        edit(files[1], SeriesInstanceUID="2.25.77")
        source = read_slide(tmp_path / "source")
        (file, _) = write(slide, tmp_path / "out", derived_from=source, provenance=PROVENANCE)
        named = {
            str(series.SeriesInstanceUID): [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]
            for series in pydicom.dcmread(file).ReferencedSeriesSequence
        }
        headers = [pydicom.dcmread(each) for each in files]
        assert named == {str(header.SeriesInstanceUID): [str(header.SOPInstanceUID)] for header in headers}

    def test_text_of_another_character_set_survives(self, tmp_path, slide, write, edit):
        (file,) = write(slide, tmp_path / "source.dcm")
        edit(file, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
        source = read_slide(file)
        (derived,) = write(slide, tmp_path / "out.dcm", derived_from=source, provenance=PROVENANCE)
        assert str(pydicom.dcmread(derived).PatientName) == "Müller^Jörg"

    def test_without_dicom_source_it_is_derived_all_the_same(self, tmp_path, slide, counts, write):
        (file,) = write(slide, tmp_path / "out.dcm", derived_from=Identity(source="a.tif"), provenance=PROVENANCE)
        assert pydicom.dcmread(file).ImageType[0] == "DERIVED"
        np.testing.assert_array_equal(whole(read_slide(file)), counts)

    def test_images_that_differ_never_share_a_uid(self, tmp_path, slide, counts, write):
        source = read_slide(write(slide, tmp_path / "source")[0])
        identity = source.identity
        padded = np.pad(counts, ((0, 0), (0, 1), (0, 0)))  # the same tiles, of which one row more belongs to the image
        variants = {
            "a.dcm": ArraySlide(counts, 0.47, identity),
            "a": ArraySlide(counts, 0.47, identity),
            "pixels.dcm": ArraySlide(counts // 2, 0.47, identity),
            "size.dcm": ArraySlide(counts, 0.35, identity),
            "matrix.dcm": ArraySlide(padded, 0.47, identity),
            "notes.dcm": ArraySlide(counts, 0.47, identity, ("stretched",)),
        }
        for derivation in ({}, {"derived_from": source, "provenance": PROVENANCE}):
            uids = []
            for name, variant in variants.items():
                files = write(variant, tmp_path / f"{len(derivation)}{name}", **derivation)
                headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
                uids += [header.SOPInstanceUID for header in headers] + [headers[0].SeriesInstanceUID]
            assert len(uids) == len(set(uids)) == 2 * len(variants) + 1

    def test_optical_paths_of_one_identifier_are_told_apart_in_one_file(self, tmp_path, slide, counts, write, edit):
        files = write(slide, tmp_path / "source")
        for file in files:
            edit(file, lambda header: setattr(header.OpticalPathSequence[0], "OpticalPathIdentifier", "1"))
        source = read_slide(files[0])
        (derived,) = write(source, tmp_path / "out.dcm", derived_from=source, provenance=PROVENANCE)
        paths = pydicom.dcmread(derived).OpticalPathSequence
        assert [path.OpticalPathIdentifier for path in paths] == ["SRS2845", "SRS2930"]
        np.testing.assert_array_equal(whole(read_slide(derived)), counts)

    @pytest.mark.parametrize("lossy", [0, 1])
    def test_what_was_compressed_with_loss_stays_marked(self, tmp_path, slide, write, edit, lossy):
        files = write(slide, tmp_path / "source")
        marks = {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": 10,
            "LossyImageCompressionMethod": "ISO_15444_1",
        }
        edit(files[lossy], **marks)
        source = read_slide(files[0])
        for file in write(slide, tmp_path / "out", derived_from=source, provenance=PROVENANCE):
            header = pydicom.dcmread(file)
            assert {keyword: header[keyword].value for keyword in marks} == marks

    @pytest.mark.parametrize(("edge", "value"), [(150, "NONE"), (75, "RESAMPLED")])
    def test_a_resampled_image_says_so(self, tmp_path, slide, counts, write, edge, value):
        source = read_slide(write(slide, tmp_path / "source")[0])
        restored = ArraySlide(counts[:, :edge], 0.47, source.identity)
        for number, origin in enumerate((source, source.identity)):
            (file,) = write(restored, tmp_path / f"out{number}.dcm", derived_from=origin, provenance=PROVENANCE)
            header = pydicom.dcmread(file)
            (groups,) = header.SharedFunctionalGroupsSequence
            assert header.ImageType[3] == value
            assert groups.WholeSlideMicroscopyImageFrameTypeSequence[0].FrameType == header.ImageType

    @pytest.mark.parametrize(("number", "derived"), [(3, 1003), (2**31 - 5, 2**31 - 1)])
    def test_its_series_number_stays_within_dicoms_range(self, tmp_path, slide, write, edit, number, derived):
        (file,) = write(slide, tmp_path / "source.dcm")
        source = read_slide(edit(file, SeriesNumber=number))
        (out,) = write(slide, tmp_path / "out.dcm", derived_from=source, provenance=PROVENANCE)
        assert pydicom.dcmread(out).SeriesNumber == derived

    def test_a_second_restoration_keeps_the_equipment_of_the_first(self, tmp_path, slide, write, edit):
        (file,) = write(slide, tmp_path / "source.dcm")
        source = read_slide(edit(file, Manufacturer="Invenio"))
        (once,) = write(slide, tmp_path / "once.dcm", derived_from=source, provenance=PROVENANCE)
        first = read_slide(once)
        (twice,) = write(slide, tmp_path / "twice.dcm", derived_from=first, provenance=PROVENANCE | {"version": "0.2.0"})
        acquisition, earlier, latest = pydicom.dcmread(twice).ContributingEquipmentSequence
        assert [acquisition, earlier] == list(pydicom.dcmread(once).ContributingEquipmentSequence)
        assert acquisition.Manufacturer == "Invenio"
        assert (earlier.SoftwareVersions, latest.SoftwareVersions) == ("0.1.0", "0.2.0")

    def test_values_of_the_source_that_break_their_vr_are_not_printed(self, tmp_path, slide, write, edit, capsys):
        (file,) = write(slide, tmp_path / "source.dcm")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            edit(file, FrameOfReferenceUID="Mueller-Joerg", PatientBirthDate="spring of 1970")
        source = read_slide(file)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            write(slide, tmp_path / "out.dcm", derived_from=source, provenance=PROVENANCE)
            require_free_target(tmp_path / "out.dcm", source)
        assert [str(warning.message) for warning in caught] == []
        assert capsys.readouterr().err == ""

    def test_derived_needs_provenance(self, tmp_path, slide):
        with pytest.raises(ValueError, match="belong together"):
            dicom_writer.write_wsi(slide, tmp_path / "x.dcm", derived_from=slide)


class TestNothingHalfWritten:
    @pytest.mark.parametrize("out", ["case.dcm", "case"])
    def test_a_full_disk_leaves_what_was_there(self, tmp_path, slide, write, monkeypatch, out):
        before = [file.read_bytes() for file in write(slide, tmp_path / out)]

        def full(*_args, **_kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(dicom_writer.shutil, "copyfileobj", full)
        with pytest.raises(InputError, match="no space left on the disk"):
            write(slide, tmp_path / out, transfer_syntax="raw")
        assert [path.name for path in tmp_path.iterdir()] == [out]
        left = [tmp_path / out] if out.endswith(".dcm") else sorted((tmp_path / out).iterdir())
        assert [file.read_bytes() for file in left] == before

    def test_a_disk_that_is_really_full_is_named_and_left_clean(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        script = f"""
import numpy, pathlib
from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide
counts = numpy.random.default_rng(0).integers(0, 65536, (2, 600, 600)).astype("uint16")
try:
    write_wsi(ArraySlide(counts, 0.47), "{disk}/case.dcm")
except InputError as error:
    print(error, list(pathlib.Path("{disk}").iterdir()))
"""
        mount = f'mount -t tmpfs -o size=1m tmpfs "{disk}" || exit 77; exec "$0" -c "$1"'
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.skip("no unshare (util-linux) to mount a small disk with")
        run = subprocess.run([unshare, "-rm", "sh", "-c", mount, sys.executable, script], capture_output=True, text=True)
        if run.returncode in (1, 77) and not run.stdout and "Traceback" not in run.stderr:
            pytest.skip(f"a small disk cannot be mounted here: {run.stderr.strip()}")
        assert "no space left on the disk" in run.stdout, run.stderr
        assert run.stdout.rstrip().endswith("[]")

    def test_a_slide_that_fails_while_it_is_read_leaves_nothing(self, tmp_path, slide, write):
        class Failing(ArraySlide):
            def read(self, y, x, height, width):
                if y > 0:
                    raise InputError("frame 3, which cannot be decoded", "undamaged pixel data")
                return super().read(y, x, height, width)

        with pytest.raises(InputError, match="frame 3"):
            write(Failing(slide.counts, 0.47), tmp_path / "deep" / "case")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_in_the_place_of_a_folder_is_refused(self, tmp_path, slide):
        (tmp_path / "case").write_text("mine")
        (tmp_path / "case.dcm").mkdir()
        for name, told in (("case", "found a file; needed a folder's name"), ("case.dcm", "found a folder; needed a file's")):
            with pytest.raises(InputError, match=told):
                dicom_writer.write_wsi(slide, tmp_path / name)
        assert (tmp_path / "case").read_text() == "mine"

    @pytest.mark.parametrize(
        ("identity", "found"),
        [(Identity(patient_id="P" * 65), "PatientID"), (Identity(specimen_id="S" * 65), "ContainerIdentifier")],
    )
    def test_an_identifier_longer_than_dicom_allows_is_refused(self, tmp_path, counts, identity, found):
        with pytest.raises(InputError, match=f"a {found} of 65 characters; needed at most 64"):
            dicom_writer.write_wsi(ArraySlide(counts, 0.47, identity), tmp_path / "case.dcm")
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_transfer_syntax_lists_the_known(self, tmp_path, slide):
        with pytest.raises(InputError, match="one of jpeg-ls, raw, rle, jpeg-2000"):
            dicom_writer.write_wsi(slide, tmp_path / "case.dcm", transfer_syntax="htj2k")


class TestValidators:
    """David Clunie's dicom3tools, the reference validator; 99SRHCLINIC is the only thing it does not know."""

    @pytest.fixture
    def validate(self):
        if shutil.which("dciodvfy") is None or shutil.which("dcentvfy") is None:
            pytest.skip("dciodvfy and dcentvfy are missing: install the Debian package dicom3tools")

        def validate(tool, *files: Path):
            run = subprocess.run([tool, *files], capture_output=True, text=True)
            lines = (run.stdout + run.stderr).splitlines()
            return [line for line in lines if line.startswith(("Error", "Warning")) and "99SRHCLINIC" not in line]

        return validate

    @pytest.mark.parametrize("syntax", SYNTAXES)
    @pytest.mark.parametrize("layout", ["case", "case.dcm"])
    def test_dciodvfy_and_dcentvfy_find_nothing(self, tmp_path, slide, write, validate, syntax, layout):
        files = write(slide, tmp_path / layout, transfer_syntax=syntax)
        source = read_slide(files[0])
        files += write(
            slide, tmp_path / f"restored{layout}", transfer_syntax=syntax, derived_from=source, provenance=PROVENANCE
        )
        for file in files:
            assert validate("dciodvfy", file) == []
        assert validate("dcentvfy", *files) == []

    def test_dciodvfy_finds_an_error_where_there_is_one(self, tmp_path, slide, write, edit, validate):
        (file,) = write(slide, tmp_path / "case.dcm")
        edit(file, PlanarConfiguration=0)
        assert any(line.startswith("Error") for line in validate("dciodvfy", file))
