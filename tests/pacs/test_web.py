"""DICOMweb: what is sent is asked for, what is announced is counted, and secrets go where they belong."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from ups_server import Archive, serving

from srh_clinic.errors import InputError
from srh_clinic.pacs.address import Node, parse_address, web_address
from srh_clinic.pacs.archives import Calling, archive_at
from srh_clinic.pacs.credentials import Credentials, Trust, credentials_for
from srh_clinic.pacs.destination import UnreachableError
from srh_clinic.pacs.dicom_json import text as text_of
from srh_clinic.pacs.fetching import fetch
from srh_clinic.pacs.objects import ServiceError, Wanted, objects_in, place_of
from srh_clinic.pacs.sending import NOT_THERE, destination_of, push
from srh_clinic.pacs.web import WebArchive, batches

WHOLE = (("application/dicom", "*"),)

SECRET = "s3cret-of-DOE"  # noqa: S105


@pytest.fixture
def archive() -> Archive:
    return Archive()


def at(url: str, **environ: str) -> WebArchive:
    found = archive_at(url, Calling(), environ)
    assert isinstance(found, WebArchive)
    return found


def test_an_object_is_sent_and_asked_for_and_sent_again_without_harm(archive: Archive, slide: Path) -> None:
    objects = objects_in([slide])
    with serving(archive) as url:
        for _ in range(2):
            assert push(at(url), objects) == {}
    assert {one.path.read_bytes() for one in objects} == {one.content for one in archive.objects.values()}


@pytest.mark.parametrize(("code", "words"), [(0x0122, "SOP class not supported (0x0122)"), (0xC123, "data set not")])
def test_each_object_that_a_service_refuses_is_named_with_its_reason(
    archive: Archive, slide: Path, code: int, words: str
) -> None:
    one, other = objects_in([slide])
    archive.refuse = {one.instance.sop: code}
    with serving(archive) as url:
        faults = push(at(url), [one, other])  # 202
        assert list(faults) == [one]
        assert faults[one].startswith(words)
        archive.refuse |= {other.instance.sop: code}
        archive.objects.clear()
        assert list(push(at(url), [one, other])) == [one, other]  # 409


def test_a_duplicate_that_is_there_is_no_fault_and_one_that_is_not_is(
    archive: Archive, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.sending.SETTLING", ())
    one, other = objects_in([slide])
    archive.add(one.path.read_bytes())
    archive.refuse = dict.fromkeys((one.instance.sop, other.instance.sop), 0x0111)
    with serving(archive) as url:
        assert push(at(url), [one, other]) == {other: NOT_THERE}


def test_a_service_that_says_taken_and_has_it_not_is_not_believed(
    archive: Archive, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.sending.SETTLING", (0.0,))
    one, other = objects_in([slide])
    archive.lose = {one.instance.sop}
    with serving(archive) as url:
        assert push(at(url), [one, other]) == {one: NOT_THERE}


def test_a_request_is_bounded_and_one_that_is_too_large_goes_in_halves(archive: Archive, slide: Path) -> None:
    objects = objects_in([slide])
    archive.most_bytes = max(one.size for one in objects) + 1000
    with serving(archive) as url:
        assert push(at(url), objects) == {}
    assert [len(batch) for batch in batches(objects * 120)] == [100, 100, 40]


def test_results_go_to_a_destination_that_may_be_away_for_a_while(archive: Archive, slide: Path) -> None:
    files = [one.path for one in objects_in([slide])]
    with serving(archive) as url:
        destination = destination_of(url, "SRHCLINIC")
        archive.answers = [503]
        with pytest.raises(UnreachableError, match="answer-503"):
            destination.send(files)
        archive.refuse = {objects_in(files)[0].instance.sop: 0xA700}
        sent = destination.send(files)
        assert (sent.stored, sent.refused) == (1, ("out-of-resources-0xa700",))
    with pytest.raises(UnreachableError, match="no-answer"):
        destination.send(files)


def test_what_is_fetched_is_the_announced_files_to_the_bit_in_a_folder_for_each_series(
    archive: Archive, slide: Path, tmp_path: Path
) -> None:
    objects = objects_in([slide])
    for one in objects:
        archive.add(one.path.read_bytes())
    with serving(archive) as url:
        for wanted in (
            Wanted(study=objects[0].instance.study),
            Wanted(series=objects[0].instance.series),
            Wanted(patient="CANARY-patient"),
        ):
            (folder,) = fetch(at(url), wanted, tmp_path / "out")
    assert sorted(file.read_bytes() for file in folder.iterdir()) == sorted(one.path.read_bytes() for one in objects)
    retrieved = [path for method, path, _ in archive.heard if path.rpartition("/")[0].endswith("instances")]
    assert len(retrieved) == len(objects)  # the second and third time all was there
    assert "CANARY" not in str(sorted(tmp_path.rglob("*")))


def test_a_series_is_fetched_page_by_page_and_from_a_service_without_pages(
    archive: Archive, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.web.PAGE", 1)
    for one in objects_in([slide]):
        archive.add(one.path.read_bytes())
    for archive.pages in (True, False):
        with serving(archive) as url:
            assert len(at(url).announced(Wanted(patient="CANARY-patient"))) == 2


def test_what_does_not_come_or_comes_cut_is_a_sentence_and_no_file(archive: Archive, slide: Path, tmp_path: Path) -> None:
    one, other = objects_in([slide])
    for each in (one, other):
        archive.add(each.path.read_bytes())
    archive.withhold = {one.instance.sop}
    wanted = Wanted(study=one.instance.study)
    with serving(archive) as url:
        with pytest.raises(InputError, match="found 1 of the 2 objects"):
            fetch(at(url), wanted, tmp_path / "out")
        assert not place_of(one.instance, tmp_path / "out").exists()
        archive.withhold, archive.cut = set(), {one.instance.sop}
        with pytest.raises(InputError, match="ends before its end"):
            fetch(at(url), wanted, tmp_path / "out")
        assert [file.name for file in place_of(one.instance, tmp_path / "out").parent.iterdir()] == [
            place_of(other.instance, tmp_path).name
        ]
        archive.cut = set()
        assert len(fetch(at(url), wanted, tmp_path / "out")) == 1


def test_nothing_that_matches_and_a_wildcard_are_refused(archive: Archive, tmp_path: Path) -> None:
    with serving(archive) as url, pytest.raises(InputError, match="no SM series that matches"):
        fetch(at(url), Wanted(patient="nobody"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for given in ({"patient": "*"}, {"accession": "A?"}, {"study": "1.2/../3"}, {}):
        with pytest.raises(InputError):
            Wanted(**given)


def test_credentials_go_to_their_service_and_never_along_a_redirect(archive: Archive, slide: Path) -> None:
    other = Archive()
    for one in objects_in([slide]):
        archive.add(one.path.read_bytes())
        other.add(one.path.read_bytes())
    archive.expected = f"Bearer {SECRET}"
    with serving(archive) as url, serving(other) as elsewhere:
        archive.redirect = {"/studies": f"{elsewhere}/studies"}
        at(url, SRH_CLINIC_PACS_TOKEN=SECRET).announced(Wanted(patient="CANARY-patient"))
        with pytest.raises(ServiceError, match="a redirect of a store"):
            push(at(url, SRH_CLINIC_PACS_TOKEN=SECRET), objects_in([slide]))
    assert other.heard
    assert all("Authorization" not in headers for _, _, headers in other.heard)
    assert archive.heard[0][2]["Authorization"] == archive.expected


def test_a_refusal_says_what_is_missing_and_repeats_no_word_of_the_service(archive: Archive, slide: Path) -> None:
    archive.expected = f"Bearer {SECRET}"
    with serving(archive) as url:
        with pytest.raises(ServiceError, match=r"the answer 401.*needed credentials in SRH_CLINIC_PACS_TOKEN") as refused:
            push(at(url, **{"SRH_CLINIC_PACS_TOKEN": "other"}), objects_in([slide]))
        assert not refused.value.may_pass
        archive.expected, archive.answers = "", [500]
        with pytest.raises(ServiceError, match="the answer 500") as broken:
            push(at(url), objects_in([slide]))
    for error in (refused.value, broken.value):
        assert "DOE" not in str(error)
        assert "other" not in repr(error)


def test_secrets_are_in_no_word_of_ours(caplog: pytest.LogCaptureFixture, archive: Archive, slide: Path) -> None:
    environ = {"SRH_CLINIC_PACS_USER": "reader", "SRH_CLINIC_PACS_PASSWORD": SECRET}
    with caplog.at_level(logging.DEBUG), serving(archive) as url:
        push(at(url, **environ), objects_in([slide]))
        found = credentials_for(web_address(url), environ)
    assert found is not None
    assert found.header == "Basic cmVhZGVyOnMzY3JldC1vZi1ET0U="
    assert SECRET not in f"{found!r} {found} {caplog.text}"


def test_credentials_never_travel_where_they_can_be_read() -> None:
    environ = {"SRH_CLINIC_PACS_TOKEN": SECRET}
    for url in ("https://pacs.example/dicom-web", "http://localhost:8042/dicom-web", "http://127.0.0.7/x", "http://[::1]/x"):
        assert credentials_for(web_address(url), environ) == Credentials(token=SECRET)
    for url in ("http://pacs.example/dicom-web", "http://10.0.0.4/x", "http://localhost.example/x"):
        with pytest.raises(InputError, match="plain http") as refused:
            credentials_for(web_address(url), environ)
        assert SECRET not in str(refused.value)
        assert credentials_for(web_address(url), {}) is None
    with pytest.raises(InputError, match="without SRH_CLINIC_PACS_PASSWORD"):
        credentials_for(web_address("https://pacs.example"), {"SRH_CLINIC_PACS_USER": "reader"})


def test_an_address_is_a_url_or_a_node_and_holds_no_secret() -> None:
    assert parse_address("ORTHANC@127.0.0.1:4242") == Node("ORTHANC", "127.0.0.1", 4242)
    assert str(parse_address("MY PACS@[::1]:104")) == "MY PACS@[::1]:104"
    assert str(parse_address("https://pacs.example/dicom-web/")) == "https://pacs.example/dicom-web"
    for text in (
        f"https://reader:{SECRET}@pacs.example/x",
        f"https://{SECRET}@pacs.example/x",
        f"https://reader:{SECRET}/x@pacs.example",
        f"https://pacs.example/x?token={SECRET}",
        f"ftp://pacs.example/{SECRET}",
        f"reader:{SECRET}@pacs.example:104",
        f"{SECRET}@{SECRET}:0",
        SECRET,
        "https://pacs.example:99999999/x",
        "A-TITLE-OF-SEVENTEEN@pacs:104",
    ):
        with pytest.raises(InputError) as refused:
            parse_address(text)
        assert SECRET not in str(refused.value)


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for trust in (Trust(ca=tmp_path / "ca.pem"), Trust(ca=tmp_path / "none"), Trust(certificate=tmp_path / "ca.pem")):
        with pytest.raises(InputError, match=r"ca\.pem|none"):
            trust.context()
    with pytest.raises(InputError, match="a key without a certificate"):
        Trust(key=tmp_path / "ca.pem").context()


def test_what_is_no_dicom_is_passed_over_in_a_folder_and_refused_by_name(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("notes")
    (tmp_path / "a" / "noise.dcm").write_bytes(os.urandom(5000))
    with pytest.raises(InputError, match="no DICOM object"):
        objects_in([tmp_path / "a"])
    with pytest.raises(InputError, match=r"noise\.dcm"):
        objects_in([slide, tmp_path / "a" / "noise.dcm"])
    first = objects_in([slide])[0]
    (tmp_path / "a" / "copy.dcm").write_bytes(first.path.read_bytes())
    assert len(objects_in([slide, tmp_path / "a"])) == 2
    (tmp_path / "a" / "copy.dcm").write_bytes(first.path.read_bytes()[:-2])
    with pytest.raises(InputError, match="another object with the SOP instance UID"):
        objects_in([slide, tmp_path / "a"])


def test_another_client_finds_the_service_of_these_tests_as_ours_does(archive: Archive, slide: Path, tmp_path: Path) -> None:
    client_of = pytest.importorskip("dicomweb_client").DICOMwebClient
    objects = objects_in([slide])
    study, series = objects[0].instance.study, objects[0].instance.series
    with serving(archive) as url:
        client = client_of(url)
        assert push(at(url), objects) == {}
        found = client.search_for_instances(study, series)
        assert {text_of(one, "SOPInstanceUID") for one in found} == {one.instance.sop for one in objects}
        (folder,) = fetch(at(url), Wanted(study=study), tmp_path / "out")
        whole = client.retrieve_instance(study, series, objects[0].instance.sop, media_types=WHOLE)
    assert whole == dcmread(place_of(objects[0].instance, folder.parent))


def test_a_keyring_holds_a_token_or_a_password_for_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    held = {"srh-clinic a.example": ("token", SECRET), "srh-clinic b.example": ("reader", SECRET)}

    def get_credential(service: str, user: str | None) -> object:
        if service == "srh-clinic c.example":
            raise keyring.errors.NoKeyringError
        name, password = held.get(service, ("", ""))
        return SimpleNamespace(username=name, password=password) if name else None

    monkeypatch.setattr(keyring, "get_credential", get_credential)
    assert credentials_for(web_address("https://a.example/x"), {}) == Credentials(token=SECRET)
    assert credentials_for(web_address("https://b.example/x"), {}) == Credentials("", "reader", SECRET)
    assert credentials_for(web_address("https://c.example/x"), {}) is None
    given = credentials_for(web_address("https://a.example/x"), {"SRH_CLINIC_PACS_TOKEN": "of the environment"})
    assert given == Credentials(token="of the environment")  # noqa: S106


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("120", 120, 120),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 1e10),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("9" * 400, 1e8, 1e9),
    ],
)
def test_a_service_that_says_when_to_ask_again_is_heard(
    archive: Archive, slide: Path, said: str, least: float, most: float
) -> None:
    archive.answers, archive.answered_with = [503], {"Retry-After": said}
    with serving(archive) as url, pytest.raises(UnreachableError, match="answer-503") as late:
        destination_of(url, "SRHCLINIC").send([slide])
    assert least <= late.value.after <= most


def test_what_a_redirect_says_beside_its_target_is_not_read(archive: Archive, slide: Path) -> None:
    """It may be without end."""

    class Endless:
        """A service that goes on for ever."""

        status, headers = 307, {"Location": "/dicom-web/elsewhere"}

        def close(self) -> None:
            pass

    with serving(archive) as url:
        service = at(url)
        answers = [Endless()]
        ask = service._pool.urlopen
        service._pool.urlopen = lambda *what, **how: answers.pop() if answers else ask(*what, **how)  # type: ignore[method-assign]
        archive.redirect = {"/elsewhere": f"{url}/studies"}
        assert service.ask("GET", "studies", what="a search") == b""
