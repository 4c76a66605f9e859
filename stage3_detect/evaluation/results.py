"""Results of the evaluation of stage 3: the leaderboard on the test split, and what the scores of the detector mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cxr.coco import CocoBoxes
from eval.leaderboard.leaderboard import Entry, Leaderboard
from eval.leaderboard.names import AP40, DETECTOR, TEACHER
from eval.leaderboard.verdict import about_intervals, against, against_human, against_strongest_prior
from eval.report.format import short_interval
from eval.stats.bootstrap import Estimate
from eval.stats.measures import interval_figures
from stage3_detect.evaluation.scores import ScoreResults


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of the evaluation.

    board: the detector (main entry), its CAM teacher, other detectors and priors.
    shares: AP40 of the detector as a share of that of each other detector, paired.
    scores: operating points and calibration.
    """

    board: Leaderboard[Entry]
    shares: Mapping[str, Estimate]
    scores: ScoreResults

    @property
    def truth(self) -> CocoBoxes:
        """Images and true boxes of the test split."""
        return self.board.truth

    @property
    def teacher(self) -> str:
        """The CAM method of stage 2 that made the pseudo-boxes."""
        return str(self.board.teacher)

    @property
    def sentences(self) -> list[str]:
        """The verdict: the detector against its teacher, other detectors, the best prior and the human ceiling."""
        sentences = [against(self.board, TEACHER)]
        for name, share in self.shares.items():
            reached = short_interval(share.value, share.low, share.high)
            sentences += [against(self.board, name), f"It reaches {reached} of that detector's AP40."]
        return [
            *sentences, *against_strongest_prior(self.board), *against_human(self.board), about_intervals(self.board)
        ]  # fmt: skip

    @property
    def verdict(self) -> str:
        """For the manifest."""
        return " ".join(self.sentences)

    @property
    def operating_points(self) -> dict[str, Any]:
        """For the manifest; `eval.detection.operating_points.read_points` reads it. {} if none was chosen."""
        return {found.point.name: found.point.as_dict() for found in self.scores.points}

    @property
    def score_curves(self) -> dict[str, Any]:
        """For the manifest; `eval.detection.confidence.Confidence.from_dict` reads it. {} if none was fitted."""
        return {} if self.scores.confidence is None else self.scores.confidence.as_dict()

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Flat figures for metrics.json."""
        figures = dict(self.board.metrics)
        for one in self.board.compared.values():
            key = f"{AP40}/{DETECTOR}_minus_{one.name}"
            figures |= interval_figures(key, one.gap.value, one.gap)
            figures[f"{key}/p_holm"] = one.p_holm
        for name, share in self.shares.items():
            figures |= interval_figures(f"share_of_{name}", share.value, share)
        return figures | self.scores.metrics
