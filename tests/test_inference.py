"""How networks are run."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from srh_clinic.bundles import load_bundle
from srh_clinic.classifiers import load_classifier
from srh_clinic.inference import inference, network_seconds
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


def test_network_seconds_count_what_is_nested_once() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3), torch.nn.Conv2d(8, 2, 3))
    with network_seconds() as spent:
        assert spent() == 0
        with inference(), inference():
            network(torch.zeros(1, 2, 64, 64))
        first = spent()
        assert first > 0
    with inference():
        network(torch.zeros(1, 2, 64, 64))
    assert spent() == first


def test_each_of_two_threads_is_told_its_own_network_seconds() -> None:
    together = threading.Barrier(2)

    def work() -> float:
        with network_seconds() as spent:
            together.wait()
            with inference():
                time.sleep(0.1)
            return spent()

    with ThreadPoolExecutor(2) as pool:
        seconds = [one.result() for one in [pool.submit(work), pool.submit(work)]]
    assert all(0.1 <= one < 0.5 for one in seconds)  # a busy machine wakes late, but neither counts the other's


@contextmanager
def as_set(**choices: object) -> Iterator[None]:
    """What a caller may have set before he restores."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(choices.get("threads", threads))
        torch.set_default_dtype(choices.get("dtype", torch.float32))
        torch.set_default_device(choices.get("device"))
        with torch.autocast("cpu", enabled="autocast" in choices):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def noisy_tiles() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    tissue = 9_000 + 3_000 * np.sin(x / 9) * np.cos(y / 7)
    noise = 1_500 * np.random.default_rng(0).standard_normal((2, 2, 64, 64))
    return np.clip(tissue + noise, 0, 65_535).astype(np.uint16)


@pytest.mark.parametrize(
    ("name", "settings"), [("rscd", {}), ("rscd", {"estimator": "nonparametric"}), ("ccdf", {}), ("rrd", {})]
)
def test_restored_counts_are_the_same_whatever_the_caller_has_set(name: str, settings: dict[str, object]) -> None:
    """Exactly: a convolution of one pixel was computed by another library in one thread than in several."""

    def restored() -> np.ndarray:
        return create_restorer(name, device="cpu", **settings).restore(noisy_tiles(), seed=1).counts

    with as_set(threads=1):
        expected = restored()
    for choices in ({"threads": 2}, {"dtype": torch.float64}, {"device": "meta"}, {"autocast": True}):
        with as_set(**choices):
            np.testing.assert_array_equal(restored(), expected, err_msg=str(choices))
            if "dtype" in choices:
                assert torch.get_default_dtype() == torch.float64
            if "device" in choices:
                assert torch.empty(0).device.type == "meta"
            assert torch.is_autocast_enabled("cpu") == ("autocast" in choices)


def test_loading_networks_draws_none_of_the_callers_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    create_restorer("rscd", device="cpu")
    load_classifier(load_bundle("phantom-demo"))
    assert torch.equal(torch.rand(3), expected)


def traces() -> dict[str, object]:
    """Everything of a process that a call of ours could leave changed."""
    kind, keys, *place = np.random.get_state()  # noqa: NPY002 - the caller's, which is not ours to draw from
    return {
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "numpy's": (kind, keys.tobytes(), *place),
        "Python's": random.getstate(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device.type,
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        "matmul": torch.get_float32_matmul_precision(),
        "autocast": [(torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")],
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, precision()),
        "anomalies": torch.is_anomaly_enabled(),
        "numpy's errors": np.geterr(),
        "environment": {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
    }


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def strict_numpy() -> Iterator[None]:
    with np.errstate(all="raise", under="ignore"):
        yield


@contextmanager
def coarse_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


AMBIENT = {
    "one thread": lambda: as_set(threads=1),
    "two threads": lambda: as_set(threads=2),
    "float64": lambda: as_set(dtype=torch.float64),
    "float16": lambda: as_set(dtype=torch.float16),
    "meta": lambda: as_set(device="meta"),
    "autocast": lambda: as_set(autocast=True),
    "autocast in float16": lambda: torch.autocast("cpu", torch.float16),
    "all of these": lambda: as_set(threads=2, dtype=torch.float64, device="meta", autocast=True),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": deterministic,
    "coarse products": coarse_products,
    "errors of numpy": strict_numpy,
}


@pytest.fixture(scope="module")
def undisturbed_results(tiny_bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    return loaded_restored_and_classified(tiny_bundle)


def loaded_restored_and_classified(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    """Networks loaded anew, then at work."""
    restored = create_restorer("rscd", bundle=bundle, device="cpu", sampler="ancestral").restore(noisy_tiles(), seed=3).counts
    return restored, load_classifier(load_bundle(bundle)).predict_proba(np.pad(restored, ((0, 0), (0, 0), (96, 96), (96, 96))))


@pytest.mark.parametrize("choice", AMBIENT)
def test_loading_restoring_and_classifying_see_nothing_of_the_caller_and_leave_nothing(
    choice: str, tiny_bundle: Path, undisturbed_results: tuple[np.ndarray, np.ndarray]
) -> None:
    outside = traces()
    with AMBIENT[choice]():
        before = traces()
        restored, probabilities = loaded_restored_and_classified(tiny_bundle)
        after = traces()
    assert [name for name in before if before[name] != after[name]] == []
    assert [name for name in outside if outside[name] != traces()[name]] == []
    np.testing.assert_array_equal(restored, undisturbed_results[0])
    np.testing.assert_array_equal(probabilities, undisturbed_results[1])


def test_what_is_computed_afterwards_is_as_it_was(tiny_bundle: Path) -> None:
    """A network of the caller's, and his gradients."""
    torch.manual_seed(1)
    network, image = torch.nn.Conv2d(2, 3, 3, padding=1), torch.rand(1, 2, 16, 16)
    expected = network(image)
    loaded_restored_and_classified(tiny_bundle)
    found = network(image)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert network.weight.grad is not None


def test_importing_everything_changes_nothing() -> None:
    """The state of Python's own ``random`` too, from which rich draws when scikit-learn, which monai imports, imports it."""
    code = """
import random
import numpy as np, torch
def seen(): return (random.getstate(), torch.get_rng_state().sum().item(), np.random.get_state()[1].sum(),
                    np.random.get_state()[2], torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
                    torch.empty(0).device.type, torch.get_float32_matmul_precision(), sorted(np.geterr().items()))
random.seed(0); torch.manual_seed(0); np.random.seed(0); before = seen()
import srh_clinic, srh_clinic.transforms, srh_clinic.case, srh_clinic.casepage, srh_clinic.validation, srh_clinic.cli.app
import srh_clinic.restorers.diffusion, srh_clinic.classifiers.network, srh_clinic.rscd.restoration, srh_clinic.training
assert seen() == before, (before, seen())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
