"""Many cases by the command line: bad ones are told and passed over, and what is told says of nobody whose case it is."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calling import Run
from many_cases import CANARY, times_done, write_cases

from srh_clinic.cohort.ledger import Ledger
from srh_clinic.errors import ExitCode

NETWORKS = ("--device", "cpu", "--precision", "float32")


@pytest.fixture
def bad_cases(tmp_path: Path, workers_draw_little: None) -> Path:
    """Two cases, a text, random bytes, and a file that breaks off."""
    folder = write_cases(tmp_path / "cases", 2)
    (folder / f"{CANARY}-text.dcm").write_text(f"{CANARY} is no slide")
    (folder / f"{CANARY}-random.tif").write_bytes(os.urandom(100_000))
    whole = next(folder.glob("*0.dcm")).read_bytes()
    (folder / f"{CANARY}-short.dcm").write_bytes(whole[: len(whole) // 2])
    return folder


def test_bad_cases_are_parked_with_their_reason_and_the_others_are_done(run: Run, bad_cases: Path, tiny_bundle: Path) -> None:
    call = ("cohort", "run", bad_cases, "--out", "out", "--bundle", tiny_bundle, *NETWORKS, "--workers", 1)
    ran = run(*call, "--log-file", "log.jsonl", "--metrics", "run.prom")
    assert ran.code == ExitCode.INCOMPLETE
    assert "2 of 5 cases are done." in ran.out
    status = run("cohort", "status", "out", "--json")
    assert status.code == ExitCode.DONE
    said = json.loads(status.out)
    assert said["counts"] == {"waiting": 0, "running": 0, "done": 2, "parked": 3, "failed": 0}
    told = [ran.out, ran.err, status.out, run("cohort", "status", "out").out, run("cohort", "status", "out", "--metrics").out]
    told += [Path("log.jsonl").read_text(), Path("run.prom").read_text()]
    told += [str(path) for path in Path("out").rglob("*")]
    assert CANARY not in "".join(told)
    with Path("out/results.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows[f"{CANARY}-text.dcm"]["state"] == "parked"
    assert "found a text file" in rows[f"{CANARY}-text.dcm"]["reason"]
    assert {row["diagnosis"] for row in rows.values() if row["state"] == "done"} <= {"tumor", "normal", "nondiagnostic"}

    bad = rows[f"{CANARY}-text.dcm"]["name"]
    why = run("cohort", "why", "out", bad)
    assert why.out == run("cohort", "why", "out", bad_cases / f"{CANARY}-text.dcm").out
    assert "found a text file" in why.out
    assert run("cohort", "why", "out", "nobody").code == ExitCode.INPUT

    log = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [line["to"] for line in log if line["case"] == bad] == ["waiting", "running", "parked"]
    assert 'srh_clinic_cases{state="parked"} 3' in Path("run.prom").read_text()

    assert run(*call, "--allow-missing").code == ExitCode.DONE
    assert run(*call, "--quiet").out == ""
    assert run("cohort", "retry", "out", bad).out.split()[:1] == ["1"]
    assert run("cohort", "retry", "out", "nobody").code == ExitCode.INPUT
    (bad_cases / f"{CANARY}-text.dcm").write_bytes(next(bad_cases.glob("*1.dcm")).read_bytes())
    assert "3 of 5 cases are done." in run(*call).out


def test_what_is_no_run_or_no_shard_is_told(run: Run, tmp_path: Path) -> None:
    assert "found no ledger" in run("cohort", "status", tmp_path).err
    (tmp_path / "case.tif").touch()
    ran = run("cohort", "run", tmp_path, "--out", "out", "--shard", "3/2")
    assert ran.code == ExitCode.INPUT
    assert "the shard '3/2'" in ran.err
    assert not Path("out").exists()


def test_a_run_that_is_ended_goes_on_when_it_is_called_again_whatever_lies_in_its_folder(
    run: Run, tmp_path: Path, tiny_bundle: Path, workers_draw_little: None
) -> None:
    """By the command as it is installed, in a folder with files of libraries' names that are not to be taken for them."""
    write_cases(tmp_path / "cases", 3, edge=420)
    for name in ("timm.py", "srh_clinic.py", "tifffile.py"):
        (tmp_path / name).write_text("raise SystemExit('this is the user's own file')\n")
    call = ["cohort", "run", "cases", "--out", "out", "--bundle", str(tiny_bundle), *NETWORKS, "--workers", "1"]
    command = [str(Path(sys.executable).with_name("srh-clinic")), *call]
    ledger = tmp_path / "out" / "ledger.sqlite"
    for number, done in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and first.poll() is None:
                if ledger.exists():
                    with Ledger(ledger, read=True) as opened:
                        counts, _ = opened.overview()
                        if counts["running"] and counts["done"] >= done:
                            break
                time.sleep(0.05)
            first.send_signal(number)
            _, said = first.communicate(timeout=300)
        assert first.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[number], said
        if number == signal.SIGTERM:
            assert "Terminated." in said
            with Ledger(ledger, read=True) as opened:
                assert {entry.state for entry in opened.entries()} <= {"waiting", "done"}
    with Ledger(ledger, read=True) as opened:
        assert 1 <= opened.overview()[0]["done"] < 3
    again = run(*call)
    assert again.code == ExitCode.DONE, again.err
    assert "3 of 3 cases are done." in again.out
    assert list(times_done(ledger).values()) == [1, 1, 1]
    with Ledger(ledger, read=True) as opened:
        assert {entry.kind for entry in opened.entries()} <= {"computed", "found"}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cases", "ledger.sqlite", "results.csv"]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://", "nothing://here:1", "127.0.0.1:x", ""])
def test_a_scheduler_that_is_none_is_told_in_one_sentence(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("srh_clinic.cohort.cluster.CONNECTED", 0.5)
    (tmp_path / "case.tif").touch()
    ran = run("cohort", "run", tmp_path, "--out", tmp_path / "out", "--scheduler", address)
    assert ran.code == ExitCode.INPUT
    assert "found no Dask scheduler at" in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    both = run("cohort", "run", tmp_path, "--out", tmp_path / "out", "--scheduler", address, "--workers", 2)
    assert "--workers beside --scheduler" in both.err
