"""eval.detection.reliability: calibration error of boxes by hand, and resampled as if images were drawn."""

import numpy as np
import pytest

from eval.detection.reliability import box_ece_measure, reliability_panels, scored_boxes
from eval.stats.calibration import expected_calibration_error
from tests.eval.detection.box_builders import coco_boxes, duplicated, random_case

NAN = float("nan")
TRUE = ("a", "Edema", 0, 0, 40, 20, NAN)
FOUND = [(*TRUE[:6], 0.95), ("b", "Edema", 0, 0, 40, 20, 0.15), ("b", "Edema", 0, 0, 40, 20, 0.009)]


def scores_of(scored) -> np.ndarray:
    return scored["score"].to_numpy(dtype=float)


def test_no_boxes_have_no_error_and_no_diagram() -> None:
    scored = scored_boxes(coco_boxes([]), coco_boxes([TRUE]))
    for pooled in (True, False):
        measure = box_ece_measure(scored, scores_of(scored), coco_boxes([TRUE]), pooled=pooled)
        assert np.isnan(measure.values(2)).all()
    assert reliability_panels(scored, {"score": scores_of(scored)}, ["Edema"]) == []


def test_error_by_hand_of_boxes_that_are_strong_enough_to_be_asked() -> None:
    scored = scored_boxes(coco_boxes(FOUND), coco_boxes([TRUE]))
    assert scored["hit"].tolist() == [True, False]
    measure = box_ece_measure(scored, scores_of(scored), coco_boxes([TRUE]), pooled=True)
    assert (measure.name, measure.findings) == ("ece", ("all findings",))
    np.testing.assert_allclose(measure.values(2), [(0.05 + 0.15) / 2])
    np.testing.assert_allclose(measure.resampled(np.array([[3, 1], [0, 0]])), [[0.075], [NAN]])


@pytest.mark.parametrize("pooled", [True, False])
def test_agrees_with_the_error_of_probabilities_on_the_drawn_images(pooled: bool) -> None:
    truth, found = random_case(3, num_images=9)
    counts = np.array([[1] * 9, [0, 2, 1, 3, 0, 0, 1, 1, 1]])
    scored = scored_boxes(found, truth)
    values = box_ece_measure(scored, scores_of(scored), truth, pooled=pooled).resampled(counts)
    for row, drawn in zip(values, counts, strict=True):
        boxes = duplicated(truth.with_boxes(scored), drawn).boxes
        own = [boxes] if pooled else [boxes[boxes["finding"] == name] for name in truth.findings]
        expected = [
            expected_calibration_error(
                part[["hit"]].to_numpy(dtype=float), part[["score"]].to_numpy(dtype=float), num_bins=10
            )[0]
            for part in own
        ]
        np.testing.assert_allclose(row, expected)


def test_panels_are_of_all_findings_and_of_those_with_boxes_in_their_order() -> None:
    findings = ("Mass", "Edema", "Fracture")
    rows = [(*FOUND[0],), ("b", "Mass", 0, 0, 40, 20, 0.5)]
    scored = scored_boxes(coco_boxes(rows, findings=findings), coco_boxes([TRUE], findings=findings))
    panels = reliability_panels(scored, {"score": scores_of(scored), "sure": np.ones(2)}, findings)
    assert [panel.name for panel in panels] == ["all findings", "Mass", "Edema"]
    assert list(panels[0].curves) == ["score", "sure"]
    assert panels[0].curves["sure"].observed_share[-1] == 0.5
