import numpy as np
import pytest
import torch

from srh_clinic.bundles import save_bundle
from srh_clinic.classifiers import PatchClassifier, create_classifier, fit_temperature, load_classifier
from srh_clinic.display import three_channel
from srh_clinic.errors import InputError

CONFIG = {"backbone": "test_resnet", "options": {}, "recipe": "opensrh", "patch": 64, "temperature": 1.7}


@pytest.fixture
def patches():
    return np.random.default_rng(0).integers(0, 40000, (11, 2, 64, 64)).astype(np.uint16)


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    return save_bundle(tmp_path / "b", {"classifier": (CONFIG, create_classifier(CONFIG).state_dict())})


def test_probabilities_are_the_softmax_of_the_tempered_logits(bundle, patches):
    classifier = load_classifier(bundle)
    logits, p = classifier.logits(patches), classifier.predict_proba(patches)
    expected = torch.softmax(torch.from_numpy(logits) / 1.7, dim=1).numpy()
    assert np.allclose(p, expected, atol=1e-12)
    assert (classifier.patch, classifier.recipe) == (64, "opensrh")


def test_the_network_sees_the_recipe_of_its_bundle(patches):
    seen = []

    def network(batch):
        seen.append(batch.clone())
        return torch.zeros(len(batch), 3)

    PatchClassifier(network, "hollon2020", 64).predict_proba(patches[3:4])
    assert np.array_equal(seen[0][0].numpy(), three_channel(patches[3], "hollon2020"))


def test_a_patch_gets_the_same_answer_in_any_company(bundle, patches):
    classifier = load_classifier(bundle)
    together = classifier.predict_proba(patches)
    alone = np.concatenate([classifier.predict_proba(patch[None]) for patch in patches])
    np.testing.assert_array_equal(together, alone)
    assert classifier.predict_proba(patches[:0]).shape == (0, 3)


@pytest.mark.parametrize("wrong", [np.zeros((1, 2, 32, 32), np.uint16), np.zeros((1, 2, 64, 64), np.float32)])
def test_other_patches_are_refused(bundle, wrong):
    with pytest.raises(InputError, match="uint16 counts"):
        load_classifier(bundle).predict_proba(wrong)


def test_weights_of_another_backbone_are_refused(tmp_path):
    weights = create_classifier(CONFIG).state_dict()
    bundle = save_bundle(tmp_path / "b", {"classifier": ({**CONFIG, "backbone": "test_vit"}, weights)})
    with pytest.raises(InputError, match="fit"):
        load_classifier(bundle)
    with pytest.raises(InputError, match="resnet9000"):
        create_classifier({"backbone": "resnet9000"})
    for name in ("hf-hub:someone/network", "local-dir:/somewhere"):  # a bundle that is loaded asks no hub
        with pytest.raises(InputError, match="without a place before it"):
            create_classifier({"backbone": name})


def test_the_temperature_is_recovered_from_overconfident_logits():
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0, 1.5, (20000, 3))
    odds = np.exp(calibrated)
    labels = (rng.random((20000, 1)) > np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    # The Fisher information of 20,000 labels leaves about 1 % of error on the temperature; four of these are allowed.
    assert fit_temperature(3.0 * calibrated, labels) == pytest.approx(3.0, rel=0.04)


def test_the_temperature_stays_finite_when_all_is_right_or_all_is_noise():
    labels = np.arange(30) % 3
    assert 0.05 <= fit_temperature(20.0 * np.eye(3)[labels], labels) <= 1.0
    assert fit_temperature(np.random.default_rng(0).normal(0, 5, (300, 3)), np.arange(300) % 3) <= 20.0
