"""The released denoiser under its own weights, and the released sampler step for step, against the released code's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from srh_clinic.rscd.networks import create_denoiser, parameter_count
from srh_clinic.rscd.official import OfficialUNet
from srh_clinic.rscd.restoration import RSCD
from srh_clinic.rscd.schedule import Schedule, create_schedule
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.rscd.tile import Tile

SMALL = {"architecture": "official-unet", "dim": 16, "init_dim": 8, "dim_mults": [1, 2, 2, 4]}


@pytest.fixture(scope="module")
def golden(real_data: Path) -> Path:
    if not (real_data / "official_unet_golden" / "state_dict.safetensors").is_file():
        pytest.skip(f"no vectors of the released network below {real_data}")
    return real_data / "official_unet_golden"


def released(golden: Path) -> torch.nn.Module:
    network = create_denoiser(SMALL)
    network.load_state_dict(load_file(golden / "state_dict.safetensors"))
    return network.eval()


def test_at_full_width_it_is_the_released_network() -> None:
    with torch.device("meta"):
        network = OfficialUNet()
    assert (parameter_count(network), len(network.state_dict())) == (285_498_370, 288)


def test_it_predicts_what_the_released_code_predicts(golden: Path) -> None:
    vectors = load_file(golden / "forward.safetensors")
    with torch.inference_mode():
        predicted = released(golden)(vectors["x"], vectors["t"])
    torch.testing.assert_close(predicted, vectors["y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("released_tables", [True, False])
@pytest.mark.parametrize(("name", "index", "steps"), [("begin35_limit10", 34, 10), ("begin11_full", 8, 11)])
def test_the_official_profile_takes_the_released_samplers_steps(
    golden: Path, name: str, index: int, steps: int, released_tables: bool
) -> None:
    """Index 34 asks for ten steps and another look, index 8 for 8 + 3 to the end; states agree after every one of them.

    With the tables as they are released, in float32; those of float64 differ from them by up to 8e-4 of beta, which ten steps
    feel by 2e-5.
    """
    vectors = load_file(golden / "sampler.safetensors")
    draws = vectors[f"{name}.noise"].numpy()
    states: list[Tensor] = []
    looks = iter([index + 0.9, -5.0])  # cut off, not rounded
    settings = RSCDSettings(profile="official", sampler="ancestral", prescale=False, exposure=None, precision="float32")

    def noise(seed: int, y: int, x: int, height: int, width: int, *, round: int, step: int) -> np.ndarray:
        at = len(states)
        return draws[at] if at < len(draws) else np.zeros((2, height, width), np.float32)

    def keep(**seen: Any) -> None:
        states.append(seen["x_next"][0])

    network = released(golden)
    schedule = Schedule("cosine", vectors["betas"].double().numpy()) if released_tables else create_schedule()
    rscd = RSCD(network, lambda images: np.array([next(looks)]), schedule, settings, noise=noise)
    # a tile whose counts are not whole numbers: the vectors begin between them
    counts = (vectors["input"][0].numpy().astype(np.float64) + 1) / 2 * 65_536
    (tile,) = rscd.stream([Tile(0, counts)], callback=lambda state: keep(**state))
    assert len(states) >= steps
    wanted = vectors[f"{name}.states"][1 : steps + 1]
    torch.testing.assert_close(torch.stack(states[:steps]), wanted, atol=1e-5 if released_tables else 5e-5, rtol=0)
    assert tile.t_pred == index
