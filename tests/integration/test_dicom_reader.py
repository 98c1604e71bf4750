"""Every layout a case can have reads as the same slide, and lazily."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from srh_clinic.errors import InputError
from srh_clinic.integration import frames as frames_module
from srh_clinic.integration import read_slide
from srh_clinic.integration.channels import channel_in_words, channel_of_words, decide_channels, stokes_nm
from srh_clinic.integration.deidentify import nameless
from srh_clinic.integration.dicom_frames import DicomFrames
from srh_clinic.integration.dicom_header import image_header
from srh_clinic.integration.frames import FrameCache
from srh_clinic.integration.limits import VARIABLE
from srh_clinic.integration.optical_path import PUMP_NM, optical_path, statement_of
from srh_clinic.slide import ArraySlide, sparing


def whole(slide):
    return slide.read(0, 0, *slide.shape)


@pytest.fixture
def case(tmp_path, slide, write):
    """A raw case in a folder, one instance per Raman shift."""
    folder = tmp_path / "case"
    write(slide, folder, transfer_syntax="raw")
    return folder


class TestSiblings:
    def test_they_are_found_by_series_whatever_their_names(self, case, counts):
        (case / "SRS2845.dcm").rename(case / "zz")
        (case / "SRS2930.dcm").rename(case / "IM000001")
        for path in (case, case / "zz", case / "IM000001"):
            np.testing.assert_array_equal(whole(read_slide(path)), counts)

    def test_other_slides_in_the_folder_do_not_disturb_a_named_file(self, case, counts, write):
        write(ArraySlide(counts[::-1], 0.47), case / "other.dcm")
        np.testing.assert_array_equal(whole(read_slide(case / "SRS2930.dcm")), counts)

    def test_what_is_no_srh_slide_is_passed_over(self, case, counts, edit, real_data):
        (case / "notes.txt").write_text("not DICOM")
        (case / "empty").touch()
        (case / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
        (case / "sub").mkdir()
        shutil.copy(case / "SRS2845.dcm", case / "copy of SRS2845.dcm")
        for rgb in ("sm_image.dcm", "ezwsi_test_wsi.dcm"):
            shutil.copy(real_data / "dicom_wsi" / rgb, case)
        for path in (case, case / "SRS2845.dcm", case / "copy of SRS2845.dcm"):
            np.testing.assert_array_equal(whole(read_slide(path)), counts)

    @pytest.mark.parametrize("opened", ["case", "small.dcm", "label.dcm", "SRS2845.dcm"])
    def test_the_highest_resolution_volume_is_read_not_levels_or_labels(self, case, counts, slide, edit, write, opened):
        (first, _) = read_slide(case).headers
        same = {k: first[k].value for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
        small = ArraySlide(np.ascontiguousarray(counts[:, ::2, ::2]), 0.94, slide.identity)
        write(small, case / "small.dcm")
        edit(case / "small.dcm", **same, ImageType=["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"])
        for name, flavour in (("label.dcm", "LABEL"), ("overview.dcm", "OVERVIEW"), ("thumbnail.dcm", "THUMBNAIL")):
            write(ArraySlide(np.tile(counts, (1, 2, 2)), 0.47), case / name)
            edit(case / name, **same, ImageType=["ORIGINAL", "PRIMARY", flavour, "NONE"])
        np.testing.assert_array_equal(whole(read_slide(case if opened == "case" else case / opened)), counts)


class TestOneScan:
    """Images of one series are read together only when they are channels or levels of one scan."""

    @pytest.fixture
    def two_scans(self, tmp_path, slide, counts, write, edit):
        """A slide and a larger one, which an error put into one series; attributes of the larger can be changed."""

        def two_scans(factor=2, **attributes):
            (small,) = write(slide, tmp_path / "small.dcm")
            scan = ArraySlide(np.tile(counts, (1, factor, factor)), 0.47, slide.identity)
            (large,) = write(scan, tmp_path / "large.dcm")
            header = read_slide(small).headers[0]
            same = {k: header[k].value for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
            edit(large, **same | attributes)
            return small, large

        return two_scans

    @pytest.mark.parametrize("named", [None, 0, 1])
    @pytest.mark.parametrize(
        ("attributes", "found"),
        [
            ({}, "ImagedVolumeWidth"),
            ({"ContainerIdentifier": "S2"}, "ContainerIdentifier"),
            ({"PatientID": "P2"}, "PatientID"),
            ({"FrameOfReferenceUID": "1.2.3"}, "FrameOfReferenceUID"),
        ],
    )
    def test_a_larger_scan_is_not_the_top_of_the_pyramid(self, tmp_path, two_scans, attributes, found, named):
        files = two_scans(**attributes)
        with pytest.raises(InputError, match=f"an? {found} that differs from that of .*in the same series") as caught:
            read_slide(tmp_path if named is None else files[named])
        assert all(file.name in str(caught.value) for file in files)

    def test_a_level_that_rounds_up_to_whole_tiles_is_one(self, tmp_path, slide, counts, two_scans, edit):
        extent = slide.shape[1] * 0.47e-3 * 1.015, slide.shape[0] * 0.47e-3 * 1.015
        small, large = two_scans(ImagedVolumeWidth=extent[0], ImagedVolumeHeight=extent[1])
        spacing = [extent[0] / (2 * slide.shape[1])] * 2
        edit(
            large,
            lambda header: setattr(header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", spacing),
        )
        assert read_slide(small).shape == (2 * slide.shape[0], 2 * slide.shape[1])

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [("PatientID", "P2"), ("StudyInstanceUID", "1.2.3"), ("ContainerIdentifier", "S2"), ("FrameOfReferenceUID", "1.2.3")],
    )
    def test_channels_of_two_cases_are_refused(self, case, edit, keyword, value):
        edit(case / "SRS2930.dcm", **{keyword: value})
        for path in (case, case / "SRS2845.dcm", case / "SRS2930.dcm"):
            with pytest.raises(InputError, match=f"a {keyword} that differs from"):
                read_slide(path)

    def test_a_frame_of_reference_that_one_file_leaves_out_is_no_contradiction(self, case, counts, edit):
        edit(case / "SRS2930.dcm", lambda header: header.pop("FrameOfReferenceUID"))
        np.testing.assert_array_equal(whole(read_slide(case)), counts)


class TestLayouts:
    @pytest.mark.parametrize("layout", ["case", "case.dcm"])
    def test_tiled_sparse_frames_lie_where_their_position_says(self, tmp_path, slide, counts, write, make_sparse, layout):
        for file in write(slide, tmp_path / layout, transfer_syntax="raw"):
            make_sparse(file)
        np.testing.assert_array_equal(whole(read_slide(tmp_path / layout)), counts)

    def test_tiles_that_a_sparse_slide_leaves_out_are_dark(self, tmp_path, slide, counts, write, make_sparse):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")
        make_sparse(file, left_out=frozenset({5}))
        expected = counts.copy()
        expected[0, 64:128, 64:128] = 0
        np.testing.assert_array_equal(whole(read_slide(file)), expected)

    @pytest.mark.parametrize("layout", ["case", "case.dcm"])
    def test_a_concatenation_is_put_together(self, tmp_path, slide, counts, write, split_in_two, layout):
        files = write(slide, tmp_path / layout, transfer_syntax="raw")
        parts = [part for file in files for part in split_in_two(file)]
        for path in (parts[0].parent, *parts):
            np.testing.assert_array_equal(whole(read_slide(path)), counts)

    def test_a_sparse_concatenation_is_put_together(self, tmp_path, slide, counts, write, make_sparse, split_in_two):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")
        for path in split_in_two(make_sparse(file)):
            np.testing.assert_array_equal(whole(read_slide(path)), counts)

    def test_the_order_of_optical_paths_means_nothing(self, tmp_path, slide, counts, write, edit):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")

        def swap(header):
            half = len(header.PixelData) // 2
            header.PixelData = header.PixelData[half:] + header.PixelData[:half]
            header.OpticalPathSequence = header.OpticalPathSequence[::-1]

        edit(file, swap)
        np.testing.assert_array_equal(whole(read_slide(file)), counts)

    def test_a_third_optical_path_is_left_alone(self, tmp_path, slide, counts, write, edit):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")

        def put_first(header):
            fluorescence = Dataset()
            fluorescence.OpticalPathIdentifier, fluorescence.IlluminationWaveLength = "1", 405.0
            header.OpticalPathSequence = [fluorescence, *header.OpticalPathSequence]
            header.NumberOfOpticalPaths = 3
            header.NumberOfFrames = int(header.NumberOfFrames) * 3 // 2
            header.PixelData = header.PixelData[: len(header.PixelData) // 2] + header.PixelData

        edit(file, put_first)
        np.testing.assert_array_equal(whole(read_slide(file)), counts)

    def test_12_bits_are_stretched_and_noted(self, tmp_path, slide, counts, write, edit):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")

        def to_12_bits(header):
            header.PixelData = (np.frombuffer(header.PixelData, "<u2") // 16).tobytes()

        edit(file, to_12_bits, BitsStored=12, HighBit=11)
        read = read_slide(file)
        np.testing.assert_array_equal(whole(read), counts // 16 * 16)
        assert read.notes == ("stretched from a full scale of 4096 (x16)",)
        np.testing.assert_array_equal(whole(read_slide(file, full_scale=65536)), counts // 16)
        with pytest.raises(InputError, match="values below the stated full scale of 1024"):
            whole(read_slide(file, full_scale=1024))

    def test_what_is_above_the_stored_bits_is_left_out_and_noted(self, tmp_path, slide, counts, write, edit):
        """PS3.5 8.1.1: bits above Bits Stored are no part of a value; overlays and converters leave something there."""
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")

        def to_12_bits(header):
            header.PixelData = (np.frombuffer(header.PixelData, "<u2") // 16 | 0x3000).astype("<u2").tobytes()

        edit(file, to_12_bits, BitsStored=12, HighBit=11)
        read = read_slide(file)
        np.testing.assert_array_equal(whole(read), counts // 16 * 16)
        assert read.notes[1].startswith("values above the 12 bits that are stated to be stored")

    def test_padding_is_dark(self, tmp_path, slide, counts, write, edit):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax="raw")
        edit(file, lambda header: header.add_new("PixelPaddingValue", "US", 1000))
        np.testing.assert_array_equal(whole(read_slide(file)), np.where(counts == 1000, 0, counts))

    def test_a_pixel_size_of_the_caller_wins_and_is_noted(self, case):
        read = read_slide(case, um_per_px=0.35)
        assert read.um_per_px == 0.35
        assert read.notes == ("pixel size 0.35 um stated by the caller, 0.47 um by the file",)

    @pytest.mark.parametrize(
        ("spacing", "stated"),
        [(None, "no Pixel Spacing"), ([0, 0], "a shared Pixel Spacing of 0 x 0 mm"), ([0.47, 0.3], "pixels of 300 x 470 um")],
    )
    def test_with_a_pixel_size_of_the_caller_the_file_need_not_state_one(self, case, counts, edit, spacing, stated):
        def state(header):
            (groups,) = header.SharedFunctionalGroupsSequence
            if spacing is None:
                del groups.PixelMeasuresSequence
            else:
                groups.PixelMeasuresSequence[0].PixelSpacing = spacing

        for file in sorted(case.iterdir()):
            edit(file, state)
        with pytest.raises(InputError, match=stated):
            read_slide(case)
        read = read_slide(case, um_per_px=0.47)
        assert (read.um_per_px, read.notes) == (0.47, (f"pixel size 0.47 um stated by the caller, {stated} by the file",))
        np.testing.assert_array_equal(whole(read), counts)

    def test_the_extent_follows_from_the_pixel_size_of_the_caller(self, case, edit):
        for file in sorted(case.iterdir()):
            edit(file, TotalPixelMatrixColumns=20_000)
        with pytest.raises(InputError, match="12 frames"):  # 9.4 mm: the next check refuses it
            read_slide(case)
        with pytest.raises(InputError, match="20000 x 150 pixels, 400 mm long"):
            read_slide(case, um_per_px=20)


class TestOpticalPaths:
    @pytest.mark.parametrize(
        ("text", "channel"),
        [
            ("SRS2845", 0),
            ("Raman shift 2930 cm-1", 1),
            ("CH2", 0),
            ("ch3 (protein)", 1),
            ("SRS_CH3", 1),
            ("2850.5 cm-1", 0),
            ("CH3-CH2", None),
            ("2845/2930", None),
            ("1", None),
            ("12845", None),
            ("CH25", None),
        ],
    )
    def test_words_name_a_channel(self, text, channel):
        assert channel_in_words(text) == channel

    def test_ours_are_recognised(self):
        assert [channel_of_words(statement_of(optical_path(channel)).words) for channel in (0, 1)] == [0, 1]

    @pytest.mark.parametrize("wavelengths", [(1019.03, 1027.94), (1030.7, 1039.8), (1027.94, 1019.03), (797.5, 792.1)])
    def test_wavelengths_that_fit_one_laser_are_enough(self, wavelengths):
        """Stokes lines of a 790 and a 797 nm pump, the first in another order, and the pumps of a Stokes line of 1031 nm."""
        items = [Dataset(), Dataset()]
        for item, wavelength in zip(items, wavelengths, strict=True):
            item.OpticalPathIdentifier, item.IlluminationWaveLength = "1", wavelength
        order = decide_channels([statement_of(item) for item in items], None, None, in_order=False)
        assert order.places == ((1, 0) if wavelengths[0] == 1027.94 else (0, 1))

    @pytest.mark.parametrize("wavelengths", [(1019.03, 1030.7), (1027.94, None), (790.0, 790.0), (405.0, 1019.03)])
    def test_one_wavelength_or_two_of_two_pumps_decide_nothing(self, wavelengths):
        """1030.7 nm is CH2 with a pump of 797 nm, but within 3 nm of CH3 with one of 790 nm."""
        items = [Dataset(), Dataset()]
        for item, wavelength in zip(items, wavelengths, strict=True):
            item.OpticalPathIdentifier, item.IlluminationWaveLength = "1", wavelength
        with pytest.raises(InputError, match="--channels"):
            decide_channels([statement_of(item) for item in items], None, None, in_order=False)

    def test_stokes_wavelengths_are_those_of_a_790_nm_pump(self):
        assert [round(stokes_nm(shift, PUMP_NM), 2) for shift in (2845, 2930)] == [1019.03, 1027.94]

    def test_words_go_before_a_wavelength_of_another_pump(self):
        items = [optical_path(0), optical_path(1)]
        for item, wavelength in zip(items, (1030.7, 1039.8), strict=True):
            item.IlluminationWaveLength = wavelength
        assert decide_channels([statement_of(item) for item in items], None, None).places == (0, 1)

    def test_contradiction_is_refused(self):
        items = [optical_path(0), optical_path(1)]
        for item, wavelength in zip(items, (1027.94, 1019.03), strict=True):
            item.IlluminationWaveLength = wavelength
        with pytest.raises(InputError, match="words and wavelengths disagree"):
            decide_channels([statement_of(item) for item in items], None, None)


class TestLaziness:
    SIDE, TILE = 20_000, 512

    @pytest.fixture
    def headers(self):
        class Large(ArraySlide):
            shape = (TestLaziness.SIDE, TestLaziness.SIDE)

        slide = Large(np.zeros((2, 1, 1), np.uint16), 0.47)
        headers = []
        for channels in ((0, 1), (0,), (1,)):
            header = image_header(
                slide, channels, (self.TILE, self.TILE), number=1, content="large", created=datetime(2024, 5, 17)
            )
            header.file_meta = FileMetaDataset()
            header.file_meta.TransferSyntaxUID = JPEGLSLossless if len(channels) == 2 else ExplicitVRLittleEndian
            headers.append(header)
        return headers

    @pytest.fixture(params=["compressed", "raw"])
    def large(self, request, tmp_path, headers):
        """20,000 x 20,000 px at little cost: one tile in all places, or raw pixels in a hole of the disk."""
        both, *single = headers
        if request.param == "compressed":
            tile = np.arange(self.TILE**2, dtype=np.uint32).reshape(self.TILE, self.TILE).astype(np.uint16)
            frame = get_encoder(JPEGLSLossless).encode(
                tile,
                rows=self.TILE,
                columns=self.TILE,
                number_of_frames=1,
                samples_per_pixel=1,
                bits_allocated=16,
                bits_stored=16,
                pixel_representation=0,
                photometric_interpretation="MONOCHROME2",
            )
            both.PixelData = encapsulate([frame] * int(both.NumberOfFrames))
            both.save_as(tmp_path / "large.dcm", enforce_file_format=True)
            return tmp_path / "large.dcm"
        for header in single:
            path = tmp_path / f"{header.SOPInstanceUID}.dcm"
            header.save_as(path, enforce_file_format=True)
            n_bytes = int(header.NumberOfFrames) * self.TILE**2 * 2
            with path.open("ab") as file:
                file.write(b"\xe0\x7f\x10\x00OW\x00\x00" + n_bytes.to_bytes(4, "little"))
                file.truncate(file.tell() + n_bytes)
        return path

    def test_one_tile_of_20_000_square_does_not_load_the_slide(self, large, monkeypatch):
        loads = []
        load = DicomFrames.load
        monkeypatch.setattr(DicomFrames, "load", lambda self, index: loads.append(index) or load(self, index))
        tracemalloc.start()
        try:
            slide = read_slide(large)
            opening = len(loads)
            region = slide.read(10_000, 10_100, 256, 256)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert slide.shape == (self.SIDE, self.SIDE)
        assert region.shape == (2, 256, 256)
        assert opening <= 16  # a few frames of either channel are looked at for their depth
        assert len(loads) == opening + 8  # it lies across two tiles in either direction, in two channels
        assert peak < 16 * 2**20  # the slide is 1.6 GB, its compressed frames here 0.2 GB, its frame table 0.1 MB
        slide.read(10_000, 10_100, 256, 256)
        assert len(loads) == opening + 8

    def test_the_cache_is_bounded_in_bytes_and_forgets_the_oldest(self):
        cache = FrameCache(max_bytes=1000)
        frames = [np.full((10, 20), i, np.uint16) for i in range(4)]
        for i, frame in enumerate(frames[:2]):
            cache.put((i,), frame)
        assert cache.get((0,)) is frames[0]
        cache.put((2,), frames[2])
        assert cache.get((1,)) is None
        assert cache.get((0,)) is frames[0]

    def test_frames_that_spill_come_back_from_the_disk_and_memory_stays_bounded(self):
        cache = FrameCache(max_bytes=800, spills=True)
        frames = [np.full((10, 20), i, np.uint16)[:, ::-1] for i in range(6)]
        for i, frame in enumerate(frames):
            cache.put((i,), frame)
        for i in (0, 3, 1, 5, 0):
            np.testing.assert_array_equal(cache.get((i,)), frames[i])
            assert cache._bytes <= 800
        assert cache.get((6,)) is None
        assert cache._spilled._end == 6 * 400  # each once
        assert pickle.loads(pickle.dumps(cache)).spills  # noqa: S301  our own bytes

    @pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), 100])
    def test_a_disk_that_is_full_takes_no_more_frames_and_gives_none_that_is_cut(self, fault, monkeypatch):
        class Full:
            def seek(self, at):
                pass

            def write(self, content):
                if isinstance(fault, OSError):
                    raise fault
                return fault

        monkeypatch.setattr(frames_module, "TemporaryFile", lambda **_: Full())
        cache = FrameCache(max_bytes=400, spills=True)
        for i in range(3):
            cache.put((i,), np.full((10, 20), i, np.uint16))
        assert cache.get((0,)) is None
        assert cache.get((2,)) is not None

    def test_a_slide_that_is_spared_decodes_each_frame_once_however_often_it_is_read(self, case, counts, monkeypatch):
        monkeypatch.setattr(frames_module, "SPARING_BYTES", 1)
        spared = sparing(read_slide(case))
        loads = []
        load = DicomFrames.load
        monkeypatch.setattr(DicomFrames, "load", lambda self, index: loads.append(index) or load(self, index))
        for _ in range(3):
            rows = [spared.read(y, 0, min(40, 150 - y), 230) for y in range(0, 150, 40)]
            np.testing.assert_array_equal(np.concatenate(rows, axis=1), counts)
        assert len(loads) == sum(len(frames.index) for plane in spared.planes for frames in plane)
        assert spared.notes == read_slide(case).notes
        assert sparing(spared) is spared
        assert sparing(nameless(spared)).source is spared

    def test_regions_of_a_6000_px_slide_are_decoded_once_and_the_bound_is_a_setting(self, monkeypatch):
        assert FrameCache().max_bytes >= 2 * 2 * 6144**2  # with 64 MiB half of its tiles were decoded again
        monkeypatch.setenv(VARIABLE, "cache_bytes=1000")
        assert FrameCache().max_bytes == 1000

    def test_a_slide_travels_to_workers_and_is_shared_by_threads(self, case, counts):
        slide = pickle.loads(pickle.dumps(read_slide(case)))  # noqa: S301  our own bytes
        with ThreadPoolExecutor(4) as pool:
            rows = list(pool.map(lambda y: slide.read(y, 0, 1, 230), range(150)))
        np.testing.assert_array_equal(np.concatenate(rows, axis=1), counts)


class TestRefusals:
    """Each says in one sentence what was found, before any work is done."""

    @pytest.fixture
    def refuse(self):
        def refuse(path, match, **arguments):
            with pytest.raises(InputError, match=match) as caught:
                read_slide(path, **arguments)
            message = str(caught.value)
            assert "\n" not in message
            assert "Traceback" not in message
            assert str(path.parent) in message or not path.is_absolute()

        return refuse

    def test_files_that_are_no_slide(self, tmp_path, refuse):
        for name, content, found in [
            ("text.dcm", b"Patient: A\nSlide: 1\n", "a text file"),
            ("empty.dcm", b"", "an empty file"),
            ("image.dcm", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
            ("noise.dcm", bytes(range(256)) * 8, "neither DICOM nor TIFF"),
            ("magic.dcm", bytes(128) + b"DICM" + b"\xff" * 100, "damaged|truncated"),
        ]:
            (tmp_path / name).write_bytes(content)
            refuse(tmp_path / name, found)
        refuse(tmp_path / "none.dcm", "no such file")

    def test_folders_without_slide(self, tmp_path, refuse):
        refuse(tmp_path, "an empty folder")
        (tmp_path / "a.txt").write_text("text")
        refuse(tmp_path, "a folder without DICOM files")

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("sm_image", "an RGB slide"),
            ("cmu1_level2_rgb_jpeg", "an RGB slide"),
            ("ezwsi_test_wsi", "only LABEL images"),
            ("sm_image_grayscale", "name no Raman shift"),
        ],
    )
    def test_real_slides_that_are_not_srh(self, refuse, real_data, name, found):
        refuse(real_data / "dicom_wsi" / f"{name}.dcm", found)

    def test_another_modality(self, case, refuse, edit):
        edit(case / "SRS2845.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
        edit(case / "SRS2930.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
        refuse(case, "CT Image Storage")
        refuse(case / "SRS2845.dcm", "CT Image Storage")

    def test_a_missing_sibling(self, case, refuse):
        (case / "SRS2930.dcm").unlink()
        refuse(case, "only the optical path at 2845 cm-1.*2930 cm-1 too")
        refuse(case / "SRS2845.dcm", "only the optical path at 2845 cm-1")

    def test_a_sibling_of_another_size_or_place(self, case, refuse, edit, write, counts):
        edit(
            case / "SRS2930.dcm",
            lambda header: setattr(header.TotalPixelMatrixOriginSequence[0], "XOffsetInSlideCoordinateSystem", 3.5),
        )
        refuse(case, "an origin or orientation that differs")

    def test_two_cases_in_a_folder_are_both_named(self, case, refuse, write, counts):
        write(ArraySlide(counts[::-1], 0.47), case / "other.dcm")
        refuse(case, "slides of two cases .SRS2845.dcm and other.dcm.")

    def test_a_restored_series_beside_its_source(self, case, refuse, write, slide):
        source = read_slide(case)
        write(slide, case / "restored.dcm", derived_from=source, provenance={"version": "1"})
        refuse(case, "two series of one case .SRS2845.dcm and restored.dcm.")

    def test_one_raman_shift_twice(self, case, refuse, edit):
        shutil.copy(case / "SRS2845.dcm", case / "again.dcm")
        edit(case / "again.dcm", SOPInstanceUID=generate_uid())
        refuse(case, "two images at 2845 cm-1")

    @pytest.mark.parametrize(
        ("attributes", "found"),
        [
            ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "an 8-bit slide"),
            ({"BitsStored": 8, "HighBit": 7}, "an 8-bit slide"),
            ({"PixelRepresentation": 1}, "signed pixels"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, "dark means bright"),
            ({"RescaleSlope": 2}, "rescale slope"),
            ({"BitsStored": 12, "HighBit": 15}, "BitsStored 12 with HighBit 15; needed HighBit 11"),
            ({"DimensionOrganizationType": "TILED_SPARSE"}, "TILED_SPARSE frames without per-frame groups"),
            ({"TotalPixelMatrixRows": 10**6, "TotalPixelMatrixColumns": 10**6}, "1000000 x 1000000 pixels, 470 mm"),
            ({"TotalPixelMatrixRows": 60000, "TotalPixelMatrixColumns": 60000}, "12 frames of 64 x 64 for 60000 x 60000"),
            ({"NumberOfFrames": 10**9}, "truncated"),
            ({"Rows": 65000, "Columns": 65000}, "frames of 65000 x 65000"),
            ({"Rows": 0}, "frames of 64 x 0"),
            ({"TotalPixelMatrixFocalPlanes": 3}, "several focal planes"),
            ({"TotalPixelMatrixRows": None}, "no TotalPixelMatrixRows"),
            ({"OpticalPathSequence": []}, "no Raman shift"),
            ({"SharedFunctionalGroupsSequence": []}, "no Pixel Spacing"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, "only LABEL images"),
        ],
    )
    def test_headers_that_are_not_of_an_srh_slide(self, case, refuse, edit, attributes, found):
        for file in sorted(case.iterdir()):
            edit(file, **attributes)
        refuse(case, found)

    def test_deflated_files_cannot_be_read_by_region(self, case, refuse, edit):
        for file in sorted(case.iterdir()):
            edit(file, lambda header: setattr(header.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.1.99"))
        refuse(case, "a deflated DICOM file")

    def test_big_endian_files(self, case, refuse):
        for file in sorted(case.iterdir()):
            header = pydicom.dcmread(file)
            header.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            header.PixelData = np.frombuffer(header.PixelData, "<u2").astype(">u2").tobytes()
            pydicom.dcmwrite(file, header, implicit_vr=False, little_endian=False)
        refuse(case / "SRS2845.dcm", "a big-endian DICOM file")
        refuse(case, "a big-endian DICOM file")

    @pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
    @pytest.mark.parametrize("attributes", [{"RescaleSlope": 2}, {"RescaleIntercept": -1024}])
    def test_a_rescale_slope_in_functional_groups(self, case, refuse, edit, make_sparse, groups, attributes):
        def rescale(header):
            item = Dataset()
            item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, 0, "US"
            for keyword, value in attributes.items():
                setattr(item, keyword, value)
            header[groups][-1].PixelValueTransformationSequence = [item]

        edit(make_sparse(case / "SRS2845.dcm"), rescale)
        refuse(case, "a rescale slope or intercept")

    def test_two_focal_planes_of_sparse_frames(self, case, refuse, edit, make_sparse):
        def second_plane(header, z):
            below = copy.deepcopy(list(header.PerFrameFunctionalGroupsSequence))
            for group in below:
                group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = z
            header.PerFrameFunctionalGroupsSequence += below
            header.PixelData += header.PixelData
            header.NumberOfFrames = 2 * int(header.NumberOfFrames)
            del header.TotalPixelMatrixFocalPlanes

        content = make_sparse(case / "SRS2845.dcm").read_bytes()
        edit(case / "SRS2845.dcm", lambda header: second_plane(header, 5.0))
        refuse(case, "several focal planes")
        (case / "SRS2845.dcm").write_bytes(content)
        edit(case / "SRS2845.dcm", lambda header: second_plane(header, 0.0))
        refuse(case, "two frames at 2845 cm-1 at the same place")

    def test_sparse_frames_too_few_for_the_matrix(self, case, refuse, edit, make_sparse):
        for file in sorted(case.iterdir()):
            edit(make_sparse(file), TotalPixelMatrixRows=60_000, TotalPixelMatrixColumns=60_000)
        refuse(case, "frames that cover 1.4e-05 of 60000 x 60000 pixels")

    def test_a_sparse_frame_outside(self, case, refuse, edit, make_sparse):
        edit(make_sparse(case / "SRS2845.dcm"), TotalPixelMatrixRows=100)
        edit(make_sparse(case / "SRS2930.dcm"), TotalPixelMatrixRows=100)
        refuse(case, "outside the total pixel matrix")

    def test_a_concatenation_with_a_part_missing(self, case, refuse, split_in_two):
        parts = split_in_two(case / "SRS2845.dcm")
        parts[1].unlink()
        refuse(case, "4 frames at 2845 cm-1 of a concatenation")

    @pytest.mark.parametrize("missing", [0, 1])
    def test_a_sparse_concatenation_with_a_part_missing(self, case, refuse, make_sparse, split_in_two, missing):
        split_in_two(make_sparse(case / "SRS2845.dcm"))[missing].unlink()
        refuse(case, f"part {2 - missing} of a concatenation of 2")

    def test_a_sparse_concatenation_that_does_not_say_how_many_parts_it_has(
        self, case, refuse, edit, make_sparse, split_in_two
    ):
        for part in split_in_two(make_sparse(case / "SRS2845.dcm")):
            edit(part, lambda header: header.pop("InConcatenationTotalNumber"))
        refuse(case, "a sparse concatenation that does not state the number of its parts")

    def test_parts_of_a_concatenation_that_do_not_say_where_they_lie(self, case, refuse, edit, split_in_two):
        parts = split_in_two(case / "SRS2845.dcm")
        edit(parts[1], ConcatenationFrameOffsetNumber=3)
        refuse(case, "ConcatenationFrameOffsetNumber 3 after 4 frames")
        edit(parts[1], lambda header: header.pop("ConcatenationFrameOffsetNumber"))
        refuse(case, "no ConcatenationFrameOffsetNumber")

    def test_a_part_of_a_concatenation_twice(self, case, refuse, edit, split_in_two):
        parts = split_in_two(case / "SRS2845.dcm")
        shutil.copy(parts[0], case / "again.dcm")
        edit(case / "again.dcm", SOPInstanceUID=generate_uid())
        refuse(case, "part 1, 1, 2 of a concatenation of 2")

    @pytest.mark.parametrize("syntax", ["raw", "jpeg-ls"])
    def test_a_file_cut_off_anywhere_is_found_on_opening(self, tmp_path, slide, write, refuse, syntax):
        (file,) = write(slide, tmp_path / "case.dcm", transfer_syntax=syntax)
        content = file.read_bytes()
        for end in (100, 140, 400, 1500, 2500, len(content) // 2, len(content) - 200):
            file.write_bytes(content[:end])
            refuse(file, "truncated|neither DICOM|damaged")

    def test_compressed_pixels_that_are_damaged_are_named_by_frame(self, tmp_path, slide, write):
        (file,) = write(slide, tmp_path / "case.dcm")
        content = bytearray(file.read_bytes())
        first = content.index(b"\xff\xd8\xff")
        content[first : first + 40] = bytes(40)
        file.write_bytes(content)
        with pytest.raises(InputError, match="frame 1, which cannot be decoded"):
            read_slide(file).read(0, 0, 10, 10)

    def test_random_damage_to_a_header_never_shows_as_anything_else(self, tmp_path, slide, write):
        (file,) = write(slide, tmp_path / "case.dcm")
        content, rng = file.read_bytes(), np.random.default_rng(11)
        for _ in range(150):
            damaged = bytearray(content)
            for place in rng.integers(0, 3000, 3):
                damaged[place] = rng.integers(256)
            file.write_bytes(damaged)
            try:
                read_slide(file).read(0, 0, 64, 64)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017  most damage is refused, some is harmless

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no user ids on this system")
    def test_a_file_without_read_permission(self, case):
        for file in case.iterdir():
            file.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            for path in (case / "SRS2845.dcm", case):
                with pytest.raises(InputError, match=r"cannot be read .*Permission denied"):
                    read_slide(path)
        finally:
            os.seteuid(user)

    def test_nonsense_of_the_caller(self, case, refuse):
        for um_per_px in (-1, 0, 0.009, 20.1, float("inf"), float("nan")):
            refuse(case, rf"a pixel size of {um_per_px:g} um; needed one from 0\.01 to 20 um", um_per_px=um_per_px)
        with pytest.raises(InputError, match="a full scale of 0"):
            read_slide(case, full_scale=0)
