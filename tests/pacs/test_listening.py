"""From what arrives to results that have gone out, by one ledger and the workers of any run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from arriving_slides import LISTENER, SENDER, free_port, send, series_uid, slide_files, until
from many_cases import CANARY
from pydicom import dcmread

from srh_clinic.case.record import read_result
from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.deliveries import count_deliveries
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.running import Seen
from srh_clinic.cohort.settings import CASES, DICOM, CaseSettings
from srh_clinic.errors import BusyError, InputError
from srh_clinic.files import claimed
from srh_clinic.pacs.destination import Sent
from srh_clinic.pacs.inbox import INBOX
from srh_clinic.pacs.listening import Listening, listen
from srh_clinic.pacs.receiving import Port


class Over(Exception):
    """Ends a listener."""


class Pacs:
    """Keeps what it gets, by name of the case."""

    name = "dicom://PACS@pacs:104"

    def __init__(self) -> None:
        self.got: list[tuple[str, list[Path]]] = []

    def send(self, objects: Sequence[Path]) -> Sent:
        self.got.append((objects[0].parent.name, list(objects)))
        return Sent(len(objects))


def listen_until(asked: Listening, seconds: float = 300.0, **true: int) -> None:
    """Listen until so many cases, and deliveries, are in a state, and end."""

    def watch(beat: Seen, ledger: Ledger) -> None:
        counts = {**beat.counts, **count_deliveries(ledger)}
        if all(counts[name] >= number for name, number in true.items()):  # type: ignore[literal-required]
            raise Over
        assert beat.seconds < seconds, counts

    with pytest.raises(Over):
        listen(asked, watch)


def test_what_comes_by_any_door_is_done_once_and_its_results_go_out(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], workers_draw_little: None
) -> None:
    settings = CaseSettings(bundle=str(tiny_bundle), device="cpu", restoring={"precision": "float32"}, dicom=True)
    sent, put = slide_files(tmp_path / "sent", 0), slide_files(tmp_path / "put", 1, levels=())
    rgb = slide_files(tmp_path / "rgb", 2, levels=())[0]
    (watched := tmp_path / "watched").mkdir()
    (watched / f"{CANARY}.bin").write_bytes(np.random.default_rng(0).bytes(2**20))
    shutil.copytree(tmp_path / "put", watched / CANARY)
    port, out, pacs = free_port(), tmp_path / "out", Pacs()
    door = Port(port, title=LISTENER, accept=(SENDER,))
    asked = Listening(out, settings, door, watched, destination=pacs, settle=0.3, patience=1.0, audit=tmp_path / "audit")

    def sends() -> None:
        until(lambda: send([*sent, rgb], port) == [0] * 5)

    sender = threading.Thread(target=sends)
    sender.start()
    listen_until(asked, done=2, parked=2, sent=2)
    sender.join()

    names = [case_name(series_uid(files[0])) for files in (sent, put)]
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        states = {entry.name: (entry.state, entry.kind) for entry in ledger.entries()}
        moves = ledger.moves()
        assert ledger.watched(within=300.0) == ("listens", True)
    assert {states.pop(name) for name in names} == {("done", "computed")}
    assert sorted(states.values()) == [("parked", "channel-missing"), ("parked", "refused")]
    assert sorted(name for name, _ in pacs.got) == sorted(names)
    studies = {name: dcmread(files[0]).StudyInstanceUID for name, files in zip(names, (sent, put), strict=True)}
    for name, objects in pacs.got:
        assert sorted(objects) == sorted((out / DICOM / name).iterdir())
        assert {dcmread(file).StudyInstanceUID for file in objects} == {studies[name]}
        assert read_result(out / CASES / name).diagnosis
    told = (tmp_path / "audit").read_text() + "".join(capfd.readouterr())
    assert CANARY not in told
    assert {json.loads(line)["event"] for line in told.splitlines()} >= {
        "begin",
        "received",
        "arrived",
        "parked",
        "sent",
        "end",
    }

    listen_until(asked, done=2, parked=2, sent=2)  # begun again, it finds nothing to do
    with Ledger(out / "ledger.sqlite", read=True) as ledger:
        assert ledger.moves() == moves
    assert len(pacs.got) == 2


def test_what_cannot_be_listened_to_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    settings = CaseSettings(dicom=True)
    with pytest.raises(InputError, match="no way by which cases come in"):
        listen(Listening(tmp_path / "out", settings))
    with pytest.raises(InputError, match="no folder that can be read"):
        listen(Listening(tmp_path / "out", settings, folder=tmp_path / "none"))
    assert [*tmp_path.iterdir()] == []

    with claimed(tmp_path / "out" / INBOX), ThreadPoolExecutor() as others, pytest.raises(BusyError):
        others.submit(listen, Listening(tmp_path / "out", settings, folder=tmp_path)).result()
