"""All checks of an audit, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr.config import UserError
from eval.audit.box_plausibility import measure_boxes
from eval.audit.image_facts import ImageFacts, measure_images
from eval.audit.label_suspects import CHECKED_COLUMNS, COLUMNS, find_suspects
from eval.audit.leaks import crossing_table, find_copies
from eval.audit.out_of_fold import OutOfFold, predictions_of_runs, predictions_of_small_model, targets_of
from eval.audit.reading import AuditedData, read_audited
from eval.audit.settings import AuditSettings


@dataclass(frozen=True)
class Audit:
    """What the checks have found.

    crossing, copies: see `leaks`. boxes: see `measure_boxes`. suspects, checked: see `find_suspects`; source: where
    their predictions come from, or why there are none.
    """

    audited: AuditedData
    facts: ImageFacts
    crossing: pd.DataFrame
    copies: pd.DataFrame
    boxes: pd.DataFrame
    suspects: pd.DataFrame
    checked: pd.DataFrame
    source: str


def audit_data(settings: AuditSettings, *, runs: Sequence[Path] = (), cache_dir: Path, progress: bool = False) -> Audit:
    """Read the data set, decode its images, and run all checks.

    runs: finished stage 1 runs whose predictions the search for wrong labels uses. cache_dir: of `measure_images`.

    Raises:
        UserError: nothing can be read, or `runs` do not fit the data set.
    """
    audited = read_audited(settings)
    data, findings = audited.data, audited.findings
    predicted = predictions_of_runs(runs, data, findings) if runs else None  # before the long work, since it may fail
    facts = measure_images(data, cache_dir, progress=progress)
    hashes = dict(zip(facts.table.index, facts.table["hash"], strict=True))
    suspects, checked, source = _suspects(audited, facts, predicted, not_mentioned=settings.labels.not_mentioned)
    return Audit(
        audited=audited,
        facts=facts,
        crossing=crossing_table(data, audited.divisions),
        copies=find_copies(data, hashes, findings, audited.divisions),
        boxes=measure_boxes(data, facts.table),
        suspects=suspects,
        checked=checked,
        source=source,
    )


def _suspects(
    audited: AuditedData, facts: ImageFacts, predicted: OutOfFold | None, *, not_mentioned: str
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    data, findings = audited.data, audited.findings
    targets = targets_of(data.labels[list(findings)], not_mentioned=not_mentioned)
    if predicted is None:
        has_thumbnail = data.images["image_id"].isin(facts.table.index).to_numpy(bool)
        predicted = predictions_of_small_model(data, facts.thumbnails, has_thumbnail, targets)
    try:
        ids = data.images["image_id"].tolist()
        suspects, checked = find_suspects(ids, findings, targets, predicted.probabilities)
    except UserError as error:  # cleanlab is missing: the other checks go on
        return pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(CHECKED_COLUMNS)), error.problems[0]
    return suspects, checked, predicted.source
