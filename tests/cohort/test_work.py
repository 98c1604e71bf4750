"""A worker notes what came of a case, goes on past bad ones, and leaves what it cannot finish to others."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from killing import timeless

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.cohort import work
from srh_clinic.cohort.cases import list_cases
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.cohort.work import Done, Stopped, Worker, disk_fault, do_case
from srh_clinic.errors import BusyError, InputError
from srh_clinic.files import claimed
from srh_clinic.progress import silent
from srh_clinic.tiling import TileStore


@pytest.fixture
def ledger(tmp_path: Path, few_cases: Path) -> Ledger:
    opened = Ledger(tmp_path / "ledger.sqlite")
    opened.enrol([case.enrolled() for case in list_cases(few_cases)])
    return opened


@pytest.fixture(scope="module")
def pipeline(settings: CaseSettings) -> RestoreThenClassify:
    return settings.pipeline()


def worker_that(does: Any, monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> Worker:
    """A worker for which ``does`` stands in the place of restoring and classifying."""
    monkeypatch.setattr(work, "do_case", lambda pipeline, settings, out, name, source, progress: does(name, progress))
    return Worker(None, CaseSettings(), ledger.path.parent, ledger)  # type: ignore[arg-type]


def states(ledger: Ledger) -> list[str]:
    return [entry.state for entry in ledger.entries()]


def test_bad_cases_are_parked_defects_failed_and_the_others_done(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    faults = [InputError("an RGB image", "SRH", "DOE.dcm"), ZeroDivisionError("of DOE"), None]

    def do(name: str, progress: Any) -> Done:
        if (fault := faults.pop(0)) is not None:
            raise fault
        return Done("computed", "pixels", "outputs")

    worker_that(do, monkeypatch, ledger).run(lambda: True)
    entries = ledger.entries()
    assert [entry.state for entry in entries] == ["parked", "failed", "done"]
    assert [entry.kind for entry in entries] == ["refused", "ZeroDivisionError", "computed"]
    assert entries[0].why == "DOE.dcm: found an RGB image; needed SRH."
    assert "Traceback" in entries[1].why


def test_a_full_disk_ends_a_worker_and_no_case_is_blamed(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    def do(name: str, progress: Any) -> Done:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise InputError("No space left on device", "room and permission to write tiles") from error

    with pytest.raises(OSError, match="No space left"):
        worker_that(do, monkeypatch, ledger).run(lambda: True)
    assert states(ledger) == ["waiting"] * 3
    assert [move.kind for move in ledger.history()][-1] == "disk-full"


def test_what_a_fault_comes_from_is_found_through_other_errors() -> None:
    full = OSError(errno.EDQUOT, "Disk quota exceeded")
    outer = ValueError()
    outer.__context__ = full
    assert disk_fault(outer) is full
    assert disk_fault(OSError(errno.EACCES, "no")) is None


def test_a_worker_that_is_told_to_stop_hands_its_case_back_and_ends(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    def do(name: str, progress: Any) -> Done:
        worker.stop()
        raise AssertionError("it goes on")

    worker = worker_that(do, monkeypatch, ledger)
    worker.run(lambda: True)
    assert states(ledger) == ["waiting"] * 3
    assert [move.kind for move in ledger.history()][-2:] == ["claimed", "stopped"]
    worker.stop()  # between cases it raises nothing


def test_a_worker_ends_between_cases_when_who_began_it_is_gone(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    answers = [True, False]
    worker_that(lambda name, progress: Done("computed", "", ""), monkeypatch, ledger).run(lambda: answers.pop(0))
    assert states(ledger) == ["done", "waiting", "waiting"]


def test_a_case_that_another_process_writes_is_left_for_a_while(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    def do(name: str, progress: Any) -> Done:
        if name == ledger.entries()[0].name:
            raise BusyError("a run that writes there now", "to wait")
        return Done("computed", "", "")

    answers = [True] * 3 + [False]
    worker_that(do, monkeypatch, ledger).run(lambda: answers.pop(0))
    assert states(ledger) == ["waiting", "done", "done"]


def test_how_far_a_case_is_stands_in_the_ledger_while_its_claim_is_renewed(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    ledger.lease = 0.6
    seen = []

    def do(name: str, progress: Any) -> Done:
        progress("restoring", 3, 4)
        time.sleep(0.9)  # beyond the lease
        seen.append(next(entry for entry in ledger.entries() if entry.name == name))
        return Done("computed", "", "")

    answers = [True, False]
    worker_that(do, monkeypatch, ledger).run(lambda: answers.pop(0))
    assert (seen[0].state, seen[0].stage) == ("running", "restoring 3/4")
    assert states(ledger)[0] == "done"


def test_a_worker_whose_case_is_withdrawn_stops_it_at_the_next_tile(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    ledger.lease, tiles = 0.3, 0

    def do(name: str, progress: Any) -> Done:
        nonlocal tiles
        if tiles == 0:
            ledger.withdraw(name, "canceled", "")
            for tiles in range(1, 1001):
                time.sleep(0.01)
                progress("restoring", tiles, 1000)
        return Done("computed", "", "")

    worker_that(do, monkeypatch, ledger).run(lambda: True)
    assert 0 < tiles < 1000
    assert states(ledger) == ["parked", "done", "done"]


def test_a_case_that_was_cut_goes_on_from_its_tiles_and_comes_out_the_same(
    monkeypatch: pytest.MonkeyPatch, pipeline: RestoreThenClassify, settings: CaseSettings, few_cases: Path, tmp_path: Path
) -> None:
    case = list_cases(few_cases)[0]
    plain, cut = tmp_path / "plain", tmp_path / "cut"
    whole = do_case(pipeline, settings, plain, case.name, case.source, silent)
    put, kept = TileStore.put, []

    def put_two(store: TileStore, *tile: Any) -> None:
        put(store, *tile)
        kept.append(tile[0])
        if len(kept) == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(TileStore, "put", put_two)
        with pytest.raises(Stopped):
            do_case(pipeline, settings, cut, case.name, case.source, silent)
    assert not list(cut.glob("cases/*/*"))
    monkeypatch.setattr(TileStore, "put", lambda store, *tile: (kept.append(tile[0]), put(store, *tile))[1])
    again = do_case(pipeline, settings, cut, case.name, case.source, silent)
    assert len(kept) == len(set(kept))
    assert again.kind == "computed"
    assert again.pixels == whole.pixels
    files = sorted((plain / "cases" / case.name).iterdir())
    assert {file.name: timeless(file) for file in files} == {
        file.name: timeless(file) for file in (cut / "cases" / case.name).iterdir()
    }
    assert list((cut / ".partial").iterdir()) == []

    found = do_case(pipeline, settings, cut, case.name, case.source, silent)
    assert (found.kind, found.pixels, found.outputs) == ("found", again.pixels, again.outputs)


def test_two_processes_do_not_write_one_case_at_once(
    pipeline: RestoreThenClassify, settings: CaseSettings, few_cases: Path, tmp_path: Path
) -> None:
    case = list_cases(few_cases)[0]
    code = (
        "import sys\nfrom pathlib import Path\nfrom srh_clinic.files import claimed\n"
        "with claimed(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cases" / case.name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError):
            do_case(pipeline, settings, tmp_path, case.name, case.source, silent)
        other.kill()
    with claimed(tmp_path / "cases" / case.name):
        pass
