"""Boxes of a split in pixels, and the search for the rules that make them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from cxr.coco import BOX_FIELDS, CocoBoxes, boxes_table
from eval.detection.average_precision import evaluate
from stage2_pseudolabel.boxes import search
from stage2_pseudolabel.boxes.bayes import BayesRule, Candidates
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.families import TuneMaps, box_candidates, rule_families
from stage2_pseudolabel.boxes.fused_rule import FusedRule
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.priors import CENTER_BOX, mean_boxes, prior_detections
from stage2_pseudolabel.boxes.rule import Found, Maps, first_boxes, joined, nothing_found
from stage2_pseudolabel.boxes.search import fuse_tuned, mean_of, tune_rules
from stage2_pseudolabel.settings.boxes import BoxSettings
from tests.stage2_pseudolabel.stage2_builders import FINDINGS, blank_maps, truth_of

FRAME = Frame((32, 48), keep_aspect=False)
RELATIVE = BoxSettings(
    rules=["relative"], background=["none"], relative_thresholds=[0.2, 0.8], max_boxes=[1], min_area=0
)
TRUTH = truth_of(("wide", "Lung Lesion", 10, 10, 30, 20), ("flat", "Lung Lesion", 45, 15, 60, 22.5))
CERTAIN = np.ones((2, 2))


@dataclass(frozen=True)
class Given:
    """A rule that finds what it is given."""

    found: Found
    kind: str = "relative"

    def find(self, maps: Maps, *, patients: Sequence[str] | None = None) -> Found:
        return self.found

    def as_dict(self) -> dict[str, str | float]:
        return {"rule": "given"}


def images_of(count: int) -> pd.DataFrame:
    """60 x 40 and 90 x 30 by turns; two images a patient."""
    both = truth_of().images
    images = pd.concat([both.iloc[[i % 2]] for i in range(count)], ignore_index=True)
    return images.assign(image_id=[f"i{i}" for i in range(count)], patient_id=[f"p{i // 2}" for i in range(count)])


def random_split(seed: int = 0, num_images: int = 24) -> tuple[Scored, CocoBoxes]:
    """A third of the images have a box of a finding, where the map is brighter."""
    rng = np.random.default_rng(seed)
    images, rows = images_of(num_images), []
    maps = rng.gamma(1, 0.2, size=(num_images, 2, 7, 9)).astype(np.float32)
    for i, k in np.argwhere(rng.uniform(size=(num_images, 2)) < 0.35).tolist():
        left, top, width, height = rng.uniform((0, 0, 0.2, 0.2), 0.5)
        box = np.array([left, top, left + width, top + height])
        in_pixels = box * np.tile(images.loc[i, ["width", "height"]].to_numpy(float), 2)
        rows.append((f"i{i}", FINDINGS[k], *in_pixels, float("nan")))
        x1, y1, x2, y2 = (box * [9, 7, 9, 7]).astype(int).tolist()
        maps[i, k, y1 : y2 + 1, x1 : x2 + 1] += 1
    return Scored(maps, rng.uniform(size=(num_images, 2))), CocoBoxes(images, boxes_table(rows), FINDINGS)


def tune_maps(scored: Scored, truth: CocoBoxes, column: int) -> TuneMaps:
    candidates = box_candidates(truth, FINDINGS[column], FRAME, max_candidates=99)
    candidates = candidates.with_maps(scored.maps[:, column])
    own = truth.boxes[truth.boxes["finding"] == FINDINGS[column]]
    has_box = truth.images["image_id"].isin(own["image_id"]).to_numpy()
    return TuneMaps(scored.maps[:, column], has_box, candidates, truth.groups)


# --- boxes of a split -------------------------------------------------------------------------------------------------


def test_no_evidence_no_boxes() -> None:
    rules = [ComponentRule("relative", 0.5)] * 2
    found = detect(Scored(blank_maps(), CERTAIN), TRUTH, rules, frame=FRAME)
    assert found.empty
    assert found.columns.tolist() == BOX_FIELDS
    assert found.dtypes.equals(boxes_table().dtypes)


def test_boxes_land_in_image_pixels_with_probability_times_evidence() -> None:
    rules = [
        Given(joined([(0, np.array([[1 / 6, 0.25, 0.5, 0.5]]), np.array([0.75]))])),
        Given(joined([(1, np.array([[5 / 6, 0.75, 1.5, 1]]), np.array([1.0]))])),
    ]
    scored = Scored(blank_maps(), np.array([[0.5, 0], [0, 0.25]]))
    found = detect(scored, TRUTH, rules, frame=FRAME)
    assert found["image_id"].tolist() == ["wide", "flat"]
    np.testing.assert_allclose(found[["x1", "y1", "x2", "y2"]], [[10, 10, 30, 20], [75, 22.5, 90, 30]])
    np.testing.assert_allclose(found["score"], [0.5 * 0.75, 0.25])
    assert found.dtypes.equals(boxes_table().dtypes)


def test_letterboxed_maps_are_mapped_back() -> None:
    # 90 x 30 in 48 x 32: content 48 x 16 with bars of 8, so the picture is the middle half of the map's height
    rules = [Given(joined([(1, np.array([[0, 0.25, 0.5, 0.75]]), np.ones(1))])), Given(nothing_found())]
    scored = Scored(blank_maps(), CERTAIN)
    found = detect(scored, TRUTH, rules, frame=Frame((32, 48), keep_aspect=True))
    np.testing.assert_allclose(found[["x1", "y1", "x2", "y2"]], [[0, 0, 45, 30]])


def test_boxes_come_by_image_then_finding_the_strongest_first() -> None:
    box = np.array([[0.0, 0, 1, 1]])
    first = Given(joined([(0, box, np.array([0.3])), (1, box, np.array([0.4]))]))
    second = Given(joined([(0, np.tile(box, (2, 1)), np.array([0.9, 0.1]))]))
    found = detect(Scored(blank_maps(), CERTAIN), TRUTH, [first, second], frame=FRAME)
    assert found["score"].tolist() == [0.3, 0.9, 0.1, 0.4]
    assert found["finding"].tolist() == [FINDINGS[0], FINDINGS[1], FINDINGS[1], FINDINGS[0]]


# --- the search -------------------------------------------------------------------------------------------------------


def test_tuning_picks_the_threshold_that_fits_each_finding_and_no_more_boxes_than_it_takes() -> None:
    maps = blank_maps()
    # Lung Lesion: the box is what lies above a fifth of the maximum. Pleural Effusion: what lies above four fifths.
    maps[0, 0, 1, 1:3] = [5, 2]
    maps[0, 1, 2, 1:5] = [1, 1, 4, 1]
    truth = truth_of(("wide", FINDINGS[0], 7, 7, 30, 23), ("wide", FINDINGS[1], 32.5, 23, 37.5, 27))
    settings = RELATIVE.model_copy(update={"max_boxes": [2, 1]})
    tuned = tune_rules(Scored(maps, CERTAIN), truth, settings, frame=FRAME)
    assert [(rule.threshold, rule.max_boxes) for rule in tuned.rules] == [(0.2, 1), (0.8, 1)]
    assert tuned.aps == pytest.approx(dict.fromkeys(FINDINGS, 1.0))
    assert (tuned.mean, tuned.num_tried) == (pytest.approx(1.0), 8)


@pytest.fixture(scope="module")
def tuned_split() -> tuple[Scored, CocoBoxes, search.Tuned]:
    scored, truth = random_split()
    return scored, truth, tune_rules(scored, truth, BoxSettings(), frame=FRAME)


def test_aps_are_those_of_pycocotools_for_the_best_rules_of_each_kind(
    tuned_split: tuple[Scored, CocoBoxes, search.Tuned],
) -> None:
    scored, truth, tuned = tuned_split
    assert list(tuned.by_kind) == BoxSettings().rules
    for rules, aps in [(tuned.rules, tuned.aps), *tuned.by_kind.values()]:
        found = detect(scored, truth, rules, frame=FRAME, leave_own_out=True)
        judged = evaluate(truth, truth.with_boxes(found), ious=(0.4,)).ap(0.4)
        assert aps == pytest.approx(judged, abs=1e-9)
    for kind, (rules, _) in tuned.by_kind.items():
        assert [rule.kind for rule in rules] == [kind] * 2


def test_every_rule_is_counted(tuned_split: tuple[Scored, CocoBoxes, search.Tuned]) -> None:
    components = (7 + 5 + 5 + 3) * 2  # levels, backgrounds
    bayes = 9 * 2 * 2 * 2 + 1  # betas, backgrounds, contrasts, similarity; beta 0 ignores the map, so once
    assert tuned_split[2].num_tried == 2 * 5 * (components + bayes)


def test_no_rule_is_below_the_prior_without_a_map(tuned_split: tuple[Scored, CocoBoxes, search.Tuned]) -> None:
    scored, truth, tuned = tuned_split
    settings = BoxSettings(rules=["bayes"], bayes_betas=[0.0])
    prior = tune_rules(scored, truth, settings, frame=FRAME)
    assert all(tuned.aps[finding] >= prior.aps[finding] for finding in FINDINGS)


def test_parts_and_processes_do_not_change_the_result(
    tuned_split: tuple[Scored, CocoBoxes, search.Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, truth, tuned = tuned_split
    monkeypatch.setattr(search, "MAX_BOXES_AT_ONCE", 100)
    monkeypatch.setattr(search, "MIN_CELLS_FOR_PROCESSES", 0)
    again = tune_rules(scored, truth, BoxSettings(), frame=FRAME)
    assert list(map(str, again.rules)) == list(map(str, tuned.rules))
    assert again.aps == tuned.aps


def test_a_family_finds_what_each_of_its_rules_finds() -> None:
    maps = tune_maps(*random_split(), 0)
    families = rule_families(BoxSettings(), maps)
    assert {family.kind for family in families} == set(BoxSettings().rules)
    for family in families:
        most = family.find(5)
        for count in (1, 2, 5):
            alone = family.rule(count).find(maps.maps, patients=maps.patients)
            ours = first_boxes(most, count)
            np.testing.assert_array_equal(ours.image, alone.image)
            np.testing.assert_array_equal(ours.boxes, alone.boxes)
            np.testing.assert_array_equal(ours.evidence, alone.evidence)


def test_plain_rules_come_first_and_levels_rise() -> None:
    settings = BoxSettings(
        rules=["relative", "bayes"], relative_thresholds=[0.5, 0.2], bayes_betas=[2, 0, 2], bayes_similarities=[0]
    )
    families = rule_families(settings, tune_maps(*random_split(), 1))
    extras = [family.extras for family in families]
    assert extras == sorted(extras)
    assert [str(family.rule(1)).split(" on ")[0] for family in families[:4]] == [
        "Bayes, beta 0",
        "Bayes, beta 2",
        "relative threshold 0.2, up to 1",
        "relative threshold 0.5, up to 1",
    ]
    betas = [family.rule(1).as_dict()["beta"] for family in families if family.kind == "bayes"]
    assert betas == [0, 2, 2, 2, 2]


def test_of_rules_that_score_alike_the_plainest_wins() -> None:
    truth = truth_of(("wide", FINDINGS[0], 10, 10, 30, 20), ("flat", FINDINGS[1], 0, 0, 9, 9))
    settings = BoxSettings(rules=["otsu", "relative"])
    tuned = tune_rules(Scored(blank_maps(), CERTAIN), truth, settings, frame=FRAME)
    assert tuned.aps == dict.fromkeys(FINDINGS, 0.0)
    assert tuned.rules == (ComponentRule("otsu", 0.7, 1),) * 2


def test_where_boxes_tell_nothing_their_place_is_taken_and_without_boxes_a_threshold() -> None:
    truth = truth_of(("wide", FINDINGS[0], 10, 10, 30, 20))  # its own image may not use it, so every rule scores 0
    settings = BoxSettings(rules=["relative", "bayes"])
    tuned = tune_rules(Scored(blank_maps(), CERTAIN), truth, settings, frame=FRAME)
    assert tuned.rules[0].as_dict()["beta"] == 0
    assert tuned.rules[1] == ComponentRule("relative", 0.15, 1)


@pytest.mark.parametrize(("patients", "expected"), [(["p", "q"], 1.0), (["p", "p"], 0.0), (["", ""], 1.0)])
def test_a_patients_own_boxes_do_not_help_it(patients: list[str], expected: float) -> None:
    same_place = (("wide", FINDINGS[0], 6, 4, 30, 20), ("flat", FINDINGS[0], 9, 3, 45, 15))
    truth = truth_of(*same_place)
    truth = CocoBoxes(truth.images.assign(patient_id=patients), truth.boxes, FINDINGS)
    settings = BoxSettings(rules=["bayes"], bayes_betas=[0.0])
    tuned = tune_rules(Scored(blank_maps(), CERTAIN), truth, settings, frame=FRAME)
    assert tuned.aps[FINDINGS[0]] == pytest.approx(expected)


def test_what_images_without_the_finding_share_is_taken_away() -> None:
    maps = np.zeros((4, 2, 5, 6), dtype=np.float32)
    maps[:, 0, 4, 5] = 9  # a marker in the corner of every image
    maps[:2, 0, 1:3, 1:3] = 3
    boxes = [(f"i{i}", FINDINGS[0], w / 6, h / 5, w / 2, 3 * h / 5, math.nan) for i, w, h in ((0, 60, 40), (1, 90, 30))]
    truth = CocoBoxes(images_of(4), boxes_table(boxes), FINDINGS)
    settings = RELATIVE.model_copy(update={"relative_thresholds": [0.5], "background": ["none", "negatives"]})
    tuned = tune_rules(Scored(maps, np.ones((4, 2))), truth, settings, frame=FRAME)
    background = tuned.rules[0].background
    np.testing.assert_array_equal(background, maps[2, 0])
    assert tuned.aps[FINDINGS[0]] == pytest.approx(1.0)


@pytest.mark.parametrize("wanted", [["negatives"], ["none", "negatives"]])
def test_one_image_without_the_finding_is_no_mean(wanted: list[str]) -> None:
    truth = truth_of(("wide", FINDINGS[0], 10, 10, 30, 20))
    maps = tune_maps(Scored(blank_maps(), CERTAIN), truth, 0)
    assert maps.backgrounds(BoxSettings(background=wanted)) == [None]


def test_a_finding_without_true_boxes_is_no_zero_and_takes_the_first_rule() -> None:
    maps = blank_maps()
    maps[:, :, 0, 0] = 1
    tuned = tune_rules(Scored(maps, CERTAIN), TRUTH, RELATIVE, frame=FRAME)
    assert math.isnan(tuned.aps[FINDINGS[1]])
    assert tuned.rules[1] == ComponentRule("relative", 0.2, 1, min_area=0)
    assert tuned.mean == tuned.aps[FINDINGS[0]]
    assert math.isnan(mean_of({}))


def test_a_level_is_judged_with_its_neighbours_of_the_same_form() -> None:
    scores = np.array([[1, 0.2], [0, 0.2], [0, 0.2], [0, 1]])
    smooth = search._with_neighbours(scores, ["a", "a", "a", "b"])
    np.testing.assert_allclose(smooth, [[0.75, 0.2], [0.25, 0.2], [0, 0.2], [0, 1]])


def test_the_score_chooses_but_never_a_rule_below_the_prior() -> None:
    lucky, good = (search._Tried(ComponentRule("otsu", f), ap, m) for f, ap, m in ((1, 0.5, 0.3), (2, 0.4, 0.4)))
    assert search._best([lucky, good]) is good
    candidates = box_candidates(TRUTH, FINDINGS[0], FRAME, max_candidates=9)
    prior = search._Tried(BayesRule(candidates, beta=0), 0.45, 0.1)
    assert search._best([lucky, good, prior]) is lucky
    assert search._best([good, prior]) is prior


@pytest.mark.parametrize(("background", "expected"), [("none", [11.5, 23.0]), ("negatives", [0.0, 3.0])])
def test_absolute_levels_are_quantiles_of_the_findings_own_maps_without_the_background(
    background: str, expected: list[float]
) -> None:
    shared = np.arange(24, dtype=np.float32).reshape(4, 6)
    maps = np.stack([shared, shared, shared + 3])
    settings = BoxSettings(rules=["absolute"], absolute_quantiles=[1.0, 0.5], background=[background])
    none = Candidates(np.zeros((0, 4)), ())
    split = maps[:1] if background == "none" else maps
    has_box = np.array([False, False, True])[: len(split)]
    families = rule_families(settings, TuneMaps(split, has_box, none, ["a", "b", "c"][: len(split)]))
    assert [family.rule(1).as_dict()["threshold"] for family in families] == expected


# --- candidates and priors --------------------------------------------------------------------------------------------


def test_candidates_are_true_boxes_in_shares_of_the_map_with_their_patients() -> None:
    candidates = box_candidates(TRUTH, FINDINGS[0], FRAME, max_candidates=9)
    np.testing.assert_allclose(candidates.boxes, [[1 / 6, 0.25, 0.5, 0.5], [0.5, 0.5, 2 / 3, 0.75]])
    assert (candidates.patients, candidates.rows) == (("wide", "flat"), (0, 1))
    assert len(box_candidates(TRUTH, "Edema", FRAME, max_candidates=9)) == 0


def test_many_candidates_are_sampled_evenly_and_regions_are_none() -> None:
    truth = truth_of(*(("wide", FINDINGS[0], i, 0, i + 10, 10) for i in range(6)))
    lefts = box_candidates(truth, FINDINGS[0], FRAME, max_candidates=3).boxes[:, 0] * 60
    np.testing.assert_allclose(lefts, [0, 2, 5])
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 1, 1, 1, 1, 0]))
    lefts = box_candidates(truth, FINDINGS[0], FRAME, max_candidates=9).boxes[:, 0] * 60
    np.testing.assert_allclose(lefts, [0, 5])


def test_mean_box_in_shares_of_each_image() -> None:
    means = mean_boxes(TRUTH)
    first = np.array([10 / 60, 10 / 40, 30 / 60, 20 / 40])
    second = np.array([45 / 90, 15 / 30, 60 / 90, 22.5 / 30])
    np.testing.assert_allclose(means["Lung Lesion"], (first + second) / 2)
    assert means["Pleural Effusion"] == CENTER_BOX
    without_region = mean_boxes(TRUTH.with_boxes(TRUTH.boxes.assign(iscrowd=[1, 0])))
    np.testing.assert_allclose(without_region["Lung Lesion"], second)


def test_prior_is_one_box_an_image_and_finding_with_the_classifiers_score() -> None:
    boxes = dict.fromkeys(FINDINGS, (0.0, 0.5, 0.5, 1.0))
    found = prior_detections(TRUTH, boxes, np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert found["score"].tolist() == [0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(found.loc[2, ["x1", "y1", "x2", "y2"]].to_numpy(float), [0, 15, 45, 30])


# --- several methods as one -------------------------------------------------------------------------------------------


def test_fused_boxes_are_scored_without_those_of_the_own_patient() -> None:
    """The AP of the fused rules is that of their boxes; patients' own boxes are no candidates."""
    (first, truth), (second, _) = random_split(0), random_split(0)
    second = Scored(np.roll(second.maps, 1, axis=3), first.probabilities)
    settings = BoxSettings(rules=["relative", "bayes"], bayes_betas=[0, 2], max_boxes=[1, 3])
    tuned = [tune_rules(one, truth, settings, frame=FRAME) for one in (first, second)]
    both = Scored(first.maps, first.probabilities, (second.maps,))
    fused = fuse_tuned(tuned, both, truth, frame=FRAME)
    assert fused.rules == tuple(FusedRule(rules) for rules in zip(tuned[0].rules, tuned[1].rules, strict=True))
    assert list(fused.by_kind) == ["relative", "bayes"]
    assert fused.num_tried == 2 * tuned[0].num_tried
    for rules, aps in ((fused.rules, fused.aps), fused.by_kind["bayes"]):
        found = truth.with_boxes(detect(both, truth, rules, frame=FRAME, leave_own_out=True))
        assert aps == pytest.approx(evaluate(truth, found).ap(0.4))


def test_a_method_fused_with_itself_finds_what_it_finds_alone() -> None:
    scored, truth = random_split(1)
    tuned = tune_rules(scored, truth, RELATIVE, frame=FRAME)
    both = Scored(scored.maps, scored.probabilities, (scored.maps,))
    assert fuse_tuned([tuned, tuned], both, truth, frame=FRAME).aps == pytest.approx(tuned.aps)
