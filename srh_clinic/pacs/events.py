"""Cancel requests for workitems, as a service tells whoever has subscribed to them (PS3.18 8.10, 11.8 and 11.10)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from srh_clinic.errors import InputError
from srh_clinic.pacs.dicom_json import Json, datasets_in, text
from srh_clinic.pacs.objects import ServiceError
from srh_clinic.pacs.worklist import CANCEL_REQUESTED, Worklist

if TYPE_CHECKING:
    from websocket import WebSocket

HEARD = 1.0
"""Seconds after which somebody who hears nothing looks whether to go on."""

AGAIN = 10.0
"""Seconds until a channel that broke is opened again, and until one that could not be asked for is asked for once more."""

CONNECTING = 10.0
"""Seconds for a channel to open."""


class CancelRequests:
    """Which workitems their requesters want canceled; heard in a thread, asked from another.

    A service that has no channel tells nothing, and its workitems are then canceled at the service alone: the claim is lost.
    """

    def __init__(self, worklist: Worklist) -> None:
        self.worklist = worklist
        self._wanted: dict[str, Json] = {}
        self._watched: set[str] = set()
        self._asked: dict[str, float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, uid: str) -> None:
        """Hear of a workitem from now on; does nothing the second time."""
        with self._lock:
            if uid in self._watched or time.monotonic() - self._asked.get(uid, -AGAIN) < AGAIN:
                return
            self._asked[uid] = time.monotonic()
        try:
            told = self.worklist.subscribe(uid)
        except ServiceError:  # the next time it may answer
            return
        with self._lock:
            self._watched.add(uid)
        if not told:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._hear, name="events", daemon=True)
            self._thread.start()

    def wants(self, uid: str) -> Json | None:
        """What the request to cancel a workitem says; None when there is none."""
        with self._lock:
            return self._wanted.get(uid)

    def forget(self, uid: str) -> None:
        """A workitem is at its end."""
        with self._lock:
            self._wanted.pop(uid, None)
            self._watched.discard(uid)
            self._asked.pop(uid, None)

    def close(self) -> None:
        """Hear no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(HEARD * 3)

    def take(self, message: bytes) -> None:
        """One event; what is no DICOM JSON, or is about something else, is passed over."""
        try:
            events = datasets_in(message, "an event", self.worklist.name)
        except InputError:
            return
        for event in events:
            uid = text(event, "AffectedSOPInstanceUID")
            with self._lock:
                if text(event, "EventTypeID") == str(CANCEL_REQUESTED) and uid in self._watched:
                    self._wanted[uid] = event

    def _hear(self) -> None:
        from websocket import WebSocketException, WebSocketTimeoutException

        while not self._over.is_set():
            with suppress(WebSocketException, OSError):
                channel = self._open()
                try:
                    while not self._over.is_set():
                        with suppress(WebSocketTimeoutException):
                            said = channel.recv()
                            self.take(said.encode() if isinstance(said, str) else said)
                finally:
                    channel.close()
            self._over.wait(AGAIN)

    def _open(self) -> WebSocket:
        """The channel at the service itself, by its credentials and its TLS; never one at a place that an answer names."""
        from websocket import create_connection

        service = self.worklist.service
        url = f"ws{service.address.url.removeprefix('http')}/subscribers/{quote(self.worklist.title)}"
        channel = create_connection(
            url,
            timeout=CONNECTING,
            header=service.authorization,
            sslopt={"context": service.context} if service.context is not None else {},
            http_no_proxy=["*"],
            redirect_limit=0,
        )
        channel.settimeout(HEARD)
        return channel
