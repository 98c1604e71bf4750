"""What a worker does: it takes cases from the ledger, restores and classifies each, and says what came of it."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.provenance import require_own_folder, told_case
from srh_clinic.case.result import OURS
from srh_clinic.case.workflow import diagnose_into, diagnosed_before
from srh_clinic.casepage.optional import optional_files
from srh_clinic.cohort.ledger import LEASE, RENEWED, Claim, Ledger
from srh_clinic.cohort.settings import CASES, DICOM, PARTIAL, CaseSettings
from srh_clinic.errors import BusyError, InputError
from srh_clinic.files import claimed, flush, sha256_of
from srh_clinic.integration import read_slide
from srh_clinic.progress import Progress
from srh_clinic.slide import Reading

IDLE = 0.5
"""Seconds after which a worker without a case looks whether one waits."""

BUSY = 10.0
"""Seconds for which a case is left that another process has in hand, whose claim has run out."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of the disk, which the next case would meet as well."""


class Stopped(KeyboardInterrupt):
    """A worker is to end, and leaves the case in hand to another."""


def read_case(source: tuple[str, ...], reading: Reading) -> Any:
    """The slide of a case's files; ``InputError`` when it is not one."""
    return read_slide(source[0] if len(source) == 1 else source, **reading.options)


@dataclass(frozen=True)
class Done:
    """What came of a case: whether it was computed or found as it is, and the SHA-256 of its counts and of all its files."""

    kind: Literal["computed", "found"]
    pixels: str
    outputs: str


def do_case(
    pipeline: RestoreThenClassify, settings: CaseSettings, out: Path, name: str, source: tuple[str, ...], progress: Progress
) -> Done:
    """Restore and classify a case, and write what came of it; one that was done in this very way is found, not computed.

    It goes on from the tiles that an attempt before it has left. The files are the same to the byte, but for times.

    Raises
    ------
    BusyError
        When another process writes its files now.
    InputError
        When it is no slide, or its place holds the result of another.
    """
    folder, work = out / CASES / name, out / PARTIAL / name
    dicom = out / DICOM / name if settings.dicom else None
    with claimed(folder):
        slide, origin = told_case(read_case(source, settings.reading), identity=settings.identity)
        require_own_folder(folder, origin)
        more = optional_files("Case", slide, page=settings.page, qupath=settings.qupath, fhir=settings.fhir)
        files = [file for names, _ in more for file in names]
        found = diagnosed_before(pipeline, slide, origin, out=folder, dicom_out=dicom, more=files) is not None
        if not found:
            writers = [write for _, write in more]
            places = {"out": folder, "dicom_out": dicom, "work": work}
            result = diagnose_into(pipeline, slide, origin, **places, more=writers, progress=progress)  # type: ignore[arg-type]
            result.restored.discard()
        shutil.rmtree(work, ignore_errors=True)
        _flush_above(folder, out)
        return Done("found" if found else "computed", origin.pixels_sha256, outputs_sha256(folder))


def _flush_above(folder: Path, out: Path) -> None:
    """Have the names of a case's folder on the disk before the ledger says that it is there."""
    for above in (folder.parent, out):
        flush(above)


def outputs_sha256(folder: Path) -> str:
    """SHA-256 of all files of a result by name, hexadecimal."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(OURS) if (folder / name).is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def disk_fault(error: BaseException) -> OSError | None:
    """The error of a full or locked disk that another one comes from, however it was told."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


@dataclass(frozen=True)
class Outcome:
    """What an attempt at a case came to, as :func:`note` tells it to a ledger; ``number`` is the error of a full disk."""

    what: Literal["done", "stopped", "busy", "full", "refused", "failed"]
    kind: str
    why: str = ""
    pixels: str = ""
    outputs: str = ""
    number: int = 0


LIBRARIES = ("pydicom", "pynetdicom", "highdicom", "tifffile", "PIL", "matplotlib", "py.warnings")
"""Those whose logs may name a file or quote what stands in it."""


def hush() -> None:
    """Have libraries say nothing in this process: their warnings quote headers and name files to whoever reads a log."""
    warnings.simplefilter("ignore")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def attempt(do: Callable[[], Done]) -> Outcome:
    """Do a case, whatever comes of it."""
    try:
        done = do()
    except Stopped:
        return STOPPED
    except BusyError:
        return Outcome("busy", "busy")
    except Exception as error:
        if (full := disk_fault(error)) is not None:
            return Outcome("full", "disk-full", full.strerror or "", number=full.errno or 0)
        if isinstance(error, InputError):
            return Outcome("refused", "refused", str(error))
        return Outcome("failed", type(error).__name__, "".join(traceback.format_exception(error)))
    return Outcome("done", done.kind, pixels=done.pixels, outputs=done.outputs)


STOPPED = Outcome("stopped", "stopped")


def note(ledger: Ledger, claim: Claim, outcome: Outcome, out: Path) -> None:
    """Tell a ledger what came of a case; nothing is noted when the claim was lost.

    Raises
    ------
    OSError
        When the disk is full: the next case would not fare better. The case in hand waits again.
    """
    if outcome.what == "done":
        ledger.finish(claim, outcome.kind, outcome.pixels, outcome.outputs)
    elif outcome.what == "stopped":
        ledger.hand_back(claim, outcome.kind)
    elif outcome.what == "busy":
        ledger.hand_back(claim, outcome.kind, BUSY)
    elif outcome.what == "full":
        with suppress(OSError):  # the ledger may find no room either; the claim is lost when this process ends
            ledger.hand_back(claim, outcome.kind)
        raise OSError(outcome.number, outcome.why, str(out))
    else:
        shutil.rmtree(out / PARTIAL / claim.name, ignore_errors=True)
        (ledger.park if outcome.what == "refused" else ledger.fail)(claim, outcome.kind, outcome.why)


class Worker:
    """Takes cases from a ledger until none is left or it is told to stop.

    Parameters
    ----------
    pipeline
        Its networks.
    out
        The run's folder.
    ledger
        Of this thread.
    """

    def __init__(self, pipeline: RestoreThenClassify, settings: CaseSettings, out: Path, ledger: Ledger) -> None:
        self.pipeline, self.settings, self.out, self.ledger = pipeline, settings, out, ledger
        self.stopping = False
        self._in_hand = False

    def stop(self, *_: object) -> None:
        """Hand back the case in hand and end; a signal handler. Between cases it only says that this was the last."""
        self.stopping = True
        if self._in_hand:
            self._in_hand = False
            raise Stopped

    def run(self, others_go_on: Callable[[], bool], *, stay: bool = False) -> None:
        """Do cases until all are at an end, also those that others have in hand and may yet leave.

        Parameters
        ----------
        others_go_on
            Asked between cases; this worker ends when it says no.
        stay
            Whether to wait for further cases when all are at an end.

        Raises
        ------
        OSError
            When the disk is full: the next case would not fare better. The case in hand waits again.
        """
        waiting = threading.Event()
        while not self.stopping and others_go_on():
            claim = self.ledger.claim()
            if claim is not None:
                self._take(claim)
            elif stay or self.ledger.open_cases():
                waiting.wait(IDLE)
            else:
                return

    def _take(self, claim: Claim) -> None:
        """Do one case, and note what came of it."""

        def do() -> Done:
            with self._renewed(claim) as progress:
                self._in_hand = True
                try:
                    if self.stopping:
                        raise Stopped
                    return do_case(self.pipeline, self.settings, self.out, claim.name, claim.source, progress)
                finally:
                    self._in_hand = False

        note(self.ledger, claim, attempt(do), self.out)

    @contextmanager
    def _renewed(self, claim: Claim) -> Iterator[Progress]:
        """Renew a claim from a thread of its own for as long as the case takes; what is told of the stage goes along.

        A claim that is lost stops the work at the next stage that is told.
        """
        over, lost, stage = threading.Event(), threading.Event(), ""

        def renew() -> None:
            with Ledger(self.ledger.path, lease=self.ledger.lease) as ledger:
                while not over.wait(self.ledger.lease / RENEWED):
                    with suppress(InputError, OSError):  # the next time may find room, and the lease outlives some
                        if not ledger.renew(claim, stage):
                            lost.set()
                            return

        def report(name: str, done: int, total: int) -> None:
            nonlocal stage
            if lost.is_set():
                raise Stopped
            stage = f"{name} {done}/{total}"

        thread = threading.Thread(target=renew, name="renewing", daemon=True)
        thread.start()
        try:
            yield report
        finally:
            over.set()
            thread.join()


def work(
    settings: CaseSettings,
    out: Path,
    ledger: Path,
    threads: int,
    tell: Callable[[tuple[str, ...]], object],
    deaths: int,
    *,
    stay: bool = False,
) -> None:
    """A worker process: one model, so many threads, until all is done, a signal comes or the process that began it ends.

    One that is to ``stay`` waits for more when all is done.

    ``tell`` is called once when nothing can be worked with: ``("input", found, needed, path)`` or ``("disk", sentence)``.
    """
    import torch

    torch.set_num_threads(threads)
    hush()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of a terminal's processes; the first of them says what to do
    begun_by = parent_process()
    try:
        pipeline = settings.pipeline()
        with Ledger(ledger, lease=LEASE, deaths=deaths) as opened:
            opened.adopt(settings.depends_on(pipeline))
            worker = Worker(pipeline, settings, out, opened)
            signal.signal(signal.SIGTERM, worker.stop)
            worker.run(lambda: begun_by is None or begun_by.is_alive(), stay=stay)
    except InputError as error:
        tell(("input", error.found, error.needed, "" if error.path is None else str(error.path)))
    except OSError as error:
        if disk_fault(error) is None:
            raise
        tell(("disk", str(error.errno), error.strerror or "", str(error.filename or out)))
