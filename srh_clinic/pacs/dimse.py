"""An application entity of the DICOM network as an archive: C-STORE, C-FIND, and C-GET or C-MOVE (PS3.4 B and C)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from srh_clinic.errors import InputError
from srh_clinic.files import whole_file
from srh_clinic.integration.network import ECHO, FIND, GET, MOST_CONTEXTS, MOVE, OBJECT_CLASSES, RECEIVED, name_of_uid
from srh_clinic.pacs.address import Node, is_this_machine
from srh_clinic.pacs.credentials import Trust
from srh_clinic.pacs.objects import Instance, ObjectFile, ServiceError, Wanted, checked_uid, is_whole, place_of
from srh_clinic.pacs.reasons import reason_of
from srh_clinic.progress import Progress

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

TITLE = "SRHCLINIC"
"""What we are called where the call does not say it."""

PATIENCE = 60.0
"""Seconds for the next message of the other side."""

CONNECTING = 15.0
"""Seconds for a connection, and for an association to be accepted."""

PENDING = (0xFF00, 0xFF01)

How = Literal["get", "move"]

T = TypeVar("T")

ASSOCIATIONS = 3
"""That are tried when one breaks off: pynetdicom may lose an answer on a busy machine, and a network an association."""


class BrokeOffError(ServiceError):
    """An association that was there ended before all was said."""


def _persisting(do: Callable[[], T]) -> T:
    """Do something, and again by another association when one breaks off; what is done twice must do no harm."""
    for _ in range(ASSOCIATIONS - 1):
        with suppress(BrokeOffError):
            return do()
    return do()


@dataclass(frozen=True)
class NodeArchive:
    """An application entity.

    Attributes
    ----------
    title
        Ours.
    trust
        For a node that is called by TLS.
    how
        Whether objects come by C-GET, on the association that asks for them, or by C-MOVE, on one that the other side opens to
        the ``port`` of this machine that it knows our title by.
    """

    node: Node
    title: str = TITLE
    trust: Trust = field(default_factory=Trust)
    how: How = "get"
    port: int = 0

    def store(self, objects: Sequence[ObjectFile], progress: Progress) -> dict[str, str]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        from pynetdicom.presentation import build_context

        pairs = sorted({(one.instance.sop_class, one.syntax) for one in objects})
        if len(pairs) >= MOST_CONTEXTS:
            found = f"objects of {len(pairs)} combinations of SOP class and transfer syntax"
            raise InputError(found, f"fewer than {MOST_CONTEXTS}, which is what one association holds; send them in parts")
        # without C-ECHO beside them, an archive that takes none of them would end the association and say no more
        contexts = [build_context(ECHO), *(build_context(*pair) for pair in pairs)]
        answers: dict[str, str] = {}
        _persisting(lambda: self._send(objects, contexts, answers, progress))
        return {uid: why for uid, why in answers.items() if why}

    def _send(
        self,
        objects: Sequence[ObjectFile],
        contexts: list[PresentationContext],
        answers: dict[str, str],
        progress: Progress,
    ) -> None:
        """Send what has no answer yet; an answer is why an object was refused, and empty when it was taken."""
        with self._associated(contexts, "a store") as association, _as_they_lie():
            accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
            for one in objects:
                progress("sending", len(answers), len(objects))
                if one.instance.sop in answers:
                    continue
                if (one.instance.sop_class, one.syntax) not in accepted:
                    kind, syntax = name_of_uid(one.instance.sop_class), name_of_uid(one.syntax)
                    answers[one.instance.sop] = f"not taken: {kind} in {syntax}"
                    continue
                status = _status(association.send_c_store(one.path), "a store", self.node)
                taken = status == 0 or status & 0xF000 == 0xB000  # of warnings it says that it has the object
                answers[one.instance.sop] = "" if taken else reason_of(status)
            progress("sending", len(answers), len(objects))

    def held(self, objects: Sequence[ObjectFile]) -> set[str]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        return _persisting(lambda: self._held(objects))

    def _held(self, objects: Sequence[ObjectFile]) -> set[str]:
        there: set[str] = set()
        with self._finding() as association:
            for study, series in sorted({(one.instance.study, one.instance.series) for one in objects}):
                there |= {one.sop for one in self._instances(association, study, series)}
        return there & {one.instance.sop for one in objects}

    def announced(self, wanted: Wanted) -> list[Instance]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        return _persisting(lambda: self._announced(wanted))

    def _announced(self, wanted: Wanted) -> list[Instance]:
        with self._finding() as association:
            instances: list[Instance] = []
            for study in self._studies(association, wanted):
                for one in self._find(association, "SERIES", **_series_keys(study, wanted)):
                    series = str(one.get("SeriesInstanceUID", ""))
                    if wanted.is_of(series, str(one.get("Modality", ""))):
                        instances += self._instances(association, study, series)
        return sorted(set(instances))

    def fetch(self, instances: Sequence[Instance], folder: Path, progress: Progress) -> None:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        _persisting(lambda: self._fetch(instances, folder, progress))

    def _fetch(self, instances: Sequence[Instance], folder: Path, progress: Progress) -> None:
        missing = [one for one in instances if not is_whole(place_of(one, folder), one)]
        if not missing:
            return
        come = _Coming({one.sop: one for one in missing}, folder, progress)
        by_series: dict[tuple[str, str], list[Instance]] = {}
        for one in missing:
            by_series.setdefault((one.study, one.series), []).append(one)
        with self._getting(missing, come) if self.how == "get" else self._moving(come) as ask:
            for (study, series), those in by_series.items():
                # by UIDs of instances: what is there already, or belongs to a series of another modality, does not travel
                keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
                ask(_identifier("IMAGE", **keys, SOPInstanceUID=[one.sop for one in those]))

    def _studies(self, association: Association, wanted: Wanted) -> list[str]:
        if wanted.study and not (wanted.patient or wanted.accession):
            return [wanted.study]
        keys = {"StudyInstanceUID": wanted.study, "PatientID": wanted.patient, "AccessionNumber": wanted.accession}
        if wanted.series and not any(keys.values()):
            raise InputError("a series without its study", "--study too, which C-FIND asks for", str(self.node))
        found = self._find(association, "STUDY", **keys)
        return sorted({checked_uid(str(one.get("StudyInstanceUID", ""))) for one in found})

    def _instances(self, association: Association, study: str, series: str) -> list[Instance]:
        keys = {"StudyInstanceUID": checked_uid(study), "SeriesInstanceUID": checked_uid(series), "SOPClassUID": ""}
        found = self._find(association, "IMAGE", SOPInstanceUID="", **keys)
        said = [(checked_uid(str(one.get("SOPInstanceUID", ""))), str(one.get("SOPClassUID", ""))) for one in found]
        return [Instance(study, series, *uids) for uids in said]

    def _find(self, association: Association, level: str, **keys: str) -> list[Dataset]:
        """All that is found: an association answers one question at a time, so nobody may ask another between two answers."""
        all_found = []
        for said, found in association.send_c_find(_identifier(level, **keys), FIND):
            status = _status(said, "a search", self.node)
            if status in PENDING:
                all_found += [] if found is None else [found]
            elif status != 0:
                raise ServiceError(f"the answer {reason_of(status)} to a search", "a node that answers C-FIND", str(self.node))
        return all_found

    @contextmanager
    def _finding(self) -> Iterator[Association]:
        from pynetdicom.presentation import build_context

        with self._associated([build_context(FIND)], "a search") as association:
            yield association

    @contextmanager
    def _getting(self, instances: Sequence[Instance], come: _Coming) -> Iterator[Any]:
        """Ask by C-GET: the objects come back on the same association, each in a presentation context of its own syntax.

        A context that offers several syntaxes lets the other side choose one that it cannot turn its object into.
        """
        from pynetdicom import evt
        from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
        from pynetdicom.presentation import build_context, build_role

        classes = sorted({one.sop_class for one in instances if one.sop_class} or set(OBJECT_CLASSES))
        contexts = [build_context(GET), *(build_context(kind, syntax) for kind in classes for syntax in RECEIVED)]
        if len(contexts) > MOST_CONTEXTS:
            raise InputError(f"objects of {len(classes)} SOP classes", "fewer; fetch them in parts (--series)")
        roles: list[SCP_SCU_RoleSelectionNegotiation] = [build_role(kind, scp_role=True) for kind in classes]
        handlers = [(evt.EVT_C_STORE, come.take)]
        with self._associated(contexts, "a retrieval", roles, handlers) as association, _to_files():

            def ask(identifier: Dataset) -> None:
                _drain(association.send_c_get(identifier, GET), self.node)

            yield ask

    @contextmanager
    def _moving(self, come: _Coming) -> Iterator[Any]:
        """Ask by C-MOVE: the objects come to a port of this machine, open for as long as it takes and to that entity alone."""
        from pynetdicom import AE, evt
        from pynetdicom.presentation import build_context

        if not self.port:
            raise InputError("no port for C-MOVE", "--port, by which the other side knows our AE title", str(self.node))
        server = AE(self.title)
        server.require_called_aet = True
        server.require_calling_aet = [self.node.title]
        server.supported_contexts = [build_context(kind, list(RECEIVED)) for kind in OBJECT_CLASSES]
        here = "127.0.0.1" if is_this_machine(self.node.host) else ""
        secure = self.trust.server_context() if self.node.secure else None
        with _to_files():
            try:
                running = server.start_server((here, self.port), False, secure, [(evt.EVT_C_STORE, come.take)])
            except OSError as error:
                raise InputError(f"port {self.port} in use", "a free one (--port)") from error
            try:
                with self._associated([build_context(MOVE)], "a retrieval") as association:

                    def ask(identifier: Dataset) -> None:
                        _drain(association.send_c_move(identifier, self.title, MOVE), self.node)

                    yield ask
            finally:
                if running is not None:
                    running.shutdown()

    @contextmanager
    def _associated(
        self, contexts: list[PresentationContext], what: str, roles: list[Any] | None = None, handlers: list[Any] | None = None
    ) -> Iterator[Association]:
        """An association, released at the end, aborted when something goes wrong."""
        from pynetdicom import AE

        us = AE(self.title)
        us.connection_timeout = us.acse_timeout = CONNECTING
        us.dimse_timeout = us.network_timeout = PATIENCE
        tls: Any = (self.trust.context(), self.node.host) if self.node.secure else None
        where = {"ae_title": self.node.title, "ext_neg": roles, "evt_handlers": handlers, "tls_args": tls}
        association = us.associate(self.node.host, self.node.port, contexts, **where)
        if not association.is_established:
            found = "an association that is refused" if association.is_rejected else "no association"
            needed = f"a node that listens there and knows {self.title} and {self.node.title}" + (", by TLS" if tls else "")
            raise ServiceError(f"{found} for {what}", needed, str(self.node))
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()


class _Coming:
    """Objects that come: each of those that were asked for to its place, whole, and no other anywhere."""

    def __init__(self, wanted: dict[str, Instance], folder: Path, progress: Progress) -> None:
        self._wanted, self._folder, self._progress = wanted, folder, progress
        self._taken = 0

    def take(self, event: Event) -> int:
        """What C-STORE is answered: success when the file is on the disk."""
        instance = self._wanted.get(str(event.request.AffectedSOPInstanceUID))
        if instance is None:
            return 0xC000
        try:
            place = place_of(instance, self._folder)
            with whole_file(place) as draft:
                shutil.copyfile(event.dataset_path, draft)
                if not is_whole(draft, instance):
                    return 0xA900
        except OSError:
            return 0xA700
        self._taken += 1
        self._progress("fetching", self._taken, len(self._wanted))
        return 0x0000


def _identifier(level: str, **keys: str | list[str]) -> Dataset:
    from pydicom import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _series_keys(study: str, wanted: Wanted) -> dict[str, str]:
    return {"StudyInstanceUID": checked_uid(study), "SeriesInstanceUID": wanted.series, "Modality": ""}


def _drain(answers: Iterator[tuple[Dataset, Dataset | None]], node: Node) -> None:
    """Hear a retrieval to its end. That objects failed is seen by what has not come; that it was refused is said."""
    for said, _ in answers:
        status = _status(said, "a retrieval", node)
        if status in (*PENDING, 0x0000, 0xB000) or (status & 0xFF00 == 0xC000 and "NumberOfFailedSuboperations" in said):
            continue
        needed = "a node that retrieves, and for C-MOVE knows our AE title (--title) at this machine's --port"
        words = "move destination unknown (0xA801)" if status == _UNKNOWN_DESTINATION else reason_of(status)
        raise ServiceError(f"the answer {words} to a retrieval", needed, str(node))


_UNKNOWN_DESTINATION = 0xA801


def _status(said: Dataset, what: str, node: Node) -> int:
    """The status of an answer; an empty one means that there was none."""
    if "Status" not in said:
        raise BrokeOffError(f"a connection that broke off during {what}", "a node that answers", str(node))
    return int(said.Status)


@contextmanager
def _as_they_lie() -> Iterator[None]:
    """Send files piece by piece as they are encoded; pynetdicom would decode each whole, and encode it anew."""
    with _configured("STORE_SEND_CHUNKED_DATASET"):
        yield


@contextmanager
def _to_files() -> Iterator[None]:
    """Receive objects into temporary files, not into memory."""
    with _configured("STORE_RECV_CHUNKED_DATASET"):
        yield


@contextmanager
def _configured(name: str) -> Iterator[None]:
    from pynetdicom import _config

    before = getattr(_config, name)
    setattr(_config, name, True)
    try:
        yield
    finally:
        setattr(_config, name, before)
