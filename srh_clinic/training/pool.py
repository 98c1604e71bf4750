"""Training images: folders of memory-mapped ``pool-*.npy`` files with tiles in counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE, counts_to_model
from srh_clinic.training.loop import ImageSettings

if TYPE_CHECKING:
    from srh_clinic.training.slide_pool import SlidePool


class PoolSettings(ImageSettings):
    """What the configurations of trainings on clean tiles share."""

    holdout: int = Field(default=32, gt=0)
    """So many tiles at the end of the pool are kept for validation."""
    phantoms: int = Field(default=4000, gt=0)
    """Tiles simulated when the data are ``phantom``."""


class DegradedPoolSettings(PoolSettings):
    """What the configurations of trainings on degraded tiles share."""

    degraded_phantoms: int = Field(default=1500, gt=0)
    """Degraded tiles simulated when the data are ``phantom``."""


class TilePool:
    """Tiles in counts, read from ``pool-*.npy`` files of uint16 ``(M, 2, S, S)``.

    On a CPU the files stay memory-mapped. On another device the tiles are copied there once, because cutting small crops on
    the host would starve it.

    Parameters
    ----------
    folder
        Holds the files; they are taken in the order of their names.
    device
        Where crops are made.
    holdout
        So many tiles at the end of the pool are kept from training, for validation.

    Raises
    ------
    InputError
        When there is no such file, a file has another shape or dtype, or nothing is left to train on.
    """

    def __init__(self, folder: Path, device: torch.device, holdout: int) -> None:
        paths = sorted(folder.glob("pool-*.npy"))
        if not paths:
            raise InputError("no pool-*.npy file", "a folder of uint16 tile pools (M, 2, S, S)", folder)
        arrays = [np.load(path, mmap_mode="r") for path in paths]
        for path, array in zip(paths, arrays, strict=True):
            square = array.ndim == 4 and array.shape[1] == 2 and array.shape[2] == array.shape[3] == arrays[0].shape[3]
            if array.dtype != np.uint16 or not square:
                raise InputError(f"{array.dtype} of shape {array.shape}", "uint16 tiles (M, 2, S, S) of one size", path)
        self.size = int(arrays[0].shape[3])
        self.device = device
        self._starts = np.cumsum([0, *(len(array) for array in arrays)])
        self._arrays = arrays
        self._resident: Tensor | None = None
        if device.type != "cpu":
            # torch knows little of uint16: keep the bits as int16 and mend the sign in crops.
            self._resident = torch.cat([torch.from_numpy(np.array(array).view(np.int16)).to(device) for array in arrays])
        self.training_count = int(self._starts[-1]) - holdout
        if self.training_count < 1:
            raise InputError(f"{self._starts[-1]} tiles", f"more than the {holdout} held out", folder)
        self.holdout_indices = np.arange(self.training_count, int(self._starts[-1]))

    def crops(
        self, indices: NDArray[np.int64], y: Sequence[int] | NDArray[np.int64], x: Sequence[int] | NDArray[np.int64], size: int
    ) -> Tensor:
        """Crops of tiles, unit intensity float32 ``(N, 2, size, size)`` on the pool's device, from top left corners (y, x)."""
        if self._resident is not None:
            reach = torch.arange(size, device=self.device)
            rows = torch.as_tensor(y, device=self.device)[:, None, None, None] + reach[:, None]
            columns = torch.as_tensor(x, device=self.device)[:, None, None, None] + reach
            channels = torch.arange(2, device=self.device)[:, None, None]
            tiles = torch.as_tensor(indices, device=self.device)[:, None, None, None]
            signed = self._resident[tiles, channels, rows, columns].float()
            return torch.where(signed < 0, signed + FULL_SCALE, signed) / FULL_SCALE
        cut = np.empty((len(indices), 2, size, size), dtype=np.float32)
        for k, (index, top, left) in enumerate(zip(indices, y, x, strict=True)):
            file = int(np.searchsorted(self._starts, index, side="right")) - 1
            cut[k] = self._arrays[file][index - self._starts[file], :, top : top + size, left : left + size]
        return torch.from_numpy(cut / np.float32(FULL_SCALE))

    def random_crops(self, rng: np.random.Generator, count: int, size: int) -> Tensor:
        """Random crops of random training tiles, unit intensity float32 ``(count, 2, size, size)``."""
        if size > self.size:
            raise InputError(f"crops of {size} px", f"at most the pool's {self.size} px")
        indices = rng.integers(0, self.training_count, count)
        y, x = rng.integers(0, self.size - size + 1, (2, count))
        return self.crops(indices, y, x, size)

    def held_out(self, size: int) -> Tensor:
        """The centre of each held-out tile, unit intensity float32 ``(holdout, 2, size, size)``."""
        corner = np.full(len(self.holdout_indices), (self.size - size) // 2)
        return self.crops(self.holdout_indices, corner, corner, size)


def flip(unit: Tensor) -> Tensor:
    """Random flips of each image ``(N, 2, S, S)`` and no transposition: the rows of a laser's noise stay rows.

    Draws from torch's global generator.
    """
    choice = torch.rand(2, len(unit), 1, 1, 1, device=unit.device) < 0.5
    unit = torch.where(choice[0], unit.flip(-1), unit)
    return torch.where(choice[1], unit.flip(-2), unit)


def augment(unit: Tensor, *, log_gain: float = 0.7, log_channel_gain: float = 0.15, offset: float = 0.03) -> Tensor:
    """Random flips, transposition, gain and offset of each image; unit intensity ``(N, 2, S, S)``, and so it stays.

    Gains are ``exp(U[-log_gain, log_gain])`` for an image times ``exp(U[-log_channel_gain, log_channel_gain])`` for a channel,
    lowered where the brightest pixel would pass 1, and offsets ``U[0, offset]`` for a channel. Draws from
    torch's global generator.
    """
    count, device = len(unit), unit.device
    choice = torch.rand(3, count, 1, 1, 1, device=device) < 0.5
    unit = torch.where(choice[0], unit.flip(-1), unit)
    unit = torch.where(choice[1], unit.flip(-2), unit)
    unit = torch.where(choice[2], unit.transpose(-1, -2), unit)
    shared, own = torch.rand(count, 1, 1, 1, device=device), torch.rand(count, 2, 1, 1, device=device)
    gain = torch.exp(log_gain * (2 * shared - 1) + log_channel_gain * (2 * own - 1))
    shift = offset * torch.rand(count, 2, 1, 1, device=device)
    brightest = unit.amax(dim=(-1, -2), keepdim=True).clamp(min=1e-3)
    return unit * torch.minimum(gain, (1 - shift) / brightest) + shift


def open_pool(data: str, folder: Path, device: torch.device, settings: PoolSettings) -> TilePool | SlidePool:
    """The pool in the folder ``data``; for ``"phantom"`` one that is simulated beside ``folder``, for all tasks.

    Data without ``pool-*.npy`` files are images, which stay where they are.
    """
    if data != "phantom" and is_of_images(data):
        from srh_clinic.training.sources import open_slides

        return open_slides(data, folder, device, settings, settings.holdout)
    if data != "phantom":
        return TilePool(Path(data), device, settings.holdout)
    from srh_clinic.simulation import training_pool

    pool = folder.parent / "pool"
    training_pool(pool, settings.phantoms)
    return TilePool(pool, device, settings.holdout)


def is_of_images(data: str, files: str = "pool-*.npy") -> bool:
    """Whether data are images and not a folder of ``files`` that we wrote; an empty folder is none of both."""
    place = Path(data)
    return data != "phantom" and (place.is_file() or (place.is_dir() and any(place.iterdir()) and not any(place.glob(files))))


def open_degraded_pool(data: str, folder: Path, device: torch.device, settings: DegradedPoolSettings) -> TilePool:
    """The pool of degraded tiles in the folder ``data``; for ``"phantom"`` one that is simulated beside ``folder``."""
    if data != "phantom":
        return TilePool(Path(data), device, settings.holdout)
    from srh_clinic.simulation import degraded_pool

    pool = folder.parent / "degraded"
    degraded_pool(pool, settings.degraded_phantoms)
    return TilePool(pool, device, settings.holdout)


@dataclass(frozen=True)
class PhantomPairs:
    """Degraded phantoms of the validation seeds with their clean truth, to say what a network does to what it will meet.

    Both model space float32 ``(N, 2, S, S)``.
    """

    degraded: Tensor
    clean: Tensor

    def measures(self, restored: Tensor) -> dict[str, float]:
        """Mean PSNR in dB, in unit intensity and clipped to it as counts are, of restored images and of degraded ones."""
        return {"psnr_phantom": self._psnr(restored), "psnr_phantom_degraded": self._psnr(self.degraded)}

    def _psnr(self, images: Tensor) -> float:
        error = (images.clamp(-1, 1) - self.clean) / 2
        return float((-10 * error.square().mean(dim=(1, 2, 3)).log10()).mean())


def phantom_pairs(count: int, size: int, device: torch.device) -> PhantomPairs:
    """``count`` phantoms of ``size`` px, of tumor and normal kinds in turn, at severities spread evenly over [0.1, 1]."""
    from srh_clinic.simulation import KINDS_OF_DIAGNOSIS, VALIDATION_SEED, simulate_patch

    kinds = [*KINDS_OF_DIAGNOSIS["tumor"], *KINDS_OF_DIAGNOSIS["normal"]]
    phantoms = [
        simulate_patch(kinds[i % len(kinds)], float(severity), VALIDATION_SEED + i, size)
        for i, severity in enumerate(np.linspace(0.1, 1, count))
    ]
    degraded, clean = (np.stack([counts_to_model(getattr(one, kind)) for one in phantoms]) for kind in ("counts", "clean"))
    return PhantomPairs(torch.from_numpy(degraded).to(device), torch.from_numpy(clean).to(device))
