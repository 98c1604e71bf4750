"""Networks that an installed package offers, and classes that are others than ours."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srh_clinic.bundles import load_bundle, save_bundle
from srh_clinic.classifiers import load_classifier
from srh_clinic.classifiers.network import create_classifier, require_serving
from srh_clinic.classifiers.own import ENTRY_POINTS, MappedClasses, class_groups
from srh_clinic.errors import InputError
from srh_clinic.training import train


class OurNet(nn.Module):
    """Means of the colours to logits."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, views: Tensor) -> Tensor:
        logits: Tensor = self.layers(views.mean(dim=(2, 3)))
        return logits


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers networks, installed in a folder of its own."""
    about = tmp_path / "site" / "our_package-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: our-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        f"[{ENTRY_POINTS}]\nour-net = our_networks:OurNet\nnot-a-net = builtins:dict\nbroken = our_networks:Missing\n"
    )
    module = types.ModuleType("our_networks")
    module.OurNet = OurNet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "our_networks", module)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()


def patches(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    counts = rng.integers(0, 3000, (30, 2, 48, 48)) + 15000 * labels[:, None, None, None]
    np.savez(tmp_path / "class-0.npz", counts=counts.astype(np.uint16), labels=labels)
    return tmp_path


def test_a_network_of_a_package_is_trained_and_found_again(offered: None, tmp_path: Path) -> None:
    settings = {"backbone": "our-net", "options": {"width": 6}, "batch_size": 4, "steps": 4, "warmup_steps": 1, "log_every": 2}
    train("classifier", str(patches(tmp_path)), None, tmp_path / "out", device="cpu", **settings)
    classifier = load_classifier(load_bundle(tmp_path / "out"))
    assert isinstance(classifier.network, OurNet)
    seen = np.zeros((2, 2, 48, 48), np.uint16)
    np.testing.assert_allclose(classifier.predict_proba(seen).sum(axis=1), 1)
    with pytest.raises(InputError, match="a classifier of OurNet, which shows no features"):
        classifier.embed(seen)


class Another(OurNet):
    """Gives what the test says of the logits, or raises it."""

    gives: Any = None

    def forward(self, views: Tensor) -> Any:
        return type(self).gives(super().forward(views))


def raised(logits: Tensor) -> Tensor:
    raise KeyError("views of 224 px")


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        (lambda logits: logits[:, :2], r"gives shape \(2, 2\) of two views; needed logits of shape \(2, 3\)"),
        (lambda logits: logits[:, 0], r"gives shape \(2,\) of two views"),
        (lambda logits: (logits,), "gives a tuple of two views"),
        (lambda logits: logits * float("nan"), "gives what is not finite"),
        (raised, r"does not take views of 48 x 48 px \('views of 224 px'\)"),
    ],
)
def test_a_network_that_does_not_serve_is_refused_before_it_is_trained(
    gives: Any, says: str, offered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["our_networks"], "OurNet", Another)
    monkeypatch.setattr(Another, "gives", staticmethod(gives))
    with pytest.raises(InputError, match=says):
        train(
            "classifier", str(patches(tmp_path)), None, tmp_path / "b", device="cpu", backbone="our-net", options={}, steps=1
        )
    assert not (tmp_path / "b" / "models").exists()


def test_more_outputs_than_classes_are_refused(offered: None, tmp_path: Path) -> None:
    """Those beyond the table would be left out of every sum without a word."""
    network = MappedClasses(OurNet(5), class_groups({"a": "tumor", "b": "normal", "c": "nondiagnostic", "d": "tumor"}))
    with pytest.raises(InputError, match=r"gives shape \(2, 5\) of two views; needed logits of shape \(2, 4\)"):
        require_serving(network, 16, "our-net")


def test_what_no_package_offers_is_never_imported(offered: None) -> None:
    for name in ("os:system", "our_networks:OurNet", "our_networks.OurNet"):
        with pytest.raises(InputError, match="the classifier backbone"):
            create_classifier({"backbone": name})
    with pytest.raises(InputError, match=r"which gives a dict; needed a torch\.nn\.Module"):
        create_classifier({"backbone": "not-a-net"})
    with pytest.raises(InputError, match="the network 'broken' of our_networks:Missing, which cannot be loaded"):
        create_classifier({"backbone": "broken"})


def test_other_classes_add_up_to_ours() -> None:
    torch.manual_seed(0)
    own: Any = OurNet(14)
    mapped = MappedClasses(own, class_groups("hollon-2020"))
    views = torch.rand(5, 3, 8, 8)
    theirs, ours = own(views).softmax(dim=1), mapped(views).softmax(dim=1)
    torch.testing.assert_close(ours[:, 0], theirs[:, :10].sum(dim=1))
    torch.testing.assert_close(ours[:, 1], theirs[:, 10:13].sum(dim=1))
    torch.testing.assert_close(ours[:, 2], theirs[:, 13])


def test_the_network_of_hollon_2020_has_fourteen_outputs_of_which_ours_are_sums() -> None:
    """Inception-ResNet-v2 as timm has it; nothing of it is run, for it is large."""
    with torch.device("meta"):
        network = create_classifier({"backbone": "inception_resnet_v2", "options": {}, "classes": "hollon-2020"})
    assert isinstance(network, MappedClasses)
    assert network.get_classifier().out_features == 14
    assert [len(group) for group in class_groups("hollon-2020")] == [10, 3, 1]


def test_a_bundle_of_other_classes_classifies(tmp_path: Path) -> None:
    classes = {"glioma": "tumor", "grey matter": "normal", "blood": "nondiagnostic", "lymphoma": "tumor"}
    config = {
        "backbone": "test_resnet",
        "options": {},
        "classes": classes,
        "recipe": "opensrh",
        "patch": 64,
        "temperature": 1.0,
    }
    network = create_classifier(config)
    bundle = save_bundle(tmp_path / "bundle", {"classifier": (config, network.state_dict())})
    classifier = load_classifier(bundle)
    seen = np.random.default_rng(0).integers(0, 60_000, (2, 2, 64, 64)).astype(np.uint16)
    assert classifier.predict_proba(seen).shape == (2, 3)
    assert classifier.embed(seen).ndim == 2


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("who-2021", "the classes 'who-2021'"),
        ({"a": "tumor", "b": "cancer"}, "the class 'b' mapped to 'cancer'"),
        ({"a": "tumor", "b": "normal"}, "classes of which none is nondiagnostic"),
    ],
)
def test_classes_have_to_be_mapped_to_ours(classes: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        create_classifier({"backbone": "test_resnet", "classes": classes})
