"""The listening port: C-STORE and C-ECHO from those who may call, each file on the disk before its sender is told so."""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic.errors import InputError
from srh_clinic.integration.network import ALSO_RECEIVED, SLIDES, SYNTAXES
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.dimse import ECHO
from srh_clinic.pacs.inbox import How, Inbox

if TYPE_CHECKING:
    from pynetdicom.events import Event

SUCCESS, NO_ROOM, NOT_UNDERSTOOD, DUPLICATE, FAILED = 0x0000, 0xA700, 0xC000, 0x0111, 0x0110

STATUS: dict[How, int] = {
    **dict.fromkeys(("new", "again", "ours"), SUCCESS),
    "unreadable": NOT_UNDERSTOOD,
    "conflict": DUPLICATE,
}
"""What a sender is told of a file."""

PDU_BYTES = 2**17
"""Of which more than the default of 16 KB makes large slides faster."""

SILENCE = 60.0
"""Seconds after which an association that says nothing is ended, and within which what it has begun to say must be whole."""

MOST_BYTES = 2**20
"""Of what is said at once: nobody may send more than :data:`PDU_BYTES`, and who is not known yet could fill the memory."""

CALLS = 32
"""Associations at a time."""

HANDSHAKE = 10.0
"""Seconds that a caller gets for a TLS handshake."""


@dataclass(frozen=True)
class Port:
    """Where is listened, and to whom.

    Attributes
    ----------
    title
        Our AE title: associations that ask for another are refused.
    accept
        AE titles of those who may call.
    certificate, key, authority
        Files (PEM) for TLS.
    secure
        Whether TLS is asked for: both sides must show a certificate then, theirs signed by ``authority``.
    """

    port: int
    host: str = "127.0.0.1"
    title: str = "SRHCLINIC"
    accept: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    secure: bool = False

    def checked(self) -> Port:
        """The same.

        Raises
        ------
        InputError
            When nobody may call, a title is none, or TLS is asked for by halves.
        """
        if not self.accept:
            raise InputError("nobody who may call", "--accept with the AE title of each sender")
        for title in (self.title, *self.accept):
            if not (0 < len(title.strip()) <= 16 and title.isascii() and title.isprintable() and "\\" not in title):
                raise InputError(f"the AE title {title!r}", "1 to 16 printable ASCII characters without a backslash")
        if self.secure and None in (self.certificate, self.key, self.authority):
            raise InputError("--tls without all that it needs", "--cert with our certificate, its --key, and --ca")
        return self

    def context(self) -> ssl.SSLContext | None:
        """What sockets are wrapped in; None without TLS.

        Raises
        ------
        InputError
            When a file cannot be used.
        """
        if not self.secure or self.certificate is None:
            return None
        context = _Patient(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
            context.load_verify_locations(self.authority)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InputError("TLS files that cannot be used", "a certificate, its key and an authority (PEM)") from error
        return context


def _no_password() -> str:
    """A key with a password would otherwise ask a terminal for it, and a service would stand still."""
    raise ValueError("the key has a password")


class _Patient(ssl.SSLContext):
    """Wraps sockets without a handshake, which comes with the first bytes, in the caller's own thread.

    pynetdicom would shake hands where it accepts calls, so that one who says nothing kept everybody else out.
    """

    def wrap_socket(self, sock: Any, *args: Any, **options: Any) -> ssl.SSLSocket:
        """See :meth:`ssl.SSLContext.wrap_socket`."""
        wrapped = super().wrap_socket(sock, *args, **{**options, "do_handshake_on_connect": False})
        wrapped.settimeout(HANDSHAKE)
        return wrapped


@dataclass(eq=False)
class _Call:
    """An association and what it has brought."""

    title: str | None
    address: str
    counts: dict[str, int] = field(default_factory=dict)


class _Receiver:
    """Handles the events of associations; called from a thread of each."""

    def __init__(self, port: Port, inbox: Inbox, audit: Audit) -> None:
        self.inbox, self.audit = inbox, audit
        self._known = {title.strip() for title in port.accept}
        self._calls: dict[int, _Call] = {}

    def _call(self, event: Event) -> _Call:
        asked = event.assoc.requestor
        title = str(asked.ae_title).strip()
        made = _Call(title if title in self._known else None, asked.address_info.address)
        return self._calls.setdefault(id(event.assoc), made)

    def opened(self, event: Event) -> None:
        """One calls, and may be anybody."""
        ours = event.assoc.dul.socket
        if ours is not None and ours.socket is not None:
            ours.recv = _Reader(ours.socket)

    def accepted(self, event: Event) -> None:
        """An association begins."""
        self.inbox.heard(self._call(event))

    def rejected(self, event: Event) -> None:
        """One who may not call."""
        call = self._call(event)
        self.audit.note("rejected", ae=call.title, address=call.address)

    def heard(self, event: Event) -> None:
        """Bytes came."""
        if (call := self._calls.get(id(event.assoc))) is not None:
            self.inbox.heard(call)

    def over(self, event: Event) -> None:
        """An association has ended, in whatever way."""
        if (call := self._calls.pop(id(event.assoc), None)) is None:
            return
        self.inbox.over(call)
        if call.counts:
            self.audit.note("received", ae=call.title, address=call.address, **call.counts)

    def store(self, event: Event) -> int:
        """A whole file has come: keep it, and say whether it is kept."""
        call = self._call(event)
        try:
            taken = self.inbox.take(Path(event.dataset_path), call)
        except OSError:
            self._count(call, "no-room")
            return NO_ROOM
        except Exception as error:  # a defect of ours; pynetdicom would swallow it
            self._count(call, f"failed-{type(error).__name__}")
            return FAILED
        self._count(call, taken.how)
        return STATUS[taken.how]

    @staticmethod
    def _count(call: _Call, what: str) -> None:
        call.counts[what] = call.counts.get(what, 0) + 1


class _Reader:
    """Reads so many bytes of a call, or those before its end; pynetdicom's reader waits without end and takes any count.

    One who stops in the middle of a word, as one does whose cable is pulled out, would otherwise keep an association for ever.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.patience = connection, connection.gettimeout() or SILENCE

    def __call__(self, wanted: int) -> bytearray:
        if wanted > MOST_BYTES:
            raise OSError("more is announced than anybody may send")
        until, read = time.monotonic() + self.patience, bytearray()
        try:
            while len(read) < wanted:
                self.connection.settimeout(max(until - time.monotonic(), 0.001))
                some = self.connection.recv(wanted - len(read))
                if not some:
                    break
                read += some
        finally:
            self.patience = SILENCE
            self.connection.settimeout(SILENCE)
        return read


@contextmanager
def receiving(port: Port, inbox: Inbox, audit: Audit) -> Iterator[int]:
    """Listen for as long as the context lasts; the number of the port, which the system chooses for 0.

    What comes is written to the disk as it comes, so that memory does not grow with a slide. pynetdicom does so in the
    system's folder for temporary files; here it is told to in the inbox's, from where a file can be renamed into its place.

    Raises
    ------
    InputError
        When the port cannot be opened, or pynetdicom is not installed.
    """
    try:
        from pynetdicom import AE, _config, dimse_messages, evt
    except ImportError as error:
        raise InputError("no pynetdicom", "pip install 'srh-clinic[pacs]'") from error
    context = port.checked().context()
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    before = dimse_messages.NamedTemporaryFile
    dimse_messages.NamedTemporaryFile = partial(tempfile.NamedTemporaryFile, dir=inbox.receiving)
    receiver = _Receiver(port, inbox, audit)
    ae = AE(port.title)
    ae.require_calling_aet, ae.require_called_aet = list(port.accept), True
    ae.maximum_pdu_size, ae.maximum_associations = PDU_BYTES, CALLS
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = SILENCE
    ae.add_supported_context(ECHO)
    ae.add_supported_context(SLIDES, [*SYNTAXES, *ALSO_RECEIVED])
    handlers: Sequence[Any] = [
        (evt.EVT_CONN_OPEN, receiver.opened),
        (evt.EVT_ACCEPTED, receiver.accepted),
        (evt.EVT_REJECTED, receiver.rejected),
        (evt.EVT_DATA_RECV, receiver.heard),
        (evt.EVT_C_STORE, receiver.store),
        *((event, receiver.over) for event in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)),
    ]
    try:
        try:
            server = ae.start_server((port.host, port.port), block=False, ssl_context=context, evt_handlers=list(handlers))
        except OSError as error:
            where = f"the port {port.port} of {port.host} ({error.strerror or error})"
            raise InputError(where, "an address of this machine and a free port that this user may open") from error
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()
    finally:
        dimse_messages.NamedTemporaryFile = before
