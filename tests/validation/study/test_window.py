"""The window in which a task's images are shown."""

from __future__ import annotations

import numpy as np

from srh_clinic.simulation import simulate_patch
from srh_clinic.validation.study.window import planes_of, window_of


def test_the_window_is_the_scans_alone_and_the_planes_show_what_the_colours_would() -> None:
    phantom = simulate_patch("glioma", 0.4, 1, 96)
    window = window_of(phantom.counts)
    planes = planes_of(phantom.clean, window)
    assert planes.dtype == np.uint8
    counts = window.low + planes.astype(float) * (window.high - window.low) / 255
    inside = (phantom.clean > window.low) & (phantom.clean < window.high)
    # Half a step of 256, and half a count of what was rounded.
    assert np.abs(counts - phantom.clean)[inside].max() <= (window.high - window.low) / 510 + 0.5
    assert inside.mean() > 0.9
    assert window.low < min(window.green[0], window.blue[0])
    assert window.high > max(window.green[1], window.blue[1])
    assert window == window_of(phantom.counts.copy())
