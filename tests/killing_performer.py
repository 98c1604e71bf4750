"""A performer of a worklist that is killed at random while workitems arrive, and what it makes of them.

::

    make kill-performer                                        # from the root: 20 kills while 10 workitems arrive
    cd tests && python killing_performer.py --kills 40 --cases 20 --seed 1

The performer is ``srh-clinic pacs listen --ups`` as in ``killing_listener.py``, with very small networks. The service, which
has the input and takes the results, is the tests' own (``pacs/ups_server.py``). One of the workitems names an object that the
archive has not, and one a slide without its second Raman shift. At the end every other one must be COMPLETED and refer to
exactly the results that its case has, which the archive must have; those two must be CANCELED for incomplete input; each must
have been claimed once and ended once, each case done exactly once, and nothing half-written may lie anywhere.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.extend([str(Path(__file__).parent / name) for name in ("cohort", "pacs")])
from arriving_slides import series_uid, slide_files, until
from killing_listener import asked_for, begun, disturb, left_behind, tell
from pydicom import dcmread
from ups_server import Archive, serving

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.settings import DICOM
from srh_clinic.pacs.dicom_json import Json, dataset_of, items, text
from srh_clinic.pacs.performing import FETCHED
from srh_clinic.pacs.worklist import outputs_of

OBJECTS_INCOMPLETE = "110523"
"""Of CID 9300: object set incomplete, as the input of a workitem may be."""


def input_of(files: Sequence[Path], *missing: str) -> Json:
    """The item of an Input Information Sequence for files, and for objects that are nowhere."""
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    uids = [*(str(one.SOPInstanceUID) for one in headers), *missing]
    named = {"StudyInstanceUID": str(headers[0].StudyInstanceUID), "SeriesInstanceUID": str(headers[0].SeriesInstanceUID)}
    return dataset_of(**named, ReferencedSOPSequence=[dataset_of(ReferencedSOPInstanceUID=uid) for uid in uids])


def schedule(archive: Archive, inputs: Sequence[Json], seed: float, gap: float, over: threading.Event) -> None:
    """One workitem after the other, for as long as it is killed."""
    rng = random.Random(seed)
    for number, said in enumerate(inputs):
        with archive.lock:
            archive.schedule(uid_of(number), said)
        over.wait(rng.uniform(0.0, gap))


def uid_of(number: int) -> str:
    """A workitem's."""
    return f"1.2.3.{number + 1}"


def check(out: Path, archive: Archive, cases: Sequence[Sequence[Path]]) -> list[str]:
    """What is wrong; nothing, one hopes. The last two cases cannot be done."""
    wrong = []
    moves = Counter(archive.history)
    for number, files in enumerate(cases):
        uid, name = uid_of(number), case_name(series_uid(files[0]))
        end = "COMPLETED" if number < len(cases) - 2 else "CANCELED"
        ended = {state: moves[uid, state] for state in ("IN PROGRESS", "COMPLETED", "CANCELED")}
        if ended != {"IN PROGRESS": 1, "COMPLETED": 0, "CANCELED": 0, end: 1}:
            wrong.append(f"workitem {number}: {ended}")
        referred = outputs_of(archive.workitems[uid])
        written = {str(dcmread(file).SOPInstanceUID) for file in (out / DICOM / name).glob("*.dcm")}
        if referred != written or bool(written) != (end == "COMPLETED") or not written <= set(archive.objects):
            wrong.append(f"workitem {number}: refers to {len(referred)} of {len(written)} results")
        (progress,) = items(archive.workitems[uid], "ProcedureStepProgressInformationSequence")
        reasons = items(progress, "ProcedureStepDiscontinuationReasonCodeSequence")
        if [text(one, "CodeValue") for one in reasons] != [OBJECTS_INCOMPLETE] * (end == "CANCELED"):
            wrong.append(f"workitem {number}: canceled for {reasons}")
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        times = Counter(move.name for move in ledger.history() if (move.was, move.state) == ("running", "done"))
    if times != Counter(case_name(series_uid(files[0])) for files in cases[:-2]):
        wrong.append(f"done: {times}")
    wrong += left_behind(out)
    if fetched := [*out.glob(FETCHED)]:
        wrong.append(f"left behind: {fetched}")
    return wrong


def main() -> None:
    asked = asked_for(__doc__, "workitems, two of which cannot be done")
    archive = Archive()
    with tempfile.TemporaryDirectory(prefix="srh-clinic-performer-") as folder, serving(archive) as url:
        work = Path(folder)
        cases = [slide_files(work / f"slide-{number}", number) for number in range(asked.cases)]
        half = cases[-1][:1]
        for file in [*(file for files in cases[:-1] for file in files), *half]:
            archive.add(file.read_bytes())
        inputs = [*map(input_of, cases[:-2]), input_of(cases[-2], "1.2.3.999"), input_of(half)]

        def ended() -> None:
            until(lambda: sum(state in ("COMPLETED", "CANCELED") for _, state in archive.history) == asked.cases, 900)

        listener, out = begun(work, ["--ups", url, "--settle", "1", "--patience", "20"]), work / "out"
        wrong = disturb(listener, asked, random.Random(asked.seed), partial(schedule, archive, inputs), ended)
        wrong = check(out, archive, cases) + wrong
        with Ledger(out / "ledger.sqlite", read=True) as ledger:
            attempts = sum(entry.attempts for entry in ledger.entries())
        states = Counter(archive.state(uid_of(number)) for number in range(asked.cases))
        print(f"{asked.kills} kills, {attempts} attempts at cases; workitems: {dict(states)}")
        tell(wrong, "each claimed once and ended once, its case done exactly once, nothing half-written", work / "log")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
