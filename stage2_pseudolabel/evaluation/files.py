"""The leaderboard as files: `leaderboard.csv` and `leaderboard.json`, a row for each entry and finding."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr.runs.run_folder import atomic_write_text
from eval.stats.measures import Bootstrapped
from stage2_pseudolabel.evaluation.leaderboard import PRIMARY, Board, Entry

MEAN = "mean"
Cell = str | float | bool | None


def leaderboard_rows(board: Board, timing: Mapping[str, float]) -> list[dict[str, Cell]]:
    """A row for each entry's mean and each of its findings; entries by falling AP40 on the test split.

    Columns: entry, finding ("mean" for the mean), method (of the finding; "" for a prior), chosen, rule,
    tune_ap40, each measure with ``_low`` and ``_high`` (95 %), ms_per_image and peak_mib (of methods, in the mean's
    row). What is not known is None.
    """
    rows = [row for entry in board.ranked for row in _rows_of(entry, board, timing)]
    if board.human is not None:
        for finding in (MEAN, *board.human.findings):
            own: dict[str, Cell] = {"entry": "human", "finding": finding, "method": "", "chosen": False}
            rows.append(own | _cells(PRIMARY, board.human, finding))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: _finite(row.get(name)) for name in columns} for row in rows]


def _rows_of(entry: Entry, board: Board, timing: Mapping[str, float]) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for column, finding in enumerate((MEAN, *entry.ap40.findings), start=-1):
        is_mean, tuned = finding == MEAN, entry.tuned
        row: dict[str, Cell] = {
            "entry": entry.name,
            "finding": finding,
            "method": _method_of(entry, column),
            "chosen": entry is board.best,
            "rule": "" if tuned is None or is_mean else str(tuned.rules[column]),
            f"tune_{PRIMARY}": entry.tune_ap if is_mean or tuned is None else tuned.aps[finding],
        }
        for measure, drawn in entry.measures.items():
            row |= _cells(measure, drawn, finding)
        if is_mean:
            row |= {name: timing.get(f"{name}/{entry.name}") for name in ("ms_per_image", "peak_mib")}
        rows.append(row)
    return rows


def _method_of(entry: Entry, column: int) -> str:
    """Of a finding, or (column -1) of all findings where it is the same one."""
    if column >= 0:
        return entry.methods[column] if entry.methods else ""
    return entry.methods[0] if len(set(entry.methods)) == 1 else ""


def _cells(measure: str, drawn: Bootstrapped, finding: str) -> dict[str, Cell]:
    is_mean = finding == MEAN
    value = drawn.mean if is_mean else float(drawn.values[drawn.findings.index(finding)])
    cells: dict[str, Cell] = {measure: value}
    if len(drawn.samples):
        interval = drawn.mean_interval if is_mean else drawn.interval(finding)
        cells |= {f"{measure}_low": interval.low, f"{measure}_high": interval.high}
    return cells


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def write_leaderboard(run_dir: Path, board: Board, timing: Mapping[str, float]) -> dict[str, Path]:
    """Write both files; returns output name -> path, for the run's manifest."""
    rows = leaderboard_rows(board, timing)
    paths = {"leaderboard_csv": run_dir / "leaderboard.csv", "leaderboard_json": run_dir / "leaderboard.json"}
    atomic_write_text(paths["leaderboard_csv"], pd.DataFrame(rows).to_csv(index=False))
    content = {"split": "test", "chosen_on": "tune", "best": board.best.name, "rows": rows}
    atomic_write_text(paths["leaderboard_json"], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return paths
