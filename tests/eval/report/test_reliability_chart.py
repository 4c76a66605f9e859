"""eval.report.reliability_chart: what is drawn, read back from the pixels, and what the note names."""

from pathlib import Path

import numpy as np

from eval.report.blocks import Figure, Text
from eval.report.reliability_chart import ReliabilityPanel, plot_reliability, reliability_block
from eval.stats.calibration import Reliability
from tests.eval.report.chart_pixels import count, pixels

NAN = float("nan")
ORANGE, GREEN = (213, 94, 0), (0, 158, 115)
FEW = Reliability(np.array([0.1, 0.9]), np.array([0.9, 0.1]), np.array([9.0, 9.0]))


def curve(*, shift: float) -> Reliability:
    predicted = np.array([0.1, NAN, 0.5, 0.9])
    return Reliability(predicted, np.clip(predicted + shift, 0, 1), np.array([80.0, 0, 40, 40]))


def test_no_reliability_panels_give_a_white_picture(tmp_path: Path) -> None:
    assert (pixels(plot_reliability(tmp_path / "r.png", [])) == 255).all()


def test_reliability_draws_each_curve_in_its_colour(tmp_path: Path) -> None:
    both = ReliabilityPanel("Edema", {"before": curve(shift=0.3), "after": curve(shift=0.0)})
    one = ReliabilityPanel("Edema", {"before": curve(shift=0.3)})
    drawn = pixels(plot_reliability(tmp_path / "both.png", [both]))
    single = pixels(plot_reliability(tmp_path / "one.png", [one]))
    assert count(drawn, ORANGE) > 100
    assert count(drawn, GREEN) > 100
    assert count(single, GREEN) == 0


def test_reliability_panels_go_in_rows(tmp_path: Path) -> None:
    panels = [ReliabilityPanel(f"{index}", {"before": curve(shift=0.1)}) for index in range(5)]
    wide = pixels(plot_reliability(tmp_path / "four.png", panels[:4]))
    two_rows = pixels(plot_reliability(tmp_path / "five.png", panels))
    assert two_rows.shape[1] == wide.shape[1]
    assert two_rows.shape[0] > 1.6 * wide.shape[0]


def test_a_class_without_images_has_a_panel_without_a_curve(tmp_path: Path) -> None:
    nothing = Reliability(np.full(3, NAN), np.full(3, NAN), np.zeros(3))
    path = plot_reliability(tmp_path / "r.png", [ReliabilityPanel("Fracture", {"before": nothing})])
    # Only the legend's line has the colour.
    assert count(pixels(path), ORANGE) < 150


def test_bins_of_few_cases_are_not_shown(tmp_path: Path) -> None:
    enough = Reliability(FEW.mean_predicted, FEW.observed_share, np.array([9.0, 10.0]))
    hidden, shown = (ReliabilityPanel("Edema", {"before": one}) for one in (FEW, enough))
    assert hidden.is_empty() and not shown.is_empty()
    empty = ReliabilityPanel("Edema", {"before": Reliability(FEW.mean_predicted, FEW.observed_share, np.zeros(2))})
    drawn, without, blank = (pixels(plot_reliability(tmp_path / "r.png", [panel])) for panel in (shown, hidden, empty))
    np.testing.assert_array_equal(without, blank)
    assert (drawn != blank).any()


def test_classes_without_a_full_bin_have_no_diagram_and_are_named(tmp_path: Path) -> None:
    panels = [ReliabilityPanel("Edema", {"before": curve(shift=0.1)}), ReliabilityPanel("Mass", {"before": FEW})]
    figure = reliability_block(tmp_path, "Calibration", panels, of="cases", note="A note.", others=["Fracture"])
    assert isinstance(figure, Figure)
    assert figure.note.startswith("A note.") and figure.note.endswith(": Mass and Fracture.")
    drawn = pixels(tmp_path / "pictures" / "reliability.png")
    np.testing.assert_array_equal(drawn, pixels(plot_reliability(tmp_path / "one.png", panels[:1])))
    figure = reliability_block(tmp_path, "Calibration", panels[:1], of="cases", note="A note.")
    assert isinstance(figure, Figure)
    assert "Mass" not in figure.note and figure.note.endswith("are not shown.")


def test_where_no_class_has_a_full_bin_there_is_a_sentence_and_no_picture(tmp_path: Path) -> None:
    block = reliability_block(tmp_path, "Calibration", [ReliabilityPanel("Mass", {"before": FEW})], of="cases", note="")
    assert isinstance(block, Text) and block.body.endswith(": Mass.")
    assert not (tmp_path / "pictures").exists()
