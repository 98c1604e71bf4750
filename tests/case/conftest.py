"""The result that several files of tests look at."""

from __future__ import annotations

import pytest
from flat_case import noisy, pipeline

from srh_clinic.case.result import CaseResult


@pytest.fixture(scope="session")
def result() -> CaseResult:
    return pipeline()(noisy(3_000))
