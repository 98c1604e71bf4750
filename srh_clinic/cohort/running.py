"""A run: on this machine by worker processes that are begun, watched, begun again when they die, and ended together."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

from srh_clinic import __version__
from srh_clinic.cohort.cases import Listed, Shard
from srh_clinic.cohort.crew import FRUITLESS, TO_END, WATCHED, Crew
from srh_clinic.cohort.ledger import DEATHS, Entry, Ledger, State
from srh_clinic.cohort.settings import PARTIAL, has_outputs
from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

    from srh_clinic.cohort.settings import CaseSettings

MOST_WORKERS = 8
"""By default: each holds a model, and a machine with many cores may have little memory for each."""

SAFE_PATH = "PYTHONSAFEPATH"

LOADED: tuple[str, ...] = (
    *("srh_clinic.cohort.work", "srh_clinic.restorers.diffusion", "srh_clinic.classifiers", "srh_clinic.case.pictures"),
    *("timm", "matplotlib.figure"),
)
"""What is loaded once, by the process that all workers are copies of: they begin in no time, and share that memory."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries ask how many threads they may use, when they are loaded."""


@dataclass(frozen=True)
class Seen:
    """A run at one moment: cases by state, those in hand, workers that live, and seconds since it began.

    ``over`` is said once, at the end; ``left_out`` has a sentence for each worker that gets no case.
    """

    counts: dict[State, int]
    running: tuple[Entry, ...]
    workers: int
    seconds: float
    over: bool = False
    left_out: tuple[str, ...] = ()


def ledger_file(out: Path, shard: Shard) -> Path:
    """Where the ledger of a run lies: one for each shard, so that shards on several machines share none."""
    return out / f"ledger{shard.suffix}.sqlite"


def ledgers_in(out: Path) -> list[Path]:
    """The ledgers of a run's folder.

    Raises
    ------
    InputError
        When there is none.
    """
    found = sorted(out.glob("ledger*.sqlite"))
    if not found:
        raise InputError("no ledger", "the folder of a cohort run (--out)", out)
    return found


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: str) -> int:
    """One for each core, up to :data:`MOST_WORKERS`; one on a graphics card, which works on a case's tiles together."""
    if device == "cpu":
        return min(cores(), MOST_WORKERS)
    if device == "auto":
        import torch

        return 1 if torch.cuda.is_available() else min(cores(), MOST_WORKERS)
    return 1


def run_cohort(
    cases: Sequence[Listed],
    settings: CaseSettings,
    out: Path,
    *,
    shard: Shard = Shard(),  # noqa: B008 - it is frozen
    workers: int = 1,
    scheduler: str | None = None,
    deaths: int = DEATHS,
    watch: Callable[[Seen, Ledger], object] = lambda seen, ledger: None,
) -> list[Entry]:
    """Do every case that is not done, and go on past those that cannot be.

    A run that was cut goes on when it is called again, and one that is called beside it takes part: the ledger says who does
    what. Ends by any exception, such as that of a signal, once its workers have handed back what they had in hand.

    Parameters
    ----------
    cases
        Those of this shard.
    workers
        Processes, each with its own networks and an equal part of the cores' threads.
    scheduler
        Address of a Dask scheduler whose workers do the cases (:mod:`srh_clinic.cohort.cluster`), not ``workers`` here.
    deaths
        Workers that may die on a case before it is parked.
    watch
        Called a few times a second, and once at the end.

    Returns
    -------
    What the ledger says of each case, in their order.

    Raises
    ------
    InputError
        When the settings cannot be used, or are others than the ledger's cases were begun with.
    OSError
        When the disk is full.
    RuntimeError
        When workers die again and again before they take a case.
    """
    began, path = time.monotonic(), ledger_file(out, shard)
    with ExitStack() as stack:
        client = None if scheduler is None else _connect(stack, scheduler)
        out.mkdir(parents=True, exist_ok=True)
        ledger = stack.enter_context(Ledger(path, deaths=deaths))
        ledger.require_whole()
        ledger.enrol([case.enrolled() for case in cases], {case.name for case in cases if has_outputs(out, case.name)})
        asked = json.loads(json.dumps({"version": __version__, **asdict(settings)}, default=str))
        checked = ledger.asked() == asked  # otherwise a worker compares what comes of it, even when nothing is to do
        with _crew_of(client, settings, out, ledger, workers) as crew:
            while True:
                ledger.beat()
                counts, running = ledger.overview()
                waiting = counts["waiting"] + counts["running"]
                crew.look(waiting if waiting or checked else 1, ledger)
                checked = checked or crew.checked
                over = not waiting and not crew.busy and checked
                watch(
                    Seen(counts, tuple(running), crew.alive, time.monotonic() - began, over, crew.left_out),
                    ledger,
                )
                if over:
                    break
                crew.wait()
        ledger.ask(asked)
        with suppress(OSError):  # another run beside this one may have tiles there
            (out / PARTIAL).rmdir()
        names = {case.name for case in cases}
        return [entry for entry in ledger.entries() if entry.name in names]


def _connect(stack: ExitStack, scheduler: str) -> Client:
    from srh_clinic.cohort.cluster import connected

    return stack.enter_context(connected(scheduler))


def _crew_of(
    client: Client | None, settings: CaseSettings, out: Path, ledger: Ledger, workers: int
) -> AbstractContextManager[Crew]:
    if client is None:
        return local_crew(settings, out, ledger.path, workers, ledger.deaths)
    from srh_clinic.cohort.cluster import cluster_crew

    return cluster_crew(client, settings, out, ledger)


class _LocalCrew:
    """The worker processes of a run, a :class:`Crew`."""

    left_out: tuple[str, ...] = ()

    def __init__(self, begin: Callable[[], tuple[ForkServerProcess, Connection]], size: int) -> None:
        self._begin, self._size = begin, size
        self._members: list[tuple[ForkServerProcess, Connection]] = []
        self._died, self._moves = 0, 0
        self.checked = False

    @property
    def alive(self) -> int:
        """How many processes there are."""
        return len(self._members)

    @property
    def busy(self) -> bool:
        """Whether there is a process: it ends when no case is open."""
        return bool(self._members)

    def wait(self) -> None:
        """A while."""
        time.sleep(WATCHED)

    def look(self, waiting: int, ledger: Ledger) -> None:
        """See who has ended and why, and begin as many as there is work for."""
        self._bury(ledger)
        while len(self._members) < min(self._size, waiting):
            self._members.append(self._begin())

    def _bury(self, ledger: Ledger) -> None:
        for member in [one for one in self._members if not one[0].is_alive()]:
            process, said = member
            self._members.remove(member)
            try:
                if said.poll():
                    _raise(said.recv())
            except EOFError:
                pass
            finally:
                said.close()
            process.join()
            if process.exitcode == 0:
                self.checked = True
                continue
            ledger.take_back()
            moves = ledger.moves()
            self._died, self._moves = (self._died + 1 if moves == self._moves else 1), moves
            if self._died > FRUITLESS * self._size:
                raise RuntimeError(f"workers end by themselves (exit code {process.exitcode}) and no case gets on")

    def end(self) -> None:
        """Have everyone hand back the case in hand, and wait for it."""
        for process, _ in self._members:
            process.terminate()
        until = time.monotonic() + TO_END
        for process, said in self._members:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            said.close()
        self._members.clear()


@contextmanager
def local_crew(
    settings: CaseSettings, out: Path, ledger: Path, size: int, deaths: int = DEATHS, *, stay: bool = False
) -> Iterator[_LocalCrew]:
    """Worker processes, ``size`` at most, begun when they are looked at; they hand back their cases when the context ends.

    Parameters
    ----------
    stay
        Whether a worker that finds nothing to do waits, with its networks, for what comes.
    """
    threads = max(1, cores() // size)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    with _few_threads(threads):
        members = _LocalCrew(lambda: _begun(context, (settings, out, ledger, threads), deaths, stay), size)
        try:
            yield members
        finally:
            members.end()


def _begun(
    context: ForkServerContext, given: tuple[CaseSettings, Path, Path, int], deaths: int, stay: bool
) -> tuple[ForkServerProcess, Connection]:
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(*given, said, deaths, stay), name="cohort-worker")
    process.start()
    said.close()
    return process, heard


def _work(settings: CaseSettings, out: Path, ledger: Path, threads: int, said: Connection, deaths: int, stay: bool) -> None:
    from srh_clinic.cohort.work import work

    work(settings, out, ledger, threads, said.send, deaths, stay=stay)


def _raise(said: tuple[str, ...]) -> None:
    """What a worker could not work with, here."""
    kind, *words = said
    if kind == "input":
        raise InputError(words[0], words[1], words[2] or None)
    raise OSError(int(words[0]), words[1], words[2])


@contextmanager
def _few_threads(threads: int) -> Iterator[None]:
    """Let libraries that processes begun here load use so many threads, unless the user has said how many.

    Nor do these processes look for libraries in the working folder: Python does when it begins the first of them, and a file
    there may have the name of one.
    """
    ours = [name for name in (*THREADS, SAFE_PATH) if name not in os.environ]
    os.environ.update({name: "1" if name == SAFE_PATH else str(threads) for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
