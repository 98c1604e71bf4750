"""Distances of images against independent implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srh_clinic.display import three_channel
from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_unit
from srh_clinic.metrics import channel_coherence, incoherent_noise, lpips, micro_ssim, psnr, ssim
from srh_clinic.metrics.networks import srh_view


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :72] / 64
    reference = np.stack([0.5 + 0.3 * np.sin(9 * x * y), 0.4 + 0.2 * np.cos(11 * x)])
    return reference + rng.normal(0, 0.05, reference.shape), reference


def test_psnr_is_that_of_scikit_image(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    assert psnr(image, reference) == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=1), abs=1e-9)
    assert psnr(reference + 0.1, reference) == pytest.approx(20)
    assert psnr(reference, reference) == float("inf")


def test_micro_ssim_is_scikit_images_ssim_at_the_best_factor(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    best = []
    for x, y in zip(image, reference, strict=True):
        y = y - np.percentile(y, 3)
        x, y = (x - np.percentile(x, 3)) / y.max(), y / y.max()
        options = {"data_range": np.ptp(y), "gaussian_weights": True, "sigma": 1.5}
        best.append(max(structural_similarity(y, factor * x, **options) for factor in np.linspace(0.3, 1.2, 91)))
    # The grid of factors is 0.01 wide, and the similarity flat at its top.
    assert micro_ssim(image, reference) == pytest.approx(np.mean(best), abs=1e-4)


def test_micro_ssim_hears_neither_background_nor_scale(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    assert micro_ssim(0.4 * image + 0.1, reference) == pytest.approx(micro_ssim(image, reference), abs=1e-9)
    assert micro_ssim(0.9 * reference + 0.02, reference) == pytest.approx(1, abs=1e-9)
    assert micro_ssim(reference, 0 * reference) != micro_ssim(reference, 0 * reference)  # NaN: nothing to compare with


def test_ssim_is_that_of_scikit_image(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    expected = structural_similarity(
        reference, image, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    # MONAI computes in float32, where variances are differences of squares near 1.
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-5)
    assert ssim(reference, reference) == pytest.approx(1)


def test_ssim_reads_each_channel_by_itself(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    one_spoilt = np.stack([reference[0], image[1]])
    both = ssim(image, reference), ssim(image[::-1], reference[::-1])
    assert both[0] == pytest.approx(both[1])
    assert ssim(image, reference) < ssim(one_spoilt, reference) < 1


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_of_unequal_shape_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match=r"needed two of one shape \(2, H, W\)"):
        metric(np.zeros((2, 16, 16)), np.zeros((2, 16, 17)))  # type: ignore[operator]


def test_channels_agree_as_far_as_they_share_their_noise() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal((256, 256)), rng.standard_normal((2, 256, 256))
    assert channel_coherence(np.stack([shared, -3 * shared]), 0.4) == pytest.approx(1.0)
    # About 15,000 independent frequencies: chance leaves 0.008.
    assert channel_coherence(own, 0.4) < 0.03
    assert channel_coherence(shared + own, 0.4) == pytest.approx(0.5, abs=0.03)
    assert channel_coherence(np.ones((2, 8, 8)), 0.4) == 0.0


def test_an_image_of_one_channel_has_no_coherence() -> None:
    with pytest.raises(ValueError, match=r"found an image of shape \(1, 8, 8\)"):
        channel_coherence(np.ones((1, 8, 8)), 0.4)


def test_networks_are_shown_what_classifiers_see() -> None:
    """The view of unit images is the ``opensrh`` recipe of counts, to the rounding of float32."""
    counts = np.random.default_rng(0).integers(0, 65536, (3, 2, 16, 24)).astype(np.uint16)
    expected = np.stack([three_channel(one, "opensrh") for one in counts])
    np.testing.assert_allclose(srh_view(counts_to_unit(counts)), expected, atol=1e-7)


@pytest.mark.parametrize("images", [np.zeros((1, 2, 8, 8), np.uint16), np.zeros((2, 8, 8)), np.full((1, 2, 8, 8), np.nan)])
def test_what_is_no_unit_intensity_is_not_shown(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="unit intensity"):
        srh_view(images)


def test_lpips_is_that_of_its_package(images: tuple[np.ndarray, np.ndarray], alexnet: Path) -> None:
    package = pytest.importorskip("lpips")
    import torchvision
    from safetensors.torch import load_file

    network = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    backbone = torchvision.models.alexnet(weights=None)
    backbone.load_state_dict(load_file(alexnet), strict=False)
    for number, layers in enumerate(((0, 1), (2, 3, 4), (5, 6, 7), (8, 9), (10, 11)), 1):
        setattr(network.net, f"slice{number}", torch.nn.Sequential(*(backbone.features[layer] for layer in layers)))
    first, second = (
        torch.from_numpy(np.stack([x[1] - x[0] + 5000 / 65536, x[0], x[1]]).clip(0, 1)[None]).float() for x in images
    )
    with torch.no_grad():
        expected = float(network(first, second, normalize=True))
    assert expected > 0.05
    assert lpips(*images, weights=alexnet) == pytest.approx(expected, rel=1e-5)
    assert lpips(images[1], images[1], weights=alexnet) == 0


def test_lpips_takes_its_weights_from_the_environment(
    images: tuple[np.ndarray, np.ndarray], alexnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("SRH_LPIPS_WEIGHTS", str(alexnet))
    assert lpips(*images) == lpips(*images, weights=alexnet)


def test_lpips_leaves_the_random_numbers_of_its_caller_alone(alexnet: Path) -> None:
    pytest.importorskip("lpips")
    from srh_clinic.metrics.distortion import _lpips_network

    _lpips_network.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    lpips(np.zeros((2, 32, 32)), np.zeros((2, 32, 32)), weights=alexnet)
    assert torch.equal(torch.rand(4), expected)


def test_without_weights_or_network_lpips_says_what_it_needs(
    images: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lpips")
    from torchvision.models import AlexNet_Weights

    from srh_clinic.metrics.distortion import _lpips_network

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    _lpips_network.cache_clear()
    monkeypatch.delenv("SRH_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setattr(AlexNet_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match=r"no weights of AlexNet \(no route to host\); needed a file .* SRH_LPIPS_WEIGHTS"):
        lpips(*images)


def test_weights_of_another_network_are_refused(images: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="needed AlexNet's feature layers") as caught:
        lpips(*images, weights=tmp_path / "other.pth")
    assert caught.value.path == (tmp_path / "other.pth").resolve()


def test_an_image_too_small_for_alexnet_is_refused() -> None:
    with pytest.raises(InputError, match="at least 31 px"):
        lpips(np.zeros((2, 30, 64)), np.zeros((2, 30, 64)))


def test_white_noise_of_each_channel_is_found_beside_what_both_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, (256, 256))
    gain = np.array([1.0, 1.5])[:, None, None]
    found = incoherent_noise(0.5 + gain * (shared + 0.03 * rng.standard_normal((2, 256, 256))), above=0.4)
    # Some 30,000 frequencies lie above 0.4 cycles a pixel, fewer that are independent under the window.
    assert found == pytest.approx((0.03, 0.045), rel=0.03)
    assert incoherent_noise(np.stack([shared, shared]), above=0.4) == pytest.approx((0, 0), abs=1e-6)
    assert incoherent_noise(np.zeros((2, 64, 64)), above=0.4) == (0, 0)
