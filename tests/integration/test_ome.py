"""OME-TIFF and OME-Zarr hold every count of a slide, its pixel size and the levels of a pyramid."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.integration import convert, levels, read_slide, write_wsi
from srh_clinic.integration.dicom_writer import pyramid_levels
from srh_clinic.integration.ome_tiff import write_ome_tiff
from srh_clinic.integration.ome_zarr import write_ome_zarr
from srh_clinic.resampling import block_mean
from srh_clinic.slide import ArraySlide, Identity

SHAPE = (700, 1100)


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 2**16, (2, *SHAPE), dtype=np.uint16)
    return ArraySlide(counts, 0.35, Identity(patient_id="P1", specimen_id="S1", source="somewhere/named.dcm"))


def expected_levels(slide):
    factors = (1, *pyramid_levels(slide.shape))
    shapes = [[int(edge / factor + 0.5) for edge in slide.shape] for factor in factors]
    means = [np.rint(block_mean(slide.counts, factor)) for factor in factors]
    return [(f, mean[:, :height, :width]) for f, mean, (height, width) in zip(factors, means, shapes, strict=True)]


def test_pixels_that_are_not_quite_square_stay_so(tmp_path, large):
    edges = Identity(attributes={"edges_um": (0.35, 0.353)})
    slide = ArraySlide(large.counts[:, :40, :50], 0.35, edges)
    with tifffile.TiffFile(write_ome_tiff(slide, tmp_path / "a.ome.tif")) as tiff:
        told = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (told["PhysicalSizeX"], told["PhysicalSizeY"]) == (0.353, 0.35)
    pytest.importorskip("zarr")
    group = json.loads((write_ome_zarr(slide, tmp_path / "a.ome.zarr") / "zarr.json").read_text())
    (first,) = group["attributes"]["ome"]["multiscales"][0]["datasets"]
    assert first["coordinateTransformations"][0]["scale"] == [1.0, 0.35, 0.353]


class TestOmeTiff:
    @pytest.fixture(scope="class")
    def file(self, large, tmp_path_factory):
        return write_ome_tiff(large, tmp_path_factory.mktemp("ome") / "slide.ome.tif")

    def test_tifffile_reads_every_level_exactly(self, large, file):
        with tifffile.TiffFile(file) as tiff:
            (series,) = tiff.series
            assert series.axes == "CYX"
            assert tiff.is_ome
            expected = expected_levels(large)
            assert len(series.levels) == len(expected) == 3
            for level, (_, counts) in zip(series.levels, expected, strict=True):
                np.testing.assert_array_equal(level.asarray(), counts)

    def test_it_says_how_large_a_pixel_is_and_what_the_channels_are(self, file):
        with tifffile.TiffFile(file) as tiff:
            told = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (told["PhysicalSizeX"], told["PhysicalSizeY"], told["PhysicalSizeXUnit"]) == (0.35, 0.35, "µm")
        assert [channel["Name"] for channel in told["Channel"]] == ["CH2 (2845 cm-1)", "CH3 (2930 cm-1)"]

    def test_our_reader_takes_it_back(self, large, file):
        read = read_slide(file)
        assert (read.shape, read.um_per_px) == (SHAPE, pytest.approx(0.35))
        np.testing.assert_array_equal(read.read(0, 0, *SHAPE), large.counts)

    def test_the_same_slide_gives_the_same_bytes_and_nothing_of_whom_it_shows(self, large, file, tmp_path):
        again = write_ome_tiff(large, tmp_path / "again.ome.tiff").read_bytes()
        assert again == file.read_bytes()
        for word in (b"P1<", b"S1<", b"named.dcm", b"somewhere"):
            assert word not in again


class TestOmeZarr:
    zarr = pytest.importorskip("zarr")

    @pytest.fixture(scope="class")
    def folder(self, large, tmp_path_factory):
        return write_ome_zarr(large, tmp_path_factory.mktemp("zarr") / "slide.ome.zarr")

    def test_zarr_reads_every_level_exactly(self, large, folder):
        group = self.zarr.open_group(folder, mode="r")
        assert group.metadata.zarr_format == 3
        for number, (_, counts) in enumerate(expected_levels(large)):
            np.testing.assert_array_equal(group[str(number)][:], counts)

    def test_every_level_shows_the_same_place(self, large, folder):
        (image,) = self.zarr.open_group(folder, mode="r").attrs["ome"]["multiscales"]
        assert [axis["name"] for axis in image["axes"]] == ["c", "y", "x"]
        for dataset, (factor, _) in zip(image["datasets"], expected_levels(large), strict=True):
            scale, translation = dataset["coordinateTransformations"]
            # The centre of a level's first pixel is that of the factor squared pixels that it averages.
            assert scale["scale"] == pytest.approx([1, 0.35 * factor, 0.35 * factor])
            assert translation["translation"] == pytest.approx([0, 0.35 * (factor - 1) / 2, 0.35 * (factor - 1) / 2])

    def test_the_models_of_ngff_take_it(self, folder):
        models = pytest.importorskip("ome_zarr_models.v05.image")
        image = models.Image.from_zarr(self.zarr.open_group(folder, mode="r"))
        assert len(image.ome_attributes.multiscales[0].datasets) == 3

    def test_it_says_nothing_of_whom_it_shows(self, folder):
        for file in folder.rglob("zarr.json"):
            assert "named" not in json.dumps(json.loads(file.read_text()))


class TestConvert:
    @pytest.mark.parametrize(("name", "to"), [("a.ome.tif", None), ("b.ome.tiff", "ome-tiff"), ("c.ome.zarr", None)])
    def test_a_dicom_slide_goes_to_any_format(self, tmp_path, slide, counts, name, to):
        write_wsi(slide, tmp_path / "case")
        (out,) = convert(tmp_path / "case", tmp_path / name, to=to)
        if name.endswith("zarr"):
            zarr = pytest.importorskip("zarr")
            np.testing.assert_array_equal(zarr.open_group(out, mode="r")["0"][:], counts)
        else:
            np.testing.assert_array_equal(read_slide(out).read(0, 0, *slide.shape), counts)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["case", name])

    def test_an_ome_tiff_goes_back_to_dicom(self, tmp_path, slide, counts):
        write_ome_tiff(slide, tmp_path / "a.ome.tif")
        convert(tmp_path / "a.ome.tif", tmp_path / "case")
        back = read_slide(tmp_path / "case")
        assert back.um_per_px == pytest.approx(0.47)
        np.testing.assert_array_equal(back.read(0, 0, *slide.shape), counts)

    @pytest.mark.parametrize(
        ("name", "to", "sentence"),
        [
            ("a.tif", "ome-tiff", "ends in .ome.tif or .ome.tiff"),
            ("a", "ome-zarr", "ends in .ome.zarr"),
            ("a.svs", "svs", "one of dicom, ome-tiff, ome-zarr"),
            ("taken.ome.tif", None, "a name that is taken"),
            ("again.dcm", None, "already DICOM"),
        ],
    )
    def test_what_cannot_be_is_said(self, tmp_path, slide, name, to, sentence):
        write_wsi(slide, tmp_path / "case.dcm")
        (tmp_path / "taken.ome.tif").write_text("somebody's")
        with pytest.raises(InputError, match=sentence):
            convert(tmp_path / "case.dcm", tmp_path / name, to=to)
        assert (tmp_path / "taken.ome.tif").read_text() == "somebody's"

    @pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
    def test_a_fault_on_the_way_leaves_nothing(self, tmp_path, slide, monkeypatch, name):
        def fail(*_):
            raise OSError("no")

        write_wsi(slide, tmp_path / "case.dcm")
        monkeypatch.setattr(levels, "block_mean", fail)
        monkeypatch.setattr(levels, "require_unchanged", fail)
        with pytest.raises(OSError, match="no"):
            convert(tmp_path / "case.dcm", tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["case.dcm"]


@pytest.mark.parametrize("factors", [(), (2, 4)])
def test_the_spool_is_gone_afterwards(tmp_path, slide, factors):
    with levels.spooled_levels(slide, factors, tmp_path / "out") as spooled:
        assert [level.shape[1:] for level in spooled] == [(int(150 / f + 0.5), int(230 / f + 0.5)) for f in (1, *factors)]
        assert any(tmp_path.iterdir())
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, slide, monkeypatch, name):
    """A mapped file that runs out of room ends the process by SIGBUS, with the spool left behind."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_wsi(slide, tmp_path / "case.dcm")
    monkeypatch.setattr(levels.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        convert(tmp_path / "case.dcm", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["case.dcm"]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_what_a_dead_run_left_is_cleared_away_and_a_link_is_not_followed(tmp_path, slide, name):
    write_wsi(slide, tmp_path / "case.dcm")
    spool = tmp_path / f".{name}.spool"
    spool.mkdir()
    (spool / "0").write_text("half")
    convert(tmp_path / "case.dcm", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "case.dcm"]
    (tmp_path / "mine").mkdir()
    (tmp_path / f".b{name}.spool").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="found a link"):
        convert(tmp_path / "case.dcm", tmp_path / f"b{name}")
    assert (tmp_path / "mine").is_dir()
