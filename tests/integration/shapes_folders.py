"""Shapes of folders, pairs of files and z-stacks: what each is read as, or why it is not."""

from __future__ import annotations

import copy
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from shape import UM, Done, Made, Shape, counts
from vendor_wsi import by_pydicom, frames_of, path_item, put_frames, save, vendor_wsi

from srh_clinic.integration.nio_writer import NioLayout, Scan, write_nio
from srh_clinic.integration.opensrh_writer import write_opensrh
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide

C = counts()
CM = {"resolution": (1e4 / UM,) * 2, "resolutionunit": "CENTIMETER", "photometric": "minisblack"}
SHAPES: list[Shape] = []


def shape(name: str, title: str, done: Done, says: str = "", z_stack: bool = False) -> Callable[..., Any]:
    def keep(make: Callable[[Path], Made]) -> Callable[[Path], Made]:
        SHAPES.append(Shape(name, title, done, make, says, z_stack))
        return make

    return keep


def dicomdir(path: Path) -> None:
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID, index.file_meta.MediaStorageSOPInstanceUID = (
        "1.2.840.10008.1.3.10",
        generate_uid(),
    )
    index.FileSetID, index.FileSetConsistencyFlag, index.DirectoryRecordSequence = "TEST", 0, []
    pydicom.dcmwrite(path, index, enforce_file_format=True)


@shape("beside-dicomdir", "a case beside a DICOMDIR and macOS's ._ files", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.dcm")
    dicomdir(folder / "DICOMDIR")
    (folder / "._a.dcm").write_bytes(path.read_bytes()[:4096])
    return Made(folder, C, by_pydicom(path))


@shape("dicomdir", "a DICOMDIR by its name", "refused", "a DICOMDIR")
def _(folder: Path) -> Made:
    dicomdir(folder / "DICOMDIR")
    return Made(folder / "DICOMDIR")


@shape("export", "an export: a DICOMDIR and a folder", "refused", "a folder in it")
def _(folder: Path) -> Made:
    dicomdir(folder / "DICOMDIR")
    (folder / "DICOM").mkdir()
    save(vendor_wsi(C), folder / "DICOM" / "IM1")
    return Made(folder)


def dual(path: Path) -> Path:
    """Make a raw DICOM file a TIFF as well, one page a channel (PS3.10 7.1): the pages lie behind trailing padding."""
    header, content = pydicom.dcmread(path), bytearray(path.read_bytes())
    start, per = bytes(content).rindex(header.PixelData), int(header.NumberOfFrames) // 2
    frame_bytes, base = header.Rows * header.Columns * 2, len(content) + 12
    out, directories = bytearray(), []
    for channel in (0, 1):
        offsets = base + len(out)
        out += struct.pack(f"<{per}L", *[start + (channel * per + k) * frame_bytes for k in range(per)])
        lengths = base + len(out)
        out += struct.pack(f"<{per}L", *[frame_bytes] * per)
        resolution = base + len(out)
        out += struct.pack("<LL", round(1e4 / UM * 1000), 1000)
        width, height = header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
                (282, 5, 1, resolution), (283, 5, 1, resolution), (296, 3, 1, 3), (322, 4, 1, header.Columns),
                (323, 4, 1, header.Rows), (324, 4, per, offsets), (325, 4, per, lengths)]  # fmt: skip
        directories.append(base + len(out))
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", *tag) for tag in tags) + bytes(4)
    at = directories[0] - base + 2 + 12 * 13
    out[at : at + 4] = struct.pack("<L", directories[1])
    content += b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", len(out)) + out
    content[:8] = b"II*\0" + struct.pack("<L", directories[0])
    path.write_bytes(content)
    return path


@shape("dual-personality", "a DICOM file whose preamble makes it a TIFF as well", "read")
def _(folder: Path) -> Made:
    items = [path_item("1", "SRS 2930 cm-1"), path_item("2", "SRS 2845 cm-1")]
    path = dual(save(vendor_wsi(C[::-1], items), folder / "case.dcm"))
    assert (tifffile.imread(path) == C[::-1]).all()
    return Made(path, C, by_pydicom(path, order=(1, 0)))


def halves(folder: Path, **attributes: Any) -> Path:
    for number, text in enumerate(("SRS 2845 cm-1", "SRS 2930 cm-1")):
        header = vendor_wsi(C[number : number + 1], [path_item("1", text)])
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3", f"1.2.3.4{number}", "1.2.3.5"
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
        save(header, folder / f"{number}.dcm")
    return folder


def both_by_pydicom(folder: Path) -> np.ndarray:
    return np.concatenate([by_pydicom(folder / f"{number}.dcm", order=(0,)) for number in (0, 1)])  # type: ignore[arg-type]


@shape("two-series", "each Raman shift a series of its own in one study", "read")
def _(folder: Path) -> Made:
    return Made(halves(folder), C, both_by_pydicom(folder))


@shape("two-series-named", "the same by one of its files", "read")
def _(folder: Path) -> Made:
    return Made(halves(folder) / "1.dcm", C, both_by_pydicom(folder))


@shape("two-series-elsewhere", "two series without a common frame of reference", "refused", "two series of one case")
def _(folder: Path) -> Made:
    halves(folder)
    header = pydicom.dcmread(folder / "1.dcm")
    header.FrameOfReferenceUID = "1.2.3.6"
    save(header, folder / "1.dcm")
    return Made(folder)


@shape("one-uid-two-contents", "two files of one SOP Instance UID and different pixels", "refused", "one SOP Instance UID")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    save(header, folder / "new.dcm")
    put_frames(header, list(frames_of(header) // 2))
    save(header, folder / "old.dcm")
    return Made(folder)


@shape("one-uid-named", "the same, one of both named", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    save(header, folder / "new.dcm")
    put_frames(header, list(frames_of(header) // 2))
    save(header, folder / "old.dcm")
    return Made(folder / "new.dcm", C, by_pydicom(folder / "new.dcm"))


@shape("one-uid-twice", "two copies of one instance whose file meta differ", "read")
def _(folder: Path) -> Made:
    header = vendor_wsi(C)
    save(header, folder / "a.dcm")
    again = copy.deepcopy(header)
    again.file_meta.SourceApplicationEntityTitle = "OTHER"
    save(again, folder / "b.dcm")
    return Made(folder, C, by_pydicom(folder / "a.dcm"))


def tissue(height: int = 256, width: int = 512) -> np.ndarray:
    return simulate_case("tumor", 0.9, width, 1).counts[:, :height]


def strips(folder: Path, layout: NioLayout) -> Made:
    image = tissue()
    write_nio(ArraySlide(image, UM), folder / "case", layout, Scan(256, 0))
    files = sorted((folder / "case").rglob("*.dcm"), key=lambda file: (len(file.name), file.name))
    by_channel = [files[::2], files[1::2]]
    other = [np.concatenate([pydicom.dcmread(file).pixel_array for file in of], axis=1) for of in by_channel]
    return Made(folder / "case", image, np.stack(other))


@shape("nio", "strips of an NIO imager, a folder for each channel", "noted", "strips of an NIO imager")
def _(folder: Path) -> Made:
    return strips(folder, "folders")


@shape("nio-by-mosaic", "strips of an NIO imager by mosaic and strip (`img1_2_*.dcm`)", "noted", "strips of an NIO imager")
def _(folder: Path) -> Made:
    return strips(folder, "mosaic")


@shape("nio-numbered", "numbered strips of an NIO imager, channels in turn", "noted", "strips of an NIO imager")
def _(folder: Path) -> Made:
    return strips(folder, "numbered")


@shape("nio-empty", "folders for strips of an NIO imager without any", "refused", "strips of an NIO imager")
def _(folder: Path) -> Made:
    (folder / "strips" / "CH2").mkdir(parents=True)
    (folder / "strips" / "CH3").mkdir()
    return Made(folder)


@shape("nio-missing", "the same with a strip missing", "refused", "no strip 4")
def _(folder: Path) -> Made:
    made = strips(folder, "numbered")
    (folder / "case" / "NIO001_1_4.dcm").unlink()
    return Made(made.path)


@shape("opensrh", "a slide of an OpenSRH tree", "noted", "patches of OpenSRH side by side")
def _(folder: Path) -> Made:
    write_opensrh(folder / "tree", patients=2, patches=4)
    place = folder / "tree" / "studies" / "NIO_002" / "1"
    patches = [tifffile.imread(file) for file in sorted((place / "patches").iterdir())]
    whole = np.concatenate([np.concatenate(patches[row : row + 2], axis=2) for row in (0, 2)], axis=1)
    return Made(place, whole, whole)


@shape("opensrh-patients", "an OpenSRH tree of several patients as one case", "refused", "patients of OpenSRH")
def _(folder: Path) -> Made:
    return Made(write_opensrh(folder / "tree", patients=2, patches=1))


@shape("opensrh-empty", "metadata of OpenSRH that list nothing", "refused", "OpenSRH")
def _(folder: Path) -> Made:
    (folder / "meta").mkdir()
    (folder / "meta" / "opensrh.json").write_text("{}")
    return Made(folder)


@shape("pipe", "a pipe in place of a file", "refused", "a pipe")
def _(folder: Path) -> Made:
    os.mkfifo(folder / "case.dcm")
    return Made(folder / "case.dcm")


@shape("device", "a device in place of a file", "refused", "a device")
def _(folder: Path) -> Made:
    return Made(Path(os.devnull))


# pairs


def single(folder: Path, name: str, image: np.ndarray, **more: Any) -> Path:
    path = folder / name
    tifffile.imwrite(path, image, **CM, **more)
    return path


@shape("pair", "two single-channel TIFFs, CH2's first", "read")
def _(folder: Path) -> Made:
    files = [single(folder, name, image) for name, image in zip(("a.tif", "b.tif"), C, strict=True)]
    return Made(files, C, np.stack([tifffile.imread(file) for file in files]))


@shape("pair-named", "two single-channel TIFFs whose names say which is which, in the other order", "read")
def _(folder: Path) -> Made:
    files = [single(folder, f"case_{name}.tif", image) for name, image in zip(("CH2", "CH3"), C, strict=True)]
    return Made(files[::-1], C, np.stack([tifffile.imread(file) for file in files]))


@shape("pair-answered", "two single-channel TIFFs with --channels CH3,CH2", "read")
def _(folder: Path) -> Made:
    files = [single(folder, name, image) for name, image in zip(("a.tif", "b.tif"), C[::-1], strict=True)]
    return Made(files, C, np.stack([tifffile.imread(file) for file in files])[::-1], {"channels": "CH3,CH2"})


@shape("pair-folder", "a folder of two single-channel TIFFs named by channel", "read")
def _(folder: Path) -> Made:
    files = [single(folder, f"{name}.tif", image) for name, image in zip(("lipid", "protein"), C, strict=True)]
    return Made(folder, C, np.stack([tifffile.imread(file) for file in files]))


@shape("pair-of-one", "two TIFFs of one Raman shift", "asked", "two channels of one Raman shift")
def _(folder: Path) -> Made:
    return Made([single(folder, f"{name}.tif", C[0]) for name in ("CH2_a", "CH2_b")])


@shape("pair-of-two-sizes", "two TIFFs of two sizes", "refused", "two of one size|channels of")
def _(folder: Path) -> Made:
    return Made([single(folder, "a.tif", C[0]), single(folder, "b.tif", C[1, :64])])


@shape("pair-dicom", "two DICOM files of one optical path each, by name", "read")
def _(folder: Path) -> Made:
    halves(folder)
    return Made([folder / "1.dcm", folder / "0.dcm"], C, both_by_pydicom(folder))


# z-stacks


def planes(folder: Path, *names: str) -> np.ndarray:
    """Two-channel TIFFs, the first as it is, each next one darker; what tifffile sees of each in the same order."""
    for number, name in enumerate(names):
        tifffile.imwrite(folder / name, (C // (number + 1) + 5000).astype(np.uint16), **CM)
    return np.stack([tifffile.imread(folder / name) for name in names])


def stack_of(*names: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        right = np.stack([(C // (number + 1) + 5000).astype(np.uint16) for number in range(len(names))])
        return Made(folder, right, planes(folder, *names), {"spacing_um": 1.0})

    return make


shape("z-signed", "planes z-10, z-5, z0: signs count", "read", z_stack=True)(stack_of("z-10.tif", "z-5.tif", "z0.tif"))
shape("z-decimal", "planes z_0.5, z_1.0, z_1.5", "read", z_stack=True)(stack_of("z_0.5.tif", "z_1.0.tif", "z_1.5.tif"))
shape("z-numbers", "planes z2, z10", "read", z_stack=True)(stack_of("z2.tif", "z10.tif"))
shape("z-before-channel", "planes a_z001_ch00, a_z002_ch00", "read", z_stack=True)(
    stack_of("a_z001_ch00.tif", "a_z002_ch00.tif")
)
shape("z-dashed", "planes scan-001, scan-002: a dash between", "read", z_stack=True)(stack_of("scan-001.tif", "scan-002.tif"))


@shape("z-unsure", "planes z-1, z-2: a sign or a dash between", "asked", "sign", z_stack=True)
def _(folder: Path) -> Made:
    planes(folder, "z-1.tif", "z-2.tif")
    return Made(folder)


@shape("z-two-numbers", "planes of which two numbers differ", "asked", "last number", z_stack=True)
def _(folder: Path) -> Made:
    planes(folder, "t1_p10.tif", "t2_p20.tif")
    return Made(folder)


@shape("z-p-decimal", "planes z0p5, z1p0", "asked", "decimal point", z_stack=True)
def _(folder: Path) -> Made:
    planes(folder, "z0p5.tif", "z1p0.tif")
    return Made(folder)


@shape("z-channel-files", "a file a plane and channel: z1_CH2, z1_CH3, z2_CH2, z2_CH3", "read", z_stack=True)
def _(folder: Path) -> Made:
    seen = []
    for number in (1, 2):
        for name, image in zip(("CH2", "CH3"), C // number, strict=True):
            seen.append(tifffile.imread(single(folder, f"z{number}_{name}.tif", image)))
    return Made(folder, np.stack([C, C // 2]), np.stack(seen).reshape(2, *C.shape))


@shape("z-labels", "an ImageJ z-stack whose slice labels say 2930, 2845", "read", z_stack=True)
def _(folder: Path) -> Made:
    right = np.stack([C, C // 2])
    about = {"axes": "ZCYX", "unit": "um", "spacing": 2.0, "Labels": ["2930", "2845"] * 2}
    options = {"photometric": "minisblack", "imagej": True, "resolution": (1 / UM,) * 2}
    tifffile.imwrite(folder / "z.tif", np.ascontiguousarray(right[:, ::-1]), **options, metadata=about)
    return Made(folder / "z.tif", right, tifffile.imread(folder / "z.tif")[:, ::-1])


@shape("z-plane", "one plane of a TIFF z-stack by --plane", "noted", "focal plane 2 of 2")
def _(folder: Path) -> Made:
    about = {"axes": "ZCYX", "PhysicalSizeX": UM, "PhysicalSizeY": UM, "Channel": {"Name": ["CH2", "CH3"]}}
    tifffile.imwrite(folder / "z.ome.tif", np.stack([C, C // 2]), photometric="minisblack", ome=True, metadata=about)
    return Made(folder / "z.ome.tif", C // 2, tifffile.imread(folder / "z.ome.tif")[1], {"plane": 2})


@shape("z-series", "DICOM series at several depths beside a DICOMDIR", "read", z_stack=True)
def _(folder: Path) -> Made:
    for number in (1, 0):
        header = vendor_wsi(C // (number + 1))
        header.StudyInstanceUID = "1.2.3"
        header.TotalPixelMatrixOriginSequence[0].ZOffsetInSlideCoordinateSystem = number * 2.0
        save(header, folder / f"{1 - number}.dcm")
    dicomdir(folder / "DICOMDIR")
    return Made(folder, np.stack([C, C // 2]), np.stack([by_pydicom(folder / "1.dcm"), by_pydicom(folder / "0.dcm")]))


@shape("json-in-place", "a file of another kind", "refused", "a text file")
def _(folder: Path) -> Made:
    (folder / "case.dcm").write_text(json.dumps({"a": 1}))
    return Made(folder / "case.dcm")


# further folders, pairs and stacks


def linked(folder: Path, how: str) -> Made:
    first = single(folder, "a.tif", C[0])
    second = folder / "b.tif"
    if how == "link":
        second.symlink_to(first)
    elif how == "hard":
        os.link(first, second)
    else:
        second = folder / ".." / folder.name / "a.tif"
    return Made([first, second])


for _how, _title in {"link": "a link", "hard": "a second name", "path": "another path"}.items():
    shape(f"pair-{_how}", f"one file twice, by {_title}", "refused", "one file twice")(lambda f, h=_how: linked(f, h))


@shape("pair-ome-names", "two files named _CH3.ome.tif and _CH2.ome.tif", "read")
def _(folder: Path) -> Made:
    files = [
        single(folder, f"x_{name}.ome.tif", image, metadata=None) for name, image in zip(("CH3", "CH2"), C[::-1], strict=True)
    ]
    return Made(files, C, np.stack([tifffile.imread(file) for file in files])[::-1])


@shape("pair-turned", "two files of two Orientations", "noted", "Orientation 3")
def _(folder: Path) -> Made:
    first = single(folder, "a.tif", C[0], metadata=None)
    second = single(folder, "b.tif", C[1, ::-1, ::-1].copy(), metadata=None, extratags=[(274, "H", 1, 3, False)])
    return Made([first, second], C, np.stack([tifffile.imread(first), tifffile.imread(second)[::-1, ::-1]]))


@shape(
    "pair-of-bits",
    "12 bits stated in one of two files alone",
    "asked",
    "a channel of 12 bits and one that does not.*--full-scale",
)
def _(folder: Path) -> Made:
    about = {"axes": "YX", "PhysicalSizeX": UM, "PhysicalSizeY": UM, "SignificantBits": 12}
    tifffile.imwrite(folder / "a.tif", C[0] // 16, photometric="minisblack", ome=True, metadata=about)
    return Made([folder / "a.tif", single(folder, "b.tif", C[1] // 16)])


@shape("pair-plane", "two TIFFs of one focal plane each with --plane 2", "refused", "--plane 2 of 1 focal planes")
def _(folder: Path) -> Made:
    return Made([single(folder, f"{name}.tif", image) for name, image in zip("ab", C, strict=True)], options={"plane": 2})


@shape("pair-plane-of-one", "two TIFFs of one focal plane each with --plane 1", "read")
def _(folder: Path) -> Made:
    files = [single(folder, f"{name}.tif", image) for name, image in zip("ab", C, strict=True)]
    return Made(files, C, np.stack([tifffile.imread(file) for file in files]), {"plane": 1})


@shape("pair-folder-text", "a folder of two single-channel TIFFs beside a text", "read")
def _(folder: Path) -> Made:
    files = [single(folder, f"x_{name}.tif", image) for name, image in zip(("CH2", "CH3"), C, strict=True)]
    (folder / "readme.txt").write_text("x")
    return Made(folder, C, np.stack([tifffile.imread(file) for file in files]))


@shape("tiff-named-dcm", "a TIFF named .dcm", "read")
def _(folder: Path) -> Made:
    tifffile.imwrite(folder / "a.dcm", C, metadata=None, **CM)
    return Made(folder / "a.dcm", C, tifffile.imread(folder / "a.dcm"))


@shape("dicom-named-tif", "a DICOM file named .tif beside a TIFF named .dcm, by the folder", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.tif")
    tifffile.imwrite(folder / "b.dcm", C // 2, metadata=None, **CM)
    return Made(folder, C, by_pydicom(path))


@shape("beside-pipe", "a case beside a pipe and a link to a device", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.dcm")
    os.mkfifo(folder / "b.dcm")
    (folder / "c.dcm").symlink_to("/dev/zero")
    return Made(folder, C, by_pydicom(path))


@shape("beside-bomb", "a case beside a deflated DICOM file of some kilobytes that holds gigabytes", "read")
def _(folder: Path) -> Made:
    import zlib

    path = save(vendor_wsi(C), folder / "a.dcm")
    other = vendor_wsi(C)
    other.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    bomb = save(other, folder / "b.dcm")
    encoder = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb.write_bytes(bomb.read_bytes()[:400] + encoder.compress(bytes(2**25)) + encoder.flush())
    return Made(path, C, by_pydicom(path))


@shape("link-to-pipe", "a link to a pipe", "refused", "a pipe")
def _(folder: Path) -> Made:
    os.mkfifo(folder / "p")
    (folder / "a.tif").symlink_to(folder / "p")
    return Made(folder / "a.tif")


@shape("link-in-circle", "a link in a circle", "refused", "symbolic links")
def _(folder: Path) -> Made:
    (folder / "a.tif").symlink_to(folder / "b.tif")
    (folder / "b.tif").symlink_to(folder / "a.tif")
    return Made(folder / "a.tif")


shape("empty-name", "an empty name, which is not the working folder", "refused", "an empty name")(lambda folder: Made(""))


@shape("no-directory", "a TIFF whose directory is empty", "refused", "a page without pixels")
def _(folder: Path) -> Made:
    (folder / "a.tif").write_bytes(b"II*\0" + (8).to_bytes(4, "little") + bytes(6))
    return Made(folder / "a.tif")


def layout(*names: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")
        return Made(folder)

    return make


for _key, _title, _says, _name in [
    ("nio-above", "a folder above the strips of an NIO imager", "NIO_001.*strips of an NIO", "NIO_001/1/strips/CH2/a.dcm"),
    ("nio-mosaic-above", "a folder above the mosaic of an NIO imager", "mosaic of an NIO imager", "1/mosaic/mosaic.dcm"),
    ("opensrh-above", "a folder above patches of OpenSRH", "patches as OpenSRH", "NIO_001/1/patches/a.tif"),
    ("export-above", "an export of folders in folders", r"a folder in it \(PAT0\)", "PAT0/STU0/SER0/IMG0"),
]:
    shape(_key, _title, "refused", _says)(layout(_name))

shape("z-minus-sign", "planes z−2, z−1, z0 with a true minus sign", "read", z_stack=True)(
    stack_of("z−2.tif", "z−1.tif", "z0.tif")
)
shape("z-um", "planes Z_-1.0um, Z_0.0um, Z_1.0um", "read", z_stack=True)(
    stack_of("Z_-1.0um.tif", "Z_0.0um.tif", "Z_1.0um.tif")
)
shape("z-comma", "planes z1,5 and z2,0", "read", z_stack=True)(stack_of("z1,5.tif", "z2,0.tif"))
shape("z-plus", "planes z+1, z+2", "read", z_stack=True)(stack_of("z+1.tif", "z+2.tif"))


@shape("z-one-number-twice", "planes z1 and z01", "refused", "same number", z_stack=True)
def _(folder: Path) -> Made:
    planes(folder, "z1.tif", "z01.tif")
    return Made(folder)


@shape("z-czyx", "a z-stack of axes CZYX, one plane of it", "noted", "focal plane 2 of 2")
def _(folder: Path) -> Made:
    about = {"axes": "CZYX", "PhysicalSizeX": UM, "PhysicalSizeY": UM}
    tifffile.imwrite(folder / "z.ome.tif", np.stack([C, C // 2], 1), photometric="minisblack", ome=True, metadata=about)
    return Made(folder / "z.ome.tif", C // 2, tifffile.imread(folder / "z.ome.tif")[:, 1], {"plane": 2})


# each channel a z-stack in a file of its own, as Fiji's Split Channels saves them

DEPTHS = np.stack([C, C // 2, C // 3])


def stacks(
    folder: Path, names: tuple[str, str], planes: tuple[int, int] = (3, 3), spacing: tuple[float, float] = (2, 2)
) -> Any:
    """Two ImageJ stacks of slices, CH2's first."""
    files = []
    for channel, (name, n, step) in enumerate(zip(names, planes, spacing, strict=True)):
        about = {"axes": "ZYX", "unit": "um", "spacing": step}
        tifffile.imwrite(folder / f"{name}.tif", DEPTHS[:n, channel], imagej=True, resolution=(1 / UM,) * 2, metadata=about)
        files.append(folder / f"{name}.tif")
    return files


def stacks_seen(files: list[Path]) -> np.ndarray:
    return np.stack([tifffile.imread(file) for file in files], axis=1)


@shape("pair-stacks", "two ImageJ z-stacks, one a channel, as a z-stack", "read", z_stack=True)
def _(folder: Path) -> Made:
    files = stacks(folder, ("C1-a", "C2-a"))
    return Made(files, DEPTHS, stacks_seen(files))


@shape("pair-stacks-named", "the same, whose names say which is which, in the other order", "read", z_stack=True)
def _(folder: Path) -> Made:
    files = stacks(folder, ("a_2845", "a_2930"))
    return Made(files[::-1], DEPTHS, stacks_seen(files))


@shape("pair-stacks-folder", "a folder of two z-stacks named by channel", "read", z_stack=True)
def _(folder: Path) -> Made:
    files = stacks(folder, ("a_CH2", "a_CH3"))
    return Made(folder, DEPTHS, stacks_seen(files))


@shape("pair-stacks-plane", "one plane of two z-stacks by --plane", "noted", "focal plane 2 of 3, at 2 um")
def _(folder: Path) -> Made:
    files = stacks(folder, ("a", "b"))
    return Made(files, DEPTHS[1], stacks_seen(files)[1], {"plane": 2})


@shape("pair-stacks-no-plane", "two z-stacks where one plane is needed", "asked", "--plane 1..3")
def _(folder: Path) -> Made:
    return Made(stacks(folder, ("a", "b")))


@shape(
    "pair-stacks-of-two-lengths", "z-stacks of three and of two planes", "refused", "3 focal planes of CH2 and 2", z_stack=True
)
def _(folder: Path) -> Made:
    return Made(stacks(folder, ("a", "b"), (3, 2)))


@shape(
    "pair-stacks-at-two-depths", "z-stacks whose planes lie at other depths", "refused", "plane 2 of CH2 at 2 um", z_stack=True
)
def _(folder: Path) -> Made:
    return Made(stacks(folder, ("a", "b"), spacing=(2, 3)))


@shape(
    "pair-of-one-plane-as-stack", "two TIFFs of one focal plane as a z-stack", "refused", "of one focal plane", z_stack=True
)
def _(folder: Path) -> Made:
    return Made([single(folder, f"{name}.tif", image) for name, image in zip("ab", C, strict=True)])


# what is said inside of files of one channel; files that do not belong together


def said_inside(folder: Path, about: dict[str, dict[str, Any]]) -> Made:
    """CH3's file first, unnamed, each with something said within."""
    files = []
    for (name, more), image in zip(about.items(), C[::-1], strict=True):
        tifffile.imwrite(
            folder / name, image, **({"metadata": None} | (CM if "imagej" not in more and "ome" not in more else {}) | more)
        )
        files.append(folder / name)
    return Made(files, C, np.stack([tifffile.imread(file) for file in files[::-1]]))


OF_ONE = {"axes": "YX", "PhysicalSizeX": UM, "PhysicalSizeY": UM}
IJ = {"imagej": True, "resolution": (1 / UM,) * 2}
for _key, _title, _inside in [
    ("description", "a description in each", [{"description": "CH3 2930"}, {"description": "CH2 2845"}]),
    ("page-name", "a PageName in each", [{"extratags": [(285, "s", 0, name, True)]} for name in ("CH3", "CH2")]),
    ("json", "tifffile's JSON in each", [{"metadata": {"channel": name}} for name in ("CH3", "CH2")]),
    ("json-shift", "a raman_shift in tifffile's JSON of each", [{"metadata": {"raman_shift": cm}} for cm in (2930, 2845)]),
    (
        "image-name",
        "the name of the OME Image in each",
        [{"ome": True, "metadata": OF_ONE | {"Name": n}} for n in ("2930", "2845")],
    ),
    ("info", "ImageJ's Info in each", [{**IJ, "metadata": {"unit": "um", "Info": f"Name = SRS {n}"}} for n in (2930, 2845)]),
]:

    @shape(f"pair-inside-{_key}", f"two files of one channel each, CH3's first, with {_title}", "read")
    def _(folder: Path, inside: list[dict[str, Any]] = _inside) -> Made:
        return said_inside(folder, dict(zip(("a.tif", "b.tif"), inside, strict=True)))


@shape("pair-inside-against-name", "files whose descriptions and names say the opposite", "asked", "--channels")
def _(folder: Path) -> Made:
    return said_inside(folder, {"x_CH2.tif": {"description": "CH3"}, "x_CH3.tif": {"description": "CH2"}})


@shape("pair-one-dim", "one of two files without a value above 4095 and without its bits", "asked", "--full-scale 4096")
def _(folder: Path) -> Made:
    return Made([single(folder, "CH2.tif", C[0] // 16), single(folder, "CH3.tif", C[1])])


@shape("pair-folder-of-two", "a folder of CH2 of one field and CH3 of another", "refused", "a folder of 2 TIFFs")
def _(folder: Path) -> Made:
    single(folder, "fieldA_CH2.tif", C[0])
    single(folder, "fieldB_CH3.tif", C[1])
    return Made(folder)


@shape("z-one-file-twice", "a focal plane that is there twice, by a link", "refused", "one file twice", z_stack=True)
def _(folder: Path) -> Made:
    for number in (1, 2):
        tifffile.imwrite(folder / f"z{number}.tif", C, metadata=None, **CM)
    (folder / "z3.tif").symlink_to(folder / "z1.tif")
    return Made(folder)


@shape(
    "series-description-of-both",
    "files of one path each in a series of CH2 and CH3: wavelengths decide",
    "read",
)
def _(folder: Path) -> Made:
    files = []
    for number, (image, nm) in enumerate(zip(C, (1019.03, 1027.94), strict=True), start=1):
        header = vendor_wsi(image[None], [path_item(str(number), "", nm)])
        if files:
            first = pydicom.dcmread(files[0])
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                setattr(header, keyword, first.get(keyword))
        header.SeriesDescription = "SRH CH2 and CH3"
        files.append(save(header, folder / f"{number}.dcm"))
    return Made(folder, C, np.concatenate([by_pydicom(file, order=(0,)) for file in files]))


@shape("beside-zeros", "a case beside a DICOM file of gigabytes of zeros", "read")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.dcm")
    with (folder / "b.dcm").open("wb") as file:
        file.write(bytes(128) + b"DICM")
        file.truncate(2**33)
    return Made(folder, C, by_pydicom(path))


for _name, _start, _said in [
    ("czi", b"ZISRAWFILE", "a CZI file of Zeiss"),
    ("nd2", b"\xda\xce\xbe\x0a", "an ND2 file of Nikon"),
    ("mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    ("npy", b"\x93NUMPY\x01\0", "a NumPy array"),
    ("tdms", b"TDSm", "a TDMS file of LabVIEW"),
    ("oib", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a compound file"),
]:

    @shape(f"format-{_name}", f"{_said}, by its first bytes", "refused", _said)
    def _(folder: Path, name: str = _name, start: bytes = _start) -> Made:
        (folder / f"a.{name}").write_bytes(start + bytes(600))
        return Made(folder / f"a.{name}")


@shape("no-preamble", "a DICOM data set without its preamble", "refused", "without the preamble")
def _(folder: Path) -> Made:
    path = save(vendor_wsi(C), folder / "a.dcm")
    path.write_bytes(path.read_bytes()[132:])
    return Made(path)
