"""The learned baselines at use: tiles of any size, noise of the place, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srh_clinic.bundles import save_bundle
from srh_clinic.errors import InputError
from srh_clinic.restorers import Restorer, Tile, create_restorer
from srh_clinic.restorers.learned import LearnedRestorer, sample_conditional
from srh_clinic.restorers.networks import (
    PatchDiscriminator,
    RegressionOverlapUNet,
    create_conditional,
    create_regressor,
)
from srh_clinic.rscd.networks import parameter_count
from srh_clinic.rscd.schedule import create_schedule

REGRESSION = {"architecture": "regression-overlap-unet", "channels": [8, 16], "down": [1, 1], "up": [1], "condition": 8}
GENERATOR = {"architecture": "overlap-resnet-generator", "width": 4, "blocks": 1}
CONDITIONAL = {**REGRESSION, "architecture": "conditional-overlap-unet"}
ONE_PASS = ["synthetic_noise", "noise2noise", "noise2void", "cyclegan"]
CORNERS = [(0, 0), (0, 32), (64, 32)]


def randomised(network: nn.Module) -> nn.Module:
    """Fresh weights with the last layer's, which begin at zero, drawn too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    parts = {}
    for name in ONE_PASS:
        blind = {**REGRESSION, "residual": False}
        config = {"cyclegan": GENERATOR, "noise2void": blind}.get(name, REGRESSION)
        parts[name] = (config, randomised(create_regressor(config)).state_dict())
    network = randomised(create_conditional(CONDITIONAL))
    parts["conditional_diffusion"] = ({**CONDITIONAL, "schedule": "cosine"}, network.state_dict())
    return save_bundle(tmp_path_factory.mktemp("weights") / "baselines", parts, {"extends": "phantom-demo"}).path


def tiles(count: int = 3, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (count, 2, size, size)).astype(np.uint16)


@pytest.mark.parametrize("name", [*ONE_PASS, "conditional_diffusion"])
def test_a_result_does_not_depend_on_batch_or_order(name: str, bundle: Path) -> None:
    settings = {"steps": 3} if name == "conditional_diffusion" else {}
    restorer = create_restorer(name, bundle=str(bundle), device="cpu", **settings)
    assert isinstance(restorer, Restorer)
    assert restorer.name == name
    counts = tiles()
    result = restorer.restore(counts, CORNERS, seed=5)
    assert (result.counts.shape, result.counts.dtype) == (counts.shape, np.uint16)
    assert result.evaluations.tolist() == [settings.get("steps", 1)] * 3
    assert result.stop_reason == ("filtered",) * 3
    alone = create_restorer(name, bundle=str(bundle), device="cpu", batch_size=1, **settings)
    backwards = alone.restore(counts[::-1], CORNERS[::-1], seed=5)
    # One count more or less, because convolutions of another batch size sum in another order.
    np.testing.assert_allclose(backwards.counts[::-1].astype(int), result.counts.astype(int), atol=1)
    assert not np.array_equal(result.counts, counts)


def test_any_size_of_tile_is_served(bundle: Path) -> None:
    for name in ("noise2void", "cyclegan"):
        counts = tiles(2, size=45)[:, :, :, :38]
        assert create_restorer(name, bundle=str(bundle), device="cpu").restore(counts).counts.shape == counts.shape


def test_conditional_diffusion_sees_the_noise_of_the_place(bundle: Path) -> None:
    """Where two tiles of the same content lie decides; so does the seed."""
    restorer = create_restorer("conditional_diffusion", bundle=str(bundle), device="cpu", steps=2)
    same = np.repeat(tiles(1), 2, axis=0)
    here, there = restorer.restore(same, [[0, 0], [0, 32]], seed=1).counts
    assert not np.array_equal(here, there)
    assert not np.array_equal(here, restorer.restore(same[:1], [[0, 0]], seed=2).counts[0])
    np.testing.assert_array_equal(here, restorer.restore(same, [[0, 0], [0, 32]], seed=1).counts[0])


@pytest.mark.parametrize(("evaluations", "expected"), [(100, 0.19261), (1000, 0.2)])
def test_the_sampler_draws_from_the_distribution_that_its_denoiser_knows(evaluations: int, expected: float) -> None:
    """Of independent normal pixels the exact denoiser is linear, so what comes out has to have their deviation.

    DDIM at 100 steps falls short of it by what the product of its factors says.
    """
    schedule, deviation = create_schedule(), 0.2

    def oracle(x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        alpha_bar = float(schedule.alpha_bar[int(t[0])])
        return x * alpha_bar**0.5 * deviation**2 / (alpha_bar * deviation**2 + 1 - alpha_bar)

    drawn = sample_conditional(oracle, torch.zeros(1, 2, 128, 128), [(0, 0)], 0, schedule=schedule, evaluations=evaluations)
    # 32,768 draws: the standard error of a deviation is 0.4 %.
    assert float(drawn.std()) == pytest.approx(expected, rel=0.015)
    assert abs(float(drawn.mean())) < 5 * deviation / 181


def test_without_a_correction_a_state_and_its_condition_are_averaged_by_their_variances() -> None:
    network = create_conditional({**CONDITIONAL, "condition_noise": 0.15})
    for parameter in network.unet.parameters():
        torch.nn.init.zeros_(parameter)
    schedule, t = create_schedule(), 150
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(1, 2, 256, 256, generator=generator) * 0.5
    seen = [torch.randn(clean.shape, generator=generator) for _ in range(2)]
    state = float(np.sqrt(schedule.alpha_bar[t])) * clean + float(schedule.sigma[t]) * seen[0]
    error = network(state, clean + 0.15 * seen[1], torch.tensor([t])) - clean
    # 131,072 draws: 0.2 %.
    assert float(error.std()) == pytest.approx(float(network.spread(torch.tensor([t]))), rel=0.01)
    expected = (0.15**-2 + float(schedule.noise_to_signal[t]) ** -2) ** -0.5
    assert float(network.spread(torch.tensor([t]))) == pytest.approx(expected, rel=1e-5)


def test_all_steps_are_ancestral_and_fewer_are_ddim() -> None:
    """A denoiser that sees no noise: DDIM then scales the state alone, ancestral sampling adds noise on the way."""
    schedule = create_schedule("linear")
    condition = torch.zeros(1, 2, 16, 16)
    asked: list[int] = []

    def silent(x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t[0]))
        return torch.zeros_like(x)

    ddim_twice = [sample_conditional(silent, condition, [(0, 0)], s, schedule=schedule, evaluations=4) for s in (1, 1)]
    assert torch.equal(*ddim_twice)
    assert asked[:4] == [999, 749, 499, 249]
    asked.clear()
    sample_conditional(silent, condition, [(0, 0)], 1, schedule=schedule, evaluations=1000)
    assert asked == list(range(999, -1, -1))


def test_output_that_is_not_finite_is_refused() -> None:
    restorer = LearnedRestorer("cyclegan", {"batch_size": 2}, lambda x, corners, seed: x * float("nan"), torch.device("cpu"))
    with pytest.raises(InputError, match="not finite from cyclegan; needed a bundle whose weights are undamaged"):
        restorer.restore(tiles())


def test_a_bundle_without_the_network_is_refused() -> None:
    with pytest.raises(InputError, match="no cyclegan"):
        create_restorer("cyclegan", bundle="phantom-demo", device="cpu")


def test_tiles_of_two_sizes_are_refused(bundle: Path) -> None:
    restorer = create_restorer("noise2noise", bundle=str(bundle), device="cpu")
    with pytest.raises(InputError, match="one size"):
        list(restorer.stream([Tile(0, tiles(1, 16)[0]), Tile(1, tiles(1, 32)[0])]))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cyclegan", {"steps": 5}, "'steps' .*one of its settings: batch_size"),
        ("conditional_diffusion", {"steps": 1001}, "steps = 1001 .*1000"),
    ],
)
def test_settings_they_do_not_have_are_refused(name: str, settings: dict[str, int], message: str, bundle: Path) -> None:
    with pytest.raises(InputError, match=message):
        create_restorer(name, bundle=str(bundle), device="cpu", **settings)


# Networks


def test_a_regressor_takes_noise_away_in_units_of_one_sigma() -> None:
    x = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    regressor = create_regressor(REGRESSION)
    assert isinstance(regressor, RegressionOverlapUNet)
    assert not torch.equal(regressor(x), x)
    with torch.no_grad():
        regressor.unet.head.weight.zero_()
        regressor.unet.head.bias.copy_(torch.tensor([1.0, -2.0]))
    sigma = torch.tensor(create_schedule().sigma[RegressionOverlapUNet.INDEX], dtype=torch.float32)
    torch.testing.assert_close(regressor(x) - x, torch.tensor([-1.0, 2.0])[:, None, None] * sigma.expand(2, 2, 16, 16))


def test_the_generator_keeps_brightness_and_contrast() -> None:
    torch.manual_seed(0)
    network, x = create_regressor(GENERATOR), torch.rand(1, 2, 32, 32)
    torch.testing.assert_close(network(0.3 * x - 0.5), 0.3 * network(x) - 0.5, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(network(torch.zeros(1, 2, 32, 32))).all()


def test_the_discriminator_judges_patches_of_70_pixels() -> None:
    judge = PatchDiscriminator(4)
    judge[3], judge[6], judge[9] = nn.Identity(), nn.Identity(), nn.Identity()  # instance norm sees the whole image
    image = torch.rand(1, 2, 160, 160, requires_grad=True)
    verdict = judge(image)
    verdict[0, 0, 8, 8].backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_at_its_width_the_discriminator_is_zhus() -> None:
    """2.8 million parameters of a discriminator (Zhu's with two channels in place of three)."""
    assert parameter_count(PatchDiscriminator(64)) == pytest.approx(2.76e6, rel=0.01)


@pytest.mark.parametrize("create", [create_regressor, create_conditional])
def test_unknown_architectures_are_refused(create: Callable[[dict[str, Any]], nn.Module]) -> None:
    with pytest.raises(InputError, match="'transformer'"):
        create({"architecture": "transformer"})
