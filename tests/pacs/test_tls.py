"""TLS: the other side is checked, by the authorities that are named alone, and is shown who we are."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from peer import Peer, listening
from ups_server import Archive, serving

from srh_clinic.errors import InputError
from srh_clinic.integration.network import OBJECT_CLASSES, SYNTAXES
from srh_clinic.pacs.address import Node
from srh_clinic.pacs.archives import Calling, archive_at
from srh_clinic.pacs.credentials import Trust
from srh_clinic.pacs.dimse import NodeArchive
from srh_clinic.pacs.objects import ServiceError, objects_in
from srh_clinic.pacs.sending import push

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")

TOKEN = {"SRH_CLINIC_PACS_TOKEN": "s3cret"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; certificates of the first for this machine, for another, for us, and for this one until yesterday."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other-ca"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    named = (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:pacs.example"), ("us", "DNS:us.example"), ("old", "IP:127.0.0.1"))
    for name, who in named:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text(f"subjectAltName={who}")
        days = "-1" if name == "old" else "2"
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def server_context(made: Path, name: str = "here", *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / f"{name}.pem", made / f"{name}.key")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(made / "ca.pem")
    return context


def ours(made: Path) -> Trust:
    return Trust(made / "ca.pem", made / "us.pem", made / "us.key")


def test_a_service_is_believed_by_its_authority_and_asked_with_our_secret(made: Path, slide: Path) -> None:
    archive = Archive(expected="Bearer s3cret")
    with serving(archive, context=server_context(made)) as url:
        assert push(archive_at(url, Calling(trust=Trust(made / "ca.pem")), TOKEN), objects_in([slide])) == {}
    assert len(archive.objects) == 2


@pytest.mark.parametrize(
    ("shown", "believed"), [("here", None), ("here", "other-ca.pem"), ("elsewhere", "ca.pem"), ("old", "ca.pem")]
)
def test_a_service_that_is_not_believed_hears_nothing(made: Path, slide: Path, shown: str, believed: str | None) -> None:
    archive, trust = Archive(), Trust(None if believed is None else made / believed)
    objects = objects_in([slide])
    with serving(archive, context=server_context(made, shown)) as url, pytest.raises(ServiceError, match="a certificate that"):
        push(archive_at(url, Calling(trust=trust), TOKEN), objects)
    assert archive.heard == []


def test_a_service_may_ask_who_we_are(made: Path, slide: Path) -> None:
    with serving(archive := Archive(), context=server_context(made, asks=True)) as url:
        with pytest.raises(ServiceError):
            push(archive_at(url, Calling(trust=Trust(made / "ca.pem")), {}), objects_in([slide]))
        assert archive.heard == []
        assert push(archive_at(url, Calling(trust=ours(made)), {}), objects_in([slide])) == {}


def test_a_node_is_called_by_tls_that_checks_both_sides(made: Path, slide: Path) -> None:
    peer, kinds = Peer(), {kind: list(SYNTAXES) for kind in OBJECT_CLASSES}
    with listening(peer, kinds, server_context(made, asks=True)) as port:
        node = Node("PEER", "127.0.0.1", port, secure=True)
        for trust in (Trust(made / "ca.pem"), Trust(made / "other-ca.pem", made / "us.pem", made / "us.key")):
            with pytest.raises(ServiceError, match="no association"):
                push(NodeArchive(node, trust=trust), objects_in([slide]))
        with pytest.raises(ServiceError, match="no association"):
            push(NodeArchive(Node("PEER", "127.0.0.1", port), trust=ours(made)), objects_in([slide]))
        assert not peer.objects
        assert push(NodeArchive(node, trust=ours(made)), objects_in([slide])) == {}


def test_a_key_of_another_certificate_is_refused(made: Path) -> None:
    with pytest.raises(InputError, match=r"us\.pem: found no certificate of ours"):
        Trust(made / "ca.pem", made / "us.pem", made / "here.key").context()
    with pytest.raises(InputError, match="no certificate to listen with"):
        Trust(made / "ca.pem").server_context()
    assert ours(made).server_context().verify_mode is ssl.CERT_REQUIRED
