"""A small DICOMweb service for tests: QIDO-RS, WADO-RS, STOW-RS, and workitems (PS3.18 section 11) with their state machine.

It keeps all in memory, listens on loopback at a port of its own, and checks what the standard has a server check: who has
claimed a workitem, and what has to stand in one that is completed or canceled.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydicom import dcmread
from pydicom.dataset import Dataset

JSON = "application/dicom+json"
ROOT = "/dicom-web"

STATE, TRANSACTION = "00741000", "00081195"
LOCKED = ("COMPLETED", "CANCELED")


@dataclass
class Stored:
    """An object as it came."""

    header: Dataset = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(repr=False)
class Archive:
    """What the service has, and how it is to behave.

    ``refuse`` gives a failure's code for the SOP instance UIDs that are not taken; ``lose`` are those that it says it has
    taken, and has not; ``withhold`` those that it announces and does not give; ``answer`` is a status for whatever
    comes, as often as it says, with the headers ``answered_with``; ``unknown`` has it not know what it has no object of.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    lose: set[str] = field(default_factory=set)
    withhold: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    most_bytes: int = 2**40
    pages: bool = True
    unknown: bool = False
    expected: str = ""
    redirect: dict[str, str] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    answered_with: dict[str, str] = field(default_factory=dict)
    heard: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    workitems: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    subscribers: dict[str, set[str]] = field(default_factory=dict)
    channels: dict[str, list[Any]] = field(default_factory=dict)
    history: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, content: bytes) -> str:
        """Take an object in."""
        header = dcmread(io.BytesIO(content), stop_before_pixels=True)
        self.objects[header.SOPInstanceUID] = Stored(header, content)
        return str(header.SOPInstanceUID)

    def schedule(self, uid: str, *inputs: dict[str, Any], **more: Any) -> None:
        """Put a workitem on the list; ``inputs`` are items of its Input Information Sequence."""
        self.workitems[uid] = {
            "00080018": {"vr": "UI", "Value": [uid]},
            STATE: {"vr": "CS", "Value": ["SCHEDULED"]},
            "00404041": {"vr": "CS", "Value": ["READY"]},
            "00741200": {"vr": "CS", "Value": ["MEDIUM"]},
            "00404021": {"vr": "SQ", "Value": list(inputs)},
            **more,
        }

    def state(self, uid: str) -> str:
        """That of a workitem."""
        return str(self.workitems[uid][STATE]["Value"][0])

    def request_cancel(self, uid: str, said: dict[str, Any] | None = None) -> None:
        """What a requester's cancel request does: whoever has subscribed to the workitem is told."""
        event = {
            "00001000": {"vr": "UI", "Value": [uid]},
            "00001002": {"vr": "US", "Value": [2]},
            "00741236": {"vr": "AE", "Value": ["REQUESTER"]},
            **(said or {}),
        }
        for title in self.subscribers.get(uid, ()):
            for channel in self.channels.get(title, ()):
                channel(json.dumps(event))


def told(status: int, words: str = "") -> tuple[int, dict[str, str], bytes]:
    """An answer without a dataset; a UPS service gives its reason in a header."""
    return status, {"Warning": f'299 localhost: "{words}"'} if words else {}, b""


def shown(datasets: list[dict[str, Any]]) -> tuple[int, dict[str, str], bytes]:
    """An answer of datasets."""
    return (200 if datasets else 204), {"Content-Type": JSON}, json.dumps(datasets).encode() if datasets else b""


def change_state(archive: Archive, uid: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """PS3.18 11.7, PS3.4 table CC.1.1-2."""
    said = one_of(body)
    asked, transaction = first(said, STATE), first(said, TRANSACTION)
    with archive.lock:
        if uid not in archive.workitems:
            return told(404)
        state = archive.state(uid)
        if not transaction:
            return told(400, "The Transaction UID is missing.")
        if asked == "IN PROGRESS":
            if state != "SCHEDULED":
                return told(409, "The submitted request is inconsistent with the current state of the UPS Instance.")
            archive.claims[uid] = transaction
        else:
            if state in LOCKED:
                return told(
                    409, f"The UPS is already in the requested state of {state}." if asked == state else "inconsistent"
                )
            if state == "SCHEDULED" or archive.claims.get(uid) != transaction:
                return told(409, "The Transaction UID is incorrect.")
            if not meets_final_state(archive.workitems[uid], asked):
                return told(409, "The Performer has not met the Final State Requirements.")
        archive.workitems[uid][STATE] = {"vr": "CS", "Value": [asked]}
        archive.history.append((uid, asked))
    return told(200)


def meets_final_state(workitem: dict[str, Any], state: str) -> bool:
    """PS3.4 table CC.2.5-3, as far as it binds a performer."""
    if state == "COMPLETED":
        performed = (workitem.get("00741216", {}).get("Value") or [{}])[0]
        filled = all(performed.get(tag, {}).get("Value") for tag in ("00404050", "00404051", "00404019"))
        return filled and "00404033" in performed
    progress = (workitem.get("00741002", {}).get("Value") or [{}])[0]
    return all(progress.get(tag, {}).get("Value") for tag in ("00404052", "0074100E"))


def update(archive: Archive, uid: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """PS3.18 11.6."""
    said = one_of(body)
    with archive.lock:
        if uid not in archive.workitems:
            return told(404)
        state = archive.state(uid)
        transaction = query.partition("=")[2] or query or first(said, TRANSACTION)
        if state in LOCKED:
            return told(409, "The submitted request is inconsistent with the current state of the UPS Instance.")
        if state == "IN PROGRESS" and transaction != archive.claims.get(uid):
            return told(409, "The Transaction UID is incorrect." if transaction else "The Transaction UID is missing.")
        archive.workitems[uid] |= {tag: element for tag, element in said.items() if tag not in (TRANSACTION, STATE)}
        percent = (said.get("00741002", {}).get("Value") or [{}])[0].get("00741004", {}).get("Value")
        if percent:
            archive.history.append((uid, f"{float(percent[0]):g} %"))
    return told(200)


def one_of(body: bytes) -> dict[str, Any]:
    """The dataset of a request."""
    said = json.loads(body)
    return said[0] if isinstance(said, list) else said


def first(dataset: dict[str, Any], tag: str) -> str:
    """The first value of an attribute."""
    return str((dataset.get(tag, {}).get("Value") or [""])[0])


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        """Note the connection, so that it ends with the service."""
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        """Search, retrieval, and the channel of events."""
        self.answer("GET")

    def do_POST(self) -> None:
        """Store, update, subscribe."""
        self.answer("POST")

    def do_PUT(self) -> None:
        """Change of state."""
        self.answer("PUT")

    def answer(self, method: str) -> None:
        """Say what there is to say."""
        archive: Archive = self.server.archive
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        archive.heard.append((method, self.path, dict(self.headers)))
        path = parts.path.removeprefix(ROOT)
        if path in archive.redirect:
            self.say(307, {"Location": archive.redirect[path]}, b"")
        elif archive.expected and self.headers.get("Authorization") != archive.expected:
            self.say(401, {"WWW-Authenticate": "Bearer"}, b"who is DOE^JANE")
        elif archive.answers and (status := archive.answers.pop(0)):
            self.say(status, archive.answered_with, b"DOE^JANE")
        elif self.headers.get("Upgrade", "").lower() == "websocket":
            self.open_channel(path.rpartition("/")[2])
        else:
            self.say(*self.routed(archive, method, path, parts.query, body))

    def routed(self, archive: Archive, method: str, path: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer to a request."""
        given = dict(parse_qsl(query))
        item = re.fullmatch(r"/workitems/([\d.]+)(/state|/subscribers/(.+))?", path)
        if item and method == "PUT":
            return change_state(archive, item[1], body)
        if item and method == "POST":
            if item[3]:
                archive.subscribers.setdefault(item[1], set()).add(item[3])
                return told(201)
            return update(archive, item[1], query, body)
        if item:
            found = archive.workitems.get(item[1])
            return shown([found]) if found else told(404)
        if path == "/workitems":
            return shown(page([one for one in archive.workitems.values() if matches(one, given)], given, archive.pages))
        if path == "/studies" and method == "POST":
            return self.stored(archive, body)
        return self.found(archive, path, given)

    def stored(self, archive: Archive, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """STOW-RS."""
        if len(body) > archive.most_bytes:
            return told(413)
        mark = re.search(r"boundary=([^;]+)", self.headers["Content-Type"])[1].encode()  # type: ignore[index]
        failed, taken = [], []
        for part in body.split(b"--" + mark)[1:-1]:
            content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            header = dcmread(io.BytesIO(content), stop_before_pixels=True)
            uid = str(header.SOPInstanceUID)
            said = {"00081155": {"vr": "UI", "Value": [uid]}}
            if uid in archive.refuse:
                failed.append({**said, "00081197": {"vr": "US", "Value": [archive.refuse[uid]]}})
                continue
            taken.append(said)
            if uid not in archive.lose:
                archive.objects[uid] = Stored(header, content)
        answer = {"00081198": {"vr": "SQ", "Value": failed}} if failed else {}
        answer["00081199"] = {"vr": "SQ", "Value": taken}
        return 409 if not taken else 202 if failed else 200, {"Content-Type": JSON}, json.dumps(answer).encode()

    def found(self, archive: Archive, path: str, given: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """QIDO-RS and WADO-RS."""
        names = re.findall(r"(studies|series|instances)(?:/([\d.]+))?", path)
        keys = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
        wanted = {keys[level]: uid for level, uid in names if uid}
        level = names[-1][0]
        headers = [one.header for one in archive.objects.values()]
        for key, value in {**given, **wanted}.items():
            if key not in ("limit", "offset", "includefield"):
                headers = [one for one in headers if str(one.get(key, "")) == value]
        if level == "instances" and names[-1][1]:
            uid = names[-1][1]
            if not headers or uid in archive.withhold:
                return told(404)
            return self.instance(archive.objects[uid].content, uid in archive.cut)
        shown_keys = ["StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPInstanceUID", "SOPClassUID"]
        shown_keys = shown_keys[: {"studies": 1, "series": 3, "instances": 5}[level]]
        if archive.unknown and not headers:
            return told(404)
        found = {tuple(str(one.get(key, "")) for key in shown_keys): one for one in headers}
        return shown(page([told_of(one, shown_keys) for one in found.values()], given, archive.pages))

    def instance(self, content: bytes, cut: bool) -> tuple[int, dict[str, str], bytes]:
        """One object in one part; ``cut`` leaves out its end."""
        assert "transfer-syntax=*" in self.headers["Accept"]
        body = b"--X-1\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--X-1--\r\n"
        kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=X-1'}
        return 200, kind, body[: len(body) // 2] if cut else body

    def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def open_channel(self, title: str) -> None:
        """RFC 6455: answer the handshake, and send what comes until the other side goes."""
        archive: Archive = self.server.archive
        guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + guid).digest())  # noqa: S324
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept.decode())):
            self.send_header(name, value)
        self.end_headers()

        def send(text: str) -> None:
            content = text.encode()
            size = bytes([len(content)]) if len(content) < 126 else b"\x7e" + len(content).to_bytes(2, "big")
            self.wfile.write(b"\x81" + size + content)
            self.wfile.flush()

        archive.channels.setdefault(title, []).append(send)
        try:
            self.rfile.read(1)  # a close, or the end
        finally:
            archive.channels[title].remove(send)
        self.close_connection = True


def matches(workitem: dict[str, Any], given: dict[str, str]) -> bool:
    """Whether a workitem has what a search asks for."""
    tags = {"ProcedureStepState": STATE, "InputReadinessState": "00404041"}
    return all(first(workitem, tags[key]) == value for key, value in given.items() if key in tags)


def page(found: list[dict[str, Any]], given: dict[str, str], pages: bool) -> list[dict[str, Any]]:
    """A page of results; a service that has none always sends all."""
    if not pages:
        return found
    start = int(given.get("offset", 0))
    return found[start : start + int(given.get("limit", 1000))]


def told_of(header: Dataset, keys: list[str]) -> dict[str, Any]:
    """Attributes as DICOM JSON."""
    said = Dataset()
    for key in keys:
        setattr(said, key, header.get(key, ""))
    return said.to_json_dict()  # type: ignore[no-any-return]


@contextmanager
def serving(archive: Archive, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The service, for as long as it is needed; its root."""
    ThreadingHTTPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.connections = []  # type: ignore[attr-defined]
    server.archive = archive  # type: ignore[attr-defined]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}{ROOT}"
    finally:
        server.shutdown()
        server.server_close()
        for connection in server.connections:  # type: ignore[attr-defined]
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
