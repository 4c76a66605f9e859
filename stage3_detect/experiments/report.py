"""The table of a study as a report and as Markdown, with a bar chart and, where asked for, a curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.runs.run_folder import atomic_write_text
from eval.experiments.variants import Row, signed_interval, verdicts_in_words
from eval.leaderboard.run_tables import display_name
from eval.report.blocks import Block, Figure, Table, Text, write_report
from eval.report.charts import Bar, plot_bars, plot_steps
from eval.report.format import Cell, format_cell, with_interval
from eval.report.text_tables import markdown
from eval.stats.bootstrap import Difference
from stage3_detect.experiments.comparison import Comparison
from stage3_detect.experiments.scored_runs import spread
from stage3_detect.settings.experiments import PRIOR, SUPERVISED, TEACHER, CurveSettings, StudySettings

COLUMNS = (
    "variant",
    "AP40 [95 %]",
    "each seed",
    "difference to the reference",
    "p by Holm",
    "minus CAM teacher",
    "share of supervised",
)


@dataclass(frozen=True)
class RunFacts:
    """One training. folder: relative to the study's."""

    variant: str
    seed: int
    ap40: float
    folder: str
    minutes: float


@dataclass(frozen=True)
class Result:
    """failed: variant -> problem. judged_on: the test split in words. synthetic: figures of drawings."""

    comparison: Comparison
    failed: dict[str, str]
    runs: tuple[RunFacts, ...]
    judged_on: str
    teacher_method: str
    synthetic: bool


def write_study_report(run_dir: Path, settings: StudySettings, result: Result) -> dict[str, Path]:
    """Write ``report.html`` with its pictures and ``study.md``; returns the files by name."""
    tables = [main_table(settings, result), findings_table(result), _runs_table(result)]
    lead = summary(settings, result)
    origin = "**Figures of drawn phantom images, not of patients.**\n\n" if result.synthetic else ""
    page = run_dir / "study.md"
    atomic_write_text(
        page, f"# {run_dir.name}\n\n{origin}{lead}\n\n" + "\n\n".join(map(markdown, tables)) + "\n"
    )
    blocks: list[Block] = [tables[0], _bars(run_dir, settings, result), *_curve(run_dir, settings, result)]
    blocks += [*tables[1:], Text("How to read this", _reading(settings))]
    title = f"Stage 3: {run_dir.name}"
    report = write_report(run_dir, title=title, lead=lead, blocks=blocks, synthetic=result.synthetic)
    return {"markdown": page, "report": report}


def summary(settings: StudySettings, result: Result) -> str:
    """The main result in a few sentences."""
    comparison, name = result.comparison, settings.reference
    rows = {row.variant: row for row in comparison.rows}
    seeds = ", ".join(map(str, settings.seeds))
    text = f"Mean AP40 on the test split, {'seeds' if len(settings.seeds) > 1 else 'seed'} {seeds}. "
    if name in rows:
        gap = comparison.minus_teacher[name]
        word = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not told apart from"
        text += f"The reference {name} has {_cell(rows[name].values[0])}, {word} its CAM teacher "
        text += f"({signed_interval(gap)}){_share_in_words(comparison, name)}. "
    text += verdicts_in_words(rows, num_seeds=len(settings.seeds))
    return text + (f" Failed, and not compared: {', '.join(result.failed)}." if result.failed else "")


def _share_in_words(comparison: Comparison, name: str) -> str:
    share = comparison.shares.get(name)
    return f" and {_cell(share)} of the supervised detector's" if share else ""


def main_table(settings: StudySettings, result: Result) -> Table:
    """The reference, the other variants in the order of the settings, those that failed, then what stands beside."""
    comparison = result.comparison
    rows: list[list[Cell]] = [_variant_cells(row, comparison) for row in comparison.rows]
    for variant, problem in result.failed.items():
        rows.append([variant, None, None, f"failed: {problem}", None, None, None])
    for name, values in comparison.others.items():
        gap = comparison.minus_teacher.get(name)
        cells = [_label(name, result), _cell(values[0]), None, "not compared", None]
        rows.append([*cells, signed_interval(gap) if gap else None, _cell(comparison.shares.get(name))])
    hidden = set() if len(settings.seeds) > 1 else {"each seed"}
    hidden |= set() if comparison.shares else {"share of supervised"}
    shown = [index for index, name in enumerate(COLUMNS) if name not in hidden]
    columns = [COLUMNS[index] for index in shown]
    rows = [[row[index] for index in shown] for row in rows]
    return Table(f"Variants (reference: {settings.reference})", columns, rows, result.judged_on)


def _variant_cells(row: Row, comparison: Comparison) -> list[Cell]:
    single = list(comparison.by_seed[row.variant].values())
    each = ", ".join(map(format_cell, single)) + f" (sd {format_cell(spread(single))})"
    holm = None if row.gap is None else format_cell(row.p_holm)
    if holm is not None and row.is_clear:
        holm += ", stays" if row.survives_holm else ", not shown"
    gap = signed_interval(comparison.minus_teacher[row.variant])
    share = _cell(comparison.shares.get(row.variant))
    return [row.variant, _cell(row.values[0]), each, row.verdict, holm, gap, share]


def _cell(value: Difference | None) -> str | None:
    return with_interval(value.value, value.low, value.high) if value is not None else None


def _label(name: str, result: Result) -> str:
    shown = display_name(name) if name == TEACHER or name.startswith(PRIOR) else f"{name} (beside)"
    return f"{shown}: {display_name(result.teacher_method)}" if name == TEACHER else shown


def findings_table(result: Result) -> Table:
    """AP40 of each finding; the last column group of the main table in detail."""
    comparison = result.comparison
    values = {row.variant: row.values for row in comparison.rows}
    values |= {_label(name, result): own for name, own in comparison.others.items()}
    rows: list[list[Cell]] = [[name, *(one.value for one in own[1:])] for name, own in values.items()]
    note = "Means over the seeds; intervals are in metrics.json. A finding without true boxes has no score."
    return Table("AP40 by finding", ["variant", *comparison.findings], rows, note)


def _runs_table(result: Result) -> Table:
    rows: list[list[Cell]] = [[r.variant, r.seed, r.ap40, r.minutes, r.folder] for r in result.runs]
    note = "Minutes of the call that finished a run. Variants with equal settings share one."
    return Table("Trainings", ["variant", "seed", "AP40", "minutes", "folder"], rows, note)


def _bars(run_dir: Path, settings: StudySettings, result: Result) -> Figure:
    rows = result.comparison.rows
    bars = [
        _bar(row.variant, row.values[0], "marked" if row.variant == settings.reference else "")
        for row in rows
    ]
    bars += [_bar(_label(name, result), own[0], "muted") for name, own in result.comparison.others.items()]
    plot_bars(run_dir / "pictures" / "ap40.png", bars, label="AP at IoU 0.4 on the test split")
    note = "Lines are 95 % intervals. Dark: the reference; grey: what stands beside."
    return Figure("AP40 of the variants", "pictures/ap40.png", note)


def _bar(name: str, value: Difference, kind: str = "") -> Bar:
    return Bar(name, value.value, value.low, value.high, kind)


def _curve(run_dir: Path, settings: StudySettings, result: Result) -> list[Figure]:
    """The chart that the settings ask for, without variants that failed."""
    if settings.curve is None:
        return []
    values = {row.variant: row.values[0] for row in result.comparison.rows}
    places = places_of(settings.curve)
    lines: dict[str, list[Bar | None]] = {
        line: [
            next((_bar(v, values[v]) for v, at in points.items() if at == place and v in values), None)
            for place in places
        ]
        for line, points in settings.curve.lines.items()
    }
    others = result.comparison.others.items()
    levels = {_label(name, result): own[0].value for name, own in others if not name.startswith(PRIOR)}
    if SUPERVISED in values:
        levels[SUPERVISED] = values[SUPERVISED].value
    labels = (settings.curve.label, "AP40 on the test split")
    path = run_dir / "pictures" / "curve.png"
    plot_steps(path, [str(place) for place in places], lines, levels=levels, labels=labels)
    title = f"AP40 against {settings.curve.label}"
    return [
        Figure(title, "pictures/curve.png", "Vertical lines are 95 % intervals. The steps are not to scale.")
    ]


def places_of(curve: CurveSettings) -> Sequence[int | float | str]:
    """Numbers in their order, then words as they come."""
    every = dict.fromkeys(place for points in curve.lines.values() for place in points.values())
    numbers = sorted(place for place in every if not isinstance(place, str))
    return [*numbers, *(place for place in every if isinstance(place, str))]


def _reading(settings: StudySettings) -> str:
    draws = f"Intervals hold 95 % of {settings.num_resamples} bootstrap draws of test patients"
    if len(settings.seeds) > 1:
        luck = (
            f"{draws} and, in each, of the {len(settings.seeds)} trainings of a variant, so they tell of the choice of "
            "patients and of training again; of so few trainings the second part is a rough estimate. A difference is "
            "real where its interval leaves zero out and all seeds differ in the same direction."
        )
    else:
        luck = (
            f"{draws}. They tell of the choice of patients and not of training again: with one training each a clear "
            "difference may be the luck of a seed. Several seeds tell."
        )
    return (
        f"AP40 is COCO's average precision at IoU 0.4, mean over the findings with true boxes and over the seeds. "
        f"{luck} Differences and shares are taken on the same images in the same draws.\n\n"
        "Among many comparisons some intervals leave zero out by luck. Holm's correction takes the p-values of all "
        "differences to the reference together and keeps the chance of a single false one below 5 %. Differences to "
        "the CAM teacher are given with their interval and are not counted among them."
    )
