"""Images in memory, arrays and tensors of any kind, as counts and as slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide

UM_PER_PX = "um_per_px"
"""Among the metadata of an image: its pixel size in micrometres as loaded, or as one of our transforms left it."""

AFFINE_UNIT = "affine_unit"
"""Among the metadata of an image: ``"um"`` where its affine is in micrometres, as that of one that we loaded."""

SQUARE = 0.02
"""Height and width of a pixel may differ by this share: a slide zoomed to whole pixels is seldom exactly square."""

LEAST_ROUNDED = 256
"""An image that was resampled is rounded to whole counts; one that is nowhere brighter than this holds no counts."""


def counts_of(image: ArrayLike | Any) -> Counts:
    """Counts of one image ``(2, H, W)``: an array or tensor of any type, on any device, with or without gradient.

    They are whole numbers from 0 to 65535. Anything else is refused, not rounded, but for what MONAI says it has resampled.

    Raises
    ------
    InputError
        When ``image`` is no such image.
    """
    needed = "counts of shape (2, H, W)"
    if isinstance(image, str | Path):
        raise InputError(f"the path {str(image)!r}", f"{needed}; LoadSRH reads a file")
    if isinstance(image, list | tuple) and any(isinstance(one, str | Path) or hasattr(one, "shape") for one in image):
        raise InputError(f"a {type(image).__name__} of {len(image)}", f"one image, {needed}; call it for each")
    values = _values(image)
    if values.ndim == 4 and values.shape[1] == 2:
        found = f"a batch of {len(values)} images, shape {values.shape}"
        raise InputError(found, f"one image, {needed}; call it for each, as monai.data.decollate_batch gives them")
    if values.ndim != 3 or values.shape[0] != 2 or 0 in values.shape:
        raise InputError(f"an image of shape {values.shape}", needed)
    if values.dtype == np.uint16:
        return values
    if values.dtype == bool or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise InputError(f"values of type {values.dtype}", "counts: whole numbers from 0 to 65535")
    return _whole(values, resampled=bool(getattr(image, "applied_operations", None)))


def _values(image: Any) -> NDArray[Any]:
    import torch

    if not isinstance(image, torch.Tensor):
        try:
            return np.asarray(image)
        except (TypeError, ValueError) as error:  # ragged lists
            raise InputError(f"a {type(image).__name__} that is no array", "counts of shape (2, H, W)") from error
    try:
        tensor = image.detach().as_subclass(torch.Tensor).cpu()
        wide = tensor.dtype in (torch.bfloat16, torch.float16)  # numpy knows only one of them
        return np.asarray((tensor.float() if wide else tensor).resolve_neg().numpy())
    except (RuntimeError, TypeError) as error:  # sparse, quantised, on a device that gives nothing back
        found = f"a tensor of {image.dtype} ({image.layout}) on {image.device.type} that has no numbers to read"
        raise InputError(found, "a dense tensor of counts") from error


def _whole(values: NDArray[Any], resampled: bool) -> Counts:
    needed = "counts: whole numbers from 0 to 65535"
    if not np.isfinite(values).all():
        raise InputError("values that are not finite", needed)
    low, high = values.min(), values.max()
    if low < 0 or high > 65_535:
        raise InputError(f"values from {low:g} to {high:g}", needed)
    counts = np.rint(values).astype(np.uint16)
    if np.array_equal(counts, values) or (resampled and high >= LEAST_ROUNDED):
        return counts
    raise InputError(f"values from {low:g} to {high:g}, not all whole", needed)


def pixel_size_of(image: Any) -> float | None:
    """Edge of a pixel in micrometres, as an image's metadata say; None where they say nothing, as those of an array.

    What has moved, turned, or resampled the image since it was loaded is in its affine.

    Raises
    ------
    InputError
        When its pixels are not square, or its affine does not say in which unit it is.
    """
    meta, affine = getattr(image, "meta", None), getattr(image, "affine", None)
    if not isinstance(meta, dict):
        return None
    stated = meta.get(UM_PER_PX)
    if affine is None:
        return None if stated is None else float(stated)
    axes = np.asarray(affine, dtype=np.float64)[:-1, :2]
    height, width = (float(np.linalg.norm(axis)) for axis in axes.T)
    if not min(height, width) > 0 or abs(axes[:, 0] @ axes[:, 1]) > SQUARE * height * width:
        raise InputError("pixels that are sheared, as the affine says", "square pixels")
    if abs(height / width - 1) > SQUARE:
        raise InputError(
            f"pixels of {height:g} by {width:g}, as the affine says", "square pixels, resampled alike in both axes"
        )
    size = (height * width) ** 0.5
    if meta.get(AFFINE_UNIT) == "um":
        return size
    if abs(size - 1) <= SQUARE:  # pixels, as in an image that was made of an array
        return None if stated is None else float(stated)
    if stated is not None and abs(size / float(stated) - 1) <= SQUARE:
        return float(stated)
    found = f"an affine with pixels of {size:g} in no stated unit, and {UM_PER_PX} {stated}"
    raise InputError(found, f'an image that LoadSRH has read, or one whose metadata say {AFFINE_UNIT} "um"')


def slide_of(image: Any, um_per_px: float | None = None) -> ArraySlide:
    """An image in memory as a slide.

    Parameters
    ----------
    um_per_px
        Of images that do not say theirs.

    Raises
    ------
    InputError
        When it is no counts ``(2, H, W)``, or nobody says how large its pixels are.
    """
    counts = counts_of(image)
    size = pixel_size_of(image)
    if size is None:
        size = um_per_px
    if size is None:
        found = f"{type(image).__name__} of shape {tuple(counts.shape)}, which says no pixel size"
        raise InputError(found, "ArraySlide(counts, um_per_px), or an image that LoadSRH has read")
    return ArraySlide(counts, size)


def as_paths(images: object) -> Sequence[str | Path] | None:
    """The files of a case's channels, where that is what they are."""
    if isinstance(images, list | tuple) and images and all(isinstance(one, str | Path) for one in images):
        return images
    return None
