"""The error that a user can mend, and the exit codes of the command line."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class ExitCode(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    DEFECT = 1
    """A defect of ours: an exception that is not an :class:`InputError`."""
    INPUT = 2
    """The call or its input is wrong; one sentence on stderr says how."""
    FLAGGED = 3
    """Done, but the result carries flags (only with ``--strict``)."""
    INCOMPLETE = 4
    """Done, but without what could not be used (not with ``--allow-missing``)."""


def on_one_line(error: Exception) -> str:
    """What a library says of a fault, without its line breaks: part of one of our sentences."""
    return " ".join(str(error).split())


class InputError(ValueError):
    """The call or its input is wrong and its user can mend it.

    The message is one sentence that says what was found and what is needed; the file, when there is one, comes first.

    Parameters
    ----------
    found
        What was found, for example ``"an RGB image"``.
    needed
        What is needed instead, for example ``"two 16-bit monochrome optical paths"``.
    path
        The file or folder that the sentence is about.
    """

    def __init__(self, found: str, needed: str, path: str | Path | None = None) -> None:
        self.found = found
        self.needed = needed
        self.path = None if path is None else Path(path)
        where = "" if path is None else f"{path}: "
        super().__init__(f"{where}found {found}; needed {needed}.")


class BusyError(InputError):
    """Another run works there now; nothing is wrong with the call, and waiting helps."""


def first_fault(error: ValidationError) -> str:
    """What pydantic found wrong first, and where: ``"tile.size: Input should be a valid integer"``.

    A sentence of ours inside of a validator's error gives what was found, for what holds it says itself what is needed.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ").removeprefix("found ").partition("; needed")[0]
    return f"{where}: {said}" if where else said


def refused_setting(error: ValidationError, of: str, known: Iterable[str], path: str | Path | None = None) -> InputError:
    """The setting ``of`` something that pydantic refused first, as found and needed; ``known`` are the names there are.

    A name that is none of them is answered with all that are.
    """
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        names = ", ".join(known) or "none at all"
        return InputError(f"the setting {setting!r} for {of}", f"one of its settings: {names}", path)
    if first["type"] == "missing":
        return InputError(f"no setting {setting!r} for {of}", "one", path)
    if not setting:  # settings that do not go together: the validator's own sentence
        found, _, needed = str(first["msg"]).removeprefix("Value error, ").removeprefix("found ").partition("; needed ")
        return InputError(f"{found} for {of}", needed, path)
    needed = first.get("ctx", {}).get("expected") or str(first["msg"]).removeprefix("Input should be ")
    return InputError(f"{setting} = {first['input']!r} for {of}", str(needed), path)
