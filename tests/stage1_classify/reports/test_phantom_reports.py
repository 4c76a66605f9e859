"""Reports that the phantom writes, labelled and compared with the labels and places they were written from."""

import numpy as np

from cxr.labels import CHEXPERT_FINDINGS
from cxr.phantom.report_text import MIDDLE, Place, write_report
from cxr.phantom.reports import LEAVES, reported_labels
from stage1_classify.reports.labeller import ReportLabeller

NUM = 300
PLACES = [Place("L", "upper"), Place("R", "lower"), Place("L", "lower"), Place("R", ""), Place("B", "lower")]


def test_labels_and_places_from_reports_agree_with_the_truth(label: ReportLabeller) -> None:
    num_right, places_told, places_right = 0, 0, 0
    for seed in range(NUM):
        rng = np.random.default_rng([17, seed])
        findings = frozenset(str(name) for name in rng.choice(LEAVES, size=rng.integers(4), replace=False))
        labels = reported_labels(findings, label_noise=0.05, rng=rng)
        places = {name: PLACES[int(rng.integers(len(PLACES)))] for name in sorted(findings - MIDDLE)}
        report = write_report(labels, places, language="fr" if seed % 2 else "en", rng=rng)
        found = label(report)
        assert found.language == ("fr" if seed % 2 else "en"), report
        own = found.labels()
        num_right += sum(own.get(name) == value for name, value in zip(CHEXPERT_FINDINGS, labels, strict=True))
        told = {name: place for name, place in found.places().items() if name in places}
        places_told += len(told)
        places_right += sum(place == [places[name]] for name, place in told.items())
    assert num_right / (NUM * len(CHEXPERT_FINDINGS)) > 0.98
    assert places_told > 100
    assert places_right / places_told > 0.95
