"""eval.classification.degenerate: sentences for exact figures, then classifiers that really guess."""

import numpy as np
import pytest

from cxr.metrics import Metrics
from eval.classification.degenerate import degenerate_findings, did_not_learn, verdict
from eval.classification.metrics import classification_metrics


def figures(
    auroc: tuple[float | None, float | None, float | None],
    accuracy: float | None = None,
    cells: tuple[float, float, float, float] | None = None,
) -> Metrics:
    """Of "Pneumothorax". auroc: value, low, high. cells: tp, fp, fn, tn."""
    found: Metrics = {"accuracy/pneumothorax": accuracy}
    found |= dict(zip(("auroc/pneumothorax" + e for e in ("", "/low", "/high")), auroc, strict=True))
    given = cells or (None,) * 4
    return found | dict(zip((f"{c}/pneumothorax" for c in ("tp", "fp", "fn", "tn")), given, strict=True))


SENTENCES = [
    pytest.param({}, "", id="no_figures"),
    pytest.param(figures((None, None, None)), "", id="labels_all_alike"),
    pytest.param(figures((0.8, 0.7, 0.9), 0.78, (10, 10, 12, 68)), "", id="good"),
    pytest.param(
        figures((0.52, 0.46, 0.58), 0.78, (1, 1, 21, 77)),
        "AUROC .52 [.46, .58] is what guessing gives; the accuracy of .78 only says that 78 % of the images "
        "are negative.",
        id="source_pneumothorax",
    ),
    pytest.param(
        figures((0.52, 0.46, 0.58), 0.74, (2, 6, 20, 72)),
        "AUROC .52 [.46, .58] is what guessing gives; the accuracy of .74 says little, as 78 % of the images "
        "are negative.",
        id="accuracy_below_the_larger_class",
    ),
    pytest.param(
        figures((0.52, 0.46, 0.58), 0.6, (6, 24, 16, 54)),
        "AUROC .52 [.46, .58] is what guessing gives.",
        id="low_accuracy_hides_nothing",
    ),
    pytest.param(
        figures((0.52, 0.46, 0.58), 0.55, (40, 30, 15, 15)),
        "AUROC .52 [.46, .58] is what guessing gives; the accuracy of .55 only says that 55 % of the images "
        "are positive.",
        id="share_of_the_larger_class",
    ),
    pytest.param(
        figures((0.54, 0.52, 0.56)), "AUROC .54 [.52, .56] is hardly more than guessing gives.", id="hardly_more"
    ),
    pytest.param(
        figures((0.8, 0.45, 1.0)), "AUROC .80 [.45, 1.00] cannot be distinguished from guessing.", id="too_few_images"
    ),
    pytest.param(
        figures((0.3, 0.2, 0.4)),
        "AUROC .30 [.20, .40] is worse than guessing: negatives have the higher probabilities.",
        id="wrong_way_round",
    ),
    pytest.param(figures((0.53, None, None)), "AUROC .53 is hardly more than guessing gives.", id="no_interval"),
    pytest.param(figures((0.3, None, None)), "AUROC .30 is what guessing gives.", id="no_interval_shows_no_reversal"),
    pytest.param(figures((0.8, 0.7, 0.9), 0.78, (0, 0, 22, 78)), "calls every image negative.", id="never_called"),
    pytest.param(figures((0.8, 0.7, 0.9), 0.22, (22, 78, 0, 0)), "calls every image positive.", id="always_called"),
    pytest.param(
        figures((0.5, 0.5, 0.5), 0.22, (22, 78, 0, 0)),
        "gives every image the same probability; it calls every image positive.",
        id="constant",
    ),
]


@pytest.mark.parametrize(("metrics", "sentence"), SENTENCES)
def test_sentence_exact_value(metrics: Metrics, sentence: str) -> None:
    expected = [f"Pneumothorax: {sentence}"] if sentence else []
    assert degenerate_findings(metrics, ["Pneumothorax"]) == expected


def scored(labels: np.ndarray, probabilities: np.ndarray, **options: object) -> Metrics:
    names = ["Edema", "Nodule/Mass"][: labels.shape[1]]
    thresholds = np.full(labels.shape[1], 0.5)
    return classification_metrics(
        labels, probabilities, findings=names, thresholds=thresholds, num_resamples=200, **options
    )


def guessing_case(num: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Edema is found, Nodule/Mass (a fifth of the images) is guessed with low probabilities."""
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(num, 2)) < (0.4, 0.2)).astype(np.float64)
    probabilities = rng.uniform(0, 0.55, size=(num, 2))
    probabilities[:, 0] += 0.4 * labels[:, 0]
    return labels, probabilities


def test_guesser_with_high_accuracy_is_named_and_the_good_one_is_not() -> None:
    labels, probabilities = guessing_case()
    metrics = scored(labels, probabilities)
    assert metrics["accuracy/nodule_mass"] > 0.7
    (sentence,) = degenerate_findings(metrics, ["Edema", "Nodule/Mass"])
    assert sentence.startswith("Nodule/Mass: AUROC .")
    assert "what guessing gives; the accuracy of .7" in sentence
    assert sentence in verdict(metrics, ["Edema", "Nodule/Mass"])


def test_constant_classifier_is_named() -> None:
    labels, probabilities = guessing_case()
    probabilities[:, 1] = 0.4
    assert degenerate_findings(scored(labels, probabilities), ["Edema", "Nodule/Mass"]) == [
        "Nodule/Mass: gives every image the same probability; it calls every image negative."
    ]


# ---- the report's lead


def test_verdict_without_any_figure() -> None:
    assert verdict(scored(np.zeros((0, 1)), np.zeros((0, 1))), ["Edema"]) == (
        "No finding has an AUROC to take the mean of. Excluded from the mean: Edema (no positive label)."
    )


def test_verdict_of_a_good_classifier_is_its_mean() -> None:
    metrics = {"auroc/mean": 0.832, "auroc/mean/low": 0.8, "auroc/mean/high": 0.861}
    metrics |= {"auroc/edema": 0.832, "positives/edema": 30.0}
    assert verdict(metrics, ["Edema"]) == "Mean AUROC .83 [.80, .86] over 1 finding."


def test_verdict_says_what_is_left_out_of_the_mean_and_why() -> None:
    labels, probabilities = guessing_case()
    labels[:, 1] = 0
    labels[:3, 1] = 1
    metrics = scored(labels, probabilities, min_positives=5)
    words = verdict(metrics, ["Edema", "Nodule/Mass"], min_positives=5)
    assert "over 1 of 2 findings. Excluded from the mean: Nodule/Mass (3 positive, needs 5)." in words
    assert metrics["auroc/mean"] == metrics["auroc/edema"]
    assert metrics["auroc/nodule_mass"] is not None
    everything = verdict(scored(labels, probabilities), ["Edema", "Nodule/Mass"])
    assert "over 2 findings." in everything
    assert "Left out" not in everything


def test_verdict_tells_labels_that_are_all_alike() -> None:
    labels, probabilities = guessing_case()
    labels[:, 1] = 1
    words = verdict(scored(labels, probabilities), ["Edema", "Nodule/Mass"])
    assert "Excluded from the mean: Nodule/Mass (no negative label)." in words


@pytest.mark.parametrize(
    ("auroc", "expected"),
    [
        ((None, None, None), ""),
        ((0.8, 0.7, 0.9), ""),
        ((0.6, 0.51, 0.7), ""),
        ((0.52, 0.46, 0.58), "did not learn: the mean AUROC .52 [.46, .58] is what guessing gives"),
        ((0.5, 0.5, 0.5), "did not learn: the mean AUROC .50 [.50, .50] is what guessing gives"),
        ((0.7, 0.4, 0.9), "did not learn: the mean AUROC .70 [.40, .90] cannot be distinguished from guessing"),
    ],
)
def test_a_run_that_never_left_the_prior_did_not_learn(
    auroc: tuple[float | None, float | None, float | None], expected: str
) -> None:
    assert did_not_learn(dict(zip(("auroc/mean", "auroc/mean/low", "auroc/mean/high"), auroc, strict=True))) == expected
