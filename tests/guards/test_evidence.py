import numpy as np
import pytest
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.guards import Residual, residual_evidence

UM_PER_PX = 0.47
PLACE, RADIUS = (90.0, 140.0), 6.5


def tissue(size=192):
    """Even tissue with slow changes of brightness, unit intensity ``(2, size, size)``."""
    field = ndi.gaussian_filter(np.random.default_rng(0).standard_normal((size, size)), 20)
    return np.stack([0.20 + 0.5 * field, 0.25 + 0.5 * field]).astype(np.float32)


def with_nucleus(image, contrast=0.4):
    """Protein without lipid: CH2 darker by ``contrast``, CH3 a little brighter, in a soft disc at ``PLACE``."""
    y, x = np.indices(image.shape[1:])
    disc = 1 / (1 + np.exp(np.hypot(y - PLACE[0], x - PLACE[1]) - RADIUS))
    return image * np.stack([1 - contrast * disc, 1 + contrast / 4 * disc]).astype(np.float32)


def noisy(image, seed=1, sigma=0.03, blur=(0, 0, 0)):
    noise = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal(image.shape), blur, mode="wrap")
    return (image + sigma / noise.std() * noise).astype(np.float32)


def evidence_of(scanned, restored):
    return residual_evidence(Residual(scanned, restored, UM_PER_PX))


def test_a_planted_nucleus_is_found_where_it_was_planted():
    clean = tissue()
    evidence = evidence_of(noisy(clean), with_nucleus(clean))
    first = evidence.places(5.0)[0]
    assert first.kind == "added"
    assert np.hypot(first.y - PLACE[0], first.x - PLACE[1]) < 2
    assert first.radius == pytest.approx(RADIUS, rel=0.4)
    assert first.strength == evidence.strength > 10


def test_the_ring_around_a_planted_nucleus_is_no_second_finding():
    clean = tissue()
    evidence = evidence_of(noisy(clean), with_nucleus(clean, contrast=0.6))
    assert evidence.removed.max() > 5  # the filter does answer there
    assert [place.kind for place in evidence.places(5.0)] == ["added"]


def test_a_faint_nucleus_is_heard_where_the_channels_changes_cancel():
    """What RSCD takes away differs in sign between the channels; noise of one sign in both stays in what it restores."""
    clean, scanned = tissue(), tissue()
    noise = noisy(clean) - clean
    scanned += np.stack([noise[0], -noise[0]]) + 0.2 * noise[1]
    nucleus, nothing = evidence_of(scanned, with_nucleus(clean, 0.12)), evidence_of(scanned, clean)
    assert nucleus.strength < 1.25 * nothing.strength  # each channel alone, or their difference, can hardly tell
    assert nucleus.nucleus > 1.9 * nothing.nucleus
    (place,) = nucleus.places(0.8 * nucleus.nucleus, together=True)
    assert place.kind == "added"
    assert place.strength == nucleus.nucleus
    assert np.hypot(place.y - PLACE[0], place.x - PLACE[1]) < 2


def test_channels_whose_changes_cancel_wholly_make_no_finding_of_every_rest():
    clean = tissue()
    noise = noisy(clean) - clean
    cancelling = (clean + np.stack([noise[0], -noise[0]])).astype(np.float32)
    assert evidence_of(cancelling, clean).total.max() < 2


def test_a_nucleus_that_was_taken_away_is_found_as_such():
    clean = tissue()
    evidence = evidence_of(noisy(with_nucleus(clean)), clean)
    first = evidence.places(5.0)[0]
    assert first.kind == "removed"
    assert np.hypot(first.y - PLACE[0], first.x - PLACE[1]) < 2


@pytest.mark.parametrize("blur", [(0, 0, 0), (0, 0, 1.5), (0, 1, 1)], ids=["white", "lag along a row", "smooth"])
def test_what_a_faithful_restoration_takes_away_is_no_evidence_whatever_its_colour(blur):
    clean = with_nucleus(tissue())
    for seed in range(4):
        evidence = evidence_of(noisy(clean, seed, blur=blur), clean)
        # The largest of some thousand independent standard normal answers is about 3.7, of 4 x 2 images rarely above 5.
        assert 2 < evidence.strength < 5.5


def test_answers_are_in_their_own_standard_deviations():
    answers = ndi.gaussian_filter(np.random.default_rng(0).standard_normal((1, 256, 256)), (0, 2, 2)).astype(np.float32)
    for amplitude in (1.0, 30.0):
        scaled = Residual(tissue(), tissue(), UM_PER_PX).in_spreads(amplitude * answers / answers.std())
        # Each square of 32 px has some hundred independent answers: its median is known to a few percent.
        assert scaled.std() == pytest.approx(1, abs=0.06)


def test_equal_images_hold_no_evidence_and_a_trifle_none_that_counts():
    clean = tissue()
    assert evidence_of(clean, clean).strength == 0
    assert evidence_of(clean, with_nucleus(clean, 0.02)).strength < 2


def test_both_images_brighter_change_nothing():
    clean, planted = tissue(), with_nucleus(tissue())
    dim = evidence_of(noisy(clean), planted)
    bright = evidence_of(2 * noisy(clean), 2 * planted)
    # Not exactly: what counts as dark is absolute.
    assert bright.strength == pytest.approx(dim.strength, rel=0.1)


@pytest.mark.parametrize("shape", [(2, 100, 75), (2, 33, 256), (2, 20, 20)])
def test_images_need_not_be_tiles(shape):
    image = np.random.default_rng(0).uniform(0.1, 0.3, shape).astype(np.float32)
    evidence = evidence_of(image, ndi.gaussian_filter(image, (0, 1, 1)))
    assert evidence.added.shape[1:] == evidence.removed.shape[1:] == shape[1:]
    assert np.isfinite(evidence.added).all()


def test_images_of_two_fields_are_refused():
    with pytest.raises(InputError, match="one shape"):
        evidence_of(tissue(64), tissue(65))
    with pytest.raises(InputError, match="um per px"):
        residual_evidence(Residual(tissue(64), tissue(64), 2.0))
