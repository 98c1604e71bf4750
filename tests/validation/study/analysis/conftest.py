"""A study that simulated raters answered, for the tests of its analysis."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysed import TRUTH
from simulated_study import simulated_unblinded

from srh_clinic.validation.study.analysis.page import analyse, write_analysis
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


@pytest.fixture(scope="session")
def written(small, tmp_path_factory) -> tuple[Path, ...]:
    """The files of the small study's analysis, in a folder where an earlier one and its reader had left something."""
    folder = tmp_path_factory.mktemp("analysis")
    for name in ("study_old-strata.csv", "notes.txt"):
        (folder / name).write_text("of another study")
    return tuple(write_analysis(small, folder))
