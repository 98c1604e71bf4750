"""A training's log for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError


class Board:
    """Writes each line of a log as scalars into a folder that TensorBoard shows.

    Raises
    ------
    InputError
        When TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("no TensorBoard", "pip install 'srh-clinic[train]'") from error
        self.writer: Any = SummaryWriter(str(folder))

    def __call__(self, line: dict[str, Any]) -> None:
        scalars = {name: value for name, value in line.items() if name != "step" and isinstance(value, int | float)}
        scalars |= {f"validation/{name}": value for name, value in line.get("validation", {}).items()}
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()
