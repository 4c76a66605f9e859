"""Which of the places that several readers marked are real, and how good each reader is: expectation-maximisation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.arrays import Bools, Floats, Ints

_BEFORE = {"sensitivity": (3, 4), "false_rate": (1, 4), "prior": (2, 4)}
"""Successes and cases that each rate is estimated with besides those of the data. Without data, a place is real where
more than half of its readers marked it."""
_MAX_STEPS = 500
_TOLERANCE = 1e-7
"""The steps end when no probability changes by more."""


@dataclass(frozen=True)
class Marks:
    """C places that at least one reader marked, and R readers.

    marked: (C, R) whether the reader marked the place. read: (C, R) whether the reader read its image. silent: (C,)
    further readers of the image, of unknown name, who marked nothing in it. finding: (C,) numbers from 0.
    """

    marked: Bools
    read: Bools
    silent: Ints
    finding: Ints


@dataclass(frozen=True)
class Quality:
    """sensitivity, false_rate: (R,) how often a reader marks a place that is real, and one that is not. prior: (F,)
    share of the places of each finding that are real."""

    sensitivity: Floats
    false_rate: Floats
    prior: Floats


def probability_real(marks: Marks) -> tuple[Floats, Quality]:
    """(C,) probability that each place is real, and the readers' quality, estimated together.

    The model is that of Dawid and Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm,
    Applied Statistics 1979, with two classes: readers mark a place independently of each other. The first estimate is
    the share of the image's readers who marked the place. Each rate is estimated with the few further cases of
    `_BEFORE`, so none is 0 or 1. A silent reader counts as one of mean quality.
    """
    num_readers = marks.read.sum(axis=1) + marks.silent
    real = np.asarray(marks.marked.sum(axis=1) / np.maximum(num_readers, 1), dtype=np.float64)
    for _ in range(_MAX_STEPS):
        quality = _quality(marks, real)
        before, real = real, _expected(marks, quality)
        if np.abs(real - before).max(initial=0.0) <= _TOLERANCE:
            break
    return real, quality


def _quality(marks: Marks, real: Floats) -> Quality:
    """The rates, if each place is real with its probability (C,)."""
    marked, read = marks.marked.astype(np.float64), marks.read.astype(np.float64)
    return Quality(
        _rate("sensitivity", real @ marked, real @ read),
        _rate("false_rate", (1 - real) @ marked, (1 - real) @ read),
        _rate("prior", *(np.bincount(marks.finding, weights=one) for one in (real, np.ones_like(real)))),
    )


def _rate(name: str, successes: npt.ArrayLike, cases: npt.ArrayLike) -> Floats:
    more, of = _BEFORE[name]
    return np.asarray((np.asarray(successes) + more) / (np.asarray(cases) + of), dtype=np.float64)


def _expected(marks: Marks, quality: Quality) -> Floats:
    """(C,) probability that each place is real, if the rates are these."""
    by_mark = np.log(quality.sensitivity / quality.false_rate)
    by_silence = np.log((1 - quality.sensitivity) / (1 - quality.false_rate))
    odds = np.log(quality.prior / (1 - quality.prior))[marks.finding]
    odds = odds + np.where(marks.marked, by_mark, np.where(marks.read, by_silence, 0.0)).sum(axis=1)
    if len(by_silence):
        means = quality.sensitivity.mean(), quality.false_rate.mean()
        odds = odds + marks.silent * np.log((1 - means[0]) / (1 - means[1]))
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)
