"""Many cases by several processes: each exactly once, and the same bytes whoever dies and however they are divided."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from many_cases import WHOLE, contents, kill_one, run, times_done

from srh_clinic.cohort.cases import Shard
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.running import Seen, ledger_file
from srh_clinic.cohort.settings import CASES, CaseSettings
from srh_clinic.errors import InputError


def test_workers_that_are_killed_change_no_byte_and_every_case_is_done_once(
    few_cases: Path, settings: CaseSettings, undisturbed: Path, tmp_path: Path
) -> None:
    killed: list[float] = []

    def kill(seen: Seen, ledger: Ledger) -> None:
        assert sum(seen.counts.values()) == 3
        if len(killed) < 2 and seen.running and time.monotonic() - max(killed, default=0.0) > 0.2 and kill_one(ledger):
            killed.append(time.monotonic())

    entries = run(few_cases, tmp_path / "out", settings, workers=2, watch=kill, deaths=100)
    assert len(killed) == 2
    assert [entry.state for entry in entries] == ["done"] * 3
    assert sum(entry.attempts for entry in entries) > 3
    assert set(times_done(ledger_file(tmp_path / "out", WHOLE)).values()) == {1}
    assert contents(tmp_path / "out") == contents(undisturbed)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cases", "ledger.sqlite", "results.csv"]


def test_shards_leave_the_same_bytes_as_one_run_in_whatever_order(
    few_cases: Path, settings: CaseSettings, undisturbed: Path, tmp_path: Path
) -> None:
    parts = 3
    for number in reversed(range(1, parts + 1)):
        assert not (tmp_path / "results.csv").exists()
        run(few_cases, tmp_path, settings, Shard(number, parts))
    assert contents(tmp_path) == contents(undisturbed)
    again = run(few_cases, tmp_path, settings, Shard(1, parts))
    assert {entry.attempts for entry in again} <= {1}
    assert contents(tmp_path) == contents(undisturbed)


def test_the_same_run_again_computes_nothing_and_says_the_same(
    few_cases: Path, settings: CaseSettings, undisturbed: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / CASES).rglob("*")}
    run(few_cases, undisturbed, settings)
    assert {path: path.stat().st_mtime_ns for path in (undisturbed / CASES).rglob("*")} == before
    assert {entry.attempts for entry in run(few_cases, undisturbed, settings)} == {1}


def test_a_ledger_that_is_lost_is_made_again_from_what_stands_there(
    few_cases: Path, settings: CaseSettings, undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed / CASES, tmp_path / CASES)
    before = {path: path.read_bytes() for path in (tmp_path / CASES).rglob("*.json")}
    entries = run(few_cases, tmp_path, settings)
    assert [entry.kind for entry in entries] == ["found"] * 3
    assert {path: path.read_bytes() for path in (tmp_path / CASES).rglob("*.json")} == before


def test_other_settings_than_those_of_the_ledger_are_refused_also_when_nothing_is_to_do(
    few_cases: Path, settings: CaseSettings, undisturbed: Path
) -> None:
    before = contents(undisturbed)
    for _ in range(2):
        with pytest.raises(InputError, match="another seed"):
            run(few_cases, undisturbed, replace(settings, seed=1))
    with pytest.raises(InputError, match="no-such-bundle"):
        run(few_cases, undisturbed, replace(settings, bundle="no-such-bundle"))
    assert contents(undisturbed) == before


def test_what_ends_a_run_has_its_workers_hand_back_their_cases(
    few_cases: Path, settings: CaseSettings, undisturbed: Path, tmp_path: Path
) -> None:
    def end(seen: Seen, ledger: Ledger) -> None:
        if seen.running:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(few_cases, tmp_path, settings, workers=2, watch=end)
    with Ledger(ledger_file(tmp_path, WHOLE), read=True) as ledger:
        states = [entry.state for entry in ledger.entries()]
        assert "running" not in states
        assert "waiting" in states
        assert ledger._db.execute("SELECT COUNT(*) FROM cases WHERE state = 'running'").fetchone()[0] == 0
    run(few_cases, tmp_path, settings)
    assert contents(tmp_path) == contents(undisturbed)
