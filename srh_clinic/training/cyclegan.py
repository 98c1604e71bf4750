"""Training of CycleGAN (Zhu et al. 2017): degraded and clean images that do not belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.restorers.networks import PatchDiscriminator, create_regressor
from srh_clinic.training.loop import Diverged, Turn
from srh_clinic.training.pool import DegradedPoolSettings, flip, open_degraded_pool, open_pool, phantom_pairs
from srh_clinic.training.regression import in_chunks


class CycleGANSettings(DegradedPoolSettings):
    """Configuration of CycleGAN's training (``configs/cyclegan.yaml``); Adam is as theirs, ``beta1`` 0.5 at 2e-4.

    Beside the network's (see :class:`~srh_clinic.restorers.networks.OverlapResNetGenerator`) these differ from theirs: the
    decay of the learning rate, gradients clipped at a norm that only an accident reaches, and the moving average of weights.
    """

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "overlap-resnet-generator"})
    """Description of both generators for :func:`srh_clinic.restorers.networks.create_regressor`."""
    discriminator_width: int = Field(default=64, gt=0)
    cycle_weight: float = Field(default=10.0, gt=0)
    identity_weight: float = Field(default=0.5, ge=0)
    """As a share of the cycle's."""
    history: int = Field(default=50, ge=0)
    """Generated images that the discriminators are shown again."""
    batch_size: int = Field(default=1, gt=0)
    crop_size: int = Field(default=96, ge=32)
    largest_cycle: float = Field(default=0.5, gt=0)
    """The training has collapsed when the cycle's mean absolute error, in model units, stays above this."""
    least_contrast: float = Field(default=0.1, ge=0, lt=1)
    """Or the standard deviation of restored images, as a share of the clean ones', below this."""
    validation_size: int = Field(default=128, gt=0)
    validation_phantoms: int = Field(default=24, gt=0)


class Companions(nn.Module):
    """What is trained beside the restoring generator, and what outlives a step."""

    def __init__(self, settings: CycleGANSettings) -> None:
        super().__init__()
        self.degrader = create_regressor(settings.network)
        self.clean_judge = PatchDiscriminator(settings.discriminator_width)
        self.degraded_judge = PatchDiscriminator(settings.discriminator_width)
        self.clean_history = History(settings.history, settings.crop_size)
        self.degraded_history = History(settings.history, settings.crop_size)
        self.health = Health()


class History(nn.Module):
    """Generated images of earlier steps (Shrivastava et al. 2017), as buffers, so that a checkpoint holds them."""

    images: Tensor
    filled: Tensor

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(length, 2, size, size))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def exchange(self, fakes: Tensor, rng: np.random.Generator) -> Tensor:
        """For each generated image ``(N, 2, S, S)`` itself or, half of the time once there are enough, an earlier one."""
        shown = fakes.clone()
        for i, fake in enumerate(fakes):
            if self.filled < len(self.images):
                self.images[self.filled] = fake
                self.filled += 1
            elif len(self.images) and rng.random() < 0.5:
                k = int(rng.integers(len(self.images)))
                shown[i] = self.images[k]
                self.images[k] = fake
        return shown


class Health(nn.Module):
    """Means over about the last hundred steps, by which a collapse is told."""

    cycle: Tensor
    contrast: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cycle", torch.zeros(()))
        self.register_buffer("contrast", torch.ones(()))

    def watch(self, cycle: Tensor, contrast: Tensor, settings: CycleGANSettings) -> None:
        """Note a step's values, and stop a training that has collapsed."""
        self.cycle.lerp_(cycle, 0.01)
        self.contrast.lerp_(contrast.clamp(max=1), 0.01)
        needed = "a lower learning_rate, a larger batch_size or another seed"
        if self.cycle > settings.largest_cycle:
            limit = f"largest_cycle, {settings.largest_cycle:g}"
            raise Diverged(f"a collapsed generator (a cycle loss of {self.cycle:.3g}, above {limit})", needed)
        if self.contrast < settings.least_contrast:
            limit = f"least_contrast, {settings.least_contrast:g}"
            raise Diverged(f"a collapsed generator ({self.contrast:.3g} of the contrast, below {limit})", needed)


class CycleGANTask:
    """CycleGAN's :class:`~srh_clinic.training.loop.Game`: the generators' turn, then the discriminators'.

    A folder of data has the clean tiles in ``pool`` and the degraded ones in ``degraded``, as a training on phantoms leaves
    them. Images are flipped and nothing else: brightness is part of what tells the domains apart.
    """

    name = "cyclegan"

    def __init__(self, settings: CycleGANSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        own = data == "phantom"
        self.clean = open_pool(data if own else str(Path(data) / "pool"), folder, device, settings)
        self.degraded = open_degraded_pool(data if own else str(Path(data) / "degraded"), folder, device, settings)
        self.held_out = 2 * self.degraded.held_out(settings.validation_size) - 1
        self.phantoms = phantom_pairs(settings.validation_phantoms, settings.validation_size, device)

    def create(self) -> nn.Module:
        return create_regressor(self.settings.network)

    def create_companions(self) -> Companions:
        return Companions(self.settings)

    def turns(self, network: nn.Module, companions: nn.Module) -> list[Turn]:
        """Least-squares GAN losses (Mao et al. 2017); the discriminators see what this step's generators made, or earlier."""
        settings = self.settings
        if not isinstance(companions, Companions):
            raise TypeError(f"found companions of type {type(companions).__name__}; needed CycleGAN's.")
        judges = nn.ModuleList([companions.clean_judge, companions.degraded_judge])
        step: dict[str, Tensor] = {}

        def generators(rng: np.random.Generator) -> Tensor:
            clean, degraded = (
                2 * flip(pool.random_crops(rng, settings.batch_size, settings.crop_size)) - 1
                for pool in (self.clean, self.degraded)
            )
            judges.requires_grad_(False)
            restored, same_clean = network(torch.cat([degraded, clean])).chunk(2)
            spoiled, same_degraded = companions.degrader(torch.cat([clean, degraded])).chunk(2)
            fooled = _squared(companions.clean_judge(restored), 1) + _squared(companions.degraded_judge(spoiled), 1)
            judges.requires_grad_(True)
            cycle = F.l1_loss(companions.degrader(restored), degraded) + F.l1_loss(network(spoiled), clean)
            identity = F.l1_loss(same_clean, clean) + F.l1_loss(same_degraded, degraded)
            loss = fooled + settings.cycle_weight * (cycle + settings.identity_weight * identity)
            step.update(clean=clean, degraded=degraded, restored=restored.detach(), spoiled=spoiled.detach())
            if torch.isfinite(loss):  # the loop refuses what is not
                companions.health.watch(cycle.detach() / 2, restored.detach().std() / clean.std().clamp(min=1e-3), settings)
            return loss

        def discriminators(rng: np.random.Generator) -> Tensor:
            restored = companions.clean_history.exchange(step["restored"], rng)
            spoiled = companions.degraded_history.exchange(step["spoiled"], rng)
            of_clean = _squared(companions.clean_judge(step["clean"]), 1) + _squared(companions.clean_judge(restored), 0)
            of_degraded = _squared(companions.degraded_judge(step["degraded"]), 1) + _squared(
                companions.degraded_judge(spoiled), 0
            )
            return (of_clean + of_degraded) / 2

        return [
            Turn("loss", [*network.parameters(), *companions.degrader.parameters()], generators),
            Turn("discriminator_loss", list(judges.parameters()), discriminators),
        ]

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {}

    def validate(self, network: nn.Module) -> dict[str, float]:
        """How far held-out degraded tiles are moved, in model units, and PSNR in dB of degraded phantoms."""
        moved = (in_chunks(network, self.held_out) - self.held_out).abs().mean()
        return {"moved": float(moved), **self.phantoms.measures(in_chunks(network, self.phantoms.degraded))}


def _squared(verdict: Tensor, target: float) -> Tensor:
    return (verdict.float() - target).square().mean()
