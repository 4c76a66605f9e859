"""The judgement: rules on the tune split, every method and prior on the test split, what rules and boxes are worth."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cxr.progress import track
from cxr.readers import read_groups, readings_of
from eval.detection.measures import best_f1_scores
from eval.readers.human import human_measure
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.priors import CENTER_BOX, BoxNorm, mean_boxes, prior_detections
from stage2_pseudolabel.boxes.sample_size import SizePoint, sample_size_curve
from stage2_pseudolabel.boxes.search import detect, tune_rules
from stage2_pseudolabel.evaluation.box_splits import HeldOut
from stage2_pseudolabel.evaluation.leaderboard import (
    Board,
    Entry,
    choose_best,
    make_board,
    score_entry,
)
from stage2_pseudolabel.evaluation.rule_comparison import RuleWorth, rule_figures, rules_worth
from stage2_pseudolabel.pseudolabels.box_data import Part
from stage2_pseudolabel.settings.boxes import BoxSettings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found. rules: each kind of rule with the chosen method's maps. tune_boxes: AP40 by their number."""

    board: Board
    held: HeldOut
    rules: Sequence[RuleWorth]
    tune_boxes: Sequence[SizePoint]
    human_on_tune: Bootstrapped | None
    timing: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Flat figures for metrics.json."""
        figures = {**self.board.metrics, **rule_figures(self.rules)}
        for point in self.tune_boxes:
            name = f"tune_boxes_ap40/{'all' if point.size is None else point.size}"
            figures |= {name: point.ap40, f"{name}/low": point.low, f"{name}/high": point.high}
        if self.human_on_tune is not None:
            figures |= bootstrap_figures("tune_ap40", "human", self.human_on_tune)
        return figures


class Judge:
    """The settings and the two parts of the data; a judgement chooses on the first and judges on the second."""

    def __init__(self, settings: Stage2Settings, frame: Frame, tune: Part, test: Part) -> None:
        self.settings, self.frame, self.tune, self.test = settings, frame, tune, test
        counts = self._counts(test)
        self.held = HeldOut(test.truth, test.maps, test.pictures, frame, counts, self._groups())

    def __call__(self) -> Judgement:
        entries = [
            self._entry(name, name, self.settings.boxes)
            for name in track(self.settings.methods, "box rules and scores")
        ]
        human = self._human(self.test, self.held.counts)
        board = make_board([*entries, *self._priors()], self.held, how=self.settings.choose, human=human)
        on_tune = self._human(self.tune, self._counts(self.tune)) if human is None else None
        log.info("what the chosen boxes' rules and the number of tune boxes are worth")
        return Judgement(board, self.held, rules_worth(board.best, self.held), self._curve(board), on_tune)

    def _entry(self, name: str, method: str, boxes: BoxSettings, *, is_prior: bool = False) -> Entry:
        """The row `name`: boxes from the maps of `method` by the rules that are best on the tune split."""
        tune, scored = self.tune, self.tune.scored(method)
        tuned = tune_rules(scored, tune.truth, boxes, frame=self.frame)
        on_tune = detect(scored, tune.truth, tuned.rules, frame=self.frame, leave_own_out=True)
        methods = (method,) * len(tune.truth.findings)
        entry = score_entry(
            name,
            self.held,
            self.held.detect(tuned.rules, methods),
            tuned=tuned,
            methods=() if is_prior else methods,
            min_scores=best_f1_scores(tune.truth, on_tune),
        )
        log.info("%-20s AP40 tune %.3f  test %.3f", name, entry.tune_ap, entry.ap40.mean)
        return entry

    def _priors(self) -> list[Entry]:
        fixed = {
            "prior_mean_box": mean_boxes(self.tune.truth),
            "prior_center_box": dict.fromkeys(self.test.truth.findings, CENTER_BOX),
        }
        priors = [self._fixed(name, box_of) for name, box_of in fixed.items()]
        if "bayes" in self.settings.boxes.rules:
            without_map = {
                "rules": ["bayes"],
                "bayes_betas": [0.0],
                "background": ["none"],
            }
            first = self.settings.methods[0]  # any: beta 0 looks at no map
            boxes = self.settings.boxes.model_copy(update=without_map)
            priors.append(self._entry("prior_no_map", first, boxes, is_prior=True))
        return priors

    def _fixed(self, name: str, box_of: Mapping[str, BoxNorm]) -> Entry:
        """The row of one box a finding, the same in all images."""
        tune, test = (
            prior_detections(part.truth, box_of, part.maps.probabilities) for part in (self.tune, self.test)
        )
        return score_entry(
            name,
            self.held,
            self.test.truth.with_boxes(test),
            min_scores=best_f1_scores(self.tune.truth, tune),
        )

    def _curve(self, board: Board) -> list[SizePoint]:
        """Of the chosen method; of several, that with the best mean on the tune split."""
        method = choose_best(board.entries, how="one").methods[0]
        pairs = [(part.scored(method), part.truth) for part in (self.tune, self.test)]
        return sample_size_curve(
            pairs[0], pairs[1], self.settings.boxes, frame=self.frame, seed=self.settings.seed
        )

    def _counts(self, part: Part) -> Counts:
        return resample_counts(
            part.truth.groups, num_resamples=self.settings.num_resamples, seed=self.settings.seed
        )

    def _groups(self) -> dict[str, list[str]]:
        readings = readings_of(self.test.data.boxes, num_readers=self.settings.readers.num_readers)
        return read_groups(readings, self.settings.readers.groups)

    def _human(self, part: Part, counts: Counts) -> Bootstrapped | None:
        """One reader against the others, where an image has several."""
        boxes = part.data.boxes
        if not boxes.loc[boxes["reader"] != ""].groupby("image_id")["reader"].nunique().max() >= 2:
            return None  # also without any reader, where the maximum is not a number
        measure = human_measure(
            boxes,
            part.truth.images["image_id"].tolist(),
            findings=part.truth.findings,
            settings=self.settings.readers,
        )
        return bootstrap(measure, counts)
