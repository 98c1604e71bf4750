"""A page in a headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium_pipe import Browser, Chromium


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Browser]:
    opened = Browser(chromium)
    yield opened
    opened.close()
