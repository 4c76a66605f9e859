"""What judging the detector found: the entries on the test split, what separates them, and what a score means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.coco import CocoBoxes
from cxr.labels import slug
from eval.leaderboard.run_tables import display_name
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, bootstrap_figures, interval_figures
from eval.stats.paired import Comparison
from stage3_detect.evaluation.scores import ScoreFacts

DETECTOR, TEACHER, HUMAN = "detector", "teacher", "human"
PRIORS = ("prior_mean_box", "prior_center_box", "prior_no_map")
MAIN, RODEO = "ap40", "rodeo"

Metrics = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class Entry:
    """Boxes of the test split and what they score, measures by name. name: as in metrics.json."""

    name: str
    detections: CocoBoxes
    measures: Mapping[str, Bootstrapped]

    @property
    def ap40(self) -> Bootstrapped:
        return self.measures[MAIN]

    @property
    def is_prior(self) -> bool:
        return self.name in PRIORS


@dataclass(frozen=True)
class Human:
    """AP40 of one reader against the others, as stage 2 measured it; split: of its images, "test" or "tune"."""

    split: str
    figures: Metrics

    @property
    def name(self) -> str:
        """In metrics.json: "ap40/human", or "tune_ap40/human" where the test split has no single readers."""
        return f"{MAIN}/{HUMAN}" if self.split == "test" else f"{self.split}_{MAIN}/{HUMAN}"

    def of(self, finding: str | None = None) -> tuple[float | None, float | None, float | None]:
        """The mean, or the value of one finding, and the ends of its interval."""
        key = self.name if finding is None else f"{self.name}/{slug(finding)}"
        value, low, high = (self.figures.get(f"{key}{end}") for end in ("", "/low", "/high"))
        return value, low, high


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found.

    truth: images and true boxes of the test split. teacher: the CAM method of stage 2. entries: the detector, its
    teacher, the other detectors, the priors. against: the detector minus each of the others, p-values after Holm for
    all of them. shares: the detector's AP40 as a share of each other detector's, paired. scores: operating points and
    calibration. stage2: figures of that run, for what needs its tune split (RoDeO). verdict: all of it in sentences.
    """

    truth: CocoBoxes
    teacher: str
    entries: tuple[Entry, ...]
    against: Sequence[Comparison]
    shares: Mapping[str, Difference]
    human: Human | None
    scores: ScoreFacts
    stage2: Metrics
    verdict: str = ""

    @property
    def detector(self) -> Entry:
        return self.entries[0]

    @property
    def beside(self) -> list[Entry]:
        """The other detectors."""
        return [entry for entry in self.entries if entry.name in self.shares]

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)

    def shown(self, name: str) -> str:
        """How an entry is written in tables, e.g. "CAM teacher: LayerCAM fusion"."""
        if name == TEACHER:
            return f"{display_name(TEACHER)}: {display_name(self.teacher)}"
        split = (
            " (tune split)" if name == HUMAN and self.human is not None and self.human.split != "test" else ""
        )
        return display_name(name) + split

    @property
    def operating_points(self) -> dict[str, Any]:
        """For the manifest; `eval.detection.operating_points.read_points` reads it. {} where nothing was chosen."""
        return {found.point.name: found.point.as_dict() for found in self.scores.points}

    @property
    def score_curves(self) -> dict[str, Any]:
        """For the manifest; `eval.detection.confidence.Confidence.from_dict` reads it. {} where nothing was fitted."""
        return {} if self.scores.confidence is None else self.scores.confidence.as_dict()

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat figures for metrics.json, by DESIGN's names."""
        figures: dict[str, float | None] = {}
        for entry in self.entries:
            for name, drawn in entry.measures.items():
                figures |= bootstrap_figures(name, entry.name, drawn)
        for one in self.against:
            key = f"{MAIN}/{DETECTOR}_minus_{one.name}"
            figures |= interval_figures(key, one.gap.value, one.gap)
            figures[f"{key}/p_holm"] = one.p_holm
        for name, share in self.shares.items():
            figures |= interval_figures(f"share_of_{name}", share.value, share)
        figures |= self._of_stage2()
        return figures | self.scores.metrics

    def _of_stage2(self) -> dict[str, float | None]:
        """The human ceiling, and RoDeO of teacher and priors, which needs scores chosen on stage 2's tune split."""
        figures = dict(self.human.figures) if self.human is not None else {}
        for name in (TEACHER, *PRIORS):
            own = f"{RODEO}/{self.teacher if name == TEACHER else name}"
            figures |= {
                f"{RODEO}/{name}{key.removeprefix(own)}": value
                for key, value in self.stage2.items()
                if key == own or key.startswith(f"{own}/")
            }
        return figures
