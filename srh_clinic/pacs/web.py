"""A DICOMweb service (PS3.18) as an archive: QIDO-RS, WADO-RS and STOW-RS, streamed and checked.

It speaks by urllib3 and nothing above it: no credentials out of files of the user's home, no proxy out of the environment, no
secret carried along a redirect, a context for TLS that believes the authorities it is told and no others, and never a whole
object in memory, where clients for DICOMweb hold it.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import quote, urlencode, urljoin

from srh_clinic import __version__
from srh_clinic.errors import InputError
from srh_clinic.files import whole_file
from srh_clinic.pacs.address import WebAddress, origin_of
from srh_clinic.pacs.credentials import Credentials, Trust
from srh_clinic.pacs.dicom_json import MEDIA_TYPE, Json, datasets_in, items, text
from srh_clinic.pacs.objects import Instance, ObjectFile, ServiceError, Wanted, checked_uid, is_whole, place_of
from srh_clinic.pacs.reasons import reason_of
from srh_clinic.progress import Progress

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

PATIENCE = (10.0, 120.0)
"""Seconds for a connection, and for the next bytes of an answer: an archive may fetch what is asked of it from a tape."""

REDIRECTS = 5
"""Most that a question follows."""

PAGE = 500
"""Results of a search that are asked for at a time."""

BATCH_BYTES, BATCH_OBJECTS = 64 * 2**20, 100
"""Most of one STOW-RS request; an object that is larger goes alone."""

CHUNK = 2**18
"""Bytes of an object that are in memory at a time."""

ANSWER_BYTES = 2**27
"""Largest answer that is read into memory: metadata of tens of thousands of objects."""


class WebArchive:
    """A DICOMweb service.

    Parameters
    ----------
    address
        Its root, below which are ``studies`` and ``workitems``.
    credentials
        Said to its own scheme, host and port, and to no other.
    """

    def __init__(
        self,
        address: WebAddress,
        trust: Trust | None = None,
        credentials: Credentials | None = None,
        patience: tuple[float, float] = PATIENCE,
    ) -> None:
        from urllib3 import PoolManager, Timeout

        self.address, self._credentials = address, credentials
        self.context = (trust or Trust()).context() if address.origin[0] == "https" else None
        patient = Timeout(connect=patience[0], read=patience[1])
        self._pool = PoolManager(timeout=patient, retries=False, ssl_context=self.context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    @property
    def authorization(self) -> dict[str, str]:
        """The header for requests to this service's own origin."""
        return {} if self._credentials is None else {"Authorization": self._credentials.header}

    def ask(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes = b"",
    ) -> bytes:
        """The small answer to one request.

        Parameters
        ----------
        path
            Below the root.
        what
            What it is called in errors, which say nothing else of it.

        Raises
        ------
        ServiceError
            When there is no answer, or one of 300 or more.
        """
        with self._answer(method, path, what, query, headers, body) as answer:
            return _read(answer, what, str(self.address))

    @contextmanager
    def _answer(
        self, method: str, path: str, what: str, query: str, headers: Mapping[str, str], body: bytes | MultipartBody
    ) -> Iterator[BaseHTTPResponse]:
        """An answer whose body has yet to be read."""
        from urllib3.exceptions import HTTPError, SSLError

        url = f"{self.address.url}/{path}" + (f"?{query}" if query else "")
        said = {"User-Agent": f"srh-clinic/{__version__}", **headers}
        where = str(self.address)
        try:
            for _ in range(REDIRECTS + 1):
                own = self.authorization if origin_of(url) == self.address.origin else {}
                answer = self._pool.urlopen(
                    method,
                    url,
                    headers={**said, **own},
                    body=body or None,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                )
                target = answer.headers.get("Location") if answer.status in (301, 302, 303, 307, 308) else None
                if target is None:
                    break
                answer.close()  # whatever else it says is not read: it may be without end
                url = _followed(method, url, target, what, where)
            else:
                raise ServiceError(f"more than {REDIRECTS} redirects for {what}", "a service that answers itself", where)
            try:
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise _refused(answer, what, where)
                yield answer
            finally:
                answer.close()
        except SSLError as error:
            needed = "one for this very host by an authority that this system or --ca knows, and ours (--cert) if it asks"
            raise ServiceError("a certificate that does not hold", needed, where) from error
        except (HTTPError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            found = f"no whole answer to {what} ({type(error).__name__})"
            raise ServiceError(found, "a service that can be reached", where) from error

    def search(self, path: str, filters: Mapping[str, str], *, what: str) -> list[Json]:
        """All that a search finds, page by page; a service that takes no notice of the page is asked no third time."""
        found: list[Json] = []
        seen: set[str] = set()
        while True:
            query = urlencode({**filters, "limit": PAGE, "offset": len(found)}, quote_via=quote)
            answer = self.ask("GET", path, what=what, query=query, headers={"Accept": MEDIA_TYPE})
            page = [one for one in datasets_in(answer, what, str(self.address)) if repr(one) not in seen]
            if not page:
                return found
            found += page
            seen.update(map(repr, page))

    def held(self, objects: Sequence[ObjectFile]) -> set[str]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        there: set[str] = set()
        for study, series in sorted({(one.instance.study, one.instance.series) for one in objects}):
            try:
                there |= {one.sop for one in self._instances(study, series)}
            except ServiceError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
        return there & {one.instance.sop for one in objects}

    def _instances(self, study: str, series: str) -> list[Instance]:
        what = "a search for instances"
        path = f"studies/{checked_uid(study)}/series/{checked_uid(series)}"
        try:
            found = self.search(f"{path}/instances", {}, what=what)
        except ServiceError as error:
            if error.status not in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
                raise
            answer = self.ask("GET", f"{path}/metadata", what=what, headers={"Accept": MEDIA_TYPE})
            found = datasets_in(answer, what, str(self.address))
        return [Instance(study, series, text(one, "SOPInstanceUID"), text(one, "SOPClassUID")) for one in found]

    def announced(self, wanted: Wanted) -> list[Instance]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        given = {"PatientID": wanted.patient, "AccessionNumber": wanted.accession, "StudyInstanceUID": wanted.study}
        studies = [wanted.study]
        if wanted.patient or wanted.accession or not wanted.study:
            level, filters = ("series", {"SeriesInstanceUID": wanted.series}) if wanted.series else ("studies", {})
            filters |= {name: value for name, value in given.items() if value}
            found = self.search(level, filters, what="a search for studies")
            studies = sorted({text(one, "StudyInstanceUID") for one in found} - {""})
        instances: list[Instance] = []
        for study in studies:
            filters = {"SeriesInstanceUID": wanted.series} if wanted.series else {}
            for one in self.search(f"studies/{checked_uid(study)}/series", filters, what="a search for series"):
                series = text(one, "SeriesInstanceUID")
                if wanted.is_of(series, text(one, "Modality")):
                    instances += self._instances(study, series)
        return sorted(set(instances))

    def fetch(self, instances: Sequence[Instance], folder: Path, progress: Progress) -> None:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        for done, instance in enumerate(instances):
            progress("fetching", done, len(instances))
            place = place_of(instance, folder)
            if is_whole(place, instance):
                continue
            try:
                with whole_file(place) as draft:
                    self._retrieve(instance, draft)
            except ServiceError as error:
                if error.status is None or error.may_pass:
                    raise
        progress("fetching", len(instances), len(instances))

    def _retrieve(self, instance: Instance, draft: Path) -> None:
        study, series, sop = map(checked_uid, (instance.study, instance.series, instance.sop))
        what, where = "a retrieval of an instance", str(self.address)
        wanted = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        path = f"studies/{study}/series/{series}/instances/{sop}"
        with self._answer("GET", path, what, "", wanted, b"") as answer, draft.open("wb") as file:
            _write_part(answer, file, what, where)
        if not is_whole(draft, instance):
            raise ServiceError("another object than the one that was asked for, or none", "the instance", where, HTTPStatus.OK)

    def store(self, objects: Sequence[ObjectFile], progress: Progress) -> dict[str, str]:
        """See :class:`~srh_clinic.pacs.objects.Archive`."""
        refused: dict[str, str] = {}
        done = 0
        for batch in batches(objects):
            progress("sending", done, len(objects))
            refused |= self._store(batch)
            done += len(batch)
        progress("sending", done, len(objects))
        return refused

    def _store(self, batch: Sequence[ObjectFile]) -> dict[str, str]:
        """Send a batch; one that is too large for the service goes in halves."""
        body = MultipartBody([one.path for one in batch])
        headers = {"Accept": MEDIA_TYPE, "Content-Type": body.content_type, "Content-Length": str(len(body))}
        what, where = "a store of instances", str(self.address)
        try:
            with self._answer("POST", "studies", what, "", headers, body) as answer:
                said = _read(answer, what, where)
        except ServiceError as error:
            if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(batch) > 1:
                half = len(batch) // 2
                return self._store(batch[:half]) | self._store(batch[half:])
            refused = refusals(error.answer)
            if error.status != HTTPStatus.CONFLICT or not refused:
                if error.may_pass or error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                    raise
                return dict.fromkeys((one.instance.sop for one in batch), f"the answer {error.status} to all of its request")
            return refused
        finally:
            body.close()
        return refusals(said)


def refusals(answer: bytes) -> dict[str, str]:
    """Why objects were refused, by SOP instance UID, out of the answer to a store (PS3.18 10.5.3); warnings are no refusals.

    An answer in another form says nothing: whether the objects are there is asked anyway.
    """
    try:
        said = datasets_in(answer, "a store of instances", "")
    except InputError:
        return {}
    failed = [item for one in said for item in items(one, "FailedSOPSequence")]
    return {text(item, "ReferencedSOPInstanceUID"): reason_of(text(item, "FailureReason")) for item in failed}


def batches(objects: Sequence[ObjectFile]) -> Iterator[list[ObjectFile]]:
    """Objects in requests of bounded size, in their order."""
    batch: list[ObjectFile] = []
    size = 0
    for one in objects:
        if batch and (size + one.size > BATCH_BYTES or len(batch) == BATCH_OBJECTS):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


class MultipartBody(io.RawIOBase):
    """Files as the parts of one ``multipart/related`` body, of a length that is known before and read piece by piece."""

    def __init__(self, files: Sequence[Path]) -> None:
        mark = f"srh-clinic-{os.urandom(16).hex()}"
        self.content_type = f'multipart/related; type="application/dicom"; boundary={mark}'
        head = f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._pieces: list[bytes | Path] = []
        for file in files:
            self._pieces += [head, file, b"\r\n"]
        self._pieces.append(f"--{mark}--\r\n".encode())
        self._length = sum(piece.stat().st_size if isinstance(piece, Path) else len(piece) for piece in self._pieces)
        self._stream = self._read_on()
        self._left = b""

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        """It is read, once."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """The next bytes."""
        if not self._left:
            self._left = next(self._stream, b"")
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)

    def _read_on(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            with piece.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk


def _write_part(answer: BaseHTTPResponse, file: BinaryIO, what: str, where: str) -> None:
    """The only part of an answer, or all of one that has no parts."""
    kind = Message()
    kind["Content-Type"] = answer.headers.get("Content-Type", "")
    if kind.get_content_maintype() != "multipart":
        for chunk in answer.stream(CHUNK):
            file.write(chunk)
        return
    mark = str(kind.get_param("boundary", "") or "")
    if not re.fullmatch(r"[\x21-\x7e ]{1,70}", mark):
        raise ServiceError(f"an answer to {what} whose parts have no boundary", "multipart/related", where)
    opening, closing = f"--{mark}".encode(), f"\r\n--{mark}".encode()
    chunks = answer.stream(CHUNK)
    held = b""
    while (begins := _body_of(held, opening)) is None:
        held += next(chunks, b"") or _cut(what, where)
        if len(held) > CHUNK * 4:
            raise ServiceError(f"an answer to {what} without a part", "one object in one part", where)
    held = held[begins:]
    while (ends := held.find(closing)) < 0:
        keep = max(len(held) - len(closing) + 1, 0)
        file.write(held[:keep])
        held = held[keep:] + (next(chunks, b"") or _cut(what, where))
    file.write(held[:ends])
    rest = held[ends + len(closing) :] + b"".join(chunks)
    if not rest.startswith(b"--"):
        raise ServiceError(f"several objects in an answer to {what}", "one object in one part", where)


def _body_of(held: bytes, opening: bytes) -> int | None:
    """Where the body of the first part begins; None while it has not come."""
    at = held.find(opening)
    ends = held.find(b"\r\n\r\n", at) if at >= 0 else -1
    return None if ends < 0 else ends + 4


def _cut(what: str, where: str) -> bytes:
    raise ServiceError(f"an answer to {what} that ends before its end", "all of it", where)


def _followed(method: str, url: str, target: str, what: str, where: str) -> str:
    """Where a redirect leads."""
    new = urljoin(url, target)
    if method != "GET":  # what is sent is for whom it was given
        raise ServiceError(f"a redirect of {what}", "the service's own address", where)
    if origin_of(new)[0] not in ("http", "https") or (origin_of(url)[0] == "https" != origin_of(new)[0]):
        raise ServiceError(f"a redirect of {what} from https to something else", "https", where)
    return new


def _read(answer: BaseHTTPResponse, what: str, where: str) -> bytes:
    read = io.BytesIO()
    for chunk in answer.stream(CHUNK):
        read.write(chunk)
        if read.tell() > ANSWER_BYTES:
            raise ServiceError(f"an answer to {what} of more than {ANSWER_BYTES} bytes", "a smaller one", where)
    return read.getvalue()


_NEEDED: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "credentials in SRH_CLINIC_PACS_TOKEN, or _USER and _PASSWORD, or a keyring",
    HTTPStatus.FORBIDDEN: "credentials that may do this",
    HTTPStatus.NOT_FOUND: "the root of a DICOMweb service that has this",
}


def _refused(answer: BaseHTTPResponse, what: str, where: str) -> ServiceError:
    """An answer that is none, without its words, which may name a patient."""
    status, said = answer.status, _read(answer, what, where)
    found = f"the answer {status} ({responses.get(status, 'unknown')}) to {what}"
    needed = _NEEDED.get(status, "a service that does it")
    return ServiceError(found, needed, where, status, said, _seconds_until(answer.headers.get("Retry-After", "")))


def _seconds_until(when: str) -> float:
    """What a ``Retry-After`` asks for, a number of seconds or a time (RFC 9110, 10.2.3); 0 where it is neither."""
    if when.strip().isdecimal():
        return float(when.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(when).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
