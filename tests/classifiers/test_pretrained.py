"""Backbones from checkpoints of Lightning: found under their names, loaded strictly, and nothing run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from srh_clinic.bundles import load_bundle
from srh_clinic.classifiers.network import create_classifier
from srh_clinic.classifiers.pretrained import with_backbone
from srh_clinic.errors import InputError
from srh_clinic.training import train

CONFIG = {"backbone": "test_resnet", "options": {}}


def lightning(
    path: Path, monkeypatch: pytest.MonkeyPatch, beginning: str = "model.bb.", **more: Any
) -> dict[str, torch.Tensor]:
    """Write a checkpoint as Lightning does; the class of its settings is not installed."""
    for place in ("lightning_fabric", "lightning_fabric.utilities", "lightning_fabric.utilities.data"):
        monkeypatch.setitem(sys.modules, place, ModuleType(place))
    kept = type("AttributeDict", (dict,), {"__module__": "lightning_fabric.utilities.data"})
    sys.modules["lightning_fabric.utilities.data"].AttributeDict = kept  # type: ignore[attr-defined]
    torch.manual_seed(5)
    weights = create_classifier(CONFIG).state_dict()
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    state = {f"{beginning}{name}": tensor for name, tensor in backbone.items()} | {"model.proj.weight": torch.zeros(4, 2)}
    about = {
        "epoch": 3,
        "hyper_parameters": kept(lr=1e-3, betas=(0.9, 0.99)),
        "optimizer_states": [{"state": {0: {"step": 1}}}],
    }
    torch.save({"state_dict": state | more, **about, "score": np.float64(0.5)}, path)
    return backbone


def test_a_backbone_is_found_under_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = lightning(tmp_path / "a.ckpt", monkeypatch)
    network = create_classifier(CONFIG)
    weights = with_backbone(network, tmp_path / "a.ckpt")
    assert all(torch.equal(weights[name], tensor) for name, tensor in backbone.items() if "num_batches" not in name)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items() if name.startswith("fc."))
    network.load_state_dict(weights)


def test_a_classifier_begins_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = lightning(tmp_path / "a.ckpt", monkeypatch)
    labels = np.arange(30) % 3
    np.savez(tmp_path / "class-0.npz", counts=np.full((30, 2, 48, 48), 9_000, np.uint16), labels=labels)
    settings = {
        "backbone": "test_resnet",
        "options": {},
        "batch_size": 4,
        "steps": 1,
        "warmup_steps": 1,
        "learning_rate": 1e-12,
    }
    out = tmp_path / "out"
    train("classifier", str(tmp_path), None, out, device="cpu", backbone_from=tmp_path / "a.ckpt", **settings)
    trained = load_bundle(out).load_tensors("classifier")
    for name, tensor in backbone.items():
        if name.endswith("weight"):
            torch.testing.assert_close(trained[name], tensor)


HEADS: dict[str, dict[str, torch.Tensor]] = {
    "OpenSRH, cross entropy": {"head.layers.0.weight": torch.zeros(7, 512), "head.layers.0.bias": torch.zeros(7)},
    "OpenSRH and FastGlioma, contrastive": {"proj.layers.0.weight": torch.zeros(128, 512)},
    "FastGlioma, slides": {"mil.mil.cls": torch.zeros(1, 1, 8), "head.layers.0.weight": torch.zeros(1, 8)},
}
"""What stands beside ``model.bb`` in their Lightning checkpoints."""


@pytest.mark.parametrize("layout", HEADS)
def test_the_layouts_of_opensrh_and_fastglioma_give_the_same_features(layout: str, tmp_path: Path) -> None:
    """Their ResNet is torchvision's without its last layer; a checkpoint holds what Lightning's trainer keeps beside it."""
    torch.manual_seed(3)
    theirs = ResNet(BasicBlock, [1, 1, 1, 1])
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    backbone = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    state = {f"model.bb.{name}": tensor for name, tensor in backbone.items()}
    state |= {f"model.{name}": tensor for name, tensor in HEADS[layout].items()}
    kept = {"monitor": None, "best_k_models": {"ckpt-epoch3.ckpt": torch.tensor(0.4)}, "best_model_score": torch.tensor(0.4)}
    trainer = {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "1.8.4",
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}, "current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None, 'mode': 'min'}": kept},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(9.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}
        ],
        "lr_schedulers": [{"base_lrs": [0.001], "last_epoch": 9, "lr_lambdas": [None], "_last_lr": [0.0005]}],
        "NativeMixedPrecisionPlugin": {"scale": 65536.0, "growth_factor": 2.0},
    }
    torch.save({"state_dict": state, **trainer}, tmp_path / "a.ckpt")
    network = create_classifier({"backbone": "resnet18", "options": {"layers": [1, 1, 1, 1]}})
    network.load_state_dict(with_backbone(network, tmp_path / "a.ckpt"))
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    views = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        ours = network.eval().forward_head(network.forward_features(views), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(ours, theirs.eval()(views))


def test_a_student_is_not_taken_for_its_teacher(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in create_classifier(CONFIG).state_dict().items() if not name.startswith("fc.")}
    for file, more in (("same", 0), ("two", 1)):
        both = {"student": weights, "teacher": {name: tensor + more for name, tensor in weights.items()}}
        state = {f"{who}.bb.{name}": tensor for who, named in both.items() for name, tensor in named.items()}
        torch.save({"state_dict": state}, tmp_path / f"{file}.ckpt")
    with_backbone(create_classifier(CONFIG), tmp_path / "same.ckpt")
    with pytest.raises(InputError, match=r"several networks that fit and differ \(student\.bb\.\S+, teacher\.bb"):
        with_backbone(create_classifier(CONFIG), tmp_path / "two.ckpt")


def test_what_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning(tmp_path / "a.ckpt", monkeypatch, **{"model.bb.conv1.0.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"the tensor model\.bb\.conv1\.0\.weight of shape \(2,\); needed one of shape"):
        with_backbone(create_classifier(CONFIG), tmp_path / "a.ckpt")
    torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "b.ckpt")
    with pytest.raises(InputError, match="under any name"):
        with_backbone(create_classifier(CONFIG), tmp_path / "b.ckpt")


def test_a_hostile_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it-was-run"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    torch.save({"state_dict": {}, "callbacks": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"names 'posix\.system'; it was not run"):
        with_backbone(create_classifier(CONFIG), tmp_path / "evil.ckpt")
    assert not marker.exists()
