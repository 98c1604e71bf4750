"""A case from a PACS to its results in the PACS, with Debian's Orthanc and dcmtk's storescu.

::

    make roundtrip                        # from the root: the whole way by the command, and how long it takes beside diagnose
    cd tests && python pacs/orthanc_roundtrip.py --cases 3 --edge 1024
    cd tests && python pacs/orthanc_roundtrip.py --small      # what make test runs: very small networks, within one process

Cases are put into Orthanc, which sends them; every second is sent by storescu instead. Results must come to stand in the study
of their scan, each object once, with the bytes that the listener has written, and every frame as Orthanc serves it must be
that of the file. Then the time from the order to send until all results are there is divided by that of ``srh-clinic
diagnose`` on the same files, both in this call, by turns.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.extend([str(Path(__file__).parent), str(Path(__file__).parents[1] / "cohort"), str(Path(__file__).parents[1])])
from arriving_slides import LISTENER, SENDER, free_port, series_uid, slide_files, until
from dcmtk import dcmtk
from orthanc import ADDRESS, TITLE, Orthanc, in_namespace, missing, orthanc
from pydicom import dcmread
from pydicom.encaps import generate_frames
from tiny_networks import save_tiny_bundle

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.deliveries import Deliveries
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.settings import DICOM, CaseSettings
from srh_clinic.pacs.arrival import Arrivals
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.delivering import Delivery
from srh_clinic.pacs.inbox import INBOX, Inbox
from srh_clinic.pacs.receiving import Port, receiving
from srh_clinic.pacs.sending import destination_of

ALONE = "SRH_TEST_ALONE"

IDLE = 10.0
"""Seconds for which a listener without cases is looked at."""


def storescu(files: Sequence[Path], port: int) -> None:
    """Send files as dcmtk does."""
    call = [str(dcmtk("storescu")), "-R", "-xt", "-aet", SENDER, "-aec", LISTENER, "127.0.0.1", str(port), *map(str, files)]
    sent = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    if sent.returncode:
        raise AssertionError(f"storescu ended with {sent.returncode}: {sent.stdout}{sent.stderr}")


def study_of(files: Sequence[Path]) -> str:
    """Study Instance UID of files."""
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def require_same(pacs: Orthanc, scan: Sequence[Path], results: Path) -> int:
    """That the results stand in the study of the scan as they were written, frame by frame; how many frames there are."""
    there, frames = pacs.instances(study_of(scan)), 0
    written = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): file for file in sorted(results.glob("*.dcm"))}
    assert len(written) > 5
    scanned = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): file for file in scan}
    assert set(there) == {*written, *scanned}, "another set of objects"
    for uid, file in {**written, **scanned}.items():
        ours = dcmread(file)
        assert pacs.ask(f"/instances/{there[uid]}/attachments/dicom/data")[-1000:] == file.read_bytes()[-1000:]
        if "NumberOfFrames" not in ours or "PixelData" not in ours:
            continue
        number = int(ours.NumberOfFrames)
        if ours.file_meta.TransferSyntaxUID.is_encapsulated:
            own = list(generate_frames(ours.PixelData, number_of_frames=number))
        else:
            size = int(ours.Rows) * int(ours.Columns) * int(ours.BitsAllocated) // 8
            own = [ours.PixelData[at * size : (at + 1) * size] for at in range(number)]
        for at, frame in enumerate(own):
            assert pacs.ask(f"/instances/{there[uid]}/frames/{at}/raw") == frame, f"frame {at} of {file.name}"
        frames += number
    return frames


def small(work: Path) -> None:
    """One case from Orthanc and one from storescu, each step called here."""
    import draws_little  # noqa: F401 - no picture is drawn

    from srh_clinic.cohort.work import do_case
    from srh_clinic.progress import silent

    settings = CaseSettings(
        bundle=str(save_tiny_bundle(work / "tiny")), device="cpu", restoring={"precision": "float32"}, dicom=True
    )
    pipeline, out, audit = settings.pipeline(), work / "out", Audit(None)
    inbox, port = Inbox(out.absolute() / INBOX), free_port()
    arrivals, destination = Arrivals(inbox, audit, settle=0.1), destination_of(ADDRESS, LISTENER)
    known = {"listener": (LISTENER, "127.0.0.1", port)}
    with orthanc(work, known) as pacs, Ledger(out / "ledger.sqlite") as ledger:
        slides = [slide_files(work / f"slide-{number}", number) for number in range(2)]
        series = [pacs.upload(files) for files in slides]
        with receiving(Port(port, title=LISTENER, accept=(TITLE, SENDER)), inbox, audit):
            pacs.send(series[0])
            storescu(slides[1], port)

        def all_there() -> bool:
            arrivals.look(ledger)
            return len(ledger.entries()) == 2

        until(all_there)
        while (claim := ledger.claim()) is not None:
            done = do_case(pipeline, settings, out, claim.name, claim.source, silent)
            ledger.finish(claim, done.kind, done.pixels, done.outputs)
        delivery = Delivery(out, destination, audit)
        assert [delivery.deliver_next(ledger) for _ in range(3)] == [True, True, False]
        for files in slides:
            name = case_name(series_uid(files[0]))
            assert Deliveries(ledger, destination.name).state_of(name) == ("sent", "")
            print(f"{require_same(pacs, files, out / DICOM / name)} frames are the same", flush=True)


def whole(work: Path, asked: argparse.Namespace) -> None:
    """Cases by the command, as a hospital calls it, and by turns ``diagnose`` on the same files."""
    port, out, pairs = free_port(), work / "out", []
    how = ["--device", "cpu", *(["--bundle", asked.bundle] if asked.bundle else [])]
    doors = ["--port", str(port), "--accept", TITLE, "--accept", SENDER, "--to", ADDRESS, "--quiet"]
    with orthanc(work, {"listener": (LISTENER, "127.0.0.1", port)}) as pacs:
        call = ["srh-clinic", "pacs", "listen", "--out", str(out), *doors, *how]
        listener = subprocess.Popen(call, start_new_session=True)
        try:
            for number in range(asked.cases):
                case, name = simulated(work / f"case-{number}", number, asked.edge)
                series = pacs.upload(case)
                until(lambda: echoes(port), 300)
                if not number:
                    time.sleep(asked.warm)
                    before = cpu_seconds(listener.pid)
                    time.sleep(IDLE)
                    print(f"idle: {(cpu_seconds(listener.pid) - before) / IDLE:.1%} of a core", flush=True)
                began = time.monotonic()
                pacs.send(series) if number % 2 == 0 else storescu(case, port)
                with_results = wait_for_results(pacs, case, out, name)
                took = with_results - began
                frames = require_same(pacs, case, out / DICOM / name)
                began = time.monotonic()
                plain = ["srh-clinic", "diagnose", str(case[0]), "--out", str(work / f"plain-{number}"), *how]
                subprocess.run(plain, check=True, capture_output=True)
                pairs.append((took, time.monotonic() - began))
                by = "Orthanc" if number % 2 == 0 else "storescu"
                print(
                    f"case {number} by {by}: {took:.1f} s, diagnose {pairs[-1][1]:.1f} s, {frames} frames the same", flush=True
                )
            listener.send_signal(signal.SIGTERM)
            assert listener.wait(90) == 128 + signal.SIGTERM
        finally:
            listener.kill()
            listener.wait()
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        assert [entry.state for entry in ledger.entries()] == ["done"] * asked.cases
        assert [entry.attempts for entry in ledger.entries()] == [1] * asked.cases
    ratios = [took / plain for took, plain in pairs]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"from the PACS to the PACS / diagnose: median {statistics.median(ratios):.2f} of {len(ratios)}; load {load}")


def cpu_seconds(session: int) -> float:
    """Processor's time of all processes that a session has now."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def simulated(folder: Path, number: int, edge: int) -> tuple[list[Path], str]:
    """A degraded case as an instrument writes it, and its name."""
    call = ["srh-clinic", "simulate", str(folder), "--diagnosis", "tumor", "--quality", "0.3", "--size", str(edge)]
    subprocess.run([*call, "--seed", str(number)], check=True, capture_output=True)
    files = sorted(folder.glob("*.dcm"))
    return files, case_name(series_uid(files[0]))


def echoes(port: int) -> bool:
    """Whether the listener answers."""
    call = [str(dcmtk("echoscu")), "-aet", SENDER, "-aec", LISTENER, "127.0.0.1", str(port)]
    return subprocess.run(call, capture_output=True, check=False).returncode == 0


def wait_for_results(pacs: Orthanc, scan: Sequence[Path], out: Path, name: str) -> float:
    """When all that the listener has written of a case stands in Orthanc."""
    there: dict[str, str] = {}

    def come() -> bool:
        nonlocal there
        report = out / DICOM / name / "report.dcm"
        there = pacs.instances(study_of(scan))
        return report.exists() and str(dcmread(report).SOPInstanceUID) in there

    until(come, 900)
    files = list((out / DICOM / name).glob("*.dcm"))
    until(lambda: len(pacs.instances(study_of(scan))) == len(files) + len(scan))
    return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--edge", type=int, default=1024, help="pixels")
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--warm", type=float, default=30.0, help="seconds for the listener to load its networks")
    asked = parser.parse_args()
    if ALONE not in os.environ:
        if (why := missing()) is not None:
            raise SystemExit(why)
        os.environ[ALONE] = "1"
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        call = in_namespace(Path(__file__), *sys.argv[1:])
        os.execvp(call[0], call)  # noqa: S606
    with tempfile.TemporaryDirectory(prefix="srh-clinic-orthanc-") as folder:
        small(Path(folder)) if asked.small else whole(Path(folder), asked)


if __name__ == "__main__":
    main()
