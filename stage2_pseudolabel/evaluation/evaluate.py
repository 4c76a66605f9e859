"""The evaluation of stage 2: box rules chosen on the tune split, all methods and priors scored on the test split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cxr.progress import track
from cxr.readers import ReaderSettings
from eval.detection.average_precision import main_ap_measure
from eval.detection.measures import best_f1_scores
from eval.leaderboard.leaderboard import Leaderboard
from eval.leaderboard.names import AP40, HUMAN, methods_of
from eval.readers.human import human_counts
from eval.stats.bootstrap import Estimate
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, difference, interval_figures
from stage2_pseudolabel.boxes.detect import detect
from stage2_pseudolabel.boxes.priors import CENTER_BOX, mean_boxes, prior_detections
from stage2_pseudolabel.boxes.sample_size import SizePoint, sample_size_curve
from stage2_pseudolabel.boxes.search import Tuned, fuse_tuned, mean_of, tune_rules
from stage2_pseudolabel.evaluation.blank_image import BlankImage
from stage2_pseudolabel.evaluation.leaderboard import CamEntry, choose_best, make_leaderboard, score_entry
from stage2_pseudolabel.evaluation.split_data import SplitData
from stage2_pseudolabel.settings.boxes import BoxSettings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings

log = logging.getLogger("raybox")


@dataclass(frozen=True, eq=False)
class RuleComparison:
    """One kind of rule, e.g. "bayes", with the maps of the chosen method.

    tune_ap, test: mean AP40 on the two splits. gap: test AP40 minus that of the chosen rules, paired.
    """

    kind: str
    tune_ap: float
    test: Bootstrapped
    gap: Estimate


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of the evaluation.

    board: the leaderboard; its main entry is the chosen method. test: the test split.
    rules: each kind of box rule with the maps of the chosen method. tune_boxes: AP40 by number of tune boxes.
    timing: ``ms_per_image/<method>`` and ``peak_mib/<method>``. blank: the maps of a blank image.
    """

    board: Leaderboard[CamEntry]
    test: SplitData
    rules: Sequence[RuleComparison]
    tune_boxes: Sequence[SizePoint]
    timing: Mapping[str, float] = field(default_factory=dict)
    blank: BlankImage | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat figures for metrics.json."""
        figures: dict[str, float | None] = dict(self.board.metrics)
        for one in self.rules:
            figures |= interval_figures(f"rule_ap40/{one.kind}", one.test.mean, one.test.mean_interval)
        for point in self.tune_boxes:
            name = f"tune_boxes_ap40/{'all' if point.size is None else point.size}"
            figures |= {name: point.ap40, f"{name}/low": point.low, f"{name}/high": point.high}
        return {**figures, **self.timing, **({} if self.blank is None else self.blank.figures)}


def evaluate(tune: SplitData, test: SplitData, settings: Stage2Settings) -> Evaluation:
    """Choose box rules and the method on the tune split, and score all methods and priors on the test split.

    The chosen method is scored again with each kind of box rule and with fewer tune boxes.
    """
    entries: list[CamEntry] = []
    for name in track([*settings.methods, *settings.fusions], "box rules and scores"):
        known = {entry.name: entry.tuned for entry in entries if entry.tuned is not None}
        entries.append(_entry(name, _tuned(name, tune, settings.boxes, known=known), tune, test))
    entries += _priors(tune, test, settings)
    human = _human(test, settings.readers)
    on_tune = _human(tune, settings.readers) if human is None else None
    more = {} if on_tune is None else bootstrap_figures(f"tune_{AP40}/{HUMAN}", on_tune)
    board = make_leaderboard(entries, test, how=settings.choose, human=human, more=more)
    log.info("comparing the kinds of box rules and the number of tune boxes")
    return Evaluation(board, test, compare_rules(board.main, test), _curve(board, tune, test, settings))


def _tuned(name: str, tune: SplitData, boxes: BoxSettings, *, known: Mapping[str, Tuned]) -> Tuned:
    """The rules of a method that are best on the tune split; for fused boxes those of its methods, which are known."""
    scored = tune.scored(name)
    if scored.further:
        return fuse_tuned([known[method] for method in methods_of(name)], scored, tune.truth, frame=tune.frame)
    return tune_rules(scored, tune.truth, boxes, frame=tune.frame)


def _entry(name: str, tuned: Tuned, tune: SplitData, test: SplitData, *, prior_by: str | None = None) -> CamEntry:
    """The entry `name`: boxes from its maps by the tuned rules. prior_by: the method whose maps a prior is given."""
    method = prior_by or name
    on_tune = detect(tune.scored(method), tune.truth, tuned.rules, frame=tune.frame, leave_own_out=True)
    methods = (method,) * len(tune.truth.findings)
    entry = score_entry(
        name,
        test,
        test.detect(tuned.rules, methods),
        tuned=tuned,
        methods=() if prior_by else methods,
        min_scores=best_f1_scores(tune.truth, on_tune),
    )
    log.info("%-20s AP40 tune %.3f  test %.3f", name, entry.tune_ap, entry.ap40.mean)
    return entry


def _priors(tune: SplitData, test: SplitData, settings: Stage2Settings) -> list[CamEntry]:
    """One box per finding, the same in all images; and Bayes' rule without a map."""
    fixed = {
        "prior_mean_box": mean_boxes(tune.truth),
        "prior_center_box": dict.fromkeys(test.truth.findings, CENTER_BOX),
    }
    priors = []
    for name, box_of in fixed.items():
        on_tune, boxes = (prior_detections(one.truth, box_of, one.maps.probabilities) for one in (tune, test))
        min_scores = best_f1_scores(tune.truth, on_tune)
        priors.append(score_entry(name, test, test.truth.with_boxes(boxes), min_scores=min_scores))
    if "bayes" in settings.boxes.rules:
        update = {"rules": ["bayes"], "bayes_betas": [0.0], "background": ["none"]}
        first = settings.methods[0]  # any method: with beta 0 the rule ignores the map
        without_map = settings.boxes.model_copy(update=update)
        tuned = _tuned(first, tune, without_map, known={})
        priors.append(_entry("prior_no_map", tuned, tune, test, prior_by=first))
    return priors


def compare_rules(best: CamEntry, test: SplitData) -> list[RuleComparison]:
    """Each kind of rule that was tried for the chosen entry, by falling AP40 on the tune split."""
    assert best.tuned is not None, "a prior has no rules to compare"
    compared = []
    for kind, (rules, aps) in best.tuned.by_kind.items():
        detections = test.detect(rules, best.methods)
        ap40 = bootstrap(main_ap_measure(test.truth, detections), test.counts)
        compared.append(RuleComparison(kind, mean_of(aps), ap40, difference(ap40, best.ap40)))
    return sorted(compared, key=lambda one: -one.tune_ap)


def _curve(board: Leaderboard[CamEntry], tune: SplitData, test: SplitData, settings: Stage2Settings) -> list[SizePoint]:
    """AP40 by number of tune boxes, for the method with the best mean on the tune split."""
    method = choose_best(board.entries, how="one").methods[0]
    on_tune, on_test = ((split.scored(method), split.truth) for split in (tune, test))
    return sample_size_curve(on_tune, on_test, settings.boxes, frame=test.frame, seed=settings.seed)


def _human(split: SplitData, readers: ReaderSettings) -> Bootstrapped | None:
    """AP40 of single readers against the others; None where no image has several readers."""
    boxes = split.marked
    if not boxes.loc[boxes["reader"] != ""].groupby("image_id")["reader"].nunique().max() >= 2:
        return None  # the maximum is NaN without any reader
    ids = split.truth.images["image_id"].tolist()
    return bootstrap(human_counts(boxes, ids, findings=split.truth.findings, settings=readers).ap(), split.counts)
