"""Behind `eval/run.py audit`: is a data set whole, and can figures on it be trusted?"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from cxr.spreadsheet_cells import inert
from eval.audit.box_plausibility import suspicious
from eval.audit.checks import Audit, audit_data
from eval.audit.report import write_audit_report
from eval.audit.settings import load_audit_settings
from eval.audit.summary import audit_figures, problems_of, size_text, summary_table
from eval.audit.unusual import unusual_images
from eval.report.text_tables import print_tables

FIGURES = "audit.json"


def add_audit_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="settings file of stage 1")
    parser.add_argument("--out", type=Path, help="folder of the report (default: runs/<experiment>/audit)")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change a setting")
    runs = "stage 1 runs on this data set, whose predictions show suspicious labels"
    parser.add_argument("--run", action="extend", nargs="+", default=[], type=Path, metavar="RUN", help=runs)


def write_audit(given: argparse.Namespace) -> Path:
    """Audit a data set; print a summary; write the report, `audit.json` and lists into the folder.

    Returns:
        the path of the report.

    Raises:
        UserError: nothing can be read, the folder is that of a run, or a run does not fit the data set.
    """
    out: Path = given.out or Path("runs") / given.config.resolve().parent.name / "audit"
    refuse_run_folder(out)
    settings = load_audit_settings(given.config, given.set)
    audit = audit_data(settings, runs=given.run, cache_dir=settings.input.cache_dir or out, progress=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / FIGURES).unlink(missing_ok=True)  # written last: while it is there, all files are of one audit
    for name, table in lists_of(audit).items():
        text = table.map(inert).to_csv(index=False, float_format="%.6g", lineterminator="\n")
        atomic_write_text(out / f"{name}.csv", text)
    page = write_audit_report(audit, out)
    print_tables([summary_table(audit)])
    sys.stdout.write("".join(f"error: {problem}\n" for problem in audit.audited.problems))
    sys.stdout.write(f"{audit.audited.data.name}: {size_text(audit)}\n")
    atomic_write_text(out / FIGURES, json.dumps(audit_figures(audit), indent=1, allow_nan=False) + "\n")
    return page


def lists_of(audit: Audit) -> Mapping[str, pd.DataFrame]:
    """Name of a CSV file -> everything that a check has found."""
    return {
        "problems": pd.DataFrame(problems_of(audit), columns=["what", "why"]),
        "crossing_patients": audit.crossing,
        "copies": audit.copies,
        "label_suspects": audit.suspects,
        "suspicious_boxes": suspicious(audit.boxes),
        "unusual_images": unusual_images(audit.facts.table),
    }
