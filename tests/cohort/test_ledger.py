"""A case has one state, moves by transactions, and is done once, whoever dies when."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from srh_clinic.cohort.ledger import MOVES, Enrolled, Ledger, count_states, latest
from srh_clinic.cohort.owner import is_gone, this_process
from srh_clinic.errors import InputError

CLAIM_AND_FINISH = """
import sys, time
from pathlib import Path
from srh_clinic.cohort.ledger import Ledger
with Ledger(Path(sys.argv[1]), deaths=1000) as ledger:
    print("open", flush=True)
    while ledger.open_cases():
        claim = ledger.claim()
        if claim is None:
            time.sleep(0.01)
            continue
        ledger.renew(claim, "half")
        time.sleep(float(sys.argv[2]))
        ledger.finish(claim, "computed", "p" * 64, "o" * 64)
"""


def cases(number: int, files: str = "f") -> list[Enrolled]:
    return [Enrolled(f"{place:012x}", (f"/cases/{place}.dcm",), files) for place in range(number)]


def ledger_of(folder: Path, number: int = 3, **how: float) -> Ledger:
    ledger = Ledger(folder / "ledger.sqlite", **how)  # type: ignore[arg-type]
    ledger.enrol(cases(number))
    return ledger


def require_a_true_history(ledger: Ledger) -> None:
    """Every case moved by steps that there are, each from where the one before had ended, and is where the last one ended."""
    for entry in ledger.entries():
        moves = ledger.history(entry.name)
        assert (moves[0].was, moves[0].state) == ("", "waiting")
        for before, after in pairwise(moves):
            assert before.state == after.was
            assert (after.was, after.state) in MOVES
        assert moves[-1].state == entry.state


def worker(path: Path, seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLAIM_AND_FINISH, str(path), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(workers: Sequence[subprocess.Popen[str]]) -> None:
    for one in workers:
        one.kill()
        one.communicate()


def test_cases_are_claimed_in_the_order_in_which_they_came_and_each_once(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    claims = [ledger.claim() for _ in range(4)]
    assert [claim and claim.name for claim in claims] == [case.name for case in cases(3)] + [None]
    assert count_states(ledger.entries())["running"] == 3


def test_what_is_done_stays_done_with_its_hashes(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1)
    claim = ledger.claim()
    assert claim is not None
    assert ledger.finish(claim, "computed", "pixels", "outputs")
    entry = Ledger(ledger.path, read=True).entries()[0]
    assert (entry.state, entry.kind, entry.attempts, entry.pixels, entry.outputs) == (
        "done",
        "computed",
        1,
        "pixels",
        "outputs",
    )
    assert ledger.claim() is None
    assert ledger.open_cases() == 0
    require_a_true_history(ledger)


def test_a_claim_whose_lease_ran_out_is_another_ones_and_the_first_word_on_it_is_not_taken(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1, lease=0.05)
    first = ledger.claim()
    time.sleep(0.1)
    assert ledger.entries()[0].state == "waiting"
    second = ledger.claim()
    assert first is not None
    assert second is not None
    assert (second.name, second.attempt) == (first.name, 2)
    assert not ledger.renew(first)
    assert not ledger.finish(first, "computed", "", "")
    assert not ledger.park(first, "refused", "late")
    assert ledger.renew(second)
    assert ledger.finish(second, "computed", "", "")
    assert [move.state for move in ledger.history()].count("done") == 1
    require_a_true_history(ledger)


def test_a_claim_that_is_renewed_is_kept(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1, lease=0.3)
    claim = ledger.claim()
    assert claim is not None
    for _ in range(4):
        time.sleep(0.1)
        assert ledger.renew(claim, "restoring 3/4")
        assert ledger.claim() is None
    assert ledger.entries()[0].stage == "restoring 3/4"


def test_the_case_of_a_killed_process_is_taken_again_at_once_though_its_lease_runs(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1, lease=1000)
    with worker(ledger.path, 1000) as other:
        deadline = time.monotonic() + 60
        while ledger.entries()[0].state != "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ledger.claim() is None
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet fetched by its parent
        assert ledger.entries()[0].state == "waiting"
        claim = ledger.claim()
    assert claim is not None
    assert claim.attempt == 2
    assert [move.kind for move in ledger.history()] == ["enrolled", "claimed", "taken-back", "claimed"]


def test_a_process_is_gone_when_it_has_ended_and_not_when_its_number_is_anothers() -> None:
    place, process, began = this_process().split()
    assert not is_gone(this_process())
    assert is_gone(f"{place} {process} {int(began) - 1}")
    assert not is_gone(f"elsewhere {process} {int(began) - 1}")


def test_a_case_on_which_worker_after_worker_dies_is_parked(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1, lease=-1, deaths=3)
    assert [ledger.claim() is not None for _ in range(4)] == [True, True, True, False]
    entry = ledger.entries()[0]
    assert (entry.state, entry.kind) == ("parked", "worker-died")
    assert "3 workers died" in entry.why
    assert ledger.retry() == [entry.name]
    require_a_true_history(ledger)
    assert ledger.claim() is not None


def test_parked_and_failed_cases_wait_again_when_asked_and_others_do_not(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 4)
    claims = [ledger.claim() for _ in range(3)]
    assert None not in claims
    ledger.park(claims[0], "refused", "an RGB image")  # type: ignore[arg-type]
    ledger.fail(claims[1], "defect", "ZeroDivisionError")  # type: ignore[arg-type]
    ledger.finish(claims[2], "computed", "", "")  # type: ignore[arg-type]
    names = [entry.name for entry in ledger.entries()]
    assert ledger.retry([names[1], names[2]]) == [names[1]]
    assert [entry.state for entry in ledger.entries()] == ["parked", "waiting", "done", "waiting"]
    assert ledger.retry() == [names[0]]
    with pytest.raises(InputError, match="no case 'nothing'"):
        ledger.retry(["nothing"])
    require_a_true_history(ledger)


def test_a_case_that_nobody_wants_any_more_is_parked_whoever_has_it(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    first, second = ledger.claim(), ledger.claim()
    assert first is not None
    assert second is not None
    assert ledger.finish(first, "computed", "p", "o")
    assert [ledger.withdraw(f"{place:012x}", "canceled", "") for place in range(4)] == [False, True, True, False]
    assert [entry.state for entry in ledger.entries()] == ["done", "parked", "parked"]
    assert not ledger.renew(second)
    assert not ledger.finish(second, "computed", "p", "o")
    require_a_true_history(ledger)


def test_a_case_that_was_handed_back_waits_for_as_long_as_was_said(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1)
    claim = ledger.claim()
    assert claim is not None
    assert ledger.hand_back(claim, "busy", wait=0.2)
    assert ledger.claim() is None
    time.sleep(0.25)
    assert ledger.claim() is not None


def test_the_same_cases_are_taken_in_once_and_changed_ones_are_done_again(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 2)
    for _ in range(2):
        claim = ledger.claim()
        assert claim is not None
        ledger.finish(claim, "computed", "", "")
    assert ledger.enrol(cases(3)) == 1
    assert [entry.state for entry in ledger.entries()] == ["done", "done", "waiting"]
    ledger.enrol([*cases(2, "changed")[:1], *cases(2)[1:]])
    assert [entry.state for entry in ledger.entries()] == ["waiting", "done", "waiting"]
    ledger.enrol(cases(2, "changed")[:1], outputs_of=[])
    assert ledger.entries()[0].state == "waiting"
    ledger.enrol(cases(3)[1:2], outputs_of=[])
    assert ledger.entries()[1].state == "waiting"
    require_a_true_history(ledger)


def test_a_ledger_has_one_way_in_which_its_cases_are_made(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    assert ledger.settings == ""
    ledger.adopt({"seed": 0, "restorer": "rscd"})
    ledger.adopt({"restorer": "rscd", "seed": 0})
    with pytest.raises(InputError, match="another seed than the cases here were begun with"):
        ledger.adopt({"restorer": "rscd", "seed": 1})


@pytest.mark.parametrize(
    "content", [b"no ledger at all, but a text of some length" * 50, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_what_is_no_ledger_is_refused_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no ledger or a damaged one"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_ledger_of_another_version_or_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no ledger"):
        Ledger(tmp_path / "nothing.sqlite", read=True)
    assert list(tmp_path.iterdir()) == []
    ledger_of(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="version 99"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_step_that_there_is_none_of_is_a_defect(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 1)
    with pytest.raises(AssertionError, match="cannot move from waiting to done"):
        ledger._move(ledger.entries()[0].name, "waiting", "done", "computed")


def test_of_several_ledgers_the_last_word_on_a_case_counts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = ledger_of(tmp_path / "a", 2), ledger_of(tmp_path / "b", 1)
    claim = two.claim()
    assert claim is not None
    two.finish(claim, "computed", "", "")
    assert [entry.state for entry in latest([one.entries(), two.entries()])] == ["done", "waiting"]
    assert [entry.state for entry in latest([two.entries(), one.entries()])] == ["done", "waiting"]


def test_a_full_disk_is_told_as_one_and_what_was_noted_before_stands(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 3)
    claim = ledger.claim()
    assert claim is not None
    before = ledger.history()
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="No space left") as full:
        ledger.enrol([Enrolled(f"more{number}", ("x" * 3000,), "f") for number in range(1000)])
    assert full.value.errno == errno.ENOSPC
    assert ledger.history() == before
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    assert ledger.finish(claim, "computed", "", "")
    require_a_true_history(ledger)


def test_workers_that_are_killed_at_any_moment_leave_every_case_done_once(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 150)
    rng = random.Random(0)
    workers = [worker(ledger.path, 0.01) for _ in range(2)]
    try:
        for one in workers:
            assert one.stdout is not None
            assert one.stdout.readline() == "open\n"
        for _ in range(8):
            time.sleep(rng.uniform(0, 0.3))
            place = rng.randrange(2)
            workers[place].kill()
            workers[place].wait()
            assert sum(count_states(ledger.entries()).values()) == 150
            workers[place] = worker(ledger.path, 0.01)
        for one in workers:
            assert one.wait(timeout=120) == 0
    finally:
        end(workers)
    assert ledger._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    done = Counter(move.name for move in ledger.history() if move.state == "done")
    assert set(done.values()) == {1}
    assert len(done) == 150
    require_a_true_history(ledger)


def test_a_clock_that_is_set_back_holds_no_case_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, back = time.time(), 86_400.0
    ledger = ledger_of(tmp_path, 3)
    handed_back, ours, anothers = (ledger.claim() for _ in range(3))
    assert handed_back is not None
    assert ours is not None
    assert anothers is not None
    ledger.hand_back(handed_back, "busy", wait=10)
    with ledger.transaction() as db:
        db.execute("UPDATE cases SET owner = 'another:boot:1 7 8' WHERE name = ?", (anothers.name,))
    ledger.beat()
    monkeypatch.setattr("srh_clinic.cohort.ledger.time.time", lambda: now - back)
    assert ledger.watched(within=60.0) == ("run", False)
    assert {entry.name: entry.state for entry in ledger.entries()}[ours.name] == "running"  # its process lives
    again = [claim.name for claim in iter(ledger.claim, None)]
    assert again == [handed_back.name, anothers.name]
    assert ledger.finish(ours, "computed", "", "")
    assert ledger.entries()[1].seconds == 0.0


class _Elsewhere(sqlite3.Connection):
    """Another process has just begun to make a new file, for which SQLite does not wait; or nothing can be written."""

    code, times = sqlite3.SQLITE_BUSY, 2

    def execute(self, statement: str, *given: object) -> sqlite3.Cursor:  # type: ignore[override]
        if "journal_mode" in statement and _Elsewhere.times:
            _Elsewhere.times -= 1
            error = sqlite3.OperationalError("not now")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(statement, *given)


def _connects(monkeypatch: pytest.MonkeyPatch, code: int, times: int) -> None:
    monkeypatch.setattr(_Elsewhere, "code", code)
    monkeypatch.setattr(_Elsewhere, "times", times)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *where, **how: connect(*where, **how, factory=_Elsewhere))


def test_two_processes_may_make_a_ledger_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _connects(monkeypatch, sqlite3.SQLITE_BUSY, 2)
    assert ledger_of(tmp_path, 2).open_cases() == 2


@pytest.mark.parametrize("code", [sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR])
def test_a_ledger_where_nothing_can_be_written_is_read_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with ledger_of(tmp_path, 3) as ledger:
        ledger.withdraw(ledger.entries()[0].name, "canceled", "")
    path = tmp_path / "ledger.sqlite"
    _connects(monkeypatch, code, 2)
    with Ledger(path, read=True) as ledger:
        assert len(ledger.entries()) == 3
        with pytest.raises(InputError, match="can be read and written"):
            ledger.retry()
    assert [item.name for item in tmp_path.iterdir()] == ["ledger.sqlite"]
    (tmp_path / "ledger.sqlite-wal").write_bytes(b"what is not in the file yet")
    with pytest.raises(InputError, match="can be read and written"):
        Ledger(path, read=True)
