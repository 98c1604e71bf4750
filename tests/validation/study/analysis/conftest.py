"""A study that simulated raters answered, for the tests of its analysis."""

from __future__ import annotations

import pytest
from analysed import TRUTH
from simulated_study import simulated_unblinded

from srh_clinic.validation.study.analysis.page import analyse
from srh_clinic.validation.study.unblinding import Unblinded


@pytest.fixture(scope="session")
def study() -> Unblinded:
    return simulated_unblinded(TRUTH, seed=1)


@pytest.fixture(scope="session")
def sections(study):
    return {section.name: section for section in analyse(study)}


@pytest.fixture(scope="session")
def small() -> Unblinded:
    return simulated_unblinded(TRUTH, images=24, repeats=3, sentinels=2, seed=1)
