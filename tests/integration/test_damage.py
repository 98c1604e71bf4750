"""The input does not change under us, asks for no more than it holds, and damage is told as damage."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib

import jpeg_ls
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.encaps import encapsulate, generate_frames

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide, write_wsi, write_z_stack
from srh_clinic.integration.dicom_frames import DicomFrames
from srh_clinic.integration.limits import VARIABLE
from srh_clinic.integration.tiff_frames import TiffFrames
from srh_clinic.slide import ArraySlide
from srh_clinic.transforms import LoadSRH


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


class TestChangeAtTheEnd:
    """A file that changes while its last region is read is told before anything is kept of the mixture."""

    @pytest.fixture
    def changing(self, case, monkeypatch):
        """Touches a file of the case when the last row of tiles is decoded."""
        load = DicomFrames.load

        def touched(source, index):
            decoded = load(source, index)
            if index == len(source.spans) - 1:
                os.utime(case[1], ns=(1, 1))
            return decoded

        monkeypatch.setattr(DicomFrames, "load", touched)
        return case

    def test_by_a_transform(self, changing):
        with pytest.raises(InputError, match="changed while it was read"):
            LoadSRH()(changing[0])

    def test_by_writing_a_slide(self, changing, tmp_path):
        slide = read_slide(changing[0])
        with pytest.raises(InputError, match="changed while it was read"):
            write_wsi(slide, tmp_path / "out.dcm")
        assert not (tmp_path / "out.dcm").exists()

    def test_by_writing_a_stack(self, changing, tmp_path):
        slide = read_slide(changing[0])
        dark = np.zeros((2, *slide.shape), np.uint16)
        with pytest.raises(InputError, match="changed while it was read"):
            write_z_stack([(0.0, ArraySlide(dark, slide.um_per_px)), (1.0, slide)], tmp_path / "z.tif")
        assert not (tmp_path / "z.tif").exists()


class TestLimits:
    def test_a_dark_image_of_many_tiles_costs_no_more_than_one_of_few(self, tmp_path, monkeypatch):
        tile, edge = zlib.compress(bytes(2 * 1024 * 1024)), 32 * 1024
        layout = {"shape": (2, edge, edge), "dtype": "uint16", "tile": (1024, 1024), "compression": "zlib"}
        tifffile.imwrite(tmp_path / "x.tif", (tile for _ in range(2 * 32 * 32)), photometric="minisblack", **layout)
        decoded = []
        stored = TiffFrames.stored
        monkeypatch.setattr(TiffFrames, "stored", lambda source, index: (decoded.append(index), stored(source, index))[1])
        with pytest.raises(InputError, match="uint16 without a value above 4095"):
            read_slide(tmp_path / "x.tif", um_per_px=0.5)
        # before, all of 2,048; a file of some megabytes took minutes
        assert len(decoded) <= 64

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


class TestTiffDirectories:
    """A reader that passes over a page that is cut sees another image than the file holds."""

    @pytest.fixture
    def tiff(self, tmp_path, counts):
        path = tmp_path / "x.tif"
        with tifffile.TiffWriter(path) as writer:
            for channel in counts:
                writer.write(channel, metadata=None, resolution=(21276.6, 21276.6), resolutionunit="CENTIMETER")
        return path

    def test_a_file_cut_anywhere_behind_its_first_page_is_told_as_cut(self, tiff):
        content = tiff.read_bytes()
        with tifffile.TiffFile(tiff) as opened:
            second = opened.pages[1].offset
        read_slide(tiff)
        for end in (second, second + 1, second + 7, second + 40, len(content) - 1):
            tiff.write_bytes(content[:end])
            with pytest.raises(InputError, match=r"a truncated TIFF"):
                read_slide(tiff)

    def test_a_value_of_the_second_page_that_lies_behind_the_end_is_told_as_cut(self, tiff):
        with tifffile.TiffFile(tiff) as opened:
            tag = opened.pages[1].tags["XResolution"]
            at = tag.offset + 8
        content = bytearray(tiff.read_bytes())
        content[at : at + 4] = struct.pack("<L", len(content) - 4)
        tiff.write_bytes(content)
        with pytest.raises(InputError, match="it ends before tag 282 of page 2"):
            read_slide(tiff)

    def test_directories_that_run_in_a_circle_end(self, tiff):
        with tifffile.TiffFile(tiff) as opened:
            first, second = (page.offset for page in opened.pages)
            entries = len(opened.pages[1].tags)
        content = bytearray(tiff.read_bytes())
        at = second + 2 + 12 * entries
        content[at : at + 4] = struct.pack("<L", first)
        tiff.write_bytes(content)
        with pytest.raises(InputError, match="in a circle"):
            read_slide(tiff)


class TestOmeHeader:
    @pytest.fixture
    def ome(self, tmp_path, counts):
        path = tmp_path / "x.ome.tif"
        about = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["CH3", "CH2"]}}
        tifffile.imwrite(path, counts[::-1], ome=True, metadata=about)
        return path

    @pytest.mark.parametrize(
        ("was", "is_"),
        [
            (b"</OME>", b"</OMX>"),
            (b"</OME>", b"</OME "),
            (b"</Pixels>", b"</Pixelz>"),
            (b"<OME ", b"<OMF "),
        ],
    )
    def test_a_broken_header_is_not_taken_for_none(self, ome, counts, was, is_):
        content = ome.read_bytes()
        assert was in content
        ome.write_bytes(content.replace(was, is_))
        # before, the channels were taken in the file's order and the pixel size from the call
        with pytest.raises(InputError, match="a damaged OME header"):
            read_slide(ome, um_per_px=0.5)

    def test_a_comment_behind_it_changes_nothing(self, tmp_path, counts):
        path = tmp_path / "x.tif"
        header = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
            f'ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{counts.shape[2]}" SizeY="{counts.shape[1]}" '
            'SizeC="2" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="Channel:0:0" Name="CH3"/>'
            '<Channel ID="Channel:0:1" Name="CH2"/><TiffData/></Pixels></Image></OME><!-- made by hand -->'
        )
        tifffile.imwrite(path, counts[::-1], description=header, metadata=None, photometric="minisblack")
        slide = read_slide(path)
        np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), counts)
        assert slide.um_per_px == 0.5


class TestEmptyGeometry:
    """What is not there is named as what it is, not as something too large."""

    @pytest.mark.parametrize(
        ("keyword", "value", "says"),
        [
            ("Rows", 0, "at least one pixel each way"),
            ("Columns", 0, "at least one pixel each way"),
            ("TotalPixelMatrixRows", 0, "at least one pixel each way"),
            ("TotalPixelMatrixColumns", 0, "at least one pixel each way"),
            ("NumberOfFrames", 0, "0 frames; needed at least one"),
            ("NumberOfFrames", -1, "-1 frames; needed at least one"),
            ("ImagedVolumeWidth", -1.0, "an ImagedVolumeWidth of -1 mm; needed a number above 0"),
            ("BitsStored", 0, "a 0-bit slide"),
            ("TotalPixelMatrixFocalPlanes", 0, None),
        ],
    )
    def test_of_a_slide(self, case, edit, keyword, value, says):
        for file in case:
            edit(file, lambda header: setattr(header, keyword, value))
        if says is None:
            assert read_slide(case[0]).shape
            return
        with pytest.raises(InputError, match=says):
            read_slide(case[0])

    def test_a_size_that_one_of_two_files_lacks_is_told_of_that_file(self, case, edit):
        edit(case[1], lambda header: setattr(header, "TotalPixelMatrixRows", 0))
        with pytest.raises(InputError, match=r"2930\.dcm: found an image of \d+ x 0 pixels"):
            read_slide(case[0])

    def test_channels_of_two_sizes_are_told_as_that(self, case, edit):
        edit(case[1], lambda header: setattr(header, "TotalPixelMatrixRows", header.TotalPixelMatrixRows - 1))
        with pytest.raises(InputError, match=r"only the optical path at 2845 cm-1 \(and .*2930\.dcm: \d+ x \d+ pixels, not"):
            read_slide(case[0])

    @pytest.mark.parametrize("spacing", [[0, 0], [-0.0005, -0.0005], [0.0005, 0]])
    def test_of_its_pixels(self, case, edit, spacing):
        def change(header):
            header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = spacing

        edit(case[0], change)
        with pytest.raises(InputError, match=r"Pixel Spacing of .* mm; needed two numbers above 0, or --um-per-px"):
            read_slide(case[0])

    @pytest.mark.parametrize("tag", [256, 257, 278])
    def test_of_a_tiff(self, tmp_path, counts, tag):
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, counts, metadata=None, photometric="minisblack", compression="zlib")
        with tifffile.TiffFile(path, mode="r+") as tiff:
            for page in tiff.pages:
                page.tags[tag].overwrite(0)
        with pytest.raises(InputError, match=r"0|damaged") as told:
            read_slide(path, um_per_px=0.5)
        assert "at most" not in str(told.value)


def test_a_jpeg_ls_frame_that_breaks_off_is_decoded_with_an_end_behind_it(tmp_path, slide, write, monkeypatch):
    """Without one, its decoder can take seconds over a damaged frame."""
    (path,) = write(slide, tmp_path / "a.dcm")
    header = pydicom.dcmread(path)
    frames = list(generate_frames(header.PixelData, number_of_frames=int(header.NumberOfFrames)))
    header.PixelData = encapsulate([frames[0][:59] + b"\x7f", *frames[1:]], has_bot=False)
    header.save_as(path)
    given = []

    def refused(codestream):
        given.append(codestream)
        raise RuntimeError("damaged")

    monkeypatch.setattr(jpeg_ls, "decode_pixel_data", refused)
    with pytest.raises(InputError, match="frame 1, which cannot be decoded"):
        read_slide(path).read(0, 0, 8, 8)
    assert given
    assert all(codestream.endswith(b"\xff\xd9") for codestream in given)


def test_the_question_which_channel_is_which_is_one_short_sentence(tmp_path, counts):
    path = tmp_path / "x.tif"
    about = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["left", "right" * 40]}}
    tifffile.imwrite(path, counts, ome=True, metadata=about)
    with pytest.raises(InputError, match="'left' and 'right") as told:
        read_slide(path)
    assert str(told.value).endswith("needed --channels CH2,CH3 or --channels CH3,CH2, as they lie in the file.")
    assert len(str(told.value)) < len(str(path)) + 260
