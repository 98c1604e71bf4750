"""Bad files of the past, each a dated folder: a valid file of ``fuzz_seeds``, what was done to it, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fuzz_mutations import changed_element
from fuzz_seeds import GROUPS, Seed, seeds

from srh_clinic.errors import InputError

CASES = sorted(Path(__file__).with_name("cases").iterdir())


@pytest.fixture(scope="module")
def valid() -> dict[str, Seed]:
    return {seed.name: seed for group in GROUPS for seed in seeds(group)}


def edited(content: bytes, edits: list[dict[str, Any]]) -> bytes:
    """A file after the edits of a case."""
    for edit in edits:
        match edit:
            case {"keep": count}:
                content = content[:count]
            case {"replace": old, "by": new}:
                assert old.encode("latin-1") in content
                content = content.replace(old.encode("latin-1"), new.encode("latin-1"), 1)
            case {"element": tag, "value": value}:
                content = changed_element(content, tag, value.encode("latin-1"))
            case {"set": path, "to": value}:
                tree = holder = json.loads(content)
                for key in path[:-1]:
                    holder = holder[key]
                holder[path[-1]] = value
                content = json.dumps(tree).encode()
            case {"nested": depth}:
                content = b"[" * depth
            case {"write": text}:
                content = text.encode("latin-1")
            case _:
                raise AssertionError(edit)
    return content


def sentence(seed: Seed, case: dict[str, Any], folder: Path) -> str:
    """What is said of a case, without its path."""
    for name, content in seed.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(edited(content, case["edits"]) if name == seed.mutated else content)
    if seed.prepare is not None:
        seed.prepare(folder)
    with pytest.raises(InputError) as error:
        seed.open(folder)
    return f"found {error.value.found}; needed {error.value.needed}.".replace(str(folder), "")


def test_there_are_at_least_forty():
    assert len(CASES) >= 40


@pytest.mark.parametrize("place", CASES, ids=lambda place: place.name)
def test_a_bad_file_of_the_past_earns_its_sentence(place, valid, tmp_path):
    case = json.loads((place / "case.json").read_text(encoding="utf-8"))
    assert case["said"] in sentence(valid[case["valid"]], case, tmp_path)
