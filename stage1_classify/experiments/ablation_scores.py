"""Mean AUROC and AUPRC of the runs of an ablation, on the test cases of their group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Floats, mean_over_classes
from cxr.config import UserError
from cxr.runs.run_folder import open_run
from eval.classification.prediction_file import Cases, read_cases, read_predictions
from eval.classification.weighted import Ranking, in_parts
from eval.experiments.comparison import Figures, Trainings
from eval.experiments.plan import Runs
from eval.stats.bootstrap import Counts, resample_counts

METRICS = ("auroc", "auprc")


def probabilities_on(cases: Cases, table: pd.DataFrame, findings: Sequence[str], *, source: str) -> Floats:
    """(N, K) probabilities of another run on `cases`, in their order. A case is identified by its first image.

    Raises:
        UserError: the run was evaluated on other cases, or against other labels.
    """
    own = read_cases(table, findings)
    if len(set(own.ids)) < len(own.ids) or set(own.ids) != set(cases.ids):
        shared = len(set(own.ids) & set(cases.ids))
        raise UserError(
            f"{source}: was evaluated on other cases ({len(own.ids)}, of which {shared} are among the "
            f"{len(cases.ids)} of the reference); variants must share data, test split and cases"
        )
    order = pd.Index(own.ids).get_indexer(pd.Index(cases.ids))
    if not np.array_equal(own.labels[order], cases.labels, equal_nan=True):
        raise UserError(f"{source}: was evaluated against other labels than the reference")
    test = table[table["split"] == "test"]
    return test[list(findings)].to_numpy(dtype=np.float64)[order]


def mean_figures(cases: Cases, probabilities: Floats, *, num_resamples: int, min_positives: int, seed: int) -> Figures:
    """`METRICS`, means over the findings with enough positives, on all cases and on resamples of patients.

    probabilities: (N, K) in [0, 1].
    """
    counts = resample_counts(cases.patients, num_resamples=num_resamples, seed=seed)
    chosen = np.flatnonzero(cases.enough(min_positives))
    rankings = [Ranking(cases.labels[:, k], probabilities[:, k]) for k in chosen]

    def score(weights: Counts) -> Floats:
        totals = [ranking.totals(weights) for ranking in rankings]
        by_metric = [[one.auroc() for one in totals], [one.auprc() for one in totals]]
        # (2, K, r) -> (r, 2)
        values = np.array(by_metric).reshape(len(METRICS), len(rankings), len(weights))
        return mean_over_classes(values.transpose(2, 0, 1))

    once = np.ones((1, len(cases.ids)), dtype=np.int32)
    return Figures(in_parts(score, once)[0], in_parts(score, counts))


@dataclass
class PredictionScorer:
    """Scores the runs of a group by their ``predictions.csv``. A run that several groups share is scored once."""

    num_resamples: int
    min_positives: int
    seed: int
    _scored: dict[tuple[Path, tuple[str, ...]], Figures] = field(default_factory=dict)

    def __call__(self, runs: Mapping[str, Runs]) -> tuple[Mapping[str, Trainings], str]:
        """Figures of each variant by seed on the test cases of the first run, and these cases in words."""
        first = open_run(next(iter(next(iter(runs.values())).values())), stage="stage1")
        findings = first.manifest["findings"]
        cases = read_cases(read_predictions(first.output("predictions"), findings), findings)
        scored = {
            name: {seed: self._score(path, cases, findings) for seed, path in paths.items()}
            for name, paths in runs.items()
        }
        return scored, cases.describe(findings, min_positives=self.min_positives)

    def _score(self, path: Path, cases: Cases, findings: Sequence[str]) -> Figures:
        key = (path, cases.ids)
        if key not in self._scored:
            table = read_predictions(open_run(path, stage="stage1").output("predictions"), findings)
            self._scored[key] = mean_figures(
                cases,
                probabilities_on(cases, table, findings, source=f"run {path}"),
                num_resamples=self.num_resamples,
                min_positives=self.min_positives,
                seed=self.seed,
            )
        return self._scored[key]
