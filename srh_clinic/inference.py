"""How and where every network of ours is run once it is trained, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
def inference() -> Iterator[None]:
    """Without gradients, and in whole float32 also on a graphics card; a context and a decorator.

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
        with _counted(), torch.inference_mode():
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
