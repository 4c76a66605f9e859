"""Operating points of a run."""

import math

import numpy as np
import pytest

from eval.detection.curves import Confidence
from eval.detection.points import Measured, OperatingPoint
from eval.stats.calibration import Curve
from stage3_detect.prediction.points import measured_words, open_point, shared_confidence

CONFIDENCE = Confidence(Curve(1.0, 0.0), {"Edema": Curve(2.0, -0.5), "Mass": Curve(0.5, 1.0)})


def test_a_point_without_findings_has_no_confidence() -> None:
    assert shared_confidence(OperatingPoint("x", "", {}), CONFIDENCE) is None


def test_one_confidence_for_all_findings_is_found_again() -> None:
    scores = {name: CONFIDENCE.score_at(name, 0.249) for name in ("Edema", "Mass", "Other")}
    point = OperatingPoint("x", "", scores | {"Never": math.inf, "Always": 0.0})
    assert shared_confidence(point, CONFIDENCE) == pytest.approx(0.249, abs=1e-9)
    assert np.ptp(list(scores.values())) > 0.1
    assert shared_confidence(point, None) is None


def test_one_score_for_all_findings_has_different_confidences() -> None:
    point = OperatingPoint("0.3", "", {"Edema": 0.3, "Mass": 0.3})
    assert shared_confidence(point, CONFIDENCE) is None
    assert shared_confidence(point, None) == 0.3


@pytest.mark.parametrize(("known", "expected"), [(["f1", "half_fp"], "half_fp"), (["f1"], "f1"), ([], "0.25")])
def test_the_default_point_is_the_first_one_that_the_run_has(known: list[str], expected: str) -> None:
    points = {name: {"about": "", "scores": {"Edema": 0.5}} for name in known}
    assert open_point({"findings": ["Edema"], "operating_points": points}, None).name == expected


def test_what_a_point_does_on_the_test_split_is_said_where_it_was_measured() -> None:
    scores = {"Edema": 0.5, "Mass": 0.5}
    assert measured_words(OperatingPoint("half_fp", "", scores)) == ""
    words = measured_words(OperatingPoint("half_fp", "", scores, Measured(0.856, 0.619, 1.113, ("Mass",))))
    assert ".86 [.62, 1.11]" in words and "Mass" in words and "Edema" not in words
