"""How networks are run."""

import numpy as np
import pytest
import torch

from srh_clinic.inference import inference
from srh_clinic.restorers import create_restorer


def precision() -> object:
    """What a card's convolutions are computed in, by the switch that this torch has."""
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32


WHOLE = ("ieee", False)


def test_networks_run_in_whole_float32_without_gradients_and_the_choice_of_the_process_comes_back() -> None:
    before = precision()
    assert before not in WHOLE, "torch's default has changed: this test says nothing any more"

    with inference():
        assert precision() in WHOLE
        assert torch.is_inference_mode_enabled()
        with inference():
            assert precision() in WHOLE
        assert precision() in WHOLE

    assert precision() == before
    assert not torch.is_inference_mode_enabled()


def test_the_choice_of_the_process_comes_back_after_an_error() -> None:
    before = precision()

    with pytest.raises(ValueError, match="broken"), inference():
        raise ValueError("broken")

    assert precision() == before


def test_a_process_that_turned_tf32_off_by_the_older_switch_finds_it_off() -> None:
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with inference():
            assert precision() in WHOLE
        assert torch.backends.cudnn.allow_tf32 is False
    finally:
        torch.backends.cudnn.allow_tf32 = kept


@pytest.mark.parametrize("name", ["rscd", "ccdf", "rrd"])
def test_every_network_of_a_restorer_sees_whole_float32(name: str) -> None:
    seen: list[object] = []
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(precision()))
    try:
        create_restorer(name, device="cpu").restore(np.full((1, 2, 64, 64), 9_000, dtype=np.uint16))
    finally:
        hook.remove()

    assert seen
    assert set(seen) <= set(WHOLE)
