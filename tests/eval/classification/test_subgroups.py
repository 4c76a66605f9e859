"""eval.classification.subgroups: exact values, scikit-learn on each part, and subgroups too small for a score."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from eval.classification.subgroups import MIN_POSITIVES, SubgroupRow, subgroup_metrics, subgroup_verdict
from eval.stats.bootstrap import percentile_interval, resample_counts

NAN = float("nan")
FINDINGS = ["Edema", "Mass"]


def random_case(seed: int, num: int = 120) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Labels of two findings, some unknown; women's are harder to find; three ages in ten unknown."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=(num, 2)).astype(float)
    women = np.arange(num) % 2 == 0
    strength = np.where(women, 0.1, 0.9)[:, None]
    probabilities = ((strength * labels + rng.uniform(size=(num, 2))) / 2).round(2)
    labels[rng.uniform(size=(num, 2)) < 0.1] = NAN
    ages = np.where(rng.uniform(size=num) < 0.3, NAN, rng.uniform(5, 90, size=num).round())
    attributes = pd.DataFrame({"sex": np.where(women, "F", "M"), "age": ages, "view": "frontal"})
    return labels, probabilities, attributes


def score(
    labels: np.ndarray, probabilities: np.ndarray, attributes: pd.DataFrame, **options: object
) -> dict[tuple[str, str, str], SubgroupRow]:
    options = {"thresholds": np.full(labels.shape[1], 0.5), "num_resamples": 60} | options
    names = FINDINGS[: labels.shape[1]]
    rows = subgroup_metrics(labels, probabilities, findings=names, attributes=attributes, **options)
    keys = [(row.attribute, row.value, row.finding) for row in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, rows, strict=True))


def test_no_images_and_no_attributes() -> None:
    empty = np.zeros((0, 2))
    assert score(empty, empty, pd.DataFrame({"sex": [], "age": [], "view": []})) == {}
    labels, probabilities, _ = random_case(0)
    assert score(labels, probabilities, pd.DataFrame(index=range(120))) == {}


AGES = [
    (0.0, "<18"),
    (17.9, "<18"),
    (18.0, "18-39"),
    (39.0, "18-39"),
    (40.0, "40-59"),
    (60.0, "60-79"),
    (80.0, "80+"),
    (104.0, "80+"),
    (NAN, "unknown"),
]


@pytest.mark.parametrize(("age", "band"), AGES)
def test_age_band(age: float, band: str) -> None:
    rows = score(np.ones((1, 1)), np.ones((1, 1)), pd.DataFrame({"age": [age]}))
    assert list(rows) == [("age", band, "mean"), ("age", band, "Edema")]


def test_every_value_has_rows_in_order_and_the_counts_add_up() -> None:
    labels, probabilities, attributes = random_case(0)
    attributes.loc[attributes.index[:3], "sex"] = ""
    attributes.loc[attributes.index[3:5], "sex"] = None
    rows = score(labels, probabilities, attributes)
    values = {name: list(dict.fromkeys(v for a, v, _ in rows if a == name)) for name in attributes}
    assert values == {
        "sex": ["F", "M", "unknown"],
        "age": ["<18", "18-39", "40-59", "60-79", "80+", "unknown"],
        "view": ["frontal"],
    }
    assert rows["sex", "unknown", "mean"].num_cases == 5
    for attribute, names in values.items():
        of_all = [rows[attribute, value, "mean"] for value in names]
        assert sum(row.num_cases for row in of_all) == 120
        assert sum(row.num_positives for row in of_all) == (labels == 1).any(axis=1).sum()
        for k, finding in enumerate(FINDINGS):
            of_all = [rows[attribute, value, finding] for value in names]
            assert sum(row.num_cases for row in of_all) == (~np.isnan(labels[:, k])).sum()
            assert sum(row.num_positives for row in of_all) == (labels[:, k] == 1).sum()


def figures_by_scikit_learn(labels: np.ndarray, scores: np.ndarray, items: np.ndarray) -> tuple[float, ...]:
    """AUROC, sensitivity and specificity at .5 of these images, which may repeat."""
    items = items[~np.isnan(labels[items])]
    truth, score = labels[items], scores[items]
    called = score >= 0.5
    return roc_auc_score(truth, score), recall_score(truth, called), recall_score(1 - truth, ~called)


@pytest.mark.parametrize("seed", range(2))
def test_figures_and_differences_agree_with_scikit_learn(seed: int) -> None:
    labels, probabilities, attributes = random_case(seed)
    patients = [f"p{i // 3}" for i in range(120)]
    rows = score(labels, probabilities, attributes, groups=patients, seed=seed)
    counts = resample_counts(patients, num_resamples=60, seed=seed)
    weightings = [np.arange(120), *(np.repeat(np.arange(120), row) for row in counts)]
    women = (attributes["sex"] == "F").to_numpy()
    for k, finding in enumerate(FINDINGS):
        parts = [
            np.array([figures_by_scikit_learn(labels[:, k], probabilities[:, k], w[side[w]]) for w in weightings])
            for side in (women, ~women)
        ]
        row = rows["sex", "F", finding]
        for m, found in enumerate((row.auroc, row.sensitivity, row.specificity)):
            interval = percentile_interval(parts[0][1:, m])
            expected = (parts[0][0, m], interval.low, interval.high)
            assert (found.value, found.low, found.high) == pytest.approx(expected)
        gap = parts[0][:, 0] - parts[1][:, 0]
        interval = percentile_interval(gap[1:])
        found = row.difference
        assert (found.value, found.low, found.high) == pytest.approx((gap[0], interval.low, interval.high))


def test_mean_is_over_findings() -> None:
    rows = score(*random_case(0))
    mean = rows["sex", "F", "mean"]
    aurocs, gaps = zip(
        *((rows["sex", "F", f].auroc.value, rows["sex", "F", f].difference.value) for f in FINDINGS), strict=True
    )
    assert mean.auroc.value == pytest.approx(np.mean(aurocs))
    assert mean.difference.value == pytest.approx(np.mean(gaps))


def test_difference_is_told_in_words() -> None:
    rows = score(*random_case(0, num=400), num_resamples=200)
    women, men = rows["sex", "F", "mean"], rows["sex", "M", "mean"]
    assert women.difference.is_clear
    assert women.difference.high < 0
    assert women.remark == men.remark == "differs from the rest"
    assert men.difference.value == pytest.approx(-women.difference.value)
    assert rows["age", "40-59", "mean"].remark == "no significant difference"
    everybody = rows["view", "frontal", "mean"]
    assert (everybody.difference, everybody.remark) == (None, "nothing to compare with")
    assert everybody.auroc is not None


def test_small_subgroup_is_shown_without_a_score() -> None:
    labels, probabilities, attributes = random_case(1)
    labels[:, 0] = 0
    labels[0 : 2 * MIN_POSITIVES : 2, 0] = 1  # women alone
    labels[1, 0] = 1
    rows = score(labels, probabilities, attributes)
    men = rows["sex", "M", "Edema"]
    assert (men.auroc, men.sensitivity, men.specificity, men.difference) == (None, None, None, None)
    assert (men.num_cases, men.num_positives) == (60, 1)
    assert men.remark == "no score: 1 positive, 59 negative, needs 5 of each"
    women = rows["sex", "F", "Edema"]
    assert women.auroc is not None
    assert (women.difference, women.remark) == (None, "nothing to compare with")
    # the mean of either leaves out what it cannot score, the difference what either cannot
    mass = rows["sex", "M", "Mass"]
    assert rows["sex", "M", "mean"].auroc.value == mass.auroc.value
    assert rows["sex", "F", "mean"].difference.value == rows["sex", "F", "Mass"].difference.value


def test_min_positives_asks_for_negatives_as_well() -> None:
    labels, probabilities, attributes = random_case(2)
    fewest = min(int((labels == sort).sum(axis=0).min()) for sort in (0, 1))
    assert score(labels, probabilities, attributes, min_positives=fewest)["view", "frontal", "mean"].auroc
    rows = score(labels, probabilities, attributes, min_positives=200)
    assert {row.auroc for row in rows.values()} == {None}
    assert rows["view", "frontal", "mean"].remark == "no score: no finding has one"
    turned = score(1 - labels, probabilities, attributes, min_positives=fewest + 1)
    assert sum(turned["view", "frontal", f].auroc is None for f in FINDINGS) >= 1


def test_threshold_nan_leaves_auroc_alone() -> None:
    rows = score(*random_case(0), thresholds=np.array([NAN, 0.5]))
    edema, mass = rows["sex", "F", "Edema"], rows["sex", "F", "Mass"]
    assert (edema.sensitivity, edema.specificity) == (None, None)
    assert edema.auroc is not None
    assert rows["sex", "F", "mean"].sensitivity.value == mass.sensitivity.value


def test_verdict_names_the_subgroups_that_differ() -> None:
    rows = list(score(*random_case(0, num=400), num_resamples=200).values())
    words = subgroup_verdict(rows)
    assert "differ significantly from the other images in mean AUROC: sex F by -0." in words
    assert words.endswith("by chance.")
    assert subgroup_verdict([]) == ""
    ages = [row for row in rows if (row.attribute, row.value) == ("age", "40-59")]
    assert subgroup_verdict(ages) == "None of 1 subgroups differs significantly from the other images in mean AUROC."
