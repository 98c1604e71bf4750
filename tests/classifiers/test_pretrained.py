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
