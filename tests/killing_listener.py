"""A listener that is killed at random while cases arrive, and what it makes of them.

::

    make kill-listener                                        # from the root: 20 kills while 10 cases arrive
    cd tests && python killing_listener.py --kills 40 --cases 20 --seed 1

The listener is ``srh-clinic pacs listen`` with very small networks, and draws nothing, to have more kills an hour. A sender
stores every file again and again until it is told that it was taken, as a PACS does; a PACS of pynetdicom's takes the results.
Every few seconds the listener gets SIGKILL, at moments that are drawn, and is begun again. At the end each case must have been
done exactly once, what was received must be what was sent, nothing half-written may lie anywhere, and the PACS must have
exactly the results that the listener wrote.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.extend([str(Path(__file__).parent / name) for name in ("cohort", "pacs")])
from arriving_slides import SENDER, free_port, send, series_uid, slide_files, until
from peer import Peer, listening
from pydicom import dcmread
from tiny_networks import save_tiny_bundle

from srh_clinic.case.record import read_result
from srh_clinic.cli import app
from srh_clinic.cohort import running
from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.deliveries import count_deliveries
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.settings import CASES, DICOM
from srh_clinic.integration.network import OBJECT_CLASSES, SYNTAXES
from srh_clinic.pacs.inbox import INBOX, RECEIVING


@dataclass(repr=False)
class Archive(Peer):
    """Counts how often it got what."""

    got: Counter[str] = field(default_factory=Counter)

    def store(self, event: object) -> int:
        """See :class:`Peer`."""
        self.got[str(event.request.AffectedSOPInstanceUID)] += 1  # type: ignore[attr-defined]
        return super().store(event)


class Listener:
    """The command, begun again whenever it was killed."""

    def __init__(self, call: Sequence[str], log: Path) -> None:
        self.call, self.log, self.begun = list(call), log, 0
        self.begin()

    def begin(self) -> None:
        """Begin it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.call, stdout=log, stderr=log, start_new_session=True)
        self.begun += 1

    def kill(self) -> None:
        """Kill it, and by turns all of its processes too, as a service's manager does; otherwise they find out."""
        assert self.process.poll() is None, f"it ended by itself: {self.log.read_text()}"
        if self.begun % 2:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()


def keep_sending(files: Sequence[Path], port: int, rng: random.Random, over: threading.Event) -> None:
    """Send files one after the other, each until somebody says that it has it."""
    waiting = list(files)
    while waiting and not over.is_set():
        several = waiting[: rng.randint(1, 4)]
        statuses = send(several, port)
        waiting = [file for file, status in zip(several, statuses, strict=True) if status != 0] + waiting[len(several) :]
        time.sleep(rng.uniform(0.0, 0.4))


def check(out: Path, cases: Sequence[Sequence[Path]], pacs: Archive) -> list[str]:
    """What is wrong; nothing, one hopes."""
    wrong = []
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        times = Counter(move.name for move in ledger.history() if (move.was, move.state) == ("running", "done"))
        sent = Counter(move.name for move in ledger.history() if move.kind == "sent")
    names = {case_name(series_uid(files[0])): files for files in cases}
    for what, counted in (("done", times), ("said to be sent", sent)):
        if counted != Counter(dict.fromkeys(names, 1)):
            wrong.append(f"{what}: {counted}")
    received = {str(one.SOPInstanceUID): one.PixelData for one in map(dcmread, (out / INBOX).glob("*/*.dcm"))}
    given = {str(one.SOPInstanceUID): one.PixelData for files in cases for one in map(dcmread, files)}
    if received != given:
        wrong.append("what was received is not what was sent")
    wrong += left_behind(out)
    for name in names:
        read_result(out / CASES / name)
    written = {str(one.SOPInstanceUID): one for one in map(dcmread, (out / DICOM).glob("*/*.dcm"))}
    if set(written) != set(pacs.objects) or any(one != pacs.objects[uid] for uid, one in written.items()):
        wrong.append("the PACS has not what was written")
    return wrong


def command() -> None:
    """The command line, which draws no pictures."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    running.LOADED += ("draws_little",)
    app.main()


def left_behind(out: Path) -> list[str]:
    """What lies half-written in a run's folder."""
    left = [*(out / INBOX / RECEIVING).iterdir(), *out.rglob(".*-????????"), *out.rglob(".writing-*")]
    return [f"left behind: {left}"] if left else []


def asked_for(title: str | None, cases: str | None = None) -> argparse.Namespace:
    """How often is killed, while how many ``cases`` come, and when."""
    parser = argparse.ArgumentParser(description=title.partition("\n")[0] if title else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cases", type=int, default=10, help=cases)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--longest", type=float, default=30.0, help="seconds between two kills, at most")
    return parser.parse_args()


def begun(work: Path, doors: Sequence[str]) -> Listener:
    """A listener by very small networks, whose folder is ``work/out`` and whose log ``work/log``."""
    bundle = save_tiny_bundle(work / "tiny")
    how = ["--bundle", str(bundle), "--device", "cpu", "--precision", "float32", "--deaths", "1000000"]
    program = [sys.executable, __file__, "pacs", "listen"]
    return Listener([*program, "--out", str(work / "out"), *doors, *how], work / "log")


def disturb(
    listener: Listener,
    asked: argparse.Namespace,
    rng: random.Random,
    arrive: Callable[[float, float, threading.Event], None],
    ended: Callable[[], None],
) -> list[str]:
    """Kill the listener while cases arrive, wait until all has ``ended``, and end it; what was wrong with its end.

    ``arrive`` is given a seed, the seconds between two cases at most, and what says that nobody waits for more.
    """
    over = threading.Event()
    coming = threading.Thread(target=arrive, args=(rng.random(), asked.kills * asked.longest / 3 / asked.cases, over))
    coming.start()
    try:
        for _ in range(asked.kills):
            time.sleep(0.2 + asked.longest * rng.random() ** 2)  # rather short than long
            listener.kill()
            listener.begin()
        coming.join(900)
        ended()
    finally:
        over.set()
        listener.process.send_signal(signal.SIGTERM)
        code = listener.process.wait(120)
    return [] if code == 128 + signal.SIGTERM else [f"it ended with {code}"]


def tell(wrong: Sequence[str], right: str, log: Path) -> None:
    """Say what is wrong, with the end of the log, or that all is ``right``."""
    print("\n".join(wrong) if wrong else right)
    if wrong:
        print(log.read_text()[-2000:])


def main() -> None:
    asked = asked_for(__doc__)
    rng, pacs = random.Random(asked.seed), Archive()
    with tempfile.TemporaryDirectory(prefix="srh-clinic-listener-") as folder:
        work = Path(folder)
        cases = [slide_files(work / f"slide-{number}", number) for number in range(asked.cases)]
        port, out = free_port(), work / "out"
        with listening(pacs, {kind: list(SYNTAXES) for kind in OBJECT_CLASSES}) as theirs:
            doors = ["--port", str(port), "--accept", SENDER, "--to", f"PEER@127.0.0.1:{theirs}", "--settle", "1"]

            def ended() -> None:
                until(lambda: all_sent(out, asked.cases), 900)
                until(lambda: send(cases[0][:1], port) == [0], 300)  # it listens again, and has it already

            wrong = disturb(begun(work, doors), asked, rng, partial(send_cases, cases, port), ended)
        wrong = check(out, cases, pacs) + wrong
        with Ledger(out / "ledger.sqlite", read=True) as ledger:
            attempts = [entry.attempts for entry in ledger.entries()]
        print(f"{asked.kills} kills, {asked.cases} cases, {sum(attempts)} attempts, ", end="")
        print(f"{len(pacs.got)} result objects, of which {sum(n > 1 for n in pacs.got.values())} were sent more than once")
        tell(wrong, "each case done exactly once, nothing half-written, nothing lost", work / "log")
    sys.exit(bool(wrong))


def send_cases(cases: Sequence[Sequence[Path]], port: int, seed: float, gap: float, over: threading.Event) -> None:
    """One case after the other, for as long as it is killed."""
    rng = random.Random(seed)
    for files in cases:
        keep_sending(files, port, rng, over)
        over.wait(rng.uniform(0.0, gap))


def all_sent(out: Path, cases: int) -> bool:
    """Whether the PACS has said that it has the results of all cases."""
    if not (out / "ledger.sqlite").exists():
        return False
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        return count_deliveries(ledger)["sent"] == cases


if __name__ == "__main__":
    command() if sys.argv[1:2] == ["pacs"] else main()
