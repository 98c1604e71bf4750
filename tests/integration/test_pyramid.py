"""The levels of a slide's pyramid agree, and every reader finds them."""

from __future__ import annotations

import warnings

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.spatial import PixelToReferenceTransformer
from validators import complaints, needs_validators

from srh_clinic.integration import dicom_writer, read_slide
from srh_clinic.integration.dicom_writer import pyramid_levels
from srh_clinic.resampling import block_mean
from srh_clinic.slide import ArraySlide

LEVELS = (2, 4, 8)


def level_of(counts, factor):
    """The means of whole blocks, and of those at the end that are at least half there."""
    height, width = (int(edge / factor + 0.5) for edge in counts.shape[1:])
    return np.rint(block_mean(counts, factor))[:, :height, :width]


@pytest.fixture
def pyramid(tmp_path, slide, write):
    """A slide of 150 x 230 px in tiles of 64, its files by the level's factor."""
    files = write(slide, tmp_path / "case", levels=LEVELS)
    return {factor: files[2 * i : 2 * i + 2] for i, factor in enumerate((1, *LEVELS))}


def test_each_level_is_the_mean_of_the_slides_pixels(pyramid, counts):
    for factor, files in pyramid.items():
        expected = level_of(counts, factor)
        for channel, file in enumerate(files):
            read = highdicom.imread(file).get_total_pixel_matrix(dtype=np.uint16)
            np.testing.assert_array_equal(read, expected[channel])


def test_a_level_of_a_handful_of_noisy_pixels_is_written(tmp_path, write):
    counts = np.random.default_rng(0).integers(0, 2**16, (2, 70, 130), dtype=np.uint16)
    files = write(ArraySlide(counts, 0.47), tmp_path / "case", levels=(2, 4, 8, 16, 32, 64))
    smallest = highdicom.imread(files[-1]).get_total_pixel_matrix(dtype=np.uint16)
    np.testing.assert_array_equal(smallest, level_of(counts, 64)[1])


def test_our_reader_takes_the_finest(pyramid, counts, tmp_path):
    for path in (tmp_path / "case", *(file for files in pyramid.values() for file in files)):
        read = read_slide(path)
        np.testing.assert_array_equal(read.read(0, 0, *read.shape), counts)


def test_a_point_lies_at_the_same_place_of_every_level(pyramid):
    """By highdicom's geometry, which takes an origin as the centre of the first pixel (PS3.3 C.7.6.2.1.1)."""
    edges = {}
    for factor, (file, _) in pyramid.items():
        header = pydicom.dcmread(file, stop_before_pixels=True)
        (origin,) = header.TotalPixelMatrixOriginSequence
        offsets = [float(origin[f"{axis}OffsetInSlideCoordinateSystem"].value) for axis in "XY"]
        to_slide = PixelToReferenceTransformer(
            image_position=[*offsets, 0],
            image_orientation=[float(cosine) for cosine in header.ImageOrientationSlide],
            pixel_spacing=[float(s) for s in header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing],
        )
        # The corner of the 9th block of 8 pixels, which is one of every level.
        place = 64 // factor
        between = (to_slide(np.array([[place, place]])) + to_slide(np.array([[place - 1, place - 1]]))) / 2
        edges[factor] = between[0]
    for edge in edges.values():
        # DS has 16 digits; a hundredth of a pixel is 5e-6 mm.
        np.testing.assert_allclose(edge, edges[1], atol=1e-9)


def test_all_levels_are_one_pyramid_in_one_series(pyramid):
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for files in pyramid.values() for file in files]
    for keyword in ("SeriesInstanceUID", "PyramidUID", "FrameOfReferenceUID", "ImagedVolumeWidth", "ContainerIdentifier"):
        assert len({str(header[keyword].value) for header in headers}) == 1, keyword
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert [header.InstanceNumber for header in headers] == list(range(1, 9))
    assert [list(header.ImageType) for header in headers[2:]] == [["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]] * 6


def test_wsidicom_reads_every_level_and_channel(pyramid, counts, tmp_path):
    wsidicom = pytest.importorskip("wsidicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with wsidicom.WsiDicom.open(tmp_path / "case") as read:
            assert [level.level for level in read.pyramids[0]] == [0, 1, 2, 3]
            for level, factor in enumerate((1, *LEVELS)):
                expected = level_of(counts, factor)
                for channel, shift in enumerate(("SRS2845", "SRS2930")):
                    size = expected.shape[2], expected.shape[1]
                    region = np.asarray(read.read_region((0, 0), level, size, path=shift))
                    np.testing.assert_array_equal(region, expected[channel])


@needs_validators
def test_dciodvfy_and_dcentvfy_find_nothing(pyramid):
    files = [file for level in pyramid.values() for file in level]
    for file in files:
        assert complaints("dciodvfy", file) == []
    assert complaints("dcentvfy", *files) == []


def test_levels_need_a_folder(tmp_path, slide):
    with pytest.raises(ValueError, match="need a folder"):
        dicom_writer.write_wsi(slide, tmp_path / "case.dcm", levels=(2,))


@pytest.mark.parametrize("shape", [(6000, 6000), (513, 40), (512, 512), (70_000, 30_000)])
@pytest.mark.parametrize("at_least", [1, 64])
def test_a_pyramid_ends_with_a_tile(shape, at_least):
    levels = (1, *pyramid_levels(shape, at_least))
    assert list(levels) == [2**i for i in range(len(levels))]
    assert max(shape) <= 512 * levels[-1]
    assert levels[-1] >= at_least or levels[-1] == 1


def test_private_elements_of_the_source_are_not_carried_over_nested_ones_neither(tmp_path, slide, write, edit):
    def plant(header):
        for level in (header, header.SpecimenDescriptionSequence[0], header.OpticalPathSequence[0]):
            level.private_block(0x0099, "VENDOR", create=True).add_new(1, "LO", "PLANTED")

    files = write(slide, tmp_path / "source")
    for file in files:
        edit(file, plant)
    assert b"PLANTED" in files[0].read_bytes()
    source = read_slide(files[0])
    provenance = {"version": "0.1.0", "bundle": "b", "weights_sha256": "ab" * 32, "seed": 0, "settings": {}}
    for file in write(slide, tmp_path / "out", derived_from=source, provenance=provenance, levels=(2,)):
        content = file.read_bytes()
        assert b"PLANTED" not in content
        assert b"VENDOR" not in content
