"""One table of methods."""

from __future__ import annotations

from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.methods import (
    FILTERS,
    FIXED_STEPS,
    METHODS,
    OF_TABLES,
    WHOLE,
    chosen_methods,
    protocol_methods,
)


def test_the_protocols_methods_are_all_there(bench: Bench) -> None:
    names = [method.name for method in protocol_methods(bench.protocol, strides=[8])]
    assert names[0] == f"rscd_{RSCDSettings().sampler}"
    assert set(names) == {
        "rscd_direct",
        "rscd_ddim",
        "rscd_mean",
        "rscd",
        "rscd_ddim_stride_8",
        "rscd_fixed_10",
        "rscd_fixed_50",
        "input",
        "median",
        "median_3",
        "gaussian_1",
        "nlm",
    }
    fixed = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd_fixed_50")
    assert RSCDSettings(**fixed.settings) == RSCDSettings(fixed_steps=50)


def test_every_method_has_one_name() -> None:
    assert [method.name for method in METHODS.values()] == list(METHODS)
    assert all(name.isidentifier() for name in METHODS)
    same = [(method.restorer, sorted(method.settings.items()), method.bundle) for method in METHODS.values()]
    assert all(same.count(one) == 1 for one in same)
    assert {*FILTERS.values(), *FIXED_STEPS, WHOLE} <= set(METHODS)
    assert [method.name for method in chosen_methods(None)] == list(OF_TABLES)
    assert [method.name for method in chosen_methods(("median_3",))] == ["median_3"]
