"""Cases done by the workers of a Dask cluster: as by workers here, whoever dies."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from many_cases import WHOLE, contents, run, times_done

from srh_clinic.cohort.cases import list_cases
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.running import Seen, ledger_file, run_cohort
from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.errors import InputError

pytest.importorskip("distributed")

from dask_cluster import Workers, cluster


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Workers:
    with cluster(tmp_path_factory.mktemp("dask"), 2) as begun:
        yield begun


def test_a_dask_worker_that_is_killed_changes_no_byte_and_its_case_is_anothers(
    few_cases: Path, settings: CaseSettings, undisturbed: Path, workers: Workers, tmp_path: Path
) -> None:
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
    assert list(times_done(ledger_file(out, WHOLE)).values()) == [1, 1, 1]
    assert contents(out) == contents(undisturbed)
    assert sorted(file.name for file in out.iterdir()) == ["cases", "ledger.sqlite", "results.csv"]

    again = run(few_cases, out, settings, scheduler=workers.address)
    assert [entry.attempts for entry in again] == [entry.attempts for entry in entries]
    with pytest.raises(InputError, match="another seed"):
        run(few_cases, out, replace(settings, seed=1), scheduler=workers.address)


def test_a_worker_of_another_version_gets_no_case_and_a_cluster_of_them_is_refused(
    few_cases: Path, settings: CaseSettings, workers: Workers, tmp_path: Path
) -> None:
    workers.begin(version="0.0.9")
    told: set[str] = set()
    out, cases = tmp_path / "out", list_cases(few_cases)[:1]

    def hear(seen: Seen, ledger: Ledger) -> None:
        told.update(seen.left_out)

    entries = run_cohort(cases, settings, out, scheduler=workers.address, watch=hear)
    assert [entry.state for entry in entries] == ["done"]
    (sentence,) = told
    assert "srh-clinic 0.0.9 on the worker" in sentence
    workers.end()
    workers.begin(version="0.0.9")
    with pytest.raises(InputError, match=r"srh-clinic 0\.0\.9 on the worker tcp://127"):
        run_cohort(cases, settings, tmp_path / "other", scheduler=workers.address)


def test_a_scheduler_of_another_version_is_refused_and_nothing_is_written(
    few_cases: Path, settings: CaseSettings, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, said in (("0.0.9", r"srh-clinic 0\.0\.9 on the scheduler"), (None, "no srh-clinic on the scheduler")):

        def installed(name: str, version: str | None = version) -> str:
            if version is None:
                raise metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(metadata, "version", installed)
        with pytest.raises(InputError, match=said):
            run_cohort(list_cases(few_cases), settings, tmp_path / "out", scheduler=workers.address)
    assert list(tmp_path.iterdir()) == []
