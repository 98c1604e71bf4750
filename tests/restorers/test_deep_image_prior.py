"""Deep Image Prior: the authors' network, results that belong to seed and place, and fits that fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_unit, unit_to_counts
from srh_clinic.restorers import RestoredTile, Tile, create_restorer
from srh_clinic.restorers.deep_image_prior import SkipNetwork
from srh_clinic.restorers.settings import DeepImagePriorSettings

SMALL = {"channels": 8, "scales": 2, "iterations": 12}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of operations this small spend their time waiting for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiles(count: int = 3, size: tuple[int, int] = (16, 16)) -> list[Tile]:
    counts = np.random.default_rng(0).integers(0, 65535, (count, 2, *size)).astype(np.uint16)
    return [Tile(i, one, y=64 * i, x=10) for i, one in enumerate(counts)]


def restore(given: Iterable[Tile], seed: int = 5, **settings: Any) -> dict[int, RestoredTile]:
    restorer = create_restorer("deep_image_prior", device="cpu", **(SMALL | settings))
    return {tile.key: tile for tile in restorer.stream(given, seed)}


def test_the_default_network_is_the_authors() -> None:
    """Their denoising example prints 2,217,831 parameters for three output planes; ours has one plane less."""
    network = SkipNetwork(DeepImagePriorSettings())
    assert sum(weight.numel() for weight in network.parameters()) == 2_217_831 - (128 + 1)
    with torch.inference_mode():
        drawn = network(torch.zeros(1, 32, 64, 96))
    assert drawn.shape == (1, 2, 64, 96)


def test_a_fit_draws_the_image_before_its_noise() -> None:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 48, 48)), (0, 6, 6), mode="wrap")
    clean = 0.4 + 0.1 * smooth / smooth.std()
    noisy = unit_to_counts(clean + 0.08 * rng.standard_normal(clean.shape))
    result = restore([Tile(0, noisy)], scales=3, iterations=100, average=0.9, learning_rate=0.02)[0]
    errors = [np.sqrt(np.mean((counts_to_unit(counts) - clean) ** 2)) for counts in (noisy, result.counts)]
    assert errors[0] == pytest.approx(0.08, rel=0.05)
    assert errors[1] < 0.5 * errors[0]
    assert (result.stop_reason, result.evaluations, result.flags) == ("iterations", 100, ())
    assert (result.t_pred, result.steps, result.rounds) == (-1, 0, 0)


def test_a_result_belongs_to_the_seed_and_the_tiles_place() -> None:
    """Not to the other tiles, their order, torch's own generator, or gradients that a caller has switched off."""
    given = tiles()
    reference = restore(given)
    torch.manual_seed(77)
    with torch.inference_mode():
        backwards = restore(given[::-1])
    alone = restore(given[1:2])
    for key, result in [*backwards.items(), *alone.items()]:
        np.testing.assert_array_equal(result.counts, reference[key].counts)
    elsewhere = restore([Tile(1, given[1].counts, y=0, x=10)])[1]
    for other in (elsewhere, restore(given[1:2], seed=6)[1]):
        assert (other.counts != reference[1].counts).mean() > 0.9


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (1, 5)])
def test_any_tile_size_is_served(size: tuple[int, int]) -> None:
    assert restore(tiles(1, size))[0].counts.shape == (2, *size)


def test_a_fit_whose_error_is_not_finite_fails_and_names_the_tile() -> None:
    with pytest.raises(InputError, match=r"tile 0 at \(0, 10\) that diverges: an error of nan .*lower learning_rate"):
        restore(tiles(1), learning_rate=1e30)


def test_a_fit_that_drops_goes_back_and_too_often_fails() -> None:
    """Under a jitter as strong as the input the error rises now and then, and any rise is a drop here."""
    shaky = {"largest_drop": 1e-6, "check_every": 1, "jitter": 1.0, "iterations": 40}
    assert restore(tiles(1), **shaky, max_rollbacks=40)[0].flags == ("rolled-back",)
    with pytest.raises(InputError, match="1 returns to earlier weights"):
        restore(tiles(1), **shaky, max_rollbacks=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        restore(tiles(1), seed=seed)
