"""How and where every network of ours is run once it is trained, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch

from srh_clinic.errors import InputError


class _Meter:
    """Seconds that one thread has spent inside :func:`inference`."""

    def __init__(self) -> None:
        self.spent = 0.0


_METERS: ContextVar[tuple[_Meter, ...]] = ContextVar("meters", default=())
"""Meters that run in this thread; empty inside :func:`inference`, so that what is nested is counted once."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """With torch's own defaults, whatever the caller has set: float32, tensors on the CPU, no autocast.

    What the caller has set is in force again afterwards. The default dtype is one for all threads of a process.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as room:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            room.callback(torch.set_default_dtype, dtype)
        if torch.empty(0).device.type != "cpu":
            room.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            room.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def made_apart() -> Iterator[None]:
    """As :func:`undisturbed`, and the random numbers that are drawn here are not missing from the caller's."""
    with undisturbed(), torch.random.fork_rng(range(torch.cuda.device_count())):
        yield


def same_for_any_threads(network: torch.nn.Module) -> torch.nn.Module:
    """Let the convolutions of a network on a CPU give the same numbers with one thread as with several.

    With one thread torch computes convolutions of one pixel by another library than with more, unless they are dilated: and to
    dilate one pixel changes nothing else.
    """
    for part in network.modules():
        if isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d) and set(part.kernel_size) == {1}:
            part.dilation = (2,) * len(part.kernel_size)
    return network


@contextmanager
def inference() -> Iterator[None]:
    """Without gradients, and in whole float32 whatever the caller has set, also on a graphics card; a context and a decorator.

    By torch's default a card rounds the factors of a convolution to the 10 bits of TF32. Restored counts then differ from a
    processor's by more than rounding, and what was calibrated and validated on the one does not quite hold on the other.
    The process's own choice is back in force afterwards. It is one switch for all threads of a process: of networks that run
    in two threads at once, the last to end decides what is left in force.
    """
    cudnn = torch.backends.cudnn
    # Since torch 2.9 each kind of operation has a precision, and the older switch cannot be read once one was set.
    switch, name, whole = (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    kept = getattr(switch, name)
    setattr(switch, name, whole)
    try:
        with _counted(), undisturbed(), torch.inference_mode():
            yield
    finally:
        setattr(switch, name, kept)


@contextmanager
def network_seconds() -> Iterator[Callable[[], float]]:
    """Measure the seconds that this thread spends inside :func:`inference`: networks, and the arithmetic around them."""
    meter = _Meter()
    token = _METERS.set((*_METERS.get(), meter))
    try:
        yield lambda: meter.spent
    finally:
        _METERS.reset(token)


@contextmanager
def _counted() -> Iterator[None]:
    meters = _METERS.get()
    if not meters:
        yield
        return
    token = _METERS.set(())
    began = time.perf_counter()
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        for meter in meters:
            meter.spent += time.perf_counter() - began
        _METERS.reset(token)


def choose_device(name: str) -> torch.device:
    """A torch device by name; ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    InputError
        When there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" and the like take numbers and never give them back
    except (RuntimeError, AssertionError) as error:  # NotImplementedError is a RuntimeError
        raise InputError(
            f"the device {name!r}", "'auto', 'cpu' or a device that torch finds on this machine, such as 'cuda:0'"
        ) from error
    return device
