"""A leaderboard as files: `leaderboard.csv` and `leaderboard.json`, one row per entry and finding."""

import json
from pathlib import Path

import pandas as pd

from cxr.runs.run_folder import atomic_write_text
from eval.leaderboard.leaderboard import AnyEntry, FileCell, Leaderboard
from eval.leaderboard.names import AP40, HUMAN, Metrics
from eval.report.format import json_value
from eval.stats.measures import Bootstrapped

MEAN = "mean"
TIMING = ("ms_per_image", "peak_mib")


def leaderboard_rows(board: Leaderboard[AnyEntry], timing: Metrics) -> list[dict[str, FileCell]]:
    """One row for the mean and one per finding of each entry; entries by falling AP40 on the test split, human last.

    Columns: entry, finding ("mean" for the mean), method (CAM method of the finding; "" for a prior), chosen (True for
    the main entry), the entry's own `details`, each measure with ``_low`` and ``_high`` (95 %), and ms_per_image and
    peak_mib in the mean's row. Unknown values are None.
    """
    rows: list[dict[str, FileCell]] = []
    for entry in board.ranked:
        for finding in (None, *board.truth.findings):
            row = _start(entry.name, finding, entry.method_of(finding), entry is board.main)
            row |= entry.details(finding)
            for measure, scored in entry.measures.items():
                row |= _cells(measure, scored, finding)
            if finding is None:
                row |= {name: timing.get(f"{name}/{entry.name}") for name in TIMING}
            rows.append(row)
    if board.human is not None:
        for finding in (None, *board.truth.findings):
            rows.append(_start(HUMAN, finding, "", False) | _cells(AP40, board.human, finding))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: json_value(row.get(name)) for name in columns} for row in rows]


def _start(name: str, finding: str | None, method: str, chosen: bool) -> dict[str, FileCell]:
    return {"entry": name, "finding": finding or MEAN, "method": method, "chosen": chosen}


def _cells(measure: str, scored: Bootstrapped, finding: str | None) -> dict[str, FileCell]:
    one = scored.estimate(finding)
    ends = {f"{measure}_low": one.low, f"{measure}_high": one.high} if len(scored.samples) else {}
    return {measure: one.value, **ends}


def write_leaderboard(run_dir: Path, board: Leaderboard[AnyEntry], timing: Metrics) -> dict[str, Path]:
    """Write both files; returns output name -> path, for the run's manifest."""
    rows = leaderboard_rows(board, timing)
    paths = {"leaderboard_csv": run_dir / "leaderboard.csv", "leaderboard_json": run_dir / "leaderboard.json"}
    atomic_write_text(paths["leaderboard_csv"], pd.DataFrame(rows).to_csv(index=False))
    content = {"split": "test", "chosen_on": "tune", "best": board.main.name, "rows": rows}
    atomic_write_text(paths["leaderboard_json"], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return paths
