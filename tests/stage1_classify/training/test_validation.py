"""What a validation split cannot tell is said before the training."""

import logging

import numpy as np
import pytest

from cxr.config import UserError
from stage1_classify.training.validation import check_selectable
from tests.stage1_classify.stage1_builders import stage1_settings, targets

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


def test_without_any_finding_to_choose_by_nothing_starts(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="no finding has 1 positives and a negative among 2 validation cases"):
        checked(tmp_path, targets([0, 0], [0, 0]), caplog)
