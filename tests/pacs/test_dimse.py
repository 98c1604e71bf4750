"""DIMSE: objects go as they are encoded, in a context each, and what the other side has is asked by C-FIND."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from peer import Peer, listening, objects_of

from srh_clinic.errors import InputError
from srh_clinic.integration.network import MOST_CONTEXTS, OBJECT_CLASSES, SYNTAXES
from srh_clinic.pacs.address import Node
from srh_clinic.pacs.dimse import NodeArchive
from srh_clinic.pacs.fetching import fetch
from srh_clinic.pacs.objects import ServiceError, Wanted, objects_in
from srh_clinic.pacs.sending import NOT_THERE, push

WSI = OBJECT_CLASSES[0]
ALL = {kind: list(SYNTAXES) for kind in OBJECT_CLASSES}


def test_what_is_stored_is_found_and_stored_again_without_harm(slide: Path) -> None:
    peer, objects = Peer(), objects_in([slide])
    with listening(peer, ALL) as port:
        archive = NodeArchive(Node("PEER", "127.0.0.1", port))
        for _ in range(2):
            assert push(archive, objects) == {}
    assert {one.instance.sop for one in objects} == set(peer.objects)
    for one in objects:
        assert peer.objects[one.instance.sop].file_meta.TransferSyntaxUID == one.syntax


def test_an_object_whose_encoding_is_not_taken_is_named_and_not_transcoded(slide: Path) -> None:
    objects = objects_in([slide])
    raw = ["1.2.840.10008.1.2.1"]
    with listening(peer := Peer(), {WSI: raw}) as port:
        faults = push(NodeArchive(Node("PEER", "127.0.0.1", port)), objects)
    assert not peer.objects
    assert set(faults.values()) == {
        "not taken: VL Whole Slide Microscopy Image Storage in JPEG-LS Lossless Image Compression",
    }


def test_statuses_are_told_and_a_warning_is_a_success(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srh_clinic.pacs.sending.SETTLING", ())
    one, other = objects_in([slide])
    peer = Peer(statuses={one.instance.sop: 0xA700, other.instance.sop: 0xB000})
    with listening(peer, ALL) as port:
        archive = NodeArchive(Node("PEER", "127.0.0.1", port))
        assert push(archive, [one, other]) == {one: "out of resources (0xA700)"}
        peer.statuses = {one.instance.sop: 0x0111}
        assert push(archive, [one, other]) == {one: NOT_THERE}  # it says that it is a duplicate, and C-FIND finds none


@pytest.mark.parametrize("how", ["get", "move"])
def test_what_is_fetched_is_what_was_announced(slide: Path, tmp_path: Path, how: str) -> None:
    objects = objects_in([slide])
    peer = Peer(objects=objects_of([one.path for one in objects]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ours = free.getsockname()[1]
    peer.known = {"SRHCLINIC": ours}
    with listening(peer, ALL) as port:
        archive = NodeArchive(Node("PEER", "127.0.0.1", port), how=how, port=ours)  # type: ignore[arg-type]
        peer.withhold = {objects[0].instance.sop}
        with pytest.raises(InputError, match="found 1 of the 2 objects"):
            fetch(archive, Wanted(patient="CANARY-patient"), tmp_path / "out")
        peer.withhold = set()
        (folder,) = fetch(archive, Wanted(study=objects[0].instance.study), tmp_path / "out")
    got = objects_in([folder])
    assert {one.instance.sop for one in got} == {one.instance.sop for one in objects}
    assert {one.syntax for one in got} == {one.syntax for one in objects}
    pixels = {str(one.SOPInstanceUID): one.PixelData for one in peer.objects.values()}
    assert all(pixels[uid] == one.PixelData for uid, one in objects_of([each.path for each in got]).items())


def test_a_move_to_a_place_that_the_archive_does_not_know_says_so(slide: Path, tmp_path: Path) -> None:
    peer = Peer(objects=objects_of([one.path for one in objects_in([slide])]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ours = free.getsockname()[1]
    with listening(peer, ALL) as port:
        archive = NodeArchive(Node("PEER", "127.0.0.1", port), how="move", port=ours)
        with pytest.raises(ServiceError, match="move destination unknown"):
            fetch(archive, Wanted(patient="CANARY-patient"), tmp_path / "out")
        with pytest.raises(InputError, match="no port for C-MOVE"):
            fetch(NodeArchive(Node("PEER", "127.0.0.1", port), how="move"), Wanted(patient="CANARY-patient"), tmp_path / "out")


def test_nobody_there_and_too_many_kinds_are_sentences(slide: Path) -> None:
    objects = objects_in([slide])
    with pytest.raises(ServiceError, match="no association for a store") as nobody:
        push(NodeArchive(Node("PEER", "127.0.0.1", 1)), objects)
    assert nobody.value.may_pass
    kinds = [type(one)(one.path, one.instance, f"1.2.{n}", one.size) for n, one in enumerate(objects * 65)]
    with pytest.raises(InputError, match=f"found objects of 130 combinations.*fewer than {MOST_CONTEXTS}"):
        push(NodeArchive(Node("PEER", "127.0.0.1", 1)), kinds)
    assert len(OBJECT_CLASSES) * len(SYNTAXES) + 1 <= MOST_CONTEXTS  # C-GET offers all of them


def test_an_association_that_breaks_off_is_followed_by_another_with_what_is_left(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.dimse.PATIENCE", 2.0)
    objects = objects_in([slide])
    peer = Peer(breaks=(2, 3))
    with listening(peer, ALL) as port:
        archive = NodeArchive(Node("PEER", "127.0.0.1", port))
        assert push(archive, objects) == {}
        assert (len(peer.objects), peer.stored) == (2, 4)  # the first once
        peer.breaks, peer.stored = (1, 2, 3), 0
        with pytest.raises(ServiceError, match="a connection that broke off"):
            push(archive, objects)
