"""Tables of a model card, made from the metrics by their names."""

from cxr.labels import slug
from eval.leaderboard.names import DETECTOR, PRIORS, TEACHER, display_name
from eval.report.blocks import Table
from eval.report.format import Cell, figure_text, in_format
from stage3_detect.export.card_facts import SECOND_FILE, CardFacts, box_counts

_MEASURES = (
    "Means over the findings with test boxes. AP40: average precision where a box is correct if its IoU with a true "
    "box is at least 0.4; 1 is perfect. FROC: mean sensitivity at a few false positives per image."
)


def comparison_table(facts: CardFacts) -> Table:
    """The detector, what it is compared with, and the paired differences."""
    rows: list[list[Cell]] = []
    for name in scored_entries(facts):
        others = [facts.metrics.get(f"{measure}/{name}") for measure in ("ap10", "ap50", "froc")]
        gap = figure_text(facts.metrics, f"ap40/{DETECTOR}_minus_{name}") if name != DETECTOR else ""
        rows.append([_shown(name, facts), figure_text(facts.metrics, f"ap40/{name}"), gap, *others])
    for key, where in (("ap40/human", ""), ("tune_ap40/human", " (tune split)")):
        if facts.metrics.get(key) is not None:
            rows.append([display_name("human") + where, figure_text(facts.metrics, key), "", None, None, None])
    columns = ["", "AP40", "detector minus this", "AP10", "AP50", "FROC"]
    return Table("Detector and references", columns, rows, _MEASURES)


def scored_entries(facts: CardFacts) -> list[str]:
    """Names with an AP40: the detector, its teacher, other detectors, priors."""
    keys = [key for key in facts.metrics if key.startswith("ap40/") and key.count("/") == 1]
    known = [key.removeprefix("ap40/") for key in keys if "_minus_" not in key and key != "ap40/human"]
    others = [name for name in known if name not in (DETECTOR, TEACHER, *PRIORS)]
    return [name for name in (DETECTOR, TEACHER, *others, *PRIORS) if name in known]


def finding_table(facts: CardFacts) -> Table:
    """AP40 per finding, with the numbers of training and test boxes."""
    trained, tested = box_counts(facts.sources.labels), facts.test_boxes()
    compared = [name for name in scored_entries(facts) if name not in (DETECTOR, *PRIORS[:2])]
    rows: list[list[Cell]] = [
        [
            finding,
            trained[finding],
            tested.get(finding, 0),
            figure_text(facts.metrics, f"ap40/{DETECTOR}/{slug(finding)}"),
            *(facts.metrics.get(f"ap40/{name}/{slug(finding)}") for name in compared),
        ]
        for finding in facts.findings
    ]
    made = "true training boxes" if facts.settings.labels.source == "true_boxes" else "pseudo-boxes"
    columns = ["finding", made, "test boxes", "detector", *(_shown(name, facts) for name in compared)]
    return Table("AP40 per finding", columns, rows, "A finding without test boxes has no score.")


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
    columns = ["point", "how it was chosen", "sensitivity", "precision", "false positives per image"]
    note = "Boxes at IoU 0.4, all findings together; per finding in `report.html`."
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


def _shown(name: str, facts: CardFacts) -> str:
    if name == TEACHER:
        return f"CAM teacher: {display_name(str(facts.stage2.manifest['best_method']))}"
    return display_name(name)
