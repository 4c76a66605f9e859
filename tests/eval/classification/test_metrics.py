"""Exact values, then scikit-learn as the reference, also on resampled images."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.config import UserError
from eval.classification.metrics import CELLS, METRICS, classification_metrics, probabilistic_f1
from eval.classification.weighted import Ranking, weighted_auroc, weighted_sums
from eval.stats.bootstrap import percentile_interval, resample_counts
from eval.stats.calibration import expected_calibration_error

NAN = float("nan")


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def figures(labels: np.ndarray, scores: np.ndarray, **options: object) -> dict[str, float | None]:
    names = [f"Finding {k}" for k in range(labels.shape[1])]
    options = {"thresholds": np.full(labels.shape[1], 0.5), "num_resamples": 50} | options
    return classification_metrics(labels, scores, findings=names, **options)


def test_no_images() -> None:
    found = figures(np.zeros((0, 2)), np.zeros((0, 2)))
    counts = [name for name in found if name.split("/")[0] in ("positives", *CELLS)]
    assert [found.pop(name) for name in counts] == [0.0] * (3 + 2 * 4)
    assert set(found.values()) == {None}
    assert len(found) == len(METRICS) * 3 * 3 + 3


def test_probabilistic_f1() -> None:
    """2 sum(p y) / (sum p + sum y): 2 * 1.2 / (2.1 + 2); with decisions it is F1."""
    labels, scores = column([1, 1, 0, 0, 0, NAN]), column([0.9, 0.3, 0.6, 0.2, 0.1, 0.7])
    np.testing.assert_allclose(probabilistic_f1(labels, scores), [2.4 / 4.1])
    decisions = (scores >= 0.5).astype(float)
    np.testing.assert_allclose(probabilistic_f1(labels, decisions), [sk.f1_score(labels[:5, 0], decisions[:5, 0])])
    assert np.isnan(probabilistic_f1(column([0, 0]), column([0.1, 0.2]))).all()
    assert np.isnan(probabilistic_f1(column([]), column([]))).all()


def test_exact_values() -> None:
    labels, scores = column([1, 1, 0, 0, 0]), column([0.9, 0.3, 0.6, 0.2, 0.1])
    found = figures(labels, scores)
    expected = {"auroc": 5 / 6, "auprc": (1 + 2 / 3) / 2, "f1": 0.5, "precision": 0.5}
    expected |= {"sensitivity": 0.5, "specificity": 2 / 3, "accuracy": 0.6}
    expected |= {"brier": (0.01 + 0.49 + 0.36 + 0.04 + 0.01) / 5, "ece": (0.1 + 0.7 + 0.6 + 0.2 + 0.1) / 5}
    for metric, value in expected.items():
        assert found[f"{metric}/finding_0"] == pytest.approx(value)
        assert found[f"{metric}/mean"] == pytest.approx(value)
    assert found["positives/finding_0"] == 2
    assert [found[f"{cell}/finding_0"] for cell in CELLS] == [1, 1, 1, 2]
    assert "tp/mean" not in found


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """60 images, 3 findings, tied scores and unknown labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=(60, 3)).astype(float)
    scores = (0.3 * labels + rng.uniform(size=(60, 3)) * 0.7).round(1)
    labels[rng.uniform(size=(60, 3)) < 0.2] = NAN
    return labels, scores


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed: int) -> None:
    labels, scores = random_case(seed)
    found = figures(labels, scores)
    for k in range(3):
        known = ~np.isnan(labels[:, k])
        truth, score = labels[known, k], scores[known, k]
        called = score >= 0.5
        expected = {
            "auroc": sk.roc_auc_score(truth, score),
            "auprc": sk.average_precision_score(truth, score),
            "brier": sk.brier_score_loss(truth, score),
            "f1": sk.f1_score(truth, called),
            "precision": sk.precision_score(truth, called),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(1 - truth, ~called),
            "accuracy": sk.accuracy_score(truth, called),
        }
        assert {m: found[f"{m}/finding_{k}"] for m in METRICS} == pytest.approx(expected)
        matrix = [found[f"{cell}/finding_{k}"] for cell in ("tn", "fp", "fn", "tp")]
        assert matrix == sk.confusion_matrix(truth, called).ravel().tolist()
        ece = expected_calibration_error(labels[:, k : k + 1], scores[:, k : k + 1])[0]
        assert found[f"ece/finding_{k}"] == pytest.approx(ece)
    assert found["ece/mean"] == pytest.approx(np.mean([found[f"ece/finding_{k}"] for k in range(3)]))


def copied(labels: np.ndarray, scores: np.ndarray, row: np.ndarray) -> dict[str, float]:
    """Figures of a resample by scikit-learn, from images that are really copied."""
    copies = np.repeat(np.arange(len(labels)), row)
    copies = copies[~np.isnan(labels[copies])]
    truth, score = labels[copies], scores[copies]
    return {
        "auroc": sk.roc_auc_score(truth, score),
        "auprc": sk.average_precision_score(truth, score),
        "brier": sk.brier_score_loss(truth, score),
        "f1": sk.f1_score(truth, score >= 0.5),
        "precision": sk.precision_score(truth, score >= 0.5),
        "sensitivity": sk.recall_score(truth, score >= 0.5),
        "specificity": sk.recall_score(1 - truth, score < 0.5),
        "accuracy": sk.accuracy_score(truth, score >= 0.5),
    }


def test_every_interval_equals_copying_the_images() -> None:
    labels, scores = random_case(5)
    patients = [f"p{i // 4}" for i in range(60)]
    found = figures(labels, scores, num_resamples=30, seed=2, groups=patients)
    counts = resample_counts(patients, num_resamples=30, seed=2)
    draws = [[copied(labels[:, k], scores[:, k], row) for k in range(3)] for row in counts]
    for metric in METRICS:
        values = np.array([[d[metric] for d in row] for row in draws])
        for name, of_class in (("mean", values.mean(axis=1)), ("finding_1", values[:, 1])):
            interval = percentile_interval(of_class)
            assert found[f"{metric}/{name}/low"] == pytest.approx(interval.low)
            assert found[f"{metric}/{name}/high"] == pytest.approx(interval.high)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_scores_equal_scikit_learn_with_sample_weights(seed: int) -> None:
    labels, scores = random_case(seed)
    known = ~np.isnan(labels[:, 0])
    truth, score = labels[known, 0], scores[known, 0]
    counts = resample_counts([str(i) for i in range(60)], num_resamples=20, seed=seed)
    aurocs = [sk.roc_auc_score(truth, score, sample_weight=w) for w in counts[:, known]]
    auprcs = [sk.average_precision_score(truth, score, sample_weight=w) for w in counts[:, known]]
    totals = Ranking(labels[:, 0], scores[:, 0]).totals(counts)
    np.testing.assert_allclose(totals.auroc(), aurocs)
    np.testing.assert_allclose(totals.auprc(), auprcs)
    np.testing.assert_allclose(weighted_auroc(labels, scores, counts)[:, 0], aurocs)


def test_resample_of_one_sort_has_no_figure() -> None:
    ranking = Ranking(np.array([1.0, 0.0]), np.array([0.8, 0.1]))
    totals = ranking.totals(np.array([[2, 0], [0, 2], [1, 1], [0, 0]], dtype=np.int32))
    for figure in (totals.auroc(), totals.auprc(), totals.specificity_at(0.9)):
        np.testing.assert_array_equal(figure, [NAN, NAN, 1.0, NAN])


@pytest.mark.parametrize("labels", [[], [0.0, 0.0], [1.0, 1.0], [NAN, NAN]])
def test_class_of_one_sort_ranks_to_nothing(labels: list[float]) -> None:
    weights = np.ones((3, len(labels)), dtype=np.int32)
    totals = Ranking(np.array(labels), np.zeros(len(labels))).totals(weights)
    for figure in (totals.auroc(), totals.auprc(), totals.specificity_at(0.5)):
        np.testing.assert_array_equal(figure, [NAN] * 3)


def test_weighted_sums_exact_value() -> None:
    addends = np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.5, 0.0], [0.0, 0.0]]])
    weights = np.array([[1, 1], [0, 2], [3, 0]], dtype=np.int32)
    expected = [[[4, 6], [6, 8], [3, 6]], [[0.5, 0], [0, 0], [1.5, 0]]]
    np.testing.assert_array_equal(weighted_sums(addends, weights), expected)


def test_interval_encloses_the_estimate() -> None:
    found = figures(*random_case(0), num_resamples=400)
    for metric in METRICS:
        low, point, high = (found[f"{metric}/mean{end}"] for end in ("/low", "", "/high"))
        assert low < point < high


def test_class_of_one_sort_has_no_figure_and_is_left_out_of_the_mean() -> None:
    labels, scores = random_case(1)
    labels[:, 0], labels[:, 1] = 0, 1
    found = figures(labels, scores)
    for metric in METRICS:
        for k in (0, 1):
            assert found[f"{metric}/finding_{k}"] is None
            assert found[f"{metric}/finding_{k}/low"] is None
        assert found[f"{metric}/mean"] == found[f"{metric}/finding_2"]
        assert found[f"{metric}/mean/low"] == found[f"{metric}/finding_2/low"]
    assert found["positives/finding_1"] == 60


def test_class_with_few_positives_is_reported_but_left_out_of_the_mean() -> None:
    labels, scores = random_case(2)
    labels[:, 0] = 0
    labels[:2, 0] = 1
    found = figures(labels, scores, min_positives=3)
    assert found["auroc/finding_0"] is not None
    rest = (found["auroc/finding_1"], found["auroc/finding_2"])
    assert found["auroc/mean"] == pytest.approx(np.mean(rest))


def test_threshold_nan_leaves_rank_metrics_only() -> None:
    labels, scores = random_case(0)
    found = figures(labels, scores, thresholds=np.array([NAN, 0.5, 0.5]))
    assert {found[f"{name}/finding_0"] for name in ("f1", *CELLS)} == {None}
    assert None not in [found[f"{name}/finding_0"] for name in ("auroc", "auprc", "brier", "ece")]
    assert found["f1/mean"] is not None


def test_never_called_class_scores_zero_without_a_warning() -> None:
    found = figures(column([1, 0, 0]), column([0.4, 0.2, 0.1]))
    assert (found["f1/finding_0"], found["precision/finding_0"]) == (0.0, 0.0)
    assert found["specificity/finding_0"] == 1.0


def test_images_of_one_patient_are_drawn_together() -> None:
    """Copies of images tell nothing new: the interval by patient stays as wide as without them."""
    labels, scores = random_case(3)
    many = {"labels": np.repeat(labels, 8, axis=0), "scores": np.repeat(scores, 8, axis=0)}
    patients = [f"p{i}" for i in range(60) for _ in range(8)]

    def width(found: dict[str, float | None]) -> float:
        return found["auroc/mean/high"] - found["auroc/mean/low"]

    alone = width(figures(labels, scores, num_resamples=300))
    assert width(figures(**many, groups=patients, num_resamples=300)) == pytest.approx(alone)
    assert width(figures(**many, num_resamples=300)) < 0.6 * alone


def test_probability_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="1 images have a probability that is not a number"):
        figures(column([0, 1]), column([0.1, NAN]))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = figures(*random_case(4))
    monkeypatch.setattr("eval.classification.weighted.MAX_CELLS", 200)
    assert figures(*random_case(4)) == whole


def test_a_class_is_scored_on_the_sets_that_label_it_alone() -> None:
    """Two sets of three images; the second class is labelled by the second set only, where its ranking is perfect."""
    labels = np.array([[1, NAN], [0, NAN], [0, NAN], [1, 1], [0, 0], [NAN, 0]])
    probabilities = np.array([[0.4, 0.99], [0.6, 0.98], [0.1, 0.97], [0.9, 0.3], [0.2, 0.2], [0.99, 0.1]])
    got = classification_metrics(
        labels, probabilities, findings=["Edema", "Fracture"], thresholds=np.array([0.5, 0.25]), groups=None,
        num_resamples=0,
    )  # fmt: skip
    assert got["auroc/edema"] == pytest.approx(5 / 6)  # .4 and .9 against .6, .1 and .2
    assert (got["auroc/fracture"], got["positives/fracture"]) == (1.0, 1.0)
    assert [got[f"{cell}/fracture"] for cell in CELLS] == [1, 0, 0, 2]
    assert [got[f"{cell}/edema"] for cell in CELLS] == [1, 1, 1, 2]
