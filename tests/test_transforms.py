"""Restore-then-classify as MONAI transforms."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose

from srh_clinic.display import three_channel
from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide
from srh_clinic.transforms import (
    ClassifySRH,
    ClassifySRHd,
    LoadSRH,
    LoadSRHd,
    RestoreSRH,
    RestoreSRHd,
    ThreeChannelSRH,
    ThreeChannelSRHd,
)


@pytest.fixture(scope="module")
def counts() -> Counts:
    rng = np.random.default_rng(0)
    return np.clip(20_000 + 4_000 * rng.standard_normal((2, 260, 300)), 0, 65_535).astype(np.uint16)


@pytest.fixture(scope="module")
def case(counts: Counts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wsi(ArraySlide(counts, 0.47), tmp_path_factory.mktemp("case") / "case.dcm")[0]


def test_loading_keeps_every_count_and_the_pixel_size(case: Path, counts: Counts) -> None:
    image = LoadSRH()(case)
    np.testing.assert_array_equal(image.numpy(), counts)
    assert image.meta["um_per_px"] == pytest.approx(0.47)
    assert image.meta["filename_or_obj"] == str(case)


def test_a_region_is_loaded_alone(case: Path, counts: Counts) -> None:
    image = LoadSRH(region=(100, 30, 64, 48))(case)
    np.testing.assert_array_equal(image.numpy(), counts[:, 100:164, 30:78])
    with pytest.raises(InputError, match="within a slide of"):
        LoadSRH(region=(250, 0, 64, 48))(case)


def test_spacing_resamples_on_loading(case: Path) -> None:
    image = LoadSRH(spacing=0.94)(case)
    assert image.shape == (2, 130, 150)
    assert image.meta["um_per_px"] == 0.94


def test_three_channels_are_the_recipe_s(counts: Counts) -> None:
    view = ThreeChannelSRH("hollon2020")(counts)
    np.testing.assert_array_equal(view.numpy(), three_channel(counts, "hollon2020"))
    assert view.meta["recipe"] == "hollon2020"
    with pytest.raises(InputError, match="opensrh"):
        ThreeChannelSRH("rgb")  # type: ignore[arg-type]


def test_restoring_keeps_shape_and_metadata(case: Path, tiny_bundle: Path) -> None:
    image = LoadSRH()(case)
    restored = RestoreSRH(str(tiny_bundle), "median", device="cpu", size=3)(image)
    assert restored.shape == image.shape
    assert restored.std() < 0.6 * image.std()
    assert restored.meta["um_per_px"] == image.meta["um_per_px"]
    np.testing.assert_array_equal(restored.numpy(), np.rint(restored.numpy()))


def test_a_pixel_size_that_the_bundle_does_not_know_is_refused(counts: Counts, tiny_bundle: Path) -> None:
    fine = MetaTensor(torch.from_numpy(counts.astype(np.float32)), meta={"um_per_px": 0.2})
    with pytest.raises(InputError, match=r"LoadSRH\(spacing=0.47\)"):
        RestoreSRH(str(tiny_bundle), "none", device="cpu")(fine)


def test_probabilities_stand_beside_the_image(counts: Counts, tiny_bundle: Path) -> None:
    result = ClassifySRHd("image", str(tiny_bundle), device="cpu")({"image": counts, "other": 7})
    assert set(result) == {"image", "other", "image_probabilities"}
    assert float(result["image_probabilities"].sum()) == pytest.approx(1.0, abs=1e-6)
    assert result["image_probabilities"].meta["diagnosis"] in ("tumor", "normal", "nondiagnostic")


@pytest.mark.parametrize("wrong", [np.zeros((3, 8, 8)), np.full((2, 8, 8), 0.5), np.full((2, 8, 8), -1.0)])
def test_what_is_not_counts_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="counts"):
        ThreeChannelSRH()(wrong)


def chain(bundle: Path) -> Compose:
    return Compose(
        [
            LoadSRHd("image"),
            RestoreSRHd("image", str(bundle), device="cpu", seed=1),
            ClassifySRHd("image", str(bundle), device="cpu"),
            ThreeChannelSRHd("image"),
        ]
    )


def test_the_chain_works_in_workers_of_a_data_loader(case: Path, tiny_bundle: Path) -> None:
    here = chain(tiny_bundle)({"image": str(case)})
    data = Dataset([{"image": str(case)}, {"image": str(case)}], chain(tiny_bundle))
    (batch,) = list(DataLoader(data, batch_size=2, num_workers=1))
    assert batch["image"].shape == (2, 3, 260, 300)
    # One count of 65,536: the worker may use another number of threads, which sums in another order.
    np.testing.assert_allclose(batch["image"][0].numpy(), here["image"].numpy(), atol=1.5 / 65_536)
    np.testing.assert_allclose(batch["image_probabilities"][1].numpy(), here["image_probabilities"].numpy(), atol=1e-4)


def test_transforms_pickle_small_also_after_use(counts: Counts, tiny_bundle: Path) -> None:
    transform = RestoreSRH(str(tiny_bundle), device="cpu")
    transform(counts)
    assert len(pickle.dumps(transform)) < 1_000
    assert ClassifySRH(str(tiny_bundle)).device == "auto"
