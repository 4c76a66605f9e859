"""Warnings about classifiers that guess, which a high accuracy hides where most images are negative."""

from collections.abc import Sequence

from cxr.labels import slug
from cxr.metrics import ReadMetrics
from cxr.wording import counted
from eval.report.format import short, short_interval
from eval.stats.measures import with_ends

NEAR_CHANCE = 0.55
"""An AUROC below this is near .5, however narrow its interval."""

HIGH_ACCURACY = 0.7


def degenerate_findings(metrics: ReadMetrics, findings: Sequence[str]) -> list[str]:
    """A sentence for each finding whose classifier is degenerate, in the order of `findings`; [] without any.

    metrics: from `classification_metrics`. A classifier is degenerate if

    - its AUROC is below `NEAR_CHANCE`, or the interval contains .5 or lies below it (the sentence also explains an
      accuracy of at least `HIGH_ACCURACY` or the share of the larger class);
    - it calls all images positive, or all negative, at its threshold;
    - it gives all images the same probability.

    A finding without an AUROC (all labels equal) is not checked.
    """
    found = {name: _problems(slug(name), metrics) for name in findings}
    return [f"{name}: {'; it '.join(problems)}." for name, problems in found.items() if problems]


def verdict(metrics: ReadMetrics, findings: Sequence[str], min_positives: int = 1) -> str:
    """Mean AUROC, which findings it excludes and why, and which classifiers are degenerate.

    min_positives: as given to `classification_metrics`.
    """
    mean, low, high = with_ends(metrics, "auroc/mean")
    excluded = _excluded(metrics, findings, min_positives)
    if mean is None:
        parts = ["No finding has an AUROC to take the mean of."]
    else:
        num = len(findings) - len(excluded)
        over = f"{num} of {len(findings)} findings" if excluded else counted(num, "finding")
        parts = [f"Mean AUROC {short_interval(mean, low, high)} over {over}."]
    if excluded:
        parts.append(f"Excluded from the mean: {', '.join(excluded)}.")
    return " ".join([*parts, *degenerate_findings(metrics, findings)])


def did_not_learn(metrics: ReadMetrics) -> str:
    """A line for a run that never left the prior: the mean AUROC is what guessing gives. "" for any other."""
    auroc, low, high = with_ends(metrics, "auroc/mean")
    if auroc is None or not _guessing(auroc, low, high):
        return ""
    return f"did not learn: the mean AUROC {short_interval(auroc, low, high)} {_guessing(auroc, low, high)}"


def _problems(name: str, metrics: ReadMetrics) -> list[str]:
    auroc, low, high = with_ends(metrics, f"auroc/{name}")
    if auroc is None:
        return []
    tp, fp, fn, tn = (metrics.get(f"{cell}/{name}") or 0.0 for cell in ("tp", "fp", "fn", "tn"))
    problems = []
    if auroc == low == high == 0.5:
        problems.append("gives every image the same probability")
    elif word := _guessing(auroc, low, high):
        remark = _accuracy_remark(metrics.get(f"accuracy/{name}"), num_positive=tp + fn, num_negative=fp + tn)
        problems.append(f"AUROC {short_interval(auroc, low, high)} {word}{remark}")
    if tp + fp + fn + tn > 0 and 0 in (tp + fp, fn + tn):
        problems.append(f"calls every image {'negative' if tp + fp == 0 else 'positive'}")
    return problems


def _guessing(auroc: float, low: float | None, high: float | None) -> str:
    """In words what an AUROC near .5 means; "" for any other."""
    is_known = low is not None and high is not None
    low, high = (auroc if low is None else low), (auroc if high is None else high)
    if high < 0.5 and is_known:
        return "is worse than guessing: negatives have the higher probabilities"
    if auroc < NEAR_CHANCE:
        return "is what guessing gives" if low <= 0.5 else "is hardly more than guessing gives"
    return "cannot be distinguished from guessing" if low <= 0.5 else ""


def _accuracy_remark(accuracy: float | None, *, num_positive: float, num_negative: float) -> str:
    total, larger = num_positive + num_negative, max(num_positive, num_negative)
    if accuracy is None or total == 0 or accuracy < min(HIGH_ACCURACY, larger / total):
        return ""
    share = f"{larger / total:.0%}".replace("%", " %")
    sort = "negative" if num_negative == larger else "positive"
    says = "only says that" if abs(accuracy - larger / total) < 0.01 else "says little, as"
    return f"; the accuracy of {short(accuracy)} {says} {share} of the images are {sort}"


def _excluded(metrics: ReadMetrics, findings: Sequence[str], min_positives: int) -> list[str]:
    reasons = []
    for finding in findings:
        num = metrics.get(f"positives/{slug(finding)}") or 0.0
        if metrics.get(f"auroc/{slug(finding)}") is None:
            reasons.append(f"{finding} (no {'negative' if num else 'positive'} label)")
        elif num < min_positives:
            reasons.append(f"{finding} ({num:.0f} positive, needs {min_positives})")
    return reasons
