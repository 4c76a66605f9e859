"""What a study found: each variant beside its reference, the CAM teacher, the priors and the supervised detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cxr.labels import slug
from eval.experiments.variants import Figures, Row, Trainings, compare, correct, mean_with_seeds
from eval.stats.bootstrap import Difference
from eval.stats.measures import interval_figures
from stage3_detect.experiments.scored_runs import share_of, spread
from stage3_detect.settings.experiments import PRIOR, SUPERVISED, TEACHER

Trained = Mapping[str, Mapping[int, Figures]]
"""Variant -> its trainings by seed."""


@dataclass(frozen=True)
class Comparison:
    """Differences and shares are of AP40, means over findings and seeds, all in the same draws of patients and seeds.

    rows: the variants, the reference first; `values` hold the mean and then each of `findings`. by_seed: of each
    variant, the AP40 of its trainings. others: teacher, priors and runs beside, with values as those of `rows`.
    minus_teacher: of variants and runs beside. shares: of everything, in AP40 of the supervised detector; empty where
    there is none.
    """

    findings: tuple[str, ...]
    rows: tuple[Row, ...]
    by_seed: Mapping[str, Mapping[int, float]]
    others: Mapping[str, tuple[Difference, ...]]
    minus_teacher: Mapping[str, Difference] = field(default_factory=dict)
    shares: Mapping[str, Difference] = field(default_factory=dict)


def compare_variants(
    trained: Trained, others: Mapping[str, Figures], *, reference: str, findings: tuple[str, ...]
) -> Comparison:
    """Compare what was trained with `reference` (no differences where that is missing) and with `others`: the CAM
    teacher, priors, and runs beside."""
    names = [name for name in dict.fromkeys([reference, *trained]) if name in trained]
    ordered: dict[str, Trainings] = {
        name: {seed: one for seed, one in trained[name].items()} for name in names
    }
    rows = compare(ordered, ordered.get(reference), together=mean_with_seeds)
    together = {name: mean_with_seeds(list(own.values())) for name, own in ordered.items()} | dict(others)
    return Comparison(
        findings,
        tuple(correct({"": rows})[""]),
        {name: {seed: float(one.point[0]) for seed, one in trained[name].items()} for name in names},
        {name: own.estimates() for name, own in others.items()},
        {
            name: own.minus(others[TEACHER]).estimates()[0]
            for name, own in together.items()
            if name != TEACHER and not name.startswith(PRIOR)
        },
        {
            name: share_of(own, together[SUPERVISED]).estimates()[0]
            for name, own in together.items()
            if SUPERVISED in together and name != SUPERVISED
        },
    )


def study_metrics(comparison: Comparison) -> dict[str, float | None]:
    """``ap40/<variant>``, ``ap40/<variant>/<finding>``, ``ap40/<variant>/seed<seed>``, ``ap40/<variant>/seed_sd``,
    ``ap40/<variant>_minus_reference`` and ``_minus_teacher``, ``share_of_supervised/<variant>``, ``p/<variant>``,
    ``p_holm/<variant>``; the same for teacher, priors and runs beside as far as it exists; and counts."""
    found: dict[str, float | None] = {}
    values = {row.variant: row.values for row in comparison.rows} | dict(comparison.others)
    for name, own in values.items():
        found |= interval_figures(f"ap40/{name}", own[0].value, own[0])
        for finding, value in zip(comparison.findings, own[1:], strict=True):
            found |= interval_figures(f"ap40/{name}/{slug(finding)}", value.value, value)
    for name, seeds in comparison.by_seed.items():
        found |= {f"ap40/{name}/seed{seed}": value for seed, value in seeds.items()}
        found[f"ap40/{name}/seed_sd"] = spread(list(seeds.values()))
    for row in comparison.rows:
        if row.gap is not None:
            found |= interval_figures(f"ap40/{row.variant}_minus_reference", row.gap.value, row.gap)
            found |= {f"p/{row.variant}": row.p, f"p_holm/{row.variant}": row.p_holm}
    for name, gap in comparison.minus_teacher.items():
        found |= interval_figures(f"ap40/{name}_minus_{TEACHER}", gap.value, gap)
    for name, share in comparison.shares.items():
        found |= interval_figures(f"share_of_supervised/{name}", share.value, share)
    compared = [row for row in comparison.rows if row.gap is not None]
    counts = {"comparisons": len(compared), "real": sum(row.is_real for row in compared)}
    return found | counts | {"real_after_holm": sum(row.survives_holm for row in compared)}
