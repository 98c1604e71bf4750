"""Two-channel TIFF stacks become slides, and DICOM by ``convert``."""

from __future__ import annotations

import pickle
import tracemalloc
import zlib
from importlib.util import find_spec

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from srh_clinic.errors import InputError
from srh_clinic.integration import convert, read_slide

OME = {"axes": "CYX", "PhysicalSizeX": 0.35, "PhysicalSizeY": 0.35}


def whole(slide):
    return slide.read(0, 0, *slide.shape)


@pytest.fixture
def stack(tmp_path):
    """Write a stack and return its path."""

    def stack(array, **options):
        tifffile.imwrite(tmp_path / "stack.tif", array, photometric=options.pop("photometric", "minisblack"), **options)
        return tmp_path / "stack.tif"

    return stack


class TestStorage:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"ome": True, "metadata": OME},
            {"bigtiff": True},
            {"byteorder": ">"},
            {"compression": "zlib", "rowsperstrip": 16},
            {"compression": "zlib", "predictor": True, "tile": (64, 48)},
            {"tile": (32, 32)},
            {"imagej": True, "metadata": {"axes": "CYX", "unit": "um"}, "resolution": (1 / 0.35, 1 / 0.35)},
            {"metadata": None},
        ],
    )
    def test_every_storage_reads_exactly_by_region(self, stack, counts, options):
        slide = read_slide(stack(counts, **options), um_per_px=0.35)
        np.testing.assert_array_equal(whole(slide), counts)
        np.testing.assert_array_equal(slide.read(60, 90, 40, 70), counts[:, 60:100, 90:160])
        np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(slide))), counts)  # noqa: S301  our own bytes
        assert slide.notes == ()

    def test_a_tile_of_a_large_stack_does_not_load_it(self, tmp_path):
        path = tmp_path / "large.tif"
        tile, across = zlib.compress(np.full((512, 512), 40_000, np.uint16).tobytes()), 40
        covered = [row * across + column for row in (19, 20) for column in (19, 20)]  # tiles left out are dark
        tiles = (tile if i % across**2 in covered else b"" for i in range(2 * across**2))
        layout = {"shape": (2, 20_000, 20_000), "dtype": "uint16", "tile": (512, 512), "compression": "zlib"}
        tifffile.imwrite(path, tiles, photometric="minisblack", metadata={"axes": "CYX"}, **layout)
        tracemalloc.start()
        try:
            slide = read_slide(path, um_per_px=0.47)
            region = slide.read(10_000, 10_000, 256, 256)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (region == 40_000).all()
        assert not slide.read(0, 0, 256, 256).any()
        assert peak < 16 * 2**20  # the stack is 1.6 GB


class TestDepth:
    def test_8_bits_are_stretched_by_257_and_noted(self, stack):
        ramp = np.stack([np.arange(256), np.arange(256)[::-1]]).astype(np.uint8).reshape(2, 16, 16)
        slide = read_slide(stack(ramp), um_per_px=0.35)
        np.testing.assert_array_equal(whole(slide), ramp.astype(np.uint16) * 257)
        assert slide.notes == ("stretched from a full scale of 256 (x257)",)

    def test_12_bits_are_stretched_by_16_when_the_caller_or_the_file_says_so(self, stack, counts):
        for path, full_scale in [
            (stack(counts // 16), 4096),
            (stack(counts // 16, ome=True, metadata=OME | {"SignificantBits": 12}), None),
        ]:
            slide = read_slide(path, um_per_px=0.35, full_scale=full_scale)
            np.testing.assert_array_equal(whole(slide), counts // 16 * 16)
            assert slide.notes == ("stretched from a full scale of 4096 (x16)",)

    def test_any_full_scale_is_rounded(self, stack):
        slide = read_slide(stack(np.full((2, 4, 4), 500, np.uint16)), um_per_px=0.35, full_scale=1000)
        assert (whole(slide) == 32768).all()

    def test_what_may_be_12_bits_is_not_guessed(self, stack, counts):
        path = stack(counts // 16)
        with pytest.raises(InputError, match="--full-scale 4096"):
            read_slide(path, um_per_px=0.35)
        np.testing.assert_array_equal(whole(read_slide(path, 0.35, 65536)), counts // 16)

    def test_12_bits_with_a_value_of_4096_are_refused(self, stack):
        slide_of_4096 = np.full((2, 4, 4), 4096, np.uint16)
        with pytest.raises(InputError, match="a stored value of 4096"):
            read_slide(stack(slide_of_4096), 0.35, 4096)

    def test_a_full_scale_of_0_is_no_omission(self, stack, counts):
        with pytest.raises(InputError, match="a full scale of 0"):
            read_slide(stack(counts), um_per_px=0.35, full_scale=0)

    def test_a_full_scale_below_the_values_is_refused(self, stack, counts):
        with pytest.raises(InputError, match="values below the stated full scale of 4096"):
            whole(read_slide(stack(counts), 0.35, 4096))


class TestPixelSize:
    @pytest.mark.parametrize(
        ("options", "um_per_px"),
        [
            ({"ome": True, "metadata": OME}, 0.35),
            ({"ome": True, "metadata": OME | {"PhysicalSizeX": 470, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.47}}, 0.47),
            ({"resolution": (25_000, 25_000), "resolutionunit": "CENTIMETER"}, 0.4),
            ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
            ({"imagej": True, "metadata": {"axes": "CYX", "unit": "um"}, "resolution": (2, 2)}, 0.5),
        ],
    )
    def test_it_comes_from_the_file(self, stack, counts, options, um_per_px):
        assert read_slide(stack(counts, **options)).um_per_px == pytest.approx(um_per_px, rel=1e-8)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"resolution": (72, 72), "resolutionunit": "INCH"},
            {"ome": True, "metadata": {"axes": "CYX"}},
            {"ome": True, "metadata": OME | {"PhysicalSizeY": 0.7}},
        ],
    )
    def test_without_a_credible_statement_the_caller_must_give_it(self, stack, counts, options):
        path = stack(counts, **options)
        with pytest.raises(InputError, match="needed --um-per-px"):
            read_slide(path)
        assert read_slide(path, um_per_px=0.345).um_per_px == 0.345

    @pytest.mark.parametrize("um_per_px", [-1, 0, 0.009, 20.1, float("inf"), float("nan")])
    def test_no_microscope_makes_pixels_of_another_magnitude(self, stack, counts, um_per_px):
        with pytest.raises(InputError, match=rf"a pixel size of {um_per_px:g} um; needed one from 0\.01 to 20 um"):
            read_slide(stack(counts), um_per_px)


class TestChannels:
    @pytest.mark.parametrize(
        ("names", "swapped"),
        [
            (["CH2", "CH3"], False),
            (["2930 cm-1", "2845 cm-1"], True),
            (["SRS CH3", "lipid"], True),
            (["Channel:0:0", "Channel:0:1"], False),
            (["ch00", "ch01"], False),
            (["", ""], False),
            (["SRS", "SRS"], False),
            (["", "CH2"], True),
            (["CH₃", "CH₂"], True),
            (["CH<sub>3</sub>", "CH<sub>2</sub>"], True),
            (["CH$_3$", "CH$_2$"], True),
            (["2 930 cm⁻¹", "2 845 cm⁻¹"], True),
            (["nuclei", "lipids"], True),
            (["Protein (2926)", "Lipid (2850)"], True),
            (["Ch1", "2845 cm-1"], True),
            (["CH3", "CH2"], True),
        ],
    )
    def test_ome_names_decide(self, stack, counts, names, swapped):
        path = stack(counts, ome=True, metadata=OME | {"Channel": {"Name": names}})
        np.testing.assert_array_equal(whole(read_slide(path)), counts[::-1] if swapped else counts)

    @pytest.mark.parametrize(
        "names",
        [["a", "b"], ["Ch1", "Ch2"], ["SRS ch1", "SRS ch2"], ["Ch3", "Ch1"], ["PMT1", "PMT2"], ["Channel 1", "Channel 0"],
         ["CH3", "autofluorescence"], ["CH3-CH2", "CH2"], ["lipid-free protein", "water"], ["2880 cm-1", "2700 cm-1"],
         ["2930 nm", "2845 nm"]],
    )  # fmt: skip
    def test_names_that_are_not_understood_are_a_question(self, stack, counts, names):
        """``Ch2`` may be the second detector or the CH2 stretch."""
        path = stack(counts, ome=True, metadata=OME | {"Channel": {"Name": names}})
        with pytest.raises(InputError, match="--channels") as caught:
            read_slide(path)
        assert all(repr(name) in str(caught.value) for name in names)
        for channels in ("CH3,CH2", "2,1", [2, 1], ",".join(reversed(names)), ["protein", "lipid"]):
            slide = read_slide(path, channels=channels)
            np.testing.assert_array_equal(whole(slide), counts[::-1])
            assert slide.identity.channel_order.startswith("CH2 is channel 2, CH3 is channel 1: as the caller says")

    def test_two_of_one_kind_are_refused(self, stack, counts):
        with pytest.raises(InputError, match="two channels of one Raman shift"):
            read_slide(stack(counts, ome=True, metadata=OME | {"Channel": {"Name": ["CH2", "2845"]}}))


class TestSeries:
    """An OME-TIFF may hold an overview beside the slide, and each image states its own pixel size and names."""

    @pytest.fixture
    def images(self, tmp_path):
        def images(*arrays_and_metadata):
            with tifffile.TiffWriter(tmp_path / "images.ome.tif", ome=True) as tiff:
                for array, metadata in arrays_and_metadata:
                    tiff.write(array, photometric="minisblack", metadata=OME | metadata)
            return tmp_path / "images.ome.tif"

        return images

    @pytest.mark.parametrize("macro_first", [True, False])
    def test_the_largest_stack_is_read_with_what_is_said_of_it(self, images, counts, macro_first):
        macro = counts[::-1, ::4, ::4], {"PhysicalSizeX": 1.4, "PhysicalSizeY": 1.4}
        scan = counts, {"Channel": {"Name": ["CH3", "CH2"]}}
        slide = read_slide(images(*((macro, scan) if macro_first else (scan, macro))))
        assert slide.um_per_px == 0.35
        np.testing.assert_array_equal(whole(slide), counts[::-1])
        np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(slide))), counts[::-1])  # noqa: S301  our own bytes

    def test_a_larger_image_that_is_no_stack_is_passed_over(self, images, counts):
        label = np.zeros((400, 400), np.uint16), {"axes": "YX"}
        np.testing.assert_array_equal(whole(read_slide(images(label, (counts, {})))), counts)

    def test_two_scans_of_one_size_are_refused(self, images, counts):
        with pytest.raises(InputError, match="two two-channel images of one size"):
            read_slide(images((counts, {}), (counts // 2, {})))

    def test_an_image_that_the_header_does_not_describe_is_refused(self, images, counts):
        path = images((counts[:, ::4, ::4], {}), (counts, {}))
        content = path.read_bytes()
        assert content.count(b'SizeX="230"') == 1
        path.write_bytes(content.replace(b'SizeX="230"', b'SizeX="115"'))
        with pytest.raises(InputError, match="an OME header that does not describe image 1 of 1"):
            read_slide(path)

    def test_channels_in_two_files_are_refused_not_read_twice_from_one(self, tmp_path, counts):
        uuids = [f"urn:uuid:{digit * 8}-0000-0000-0000-{digit * 12}" for digit in "12"]
        planes = "".join(
            f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{c}.ome.tif">{uuid}</UUID></TiffData>'
            for c, uuid in enumerate(uuids)
        )
        for channel, uuid in enumerate(uuids):
            header = (
                f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
                '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="230" SizeY="150" SizeC="2" '
                'SizeZ="1" SizeT="1">'
                f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{planes}</Pixels></Image></OME>'
            )
            path = tmp_path / f"{channel}.ome.tif"
            tifffile.imwrite(path, counts[channel], photometric="minisblack", description=header, metadata=None)
        with pytest.raises(InputError, match="an OME-TIFF whose channels lie in several files"):
            read_slide(path, um_per_px=0.35)


class TestRefusals:
    @pytest.mark.parametrize(
        ("array", "options", "found"),
        [
            (np.zeros((20, 30, 3), np.uint8), {"photometric": "rgb"}, "an RGB image"),
            (np.zeros((20, 30), np.uint16), {}, r"shape 20 x 30 \(YX\)"),
            (np.zeros((3, 20, 30), np.uint16), {}, "shape 3 x 20 x 30"),
            (np.zeros((4, 2, 20, 30), np.uint16), {"metadata": {"axes": "ZCYX"}}, r"shape 4 x 2 x 20 x 30 \(ZCYX\)"),
            (np.zeros((2, 20, 30), np.float32), {}, "a TIFF of float32"),
            (np.zeros((2, 20, 30), np.int16), {}, "a TIFF of int16"),
            (np.zeros((2, 20, 30), np.uint16), {"ome": True, "metadata": OME | {"axes": "ZYX"}}, "two focal planes instead"),
            (np.zeros((2, 20, 30), np.uint16), {"ome": True, "metadata": OME | {"axes": "TYX"}}, "two time points instead"),
            (np.zeros((2, 20, 30), np.uint16), {"imagej": True, "metadata": {"axes": "ZYX"}}, "two focal planes instead"),
            (np.zeros((2, 20, 30), np.uint16), {"imagej": True, "metadata": {"axes": "TYX"}}, "two time points instead"),
            (np.zeros((2, 20, 30), np.uint16), {"photometric": "miniswhite"}, "dark means bright"),
        ],
    )
    def test_other_images(self, stack, array, options, found):
        with pytest.raises(InputError, match=found):
            read_slide(stack(array, **options), um_per_px=0.35)

    @pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed and decodes it")
    def test_a_compression_that_needs_another_package_names_it(self, tmp_path, counts):
        first, second = (Image.fromarray(channel) for channel in counts)
        first.save(tmp_path / "lzw.tif", save_all=True, append_images=[second], compression="tiff_lzw")
        with pytest.raises(InputError, match="found LZW compression; needed the package imagecodecs"):
            read_slide(tmp_path / "lzw.tif", um_per_px=0.35)

    @pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 16}, {"tile": (32, 32)}])
    def test_a_file_cut_off_anywhere_is_found_on_opening(self, stack, counts, options):
        path = stack(counts, **options)
        content = path.read_bytes()
        for end in (6, 10, 100, 260, len(content) // 2, len(content) - 50):
            path.write_bytes(content[:end])
            with pytest.raises(InputError) as caught:
                read_slide(path, um_per_px=0.35)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("um_per_px", "found"), [(0.35, "350 mm long"), (0.01, "1 strips or tiles for 1000000 x 1000000 pixels")]
    )
    def test_absurd_dimensions_are_refused_before_anything_is_allocated(self, stack, counts, um_per_px, found):
        path = stack(counts, metadata=None)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            for page in tiff.pages:
                page.tags["ImageWidth"].overwrite(1_000_000)
                page.tags["ImageLength"].overwrite(1_000_000)
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=found):
                read_slide(path, um_per_px=um_per_px)
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()

    def test_random_damage_never_shows_as_anything_but_one_sentence(self, stack, counts):
        rng = np.random.default_rng(5)
        for options in ({}, {"ome": True, "metadata": OME}, {"compression": "zlib", "rowsperstrip": 16}):
            path = stack(counts, **options)
            content = path.read_bytes()
            for _ in range(50):
                damaged = bytearray(content)
                for place in rng.integers(0, 600, 3):
                    damaged[place] = rng.integers(256)
                path.write_bytes(damaged)
                try:
                    read_slide(path, um_per_px=0.35).read(0, 0, 1, 1)
                except InputError as error:
                    assert "\n" not in str(error)  # noqa: PT017  most damage is refused, some is harmless

    def test_damage_within_compressed_pixels_is_named(self, stack, counts):
        path = stack(counts, compression="zlib", rowsperstrip=150)
        with tifffile.TiffFile(path) as tiff:
            offset = tiff.pages[1].dataoffsets[0]
        content = bytearray(path.read_bytes())
        content[offset : offset + 20] = bytes(20)
        path.write_bytes(content)
        slide = read_slide(path, um_per_px=0.35)
        with pytest.raises(InputError, match="strip or tile 0 cannot be decoded"):
            whole(slide)


class TestConvert:
    @pytest.mark.parametrize("out", ["case", "case.dcm"])
    def test_the_stack_becomes_a_slide_that_carries_its_notes(self, tmp_path, stack, counts, out):
        files = convert(stack((counts >> 8).astype(np.uint8)), tmp_path / out, um_per_px=0.35)
        assert len(files) == (2 if out == "case" else 1)
        slide = read_slide(files[0])
        np.testing.assert_array_equal(whole(slide), (counts >> 8) * 257)
        assert (slide.um_per_px, slide.notes) == (0.35, ("stretched from a full scale of 256 (x257)",))

    def test_converting_again_makes_the_same_objects(self, tmp_path, stack, counts):
        uids = [pydicom.dcmread(convert([stack(counts)], tmp_path / name, 0.35)[0]).SOPInstanceUID for name in "ab"]
        assert uids[0] == uids[1]

    def test_what_it_cannot_convert(self, tmp_path, stack, counts):
        path = stack(counts)
        (tmp_path / "text.tif").write_text("text")
        made = convert(path, tmp_path / "case.dcm", 0.35)
        for inputs, found in [([path, path], "one file twice"), ([path] * 3, "3 inputs"), ([], "0 inputs"),
                              (made, "already DICOM"),
                              (tmp_path / "text.tif", "a text file"), (path, "does not state its pixel size")]:  # fmt: skip
            with pytest.raises(InputError, match=found):
                convert(inputs, tmp_path / "out.dcm")
        assert not (tmp_path / "out.dcm").exists()

    def test_real_tissue(self, tmp_path, real_data):
        source = real_data / "srs_brain_zstack" / "z025.tif"
        (file,) = convert(source, tmp_path / "brain.dcm", um_per_px=0.35)
        np.testing.assert_array_equal(whole(read_slide(file)), tifffile.imread(source).astype(np.uint16) * 257)

    def test_real_12_bit_tissue_needs_its_full_scale(self, tmp_path, real_data):
        source = real_data / "srs_gastric" / "gastric_01.tif"
        with pytest.raises(InputError, match="--full-scale 4096"):
            convert(source, tmp_path / "gastric.dcm", um_per_px=0.345)
        (file,) = convert(source, tmp_path / "gastric.dcm", um_per_px=0.345, full_scale=4096)
        np.testing.assert_array_equal(whole(read_slide(file)), tifffile.imread(source) * 16)
