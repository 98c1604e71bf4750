"""Images to train on: whose they are, patients on one side of the split, tiles that are read where they lie."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.integration.nio_writer import Scan, write_nio
from srh_clinic.integration.opensrh import META, SPLIT
from srh_clinic.integration.opensrh_writer import write_opensrh
from srh_clinic.integration.tiff_writer import write_tiff
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.training import read_settings, slide_pool, train
from srh_clinic.training.images import PARTS, find_images, split_images
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.slide_pool import Reading, SlidePool
from srh_clinic.training.sources import open_slides, split_of

CPU = torch.device("cpu")


def image(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(5_000, 60_000, (2, size, size)).astype(np.uint16)


def tiff(path: Path, seed: int, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiff(ArraySlide(image(seed, size), 0.47), path)


def random_tree(root: Path, rng: random.Random) -> None:
    """Metadata of OpenSRH whose paths say nothing of patients, some of whom are split already; no patch is ever opened."""
    meta: dict[str, Any] = {}
    patients = [f"P{rng.randrange(10**6)}-{number}" for number in range(rng.randint(2, 14))]
    for number, patient in enumerate(patients):
        slides: dict[str, Any] = {}
        for slide in range(rng.randint(1, 3)):
            lists = {f"{kind}_patches": [f"{rng.randrange(10**9)}-{number}-{slide}-{k}.tif" for k in range(rng.randint(0, 3))]
                     for kind in ("tumor", "normal")}  # fmt: skip
            lists["tumor_patches"] = lists["tumor_patches"] or [f"x-{number}-{slide}.tif"]
            slides[str(slide)] = lists
        meta[patient] = {"class": rng.choice(["hgg", "normal", "metast"]), "slides": slides}
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / META).write_text(json.dumps(meta))
    (root / SPLIT).unlink(missing_ok=True)
    if rng.random() < 0.3:
        train = rng.sample(patients, rng.randint(1, len(patients) - 1))
        (root / SPLIT).write_text(json.dumps({"train": train, "val": [one for one in patients if one not in train]}))


def test_no_patient_is_in_two_parts_of_a_thousand_random_trees(tmp_path: Path) -> None:
    rng = random.Random(0)
    for seed in range(1000):
        random_tree(tmp_path, rng)
        images = find_images(tmp_path)
        split = split_images(images, seed)
        train, val, test = ({one.patient for one in split.images[part]} for part in PARTS)
        assert train
        assert val
        assert test
        assert not train & (val | test)
        assert not val & test or val == test, "one patient alone may say both"
        assert len(split.images["train"]) + len({*split.images["val"], *split.images["test"]}) == len(images)
        shuffled = rng.sample(images, len(images))
        again = split_images(shuffled, seed)
        assert all(set(again.images[part]) == set(split.images[part]) for part in PARTS), "whatever the order"


def test_copies_of_a_file_keep_patients_together(tmp_path: Path) -> None:
    """A scan that was filed under two patients would be in training and among what is held out."""
    for number in range(8):
        tiff(tmp_path / f"patient-{number}" / "a.tif", number)
    shutil.copyfile(tmp_path / "patient-1" / "a.tif", tmp_path / "patient-6" / "again.tif")
    shutil.copyfile(tmp_path / "patient-6" / "a.tif", tmp_path / "patient-3" / "another.tif")
    for seed in range(40):
        split = split_images(find_images(tmp_path), seed)
        of = {one.patient: part for part in PARTS for one in split.images[part]}
        assert of["patient-1"] == of["patient-6"] == of["patient-3"]


def manifest_of(folder: Path, patients: list[str], split: str = "") -> Path:
    """A manifest of small images, one for each patient in turn."""
    for number in range(len(patients)):
        tiff(folder / f"{number}.tif", number)
    rows = [f"{number}.tif,{patient},{split}" for number, patient in enumerate(patients)]
    (folder / "m.csv").write_text("case,patient,split\n" + "\n".join(rows) + "\n")
    return folder / "m.csv"


def test_one_patient_in_two_spellings_is_one(tmp_path: Path) -> None:
    images = find_images(manifest_of(tmp_path, ["P1", "B", "p 01", "C", "P1\u200b", "D"]))
    for seed in range(20):
        split = split_images(images, seed)
        of = {one.patient: part for part in PARTS for one in split.images[part]}
        assert of["P1"] == of["p 01"] == of["P1\u200b"]
        assert any("count as one" in note and "'p 01'" in note for note in split.notes)


def test_an_image_that_was_saved_anew_keeps_patients_together(tmp_path: Path) -> None:
    """Other bytes, same counts: another compression, another axis order, DICOM."""
    for number in range(6):
        tiff(tmp_path / f"patient-{number}" / "a.tif", number)
    options: dict[str, Any] = {"photometric": "minisblack", "resolution": (1e4 / 0.47, 1e4 / 0.47), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "patient-3" / "b.tif", image(1), compression="zlib", **options)
    (tmp_path / "patient-5" / "dicom").mkdir()
    for file in write_wsi(ArraySlide(image(1), 0.47, Identity()), tmp_path / "patient-5" / "dicom"):
        assert file.is_file()
    settings = read_settings("denoiser")
    assert isinstance(settings, ImageSettings)
    for seed in range(8):
        split = split_of(tmp_path, settings.model_copy(update={"seed": seed}))
        of = {one.patient: part for part in PARTS for one in split.images[part]}
        assert of["patient-1"] == of["patient-3"]
        assert len({of[name] for name in of if name in ("patient-1", "patient-5") or "dicom" in name}) == 1


def test_copies_of_strips_keep_patients_together(tmp_path: Path) -> None:
    for number in range(5):
        write_nio(ArraySlide(image(number, 128), 0.47), tmp_path / f"patient-{number}" / "mosaic", "folders", Scan(64, 0))
    shutil.copytree(tmp_path / "patient-1" / "mosaic", tmp_path / "patient-4" / "again")
    images = [replace(one, patient=one.files[0].parent.name) for one in find_images(tmp_path)]
    for seed in range(20):
        split = split_images(images, seed)
        of = {one.patient: part for part in PARTS for one in split.images[part]}
        assert of["patient-1"] == of["patient-4"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four patients of two small patches; the last is held out by the tree's own split."""
    meta: dict[str, Any] = {}
    for number in range(4):
        names = [f"studies/NIO_00{number}/1/patches/{k}.tif" for k in range(2)]
        for k, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / name, image(10 * number + k, 48), photometric="minisblack")
        meta[f"NIO_00{number}"] = {"class": "hgg", "slides": {"1": {"tumor_patches": names, "normal_patches": []}}}
    (tmp_path / "meta").mkdir()
    (tmp_path / META).write_text(json.dumps(meta))
    (tmp_path / SPLIT).write_text(json.dumps({"train": [f"NIO_00{number}" for number in range(3)], "val": ["NIO_003"]}))
    return tmp_path


def test_a_copy_of_a_patch_keeps_patients_together(tree: Path) -> None:
    shutil.copyfile(tree / "studies/NIO_001/1/patches/0.tif", tree / "studies/NIO_003/1/patches/1.tif")
    with pytest.raises(InputError, match="'NIO_001' and 'NIO_003', who are spelt alike or share a copy of an image, in two"):
        split_images(find_images(tree))
    (tree / SPLIT).unlink()
    for seed in range(10):
        of = {one.patient: part for part, images in split_images(find_images(tree), seed).images.items() for one in images}
        assert of["NIO_001"] == of["NIO_003"]


def test_patches_of_nothing_are_no_copies_of_each_other(tree: Path) -> None:
    for number in (1, 3):
        dark = np.zeros((2, 48, 48), np.uint16)
        tifffile.imwrite(tree / f"studies/NIO_00{number}/1/patches/1.tif", dark, photometric="minisblack")
    assert len(split_images(find_images(tree)).images["train"]) == 6


def test_a_folder_of_a_tree_is_split_as_the_tree_says(tree: Path) -> None:
    split = split_images(find_images(tree / "studies"))
    assert {one.patient for one in split.images["val"]} == {"NIO_003"}
    assert all(one.label == 0 for one in split.images["train"])


def test_a_trees_split_may_spell_patients_otherwise(tree: Path) -> None:
    (tree / SPLIT).write_text(json.dumps({"train": ["nio_000", "NIO_1"], "val": ["NIO_003 "]}))
    split = split_images(find_images(tree))
    assert {one.patient for one in split.images["val"]} == {"NIO_003"}
    assert any("1 patient whom the data put into no part" in note for note in split.notes)
    for said, says in {
        '{"training": []}': "the parts 'training'",
        '{"val": ["NIO_9"]}': "no patient of those that meta",
    }.items():
        (tree / SPLIT).write_text(said)
        with pytest.raises(InputError, match=says):
            find_images(tree)


@pytest.mark.parametrize(("size", "says"), [(None, "no such patch"), (40, "a patch of 40 x 40 pixels; needed one of 48 x 48")])
def test_a_patch_that_does_not_serve_is_named_before_the_training(size: int | None, says: str, tree: Path) -> None:
    path = tree / "studies/NIO_002/1/patches/1.tif"
    path.unlink()
    if size:
        tifffile.imwrite(path, image(0, size), photometric="minisblack")
    with pytest.raises(InputError, match=says) as caught:
        SlidePool(split_images(find_images(tree)), Reading({}), CPU, 2)
    assert caught.value.path == path


def test_a_training_does_not_go_on_with_others_held_out(tree: Path, tmp_path: Path) -> None:
    """Who was trained on would be among those who say what was reached."""
    settings = read_settings("denoiser")
    assert isinstance(settings, ImageSettings)
    folder = tmp_path / "run"
    open_slides(str(tree), folder, CPU, settings, 2)
    rows = (folder / "split.csv").read_text().splitlines()
    assert rows[0] == "case,ch3,patient,truth,split"
    assert sorted(row.split(",", 2)[2] for row in rows[-2:]) == ["NIO_003,tumor,val"] * 2
    assert {one.patient: one.part for one in find_images(folder / "split.csv")}["NIO_001"] == "train"
    (folder / "checkpoint.pt").write_bytes(b"")
    open_slides(str(tree), folder, CPU, settings, 2)
    (tree / SPLIT).write_text(json.dumps({"train": ["NIO_000", "NIO_001", "NIO_003"], "val": ["NIO_002"]}))
    with pytest.raises(InputError, match="others of them held out, than this training began with"):
        open_slides(str(tree), folder, CPU, settings, 2)


def test_small_strata_hold_out_for_both_parts(tmp_path: Path) -> None:
    """Of two classes of two patients each, one is to choose the weights by and one for the verdict."""
    path = manifest_of(tmp_path, ["A", "B", "C", "D"])
    path.write_text("case,patient,truth\n0.tif,A,tumor\n1.tif,B,tumor\n2.tif,C,normal\n3.tif,D,normal\n")
    split = split_images(find_images(path))
    assert split.patients == {"train": 2, "val": 1, "test": 1}
    assert not {one.patient for one in split.images["val"]} & {one.patient for one in split.images["test"]}
    assert not split.notes


def test_a_classifier_of_one_class_is_refused(tree: Path) -> None:
    with pytest.raises(InputError, match="training images that all show tumor; needed images of two classes or more"):
        train("classifier", str(tree), None, tree / "out", device="cpu", steps=1)


def test_manifests_of_spreadsheets_are_read(tmp_path: Path) -> None:
    path = manifest_of(tmp_path, ["A", "B"])
    path.write_bytes("\ufeffCase;Patient;Truth\r\n0.tif;A;Tumor\r\n;;\r\n1.tif;B;normal\r\n".encode())
    assert [(one.patient, one.label) for one in find_images(path)] == [("A", 0), ("B", 1)]
    (tmp_path / "again.tif").symlink_to(tmp_path / "0.tif")
    for case in ("0.tif", "./0.tif", "again.tif"):
        path.write_text(f"case,patient\n0.tif,A\n{case},B\n")
        with pytest.raises(InputError, match=r"the case .* in row 2 and, again, in row 3; needed each case once"):
            find_images(path)
    path.write_text("case,patient\n")
    with pytest.raises(InputError, match="a table without rows"):
        find_images(path)


def test_patients_are_what_files_say_before_what_folders_are_called(tmp_path: Path) -> None:
    scan = Scan(64, 0)
    for number in range(3):
        slide = ArraySlide(image(number, 128), 0.47, Identity(patient_id=f"ID{number // 2}"))
        write_nio(slide, tmp_path / f"folder-{number}" / "mosaic", "folders", scan)
    tiff(tmp_path / "folder-9" / "deep" / "a.tif", 9)
    images = find_images(tmp_path)
    assert [one.patient for one in images] == ["ID0", "ID0", "ID1", "folder-9"]


def test_a_manifest_says_whose_and_what(tmp_path: Path) -> None:
    for number in range(3):
        tiff(tmp_path / f"{number}.tif", number)
    manifest = tmp_path / "m.csv"
    manifest.write_text("case,patient,truth,split\n0.tif,A,tumor,train\n1.tif,A,normal,\n2.tif,B,,val\n")
    found = find_images(manifest)
    assert [(one.patient, one.label, one.part) for one in found] == [("A", 0, "train"), ("A", 1, ""), ("B", None, "val")]
    split = split_images(found)
    assert {one.files[0].name for one in split.images["train"]} == {"0.tif", "1.tif"}
    for text, says in {
        "case,patient\n0.tif,\n": "row 2 without a case or a patient",
        "case,patient,truth\n0.tif,A,cancer\n": "truth 'cancer' in row 2",
        "case,patient,split\n0.tif,A,left\n": "split 'left' in row 2",
        "case,patient\n9.tif,A\n": r"row 2 that does not exist \(9.tif\)",
    }.items():
        manifest.write_text(text)
        with pytest.raises(InputError, match=says):
            find_images(manifest)
    manifest.write_text("case,patient,split\n0.tif,A,train\n1.tif,A,val\n2.tif,B,\n")
    with pytest.raises(InputError, match="patient 'A' in two parts"):
        split_images(find_images(manifest))


def test_images_without_patients_are_asked_about(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", 0)
    tiff(tmp_path / "b.tif", 1)
    with pytest.raises(InputError, match="images that do not say whose they are; needed a folder for each patient"):
        find_images(tmp_path)
    assert len({one.patient for one in find_images(tmp_path, "files")}) == 2
    with pytest.raises(InputError, match="images of 1 patient"):
        split_images(find_images(tmp_path, "files")[:1])
    with pytest.raises(InputError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")


def test_tiles_are_read_where_they_lie(tmp_path: Path) -> None:
    for number in range(4):
        tiff(tmp_path / f"patient-{number}" / "a.tif", number, 300)
    split = split_images(find_images(tmp_path))
    pool = SlidePool(split, Reading({}), CPU, 3)
    assert (pool.size, pool.training_count) == (256, 4 * len(split.images["train"]))
    assert len(pool.holdout_indices) == 3
    known = {str(one.files[0]): tifffile.imread(one.files[0]) for part in PARTS for one in split.images[part]}
    for index in (0, 3, pool.training_count):
        y, x = pool.corner_of(index)
        counts = pool.counts([index], [2], [1], 32)[0]
        np.testing.assert_array_equal(counts, known[str(pool.image_of(index).files[0])][:, y + 2 : y + 34, x + 1 : x + 33])
    one, two = (pool.random_crops(np.random.default_rng(5), 4, 64) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (4, 2, 64, 64)
    held = {pool.image_of(int(at)).patient for at in pool.holdout_indices}
    assert not held & {pool.image_of(at).patient for at in range(pool.training_count)}


@pytest.mark.parametrize("um_per_px", [0.47, 0.35])
def test_small_slides_are_held_in_memory_with_the_same_counts(
    um_per_px: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write = tmp_path / f"patient-{number}" / "a.tif"
        write.parent.mkdir()
        write_tiff(ArraySlide(image(number, 400), um_per_px), write)
    split, found = split_images(find_images(tmp_path)), []
    for held_bytes in (slide_pool.HELD_BYTES, 0):
        monkeypatch.setattr(slide_pool, "HELD_BYTES", held_bytes)
        pool = SlidePool(split, Reading({}), CPU, 3)
        if held_bytes:
            for file in tmp_path.glob("*/a.tif"):
                file.rename(file.with_name("moved"))
        found.append(pool.random_crops(np.random.default_rng(5), 12, 64))
        for file in tmp_path.glob("*/moved"):
            file.rename(file.with_name("a.tif"))
    assert torch.equal(*found)


def test_a_patch_is_cropped_anywhere(tmp_path: Path) -> None:
    tree = write_opensrh(tmp_path / "tree", patients=4, patches=1)
    pool = SlidePool(split_images(find_images(tree)), Reading({}), CPU, 2)
    rng = np.random.default_rng(0)
    corners = pool.anywhere(rng, np.zeros(400, dtype=np.int64), 256)
    assert (corners.min(), corners.max()) == (0, 44)


def test_only_what_is_chosen_is_trained_on(tmp_path: Path) -> None:
    for number in range(4):
        tiff(tmp_path / f"patient-{number}" / "a.tif", number, 300)
    pool = SlidePool(split_images(find_images(tmp_path)), Reading({}), CPU, 3)
    few = pool.restricted(np.array([1, 5]))
    assert few.training_count == 2
    assert [few.image_of(at) for at in (0, 1)] == [pool.image_of(at) for at in (1, 5)]
    torch.testing.assert_close(few.held_out(64), pool.held_out(64))
