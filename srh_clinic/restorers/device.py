"""Where networks run."""

from __future__ import annotations

import torch

from srh_clinic.errors import InputError


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
        raise InputError(f"the device {name!r}", "'auto', 'cpu' or a device that torch has here, such as 'cuda:0'") from error
    return device
