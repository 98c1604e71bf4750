"""What the metrics' networks share: how they are shown an image, and how their weights are read."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE, Unit

OFFSET = 5000
"""Counts added to ``CH3 - CH2`` so that its negative part stays visible (OpenSRH)."""

State = Mapping[str, Tensor]


def srh_view(images: ArrayLike) -> Unit:
    """``CH3 - CH2 + 5000/65536``, CH2 and CH3, clipped to [0, 1]: how SRH is shown to networks (Jiang et al. 2022).

    Parameters
    ----------
    images
        Unit intensity, float ``(N, 2, H, W)``; the view is float32 ``(N, 3, H, W)``.

    Raises
    ------
    InputError
        When the images have another shape, are not float, or are not finite.
    """
    found = np.asarray(images)
    if found.ndim != 4 or found.shape[1] != 2 or found.dtype.kind != "f":
        raise InputError(f"images of {found.dtype} with shape {found.shape}", "unit intensity, float of shape (N, 2, H, W)")
    if not np.isfinite(found).all():
        raise InputError("images with NaN or infinite pixels", "finite unit intensity")
    ch2, ch3 = found[:, 0], found[:, 1]
    return np.clip(np.stack([ch3 - ch2 + OFFSET / FULL_SCALE, ch2, ch3], axis=1), 0, 1).astype(np.float32)


def load_state(path: Path) -> State:
    """The named tensors of a weights file: safetensors, or a state dict saved by torch, of whose pickle no code is run.

    Raises
    ------
    InputError
        When there is no such file or it is neither.
    """
    needed = "a file of weights, safetensors or a state dict"
    if not path.is_file():
        raise InputError("no such file", needed, path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"an unreadable file ({error})", needed, path) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError("an unreadable file, or a pickle that holds more than tensors", needed, path) from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"a {type(state).__name__} that holds other things than tensors", needed, path)
    return state


def load_into(network: nn.Module, state: State, needed: str, path: Path | None) -> None:
    """Give a network its weights, all of them and no others, as float32.

    Raises
    ------
    InputError
        When the tensors do not fit; ``needed`` says what would.
    """
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"weights that do not fit ({reason})", needed, path) from error
