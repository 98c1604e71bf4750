"""Cases done by the workers of a Dask cluster: as by workers here, whoever dies."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from many_cases import contents, times_done

from srh_clinic.cohort.cases import Shard, list_cases
from srh_clinic.cohort.ledger import Entry, Ledger
from srh_clinic.cohort.running import Seen, ledger_file, run_cohort
from srh_clinic.cohort.settings import CASES, CaseSettings
from srh_clinic.cohort.telling import write_results
from srh_clinic.errors import InputError

pytest.importorskip("distributed")

from dask_cluster import Workers, cluster


def run(folder: Path, out: Path, settings: CaseSettings, **how: object) -> list[Entry]:
    cases = list_cases(folder)
    entries = run_cohort(cases, settings, out, **how)  # type: ignore[arg-type]
    write_results(cases, Shard(), entries, out, out / CASES)
    return entries


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Workers:
    with cluster(tmp_path_factory.mktemp("dask"), 2) as begun:
        yield begun


def test_a_dask_worker_that_is_killed_changes_no_byte_and_its_case_is_anothers(
    few_cases: Path, settings: CaseSettings, workers: Workers, tmp_path: Path
) -> None:
    run(few_cases, tmp_path / "here", settings, workers=1)
    killed: list[float] = []

    def kill(seen: Seen, ledger: Ledger) -> None:
        assert sum(seen.counts.values()) == 3
        if not killed and len(seen.running) == 2:
            killed.append(time.monotonic())
            workers.kill()
            workers.begin()

    out = tmp_path / "there"
    entries = run(few_cases, out, settings, scheduler=workers.address, watch=kill)
    assert killed
    assert [entry.state for entry in entries] == ["done"] * 3
    assert sum(entry.attempts for entry in entries) == 4
    assert list(times_done(ledger_file(out, Shard())).values()) == [1, 1, 1]
    assert contents(out) == contents(tmp_path / "here")
    assert sorted(file.name for file in out.iterdir()) == ["cases", "ledger.sqlite", "results.csv"]

    again = run(few_cases, out, settings, scheduler=workers.address)
    assert [entry.attempts for entry in again] == [entry.attempts for entry in entries]
    with pytest.raises(InputError, match="another seed"):
        run(few_cases, out, replace(settings, seed=1), scheduler=workers.address)
