import math

import numpy as np
import pytest
import torch

from srh_clinic.errors import InputError
from srh_clinic.rscd.networks import CompactUNet, LogEnergy, create_calibrator, create_denoiser, forward_gflop, parameter_count

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
    network = create_calibrator({"backbone": "test_resnet", "stage": 1})
    with torch.no_grad():
        network.head.norm = torch.nn.Identity()
        network.head.vote.weight.zero_()
        network.head.vote.bias.zero_()
        network.head.vote.weight[0, 0] = 1.0
        network.head.vote.weight[1, 0] = 50.0
    features = torch.zeros(1, network.head.vote.in_channels, 8, 8)
    features[0, 0, 2, 3] = 1.4
    features[0, 0, 6, 6] = 0.7
    assert network.head(features).item() == pytest.approx(1.4, abs=0.01)


def test_white_noise_has_the_same_energy_behind_every_filter_and_tissue_has_not():
    torch.manual_seed(0)
    front = LogEnergy(2, 12)
    front.norm = torch.nn.Identity()
    noise = 0.1 * torch.randn(1, 2, 256, 256)
    ramp = torch.linspace(-1, 1, 256).expand(1, 2, 256, 256)
    with torch.inference_mode():
        of_noise, of_both, doubled = (front(x).mean(dim=(0, 2, 3)) for x in (noise, noise + 10 * ramp, 2 * noise))
        level = front(torch.ones(1, 2, 16, 16))
    # 65,536 pixels: the mean of the logarithms of 16-pixel energies differs by about 0.01 between filters of unit norm.
    assert float(of_noise.std()) < 0.1
    assert float((of_both - of_noise).max()) > 0.2
    torch.testing.assert_close(doubled - of_noise, torch.full((12,), 2 * math.log(2.0)), atol=1e-3, rtol=0)
    assert float(level.max()) < math.log(2e-7)  # brightness alone has no energy


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
