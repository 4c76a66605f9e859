"""What a validation split cannot tell is said before the training."""

import logging
from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from stage1_classify.training.validation import check_selectable, selecting_score, validation_figures
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings, targets
from tests.stage1_classify.training.train_builders import splits

NAN = float("nan")


def checked(tmp_path: object, values: np.ndarray, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="raybox"):
        check_selectable(values, stage1_settings(tmp_path))
    return [record.getMessage() for record in caplog.records]


def test_findings_with_both_classes_need_no_word(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    assert checked(tmp_path, targets([1, 0], [0, 1]), caplog) == []


@pytest.mark.parametrize(
    ("column", "missing"),
    [((0, 0), "positive"), ((1, 1), "negative"), ((NAN, 0), "positive"), ((NAN, NAN), "positive and no negative")],
)
def test_a_finding_of_one_class_is_named(
    tmp_path: object, caplog: pytest.LogCaptureFixture, column: tuple[float, float], missing: str
) -> None:
    (line,) = checked(tmp_path, targets([1, column[0]], [0, column[1]]), caplog)
    assert f"Pleural Effusion has no {missing} case" in line


def test_the_epoch_can_be_chosen_by_probabilistic_f1(tmp_path: Path) -> None:
    """Logits whose decisions are all right: F1 is 1, but probabilities of .75 make it 2 * .75 / (1 + 1)."""
    settings = stage1_settings(patch_folder(tmp_path), findings=["Lung Lesion"])
    _, val = splits(settings)
    right = np.where(val.targets == 1, np.log(3), -np.log(3)).astype(np.float32)
    num, num_positive = len(right), float(val.targets.sum())
    figures = validation_figures(right, val, settings)
    assert figures["val/f1"] == 1
    called = 0.75 * num_positive + 0.25 * (num - num_positive)
    assert figures["val/probabilistic_f1"] == pytest.approx(2 * 0.75 * num_positive / (called + num_positive))
    assert selecting_score(figures, "probabilistic_f1") == figures["val/probabilistic_f1"]


def test_without_any_finding_to_choose_by_nothing_starts(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="no finding has 1 positives and a negative among 2 validation cases"):
        checked(tmp_path, targets([0, 0], [0, 0]), caplog)
