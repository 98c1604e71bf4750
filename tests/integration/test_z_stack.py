"""Z-stacks: every way to keep them gives the same planes at the same depths, and what is written is read back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide, read_z_stack, write_wsi, write_z_stack
from srh_clinic.slide import ArraySlide, Identity

UM = 0.35


def whole(slide):
    return slide.read(0, 0, *slide.shape)


@pytest.fixture
def stack(counts):
    """Three planes of two channels, uint16 (3, 2, H, W), no two alike."""
    return np.stack([counts, counts[:, ::-1], counts[:, :, ::-1]])


def check(planes, stack, depths):
    assert [plane.depth_um for plane in planes] == depths
    for plane, counts in zip(planes, stack, strict=True):
        np.testing.assert_array_equal(whole(plane.slide), counts)
        np.testing.assert_array_equal(plane.slide.read(60, 90, 40, 70), counts[:, 60:100, 90:160])


class TestTiff:
    @pytest.mark.parametrize(
        ("options", "depths"),
        [
            ({"metadata": {"axes": "ZCYX"}}, [None] * 3),
            ({"metadata": {"axes": "ZCYX"}, "compression": "zlib", "tile": (64, 48)}, [None] * 3),
            ({"ome": True, "metadata": {"axes": "ZCYX", "PhysicalSizeZ": 2.5}}, [0.0, 2.5, 5.0]),
            ({"ome": True, "metadata": {"axes": "ZCYX", "PhysicalSizeZ": 400, "PhysicalSizeZUnit": "nm"}}, [0, 0.4, 0.8]),
            ({"imagej": True, "metadata": {"axes": "ZCYX", "spacing": 3.0, "unit": "um"}}, [0.0, 3.0, 6.0]),
            ({"imagej": True, "metadata": {"axes": "ZCYX", "spacing": 3.0}}, [None] * 3),
        ],
    )
    def test_its_own_metadata_name_axes_and_depths(self, tmp_path, stack, options, depths):
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", **options)
        planes = read_z_stack(tmp_path / "z.tif", UM)
        check(planes, stack, [None if d is None else pytest.approx(d) for d in depths])
        assert {plane.slide.um_per_px for plane in planes} == {UM}

    def test_channels_before_planes(self, tmp_path, stack):
        metadata = {"axes": "CZYX", "Channel": {"Name": ["CH3", "CH2"]}}
        tifffile.imwrite(
            tmp_path / "z.tif", stack[:, ::-1].swapaxes(0, 1), photometric="minisblack", ome=True, metadata=metadata
        )
        check(read_z_stack(tmp_path / "z.tif", UM), stack, [None] * 3)

    def test_positions_go_before_steps(self, tmp_path, stack):
        plane = {"PositionZ": [1, 1, 4, 4, 5, 5], "PositionZUnit": ["µm"] * 6}
        metadata = {"axes": "ZCYX", "PhysicalSizeZ": 2.0, "Plane": plane}
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", ome=True, metadata=metadata)
        check(read_z_stack(tmp_path / "z.tif", UM), stack, [1.0, 4.0, 5.0])

    def test_channels_at_two_positions_are_refused(self, tmp_path, stack):
        plane = {"PositionZ": [1, 2, 4, 4, 5, 5], "PositionZUnit": ["µm"] * 6}
        metadata = {"axes": "ZCYX", "Plane": plane}
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", ome=True, metadata=metadata)
        with pytest.raises(InputError, match="4 depths"):
            read_z_stack(tmp_path / "z.tif", UM)

    def test_the_caller_gives_the_spacing_that_the_file_does_not(self, tmp_path, stack):
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", metadata={"axes": "ZCYX"})
        check(read_z_stack(tmp_path / "z.tif", UM, spacing_um=4), stack, [0, 4, 8])
        tifffile.imwrite(
            tmp_path / "z.tif", stack, photometric="minisblack", ome=True, metadata={"axes": "ZCYX", "PhysicalSizeZ": 2}
        )
        with pytest.raises(InputError, match="states its depths"):
            read_z_stack(tmp_path / "z.tif", UM, spacing_um=4)

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"metadata": None}, r"\(QYX\)|\(IYX\)|QQYX"),
            ({"metadata": {"axes": "TCYX"}}, "TCYX"),
            ({"metadata": {"axes": "CZYX"}}, r"shape 3 x 2 x 150 x 230 \(CZYX\)"),
        ],
    )
    def test_axes_are_not_guessed(self, tmp_path, stack, options, found):
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", **options)
        with pytest.raises(InputError, match=found):
            read_z_stack(tmp_path / "z.tif", UM)

    def test_each_reader_names_the_other(self, tmp_path, counts, stack):
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", metadata={"axes": "ZCYX"})
        tifffile.imwrite(tmp_path / "one.tif", counts, photometric="minisblack", metadata={"axes": "CYX"})
        with pytest.raises(InputError, match="read_z_stack opens"):
            read_slide(tmp_path / "z.tif", UM)
        with pytest.raises(InputError, match="read_slide opens"):
            read_z_stack(tmp_path / "one.tif", UM)

    def test_dim_planes_are_refused_unless_one_is_bright(self, tmp_path, stack):
        tifffile.imwrite(tmp_path / "z.tif", stack // 16, photometric="minisblack", metadata={"axes": "ZCYX"})
        with pytest.raises(InputError, match="--full-scale 4096"):
            read_z_stack(tmp_path / "z.tif", UM)
        check(read_z_stack(tmp_path / "z.tif", UM, full_scale=4096), stack // 16 * 16, [None] * 3)
        stack[:2] //= 16
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", metadata={"axes": "ZCYX"})
        check(read_z_stack(tmp_path / "z.tif", UM), stack, [None] * 3)

    def test_a_file_cut_off_is_found_on_opening(self, tmp_path, stack):
        path = tmp_path / "z.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", ome=True, metadata={"axes": "ZCYX"})
        content = path.read_bytes()
        for end in (0, 6, 300, len(content) // 2, len(content) - 50):
            path.write_bytes(content[:end])
            with pytest.raises(InputError) as caught:
                read_z_stack(path, UM)
            assert "\n" not in str(caught.value)


class TestNumberedFiles:
    @pytest.fixture
    def folder(self, tmp_path, stack):
        """Planes 2, 8 and 10, whose order by name is another."""
        for number, counts in zip((2, 8, 10), stack, strict=True):
            tifffile.imwrite(tmp_path / f"field1_z{number}.tif", counts, photometric="minisblack")
        (tmp_path / "notes.txt").write_text("passed over")
        return tmp_path

    def test_they_lie_in_the_order_of_their_numbers(self, folder, stack):
        check(read_z_stack(folder, UM), stack, [None] * 3)
        check(read_z_stack(folder, UM, spacing_um=1.5), stack, [0.0, 9.0, 12.0])

    @pytest.mark.parametrize(
        ("name", "found"),
        [("overview.tif", "a file name without a number"), ("field1_z08.tif", "the same number as in field1_z08.tif")],
    )
    def test_a_file_without_a_place_of_its_own(self, folder, name, found):
        shutil.copy(folder / "field1_z8.tif", folder / name)
        with pytest.raises(InputError, match=found):
            read_z_stack(folder, UM)

    def test_a_plane_of_another_size(self, folder, counts):
        tifffile.imwrite(folder / "field1_z11.tif", counts[:, :100], photometric="minisblack")
        with pytest.raises(InputError, match="focal plane 4 of 100 x 230 pixels"):
            read_z_stack(folder, UM)

    def test_one_file_is_no_stack(self, folder):
        for number in (8, 10):
            (folder / f"field1_z{number}.tif").unlink()
        with pytest.raises(InputError, match="a folder with one TIFF"):
            read_z_stack(folder, UM)

    def test_real_tissue(self, real_data, tmp_path):
        """Ten slices, every sixth of a stack; restored or not, what is written is read back."""
        source = real_data / "srs_brain_zstack"
        planes = read_z_stack(source, um_per_px=UM, spacing_um=1.0)
        assert [plane.depth_um for plane in planes] == [6.0 * n for n in range(10)]
        np.testing.assert_array_equal(whole(planes[1].slide), tifffile.imread(source / "z007.tif").astype(np.uint16) * 257)
        again = read_z_stack(write_z_stack(planes, tmp_path / "again.ome.tif"))
        check(again[9:], [whole(planes[9].slide)], [54.0])


class TestDicom:
    @pytest.fixture
    def series(self, tmp_path, stack, edit):
        """Write a series a plane, all in one folder or each in its own, and say its depth in some way."""

        def series(say, one_folder=True, depths=(5.0, 0.0, 2.5), study="1.2.3"):
            for number, (counts, z_um) in enumerate(zip(stack, depths, strict=True)):
                place = tmp_path / "case" / (f"{number}.dcm" if one_folder else f"plane{number}")
                made = write_wsi(ArraySlide(counts, UM, Identity("P1", "S1", study)), place, transfer_syntax="raw")
                for file in made:
                    edit(file, lambda header, z_um=z_um: say(header, z_um))
            return tmp_path / "case"

        return series

    @staticmethod
    def say_of_matrix(header, z_um):
        header.TotalPixelMatrixOriginSequence[0].ZOffsetInSlideCoordinateSystem = z_um

    @staticmethod
    def say_of_frames(header, z_um):
        position = Dataset()
        position.ZOffsetInSlideCoordinateSystem = z_um
        header.SharedFunctionalGroupsSequence[0].PlanePositionSlideSequence = [position]

    @staticmethod
    def say_location(header, z_um):
        header.SliceLocation = z_um / 1000

    @pytest.mark.parametrize("one_folder", [True, False])
    @pytest.mark.parametrize("say", ["say_of_matrix", "say_of_frames", "say_location"])
    def test_a_series_is_a_plane_and_depth_is_the_order(self, series, stack, say, one_folder):
        planes = read_z_stack(series(getattr(self, say), one_folder))
        check(planes, stack[[1, 2, 0]], [0.0, 2.5, 5.0])

    def test_the_depth_of_sparse_frames_is_theirs(self, series, stack, make_sparse, edit):
        def say(header, z_um):
            for group in header.PerFrameFunctionalGroupsSequence:
                group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = z_um

        folder = series(lambda header, z_um: None, one_folder=False)
        for number, z_um in enumerate((5.0, 0.0, 2.5)):
            for file in (folder / f"plane{number}").iterdir():
                edit(make_sparse(file), lambda header, z_um=z_um: say(header, z_um))
        check(read_z_stack(folder), stack[[1, 2, 0]], [0.0, 2.5, 5.0])

    def test_what_does_not_say_its_depth_is_refused(self, series):
        with pytest.raises(InputError, match="neither a Z offset"):
            read_z_stack(series(lambda header, z_um: None))

    def test_two_series_at_one_depth(self, series):
        with pytest.raises(InputError, match=r"two series at 2\.5 um"):
            read_z_stack(series(self.say_of_matrix, depths=(5.0, 2.5, 2.5)))

    def test_two_cases_are_no_stack(self, series):
        with pytest.raises(InputError, match="a StudyInstanceUID that differs"):
            read_z_stack(series(self.say_of_matrix, study=""))

    def test_a_damaged_file_is_a_plane_that_may_be_missing(self, series):
        folder = series(self.say_of_matrix)
        (folder / "1.dcm").write_bytes((folder / "1.dcm").read_bytes()[:700])
        with pytest.raises(InputError, match=r"1\.dcm"):
            read_z_stack(folder)

    def test_a_spacing_beside_stated_depths_is_refused(self, series):
        with pytest.raises(InputError, match="which state their depths"):
            read_z_stack(series(self.say_of_matrix), spacing_um=2.0)


class TestOtherPlaces:
    def test_what_is_no_stack(self, tmp_path):
        (tmp_path / "text.tif").write_text("text")
        (tmp_path / "empty").mkdir()
        for name, found in [("none", "no such file"), ("empty", "a folder without TIFF or DICOM"), ("text.tif", "not a TIFF")]:
            with pytest.raises(InputError, match=found):
                read_z_stack(tmp_path / name)

    @pytest.mark.parametrize("spacing_um", [0, -1, float("nan")])
    def test_no_spacing(self, tmp_path, spacing_um):
        with pytest.raises(InputError, match="a spacing of"):
            read_z_stack(tmp_path, spacing_um=spacing_um)


class TestWriting:
    @pytest.fixture
    def planes(self, stack):
        return [(depth, ArraySlide(counts, UM)) for depth, counts in zip((0.0, 2.5, 7.0), stack, strict=True)]

    def test_what_is_written_is_read_back(self, tmp_path, planes, stack):
        path = write_z_stack(planes, tmp_path / "new" / "z.ome.tif")
        again = read_z_stack(path)
        check(again, stack, [0.0, 2.5, 7.0])
        assert again[0].slide.um_per_px == UM
        assert again[0].slide.notes == ()
        assert list(path.parent.iterdir()) == [path]

    def test_another_reader_sees_axes_and_steps(self, tmp_path, planes, stack):
        even = [(4.0 * n, slide) for n, (_, slide) in enumerate(planes)]
        with tifffile.TiffFile(write_z_stack(even, tmp_path / "z.tif")) as tiff:
            assert (tiff.series[0].axes, tiff.series[0].dtype) == ("ZCYX", np.uint16)
            np.testing.assert_array_equal(tiff.asarray(), stack)
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeZ"]) == (UM, 4.0)

    def test_dim_counts_come_back_as_they_are(self, tmp_path, stack):
        dim = [(None, ArraySlide(counts // 64, UM)) for counts in stack]
        check(read_z_stack(write_z_stack(dim, tmp_path / "z.tif")), stack // 64, [None] * 3)

    def test_what_it_does_not_write(self, tmp_path, planes, counts):
        (tmp_path / "there.tif").write_text("mine")
        smaller = [*planes, (9.0, ArraySlide(counts[:, 1:], UM))]
        for stack, name, found in [
            ([], "z.tif", "0 focal planes"),
            (planes[:1], "z.tif", "1 focal planes"),
            (planes[::-1], "z.tif", "do not ascend"),
            ([planes[0], (None, planes[1][1])], "z.tif", "only partly known"),
            (smaller, "z.tif", "focal plane 4"),
            (planes, "z.png", "the name z.png"),
            (planes, "there.tif", "an existing file"),
            (planes, "there.tif/z.tif", "a file; needed a folder"),
        ]:
            with pytest.raises(InputError, match=found):
                write_z_stack(stack, tmp_path / name)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("there.tif", "mine")]

    def test_a_slide_that_fails_leaves_nothing_behind(self, tmp_path, planes):
        class Failing(ArraySlide):
            def read(self, y, x, height, width):
                raise InputError("a piece that does not decode", "a whole file")

        with pytest.raises(InputError, match="does not decode"):
            write_z_stack([*planes, (9.0, Failing(planes[0][1].counts, UM))], tmp_path / "z.tif")
        assert not list(tmp_path.iterdir())
