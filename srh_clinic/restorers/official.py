"""The released checkpoints of RSCD as a bundle: read without running them, renamed, and compared name by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srh_clinic.bundles import Bundle, parent_reference, save_bundle
from srh_clinic.bundles.checkpoints import DTYPES, TENSORS, read_checkpoint, state_dict
from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of
from srh_clinic.rscd.networks import create_calibrator, create_denoiser
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.slide import UM_PER_PX

if TYPE_CHECKING:
    from torch import Tensor, nn

OFFICIAL_SETTINGS: dict[str, Any] = {
    "profile": "official",
    "sampler": "ancestral",
    "variance": "posterior",
    "prescale": False,
    "exposure": None,
    "precision": "float32",
}
"""How the released code runs: what the metadata of an imported bundle say of ``rscd``."""

CALIBRATOR_OFFSET = 1.0
"""What the released calibrator adds to its head's output."""

_CLASSIFIERS = ("__main__.TClassifier", "classifier.TClassifier")
_KNOWN = {
    *TENSORS,
    *DTYPES,
    *_CLASSIFIERS,
    "builtins.set",
    "__builtin__.set",
    "torch.float32",
    "torch.device",
    "torch.nn.parallel.data_parallel.DataParallel",
    "transformers.configuration_utils.PretrainedConfig",
}
_FAMILIES = re.compile(r"(torch\.nn\.modules|transformers\.models\.resnet)\.[a-z_]+\.[A-Za-z0-9]+$")
_STAGE = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:(shortcut)|layer\.(\d+))\.(convolution|normalization)\.(\w+)$")
_STEM = re.compile(r"embedder\.embedder\.(convolution|normalization)\.(\w+)$")


def import_official(
    denoiser: Path,
    calibrator: Path,
    out: Path,
    *,
    um_per_px: float = UM_PER_PX,
    offset: float = CALIBRATOR_OFFSET,
    extends: str | Path | None = None,
) -> Bundle:
    """Write a bundle of the released checkpoints; nothing in their pickles is run.

    Parameters
    ----------
    denoiser
        A state dict of the released U-Net, of any width.
    calibrator
        The released calibrator, pickled whole or as a state dict.
    out
        Folder of the bundle.
    um_per_px
        Pixel size that both were trained at; the checkpoints do not say it.
    offset
        What the calibrator's code adds to the output of its head: 1 in the released calibrator, 0 in an earlier version.
    extends
        Bundle that the one written takes what it lacks from, such as a classifier.

    Raises
    ------
    InputError
        When a file is none of these, names anything else in its pickle, or its tensors do not fit the networks one by one.
    """
    parent = {} if extends is None else {"extends": parent_reference(out, extends)}
    parts = {
        "denoiser": read_denoiser(denoiser),
        "calibrator": read_calibrator(calibrator, offset),
    }
    imported = {
        part: {"file": file.name, "sha256": sha256_of(file), "tensors": len(parts[part][1])}
        for part, file in (("denoiser", denoiser), ("calibrator", calibrator))
    }
    imported["calibrator"]["offset"] = offset
    metadata = {
        "description": "The released denoiser and step calibrator of restorative step-calibrated diffusion",
        "demonstration": "imported weights, research use only",
        "authors": "those of the imported weights",
        "copyright": "those of the imported weights",
        "license": "that of the imported weights",
        "changelog": {"0.1.0": "imported"},
        "um_per_px": um_per_px,
        "schedule": "cosine",
        "rscd": RSCDSettings(**OFFICIAL_SETTINGS).model_dump(include=set(OFFICIAL_SETTINGS)),
        "imported": imported,
        **parent,
    }
    return save_bundle(out, parts, metadata, _card(out.name, imported, um_per_px))


def read_denoiser(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a released U-Net.

    Raises
    ------
    InputError
        As :func:`import_official`.
    """
    tensors = state_dict(read_checkpoint(path, lambda name: name in TENSORS or name in DTYPES))
    try:
        init_dim, dim = tensors["init_conv.weight"].shape[0], tensors["time_mlp.1.weight"].shape[1]
        levels = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("downs.")})
        widths = [tensors[f"downs.{level}.1.ds_conv.weight"].shape[0] for level in levels]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError("no weights of the released U-Net", "its state dict", path) from error
    if any(width % dim for width in widths):
        raise InputError(f"levels of {widths} for a U-Net of width {dim}", "multiples of its width", path)
    config = {
        "architecture": "official-unet",
        "dim": dim,
        "init_dim": init_dim,
        "dim_mults": [width // dim for width in widths],
    }
    _require_fitting("denoiser", create_denoiser, config, tensors, path)
    return config, tensors


def read_calibrator(path: Path, offset: float = CALIBRATOR_OFFSET) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a released calibrator, of which both channels are left and the offset is in the bias.

    Raises
    ------
    InputError
        As :func:`import_official`.
    """
    stored = state_dict(read_checkpoint(path, lambda name: name in _KNOWN or bool(_FAMILIES.match(name))))
    tensors = {}
    for name, tensor in stored.items():
        ours = calibrator_name(name)
        if ours is None or ours in tensors:
            raise InputError(f"the tensor {name[:80]!r}", "weights of the released calibrator: a ResNet and its head", path)
        tensors[ours] = tensor
    try:
        stem, bias = tensors["backbone.conv1.weight"], tensors["head.4.bias"]
        stages = sorted({int(name.split(".")[1].removeprefix("layer")) for name in tensors if ".layer" in name})
        depths = [1 + max(int(n.split(".")[2]) for n in tensors if f".layer{stage}." in n) for stage in stages]
        channels = [tensors[f"backbone.layer{stage}.0.conv1.weight"].shape[0] for stage in stages]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError("no weights of the released calibrator", "a ResNet and its head", path) from error
    if stem.shape[1] == 3:
        tensors["backbone.conv1.weight"] = stem[:, 1:].clone()
    tensors["head.4.bias"] = bias + offset
    config: dict[str, Any] = {"architecture": "step-regressor", "backbone": "resnet50", "head": "mlp", "scale": "linear"}
    if (depths, channels) != ([3, 4, 6, 3], [64, 128, 256, 512]):
        config["options"] = {"layers": depths, "channels": channels}
    _require_fitting("calibrator", create_calibrator, config, tensors, path)
    return config, tensors


def calibrator_name(name: str) -> str | None:
    """Ours for a tensor of the released calibrator; ``None`` for one that it does not have.

    >>> calibrator_name("resnet.encoder.stages.0.layers.1.layer.2.normalization.weight")
    'backbone.layer1.1.bn3.weight'
    >>> calibrator_name("head.0.bias")
    'head.2.bias'
    """
    if match := re.fullmatch(r"head\.([02])\.(weight|bias)", name):
        return f"head.{int(match[1]) + 2}.{match[2]}"
    inner = name.removeprefix("resnet.")
    if match := _STEM.fullmatch(inner):
        return f"backbone.{'conv1' if match[1] == 'convolution' else 'bn1'}.{match[2]}"
    if match := _STAGE.fullmatch(inner):
        block = f"backbone.layer{int(match[1]) + 1}.{match[2]}"
        if match[3]:
            return f"{block}.downsample.{0 if match[5] == 'convolution' else 1}.{match[6]}"
        return f"{block}.{'conv' if match[5] == 'convolution' else 'bn'}{int(match[4]) + 1}.{match[6]}"
    return None


def _require_fitting(part: str, create: Any, config: dict[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not the network's, name by name and shape by shape; the network takes no memory for it."""
    import torch

    with torch.device("meta"):
        network: nn.Module = create(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            there = "missing" if name not in found else f"of shape {found[name]}"
            needed = "none of that name" if name not in wanted else f"one of shape {wanted[name]}"
            raise InputError(f"the {part}'s tensor {name} {there}", needed, path)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() != tensors[name].is_floating_point():
            kinds = [str(one.dtype).removeprefix("torch.") for one in (tensors[name], tensor)]
            raise InputError(f"the {part}'s tensor {name} of {kinds[0]}", f"one of {kinds[1]}", path)


def _card(name: str, imported: Mapping[str, Mapping[str, Any]], um_per_px: float) -> str:
    rows = "\n".join(
        f"| {part} | `{about['file']}` | `{about['sha256']}` | {about['tensors']} |" for part, about in imported.items()
    )
    settings = ", ".join(f"`{key}={value}`" for key, value in OFFICIAL_SETTINGS.items())
    return f"""# {name}

Released weights of restorative step-calibrated diffusion, imported by name; nothing in their files was run.
**Research use only.** Not a medical device: never use it to decide about a patient. The licence is that of the authors.

| part | file | sha256 of the file | tensors |
|---|---|---|---|
{rows}

`rscd` runs as the released code does: {settings}.
The calibrator's output has {imported["calibrator"]["offset"]:g} added, as its code does; the channel of zeros that it was
shown is left out. Pixels are taken to be {um_per_px:g} um. The guards have no thresholds for these weights:
`srh-clinic bundle calibrate` makes them.
"""
