"""Workers of a Dask cluster do the cases of a run.

The ledger stays with the run: it claims a case, sends it to a worker that has none, and notes what came of it. So one process
writes to the ledger, whatever file system it lies on, and a case has the states that it has with workers here. Results go
into the run's folder, which every worker must see. A worker that has gone loses its case, which another one gets; what it
has finished is found there and not computed again.

No task raises and no key names a file: what Dask logs of a task says of nobody whose case it is.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic import __version__
from srh_clinic.cohort.crew import FRUITLESS, TO_END, WATCHED
from srh_clinic.cohort.ledger import RENEWED, Claim, Ledger
from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future

    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.cohort.settings import CaseSettings
    from srh_clinic.cohort.work import Outcome

PACKAGE = "srh-clinic"

CONNECTED = 10.0
"""Seconds within which a scheduler must answer."""

PATIENCE = 60.0
"""Seconds to wait for a worker when the cluster has none."""

TOLD = 1.0
"""Seconds between two words of a worker on how far its case is."""

Refusal = tuple[str, str, str]
"""What an :class:`InputError` says: found, needed, and the path or nothing."""


@dataclass(eq=False)
class _Member:
    """A worker process of the cluster: what was asked of it, and the case that it has in hand."""

    address: str
    threads: int
    future: Future
    hear: Callable[[_Member, Any], None]
    claim: Claim | None = None
    stage: str = ""
    ready: bool = False
    refused: InputError | None = None


@contextmanager
def cluster_crew(client: Client, settings: CaseSettings, out: Path, ledger: Ledger) -> Iterator[_ClusterCrew]:
    """The workers of the cluster of a :func:`connected` client, until the end."""
    crew = _ClusterCrew(client, settings, out.absolute(), ledger)
    try:
        yield crew
    finally:
        crew.end()


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """The client of a Dask scheduler at an address such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    InputError
        When there is no Dask here, no scheduler there, or one without this version of this package.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("no Dask", f"it (pip install '{PACKAGE}[cluster]')") from error
    for name in ("distributed", "distributed.client"):  # what they say of a lost connection, we say in one sentence
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECTED, set_as_default=False, name=PACKAGE)
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(
            f"no Dask scheduler at {address!r} ({type(error).__name__})",
            "the address of one that runs, such as tcp://host:8786",
        ) from error
    try:
        _require_version(_scheduler_version(client), f"the scheduler at {address}")
        yield client
    finally:
        with suppress(OSError):
            client.close(timeout=CONNECTED)


def _scheduler_version(client: Client) -> object:
    try:
        return client.run_on_scheduler(metadata.version, PACKAGE)
    except (metadata.PackageNotFoundError, OSError) as error:
        return error


def _require_version(found: object, where: str) -> None:
    if found != __version__:
        has = f"{PACKAGE} {found}" if isinstance(found, str) else f"no {PACKAGE}"
        raise InputError(f"{has} on {where}", f"{__version__}, the version that is called here")


class _ClusterCrew:
    """The workers of a cluster, each with one case at a time and all of its threads, as a crew."""

    def __init__(self, client: Client, settings: CaseSettings, out: Path, ledger: Ledger) -> None:
        self._client, self._address, self._ledger = client, client.scheduler.address, ledger
        self._settings, self._out = settings, out
        self._members: dict[str, _Member] = {}
        self._topic = f"{PACKAGE}-{secrets.token_hex(4)}"
        self._woken = threading.Event()
        self._renewed = self._peopled = time.monotonic()
        self._died = 0
        self.checked = False
        client.subscribe_topic(self._topic, self._hear_stage)

    @property
    def alive(self) -> int:
        """How many can do a case."""
        return sum(member.ready for member in self._members.values())

    @property
    def busy(self) -> bool:
        """Whether one has a case in hand."""
        return any(member.claim is not None for member in self._members.values())

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each worker that can do none."""
        return tuple(str(member.refused) for member in self._members.values() if member.refused is not None)

    def wait(self) -> None:
        """Until a worker has something to say, or a while."""
        self._woken.wait(WATCHED)
        self._woken.clear()

    def look(self, waiting: int, ledger: Ledger) -> None:
        """Hear what workers have to say, part with those that have gone, welcome new ones, and hand out cases.

        Raises
        ------
        InputError
            When the scheduler has gone, when there is no worker, or none that can do a case.
        """
        there = self._threads()
        for address in self._members.keys() - there.keys():
            self._part_with(self._members.pop(address))
        for address in there.keys() - self._members.keys():
            self._members[address] = self._welcome(address, there[address])
        for member in self._members.values():
            if member.future.done():
                self._hear(member)
        self._renew()
        for member in self._members.values():
            if member.ready and member.claim is None and waiting:
                self._hand_out(member)
        self._require_workers()

    def end(self) -> None:
        """Have everyone hand back the case in hand, and wait for it."""
        at_work = [member for member in self._members.values() if member.claim is not None]
        if at_work and self._client.status == "running":
            tokens = [member.claim.token for member in at_work if member.claim is not None]
            with suppress(OSError):
                self._client.run(stop, tokens, workers=[member.address for member in at_work], wait=False, on_error="ignore")
            until = time.monotonic() + TO_END
            while any(not member.future.done() for member in at_work) and time.monotonic() < until:
                self.wait()
        for member in at_work:
            if member.future.status == "finished":
                with suppress(OSError):
                    self._hear(member)
            if member.claim is not None:
                self._ledger.hand_back(member.claim, "stopped")
            member.future.release()
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)

    def _threads(self) -> dict[str, int]:
        """How many threads each worker has that is there."""
        try:
            return dict(self._client.nthreads())
        except OSError as error:
            raise InputError(
                f"that the Dask scheduler at {self._address} has gone", "it to run; the same call then goes on"
            ) from error

    def _welcome(self, address: str, threads: int) -> _Member:
        return _Member(address, threads, self._send(address, "version", metadata.version, PACKAGE), self._hear_version)

    def _send(self, address: str, what: str, function: Callable[..., Any], *given: Any) -> Future:
        """A task for one worker alone; nobody else gets it when that one dies."""
        key = f"{PACKAGE}-{what}-{secrets.token_hex(8)}"
        only = {"workers": [address], "allow_other_workers": False, "pure": False, "retries": 0}
        future = self._client.submit(function, *given, key=key, **only)
        future.add_done_callback(lambda _: self._woken.set())
        return future

    def _hear(self, member: _Member) -> None:
        """What a worker says of what it was last asked."""
        if member.refused is not None or (member.ready and member.claim is None):
            return
        if member.future.status == "finished":
            with suppress(TimeoutError, CancelledError):  # it has gone since, with what it had to say
                member.hear(member, member.future.result(timeout=CONNECTED))
        elif member.claim is None:
            self._refuse(member, InputError(f"no {PACKAGE} on {member.address}", f"{__version__}, as here"))
        else:
            self._ledger.lose(member.claim)
            member.claim = None

    def _hear_version(self, member: _Member, version: str) -> None:
        try:
            _require_version(version, f"the worker {member.address}")
        except InputError as error:
            self._refuse(member, error)
            return
        member.future = self._send(member.address, "prepare", prepare, self._settings, self._out, self._ledger.path.name)
        member.hear = self._hear_prepared

    def _hear_prepared(self, member: _Member, said: Refusal | dict[str, Any]) -> None:
        if isinstance(said, tuple):
            found, needed, path = said
            self._refuse(member, InputError(f"{found} on the worker {member.address}", needed, path or None))
            return
        try:
            self._ledger.adopt(said)
        except InputError as error:
            self._refuse(member, error)
            return
        member.ready = self.checked = True
        self._died = 0

    def _hear_case(self, member: _Member, outcome: Outcome) -> None:
        from srh_clinic.cohort.work import note

        claim, member.claim = member.claim, None
        if claim is not None:
            note(self._ledger, claim, outcome, self._out)

    def _hear_stage(self, event: tuple[float, Any]) -> None:
        address, stage = event[1]
        if (member := self._members.get(address)) is not None:
            member.stage = stage

    def _refuse(self, member: _Member, error: InputError) -> None:
        member.refused = error
        if all(one.refused is not None for one in self._members.values()):
            raise error

    def _hand_out(self, member: _Member) -> None:
        if (claim := self._ledger.claim()) is None:
            return
        member.claim, member.stage, member.hear = claim, "", self._hear_case
        given = (self._settings, self._out, claim, member.threads, self._topic, member.address)
        member.future = self._send(member.address, claim.name, do_one, *given)

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < self._ledger.lease / RENEWED:
            return
        self._renewed = time.monotonic()
        for member in self._members.values():
            if member.claim is not None:
                with suppress(InputError, OSError):  # the next time may find room, and the lease outlives some
                    self._ledger.renew(member.claim, member.stage)

    def _part_with(self, member: _Member) -> None:
        member.future.cancel()
        if member.claim is not None:
            self._ledger.lose(member.claim)
        elif not member.ready:
            self._died += 1
            if self._died > FRUITLESS * max(1, len(self._members)):
                raise RuntimeError("workers end by themselves before they take a case")

    def _require_workers(self) -> None:
        now = time.monotonic()
        if self._members:
            self._peopled = now
        elif now - self._peopled > PATIENCE:
            raise InputError(
                f"no worker at the Dask scheduler at {self._address} for {PATIENCE:.0f} s",
                f"workers there (dask worker {self._address})",
            )


# What follows runs in the workers.

_ONE_CASE = threading.Lock()
"""A worker has one set of networks, for one case at a time, whoever sends them."""

_prepared: list[tuple[CaseSettings, RestoreThenClassify]] = []

_stopped: set[str] = set()
"""Claims that are not to be gone on with."""


def prepare(settings: CaseSettings, out: Path, ledger: str) -> Refusal | dict[str, Any]:
    """Load the networks and say what a result depends on beside its case, or what is wrong."""
    try:
        if not (out / ledger).is_file():
            return "no folder of this run", "a folder that all workers share under one path", str(out)
        with _ONE_CASE:
            return settings.depends_on(_pipeline(settings))
    except InputError as error:
        return error.found, error.needed, str(error.path or "")
    except Exception as error:
        return f"{type(error).__name__} when networks were loaded", "an installation that srh-clinic doctor finds whole", ""


def _pipeline(settings: CaseSettings) -> RestoreThenClassify:
    if not _prepared or _prepared[0][0] != settings:
        _prepared[:] = [(settings, settings.pipeline())]
    return _prepared[0][1]


def do_one(settings: CaseSettings, out: Path, claim: Claim, threads: int, topic: str, address: str) -> Outcome:
    """Do a case with so many threads, and tell on ``topic`` how far it is."""
    import torch
    from distributed import get_worker

    from srh_clinic.cohort.work import Done, Stopped, attempt, do_case, hush

    worker, told = get_worker(), 0.0
    hush()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal told
        if claim.token in _stopped:
            raise Stopped
        if time.monotonic() - told > TOLD:
            told = time.monotonic()
            worker.log_event(topic, (address, f"{stage} {done}/{total}"))

    def do() -> Done:
        if claim.token in _stopped:
            raise Stopped
        return do_case(_pipeline(settings), settings, out, claim.name, claim.source, report)

    with _ONE_CASE:
        torch.set_num_threads(threads)  # of this thread of the worker's alone
        outcome = attempt(do)
    _stopped.discard(claim.token)
    return outcome


def stop(tokens: list[str]) -> None:
    """Let cases wait again as soon as what is being done is done; their tiles stay."""
    _stopped.update(tokens)
