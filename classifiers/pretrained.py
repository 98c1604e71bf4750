"""Backbones that others have trained, from checkpoints of Lightning and of torch, under whatever names they stand there.

OpenSRH's and FastGlioma's networks are kept by Lightning, beside settings and optimisers: below ``model.bb`` a ResNet with
torchvision's names or a vision transformer with timm's, and what stands on it below ``model.head``, ``.proj`` or ``.mil``.
Nothing of such a file is run; see :mod:`srh_clinic.bundles.checkpoints`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic.bundles.checkpoints import DTYPES, TENSORS, read_checkpoint, state_dict
from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_BESIDE = re.compile(
    r"(lightning|pytorch_lightning|lightning_fabric|omegaconf|argparse|typing)(\.\w+)*$"
    r"|(__builtin__|builtins)\.(set|dict|list|int|float|str|tuple|bool)$"
    r"|collections\.defaultdict$|pathlib\.\w*Path$|torch\.torch_version\.TorchVersion$|torch\.(device|Size|float\d+|int\d+)$"
    r"|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray)$|_codecs\.encode$"
)


def is_admitted(name: str) -> bool:
    """Whether a name may stand in a checkpoint: tensors, and what Lightning keeps beside them; none of it is called."""
    return name in TENSORS or name in DTYPES or bool(_BESIDE.match(name))


def with_backbone(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """A network's weights with those of its backbone from a checkpoint; its last layer stays as it is.

    Parameters
    ----------
    network
        A classifier with timm's methods.
    path
        A checkpoint in which every tensor of the backbone stands under its name behind one common beginning.

    Raises
    ------
    InputError
        When it is none, a tensor of the backbone is missing or of another shape, or several networks fit and differ.
    """
    stored = state_dict(read_checkpoint(path, is_admitted))
    weights = dict(network.state_dict())
    head = _names_of_head(network)
    wanted = [name for name in weights if name not in head and not name.endswith("num_batches_tracked")]
    first = wanted[0]
    beginnings = {name.removesuffix(first) for name in stored if name == first or name.endswith(f".{first}")}
    if not beginnings:
        raise InputError(f"no tensor {first!r} under any name", "a checkpoint of this backbone", path)
    found = max(sorted(beginnings), key=lambda beginning: sum(f"{beginning}{name}" in stored for name in wanted))
    rivals = [one for one in sorted(beginnings - {found}) if _is_another(stored, wanted, found, one)]
    if rivals:
        several = ", ".join(f"{one}{first}" for one in (found, *rivals))
        raise InputError(f"several networks that fit and differ ({several})", "a checkpoint with one of them", path)
    for name in wanted:
        tensor = stored.get(f"{found}{name}")
        if tensor is None or tensor.shape != weights[name].shape:
            there = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise InputError(f"the tensor {found}{name} {there}", f"one of shape {tuple(weights[name].shape)}", path)
        weights[name] = tensor.to(weights[name].dtype)
    return weights


def _is_another(stored: Mapping[str, Tensor], wanted: Sequence[str], one: str, other: str) -> bool:
    """Whether all tensors stand behind both beginnings, and not the same, as of a student and its teacher."""
    if not all(f"{beginning}{name}" in stored for beginning in (one, other) for name in wanted):
        return False
    pairs = ((stored[f"{one}{name}"], stored[f"{other}{name}"]) for name in wanted)
    return any(a.shape != b.shape or not a.equal(b) for a, b in pairs)


def _names_of_head(network: Any) -> set[str]:
    """Names of the tensors of a network's last layer."""
    if not hasattr(network, "get_classifier"):
        raise InputError(f"a classifier of {type(network).__name__}, which does not show its last layer", "timm's methods")
    layer = network.get_classifier()
    name = next(name for name, module in network.named_modules() if module is layer)
    return {f"{name}.{inner}" for inner in layer.state_dict()}
