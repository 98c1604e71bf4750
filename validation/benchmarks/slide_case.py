"""One measurement of ``benchmark slide`` in a process of its own: ``python slide_case.py ASKED.json``, JSON on stdout.

The build before runs it too, from its own place: nothing is used here that it lacks.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PEAK = "VmHWM:"

KINDS: tuple[Any, ...] = ("tumor", "normal", "nondiagnostic", "mixed")

FIRST_SEED = 8_910_000
"""Of the phantoms whose tiles are restored in both precisions."""


def peak_mb() -> float:
    """The most memory that this process has held so far; NaN where the system does not say it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(PEAK)), float("nan"))


def whole_case(
    slide: str, bundle: str, settings: dict[str, Any], out: str | None = None, whole_set: bool = False
) -> dict[str, Any]:
    """From a file to its result's folder: restored, examined, classified, drawn; networks are loaded before.

    ``whole_set`` writes afterwards everything else that a case can leave as, see :func:`write_whole_set`.
    """
    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.case.provenance import origin_of
    from srh_clinic.integration import read_slide

    pipeline = RestoreThenClassify.from_bundle(bundle, device="cpu", **settings)
    began = time.perf_counter()
    read = read_slide(slide)
    origin = origin_of(read)
    result = pipeline(read, origin=origin)
    found = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result.save(out or folder)
    ended = time.perf_counter()
    peak = peak_mb()
    written = {"writing": write_whole_set(pipeline, read, origin, result)} if whole_set else {}
    restored = result.restored
    evaluations = [restored.store.record(int(index))["evaluations"] for index in restored.index]
    return {
        "wall_s": ended - began,
        "found_s": found - began,
        "saving_s": ended - found,
        "timing": dict(result.timing),
        "tiles": result.tiles.model_dump(),
        "evaluations_per_tile": sum(evaluations) / max(len(evaluations), 1),
        "rounds_per_tile": sum(restored.store.record(int(i))["rounds"] for i in restored.index) / max(len(restored.index), 1),
        "examined": len(result.scrutiny.index),
        "patches": len(result.maps.classes_after.values),
        "diagnosis": result.diagnosis,
        "settings": {key: value for key, value in result.provenance["settings"].items() if key != "selective"},
        "peak_mb": peak,
        **written,
    }


def write_whole_set(pipeline: Any, scan: Any, origin: Any, result: Any) -> dict[str, Any]:
    """Seconds and MB of each thing that other programs are given of a case, and the most memory held until then.

    ``dicom`` is the folder of ``--dicom-out``, of which ``maps_and_report`` is what is no picture of the slide.
    """
    from srh_clinic.case.findings import findings_of, write_fhir, write_qupath
    from srh_clinic.case.workflow import restored_by
    from srh_clinic.integration.ome_tiff import write_ome_tiff
    from srh_clinic.integration.results import write_results
    from srh_clinic.integration.targets import is_of_slide

    seconds, megabytes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made_by = restored_by(pipeline, origin)
        writers: dict[str, Any] = {
            "dicom": lambda to: write_results(findings_of(result, scan), to, restored_by=made_by),
            "qupath": lambda to: write_qupath(scan, result, to),
            "fhir": lambda to: write_fhir(scan, result, to),
            "ome_tiff": lambda to: write_ome_tiff(result.restored.on_scan, to / "restored.ome.tif"),
        }
        for name, write in writers.items():
            (place / name).mkdir()
            began = time.perf_counter()
            write(place / name)
            seconds[name] = time.perf_counter() - began
            megabytes[name] = sum(file.stat().st_size for file in (place / name).iterdir()) / 1e6
        maps = [file for file in (place / "dicom").iterdir() if not is_of_slide(file)]
        megabytes["maps_and_report"] = sum(file.stat().st_size for file in maps) / 1e6
    return {"seconds": seconds, "megabytes": megabytes, "peak_mb": peak_mb()}


def tiles_of(slide: str, limit: int) -> Any:
    """The first tiles of a slide, uint16 ``(N, 2, 256, 256)``, and their corners."""
    import numpy as np

    from srh_clinic.integration import read_slide
    from srh_clinic.tiling import TileGrid, read_tile

    read = read_slide(slide)
    grid = TileGrid(read.shape)
    corners = grid.positions[:limit]
    return np.stack([read_tile(read, y, x, grid.tile) for y, x in corners.tolist()]), corners


def naive_loop(slide: str, bundle: str, limit: int) -> dict[str, Any]:
    """One tile at a time as the released code runs: ancestral, recalibrated every ten steps, nothing skipped, float32."""
    import torch

    from srh_clinic.bundles import load_bundle
    from srh_clinic.rscd import RSCD, RSCDSettings, StepCalibrator, Tile, create_calibrator, create_denoiser, create_schedule

    loaded, device = load_bundle(bundle), torch.device("cpu")
    denoiser = loaded.load_network(create_denoiser, "denoiser", device)
    calibrator = StepCalibrator(loaded.load_network(create_calibrator, "calibrator", device), 1)
    settings = RSCDSettings(sampler="ancestral", profile="official", recalibration_interval=10, batch_size=1)
    rscd = RSCD(denoiser, calibrator.predict, create_schedule(loaded.metadata["schedule"]), settings)
    counts, corners = tiles_of(slide, limit)
    list(rscd.stream([Tile(0, counts[0], 0, 0)]))
    began = time.perf_counter()
    made = [next(rscd.stream([Tile(0, one, int(y), int(x))])) for one, (y, x) in zip(counts, corners, strict=True)]
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tiles": len(made), "evaluations_per_tile": sum(one.evaluations for one in made) / len(made)}


def phantom_tiles(limit: int, size: int = 1024) -> Any:
    """Tiles of phantoms of all kinds and of four qualities, uint16 ``(limit, 2, 256, 256)``: those of each side by side."""
    import numpy as np

    from srh_clinic.simulation import simulate_case

    tiles: list[Any] = []
    for number, (quality, kind) in enumerate((q, k) for q in (0.2, 0.4, 0.6, 0.8) for k in KINDS):
        if len(tiles) >= limit:
            break
        counts = simulate_case(kind, quality, size, FIRST_SEED + number).counts
        edges = range(0, size - 255, 256)
        tiles += [counts[:, y : y + 256, x : x + 256] for y in edges for x in edges]
    return np.stack(tiles[:limit])


def two_precisions(bundle: str, limit: int, size: int = 1024) -> dict[str, Any]:
    """The same tiles in float32 and in bfloat16: the share with the same steps, and how far apart the counts are."""
    import numpy as np

    from srh_clinic.restorers import create_restorer

    counts = phantom_tiles(limit, size)
    made, seconds = [], []
    for precision in ("float32", "bf16"):
        restorer = create_restorer("rscd", bundle, "cpu", precision=precision)
        restorer.restore(counts[:2])
        began = time.perf_counter()
        made.append(restorer.restore(counts))
        seconds.append(time.perf_counter() - began)
    whole, half = made
    apart = half.counts.astype(np.float64) - whole.counts
    return {
        "tiles": len(counts),
        "same_steps": float(np.mean(whole.steps == half.steps)),
        "rms_counts": float(np.sqrt(np.mean(apart**2))),
        "largest_counts": int(np.abs(apart).max()),
        "float32_over_bf16": seconds[0] / seconds[1],
    }


def training_step(bundle: str, engine: bool, steps: int = 8) -> dict[str, Any]:
    """Seconds of a step of the denoiser's training, batches of 16 crops of 64 px, and peak memory."""
    import torch

    from srh_clinic.bundles import load_bundle
    from srh_clinic.rscd import create_denoiser

    network = create_denoiser(load_bundle(bundle).config("denoiser")).train()
    layout = torch.channels_last if engine else torch.contiguous_format
    network = network.to(memory_format=layout)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
    x, t = torch.randn(16, 2, 64, 64).contiguous(memory_format=layout), torch.arange(16) * 10
    taken = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=engine):
            loss = (network(x, t).float() - x).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        taken.append(time.perf_counter() - began)
    return {"step_s": min(taken[1:]), "peak_mb": peak_mb()}


MEASUREMENTS = {one.__name__: one for one in (whole_case, naive_loop, two_precisions, training_step)}

if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(MEASUREMENTS[asked.pop("measure")](**asked)))
