"""Speed of the report labeller: reports per second of CPU time on one core, on reports of the phantom.

    python tests/benchmarks/bench_reports.py [--reports 5000] [--sentences 0]

Reports are those of the phantom, each followed by further phantom reports until it has at least so many sentences.
Loading the library and the cue tables is not counted, and given apart. Prints a table and, as the last line, one JSON
object.
"""

import argparse
import json
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.phantom.report_text import Place, write_report
from cxr.phantom.reports import LEAVES, reported_labels
from stage1_classify.reports.label_table import labeller_of
from stage1_classify.reports.records import record_of
from stage1_classify.reports.report_table import Report


def reports(num: int, num_sentences: int) -> list[str]:
    """Reports in both languages, in turn."""
    texts = []
    for seed in range(num):
        rng = np.random.default_rng([3, seed])
        parts: list[str] = []
        while not parts or sum(part.count(". ") + 1 for part in parts) < num_sentences:
            findings = frozenset(str(name) for name in rng.choice(LEAVES, size=rng.integers(5), replace=False))
            labels = reported_labels(findings, label_noise=0.05, rng=rng)
            places = dict.fromkeys(sorted(findings), Place("L", "lower"))
            parts.append(write_report(labels, places, language="fr" if seed % 2 else "en", rng=rng))
        texts.append("\n".join(parts))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=5000)
    parser.add_argument("--sentences", type=int, default=0)
    given = parser.parse_args()
    texts = reports(given.reports, given.sentences)
    begin = time.process_time()
    label = labeller_of(None)
    load_s = time.process_time() - begin
    begin = time.process_time()
    num_mentions = 0
    for number, text in enumerate(texts):
        record = record_of(Report(str(number), text, None), label(text))
        num_mentions += len(record["evidence"])
    seconds = time.process_time() - begin
    words = sum(len(text.split()) for text in texts) / len(texts)
    figures = {
        "reports": len(texts),
        "words_per_report": round(words, 1),
        "mentions_per_report": round(num_mentions / len(texts), 2),
        "reports_per_s": round(len(texts) / seconds, 1),
        "load_s": round(load_s, 2),
    }
    table = Table(*figures)
    table.add_row(*map(str, figures.values()))
    Console().print(table)
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()
