import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.fft import dctn, idctn

from srh_clinic.errors import InputError
from srh_clinic.guards import (
    GUARDS,
    Residual,
    brightness_drift,
    examine,
    grid_pattern,
    one_channel_change,
    residual_structure,
    seed_agreement,
    steps_left,
)
from srh_clinic.guards.residual import gaussian_transfer

UM_PER_PX = 0.47
SIZE = 192


def disc(y, x, radius=6.5):
    rows, columns = np.indices((SIZE, SIZE))
    return (1 / (1 + np.exp(np.hypot(rows - y, columns - x) - radius))).astype(np.float32)


def tissue(seed=0):
    """Texture of two pixels, unit intensity ``(2, SIZE, SIZE)``."""
    texture = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), 2)
    return (0.25 + 0.3 * np.stack([texture, texture])).astype(np.float32)


def noise(seed=1, sigma=0.03):
    return (sigma * np.random.default_rng(seed).standard_normal((2, SIZE, SIZE))).astype(np.float32)


def residual(scanned, restored):
    return Residual(scanned, restored, UM_PER_PX)


def test_brightness_that_moved_is_told_in_its_own_size():
    clean = tissue()
    drifted = clean.copy()
    drifted[1, 64:128, 64:128] *= 1.2  # one of the squares of 64 px
    assert brightness_drift(residual(clean, drifted)) == pytest.approx(0.2 * 0.25 / 0.27, rel=0.03)
    # The mean of 64 x 64 px of noise of 0.03 is known to 0.0005, of nine squares and two channels to 0.0015.
    assert brightness_drift(residual(clean + noise(), clean)) < 0.0015 / 0.25


def test_noise_without_structure_leaves_none_and_a_blur_leaves_much():
    clean = tissue()
    # 192 x 192 px, of which the filter makes about one in ten independent: a correlation of 1 / sqrt(3,700) by chance.
    assert residual_structure(residual(clean + noise(), clean)) < 0.05
    assert residual_structure(residual(clean, ndi.gaussian_filter(clean, (0, 2, 2)))) > 0.5
    assert residual_structure(residual(clean, clean)) == 0


def test_an_even_image_has_no_structure_whatever_rounding_leaves_of_it():
    even = np.full((2, SIZE, SIZE), 0.3, np.float32)
    assert residual_structure(residual(even * np.float32(1.1), even)) == 0
    assert residual_structure(residual(even + noise(), even)) == 0
    assert residual_structure(residual(even, even + noise())) > 0.9


@pytest.mark.parametrize(("shape", "sigma"), [((64, 96), 1.06), ((64, 96), 4.25), ((40, 33), 8.0), ((8, 8), 4.0)])
def test_a_gaussian_by_cosine_transform_is_that_of_scipy(shape, sigma):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    ours = idctn(dctn(image, norm="ortho") * gaussian_transfer(shape, sigma), norm="ortho")
    np.testing.assert_allclose(ours, ndi.gaussian_filter(image, sigma, mode="reflect"), atol=2e-6)


def test_noise_that_follows_the_signal_is_no_structure():
    clean = tissue()
    assert residual_structure(residual(clean + noise() * clean / 0.25, clean)) < 0.05


def test_a_disc_in_one_channel_alone_is_told_from_one_in_both():
    clean, scanned = tissue(), tissue() + noise()
    alone, both = clean.copy(), clean.copy()
    alone[1] *= 1 - 0.4 * disc(90, 90)
    both *= 1 - 0.4 * disc(90, 90)
    assert one_channel_change(residual(scanned, alone)) > 10 > 6 > one_channel_change(residual(scanned, both))


def test_steps_left_are_counted_from_the_index():
    asked = steps_left(np.zeros((3, 2, 8, 8), np.float32), lambda images: np.array([-1.0, 4.5, float(images.min()) - 8]))
    assert asked.tolist() == [0.0, 5.5, 0.0]  # an index counts from 0; what lies below -1 is clean too


def with_nuclei(*places):
    image = tissue() * 0 + 0.25
    for place in places:
        image = image * np.stack([1 - 0.4 * disc(*place), 1 + 0.1 * disc(*place)])
    return image.astype(np.float32)


def test_a_nucleus_that_some_seeds_show_persists_in_as_many():
    always, sometimes = (60, 60), (120, 130)
    agreement = seed_agreement(np.stack([with_nuclei(always), with_nuclei(always, sometimes)] * 2), UM_PER_PX)
    found = {
        tuple(round(float(v) / 10) * 10 for v in (y, x)): share
        for (y, x, _), share in zip(agreement.nuclei, agreement.persistence, strict=True)
    }
    assert found == {always: 1.0, sometimes: 0.5}
    assert agreement.deviation[0, 60, 60] == 0 < agreement.deviation[0, 120, 130]


def test_images_without_nuclei_have_none_and_one_image_agrees_with_nothing():
    assert len(seed_agreement(np.stack([with_nuclei()] * 2), UM_PER_PX).persistence) == 0
    with pytest.raises(InputError, match="two or more"):
        seed_agreement(with_nuclei()[None], UM_PER_PX)


def test_images_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        residual(tissue(), tissue()[:, :-1])


def test_an_examination_asks_every_guard_what_it_says_alone():
    scanned, restored = tissue() + noise(), with_nuclei((90, 90))
    found = examine(scanned, restored, UM_PER_PX, steps_left=3.0)
    evidence = found.evidence
    either = np.maximum(evidence.added, evidence.removed)
    assert tuple(found.scores) == GUARDS
    assert found.scores == {
        "nucleus": pytest.approx((either + evidence.apart + evidence.total / 2).max()),
        "added": float(evidence.added.max()),
        "removed": float(evidence.removed.max()),
        "one_channel": one_channel_change(residual(scanned, restored)),
        "brightness": brightness_drift(residual(scanned, restored)),
        "structure": residual_structure(residual(scanned, restored)),
        "steps_left": 3.0,
        "lattice": grid_pattern(residual(scanned, restored)).strength,
    }
    assert "steps_left" not in examine(scanned, restored, UM_PER_PX).scores
