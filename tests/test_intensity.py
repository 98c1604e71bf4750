"""The three intensity spaces."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.intensity import counts_to_model, counts_to_unit, model_to_counts, model_to_unit, unit_to_counts, unit_to_model

EVERY_COUNT = np.arange(65536, dtype=np.uint16)


def test_every_count_comes_back_from_unit_and_from_model_space() -> None:
    np.testing.assert_array_equal(unit_to_counts(counts_to_unit(EVERY_COUNT)), EVERY_COUNT)
    np.testing.assert_array_equal(model_to_counts(counts_to_model(EVERY_COUNT)), EVERY_COUNT)
    np.testing.assert_array_equal(unit_to_counts(model_to_unit(unit_to_model(counts_to_unit(EVERY_COUNT)))), EVERY_COUNT)


@pytest.mark.parametrize(("counts", "unit", "model"), [(0, 0.0, -1.0), (32768, 0.5, 0.0), (65535, 1 - 2**-16, 1 - 2**-15)])
def test_ends_and_middle_of_the_scales(counts: int, unit: float, model: float) -> None:
    """Exactly: 16 bits fit into float32's 24."""
    value = np.array([counts], dtype=np.uint16)
    assert counts_to_unit(value) == unit
    assert counts_to_model(value) == model
    assert counts_to_unit(value).dtype == counts_to_model(value).dtype == np.float32


def test_values_beyond_the_scale_are_clipped_and_others_rounded_to_nearest() -> None:
    model = np.array([-3.0, -1.0, 7.0]), np.array([100.4, 100.6]) / 32768 - 1
    assert model_to_counts(model[0]).tolist() == [0, 0, 65535]
    assert model_to_counts(model[1]).tolist() == [100, 101]
    assert unit_to_counts(np.array([-0.1, 1.0])).tolist() == [0, 65535]
