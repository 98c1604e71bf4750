"""Whatever a file holds, a reader gives a value or says in a sentence what is wrong, within two seconds and one GiB, and opens
nothing else. Here a few files of each kind are mutated; ``make fuzz FILES=200000`` does many."""

from __future__ import annotations

import pytest
from fuzz import SHARES, fuzz

EXAMPLES = {"bundle": 15}


@pytest.mark.parametrize("group", list(SHARES))
def test_a_mutated_file_is_read_or_refused_in_a_sentence(group, tmp_path):
    told = fuzz(group, EXAMPLES.get(group, 150), seed=20261128, keep=tmp_path)
    assert told["found"] == {}
    # mutations that are always refused, or never, would try nothing
    assert told["outcomes"]["value"] > 0
    assert told["outcomes"]["refused"] > 0
