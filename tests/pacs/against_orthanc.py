"""Push, fetch and a worklist against a real Orthanc: ``make orthanc``.

Debian's build listens at all addresses, so it is run in a network namespace that has nothing but loopback, and this script in
the same one. Each line says what was tried and what came of it; the exit code is 1 when something is not as it should be.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.extend([str(Path(__file__).parents[1] / "cohort"), str(Path(__file__).parents[1])])
from arriving_slides import until
from orthanc import ADDRESS, WEB, Orthanc, orthanc
from pydicom import dcmread, dcmwrite
from ups_server import Archive as Worklists
from ups_server import first, serving

from srh_clinic.integration.dicom_file import quiet_pydicom
from srh_clinic.pacs.dicom_json import dataset_of, items, text
from srh_clinic.pacs.objects import objects_in

OURS = 11199
SRH = shutil.which("srh-clinic", path=str(Path(sys.executable).parent)) or "srh-clinic"
HTJ2K = "1.2.840.10008.1.2.4.201"
WORKITEM = "1.2.826.0.1.3680043.9.7.1"
LONGEST = 300.0
"""Seconds that what must come may take."""


class Tried:
    """What was tried."""

    bad = 0

    def call(self, what: str, *words: Any, code: int = 0, says: str = "") -> subprocess.CompletedProcess[str]:
        """A call of srh-clinic, and whether it ends as it should."""
        ran = subprocess.run([SRH, *map(str, words)], capture_output=True, text=True, check=False)
        good = ran.returncode == code and says in ran.stdout + ran.stderr
        self.say(what, good, f"exit code {ran.returncode}" + ("" if good else f"\n{ran.stdout}{ran.stderr}"))
        return ran

    def say(self, what: str, good: bool, more: str = "") -> None:
        """One line."""
        self.bad += not good
        print(f"{'ok  ' if good else 'BAD '} {what}: {more}", flush=True)


def same(tried: Tried, what: str, folder: Path, scan: Path, *, bytes_too: bool) -> None:
    """Compare what came with what was sent."""
    sent = {one.instance.sop: one for one in objects_in([scan])}
    got = {one.instance.sop: one for one in objects_in([folder])}
    alike = [
        got[uid].syntax == one.syntax
        and dcmread(got[uid].path).get("PixelData") == dcmread(one.path).get("PixelData")
        and (not bytes_too or got[uid].path.read_bytes() == one.path.read_bytes())
        for uid, one in sent.items()
        if uid in got
    ]
    which = "files" if bytes_too else "pixel data and transfer syntaxes"
    tried.say(what, got.keys() == sent.keys() and all(alike), f"{sum(alike)} of {len(sent)} {which} to the bit")


def try_transfers(tried: Tried, results: Path, work: Path) -> None:
    """Push and fetch, both ways."""
    study = objects_in([results])[0].instance.study
    for what, to in (("STOW-RS", WEB), ("STOW-RS again", WEB), ("C-STORE", ADDRESS)):
        tried.call(f"push by {what}", "pacs", "push", results, "--to", to, says="objects are there")
    for what, more in (
        ("WADO-RS", ["--from", WEB]),
        ("C-GET", ["--from", ADDRESS]),
        ("C-MOVE", ["--from", ADDRESS, "--by", "move", "--port", OURS]),
    ):
        out = work / what
        tried.call(f"fetch by {what}", "pacs", "fetch", *more, "--study", study, "--all", "--out", out)
        same(tried, f"what came by {what}", out, results, bytes_too=what == "WADO-RS")
    refused = work / "htj2k.dcm"
    with quiet_pydicom():
        dataset = dcmread(next(results.glob("SRS*.dcm")))
        dataset.file_meta.TransferSyntaxUID = HTJ2K
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.9.7.2"
        dcmwrite(refused, dataset)
    tried.call("HTJ2K by C-STORE is refused by name", "pacs", "push", refused, "--to", ADDRESS, code=2, says="htj2k.dcm: ")


def try_worklist(tried: Tried, pacs: Orthanc, scan: Path, work: Path, kill: bool) -> None:
    """A workitem of our own small service about a scan in Orthanc, whose results go to Orthanc; killed on the way or not."""
    objects = objects_in([scan])
    instance = objects[0].instance
    sops = [dataset_of(ReferencedSOPInstanceUID=one.instance.sop) for one in objects]
    about = dataset_of(StudyInstanceUID=instance.study, SeriesInstanceUID=instance.series, ReferencedSOPSequence=sops)
    (worklists := Worklists()).schedule(WORKITEM, about)
    with serving(worklists) as url:
        call = [SRH, "pacs", "listen", "--ups", url, "--ups-from", WEB, "--to", WEB, "--out", work / "run", "--quiet"]
        process = subprocess.Popen(list(map(str, call)))
        try:
            if kill:
                until(lambda: any("%" in what for _, what in worklists.history), LONGEST)
                time.sleep(3)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                process = subprocess.Popen(list(map(str, call)))
            until(lambda: worklists.state(WORKITEM) == "COMPLETED", LONGEST)
        finally:
            process.terminate()
            process.wait(90)
    told = [what for _, what in worklists.history]
    tried.say(
        f"a workitem{', its performer killed on the way' if kill else ''}", told.count("IN PROGRESS") == 1, ", ".join(told)
    )
    (performed,) = items(worklists.workitems[WORKITEM], "UnifiedProcedureStepPerformedProcedureSequence")
    outputs = [sop for one in items(performed, "OutputInformationSequence") for sop in items(one, "ReferencedSOPSequence")]
    missing = {text(one, "ReferencedSOPInstanceUID") for one in outputs} - set(pacs.instances(instance.study))
    tried.say("the results that it refers to are in Orthanc", bool(outputs) and not missing, f"{len(outputs)} objects")
    studies = {first(one, "0020000D") for one in items(performed, "OutputInformationSequence")}
    tried.say("in the study of the scan", studies == {instance.study})


def main() -> int:
    """Try all of it."""
    tried, work = Tried(), Path(tempfile.mkdtemp(prefix="against-orthanc-"))
    try:
        with orthanc(work / "pacs", {"us": ("SRHCLINIC", "127.0.0.1", OURS)}, web=True) as pacs:
            versions = [pacs.ask(f"/{path}")["Version"] for path in ("system", "plugins/dicom-web")]
            print("Orthanc {}, DICOMweb plugin {}".format(*versions))
            tried.call("a scan", "simulate", work / "scan", "--size", 512, "--seed", 1)
            results = work / "results"
            tried.call("its results", "diagnose", work / "scan", "--out", work / "told", "--dicom-out", results)
            try_transfers(tried, results, work)
            for name, kill in (("whole", False), ("killed", True)):
                scan = work / f"scan-{name}"
                tried.call("another scan", "simulate", scan, "--size", 512, "--seed", 2 + kill)
                tried.call("which goes to Orthanc", "pacs", "push", scan, "--to", WEB)
                try_worklist(tried, pacs, scan, work / name, kill)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if tried.bad else 0


if __name__ == "__main__":
    sys.exit(main())
