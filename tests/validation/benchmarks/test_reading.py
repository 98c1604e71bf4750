"""The reading benchmark reads the same regions by us and, where it is installed, by wsidicom."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from srh_clinic.errors import InputError
from srh_clinic.validation.benchmarks.reading import run_reading


def test_regions_are_read_cold_and_warm():
    found = run_reading(edge=600, regions=2)
    assert list(found) == (["srh-clinic", "wsidicom"] if find_spec("wsidicom") else ["srh-clinic"])
    assert all(min(one.open_s, one.cold_s, one.warm_s) >= 0 for one in found.values())


def test_a_slide_without_room_for_a_region_is_refused():
    with pytest.raises(InputError, match="larger than 256 pixels"):
        run_reading(edge=200, regions=1)
