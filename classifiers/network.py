"""The patch classifier: a timm backbone behind a colour recipe, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.bundles import Bundle
from srh_clinic.classifiers.own import MappedClasses, class_groups, own_network
from srh_clinic.diagnosis import CLASSES
from srh_clinic.display import RECIPES, Recipe, three_channel
from srh_clinic.engine import each_alone
from srh_clinic.errors import InputError, on_one_line
from srh_clinic.inference import inference
from srh_clinic.intensity import Counts

BATCH_SIZE = 8


def create_classifier(config: dict[str, Any]) -> nn.Module:
    """The network of a classifier: ``(N, 3, p, p)`` in [0, 1] to logits ``(N, 3)``.

    Parameters
    ----------
    config
        ``backbone``, the name of a timm model or of a network that an installed package offers
        (:data:`~srh_clinic.classifiers.own.ENTRY_POINTS`); ``options``, further keywords of it; and, where it knows other
        classes than ours, ``classes``: see :func:`~srh_clinic.classifiers.own.class_groups`.

    Raises
    ------
    InputError
        When there is no such network or option, or the classes are not mapped to ours.
    """
    backbone, options = config.get("backbone", "resnet10t"), dict(config.get("options", {}))
    groups = class_groups(config["classes"]) if config.get("classes") else None
    count = len(CLASSES) if groups is None else sum(map(len, groups))
    if ":" in str(backbone):  # timm would look on a hub, or in a folder, for what the rest of the name says
        raise InputError(f"the classifier backbone {backbone!r}", "the name of a timm model, without a place before it")
    try:
        make = own_network(str(backbone))
        network = make(num_classes=count, **options) if make else timm.create_model(backbone, num_classes=count, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the classifier backbone {backbone!r} ({error})", "the name of a timm model and its options"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"the classifier backbone {backbone!r}, which gives a {type(network).__name__}", "a torch.nn.Module")
    return network if groups is None else MappedClasses(network, groups)


def require_serving(network: nn.Module, patch: int, backbone: str) -> None:
    """Refuse a network that does not take views of a size, or gives anything but a logit for each class.

    Raises
    ------
    InputError
        That says what it gives, or what it says itself.
    """
    views = torch.rand(2, 3, patch, patch, generator=torch.Generator().manual_seed(0))
    inner = network.network if isinstance(network, MappedClasses) else network
    count = sum(map(len, network.groups)) if isinstance(network, MappedClasses) else len(CLASSES)
    was_training = network.training
    try:
        with torch.inference_mode():
            logits = inner.eval()(views)
    except Exception as error:  # whatever a network of others raises
        found = f"which does not take views of {patch} x {patch} px ({on_one_line(error)})"
        raise InputError(
            f"the classifier backbone {backbone!r}, {found}",
            "a network for patches of this size, or images of the size that it takes",
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (2, count):
        gives = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise InputError(
            f"the classifier backbone {backbone!r}, which gives {gives} of two views", f"logits of shape (2, {count})"
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"the classifier backbone {backbone!r}, which gives what is not finite", "finite logits")


@dataclass(frozen=True, eq=False)
class PatchClassifier:
    """Says of patches whether they show tumor, normal brain, or nothing that can be diagnosed.

    Parameters
    ----------
    network
        Logits ``(N, 3)`` from ``(N, 3, patch, patch)`` in [0, 1], in evaluation mode on ``device``.
    recipe
        Colour recipe that it was trained with (:func:`srh_clinic.display.three_channel`).
    patch
        Edge of a patch in pixels.
    temperature
        Divides the logits; fitted on held-out patches (Guo et al. 2017).
    """

    network: nn.Module
    recipe: Recipe
    patch: int = 256
    temperature: float = 1.0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @inference()
    def logits(self, patches: Counts) -> NDArray[np.float64]:
        """Logits before the temperature, float64 ``(N, 3)``; see :meth:`predict_proba`.

        A patch gets the same answer whatever is classified beside it: on a processor each goes through alone, on a card
        batches are padded to one fixed size.
        """
        return self._batched(patches, self.network, len(CLASSES))

    @inference()
    def embed(self, patches: Counts) -> NDArray[np.float64]:
        """What the network sees in patches: the features that its last layer turns into logits, float64 ``(N, D)``.

        D is the backbone's own, 512 for ResNet-10. Batched as :meth:`logits` is; the last layer applied to the result is what
        that returns.

        Parameters
        ----------
        patches
            uint16 counts ``(N, 2, patch, patch)``.

        Raises
        ------
        InputError
            When the patches have another shape or dtype.
        """
        network: Any = self.network  # a timm model, whose face mypy does not know
        if not all(hasattr(network, part) for part in ("forward_features", "forward_head", "get_classifier")):
            raise InputError(f"a classifier of {type(network).__name__}, which shows no features", "one with timm's methods")
        return self._batched(
            patches,
            lambda batch: network.forward_head(network.forward_features(batch), pre_logits=True),
            network.get_classifier().in_features,
        )

    def _batched(self, patches: Counts, forward: Callable[[Tensor], Tensor], width: int) -> NDArray[np.float64]:
        """What ``forward`` makes of patches in their recipe's colours, ``(N, width)``."""
        patches = np.asarray(patches)
        if patches.ndim != 4 or patches.shape[1:] != (2, self.patch, self.patch) or patches.dtype != np.uint16:
            found = f"patches of {patches.dtype} with shape {patches.shape}"
            raise InputError(found, f"uint16 counts of shape (N, 2, {self.patch}, {self.patch})")
        rows = [np.empty((0, width))]
        for start in range(0, len(patches), BATCH_SIZE):
            chunk = patches[start : start + BATCH_SIZE]
            batch = torch.from_numpy(np.stack([three_channel(patch, self.recipe) for patch in chunk]))
            if self.device.type == "cpu":
                answer = each_alone(forward, batch)
            else:
                padding = torch.zeros(BATCH_SIZE - len(chunk), *batch.shape[1:])
                answer = forward(torch.cat([batch, padding]).to(self.device))[: len(chunk)]
            rows.append(answer.double().cpu().numpy())
        return np.concatenate(rows)

    def predict_proba(self, patches: Counts) -> NDArray[np.float64]:
        """Class probabilities, float64 ``(N, 3)`` in the order of ``CLASSES``.

        Parameters
        ----------
        patches
            uint16 counts ``(N, 2, patch, patch)``.

        Raises
        ------
        InputError
            When the patches have another shape or dtype.
        """
        scaled = self.logits(patches) / self.temperature
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def load_classifier(bundle: Bundle, device: str | torch.device = "cpu") -> PatchClassifier:
    """The classifier of a bundle.

    Raises
    ------
    InputError
        When the bundle has none, or its weights do not fit its description.
    """
    config = bundle.config("classifier")
    recipe = config.get("recipe")
    if recipe not in RECIPES:
        raise InputError(f"the colour recipe {recipe!r}", "one of " + ", ".join(RECIPES), bundle.path)
    where = torch.device(device)
    network = bundle.load_network(create_classifier, "classifier", where).to(memory_format=torch.channels_last)
    return PatchClassifier(network, recipe, int(config["patch"]), float(config["temperature"]), where)


@torch.inference_mode(False)
@torch.enable_grad()
def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature of least cross entropy of held-out logits ``(N, 3)`` against labels ``(N,)`` (Guo et al. 2017).

    Found by L-BFGS on its logarithm, and kept within 0.05 .. 20: where held-out patches are all right, the optimum lies at 0.
    """
    scores, truth = (
        torch.from_numpy(np.asarray(logits, dtype=np.float64)),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    )
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def cross_entropy() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(scores / log_temperature.exp(), truth)
        loss.backward()
        return loss

    optimiser.step(cross_entropy)
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
