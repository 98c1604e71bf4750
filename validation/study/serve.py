"""A study for a room with one workstation: the viewers over HTTP on the loopback interface, their answers saved as they come.

Nothing but the raters' viewers is served. What a page sends replaces a return only when it goes on from what is there.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from types import TracebackType
from typing import Self

from srh_clinic.errors import InputError
from srh_clinic.escaping import page_text
from srh_clinic.files import write_whole
from srh_clinic.validation.study.folder import read_protocol, read_tasks, viewer_path
from srh_clinic.validation.study.records import StudyProtocol, Task
from srh_clinic.validation.study.return_checks import require_sound
from srh_clinic.validation.study.returns import read_return, require_whole

ADDRESS = "127.0.0.1"
LARGEST_RETURN = 32 << 20
"""Bytes; hundreds of answers with many marks each stay far below."""

SILENT_S = 30
"""Seconds after which a connection that sends nothing is given up."""

WINDOW_S = 600
"""Seconds for which a window that has sent something is taken to be open."""

VIEWER_PATH = re.compile(r"/public/([a-z0-9][a-z0-9_-]{0,31})/viewer\.html")
ELSEWHERE = b"Saved. Another window or browser has sent answers of this rater too: go on in one of them alone."

RETURN_PATH = re.compile(r"/returned/([a-z0-9][a-z0-9_-]{0,31})")


@dataclass(frozen=True, eq=False)
class StudyServer:
    """A study that is being served; stops when closed, or at the end of a ``with`` block."""

    url: str
    _http: _Loopback = field(repr=False)
    _thread: threading.Thread = field(repr=False)

    def wait(self) -> None:
        """Serve until somebody interrupts or closes."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving; an answer that is being saved is saved first."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._http.saving:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def serve_study(study: str | Path, port: int = 0) -> StudyServer:
    """Serve a study's viewers on 127.0.0.1 and save what comes back into ``STUDY/returned/RATER.jsonl``.

    Parameters
    ----------
    study
        Folder of an exported study.
    port
        0 takes a free one. A browser keeps what it holds by port: with a fixed one an unfinished answer survives a restart.

    Raises
    ------
    InputError
        When the folder holds no study, a rater's viewer is missing, or the port is taken.
    """
    folder = Path(study)
    path = folder / "public" / "protocol.json"
    if not path.is_file():
        raise InputError("no such file", "the folder of an exported study", path)
    protocol, _ = read_protocol(folder)
    for rater in protocol.raters:
        if _viewer(folder, rater.rater_id) is None:
            raise InputError("no viewer", "a viewer for every rater of the protocol", viewer_path(folder, rater.rater_id))
    try:
        http = _Loopback(folder, protocol, port)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the port {port}, which cannot be used ({error})", "a port of this machine that is not in use"
        ) from error
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.1}, name="study server", daemon=True)
    thread.start()
    return StudyServer(f"http://{ADDRESS}:{http.server_port}/", http, thread)


def _viewer(folder: Path, rater: str) -> Path | None:
    """A rater's viewer; None when there is none, or it is a link to elsewhere."""
    path = viewer_path(folder, rater)
    inside = path.resolve().is_relative_to((folder / "public").resolve())
    return path if inside and path.is_file() else None


class _Loopback(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, protocol: StudyProtocol, port: int) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.folder, self.protocol = folder, protocol
        self.raters = frozenset(rater.rater_id for rater in protocol.raters)
        self.saving = threading.Lock()
        self.asked: dict[str, tuple[str, list[Task]]] = {}
        self.windows: dict[str, tuple[str, float]] = {}

    def returned(self, rater: str) -> Path:
        return self.folder / "returned" / f"{rater}.jsonl"

    def held(self, rater: str) -> bytes:
        """The return that is there, empty when there is none."""
        path = self.returned(rater)
        return path.read_bytes() if path.exists() else b""

    def save(self, rater: str, sent: bytes) -> bytes | None:
        """Save a return that goes on from the one that is there.

        Returns
        -------
        What is there when it does not go on from it, otherwise None.

        Raises
        ------
        InputError
            When what was sent is no return of this study and rater, or it cannot be written.
        """
        with self.saving:
            held = self.held(rater)
            if not _goes_on(sent, held):
                return held
            if sent != held:
                self._require_return(rater, sent)
                write_whole(self.returned(rater), sent)
            return None

    def _require_return(self, rater: str, sent: bytes) -> None:
        if not sent.endswith(b"\n"):
            raise InputError("a last line without an end", "complete lines")
        with tempfile.TemporaryDirectory() as draft:
            path = Path(draft) / f"{rater}.jsonl"
            path.write_bytes(sent)
            secret, tasks = self._asked(rater)
            found = read_return(path, self.protocol.study_id, secret)
            if found.rater_id != rater:
                raise InputError(f"answers of {found.rater_id}", f"those of {rater}")
            require_sound(found, rater, tasks, path, sizes=bool(secret))
            if found.closed:
                require_whole(found, [task.task_id for task in tasks], path)

    def _asked(self, rater: str) -> tuple[str, list[Task]]:
        """The secret of a rater's page and the tasks on it."""
        if rater not in self.asked:
            contents, tasks = read_tasks(viewer_path(self.folder, rater))
            self.asked[rater] = contents.secret, tasks
        return self.asked[rater]

    def elsewhere(self, rater: str, window: str) -> bool:
        """Whether another window of this rater has sent something in the last :data:`WINDOW_S` seconds; this one is noted."""
        with self.saving:
            before, self.windows[rater] = self.windows.get(rater), (window, time.monotonic())
        return bool(window) and before is not None and before[0] != window and time.monotonic() - before[1] < WINDOW_S


def _goes_on(sent: bytes, held: bytes) -> bool:
    """Whether a return begins with all the lines that are there."""
    return sent.startswith(held) and (not held or held.endswith(b"\n") or sent[len(held) :].startswith(b"\n"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "srh-clinic", ""
    timeout = SILENT_S
    server: _Loopback

    def do_GET(self) -> None:
        if not self._from_here():
            return
        match = VIEWER_PATH.fullmatch(self.path)
        if self.path == "/":
            self._answer(HTTPStatus.OK, self._index().encode(), "text/html; charset=utf-8")
        elif match and match[1] in self.server.raters and (path := _viewer(self.server.folder, match[1])):
            with path.open("rb") as file:
                self._head(HTTPStatus.OK, path.stat().st_size, "text/html; charset=utf-8")
                copyfileobj(file, self.wfile, 1 << 20)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"Nothing here.")

    def do_PUT(self) -> None:
        match = RETURN_PATH.fullmatch(self.path)
        length = self.headers.get("Content-Length", "")
        if not self._from_here():
            return
        if not match or match[1] not in self.server.raters:
            self._refuse(HTTPStatus.NOT_FOUND, "No such rater.")
        elif not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "The length is missing.")
        elif int(length) > LARGEST_RETURN:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"More than {LARGEST_RETURN} bytes.")
        else:
            self._take(match[1], int(length))

    do_POST = do_PUT

    def _take(self, rater: str, length: int) -> None:
        sent = self.rfile.read(length)
        if len(sent) != length:
            return self._refuse(HTTPStatus.BAD_REQUEST, "The end is missing.")
        elsewhere = self.server.elsewhere(rater, self.headers.get("X-Window", ""))
        try:
            other = self.server.save(rater, sent)
        except InputError as error:
            return self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"Found {error.found}; needed {error.needed}.".encode())
        except OSError as error:
            return self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"Cannot be saved: {error.strerror}.".encode())
        if other is not None:
            # The page continues from these answers if they go on from its own, as after a change of browser.
            return self._answer(HTTPStatus.CONFLICT, other, "application/x-ndjson; charset=utf-8")
        return self._answer(HTTPStatus.OK, ELSEWHERE if elsewhere else b"Saved.")

    def _from_here(self) -> bool:
        """Refuse what another site's page sends, also one whose name was made to mean this machine (DNS rebinding)."""
        port = self.server.server_port
        hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host", "").lower() not in hosts or origin not in {None, *(f"http://{host}" for host in hosts)}:
            self._refuse(HTTPStatus.FORBIDDEN, "Only this machine's own pages are answered.")
            return False
        return True

    def _index(self) -> str:
        rows = []
        for rater in sorted(self.server.raters):
            lines = self.server.held(rater).splitlines()
            closed = bool(lines) and b'"record":"closing"' in lines[-1]
            rows.append((rater, "finished" if closed else f"{len(lines)} answers saved"))
        return page_text([Path(__file__).parent], "index.html", title=self.server.protocol.title, raters=rows)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself, such as a method that there is none of: a line of text, no page of its own."""
        self._refuse(HTTPStatus(code), f"{HTTPStatus(code).phrase}.")

    def _refuse(self, status: HTTPStatus, said: str) -> None:
        # What was sent is not read, so the connection cannot go on.
        self.close_connection = True
        self._answer(status, said.encode())

    def _answer(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self._head(status, len(content), kind)
        self.wfile.write(content)

    def _head(self, status: HTTPStatus, length: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The terminal is for whoever runs the study, not for every request."""
