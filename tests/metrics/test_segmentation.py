import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import jaccard_score

from pipeline.io.arrays import read_label
from pipeline.metrics.segmentation import (
    confusion_matrix,
    image_counts,
    mean_iou,
    scores_of,
    threshold_counts,
)

NAMES = ["background", "a", "b"]


def scores(ground_truth, predicted, names=NAMES):
    counts = confusion_matrix(
        np.array(ground_truth, np.uint8), np.array(predicted, np.uint8), len(names)
    )
    return scores_of(counts, names)


def test_a_perfect_prediction():
    result = scores([[0, 1, 2]], [[0, 1, 2]])
    assert result["miou"] == 1 and result["pixel_accuracy"] == 1
    assert result["false_positive_share"] == result["false_negative_share"] == 0
    assert result["absent_classes"] == []


def test_a_prediction_by_hand():
    result = scores([[0, 0, 0, 1, 1, 255]], [[0, 0, 1, 1, 2, 1]])
    background, a, b = result["classes"]
    assert background["iou"] == pytest.approx(2 / 3)
    assert background["precision"] == 1 and background["recall"] == pytest.approx(2 / 3)
    assert a["iou"] == pytest.approx(1 / 3)
    assert a["precision"] == a["recall"] == 0.5
    assert a["false_positive_share"] == a["false_negative_share"] == pytest.approx(1 / 3)
    assert b["iou"] == 0 and b["recall"] is None and b["precision"] == 0
    assert result["miou"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert result["pixel_accuracy"] == pytest.approx(3 / 5)
    assert result["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_a_class_absent_from_both_is_left_out_and_named():
    result = scores([[0, 1]], [[0, 1]])
    assert result["miou"] == 1
    assert result["absent_classes"] == ["b"]
    assert result["classes"][2]["iou"] is None


def test_a_class_absent_from_the_prediction_alone_counts_zero():
    result = scores([[0, 2]], [[0, 0]])
    assert result["miou"] == pytest.approx((1 / 2 + 0) / 2)


def test_void_ground_truth_is_never_scored():
    result = scores([[255, 255]], [[1, 2]])
    assert result["miou"] is None and result["pixel_accuracy"] is None
    assert result["absent_classes"] == NAMES


def test_an_uncertain_prediction_counts_as_a_miss():
    result = scores([[1, 1]], [[1, 255]])
    assert result["classes"][1]["iou"] == 0.5
    assert result["classes"][1]["precision"] == 1
    assert result["pixel_accuracy"] == 0.5
    assert result["uncertain_pixels"] == 1


@pytest.mark.parametrize(
    ("ground_truth", "predicted", "message"),
    [
        ([[0, 1]], [[0], [1]], r"prediction is \(2, 1\), expected \(1, 2\)"),
        ([[0, 9]], [[0, 1]], "ground truth has the value 9, expected 0 to 2"),
        ([[0, 1]], [[0, 9]], "prediction has the value 9, expected 0 to 2"),
    ],
)
def test_other_sizes_and_values_are_refused(ground_truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        scores(ground_truth, predicted)


LABELS = hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 255]))
SURE = hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2]))


@given(ground_truth=LABELS, predicted=SURE)
def test_iou_equals_scikit_learns(ground_truth, predicted):
    ious = [row["iou"] for row in scores(ground_truth, predicted)["classes"]]
    assume((ground_truth != 255).any())
    ground_truth, predicted = ground_truth[ground_truth != 255], predicted[ground_truth != 255]
    present = np.union1d(ground_truth, predicted).tolist()
    expected = dict.fromkeys(range(3)) | dict(
        zip(
            present,
            jaccard_score(ground_truth, predicted, labels=present, average=None),
            strict=True,
        )
    )
    assert ious == pytest.approx(list(expected.values()))


@given(ground_truth=LABELS, predicted=LABELS)
def test_counts_of_parts_add_up_and_mirroring_changes_nothing(ground_truth, predicted):
    whole = confusion_matrix(ground_truth, predicted, 3)
    parts = confusion_matrix(ground_truth[:2], predicted[:2], 3) + confusion_matrix(
        ground_truth[2:], predicted[2:], 3
    )
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, confusion_matrix(ground_truth[:, ::-1], predicted[:, ::-1], 3))
    assert whole.sum() == (ground_truth != 255).sum()


@given(
    ground_truth=LABELS,
    maps=hnp.arrays(np.float32, (2, 5, 6), elements=st.sampled_from(np.linspace(0, 1, 9).tolist())),
)
def test_the_sweep_equals_brute_force_at_every_threshold(ground_truth, maps):
    thresholds = np.array([0.125, 0.25, 0.3, 0.75, 0.999])  # some are values of the maps: ties
    numbers = np.array([1, 2])
    counts = threshold_counts(ground_truth, maps, numbers, thresholds, 3)
    for threshold, got in zip(thresholds, counts, strict=True):
        label = np.where(maps.max(axis=0) > threshold, numbers[maps.argmax(axis=0)], 0)
        assert np.array_equal(got, confusion_matrix(ground_truth, label.astype(np.uint8), 3))


def test_the_sweep_of_an_image_without_labels_is_all_background():
    ground_truth = np.array([[0, 1, 255]], np.uint8)
    counts = threshold_counts(
        ground_truth, np.zeros((0, 1, 3), np.float32), np.array([], np.int64), np.array([0.5]), 3
    )
    assert counts[0, :, 0].tolist() == [1, 1, 0]
    assert counts.sum() == 2


def test_large_counts_do_not_overflow():
    counts = np.full((2, 3), 2**40, np.int64)
    assert scores_of(counts, ["background", "a"])["classes"][0]["pixels_true"] == 3 * 2**40


def test_real_masks_against_themselves_are_perfect(voc_subset):
    names = ["background", *map(str, range(1, 21))]
    total = np.zeros((21, 22), np.int64)
    for path in sorted((voc_subset / "SegmentationClass").glob("*.png"))[:10]:
        mask = read_label(path)
        assert 255 in mask
        total += confusion_matrix(mask, mask, 21)
    assert scores_of(total, names)["miou"] == 1


@given(hnp.arrays(np.int64, (4, 3, 4), elements=st.integers(0, 5)))
def test_counts_of_images_lead_to_the_same_miou(matrices):
    counts = image_counts(matrices)
    assert counts.shape == (4, 3, 3)
    for matrix, of_image in zip(matrices, counts, strict=True):
        expected = scores_of(matrix, NAMES)["miou"]
        assert mean_iou(of_image) == pytest.approx(
            np.nan if expected is None else expected, nan_ok=True
        )
    whole = scores_of(matrices.sum(axis=0), NAMES)["miou"]
    assert mean_iou(counts.sum(axis=0)) == pytest.approx(
        np.nan if whole is None else whole, nan_ok=True
    )
