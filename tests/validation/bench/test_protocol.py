"""The protocol: one file, whose phantoms nobody trained on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from srh_clinic.errors import InputError
from srh_clinic.simulation import PROTOCOL_SEED, VALIDATION_SEED, pools
from srh_clinic.validation.bench.protocol import Protocol, load_protocol

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return load_protocol()


def changed(path: Path, tmp_path: Path, **entries: Any) -> Path:
    copy = tmp_path / "changed.yaml"
    copy.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **entries}))
    return copy


def test_the_documents_and_the_package_have_one_protocol(protocol: Protocol) -> None:
    assert (ROOT / "docs" / "protocol.yaml").resolve() == ROOT / "validation" / "bench" / "protocol.yaml"
    assert load_protocol(ROOT / "docs" / "protocol.yaml") == protocol


def test_test_phantoms_are_in_no_training(protocol: Protocol) -> None:
    assert protocol.seed(0) == PROTOCOL_SEED > protocol.training.validation_first_seed == VALIDATION_SEED
    assert protocol.training.unreadable_severity == pools.UNREADABLE_SEVERITY


def test_severities_are_balanced_within_every_kind(protocol: Protocol) -> None:
    indices = range(protocol.phantoms.count)
    assert Counter(protocol.bin(i) for i in indices) == {"mild": 120, "moderate": 120, "severe": 120}
    by_kind = Counter((protocol.kind(i), protocol.bin(i)) for i in indices)
    assert {by_kind[kind, "mild"] for kind, _ in by_kind} <= {3, 6, 9, 12, 15, 18, 21, 24, 27, 30}
    assert all(by_kind[kind, "mild"] == count for (kind, _), count in by_kind.items())


def test_strengths_fill_their_bin(protocol: Protocol) -> None:
    for bin_, (low, high) in protocol.severity:
        strengths = [protocol.strength(i) for i in range(protocol.phantoms.count) if protocol.bin(i) == bin_]
        assert low <= min(strengths) < max(strengths) < high
        # The mean of 120 uniform draws has a standard error of 2.6 % of the bin's width.
        assert np.mean(strengths) == pytest.approx((low + high) / 2, abs=0.1 * (high - low))


def test_a_phantom_is_what_the_protocol_says_each_time(protocol: Protocol) -> None:
    phantom, again = protocol.phantom(5), protocol.phantom(5)
    assert np.array_equal(phantom.counts, again.counts)
    assert (phantom.kind, phantom.diagnosis) == ("white_matter", protocol.truth_of(5))
    assert phantom.counts.shape == (2, 256, 256)
    sources = phantom.sources
    leading = max(sources.scattering, sources.absorption, sources.autofluorescence, sources.instrument)
    assert leading == pytest.approx(protocol.strength(5))
    with pytest.raises(IndexError, match="found test phantom 540"):
        protocol.phantom(540)


def test_the_tables_go_on_where_the_phantoms_end_and_slow_methods_see_every_severity(protocol: Protocol) -> None:
    assert protocol.seed(539) == protocol.phantoms.first_seed + 539 < protocol.tables.reference.first_seed
    assert len(set(protocol.slow_indices)) == protocol.tables.slow_count
    assert Counter(protocol.bin(i) for i in protocol.slow_indices) == {"mild": 12, "moderate": 12, "severe": 8}
    assert len({protocol.kind(i) for i in protocol.slow_indices}) >= 8


def test_the_high_quality_set_is_clean_and_of_the_same_kinds(protocol: Protocol) -> None:
    first = protocol.reference(0)
    assert first.dtype == np.uint16
    assert first.shape == (2, 256, 256)
    assert not np.array_equal(first, protocol.phantom(0).clean)


def test_changing_the_file_or_the_phantoms_changes_their_names(small_protocol: Path, tmp_path: Path) -> None:
    small = load_protocol(small_protocol)
    entries = yaml.safe_load(small_protocol.read_text())
    moved = load_protocol(changed(small_protocol, tmp_path, phantoms={**entries["phantoms"], "first_seed": 9_000_001}))
    assert moved.sha256 != small.sha256
    assert moved.phantoms_sha256 != small.phantoms_sha256
    assert load_protocol(small_protocol).phantoms_sha256 == small.phantoms_sha256


def test_what_does_not_change_an_image_does_not_change_its_name(small_protocol: Path, tmp_path: Path) -> None:
    small = load_protocol(small_protocol)
    entries = yaml.safe_load(small_protocol.read_text())
    judged = load_protocol(changed(small_protocol, tmp_path, guards={**entries["guards"], "overlong_steps": 100}))
    assert judged.sha256 != small.sha256
    assert judged.images_sha256 == small.images_sha256
    severer = load_protocol(changed(small_protocol, tmp_path, severity={**entries["severity"], "severe": [0.7, 1.0]}))
    assert severer.images_sha256 != small.images_sha256


def test_a_section_said_twice_is_refused(small_protocol: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(small_protocol.read_text() + "\nversion: 1\n")
    with pytest.raises(InputError, match=r"twice\.yaml: found a file that is not readable YAML \(version said twice"):
        load_protocol(path)


def test_a_wrong_entry_is_told(small_protocol: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"changed\.yaml: found a protocol with a wrong entry \(budget: Extra"):
        load_protocol(changed(small_protocol, tmp_path, budget=1))
    truth = {"tumor": ["glioma", "blood"], "normal": ["white_matter"], "nondiagnostic": []}
    with pytest.raises(InputError, match="the simulation sees blood otherwise"):
        load_protocol(changed(small_protocol, tmp_path, truth=truth))


@pytest.mark.parametrize("content", ["- 1", "{", "\x00", "?", "1: 2"])
def test_what_is_no_protocol_is_told(content: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"p\.yaml: found .*; needed .*\.$"):
        load_protocol(path)
    with pytest.raises(InputError, match="No such file"):
        load_protocol(tmp_path / "absent.yaml")
