"""Agreement of the readers of a table of boxes, and the human AP: `eval/run.py readers`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr.cli import add_encoding_option
from cxr.config import UserError, parse_settings
from cxr.labels import class_slugs
from cxr.readers import ReaderSettings
from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from eval.readers.agreement import Reads, agreement_measures
from eval.readers.human import human_counts
from eval.readers.table import ReaderTable, read_reader_table
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, estimate_text
from eval.report.text_tables import print_tables
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, finite_or_none

NUM_RESAMPLES = 1000
HUMAN = "/human"

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Agreement:
    """All figures of a table. results: name as in metrics.json -> values and resamples of its classes."""

    table: ReaderTable
    results: Mapping[str, Bootstrapped]
    settings: ReaderSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `readers`."""
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="one row per box and reader")
    parser.add_argument(
        "--columns",
        action="extend",
        nargs="+",
        default=[],
        metavar="FIELD=HEADER",
        help="headers that are not recognised; fields: image reader finding x1 y1 x2 y2",
    )
    add_encoding_option(parser)
    parser.add_argument(
        "--rule",
        choices=("majority", "union", "wbf", "em"),
        default="majority",
        help="how the other readers' boxes are fused into the ground truth of the human AP (default: majority)",
    )
    parser.add_argument("--min-votes", type=int, help="readers who must have marked a box of that ground truth")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/readers"), help="folder of the report (default: runs/readers)"
    )


def compare_readers(given: argparse.Namespace) -> Path:
    """`compare_table` with the arguments of the command line."""
    settings = parse_settings(ReaderSettings, {"rule": given.rule, "min_votes": given.min_votes}, source="readers")
    table, columns, encoding = given.table, given.columns, given.encoding
    return compare_table(table, columns=columns, encoding=encoding, settings=settings, out=given.out)


def compare_table(
    path: Path,
    *,
    columns: Sequence[str] = (),
    encoding: str = "utf-8",
    settings: ReaderSettings,
    out: Path,
    seed: int = 0,
) -> Path:
    """Measure the agreement in a table, print tables, write `metrics.json` and `report.html`; returns the page.

    columns, encoding: see `read_reader_table`. Intervals are a bootstrap over images. Raises UserError for a table that
    `read_reader_table` or `measure` refuses.
    """
    refuse_run_folder(out)
    agreement = measure(read_reader_table(path, columns, encoding=encoding), settings, source=path, seed=seed)
    tables = [*_class_tables(agreement), _readers_table(agreement.table)]
    print_tables(tables)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(agreement_figures(agreement), indent=1) + "\n")
    is_phantom = any((folder / "phantom.json").is_file() for folder in path.resolve().parents[:2])
    return _write_page(out, agreement, tables, synthetic=is_phantom)


def measure(table: ReaderTable, settings: ReaderSettings, *, source: Path, seed: int = 0) -> Agreement:
    """All measures with their resamples. UserError when no image was read by two readers."""
    image_ids, findings = table.image_ids, table.findings
    reads = Reads(table.boxes, table.readings, image_ids, findings)
    if not (reads.num_readers() > 1).any():
        raise UserError(f"readers: {source} has no image that two readers read; agreement needs two")
    human = human_counts(table.boxes, image_ids, findings=findings, settings=settings, readings=table.readings)
    measures = {item.name: item for item in agreement_measures(reads)}
    measures |= {item.name + HUMAN: item for item in (human.ap(), human.precision(), human.recall())}
    counts = resample_counts(image_ids, num_resamples=NUM_RESAMPLES, seed=seed)
    return Agreement(table, {name: bootstrap(item, counts) for name, item in measures.items()}, settings)


def agreement_figures(agreement: Agreement) -> Figures:
    """Flat figures: `images`, `boxes`, ..., `marks`, `marks/low`, `marks/<class>`, `ap40/human/<class>/high`, ..."""
    table = agreement.table
    figures: dict[str, float] = {
        "images": len(table.image_ids),
        "boxes": len(table.boxes),
        "readers": table.readings["reader"].nunique(),
        "readings": len(table.readings),
    }
    slugs = class_slugs(table.findings)
    for name, result in agreement.results.items():
        figures |= bootstrap_figures(name, result, slugs=slugs, with_ends=True)
    return finite_or_none(figures)


MEANINGS = {
    "marks": "marks: how often a second reader of the image marks the class that a first one marks.",
    "found40": "found40: how often another reader of the image has a box of the class with an IoU of at least 0.4.",
    "mean_best_iou": "mean_best_iou: mean best IoU with the boxes of another reader who marks the class.",
}
HUMAN_NAMES = ("ap40", "precision40", "recall40")


def _class_tables(agreement: Agreement) -> list[Table]:
    boxes = agreement.table.boxes
    of_class = boxes.groupby("finding").agg(boxes=("image_id", "size"), images=("image_id", "nunique"))
    numbers: list[Sequence[int]] = [(len(boxes), boxes["image_id"].nunique())]
    numbers += of_class.loc[agreement.table.findings].to_numpy(dtype=int).tolist()
    rows: list[list[Cell]] = []
    human: list[list[Cell]] = []
    for finding, own in zip([None, *agreement.table.findings], numbers, strict=True):
        values = {name: estimate_text(result.estimate(finding)) for name, result in agreement.results.items()}
        rows.append([finding or "mean", *own, *(values[name] for name in MEANINGS)])
        human.append([finding or "mean", *(values[name + HUMAN] for name in HUMAN_NAMES)])
    header = ["class", "boxes", "images", *MEANINGS]
    return [
        Table("Agreement of readers", header, rows, " ".join(MEANINGS.values()), highlight=0),
        Table("One reader against the others", ["class", *HUMAN_NAMES], human, _human_note(agreement), highlight=0),
    ]


def _human_note(agreement: Agreement) -> str:
    settings = agreement.settings
    votes = "" if settings.min_votes is None else f", at least {settings.min_votes} votes or all the others"
    return (
        f"Each reader against the other readers' boxes of the image (rule {settings.rule}{votes}, clusters from IoU "
        f"{settings.iou:g}), matched at IoU 0.4, counts summed over readers. AP40 of this one operating point is "
        "precision times the share of COCO's recall levels reached; no ranking of the same boxes has a lower AP. "
        "95 % intervals, bootstrap over images."
    )


def _readers_table(table: ReaderTable) -> Table:
    read = table.readings["reader"].value_counts()
    drew = table.boxes["reader"].value_counts().reindex(read.index, fill_value=0)
    images = table.boxes.drop_duplicates(["image_id", "reader"])["reader"].value_counts()
    images = images.reindex(read.index, fill_value=0)
    order = pd.DataFrame({"drew": -drew, "read": -read}).sort_values(["drew", "read"], kind="stable").index
    total = max(1, len(table.boxes))
    rows: list[list[Cell]] = [
        [str(name), int(drew[name]), f"{100 * drew[name] / total:.1f} %", int(read[name]), int(images[name])]
        for name in order
    ]
    columns = ["reader", "boxes", "share of all boxes", "images read", "images with a box"]
    note = f"{table.num_rows} rows: {len(table.boxes)} boxes, {table.num_no_finding} without a finding"
    whole = f", {table.num_whole_image} with a finding that has no boxes in this table"
    return Table("Readers", columns, rows, f"{note}{whole if table.num_whole_image else ''}.")


def _write_page(out: Path, agreement: Agreement, tables: Sequence[Table], *, synthetic: bool) -> Path:
    found = agreement.results["found40"]
    bars = [Bar.of("mean", found.estimate(), "marked")]
    bars += [Bar.of(finding, found.estimate(finding)) for finding in found.findings]
    plot_bars(out / "pictures" / "found40.png", bars, label="share of boxes that another reader found (IoU 0.4)")
    chart = Figure("Boxes found by other readers", "pictures/found40.png", "95 % intervals.")
    table, human = agreement.table, agreement.results[f"ap40{HUMAN}"]
    lead = (
        f"{table.readings['reader'].nunique()} readers drew {len(table.boxes)} boxes on {len(table.image_ids)} images. "
        f"Another reader found {estimate_text(found.estimate())} of the boxes (mean over classes); "
        f"one reader against the others gets AP40 {estimate_text(human.estimate())}."
    )
    blocks: list[Block] = [tables[0], chart, *tables[1:]]
    return write_report(out, title="Readers compared", lead=lead, blocks=blocks, synthetic=synthetic)
