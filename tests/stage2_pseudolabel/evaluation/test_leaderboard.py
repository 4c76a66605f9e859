"""The leaderboard: measures of an entry, the choice, the verdict and the files, on two images that are not square."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.average_precision import evaluate
from eval.detection.measures import best_f1_scores, top_box_points
from eval.leaderboard.leaderboard import leaderboard_rows, write_leaderboard
from eval.stats.intervals import Resampled
from eval.stats.measures import Bootstrapped, Measure
from stage2_pseudolabel.boxes.bayes import BayesRule, Candidates
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.fused_rule import FusedRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.cam_maps.mean_of_methods import mean_of_methods
from stage2_pseudolabel.evaluation.evaluate import Evaluation, compare_rules
from stage2_pseudolabel.evaluation.leaderboard import CamEntry, choose_best, make_leaderboard, score_entry
from stage2_pseudolabel.evaluation.map_measures import BOX_THRESHOLDS, all_measures, boxes_at_thresholds, map_points
from stage2_pseudolabel.evaluation.verdict import verdict
from tests.stage2_pseudolabel.evaluation.leaderboard_builders import (
    COUNTS,
    EFFUSION,
    HALF,
    LESION,
    NAN,
    NET_HW,
    ON_FLAT,
    ON_WIDE,
    lit_maps,
    plain_entry,
    sampled,
    split_data,
    tuned,
)
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, blank_maps, truth_of

SQUASHED = Frame(NET_HW, False)
MEASURES = {
    "ap10", "ap30", "ap40", "ap50", "ap70", "ap5095", "label_ap40", "label_ap50", "voc40", "chex_map", "froc",
    "corloc", "mean_iou", "pointing", "maxboxaccv2", "rodeo",
    *(f"{kind}_accuracy{t}0" for kind in ("iou", "iobb") for t in range(1, 8)),
}  # fmt: skip
RIGHT = boxes_table([(*ON_WIDE, 0.9), (*ON_FLAT, 0.8)])
WRONG = boxes_table([("wide", LESION, 40, 30, 50, 40, 0.9)])


def by_name(measures: list[Measure]) -> dict[str, np.ndarray]:
    return {measure.name: measure.values(2) for measure in measures}


def points_of(maps: np.ndarray, frame: Frame, truth: CocoBoxes | None = None) -> list[list[object]]:
    return map_points(maps, truth or truth_of(ON_WIDE, ON_FLAT), frame).to_numpy().tolist()


# --- measures of one entry ---


def test_no_boxes_and_a_constant_map_score_nothing() -> None:
    truth = truth_of(ON_WIDE, ON_FLAT)
    found = truth.with_boxes(boxes_table())
    values = by_name(all_measures(truth, found, maps=blank_maps(), frame=SQUASHED))
    assert set(values) == MEASURES
    for name, (lesion, effusion) in values.items():
        assert lesion == 0, name
        assert np.isnan(effusion), name


def test_perfect_boxes_and_maps_score_one_in_every_measure() -> None:
    truth = truth_of(ON_WIDE, ON_FLAT)
    values = by_name(all_measures(truth, truth.with_boxes(RIGHT), maps=lit_maps(), frame=SQUASHED))
    assert {name: value[0] for name, value in values.items()} == pytest.approx(dict.fromkeys(MEASURES, 1.0))


def test_what_looks_at_no_map_points_at_the_centre_of_its_best_box_and_has_no_oracle_threshold() -> None:
    truth = truth_of(ON_WIDE)
    rows = [("wide", LESION, 0, 0, 20, 20, 0.2), ("wide", LESION, 14, 8, 34, 16, 0.7)]
    found = truth.with_boxes(boxes_table(rows))
    assert top_box_points(found).to_numpy().tolist() == [["wide", LESION, 24, 12]]
    values = by_name(all_measures(truth, found, maps=None, frame=SQUASHED))
    assert set(values) == MEASURES - {"maxboxaccv2"}
    assert values["pointing"][0] == 1
    assert values["corloc"][0] == 0


def test_map_points_at_the_centre_of_its_highest_cell_in_image_pixels() -> None:
    assert points_of(lit_maps(), SQUASHED) == [["wide", LESION, 15, 15], ["flat", LESION, 52.5, 18.75]]


def test_point_of_a_letterboxed_map_is_freed_of_the_bars() -> None:
    """The second image of 90 x 30 fills 48 x 16 of 48 x 32, below 8 rows of black."""
    assert points_of(lit_maps(), Frame(NET_HW, True))[1][2:] == pytest.approx([52.5, 22.5])


def test_point_of_a_shifted_map_is_moved_back() -> None:
    """Cells lie 8 pixels of the network's input too far down and right: 10 pixels of the first image each way."""
    assert points_of(lit_maps(), Frame(NET_HW, False, (8, 8)))[0][2:] == pytest.approx([5, 5])


def test_constant_map_and_image_without_the_finding_have_no_point() -> None:
    assert points_of(lit_maps(), SQUASHED, truth_of(ON_FLAT)) == [["flat", LESION, 52.5, 18.75]]
    assert points_of(blank_maps(), SQUASHED) == []


def test_boxes_at_thresholds_shrink_with_the_threshold_and_ignore_the_maps_offset() -> None:
    truth = truth_of(ON_WIDE)
    sets = boxes_at_thresholds(lit_maps(), truth, SQUASHED)
    assert len(sets) == len(BOX_THRESHOLDS) == 20
    assert {image_id for one in sets for image_id in one.boxes["image_id"]} == {"wide"}
    # At share t the edge lies t - 1/2 cells inside the lit ones; a cell is 10 x 10 pixels here.
    for one, share in zip(sets, BOX_THRESHOLDS, strict=True):
        inside = 10 * (share - 0.5)
        corners = one.boxes[["x1", "y1", "x2", "y2"]].to_numpy()
        expected = [[10 + inside, 10 + inside, 30 - inside, 20 - inside]]
        np.testing.assert_allclose(corners, expected, atol=1e-4)
    moved = boxes_at_thresholds(7 + 3 * lit_maps(), truth, SQUASHED)
    for one, other in zip(sets, moved, strict=True):
        np.testing.assert_allclose(one.boxes[["x1", "y1"]].to_numpy(), other.boxes[["x1", "y1"]].to_numpy(), atol=1e-4)


def test_constant_maps_have_no_boxes_at_any_threshold() -> None:
    assert all(one.boxes.empty for one in boxes_at_thresholds(blank_maps() + 0.5, truth_of(ON_WIDE), SQUASHED))


def test_best_f1_scores_are_those_of_the_best_f1() -> None:
    rows = [(*ON_WIDE, 0.9), ("wide", LESION, 40, 30, 50, 40, 0.6), (*ON_FLAT, 0.8)]
    scores = best_f1_scores(truth_of(ON_WIDE, ON_FLAT), boxes_table(rows))
    assert scores[LESION] == 0.8


# --- entries ---


def test_entry_of_a_method(tmp_path: Path) -> None:
    test = split_data(tmp_path, {"pcam": lit_maps()})
    found = test.detect((HALF, HALF), ("pcam", "pcam"))
    entry = score_entry("pcam", test, found, tuned=tuned(0.6, NAN), methods=("pcam", "pcam"))
    lesions = found.boxes[found.boxes["finding"] == LESION]
    np.testing.assert_allclose(lesions[["x1", "y1", "x2", "y2"]].to_numpy(), [ON_WIDE[2:], ON_FLAT[2:]], atol=1e-4)
    assert lesions["score"].tolist() == pytest.approx([0.9, 0.5])
    assert not entry.is_prior
    assert entry.tune_ap == 0.6
    assert set(entry.measures) == MEASURES
    assert entry.ap40.mean == 1
    np.testing.assert_array_equal(entry.ap40.samples[:, 0], [1, 1, 1])
    assert entry.measures["voc40"].values[0] == 1
    np.testing.assert_array_equal(entry.measures["voc40"].samples[:, 0], [1, 1, 1])


def test_entry_by_group_of_readers_counts_the_images_of_the_group_alone(tmp_path: Path) -> None:
    """Only the first image's box is right, so the readers of the second one see nothing of it."""
    test = split_data(tmp_path, {}, readers={"seniors": ["wide"], "juniors": ["flat"]})
    entry = score_entry("prior_mean_box", test, test.truth.with_boxes(RIGHT.iloc[:1]))
    assert entry.is_prior
    assert np.isnan(entry.tune_ap)
    assert entry.ap40.mean == pytest.approx(51 / 101)
    assert {group: own.mean for group, own in entry.readers.items()} == {"seniors": 1, "juniors": 0}
    np.testing.assert_array_equal(entry.readers["seniors"].samples[:, 0], [1, 1, NAN])


def test_findings_of_two_methods_are_found_in_the_maps_of_each(tmp_path: Path) -> None:
    """Maps of the second method have another size."""
    fine = np.zeros((2, 2, 8, 12), dtype=np.float32)
    fine[1, 1, 4:6, 6:8] = 1
    truth = truth_of(ON_WIDE, ("flat", EFFUSION, *ON_FLAT[2:]))
    test = split_data(tmp_path, {"pcam": lit_maps(), "layercam": fine}, truth=truth)
    found = test.detect((HALF, HALF), ("pcam", "layercam"))
    assert found.findings == FINDINGS
    assert found.boxes["finding"].tolist() == [LESION, LESION, EFFUSION]
    np.testing.assert_allclose(found.boxes.iloc[2][["x1", "y1", "x2", "y2"]].to_numpy(float), ON_FLAT[2:], atol=1e-4)


def test_fused_boxes_come_from_the_maps_of_each_method(tmp_path: Path) -> None:
    """Both methods find the lesion of the first image, the second method alone that of the second one."""
    first = lit_maps()
    first[1] = 0
    fine = np.repeat(np.repeat(lit_maps(), 2, axis=2), 2, axis=3)
    test = split_data(tmp_path, {"pcam": first, "layercam": fine})
    name, rule = "boxes_pcam+layercam", FusedRule((HALF, HALF))
    found = test.detect((rule, rule), (name, name))
    np.testing.assert_allclose(found.boxes[["x1", "y1", "x2", "y2"]].to_numpy(), [ON_WIDE[2:], ON_FLAT[2:]], atol=1e-4)
    assert found.boxes["score"].tolist() == pytest.approx([0.9, 0.5 / 2])
    entry = score_entry(name, test, found, methods=(name, name))
    assert entry.ap40.mean == 1
    assert entry.measures["pointing"].values[0] == 1  # by the mean map


def test_the_mean_map_is_a_method_of_its_own(tmp_path: Path) -> None:
    maps = {"pcam": lit_maps(), "layercam": 100 * np.roll(lit_maps(), 2, axis=3)}
    test = split_data(tmp_path, maps)
    scored = test.scored("maps_pcam+layercam")
    assert scored.further == ()
    np.testing.assert_allclose(scored.maps, mean_of_methods(list(maps.values())))


# --- the choice ---


def entry_of(root: Path, name: str, boxes: pd.DataFrame, *, tune: float, prior: bool = False) -> CamEntry:
    test = split_data(root, {name: lit_maps()})
    methods = () if prior else (name, name)
    return score_entry(name, test, test.truth.with_boxes(boxes), tuned=tuned(tune, NAN), methods=methods)


def test_the_choice_is_made_by_the_tune_split_and_never_by_the_test_split(tmp_path: Path) -> None:
    entries = [
        entry_of(tmp_path, "gradcam", RIGHT, tune=0.2),
        entry_of(tmp_path, "pcam", WRONG, tune=0.3),
        entry_of(tmp_path, "prior_no_map", RIGHT, tune=0.9, prior=True),
    ]
    board = make_leaderboard(entries, split_data(tmp_path, {}))
    assert board.main.name == "pcam"
    assert [entry.name for entry in board.ranked] == ["gradcam", "prior_no_map", "pcam"]
    assert board.metrics["ap40/gradcam"] == 1
    assert board.metrics["ap40/pcam"] == 0
    assert board.compared["gradcam"].gap.value == -1
    assert set(board.compared) == {"gradcam", "prior_no_map"}


def test_of_equally_good_methods_the_first_is_chosen_and_an_unknown_tune_ap_never() -> None:
    entries = [
        plain_entry("dff", 0.9, tune=NAN),
        plain_entry("gradcam", 0.1, tune=0.3),
        plain_entry("pcam", 0.9, tune=0.3),
    ]
    assert choose_best(entries, how="one").name == "gradcam"


def test_each_finding_may_come_from_another_method(tmp_path: Path) -> None:
    truth = truth_of(ON_WIDE, ("flat", EFFUSION, *ON_FLAT[2:]))
    test = split_data(tmp_path, {"gradcam": lit_maps(), "pcam": lit_maps()}, truth=truth)
    rules = ComponentRule("relative", 0.2), ComponentRule("relative", 0.8)
    lesion = truth.with_boxes(RIGHT.iloc[:1])
    effusion = truth.with_boxes(boxes_table([("flat", EFFUSION, *ON_FLAT[2:], 0.7)]))
    entries = [
        score_entry("gradcam", test, lesion, tuned=tuned(0.6, 0.1), methods=("gradcam",) * 2),
        score_entry("pcam", test, effusion, tuned=tuned(0.5, 0.4, rules=rules), methods=("pcam",) * 2),
    ]
    board = make_leaderboard(entries, test, how="per_finding")
    assert board.main.name == "per_finding"
    assert board.main.methods == ("gradcam", "pcam")
    assert board.main.tuned is not None
    assert board.main.tuned.rules == (HALF, rules[1])
    assert board.main.tuned.by_kind["relative"][1] == {LESION: 0.6, EFFUSION: 0.4}
    assert board.main.tune_ap == pytest.approx(0.5)
    assert board.metrics["tune_ap40/per_finding"] == pytest.approx(0.5)
    assert board.main.detections.boxes["finding"].tolist() == [LESION, EFFUSION]
    assert board.main.ap40.values.tolist() == [1, 1]
    assert board.compared["gradcam"].gap.value == 0.5
    assert [entry.name for entry in board.entries] == ["gradcam", "pcam", "per_finding"]
    assert board.main.measures["rodeo"].mean == 1
    assert choose_best(board.entries, how="one").name == "pcam"


def test_measures_of_combined_findings_are_those_of_their_combined_boxes(tmp_path: Path) -> None:
    truth = truth_of(ON_WIDE, ON_FLAT, ("flat", EFFUSION, 0, 0, 20, 20), ("wide", EFFUSION, 5, 5, 30, 30))
    rng = np.random.default_rng(0)
    maps = {name: rng.random((2, 2, 4, 6)).astype(np.float32) for name in ("gradcam", "pcam")}
    test = split_data(tmp_path, maps, truth=truth)
    entries = [
        score_entry(name, test, test.detect((HALF, HALF), (name, name)), tuned=tuned(*aps), methods=(name, name))
        for name, aps in {"gradcam": (0.9, 0.1), "pcam": (0.1, 0.9)}.items()
    ]
    best = make_leaderboard(entries, test, how="per_finding").main
    together = np.stack([maps["gradcam"][:, 0], maps["pcam"][:, 1]], axis=1)
    found = test.detect((HALF, HALF), ("gradcam", "pcam"))
    expected = by_name(all_measures(truth, found, maps=together, frame=test.frame))
    assert set(expected) == MEASURES
    for name, values in expected.items():
        np.testing.assert_allclose(best.measures[name].values, values, err_msg=name)


def test_finding_without_a_tune_box_is_of_the_method_that_is_best_in_the_mean() -> None:
    first, second = plain_entry("gradcam", 0.1), plain_entry("pcam", 0.2)
    entries = [replace(first, tuned=tuned(0.3, NAN)), replace(second, tuned=tuned(0.4, NAN))]
    assert choose_best(entries, how="per_finding").methods == ("pcam", "pcam")


def test_figures_are_flat_and_have_the_ends_of_their_intervals(tmp_path: Path) -> None:
    test = split_data(tmp_path, {"pcam": lit_maps()}, readers={"R 1": ["wide"]})
    entry = score_entry(
        "pcam", test, test.truth.with_boxes(RIGHT.iloc[:1]), tuned=tuned(0.5, NAN), methods=("pcam",) * 2
    )
    human = sampled([0.5, NAN], [[0.4, NAN], [0.5, NAN], [0.6, NAN]])
    metrics = make_leaderboard([entry], test, human=human).metrics
    half = 51 / 101
    known = {
        "ap40/pcam": half,
        "ap40/pcam/lung_lesion": half,
        "ap40/pcam/lung_lesion/high": Resampled(half, np.array([half, 1, 0]), 2).interval.high,  # of two boxes
        "ap40/pcam/readers/r_1": 1,
        "corloc/pcam": 0.5,
        "iobb_accuracy70/pcam": 0.5,
        "voc40/pcam/lung_lesion": 0.5,
        "tune_ap40/pcam": 0.5,
        "ap40/human": 0.5,
    }
    assert {name: metrics[name] for name in known} == pytest.approx(known)
    assert np.isnan(metrics["froc/pcam/pleural_effusion/low"])
    assert metrics["voc40/pcam/low"] == pytest.approx(Resampled(0.5, np.array([0.5, 1, 0]), 2).interval.low)
    for measure in MEASURES:
        ends = {f"{measure}/pcam{end}" for end in ("", "/low", "/high", "/lung_lesion/low")}
        assert ends <= set(metrics)


def test_test_ap_is_that_of_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    maps = rng.random((2, 2, 4, 6)).astype(np.float32)
    truth = truth_of(ON_WIDE, ON_FLAT, ("wide", EFFUSION, 0, 0, 30, 40))
    test = split_data(tmp_path, {"pcam": maps}, truth=truth)
    found = test.detect((ComponentRule("relative", 0.6, max_boxes=3),) * 2, ("pcam",) * 2)
    entry = score_entry("pcam", test, found, tuned=tuned(0.1, 0.1), methods=("pcam",) * 2)
    result = evaluate(truth, found)
    assert entry.ap40.mean == pytest.approx(result.mean_ap(0.4), abs=1e-9)
    assert entry.measures["ap5095"].mean == pytest.approx(result.mean_ap5095(), abs=1e-9)


# --- comparison of the kinds of rules ---


def test_each_kind_of_rule_is_compared_with_the_chosen_rules(tmp_path: Path) -> None:
    test = split_data(tmp_path, {"pcam": lit_maps()})
    blind = ComponentRule("absolute", 5.0)
    both = tuned(0.6, NAN)
    kinds = {**both.by_kind, "absolute": ((blind, blind), {LESION: 0.7, EFFUSION: NAN})}
    both = replace(both, by_kind=kinds)
    found = test.detect((HALF, HALF), ("pcam",) * 2)
    best = score_entry("pcam", test, found, tuned=both, methods=("pcam",) * 2)
    absolute, relative = compare_rules(best, test)
    assert (absolute.kind, absolute.tune_ap, absolute.test.mean) == ("absolute", 0.7, 0)
    assert (absolute.gap.value, absolute.gap.low) == (-1, -1)
    assert absolute.gap.high == pytest.approx(-1 + 0.706 * math.sqrt(2), abs=1e-3)  # none against both of two boxes
    assert (relative.test.mean, relative.gap.value) == (1, 0)
    assert relative.gap.high == pytest.approx(0.706, abs=1e-3)  # the same boxes, but two cannot show a difference
    board = make_leaderboard([best], test)
    metrics = Evaluation(board, test, [relative], []).metrics
    assert [metrics[f"rule_ap40/relative{end}"] for end in ("", "/high")] == [1, 1]


# --- the verdict ---


def words_of(tmp_path: Path, entries: list[CamEntry], **options: object) -> list[str]:
    return verdict(make_leaderboard(entries, split_data(tmp_path, {}), **options))  # type: ignore[arg-type]


def jittered(ap: float) -> Bootstrapped:
    """Samples that rise where those of a plain entry fall, and further."""
    samples = np.repeat(np.linspace(ap + 0.08, ap - 0.08, 101)[:, None], 2, axis=1)
    return sampled([ap, ap], samples)


def test_verdict_begins_with_the_strongest_prior_and_sorts_the_other_methods(tmp_path: Path) -> None:
    entries = [
        plain_entry("gradcam", 0.30, spread=0.02, tune=0.3),
        plain_entry("layercam", 0.10, tune=0.2),
        replace(plain_entry("pcam", 0.32, tune=0.2), measures={"ap40": jittered(0.32)}),
        plain_entry("prior_mean_box", 0.20, spread=0, prior=True),
        replace(plain_entry("prior_center_box", 0.29, prior=True), measures={"ap40": jittered(0.29)}),
    ]
    first, advice, chosen, others, highest, *_ = words_of(tmp_path, entries)
    for fact in ("GradCAM and the centre-box prior", "AP40 .30 against .29", "difference .01 [-.09, .11]"):
        assert fact in first
    assert "before stage 3" in advice
    clear = [plain_entry("gradcam", 0.30, tune=0.3), plain_entry("prior_mean_box", 0.10, prior=True)]
    assert not any("before stage 3" in words for words in words_of(tmp_path, clear))
    assert "GradCAM" in chosen and ".30 [.28, .32]" in chosen
    assert "better than 1 (LayerCAM)" in others and "different from 1 (PCAM)" in others
    assert "PCAM" in highest and ".32" in highest


def test_verdict_names_a_method_that_is_significantly_better_than_the_chosen_one(tmp_path: Path) -> None:
    entries = [plain_entry("gradcam", 0.3, tune=0.3), plain_entry("pcam", 0.5, tune=0.2)]
    assert any("worse than 1 (PCAM)" in words for words in words_of(tmp_path, entries))


def test_verdict_counts_methods_that_do_not_differ_once(tmp_path: Path) -> None:
    entries = [plain_entry("gradcam", 0.30, tune=0.3)]
    entries += [replace(plain_entry(name, 0.3, tune=0.2), measures={"ap40": jittered(0.3)}) for name in ("pcam", "dff")]
    _, others, *_ = words_of(tmp_path, entries)
    assert "the 2 other methods: PCAM and DFF" in others


def test_verdict_of_a_single_method_and_of_a_choice_by_finding(tmp_path: Path) -> None:
    assert "no other method" in words_of(tmp_path, [plain_entry("gradcam", 0.3, tune=0.3)])[1]
    one, two = plain_entry("gradcam", 0.3), plain_entry("layercamfusion", 0.2)
    entries = [replace(one, tuned=tuned(0.5, 0.1)), replace(two, tuned=tuned(0.1, 0.5))]
    words = words_of(tmp_path, entries, how="per_finding")
    assert f"({LESION}: GradCAM, {EFFUSION}: LayerCAM fusion)" in words[0] and ".25" in words[0]


def test_verdict_names_the_findings_whose_rule_ignores_the_map(tmp_path: Path) -> None:
    prior = BayesRule(Candidates(np.array([[0.1, 0.2, 0.5, 0.6]]), ("p",)), beta=0)
    seeing = plain_entry("gradcam", 0.3, tune=0.3)
    assert not any(EFFUSION in words for words in words_of(tmp_path, [seeing]))
    for rule, number in ((prior, 1), (FusedRule((prior, prior)), 1), (FusedRule((prior, HALF)), 0)):
        blind = replace(seeing, tuned=tuned(0.5, 0.5, rules=(HALF, rule)))  # type: ignore[arg-type]
        assert sum(EFFUSION in words for words in words_of(tmp_path, [blind])) == number


# --- files ---


def test_leaderboard_files_have_a_row_for_each_entry_and_finding(tmp_path: Path) -> None:
    test = split_data(tmp_path, {"pcam": lit_maps()})
    entries = [
        score_entry("prior_mean_box", test, test.truth.with_boxes(WRONG)),
        score_entry("pcam", test, test.truth.with_boxes(RIGHT), tuned=tuned(0.5, NAN), methods=("pcam",) * 2),
    ]
    board = make_leaderboard(entries, test, human=sampled([0.5, NAN], [[0.4, NAN]] * len(COUNTS)))
    timing = {"ms_per_image/pcam": 2.5, "peak_mib/pcam": 31.0}
    outputs = write_leaderboard(tmp_path, board, timing)
    assert {name: path.name for name, path in outputs.items()} == {
        "leaderboard_csv": "leaderboard.csv",
        "leaderboard_json": "leaderboard.json",
    }
    content = json.loads(outputs["leaderboard_json"].read_text())
    assert content["best"] == "pcam"
    rows = content["rows"]
    assert [(row["entry"], row["finding"]) for row in rows] == [
        (name, finding) for name in ("pcam", "prior_mean_box", "human") for finding in ("mean", *FINDINGS)
    ]
    mean, lesion, effusion = rows[:3]
    assert (mean["method"], mean["chosen"], mean["ms_per_image"], mean["peak_mib"]) == ("pcam", True, 2.5, 31.0)
    assert (mean["ap40"], mean["ap40_high"], mean["froc_high"], mean["tune_ap40"]) == (1, 1, 1, 0.5)
    assert mean["ap40_low"] == pytest.approx(0.294, abs=5e-4)  # two of two boxes
    assert (lesion["rule"], lesion["tune_ap40"], lesion["ms_per_image"]) == (str(HALF), 0.5, None)
    assert (effusion["ap40"], effusion["tune_ap40"]) == (None, None)
    assert rows[3]["maxboxaccv2"] is None
    assert rows[6]["ap40"] == 0.5
    with outputs["leaderboard_csv"].open() as file:
        table = list(csv.DictReader(file))
    assert [row["ap40"] for row in table[:3]] == ["1.0", "1.0", ""]
    assert list(table[0]) == list(mean)
    assert leaderboard_rows(board, {})[0]["ms_per_image"] is None
