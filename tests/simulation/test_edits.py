import numpy as np
import pytest

from srh_clinic.intensity import counts_to_unit
from srh_clinic.metrics import detect_nuclei
from srh_clinic.simulation import simulate_patch
from srh_clinic.simulation.edits import erase_nucleus, plant_nucleus

UM_PER_PX = 0.47
NONE = np.empty((0, 3))


def even(size=96):
    return np.full((2, size, size), 20_000, dtype=np.uint16)


def test_a_planted_nucleus_has_the_contrast_asked_for_and_changes_nothing_else():
    edit = plant_nucleus(np.random.default_rng(0), even(), NONE, 0.4, UM_PER_PX)
    ch2, ch3 = edit.counts[:, round(edit.y), round(edit.x)]
    assert (ch2, ch3) == (pytest.approx(20_000 * 0.6, rel=0.01), pytest.approx(20_000 * 1.1, rel=0.01))
    rows, columns = np.indices((96, 96))
    far = np.hypot(rows - edit.y, columns - edit.x) > edit.radius + 12
    assert (edit.counts[:, far] == 20_000).all()
    assert [round(v) for v in detect_nuclei(counts_to_unit(edit.counts), UM_PER_PX)[0, :2]] == [round(edit.y), round(edit.x)]


def test_a_nucleus_is_planted_clear_of_the_others_or_not_at_all():
    rng, others = np.random.default_rng(1), np.array([[48.0, 30.0, 8.0]])
    for _ in range(20):
        edit = plant_nucleus(rng, even(), others, 0.4, UM_PER_PX)
        assert np.hypot(edit.y - 48, edit.x - 30) > 8 + edit.radius + 12 - 1e-9
    assert plant_nucleus(rng, even(), np.array([[48.0, 48.0, 90.0]]), 0.4, UM_PER_PX) is None


def test_an_erased_nucleus_is_not_detected_any_more():
    phantom = simulate_patch("glioma", 0.1, 8_000_010, 192)
    before = detect_nuclei(counts_to_unit(phantom.clean), UM_PER_PX)
    inner = before[(np.minimum(before[:, 0], before[:, 1]) > 30) & (np.maximum(before[:, 0], before[:, 1]) < 160)][:1]
    assert len(inner) == 1
    edit = erase_nucleus(np.random.default_rng(0), phantom.clean, inner, 1.0)
    assert (edit.y, edit.x) == tuple(inner[0, :2])
    after = detect_nuclei(counts_to_unit(edit.counts), UM_PER_PX)
    assert np.hypot(after[:, 0] - edit.y, after[:, 1] - edit.x).min() > inner[0, 2] / 2
    assert phantom.clean is not edit.counts


def test_nuclei_at_the_border_are_left_alone():
    assert erase_nucleus(np.random.default_rng(0), even(), np.array([[5.0, 50.0, 6.0]]), 1.0) is None
    assert erase_nucleus(np.random.default_rng(0), even(), NONE, 1.0) is None
