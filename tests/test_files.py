"""Files that are whole when they exist, and one run at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srh_clinic.errors import InputError
from srh_clinic.files import append_lines, check_place, claimed, whole_files

HOLDING = """
import sys, time
from pathlib import Path
from srh_clinic.files import claimed, draft_of
with claimed(Path(sys.argv[1])):
    draft_of(Path(sys.argv[1])).mkdir()
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_files_come_last_one_last_and_what_an_earlier_run_left_goes(tmp_path: Path) -> None:
    for name in ("result.json", "stale.html", "mine.txt"):
        (tmp_path / name).write_text("earlier")
    with whole_files(tmp_path, "result.json", ("result.json", "stale.html", "picture.png")) as draft:
        (draft / "result.json").write_text("new")
        (draft / "picture.png").write_text("new")
        assert (tmp_path / "result.json").read_text() == "earlier"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        **{"result.json": "new", "picture.png": "new", "mine.txt": "earlier"}
    }


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_cut_between_two_moves_leaves_no_file_that_says_all_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """A power cut while the files of one run replace those of another must not leave a whole-looking mixture."""
    names = ("a.png", "b.png", "result.json")
    for name in names:
        (tmp_path / name).write_text("earlier")
    replace, moved = Path.replace, []

    def cut_off(self: Path, target: Path) -> Path:
        if len(moved) == cut:
            raise KeyboardInterrupt
        moved.append(target)
        return replace(self, target)

    def write() -> None:
        with whole_files(tmp_path, "result.json", names) as draft:
            for name in names:
                (draft / name).write_text("new")

    monkeypatch.setattr(Path, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert not (tmp_path / "result.json").exists()


def test_a_place_is_claimed_by_one_process_and_taken_over_from_a_dead_one(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(InputError, match=f"a run that writes there now .process {holder.pid} on "), claimed(place):
            pytest.fail("two runs write at once")
    finally:
        holder.kill()
        holder.wait()
    assert len(list(place.parent.iterdir())) == 2  # the dead run's lock and draft
    with claimed(place), claimed(place):
        assert [path.name for path in place.parent.iterdir()] == [".out.lock"]
    assert list(tmp_path.iterdir()) == [place.parent]  # it was there before


def test_a_lock_is_never_written_through_a_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("somebody's")
    (tmp_path / ".out.lock").symlink_to(theirs)
    with pytest.raises(InputError, match="a link to something else"), claimed(tmp_path / "out"):
        pytest.fail("a link was followed")
    assert theirs.read_text() == "somebody's"


def test_a_link_to_nothing_is_told_before_hours_of_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (True, False):
        with pytest.raises(InputError, match="found a link to nothing"):
            check_place(tmp_path / "link", folder=folder)


def test_a_line_that_a_full_disk_has_torn_spoils_no_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_lines(log, "one\n")
    with log.open("a") as torn:
        torn.write('{"at": "20')
    append_lines(log, "two\nthree\n")
    assert log.read_text().splitlines() == ["one", '{"at": "20', "two", "three"]
    append_lines(Path(os.devnull), "a pipe or a terminal has no end\n")
