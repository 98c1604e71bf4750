"""The released checkpoints become a bundle: renamed, compared one by one, and restoring as the released code does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from srh_clinic.bundles import load_bundle
from srh_clinic.cli.bundle import bundle_import_official
from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of
from srh_clinic.restorers import create_restorer
from srh_clinic.restorers.official import import_official
from srh_clinic.rscd.networks import create_calibrator
from srh_clinic.rscd.official import OfficialUNet

SLIM = {"layers": [1, 2, 1, 1], "channels": [8, 8, 8, 8]}


def stand_ins(monkeypatch: pytest.MonkeyPatch) -> tuple[type[nn.Module], type[nn.Module]]:
    """Classes under the names that the released calibrator is pickled with; the module of theirs is not installed."""
    made = []
    for module, name in (("classifier", "TClassifier"), ("transformers.models.resnet.modeling_resnet", "ResNetModel")):
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            place = ".".join(parts[:depth])
            monkeypatch.setitem(sys.modules, place, ModuleType(place))
        kind = type(name, (nn.Module,), {"__module__": module})
        setattr(sys.modules[module], name, kind)
        made.append(kind)
    return made[0], made[1]


def block(convolution: nn.Module, normalization: nn.Module, kind: type[nn.Module]) -> nn.Module:
    made = kind()
    made.add_module("convolution", convolution)
    made.add_module("normalization", normalization)
    return made


def pickled_calibrator(
    path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any] = SLIM, steps: float = 24.6
) -> nn.Module:
    """Write a ResNet with its head as the released code does: the whole module. Returns what it computes, less its offset."""
    whole, part = stand_ins(monkeypatch)
    torch.manual_seed(1)
    network: Any = timm.create_model("resnet50", num_classes=0, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    head = nn.Sequential(nn.Linear(network.num_features, 100), nn.ReLU(), nn.Linear(100, 1))
    nn.init.constant_(head[2].bias, steps)
    resnet, embedder, inner, encoder = part(), part(), block(network.conv1, network.bn1, part), part()
    embedder.add_module("embedder", inner)
    stages = nn.ModuleList()
    for at in range(4):
        stage, layers = part(), nn.ModuleList()
        for bottleneck in getattr(network, f"layer{at + 1}"):
            layer, convolutions = part(), nn.Sequential()
            for k in range(3):
                pair = getattr(bottleneck, f"conv{k + 1}"), getattr(bottleneck, f"bn{k + 1}")
                convolutions.append(block(pair[0], plain(pair[1]), part))
            layer.add_module("layer", convolutions)
            if bottleneck.downsample is not None:
                layer.add_module("shortcut", block(bottleneck.downsample[0], plain(bottleneck.downsample[1]), part))
            layers.append(layer)
        stage.add_module("layers", layers)
        stages.append(stage)
    encoder.add_module("stages", stages)
    inner.normalization = plain(network.bn1)
    resnet.add_module("embedder", embedder)
    resnet.add_module("encoder", encoder)
    made = whole()
    made.add_module("resnet", resnet)
    made.add_module("head", head)
    torch.save(made, path)
    return nn.Sequential(network, head).eval()


def plain(norm: nn.Module) -> nn.BatchNorm2d:
    """torch's batch normalisation with the numbers of timm's."""
    made = nn.BatchNorm2d(norm.weight.shape[0])  # type: ignore[arg-type, union-attr, index]
    made.load_state_dict(norm.state_dict())
    return made


def small_unet(path: Path) -> dict[str, Tensor]:
    torch.manual_seed(2)
    weights = OfficialUNet(16, 8, (1, 2, 2, 4)).state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    return weights


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, nn.Module]:
    small_unet(tmp_path / "X.pt")
    return tmp_path / "X.pt", tmp_path / "Y.pt", pickled_calibrator(tmp_path / "Y.pt", monkeypatch)


def test_what_is_imported_computes_what_was_saved(files: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    denoiser, calibrator, reference = files
    bundle = import_official(denoiser, calibrator, tmp_path / "bundle")
    assert bundle.config("denoiser") == {"architecture": "official-unet", "dim": 16, "init_dim": 8, "dim_mults": [1, 2, 2, 4]}
    assert bundle.metadata["imported"]["denoiser"]["sha256"] == sha256_of(denoiser)
    assert bundle.metadata["imported"]["calibrator"]["sha256"] == sha256_of(calibrator)
    ours = bundle.load_network(create_calibrator, "calibrator", torch.device("cpu"))
    images = torch.randn(3, 2, 64, 64)
    with torch.inference_mode():
        wanted = reference(torch.cat([torch.zeros(3, 1, 64, 64), images], dim=1))[:, 0] + 1
        torch.testing.assert_close(ours(images), wanted)


def test_an_imported_bundle_restores_as_the_released_code_does(files: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    bundle_import_official(tmp_path / "bundle", files[0], files[1], extends="phantom-demo")
    assert set(load_bundle(tmp_path / "bundle").parts) >= {"denoiser", "calibrator", "classifier"}
    restorer = create_restorer("rscd", bundle=tmp_path / "bundle", device="cpu")
    about = restorer.settings
    assert (about["profile"], about["sampler"], about["prescale"]) == ("official", "ancestral", False)
    assert about["exposure"] is None
    tile = np.random.default_rng(0).integers(5_000, 40_000, (1, 2, 64, 64)).astype(np.uint16)
    restored = restorer.restore(tile)
    assert restored.counts.shape == tile.shape
    assert (restored.counts != tile).any()
    other = create_restorer("rscd", bundle=tmp_path / "bundle", device="cpu", sampler="direct")
    assert other.settings["profile"] == "paper-text", "who chooses a sampler chooses what goes with it"


@pytest.mark.parametrize("part", ["denoiser", "calibrator"])
def test_a_hostile_checkpoint_is_refused_and_not_run(part: str, files: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    marker = tmp_path / "it-was-run"

    class Evil(nn.Module):
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    chosen = {"denoiser": files[0], "calibrator": files[1], part: tmp_path / "evil.pt"}
    with pytest.raises(InputError, match=r"evil.pt: found a pickle that names 'posix.system'; it was not run"):
        import_official(chosen["denoiser"], chosen["calibrator"], tmp_path / "bundle")
    assert not marker.exists()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda w: w.pop("mid_attn.fn.norm.bias"),
            r"the denoiser's tensor mid_attn.fn.norm.bias missing; needed one of shape",
        ),
        (lambda w: w.update(extra=torch.zeros(1)), "the denoiser's tensor extra of shape .1,.; needed none of that name"),
        (
            lambda w: w.update({"final_conv.1.bias": torch.zeros(3)}),
            "tensor final_conv.1.bias of shape .3,.; needed one of shape",
        ),
        (lambda w: w.pop("init_conv.weight"), "no weights of the released U-Net"),
        (
            lambda w: w.update({"final_conv.1.bias": torch.zeros(2, dtype=torch.int64)}),
            "tensor final_conv.1.bias of int64; needed one of float32",
        ),
    ],
)
def test_weights_load_strictly(change: Any, says: str, files: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    weights = small_unet(tmp_path / "whole.pt")
    change(weights)
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(InputError, match=says):
        import_official(tmp_path / "other.pt", files[1], tmp_path / "bundle")


def test_each_checkpoint_has_its_place(files: tuple[Path, Path, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names 'classifier.TClassifier'"):
        import_official(files[1], files[0], tmp_path / "bundle")
    with pytest.raises(InputError, match=r"X.pt: found the tensor 'init_conv.weight'"):
        import_official(files[0], files[0], tmp_path / "bundle")


@pytest.mark.skipif(not os.environ.get("SRH_FULL_WIDTH"), reason="takes minutes and 6 GB of memory: make full-width")
def test_at_full_width_a_tile_is_restored_through_all_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """285 million random weights and a ResNet-50, saved as the released code saves them, by the command line."""
    edge, began, done = int(os.environ["SRH_FULL_WIDTH"]), time.perf_counter(), 0
    forward = OfficialUNet.forward

    def told(what: str) -> None:
        print(f"{time.perf_counter() - began:7.1f} s  {what}", flush=True)

    def counted(network: OfficialUNet, x: Tensor, t: Tensor) -> Tensor:
        nonlocal done
        done += 1
        noise = forward(network, x, t)
        told(f"evaluation {done} of a tile of {x.shape[-1]} px, at index {int(t[0])}")
        return noise

    monkeypatch.setattr(OfficialUNet, "forward", counted)
    torch.manual_seed(2)
    torch.save({f"module.{name}": tensor for name, tensor in OfficialUNet().state_dict().items()}, tmp_path / "X.pt")
    pickled_calibrator(tmp_path / "Y.pt", monkeypatch, {}, steps=4.0)
    told(f"{sum(one.numel() for one in OfficialUNet().parameters()) / 1e6:.0f} million weights saved")
    bundle_import_official(tmp_path / "bundle", tmp_path / "X.pt", tmp_path / "Y.pt", extends="phantom-demo")
    told("imported")
    restorer = create_restorer("rscd", bundle=tmp_path / "bundle", device="cpu")
    tile = np.random.default_rng(0).integers(5_000, 40_000, (1, 2, edge, edge)).astype(np.uint16)
    restored = restorer.restore(tile)
    index = int(restored.steps_predicted[0]) - 1
    told(f"restored in {done} evaluations, calibrated to index {index}")
    assert done == restored.steps[0] == index + 3, "as the released code's last round"
    assert (restored.counts != tile).mean() > 0.9
