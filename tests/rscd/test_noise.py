"""Noise belongs to a place: published vectors of the generator, and what tiles see of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from srh_clinic.errors import InputError
from srh_clinic.rscd.noise import block_noise

MAX = 2**64 - 1


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]),
        ([MAX] * 4, [MAX] * 2, [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
        ),
    ],
)
def test_the_generator_is_philox_4x64_10_as_published(counter: list[int], key: list[int], words: list[int]) -> None:
    """Known answers of Random123; numpy counts up before it draws, so it starts one lower."""
    before = (sum(word << (64 * i) for i, word in enumerate(counter)) - 1) % 2**256
    start = np.array([before >> (64 * i) & MAX for i in range(4)], dtype=np.uint64)
    assert np.random.Philox(counter=start, key=np.array(key, dtype=np.uint64)).random_raw(4).tolist() == words


def test_noise_of_a_pixel_follows_from_its_blocks_stream() -> None:
    """Results must not change between versions: pixel (1001, 2001) is place (41, 17) of block (15, 31)."""
    counter = np.array([0, 15, 31, (2 << 32) | 20], dtype=np.uint64)
    word = int(np.random.Philox(counter=counter, key=np.array([7, 0], dtype=np.uint64)).random_raw(64 * 64)[41 * 64 + 17])
    radius, angle = np.sqrt(-2 * np.log(((word >> 32) + 0.5) / 2**32)), 2 * np.pi * (word & 0xFFFFFFFF) / 2**32
    pixel = block_noise(7, 1001, 2001, 1, 1, round=2, step=20)[:, 0, 0]
    # float32 keeps 24 of the angle's 32 bits.
    np.testing.assert_allclose(pixel, [radius * np.cos(angle), radius * np.sin(angle)], atol=2e-6)


def test_overlapping_tiles_see_the_same_noise() -> None:
    place = {"round": 1, "step": 20}
    whole = block_noise(3, 0, 0, 300, 420, **place)
    for y, x, height, width in ((0, 0, 256, 256), (44, 100, 256, 256), (63, 63, 2, 2), (299, 419, 1, 1)):
        np.testing.assert_array_equal(block_noise(3, y, x, height, width, **place), whole[:, y : y + height, x : x + width])


def test_seed_place_round_and_step_each_change_the_noise() -> None:
    reference = {"seed": 1, "y": 64, "x": 128, "round": 2, "step": 3}
    variants = [reference] + [reference | {name: value} for name, value in (("seed", 2), ("y", 128), ("x", 64), ("round", 3))]
    variants.append(reference | {"round": 3, "step": 2})
    drawn = np.stack([block_noise(height=64, width=64, **variant).ravel() for variant in variants])
    # Independent draws of 8,192 values correlate by 0.011; 0.055 is five standard deviations.
    assert np.abs(np.corrcoef(drawn) - np.eye(len(drawn))).max() < 0.055


def test_noise_is_standard_normal_in_both_channels() -> None:
    noise = block_noise(11, 0, 0, 512, 512, round=0, step=0).astype(np.float64)
    for channel in noise:
        # Kolmogorov and Smirnov's distance of 262,144 true draws exceeds this once in 10^6.
        assert stats.kstest(channel.ravel(), "norm").statistic < 2.7 / 512
    # Five standard errors: products have variance 1, products of squares 8.
    assert abs((noise[0] * noise[1]).mean()) < 5 / 512
    assert abs((noise[0] ** 2 * noise[1] ** 2).mean() - 1) < 5 * np.sqrt(8) / 512
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 5 / 724
    assert abs((noise[:, :, 1:] * noise[:, :, :-1]).mean()) < 5 / 724


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        block_noise(-1, 0, 0, 8, 8, round=0, step=0)
