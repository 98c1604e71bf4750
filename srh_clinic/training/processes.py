"""Several processes that train one network, on one machine or many, started by ``accelerate launch`` or ``torchrun``.

Every process draws the whole batch, from the same numbers, and takes its share of it; the gradients are averaged. So what is
learned does not depend on how many processes there are, but for rounding: and for losses that look at a whole batch at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from srh_clinic.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes what all of them have done."""
        return self.rank == 0

    def share(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This process's share of a batch: of each tensor, by its first dimension.

        Raises
        ------
        InputError
            When the batch does not divide by the number of processes: their means would not be the mean of all.
        """
        if self.count == 1:
            return tensors
        size = len(tensors[0])
        if size % self.count:
            raise InputError(f"a batch of {size} images for {self.count} processes", "a multiple of the number of processes")
        return tuple(tensor[self.rank :: self.count] for tensor in tensors)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        reduced: Tensor = reduce(value, "mean")
        return reduced

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag if self.count == 1 else bool(self.mean(torch.tensor([float(flag)])) > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


@lru_cache(maxsize=1)
def processes() -> Processes:
    """The processes that were started together; one alone where nothing says otherwise.

    Raises
    ------
    InputError
        When there are several and ``accelerate`` is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise InputError("several processes without accelerate", "pip install 'srh-clinic[train]'") from error
    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)
