"""Which patients have which findings, and splits of patients that regard this: stratified, or n patients a finding.

A patient has a finding if one of its images is positive. Patients are taken in the order of a hash of patient and seed,
so that the order of the table does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import IterativeStratification

from cxr.arrays import Bools, Ints
from cxr.config import UserError
from cxr.tables import NOT_ASKED

NOWHERE = -1
"""The part of a patient that is in no split."""


@dataclass(frozen=True)
class PatientFindings:
    """P patients in the order in which they are taken, and K findings.

    has: (P, K) one of the patient's images is positive. is_certain: (P,) no label of the patient is uncertain.
    """

    patients: tuple[str, ...]
    findings: tuple[str, ...]
    has: Bools
    is_certain: Bools


def findings_of_patients(
    labels: pd.DataFrame, patients: "pd.Series[str]", order: Mapping[str, float]
) -> PatientFindings:
    """The findings of each patient.

    Args:
        labels: (N, findings) of the images. Findings that the data set does not ask for are left out.
        patients: (N,) patient of each image.
        order: patient -> its place among the others, any number.
    """
    asked = labels.loc[:, ~(labels == NOT_ASKED).all(axis=0)] if len(labels) else labels
    names = sorted(order, key=lambda patient: (order[patient], patient))
    groups = patients.to_numpy()
    has = (asked == 1).groupby(groups).any().reindex(names)
    uncertain = (asked == -1).any(axis=1).groupby(groups).any().reindex(names)
    return PatientFindings(
        patients=tuple(names),
        findings=tuple(map(str, asked.columns)),
        has=has.to_numpy(dtype=bool).reshape(len(names), asked.shape[1]),
        is_certain=~uncertain.to_numpy(dtype=bool),
    )


def stratified_parts(has: Bools, shares: Sequence[float], *, seed: int) -> Ints:
    """(P,) the part of each patient: its index in `shares`, or NOWHERE.

    Iterative stratification (Sechidis et al. 2011): the rarest finding is distributed first. Then each part gets at
    least one patient with each finding that enough patients have.

    Args:
        has: (P, K) the findings of the patients.
        shares: of the patients, one per part. If their sum is below 1, some patients are nowhere.
    """
    rest = max(1 - sum(shares), 0.0)
    random = np.random.RandomState(seed % 2**32)
    parts: Ints = IterativeStratification(has, np.array([*shares, rest]), random).astype(np.int64)
    parts[parts == len(shares)] = NOWHERE
    for finding in np.argsort(has.sum(axis=0), kind="stable"):
        for part in range(len(shares)):
            if not (has[:, finding] & (parts == part)).any():
                _give_one(has, parts, int(finding), part)
    return parts


def _give_one(has: Bools, parts: Ints, finding: int, part: int) -> None:
    """Move a patient with the finding into a part that has none, in exchange for another; in place.

    Neither part may lose its last patient with a finding. Nothing happens if no two patients can be exchanged.
    """
    donors = has[:, finding] & (parts != NOWHERE)
    for giver in np.argsort(-np.bincount(parts[donors], minlength=part + 1), kind="stable"):
        given = _spare(has, parts, giver, donors)
        returned = _spare(has, parts, part, parts == part)
        if given is not None and returned is not None:
            parts[given], parts[returned] = part, giver
            return


def _spare(has: Bools, parts: Ints, part: int, candidates: Bools) -> int | None:
    """The candidate in this part with the fewest findings, none of which only it has there."""
    inside = parts == part
    is_last = has[inside].sum(axis=0) == 1
    possible = np.flatnonzero(inside & candidates & ~(has & is_last).any(axis=1))
    return int(possible[np.argmin(has[possible].sum(axis=1))]) if len(possible) else None


def held_out_parts(known: PatientFindings, wanted: Mapping[str, int]) -> Ints:
    """(P,) the index in `wanted` of the part that holds a patient out, or NOWHERE: each part gets n patients a finding.

    Patients with uncertain labels are not held out. The rarest finding comes first, and a patient counts for all its
    findings.

    Args:
        wanted: part -> least number of patients with each finding.

    Raises:
        UserError: names the findings with too few patients, and those that only held-out patients would have.
    """
    parts: Ints = np.full(len(known.patients), NOWHERE, dtype=np.int64)
    has = known.has & known.is_certain[:, None]
    for finding in np.argsort(has.sum(axis=0), kind="stable"):
        for part, number in enumerate(wanted.values()):
            missing = number - int((has[:, finding] & (parts == part)).sum())
            free = np.flatnonzero(has[:, finding] & (parts == NOWHERE))
            parts[free[: max(missing, 0)]] = part
    problems = [
        problem
        for place, finding in enumerate(known.findings)
        for problem in _shortage(finding, known.has[:, place], has[:, place], parts, wanted)
    ]
    if problems:
        raise UserError(problems)
    return parts


def _shortage(finding: str, has: Bools, certain: Bools, parts: Ints, wanted: Mapping[str, int]) -> list[str]:
    """One line if a part has too few patients with the finding, or none is left to train on."""
    found = [int((certain & (parts == part)).sum()) for part in range(len(wanted))]
    if (
        all(number >= least for number, least in zip(found, wanted.values(), strict=True))
        and has[parts == NOWHERE].any()
    ):
        return []
    needs = " + ".join(f"{least} in {part}" for part, least in wanted.items())
    return [
        f"split.patients_per_finding: {finding}: {certain.sum()} patients without uncertain labels have it, expected "
        f"{needs} and at least one to train on; lower the numbers, or leave the finding out of `split.findings`"
    ]
