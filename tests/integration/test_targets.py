"""What a slide is written over is an earlier output of its own, or nothing is written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.integration import convert, read_slide, require_free_target
from srh_clinic.slide import ArraySlide, Identity

PROVENANCE = {"version": "1", "settings": {"sampler": "ddim"}}


@pytest.fixture
def derive(write, counts):
    """Write the restored version of a source."""

    def derive(source, out, seed=0, dimmed=2):
        restored = ArraySlide(counts // dimmed, 0.47, source.identity)
        return write(restored, out, derived_from=source, provenance=PROVENANCE | {"seed": seed})

    return derive


@pytest.fixture
def other(counts):
    """Another patient's slide."""
    return ArraySlide(counts[:, ::-1].copy(), 0.47, Identity(patient_id="P9", specimen_id="S9"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("out", ["case", "case.dcm"])
def test_a_derived_slide_never_replaces_its_source(tmp_path, slide, write, derive, out):
    source = read_slide(write(slide, tmp_path / out)[0])
    before = contents(tmp_path)
    with pytest.raises(InputError, match="a file that the slide is read from") as caught:
        derive(source, tmp_path / out)
    assert caught.value.path == source.files[0]
    with pytest.raises(InputError, match="a file that the slide is read from"):
        require_free_target(tmp_path / out, source)
    assert contents(tmp_path) == before


def test_nor_a_copy_of_it(tmp_path, slide, write, derive):
    source = read_slide(write(slide, tmp_path / "case.dcm")[0])
    shutil.copy(tmp_path / "case.dcm", tmp_path / "copy.dcm")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"copy\.dcm: found an image that the slide is derived from"):
        derive(source, tmp_path / "copy.dcm")
    with pytest.raises(InputError, match="an image that the slide is derived from"):
        require_free_target(tmp_path / "copy.dcm", source)
    assert contents(tmp_path) == before


def test_nor_the_sibling_that_it_reads_when_one_file_is_named(tmp_path, slide, write):
    ch2, ch3 = write(slide, tmp_path / "case")
    assert read_slide(ch2).files == (ch2, ch3)
    moved = ch3.rename(tmp_path / "case" / "ch3.dcm")
    with pytest.raises(InputError, match=r"ch3\.dcm: found a file that the slide is read from"):
        require_free_target(moved, read_slide(ch2))


@pytest.mark.parametrize("out", ["other", "other.dcm"])
def test_another_patients_slide_stays(tmp_path, slide, other, write, derive, out):
    source = read_slide(write(slide, tmp_path / "case.dcm")[0])
    write(other, tmp_path / out)
    before = contents(tmp_path)
    for attempt in (lambda: derive(source, tmp_path / out), lambda: require_free_target(tmp_path / out, source)):
        with pytest.raises(InputError, match="a slide of another series"):
            attempt()
    with pytest.raises(InputError, match="a slide of another series"):
        write(slide, tmp_path / out)
    assert contents(tmp_path) == before


def test_a_slide_of_another_maker_stays(tmp_path, slide, write, edit):
    (file,) = write(slide, tmp_path / "case.dcm")
    edit(file, Manufacturer="another")
    for attempt in (lambda: write(slide, file), lambda: require_free_target(file, None)):
        with pytest.raises(InputError, match="a DICOM file that srh-clinic did not write"):
            attempt()


def test_a_file_that_is_not_dicom_stays(tmp_path, slide, write):
    (tmp_path / "notes.dcm").write_text("mine")
    for attempt in (
        lambda: write(slide, tmp_path / "notes.dcm"),
        lambda: require_free_target(tmp_path / "notes.dcm", None),
    ):
        with pytest.raises(InputError, match=r"notes\.dcm: found a file that is not DICOM"):
            attempt()
    assert (tmp_path / "notes.dcm").read_text() == "mine"


def test_a_tiff_does_not_become_its_own_conversion(tmp_path, counts):
    tifffile.imwrite(tmp_path / "stack.dcm", counts, photometric="minisblack")
    before = contents(tmp_path)
    assert read_slide(tmp_path / "stack.dcm", um_per_px=0.47).files == (tmp_path / "stack.dcm",)
    with pytest.raises(InputError, match="a file that the slide is read from"):
        convert(tmp_path / "stack.dcm", tmp_path / "stack.dcm", um_per_px=0.47)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["restored", "restored.dcm"])
def test_an_earlier_output_of_the_same_source_is_replaced(tmp_path, slide, counts, write, derive, out):
    source = read_slide(write(slide, tmp_path / "case.dcm")[0])
    derive(source, tmp_path / out)
    require_free_target(tmp_path / out, source)
    files = derive(source, tmp_path / out, seed=1, dimmed=3)
    again = read_slide(files[0])
    np.testing.assert_array_equal(again.read(0, 0, *again.shape), counts // 3)


def test_the_same_original_is_replaced_whatever_its_transfer_syntax(tmp_path, slide, write):
    first = pydicom.dcmread(write(slide, tmp_path / "case.dcm")[0])
    require_free_target(tmp_path / "case.dcm", None)
    second = pydicom.dcmread(write(slide, tmp_path / "case.dcm", transfer_syntax="raw")[0])
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert not second.file_meta.TransferSyntaxUID.is_encapsulated


def test_what_a_source_without_identity_was_restored_to_is_asked_for_before_hours_of_work(tmp_path, slide, write, counts):
    tifffile.imwrite(tmp_path / "stack.tif", counts, photometric="minisblack")
    source = read_slide(tmp_path / "stack.tif", um_per_px=0.47)
    require_free_target(tmp_path / "out.dcm", source)
    write(slide, tmp_path / "out.dcm", derived_from=source, provenance=PROVENANCE)
    with pytest.raises(InputError, match="does not show whether it was made from this source"):
        require_free_target(tmp_path / "out.dcm", source)


def test_free_names_are_free(tmp_path, slide, write):
    source = read_slide(write(slide, tmp_path / "case")[0])
    for out in ("new", "new.dcm", "case/new.dcm", "deep/new"):
        require_free_target(tmp_path / out, source)
        require_free_target(tmp_path / out, None)


def test_a_folder_in_the_place_of_the_second_file_leaves_the_first(tmp_path, slide, write, derive):
    source = read_slide(write(slide, tmp_path / "case.dcm")[0])
    first, second = derive(source, tmp_path / "restored")
    second.unlink()
    second.mkdir()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"SRS2930\.dcm: found a folder"):
        derive(source, tmp_path / "restored", seed=1)
    with pytest.raises(InputError, match=r"SRS2930\.dcm: found a folder"):
        require_free_target(tmp_path / "restored", source)
    assert contents(tmp_path) == before
    assert first.exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_rename_that_fails_puts_back_what_was_there(tmp_path, slide, write, derive, monkeypatch, earlier):
    source = read_slide(write(slide, tmp_path / "case.dcm")[0])
    if earlier:
        derive(source, tmp_path / "restored")
    before = contents(tmp_path)
    replace = Path.replace

    def fail(self, target):
        if self.name == "SRS2930.dcm" and Path(target).parent.name == "restored":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match="cannot be written"):
        derive(source, tmp_path / "restored", seed=1)
    assert contents(tmp_path) == before
