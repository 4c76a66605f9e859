"""The report of an experiment of stage 3: tables, a bar chart, and a curve where the settings ask for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.labels import slug
from eval.experiments.report import bar_chart, csv_table, group_table, how_to_read, verdict_sentences, write_pages
from eval.experiments.runner import Group
from eval.leaderboard.names import display_name
from eval.report.blocks import Block, Figure, Table
from eval.report.charts import Bar, plot_steps
from eval.report.format import Cell, estimate_text, gap_text, in_format
from eval.stats.bootstrap import Estimate
from stage3_detect.settings.experiments import PRIOR, SUPERVISED, TEACHER, CurveSettings, DetectorExperimentSettings

FIGURES = (
    "AP40 is COCO's average precision at IoU 0.4, the mean over the findings with true boxes and over the seeds. "
    "Differences from the CAM teacher have an interval but no p-value."
)


Trainings = Mapping[tuple[str, int | None], tuple[str, float]]
"""(variant, seed) -> run folder relative to the experiment's, and minutes."""


@dataclass(frozen=True)
class Result:
    """All figures are of AP40, means over findings and seeds, on the same resamples of patients and seeds.

    findings: of the figures after the mean. group: the variants; its `others` are the CAM teacher, the priors and
    finished runs. minus_teacher: of variants and finished runs. shares: of everything, as a fraction of the supervised
    detector's AP40; empty where there is none. teacher_method: the CAM method. synthetic: the images are phantoms.
    """

    findings: tuple[str, ...]
    group: Group
    minus_teacher: Mapping[str, Estimate]
    shares: Mapping[str, Estimate]
    teacher_method: str
    synthetic: bool


def write_experiment_report(
    run_dir: Path, settings: DetectorExperimentSettings, result: Result, *, trainings: Trainings
) -> dict[str, Path]:
    """Write ``report.html`` with its pictures, ``study.md`` and ``study.csv``; returns the files by name."""
    path, label = run_dir / "pictures" / "ap40.png", "AP at IoU 0.4 on the test split"
    chart = bar_chart(result.group, path, "AP40 of the variants", label=label, shown=_shown(result))
    blocks: list[Block] = [main_table(result), chart, *_curve(run_dir, settings, result)]
    blocks += [findings_table(result), _trainings_table(result, trainings), how_to_read(settings, FIGURES)]
    metrics = ["ap40", *(f"ap40/{slug(finding)}" for finding in result.findings)]
    table = run_dir / "study.csv"
    csv_table({"": result.group}, metrics).to_csv(table, index=False)
    pages = write_pages(
        run_dir / "study.md",
        title=f"Stage 3: {run_dir.name}",
        verdict=summary(settings, result),
        blocks=blocks,
        synthetic=result.synthetic,
    )
    return pages | {"table": table}


def summary(settings: DetectorExperimentSettings, result: Result) -> str:
    """First the reference against its CAM teacher, then the variants against the reference."""
    paragraphs = [verdict_sentences({"": result.group}, settings)]
    own = next((row for row in result.group.rows if row.variant == settings.reference), None)
    if own is not None:
        gap, teacher = result.minus_teacher[own.variant], result.group.others[TEACHER][0]
        text = f"The detector {own.variant} and its CAM teacher do not differ significantly"
        if gap.is_clear:
            more = "more" if gap.low > 0 else "fewer"
            text = f"The detector {own.variant} finds {more} lesions than its CAM teacher"
        text += f": AP40 {own.values[0].value:.3f} against {teacher.value:.3f}, difference {gap_text(gap)}."
        share = result.shares.get(own.variant)
        reached = f" It reaches {estimate_text(share)} of the supervised detector's AP40." if share else ""
        paragraphs.insert(0, text + reached)
    return "\n\n".join(paragraphs)


def main_table(result: Result) -> Table:
    """The variants, those that failed, the CAM teacher, the priors, and the runs to compare with."""
    further: dict[str, dict[str, Cell]] = {
        "minus CAM teacher": {name: gap_text(gap) for name, gap in result.minus_teacher.items()},
        "share of supervised": {name: estimate_text(share) for name, share in result.shares.items()},
    }
    return group_table(result.group, "Variants", metric="AP40", further=further, shown=_shown(result))


def _shown(result: Result) -> dict[str, str]:
    """How the names of what is not compared are written."""
    names = result.group.others
    shown = {name: display_name(name) for name in names if name.startswith(PRIOR)}
    shown |= {TEACHER: f"{display_name(TEACHER)}: {display_name(result.teacher_method)}"}
    return {name: f"{name} (finished run)" for name in names} | shown


def findings_table(result: Result) -> Table:
    """AP40 per finding."""
    shown = _shown(result)
    values = {row.variant: row.values for row in result.group.rows}
    values |= {shown[name]: own for name, own in result.group.others.items()}
    rows: list[list[Cell]] = [[name, *(one.value for one in own[1:])] for name, own in values.items()]
    note = "Means over the seeds. Intervals are in metrics.json. A finding without true boxes has no score."
    return Table("AP40 per finding", ["variant", *result.findings], rows, note)


def _trainings_table(result: Result, trainings: Trainings) -> Table:
    rows: list[list[Cell]] = []
    for row in result.group.rows:
        for seed, ap40 in row.by_seed.items():
            folder, minutes = trainings[row.variant, seed]
            rows.append([row.variant, seed, ap40, in_format(minutes, ".1f"), folder])
    note = "Minutes of the last call of each run. Variants with equal settings share their runs."
    return Table("Trainings", ["variant", "seed", "AP40", "minutes", "folder"], rows, note)


def _curve(run_dir: Path, settings: DetectorExperimentSettings, result: Result) -> list[Figure]:
    """The chart that the settings ask for, without variants that failed."""
    if settings.curve is None:
        return []
    group, shown = result.group, _shown(result)
    values = {row.variant: row.values[0] for row in group.rows}
    places = places_of(settings.curve)
    lines: dict[str, list[Bar | None]] = {
        line: [
            next((Bar.of(v, values[v]) for v, at in points.items() if at == place and v in values), None)
            for place in places
        ]
        for line, points in settings.curve.lines.items()
    }
    levels = {shown[name]: own[0].value for name, own in group.others.items() if not name.startswith(PRIOR)}
    if SUPERVISED in values:
        levels[SUPERVISED] = values[SUPERVISED].value
    labels = (settings.curve.label, "AP40 on the test split")
    path = run_dir / "pictures" / "curve.png"
    plot_steps(path, [str(place) for place in places], lines, levels=levels, labels=labels)
    note = "Vertical lines are 95 % intervals. Points are evenly spaced, not to scale."
    return [Figure(f"AP40 against {settings.curve.label}", "pictures/curve.png", note)]


def places_of(curve: CurveSettings) -> Sequence[int | float | str]:
    """Numbers in ascending order, then words as they come."""
    every = dict.fromkeys(place for points in curve.lines.values() for place in points.values())
    numbers = sorted(place for place in every if not isinstance(place, str))
    return [*numbers, *(place for place in every if isinstance(place, str))]
