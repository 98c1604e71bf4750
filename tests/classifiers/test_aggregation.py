import numpy as np
import pytest

from srh_clinic.classifiers import HOLLON_2020_CLASSES, aggregate, collapse_hollon_2020
from srh_clinic.diagnosis import CLASSES

TUMOR, NORMAL, BLANK = np.array([0.8, 0.1, 0.1]), np.array([0.2, 0.7, 0.1]), np.array([0.1, 0.1, 0.8])


def test_non_diagnostic_patches_leave_the_sum():
    result = aggregate(np.stack([TUMOR, TUMOR, NORMAL, *[BLANK] * 17]))
    assert result.diagnosis == "tumor"
    assert result.n_diagnostic == 3
    # (0.8 + 0.8 + 0.2) / (1.8 + 0.9)
    assert result.probabilities == pytest.approx({"tumor": 2 / 3, "normal": 1 / 3, "nondiagnostic": 0.0})


def test_too_few_diagnostic_patches_make_the_slide_non_diagnostic():
    enough, too_few = [TUMOR] * 4 + [BLANK] * 36, [TUMOR] * 3 + [BLANK] * 37
    assert aggregate(np.stack(enough)).diagnosis == "tumor"
    slide = aggregate(np.stack(too_few))
    assert (slide.diagnosis, slide.n_diagnostic, slide.n_required) == ("nondiagnostic", 3, 4)
    assert slide.probabilities["nondiagnostic"] == pytest.approx((3 * 0.1 + 37 * 0.8) / 40)


def test_a_small_slide_needs_the_count_but_not_more_patches_than_it_has():
    assert aggregate(np.stack([TUMOR, TUMOR, BLANK, BLANK, BLANK])).diagnosis == "nondiagnostic"
    assert aggregate(TUMOR[None]).diagnosis == "tumor"


def test_a_slide_without_tissue_is_non_diagnostic():
    slide = aggregate(np.empty((0, 3)))
    assert slide.diagnosis == "nondiagnostic"
    assert slide.probabilities == {"tumor": 0.0, "normal": 0.0, "nondiagnostic": 1.0}


def test_the_papers_threshold_calls_an_infiltrated_slide_tumor():
    patches = np.stack([NORMAL] * 8)
    assert aggregate(patches).diagnosis == "normal"
    assert aggregate(patches, normal_above=0.9).diagnosis == "tumor"


def test_order_of_patches_does_not_matter():
    rng = np.random.default_rng(0)
    patches = rng.dirichlet([1, 1, 1], 50)
    first, second = aggregate(patches), aggregate(rng.permutation(patches))
    assert first.probabilities == pytest.approx(second.probabilities, abs=1e-12)


def test_rows_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        aggregate(np.ones((4, 3)))


def test_the_fourteen_classes_fall_into_ten_tumors_three_normals_and_one_other():
    ours = list(HOLLON_2020_CLASSES.values())
    assert [ours.count(name) for name in CLASSES] == [10, 3, 1]
    one_hot = collapse_hollon_2020(np.eye(14))
    assert np.array_equal(np.array(CLASSES)[one_hot.argmax(axis=1)], ours)
    assert np.allclose(collapse_hollon_2020(np.full((2, 14), 1 / 14)), [10 / 14, 3 / 14, 1 / 14])


def test_the_support_of_a_slide_counts_how_non_diagnostic_its_patches_are():
    doubtful = np.array([[0.55, 0.05, 0.40]] * 4)
    found = aggregate(doubtful)
    assert found.diagnosis == "tumor"
    assert found.probabilities["tumor"] == pytest.approx(0.55 / 0.60)
    assert found.support == pytest.approx(0.55)
    assert aggregate(np.array([[0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])).support == pytest.approx(0.7)
