"""The protocol's run: which parts, where they go, what a user can get wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from srh_clinic.bundles import Bundle
from srh_clinic.errors import InputError
from srh_clinic.validation import PARTS, BenchmarkOptions, run_benchmark
from srh_clinic.validation.benchmarks import suite
from srh_clinic.validation.reporting.report import Report


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that would have run."""
    parts: list[str] = []

    def run(part: str, *_: Any) -> Report:
        parts.append(part)
        return Report(part, part, "", (), {})

    monkeypatch.setattr(suite, "_run", run)
    return parts


def test_parts_run_in_the_protocols_order_and_are_written(asked: list[str], bundle: Bundle, tmp_path: Path) -> None:
    reports = run_benchmark("protocol", tmp_path, only=["classifier", "restoration"], bundle=bundle.path)
    assert asked == [report.name for report in reports] == ["restoration", "classifier"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{part}.{kind}" for part in ("classifier", "restoration") for kind in ("json", "md")
    ]


def test_real_patches_are_left_out_only_where_nobody_asked_for_them(asked: list[str], bundle: Bundle, tmp_path: Path) -> None:
    run_benchmark("protocol", tmp_path, options=BenchmarkOptions(real_data=tmp_path / "absent"), bundle=bundle.path)
    assert asked == [part for part in PARTS["protocol"] if part != "real"]
    (tmp_path / "real" / suite.PATCHES).mkdir(parents=True)
    asked.clear()
    run_benchmark("protocol", tmp_path, options=BenchmarkOptions(real_data=tmp_path / "real"), bundle=bundle.path)
    assert asked == list(PARTS["protocol"])


def test_real_patches_that_are_asked_for_and_not_there_are_told(bundle: Bundle, tmp_path: Path, small_protocol: Path) -> None:
    absent = BenchmarkOptions(real_data=tmp_path / "absent")
    with pytest.raises(InputError, match="found no PNG image"):
        run_benchmark("protocol", tmp_path, only=["real"], options=absent, bundle=bundle.path, protocol=small_protocol)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only": ["speed"]}, "found the parts speed; needed one or more of restoration"),
        ({"only": []}, "found the parts none"),
        ({"options": BenchmarkOptions(limit=0)}, "found a limit of 0"),
        ({"options": BenchmarkOptions(limit_slow=-1)}, "found a limit_slow of -1"),
        ({"options": BenchmarkOptions(strides=[4, 0])}, "found a stride of 0"),
        ({"bundle": "no-such-bundle"}, "found no bundle"),
        ({"protocol": "no-such-file.yaml"}, "no-such-file.yaml: found a file that is not readable YAML"),
    ],
)
def test_a_wrong_call_is_told(arguments: dict[str, Any], message: str, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_benchmark("protocol", tmp_path, **{"bundle": bundle.path, **arguments})


def test_naming_the_functions_loads_no_networks() -> None:
    code = "import sys, srh_clinic.validation as v; assert 'run_speed' in v.__all__; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
