import numpy as np
import pytest
import torch

from srh_clinic.rscd.calibrator import REGION_KINDS, StepCalibrator, q_sample, region_mask, two_region
from srh_clinic.rscd.schedule import create_schedule

SCHEDULE = create_schedule()


def images(count: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x0 = torch.rand(count, 2, size, size, generator=generator) * 2 - 1
    return x0, torch.randn(x0.shape, generator=generator)


def test_a_state_is_the_weighted_sum_of_image_and_noise():
    x0, noise = images()
    t = torch.tensor([34, 190])
    state = q_sample(x0, t, noise, SCHEDULE)
    for k, step in enumerate(t.tolist()):
        expected = np.sqrt(SCHEDULE.alpha_bar[step]) * x0[k].double() + SCHEDULE.sigma[step] * noise[k].double()
        torch.testing.assert_close(state[k].double(), expected, atol=1e-6, rtol=0)  # float32 tables


def test_unit_gain_leaves_the_signal_and_adds_the_same_noise():
    x0, noise = images()
    t = torch.tensor([10, 120])
    added = q_sample(x0, t, noise, SCHEDULE, "unit") - x0
    for k, step in enumerate(t.tolist()):
        assert float((added[k] / noise[k]).median()) == pytest.approx(SCHEDULE.sigma[step], rel=1e-4)


def test_index_minus_one_is_the_clean_image():
    x0, noise = images()
    assert torch.equal(q_sample(x0, torch.tensor([-1, -1]), noise, SCHEDULE), x0)


def test_two_regions_are_two_states_cut_along_the_mask():
    x0, noise = images()
    t, t_small = torch.tensor([100, 80]), torch.tensor([20, -1])
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[:, 10:30, 5:50] = True
    mixed = two_region(x0, t, t_small, mask, noise, SCHEDULE)
    inside = mask[:, None].expand_as(x0)
    assert torch.equal(mixed[inside], q_sample(x0, t, noise, SCHEDULE)[inside])
    assert torch.equal(mixed[~inside], q_sample(x0, t_small, noise, SCHEDULE)[~inside])


def test_the_papers_rectangle_has_its_sides_and_is_strong_inside_in_forty_percent():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        mask = region_mask(rng, 256, "rectangle")
        filled = mask if not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any() else ~mask
        inside += filled is mask
        sides = np.flatnonzero(filled.any(axis=1)).size, np.flatnonzero(filled.any(axis=0)).size
        assert filled.sum() == sides[0] * sides[1]
        assert all(30 <= side <= 180 for side in sides)
    # Binomial(400, 0.4) has a standard deviation of 0.0245; corners covered by the rectangle are too rare to matter.
    assert inside / 400 == pytest.approx(0.40, abs=0.08)


@pytest.mark.parametrize("kind", REGION_KINDS)
def test_every_region_kind_leaves_two_regions(kind):
    rng = np.random.default_rng(1)
    for size in (64, 256):
        assert all(0 < region_mask(rng, size, kind, side=(10, 60)).mean() < 1 for _ in range(20))


def test_a_prediction_does_not_depend_on_what_else_is_asked():
    torch.manual_seed(0)
    from srh_clinic.rscd.networks import create_calibrator

    calibrator = StepCalibrator(create_calibrator({"backbone": "test_resnet", "stage": 2, "energy_filters": 6}), batch_size=4)
    x0, _ = images(7)
    together = calibrator.predict(x0)
    assert together.dtype == np.float64
    assert np.array_equal(together, np.concatenate([calibrator.predict(x0[k : k + 1]) for k in range(7)]))
    assert np.array_equal(together[::-1], calibrator.predict(x0.flip(0)))


def test_nothing_asked_is_nothing_answered():
    assert StepCalibrator(lambda x: x[:, 0, 0, 0]).predict(torch.empty(0, 2, 8, 8)).shape == (0,)
