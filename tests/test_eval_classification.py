"""eval.classification and eval.weighted: exact values, then scikit-learn as the oracle."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.config import UserError
from eval.bootstrap import resample_counts
from eval.classification import METRICS, choose_thresholds, classification_metrics
from eval.weighted import weighted_auprc, weighted_auroc

NAN = float("nan")


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


THRESHOLDS = [
    pytest.param([], [], NAN, id="no_images"),
    pytest.param([0, 0], [0.2, 0.7], NAN, id="no_positives"),
    pytest.param([0, 1], [0.2, 0.6], 0.4, id="midpoint"),
    pytest.param([1, 1], [0.2, 0.6], 0.2, id="only_positives_call_everything"),
    pytest.param([0, 1, 1], [0.5, 0.5, 0.5], 0.5, id="constant_scores"),
    pytest.param([0, 0, 1, NAN], [0.1, 0.3, 0.9, 0.6], 0.6, id="nan_label_is_ignored"),
    # calling 1 or all 4 of 4 images: F1 2/3 each; the lower threshold wins
    pytest.param([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], 0.1, id="tie_takes_the_lowest"),
    pytest.param([0, 1], [0.5, np.nextafter(0.5, 1)], np.nextafter(0.5, 1), id="no_float_between"),
]


@pytest.mark.parametrize(("labels", "scores", "expected"), THRESHOLDS)
def test_choose_thresholds_exact_value(labels: list[float], scores: list[float], expected: float) -> None:
    chosen = choose_thresholds(column(labels), column(scores))
    np.testing.assert_allclose(chosen, [expected], rtol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(2, size=40).astype(float), rng.uniform(size=40).round(1)
    chosen = choose_thresholds(labels[:, None], scores[:, None])[0]
    best = max(sk.f1_score(labels, scores >= t) for t in np.linspace(0, 0.95, 200))
    assert sk.f1_score(labels, scores >= chosen) == pytest.approx(best)


def figures(labels: np.ndarray, scores: np.ndarray, **options: object) -> dict[str, float | None]:
    names = [f"Finding {k}" for k in range(labels.shape[1])]
    options = {"thresholds": np.full(labels.shape[1], 0.5), "num_resamples": 50} | options
    return classification_metrics(labels, scores, findings=names, **options)


def test_no_images() -> None:
    found = figures(np.zeros((0, 2)), np.zeros((0, 2)))
    assert found.pop("positives/finding_0") == found.pop("positives/finding_1") == 0
    assert found.pop("positives/mean") == 0
    assert set(found.values()) == {None}
    assert len(found) == len(METRICS) * 3 * 3


def test_exact_values() -> None:
    labels, scores = column([1, 1, 0, 0, 0]), column([0.9, 0.3, 0.6, 0.2, 0.1])
    found = figures(labels, scores)
    expected = {"auroc": 5 / 6, "auprc": (1 + 2 / 3) / 2, "f1": 0.5, "precision": 0.5}
    expected |= {"sensitivity": 0.5, "specificity": 2 / 3, "accuracy": 0.6}
    for metric, value in expected.items():
        assert found[f"{metric}/finding_0"] == pytest.approx(value)
        assert found[f"{metric}/mean"] == pytest.approx(value)
    assert found["positives/finding_0"] == 2


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
            "f1": sk.f1_score(truth, called),
            "precision": sk.precision_score(truth, called),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(1 - truth, ~called),
            "accuracy": sk.accuracy_score(truth, called),
        }
        assert {m: found[f"{m}/finding_{k}"] for m in METRICS} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_scores_equal_scikit_learn_with_sample_weights(seed: int) -> None:
    labels, scores = random_case(seed)
    known = ~np.isnan(labels[:, 0])
    truth, score = labels[known, 0] == 1, scores[known, 0]
    counts = resample_counts([str(i) for i in range(len(truth))], num_resamples=20, seed=seed)
    aurocs = [sk.roc_auc_score(truth, score, sample_weight=w) for w in counts]
    auprcs = [sk.average_precision_score(truth, score, sample_weight=w) for w in counts]
    np.testing.assert_allclose(weighted_auroc(truth, score, counts), aurocs)
    np.testing.assert_allclose(weighted_auprc(truth, score, counts), auprcs)


def test_resample_of_one_sort_has_no_figure() -> None:
    positive, score = np.array([True, False]), np.array([0.8, 0.1])
    counts = np.array([[2, 0], [0, 2], [1, 1]], dtype=np.int32)
    np.testing.assert_array_equal(weighted_auroc(positive, score, counts), [NAN, NAN, 1.0])
    np.testing.assert_array_equal(weighted_auprc(positive, score, counts), [NAN, NAN, 1.0])


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
    assert found["f1/finding_0"] is None
    assert found["auroc/finding_0"] is not None
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
    monkeypatch.setattr("eval.classification.MAX_CELLS", 200)
    assert figures(*random_case(4)) == whole
