"""What a whole slide takes from file to result, beside the build before and beside a naive loop over the same weights.

Each measurement runs in a process of its own and is kept when it ends: a run that was cut goes on. The build before is a
commit of the repository, put in a folder of its own; it and the naive loop run on a slide of :data:`CROP` tiles, and are
extrapolated to each size.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import srh_clinic
from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.classifiers import create_classifier
from srh_clinic.engine import choose_precision, processor_name
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint, sha256_of, write_whole
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.progress import Progress, silent
from srh_clinic.resampling import thumbnail
from srh_clinic.rscd.networks import create_calibrator, create_denoiser, forward_gflop
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.tiling import TileGrid
from srh_clinic.tissue import tissue_mask
from srh_clinic.validation.bench.cells import CellStore
from srh_clinic.validation.benchmarks import slide_case
from srh_clinic.validation.benchmarks.memory import MirroredSlide

SIZES = (2048, 4096, 6000, 12000)
"""Edges of the slides in pixels."""

BEFORE = "f735bc6"
"""The last commit before the engine."""

CROP = (4, 8)
"""Rows and columns of tiles of the small slide."""

SOURCE_SIZE, SOURCE_SEED, QUALITY = 2048, 8_900_001, 0.4
"""The phantom that every slide is made of, mirrored side by side: a validation seed, of middling quality."""

THEIRS = {"tile": 256, "overlap": 32}
"""How the build before cuts a slide into tiles, and the naive loop as well."""

COMPARED = 256
"""Tiles that are restored in both precisions, of phantoms of all kinds and qualities."""

LEAST_TISSUE = 0.8
"""Share of a slide that is tissue, at least."""

PIP = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")

TIME_LIMIT = 3600
"""Seconds after which one measurement is given up."""


@dataclass(frozen=True)
class SlideBenchmark:
    """A run: where it works and what it compares; see :func:`run_slide`."""

    work: Path
    bundle: Bundle
    before: str
    repository: Path
    tiles: int
    report: Progress = silent

    @property
    def cells(self) -> CellStore:
        """What was measured already."""
        return CellStore(self.work / "measured.jsonl", ("name",))

    def slide(self, name: str, shape: tuple[int, int]) -> Path:
        """A DICOM slide of a shape, made when it is not there."""
        path = self.work / f"{name}.dcm"
        if not path.exists():
            case = simulate_case("tumor", QUALITY, SOURCE_SIZE, SOURCE_SEED)
            whole = ArraySlide(case.counts, case.um_per_px, Identity(patient_id="PHANTOM"))
            write_wsi(MirroredSlide(whole, shape), path)
        return path

    def measured(self, name: str, asked: dict[str, Any], place: Path | None = None) -> dict[str, Any]:
        """A measurement of :mod:`~srh_clinic.validation.benchmarks.slide_case` by the build in ``place``, None this one.

        Raises
        ------
        InputError
            When it fails or takes too long.
        """
        key = fingerprint(
            asked=asked,
            build=self.before if place else _code(),
            weights=None if place else self.bundle.weights_sha256,
            processor=processor_name(),
            threads=torch.get_num_threads(),
        )
        cells = self.cells
        if (kept := cells.get(key, name)) is not None:
            return kept
        environment = os.environ | {"PYTHONPATH": str(place)} if place else dict(os.environ)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "asked.json"
            file.write_text(json.dumps(asked), encoding="utf-8")
            command = [sys.executable, "-P", slide_case.__file__, str(file)]
            try:
                done = subprocess.run(  # noqa: S603 - our own
                    command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT, env=environment, cwd=folder
                )
            except subprocess.TimeoutExpired as error:
                raise InputError(f"no end of {name} in {TIME_LIMIT} s", "a faster machine, or smaller slides") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise InputError(f"a failure of {name} ({last})", "a build and weights that work")
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        cells.put(key, name=name, **row)
        return row


def run_slide(
    out: str | Path,
    *,
    bundle: str | Path = "phantom-demo",
    sizes: Sequence[int] = SIZES,
    before: str = BEFORE,
    repository: str | Path = ".",
    float32_at: int = 6000,
    writing_at: int = 6000,
    tiles: int = CROP[0] * CROP[1],
    report: Progress = silent,
) -> dict[str, Any]:
    """Measure whole slides on this processor, and write ``slide.json``.

    Parameters
    ----------
    sizes
        Edges of the slides in pixels.
    before, repository
        A commit, and the repository that has it.
    float32_at
        Size at which float32 is measured beside the precision that is chosen here.
    writing_at
        Size at which everything that a case can leave as is written too, see :func:`run_writing`.
    tiles
        Of the small slide that the naive loop restores, at most.

    Raises
    ------
    InputError
        When the commit is not to be had, the phantom has too little tissue, or a measurement fails.
    """
    if not sizes or min(sizes) < 1 or tiles < 1:
        raise InputError(f"slides of {list(sizes)} pixels and {tiles} tiles", "positive numbers")
    bench = _bench(out, bundle, report, before, Path(repository), tiles)
    stages = 4 + len(sizes)
    place = old_build(bench)
    report("measuring", 0, stages)
    stride = THEIRS["tile"] - THEIRS["overlap"]
    small = bench.slide("small", (256 + stride * (CROP[0] - 1), 256 + stride * (CROP[1] - 1)))
    share = tissue_share(small)
    if share < LEAST_TISSUE:
        raise InputError(f"{share:.0%} of tissue on the phantom", f"at least {LEAST_TISSUE:.0%}")
    on_small = {"slide": str(small.resolve()), "bundle": str(bench.bundle.path.resolve()), "limit": tiles}
    asked = {"measure": "whole_case", "slide": on_small["slide"], "bundle": "phantom-demo", "settings": {}}
    theirs = bench.measured("before", asked, place)
    report("measuring", 1, stages)
    naive = bench.measured("naive", {"measure": "naive_loop", **on_small})
    report("measuring", 2, stages)
    precisions = bench.measured("precisions", {"measure": "two_precisions", "bundle": on_small["bundle"], "limit": COMPARED})
    report("measuring", 3, stages)
    training = training_ratios(bench)
    report("measuring", 4, stages)
    rows = []
    for number, size in enumerate(sizes, start=5):
        rows.append(_slide_row(bench, size, theirs, naive, float32=size == float32_at, writing=size == writing_at))
        report("measuring", number, stages)
    made = {
        "slides": rows,
        "processor": f"{processor_name()}, {os.cpu_count()} cores",
        "precision": choose_precision("auto", torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tissue": share,
        "bundle": bench.bundle.name,
        "weights_sha256": bench.bundle.weights_sha256,
        "before": {"commit": before, **_said(theirs)},
        "naive": _said(naive),
        "bf16_against_float32": _said(precisions),
        "training": training,
        **_memory(rows),
    }
    write_whole(Path(out) / "slide.json", json.dumps(made, indent=2) + "\n", "slide.json")
    return made


def run_writing(
    out: str | Path, *, bundle: str | Path = "phantom-demo", size: int = 6000, report: Progress = silent
) -> dict[str, Any]:
    """Diagnose a slide and write everything that other programs are given of it, in one process: what does that cost?

    Returns
    -------
    dict
        ``wall_s`` and ``peak_mb`` of the diagnosis, ``seconds`` and ``megabytes`` by what is written, ``share`` of all that in
        the time of the diagnosis, and ``more_mb``, by how much more memory it held. Also in ``writing.json``.

    Raises
    ------
    InputError
        When ``size`` is not positive, or the measurement fails.
    """
    if size < 1:
        raise InputError(f"a slide of {size} pixels", "a positive number")
    report("measuring", 0, 1)
    bench = _bench(out, bundle, report)
    made = {"size": size, **_writing(_whole_case(bench, size, writing=True))}
    write_whole(Path(out) / "writing.json", json.dumps(made, indent=2) + "\n", "writing.json")
    report("measuring", 1, 1)
    return made


def _bench(
    out: str | Path,
    bundle: str | Path,
    report: Progress,
    before: str = BEFORE,
    repository: Path = Path(),
    tiles: int = CROP[0] * CROP[1],
) -> SlideBenchmark:
    work = Path(out) / "work" / "slide"
    work.mkdir(parents=True, exist_ok=True)
    return SlideBenchmark(work, load_bundle(bundle), before, repository, tiles, report)


def _whole_case(bench: SlideBenchmark, size: int, *, writing: bool = False, **settings: str) -> dict[str, Any]:
    """A slide of ``size`` by this build, measured."""
    slide = bench.slide(f"slide-{size}", (size, size))
    asked = {"measure": "whole_case", "slide": str(slide.resolve()), "bundle": str(bench.bundle.path.resolve())}
    name = ", ".join([f"{size} px", *settings.values()])
    return bench.measured(name, {**asked, "settings": settings, **({"whole_set": True} if writing else {})})


def _writing(case: dict[str, Any]) -> dict[str, Any]:
    """What writing costs beside a diagnosis."""
    written = case["writing"]
    return {
        "wall_s": case["wall_s"],
        "peak_mb": case["peak_mb"],
        "seconds": written["seconds"],
        "megabytes": written["megabytes"],
        "share": sum(written["seconds"].values()) / case["wall_s"],
        "more_mb": written["peak_mb"] - case["peak_mb"],
    }


def old_build(bench: SlideBenchmark) -> Path:
    """The package of a commit in a folder of its own, made when it is not there.

    Raises
    ------
    InputError
        When git does not know the commit, or it cannot be built.
    """
    place = bench.work / f"build-{bench.before}"
    if place.is_dir():
        return place.resolve()
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        source, built = Path(folder) / "source", Path(folder) / "built"
        source.mkdir()
        needed = "a commit of the repository, and git and pip (--before COMMIT, --repository DIR)"
        archive = Path(folder) / "source.tar"
        commands = (
            ["git", "-C", str(bench.repository), "archive", "-o", str(archive.resolve()), bench.before],
            ["tar", "-xf", str(archive), "-C", str(source)],
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--no-build-isolation",
                "--target",
                str(built),
                str(source),
            ],
        )
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)  # noqa: S603
            except OSError as error:
                raise InputError(f"no program {command[0]}", needed) from error
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no word"])[-1]
                raise InputError(f"no build of {bench.before} ({last})", needed)
        shutil.move(built, place)
    return place.resolve()


def tissue_share(slide: Path) -> float:
    """Share of a slide's cells that are tissue."""
    picture, factor = thumbnail(read_slide(slide), 2048)
    return float(tissue_mask(picture, factor).cells.mean())


def training_ratios(bench: SlideBenchmark) -> dict[str, float]:
    """A step of the denoiser's training in float32 and by the engine, and the ratios of time and memory."""
    asked = {"measure": "training_step", "bundle": str(bench.bundle.path.resolve())}
    plain = bench.measured("training float32", {**asked, "engine": False})
    ours = bench.measured("training engine", {**asked, "engine": True})
    return {
        "step_s_float32": plain["step_s"],
        "step_s_engine": ours["step_s"],
        "speedup": plain["step_s"] / ours["step_s"],
        "peak_mb_float32": plain["peak_mb"],
        "peak_mb_engine": ours["peak_mb"],
    }


def _slide_row(
    bench: SlideBenchmark, size: int, theirs: dict[str, Any], naive: dict[str, Any], *, float32: bool, writing: bool
) -> dict[str, Any]:
    """A slide of one size, and how many times longer the others would take.

    Of the build before, everything but drawing is taken to grow with the tiles; the naive loop only restores, and is set
    against our whole case and against our restoring. Both cut a slide into tiles as :data:`THEIRS` says, fewer than ours.
    """
    ours = _whole_case(bench, size, writing=writing)
    tiles, theirs_in_all = ours["tiles"], len(TileGrid((size, size), **THEIRS))
    before_s = theirs["found_s"] / theirs["tiles"]["total"] * theirs_in_all + theirs["saving_s"]
    naive_s = naive["seconds"] / naive["tiles"] * theirs_in_all
    row = {
        "size": size,
        "wall_s": ours["wall_s"],
        "speedup_vs_before": before_s / ours["wall_s"],
        "speedup_vs_naive": naive_s / ours["wall_s"],
        "restoring_vs_naive": naive_s / ours["timing"]["restoring_s"],
        "before_s": before_s,
        "naive_s": naive_s,
        "outside_forward_s": ours["wall_s"] - ours["timing"]["networks_s"],
        "saving_s": ours["saving_s"],
        "gflop_per_tile": gflop_per_tile(bench.bundle, ours),
        "evaluations_per_tile": ours["evaluations_per_tile"],
        "peak_mb": ours["peak_mb"],
        "tiles": tiles,
        "timing": ours["timing"],
        "precision": ours["settings"]["precision"],
        "diagnosis": ours["diagnosis"],
    }
    if float32:
        whole = _whole_case(bench, size, precision="float32")
        row["float32"] = {"wall_s": whole["wall_s"], "speedup_vs_before": before_s / whole["wall_s"]}
    if writing:
        row["writing"] = _writing(ours)
    return row


def gflop_per_tile(bundle: Bundle, case: dict[str, Any]) -> float:
    """GFLOP of all networks on a case over its tiles with tissue: the denoiser's evaluations, the calibrator's looks (one
    before each round, and one of the guards at what was restored), the classifier's at each patch before and after."""
    size = int(bundle.metadata["tile"])
    tile, seen = torch.zeros(1, 2, size, size), max(case["tiles"]["restored"], 1)
    looks = case["rounds_per_tile"] + case["examined"] / seen
    patch = torch.zeros(1, 3, int(bundle.config("classifier")["patch"]), int(bundle.config("classifier")["patch"]))
    networks = {
        "denoiser": (forward_gflop(create_denoiser(bundle.config("denoiser")).eval(), tile, torch.zeros(1, dtype=torch.long))),
        "calibrator": forward_gflop(create_calibrator(bundle.config("calibrator")).eval(), tile),
        "classifier": forward_gflop(create_classifier(bundle.config("classifier")).eval(), patch),
    }
    times = {
        "denoiser": case["evaluations_per_tile"],
        "calibrator": looks,
        "classifier": 2 * case["patches"] / seen,
    }
    return sum(networks[name] * times[name] for name in networks)


@cache
def _code() -> str:
    """Names this build by the bytes of its modules: after a change everything of it is measured again."""
    package = Path(srh_clinic.__file__).parent
    modules = sorted(package.rglob("*.py"))
    return fingerprint(**{str(module.relative_to(package)): sha256_of(module) for module in modules})


def _said(cell: dict[str, Any]) -> dict[str, Any]:
    """What a measurement says, without what it is kept under."""
    return {key: value for key, value in cell.items() if key not in ("fingerprint", "name")}


def _memory(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Peak memory at 12,000 px over that at 4,096 px, where both were measured."""
    peaks = {row["size"]: row["peak_mb"] for row in rows}
    return {"peak_12000_over_4096": peaks[12000] / peaks[4096]} if {4096, 12000} <= set(peaks) else {}
