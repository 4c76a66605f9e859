"""The evaluation of stage 2: box rules chosen on the tune split, all methods and priors scored on the test split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cxr.progress import track
from cxr.readers import read_groups, readings_of
from eval.detection.measures import best_f1_scores
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import AP40, HUMAN
from eval.readers.human import human_measure
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.priors import CENTER_BOX, BoxNorm, mean_boxes, prior_detections
from stage2_pseudolabel.boxes.sample_size import SizePoint, sample_size_curve
from stage2_pseudolabel.boxes.search import detect, tune_rules
from stage2_pseudolabel.evaluation.leaderboard import CamEntry, choose_best, make_leaderboard, score_entry
from stage2_pseudolabel.evaluation.rule_comparison import RuleComparison, compare_rules, rule_figures
from stage2_pseudolabel.evaluation.split_data import SplitData
from stage2_pseudolabel.pseudolabels.box_data import Part
from stage2_pseudolabel.settings.boxes import BoxSettings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of the evaluation.

    board: the leaderboard; its main entry is the chosen method. test: the test split.
    rules: each kind of box rule with the maps of the chosen method. tune_boxes: AP40 by number of tune boxes.
    timing: ``ms_per_image/<method>`` and ``peak_mib/<method>``.
    """

    board: Leaderboard[CamEntry]
    test: SplitData
    rules: Sequence[RuleComparison]
    tune_boxes: Sequence[SizePoint]
    timing: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat figures for metrics.json."""
        figures: dict[str, float | None] = {**self.board.metrics, **rule_figures(self.rules)}
        for point in self.tune_boxes:
            name = f"tune_boxes_ap40/{'all' if point.size is None else point.size}"
            figures |= {name: point.ap40, f"{name}/low": point.low, f"{name}/high": point.high}
        return {**figures, **self.timing}


class Evaluator:
    """Chooses box rules and the method on the tune split, and scores them on the test split."""

    def __init__(self, settings: Stage2Settings, frame: Frame, tune: Part, test: Part) -> None:
        self.settings, self.frame, self.tune, self.test = settings, frame, tune, test
        counts = self._counts(test)
        self.split = SplitData(test.truth, test.maps, test.pictures, frame, counts, self._groups())

    def __call__(self) -> Evaluation:
        """Score all methods and priors, and compare box rules and numbers of tune boxes for the chosen method."""
        entries = [
            self._entry(name, name, self.settings.boxes)
            for name in track(self.settings.methods, "box rules and scores")
        ]
        entries += self._priors()
        human = self._human(self.test, self.split.counts)
        on_tune = self._human(self.tune, self._counts(self.tune)) if human is None else None
        more = {} if on_tune is None else bootstrap_figures(f"tune_{AP40}", HUMAN, on_tune)
        board = make_leaderboard(entries, self.split, how=self.settings.choose, human=human, more=more)
        log.info("comparing the kinds of box rules and the number of tune boxes")
        return Evaluation(board, self.split, compare_rules(board.main, self.split), self._curve(board))

    def _entry(self, name: str, method: str, boxes: BoxSettings, *, is_prior: bool = False) -> CamEntry:
        """The entry `name`: boxes from the maps of `method`, by the rules that are best on the tune split."""
        tune, scored = self.tune, self.tune.scored(method)
        tuned = tune_rules(scored, tune.truth, boxes, frame=self.frame)
        on_tune = detect(scored, tune.truth, tuned.rules, frame=self.frame, leave_own_out=True)
        methods = (method,) * len(tune.truth.findings)
        entry = score_entry(
            name,
            self.split,
            self.split.detect(tuned.rules, methods),
            tuned=tuned,
            methods=() if is_prior else methods,
            min_scores=best_f1_scores(tune.truth, on_tune),
        )
        log.info("%-20s AP40 tune %.3f  test %.3f", name, entry.tune_ap, entry.ap40.mean)
        return entry

    def _priors(self) -> list[CamEntry]:
        fixed = {
            "prior_mean_box": mean_boxes(self.tune.truth),
            "prior_center_box": dict.fromkeys(self.test.truth.findings, CENTER_BOX),
        }
        priors = [self._fixed(name, box_of) for name, box_of in fixed.items()]
        if "bayes" in self.settings.boxes.rules:
            without_map = {"rules": ["bayes"], "bayes_betas": [0.0], "background": ["none"]}
            first = self.settings.methods[0]  # any method: with beta 0 the rule ignores the map
            boxes = self.settings.boxes.model_copy(update=without_map)
            priors.append(self._entry("prior_no_map", first, boxes, is_prior=True))
        return priors

    def _fixed(self, name: str, box_of: Mapping[str, BoxNorm]) -> CamEntry:
        """The entry of a prior with one box per finding, the same in all images."""
        tune, test = (prior_detections(part.truth, box_of, part.maps.probabilities) for part in (self.tune, self.test))
        return score_entry(
            name, self.split, self.test.truth.with_boxes(test), min_scores=best_f1_scores(self.tune.truth, tune)
        )

    def _curve(self, board: Leaderboard[CamEntry]) -> list[SizePoint]:
        """AP40 by number of tune boxes, for the method with the best mean on the tune split."""
        method = choose_best(board.entries, how="one").methods[0]
        pairs = [(part.scored(method), part.truth) for part in (self.tune, self.test)]
        return sample_size_curve(pairs[0], pairs[1], self.settings.boxes, frame=self.frame, seed=self.settings.seed)

    def _counts(self, part: Part) -> Counts:
        return resample_counts(part.truth.groups, num_resamples=self.settings.num_resamples, seed=self.settings.seed)

    def _groups(self) -> dict[str, list[str]]:
        readings = readings_of(self.test.data.boxes, num_readers=self.settings.readers.num_readers)
        return read_groups(readings, self.settings.readers.groups)

    def _human(self, part: Part, counts: Counts) -> Bootstrapped | None:
        """AP40 of single readers against the others; None where no image has several readers."""
        boxes = part.data.boxes
        if not boxes.loc[boxes["reader"] != ""].groupby("image_id")["reader"].nunique().max() >= 2:
            return None  # the maximum is NaN without any reader
        measure = human_measure(
            boxes, part.truth.images["image_id"].tolist(), findings=part.truth.findings, settings=self.settings.readers
        )
        return bootstrap(measure, counts)
