import math

import numpy as np
import pytest
import torch

from srh_clinic.errors import InputError
from srh_clinic.metrics import period_2_amplitudes
from srh_clinic.rscd.networks import (
    AttentionHead,
    CompactUNet,
    LogEnergy,
    OverlapUNet,
    create_calibrator,
    create_denoiser,
    forward_gflop,
    inverse_sinh,
    parameter_count,
)
from srh_clinic.rscd.schedule import create_schedule

SMALL = {"channels": [8, 16], "norm_num_groups": 4}


def test_the_default_denoiser_has_the_size_that_was_measured():
    network = CompactUNet()
    assert parameter_count(network) == pytest.approx(1.4e6, rel=0.1)
    assert forward_gflop(network, torch.zeros(1, 2, 256, 256), torch.tensor([5])) == pytest.approx(7.0, rel=0.1)


def test_the_denoiser_starts_at_zero_and_takes_one_step_index_per_sample():
    torch.manual_seed(0)
    network = create_denoiser(SMALL).eval()
    assert isinstance(network, CompactUNet)
    x = torch.randn(2, 2, 32, 48)
    t = torch.tensor([3, 150])
    with torch.inference_mode():
        assert torch.count_nonzero(network(x, t)) == 0
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        together = network(x, t)
        alone = torch.cat([network(x[k : k + 1], t[k : k + 1]) for k in range(2)])
        swapped = network(x, t.flip(0))
    assert together.shape == x.shape
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)  # float32 sums in another order
    assert not torch.allclose(together, swapped, atol=1e-2)


def test_far_parts_of_a_tile_do_not_speak_to_each_other_but_through_the_norms():
    network = CompactUNet(channels=(8, 16), norm_num_groups=4)
    assert not any("attn" in name for name, _ in network.named_parameters())


OVERLAP = {"architecture": "overlap-unet", "channels": [8, 8, 16], "down": [1, 1, 1], "up": [1, 1], "condition": 8}


def drawn(config):
    """A denoiser whose weights are all random, those that start at zero too."""
    torch.manual_seed(0)
    network = create_denoiser(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_the_overlapping_denoiser_has_the_size_that_was_measured():
    network = OverlapUNet()
    assert parameter_count(network) == pytest.approx(0.63e6, rel=0.02)
    assert forward_gflop(network, torch.zeros(1, 2, 256, 256), torch.tensor([5])) == pytest.approx(4.55, rel=0.02)


def test_the_overlapping_denoiser_sees_each_sample_at_its_own_step():
    network = drawn(OVERLAP)
    x, t = torch.randn(2, 2, 32, 48), torch.tensor([3, 150])
    with torch.inference_mode():
        together, again = network(x, t), network(x, t)
        alone = torch.cat([network(x[k : k + 1], t[k : k + 1]) for k in range(2)])
        swapped = network(x, t.flip(0))
    assert together.shape == x.shape
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)  # float32 sums in another order
    assert not torch.allclose(together, swapped, atol=1e-2)


def test_only_the_overlapping_denoiser_leaves_no_pattern_of_period_2_with_any_weights():
    y, x = 2 * np.pi * np.mgrid[:128, :128] / 64  # one period is what is looked at: its ends fit
    smooth = np.stack([np.sin(x + y), np.cos(x - y)])[None]

    def largest(config):
        with torch.inference_mode():
            noise = drawn(config)(torch.from_numpy(smooth).float(), torch.tensor([60]))
        return period_2_amplitudes(noise[0, :, 32:96, 32:96].numpy()).largest

    # What is left comes from the grid of four pixels of the deepest level.
    assert largest(OVERLAP) < 2e-4
    assert largest(SMALL) > 0.05


def test_a_pixel_out_of_reach_does_not_change_the_overlapping_denoisers_answer():
    network = drawn(OVERLAP)
    x = torch.randn(1, 2, 32, 128)
    other = x.clone()
    other[..., 96:] += 1
    with torch.inference_mode():
        before, after = (network(image, torch.tensor([20]))[..., :32] for image in (x, other))
    assert torch.equal(before, after)


def test_bfloat16_does_not_round_fine_structure_away():
    network = drawn(OVERLAP)
    t = torch.tensor([0])
    x = 0.7 + 0.01 * torch.randn(1, 2, 32, 32)  # bfloat16 has steps of 0.004 there
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 2:].float()))
    with torch.inference_mode():
        network(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            network(x, t)
    torch.testing.assert_close(seen[1], seen[0], atol=1e-6, rtol=1e-2)


def test_an_inverse_sine_of_several_places_at_a_time_is_torchs_own():
    x = torch.cat([torch.linspace(-20, 20, 4001), torch.tensor([0.0, -0.0, 1e-6, -1e-3])])
    torch.testing.assert_close(inverse_sinh(x), torch.asinh(x), atol=2e-7, rtol=3e-7)
    assert torch.signbit(inverse_sinh(torch.tensor(-0.0)))


def test_in_bfloat16_the_overlapping_denoiser_says_what_it_says_under_autocast_and_stays_itself():
    network = drawn(OVERLAP)
    x, t = 0.3 * torch.randn(3, 2, 32, 32), torch.tensor([3, 60, 150])
    with torch.inference_mode():
        whole, half = network(x, t), network.in_bfloat16()(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(x, t)
        alone = torch.cat([network.in_bfloat16()(x[k : k + 1], t[k : k + 1]) for k in range(3)])
    assert half.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    rms = whole.square().mean().sqrt()
    for one in (half, cast, alone):
        assert 0 < (one.float() - whole).square().mean().sqrt() < 0.02 * rms


def test_the_overlapping_denoiser_learns_alike_whether_scales_stand_in_weights_or_not():
    gradients = []
    for together in (True, False):
        network, x, t = drawn(OVERLAP).train(), torch.linspace(-1, 1, 2048).reshape(1, 2, 32, 32), torch.tensor([40])
        repeats = 2 if together else 1
        network(x.repeat(repeats, 1, 1, 1), t.repeat(repeats)).square().sum().div(repeats).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)


def test_levels_and_blocks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="3 levels, blocks of 2 down and of 2 up"):
        create_denoiser({**OVERLAP, "down": [1, 1]})


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": "test_resnet", "stage": 2, "energy_filters": 6},
        {"backbone": "test_resnet", "stage": 1, "unshuffle": 2},
        {"backbone": "resnet10t", "stage": 1, "options": {"channels": [8, 16, 16, 16], "stem_width": 8}},
        {"backbone": "test_resnet", "head": "mlp", "scale": "linear"},
    ],
)
def test_a_calibrator_gives_one_index_per_image(config):
    network = create_calibrator(config).eval()
    with torch.inference_mode():
        predicted = network(torch.randn(3, 2, 64, 64))
    assert predicted.shape == (3,)


def test_the_root_scale_is_undone_by_the_forward_pass():
    network = create_calibrator({"backbone": "test_resnet", "scale": "root"}).eval()
    t = torch.tensor([-1.0, 0.0, 34.0, 190.0])
    network.latent = lambda x: network.to_latent(t)
    torch.testing.assert_close(network(torch.zeros(4, 2, 8, 8)), t)


def test_the_noisiest_place_can_win_in_the_attention_head():
    value, score = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    value[0, 2, 3], value[0, 6, 6] = 1.4, 0.7
    assert AttentionHead.elect(value, 50.0 * value).item() == pytest.approx(1.4, abs=0.01)
    assert AttentionHead.elect(value, score).item() == pytest.approx(2.1 / 64)  # without scores, the mean of all places


def test_what_a_place_says_of_its_noise_does_not_depend_on_a_far_region():
    torch.manual_seed(0)
    config = {"backbone": "resnet10t", "stage": 1, "options": {"layers": [1, 1, 1, 1]}, "energy_filters": 6, "norm": "none"}
    network = create_calibrator(config).eval()
    image = 0.1 * torch.randn(1, 2, 256, 256)
    other = image.clone()
    other[..., 192:] *= 5.0
    with torch.inference_mode():
        values = [network.head.votes(network.features(x))[0][0] for x in (image, other)]
    left, right = (values[1] - values[0])[:, :6], (values[1] - values[0])[:, 13:]
    # Other sums in the convolutions' blocks may round otherwise.
    assert float(left.abs().max()) < 1e-5 < 1e-3 < float(right.abs().max())


def test_white_noise_has_the_same_energy_behind_every_filter_and_tissue_has_not():
    torch.manual_seed(0)
    front = LogEnergy(2, 12)
    noise = 0.1 * torch.randn(1, 2, 256, 256)
    ramp = torch.linspace(-1, 1, 256).expand(1, 2, 256, 256)
    with torch.inference_mode():
        of_noise, of_both, doubled = (front(x)[:, :12].mean(dim=(0, 2, 3)) for x in (noise, noise + 10 * ramp, 2 * noise))
        level = front(torch.ones(1, 2, 16, 16))[:, :12]
    # 65,536 pixels: the mean of the logarithms of 16-pixel energies differs by about 0.01 between filters of unit norm.
    assert float(of_noise.std()) < 0.1 / 2.5
    assert float((of_both - of_noise).max()) > 0.2 / 2.5
    torch.testing.assert_close(doubled - of_noise, torch.full((12,), 2 * math.log(2.0) / 2.5), atol=1e-3, rtol=0)
    assert float(level.max()) < (math.log(2e-7) + 5.0) / 2.5  # brightness alone has no energy


def test_the_noise_of_every_step_lies_in_the_networks_range():
    torch.manual_seed(0)
    front = LogEnergy(2, 4)
    for t in (0, 10, 190, 500):
        with torch.inference_mode():
            level = float(front(float(create_schedule().sigma[t]) * torch.randn(1, 2, 64, 64))[:, :4].mean())
        assert -2 < level < 2


def test_a_dark_place_that_a_detector_cut_off_is_told_from_one_that_is_not():
    torch.manual_seed(0)
    front = LogEnergy(1, 1)
    dark = -0.95 + 0.1 * torch.randn(1, 1, 256, 256)
    with torch.inference_mode():
        mean, share, depth = front(dark)[0, 1:].mean(dim=(1, 2)).tolist()
        cut_mean, cut_share, cut_depth = front(dark.clamp(-1, 1))[0, 1:].mean(dim=(1, 2)).tolist()
    # Of a normal distribution 0.3085 lies more than half a standard deviation below its mean, by 0.1978 of it on average.
    assert share == cut_share == pytest.approx(0.3085, abs=0.01)
    assert depth == pytest.approx(0.01978, abs=0.001)
    assert cut_depth == 0
    assert cut_mean - mean == pytest.approx(depth, abs=1e-5)


@pytest.mark.parametrize(
    ("create", "config", "word"),
    [
        (create_denoiser, {"architecture": "transformer"}, "transformer"),
        (create_denoiser, {"widths": [8]}, "widths"),
        (create_denoiser, {"channels": [9, 18]}, "norm_num_groups"),
        (create_calibrator, {"backbone": "resnet9000"}, "resnet9000"),
        (create_calibrator, {"stages": 2}, "stages"),
    ],
)
def test_a_wrong_description_is_refused_by_its_word(create, config, word):
    with pytest.raises(InputError, match=word):
        create(config)


def test_numpy_settings_from_json_build_the_same_network():
    torch.manual_seed(1)
    first = create_denoiser({**SMALL, "channels": (8, 16)}).state_dict()
    torch.manual_seed(1)
    second = create_denoiser(SMALL).state_dict()
    assert all(np.array_equal(first[key], second[key]) for key in first)
