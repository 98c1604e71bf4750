"""Small valid files of every kind that is read, made in code, and the public door through which each is read."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tifffile
from pydicom.dataset import Dataset

from srh_clinic.slide import ArraySlide, Identity, Slide

TILE = 32
HEIGHT, WIDTH = 40, 50


@dataclass(frozen=True)
class Seed:
    """A valid input: its files by name, which of them is mutated and how it is written, and what opens its folder."""

    name: str
    files: dict[str, bytes]
    mutated: str
    format: str
    open: Callable[[Path], object]
    prepare: Callable[[Path], None] | None = None
    """What makes the other files agree with the mutated one, so that the mutation is not found by a checksum alone."""


def seeds(group: str) -> list[Seed]:
    """The valid inputs of a group: ``dicom``, ``tiff``, ``z_stack``, ``json`` or ``bundle``."""
    return {"dicom": _dicom, "tiff": _tiff, "z_stack": _z_stack, "json": _json, "bundle": _bundle}[group]()


GROUPS = ("dicom", "tiff", "z_stack", "json", "bundle")


def counts(edge: int = 0) -> np.ndarray:
    y, x = np.mgrid[0 : HEIGHT + edge, 0 : WIDTH + edge]
    return np.stack([y * 230 + x * 31, 65535 - (y * 230 + x * 17)]).astype(np.uint16)


def _look(slide: Slide) -> None:
    """Read a slide at its corners."""
    height, width = slide.shape
    rows, columns = min(height, 48), min(width, 48)
    slide.read(0, 0, rows, columns)
    slide.read(height - rows, width - columns, rows, columns)


def _open_slide(name: str, **options: Any) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        from srh_clinic.integration import read_slide

        slide = read_slide(folder / name, **options)
        _look(slide)
        return slide.notes

    return opened


def _open_stack(name: str, **options: Any) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        from srh_clinic.integration import read_z_stack

        planes = read_z_stack(folder / name, **options)
        for plane in planes[:3]:
            _look(plane.slide)
        return len(planes)

    return opened


# DICOM


def _written(name: str, **options: Any) -> dict[str, bytes]:
    """What ``write_wsi`` writes under a name."""
    from srh_clinic.integration import dicom_writer

    edge, dicom_writer.FRAME_PX = dicom_writer.FRAME_PX, TILE
    try:
        with tempfile.TemporaryDirectory() as folder:
            slide = ArraySlide(counts(), 0.47, Identity(patient_id="P1", specimen_id="S1"))
            files = dicom_writer.write_wsi(slide, Path(folder) / name, **options)
            return {str(file.relative_to(folder)): file.read_bytes() for file in files}
    finally:
        dicom_writer.FRAME_PX = edge


def changed(content: bytes, change: Callable[[Dataset], None]) -> bytes:
    """A DICOM file after a change to its data set, its sequences of undefined length."""
    header = pydicom.dcmread(io.BytesIO(content))
    change(header)
    for element in header.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    into = io.BytesIO()
    header.save_as(into)
    return into.getvalue()


def sparse(header: Dataset) -> None:
    """Positions frame by frame, as TILED_SPARSE has them."""
    across = -(-header.TotalPixelMatrixColumns // header.Columns)
    per_path = int(header.NumberOfFrames) // len(header.OpticalPathSequence)
    header.DimensionOrganizationType = "TILED_SPARSE"
    header.PerFrameFunctionalGroupsSequence = []
    for i in range(int(header.NumberOfFrames)):
        position, path_item, group = Dataset(), Dataset(), Dataset()
        position.RowPositionInTotalImagePixelMatrix = i % per_path // across * header.Rows + 1
        position.ColumnPositionInTotalImagePixelMatrix = i % across * header.Columns + 1
        path_item.OpticalPathIdentifier = header.OpticalPathSequence[i // per_path].OpticalPathIdentifier
        group.PlanePositionSlideSequence, group.OpticalPathIdentificationSequence = [position], [path_item]
        header.PerFrameFunctionalGroupsSequence.append(group)


def _two_planes(header: Dataset) -> None:
    header.TotalPixelMatrixFocalPlanes = 2
    header.NumberOfFrames = 2 * int(header.NumberOfFrames)
    half = len(header.PixelData) // 2
    one, two = header.PixelData[:half], header.PixelData[half:]
    header.PixelData = one + one + two + two
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.002


def _dicom() -> list[Seed]:
    found = []
    for syntax in ("raw", "jpeg-ls", "rle", "jpeg-2000"):
        files = _written("slide.dcm", transfer_syntax=syntax)
        files = {"slide.dcm": changed(files["slide.dcm"], lambda header: None)}
        found.append(Seed(f"dicom-{syntax}", files, "slide.dcm", "dicom", _open_slide("slide.dcm")))
    files = {"slide.dcm": changed(_written("slide.dcm", transfer_syntax="raw")["slide.dcm"], sparse)}
    found.append(Seed("dicom-sparse", files, "slide.dcm", "dicom", _open_slide("slide.dcm")))
    files = _written("case", transfer_syntax="jpeg-ls")
    name = "case/SRS2930.dcm"
    files[name] = changed(files[name], lambda header: None)
    found.append(Seed("dicom-folder", files, name, "dicom", _open_slide("case")))
    # the mutated file lies by a good one, which is the one that is asked for
    found.append(Seed("dicom-sibling", files, name, "dicom", _open_slide("case/SRS2845.dcm")))
    return found


# TIFF

_TAGS: dict[str, Any] = {"resolution": (21276.6, 21276.6), "resolutionunit": "CENTIMETER", "photometric": "minisblack"}


def _tif(image: np.ndarray, **options: Any) -> bytes:
    into = io.BytesIO()
    tifffile.imwrite(into, image, **{**_TAGS, **options})
    return into.getvalue()


def _ome(axes: str, **more: Any) -> dict[str, Any]:
    names = {"Channel": {"Name": ["CH2 2845 cm-1", "CH3 2930 cm-1"]}}
    return {"axes": axes, "PhysicalSizeX": 0.47, "PhysicalSizeY": 0.47, "SignificantBits": 16, **names, **more}


def _tiff() -> list[Seed]:
    image = counts()
    kinds = {
        "pages": _tif(image, metadata=None),
        "ome": _tif(image, ome=True, metadata=_ome("CYX")),
        "imagej": _tif(
            image, imagej=True, resolution=(2.1276, 2.1276), resolutionunit="NONE", metadata={"unit": "um", "axes": "CYX"}
        ),
        "shaped": _tif(image, metadata={"axes": "CYX", "channels": ["CH2", "CH3"]}),
        "tiles": _tif(image, metadata=None, tile=(32, 32), compression="zlib", predictor=True),
        "strips": _tif(image, metadata=None, rowsperstrip=8, compression="lzma"),
        "big": _tif(image, ome=True, metadata=_ome("CYX"), bigtiff=True, byteorder=">"),
        "interleaved": _tif(np.moveaxis(image, 0, 2), metadata=None, planarconfig="contig", compression="zlib"),
        "eight": _tif((image >> 8).astype(np.uint8), metadata=None),
        "packbits": _tif((image >> 8).astype(np.uint8), metadata=None, compression=None, rowsperstrip=5),
    }
    found = [Seed(f"tiff-{name}", {"x.tif": file}, "x.tif", "tiff", _open_slide("x.tif")) for name, file in kinds.items()]
    halves = {f"pair/CH{n}.tif": _tif(one, metadata=None) for n, one in zip((2, 3), image, strict=True)}
    return [*found, Seed("tiff-pair", halves, "pair/CH3.tif", "tiff", _open_slide("pair"))]


def _z_stack() -> list[Seed]:
    image = np.stack([counts(), counts()[::-1], counts()])
    dicom = changed(_written("slide.dcm", transfer_syntax="raw")["slide.dcm"], _two_planes)
    ome = _tif(image, ome=True, metadata=_ome("ZCYX", PhysicalSizeZ=2.0))
    imagej = _tif(
        image, imagej=True, resolution=(2.1276, 2.1276), resolutionunit="NONE", metadata={"unit": "um", "axes": "ZCYX"}
    )
    numbered = {f"stack/z{n}.tif": _tif(counts(), metadata=None) for n in (1, 2)}
    return [
        Seed("z-dicom", {"z.dcm": dicom}, "z.dcm", "dicom", _open_stack("z.dcm")),
        Seed("z-ome", {"z.tif": ome}, "z.tif", "tiff", _open_stack("z.tif")),
        Seed("z-imagej", {"z.tif": imagej}, "z.tif", "tiff", _open_stack("z.tif")),
        Seed("z-numbered", numbered, "stack/z2.tif", "tiff", _open_stack("stack", spacing_um=2.0)),
        Seed("z-plane", {"z.tif": ome}, "z.tif", "tiff", _open_slide("z.tif", plane=2)),
    ]


# JSON, JSON lines, CSV, YAML and a viewer's page


def _through(module: str, name: str, file: str, *more: Any) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        from importlib import import_module

        return getattr(import_module(module), name)(folder / file if file else folder, *more)

    return opened


def _open_manifest(folder: Path) -> object:
    from srh_clinic.validation.shift.manifest import cohort_from_predictions, read_manifest

    manifest = read_manifest(folder / "manifest.csv")
    return cohort_from_predictions(manifest) if manifest.has_predictions else manifest


def _json() -> list[Seed]:
    from simulated_study import simulated_study
    from test_record import WHOLE

    from srh_clinic.trust.drift import DriftReference
    from srh_clinic.trust.selective_policy import SelectivePolicy
    from srh_clinic.validation.bench import protocol as bench_protocol
    from srh_clinic.validation.study.records import canonical
    from srh_clinic.validation.study.returns import write_return
    from srh_clinic.validation.study.simulated_raters import Truth, simulated_ratings
    from srh_clinic.validation.study.viewer import END, IMAGES_BEGIN, IMAGES_END, TASKS_BEGIN

    policy = SelectivePolicy(p_restored=0.5, p_agreeing=0.4, p_contradicted=0.9, p_original=0.6)
    rows = {"intensity": [[float(n + q) for q in range(10)] for n in range(25)], "steps": [[5.0, n] for n in range(25)]}
    reference = DriftReference.model_validate(
        {"level": 0.05, "made_with": {"weights_sha256": "0"}, "left_out": 0, "embedding": [[float(n), 1.0] for n in range(25)]}
        | rows
    )
    manifest = (
        "case,patient,truth,site,before_tumor,before_normal,before_nondiagnostic,after_tumor,after_normal,after_nondiagnostic\n"
        + "".join(f"c{n},p{n},tumor,a,0.5,0.25,0.25,0.75,0.125,0.125\n" for n in range(4))
    )
    truth = Truth(preference=dict.fromkeys(("one", "two", "three", "four", "five"), 0.2))
    protocol, tasks, key = simulated_study(truth, images=6, repeats=1, sentinels=1)
    rater = protocol.raters[0].rater_id
    ratings = simulated_ratings(tasks, key, truth, protocol.test)[rater][:4]
    public = canonical(protocol.model_dump(mode="json"))
    listed = canonical([task.model_dump(mode="json") for task in tasks[:2]])
    picture = b'<script type="text/plain" data-img="' + b"0" * 32 + b'">AAAA</script>\n'
    viewer = b"<html>" + TASKS_BEGIN + listed + END + IMAGES_BEGIN + picture + IMAGES_END + b"</html>"
    yaml = Path(bench_protocol.__file__).with_name("protocol.yaml").read_bytes()
    record = canonical(WHOLE)
    study = "srh_clinic.validation.study"
    texts = [
        ("result", "result.json", record, "json", _through("srh_clinic.case", "read_result", "result.json")),
        (
            "policy",
            "policy.json",
            policy.model_dump_json().encode(),
            "json",
            _through("srh_clinic.trust.selective_policy", "load_policy", "policy.json"),
        ),
        (
            "reference",
            "reference.json",
            reference.model_dump_json().encode(),
            "json",
            _through("srh_clinic.trust.drift", "load_reference", "reference.json"),
        ),
        ("manifest", "manifest.csv", manifest.encode(), "csv", _open_manifest),
        ("protocol", "public/protocol.json", public, "json", _through(f"{study}.folder", "read_protocol", "")),
        (
            "return",
            "r.jsonl",
            write_return(ratings, protocol.study_id, rater).encode(),
            "jsonl",
            _through(f"{study}.returns", "read_return", "r.jsonl", protocol.study_id),
        ),
        ("viewer", "viewer.html", viewer, "text", _through(f"{study}.viewer", "read_viewer", "viewer.html")),
        (
            "bench-protocol",
            "protocol.yaml",
            yaml,
            "text",
            _through("srh_clinic.validation.bench.protocol", "load_protocol", "protocol.yaml"),
        ),
    ]
    found = [Seed(f"json-{name}", {file: content}, file, format, opened) for name, file, content, format, opened in texts]
    return [*found, *_tile_store()]


def _tile_store() -> list[Seed]:
    """A folder of finished tiles that a run that was cut has left: it is taken up, or made anew."""
    from srh_clinic.tiling import TileGrid, TileStore

    grid = TileGrid((40, 50), 16, 4)

    def opened(folder: Path) -> object:
        with TileStore(folder / "tiles", grid, "0" * 16) as store:
            return [store.get(i) for i in range(len(grid)) if i in store]

    with tempfile.TemporaryDirectory() as folder:
        with TileStore(Path(folder) / "tiles", grid, "0" * 16) as store:
            for i in range(4):
                store.put(i, np.full((2, 16, 16), i, np.uint16), {"steps": i})
        files = {f"tiles/{file.name}": file.read_bytes() for file in (Path(folder) / "tiles").iterdir()}
    formats = {"store.json": "json", "records.jsonl": "jsonl", "tiles.bin": "bytes"}
    return [Seed(f"store-{name}", files, f"tiles/{name}", format, opened) for name, format in formats.items()]


# bundles


def _bundle() -> list[Seed]:
    import torch

    from srh_clinic.bundles import load_bundle, save_bundle
    from srh_clinic.rscd import create_calibrator, create_denoiser

    torch.manual_seed(0)
    denoiser = {"architecture": "compact-unet", "channels": [8, 16], "norm_num_groups": 8}
    slim = {"channels": [8, 8, 8, 8], "stem_width": 8}
    calibrator = {"architecture": "step-regressor", "backbone": "resnet10t", "stage": 1, "options": slim}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        save_bundle(
            path,
            {
                "denoiser": (denoiser, create_denoiser(denoiser).state_dict()),
                "calibrator": (calibrator, create_calibrator(calibrator).state_dict()),
            },
        )
        files = {f"bundle/{file.relative_to(path)}": file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def opened(folder: Path) -> object:
        bundle = load_bundle(folder / "bundle")
        network = bundle.load_network(create_denoiser, "denoiser", torch.device("cpu"))
        return network, [bundle.load_tensors(part) for part in bundle.own_parts]

    def sealed(folder: Path) -> None:
        path = folder / "bundle" / "configs" / "metadata.json"
        metadata = json.loads(path.read_bytes())
        for name in metadata["sha256"]:
            metadata["sha256"][name] = hashlib.sha256((folder / "bundle" / name).read_bytes()).hexdigest()
        path.write_text(json.dumps(metadata))

    return [
        Seed("bundle-metadata", files, "bundle/configs/metadata.json", "json", opened),
        Seed("bundle-inference", files, "bundle/configs/inference.json", "json", opened, sealed),
        Seed("bundle-weights", files, "bundle/models/denoiser.safetensors", "safetensors", opened, sealed),
        Seed("bundle-unsealed", files, "bundle/models/calibrator.safetensors", "safetensors", opened),
    ]
