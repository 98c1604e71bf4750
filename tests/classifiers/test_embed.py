"""The features before the classifier's last layer."""

import numpy as np
import pytest
import torch

from srh_clinic.classifiers import PatchClassifier, create_classifier
from srh_clinic.errors import InputError

# Batches of eight: eleven patches need a padded one.
PATCHES = np.random.default_rng(0).integers(0, 40000, (11, 2, 64, 64)).astype(np.uint16)


@pytest.fixture(scope="module", params=["test_resnet", "resnet10t", "test_vit"])
def classifier(request):
    torch.manual_seed(0)
    options = {"img_size": 64} if request.param == "test_vit" else {}
    return PatchClassifier(create_classifier({"backbone": request.param, "options": options}).eval(), "opensrh", 64)


def test_the_last_layer_applied_to_the_embedding_gives_the_logits(classifier):
    embedding = classifier.embed(PATCHES)
    assert embedding.dtype == np.float64
    last = classifier.network.get_classifier()
    weight, bias = (one.detach().double().numpy() for one in (last.weight, last.bias))
    # The network's own last layer computes in float32, this one in float64.
    assert np.allclose(embedding @ weight.T + bias, classifier.logits(PATCHES), rtol=1e-5, atol=1e-5)
    assert np.ptp(embedding, axis=0).max() > 0  # or any constant would do


def test_a_patch_has_the_same_embedding_in_any_company(classifier):
    alone = np.concatenate([classifier.embed(patch[None]) for patch in PATCHES[:3]])
    assert np.array_equal(classifier.embed(PATCHES)[:3], alone)
    assert classifier.embed(PATCHES[:0]).shape == (0, alone.shape[1])


def test_what_is_no_patch_is_refused(classifier):
    with pytest.raises(InputError, match="uint16 counts"):
        classifier.embed(PATCHES.astype(np.float32))
