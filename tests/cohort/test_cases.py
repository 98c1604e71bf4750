"""Which cases a manifest or a folder holds, and which of them a shard does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from srh_clinic.cohort.cases import Listed, Shard, list_cases
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.telling import write_results
from srh_clinic.errors import InputError


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"something")


def test_every_file_and_folder_of_a_folder_is_a_case_without_what_systems_leave(tmp_path: Path) -> None:
    files(tmp_path, "b.dcm", "a.tif", ".DS_Store", "._a.tif", ".hidden")
    (tmp_path / "series").mkdir()
    assert [case.title for case in list_cases(tmp_path)] == ["a.tif", "b.dcm", "series"]


def test_two_files_of_a_channel_each_are_one_case(tmp_path: Path) -> None:
    for name in ("s1_CH2.tif", "s1_CH3.tif", "s2.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((8, 8), np.uint16))
    cases = list_cases(tmp_path)
    assert [case.title for case in cases] == ["s1_CH2.tif", "s2.tif"]
    assert [Path(file).name for file in cases[0].source] == ["s1_CH2.tif", "s1_CH3.tif"]


def test_a_manifest_names_cases_from_its_folder_in_its_order(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("patient;case;ch3\nP2;b_2.tif;b_3.tif\n\nP1;sub/a.dcm;\n")
    cases = list_cases(manifest)
    assert [case.title for case in cases] == ["b_2.tif", "sub/a.dcm"]
    assert cases[0].source == (str(tmp_path / "b_2.tif"), str(tmp_path / "b_3.tif"))
    assert cases[1].source == (str(tmp_path / "sub/a.dcm"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,truth\nP1,tumor\n", "no column case"),
        ("case,case\na,b\n", "more than one column case"),
        ("case,patient\n,P1\n", "no case in line 2"),
        ("case,patient\na.dcm\n", "too few cells in line 2"),
        ("case\na.dcm\n./a.dcm\n", "one image in lines 2 and 3"),
        ("case,ch3\na.tif,c.tif\nb.tif,c.tif\n", "one image in lines 2 and 3"),
        ("case,ch3\na.tif,b.tif\nb.tif,a.tif\n", "one image in lines 2 and 3"),
        ("case,ch3\na.tif,./a.tif\n", "one image in lines 2 and 2"),
        ("case\na\0.tif\n", "a name that no file can have in line 2"),
        ("case\n", "no case"),
        ("", "an empty file"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(text)
    with pytest.raises(InputError, match=said):
        list_cases(manifest)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no case"):
        list_cases(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        list_cases(tmp_path / "nothing.csv")


def test_a_name_says_nothing_and_depends_on_the_title_alone() -> None:
    one, other = Listed("DOE^JOHN.dcm", ("/a/DOE^JOHN.dcm",)), Listed("DOE^JOHN.dcm", ("/b/DOE^JOHN.dcm",))
    assert one.name == other.name
    assert len(one.name) == 12
    int(one.name, 16)


@pytest.mark.parametrize("parts", [1, 2, 7, 50])
def test_each_case_is_in_one_shard_whatever_others_there_are(parts: int) -> None:
    cases = [Listed(f"case {number}", ()) for number in range(200)]
    shards = [[case for case in cases if case in Shard(number, parts)] for number in range(1, parts + 1)]
    assert sorted(case.title for shard in shards for case in shard) == sorted(case.title for case in cases)
    fewer = [[case for case in cases[::2] if case in Shard(number, parts)] for number in range(1, parts + 1)]
    assert all(set(some) <= set(all_of) for some, all_of in zip(fewer, shards, strict=True))


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "a/b", "1/0", "-1/3", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="I/N"):
        Shard.parse(text)


def test_a_case_is_another_when_a_file_of_it_changed(tmp_path: Path) -> None:
    files(tmp_path, "a.dcm")
    (tmp_path / "series").mkdir()
    files(tmp_path / "series", "1.dcm")
    before = [case.enrolled() for case in list_cases(tmp_path)]
    assert [case.enrolled() for case in list_cases(tmp_path)] == before
    os.utime(tmp_path / "a.dcm", ns=(1, 1))
    files(tmp_path / "series", "2.dcm")
    after = [case.enrolled() for case in list_cases(tmp_path)]
    assert [one.name for one in after] == [one.name for one in before]
    assert all(one.files != other.files for one, other in zip(before, after, strict=True))
    (tmp_path / "a.dcm").unlink()
    assert Listed("a.dcm", (str(tmp_path / "a.dcm"),)).enrolled().files


def test_a_name_that_is_no_text_is_parked_and_told_as_any_other(tmp_path: Path) -> None:
    (folder := tmp_path / "cases").mkdir()
    (folder / os.fsdecode(b"\xff\xfe.dcm")).write_bytes(b"something")
    cases = list_cases(folder)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.enrol([case.enrolled() for case in cases])
        claim = ledger.claim()
        assert claim is not None
        assert ledger.park(claim, "refused", f"{claim.source[0]}: found a text file; needed a slide.")
        table = write_results(cases, Shard(), ledger.entries(), tmp_path, tmp_path)
    assert table is not None
    assert table.read_text().count("\\udcff\\udcfe.dcm") == 2
