"""An application entity for tests that keeps what it is sent, finds it, and gives it back: pynetdicom's acceptor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

MODELS = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass(repr=False)
class Peer:
    """What it has, how it answers, and whom it knows: our port for C-MOVE."""

    objects: dict[str, Dataset] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    withhold: set[str] = field(default_factory=set)
    known: dict[str, int] = field(default_factory=dict)
    breaks: tuple[int, ...] = ()
    stored: int = 0

    def store(self, event: Any) -> int:
        """C-STORE."""
        uid = str(event.request.AffectedSOPInstanceUID)
        self.stored += 1
        if self.stored in self.breaks:
            event.assoc.abort()
        status = self.statuses.get(uid, 0)
        if status == 0 or status & 0xF000 == 0xB000:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.objects[uid] = dataset
        return status

    def matching(self, identifier: Dataset) -> list[Dataset]:
        """The objects that an identifier asks for."""
        found = []
        for one in self.objects.values():
            wanted = {e.keyword: e.value for e in identifier if e.value and e.keyword != "QueryRetrieveLevel"}
            if all(one.get(k) == v or (not isinstance(v, str) and one.get(k) in list(v)) for k, v in wanted.items()):
                found.append(one)
        return found

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """C-FIND."""
        identifier = event.identifier
        said = set()
        for one in self.matching(identifier):
            answer = Dataset()
            answer.QueryRetrieveLevel = identifier.QueryRetrieveLevel
            for element in identifier:
                if element.keyword != "QueryRetrieveLevel":
                    setattr(answer, element.keyword, one.get(element.keyword, ""))
            key = answer.get(UNIQUE[identifier.QueryRetrieveLevel])
            if key not in said:
                said.add(key)
                yield 0xFF00, answer

    def get(self, event: Any) -> Iterator[Any]:
        """C-GET."""
        found = [one for one in self.matching(event.identifier) if one.SOPInstanceUID not in self.withhold]
        yield len(found)
        for one in found:
            yield 0xFF00, one

    def move(self, event: Any) -> Iterator[Any]:
        """C-MOVE."""
        port = self.known.get(event.move_destination)
        if port is None:
            yield None, None
            return
        yield "127.0.0.1", port
        yield from self.get(event)


@contextmanager
def listening(peer: Peer, contexts: dict[str, list[str]], ssl_context: Any = None) -> Iterator[int]:
    """The entity PEER for as long as it is needed, for these transfer syntaxes of SOP classes; its port."""
    ae = AE("PEER")
    ae.network_timeout = 5  # pynetdicom may lose an answer on a busy machine, and then both sides wait
    ae.supported_contexts = [
        *(build_context(model) for model in (Verification, *MODELS)),
        *(build_context(kind, syntaxes) for kind, syntaxes in contexts.items()),
    ]
    ae.requested_contexts = [build_context(kind, one) for kind, syntaxes in contexts.items() for one in syntaxes]  # C-MOVE
    for context in ae.supported_contexts:
        context.scu_role = context.scp_role = True
    handlers = [
        (evt.EVT_C_STORE, peer.store),
        (evt.EVT_C_FIND, peer.find),
        (evt.EVT_C_GET, peer.get),
        (evt.EVT_C_MOVE, peer.move),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=ssl_context)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        until = time.monotonic() + 5
        while ae.active_associations and time.monotonic() < until:
            time.sleep(0.01)


def objects_of(files: list[Any]) -> dict[str, Dataset]:
    """Files as the peer keeps them."""
    found = [dcmread(file) for file in files]
    return {str(one.SOPInstanceUID): one for one in found}
