"""Restore-then-classify as MONAI transforms, in array and dictionary form, for a user's own ``Compose``.

::

    chain = Compose([LoadSRHd("image"), RestoreSRHd("image", device="cpu"), ClassifySRHd("image", device="cpu")])
    chain({"image": "case.dcm"})["image_probabilities"]

Images travel as :class:`monai.data.MetaTensor` of counts ``(2, H, W)``, float32 (which holds every uint16 exactly), with
``um_per_px``, ``notes`` and ``filename_or_obj`` among their metadata. The networks are loaded on first use in each process, so
the transforms pickle and work under a ``DataLoader`` with workers; workers that are forked cannot use CUDA.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from numpy.typing import ArrayLike

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.case.classifying import classify_slide
from srh_clinic.case.restoring import at_pixel_size, look_over, restore_slide
from srh_clinic.diagnosis import CLASSES
from srh_clinic.display import RECIPES, Recipe, three_channel
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.resampling import ResampledSlide
from srh_clinic.slide import ArraySlide, Slide

if TYPE_CHECKING:
    from srh_clinic.classifiers import PatchClassifier
    from srh_clinic.restorers import Restorer

__all__ = [
    "ClassifySRH",
    "ClassifySRHd",
    "LoadSRH",
    "LoadSRHd",
    "RestoreSRH",
    "RestoreSRHd",
    "ThreeChannelSRH",
    "ThreeChannelSRHd",
]


class LoadSRH(Transform):
    """Read a case, or a region of one.

    Parameters
    ----------
    region
        ``(y, x, height, width)`` in pixels of the size that is returned. When not given, the whole slide is held in memory.
    spacing
        Pixel edge in micrometres that the image is resampled to, usually the bundle's; as in the file when not given.
    um_per_px, full_scale, channels, plane
        What the file does not state, see :func:`srh_clinic.integration.read_slide`.
    """

    def __init__(
        self,
        region: tuple[int, int, int, int] | None = None,
        spacing: float | None = None,
        um_per_px: float | None = None,
        full_scale: int | None = None,
        channels: str | Sequence[str | int] | None = None,
        plane: int | None = None,
    ) -> None:
        self.region = region
        self.spacing = spacing
        self.um_per_px = um_per_px
        self.full_scale = full_scale
        self.channels = channels
        self.plane = plane

    def __call__(self, path: str | Path | Sequence[str | Path]) -> MetaTensor:
        """Counts ``(2, H, W)`` of the case at ``path``, or of the two files of its channels.

        Raises
        ------
        InputError
            When it is not an SRH case, or the region does not lie within it.
        """
        from srh_clinic.integration import read_slide

        slide: Slide = read_slide(path, self.um_per_px, self.full_scale, self.channels, self.plane)
        if self.spacing is not None:
            slide = ResampledSlide(slide, self.spacing)
        region = self.region or (0, 0, *slide.shape)
        try:
            counts = slide.read(*region)
        except InputError:
            raise
        except ValueError as error:
            needed = f"one within a slide of {slide.shape} pixels"
            raise InputError(f"the region {region}", needed, slide.identity.source or None) from error
        meta = {
            "um_per_px": slide.um_per_px,
            "notes": "; ".join(slide.notes),
            "region": list(region),
            "filename_or_obj": str(path if isinstance(path, str | Path) else path[0]),
            "channel_order": slide.identity.channel_order,
        }
        return MetaTensor(torch.from_numpy(counts.astype(np.float32)), meta=meta)


class RestoreSRH(Transform):
    """Restore counts ``(2, H, W)`` of any size, tile by tile.

    Parameters
    ----------
    bundle, restorer, settings
        See :func:`srh_clinic.restorers.create_restorer`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    seed
        Of the restorer's noise.
    """

    def __init__(
        self, bundle: str = "phantom-demo", restorer: str = "rscd", device: str = "auto", seed: int = 0, **settings: Any
    ) -> None:
        self.bundle = bundle
        self.restorer = restorer
        self.device = device
        self.seed = seed
        self.settings = settings

    def __call__(self, image: ArrayLike) -> MetaTensor:
        """The restored counts with the metadata of ``image`` and, as ``predicted_steps``, the largest step predicted.

        Raises
        ------
        InputError
            When ``image`` is no counts or its pixel size is not the bundle's, or a setting is unknown.
        """
        bundle, restorer = _restorer(self.bundle, self.restorer, self.device, tuple(sorted(self.settings.items())))
        slide = _slide(image, bundle)
        restored = restore_slide(slide, look_over(slide), restorer, bundle, seed=self.seed)
        counts = restored.slide.read(0, 0, *slide.shape)
        return _like(image, counts.astype(np.float32), predicted_steps=restored.steps.largest)


class ThreeChannelSRH(Transform):
    """Counts ``(2, H, W)`` to the three-channel view ``(3, H, W)`` in [0, 1] that classifiers are trained on.

    Parameters
    ----------
    recipe
        See :func:`srh_clinic.display.three_channel`.
    """

    def __init__(self, recipe: Recipe = "opensrh") -> None:
        if recipe not in RECIPES:
            raise InputError(f"the colour recipe {recipe!r}", f"one of {', '.join(RECIPES)}")
        self.recipe: Recipe = recipe

    def __call__(self, image: ArrayLike) -> MetaTensor:
        """The view with the metadata of ``image`` and the recipe's name."""
        return _like(image, three_channel(_counts(image), self.recipe), recipe=self.recipe)


class ClassifySRH(Transform):
    """Counts ``(2, H, W)`` of any size to the probabilities of tumor, normal and nondiagnostic, float32 ``(3,)``.

    Takes counts and not :class:`ThreeChannelSRH`'s view, because the classifier's own recipe belongs to its weights.

    Parameters
    ----------
    bundle
        Name or folder of the bundle with the classifier.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    """

    def __init__(self, bundle: str = "phantom-demo", device: str = "auto") -> None:
        self.bundle = bundle
        self.device = device

    def __call__(self, image: ArrayLike) -> MetaTensor:
        """The probabilities, with the metadata of ``image`` and the ``diagnosis``.

        Raises
        ------
        InputError
            When ``image`` is no counts or its pixel size is not the bundle's.
        """
        bundle, classifier = _classifier(self.bundle, self.device)
        slide = _slide(image, bundle)
        said = classify_slide(slide, look_over(slide).mask, classifier).diagnosis
        probabilities = np.array([said.probabilities[name] for name in CLASSES], dtype=np.float32)
        return _like(image, probabilities, diagnosis=said.diagnosis)


class _EachKey(MapTransform):
    """The dictionary form of a transform: applied to each key."""

    def __init__(self, keys: KeysCollection, transform: Transform, allow_missing_keys: bool) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the transform's result at each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


class LoadSRHd(_EachKey):
    """Dictionary form of :class:`LoadSRH`."""

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, LoadSRH(*args, **kwargs), allow_missing_keys)


class RestoreSRHd(_EachKey):
    """Dictionary form of :class:`RestoreSRH`."""

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RestoreSRH(*args, **kwargs), allow_missing_keys)


class ThreeChannelSRHd(_EachKey):
    """Dictionary form of :class:`ThreeChannelSRH`."""

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, ThreeChannelSRH(*args, **kwargs), allow_missing_keys)


class ClassifySRHd(_EachKey):
    """Dictionary form of :class:`ClassifySRH`: the probabilities of ``key`` are put at ``key + "_probabilities"``."""

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, ClassifySRH(*args, **kwargs), allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the probabilities beside each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[f"{key}_probabilities"] = self.transform(result[key])
        return result


# Loaded once per process and kept by name, not in the transforms: those stay small enough to be sent to workers.
@lru_cache(maxsize=4)
def _restorer(bundle: str, restorer: str, device: str, settings: tuple[tuple[str, Any], ...]) -> tuple[Bundle, Restorer]:
    from srh_clinic.restorers import create_restorer

    return load_bundle(bundle), create_restorer(restorer, bundle=bundle, device=device, **dict(settings))


@lru_cache(maxsize=4)
def _classifier(bundle: str, device: str) -> tuple[Bundle, PatchClassifier]:
    from srh_clinic.classifiers import load_classifier
    from srh_clinic.inference import choose_device

    loaded = load_bundle(bundle)
    return loaded, load_classifier(loaded, choose_device(device))


def _counts(image: ArrayLike) -> Counts:
    """Counts of an array or tensor ``(2, H, W)`` of whole numbers in 0..65535; anything else is refused, not rounded."""
    values = np.asarray(image)
    if values.ndim != 3 or values.shape[0] != 2:
        raise InputError(f"an image of shape {values.shape}", "counts of shape (2, H, W)")
    counts = values.astype(np.uint16)
    if values.dtype != np.uint16 and not np.array_equal(counts, values):
        raise InputError(
            f"values from {values.min():g} to {values.max():g}, not all whole", "counts: whole numbers from 0 to 65535"
        )
    return counts


def _slide(image: ArrayLike, bundle: Bundle) -> ArraySlide:
    """The image as a slide; one that states no pixel size is taken to have the bundle's."""
    known = float(bundle.metadata["um_per_px"])
    um_per_px = float(image.meta.get("um_per_px", known)) if isinstance(image, MetaTensor) else known
    slide = ArraySlide(_counts(image), um_per_px)
    if at_pixel_size(slide, known)[0] is not slide:
        raise InputError(f"pixels of {um_per_px:g} um", f"{known:g} um, as LoadSRH(spacing={known:g}) makes them")
    return slide


def _like(image: ArrayLike, values: np.ndarray[Any, np.dtype[np.float32]], **facts: Any) -> MetaTensor:
    """``values`` with the metadata of ``image`` and some facts more."""
    meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
    return MetaTensor(torch.from_numpy(values), meta={**meta, **facts})
