"""Many good patches by the guidance of a few: what an expert picked says by resemblance which of all others are as good.

The paper trains on all patches first and then on the best; a person cannot look at a million, so a few hundred picks guide the
choice. Here patches are compared by the features of a classifier, which sees how sharp and how noisy they are.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from srh_clinic.bundles import load_bundle
from srh_clinic.display import three_channel
from srh_clinic.files import fingerprint, whole_file, write_whole
from srh_clinic.intensity import Counts
from srh_clinic.training.images import find_images
from srh_clinic.training.slide_pool import Reading, SlidePool

if TYPE_CHECKING:
    from srh_clinic.classifiers import PatchClassifier

NEAREST = 3
"""Picks whose resemblance counts: a patch need not be like all of them."""

SHEET = "picks.png"
CHOICE = "chosen.csv"

_SHOWN, _EDGE, _BATCH = 8, 128, 64


def choose(pool: SlidePool, picks: Path, keep: float, folder: Path, bundle: str = "phantom-demo") -> NDArray[np.int64]:
    """The training tiles that resemble the picks most.

    Writes ``chosen.csv``, every training tile with its resemblance and whether it was kept, and ``picks.png``, a contact sheet
    of the picks, the best and the last of those kept, and the best of those left out.

    Parameters
    ----------
    pool
        Whose training tiles are to be chosen from.
    picks
        The picked patches: any data that :func:`~srh_clinic.training.images.find_images` takes, of each its middle.
    keep
        Share of the training tiles that is kept, above 0.
    folder
        Where the choice is written; one that is there for the same data is taken as it is.
    bundle
        Whose classifier compares them.

    Returns
    -------
    int64 ``(M,)``
        Numbers of the training tiles kept, in ascending order.

    Raises
    ------
    InputError
        When there are no picks, or one cannot be read.
    """
    images = find_images(picks, "files")
    classifier = _classifier(bundle)
    places = [(*map(str, pool.image_of(at).files), *pool.corner_of(at)) for at in range(pool.training_count)]
    picked_files = [list(map(str, one.files)) for one in images]
    key = fingerprint(tiles=places, picks=picked_files, keep=keep, weights=load_bundle(bundle).weights_sha256)
    kept_as = folder / f"chosen-{key}.npy"
    if kept_as.exists():
        return np.asarray(np.load(kept_as), dtype=np.int64)
    picked = np.stack([_middle(pool.reading, image, classifier.patch) for image in images])
    wanted = _unit(classifier.embed(picked))
    parts = (range(start, min(start + _BATCH, pool.training_count)) for start in range(0, pool.training_count, _BATCH))
    tiles = (_unit(classifier.embed(_tiles(pool, part, classifier.patch))) for part in parts)
    resemblance = np.concatenate([_resemblance(features, wanted) for features in tiles])
    order = np.argsort(-resemblance, kind="stable")
    count = max(round(keep * pool.training_count), 1)
    chosen = np.sort(order[:count])
    folder.mkdir(parents=True, exist_ok=True)
    _write_choice(pool, resemblance, chosen, folder / CHOICE)
    rows = [picked[:_SHOWN], *(_tiles(pool, part, classifier.patch) for part in _parts(order, count))]
    _write_sheet(rows, folder / SHEET)
    with whole_file(kept_as) as draft, draft.open("wb") as file:
        np.save(file, chosen)
    return np.asarray(chosen, dtype=np.int64)


def _parts(order: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """The best and the last of those kept, and the best of those left out."""
    parts = order[: min(count, _SHOWN)], order[max(count - _SHOWN, 0) : count], order[count : count + _SHOWN]
    return [part for part in parts if len(part)]


def _classifier(bundle: str) -> PatchClassifier:
    from srh_clinic.classifiers import load_classifier

    return load_classifier(load_bundle(bundle))


def _middle(reading: Reading, image: object, patch: int) -> Counts:
    slide = reading.open(image)  # type: ignore[arg-type]
    height, width = (min(edge, patch) for edge in slide.shape)
    counts = slide.read((slide.shape[0] - height) // 2, (slide.shape[1] - width) // 2, height, width)
    return _padded(counts[None], patch)[0]


def _tiles(pool: SlidePool, indices: range | NDArray[np.int64], patch: int) -> Counts:
    size = min(pool.size, patch)
    corner = np.full(len(indices), (pool.size - size) // 2)
    return _padded(pool.counts(list(indices), corner, corner, size), patch)


def _padded(counts: Counts, patch: int) -> Counts:
    """Reflected to the classifier's size where an image is smaller."""
    lacks = [patch - edge for edge in counts.shape[2:]]
    widths = [(0, 0), (0, 0), *((lack // 2, lack - lack // 2) for lack in lacks)]
    return np.pad(counts, widths, mode="symmetric") if any(lacks) else counts


def _unit(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def _resemblance(features: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine to the nearest picks."""
    cosines = np.sort(features @ wanted.T, axis=1)[:, ::-1]
    return np.asarray(cosines[:, :NEAREST].mean(axis=1))


def _write_choice(pool: SlidePool, resemblance: NDArray[np.float64], chosen: NDArray[np.int64], path: Path) -> None:
    kept = set(chosen.tolist())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "top", "left", "resemblance", "kept"])
    for at, value in enumerate(resemblance):
        image = pool.image_of(at)
        writer.writerow([image.files[0].name, image.patient, *pool.corner_of(at), f"{value:.4f}", int(at in kept)])
    write_whole(path, text.getvalue(), "the choice")


def _write_sheet(rows: list[Counts], path: Path) -> None:
    from PIL import Image

    sheet = np.full((3, _EDGE * len(rows), _EDGE * _SHOWN), 255, dtype=np.uint8)
    for down, patches in enumerate(rows):
        for right, patch in enumerate(patches[:_SHOWN]):
            view = np.rint(255 * three_channel(patch, "rscd")).astype(np.uint8)
            small = np.asarray(Image.fromarray(view.transpose(1, 2, 0)).resize((_EDGE, _EDGE)))
            sheet[:, down * _EDGE : (down + 1) * _EDGE, right * _EDGE : (right + 1) * _EDGE] = small.transpose(2, 0, 1)
    with whole_file(path) as draft:
        Image.fromarray(sheet.transpose(1, 2, 0)).save(draft, format="PNG")
