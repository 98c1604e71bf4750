"""The listening port: who may call, what a sender is told, and that each file is on the disk by then."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from arriving_slides import LISTENER, SENDER, send, slide_files, until
from dcmtk import dcmtk
from many_cases import CANARY
from pydicom import dcmread

from srh_clinic.errors import InputError
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.inbox import Inbox
from srh_clinic.pacs.receiving import Port, receiving


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox")


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "audit.jsonl")


@pytest.fixture
def port(inbox: Inbox, audit: Audit) -> Iterator[int]:
    with receiving(Port(0, title=LISTENER, accept=(SENDER,)), inbox, audit) as number:
        yield number


def said(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def received(inbox: Inbox) -> list[Path]:
    return sorted(inbox.folder.rglob("*.dcm"))


def test_what_is_sent_is_kept_as_it_was_and_told_of_without_a_name(port: int, inbox: Inbox, tmp_path: Path) -> None:
    files = slide_files(tmp_path / "slide")
    assert send([*files, files[0]], port) == [0] * 5
    pixels = {dcmread(file).SOPInstanceUID: dcmread(file).PixelData for file in files}
    assert {dcmread(file).SOPInstanceUID: dcmread(file).PixelData for file in received(inbox)} == pixels
    assert [*inbox.receiving.iterdir()] == []
    until(lambda: said(tmp_path))
    (line,) = said(tmp_path)
    assert {key: line[key] for key in ("event", "ae", "new", "again")} == {
        **{"event": "received", "ae": SENDER},
        **{"new": 4, "again": 1},
    }
    assert inbox.moving(received(inbox)[0].parent) == float("inf")
    assert CANARY not in (tmp_path / "audit.jsonl").read_text()


def test_a_large_file_goes_to_the_disk_of_the_inbox_while_it_comes(
    port: int, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []
    take = inbox.take
    monkeypatch.setattr(inbox, "take", lambda file, by: (places.append(file), take(file, by))[1])
    assert send(slide_files(tmp_path / "slide", levels=()), port) == [0, 0]
    assert {file.parent for file in places} == {inbox.receiving}


def test_who_is_not_on_the_list_or_calls_another_is_rejected(port: int, inbox: Inbox, tmp_path: Path) -> None:
    files = slide_files(tmp_path / "slide", levels=())
    assert send(files, port, title=CANARY) == [None, None]
    assert send(files, port, called="ANOTHER") == [None, None]
    assert received(inbox) == []
    until(lambda: len(said(tmp_path)) == 2)
    assert [(line["event"], line["ae"]) for line in said(tmp_path)] == [("rejected", None), ("rejected", SENDER)]


def test_a_broken_file_and_another_under_the_same_uid_are_refused_and_the_next_is_taken(
    port: int, inbox: Inbox, tmp_path: Path
) -> None:
    ch2, ch3 = slide_files(tmp_path / "slide", levels=())
    other, nameless = dcmread(ch3), dcmread(ch3)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = dcmread(ch2).SOPInstanceUID
    del nameless.StudyInstanceUID
    for name, dataset in (("other", other), ("nameless", nameless)):
        dataset.save_as(tmp_path / name)
    assert send([ch2, tmp_path / "other", tmp_path / "nameless", ch3], port) == [0, 0x0111, 0xC000, 0]
    assert len(received(inbox)) == 3


def test_random_bytes_at_the_port_hold_nobody_up(port: int, inbox: Inbox, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(2**22)
    for first in (b"\x01\x00\x00\x00\xff\xff", b"\x04\x00\xff\xff\xff\xff", b""):
        with closing(socket.create_connection(("127.0.0.1", port))) as call:
            try:
                call.sendall(first + noise)
            except OSError:  # it hung up
                continue
    silent = socket.create_connection(("127.0.0.1", port))
    assert send(slide_files(tmp_path / "slide", levels=()), port) == [0, 0]
    silent.close()
    assert len(received(inbox)) == 2


def test_who_stops_in_the_middle_of_a_word_or_announces_too_much_is_hung_up_on(
    inbox: Inbox, audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.receiving.SILENCE", 0.5)
    monkeypatch.setattr("srh_clinic.pacs.receiving.CALLS", 3)
    with receiving(Port(0, title=LISTENER, accept=(SENDER,)), inbox, audit) as port:
        calls = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(5)]
        words = (b"\x01\x00\x00", b"", b"\x01\x00\x00\x00\x00\x40half", b"\x01", b"\x04\x00")
        for call, word in zip(calls, words, strict=True):
            call.sendall(word)
        assert {call.recv(1) for call in calls} <= {b"", b"\x07"}  # gone, some with the PDU that says so
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as call:
            call.sendall(b"\x04\x00\xff\xff\xff\xff")
            assert call.recv(1) in (b"", b"\x07")
        monkeypatch.setattr("srh_clinic.pacs.receiving.SILENCE", 60.0)
        assert send(slide_files(tmp_path / "slide", levels=()), port) == [0, 0]
        for call in calls:
            call.close()


@pytest.mark.skipif(dcmtk("storescu") is None, reason="no storescu: apt-get install dcmtk")
def test_dcmtk_sends_a_slide(port: int, inbox: Inbox, tmp_path: Path) -> None:
    files = slide_files(tmp_path / "slide")
    call = [str(dcmtk("storescu")), "-R", "-xt", "-aet", SENDER, "-aec", LISTENER, "127.0.0.1", str(port), *map(str, files)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(received(inbox)) == len(files)
    echo = [str(dcmtk("echoscu")), "-aet", SENDER, "-aec", LISTENER, "127.0.0.1", str(port)]
    assert subprocess.run(echo, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("port", "word"),
    [
        (Port(0), "nobody who may call"),
        (Port(0, accept=("X" * 17,)), "the AE title"),
        (Port(0, accept=(SENDER,), certificate=Path("a"), key=Path("a"), secure=True), "--tls without all that it needs"),
        (Port(0, "", LISTENER, (SENDER,), Path("a"), Path("b"), Path("c"), secure=True), "TLS files"),
        (Port(0, host="192.0.2.1", accept=(SENDER,)), "the port 0 of 192.0.2.1"),
    ],
)
def test_a_port_that_cannot_be_is_told_in_a_sentence(port: Port, word: str, inbox: Inbox, audit: Audit) -> None:
    with pytest.raises(InputError, match=word), receiving(port, inbox, audit):
        pass


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, what it has signed for us and for a sender, and a sender's that it has not."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def made(name: str, signed_by: str | None) -> None:
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        names = ["-addext", "subjectAltName=IP:127.0.0.1"] if signed_by else []
        signer = ["-CA", f"{signed_by}.pem", "-CAkey", f"{signed_by}.key"] if signed_by else []
        subprocess.run([*new, *files, *names, *signer], cwd=folder, check=True, capture_output=True)

    for name, signed_by in (("authority", None), ("us", "authority"), ("sender", "authority"), ("stranger", None)):
        made(name, signed_by)
    return folder


def test_with_tls_both_sides_are_checked_and_one_who_is_silent_holds_nobody_up(
    certificates: Path, inbox: Inbox, audit: Audit, tmp_path: Path
) -> None:
    files = slide_files(tmp_path / "slide", levels=())

    def context(name: str | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        if name is not None:
            made.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        return made

    ours = [certificates / name for name in ("us.pem", "us.key", "authority.pem")]
    with receiving(Port(0, "127.0.0.1", LISTENER, (SENDER,), *ours, secure=True), inbox, audit) as port:
        silent = socket.create_connection(("127.0.0.1", port))
        assert send(files, port, tls_args=(context("sender"), "127.0.0.1")) == [0, 0]
        silent.close()
        for stranger in (context("stranger"), context(None)):
            assert send(files, port, tls_args=(stranger, "127.0.0.1")) == [None, None]
        assert send(files, port) == [None, None]  # without TLS
    assert len(received(inbox)) == 2
