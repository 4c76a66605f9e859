"""An experiment's detectors compared with the CAM teacher, the priors and the supervised detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cxr.labels import slug
from eval.experiments.comparison import Figures, counts, share_of, spread
from eval.experiments.runner import Group
from eval.stats.bootstrap import Difference
from eval.stats.measures import interval_figures
from stage3_detect.settings.experiments import PRIOR, SUPERVISED, TEACHER


@dataclass(frozen=True)
class Comparison:
    """All figures are of AP40, means over findings and seeds, on the same resamples of patients and seeds.

    findings: of the figures after the mean. group: the variants; its `others` are the CAM teacher, the priors and the
    runs to compare with. minus_teacher: of variants and runs to compare with. shares: of everything, as a fraction of
    the supervised detector's AP40; empty where there is none.
    """

    findings: tuple[str, ...]
    group: Group
    minus_teacher: Mapping[str, Difference] = field(default_factory=dict)
    shares: Mapping[str, Difference] = field(default_factory=dict)


def compare_detectors(
    group: Group, others: Mapping[str, Figures], *, findings: tuple[str, ...]
) -> Comparison:
    """Compare the variants with `others`: the CAM teacher, the priors, and finished runs."""
    figures = {**group.figures, **others}
    minus_teacher = {
        name: own.minus(others[TEACHER]).estimates()[0]
        for name, own in figures.items()
        if name != TEACHER and not name.startswith(PRIOR)
    }
    shares = {
        name: share_of(own, figures[SUPERVISED]).estimates()[0]
        for name, own in figures.items()
        if SUPERVISED in figures and name != SUPERVISED
    }
    group = replace(group, others={name: own.estimates() for name, own in others.items()})
    return Comparison(findings, group, minus_teacher, shares)


def experiment_metrics(comparison: Comparison) -> dict[str, float | None]:
    """``ap40/<variant>``, ``ap40/<variant>/<finding>``, ``ap40/<variant>/seed<seed>``, ``ap40/<variant>/seed_sd``,
    ``ap40/<variant>_minus_reference`` and ``_minus_teacher``, ``share_of_supervised/<variant>``, ``p/<variant>``,
    ``p_holm/<variant>``; the same for teacher, priors and runs to compare with, as far as it exists; and counts."""
    rows = comparison.group.rows
    found: dict[str, float | None] = {}
    values = {row.variant: row.values for row in rows} | dict(comparison.group.others)
    for name, own in values.items():
        found |= interval_figures(f"ap40/{name}", own[0].value, own[0])
        for finding, value in zip(comparison.findings, own[1:], strict=True):
            found |= interval_figures(f"ap40/{name}/{slug(finding)}", value.value, value)
    for row in rows:
        found |= {f"ap40/{row.variant}/seed{seed}": value for seed, value in row.by_seed.items()}
        found[f"ap40/{row.variant}/seed_sd"] = spread(row.by_seed.values())
        if row.difference is not None:
            name = f"ap40/{row.variant}_minus_reference"
            found |= interval_figures(name, row.difference.value, row.difference)
            found |= {f"p/{row.variant}": row.p, f"p_holm/{row.variant}": row.p_holm}
    for name, gap in comparison.minus_teacher.items():
        found |= interval_figures(f"ap40/{name}_minus_{TEACHER}", gap.value, gap)
    for name, share in comparison.shares.items():
        found |= interval_figures(f"share_of_supervised/{name}", share.value, share)
    return found | counts(rows)
