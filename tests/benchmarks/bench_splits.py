"""How well splits of patients keep the share of each finding: by a hash of the patient, and stratified.

    python tests/benchmarks/bench_splits.py [--patients 3000] [--seeds 20]

A made-up data set: one to four images a patient; 14 findings in 40 % to 0.2 % of the patients, of which a patient with
one has others more often. 70 % of the patients are train, 10 % val, 20 % test. The deviation of a finding in a split is
the difference of its share of patients there from its share in all, relative to the latter. Prints, for each kind of
split, the largest deviation over all findings and splits (mean and worst over the seeds), that of findings in at least
1 % of the patients, how often a split lacks a finding that three patients have, and the seconds of one split; as the
last line, one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.splits import Splits, SplitSettings, patients_of
from cxr.tables import Dataset, empty_boxes, image_table

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
SHARES = np.geomspace(0.4, 0.002, 14)


def made_up(num_patients: int, *, seed: int) -> Dataset:
    """The data set of the docstring."""
    random = np.random.default_rng(seed)
    sick = random.random(num_patients) < 0.6
    has = (random.random((num_patients, len(SHARES))) < SHARES / 0.6) & sick[:, None]
    of = np.repeat(np.arange(num_patients), random.integers(1, 5, num_patients))
    shown = has[of] & (random.random((len(of), len(SHARES))) < 0.8)
    ids = [f"i{number}" for number in range(len(of))]
    images = image_table(image_id=ids, path=[f"{name}.png" for name in ids], patient_id=[f"p{number}" for number in of])
    columns = [f"finding {number}" for number in range(len(SHARES))]
    labels = pd.DataFrame(shown.astype(float), columns=columns, index=pd.Index(ids))
    return Dataset(name="made up", root=Path(), images=images, labels=labels, boxes=empty_boxes())


def deviations(data: Dataset, splits: Splits) -> tuple[pd.DataFrame, "pd.Series[float]"]:
    """(splits, findings) relative deviations of the share of patients with each finding; and the shares in all."""
    has = (data.labels == 1).groupby(patients_of(data).to_numpy()).any()
    patient = dict(zip(data.images["image_id"], patients_of(data), strict=True))
    inside = {name: has.loc[sorted({patient[image_id] for image_id in ids})].mean() for name, ids in splits.items()}
    return (pd.DataFrame(inside).T - has.mean()).abs() / has.mean(), has.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    table = Table("split", "largest deviation: mean", "worst", "findings of 1 %: mean", "worst", "lacking", "s")
    figures: dict[str, float] = {}
    for stratify in (False, True):
        name = "stratified" if stratify else "hash"
        largest, frequent, lacking, seconds = [], [], 0, 0.0
        for seed in range(arguments.seeds):
            data = made_up(arguments.patients, seed=seed)
            settings = SplitSettings(kind="patients", fractions=FRACTIONS, stratify=stratify, seed=seed)
            start = time.process_time()
            splits = settings.make(data)
            seconds += time.process_time() - start
            deviation, share = deviations(data, splits)
            largest.append(deviation.max(axis=None))
            frequent.append(deviation.loc[:, share >= 0.01].max(axis=None))
            enough = share * arguments.patients > len(FRACTIONS) - 0.5
            lacking += int((deviation.loc[:, enough] == 1).sum(axis=None))
        own = [np.mean(largest), max(largest), np.mean(frequent), max(frequent)]
        table.add_row(name, *(f"{value:.3f}" for value in own), f"{lacking}", f"{seconds / arguments.seeds:.2f}")
        keys = ("mean", "worst", "frequent_mean", "frequent_worst")
        figures |= {f"{name}/{key}": round(float(value), 4) for key, value in zip(keys, own, strict=True)}
        figures |= {f"{name}/lacking": lacking, f"{name}/s": round(seconds / arguments.seeds, 3)}
    Console().print(table)
    Console().print(json.dumps(figures))


if __name__ == "__main__":
    main()
