"""Networks and classes of others as classifiers of ours: what a package offers, and other classes than our three."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import Tensor, nn

from srh_clinic.classifiers.aggregation import HOLLON_2020_CLASSES
from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError

ENTRY_POINTS = "srh_clinic.classifiers"
"""Under which a package offers networks: callables that take ``num_classes`` and further keywords, and give a module. A bundle
can name those that are installed, and nothing else: a name in a file never leads to code that nobody chose."""

KNOWN_CLASSES: dict[str, Mapping[str, str]] = {"hollon-2020": HOLLON_2020_CLASSES}
"""Sets of classes by name, in the order of a network's outputs."""


def own_network(name: str) -> Callable[..., Any] | None:
    """What an installed package offers under a name; ``None`` when none does.

    Raises
    ------
    InputError
        When what it offers cannot be loaded.
    """
    found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if found is None:
        return None
    try:
        make: Callable[..., Any] = found.load()
    except Exception as error:  # whatever a package raises when it is imported
        raise InputError(
            f"the network {name!r} of {found.value}, which cannot be loaded ({error})", "a package that works"
        ) from error
    return make


def class_groups(classes: str | Mapping[str, str]) -> tuple[tuple[int, ...], ...]:
    """Outputs of a network that belong to each of our classes, by number.

    Parameters
    ----------
    classes
        Of each output, in order, its name and which of ours it is; or a name in :data:`KNOWN_CLASSES`.

    Raises
    ------
    InputError
        When the set is unknown, a class is none of ours, or one of ours has no output.

    Examples
    --------
    >>> class_groups({"glioma": "tumor", "cortex": "normal", "blood": "nondiagnostic", "metastasis": "tumor"})
    ((0, 3), (1,), (2,))
    """
    if isinstance(classes, str):
        if classes not in KNOWN_CLASSES:
            raise InputError(f"the classes {classes!r}", "a table of names, or one of " + ", ".join(KNOWN_CLASSES))
        classes = KNOWN_CLASSES[classes]
    if wrong := [name for name, ours in classes.items() if ours not in CLASSES]:
        raise InputError(f"the class {wrong[0]!r} mapped to {classes[wrong[0]]!r}", "one of " + ", ".join(CLASSES))
    groups = tuple(tuple(at for at, ours in enumerate(classes.values()) if ours == name) for name in CLASSES)
    if empty := [name for name, group in zip(CLASSES, groups, strict=True) if not group]:
        raise InputError(f"classes of which none is {empty[0]}", "at least one for each of " + ", ".join(CLASSES))
    return groups


class MappedClasses(nn.Module):
    """A network of other classes as one of ours: the probability of each of ours is the sum of those that it stands for.

    Parameters
    ----------
    network
        Views to logits ``(N, K)``.
    groups
        Of each of our classes, its outputs.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network, self.groups = network, [list(group) for group in groups]

    def forward(self, views: Tensor) -> Tensor:
        """Logits ``(N, 3)``: the softmax of them adds up the network's own."""
        logits = self.network(views)
        return torch.stack([logits[:, group].logsumexp(dim=1) for group in self.groups], dim=1)

    def forward_features(self, views: Tensor) -> Tensor:
        """timm's: the feature map."""
        features: Tensor = self.network.forward_features(views)  # type: ignore[operator]
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """timm's: what the last layer reads."""
        head: Tensor = self.network.forward_head(features, pre_logits=pre_logits)  # type: ignore[operator]
        return head

    def get_classifier(self) -> nn.Module:
        """timm's: the last layer."""
        layer: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return layer
