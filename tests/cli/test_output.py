"""What is printed is whole, is text, and ends quietly when nobody reads on."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from calling import Run
from rich.console import Console
from test_options import COMMANDS

from srh_clinic import read_result
from srh_clinic.bundles import load_bundle
from srh_clinic.bundles.bundle import MODEL_CARD
from srh_clinic.cli.output import FRAMED, LEAST_WIDTH, folded
from srh_clinic.cli.panel import CLASS_STYLES, SIDE_BY_SIDE, _classes, _narrow_classes, result_panel
from srh_clinic.health import check_health

NUMBER = re.compile(r"\d+\.\d%")
EVERY_NUMBER = re.compile(r"(?<![\w.])\d[\d.,]*%?(?![\w])")


@pytest.mark.parametrize("width", [*range(FRAMED, 104, 3), 57, SIDE_BY_SIDE - 1, SIDE_BY_SIDE])
def test_probabilities_are_whole_in_every_terminal(width: int) -> None:
    sure: dict[str, float] = dict.fromkeys(CLASS_STYLES, 0.0) | {"nondiagnostic": 1.0}
    said = SimpleNamespace(diagnosis="nondiagnostic", probabilities=SimpleNamespace(**sure))
    result = SimpleNamespace(before=said, decision=None, doubts=("few-patches: 1",), **vars(said))
    console = Console(file=io.StringIO(), width=width - (6 if width >= SIDE_BY_SIDE else 4))
    console.print((_classes if width >= SIDE_BY_SIDE else _narrow_classes)(result))  # type: ignore[operator, arg-type]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert sorted(NUMBER.findall(shown)) == sorted(2 * ["100.0%", "0.0%", "0.0%"])
    assert "…" not in shown


def test_every_number_of_a_result_is_whole_in_every_terminal(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path
) -> None:
    run("diagnose", *call_of_case, "--restorer", "median", "--out", "out")
    record = read_result(tmp_path / "out" / "result.json")

    def shown(width: int) -> str:
        console = Console(file=io.StringIO(), width=width)
        console.print(result_panel("case.tif", record, None, width))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    assert_whole(shown, shown(400))


def assert_whole(shown: Callable[[int], str], everything: str, every: int = 1) -> None:
    """A terminal breaks the lines that are longer than it is wide; a piece of a number is no number of the whole."""
    whole = set(EVERY_NUMBER.findall(everything))
    assert whole
    for width in [*range(LEAST_WIDTH, 84, every), 100, 140, 200]:
        lines = [line[at : at + width] for line in shown(width).splitlines() for at in range(0, len(line), width)]
        assert set(EVERY_NUMBER.findall("\n".join(lines))) <= whole, width
        assert "…" not in "".join(lines), width


@pytest.mark.parametrize("command", [("bundle", "show", "phantom-demo"), ("doctor",)])
def test_every_number_of_a_card_and_of_doctor_is_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("srh_clinic.health.check_health", cache(check_health))

    def shown(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        lines = run(*command).out.splitlines()
        # What follows the card is told in lines, which a terminal gets folded; hashes and paths are longer than it is wide.
        return "\n".join("" if re.search(r"[0-9a-f]{20}|/", line) else folded(line, width) for line in lines)

    monkeypatch.setenv("COLUMNS", "400")
    assert_whole(shown, run(*command).out, every=3)


def test_lines_are_broken_between_words_for_a_terminal() -> None:
    line = "54.0 % were correct, a change of +21.0 [+10.5, +31.4] points; 0 of 1,234,567 are worse off."
    for width in (10, LEAST_WIDTH, 33, 80):
        lines = folded(line, width).splitlines()
        assert max(map(len, lines)) <= max(width, LEAST_WIDTH)
        assert " ".join(lines) == line


@pytest.mark.parametrize("width", [LEAST_WIDTH, 57])
def test_numbers_of_a_model_card_are_whole_in_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    bundle = load_bundle("phantom-demo")
    tables = "".join(line for line in (bundle.path / MODEL_CARD).read_text().splitlines(True) if line.startswith("| "))
    # Of networks, with commas; of reports, with a sign; and thresholds of the guards.
    numbers = {*re.findall(r" (\d{3},\d{3}|\d,\d{3},\d{3}) ", tables), *re.findall(r"\+\d\.\d{4}", tables)}
    numbers |= {*re.findall(r"^\| \d+% \| \d+% \| (\d\.\d{3}) ", tables, re.MULTILINE)}
    assert {len(number) for number in numbers} == {5, 7, 9}
    shown = run("bundle", "show", "phantom-demo").out
    assert {number for number in numbers if number not in shown} == set()


def test_what_a_file_says_moves_no_terminal(run: Run, tmp_path: Path) -> None:
    name = "\x1b[2J\x1b]0;evil\x07"
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"case,patient,truth\na,P1,{name}\n", encoding="utf-8")
    ran = run("validate", manifest, "--out", tmp_path / "out")
    assert ran.code == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ran.out + ran.err)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, whose pipes this is about")
def test_a_reader_that_goes_ends_it_quietly() -> None:
    code = (
        "from srh_clinic.cli.app import main; import sys; sys.argv = ['srh-clinic', 'bundle', 'show', 'phantom-demo']; main()"
    )
    call = 'set -o pipefail; "$0" -c "$1" | exec true'
    done = subprocess.run(["bash", "-c", call, sys.executable, code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_help_keeps_what_stands_in_square_brackets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert "pip install 'srh-clinic[pdf]'" in run("validate", "--help").out
    helps = [getattr(parameter, "help", None) or "" for command in COMMANDS.values() for parameter in command.params]
    assert not [text for text in helps if re.search(r"(?<!\\)\[[a-z]", text)], "rich takes it for markup"
