"""OpenSRH trees: the metadata lead, a slide or a patient is read, and a patch that is not there is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide
from srh_clinic.integration.opensrh import META, SPLIT, read_tree
from srh_clinic.integration.opensrh_writer import write_opensrh


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_opensrh(tmp_path_factory.mktemp("srh") / "tree", patients=3, slides=2, patches=3)


def test_a_slide_is_its_patches_in_the_order_of_the_metadata(whole: Path) -> None:
    slide = read_slide(whole / "studies" / "NIO_001" / "2")
    listed = [patch for patch in read_tree(whole).patches if (patch.patient, patch.slide) == ("NIO_001", "2")]
    assert slide.shape == (600, 600)
    for at, patch in enumerate(listed):
        y, x = at // 2 * 300, at % 2 * 300
        np.testing.assert_array_equal(slide.read(y, x, 300, 300), tifffile.imread(patch.file))
    assert not slide.read(300, 300, 300, 300).any(), "a fourth place of three patches is empty"
    assert (slide.identity.patient_id, slide.identity.specimen_id) == ("NIO_001", "2")
    assert any("3 patches of OpenSRH side by side" in note for note in slide.notes)
    assert any("0.47 um" in note for note in slide.notes)


def test_a_patient_is_all_of_their_slides_and_a_patch_is_a_file(whole: Path) -> None:
    slide = read_slide(whole / "studies" / "NIO_002")
    assert slide.shape == (600, 900)
    assert slide.identity.specimen_id == "1,2"
    patch = read_tree(whole).patches[0].file
    assert read_slide(patch, um_per_px=0.47, full_scale=65536).shape == (300, 300)


def test_names_of_files_are_not_parsed(tmp_path: Path) -> None:
    """Patient, slide and what a patch shows come from the metadata, whatever the file is called."""
    image = np.random.default_rng(0).integers(5_000, 60_000, (2, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "NIO_999-normal.tif", image, photometric="minisblack")
    meta = {"A": {"class": "hgg", "slides": {"x": {"tumor_patches": ["NIO_999-normal.tif"], "normal_patches": []}}}}
    (tmp_path / "meta").mkdir()
    (tmp_path / META).write_text(json.dumps(meta))
    (patch,) = read_tree(tmp_path).patches
    assert (patch.patient, patch.slide, patch.shows, patch.patient_class) == ("A", "x", "tumor", "hgg")
    np.testing.assert_array_equal(read_slide(tmp_path).read(0, 0, 64, 64), image)


def test_a_tree_of_several_patients_is_no_case(whole: Path) -> None:
    with pytest.raises(InputError, match=r"patches of 3 patients of OpenSRH; needed those of one, such as studies/NIO_001/1"):
        read_slide(whole)


def changed(meta: dict[str, Any], name: str) -> object:
    first = meta["NIO_001"]
    patches = first["slides"]["1"]["tumor_patches"]
    if name == "list":
        return [meta]
    if name == "class":
        del first["class"]
    elif name == "slides":
        first["slides"] = []
    elif name == "lists":
        first["slides"]["1"] = {}
    elif name == "number":
        patches[0] = 3
    elif name == "outside":
        patches[0] = "../../etc/passwd"
    elif name == "absolute":
        patches[0] = "/etc/passwd"
    elif name == "twice":
        meta["NIO_002"]["slides"]["1"]["normal_patches"].append(patches[0])
    elif name == "missing":
        patches[0] = "studies/NIO_001/1/patches/gone.tif"
    elif name == "empty":
        return {}
    return meta


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("list", "found a list"),
        ("class", "no class of patient 'NIO_001'"),
        ("slides", "no slides of patient 'NIO_001'"),
        ("lists", "slide '1' of patient 'NIO_001' without patches"),
        ("number", "the patch '3'"),
        ("outside", "a path within the tree"),
        ("absolute", "a path within the tree"),
        ("twice", "of patient NIO_001 and, again, of NIO_002"),
        ("missing", "gone.tif: found no such patch"),
        ("empty", "metadata of OpenSRH without patches"),
    ],
)
def test_metadata_that_are_not_right_are_told(name: str, says: str, tmp_path: Path) -> None:
    tree = write_opensrh(tmp_path / "tree", patients=2, patches=2)
    meta = json.loads((tree / META).read_text())
    (tree / META).write_text(json.dumps(changed(meta, name)))
    with pytest.raises(InputError, match=says):
        read_slide(tree / "studies" / "NIO_001")


def test_a_patch_of_another_size_is_named(tmp_path: Path) -> None:
    tree = write_opensrh(tmp_path / "tree", patients=1, patches=2)
    other = read_tree(tree).patches[1].file
    tifffile.imwrite(other, np.full((2, 299, 300), 9_000, np.uint16), photometric="minisblack")
    slide = read_slide(tree)
    with pytest.raises(InputError, match=f"{other.name}: found a patch of 300 x 299 pixels"):
        slide.read(0, 0, *slide.shape)


def test_the_split_puts_each_patient_into_one_part(whole: Path, tmp_path: Path) -> None:
    assert set(read_tree(whole).split().values()) == {"train", "val"}
    tree = write_opensrh(tmp_path / "tree", patients=2, patches=1)
    (tree / SPLIT).write_text(json.dumps({"train": ["NIO_001"], "val": ["NIO_002", "NIO_001"]}))
    with pytest.raises(InputError, match="patient NIO_001 in both parts"):
        read_tree(tree).split()


def copy_of(tree: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    shutil.copytree(tree, out)
    return out, json.loads((out / META).read_text())


def test_folders_of_a_tree_may_be_links(whole: Path, tmp_path: Path) -> None:
    tree, _ = copy_of(whole, tmp_path / "tree")
    (tree / "studies").rename(tmp_path / "elsewhere")
    (tree / "studies").symlink_to(tmp_path / "elsewhere")
    assert read_slide(tree / "studies" / "NIO_001" / "1").shape == (600, 600)


def test_paths_of_windows_are_found(whole: Path, tmp_path: Path) -> None:
    tree, meta = copy_of(whole, tmp_path / "tree")
    lists = meta["NIO_001"]["slides"]["1"]
    lists["tumor_patches"] = [name.replace("/", "\\") for name in lists["tumor_patches"]]
    (tree / META).write_text(json.dumps(meta))
    assert any("3 patches of OpenSRH" in note for note in read_slide(tree / "studies" / "NIO_001" / "1").notes)


def test_what_is_not_shown_of_a_slide_is_told(whole: Path, tmp_path: Path) -> None:
    tree, meta = copy_of(whole, tmp_path / "tree")
    patches = meta["NIO_001"]["slides"]["1"]["tumor_patches"]
    shutil.copyfile(tree / patches[0], tree / "studies/NIO_001/1/patches/other.tif")
    (tree / "moved.tif").write_bytes((tree / patches[1]).read_bytes())
    (tree / patches[1]).unlink()
    patches[1] = "moved.tif"
    (tree / META).write_text(json.dumps(meta))
    notes = " ".join(read_slide(tree / "studies" / "NIO_001" / "1").notes)
    assert "1 patches of the same slides lie elsewhere and are not shown" in notes
    assert "1 TIFFs beside them that its metadata do not list are not shown" in notes


def test_a_patient_who_stands_twice_in_the_metadata_is_refused(whole: Path, tmp_path: Path) -> None:
    """JSON would keep the second of them without a word."""
    tree, _ = copy_of(whole, tmp_path / "tree")
    text = (tree / META).read_text().rstrip().removesuffix("}")
    (tree / META).write_text(text + ', "NIO_001": {"class": "hgg", "slides": {}}}')
    with pytest.raises(InputError, match=r"not readable JSON .'NIO_001' twice"):
        read_tree(tree)
