"""Restore-then-classify as MONAI transforms, in array and dictionary form, for a user's own ``Compose``.

::

    chain = Compose([LoadSRHd("image"), RestoreSRHd("image", device="cpu"), ClassifySRHd("image", device="cpu")])
    chain({"image": "case.dcm"})["image_probabilities"]

Images travel as :class:`monai.data.MetaTensor` of counts ``(2, H, W)``, float32 (which holds every uint16 exactly), with
``um_per_px``, ``notes`` and ``filename_or_obj`` among their metadata, and an affine in micrometres from the slide's upper left
corner, down and right. MONAI's own transforms keep that affine: ``Spacingd(keys, pixdim=(0.47, 0.47))`` asks for pixels of
0.47 um, and ours take the pixel size from it. Arrays and tensors of any type are taken, and what comes back is float32 on the
CPU, without a gradient. The networks are loaded on first use in each process, so the transforms pickle and work under a
``DataLoader`` with workers; workers that are forked cannot use CUDA.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
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
from srh_clinic.case.arrays import AFFINE_UNIT, UM_PER_PX, counts_of, pixel_size_of, slide_of
from srh_clinic.case.classifying import classify_slide
from srh_clinic.case.restoring import at_pixel_size, look_over, restore_slide
from srh_clinic.diagnosis import CLASSES
from srh_clinic.display import RECIPES, Recipe, three_channel
from srh_clinic.errors import InputError
from srh_clinic.resampling import ResampledSlide
from srh_clinic.slide import ArraySlide, Slide, require_unchanged

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

LOADED = "_loaded_um_per_px"
"""Behind the key of an image stands its pixel size as loaded; a number of its own, for a cache may drop what images carry."""


class LoadSRH(Transform):
    """Read a case, or a region of one.

    Parameters
    ----------
    region
        ``(y, x, height, width)`` in pixels of the size that is returned. When not given, the whole slide is held in memory.
    spacing
        Pixel edge in micrometres that the image is resampled to, usually the bundle's; as in the file when not given.
    um_per_px, full_scale, channels, plane, flat_field
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
        flat_field: str | None = None,
    ) -> None:
        self.region = region
        self.spacing = spacing
        self.um_per_px = um_per_px
        self.full_scale = full_scale
        self.channels = channels
        self.plane = plane
        self.flat_field = flat_field

    def __call__(self, path: str | Path | Sequence[str | Path]) -> MetaTensor:
        """Counts ``(2, H, W)`` of the case at ``path``, or of the two files of its channels.

        Raises
        ------
        InputError
            When it is not an SRH case, or the region does not lie within it.
        """
        from srh_clinic.integration import read_slide

        slide: Slide = read_slide(path, self.um_per_px, self.full_scale, self.channels, self.plane, self.flat_field)
        scanned = slide
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
        require_unchanged(scanned)
        meta = {
            "um_per_px": slide.um_per_px,
            "notes": "; ".join(slide.notes),
            "region": list(region),
            "filename_or_obj": str(path if isinstance(path, str | Path) else path[0]),
            "channel_order": slide.identity.channel_order,
            "original_channel_dim": 0,
            "spatial_shape": list(counts.shape[1:]),
            "original_affine": _affine(slide.um_per_px, region),
            AFFINE_UNIT: "um",
        }
        values = torch.from_numpy(counts.astype(np.float32))
        return MetaTensor(values, affine=_affine(slide.um_per_px, region), meta=meta)


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
    um_per_px
        Pixel size of images that do not say theirs, such as arrays; that of the bundle when not given.
    """

    def __init__(
        self,
        bundle: str | Path = "phantom-demo",
        restorer: str = "rscd",
        device: str = "auto",
        seed: int = 0,
        um_per_px: float | None = None,
        **settings: Any,
    ) -> None:
        self.bundle = bundle
        self.um_per_px = um_per_px
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
        slide = _slide(image, bundle, self.um_per_px)
        restored = restore_slide(slide, look_over(slide), restorer, bundle, seed=self.seed)
        counts = restored.slide.read(0, 0, *slide.shape)
        return _like(image, counts.astype(np.float32), um_per_px=slide.um_per_px, predicted_steps=restored.steps.largest)


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
        size = pixel_size_of(image)
        facts: dict[str, Any] = {} if size is None else {UM_PER_PX: size}
        return _like(image, three_channel(counts_of(image), self.recipe), **facts, recipe=self.recipe)


class ClassifySRH(Transform):
    """Counts ``(2, H, W)`` of any size to the probabilities of tumor, normal and nondiagnostic, float32 ``(3,)``.

    Takes counts and not :class:`ThreeChannelSRH`'s view, because the classifier's own recipe belongs to its weights.

    Parameters
    ----------
    bundle
        Name or folder of the bundle with the classifier.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    um_per_px
        Pixel size of images that do not say theirs, such as arrays; that of the bundle when not given.
    """

    def __init__(self, bundle: str | Path = "phantom-demo", device: str = "auto", um_per_px: float | None = None) -> None:
        self.bundle = bundle
        self.device = device
        self.um_per_px = um_per_px

    def __call__(self, image: ArrayLike) -> MetaTensor:
        """The probabilities, with the metadata of ``image`` and the ``diagnosis``.

        Raises
        ------
        InputError
            When ``image`` is no counts or its pixel size is not the bundle's.
        """
        bundle, classifier = _classifier(self.bundle, self.device)
        slide = _slide(image, bundle, self.um_per_px)
        said = classify_slide(slide, look_over(slide).mask, classifier).diagnosis
        probabilities = np.array([said.probabilities[name] for name in CLASSES], dtype=np.float32)
        return _like(image, probabilities, um_per_px=slide.um_per_px, diagnosis=said.diagnosis)


class _EachKey(MapTransform):
    """The dictionary form of a transform: applied to each key, to an image that still says how large its pixels are."""

    def __init__(self, keys: KeysCollection, transform: Transform, allow_missing_keys: bool) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the transform's result at each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            self._require_metadata(result, key)
            result[key] = self.transform(result[key])
        return result

    def _require_metadata(self, data: Mapping[Hashable, Any], key: Hashable) -> None:
        """Refuse an image that :class:`LoadSRHd` has read and that a dataset has stripped of its metadata since."""
        loaded, image = data.get(f"{key}{LOADED}"), data[key]
        if loaded is None or getattr(self.transform, "um_per_px", None) is not None:
            return
        # A tensor says its own dimensions: NumPy would convert it first, and knows no bfloat16.
        if (image.ndim if isinstance(image, torch.Tensor) else np.ndim(image)) != 3:
            return
        if pixel_size_of(image) is not None:
            return
        needed = "one that keeps them, as PersistentDataset(track_meta=True, weights_only=False) does, or um_per_px=..."
        raise InputError(f"{key!r} without the metadata that it was loaded with (pixels of {float(loaded):g} um)", needed)


class LoadSRHd(_EachKey):
    """Dictionary form of :class:`LoadSRH`; at ``key + "_loaded_um_per_px"`` stands the pixel size, which no cache drops."""

    def __init__(self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, LoadSRH(*args, **kwargs), allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the counts of the case at each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
            result[f"{key}{LOADED}"] = float(result[key].meta[UM_PER_PX])
        return result


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
            self._require_metadata(result, key)
            result[f"{key}_probabilities"] = self.transform(result[key])
        return result


# Loaded once per process and kept by name, not in the transforms: those stay small enough to be sent to workers.
@lru_cache(maxsize=4)
def _restorer(
    bundle: str | Path, restorer: str, device: str, settings: tuple[tuple[str, Any], ...]
) -> tuple[Bundle, Restorer]:
    from srh_clinic.restorers import create_restorer

    return load_bundle(bundle), create_restorer(restorer, bundle=bundle, device=device, **dict(settings))


@lru_cache(maxsize=4)
def _classifier(bundle: str | Path, device: str) -> tuple[Bundle, PatchClassifier]:
    from srh_clinic.classifiers import load_classifier
    from srh_clinic.inference import choose_device

    loaded = load_bundle(bundle)
    return loaded, load_classifier(loaded, choose_device(device))


def _affine(um_per_px: float, region: Sequence[int]) -> torch.Tensor:
    """From pixels ``(row, column)`` of a region to micrometres from the slide's upper left corner, ``(4, 4)``."""
    affine = torch.diag(torch.tensor([um_per_px, um_per_px, 1, 1], dtype=torch.float64, device="cpu"))
    affine[0, 3], affine[1, 3] = region[0] * um_per_px, region[1] * um_per_px
    return affine


def _slide(image: ArrayLike, bundle: Bundle, um_per_px: float | None) -> ArraySlide:
    """The image as a slide; one that states no pixel size is taken to have ``um_per_px``, or the bundle's."""
    known = float(bundle.metadata["um_per_px"])
    slide = slide_of(image, known if um_per_px is None else um_per_px)
    if at_pixel_size(slide, known)[0] is not slide:
        needed = f"{known:g} um, as LoadSRH(spacing={known:g}) or Spacing(pixdim=({known:g}, {known:g})) makes them"
        raise InputError(f"pixels of {slide.um_per_px:g} um", needed)
    return slide


def _like(image: ArrayLike, values: np.ndarray[Any, np.dtype[np.float32]], **facts: Any) -> MetaTensor:
    """``values`` with the metadata of ``image``, what MONAI has done to it, and some facts more."""
    if not isinstance(image, MetaTensor):
        return MetaTensor(torch.from_numpy(values), meta=facts)
    return MetaTensor(
        torch.from_numpy(values),
        meta={**deepcopy(image.meta), **facts},
        applied_operations=deepcopy(image.applied_operations),
    )
