"""A bundle of small untrained networks: benchmarks are tested for their arithmetic, not for the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from srh_clinic.bundles import Bundle, save_bundle
from srh_clinic.classifiers import create_classifier
from srh_clinic.rscd.networks import create_calibrator, create_denoiser
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.protocol import load_protocol

PX = 64
"""Edge of phantoms, tiles and patches in these tests."""

SLIM = {"channels": [8, 8, 8, 8], "stem_width": 8}
LAST_WEIGHT = "unet.out.2.conv.weight"

PACKAGED = Path(__file__).resolve().parents[2] / "validation" / "bench" / "protocol.yaml"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Untrained, small, and the calibrator predicts few steps."""
    torch.manual_seed(0)
    denoiser = {"architecture": "compact-unet", "channels": [8, 8], "unshuffle": 4}
    calibrator = {"backbone": "resnet10t", "head": "mlp", "scale": "linear", "options": SLIM}
    classifier = {"backbone": "resnet10t", "options": SLIM}
    parts = {
        "denoiser": (denoiser, create_denoiser(denoiser).state_dict()),
        "calibrator": (calibrator, create_calibrator(calibrator).state_dict()),
        "classifier": (
            {**classifier, "recipe": "opensrh", "patch": PX, "temperature": 1.0},
            create_classifier(classifier).state_dict(),
        ),
    }
    # A fresh denoiser ends in zeros and restores nothing; this calibrator sees about 8 steps in everything.
    torch.nn.init.normal_(parts["denoiser"][1][LAST_WEIGHT], std=0.1)
    parts["calibrator"][1]["head.4.bias"] += 7
    return save_bundle(tmp_path_factory.mktemp("bundle") / "untrained", parts, {"tile": PX, "patch": PX})


@pytest.fixture(scope="session")
def small_protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The protocol with fewer, smaller phantoms and short intervals."""
    entries = yaml.safe_load(PACKAGED.read_text())
    entries["phantoms"] |= {"count": 12, "size": PX, "kinds": ["glioma", "blood", "white_matter"]}
    entries["restoration"]["interval"]["resamples"] = 100
    entries["tables"] |= {"count": 15, "slow_count": 3, "reference": {"count": 6, "first_seed": 9_500_000}}
    entries["tables"]["interval"]["resamples"] = 50
    path = tmp_path_factory.mktemp("protocol") / "protocol.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path


@pytest.fixture
def bench(bundle: Bundle, small_protocol: Path, tmp_path: Path) -> Bench:
    """Six phantoms, two of each severity: glioma and blood."""
    return Bench(load_protocol(small_protocol), bundle, tmp_path / "out", device="cpu", limit=6)
