"""What operators ask a run's folder: whether all is well, and of a damaged ledger one sentence."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from calling import Run

from srh_clinic.cohort.ledger import Enrolled, Ledger
from srh_clinic.cohort.owner import this_process
from srh_clinic.cohort.running import run_cohort
from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.errors import ExitCode, InputError


def ledger_of(folder: Path, number: int) -> Ledger:
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.enrol([Enrolled(f"{place:012x}", (f"/cases/{place}.dcm",), "f") for place in range(number)])
    return ledger


def spoil(path: Path, kind: str, rng: random.Random) -> None:
    """Damage the file of a ledger that nobody has open."""
    whole = bytearray(path.read_bytes())
    if kind == "bytes":
        for _ in range(200):
            whole[rng.randrange(100, len(whole))] = rng.randrange(256)
    elif kind == "short":
        del whole[rng.randrange(1, len(whole)) :]
    elif kind == "other":
        whole = bytearray(rng.randbytes(5_000))
    else:
        before, after = kind.encode("latin-1").split(b">")
        assert before in whole
        whole = whole.replace(before, after)
    path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["bytes", "short", "other", "parked>park\xff\xff", '["/cases/>{"/cases/', "done>dane"])
def test_a_damaged_ledger_is_told_in_one_sentence_by_all_that_read_it(tmp_path: Path, run: Run, kind: str) -> None:
    with ledger_of(tmp_path, 12) as ledger:
        for place in range(9):
            claim = ledger.claim()
            assert claim is not None
            if place % 3:
                (ledger.park, ledger.fail)[place % 3 - 1](claim, "refused", "why")
            else:
                ledger.finish(claim, "computed", "p", "o")
    spoil(tmp_path / "ledger.sqlite", kind, random.Random(0))
    calls = [("status",), ("status", "--json"), ("status", "--metrics"), ("status", "--health"), ("retry",), ("why", "0" * 12)]
    for name, *options in calls:
        ran = run("cohort", name, tmp_path, *options)
        assert (ran.code, ran.out) == (ExitCode.INPUT, ""), ran
        assert "found a file that is no ledger or a damaged one" in ran.err
        assert ran.err.count("\n") == 1
    with pytest.raises(InputError, match="damaged"):
        run_cohort([], CaseSettings(), tmp_path)


def test_health_says_whether_anybody_works_on_open_cases_or_listens(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(text: str) -> int:
        ran = run("cohort", "status", tmp_path, "--health")
        assert ran.out.startswith(text)
        return ran.code

    def beat(what: str, owner: str = this_process()) -> None:
        with Ledger(ledger.path) as other:
            other.owner = owner
            other.beat(what)

    ended = f"{this_process()}0"
    ledger = ledger_of(tmp_path, 1)
    assert asked("nobody works: 1 cases wait") == 1
    beat("run")
    assert asked("healthy: 1 cases wait, 0 are in hand") == 0
    beat("run", ended)
    assert asked("nobody works") == 1
    claim = ledger.claim()
    assert claim is not None
    ledger.park(claim, "refused", "why")
    assert asked("healthy: every case is at an end") == 0
    beat("listens", ended)
    assert asked("nobody listens") == 1
    beat("listens")
    assert asked("healthy") == 0
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert asked("nobody listens") == 1
