"""Training of the patch classifier on labelled patches in ``class-*.npz`` files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from srh_clinic.classifiers import PatchClassifier, create_classifier, fit_temperature
from srh_clinic.classifiers.network import require_serving
from srh_clinic.diagnosis import CLASSES
from srh_clinic.display import Recipe, three_channel
from srh_clinic.errors import InputError
from srh_clinic.inference import made_apart
from srh_clinic.intensity import FULL_SCALE, Counts
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.pool import is_of_images
from srh_clinic.training.processes import processes

if TYPE_CHECKING:
    from srh_clinic.training.slide_pool import SlidePool


class ClassifierSettings(ImageSettings):
    """Configuration of the classifier's training (``configs/classifier.yaml``)."""

    backbone: str = "resnet10t"
    """Name of a timm model."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further keywords of ``timm.create_model``."""
    classes: str | dict[str, str] = ""
    """Classes of the network's outputs, where they are others than ours; see
    :func:`~srh_clinic.classifiers.own.class_groups`."""
    recipe: Recipe = "opensrh"
    batch_size: int = Field(default=32, gt=0)
    log_gain: float = Field(default=0.3, ge=0)
    """Counts of a patch are scaled by ``exp(U[-log_gain, log_gain])``."""
    blur: float = Field(default=0.8, ge=0)
    """A third of the patches is smoothed by a Gaussian of U[0.2, blur] px, as a restoration might; 0 for none."""
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    holdout_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the patches, the last, kept for validation and the temperature."""
    phantoms: int = Field(default=2500, gt=1)
    """Patches simulated when the data are ``phantom``."""
    most_held: int = Field(default=512, gt=0)
    """Patches of held-out patients that a validation looks at, at most, when the data are images."""


class ClassifierTask:
    """The classifier's :class:`~srh_clinic.training.loop.Task`."""

    name = "classifier"

    def __init__(self, settings: ClassifierSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.patches: Patches
        if is_of_images(data, "class-*.npz"):
            from srh_clinic.training.sources import open_slides

            self.patches = PatchesOfSlides(open_slides(data, folder, device, settings, settings.most_held), data)
        else:
            source = (
                _simulated(folder, settings.phantoms, self._holdout(settings.phantoms)) if data == "phantom" else Path(data)
            )
            counts, labels = read_patches(source)
            split = len(labels) - self._holdout(len(labels))
            if split < 1:
                raise InputError(f"{len(labels)} patch", "at least two labelled patches", source)
            self.patches = PatchesInMemory(counts[:split], labels[:split], counts[split:], labels[split:])
        self.held_counts, self.held_labels = self.patches.held_out
        with made_apart():
            require_serving(self.create(), self.patch, settings.backbone)

    @property
    def seconds_reading(self) -> float | None:
        """Seconds that were spent on reading images; ``None`` of patches that lie in memory."""
        return self.patches.pool.seconds_reading if isinstance(self.patches, PatchesOfSlides) else None

    def _holdout(self, count: int) -> int:
        return max(int(self.settings.holdout_share * count), 1)

    def create(self) -> nn.Module:
        return create_classifier(self._config)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Cross entropy with smoothed labels on patches with random symmetry, gain and blur."""
        settings = self.settings
        counts, labels = self.patches.draw(rng, settings.batch_size)
        seen = []
        for patch in counts:
            scaled = patch * np.exp(rng.uniform(-settings.log_gain, settings.log_gain))
            view = torch.from_numpy(three_channel(np.clip(scaled, 0, FULL_SCALE - 1).astype(np.uint16), settings.recipe))
            if settings.blur and rng.random() < 1 / 3:
                view = gaussian_blur(view, kernel_size=[5, 5], sigma=[rng.uniform(0.2, settings.blur)])
            turned = torch.rot90(view, int(rng.integers(4)), dims=(1, 2))
            seen.append(turned.flip(-1) if rng.random() < 0.5 else turned)
        views, truth = processes().share(torch.stack(seen), torch.from_numpy(labels))
        logits = network(views.to(self.device)).float()
        truth = truth.to(self.device)
        return F.cross_entropy(logits, truth, label_smoothing=settings.label_smoothing)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """On held-out patches: accuracy, recall of each class, cross entropy as it is and with the fitted temperature."""
        logits = self._classifier(network).logits(self.held_counts)
        temperature = fit_temperature(logits, self.held_labels)
        right = logits.argmax(axis=1) == self.held_labels
        truth, scores = torch.from_numpy(self.held_labels), torch.from_numpy(logits)
        recall = {
            f"recall_{name}": float(right[self.held_labels == k].mean())
            for k, name in enumerate(CLASSES)
            if (self.held_labels == k).any()
        }
        return {
            "accuracy": float(right.mean()),
            **recall,
            "cross_entropy": float(F.cross_entropy(scores, truth)),
            "cross_entropy_calibrated": float(F.cross_entropy(scores / temperature, truth)),
            "temperature": temperature,
        }

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        temperature = fit_temperature(self._classifier(network).logits(self.held_counts), self.held_labels)
        config = {**self._config, "recipe": self.settings.recipe, "patch": self.patch, "temperature": temperature}
        return config, {"colour_recipe": self.settings.recipe, "patch": self.patch}

    @property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"backbone": self.settings.backbone, "options": self.settings.options}
        return config | ({"classes": self.settings.classes} if self.settings.classes else {})

    def _classifier(self, network: nn.Module) -> PatchClassifier:
        return PatchClassifier(network, self.settings.recipe, self.patch, device=self.device)

    @property
    def patch(self) -> int:
        """Edge of a patch in pixels."""
        return int(self.held_counts.shape[-1])


class Patches(Protocol):
    """Labelled patches to train on, and those that are held out."""

    @property
    def held_out(self) -> tuple[Counts, NDArray[np.int64]]:
        """Counts ``(M, 2, p, p)`` and labels ``(M,)``."""

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Counts, NDArray[np.int64]]:
        """Random training patches, counts ``(count, 2, p, p)``, and their labels."""


@dataclass(frozen=True)
class PatchesInMemory:
    """Labelled patches as arrays."""

    counts: Counts
    labels: NDArray[np.int64]
    held_counts: Counts
    held_labels: NDArray[np.int64]

    @property
    def held_out(self) -> tuple[Counts, NDArray[np.int64]]:
        return self.held_counts, self.held_labels

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Counts, NDArray[np.int64]]:
        chosen = rng.integers(0, len(self.labels), count)
        return self.counts[chosen], self.labels[chosen]


class PatchesOfSlides:
    """Labelled patches that are read from slides; each class is drawn as often as any other.

    Raises
    ------
    InputError
        When a tile is of an image of which nobody says what it shows, or all that are trained on show the same.
    """

    def __init__(self, pool: SlidePool, data: str) -> None:
        self.pool = pool
        labels = [pool.image_of(at).label for at in range(pool.training_count + pool.held_count)]
        if None in labels:
            image = pool.image_of(labels.index(None))
            needed = "a manifest with the column truth, or an OpenSRH tree"
            raise InputError(f"{image.files[0].name}, of which nobody says what it shows", needed, data)
        self.labels = np.array(labels, dtype=np.int64)
        training = self.labels[: pool.training_count]
        self.of_class = [np.flatnonzero(training == label) for label in np.unique(training)]
        if len(self.of_class) < 2:
            found = f"training images that all show {CLASSES[int(training[0])]}"
            raise InputError(found, "images of two classes or more, among the patients that are trained on", data)

    @property
    def held_out(self) -> tuple[Counts, NDArray[np.int64]]:
        held = self.pool.holdout_indices
        y, x = self.pool.middle(held, self.pool.size)
        return self.pool.counts(held, y, x, self.pool.size), self.labels[held]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Counts, NDArray[np.int64]]:
        kinds = rng.integers(0, len(self.of_class), count)
        chosen = np.array([rng.choice(self.of_class[kind]) for kind in kinds], dtype=np.int64)
        y, x = self.pool.anywhere(rng, chosen, self.pool.size)
        return self.pool.counts(chosen, y, x, self.pool.size), self.labels[chosen]


def read_patches(folder: Path) -> tuple[Counts, NDArray[np.int64]]:
    """Patches uint16 counts ``(N, 2, p, p)`` and labels ``(N,)`` of all ``class-*.npz`` files in a folder.

    Raises
    ------
    InputError
        When there is no such file, or one has other content.
    """
    paths = sorted(folder.glob("class-*.npz"))
    if not paths:
        needed = "an OpenSRH tree, a manifest with the column truth, or a folder of labelled patches (class-*.npz)"
        raise InputError("no labelled patches" if folder.is_dir() else "no such file or folder", needed, folder)
    counts, labels = [], []
    for path in paths:
        with np.load(path) as content:
            if not {"counts", "labels"} <= set(content):
                raise InputError(f"arrays {sorted(content)}", "counts and labels", path)
            patches, truth = content["counts"], content["labels"]
        fits = patches.ndim == 4 and patches.shape[1] == 2 and patches.shape[2] == patches.shape[3]
        if patches.dtype != np.uint16 or not fits or truth.shape != patches.shape[:1]:
            found = f"counts {patches.dtype} {patches.shape} and labels {truth.shape}"
            raise InputError(found, "uint16 counts (N, 2, p, p) and labels (N,)", path)
        if len(truth) and not 0 <= truth.min() <= truth.max() < len(CLASSES):
            raise InputError(f"labels from {truth.min()} to {truth.max()}", f"labels from 0 to {len(CLASSES) - 1}", path)
        counts.append(patches)
        labels.append(truth.astype(np.int64))
    return np.concatenate(counts), np.concatenate(labels)


def _simulated(folder: Path, count: int, holdout: int) -> Path:
    """A folder of ``count`` patches, the last ``holdout`` of them from the seeds that are kept for validation."""
    from srh_clinic.simulation import VALIDATION_SEED, classifier_pool

    pool = folder.parent / "pool"
    classifier_pool(pool, count - holdout)
    classifier_pool(pool, holdout, seed=VALIDATION_SEED)
    return pool
