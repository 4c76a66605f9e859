"""Curves of training over groups of runs: the mean of each epoch, and a band from the lowest to the highest run."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from cxr.config import UserError
from cxr.runs.run_folder import open_run, refuse_run_folder
from cxr.tracking import read_log
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import plot_curves
from eval.report.format import Cell
from eval.report.text_tables import print_tables

USUAL = ("val/auroc", "val/f1", "train/loss")

NOTE = "Lines are means over the runs of a group, bands reach from the lowest to the highest run of each epoch."

Groups = Mapping[str, Sequence[Path]]
"""Name of the group -> its run folders."""


@dataclass(frozen=True)
class GroupCurve:
    """A figure of a group by epoch. values: (runs, epochs), NaN where a run has no such epoch or figure."""

    epochs: tuple[int, ...]
    values: Floats

    @property
    def mean(self) -> Floats:
        """(epochs,) over the runs that have the epoch."""
        return mean_over_classes(self.values.T)

    @property
    def band(self) -> tuple[Floats, Floats]:
        """(epochs,) of the lowest and of the highest run."""
        return np.nanmin(self.values, axis=0), np.nanmax(self.values, axis=0)


def group_curve(runs: Sequence[Path], figure: str) -> GroupCurve:
    """The `figure` of each epoch of each run, from its ``metrics.jsonl``.

    Raises:
        UserError: a run has not logged the figure.
    """
    logs = [{entry["step"]: entry[figure] for entry in read_log(run) if entry.get(figure) is not None} for run in runs]
    for run, entries in zip(runs, logs, strict=True):
        if not entries:
            known = sorted({name for entry in read_log(run) for name in entry if name != "step"})
            raise UserError(
                f"--figure {figure}: {run} has not logged it, only {', '.join(known) or 'nothing'}; give one of these, "
                "or runs of a training"
            )
    epochs = sorted({epoch for entries in logs for epoch in entries})
    values = np.array([[entries.get(epoch, np.nan) for epoch in epochs] for entries in logs], dtype=np.float64)
    return GroupCurve(tuple(epochs), values)


def curve_chart(groups: Groups, figure: str, path: Path, *, title: str = "") -> Figure:
    """Plot a figure of all groups into ``pictures/`` of a report's folder. UserError: see `group_curve`."""
    curves = {name: group_curve(runs, figure) for name, runs in groups.items()}
    plot_curves(
        path,
        {name: (list(curve.epochs), curve.mean.tolist()) for name, curve in curves.items()},
        labels=("epoch", figure),
        x_ticks="whole",
        bands={name: (curve.band[0].tolist(), curve.band[1].tolist()) for name, curve in curves.items()},
    )
    return Figure(title or figure, f"pictures/{path.name}", NOTE)


def curve_table(groups: Groups, figure: str) -> Table:
    """Each group's last epoch that all of its runs have: mean, lowest, highest."""
    rows: list[list[Cell]] = []
    for name, runs in groups.items():
        curve = group_curve(runs, figure)
        shared = np.flatnonzero(~np.isnan(curve.values).any(axis=0))
        cells: list[Cell] = [None] * 4
        if len(shared):
            last = int(shared[-1])
            low, high = curve.band
            cells = [curve.epochs[last], float(curve.mean[last]), float(low[last]), float(high[last])]
        rows.append([name, len(runs), *cells])
    columns = ["group", "runs", "last shared epoch", "mean", "lowest", "highest"]
    return Table(figure, columns, rows)


def add_curve_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command `curves`."""
    of_group = "name of a group, then its runs; give it once for each group"
    parser.add_argument("--group", dest="groups", action="append", nargs="+", required=True, help=of_group)
    known = f"figures of metrics.jsonl (default: {' '.join(USUAL)})"
    parser.add_argument("--figure", dest="figures", nargs="+", default=list(USUAL), metavar="NAME", help=known)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/curves"), help="folder of the report (default: runs/curves)"
    )


def report_curves(given: argparse.Namespace) -> Path:
    """Draw the figures of the groups and write ``report.html``; returns the page.

    Raises:
        UserError: a group without runs or twice, a folder that is no run, a figure that a run has not logged, or the
            folder of the report is a run folder.
    """
    refuse_run_folder(given.out)
    groups = _parsed(given.groups)
    synthetic = any(
        (run / "manifest.json").is_file() and bool(open_run(run).manifest.get("synthetic"))
        for runs in groups.values()
        for run in runs
    )
    tables = [curve_table(groups, figure) for figure in given.figures]
    print_tables(tables)
    blocks: list[Block] = [
        curve_chart(groups, figure, given.out / "pictures" / f"{figure.replace('/', '_')}.png")
        for figure in given.figures
    ]
    lead = "; ".join(f"{name}: {len(runs)} runs" for name, runs in groups.items()) + "."
    return write_report(
        given.out, title="Curves of groups of runs", lead=lead, blocks=[*blocks, *tables], synthetic=synthetic
    )


def _parsed(given: Sequence[Sequence[str]]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for name, *runs in given:
        if not runs or name in groups:
            problem = "has no run" if not runs else "is given twice"
            raise UserError(f"--group {name}: {problem}; give --group NAME RUN [RUN ...] once for each group")
        groups[name] = [Path(run) for run in runs]
    return groups
