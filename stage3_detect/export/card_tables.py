"""Tables of a model card, made from the metrics by their names."""

from dataclasses import replace

from eval.leaderboard import tables as leaderboard
from eval.leaderboard.names import AP40, DETECTOR, PRIORS, box_names, shown_name
from eval.leaderboard.tables import Rows
from eval.report.blocks import Table
from eval.report.format import Cell, figure_text, in_format
from stage3_detect.export.card_facts import SECOND_FILE, CardFacts, box_counts

_MEASURES = (
    "Means over the findings with test boxes. AP40: average precision where a box is correct if its IoU with a true "
    "box is at least 0.4; 1 is perfect. FROC: mean sensitivity at a few false positives per image."
)


def card_rows(facts: CardFacts) -> Rows:
    """The entries with an AP40 as rows of a leaderboard: detectors and the teacher by falling AP40, then references."""
    teacher = str(facts.stage2.manifest["best_method"])
    shown = {name: shown_name(name, facts.metrics, teacher=teacher) for name in box_names(facts.metrics)}
    return Rows(shown, facts.metrics, DETECTOR)


def comparison_table(facts: CardFacts) -> Table:
    """The detector, what it is compared with, and the paired differences."""
    rows = card_rows(facts)
    cells: list[list[Cell]] = [
        [
            shown,
            rows.text(AP40, name),
            "" if name == DETECTOR else figure_text(facts.metrics, f"ap40/{DETECTOR}_minus_{name}"),
            *(rows.cell(measure, name) for measure in ("ap10", "ap50", "froc")),
        ]
        for name, shown in rows.shown.items()
    ]
    columns = ["", "AP40", "detector minus this", "AP10", "AP50", "FROC"]
    return Table("Detector and references", columns, cells, _MEASURES)


def finding_table(facts: CardFacts) -> Table:
    """AP40 per finding, with the numbers of test and training boxes; without the priors that are a single box."""
    rows, trained = card_rows(facts), box_counts(facts.sources.labels)
    rows = replace(rows, shown={name: shown for name, shown in rows.shown.items() if name not in PRIORS[:2]})
    made = "true training boxes" if facts.settings.labels.source == "true_boxes" else "pseudo-boxes"
    tested = box_counts(facts.test)
    num_true = {finding: tested.get(finding, 0) for finding in facts.findings}
    return leaderboard.finding_table(rows, num_true, more={made: [trained[finding] for finding in facts.findings]})


def point_table(facts: CardFacts) -> Table:
    """Figures of each operating point on the test split, all findings together."""
    rows: list[list[Cell]] = [
        [
            name,
            str(entry["about"]),
            *(
                figure_text(facts.metrics, f"{measure}/{name}")
                for measure in ("sensitivity", "precision", "false_positives_per_image")
            ),
        ]
        for name, entry in facts.operating_points.items()
    ]
    columns = ["point", "how it was chosen", "sensitivity", "precision", "false positives per image, measured"]
    note = (
        "The points were chosen on the tune split. The figures are measured on the test split, with 95 % intervals, "
        "where false positives may be more than aimed at. Boxes at IoU 0.4, all findings together; per finding in "
        "`report.html`."
    )
    return Table("Operating points", columns, rows, note)


def file_table(facts: CardFacts) -> Table:
    """Exported files: their differences from the trained network, and their speed."""
    rows: list[list[Cell]] = [_file_row("pytorch", facts)]
    rows += [_file_row(format, facts) for format in facts.formats]
    columns = ["format", "file", "MB", "box px", "score", "AP40 lost (negative: gained)", "ms per image", "p99"]
    note = (
        "box px and score: largest difference from PyTorch on test images. Milliseconds from file to boxes, one image "
        "at a time, median and 99th percentile, on the machine of the run."
    )
    return Table("Files", columns, rows, note)


def _file_row(format: str, facts: CardFacts) -> list[Cell]:
    path = facts.weights if format == "pytorch" else facts.files[format]
    paths = [path, *([facts.files[format + SECOND_FILE]] if format + SECOND_FILE in facts.files else [])]
    size_mb = sum(one.stat().st_size for one in paths) / 1e6
    timed = "ms_per_image/detector" if format == "pytorch" else f"ms_per_image/detector_{format}"
    parts = ("box_difference_px", "score_difference")
    differences = [facts.metrics.get(f"export/{format}/{part}") for part in parts]
    lost = figure_text(facts.metrics, f"export/{format}/ap40_loss") if format != "pytorch" else ""
    speeds = [facts.metrics.get(f"{timed}{end}") for end in ("", "/p99")]
    figures = [in_format(value, ".2g") for value in differences] if format != "pytorch" else ["", ""]
    return [format, f"`{path.name}`", f"{size_mb:.1f}", *figures, lost, *(in_format(value, ".1f") for value in speeds)]
