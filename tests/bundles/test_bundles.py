import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from srh_clinic.bundles import load_bundle, parent_reference, save_bundle, update_bundle, verify_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(4, 3, generator=generator), "a.steps": torch.tensor(7)}


@pytest.fixture
def bundle(tmp_path):
    parts = {"denoiser": ({"channels": [8]}, weights()), "calibrator": ({"backbone": "x"}, weights(1))}
    return save_bundle(tmp_path / "mine", parts, {"um_per_px": 0.5})


def test_what_is_saved_is_loaded(bundle):
    again = load_bundle(bundle.path)
    assert again.name == "mine"
    assert again.parts == ("denoiser", "calibrator")
    assert again.config("denoiser") == {"channels": [8]}
    assert again.metadata["um_per_px"] == 0.5
    assert "research use only" in again.metadata["demonstration"]
    for key, value in weights().items():
        assert torch.equal(again.load_tensors("denoiser")[key], value)


def test_it_lies_in_the_layout_of_a_monai_bundle(bundle):
    files = {str(file.relative_to(bundle.path)) for file in bundle.path.rglob("*") if file.is_file()}
    assert files == {
        "configs/metadata.json",
        "configs/inference.json",
        "models/denoiser.safetensors",
        "models/calibrator.safetensors",
        "docs/README.md",
    }
    metadata = json.loads((bundle.path / "configs/metadata.json").read_text())
    required = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"}
    assert required <= metadata.keys()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_everyone_may_read_it_whom_the_umask_lets(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        bundle = save_bundle(tmp_path / "mine", {"denoiser": ({}, weights())})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in bundle.path.rglob("*") if path.is_file()} == {mode}


def test_a_bundle_that_is_refused_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="float16"):
        save_bundle(tmp_path / "mine", {"denoiser": ({}, {"a": torch.tensor([1e9])})}, storage="float16")
    assert list(tmp_path.iterdir()) == []


def test_a_cut_before_the_metadata_leaves_a_bundle_that_does_not_verify(bundle, monkeypatch):
    replace = Path.replace

    def cut(self, target):
        if target.name == "metadata.json":
            raise OSError("no space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(OSError, match="no space left"):
        save_bundle(bundle.path, {"denoiser": ({}, weights(2))})
    assert [path.name for path in bundle.path.parent.iterdir()] == ["mine"]
    with pytest.raises(InputError):
        load_bundle(bundle.path)


def test_the_model_card_says_what_the_weights_are_not_for(bundle):
    card = (bundle.path / "docs/README.md").read_text()
    assert "Not a medical device" in card
    assert "0.5 um" in card


def test_one_changed_byte_of_weights_is_found(bundle):
    path = bundle.path / "models/denoiser.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"denoiser\.safetensors.*sha256"):
        load_bundle(bundle.path)


def test_a_changed_description_a_lost_file_and_an_unlisted_file_are_found(bundle):
    listed = verify_bundle(bundle.path)
    assert set(listed) >= {"configs/inference.json", "docs/README.md"}
    stranger = bundle.path / "models/classifier.safetensors"
    stranger.write_bytes(b"x")
    with pytest.raises(InputError, match="no sha256 of"):
        verify_bundle(bundle.path)
    stranger.unlink()
    inference = bundle.path / "configs/inference.json"
    inference.write_text(inference.read_text().replace("8", "9"))
    with pytest.raises(InputError, match="sha256"):
        verify_bundle(bundle.path)
    inference.unlink()
    with pytest.raises(InputError, match="no such file"):
        verify_bundle(bundle.path)


@pytest.mark.parametrize(("key", "value"), [("um_per_px", None), ("um_per_px", 0), ("tile", 0), ("patch", "a")])
def test_metadata_that_no_image_can_be_read_by_are_refused(bundle, key, value):
    file = bundle.path / "configs/metadata.json"
    metadata = json.loads(file.read_text())
    metadata = {**metadata, key: value} if value is not None else {k: v for k, v in metadata.items() if k != key}
    file.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=rf"metadata.json: found {key}"):
        load_bundle(bundle.path)


def test_a_table_cannot_point_outside_the_bundle(bundle):
    (bundle.path.parent / "outside").write_text("x")
    metadata = bundle.path / "configs/metadata.json"
    content = json.loads(metadata.read_text())
    content["sha256"]["../outside"] = "0"
    metadata.write_text(json.dumps(content))
    with pytest.raises(InputError, match="no such file"):
        verify_bundle(bundle.path)


def test_weights_sha256_names_the_weights_and_nothing_else(bundle, tmp_path):
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in bundle.parts}
    assert save_bundle(tmp_path / "other", parts, {"version": "9"}).weights_sha256 == bundle.weights_sha256
    parts["denoiser"] = (bundle.config("denoiser"), weights(5))
    assert save_bundle(tmp_path / "third", parts).weights_sha256 != bundle.weights_sha256


def test_half_precision_halves_the_file_and_comes_back_as_single(tmp_path):
    big = {"w": torch.randn(200, 200)}
    single = save_bundle(tmp_path / "a", {"denoiser": ({}, big)})
    half = save_bundle(tmp_path / "b", {"denoiser": ({}, big)}, storage="float16")
    sizes = [(b.path / "models/denoiser.safetensors").stat().st_size for b in (single, half)]
    assert sizes[1] < 0.51 * sizes[0]
    loaded = half.load_tensors("denoiser")["w"]
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, big["w"], rtol=2**-11, atol=1e-7)  # 11 bits of significand
    with pytest.raises(InputError, match="float16"):
        save_bundle(tmp_path / "c", {"denoiser": ({}, {"w": torch.tensor([1e6])})}, storage="float16")
    assert not (tmp_path / "c").exists()


def test_an_update_keeps_the_other_parts_and_files_beside(bundle):
    (bundle.path / "training").mkdir()
    (bundle.path / "training/log.jsonl").write_text("{}\n")
    updated = update_bundle(bundle.path, {"classifier": ({"patch": 256}, weights(2))}, {"patch": 256})
    assert updated.parts == ("denoiser", "calibrator", "classifier")
    assert updated.metadata["um_per_px"] == 0.5
    assert torch.equal(updated.load_tensors("calibrator")["a.weight"], weights(1)["a.weight"])
    assert (bundle.path / "training/log.jsonl").exists()
    assert not list(bundle.path.parent.glob(".mine-*"))


def test_what_is_not_there_is_said_in_a_sentence(bundle, tmp_path):
    with pytest.raises(InputError, match="no bundle"):
        load_bundle(tmp_path)
    with pytest.raises(InputError, match="no classifier"):
        bundle.load_tensors("classifier")
    with pytest.raises(InputError, match="tokenizer"):
        save_bundle(tmp_path / "x", {"tokenizer": ({}, {})})


# Bundles that extend others


@pytest.fixture
def heir(bundle):
    parts = {"cyclegan": ({"width": 4}, weights(3)), "calibrator": ({"backbone": "own"}, weights(4))}
    return save_bundle(bundle.path.parent / "heir", parts, {"um_per_px": 0.5, "extends": "../mine"})


def rewrite(bundle, **changes):
    """Change a bundle's metadata by hand."""
    file = bundle.path / "configs/metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_a_bundle_lacks_is_taken_from_the_one_it_extends(heir, bundle):
    assert heir.parts == ("denoiser", "calibrator", "cyclegan")
    assert heir.own_parts == ("calibrator", "cyclegan")
    assert [one.path.resolve() for one in heir.lineage] == [heir.path, bundle.path]
    assert heir.config("denoiser") == bundle.config("denoiser")
    assert torch.equal(heir.load_tensors("denoiser")["a.weight"], weights()["a.weight"])
    assert heir.config("calibrator") == {"backbone": "own"}
    assert torch.equal(heir.load_tensors("calibrator")["a.weight"], weights(4)["a.weight"])
    assert heir.holder("denoiser").name == "mine"
    with pytest.raises(InputError, match=r"no classifier \(parts: denoiser, calibrator, cyclegan\)"):
        heir.config("classifier")


def test_its_weights_sha256_names_the_inherited_weights_too(heir, bundle, tmp_path):
    everything = {part: (heir.config(part), heir.load_tensors(part)) for part in heir.parts}
    assert save_bundle(tmp_path / "whole", everything, {"um_per_px": 0.5}).weights_sha256 == heir.weights_sha256
    update_bundle(bundle.path, {"denoiser": (bundle.config("denoiser"), weights(9))})
    assert load_bundle(heir.path).weights_sha256 != heir.weights_sha256


def test_an_update_copies_nothing_that_is_inherited(heir):
    updated = update_bundle(heir.path, {"noise2void": ({}, weights(5))})
    assert updated.own_parts == ("calibrator", "noise2void", "cyclegan")
    assert updated.metadata["extends"] == "../mine"
    assert not (heir.path / "models/denoiser.safetensors").exists()
    assert "| Extends | ../mine," in (heir.path / "docs/README.md").read_text()


def test_a_damaged_parent_is_found(heir, bundle):
    (bundle.path / "models/denoiser.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"mine/models/denoiser\.safetensors: found sha256"):
        load_bundle(heir.path)
    assert set(verify_bundle(heir.path)) >= {"models/cyclegan.safetensors"}  # its own files are whole


def test_a_part_that_was_trained_for_something_else_is_not_inherited(heir):
    rewrite(heir, schedule="linear")
    linear = load_bundle(heir.path)
    assert linear.parts == ("calibrator", "cyclegan")
    with pytest.raises(
        InputError, match=r"no denoiser, and the one of mine is for schedule cosine; needed one for schedule linear"
    ):
        linear.load_tensors("denoiser")
    rewrite(heir, schedule="cosine", um_per_px=0.3)
    with pytest.raises(InputError, match=r"um_per_px 0\.5; needed one for um_per_px 0\.3"):
        load_bundle(heir.path).config("denoiser")


def test_a_missing_parent_and_a_circle_are_said_in_a_sentence(heir, bundle):
    rewrite(bundle, extends="../heir")
    with pytest.raises(InputError, match=r"a circle of bundles \(heir extends mine extends heir\)"):
        load_bundle(heir.path)
    rewrite(bundle, extends="../nowhere")
    with pytest.raises(InputError, match=r"extends '\.\./nowhere', which does not exist; needed .*phantom-demo"):
        load_bundle(heir.path)
    rewrite(bundle, extends="../mine")
    with pytest.raises(InputError, match="circle"):
        load_bundle(bundle.path)


def test_a_parent_is_named_as_seen_from_the_heir(heir, bundle, tmp_path):
    assert parent_reference(tmp_path / "a" / "b", bundle.path) == "../../mine"
    assert parent_reference(tmp_path / "a", "phantom-demo") == "phantom-demo"
    with pytest.raises(InputError, match="circle"):
        parent_reference(bundle.path, heir.path)


def sealed(path):
    """Make the table of sha256 sums that of the files as they are now."""
    metadata = json.loads((path / "configs/metadata.json").read_text())
    for name in metadata["sha256"]:
        metadata["sha256"][name] = sha256_of(path / name)
    (path / "configs/metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8 + b"{}", (8).to_bytes(8, "little") + b'{"a": 1}'])
def test_damaged_weights_are_told_as_those_of_their_network(bundle, content):
    (bundle.path / "models/calibrator.safetensors").write_bytes(content)
    sealed(bundle.path)
    with pytest.raises(InputError, match=r"calibrator\.safetensors: found damaged weights of the calibrator"):
        load_bundle(bundle.path).load_tensors("calibrator")


def test_weights_of_another_network_are_blamed_on_the_file_that_holds_them(heir, bundle):
    def create(_):
        return torch.nn.Linear(2, 2)

    with pytest.raises(InputError, match=r"denoiser's configuration") as error:
        load_bundle(heir.path).load_network(create, "denoiser", torch.device("cpu"))
    # inherited: it lies in the folder of the bundle that is extended
    assert error.value.path is not None
    assert error.value.path.parents[1].name == "mine"


def test_a_description_that_no_network_is_made_from_is_told_so(bundle):
    def create(config):
        return {}[config["channels"][0]]

    with pytest.raises(InputError, match="a description of the denoiser from which no network can be built"):
        bundle.load_network(create, "denoiser", torch.device("cpu"))
    (bundle.path / "configs/inference.json").write_text(json.dumps({"denoiser": {"channels": [10**9]}, "calibrator": {}}))
    sealed(bundle.path)
    with pytest.raises(InputError, match="with the number 1000000000"):
        load_bundle(bundle.path).load_network(lambda _: torch.nn.Identity(), "denoiser", torch.device("cpu"))


@pytest.mark.parametrize("description", [3, "unet", [1, 2], None])
def test_a_description_that_is_no_object_is_told_so(bundle, description):
    (bundle.path / "configs/inference.json").write_text(json.dumps({"denoiser": description, "calibrator": {}}))
    sealed(bundle.path)
    with pytest.raises(InputError, match="a description of the denoiser that is not a JSON object"):
        load_bundle(bundle.path).config("denoiser")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"um_per_px": ' + "1" * 5000 + "}"])
def test_json_that_python_does_not_follow_is_told_as_damage(bundle, content):
    (bundle.path / "configs/metadata.json").write_text(content)
    with pytest.raises(InputError, match="not readable JSON"):
        load_bundle(bundle.path)


def test_links_of_a_hubs_cache_and_files_of_a_mac_are_no_damage(bundle, tmp_path):
    (tmp_path / "blobs").mkdir()
    for file in list(bundle.path.rglob("*.*")):
        if file.is_file():
            blob = file.rename(tmp_path / "blobs" / file.name)
            file.symlink_to(blob)
    (bundle.path / "models" / "._denoiser.safetensors").write_bytes(b"Mac OS X")
    assert load_bundle(bundle.path).weights_sha256 == bundle.weights_sha256


def test_a_folder_of_an_embedded_bundles_name_is_used_or_the_clash_is_told(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle.path, "phantom-demo")
    assert load_bundle("./phantom-demo").weights_sha256 == bundle.weights_sha256
    assert load_bundle(Path("phantom-demo")).weights_sha256 == bundle.weights_sha256
    with pytest.raises(InputError, match=r"here a folder with another; needed \./phantom-demo for the folder"):
        load_bundle("phantom-demo")


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_an_update_stores_weights_as_the_bundle_does(tmp_path, storage):
    save_bundle(tmp_path / "b", {"denoiser": ({}, weights()), "calibrator": ({}, weights(1))}, storage=storage)
    before = (tmp_path / "b/models/denoiser.safetensors").read_bytes()
    for _ in range(2):
        updated = update_bundle(tmp_path / "b", {"calibrator": ({}, weights(2))}, {"trust": {}})
        assert updated.metadata["weights_storage"] == storage
        assert (tmp_path / "b/models/denoiser.safetensors").read_bytes() == before
        header = (tmp_path / "b/models/calibrator.safetensors").read_bytes()[:400]
        assert {"float16": b'"F16"', "float32": b'"F32"'}[storage] in header
    assert update_bundle(tmp_path / "b", {}, storage="float32").metadata["weights_storage"] == "float32"
