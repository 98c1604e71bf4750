"""How every network of ours is run once it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
        with torch.inference_mode():
            yield
    finally:
        setattr(switch, name, kept)
