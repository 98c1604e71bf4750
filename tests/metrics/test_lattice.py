"""Patterns of period 2 of a known amplitude."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.metrics import period_2_amplitudes
from srh_clinic.metrics.lattice import lattices


def test_each_pattern_is_heard_at_its_amplitude_and_no_other() -> None:
    y, x = np.mgrid[:64, :96]
    tissue = np.sin(2 * np.pi * 3 * y / 64) + np.sin(2 * np.pi * 5 * x / 96)
    image = np.stack([tissue, 2 * tissue + 7])
    for i, pattern in enumerate(lattices(64, 96)):
        heard = period_2_amplitudes(image + 0.01 * pattern)
        expected = [0.0, 0.0, 0.0]
        # A standard deviation of 1 and of 2; the pattern itself adds 5e-5 of it.
        expected[i] = (0.01 + 0.005) / 2
        assert heard == pytest.approx(expected, rel=1e-4, abs=1e-12)
        assert heard.largest == heard[i]


def test_patterns_change_sign_where_their_names_say() -> None:
    checkerboard, rows, columns = lattices(2, 2)
    assert checkerboard.tolist() == [[1, -1], [-1, 1]]
    assert rows.tolist() == [[1, 1], [-1, -1]]
    assert columns.tolist() == [[1, -1], [1, -1]]


def test_an_even_image_has_none() -> None:
    assert period_2_amplitudes(np.full((2, 8, 8), 0.3)) == (0, 0, 0)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="H and W even"):
        period_2_amplitudes(np.zeros((2, 7, 8)))
