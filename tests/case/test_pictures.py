"""Values of squares on pictures."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from srh_clinic.case.pictures import NO_SQUARES, Box, SquareMap, draw_case


def pixel_by_pixel(squares: SquareMap, shape: tuple[int, int], factor: int) -> np.ndarray:
    """The mean of the squares that lie on each pixel, one square after the other; the reference."""
    total, count = np.zeros((*shape, *squares.values.shape[1:]), np.float32), np.zeros(shape, np.float32)
    edge = max(squares.edge // factor, 1)
    for (y, x), value in zip(squares.positions // factor, squares.values, strict=True):
        total[y : y + edge, x : x + edge] += value
        count[y : y + edge, x : x + edge] += 1
    with np.errstate(invalid="ignore"):
        return total / count.reshape(shape + (1,) * (total.ndim - 2))


@pytest.mark.parametrize("factor", [1, 3, 7, 300])
@pytest.mark.parametrize("width", [None, 3])
def test_squares_are_painted_as_if_pixel_by_pixel(factor, width):
    rng = np.random.default_rng(factor)
    positions = rng.integers(0, 500, (40, 2))
    values = rng.random(40 if width is None else (40, width)).astype(np.float32)
    squares = SquareMap(positions, 64, values)
    shape = (-(-520 // factor), -(-540 // factor))
    np.testing.assert_array_equal(squares.painted(shape, factor), pixel_by_pixel(squares, shape, factor))


def test_where_no_square_lies_there_is_nothing():
    assert np.isnan(NO_SQUARES.painted((3, 4), 2)).all()
    assert NO_SQUARES.painted((3, 4), 2).shape == (3, 4)


def test_boxes_and_maps_of_no_square_are_drawn(result, tmp_path):
    empty = SquareMap(NO_SQUARES.positions, 1, np.empty((0, 3)))
    bare = replace(result.maps, steps=NO_SQUARES, trust=NO_SQUARES, classes_before=empty, classes_after=empty)
    spoken = SquareMap(np.array([[0, 0], [64, 64]]), 64, np.array([0.5, 2.0]))
    boxes = [Box(number, 10, 70 * number, 64, 64) for number in (1, 2)]
    drawn = {}
    for name, maps, marked in (("bare", bare, []), ("marked", replace(bare, trust=spoken), boxes)):
        (tmp_path / name).mkdir()
        made = draw_case(maps, marked, marked, ["two", "lines"], tmp_path / name)
        drawn[name] = {file: np.asarray(Image.open(tmp_path / name / file).convert("RGB")) for file in made}
    for file in ("step_map.png", "trust_map.png", "summary.png"):
        bare_sheet, marked_sheet = (drawn[name][file] for name in drawn)
        assert bare_sheet.shape == marked_sheet.shape
        assert (bare_sheet != marked_sheet).any(axis=2).sum() > 500, file
    np.testing.assert_array_equal(drawn["bare"]["class_map.png"], drawn["marked"]["class_map.png"])
