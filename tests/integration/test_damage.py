"""The input does not change under us, asks for no more than it holds, and damage is told as damage."""

from __future__ import annotations

import os
import struct
import tracemalloc

import numpy as np
import pydicom
import pytest
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide
from srh_clinic.integration.limits import VARIABLE


@pytest.fixture
def case(tmp_path, slide, write):
    """A case of two files, CH2's first."""
    return write(slide, tmp_path / "case", transfer_syntax="raw")


class TestChange:
    def test_a_slide_is_named_by_what_all_of_its_files_hold(self, case, edit):
        was = read_slide(case[0]).identity.content
        assert read_slide(case[0].parent).identity.content == was
        pixels = bytearray(case[1].read_bytes())
        pixels[-1] ^= 1
        case[1].write_bytes(pixels)
        # only the sibling of the file that is named has changed
        assert read_slide(case[0]).identity.content != was

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_file_that_changes_after_opening_ends_the_reading(self, case, which):
        opened = read_slide(case[0])
        opened.read(0, 0, 8, 8)
        os.utime(case[which], ns=(1, 1))
        with pytest.raises(InputError, match="changed while it was read"):
            opened.read(0, 0, 8, 8)
        with pytest.raises(InputError, match="changed while it was read"):
            opened.check_unchanged()

    def test_two_single_channel_files_are_watched_too(self, tmp_path, counts):
        files = [tmp_path / "CH2.tif", tmp_path / "CH3.tif"]
        for file, channel in zip(files, counts, strict=True):
            tifffile.imwrite(file, channel, resolution=(21276.6, 21276.6), resolutionunit="CENTIMETER")
        opened = read_slide(files)
        os.utime(files[1], ns=(1, 1))
        assert read_slide(files).identity.content != opened.identity.content
        with pytest.raises(InputError, match=r"CH3\.tif: found a file that was changed"):
            opened.read(0, 0, 8, 8)


class TestLimits:
    @pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE])
    def test_a_length_in_a_header_takes_no_more_memory_than_the_file_has_bytes(self, case, length):
        content = case[0].read_bytes()
        comments = content.index(struct.pack("<HH", 0x0040, 0x0555))  # a sequence, with a 32-bit length
        at = comments + 8
        case[0].write_bytes(
            content[: comments + 4] + b"OB" + content[comments + 6 : at] + struct.pack("<L", length) + content[at + 4 :]
        )
        tracemalloc.start()
        with pytest.raises(InputError):
            read_slide(case[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # a few copies of a file of 140 kB; before, as much as the length says
        assert peak < 20e6

    def test_a_tiff_of_thousands_of_channels_is_refused_before_they_are_compared(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "x.tif", np.zeros((100, 8, 8), np.uint16), metadata={"axes": "CYX"}, photometric="minisblack"
        )
        with pytest.raises(InputError, match="a TIFF of 100 channels; needed at most 64"):
            read_slide(tmp_path / "x.tif", um_per_px=0.5)

    def test_so_is_a_slide_of_as_many_optical_paths(self, case, edit):
        def more(header):
            item = header.OpticalPathSequence[0]
            header.OpticalPathSequence = [pydicom.Dataset.from_json(item.to_json()) for _ in range(70)]
            for number, one in enumerate(header.OpticalPathSequence):
                one.OpticalPathIdentifier = str(number)
            header.NumberOfOpticalPaths = 70

        edit(case[0], more)
        with pytest.raises(InputError, match="more than 64 optical paths"):
            read_slide(case[0])

    def test_limits_are_settings(self, tmp_path, monkeypatch):
        tifffile.imwrite(
            tmp_path / "x.tif", np.zeros((3, 8, 8), np.uint16), metadata={"axes": "CYX"}, photometric="minisblack"
        )
        monkeypatch.setenv(VARIABLE, "channels=2")
        with pytest.raises(InputError, match="a TIFF of 3 channels; needed at most 2"):
            read_slide(tmp_path / "x.tif", um_per_px=0.5)
        monkeypatch.setenv(VARIABLE, "rows=2")
        with pytest.raises(InputError, match="SRH_CLINIC_LIMITS=rows=2"):
            read_slide(tmp_path / "x.tif", um_per_px=0.5)
