"""Labels that contradict confident predictions are suspects; what cannot be checked is counted as such."""

import sys

import numpy as np
import pytest

from cxr.config import UserError
from eval.audit.label_suspects import find_suspects

NAN = float("nan")


def test_nothing_to_check() -> None:
    for targets, probabilities in (([], []), ([NAN, 1], [0.5, NAN]), ([1, 1], [0.9, 0.1])):
        columns = [np.array(values, dtype=float).reshape(-1, 1) for values in (targets, probabilities)]
        suspects, checked = find_suspects(["a", "b"][: len(targets)], ["Edema"], columns[0], columns[1])
        assert suspects.empty
        assert checked[["finding", "checked", "suspects"]].to_numpy().tolist() == [["Edema", 0, 0]]
        assert np.isnan(checked["auroc"]).all()


def test_exchanged_labels_are_found_the_worst_first() -> None:
    probabilities = np.array([*np.linspace(0.02, 0.2, 10), *np.linspace(0.8, 0.98, 10), 0.5])
    targets = np.array([0.0] * 10 + [1.0] * 10 + [NAN])
    targets[[1, 19]], probabilities[[1, 19]] = [1, 0], [0.04, 0.98]
    ids = [f"i{row}" for row in range(21)]
    suspects, checked = find_suspects(ids, ["Edema"], targets[:, None], probabilities[:, None])
    assert suspects.to_numpy().tolist() == [["Edema", "i19", 0, 0.98], ["Edema", "i1", 1, 0.04]]
    assert checked.to_numpy().tolist() == [["Edema", 20, pytest.approx(0.82), True, 2]]


def test_weak_predictions_do_not_judge_labels() -> None:
    targets = np.array([0.0, 0, 0, 1, 1, 1])
    suspects, checked = find_suspects(
        list("abcdef"), ["Edema"], targets[:, None], np.array([[0.1, 0.2, 0.7, 0.3, 0.9, 0.6]]).T
    )
    assert suspects.empty
    assert checked.to_numpy().tolist() == [["Edema", 6, pytest.approx(7 / 9), False, 0]]


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match="cleanlab"):
        find_suspects(["a", "b"], ["Edema"], np.array([[0.0], [1.0]]), np.array([[0.1], [0.9]]))
