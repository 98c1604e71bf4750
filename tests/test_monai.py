"""Our transforms among MONAI's own: pixel sizes, types of tensors, data sets that cache, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, PersistentDataset, decollate_batch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    Flipd,
    RandAffined,
    RandFlipd,
    Resized,
    Rotate90d,
    Spacingd,
    SpatialPadd,
    Transposed,
    Zoomd,
)

from srh_clinic.case.arrays import pixel_size_of
from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide
from srh_clinic.transforms import ClassifySRH, LoadSRH, LoadSRHd, RestoreSRH, RestoreSRHd, ThreeChannelSRH

UM = 0.47
KEEPING: dict[str, Any] = {"track_meta": True, "weights_only": False}


@pytest.fixture(scope="module")
def counts() -> Counts:
    rng = np.random.default_rng(0)
    return np.clip(20_000 + 4_000 * rng.standard_normal((2, 260, 300)), 0, 65_535).astype(np.uint16)


@pytest.fixture(scope="module")
def case(counts: Counts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wsi(ArraySlide(counts, UM), tmp_path_factory.mktemp("case") / "case.dcm")[0]


@pytest.fixture(scope="module")
def image(case: Path) -> MetaTensor:
    return LoadSRH()(case)


def median(bundle: Path, **settings: Any) -> RestoreSRH:
    return RestoreSRH(bundle, "median", device="cpu", size=3, **settings)


# Where an image lies, and how large its pixels are


def test_the_affine_is_in_micrometres_from_the_slide_s_corner(case: Path) -> None:
    region = LoadSRH(region=(100, 30, 64, 48))(case)
    expected = np.diag([UM, UM, 1, 1])
    expected[:2, 3] = 100 * UM, 30 * UM
    np.testing.assert_allclose(region.affine.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(region.pixdim.numpy(), [UM, UM], rtol=1e-6)
    assert LoadSRH(spacing=0.94)(case).pixdim.tolist() == pytest.approx([0.94, 0.94])


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        (Spacingd("image", pixdim=(0.94, 0.94)), 0.94),
        (Spacingd("image", pixdim=(0.3, 0.3), mode="nearest"), 0.3),
        (Zoomd("image", zoom=0.5, keep_size=False), 0.94),
        (Zoomd("image", zoom=2.0), 0.235),
        (Resized("image", spatial_size=(130, 150)), 0.94),
        (Rotate90d("image"), UM),
        (Flipd("image", spatial_axis=0), UM),
        (Transposed("image", indices=(0, 2, 1)), UM),
        (CenterSpatialCropd("image", roi_size=(100, 90)), UM),
        (SpatialPadd("image", spatial_size=(400, 400)), UM),
        (RandAffined("image", prob=1.0, rotate_range=0.5), UM),
        (RandAffined("image", prob=1.0, translate_range=20), UM),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, float) else str(one),
)
def test_the_pixel_size_is_right_after_every_spatial_transform(
    transform: Callable[[Any], Any], size: float, case: Path, tiny_bundle: Path
) -> None:
    """To 1 %: an image has whole pixels. What the bundle does not know is refused with the true size."""
    seen = Compose([LoadSRHd("image"), EnsureChannelFirstd("image"), transform])({"image": case})["image"]
    assert pixel_size_of(seen) == pytest.approx(size, rel=0.01)
    assert ThreeChannelSRH()(seen).meta["um_per_px"] == pytest.approx(size, rel=0.01)
    if abs(size / UM - 1) < 0.1:
        restored = median(tiny_bundle)(seen)
        assert restored.meta["um_per_px"] == pytest.approx(size, rel=0.01)
        torch.testing.assert_close(restored.affine, seen.affine)
        assert ClassifySRH(tiny_bundle, "cpu")(seen).meta["um_per_px"] == pytest.approx(size, rel=0.01)
    else:
        for one in (median(tiny_bundle), ClassifySRH(tiny_bundle, "cpu")):
            with pytest.raises(InputError, match=rf"found pixels of {pixel_size_of(seen):g} um; needed 0\.47 um"):
                one(seen)


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (Spacingd("image", pixdim=(0.47, 0.94)), "needed square pixels"),
        (Resized("image", spatial_size=(260, 150)), "needed square pixels"),
        (RandAffined("image", prob=1.0, shear_range=((0.4, 0.5), (0, 0))), "sheared"),
    ],
)
def test_pixels_that_are_not_square_are_refused(
    transform: Callable[[Any], Any], said: str, case: Path, tiny_bundle: Path
) -> None:
    seen = Compose([LoadSRHd("image"), transform])({"image": case})["image"]
    with pytest.raises(InputError, match=said):
        median(tiny_bundle)(seen)


def test_resampled_to_the_bundle_s_size_it_is_restored(counts: Counts, tmp_path: Path, tiny_bundle: Path) -> None:
    fine = write_wsi(ArraySlide(counts, 0.25), tmp_path / "fine.dcm")[0]
    chain = Compose([LoadSRHd("image"), Spacingd("image", pixdim=(UM, UM)), RestoreSRHd("image", tiny_bundle, "none", "cpu")])
    restored = chain({"image": fine})["image"]
    assert restored.meta["um_per_px"] == pytest.approx(UM)
    assert restored.shape == (2, 139, 160)  # whole pixels, from the first to the last
    assert bool((restored == restored.round()).all())  # counts again


def test_an_affine_in_no_stated_unit_is_refused(counts: Counts, tiny_bundle: Path) -> None:
    values = torch.from_numpy(counts.astype(np.float32))
    millimetres = torch.diag(torch.tensor([0.00047, 0.00047, 1, 1]))
    with pytest.raises(InputError, match=r"pixels of 0\.00047 in no stated unit"):
        median(tiny_bundle)(MetaTensor(values, affine=millimetres))
    made_by_hand = MetaTensor(values, meta={"um_per_px": 0.2})
    with pytest.raises(InputError, match=r"found pixels of 0\.2 um"):
        median(tiny_bundle)(made_by_hand)
    half = Zoomd("image", zoom=0.5, keep_size=False)({"image": made_by_hand})["image"]
    with pytest.raises(InputError, match="in no stated unit"):
        median(tiny_bundle)(half.round())


# The way back


def test_what_was_flipped_and_resampled_is_turned_back_after_restoring(case: Path, tiny_bundle: Path) -> None:
    chain = Compose(
        [
            LoadSRHd("image"),
            Flipd("image", spatial_axis=1),
            Rotate90d("image"),
            RestoreSRHd("image", tiny_bundle, "none", device="cpu"),
        ]
    )
    loaded = LoadSRH()(case)
    back = chain.inverse(chain({"image": case}))["image"]
    torch.testing.assert_close(back.as_tensor(), loaded.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(back.affine, loaded.affine)
    assert pixel_size_of(back) == pytest.approx(UM)


def test_the_pixel_size_comes_back_with_the_way_back(case: Path, tiny_bundle: Path) -> None:
    spacing = Spacingd("image", pixdim=(0.5, 0.5))
    chain = Compose([LoadSRHd("image"), spacing, RestoreSRHd("image", tiny_bundle, "none", device="cpu")])
    there = chain({"image": case})
    assert there["image"].meta["um_per_px"] == pytest.approx(0.5)
    back = chain.inverse(there)["image"]
    assert back.shape == (2, 260, 300)
    assert pixel_size_of(back) == pytest.approx(UM)
    assert ThreeChannelSRH()(back.round()).meta["um_per_px"] == pytest.approx(UM)


def test_lazy_resampling_is_done_before_ours(case: Path, tiny_bundle: Path) -> None:
    steps = [
        LoadSRHd("image"),
        Spacingd("image", pixdim=(0.94, 0.94)),
        Zoomd("image", zoom=2.0, keep_size=False),
        RestoreSRHd("image", tiny_bundle, "none", device="cpu"),
    ]
    restored = Compose(steps, lazy=True)({"image": case})["image"]
    assert restored.meta["um_per_px"] == pytest.approx(UM, rel=0.01)
    assert not restored.pending_operations


# Data sets that cache


def refusal(call: Callable[[], Any]) -> str:
    """What ours refuses; MONAI wraps whatever is raised inside its compositions."""
    with pytest.raises(RuntimeError) as wrapped:
        call()
    cause: BaseException | None = wrapped.value
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    assert cause is not None
    return str(cause)


def augmented(bundle: Path) -> Compose:
    """Cached up to its random step."""
    return Compose([LoadSRHd("image"), RandFlipd("image", prob=0.0), RestoreSRHd("image", bundle, "none", device="cpu")])


def test_a_cache_in_memory_keeps_what_an_image_says(counts: Counts, tmp_path: Path, tiny_bundle: Path) -> None:
    other = write_wsi(ArraySlide(counts, 0.5), tmp_path / "other.dcm")[0]
    data = CacheDataset([{"image": other}], augmented(tiny_bundle), progress=False)
    for _ in range(2):
        assert data[0]["image"].meta["um_per_px"] == pytest.approx(0.5)


def test_a_cache_on_disk_keeps_it_or_ours_refuse(counts: Counts, tmp_path: Path, tiny_bundle: Path) -> None:
    other = write_wsi(ArraySlide(counts, 0.2), tmp_path / "other.dcm")[0]
    keeping = PersistentDataset(
        [{"image": other}], augmented(tiny_bundle), tmp_path / "a", track_meta=True, weights_only=False
    )
    dropping = PersistentDataset([{"image": other}], augmented(tiny_bundle), tmp_path / "b")
    for _ in range(2):
        assert "pixels of 0.2 um" in refusal(lambda: keeping[0])
    assert "pixels of 0.2 um" in refusal(lambda: dropping[0])  # the first time nothing is dropped
    dropped = refusal(lambda: dropping[0])
    assert "without the metadata that it was loaded with (pixels of 0.2 um)" in dropped
    assert "track_meta=True" in dropped
    told = RestoreSRHd("image", tiny_bundle, "none", device="cpu", um_per_px=UM)
    assert told({"image": counts, "image_loaded_um_per_px": 0.2})["image"].meta["um_per_px"] == UM


def test_a_batch_is_taken_apart_and_restored(case: Path, tiny_bundle: Path) -> None:
    data = CacheDataset([{"image": case}] * 2, Compose([LoadSRHd("image")]), progress=False)
    (batch,) = list(DataLoader(data, batch_size=2))
    with pytest.raises(InputError, match="a batch of 2 images"):
        RestoreSRHd("image", tiny_bundle, "none", device="cpu")(batch)
    for one in decollate_batch(batch):
        restored = RestoreSRHd("image", tiny_bundle, "none", device="cpu")(one)["image"]
        assert restored.meta["um_per_px"] == pytest.approx(UM)


# Whatever holds the counts

KINDS: dict[str, Callable[[MetaTensor], Any]] = {
    "float64": lambda image: image.double(),
    "float16": lambda image: image.half(),
    "bfloat16": lambda image: image.bfloat16(),
    "int32": lambda image: image.int(),
    "with a gradient": lambda image: image.clone().requires_grad_(),
    "amid a graph": lambda image: image.clone().requires_grad_() * 1.0,
    "not contiguous": lambda image: image.permute(0, 2, 1).contiguous().permute(0, 2, 1),
    "a plain tensor": lambda image: image.as_tensor(),
    "uint16": lambda image: image.as_tensor().to(torch.int32).numpy().astype(np.uint16),
    "big-endian": lambda image: image.as_tensor().numpy().astype(">u2"),
    "strided": lambda image: np.repeat(image.as_tensor().numpy(), 2, axis=2)[:, :, ::2],
    "a list": lambda image: image.as_tensor().numpy().tolist(),
    "made in inference mode": lambda image: in_inference_mode(image),
}


def in_inference_mode(image: MetaTensor) -> torch.Tensor:
    with torch.inference_mode():
        return image.as_tensor() + 0


@pytest.mark.parametrize("kind", KINDS)
def test_counts_of_any_type_give_what_is_promised(kind: str, image: MetaTensor, tiny_bundle: Path) -> None:
    small = image[:, :64, :80]
    given = KINDS[kind](small)
    seen = np.asarray(given.detach().float() if isinstance(given, torch.Tensor) else given, dtype=np.float32)
    for transform, shape in (
        (median(tiny_bundle), (2, 64, 80)),
        (ThreeChannelSRH(), (3, 64, 80)),
        (ClassifySRH(tiny_bundle, "cpu"), (3,)),
    ):
        made = transform(given)
        assert isinstance(made, MetaTensor)
        assert (made.dtype, tuple(made.shape), made.device.type) == (torch.float32, shape, "cpu")
        assert not made.requires_grad
        assert not made.is_inference()
        np.testing.assert_array_equal(made.numpy(), transform(seen.copy()).numpy())


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "int32", "with a gradient", "amid a graph"])
def test_a_chain_takes_any_type_of_an_image_that_it_has_loaded(kind: str, case: Path, tiny_bundle: Path) -> None:
    """Of bfloat16 it looked for metadata by way of NumPy, which knows no such type."""
    loaded = LoadSRHd("image")({"image": case})
    made = RestoreSRHd("image", tiny_bundle, "median", device="cpu", size=3)({**loaded, "image": KINDS[kind](loaded["image"])})
    assert made["image"].meta["um_per_px"] == pytest.approx(UM)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("case.dcm", "found the path 'case.dcm'"),
        (Path("case.dcm"), "found the path 'case.dcm'"),
        ([np.zeros((2, 8, 8))] * 3, "found a list of 3"),
        (["a.dcm", "b.dcm"], "found a list of 2"),
        (np.zeros((4, 2, 8, 8)), "found a batch of 4 images"),
        (torch.zeros(2, 8), r"shape \(2, 8\)"),
        (np.zeros((2, 0, 8)), r"shape \(2, 0, 8\)"),
        (np.full((2, 8, 8), np.nan), "not finite"),
        (np.full((2, 8, 8), np.inf), "not finite"),
        (np.full((2, 8, 8), 70_000), "from 70000 to 70000"),
        (np.ones((2, 8, 8), dtype=bool), "type bool"),
        (np.ones((2, 8, 8), dtype=complex), "type complex"),
        (np.full((2, 8, 8), "x"), "type <U1"),
        ([[1, 2], [3]], "no array"),
        (None, r"shape \(\)"),
        (torch.zeros(2, 8, 8).to_sparse(), "no numbers to read"),
        (torch.zeros(2, 8, 8, device="meta"), "no numbers to read"),
    ],
    ids=repr,
)
def test_anything_else_is_refused_in_a_sentence(given: Any, said: str, tiny_bundle: Path) -> None:
    for transform in (median(tiny_bundle), ThreeChannelSRH(), ClassifySRH(tiny_bundle, "cpu")):
        with pytest.raises(InputError, match=said) as refused:
            transform(given)
        assert "needed" in str(refused.value)
        assert "\n" not in str(refused.value)


# The pipeline


@pytest.fixture(scope="module")
def pipeline(tiny_bundle: Path) -> RestoreThenClassify:
    return RestoreThenClassify.from_bundle(tiny_bundle, "median", device="cpu")


def test_a_pipeline_takes_a_path_a_folder_two_files_and_a_loaded_image(
    pipeline: RestoreThenClassify, case: Path, image: MetaTensor, counts: Counts, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    write_wsi(ArraySlide(counts, UM), folder)
    files = sorted(folder.glob("*.dcm"))
    assert len(files) == 2
    expected = pipeline(ArraySlide(counts, UM)).probabilities
    given = (str(case), case, folder, files, tuple(map(str, files)), image, image.bfloat16().float() * 0 + image)
    for one in given:
        assert pipeline(one).probabilities == expected, one
    resampled = Spacingd("image", pixdim=(0.94, 0.94))({"image": image})["image"]
    assert pipeline(resampled).slide["um_per_px"] == pytest.approx(0.94)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 64, 64), np.uint16), r"says no pixel size; needed ArraySlide\(counts, um_per_px\)"),
        (torch.zeros(2, 64, 64), "says no pixel size"),
        (MetaTensor(torch.zeros(2, 64, 64)), "says no pixel size"),
        (np.zeros((3, 2, 64, 64), np.uint16), "a batch of 3 images"),
        ([np.zeros((2, 64, 64), np.uint16)] * 2, "found a list of 2"),
        (["a.dcm", "b.dcm", "c.dcm"], "needed"),
        ([], "found a list of 0"),
        (None, "found a NoneType; needed a path"),
        (b"case.dcm", "found a bytes"),
        ({"image": "case.dcm"}, "found a dict"),
        ("nowhere.dcm", "nowhere.dcm"),
        ("", "needed"),
    ],
    ids=repr,
)
def test_a_pipeline_says_what_it_wants(pipeline: RestoreThenClassify, given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        pipeline(given)
    assert "\n" not in str(refused.value)
