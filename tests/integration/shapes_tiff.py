"""Shapes of TIFFs: what each is read as, or why it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps
from shape import UM, Done, Made, Shape, counts

C = counts()
SWAPPED = np.ascontiguousarray(C[::-1])
CM = {"resolution": (1e4 / UM,) * 2, "resolutionunit": "CENTIMETER"}
OME = {"axes": "CYX", "PhysicalSizeX": UM, "PhysicalSizeY": UM}
IMAGEJ = {"imagej": True, "resolution": (1 / UM,) * 2}
D12 = C // 16

SHAPES: list[Shape] = []


def shape(name: str, title: str, done: Done, says: str = "", z_stack: bool = False) -> Callable[..., Any]:
    def keep(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
        SHAPES.append(Shape(name, title, done, make, says, z_stack))
        return make

    return keep


def write(folder: Path, array: np.ndarray, **options: Any) -> Path:
    path = folder / options.pop("name", "a.tif")
    tifffile.imwrite(path, array, photometric=options.pop("photometric", "minisblack"), **options)
    return path


def seen(path: Path) -> np.ndarray:
    """What tifffile, asked for the whole, says the pixels are."""
    return tifffile.imread(path)


def named(folder: Path, names: list[str], **more: Any) -> Made:
    """CH3 is stored first, and the OME header says so in some words."""
    path = write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": {"Name": names}} | more)
    return Made(path, C, seen(path)[::-1])


for _key, _names in {
    "ch": ["CH3", "CH2"],
    "dash": ["CH-3", "CH-2"],
    "subscript": ["CH₃", "CH₂"],
    "markup": ["CH<sub>3</sub>", "CH<sub>2</sub>"],
    "shift": ["2930 cm-1", "2845 cm-1"],
    "thousands": ["2,930 cm-1", "2,845 cm-1"],
    "tissue": ["protein", "lipid"],
    "nuclei": ["nuclei", "lipids"],
}.items():
    shape(f"ome-names-{_key}", f"OME channel names {_names[0]}, {_names[1]}", "read")(lambda f, n=_names: named(f, n))


@shape("ome-wavelengths", "OME excitation wavelengths 1027.94, 1019.03 nm, names that are only positions", "read")
def _(folder: Path) -> Made:
    channel = {"Name": ["Channel 0", "Channel 1"], "ExcitationWavelength": [1027.94, 1019.03]}
    path = write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": channel})
    return Made(path, C, seen(path)[::-1])


@shape("ome-wavelengths-797", "OME wavelengths of a 797 nm pump (1030.7, 1039.8 nm)", "read")
def _(folder: Path) -> Made:
    channel = {"Name": ["C:0", "C:1"], "ExcitationWavelength": [1030.7, 1039.8]}
    path = write(folder, C, ome=True, metadata=OME | {"Channel": channel})
    return Made(path, C, seen(path))


for _key, _names, _title in [
    ("unknown", ["a", "b"], "names that say nothing of a shift (a, b)"),
    ("detectors", ["Ch1", "Ch2"], "names of detectors: Ch2 may be the second or the CH2 stretch"),
    ("twice", ["CH2", "2845"], "both channels of one Raman shift"),
    ("difference", ["CH3-CH2", "CH2"], "a channel that is a difference"),
    ("other-shift", ["2880 cm-1", "2700 cm-1"], "other Raman shifts"),
]:
    shape(f"ome-names-{_key}", f"OME: {_title}", "asked", "--channels")(
        lambda f, n=_names: Made(write(f, C, ome=True, metadata=OME | {"Channel": {"Name": n}}))
    )


@shape("asked-and-answered", "the same with --channels CH3,CH2", "read")
def _(folder: Path) -> Made:
    made = named(folder, ["a", "b"])
    return Made(made.path, C, made.other, {"channels": "CH3,CH2"})


@shape("caller-against-names", "--channels that contradicts the names of the file", "noted", "stated by the caller")
def _(folder: Path) -> Made:
    made = named(folder, ["CH3", "CH2"])
    return Made(made.path, SWAPPED, seen(made.path), {"channels": "CH2,CH3"})


@shape("three-channels-named", "three channels of which two are CH2 and CH3", "read")
def _(folder: Path) -> Made:
    stack = np.stack([C[1], C[0] // 2, C[0]])
    path = write(folder, stack, ome=True, metadata=OME | {"Channel": {"Name": ["CH3", "SHG", "CH2"]}})
    return Made(path, C, seen(path)[[2, 0]])


@shape("three-channels", "three channels without names", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(write(folder, np.concatenate([C, C[:1] // 2]), ome=True, metadata=OME))


@shape("imagej-labels", "ImageJ slice labels 2930 cm-1, 2845 cm-1", "read")
def _(folder: Path) -> Made:
    path = write(folder, SWAPPED, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "Labels": ["2930 cm-1", "2845 cm-1"]})
    return Made(path, C, seen(path)[::-1])


@shape("imagej-labels-bioformats", "ImageJ slice labels as Bio-Formats makes them (c:1/2 - CH3)", "read")
def _(folder: Path) -> Made:
    path = write(folder, SWAPPED, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "Labels": ["c:1/2 - CH3", "c:2/2 - CH2"]})
    return Made(path, C, seen(path)[::-1])


@shape("json-names", "tifffile's JSON with names of channels", "read")
def _(folder: Path) -> Made:
    path = write(folder, SWAPPED, **CM, metadata={"axes": "CYX", "Channel": {"Name": ["CH3", "CH2"]}})
    return Made(path, C, seen(path)[::-1])


def pages(folder: Path, planes: np.ndarray, **tags: Any) -> Path:
    path = folder / "pages.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, plane in enumerate(planes):
            own = {key: values[number] for key, values in tags.items()}
            tiff.write(plane, photometric="minisblack", metadata=None, **own, **CM)
    return path


@shape("page-descriptions", "an ImageDescription a page", "read")
def _(folder: Path) -> Made:
    path = pages(folder, SWAPPED, description=["CH3 2930 cm-1", "CH2 2845 cm-1"])
    return Made(path, C, seen(path)[::-1])


@shape("page-json", "a JSON description a page", "read")
def _(folder: Path) -> Made:
    path = pages(folder, SWAPPED, description=[json.dumps({"channel": name}) for name in ("proteins", "lipids")])
    return Made(path, C, seen(path)[::-1])


@shape("page-names", "a PageName a page", "read")
def _(folder: Path) -> Made:
    path = pages(folder, SWAPPED, extratags=[[(285, "s", 0, name, True)] for name in ("CH3", "CH2")])
    return Made(path, C, seen(path)[::-1])


@shape("no-names", "two pages that name nothing: the file's order, which result.json says", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, **CM)
    return Made(path, C, seen(path))


# what changes values


@shape("imagej-signed", "ImageJ's signed 16 bits (values + 32768 and a calibration)", "read")
def _(folder: Path) -> Made:
    stored = (C // 4).astype(np.int32) + 32768
    about = {"axes": "CYX", "unit": "um", "cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "gray value"}
    path = write(folder, stored.astype(np.uint16), **IMAGEJ, metadata=about)
    return Made(path, C // 4, (seen(path).astype(np.int32) - 32768).astype(np.uint16))


@shape("imagej-calibration", "another ImageJ calibration", "refused", "calibration")
def _(folder: Path) -> Made:
    return Made(write(folder, C, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "cf": 0, "c0": 0.0, "c1": 2.0}))


@shape("imagej-calibration-curve", "an ImageJ calibration by a curve", "refused", "calibration function 3")
def _(folder: Path) -> Made:
    return Made(write(folder, C, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "cf": 3, "c0": 0.0, "c1": 2.0}))


@shape("miniswhite", "MINISWHITE", "refused", "dark means bright")
def _(folder: Path) -> Made:
    return Made(write(folder, C, photometric="miniswhite", **CM))


def palette(folder: Path, ramp: np.ndarray) -> Path:
    return write(folder, (C >> 8).astype(np.uint8), photometric="palette", colormap=np.stack([ramp * 257] * 3), **CM)


@shape("palette-inverted", "8 bits behind a palette from bright to dark", "refused", "inverted palette")
def _(folder: Path) -> Made:
    return Made(palette(folder, np.arange(256, dtype=np.uint16)[::-1]))


@shape("palette-gamma", "8 bits behind a palette that is no straight line", "refused", "colour map")
def _(folder: Path) -> Made:
    return Made(palette(folder, (255 * (np.arange(256) / 255) ** 2.2).astype(np.uint16)))


@shape("8-bits", "8 bits", "noted", "x257")
def _(folder: Path) -> Made:
    path = write(folder, (C >> 8).astype(np.uint8), **CM)
    return Made(path, (C >> 8) * np.uint16(257), seen(path).astype(np.uint16) * 257)


@shape("12-bits-stated", "12 bits that OME states", "noted", "x16")
def _(folder: Path) -> Made:
    path = write(folder, D12, ome=True, metadata=OME | {"SignificantBits": 12})
    return Made(path, D12 * 16, seen(path) * 16)


@shape("12-bits-unstated", "uint16 without a value above 4095 and without statement", "asked", "--full-scale 4096")
def _(folder: Path) -> Made:
    return Made(write(folder, D12, **CM))


@shape("12-bits-stated-as-16", "the same where 16 bits are stated", "noted", "no value above 4095")
def _(folder: Path) -> Made:
    path = write(folder, D12, ome=True, metadata=OME | {"SignificantBits": 16})
    return Made(path, D12, seen(path))


@shape("12-bits-packed", "12 bits packed without gaps (read where imagecodecs is installed)", "refused", "packed|12")
def _(folder: Path) -> Made:
    path = write(folder, D12, **CM, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["BitsPerSample"].overwrite(12)
    return Made(path)


TURNS: dict[int, tuple[Image.Transpose, ...]] = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
"""What Pillow's ImageOps.exif_transpose does with each Orientation."""


def upright(path: Path, turn: int) -> np.ndarray:
    """What Pillow makes upright of what tifffile sees; by itself it reads lying raw pages of 16 bits with a wrong width."""
    seen = []
    for page in tifffile.imread(path):
        image = Image.fromarray(page)
        image.getexif()[274] = turn
        seen.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.stack(seen)


for _turn, _how in TURNS.items():
    for _layout, _options in {"": {}, "-tiled": {"tile": (48, 64), "compression": "zlib"}}.items():
        _title = f"Orientation {_turn}{', tiles' * bool(_layout)}: turned"

        @shape(f"orientation-{_turn}{_layout}", _title, "noted", f"Orientation {_turn}")
        def _(folder: Path, turn: int = _turn, how: Any = _how, options: Any = _options) -> Made:
            about: dict[str, Any] = {"metadata": None, "extratags": [(274, "H", 1, turn, False)], **CM}
            path = write(folder, C, **about, **options)
            right = C
            for each in how:
                right = np.stack([np.asarray(Image.fromarray(channel).transpose(each)) for channel in right])
            return Made(path, right, upright(path, turn))


@shape("orientation-of-one-page", "an Orientation on one of two pages", "refused", "pages of Orientation 1 and 4")
def _(folder: Path) -> Made:
    return Made(write(folder, C, metadata=None, extratags=[(274, "H", 1, 4, True)], **CM))


@shape("orientation-unknown", "an Orientation that is none", "refused", "Orientation 9")
def _(folder: Path) -> Made:
    return Made(write(folder, C, metadata=None, extratags=[(274, "H", 1, 9, False)], **CM))


@shape("transfer-function", "a TransferFunction that is no straight line", "refused", "TransferFunction")
def _(folder: Path) -> Made:
    curve = [int(value) for value in 65535 * (np.arange(65536) / 65535) ** 0.5]
    return Made(write(folder, C, metadata=None, extratags=[(301, "H", 65536, curve, False)], **CM))


@shape("predictor", "deflated tiles with a predictor", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, compression="zlib", predictor=True, tile=(64, 48), **CM)
    return Made(path, C, seen(path))


@shape("nodata", "GDAL's value that is no data", "read")
def _(folder: Path) -> Made:
    padded = C.copy()
    padded[:, :40, :40] = 65535
    path = write(folder, padded, metadata=None, extratags=[(42113, "s", 0, "65535", False)], **CM)
    other = seen(path)
    return Made(path, np.where(padded == 65535, 0, padded), np.where(other == 65535, 0, other))


@shape("gdal-scale", "GDAL's scale of a band", "refused", "calibration")
def _(folder: Path) -> Made:
    said = '<GDALMetadata><Item name="SCALE" sample="0" role="scale">2</Item></GDALMetadata>'
    return Made(write(folder, C, metadata=None, extratags=[(42112, "s", 0, said, False)], **CM))


# pixel size


@shape("ome-against-tags", "OME and the resolution tags state two pixel sizes", "refused", "two pixel sizes")
def _(folder: Path) -> Made:
    return Made(write(folder, C, ome=True, metadata=OME, resolution=(1e4 / 0.35,) * 2, resolutionunit="CENTIMETER"))


@shape("imagej-against-tags", "ImageJ's unit and the resolution unit state two pixel sizes", "refused", "two pixel sizes")
def _(folder: Path) -> Made:
    about = {"axes": "CYX", "unit": "cm"}
    return Made(write(folder, C, imagej=True, resolution=(1e4 / UM,) * 2, resolutionunit="INCH", metadata=about))


@shape("json-against-tags", "JSON and the resolution tags state two pixel sizes", "refused", "two pixel sizes")
def _(folder: Path) -> Made:
    return Made(write(folder, C, metadata={"axes": "CYX", "PhysicalSizeX": 0.25}, **CM))


@shape("json-size", "a pixel size in tifffile's JSON alone", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata={"axes": "CYX", "PhysicalSizeX": UM, "PhysicalSizeY": UM})
    return Made(path, C, seen(path))


@shape("caller-against-file", "--um-per-px that contradicts the file", "noted", "stated by the caller")
def _(folder: Path) -> Made:
    path = write(folder, C, ome=True, metadata=OME | {"PhysicalSizeX": 0.35, "PhysicalSizeY": 0.35})
    return Made(path, C, seen(path), {"um_per_px": UM})


@shape("no-resolution-unit", "resolution without a unit: inches, as TIFF 6.0 says", "read")
def _(folder: Path) -> Made:
    first, second = (Image.fromarray(channel) for channel in C)
    path = folder / "pillow.tif"
    resolution = 25400 / UM
    first.save(path, save_all=True, append_images=[second], x_resolution=resolution, y_resolution=resolution)
    return Made(path, C, seen(path))


for _unit in ("micrometer", "Micrometre", "micron", "\\u00b5m"):
    shape(f"imagej-unit-{_unit.strip(chr(92)).lower()}", f"ImageJ's unit spelled {_unit}", "read")(
        lambda f, u=_unit: (lambda path: Made(path, C, seen(path)))(write(f, C, **IMAGEJ, metadata={"axes": "CYX", "unit": u}))
    )


@shape("decimal-comma", "PhysicalSizeX with a decimal comma", "asked", "0,47.*--um-per-px")
def _(folder: Path) -> Made:
    path = write(folder, C, ome=True, metadata=OME)
    path.write_bytes(path.read_bytes().replace(b'"0.47"', b'"0,47"'))
    return Made(path)


@shape("72-dpi", "a resolution of 72 dpi, which nobody measured", "asked", "--um-per-px")
def _(folder: Path) -> Made:
    return Made(write(folder, C, resolution=(72, 72), resolutionunit="INCH"))


# storage


@shape("planes-apart-tiled", "two bands in one page, planes apart, tiled", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, planarconfig="separate", tile=(64, 64), **CM)
    return Made(path, C, seen(path))


@shape("planes-apart-compressed", "two bands in one page, planes apart, compressed", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, planarconfig="separate", compression="zlib", rowsperstrip=32, **CM)
    return Made(path, C, seen(path))


@shape("interleaved", "two bands in one page, pixel by pixel (GDAL's default)", "read")
def _(folder: Path) -> Made:
    path = write(
        folder, np.moveaxis(C, 0, -1).copy(), planarconfig="contig", extrasamples=["unspecified"], metadata=None, **CM
    )
    return Made(path, C, np.moveaxis(seen(path), -1, 0))


@shape("interleaved-tiled", "the same, tiled and compressed", "read")
def _(folder: Path) -> Made:
    bands = np.moveaxis(C, 0, -1).copy()
    about = {"planarconfig": "contig", "extrasamples": ["unspecified"], "metadata": None, "tile": (64, 64)}
    path = write(folder, bands, compression="zlib", **about, **CM)
    return Made(path, C, np.moveaxis(seen(path), -1, 0))


@shape("grey-and-opacity", "a grey image with its opacity as second band", "refused", "opacity")
def _(folder: Path) -> Made:
    bands = np.moveaxis(C, 0, -1).copy()
    return Made(write(folder, bands, planarconfig="contig", extrasamples=["unassalpha"], metadata=None, **CM))


@shape("bomb", "a tile of some kilobytes that inflates to gigabytes", "refused", "inflates to more")
def _(folder: Path) -> Made:
    import zlib

    bomb = zlib.compress(bytes(2**25))
    tiles = (bomb for _ in range(2))
    path = folder / "bomb.tif"
    layout = {"shape": (2, 64, 64), "dtype": "uint16", "tile": (64, 64), "compression": "zlib"}
    tifffile.imwrite(path, tiles, photometric="minisblack", metadata={"axes": "CYX"}, **layout, **CM)
    return Made(path)


@shape("ome-other-files", "an OME header that has pixels in other files, which are not opened", "refused", "several files")
def _(folder: Path) -> Made:
    planes = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="../../{c}.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in (0, 1)
    )
    header = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint16" SizeX="192" SizeY="128" SizeC="2" SizeZ="1" SizeT="1">'
        f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{planes}</Pixels></Image></OME>'
    )
    return Made(write(folder, C[0], description=header, metadata=None))


@shape("ome-of-other-type", "an OME header of int16 over uint16 pixels", "refused", "int16")
def _(folder: Path) -> Made:
    path = write(folder, C, ome=True, metadata=OME)
    path.write_bytes(path.read_bytes().replace(b'Type="uint16"', b'Type="int16" '))
    return Made(path)


# what writers put elsewhere, or state twice


@shape("ome-fluor", "OME channels named by Fluor", "read")
def _(folder: Path) -> Made:
    path = write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": {"Fluor": ["CH3", "CH2"]}})
    return Made(path, C, seen(path)[::-1])


@shape("ome-wavelengths-angstrom", "OME wavelengths in angstrom", "read")
def _(folder: Path) -> Made:
    channel = {"ExcitationWavelength": [10279.4, 10190.3], "ExcitationWavelengthUnit": ["Å", "Å"]}
    path = write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": channel})
    return Made(path, C, seen(path)[::-1])


@shape("ome-wavelengths-unit", "OME wavelengths in a unit that is no length", "asked", "--channels")
def _(folder: Path) -> Made:
    channel = {"ExcitationWavelength": [1.0, 2.0], "ExcitationWavelengthUnit": ["pixel", "pixel"]}
    return Made(write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": channel}))


@shape("ome-emission", "OME channels of which only emission wavelengths are stated", "asked", "emission.*--channels")
def _(folder: Path) -> Made:
    return Made(write(folder, SWAPPED, ome=True, metadata=OME | {"Channel": {"EmissionWavelength": [640.0, 650.0]}}))


@shape("ome-names-superscript", "OME channel names 2930 cm⁻¹, 2845 cm⁻¹", "read")
def _(folder: Path) -> Made:
    return named(folder, ["SRS 2930 cm⁻¹", "SRS 2845 cm⁻¹"])


@shape("ome-names-joined", "OME channel names CH3_proteins, CH2_lipids", "read")
def _(folder: Path) -> Made:
    return named(folder, ["CH3_proteins", "CH2_lipids"])


@shape("ome-names-opposite", "OME channel names CH3 2845, CH2 2930", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(named(folder, ["CH3 2845", "CH2 2930"]).path)


@shape("ome-against-page-names", "OME names the channels in one order, page names in the other", "asked", "--channels")
def _(folder: Path) -> Made:
    about = {"ome": True, "metadata": OME | {"Channel": {"Name": ["CH3", "CH2"]}}}
    return Made(write(folder, SWAPPED, **about, extratags=[(285, "s", 0, "CH2", True)]))


@shape("micromanager-tag", "Micro-Manager's names of channels in its own tag", "read")
def _(folder: Path) -> Made:
    said = json.dumps({"Summary": {"ChNames": ["CH3", "CH2"]}})
    path = write(folder, SWAPPED, metadata=None, extratags=[(51123, "s", 0, said, True)], **CM)
    return Made(path, C, seen(path)[::-1])


@shape("micromanager-pages", "Micro-Manager's channel of each page", "read")
def _(folder: Path) -> Made:
    path = pages(
        folder, SWAPPED, extratags=[[(51123, "s", 0, json.dumps({"Channel": name}), True)] for name in ("CH3", "CH2")]
    )
    return Made(path, C, seen(path)[::-1])


@shape("json-names-by-place", "JSON with names of channels by their numbers", "read")
def _(folder: Path) -> Made:
    path = write(folder, SWAPPED, **CM, metadata={"axes": "CYX", "channels": {"1": "CH2", "0": "CH3"}})
    return Made(path, C, seen(path)[::-1])


@shape("imagej-info", "names of channels in ImageJ's Info", "read")
def _(folder: Path) -> Made:
    info = "Series 0 Name = x\nChannel 1 Name = CH3\nChannel 2 Name = CH2"
    path = write(folder, SWAPPED, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "Info": info})
    return Made(path, C, seen(path)[::-1])


@shape("description-sentence", "a description that names both channels in a sentence", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(write(folder, SWAPPED, metadata=None, description="First CH3 then CH2", **CM))


@shape("pages-of-two-resolutions", "pages that state two pixel sizes", "refused", "two pixel sizes.*page 2")
def _(folder: Path) -> Made:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for channel, um in zip(C, (UM, 0.35), strict=True):
            edge = {"resolution": (1e4 / um,) * 2, "resolutionunit": "CENTIMETER"}
            tiff.write(channel, photometric="minisblack", metadata=None, **edge)
    return Made(path)


@shape("imagej-images", "ImageJ's header says more images than there are", "refused", "2 images where ImageJ's header says 3")
def _(folder: Path) -> Made:
    path = write(folder, C, **IMAGEJ, metadata={"axes": "CYX", "unit": "um"})
    path.write_bytes(path.read_bytes().replace(b"images=2", b"images=3"))
    return Made(path)


@shape("size-of-two-units", "PhysicalSizeX in um and PhysicalSizeY in nm", "asked", "0.47 x 0.00047 um")
def _(folder: Path) -> Made:
    return Made(write(folder, C, ome=True, metadata=OME | {"PhysicalSizeYUnit": "nm"}))


@shape("size-angstrom", "a pixel size in angstrom", "read")
def _(folder: Path) -> Made:
    size = {"PhysicalSizeX": 4700.0, "PhysicalSizeY": 4700.0, "PhysicalSizeXUnit": "Å", "PhysicalSizeYUnit": "Å"}
    path = write(folder, C, ome=True, metadata=OME | size)
    return Made(path, C, seen(path))


@shape("size-zero", "PhysicalSizeX of 0", "asked", "pixels of 0 x 0 um")
def _(folder: Path) -> Made:
    return Made(write(folder, C, ome=True, metadata=OME | {"PhysicalSizeX": 0, "PhysicalSizeY": 0}))


for _said in ("nan", "-9999", "1e400", "none"):

    @shape(f"nodata-{_said.strip('-')}", f"GDAL's value that is no data, which no pixel can have ({_said})", "read")
    def _(folder: Path, said: str = _said) -> Made:
        path = write(folder, C, metadata=None, extratags=[(42113, "s", 0, said, False)], **CM)
        return Made(path, C, seen(path))


@shape("nodata-of-one-page", "GDAL's value that is no data on one of two pages", "refused", "GDAL_NODATA")
def _(folder: Path) -> Made:
    return Made(write(folder, C, metadata=None, extratags=[(42113, "s", 0, "65535", True)], **CM))


@shape("fill-order", "bits in reverse (FillOrder 2)", "refused", "FillOrder 2")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, extratags=[(65001, "H", 1, 2, False)], **CM)
    as_private, as_fill_order = ((code).to_bytes(2, "little") + b"\3\0\1\0\0\0\2\0" for code in (65001, 266))
    path.write_bytes(path.read_bytes().replace(as_private, as_fill_order))
    return Made(path)


@shape("big-endian-tiles", "big-endian tiles, deflated, with a predictor", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, byteorder=">", tile=(48, 80), compression="zlib", predictor=True, **CM)
    return Made(path, C, seen(path))


@shape("lzma-strips", "strips in LZMA with a predictor", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, compression="lzma", predictor=True, rowsperstrip=7, **CM)
    return Made(path, C, seen(path))


@shape("padding-of-tiles", "12 bits, and something else in what fills up the tiles at the edges", "noted", "x16")
def _(folder: Path) -> Made:
    import zlib

    def tiles() -> Any:
        for channel in D12:
            for y, x in ((y, x) for y in range(0, 128, 80) for x in range(0, 192, 80)):
                tile, part = np.full((80, 80), 65535, np.uint16), channel[y : y + 80, x : x + 80]
                tile[: part.shape[0], : part.shape[1]] = part
                yield zlib.compress(tile.tobytes())

    path = folder / "a.tif"
    layout = {"shape": C.shape, "dtype": "uint16", "tile": (80, 80), "compression": "zlib"}
    tifffile.imwrite(path, tiles(), photometric="minisblack", ome=True, metadata=OME | {"SignificantBits": 12}, **layout)
    return Made(path, D12 * 16, seen(path) * 16)


@shape("8-bits-as-16", "8 bits with --full-scale 65536", "noted", "65536 stated by the caller, 256 by the file")
def _(folder: Path) -> Made:
    path = write(folder, (C >> 8).astype(np.uint8), **CM)
    return Made(path, C >> 8, seen(path).astype(np.uint16), {"full_scale": 65536})


@shape("three-samples-gdal", "three bands pixel by pixel, of which GDAL's descriptions name two", "read")
def _(folder: Path) -> Made:
    bands = np.moveaxis(np.concatenate([C[:1] // 2, SWAPPED]), 0, -1).copy()
    names = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
        for i, name in enumerate(("SHG", "CH3", "CH2"))
    )
    tag = (42112, "s", 0, f"<GDALMetadata>{names}</GDALMetadata>", False)
    about = {"planarconfig": "contig", "extrasamples": ["unspecified"] * 2, "metadata": None, "extratags": [tag]}
    path = write(folder, bands, **about, **CM)
    return Made(path, C, np.moveaxis(seen(path), -1, 0)[[2, 1]])


@shape("ome-pages-in-other-order", "OME TiffData that puts the first channel on the second page", "read")
def _(folder: Path) -> Made:
    data = "".join(f'<TiffData IFD="{1 - c}" FirstC="{c}" FirstZ="0" FirstT="0" PlaneCount="1"/>' for c in (0, 1))
    header = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
        'ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="192" SizeY="128" SizeC="2" SizeZ="1" SizeT="1" '
        'PhysicalSizeX="0.47" PhysicalSizeY="0.47"><Channel ID="Channel:0:0" Name="CH2"/><Channel ID="Channel:0:1" '
        f'Name="CH3"/>{data}</Pixels></Image></OME>'
    )
    path = folder / "a.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(C[1], description=header, metadata=None, photometric="minisblack")
        tiff.write(C[0], metadata=None, photometric="minisblack")
    return Made(path, C, seen(path))


@shape("pyramid", "an OME pyramid whose levels lie in SubIFDs", "read")
def _(folder: Path) -> Made:
    path = folder / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        about = {"photometric": "minisblack", "tile": (64, 64)}
        tiff.write(C, subifds=1, metadata=OME | {"Channel": {"Name": ["CH2", "CH3"]}}, **about)
        tiff.write(C[:, ::2, ::2].copy(), subfiletype=1, **about)
    return Made(path, C, seen(path))


@shape("thumbnail-between", "a thumbnail between the pages of the channels", "read")
def _(folder: Path) -> Made:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for image, more in ((C[0], CM), (C[0][::4, ::4].copy(), {}), (C[1], CM)):
            tiff.write(image, photometric="minisblack", metadata=None, **more)
    with tifffile.TiffFile(path) as tiff_file:
        other = np.stack([tiff_file.pages[page].asarray() for page in (0, 2)])
    return Made(path, C, other)


@shape("rows-per-strip", "RowsPerStrip of 2^32 - 1: one strip", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, compression="zlib", rowsperstrip=128, **CM)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["RowsPerStrip"].overwrite(2**32 - 1)
    return Made(path, C, seen(path))


@shape("two-kinds-of-pages", "a page of 16 and a page of 8 bits", "asked", "2 images .* do not say which is CH2 and CH3")
def _(folder: Path) -> Made:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for channel in (C[0], (C[1] >> 8).astype(np.uint8)):
            tiff.write(channel, photometric="minisblack", metadata=None, **CM)
    return Made(path)


@shape("plane-of-one", "--plane 1 of a TIFF of one focal plane", "read")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, **CM)
    return Made(path, C, seen(path), {"plane": 1})


@shape("no-tiles", "tiles of gigabytes, none of which is there", "refused", "no pixels in any of 2401 strips or tiles")
def _(folder: Path) -> Made:
    import struct

    edge, tile = 400_000, 8192
    n_tiles = (-(-edge // tile)) ** 2
    tags = [(256, edge), (257, edge), (258, 16), (259, 1), (262, 1), (277, 1), (322, tile), (323, tile)]
    size = 2 + 12 * (len(tags) + 2) + 4
    content = bytearray(b"II*\0" + struct.pack("<L", 8))
    for following in (8 + size, 0):
        content += struct.pack("<H", len(tags) + 2) + b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
        content += b"".join(struct.pack("<HHLL", tag, 4, n_tiles, 8 + 2 * size) for tag in (324, 325)) + struct.pack(
            "<L", following
        )
    path = folder / "a.tif"
    path.write_bytes(content + bytes(4 * n_tiles))
    return Made(path, options={"um_per_px": UM})


def ordered(folder: Path, axes: str) -> Made:
    """The channels in an order of axes that the file says itself; axes beside C, Y and X have length 1."""
    places = ["CYX".index(axis) for axis in axes if axis in "CYX"]
    array = np.transpose(C, places).reshape([C.shape["CYX".index(axis)] if axis in "CYX" else 1 for axis in axes])
    path = write(folder, array, metadata={"axes": axes}, **CM)
    back = np.transpose(seen(path).reshape(array.squeeze().shape), np.argsort(places))
    return Made(path, C, back)


for _axes in ("YXC", "CXY", "XYC", "YCX", "TCYX", "ZCYX", "ZCTYX"):
    shape(f"said-{_axes.lower()}", f"axes {_axes} by tifffile's metadata, Z and T of length 1", "read")(
        lambda f, a=_axes: ordered(f, a)
    )


@shape("said-tcyx-three", "axes TCYX with three time points", "refused", "3 x 2 x 128 x 192")
def _(folder: Path) -> Made:
    return Made(write(folder, np.stack([C, C, C]), metadata={"axes": "TCYX"}, **CM))


@shape("said-zyxc", "a z-stack of axes ZYXC", "read", z_stack=True)
def _(folder: Path) -> Made:
    stack = np.stack([C, SWAPPED])
    path = write(folder, np.moveaxis(stack, 1, -1), metadata={"axes": "ZYXC"}, **CM)
    return Made(path, stack, np.moveaxis(seen(path), -1, 1))


# channels that are images of their own


def images(folder: Path, planes: list[np.ndarray], about: list[dict[str, Any]], *, ome: bool = True, **options: Any) -> Path:
    """A file in which each of some images is one of its own: an Image of OME, or a series of tifffile's JSON."""
    path = folder / "images.tif"
    with tifffile.TiffWriter(path, ome=ome) as tiff:
        for plane, more in zip(planes, about, strict=True):
            size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM}
            tiff.write(plane, photometric="minisblack", metadata=size | more, **options)
    return path


def images_seen(path: Path, order: tuple[int, int]) -> np.ndarray:
    """What tifffile says of two of the images."""
    with tifffile.TiffFile(path) as tiff:
        return np.stack([tiff.series[at].asarray() for at in order])


@shape("images-apart", "OME in which each channel is an Image of its own, by channel names CH3, CH2", "read")
def _(folder: Path) -> Made:
    path = images(folder, list(SWAPPED), [{"Channel": {"Name": name}} for name in ("CH3", "CH2")])
    return Made(path, C, images_seen(path, (1, 0)))


@shape("images-apart-by-image", "the same, by the names of the Images (slide7 2930, slide7 2845)", "read")
def _(folder: Path) -> Made:
    path = images(folder, list(SWAPPED), [{"Name": name} for name in ("slide7 2930 cm-1", "slide7 2845 cm-1")])
    return Made(path, C, images_seen(path, (1, 0)))


@shape("images-apart-wavelengths", "the same, by excitation wavelengths alone", "read")
def _(folder: Path) -> Made:
    about = [{"Channel": {"ExcitationWavelength": nm}} for nm in (1027.94, 1019.03)]
    path = images(folder, list(SWAPPED), about)
    return Made(path, C, images_seen(path, (1, 0)))


@shape("images-apart-overview", "the same beside a smaller overview and a third image, tiled and compressed", "read")
def _(folder: Path) -> Made:
    planes = [C[0][::2, ::2].copy(), C[1], C[0] // 2, C[0]]
    about = [{"Channel": {"Name": name}} for name in ("CH2", "CH3", "SHG", "CH2")]
    path = images(folder, planes, about, tile=(64, 64), compression="zlib")
    return Made(path, C, images_seen(path, (3, 1)))


@shape("images-apart-unnamed", "the same without names: two images may be two fields", "asked", "2 images .*--channels")
def _(folder: Path) -> Made:
    return Made(images(folder, list(C), [{}, {}]))


@shape("images-apart-one-shift", "two OME Images that are both CH2: two fields", "asked", "2 images .* one field")
def _(folder: Path) -> Made:
    return Made(images(folder, list(C), [{"Channel": {"Name": "CH2"}}] * 2))


@shape("images-apart-answered", "two OME Images without names with --channels CH3,CH2", "read")
def _(folder: Path) -> Made:
    path = images(folder, list(SWAPPED), [{}, {}])
    return Made(path, C, images_seen(path, (1, 0)), {"channels": "CH3,CH2"})


@shape("images-apart-two-sizes", "OME Images of CH2 and CH3 that state two pixel sizes", "refused", "0.47 and 0.94 um")
def _(folder: Path) -> Made:
    about = [{"Channel": {"Name": "CH2"}}, {"Channel": {"Name": "CH3"}, "PhysicalSizeX": 2 * UM, "PhysicalSizeY": 2 * UM}]
    return Made(images(folder, list(C), about))


@shape("images-apart-json", "two series of tifffile's own, each named", "read")
def _(folder: Path) -> Made:
    path = images(folder, list(SWAPPED), [{"name": "proteins"}, {"name": "lipids"}], ome=False, **CM)
    return Made(path, C, images_seen(path, (1, 0)))


@shape("images-apart-stacks", "OME in which each channel is a z-stack of its own, as a z-stack", "read", z_stack=True)
def _(folder: Path) -> Made:
    stacks = [np.stack([channel, channel // 2, channel // 3]) for channel in SWAPPED]
    path = images(folder, stacks, [{"axes": "ZYX", "Channel": {"Name": name}} for name in ("CH3", "CH2")])
    return Made(path, np.stack([C, C // 2, C // 3]), images_seen(path, (1, 0)).swapaxes(0, 1))


@shape("images-apart-stacks-plane", "the same, one plane of it", "noted", "focal plane 3 of 3")
def _(folder: Path) -> Made:
    stacks = [np.stack([channel, channel // 2, channel // 3]) for channel in SWAPPED]
    path = images(folder, stacks, [{"axes": "ZYX", "Channel": {"Name": name}} for name in ("CH3", "CH2")])
    return Made(path, C // 3, images_seen(path, (1, 0))[:, 2], {"plane": 3})


# names in further places, and numbers that are none


@shape(
    "ome-names-long-numbers",
    "OME names that are numbers too large for positions (28450, 29300)",
    "asked",
    "'28450' and '29300'",
)
def _(folder: Path) -> Made:
    return named(folder, ["29300", "28450"][::-1])


@shape(
    "ome-names-other-unit", "OME channel names CH3 2930, CH2 2885 cm-1: a word and a shift that disagree", "asked", "2885 cm-1"
)
def _(folder: Path) -> Made:
    return named(folder, ["CH3 2930", "CH2 2885 cm-1"])


for _key, _said in {
    "shifts": {"raman_shifts": [2930, 2845]},
    "wavenumbers": {"wavenumbers_cm-1": [2930.0, 2845.0]},
    "named-places": {"channels": {"CH3": 0, "CH2": 1}},
}.items():

    @shape(f"json-{_key}", f"tifffile's JSON with {json.dumps(_said)}", "read")
    def _(folder: Path, said: dict[str, Any] = _said) -> Made:
        path = write(folder, SWAPPED, **CM, metadata={"axes": "CYX"} | said)
        return Made(path, C, seen(path)[::-1])


@shape("description-of-one", "a sentence at the first page that names one channel", "asked", "--channels")
def _(folder: Path) -> Made:
    return Made(write(folder, SWAPPED, description="SRS image of CH3, then the reference", metadata=None, **CM))


OME_XML = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="P:0" '
    'DimensionOrder="XYCZT" Type="uint16" SizeX="192" SizeY="128" SizeC="2" SizeZ="1" SizeT="1" PhysicalSizeX="0.47" '
    'PhysicalSizeY="0.47"><Channel ID="C:0" Name="CH2"/><Channel ID="C:1" Name="CH3"/>{}</Pixels></Image></OME>'
)


@shape("ome-one-page-twice", "OME TiffData that puts both channels on one page", "refused", "on one page of the file")
def _(folder: Path) -> Made:
    places = "".join(f'<TiffData IFD="0" FirstC="{channel}" PlaneCount="1"/>' for channel in (0, 1))
    return Made(write(folder, C, metadata=None, description=OME_XML.format(places)))


@shape("ome-bits-fraction", "SignificantBits of 10.5", "refused", "SignificantBits 10.5")
def _(folder: Path) -> Made:
    return Made(write(folder, C, ome=True, metadata=OME | {"SignificantBits": "10.5"}))


@shape("imagej-two-units", "ImageJ's unit um across and nm down", "asked", "--um-per-px")
def _(folder: Path) -> Made:
    return Made(write(folder, C, **IMAGEJ, metadata={"axes": "CYX", "unit": "um", "yunit": "nm"}))


@shape("gdal-damaged", "metadata of GDAL that are cut", "refused", "damaged metadata of GDAL")
def _(folder: Path) -> Made:
    return Made(write(folder, C, **CM, metadata=None, extratags=[(42112, "s", 0, "<GDALMetadata><Item name=", True)]))


@shape("compression-unknown", "a compression of a number that nobody knows", "refused", "compression 1234, which is none")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, compression="zlib", **CM)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["Compression"].overwrite(1234)
    return Made(path)


@shape("compression-zstd", "Zstandard without imagecodecs", "refused", "ZSTD compression; needed the package imagecodecs|ZSTD")
def _(folder: Path) -> Made:
    path = write(folder, C, metadata=None, compression="zlib", **CM)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.tags["Compression"].overwrite(50000)
    return Made(path)


@shape("said-yxc-bomb", "axes YXC, and a strip that inflates to a hundred megabytes", "refused", "inflates to more than")
def _(folder: Path) -> Made:
    import zlib

    path = write(folder, np.moveaxis(np.tile(C, (1, 1, 200)), 0, -1)[:4], compression="zlib", metadata={"axes": "YXC"}, **CM)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(bytes(2**24)) for _ in range(6)), packer.flush()])
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(packed)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[1].aspage()
        for name, value, values in (
            ("StripOffsets", size, page.dataoffsets),
            ("StripByteCounts", len(packed), page.databytecounts),
        ):
            page.tags[name].overwrite([value, *values[1:]], dtype="I")
    return Made(path, options={"um_per_px": UM})


# depths that are stated twice


def stack_with(folder: Path, **about: Any) -> Path:
    planes = np.stack([C, C // 2, C // 3])
    return write(folder, planes, ome=True, metadata={"axes": "ZCYX", "PhysicalSizeX": UM, "PhysicalSizeY": UM} | about)


def positions(*depths: float) -> dict[str, Any]:
    z = [depth for depth in depths for _ in (0, 1)]
    return {"Plane": {"PositionZ": z, "PositionZUnit": ["µm"] * len(z)}}


@shape(
    "z-two-steps", "planes 2 um apart by PositionZ and 5 um by PhysicalSizeZ", "refused", "2 um apart .* 5 um", z_stack=True
)
def _(folder: Path) -> Made:
    return Made(stack_with(folder, PhysicalSizeZ=5, **positions(0, 2, 4)))


@shape("z-two-steps-agree", "planes 2 um apart by both, within the play of a stage", "read", z_stack=True)
def _(folder: Path) -> Made:
    path = stack_with(folder, PhysicalSizeZ=2, **positions(0, 2.1, 4.02))
    return Made(path, np.stack([C, C // 2, C // 3]), seen(path))


@shape("z-positions-all-one", "PositionZ that is one for all planes: nobody followed the focus", "read", z_stack=True)
def _(folder: Path) -> Made:
    path = stack_with(folder, **positions(7, 7, 7))
    return Made(path, np.stack([C, C // 2, C // 3]), seen(path))
