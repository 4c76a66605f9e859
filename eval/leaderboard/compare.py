"""One table and one report over finished runs of any stage: `eval/run.py compare`."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, atomic_write_text, open_run, refuse_run_folder
from eval.leaderboard.chain_pictures import chain_pictures
from eval.leaderboard.names import display_name
from eval.leaderboard.run_tables import by_finding, chosen_method, entry_name, rows_of, side_by_side, stage_table
from eval.leaderboard.tables import ap40_bar
from eval.report.blocks import Block, Figure, PictureRows, Report, Table, Text, Verdict, read_report, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import capital, format_cell
from eval.report.text_tables import print_tables

SEARCHES = ("ablation", "sweep", "study")
"""Stages of many trainings; their tables come from their own report."""
COMPARED = ("stage1", "stage2", "stage3", *SEARCHES)


@dataclass(frozen=True)
class NamedRun:
    """A finished run under the name it has in the comparison, with its own report if it has one."""

    name: str
    run: FinishedRun
    report: Report | None


def compare_runs(paths: Sequence[Path], *, out: Path | None = None) -> Path:
    """Print one table, write `metrics.json` and `report.html` with the runs' pictures; returns the report's path.

    out: by default the runs' common parent folder. Raises UserError for a folder without a finished run, for the same
    run given twice, and for an `out` that is a run folder itself.
    """
    parent = common_parent(paths)
    out = parent if out is None else out
    refuse_run_folder(out)
    runs = open_runs(paths, parent)
    tables = comparison_tables(runs)
    print_tables(tables)
    out.mkdir(parents=True, exist_ok=True)
    figures = {f"{r.name}/{metric}": value for r in runs for metric, value in r.run.metrics.items()}
    atomic_write_text(out / "metrics.json", json.dumps(figures, indent=1) + "\n")
    synthetic = any(r.run.manifest.get("synthetic") or (r.report is not None and r.report.synthetic) for r in runs)
    blocks: list[Block] = [
        *_chain(runs, out),
        *_chart(runs, out),
        _verdict(runs),
        *(replace(table, note="") if table.note in _verdicts(runs) else table for table in tables),
        *(table for named in runs if (table := by_finding(named.run, name=named.name))),
        *_pictures(runs, out),
    ]
    return write_report(out, title="From image labels to boxes", lead=_lead(runs), blocks=blocks, synthetic=synthetic)


def _lead(runs: Sequence[NamedRun]) -> str:
    names = ", ".join(named.name for named in runs)
    if {named.run.stage for named in runs} >= {"stage1", "stage2", "stage3"}:
        return (
            "A classifier learns from image labels (stage 1), its heat maps become boxes (stage 2), and a detector "
            f"learns from these boxes (stage 3). Runs: {names}."
        )
    return f"Finished runs compared: {names}."


def _chain(runs: Sequence[NamedRun], out: Path) -> list[PictureRows]:
    """A few images through all stages, where it is clear which runs belong together."""
    of_stage = {stage: [r.run for r in runs if r.run.stage == stage] for stage in ("stage2", "stage3")}
    if len(of_stage["stage2"]) != 1 or len(of_stage["stage3"]) > 1:
        return []
    rows = chain_pictures(of_stage["stage2"][0], next(iter(of_stage["stage3"]), None), out)
    return [] if rows is None else [rows]


def _verdict(runs: Sequence[NamedRun]) -> Verdict:
    """The first sentence of the last stage's verdict, then the main figures and the other verdicts."""
    if not (texts := _verdicts(runs)[::-1]):
        return Verdict("Result", summary(runs))
    first, *others = re.split(r"(?<=\.)\s+(?=[A-Z])", texts[0], maxsplit=1)
    return Verdict("Result", "\n\n".join([first, summary(runs), *others, *texts[1:]]))


def _verdicts(runs: Sequence[NamedRun]) -> list[str]:
    texts = [named.run.manifest.get("verdict") for named in runs]
    return [text for text in texts if isinstance(text, str) and text]


def common_parent(paths: Sequence[Path]) -> Path:
    """The folder that holds all runs, relative to the current folder where it lies below."""
    common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    return common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common


def open_runs(paths: Sequence[Path], parent: Path) -> list[NamedRun]:
    """Open all runs and sort them by stage; one UserError for all problems."""
    problems: list[str] = []
    runs: list[NamedRun] = []
    for path in paths:
        name = Path(os.path.relpath(path.resolve(), parent.resolve())).as_posix()
        if name in {run.name for run in runs}:
            problems.append(f"run {path}: is given twice; give each run once")
            continue
        try:
            runs.append(NamedRun(name, _measured(path), read_report(path)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return sorted(runs, key=lambda r: r.run.stage)


def _measured(path: Path) -> FinishedRun:
    """Open a finished run; UserError for one without figures to compare, such as the output of predict.py."""
    run = open_run(path)
    if run.stage not in COMPARED:
        raise UserError(f"run {path}: is a run of {run.stage}, expected one of {', '.join(COMPARED)}; leave it out")
    return run


def comparison_tables(runs: Sequence[NamedRun]) -> list[Table]:
    """One table per run, and for each stage with several runs one that shows them side by side."""
    tables: list[Table] = []
    for stage in dict.fromkeys(r.run.stage for r in runs):
        if stage in SEARCHES:
            tables += [table for named in runs if named.run.stage == stage for table in own_tables(named)]
            continue
        of_stage = {r.name: r.run for r in runs if r.run.stage == stage}
        if len(of_stage) > 1:
            tables.append(side_by_side(stage, of_stage))
        tables += [stage_table(run, name=name) for name, run in of_stage.items()]
    return tables


def own_tables(named: NamedRun) -> list[Table]:
    """The tables of the run's own report, under the run's name; a hint where the report is missing."""
    blocks = named.report.blocks if named.report is not None else ()
    found = [block for block in blocks if isinstance(block, Table)]
    if not found:
        hint = f"no report in {named.run.dir}; run the command of that run again"
        return [Table(f"{named.run.stage} · {named.name}", ["", ""], [[hint, ""]])]
    return [replace(table, title=f"{table.title} · {named.name}") for table in found]


def summary(runs: Sequence[NamedRun]) -> str:
    """The main figures that the runs have, in words; with run names where a stage has several runs."""
    stages = [named.run.stage for named in runs]
    parts = []
    for named in runs:
        where = f" ({named.name})" if stages.count(named.run.stage) > 1 else ""
        parts += [f"{part}{where}" for part in _main_figures(named.run)]
    return f"{capital('; '.join(parts))}." if parts else f"Finished runs: {len(runs)}."


def _main_figures(run: FinishedRun) -> list[str]:
    def shown(name: str) -> str:
        return format_cell(run.metrics.get(name))

    best, parts = chosen_method(run), []
    if run.stage in ("ablation", "study"):
        counts = [run.metrics.get(name) or 0 for name in ("comparisons", "real", "real_after_holm")]
        parts.append(run.stage + ": {:g} comparisons, {:g} significant, {:g} after Holm's correction".format(*counts))
    if run.metrics.get("auroc/mean") is not None:
        parts.append(f"classifier: mean AUROC {shown('auroc/mean')}")
    if best is not None and run.metrics.get(f"ap40/{best}") is not None:
        parts.append(f"chosen CAM method {display_name(best)}: AP40 {shown(f'ap40/{best}')}")
    if run.metrics.get("ap40/detector") is not None:
        parts.append(f"detector: AP40 {shown('ap40/detector')}, its CAM teacher {shown('ap40/teacher')}")
    return parts


def _chart(runs: Sequence[NamedRun], out: Path) -> list[Figure]:
    """Every AP40 of every run as a bar; one bar for a figure that two runs share."""
    bars: dict[tuple[str, float | None], Bar] = {}
    for named in runs:
        several, rows = sum(r.run.stage == named.run.stage for r in runs) > 1, rows_of(named.run)
        for method in rows.shown:
            # The detector's run repeats its teacher's figure under the name "teacher".
            teacher = named.run.manifest.get("teacher_method", method)
            shown = display_name(teacher) if method == "teacher" else entry_name(named.run, method)
            bar = replace(ap40_bar(rows, method), name=shown + f" · {named.name}" * several)
            bars.setdefault((bar.name, bar.value), bar)
    if not bars:
        return []
    ranked = sorted(bars.values(), key=lambda bar: -(bar.value or 0.0))
    plot_bars(out / "pictures" / "ap40.png", ranked, label="AP at IoU 0.4 on the test split")
    note = (
        "Average precision where a box counts as correct with an IoU of at least 0.4 with a true box; 1 is perfect. "
        "Lines are 95 % intervals. Dark: the chosen method and the detector. Grey: priors, which use no heat map, and "
        "ceilings."
    )
    return [Figure("How well the boxes match: mean AP40", "pictures/ap40.png", note)]


def _pictures(runs: Sequence[NamedRun], out: Path) -> list[Block]:
    """The pictures of each run's own report, collapsed; missing files are omitted."""
    blocks: list[Block] = []
    for named in runs:
        own = named.report.blocks if named.report is not None else ()
        there = [b for b in own if isinstance(b, Figure) and (named.run.dir / b.path).is_file()]
        paths = [os.path.relpath((named.run.dir / b.path).resolve(), out.resolve()) for b in there]
        moved = [replace(b, path=Path(p).as_posix(), collapsed=True) for b, p in zip(there, paths, strict=True)]
        blocks += [Text(f"Pictures of {named.name}"), *moved] if moved else []
    return blocks
