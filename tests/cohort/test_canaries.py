"""Twenty-four canaries stand in cases and their manifest, and in nothing that a run tells or calls a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import Dataset

from srh_clinic.cohort.ledger import Ledger
from srh_clinic.errors import ExitCode
from srh_clinic.integration import write_wsi
from srh_clinic.integration.nio_writer import Scan, write_nio
from srh_clinic.slide import ArraySlide, Identity

HEADER = (
    *("PatientName", "PatientID", "PatientComments", "OtherPatientNames", "AccessionNumber", "StudyID", "StudyDescription"),
    *("SeriesDescription", "ReferringPhysicianName", "OperatorsName", "InstitutionName", "StationName", "ImageComments"),
    *("ContainerIdentifier", "BarcodeValue"),
)
ELSEWHERE = (*("private", "file", "folder", "text", "tiff", "strips", "opensrh", "manifest", "exception"),)
CANARIES = {place: f"CANARY{number:02}X" for number, place in enumerate((*HEADER, *ELSEWHERE))}

TOLD = ("log.jsonl", "run.prom", "log2.jsonl", "heard/audit.jsonl")

BREAKS = """
import logging, warnings
from srh_clinic.cohort import work
read = work.read_case

def read_case(source, reading):
    logging.getLogger("pydicom").error("an odd value in %s", source[0])
    logging.getLogger("tifffile").error("an odd tag in %s", source[0])
    warnings.warn(f"odd: {source[0]}")
    if "breaks" in source[0]:
        raise RuntimeError(f"EXCEPTION of {source[0]}")
    return read(source, reading)

work.read_case = read_case
"""
"""Loaded in the workers: libraries that tell what they read, and a defect that names it."""

CALLS = """
import json, os, signal, sys, threading, time
from pathlib import Path
from srh_clinic.cohort import running
running.LOADED += ("draws_little", "breaks")
from srh_clinic.cli.app import main
from srh_clinic.cohort.ledger import Ledger

def end_when_all_is_done(ledger):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        time.sleep(0.5)
        if ledger.exists():
            with Ledger(ledger, read=True) as opened:
                cases = opened.entries()
            ended = all(case.state in ("done", "parked", "failed") for case in cases)
            if len(cases) >= 5 and ended and time.time() - max(case.changed for case in cases) > 3:
                break
    os.kill(os.getpid(), signal.SIGTERM)

for call in json.loads(sys.argv[1]):
    sys.argv[1:] = call
    if "listen" in call:
        threading.Thread(target=end_when_all_is_done, args=(Path("heard/ledger.sqlite"),), daemon=True).start()
    try:
        main()
    except SystemExit as end:
        print("exit", end.code, flush=True)
"""


def named(path: Path) -> None:
    """Plant canaries in a slide's header, one of them where a library finds fault with it."""
    header = pydicom.dcmread(path)
    for keyword in HEADER:
        setattr(header, keyword, CANARIES[keyword])
    block = header.private_block(0x0099, "VENDOR", create=True)
    block.add_new(1, "LO", CANARIES["private"])
    item = Dataset()
    item.PatientBirthDate = "19470312"
    block.add_new(2, "SQ", [item])
    header.save_as(path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Good cases, cases to park, one that fails; canaries everywhere."""
    folder = tmp_path / "in" / CANARIES["folder"]
    folder.mkdir(parents=True)
    counts = np.random.default_rng(0).integers(8_000, 20_000, (2, 200, 300), dtype=np.uint16)
    good = folder / f"{CANARIES['file']}.dcm"
    write_wsi(ArraySlide(counts, 0.47, Identity("P", "S")), good)
    named(good)
    whole = good.read_bytes()
    (folder / "short.dcm").write_bytes(whole[: len(whole) - 50_000])
    (folder / "breaks.dcm").write_bytes(whole + CANARIES["exception"].encode())
    (folder / "note.txt").write_text(f"{CANARIES['text']} is no slide\n")
    tags = [(315, "s", 0, CANARIES["tiff"], True)]
    tifffile.imwrite(folder / "odd.tif", counts[0], description=CANARIES["tiff"], software=CANARIES["tiff"], extratags=tags)
    strips = write_nio(ArraySlide(counts, 0.47, Identity(CANARIES["strips"], "S")), folder / "strips", scan=Scan(100, 10))
    next(strips.rglob("IMG*.dcm")).unlink()
    slide = folder / "studies" / CANARIES["opensrh"] / "1"
    (slide / "patches").mkdir(parents=True)
    (folder / "meta").mkdir()
    patches = [f"studies/{CANARIES['opensrh']}/1/patches/{CANARIES['opensrh']}-1-0_0_300_300.tif"]
    said = {CANARIES["opensrh"]: {"class": "tumor", "slides": {"1": {"tumor_patches": patches, "normal_patches": []}}}}
    (folder / "meta/opensrh.json").write_text(json.dumps(said))
    cases = [good, folder / "short.dcm", folder / "breaks.dcm", folder / "note.txt", folder / "odd.tif", strips, slide]
    cases.append(folder / "missing.dcm")
    rows = [f"{case.relative_to(tmp_path / 'in')},{CANARIES['manifest']}" for case in cases]
    (tmp_path / "in/manifest.csv").write_text("\n".join(["case,patient", *rows]) + "\n")
    return tmp_path / "in/manifest.csv"


@pytest.fixture
def loaded() -> Iterator[Path]:
    """A folder for temporary files near the root, because a worker's socket in it has a path of 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="srh-") as folder:
        yield Path(folder)


def test_a_run_tells_nothing_of_whose_its_cases_are(manifest: Path, tiny_bundle: Path, tmp_path: Path, loaded: Path) -> None:
    content = b"".join(file.read_bytes() for file in manifest.parent.rglob("*") if file.is_file())
    names = "".join(map(str, manifest.parent.rglob("*")))
    assert len(CANARIES) == 24
    assert [place for place, word in CANARIES.items() if word.encode() not in content and word not in names] == []

    (loaded / "breaks.py").write_text(BREAKS)
    networks = ("--bundle", str(tiny_bundle), "--device", "cpu", "--precision", "float32", "--workers", "1")
    call = ["cohort", "run", "in/manifest.csv", "--out", "out", *networks, "--dicom"]
    status = ["cohort", "status", "out"]
    told = ("--log-file", "log.jsonl", "--metrics", "run.prom")
    listen = ["pacs", "listen", "--folder", "watched", "--out", "heard", *networks, "--patience", "1", "--settle", "0.3"]
    shutil.copytree(manifest.parent / CANARIES["folder"], tmp_path / "watched")
    listen += ["--log-file", "log2.jsonl"]
    calls = [call, ["cohort", "retry", "out"], [*call, "--quiet", *told], status]
    calls += [*([*status, how] for how in ("--json", "--metrics")), listen]
    paths = (str(loaded), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TMPDIR": str(loaded)}
    command = [sys.executable, "-c", CALLS, json.dumps(calls)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True)
    ends = [int(line.split()[1]) for line in ran.stdout.splitlines() if line.startswith("exit")]
    assert ends == [ExitCode.INCOMPLETE, 0, ExitCode.INCOMPLETE, 0, 0, 0, 143], ran.stderr

    with Ledger(tmp_path / "out/ledger.sqlite", read=True) as ledger:
        states = [entry.state for entry in ledger.entries()]
        why = "".join(entry.why for entry in ledger.entries())
    assert (states[0], states[2], states.count("parked")) == ("done", "failed", 6)
    with Ledger(tmp_path / "heard/ledger.sqlite", read=True) as ledger:
        assert {entry.state for entry in ledger.entries()} >= {"done", "parked"}
    assert "EXCEPTION of" in why
    assert CANARIES["folder"] in why
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) > 20
    assert 'srh_clinic_cases{state="failed"} 1' in (tmp_path / "run.prom").read_text()

    known = [path for folder in (tmp_path / "out", tmp_path / "heard", loaded) for path in folder.rglob("*")]
    said = ran.stdout + ran.stderr + "".join((tmp_path / file).read_text() for file in TOLD)
    said += "".join(path.name for path in known)
    assert [place for place, word in CANARIES.items() if word in said] == []
    assert "EXCEPTION" not in said
