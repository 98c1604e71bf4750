"""What ends a call ends it in one sentence, and the disk is as it was or the same call goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calling import Run, left_behind

from srh_clinic.case.result import CaseResult
from srh_clinic.errors import ExitCode
from srh_clinic.tiling import TileStore


@contextmanager
def nobody() -> Iterator[None]:
    """Without the privileges of root, which no permission binds."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


HOLD = """
import sys
from srh_clinic.files import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
"""A program that claims a folder until it is told to end."""


def test_a_file_without_read_permission_gets_one_sentence(run: Run, tmp_path: Path, case: Path) -> None:
    locked = tmp_path / "locked.tif"
    locked.write_bytes(case.read_bytes())
    locked.chmod(0)
    run("diagnose", "warm-up")  # imports done while everything may be read
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with nobody():
        ran = run("diagnose", locked)
    assert ran.code == ExitCode.INPUT
    assert "locked.tif" in ran.err
    assert "Traceback" not in ran.err


def test_a_call_that_fails_leaves_the_tiles_of_an_earlier_one(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / ".out.partial" / "tiles-of-another-call"
    earlier.mkdir(parents=True)
    monkeypatch.setattr(CaseResult, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device", "out")))
    assert run("diagnose", *call_of_case, "--out", "out", "--restorer", "none").code == ExitCode.INPUT
    assert left_behind(tmp_path) == [".out.partial", ".out.partial/tiles-of-another-call"]


def test_a_full_disk_ends_in_one_sentence_and_nothing_half_written(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr(CaseResult, "save", full)
    ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
    assert ran.code == ExitCode.INPUT
    assert ran.err.strip().splitlines()[-1].startswith("srh-clinic: result.json: found no space left on the disk; needed room")
    assert left_behind(tmp_path) == []


def test_a_disk_that_fills_up_while_tiles_are_kept_leaves_none(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))  # two tiles of 262,144 bytes do not fit
    try:
        ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ran.code == ExitCode.INPUT
    assert "needed room and permission to write tiles" in ran.err.replace("\n", " ")
    assert left_behind(tmp_path) == []


def test_after_ctrl_c_the_same_call_goes_on(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("diagnose", *call_of_case, "--out", "out")
    put, kept = TileStore.put, []

    def put_three(store: TileStore, *tile: object) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(tile)
        put(store, *tile)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TileStore, "put", put_three)
        ran = run(*call)
    assert ran.code == 130
    assert "the same command goes on" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]

    kept.clear()
    monkeypatch.setattr(TileStore, "put", put_three)
    assert run(*call).code == ExitCode.DONE
    assert len(kept) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGTERM, 143, "Terminated."), (signal.SIGHUP, 129, "Hung up.")])
def test_a_signal_ends_a_call_as_ctrl_c_does(
    run: Run,
    call_of_case: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    call = ("diagnose", *call_of_case, "--out", "out", "--restorer", "median")
    put, kept = TileStore.put, []

    def put_and_end(store: TileStore, *tile: object) -> None:
        put(store, *tile)  # type: ignore[arg-type]
        kept.append(tile)
        if len(kept) == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(TileStore, "put", put_and_end)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup the tests themselves do not hear a hang-up
    request.addfinalizer(lambda: signal.signal(number, before))
    ran = run(*call)
    assert ran.code == code
    assert ran.err.strip().splitlines()[-1] == word
    assert signal.getsignal(number) == signal.SIG_DFL
    assert run(*call).code == ExitCode.DONE
    assert len(kept) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_call_that_was_killed_while_drawing_computes_no_tile_again(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("diagnose", *call_of_case, "--out", "out", "--restorer", "median")

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CaseResult, "save", ended)
        assert run(*call).code == 130
    (tmp_path / "out" / ".writing-0123abcd").mkdir(parents=True)  # what a kill leaves, where an exception cleans up
    monkeypatch.setattr(TileStore, "put", lambda *_: pytest.fail("a tile was computed again"))
    assert run(*call).code == ExitCode.DONE
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [name for name in left_behind(tmp_path) if "/." in name]


def test_unfinished_work_is_never_written_through_a_link(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("diagnose", *call_of_case, "--out", "out", "--restorer", "median")
    with monkeypatch.context() as patch:
        patch.setattr(CaseResult, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert run(*call).code == 130
    (tiles,) = (tmp_path / ".out.partial").glob("*/tiles.bin")
    theirs = tmp_path / "theirs"
    theirs.write_text("somebody's")
    tiles.unlink()
    for link in (tiles.symlink_to, tiles.hardlink_to):
        link(theirs)
        ran = run(*call)
        assert ran.code == ExitCode.INPUT
        assert "tiles.bin: found a link to something else" in ran.err.replace("\n", " ")
        assert theirs.read_text() == "somebody's"
        tiles.unlink()


def test_a_second_call_into_the_same_folder_is_told(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
        first.communicate("")
    assert ran.code == ExitCode.INPUT
    assert f"found a run that writes there now (process {first.pid} on" in " ".join(ran.err.split())
    assert left_behind(tmp_path) == []
